//! The walk over trees: iterative, a chunk of a listing at a time, nothing walked twice.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::OpsError;
use super::stock::is_outage;
use super::{Loss, Marks, Need, Stock, Visitor};
use crate::format::FormatError;
use crate::format::frame::ChunkKind;
use crate::format::tree::{Entry, EntryKind, Ref, Refs};
use crate::id::{ChunkId, SnapshotId};
use crate::limits;
use crate::progress::{Counter, Progress};
use crate::repo::{RepoError, Repository};
use crate::tree::{Entries, TreeError, TreeReader};

/// So many directories on the way down keep the entries that they have read; those above read
/// theirs again when the walk comes back to them.
const LEVELS_OPEN: usize = 64;
/// Trees with something lost in them are walked for every path that leads to them, until so many
/// losses were told: a hostile repository could lead there by more paths than anyone can count.
const LOSSES_MAX: u64 = 100_000;

/// Marks every chunk that the snapshots need: of trees, of lists, of files. Trees whose chunks
/// are marked already are not walked again. What is missing or damaged is told to the visitor,
/// and the walk goes on behind it.
pub fn mark(
    repository: &Arc<Repository>,
    stock: &Stock,
    roots: &[(SnapshotId, Refs)],
    marks: &mut Marks,
    visitor: &mut dyn Visitor,
    progress: &dyn Progress,
) -> Result<(), OpsError> {
    let trees = TreeReader::new(repository);
    let mut walk = Walk {
        stock,
        trees,
        marks,
        visitor,
        progress,
        tainted: HashSet::new(),
        losses: 0,
        snapshot: SnapshotId::default(),
        path: Vec::new(),
    };
    progress.phase("marking", Counter::Objects, Some(roots.len() as u64));
    for (snapshot, root) in roots {
        walk.snapshot = *snapshot;
        walk.path.clear();
        walk.tree(root)?;
        progress.add(Counter::Objects, 1);
    }
    Ok(())
}

struct Walk<'a> {
    stock: &'a Stock,
    trees: TreeReader,
    marks: &'a mut Marks,
    visitor: &'a mut dyn Visitor,
    progress: &'a dyn Progress,
    /// First chunks of streams behind which something is lost.
    tainted: HashSet<ChunkId>,
    losses: u64,
    snapshot: SnapshotId,
    path: Vec<u8>,
}

/// A directory on the way down.
struct Level {
    listing: Refs,
    entries: Option<Entries>,
    last: Option<Vec<u8>>,
    path_len: usize,
    tainted: bool,
}

impl Level {
    fn next(&mut self, trees: &TreeReader) -> Option<Result<Entry, TreeError>> {
        let entries = match &mut self.entries {
            Some(entries) => entries,
            closed => {
                let mut entries = trees.entries(&self.listing).with_lists();
                if let Some(last) = &self.last {
                    // What is damaged before that name was told at the first time.
                    entries.find(|entry| entry.as_ref().is_ok_and(|entry| entry.name == *last));
                }
                closed.insert(entries)
            }
        };
        let next = entries.next()?;
        if let Ok(entry) = &next {
            self.last = Some(entry.name.clone());
        }
        Some(next)
    }

    fn take_lists(&mut self) -> Vec<ChunkId> {
        self.entries.as_mut().map(Entries::take_lists).unwrap_or_default()
    }
}

impl Walk<'_> {
    fn tree(&mut self, root: &Refs) -> Result<(), OpsError> {
        let mut stack: Vec<Level> = Vec::new();
        self.descend(root.clone(), 0, &mut stack)?;
        while let Some(level) = stack.last_mut() {
            let (next, error) = split(level.next(&self.trees));
            let (lists, path_len) = (level.take_lists(), level.path_len);
            let mut tainted = self.read_lists(lists, error)?;
            match next {
                Next::End => {
                    level_at(&mut stack, path_len, tainted);
                    self.ascend(&mut stack);
                    continue;
                }
                Next::Nothing => {}
                Next::Item(entry) => {
                    self.path.push(b'/');
                    self.path.extend_from_slice(&entry.name);
                    self.progress.add(Counter::Entries, 1);
                    match entry.kind {
                        EntryKind::File { content, .. } => {
                            tainted |= self.content(&content)?;
                            self.path.truncate(path_len);
                        }
                        EntryKind::Directory { listing } => {
                            tainted |= self.descend(listing, path_len, &mut stack)?;
                        }
                        _ => self.path.truncate(path_len),
                    }
                }
            }
            level_at(&mut stack, path_len, tainted);
        }
        Ok(())
    }

    /// Marks the tree chunks that were read on the way, `error` being about the last of them.
    /// Says whether any is lost.
    fn read_lists(
        &mut self,
        lists: Vec<ChunkId>,
        error: Option<TreeError>,
    ) -> Result<bool, OpsError> {
        let failed = error.map(|error| self.damage(error)).transpose()?;
        let mut tainted = failed.is_some();
        for id in lists.into_iter().filter(|id| Some(*id) != failed) {
            tainted |= !self.need(ChunkKind::Tree, id, None)?;
        }
        Ok(tainted)
    }

    /// Enters a directory unless all that is behind it is marked. Says whether it is lost.
    fn descend(
        &mut self,
        listing: Refs,
        path_len: usize,
        stack: &mut Vec<Level>,
    ) -> Result<bool, OpsError> {
        if self.progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        let first = listing.refs.iter().find_map(chunk_of);
        let Some(first) = first.filter(|_| stack.len() < limits::TREE_DEPTH_MAX) else {
            let lost = first.is_some();
            if let Some(id) = first {
                let (found, limit) = (stack.len() as u64, limits::TREE_DEPTH_MAX as u64);
                let source = FormatError::TooLarge { what: "depth of a tree", found, limit };
                self.damage(TreeError::Format { id, source })?;
            }
            self.path.truncate(path_len);
            return Ok(lost);
        };
        if self.is_done(&listing)? {
            let tainted = self.tainted.contains(&first);
            self.path.truncate(path_len);
            return Ok(tainted);
        }
        if let Some(above) = stack.len().checked_sub(LEVELS_OPEN)
            && let Some(level) = stack.get_mut(above)
        {
            level.entries = None;
        }
        let path_len = self.path.len();
        stack.push(Level { listing, entries: None, last: None, path_len, tainted: false });
        Ok(false)
    }

    fn ascend(&mut self, stack: &mut Vec<Level>) {
        let Some(done) = stack.pop() else { return };
        if done.tainted {
            self.taint(&done.listing);
        }
        if let Some(level) = stack.last_mut() {
            level.tainted |= done.tainted;
            self.path.truncate(level.path_len);
        }
    }

    fn taint(&mut self, stream: &Refs) {
        self.tainted.extend(stream.refs.iter().filter_map(chunk_of));
    }

    /// Whether all that a stream leads to is marked, and nothing of it is to be told again.
    fn is_done(&self, stream: &Refs) -> Result<bool, OpsError> {
        for id in stream.refs.iter().filter_map(chunk_of) {
            let marked = self.stock.number(&id)?.is_some_and(|number| self.marks.get(number));
            let again = self.tainted.contains(&id) && self.losses < LOSSES_MAX;
            if !marked || again {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Marks what a file needs. Says whether something of it is lost.
    fn content(&mut self, content: &Refs) -> Result<bool, OpsError> {
        let mut tainted = false;
        if content.depth == 0 {
            for item in &content.refs {
                tainted |= !self.need_leaf(item)?;
            }
            return Ok(tainted);
        }
        if self.is_done(content)? {
            return Ok(content
                .refs
                .iter()
                .filter_map(chunk_of)
                .any(|id| self.tainted.contains(&id)));
        }
        let mut leaves = self.trees.leaves(content).with_lists();
        loop {
            let (next, error) = split(leaves.next());
            tainted |= self.read_lists(leaves.take_lists(), error)?;
            match next {
                Next::End => break,
                Next::Nothing => {}
                Next::Item(item) => tainted |= !self.need_leaf(&item)?,
            }
        }
        if tainted {
            self.taint(content);
        }
        Ok(tainted)
    }

    fn need_leaf(&mut self, item: &Ref) -> Result<bool, OpsError> {
        match item {
            Ref::Chunk { id, len } => self.need(ChunkKind::Data, *id, Some(*len)),
            Ref::Hole { .. } => Ok(true),
        }
    }

    /// Marks a chunk; says whether it is there.
    fn need(&mut self, kind: ChunkKind, id: ChunkId, len: Option<u64>) -> Result<bool, OpsError> {
        let Some(number) = self.stock.number(&id)? else {
            self.lose(kind, id, None);
            return Ok(false);
        };
        if self.marks.set(number) {
            let (snapshot, path) = (self.snapshot, self.path.as_slice());
            self.visitor.need(&Need { kind, id, number, len, snapshot, path });
        }
        Ok(true)
    }

    /// Tells of a chunk of a tree that cannot be used; an outage of the storage ends the walk.
    fn damage(&mut self, error: TreeError) -> Result<ChunkId, OpsError> {
        let id = match &error {
            TreeError::Format { id, .. } => *id,
            TreeError::Repo(RepoError::Chunk { id, source })
                if !source.as_deref().is_some_and(is_outage) =>
            {
                *id
            }
            _ => return Err(error.into()),
        };
        self.lose(ChunkKind::Tree, id, Some(&error));
        Ok(id)
    }

    fn lose(&mut self, kind: ChunkKind, id: ChunkId, error: Option<&TreeError>) {
        self.losses += 1;
        let (snapshot, path) = (self.snapshot, self.path.as_slice());
        self.visitor.loss(&Loss { kind, id, snapshot, path, error });
    }
}

/// What a stream gave.
enum Next<T> {
    End,
    /// Something that could not be read.
    Nothing,
    Item(T),
}

fn split<T>(next: Option<Result<T, TreeError>>) -> (Next<T>, Option<TreeError>) {
    match next {
        None => (Next::End, None),
        Some(Ok(item)) => (Next::Item(item), None),
        Some(Err(error)) => (Next::Nothing, Some(error)),
    }
}

/// Taints the directory that was worked on; one that was entered from it may lie on top by now.
fn level_at(stack: &mut [Level], path_len: usize, tainted: bool) {
    let level = stack.iter_mut().rev().find(|level| level.path_len <= path_len);
    level.into_iter().for_each(|level| level.tainted |= tainted);
}

fn chunk_of(item: &Ref) -> Option<ChunkId> {
    match item {
        Ref::Chunk { id, .. } => Some(*id),
        Ref::Hole { .. } => None,
    }
}
