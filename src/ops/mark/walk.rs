//! The walk over trees: iterative, a chunk of a tree at a time, each of them once.

use std::collections::HashSet;
use std::sync::Arc;
use std::vec::IntoIter;

use super::super::{OpsError, is_passing};
use super::{Loss, Marks, Need, Stock, Visitor};
use crate::format::FormatError;
use crate::format::frame::ChunkKind;
use crate::format::tree::{Entry, EntryKind, Ref, Refs};
use crate::id::{ChunkId, SnapshotId};
use crate::limits;
use crate::progress::{Counter, Progress};
use crate::repo::{RepoError, Repository};
use crate::tree::{TreeError, TreeReader};

/// Decoded on the way down and kept, bytes: beyond that the topmost nodes are closed, and read
/// again when the walk comes back to them.
const OPEN_LEN_MAX: usize = 4 << 20;
/// What something is lost behind is walked for every path that leads there, until so many losses
/// were told: in a hostile repository there are more such paths than anyone can count.
const LOSSES_MAX: u64 = 100_000;

/// Marks every chunk that the snapshots need: of trees, of lists, of files. What lies behind a
/// chunk that is marked already is not walked again. What is missing or damaged is told to the
/// visitor, and the walk goes on behind it.
pub fn mark(
    repository: &Arc<Repository>,
    stock: &Stock,
    roots: &[(SnapshotId, Refs)],
    marks: &mut Marks,
    visitor: &mut dyn Visitor,
    progress: &dyn Progress,
) -> Result<(), OpsError> {
    let mut walk = Walk {
        stock,
        trees: TreeReader::new(repository),
        marks,
        visitor,
        progress,
        tainted: HashSet::new(),
        losses: 0,
        snapshot: SnapshotId::default(),
        path: Vec::new(),
    };
    progress.phase("walking snapshots", Counter::Objects, Some(roots.len() as u64));
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
    /// Chunks of trees behind which something is lost.
    tainted: HashSet<ChunkId>,
    losses: u64,
    snapshot: SnapshotId,
    path: Vec<u8>,
}

/// What the references of a node, or of the nodes below it, lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Listing,
    Content,
}

#[derive(Clone, Copy)]
enum Part {
    /// A list of references, so many levels above the stream.
    List(Stream, u8),
    /// Entries of a directory.
    Entries,
}

/// A chunk of a tree that is being walked, or the references that an entry holds itself.
struct Node {
    part: Part,
    /// The chunk and its length in the list that names it. `None`: the entry where the node above
    /// stands has it; of the first node, the snapshot.
    chunk: Option<(ChunkId, u64)>,
    /// What is left of it; `None` while it is closed.
    rest: Option<Rest>,
    /// Items that were taken from it.
    taken: usize,
    /// The last name that was met in the listing.
    last_name: Option<Vec<u8>>,
    /// Directories above.
    depth: usize,
    path_len: usize,
    tainted: bool,
}

enum Rest {
    Refs(IntoIter<Ref>),
    Entries(IntoIter<Entry>),
}

impl Rest {
    fn of(refs: Refs) -> Self {
        Self::Refs(refs.refs.into_iter())
    }

    fn skip(&mut self, count: usize) {
        match self {
            Self::Refs(refs) => refs.by_ref().take(count).for_each(drop),
            Self::Entries(entries) => entries.by_ref().take(count).for_each(drop),
        }
    }
}

enum Item {
    Ref(Ref),
    Entry(Entry),
}

impl Node {
    fn next(&mut self) -> Option<Item> {
        let item = match self.rest.as_mut()? {
            Rest::Refs(refs) => Item::Ref(refs.next()?),
            Rest::Entries(entries) => Item::Entry(entries.next()?),
        };
        self.taken += 1;
        Some(item)
    }

    /// About what it takes in memory; does not change while it is open.
    fn len(&self) -> usize {
        let items = |rest: &Rest| match rest {
            Rest::Refs(refs) => (refs.len() + self.taken) * size_of::<Ref>(),
            Rest::Entries(entries) => (entries.len() + self.taken) * size_of::<Entry>(),
        };
        let chunk = match (self.part, self.chunk) {
            (Part::Entries, Some((_, len))) => len as usize,
            _ => 0,
        };
        self.rest.as_ref().map_or(0, |rest| items(rest) + chunk)
    }
}

/// The way down.
#[derive(Default)]
struct Way {
    nodes: Vec<Node>,
    /// Nodes at the top that are closed.
    closed: usize,
    /// Length of those that are open.
    open_len: usize,
}

impl Way {
    fn push(&mut self, node: Node) {
        self.open_len += node.len();
        self.nodes.push(node);
        while self.open_len > OPEN_LEN_MAX && self.closed + 1 < self.nodes.len() {
            let Some(node) = self.nodes.get_mut(self.closed) else { return };
            self.open_len -= node.len();
            node.rest = None;
            self.closed += 1;
        }
    }

    fn pop(&mut self) -> Option<Node> {
        let node = self.nodes.pop()?;
        self.open_len -= node.len();
        self.closed = self.closed.min(self.nodes.len());
        Some(node)
    }
}

impl Walk<'_> {
    fn tree(&mut self, root: &Refs) -> Result<(), OpsError> {
        let mut way = Way::default();
        way.push(self.stream(Stream::Listing, root.clone(), 0));
        while let Some(mut node) = way.pop() {
            if node.rest.is_none() {
                self.reopen(&mut node, way.nodes.last(), root)?;
            }
            let below = loop {
                self.path.truncate(node.path_len);
                let Some(item) = node.next() else { break None };
                let below = match item {
                    Item::Ref(item) => self.reference(&mut node, item)?,
                    Item::Entry(entry) => self.entry(&mut node, entry)?,
                };
                if below.is_some() {
                    break below;
                }
            };
            match below {
                Some(below) => {
                    way.push(node);
                    way.push(below);
                }
                None => self.leave(node, way.nodes.last_mut()),
            }
        }
        Ok(())
    }

    /// The references of an entry, or of a snapshot, at the path where the walk is.
    fn stream(&self, stream: Stream, refs: Refs, depth: usize) -> Node {
        Node {
            part: Part::List(stream, refs.depth),
            chunk: None,
            rest: Some(Rest::of(refs)),
            taken: 0,
            last_name: None,
            depth,
            path_len: self.path.len(),
            tainted: false,
        }
    }

    fn leave(&mut self, done: Node, above: Option<&mut Node>) {
        if done.tainted
            && self.losses < LOSSES_MAX
            && let Some((id, _)) = done.chunk
        {
            self.tainted.insert(id);
        }
        if let Some(above) = above {
            above.tainted |= done.tainted;
            if done.chunk.is_some() {
                above.last_name = done.last_name;
            }
        }
    }

    /// Reads a node again. What was lost of it was told at the first time.
    fn reopen(
        &mut self,
        node: &mut Node,
        above: Option<&Node>,
        root: &Refs,
    ) -> Result<(), OpsError> {
        let rest = match (node.chunk, above.and_then(|above| above.chunk.zip(Some(above.taken)))) {
            (Some((id, len)), _) => self.read(node.part, &id, len, None),
            (None, Some(((id, len), taken))) => {
                let entries = self.trees.entries_of(&id, len, None);
                entries.map(|entries| entry_refs(entries, taken))
            }
            (None, None) => Ok(Rest::of(root.clone())),
        };
        match rest {
            Ok(mut rest) => {
                rest.skip(node.taken);
                node.rest = Some(rest);
            }
            // It could be read a while ago.
            Err(error) => self.damage(node, error)?,
        }
        Ok(())
    }

    fn read(
        &self,
        part: Part,
        id: &ChunkId,
        len: u64,
        last_name: Option<&[u8]>,
    ) -> Result<Rest, TreeError> {
        match part {
            Part::List(_, depth) => self.trees.list(id, len, depth).map(Rest::of),
            Part::Entries => {
                let entries = self.trees.entries_of(id, len, last_name)?;
                Ok(Rest::Entries(entries.into_iter()))
            }
        }
    }

    fn entry(&mut self, node: &mut Node, entry: Entry) -> Result<Option<Node>, OpsError> {
        self.progress.add(Counter::Entries, 1);
        self.path.push(b'/');
        self.path.extend_from_slice(&entry.name);
        match entry.kind {
            EntryKind::File { content, .. } => {
                Ok(Some(self.stream(Stream::Content, content, node.depth)))
            }
            EntryKind::Directory { listing } if node.depth + 1 < limits::TREE_DEPTH_MAX => {
                Ok(Some(self.stream(Stream::Listing, listing, node.depth + 1)))
            }
            EntryKind::Directory { listing } => {
                if let Some(Ref::Chunk { id, .. }) = listing.refs.first() {
                    let (found, limit) = (node.depth as u64 + 1, limits::TREE_DEPTH_MAX as u64);
                    let source = FormatError::TooLarge { what: "depth of a tree", found, limit };
                    self.damage(node, TreeError::Format { id: *id, source })?;
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn reference(&mut self, node: &mut Node, item: Ref) -> Result<Option<Node>, OpsError> {
        match (node.part, item) {
            (Part::List(Stream::Content, 0), Ref::Chunk { id, .. }) => {
                node.tainted |= !self.need(ChunkKind::Data, id)?;
                Ok(None)
            }
            (Part::List(Stream::Listing, 0), Ref::Chunk { id, len }) => {
                self.descend(node, Part::Entries, id, len)
            }
            (Part::List(stream, depth), Ref::Chunk { id, len }) => {
                self.descend(node, Part::List(stream, depth - 1), id, len)
            }
            (Part::List(Stream::Listing, _), Ref::Hole { .. }) => {
                let id = node.chunk.map(|(id, _)| id).unwrap_or_default();
                let source = FormatError::Bad("listing");
                self.damage(node, TreeError::Format { id, source })?;
                Ok(None)
            }
            (_, Ref::Hole { .. }) | (Part::Entries, _) => Ok(None),
        }
    }

    /// Reads a chunk of a tree, unless all that is behind it is marked.
    fn descend(
        &mut self,
        node: &mut Node,
        part: Part,
        id: ChunkId,
        len: u64,
    ) -> Result<Option<Node>, OpsError> {
        if self.progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        if self.is_done(&id)? {
            node.tainted |= self.tainted.contains(&id);
            // Where it was walked its names were in order, and what comes next is not compared.
            node.last_name = None;
            return Ok(None);
        }
        let rest = match self.read(part, &id, len, node.last_name.as_deref()) {
            Ok(rest) => rest,
            Err(error) => {
                self.damage(node, error)?;
                return Ok(None);
            }
        };
        let tainted = !self.need(ChunkKind::Tree, id)?;
        let last_name = match &rest {
            Rest::Entries(entries) => entries.as_slice().last().map(|last| last.name.clone()),
            Rest::Refs(_) => node.last_name.clone(),
        };
        let (depth, path_len) = (node.depth, node.path_len);
        let chunk = Some((id, len));
        let rest = Some(rest);
        Ok(Some(Node { part, chunk, rest, taken: 0, last_name, depth, path_len, tainted }))
    }

    /// Whether all that a chunk of a tree leads to is marked, and nothing of it is told again.
    fn is_done(&self, id: &ChunkId) -> Result<bool, OpsError> {
        let told_enough = self.losses >= LOSSES_MAX;
        Ok(match self.stock.number(id)? {
            Some(number) => self.marks.get(number) && (told_enough || !self.tainted.contains(id)),
            // A chunk that does not count as stored gets no mark, even where it can be read: it
            // is a loss at every path.
            None => told_enough,
        })
    }

    /// Marks a chunk; says whether it is there.
    fn need(&mut self, kind: ChunkKind, id: ChunkId) -> Result<bool, OpsError> {
        let Some(number) = self.stock.number(&id)? else {
            self.lose(kind, id, None)?;
            return Ok(false);
        };
        if self.marks.set(number) {
            let (snapshot, path) = (self.snapshot, self.path.as_slice());
            self.visitor.need(&Need { kind, id, snapshot, path })?;
        }
        Ok(true)
    }

    /// Tells of a chunk of a tree that cannot be used; an outage of the storage ends the walk.
    fn damage(&mut self, node: &mut Node, error: TreeError) -> Result<(), OpsError> {
        node.tainted = true;
        match &error {
            TreeError::Repo(RepoError::Chunk { source: Some(source), .. })
                if is_passing(source) =>
            {
                Err(error.into())
            }
            TreeError::Format { id, .. } | TreeError::Repo(RepoError::Chunk { id, .. }) => {
                self.lose(ChunkKind::Tree, *id, Some(error))
            }
            _ => Err(error.into()),
        }
    }

    fn lose(
        &mut self,
        kind: ChunkKind,
        id: ChunkId,
        error: Option<TreeError>,
    ) -> Result<(), OpsError> {
        self.losses += 1;
        let (snapshot, path) = (self.snapshot, self.path.as_slice());
        self.visitor.loss(Loss { kind, id, snapshot, path, error })
    }
}

/// The references of the entry that was taken last.
fn entry_refs(entries: Vec<Entry>, taken: usize) -> Rest {
    let entry = taken.checked_sub(1).and_then(|at| entries.into_iter().nth(at));
    Rest::of(match entry.map(|entry| entry.kind) {
        Some(EntryKind::File { content, .. }) => content,
        Some(EntryKind::Directory { listing }) => listing,
        _ => Refs::default(),
    })
}
