//! Backup: a living tree, or a stream, becomes a snapshot.
//!
//! Four kinds of threads work in step: one *scans* the tree, one *walks* what is scanned next to
//! the parent snapshot, some *read* what changed (cut into chunks, named), and one *collects* in
//! the order of the scan: new chunks go to the session, lists and listings are built. Every queue
//! between them is short.

mod batch;
mod beside;
mod collect;
mod large;
mod links;
mod parent;
mod paths;
mod read;
mod scan;
mod stream;
mod walk;

use std::sync::{Arc, Mutex, PoisonError};

use super::OpsError;
use super::lines::{self, Alarm};
use crate::format::session::Purpose;
use crate::format::snapshot::{Outcome, Snapshot, SnapshotKind, SnapshotProblem, Statistics};
use crate::format::tree::Refs;
use crate::id::SnapshotId;
use crate::limits;
use crate::progress::{Counter, Problem, Progress};
use crate::repo::{RepoError, Repository, Session, SnapshotRecord};
use crate::source::{Excludes, SourceError};
use crate::world::Time;

pub use collect::DrySink;
use parent::Trust;
pub use stream::{Finish, Stream};

/// What is backed up.
pub enum Input {
    /// Files and directories, by absolute raw paths.
    Paths(Vec<Vec<u8>>),
    /// One file, from a stream.
    Stream(Stream),
}

/// Which snapshot unchanged files are taken from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Parent {
    /// The newest of the same host and paths.
    #[default]
    Automatic,
    /// This one.
    Snapshot(SnapshotId),
    /// None: every file is read.
    None,
}

/// By what, besides size and mtime, an unchanged file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// The inode's last change too.
    pub ctime: bool,
    /// The inode's number too.
    pub inode: bool,
}

impl Default for Detection {
    fn default() -> Self {
        Self { ctime: true, inode: true }
    }
}

/// How to back up.
#[derive(Default)]
pub struct BackupOptions {
    /// What is left out.
    pub excludes: Excludes,
    /// For people and policies.
    pub tags: Vec<String>,
    /// For people.
    pub description: String,
    /// Instead of this machine's name.
    pub host: Option<String>,
    /// Instead of the time now.
    pub time: Option<Time>,
    /// Offset of local time from UTC, minutes.
    pub offset_minutes: i32,
    /// The job's name; empty when run by hand.
    pub job: String,
    /// Why it is made.
    pub kind: SnapshotKind,
    /// Which snapshot unchanged files are taken from.
    pub parent: Parent,
    /// By what unchanged files are known.
    pub detection: Detection,
    /// zstd level instead of the repository's.
    pub compression: Option<i32>,
    /// Store nothing; say what would be stored.
    pub dry_run: bool,
    /// The program that asks, for the snapshot.
    pub program: String,
}

/// What a backup did.
#[derive(Debug, Clone, Default)]
pub struct BackupReport {
    /// The snapshot; `None` for a dry run.
    pub record: Option<SnapshotRecord>,
    /// The snapshot that unchanged files were taken from.
    pub parent: Option<SnapshotId>,
    /// Counts.
    pub statistics: Statistics,
    /// Files that did not change, and that were read because the repository lost something.
    pub files_read_again: u64,
    /// What could not be read, all in all.
    pub problem_count: u64,
    /// The first of it.
    pub problems: Vec<SnapshotProblem>,
    /// Earlier snapshots that should be there, and are not.
    pub alarms: Vec<Alarm>,
}

/// So many problems are written into the snapshot; all of them are told as they come.
const PROBLEMS_KEPT: usize = 1_000;
/// A session that a prune did not wait for is begun again so often.
const SESSIONS_TRIED: usize = 4;

/// What went wrong with single paths.
#[derive(Debug, Default)]
struct Problems {
    count: u64,
    first: Vec<SnapshotProblem>,
}

impl Problems {
    fn add(&mut self, progress: &dyn Progress, problem: Problem) {
        progress.problem(&problem);
        self.count += 1;
        let fits = |len: usize| len <= limits::TEXT_LEN_MAX;
        if self.first.len() < PROBLEMS_KEPT && fits(problem.what.len()) && fits(problem.why.len()) {
            self.first.push(SnapshotProblem { path: problem.what, why: problem.why });
        }
    }
}

/// What the threads of a backup share.
#[derive(Clone, Copy)]
struct Run<'a> {
    options: &'a BackupOptions,
    problems: &'a Mutex<Problems>,
    progress: &'a dyn Progress,
}

impl Run<'_> {
    fn problem(&self, problem: Problem) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.add(self.progress, problem);
    }

    fn source_problem(&self, parent: &[u8], error: SourceError) {
        let error = error.below(parent);
        self.problem(Problem::at(error.path(), &error));
    }
}

/// Takes a snapshot.
///
/// # Errors
/// `NothingRead` when none of the paths could be read; then no snapshot is stored. Single files
/// that cannot be read make the snapshot partial, and are no error.
pub fn backup(
    repository: &Arc<Repository>,
    mut input: Input,
    options: &BackupOptions,
    progress: &dyn Progress,
) -> Result<BackupReport, OpsError> {
    let mut replaces = None;
    for _ in 1..SESSIONS_TRIED {
        match attempt(repository, &mut input, options, replaces, progress) {
            Err(OpsError::Repo(RepoError::Fenced(id))) if matches!(input, Input::Paths(_)) => {
                progress.note("a prune elsewhere went on without this backup; it begins again");
                replaces = Some(id);
            }
            result => return result,
        }
    }
    attempt(repository, &mut input, options, replaces, progress)
}

fn attempt(
    repository: &Arc<Repository>,
    input: &mut Input,
    options: &BackupOptions,
    replaces: Option<SnapshotId>,
    progress: &dyn Progress,
) -> Result<BackupReport, OpsError> {
    let started = std::time::Instant::now();
    let mut snapshot = describe(repository, input, options);
    snapshot.replaces = replaces;
    // Hours of reading shall not end with what could have been said before.
    snapshot.check().map_err(RepoError::TooMuch)?;
    let mut session = match options.dry_run {
        // A dry run looks, and leaves nothing behind, so it needs no right to write either.
        true => None,
        false => Some(Session::begin(repository, Purpose::Backup, options.compression)?),
    };
    let line = Line::read(repository, &snapshot, options, progress)?;
    snapshot.parent = line.parent.as_ref().map(|parent| parent.id);
    snapshot.number = line.number;
    snapshot.previous = line.heads;
    progress.phase("reading", Counter::Bytes, None);
    let mut dry = DrySink::new(repository);
    let mut trust = Trust::default();
    let result = match &mut session {
        Some(session) => {
            let adopts = match &line.parent {
                Some(parent) => session.may_adopt(&parent.id, parent.snapshot.epoch)?,
                None => true,
            };
            trust = Trust::new(session, adopts);
            collect::collect(repository, session, input, options, line.parent, &trust, progress)
        }
        None => {
            repository.refresh_index()?;
            collect::collect(repository, &mut dry, input, options, line.parent, &trust, progress)
        }
    };
    let collected = match (result, session.is_some()) {
        (Ok(collected), _) => collected,
        (Err(error), false) => return Err(error),
        (Err(error), true) => {
            // What was stored stays usable for the next run; the error is what counts here.
            if let Some(session) = session.take() {
                let _ = session.abort();
            }
            return Err(error);
        }
    };
    snapshot.root = collected.root;
    snapshot.statistics = collected.statistics;
    snapshot.problem_count = collected.problems.count;
    snapshot.problems = collected.problems.first;
    if snapshot.problem_count > 0 {
        snapshot.outcome = Outcome::Partial;
    }
    snapshot.statistics.duration_ms = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    let mut report = BackupReport {
        record: None,
        parent: snapshot.parent,
        problem_count: snapshot.problem_count,
        problems: snapshot.problems.clone(),
        statistics: snapshot.statistics,
        alarms: line.alarms,
        files_read_again: trust.read_again(),
    };
    match session {
        None => report.statistics.bytes_new = dry.bytes_new(),
        Some(session) => {
            progress.phase("storing", Counter::Bytes, None);
            let record = session.commit(snapshot)?;
            lines::remember(repository, &record, progress);
            report.statistics = record.snapshot.statistics;
            report.record = Some(record);
        }
    }
    Ok(report)
}

/// All of the snapshot that is known before anything is read.
fn describe(repository: &Repository, input: &Input, options: &BackupOptions) -> Snapshot {
    let environment = repository.environment();
    let paths = match input {
        Input::Paths(paths) => paths.clone(),
        Input::Stream(stream) => vec![[b"/", stream.name.as_slice()].concat()],
    };
    Snapshot {
        time: options.time.unwrap_or_else(|| repository.world().now()),
        offset_minutes: options.offset_minutes,
        host: options.host.clone().unwrap_or_else(|| environment.host.clone()),
        user: environment.user.clone(),
        client: environment.client,
        job: options.job.clone(),
        kind: options.kind,
        paths,
        tags: options.tags.clone(),
        description: options.description.clone(),
        root: Refs::default(),
        program: options.program.clone(),
        ..Snapshot::default()
    }
}

/// What earlier snapshots mean for this one: whose files may be taken over, and its place in the
/// line of this client and job.
struct Line {
    parent: Option<SnapshotRecord>,
    number: u64,
    heads: Vec<(SnapshotId, [u8; 32])>,
    alarms: Vec<Alarm>,
}

impl Line {
    fn read(
        repository: &Arc<Repository>,
        snapshot: &Snapshot,
        options: &BackupOptions,
        progress: &dyn Progress,
    ) -> Result<Self, OpsError> {
        let records = repository.snapshots(progress)?;
        let look = lines::look(repository, &records, progress)?;
        let in_line = |record: &&SnapshotRecord| {
            record.snapshot.client == snapshot.client
                && record.snapshot.job == snapshot.job
                && record.snapshot.original.is_none()
                && !look.fenced.contains(&record.id)
        };
        let last = records.iter().filter(in_line).map(|r| r.snapshot.number).max().unwrap_or(0);
        let heads = records.iter().filter(in_line).filter(|r| r.snapshot.number == last);
        let heads = heads.map(|record| (record.id, record.hash)).collect();
        let same = |record: &&SnapshotRecord| {
            record.snapshot.host == snapshot.host && record.snapshot.paths == snapshot.paths
        };
        let parent = match &options.parent {
            Parent::None => None,
            Parent::Automatic => records.iter().rev().find(same).cloned(),
            Parent::Snapshot(id) => {
                let found = records.iter().find(|record| record.id == *id).cloned();
                Some(found.ok_or_else(|| OpsError::NoSnapshot {
                    name: id.short(),
                    why: "it is not there any more".into(),
                })?)
            }
        };
        Ok(Self { parent, number: last.saturating_add(1), heads, alarms: look.alarms })
    }
}
