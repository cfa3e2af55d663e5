//! What a restore says while it works and at its end, from all of its threads.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::RestoreOptions;
use super::links::LinkKey;
use crate::ops::OpsError;
use crate::progress::{Counter, Problem, Progress};
use crate::repo::{RepoError, Repository, SnapshotRecord};
use crate::target::{Kind, TargetError};
use crate::tree::{TreeError, TreeReader};

/// What becomes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It was not there.
    Created,
    /// Its content was another one, or it was something else.
    Replaced,
    /// Only its metadata was another one.
    Metadata,
    /// It is as it shall be, or the overwrite policy leaves it alone.
    Unchanged,
    /// The snapshot does not have it; with all that is below it.
    Deleted,
}

/// What becomes of one path of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// Relative to the target, raw.
    pub path: &'a [u8],
    /// What it is, or was.
    pub kind: Kind,
    /// What becomes of it.
    pub action: Action,
    /// Bytes of content that are written: all of a file, or, in place, what differs.
    pub bytes: u64,
}

/// How many of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Regular files, each name of one counted.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Links, pipes, sockets, devices.
    pub others: u64,
}

/// What a restore did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreReport {
    /// What was not there.
    pub created: Counts,
    /// What was there with other content.
    pub replaced: Counts,
    /// What was there with other metadata.
    pub metadata: Counts,
    /// What is left as it is.
    pub unchanged: Counts,
    /// What the snapshot does not have; a folder with all in it counts once.
    pub deleted: u64,
    /// Bytes of content written, holes included; in place only what differed.
    pub bytes_written: u64,
    /// Bytes of files whose content is left as it is.
    pub bytes_unchanged: u64,
    /// Files that were read again and found right.
    pub verified: u64,
    /// What could not be restored, or not wholly, because of the target.
    pub problems: u64,
    /// What could not be restored because of damage in the repository.
    pub damage: u64,
    /// The system refused to set owners: only root can give files away.
    pub owners_refused: bool,
    /// Not all of it came, so the target was put back to what it was before the run.
    pub rolled_back: bool,
}

/// A run: what all of its parts know and tell.
pub(super) struct Run<'a> {
    pub repository: &'a Arc<Repository>,
    pub record: &'a SnapshotRecord,
    pub options: &'a RestoreOptions<'a>,
    pub trees: TreeReader,
    pub progress: &'a dyn Progress,
    report: Mutex<RestoreReport>,
    /// Why the run must end.
    fatal: Mutex<Option<OpsError>>,
    stop: AtomicBool,
    /// Groups of hard links whose first name did not come, and whether damage is to blame.
    broken: Mutex<HashMap<LinkKey, bool>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Run<'a> {
    pub fn new(
        repository: &'a Arc<Repository>,
        record: &'a SnapshotRecord,
        options: &'a RestoreOptions<'a>,
        trees: TreeReader,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            repository,
            record,
            options,
            trees,
            progress,
            report: Mutex::default(),
            fatal: Mutex::default(),
            stop: AtomicBool::new(false),
            broken: Mutex::default(),
        }
    }

    /// Threads that read, open and write.
    pub fn threads(&self) -> usize {
        self.repository.environment().threads.clamp(2, 64)
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether to go no further: something fatal happened, or the run was cancelled.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.progress.cancelled()
    }

    /// A path's fate is sealed. `size` is the length of a file that stays as it is.
    pub fn done(&self, change: Change<'_>, size: u64) {
        let mut report = lock(&self.report);
        match change.action {
            Action::Metadata | Action::Unchanged => report.bytes_unchanged += size,
            _ => report.bytes_written += change.bytes,
        }
        let counts = match change.action {
            Action::Created => &mut report.created,
            Action::Replaced => &mut report.replaced,
            Action::Metadata => &mut report.metadata,
            Action::Unchanged => &mut report.unchanged,
            Action::Deleted => {
                report.deleted += 1;
                &mut Counts::default()
            }
        };
        match change.kind {
            Kind::File => counts.files += 1,
            Kind::Directory => counts.directories += 1,
            _ => counts.others += 1,
        }
        drop(report);
        self.progress.add(Counter::Entries, 1);
        self.progress.add(Counter::Bytes, size);
        if let Some(tell) = self.options.on_change {
            tell(&change);
        }
    }

    pub fn verified(&self) {
        lock(&self.report).verified += 1;
    }

    fn problem(&self, problem: &Problem) {
        let mut report = lock(&self.report);
        match problem.damage {
            true => report.damage += 1,
            false => report.problems += 1,
        }
        drop(report);
        self.progress.problem(problem);
    }

    /// Something cannot come because of the repository.
    pub fn damage(&self, path: &[u8], why: impl fmt::Display) {
        self.problem(&Problem::damage(path, why));
    }

    /// Something is not as it should be because of the target, without an error of the system.
    pub fn wrong(&self, path: &[u8], why: impl fmt::Display) {
        self.problem(&Problem::at(path, why));
    }

    /// Something cannot come because of the target. Where no room is left everything else would
    /// fail as well, so that ends the run.
    pub fn trouble(&self, error: TargetError) {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if !matches!(error.io_kind(), Some(StorageFull | QuotaExceeded)) {
            return self.problem(&error.to_problem());
        }
        self.stop();
        let path = error.path().to_vec();
        lock(&self.fatal).get_or_insert(OpsError::TargetFull { path, source: error });
    }

    /// All that could not be set of some metadata.
    pub fn troubles(&self, errors: Vec<TargetError>) {
        errors.into_iter().for_each(|error| self.trouble(error));
    }

    /// Says what is wrong with a part of a stored tree, or that the repository cannot be reached.
    pub fn tree_damage(&self, path: &[u8], error: TreeError) -> Result<(), OpsError> {
        match error {
            TreeError::Format { .. } | TreeError::Repo(RepoError::Chunk { .. }) => {
                self.damage(path, error);
                Ok(())
            }
            error => Err(error.into()),
        }
    }

    /// Remembers that the first name of a hard link's group did not come.
    pub fn broke(&self, key: Option<LinkKey>, damage: bool) {
        if let Some(key) = key {
            lock(&self.broken).insert(key, damage);
        }
    }

    /// Whether the first name of a group did not come, and if so, whether through damage.
    pub fn is_broken(&self, key: &LinkKey) -> Option<bool> {
        lock(&self.broken).get(key).copied()
    }

    /// What the run came to.
    pub fn end(
        self,
        outcome: Result<(), OpsError>,
        owners_refused: bool,
    ) -> Result<RestoreReport, OpsError> {
        if let Some(fatal) = self.fatal.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(fatal);
        }
        outcome?;
        if self.progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        let mut report = self.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.owners_refused = owners_refused;
        if owners_refused {
            self.progress.note("owners could not be set: only root can give files away");
        }
        Ok(report)
    }
}
