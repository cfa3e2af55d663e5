//! A stream as the only file of a snapshot: standard input, or what a command writes.

use std::io::Read;

use super::collect::{Collected, Collector};
use super::read::Reader;
use crate::format::tree::{Entry, EntryKind, Metadata, Ref, name_is_allowed};
use crate::ops::OpsError;
use crate::progress::Counter;
use crate::tree::{ChunkSink, RefsBuilder};

/// Says whether what was read is all, and good: a command may end with an error after its last
/// byte.
pub type Finish = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// A stream to be backed up.
pub struct Stream {
    /// The file's name in the snapshot.
    pub name: Vec<u8>,
    /// Where its bytes come from.
    pub reader: Box<dyn Read + Send>,
    /// Asked after the last byte; an error means that no snapshot is stored.
    pub finish: Option<Finish>,
}

/// Read at once, bytes.
const BLOCK_LEN: usize = 1 << 20;

pub(super) fn read(
    collector: Collector<'_>,
    sink: &mut dyn ChunkSink,
    stream: &mut Stream,
    before: Option<Entry>,
    reader: &Reader<'_>,
) -> Result<Collected, OpsError> {
    let failed = |why: String| OpsError::Source { path: stream.name.clone(), why };
    if !name_is_allowed(&stream.name) {
        return Err(failed("the name must be a single file name".into()));
    }
    let mut refs = RefsBuilder::default();
    let mut held = Vec::new();
    let (mut total, mut cut) = (0, 0);
    let mut beside = reader.beside(before.as_ref());
    loop {
        let start = held.len();
        held.resize(start + BLOCK_LEN, 0);
        let count = match stream.reader.read(&mut held[start..]) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                held.truncate(start);
                continue;
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        held.truncate(start + count);
        total += count as u64;
        reader.progress.add(Counter::Bytes, count as u64);
        if reader.progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        let mut chunks = Vec::new();
        let done = reader.chunker.cut(&held, count == 0, |chunk| chunks.push(chunk));
        for chunk in chunks {
            let id = reader.keys.data_id(chunk);
            match beside.as_mut().and_then(|beside| beside.base(&id, cut, chunk.len())) {
                None => sink.add_data(id, chunk)?,
                Some(base) => sink.add_data_like(id, chunk, base)?,
            };
            cut += chunk.len() as u64;
            refs.push(Ref::Chunk { id, len: chunk.len() as u64 }, sink)?;
        }
        held.drain(..done);
        if count == 0 {
            break;
        }
    }
    if let Some(finish) = stream.finish.take() {
        finish().map_err(failed)?;
    }
    let content = refs.finish(sink)?;
    let metadata = Metadata { mtime: collector.now(), ..Metadata::default() };
    let kind = EntryKind::File { content, unstable: false };
    collector.single(Entry { name: stream.name.clone(), kind, metadata }, total, sink)
}
