//! One snapshot's tree, written anew into the destination's session.

use super::twin::{TwinLeaves, Twins};
use crate::format::snapshot::{Snapshot, SnapshotProblem};
use crate::format::tree::{Entry, EntryKind, Metadata, Ref, Refs};
use crate::limits;
use crate::ops::content::{ContentReader, Piece};
use crate::ops::walk::{Cursor, OPEN_MAX, absolute, too_deep};
use crate::ops::{OpsError, lost};
use crate::progress::{Counter, Problem, Progress};
use crate::repo::Session;
use crate::tree::{ChunkSink, ListingBuilder, RefsBuilder, TreeReader};

/// So many problems are written into a snapshot; all of them are told as they come.
const PROBLEMS_KEPT: usize = 1_000;

/// What became of a tree.
#[derive(Debug, Default)]
pub(in crate::ops) struct CopiedTree {
    pub root: Refs,
    pub bytes_read: u64,
    pub lost_file_count: u64,
    pub lost_bytes: u64,
    pub problem_count: u64,
    pub problems: Vec<SnapshotProblem>,
}

/// A directory that is being copied.
struct Level {
    path_len: usize,
    /// Its name and the rest of its entry; the top has none.
    entry: Option<(Vec<u8>, Metadata)>,
    cursor: Cursor,
    twins: Option<Twins>,
    builder: ListingBuilder,
}

pub(in crate::ops) struct TreeCopy<'a> {
    reader: &'a ContentReader,
    copies: &'a TreeReader,
    session: &'a mut Session,
    /// The destination names chunks as the source does.
    same_ids: bool,
    progress: &'a dyn Progress,
    path: Vec<u8>,
    levels: Vec<Level>,
    done_bytes: u64,
    copied: CopiedTree,
}

impl<'a> TreeCopy<'a> {
    pub fn new(
        reader: &'a ContentReader,
        copies: &'a TreeReader,
        session: &'a mut Session,
        progress: &'a dyn Progress,
    ) -> Self {
        let (from, to) = (reader.repository(), session.repository());
        let same_ids = from.config().family == to.config().family
            && from.keys().data_id(b"") == to.keys().data_id(b"");
        Self {
            reader,
            copies,
            session,
            same_ids,
            progress,
            path: Vec::new(),
            levels: Vec::new(),
            done_bytes: 0,
            copied: CopiedTree::default(),
        }
    }

    /// Copies the snapshot's tree. `pair` is the root of one that was copied before, and of its
    /// copy, all of which may be taken over.
    pub fn run(
        mut self,
        snapshot: &Snapshot,
        pair: Option<(Refs, Refs)>,
    ) -> Result<CopiedTree, OpsError> {
        let total = snapshot.statistics.bytes;
        match pair {
            Some((source, copy)) if source == snapshot.root => self.copied.root = copy,
            pair => {
                let twins = pair.map(|(source, copy)| Twins::new(source, copy));
                self.enter(None, snapshot.root.clone(), twins);
                self.walk()?;
            }
        }
        // What was taken over as a whole was not counted.
        self.progress.add(Counter::Bytes, total.saturating_sub(self.done_bytes));
        Ok(self.copied)
    }

    fn enter(&mut self, entry: Option<(Vec<u8>, Metadata)>, listing: Refs, twins: Option<Twins>) {
        let (path_len, cursor) = (self.path.len(), Cursor::new(listing));
        let builder = ListingBuilder::default();
        self.levels.push(Level { path_len, entry, cursor, twins, builder });
        let above = self.levels.len().checked_sub(OPEN_MAX + 1);
        if let Some(level) = above.and_then(|at| self.levels.get_mut(at)) {
            level.cursor.park();
            level.twins.iter_mut().for_each(Twins::park);
        }
    }

    fn walk(&mut self) -> Result<(), OpsError> {
        while let Some(level) = self.levels.last_mut() {
            if self.progress.cancelled() {
                return Err(OpsError::Cancelled);
            }
            self.path.truncate(level.path_len);
            let trees = self.reader.trees();
            match level.cursor.next(trees) {
                None => self.leave()?,
                Some(Err(error)) => {
                    let problem = lost(&absolute(&self.path), error)?;
                    self.problem(problem);
                }
                Some(Ok(entry)) => {
                    let twins = level.twins.as_mut();
                    let twin = twins.and_then(|t| t.find((trees, self.copies), &entry.name));
                    self.path.push(b'/');
                    self.path.extend_from_slice(&entry.name);
                    self.entry(entry, twin)?;
                }
            }
        }
        Ok(())
    }

    /// The innermost directory is done.
    fn leave(&mut self) -> Result<(), OpsError> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        let listing = level.builder.finish(self.session)?;
        match level.entry {
            None => self.copied.root = listing,
            Some((name, metadata)) => {
                self.push(Entry { name, kind: EntryKind::Directory { listing }, metadata })?;
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<(), OpsError> {
        match self.levels.last_mut() {
            Some(level) => Ok(level.builder.push(&entry, self.session)?),
            None => unreachable!("the top has no entry of its own"),
        }
    }

    fn problem(&mut self, problem: Problem) {
        self.progress.problem(&problem);
        self.copied.problem_count += 1;
        let fits = |len: usize| len <= limits::TEXT_LEN_MAX;
        let room = self.copied.problems.len() < PROBLEMS_KEPT;
        if room && fits(problem.what.len()) && fits(problem.why.len()) {
            let problem = SnapshotProblem { path: problem.what, why: problem.why };
            self.copied.problems.push(problem);
        }
    }

    fn entry(&mut self, entry: Entry, twin: Option<(Entry, Entry)>) -> Result<(), OpsError> {
        self.progress.add(Counter::Entries, 1);
        let twin = twin.map(|(source, copy)| (source.kind, copy.kind));
        let kind = match entry.kind {
            EntryKind::Directory { listing } => {
                let twins = match twin {
                    Some((
                        EntryKind::Directory { listing: source },
                        EntryKind::Directory { listing: copy },
                    )) => Some((source, copy)),
                    _ => None,
                };
                match twins {
                    Some((source, copy)) if source == listing => {
                        EntryKind::Directory { listing: copy }
                    }
                    twins => {
                        if self.levels.len() >= limits::TREE_DEPTH_MAX {
                            self.problem(too_deep(&self.path.clone()));
                            return Ok(());
                        }
                        let twins = twins.map(|(source, copy)| Twins::new(source, copy));
                        self.enter(Some((entry.name, entry.metadata)), listing, twins);
                        return Ok(());
                    }
                }
            }
            EntryKind::File { content, unstable } => {
                let twins = match twin {
                    Some((
                        EntryKind::File { content: source, .. },
                        EntryKind::File { content: copy, .. },
                    )) => Some((source, copy)),
                    _ => None,
                };
                let copied = match twins {
                    Some((source, copy)) if source == content => {
                        self.count(content.len());
                        Some(copy)
                    }
                    twins => self.content(&content, twins)?,
                };
                let Some(content) = copied else { return Ok(()) };
                EntryKind::File { content, unstable }
            }
            other => other,
        };
        self.push(Entry { kind, ..entry })
    }

    fn count(&mut self, bytes: u64) {
        // Holes cost nothing: a few files of them may have more bytes than there are numbers.
        self.done_bytes = self.done_bytes.saturating_add(bytes);
        self.progress.add(Counter::Bytes, bytes);
    }

    /// Copies a content; `None` when something of it is lost, so that the file has to be left out.
    fn content(
        &mut self,
        content: &Refs,
        twins: Option<(Refs, Refs)>,
    ) -> Result<Option<Refs>, OpsError> {
        self.progress.at(&self.path);
        let trees = self.reader.trees();
        let mut twins =
            twins.map(|(source, copy)| TwinLeaves::new((trees, self.copies), &source, &copy));
        let mut leaves = trees.leaves(content);
        let mut builder = RefsBuilder::default();
        loop {
            if self.progress.cancelled() {
                return Err(OpsError::Cancelled);
            }
            let start = leaves.position();
            let Some(leaf) = leaves.next() else { break };
            let copied = match leaf {
                Ok(leaf) => {
                    let known = twins.as_mut().and_then(|twins| twins.copy_of(start, &leaf));
                    self.leaf(&leaf, known)?
                }
                Err(error) => Err(error),
            };
            match copied {
                Ok(leaf) => {
                    self.count(leaf.len());
                    builder.push(leaf, self.session)?;
                }
                Err(error) => {
                    let mut problem = lost(&self.path, error)?;
                    problem.why = format!("left out of the copy: {}", problem.why);
                    self.problem(problem);
                    self.copied.lost_file_count += 1;
                    self.copied.lost_bytes = self.copied.lost_bytes.saturating_add(content.len());
                    return Ok(None);
                }
            }
        }
        Ok(Some(builder.finish(self.session)?))
    }

    /// The reference of the same bytes in the destination, which has them then; or why they are
    /// lost.
    fn leaf(
        &mut self,
        leaf: &Ref,
        known: Option<Ref>,
    ) -> Result<Result<Ref, crate::tree::TreeError>, OpsError> {
        let (id, len) = match leaf {
            Ref::Chunk { id, len } => (id, *len),
            Ref::Hole { .. } => return Ok(Ok(*leaf)),
        };
        if let Some(known) = known {
            return Ok(Ok(known));
        }
        if self.same_ids && self.session.has(id)? {
            return Ok(Ok(*leaf));
        }
        let piece = match self.reader.chunk(leaf) {
            Ok(piece) => piece,
            Err(error) => return Ok(Err(error)),
        };
        let Piece::Chunk(found) = piece else {
            unreachable!("a reference to a chunk gives a chunk");
        };
        self.copied.bytes_read += len;
        let id = self.session.repository().keys().data_id(found.bytes());
        self.session.add_data(id, found.bytes())?;
        Ok(Ok(Ref::Chunk { id, len }))
    }
}
