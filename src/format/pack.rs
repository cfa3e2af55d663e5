//! Packs, their trailers, and index segments, which say the same of many packs.
//! Format: `format-spec/07-pack.md`, `format-spec/08-index.md`.

use super::codec::{Put, Take};
use super::config::check_version;
use super::frame::{ChunkKind, Codec, HEADER_LEN as FRAME_HEADER_LEN, TAG_LEN};
use super::{FORMAT_VERSION, FormatError, Result};
use crate::id::{ChunkId, FrameId, PackId, SnapshotId};
use crate::limits;

/// First bytes of a pack.
pub const MAGIC: [u8; 8] = *b"HOLDPACK";
/// Last bytes of a pack.
pub const END_MAGIC: [u8; 4] = *b"HEND";
/// Bytes before the first frame.
pub const HEADER_LEN: usize = 16;
/// Bytes after the trailer: its length, and the last magic.
pub const FOOTER_LEN: usize = 8;

/// Key of a pack.
pub fn pack_key(id: &PackId) -> String {
    let hex = id.to_hex();
    format!("packs/{}/{hex}", &hex[..2])
}

/// The pack that lies under a key.
pub fn pack_of_key(key: &str) -> Option<PackId> {
    let id = PackId::from_hex(key.rsplit('/').next()?).ok()?;
    (pack_key(&id) == key).then_some(id)
}

/// The bytes before the first frame.
pub fn encode_header(kind: ChunkKind) -> [u8; HEADER_LEN] {
    let mut out = MAGIC.to_vec();
    out.put_u16(FORMAT_VERSION);
    out.put_u8(kind as u8);
    out.resize(HEADER_LEN, 0);
    out.try_into().expect("resized to the length of a header")
}

/// The kind of chunks that the pack's first bytes announce.
pub fn decode_header(bytes: &[u8]) -> Result<ChunkKind> {
    let mut take = Take::new(bytes);
    if take.array("pack")? != MAGIC {
        return Err(FormatError::Magic("pack"));
    }
    check_version(take.u16("format version")?)?;
    let kind = ChunkKind::decode(take.u8("pack")?)?;
    match take.array("pack")? == [0; 5] {
        true => Ok(kind),
        false => Err(FormatError::Bad("reserved byte")),
    }
}

/// The bytes after the trailer.
pub fn encode_footer(trailer_len: u32) -> [u8; FOOTER_LEN] {
    let mut out = [0; FOOTER_LEN];
    out[..4].copy_from_slice(&trailer_len.to_le_bytes());
    out[4..].copy_from_slice(&END_MAGIC);
    out
}

/// Length of the trailer that ends before these bytes.
pub fn decode_footer(bytes: &[u8]) -> Result<usize> {
    let mut take = Take::new(bytes);
    let len = take.u32("end of a pack")? as usize;
    if take.array("end of a pack")? != END_MAGIC {
        return Err(FormatError::Magic("end of a pack"));
    }
    match len <= limits::TRAILER_LEN_MAX {
        true => Ok(len),
        false => Err(FormatError::TooLarge {
            what: "length of a trailer",
            found: len as u64,
            limit: limits::TRAILER_LEN_MAX as u64,
        }),
    }
}

/// A chunk in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkInfo {
    /// Its id.
    pub id: ChunkId,
    /// Its length, bytes.
    pub len: u32,
}

/// A frame in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameInfo {
    /// Its name.
    pub id: FrameId,
    /// Where it begins in the pack, bytes. Frames lie one behind the other.
    pub offset: u32,
    /// Its length as stored, header and tag included, bytes.
    pub stored_len: u32,
    /// How its chunks are stored.
    pub codec: Codec,
    /// Its chunks, in order.
    pub chunks: Vec<ChunkInfo>,
}

impl FrameInfo {
    /// Bytes of all its chunks.
    pub fn plain_len(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.len)).sum()
    }
}

/// What a pack's trailer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// The session that wrote the pack.
    pub session: SnapshotId,
    /// What its chunks are.
    pub kind: ChunkKind,
    /// Its frames, in order.
    pub frames: Vec<FrameInfo>,
}

impl Trailer {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.session.as_bytes());
        out.put_u8(self.kind as u8);
        out.put_varint(self.frames.len() as u64);
        for frame in &self.frames {
            out.extend_from_slice(frame.id.as_bytes());
            out.put_varint(frame.stored_len.into());
            frame.codec.encode(out);
            out.put_varint(frame.chunks.len() as u64);
            for chunk in &frame.chunks {
                out.put_varint(chunk.len.into());
                out.extend_from_slice(chunk.id.as_bytes());
            }
        }
    }

    /// Takes one off the front.
    pub fn decode(take: &mut Take<'_>) -> Result<Self> {
        let session = SnapshotId(take.array("session of a pack")?);
        let kind = ChunkKind::decode(take.u8("kind of a pack")?)?;
        let count = take.count(limits::PACK_FRAMES_MAX, "number of frames")?;
        let mut frames = Vec::with_capacity(count.min(take.rest().len() / 28));
        let mut offset = HEADER_LEN as u64;
        for _ in 0..count {
            let frame = decode_frame(take, offset)?;
            offset += u64::from(frame.stored_len);
            frames.push(frame);
        }
        Ok(Self { session, kind, frames })
    }

    /// Where the frames end, bytes from the start of the pack.
    pub fn frames_end(&self) -> u64 {
        self.frames
            .last()
            .map_or(HEADER_LEN as u64, |f| u64::from(f.offset) + u64::from(f.stored_len))
    }
}

fn decode_frame(take: &mut Take<'_>, offset: u64) -> Result<FrameInfo> {
    let id = FrameId(take.array("frame id")?);
    let stored_len = take.count(limits::FRAME_SEALED_LEN_MAX, "length of a frame")?;
    let least = FRAME_HEADER_LEN + TAG_LEN;
    if stored_len < least || offset + stored_len as u64 > limits::PACK_LEN_MAX {
        return Err(FormatError::Bad("length of a frame"));
    }
    let codec = Codec::decode(take)?;
    let count = take.count(limits::FRAME_CHUNKS_MAX, "number of chunks")?;
    let mut chunks = Vec::with_capacity(count.min(take.rest().len() / 33));
    let mut plain_len = 0;
    for _ in 0..count {
        let len = take.count(limits::CHUNK_LEN_MAX, "length of a chunk")?;
        plain_len += len;
        if len == 0 || plain_len > limits::FRAME_PLAIN_LEN_MAX {
            return Err(FormatError::Bad("length of a chunk"));
        }
        chunks.push(ChunkInfo { id: ChunkId(take.array("chunk id")?), len: len as u32 });
    }
    // Both are at most PACK_LEN_MAX, 2^30.
    Ok(FrameInfo { id, offset: offset as u32, stored_len: stored_len as u32, codec, chunks })
}

/// What the index says of one pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackInfo {
    /// The pack.
    pub id: PackId,
    /// Its whole length, bytes.
    pub len: u64,
    /// What its trailer says.
    pub trailer: Trailer,
}

/// Appends what a segment says of one pack.
pub fn encode_pack_info(info: &PackInfo, out: &mut Vec<u8>) {
    out.extend_from_slice(info.id.as_bytes());
    out.put_varint(info.len);
    info.trailer.encode(out);
}

/// The payload of an index segment.
pub fn encode_segment(packs: &[PackInfo]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_varint(packs.len() as u64);
    packs.iter().for_each(|info| encode_pack_info(info, &mut out));
    out
}

/// What the payload of an index segment says.
pub fn decode_segment(payload: &[u8]) -> Result<Vec<PackInfo>> {
    let mut take = Take::new(payload);
    let count = take.count(limits::SEGMENT_PACKS_MAX, "number of packs")?;
    let mut packs = Vec::with_capacity(count.min(take.rest().len() / 66));
    for _ in 0..count {
        let id = PackId(take.array("pack id")?);
        let len = take.bounded(limits::PACK_LEN_MAX, "length of a pack")?;
        let trailer = Trailer::decode(&mut take)?;
        if trailer.frames_end() > len {
            return Err(FormatError::Bad("length of a pack"));
        }
        packs.push(PackInfo { id, len, trailer });
    }
    take.finish("index segment")?;
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack_info() -> PackInfo {
        let chunk = |n: u8, len| ChunkInfo { id: ChunkId([n; 32]), len };
        let frame = |n: u8, offset, codec, chunks| FrameInfo {
            id: FrameId([n; 24]),
            offset,
            stored_len: 1000,
            codec,
            chunks,
        };
        let base = FrameId([1; 24]);
        let frames = vec![
            frame(1, 16, Codec::Zstd, vec![chunk(1, 5), chunk(2, 70_000)]),
            frame(2, 1016, Codec::Delta { base }, vec![chunk(3, 1)]),
            frame(3, 2016, Codec::Raw, vec![]),
        ];
        let trailer = Trailer { session: SnapshotId([8; 32]), kind: ChunkKind::Data, frames };
        PackInfo { id: PackId([9; 32]), len: 5000, trailer }
    }

    #[test]
    fn segments_there_and_back() {
        let bytes = encode_segment(&[pack_info(), pack_info()]);
        assert_eq!(decode_segment(&bytes), Ok(vec![pack_info(), pack_info()]));
        (0..bytes.len()).for_each(|n| assert!(decode_segment(&bytes[..n]).is_err(), "{n}"));
    }

    #[test]
    fn frames_beyond_the_end_of_the_pack_are_refused() {
        let bytes = encode_segment(&[PackInfo { len: 3015, ..pack_info() }]);
        assert_eq!(decode_segment(&bytes), Err(FormatError::Bad("length of a pack")));
    }

    #[test]
    fn keys_headers_and_footers() {
        let key = pack_key(&PackId([0xab; 32]));
        assert_eq!(pack_of_key(&key), Some(PackId([0xab; 32])));
        assert_eq!(pack_of_key(&key.replace("/ab/", "/cd/")), None);
        assert_eq!(decode_header(&encode_header(ChunkKind::Tree)), Ok(ChunkKind::Tree));
        assert_eq!(decode_footer(&encode_footer(77)), Ok(77));
        assert!(decode_footer(&encode_footer(u32::MAX)).is_err());
    }
}
