//! Lists of references and listings of directories, as they grow: however long they get, what is
//! kept in memory is one list or one chunk a level.

use super::{ChunkSink, TreeError};
use crate::format::tree::{ENTRIES_TAG, Entry, Ref, Refs};
use crate::limits;

/// So many references stand where the stream is named; longer lists get chunks of their own.
const INLINE_MAX: usize = 24;
/// A list chunk ends after a reference whose id says so, one in 64 of them, between these.
const LIST_MIN: usize = 32;
const LIST_MAX: usize = 1024;

/// Collects the references of one stream.
#[derive(Debug, Default)]
pub struct RefsBuilder {
    /// At depth n, references that have no list chunk yet.
    levels: Vec<Vec<Ref>>,
}

impl RefsBuilder {
    /// Puts a reference to a chunk of the stream, or a hole, behind the others.
    pub fn push(&mut self, item: Ref, sink: &mut dyn ChunkSink) -> Result<(), TreeError> {
        if item.is_empty() {
            return Ok(());
        }
        self.push_at(0, item, sink)
    }

    fn push_at(
        &mut self,
        depth: usize,
        item: Ref,
        sink: &mut dyn ChunkSink,
    ) -> Result<(), TreeError> {
        if self.levels.len() <= depth {
            self.levels.push(Vec::new());
        }
        let level = &mut self.levels[depth];
        match (level.last_mut(), item) {
            // Two holes in a row are one.
            (Some(Ref::Hole { len }), Ref::Hole { len: more }) => *len += more,
            _ => level.push(item),
        }
        // Where the list ends depends on what is in it, so that an insertion in a long stream
        // changes the lists around it and no others.
        let ends = matches!(item, Ref::Chunk { id, .. } if id.0[0] < 4);
        if (ends && level.len() >= LIST_MIN) || level.len() >= LIST_MAX {
            self.close(depth, sink)?;
        }
        Ok(())
    }

    fn close(&mut self, depth: usize, sink: &mut dyn ChunkSink) -> Result<(), TreeError> {
        let refs = std::mem::take(&mut self.levels[depth]);
        // Depth grows with the logarithm of the length: eight levels hold more than 2^60 bytes.
        let list = Refs { depth: depth as u8, refs };
        let id = sink.add_tree(&list.encode_chunk())?;
        self.push_at(depth + 1, Ref::Chunk { id, len: list.len() }, sink)
    }

    /// The whole list.
    pub fn finish(mut self, sink: &mut dyn ChunkSink) -> Result<Refs, TreeError> {
        let mut depth = 0;
        while let Some(level) = self.levels.get(depth) {
            let top = depth + 1 == self.levels.len();
            if top && level.len() <= INLINE_MAX {
                return Ok(Refs { depth: depth as u8, refs: self.levels.swap_remove(depth) });
            }
            if !level.is_empty() {
                self.close(depth, sink)?;
            }
            depth += 1;
        }
        Ok(Refs::default())
    }
}

/// A chunk of entries ends after a name whose hash says so, one in 128 of them, between these.
const CHUNK_LEN_MIN: usize = 8 << 10;
const CHUNK_LEN_MAX: usize = 256 << 10;

/// Collects the entries of one directory, in byte order of names.
#[derive(Debug)]
pub struct ListingBuilder {
    chunk: Vec<u8>,
    refs: RefsBuilder,
}

impl Default for ListingBuilder {
    fn default() -> Self {
        Self { chunk: vec![ENTRIES_TAG], refs: RefsBuilder::default() }
    }
}

impl ListingBuilder {
    /// Puts an entry behind the others.
    pub fn push(&mut self, entry: &Entry, sink: &mut dyn ChunkSink) -> Result<(), TreeError> {
        let before = self.chunk.len();
        entry.encode(&mut self.chunk);
        if self.chunk.len() > CHUNK_LEN_MAX && before > 1 {
            let last = self.chunk.split_off(before);
            self.close(sink)?;
            self.chunk.extend_from_slice(&last);
        }
        // By name alone: a change of an entry moves no border.
        let ends = blake3::hash(&entry.name).as_bytes()[0] < 2;
        if ends && self.chunk.len() >= CHUNK_LEN_MIN {
            self.close(sink)?;
        }
        Ok(())
    }

    fn close(&mut self, sink: &mut dyn ChunkSink) -> Result<(), TreeError> {
        debug_assert!(self.chunk.len() <= limits::CHUNK_LEN_MAX);
        let id = sink.add_tree(&self.chunk)?;
        let len = self.chunk.len() as u64;
        self.chunk.truncate(1);
        self.refs.push(Ref::Chunk { id, len }, sink)
    }

    /// The stream of the listing.
    pub fn finish(mut self, sink: &mut dyn ChunkSink) -> Result<Refs, TreeError> {
        if self.chunk.len() > 1 {
            self.close(sink)?;
        }
        self.refs.finish(sink)
    }
}
