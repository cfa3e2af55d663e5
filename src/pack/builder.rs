//! A pack while it is filled.

use super::{PackError, SealedFrame};
use crate::format::FormatError;
use crate::format::envelope::ObjectType;
use crate::format::frame::ChunkKind;
use crate::format::pack::{
    FOOTER_LEN, HEADER_LEN, PackInfo, Trailer, encode_footer, encode_header, pack_key,
};
use crate::id::{PackId, SnapshotId};
use crate::limits;
use crate::object::Sealer;
use crate::world::{World, random};

/// Collects frames until a pack is full.
#[derive(Debug)]
pub struct PackBuilder {
    frames: Vec<Vec<u8>>,
    trailer: Trailer,
    len: usize,
    chunk_count: usize,
}

/// A pack ready to be stored.
#[derive(Debug)]
pub struct FinishedPack {
    /// What the index will say of it.
    pub info: PackInfo,
    /// The pieces that make it up, in order.
    pub parts: Vec<Vec<u8>>,
}

impl FinishedPack {
    /// Key under which it is to be stored.
    pub fn key(&self) -> String {
        pack_key(&self.info.id)
    }

    /// The same frames as a pack of another name.
    pub fn renamed(mut self, world: &dyn World, sealer: &Sealer) -> Result<Self, PackError> {
        self.parts.truncate(self.parts.len().saturating_sub(2));
        let frames = self.parts.split_off(1.min(self.parts.len()));
        let len = HEADER_LEN + frames.iter().map(Vec::len).sum::<usize>();
        let trailer = self.info.trailer;
        PackBuilder { frames, trailer, len, chunk_count: 0 }.finish(world, sealer)
    }
}

impl PackBuilder {
    /// An empty pack of a session.
    pub fn new(session: SnapshotId, kind: ChunkKind) -> Self {
        let trailer = Trailer { session, kind, frames: Vec::new() };
        Self { frames: Vec::new(), trailer, len: HEADER_LEN, chunk_count: 0 }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no frame yet.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Chunks so far.
    pub fn chunk_count(&self) -> usize {
        self.chunk_count
    }

    /// Puts a frame behind the others.
    pub fn add(&mut self, frame: SealedFrame) -> Result<(), PackError> {
        let end = self.len + frame.bytes.len();
        if end as u64 > limits::PACK_LEN_MAX / 2 || self.frames.len() >= limits::PACK_FRAMES_MAX {
            return Err(FormatError::Bad("length of a pack").into());
        }
        let mut info = frame.info;
        info.offset = self.len as u32;
        self.chunk_count += info.chunks.len();
        self.trailer.frames.push(info);
        self.frames.push(frame.bytes);
        self.len = end;
        Ok(())
    }

    /// Names the pack and puts the trailer behind the frames.
    pub fn finish(self, world: &dyn World, sealer: &Sealer) -> Result<FinishedPack, PackError> {
        let id = PackId(random(world));
        let mut payload = Vec::new();
        self.trailer.encode(&mut payload);
        let trailer = sealer.seal(world, ObjectType::Trailer, &pack_key(&id), &payload)?;
        if trailer.len() > limits::TRAILER_LEN_MAX {
            return Err(FormatError::Bad("length of a trailer").into());
        }
        let len = (self.len + trailer.len() + FOOTER_LEN) as u64;
        let footer = encode_footer(trailer.len() as u32).to_vec();
        let mut parts = Vec::with_capacity(self.frames.len() + 3);
        parts.push(encode_header(self.trailer.kind).to_vec());
        parts.extend(self.frames);
        parts.extend([trailer, footer]);
        Ok(FinishedPack { info: PackInfo { id, len, trailer: self.trailer }, parts })
    }
}
