//! Stored trees as they are read: a chunk at a time, whatever their size.

use std::collections::VecDeque;
use std::sync::Arc;

use super::TreeError;
use crate::format::FormatError;
use crate::format::frame::ChunkKind;
use crate::format::tree::{Entry, EntryKind, Ref, Refs, decode_entries};
use crate::id::ChunkId;
use crate::limits;
use crate::repo::{ChunkReader, Repository};

/// Opened frames of trees that are kept, bytes.
const KEPT: usize = 12 << 20;

/// Reads trees of one repository.
#[derive(Debug, Clone)]
pub struct TreeReader {
    chunks: Arc<ChunkReader>,
}

impl TreeReader {
    /// For any tree of the repository.
    pub fn new(repository: &Arc<Repository>) -> Self {
        Self { chunks: Arc::new(ChunkReader::new(repository, KEPT)) }
    }

    /// The references to the chunks and holes of a stream, in order.
    pub fn leaves(&self, refs: &Refs) -> Leaves {
        let levels = vec![(refs.depth, VecDeque::from(refs.refs.clone()))];
        Leaves { reader: self.clone(), levels, lists: None, position: 0 }
    }

    /// The entries of a directory's listing, in order.
    pub fn entries(&self, listing: &Refs) -> Entries {
        Entries { leaves: self.leaves(listing), ready: VecDeque::new(), previous: None }
    }

    /// The entry that a path names, below a root's listing; its parts come without separators.
    pub fn find(&self, root: &Refs, parts: &[&[u8]]) -> Result<Entry, TreeError> {
        let mut listing = root.clone();
        for (at, part) in parts.iter().enumerate() {
            let entry = self.child(&listing, part)?.ok_or(TreeError::NoSuchPath)?;
            if at + 1 == parts.len() {
                return Ok(entry);
            }
            match entry.kind {
                EntryKind::Directory { listing: below } => listing = below,
                _ => return Err(TreeError::NotADirectory),
            }
        }
        Err(TreeError::NoSuchPath)
    }

    /// The entry of this name in a listing.
    pub fn child(&self, listing: &Refs, name: &[u8]) -> Result<Option<Entry>, TreeError> {
        for entry in self.entries(listing) {
            let entry = entry?;
            match entry.name.as_slice().cmp(name) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(Some(entry)),
                std::cmp::Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// The list that a chunk holds; `len` and `depth` are what its reference says of it.
    pub fn list(&self, id: &ChunkId, len: u64, depth: u8) -> Result<Refs, TreeError> {
        self.read(id, |bytes| Refs::decode_chunk(bytes, depth, len))
    }

    /// The entries that one chunk of a listing holds; they come after `previous` in it.
    pub fn entries_of(
        &self,
        id: &ChunkId,
        len: u64,
        previous: Option<&[u8]>,
    ) -> Result<Vec<Entry>, TreeError> {
        self.read(id, |bytes| {
            if bytes.len() as u64 != len || bytes.len() > limits::CHUNK_LEN_MAX {
                return Err(FormatError::Bad("length of a chunk"));
            }
            decode_entries(bytes, previous)
        })
    }

    fn read<T>(
        &self,
        id: &ChunkId,
        decode: impl FnOnce(&[u8]) -> Result<T, FormatError>,
    ) -> Result<T, TreeError> {
        let found = self.chunks.read(ChunkKind::Tree, id)?;
        decode(found.bytes()).map_err(|source| TreeError::Format { id: *id, source })
    }
}

/// The references of a stream, list chunks read as they are needed.
#[derive(Debug)]
pub struct Leaves {
    reader: TreeReader,
    levels: Vec<(u8, VecDeque<Ref>)>,
    lists: Option<Vec<ChunkId>>,
    position: u64,
}

impl Leaves {
    /// Also remembers the list chunks that are read, for those who need every chunk.
    pub fn with_lists(mut self) -> Self {
        self.lists = Some(Vec::new());
        self
    }

    /// The list chunks read since the last call.
    pub fn take_lists(&mut self) -> Vec<ChunkId> {
        self.lists.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Bytes of the stream up to what comes next. A list that could not be read counts with the
    /// bytes that it stood for, so that what comes behind it keeps its place.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn open_list(&mut self, id: ChunkId, len: u64, depth: u8) -> Result<(), TreeError> {
        if let Some(lists) = &mut self.lists {
            lists.push(id);
        }
        let list = self.reader.list(&id, len, depth)?;
        self.levels.push((depth, list.refs.into()));
        Ok(())
    }
}

impl Iterator for Leaves {
    type Item = Result<Ref, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (depth, level) = self.levels.last_mut()?;
            let depth = *depth;
            match level.pop_front() {
                None => _ = self.levels.pop(),
                Some(Ref::Chunk { id, len }) if depth > 0 => {
                    if let Err(error) = self.open_list(id, len, depth - 1) {
                        self.position = self.position.saturating_add(len);
                        return Some(Err(error));
                    }
                }
                Some(leaf) => {
                    self.position = self.position.saturating_add(leaf.len());
                    return Some(Ok(leaf));
                }
            }
        }
    }
}

/// The entries of a listing, chunks read as they are needed. After a damaged chunk come the
/// entries behind it.
#[derive(Debug)]
pub struct Entries {
    leaves: Leaves,
    ready: VecDeque<Entry>,
    previous: Option<Vec<u8>>,
}

impl Entries {
    fn load(&mut self, leaf: Ref) -> Result<(), TreeError> {
        let Ref::Chunk { id, len } = leaf else {
            let source = FormatError::Bad("listing");
            return Err(TreeError::Format { id: ChunkId::default(), source });
        };
        let entries = self.leaves.reader.entries_of(&id, len, self.previous.as_deref())?;
        if let Some(last) = entries.last() {
            self.previous = Some(last.name.clone());
        }
        // It is empty, or nothing would be loaded.
        self.ready = entries.into();
        Ok(())
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(Ok(entry));
            }
            let leaf = match self.leaves.next()? {
                Ok(leaf) => leaf,
                Err(error) => return Some(Err(error)),
            };
            if let Err(error) = self.load(leaf) {
                return Some(Err(error));
            }
        }
    }
}
