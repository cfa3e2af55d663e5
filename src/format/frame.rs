//! Frames: runs of chunks compressed together and sealed once. Format: `format-spec/07-pack.md`.

use super::codec::{Put, Take};
use super::envelope::padded_len;
use super::{FORMAT_VERSION, FormatError, Result};
use crate::id::{FamilyId, FrameId};
use crate::limits;

/// First bytes of a frame.
pub const MAGIC: [u8; 4] = *b"HFRM";
/// Bytes of the header, before the ciphertext.
pub const HEADER_LEN: usize = 120;
/// Bytes of the authentication tag, after the ciphertext.
pub const TAG_LEN: usize = 16;
/// Bytes of a session key as it is sealed to the readers.
pub const SEALED_KEY_LEN: usize = 80;

/// What chunks are: contents of files, or trees. The two never share a frame or a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChunkKind {
    /// Contents of files.
    Data = 1,
    /// Entries and lists of references.
    Tree = 2,
}

impl ChunkKind {
    /// From its stored number.
    pub fn decode(number: u8) -> Result<Self> {
        match number {
            1 => Ok(Self::Data),
            2 => Ok(Self::Tree),
            _ => Err(FormatError::Bad("kind of chunks")),
        }
    }
}

/// What stands in clear before a frame's ciphertext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameHeader {
    /// What its chunks are.
    pub kind: ChunkKind,
    /// Bytes of ciphertext and tag that follow the header.
    pub body_len: u32,
    /// Generation of the reader's key that the session key is sealed to.
    pub generation: u32,
    /// The key of the session that wrote it, sealed.
    pub sealed_key: [u8; SEALED_KEY_LEN],
    /// Its name, and the nonce that it is sealed with.
    pub id: FrameId,
}

impl FrameHeader {
    /// The stored form.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.put_u8(self.kind as u8);
        out.extend_from_slice(&[0; 3]);
        out.put_u32(self.body_len);
        out.put_u32(self.generation);
        out.extend_from_slice(&self.sealed_key);
        out.extend_from_slice(self.id.as_bytes());
        out.try_into().expect("the fields have 120 bytes together")
    }

    /// From the front of a frame; returns what follows the header as well.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8])> {
        let mut take = Take::new(bytes);
        if take.array("frame")? != MAGIC {
            return Err(FormatError::Magic("frame"));
        }
        let kind = ChunkKind::decode(take.u8("frame")?)?;
        if take.array("frame")? != [0; 3] {
            return Err(FormatError::Bad("reserved byte"));
        }
        let body_len = take.u32("frame")?;
        let limit = limits::FRAME_SEALED_LEN_MAX - HEADER_LEN;
        if (body_len as usize) < TAG_LEN {
            return Err(FormatError::Bad("length of a frame"));
        }
        if body_len as usize > limit {
            let (found, limit) = (body_len.into(), limit as u64);
            return Err(FormatError::TooLarge { what: "length of a frame", found, limit });
        }
        let generation = take.u32("frame")?;
        let sealed_key = take.array("frame")?;
        let id = FrameId(take.array("frame")?);
        Ok((Self { kind, body_len, generation, sealed_key, id }, take.rest()))
    }

    /// The associated data: version, family, and the header itself.
    pub fn associated(&self, family: &FamilyId) -> Vec<u8> {
        let mut out = FORMAT_VERSION.to_le_bytes().to_vec();
        out.extend_from_slice(family.as_bytes());
        out.extend_from_slice(&self.encode());
        out
    }

    /// The associated data of the sealed session key: version, family, generation, kind.
    pub fn key_associated(family: &FamilyId, generation: u32, kind: ChunkKind) -> Vec<u8> {
        let mut out = FORMAT_VERSION.to_le_bytes().to_vec();
        out.extend_from_slice(family.as_bytes());
        out.put_u32(generation);
        out.put_u8(kind as u8);
        out
    }
}

/// How a frame's chunks are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As they are.
    Raw,
    /// zstd.
    Zstd,
    /// zstd with the plaintext of another frame as prefix.
    Delta {
        /// The frame whose plaintext comes first; never a delta itself.
        base: FrameId,
    },
}

impl Codec {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raw => out.put_u8(0),
            Self::Zstd => out.put_u8(1),
            Self::Delta { base } => {
                out.put_u8(2);
                out.extend_from_slice(base.as_bytes());
            }
        }
    }

    /// Takes one off the front.
    pub fn decode(take: &mut Take<'_>) -> Result<Self> {
        match take.u8("codec")? {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            2 => Ok(Self::Delta { base: FrameId(take.array("base")?) }),
            found => Err(FormatError::Newer { what: "codec", found: found.into(), known: 2 }),
        }
    }
}

/// What a frame's plaintext says before its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameBody {
    /// How the chunks are stored.
    pub codec: Codec,
    /// Lengths of the chunks, in order, bytes.
    pub chunk_lens: Vec<u32>,
    /// Bytes that the chunks take as they are stored.
    pub stored_len: u32,
}

impl FrameBody {
    /// Appends the stored form. The stored bytes follow, then zeros up to `padded_len`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.codec.encode(out);
        out.put_varint(self.chunk_lens.len() as u64);
        self.chunk_lens.iter().for_each(|len| out.put_varint((*len).into()));
        out.put_u32(self.stored_len);
    }

    /// Bytes of all chunks together.
    pub fn plain_len(&self) -> usize {
        self.chunk_lens.iter().map(|len| *len as usize).sum()
    }

    /// From a frame's plaintext; returns the stored bytes as well.
    pub fn decode(plain: &[u8]) -> Result<(Self, &[u8])> {
        let mut take = Take::new(plain);
        let codec = Codec::decode(&mut take)?;
        let count = take.count(limits::FRAME_CHUNKS_MAX, "number of chunks")?;
        let mut chunk_lens = Vec::with_capacity(count.min(take.rest().len()));
        let mut plain_len = 0;
        for _ in 0..count {
            let len = take.count(limits::CHUNK_LEN_MAX, "length of a chunk")?;
            plain_len += len;
            if len == 0 || plain_len > limits::FRAME_PLAIN_LEN_MAX {
                return Err(FormatError::Bad("length of a chunk"));
            }
            chunk_lens.push(len as u32);
        }
        let stored_len = take.u32("stored length")?;
        let stored = take.raw(stored_len as usize, "stored bytes")?;
        if codec == Codec::Raw && stored.len() != plain_len {
            return Err(FormatError::Bad("stored length"));
        }
        let used = plain.len() - take.rest().len();
        if plain.len() != padded_len(used) || take.rest().iter().any(|byte| *byte != 0) {
            return Err(FormatError::Bad("padding"));
        }
        Ok((Self { codec, chunk_lens, stored_len }, stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_there_and_back() {
        let header = FrameHeader {
            kind: ChunkKind::Tree,
            body_len: 17,
            generation: 2,
            sealed_key: [3; SEALED_KEY_LEN],
            id: FrameId([4; 24]),
        };
        let bytes = header.encode();
        assert_eq!(FrameHeader::decode(&bytes), Ok((header.clone(), &[][..])));
        for bad in [
            FrameHeader { body_len: u32::MAX, ..header.clone() },
            FrameHeader { body_len: 15, ..header },
        ] {
            assert!(FrameHeader::decode(&bad.encode()).is_err());
        }
    }

    #[test]
    fn bodies_there_and_back() {
        for codec in [Codec::Raw, Codec::Zstd, Codec::Delta { base: FrameId([5; 24]) }] {
            let body = FrameBody { codec, chunk_lens: vec![3, 2], stored_len: 5 };
            let mut plain = Vec::new();
            body.encode(&mut plain);
            plain.extend_from_slice(b"12345");
            plain.resize(padded_len(plain.len()), 0);
            assert_eq!(FrameBody::decode(&plain), Ok((body, &b"12345"[..])));
            *plain.last_mut().unwrap() = 1;
            assert_eq!(FrameBody::decode(&plain), Err(FormatError::Bad("padding")));
        }
    }

    #[test]
    fn lengths_are_bounded_before_they_are_believed() {
        let max = limits::CHUNK_LEN_MAX as u32;
        for chunk_lens in [vec![0], vec![max + 1], vec![max, max, 1], vec![4]] {
            let body = FrameBody { codec: Codec::Raw, chunk_lens, stored_len: 3 };
            let mut plain = Vec::new();
            body.encode(&mut plain);
            plain.extend_from_slice(b"123");
            plain.resize(padded_len(plain.len()), 0);
            assert!(FrameBody::decode(&plain).is_err(), "{body:?}");
        }
    }
}
