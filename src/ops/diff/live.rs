//! What differs between a snapshot and the living tree that it was taken of.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use super::{Diff, DiffReport, Difference, Each, Side};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, EntryKind, Metadata, Ref, Refs};
use crate::limits;
use crate::ops::walk::{OPEN_MAX, Start};
use crate::ops::{OpsError, lost};
use crate::progress::{Counter, Problem, Progress};
use crate::repo::Repository;
use crate::source::{
    CACHE_TAG, Chain, Directory, Excludes, Kind, Names, OpenFile, Owners, Stat, Verdict,
    open_start, pseudo_file_system,
};
use crate::tree::TreeReader;

type SourceResult<T> = crate::source::Result<T>;

/// How to compare.
#[derive(Debug, Default)]
pub struct LiveOptions {
    /// What was left out of the snapshot, and so is no difference.
    pub excludes: Excludes,
    /// Read every file. Otherwise one with the size, times and inode of the snapshot is the same,
    /// and only others of the same size are read.
    pub read_all: bool,
}

/// Gives every difference between SNAPSHOT:PATH and a living tree, which is the second one, to
/// `each`. What cannot be read is told as a problem, and unknown.
pub fn diff_live(
    repository: &Arc<Repository>,
    before: (&Snapshot, &[u8]),
    live: &Path,
    options: &LiveOptions,
    each: Each<'_>,
    progress: &dyn Progress,
) -> Result<DiffReport, OpsError> {
    progress.phase("comparing", Counter::Entries, None);
    let reader = TreeReader::new(repository);
    let before = Start::find(&reader, before.0, before.1)?;
    let start = open_start(live).map_err(|error| OpsError::Source {
        path: error.path().to_vec(),
        why: error.to_string(),
    })?;
    let parent_len = start.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let parent_path = match start.path.get(..parent_len) {
        None | Some(b"") => b"/".to_vec(),
        Some(path) => path.to_vec(),
    };
    let device = start.parent.stat(&start.name).map_or(0, |stat| stat.device);
    let (path, levels, report) = (start.path.clone(), Vec::new(), DiffReport::default());
    let mut diff = LiveDiff {
        repository,
        diff: Diff { reader, path, levels, report, each, progress },
        chain: Chain::new(start.parent, parent_path),
        owners: Owners::new(),
        options,
        device,
        levels: Vec::new(),
        buffer: Vec::new(),
    };
    if start.name == b"." {
        diff.diff.path.clear();
        diff.names(before.listing().cloned(), false);
    } else {
        let top = before.root_listing();
        diff.name(&start.name, before.entry, top)?;
    }
    diff.run()?;
    Ok(diff.diff.report)
}

/// A directory of the living tree, and the snapshot's of the same path, if there is one.
struct Level {
    path_len: usize,
    before: Option<Side>,
    names: Names,
    next: usize,
    only_tag: bool,
    /// The walk has gone into it, and leaves it at the end.
    entered: bool,
}

/// What a living name stands for.
struct Found {
    directory: Arc<Directory>,
    stat: Stat,
    after: Entry,
    /// What is in it was left out.
    empty: bool,
}

struct LiveDiff<'a> {
    repository: &'a Arc<Repository>,
    diff: Diff<'a>,
    chain: Chain,
    owners: Owners,
    options: &'a LiveOptions,
    /// The file system of the start.
    device: u64,
    levels: Vec<Level>,
    buffer: Vec<u8>,
}

/// Bytes of a file that are looked at together where it should be a hole.
const BLOCK_LEN: u64 = 64 << 10;

impl LiveDiff<'_> {
    fn run(&mut self) -> Result<(), OpsError> {
        while let Some(level) = self.levels.last_mut() {
            if self.diff.progress.cancelled() {
                return Err(OpsError::Cancelled);
            }
            self.diff.path.truncate(level.path_len);
            let (path, progress) = (&self.diff.path, self.diff.progress);
            let stored = match &mut level.before {
                Some(side) => side.peek(&self.diff.reader, path, progress)?,
                None => None,
            };
            let live = level.names.get(level.next).map(|name| name.bytes);
            let order = match (stored, live) {
                (None, None) => {
                    self.leave();
                    continue;
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(entry), Some(name)) => entry.name.as_slice().cmp(name),
            };
            let name = match (order, stored, live) {
                (Ordering::Less, Some(entry), _) => entry.name.clone(),
                (_, _, Some(name)) => name.to_vec(),
                _ => unreachable!("one of them has a name"),
            };
            let gap = level.before.as_ref().is_some_and(|side| side.gap);
            let before = match order {
                Ordering::Greater => None,
                _ => level.before.as_mut().and_then(Side::take),
            };
            level.next += usize::from(order != Ordering::Less);
            progress.add(Counter::Entries, 1);
            if level.only_tag && name != CACHE_TAG {
                continue;
            }
            if order == Ordering::Greater && gap {
                self.diff.report.unknown_count += 1;
                continue;
            }
            self.diff.path.push(b'/');
            self.diff.path.extend_from_slice(&name);
            match order {
                Ordering::Less => self.gone(before)?,
                _ => self.name(&name, before, None)?,
            }
        }
        Ok(())
    }

    /// Everything below a name that is in the snapshot only.
    fn gone(&mut self, before: Option<Entry>) -> Result<(), OpsError> {
        self.diff.entries(before, None, (None, None))?;
        self.diff.run()
    }

    fn leave(&mut self) {
        if self.levels.pop().is_some_and(|level| level.entered) {
            self.chain.leave();
        }
    }

    fn unknown<T>(&mut self, error: crate::source::SourceError) -> Option<T> {
        let error = error.below(self.chain.path());
        self.diff.progress.problem(&Problem::at(error.path(), &error));
        self.diff.report.unknown_count += 1;
        None
    }

    /// Compares a name of the directory where the chain is with the snapshot's entry of it. `top`
    /// is the listing of a start that has no entry.
    fn name(
        &mut self,
        name: &[u8],
        before: Option<Entry>,
        top: Option<Refs>,
    ) -> Result<(), OpsError> {
        let looked = self.look(name);
        let Found { directory, stat, after, empty } = match looked {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.unknown::<()>(error);
                return Ok(());
            }
        };
        match &before {
            Some(before) => {
                let same = self.same_content(&directory, before, &after, &stat)?;
                let Some(same) = same else { return Ok(()) };
                self.diff.pair(before, &after, same)?;
            }
            None if top.is_some() => {}
            None => {
                self.diff.report.added.add(&after);
                self.diff.tell(Difference::Added(&after))?;
            }
        }
        let listing = match before {
            Some(Entry { kind: EntryKind::Directory { listing }, .. }) => Some(listing),
            _ => top,
        };
        match (stat.is_directory() && !empty, listing) {
            (true, listing) => self.enter(name, &stat, listing),
            // What was a directory is none now: everything in it is gone.
            (false, Some(listing)) if !stat.is_directory() => {
                self.diff.enter(Some(listing), None);
                self.diff.run()?;
            }
            (false, _) => {}
        }
        Ok(())
    }

    /// What a name stands for; `None` if it is left out.
    fn look(&mut self, name: &[u8]) -> SourceResult<Option<Found>> {
        let directory = self.chain.directory()?;
        let stat = directory.stat(name)?;
        let excludes = &self.options.excludes;
        let verdict = excludes.verdict(self.chain.path(), name, &stat, self.device);
        if matches!(verdict, Verdict::Skip(_)) {
            return Ok(None);
        }
        let (metadata, problems) = directory.metadata(name, &stat, &self.owners)?;
        for problem in problems {
            let problem = problem.below(self.chain.path());
            self.diff.progress.problem(&Problem::at(problem.path(), &problem));
        }
        let after = entry(&directory, name, &stat, metadata)?;
        let empty = matches!(verdict, Verdict::TakeEmpty(_));
        Ok(Some(Found { directory, stat, after, empty }))
    }

    fn enter(&mut self, name: &[u8], stat: &Stat, listing: Option<Refs>) {
        let crossing = self.chain.directory().is_ok_and(|d| d.own_stat().device != stat.device);
        match self.chain.enter(name, stat) {
            Ok(directory) if crossing && matches!(pseudo_file_system(&directory), Ok(Some(_))) => {
                self.chain.leave();
            }
            Ok(_) => self.names(listing, true),
            Err(error) => _ = self.unknown::<()>(error),
        }
    }

    /// Begins with the names of the directory where the chain is.
    fn names(&mut self, listing: Option<Refs>, entered: bool) {
        let read = self.chain.directory().and_then(|d| d.names().map(|names| (d, names)));
        let Some((directory, names)) = read.map_or_else(|error| self.unknown(error), Some) else {
            if entered {
                self.chain.leave();
            }
            return;
        };
        let only_tag = self.options.excludes.keeps_only_tag(&directory, &names);
        let (path_len, before) = (self.diff.path.len(), listing.map(Side::new));
        self.levels.push(Level { path_len, before, names, next: 0, only_tag, entered });
        let above = self.levels.len().checked_sub(OPEN_MAX + 1);
        if let Some(level) = above.and_then(|at| self.levels.get_mut(at)) {
            level.before.iter_mut().for_each(|side| side.cursor.park());
        }
    }

    /// `None` if the file cannot be read, which was told.
    fn same_content(
        &mut self,
        directory: &Directory,
        before: &Entry,
        after: &Entry,
        stat: &Stat,
    ) -> Result<Option<bool>, OpsError> {
        let content = match (&before.kind, &after.kind) {
            (EntryKind::File { content, .. }, EntryKind::File { .. }) => content,
            (EntryKind::Directory { .. }, EntryKind::Directory { .. }) => return Ok(Some(true)),
            (one, other) => return Ok(Some(one == other)),
        };
        if content.len() != stat.size {
            return Ok(Some(false));
        }
        if !self.options.read_all && stat.has_content_of(before) {
            return Ok(Some(true));
        }
        let file = match directory.open_file(&after.name, stat) {
            Ok(file) => file,
            Err(error) => return Ok(self.unknown(error)),
        };
        self.diff.progress.at(&self.diff.path);
        let mut leaves = self.diff.reader.leaves(content);
        loop {
            let start = leaves.position();
            let leaf = match leaves.next() {
                None => return Ok(Some(true)),
                Some(Ok(leaf)) => leaf,
                Some(Err(error)) => {
                    self.diff.progress.problem(&lost(&self.diff.path, error)?);
                    self.diff.report.unknown_count += 1;
                    return Ok(None);
                }
            };
            match self.same_bytes(&file, start, &leaf)? {
                Ok(true) => {}
                Ok(false) => return Ok(Some(false)),
                Err(error) => return Ok(self.unknown(error)),
            }
        }
    }

    /// Whether a file has the bytes that a reference stands for.
    fn same_bytes(
        &mut self,
        file: &OpenFile,
        start: u64,
        leaf: &Ref,
    ) -> Result<SourceResult<bool>, OpsError> {
        let (block, id) = match leaf {
            Ref::Hole { .. } => (BLOCK_LEN, None),
            Ref::Chunk { id, len } if *len <= limits::CHUNK_LEN_MAX as u64 => (*len, Some(id)),
            Ref::Chunk { .. } => return Ok(Ok(false)),
        };
        let mut done = 0;
        while done < leaf.len() {
            if self.diff.progress.cancelled() {
                return Err(OpsError::Cancelled);
            }
            // A block is at most as long as a chunk may be.
            let len = block.min(leaf.len() - done);
            self.buffer.resize(len as usize, 0);
            match file.read_at(start + done, &mut self.buffer) {
                Ok(read) if read as u64 == len => {}
                Ok(_) => return Ok(Ok(false)),
                Err(error) => return Ok(Err(error)),
            }
            let same = match id {
                Some(id) => self.repository.keys().data_id(&self.buffer) == *id,
                None => self.buffer.iter().all(|byte| *byte == 0),
            };
            if !same {
                return Ok(Ok(false));
            }
            done += len;
            self.diff.progress.add(Counter::Bytes, len);
        }
        Ok(Ok(true))
    }
}

/// A living entry as one of a snapshot. Of a file's content only the length is right.
fn entry(
    directory: &Directory,
    name: &[u8],
    stat: &Stat,
    metadata: Metadata,
) -> SourceResult<Entry> {
    let kind = match stat.kind {
        Kind::File => {
            let refs = Some(Ref::Hole { len: stat.size }).filter(|hole| !hole.is_empty());
            let content = Refs { depth: 0, refs: refs.into_iter().collect() };
            EntryKind::File { content, unstable: false }
        }
        Kind::Directory => EntryKind::Directory { listing: Refs::default() },
        Kind::Symlink => EntryKind::Symlink { target: directory.read_link(name)? },
        Kind::Fifo => EntryKind::Fifo,
        Kind::Socket => EntryKind::Socket,
        Kind::CharDevice => EntryKind::CharDevice { major: stat.major, minor: stat.minor },
        Kind::BlockDevice => EntryKind::BlockDevice { major: stat.major, minor: stat.minor },
    };
    Ok(Entry { name: name.to_vec(), kind, metadata })
}

#[cfg(test)]
mod tests;
