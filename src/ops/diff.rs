//! What differs between two snapshots, or parts of them.
//!
//! Both trees are walked next to each other in byte order of names. Directories with the same
//! listing are the same all the way down, so their content is not read.

mod live;

use std::cmp::Ordering;
use std::sync::Arc;

use super::walk::{Cursor, OPEN_MAX, Start, absolute, too_deep};
use super::{OpsError, lost};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, EntryKind, Metadata, Refs};
use crate::limits;
use crate::progress::{Counter, Progress};
use crate::repo::Repository;
use crate::tree::TreeReader;

pub use live::{LiveOptions, diff_live};

/// Which of an entry's metadata differ. Times and numbers of inodes that are not restored do not
/// count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetadataChange {
    /// Permission bits.
    pub mode: bool,
    /// User or group, number or name.
    pub owner: bool,
    /// Time of the last change of the content.
    pub mtime: bool,
    /// Extended attributes.
    pub xattrs: bool,
}

impl MetadataChange {
    /// What differs between two.
    pub fn between(before: &Metadata, after: &Metadata) -> Self {
        Self {
            mode: before.mode != after.mode,
            owner: (before.uid, before.gid, &before.user, &before.group)
                != (after.uid, after.gid, &after.user, &after.group),
            mtime: before.mtime != after.mtime,
            xattrs: before.xattrs != after.xattrs,
        }
    }

    /// Whether anything does.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// How a name differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference<'a> {
    /// It is new.
    Added(&'a Entry),
    /// It is gone.
    Removed(&'a Entry),
    /// It is there before and after.
    Changed {
        /// As it was.
        before: &'a Entry,
        /// As it is.
        after: &'a Entry,
        /// It is something else now: a file where a directory was.
        kind: bool,
        /// Its content: bytes of a file, target of a link, number of a device.
        content: bool,
        /// What there is about it besides.
        metadata: MetadataChange,
    },
}

/// A name that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffItem<'a> {
    /// Its absolute path in the second snapshot, raw, or what that would be.
    pub path: &'a [u8],
    /// How it differs.
    pub difference: Difference<'a>,
}

/// How many of each kind, and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Regular files.
    pub file_count: u64,
    /// Directories.
    pub directory_count: u64,
    /// Everything else.
    pub other_count: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, entry: &Entry) {
        match entry.kind {
            EntryKind::File { .. } => self.file_count += 1,
            EntryKind::Directory { .. } => self.directory_count += 1,
            _ => self.other_count += 1,
        }
        self.bytes = self.bytes.saturating_add(entry.size());
    }
}

/// What differs, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffReport {
    /// What is new.
    pub added: Tally,
    /// What is gone.
    pub removed: Tally,
    /// What has another content or kind, as it is now.
    pub changed: Tally,
    /// Bytes of these files as they were.
    pub changed_bytes_before: u64,
    /// Entries of which only metadata differ.
    pub metadata_count: u64,
    /// Names of one side for which the other side's listing is damaged: nobody knows.
    pub unknown_count: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.file_count += other.file_count;
        self.directory_count += other.directory_count;
        self.other_count += other.other_count;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl std::ops::AddAssign for DiffReport {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.removed += other.removed;
        self.changed += other.changed;
        let bytes = self.changed_bytes_before.saturating_add(other.changed_bytes_before);
        self.changed_bytes_before = bytes;
        self.metadata_count += other.metadata_count;
        self.unknown_count += other.unknown_count;
    }
}

/// Takes what differs.
pub type Each<'a> = &'a mut dyn FnMut(&DiffItem<'_>) -> Result<(), OpsError>;

/// Gives every difference between two SNAPSHOT:PATHs to `each`, in byte order of names.
pub fn diff(
    repository: &Arc<Repository>,
    before: (&Snapshot, &[u8]),
    after: (&Snapshot, &[u8]),
    each: Each<'_>,
    progress: &dyn Progress,
) -> Result<DiffReport, OpsError> {
    progress.phase("comparing", Counter::Entries, None);
    let reader = TreeReader::new(repository);
    let before = Start::find(&reader, before.0, before.1)?;
    let after = Start::find(&reader, after.0, after.1)?;
    let path = after.path.clone();
    let report = DiffReport::default();
    let mut diff = Diff { reader, path, levels: Vec::new(), report, each, progress };
    match (before.listing(), after.listing()) {
        (Some(one), Some(other)) if one == other => {}
        (Some(one), Some(other)) => diff.enter(Some(one.clone()), Some(other.clone())),
        _ => {
            let tops = (before.root_listing(), after.root_listing());
            diff.entries(before.entry, after.entry, tops)?;
        }
    }
    diff.run()?;
    Ok(diff.report)
}

/// One side of a pair of directories.
struct Side {
    cursor: Cursor,
    next: Option<Entry>,
    ended: bool,
    /// Before the next entry, or behind the last one, something could not be read.
    gap: bool,
}

impl Side {
    fn new(listing: Refs) -> Self {
        Self { cursor: Cursor::new(listing), next: None, ended: false, gap: false }
    }

    fn peek(
        &mut self,
        reader: &TreeReader,
        path: &[u8],
        progress: &dyn Progress,
    ) -> Result<Option<&Entry>, OpsError> {
        while self.next.is_none() && !self.ended {
            match self.cursor.next(reader) {
                None => self.ended = true,
                Some(Ok(entry)) => self.next = Some(entry),
                Some(Err(error)) => {
                    progress.problem(&lost(&absolute(path), error)?);
                    self.gap = true;
                }
            }
        }
        Ok(self.next.as_ref())
    }

    fn take(&mut self) -> Option<Entry> {
        self.gap = false;
        self.next.take()
    }
}

/// A pair of directories of the same path, or a directory that is on one side only.
struct Level {
    path_len: usize,
    before: Option<Side>,
    after: Option<Side>,
}

struct Diff<'a> {
    reader: TreeReader,
    path: Vec<u8>,
    levels: Vec<Level>,
    report: DiffReport,
    each: Each<'a>,
    progress: &'a dyn Progress,
}

impl Diff<'_> {
    fn enter(&mut self, before: Option<Refs>, after: Option<Refs>) {
        if self.levels.len() >= limits::TREE_DEPTH_MAX {
            self.progress.problem(&too_deep(&self.path));
            return;
        }
        let (before, after) = (before.map(Side::new), after.map(Side::new));
        self.levels.push(Level { path_len: self.path.len(), before, after });
        let above = self.levels.len().checked_sub(OPEN_MAX + 1);
        if let Some(level) = above.and_then(|at| self.levels.get_mut(at)) {
            level.before.iter_mut().chain(&mut level.after).for_each(|side| side.cursor.park());
        }
    }

    fn run(&mut self) -> Result<(), OpsError> {
        while let Some(level) = self.levels.last_mut() {
            if self.progress.cancelled() {
                return Err(OpsError::Cancelled);
            }
            self.path.truncate(level.path_len);
            let peek = |side: &mut Option<Side>| match side {
                None => Ok::<_, OpsError>(None),
                Some(side) => {
                    let next = side.peek(&self.reader, &self.path, self.progress)?;
                    Ok(next.map(|entry| entry.name.clone()))
                }
            };
            let order = match (peek(&mut level.before)?, peek(&mut level.after)?) {
                (None, None) => {
                    self.levels.pop();
                    continue;
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => one.cmp(&other),
            };
            let take = |side: &mut Option<Side>| side.as_mut().and_then(Side::take);
            let gap = |side: &Option<Side>| side.as_ref().is_some_and(|side| side.gap);
            let (before, after, unknown) = match order {
                Ordering::Less => (take(&mut level.before), None, gap(&level.after)),
                Ordering::Greater => (None, take(&mut level.after), gap(&level.before)),
                Ordering::Equal => (take(&mut level.before), take(&mut level.after), false),
            };
            self.progress.add(Counter::Entries, 1);
            if unknown {
                self.report.unknown_count += 1;
                continue;
            }
            let Some(name) = before.as_ref().or(after.as_ref()).map(|entry| &entry.name) else {
                continue;
            };
            self.path.push(b'/');
            self.path.extend_from_slice(name);
            self.entries(before, after, (None, None))?;
        }
        Ok(())
    }

    /// Compares two entries of the same path, one of which may be missing. `tops` are listings of
    /// directories that have no entry.
    fn entries(
        &mut self,
        before: Option<Entry>,
        after: Option<Entry>,
        tops: (Option<Refs>, Option<Refs>),
    ) -> Result<(), OpsError> {
        match (&before, &after) {
            (None, None) => {}
            (Some(entry), None) => {
                self.report.removed.add(entry);
                self.tell(Difference::Removed(entry))?;
            }
            (None, Some(entry)) => {
                self.report.added.add(entry);
                self.tell(Difference::Added(entry))?;
            }
            (Some(before), Some(after)) => {
                let same = self.same_content(before, after)?;
                self.pair(before, after, same)?;
            }
        }
        let listing = |entry: Option<Entry>| match entry?.kind {
            EntryKind::Directory { listing } => Some(listing),
            _ => None,
        };
        match (listing(before).or(tops.0), listing(after).or(tops.1)) {
            (None, None) => {}
            (Some(one), Some(other)) if one == other => {}
            (one, other) => self.enter(one, other),
        }
        Ok(())
    }

    fn pair(&mut self, before: &Entry, after: &Entry, same: bool) -> Result<(), OpsError> {
        let kind = std::mem::discriminant(&before.kind) != std::mem::discriminant(&after.kind);
        let content = !kind && !same;
        let metadata = MetadataChange::between(&before.metadata, &after.metadata);
        if kind || content {
            self.report.changed.add(after);
            let bytes = self.report.changed_bytes_before.saturating_add(before.size());
            self.report.changed_bytes_before = bytes;
        } else if metadata.any() {
            self.report.metadata_count += 1;
        } else {
            return Ok(());
        }
        self.tell(Difference::Changed { before, after, kind, content, metadata })
    }

    /// Directories have the same content here: what is in them is compared on its own.
    fn same_content(&self, before: &Entry, after: &Entry) -> Result<bool, OpsError> {
        let (one, other) = match (&before.kind, &after.kind) {
            (EntryKind::File { content: one, .. }, EntryKind::File { content: other, .. }) => {
                (one, other)
            }
            (EntryKind::Directory { .. }, EntryKind::Directory { .. }) => return Ok(true),
            (one, other) => return Ok(one == other),
        };
        if one == other || one.len() != other.len() {
            return Ok(one == other);
        }
        // The same chunks may stand in other lists.
        let (mut one, mut other) = (self.reader.leaves(one), self.reader.leaves(other));
        loop {
            if self.progress.cancelled() {
                return Err(OpsError::Cancelled);
            }
            match (one.next(), other.next()) {
                (None, None) => return Ok(true),
                (Some(Ok(one)), Some(Ok(other))) if one == other => {}
                (Some(Err(error)), _) | (_, Some(Err(error))) => {
                    self.progress.problem(&lost(&self.path, error)?);
                    return Ok(false);
                }
                _ => return Ok(false),
            }
        }
    }

    fn tell(&mut self, difference: Difference<'_>) -> Result<(), OpsError> {
        let path = if self.path.is_empty() { b"/" } else { self.path.as_slice() };
        (self.each)(&DiffItem { path, difference })
    }
}

#[cfg(test)]
mod tests;
