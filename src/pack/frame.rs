//! One frame: chunks compressed together, sealed once, opened again before anyone relies on it.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::PackError;
use super::spare::Spare;
use crate::compress;
use crate::crypto::{
    CryptoError, Key, KeyRing, Purpose, SEALED_KEY_LEN, SessionKey, open_bulk, open_bulk_into,
    seal_bulk, seal_session_key, unseal_session_key,
};
use crate::format::FormatError;
use crate::format::envelope::padded_len;
use crate::format::frame::{ChunkKind, Codec, FrameBody, FrameHeader, HEADER_LEN, TAG_LEN};
use crate::format::pack::{ChunkInfo, FrameInfo};
use crate::id::{FamilyId, FrameId};
use crate::world::World;

/// Below this share of the plaintext (in 1/32) compression is worth its time at restore.
const WORTH_COMPRESSING: usize = 31;
/// A delta takes at most one part in so many of what the frame would take without a base.
const DELTA_SHARE: usize = 2;
/// Where it takes one part in so many of what the base lets expect, that is not tried.
const SURE_SHARE: u64 = 3;
/// Shorter prefixes are not allowed.
const PREFIX_LEN_MIN: usize = 8;

fn purpose(kind: ChunkKind) -> Purpose {
    match kind {
        ChunkKind::Data => Purpose::Data,
        ChunkKind::Tree => Purpose::Tree,
    }
}

/// Whether a frame, of which only the header is looked at, is sealed with a key that a rotation
/// has replaced.
pub fn is_outdated(keys: &KeyRing, frame: &[u8]) -> Result<bool, PackError> {
    let (header, _) = FrameHeader::decode(frame)?;
    Ok(header.generation < keys.newest(purpose(header.kind))?.0)
}

/// A frame before it is sealed.
#[derive(Debug)]
pub struct PlainFrame {
    /// What its chunks are.
    pub kind: ChunkKind,
    /// Its name: random, never used before.
    pub id: FrameId,
    /// Its chunks, one behind the other.
    pub plain: Vec<u8>,
    /// Which they are; their lengths together are that of `plain`.
    pub chunks: Vec<ChunkInfo>,
}

/// A frame as it will be stored.
#[derive(Debug)]
pub struct SealedFrame {
    /// Header, ciphertext and tag.
    pub bytes: Vec<u8>,
    /// What the trailer will say; its offset is 0 until the frame has a place.
    pub info: FrameInfo,
}

/// Seals the frames of one session, with keys that nobody used before.
#[derive(Debug)]
pub struct FrameSealer {
    family: FamilyId,
    data: (u32, SessionKey),
    tree: (u32, SessionKey),
    spare: Spare,
}

thread_local! {
    /// Compressed or sealed bytes, and plaintext to be compared, kept between frames.
    static SCRATCH: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

impl FrameSealer {
    /// Makes the session's keys and seals them to the readers of data and of trees.
    pub fn new(world: &dyn World, keys: &KeyRing, family: FamilyId) -> Result<Self, CryptoError> {
        let session_key = |kind| {
            let (generation, reader) = keys.reader(purpose(kind))?;
            let associated = FrameHeader::key_associated(&family, generation, kind);
            Ok((generation, seal_session_key(world, &reader, &associated)))
        };
        Ok(Self {
            family,
            data: session_key(ChunkKind::Data)?,
            tree: session_key(ChunkKind::Tree)?,
            spare: Spare::default(),
        })
    }

    /// Compresses, seals and verifies a frame; `level` 0 stores it as it is.
    pub fn seal(&self, frame: &PlainFrame, level: i32) -> Result<SealedFrame, PackError> {
        let (bytes, codec) = self.encode_body(frame, level)?;
        self.seal_body(frame, bytes, codec, &[])
    }

    /// The same as a delta on a base, which takes `base_len` bytes in its pack, where that pays:
    /// the delta is to take at most half of what the frame would take without a base.
    pub fn seal_like(
        &self,
        frame: &PlainFrame,
        level: i32,
        base: &OpenedFrame,
        base_len: u32,
    ) -> Result<SealedFrame, PackError> {
        let (prefix, plain) = (&base.plain, &frame.plain);
        let is_delta = matches!(base.codec, Codec::Delta { .. });
        if is_delta || base.kind != frame.kind || prefix.len() < PREFIX_LEN_MIN {
            return self.seal(frame, level);
        }
        let codec = Codec::Delta { base: base.id };
        let delta = SCRATCH.with_borrow_mut(|(compressed, _)| {
            let compressed = room(compressed, plain.len() / DELTA_SHARE);
            let len = compress::compress_with_prefix(prefix, plain, compressed)?;
            Some(self.assemble(frame, codec, compressed.get(..len)?))
        });
        let Some(delta) = delta else { return self.seal(frame, level) };
        // If it compresses as well as the base.
        let expected = plain.len() as u64 * u64::from(base_len) / prefix.len() as u64;
        if delta.len() as u64 > expected / SURE_SHARE {
            let (full, codec) = self.encode_body(frame, level)?;
            if delta.len() > full.len() / DELTA_SHARE {
                return self.seal_body(frame, full, codec, &[]);
            }
        }
        self.seal_body(frame, delta, codec, prefix)
    }

    fn seal_body(
        &self,
        frame: &PlainFrame,
        mut bytes: Vec<u8>,
        codec: Codec,
        prefix: &[u8],
    ) -> Result<SealedFrame, PackError> {
        let (generation, session) = match frame.kind {
            ChunkKind::Data => &self.data,
            ChunkKind::Tree => &self.tree,
        };
        let body_len = bytes.len() - HEADER_LEN + TAG_LEN;
        let header = FrameHeader {
            kind: frame.kind,
            body_len: u32::try_from(body_len).map_err(|_| FormatError::Bad("length of a frame"))?,
            generation: *generation,
            sealed_key: session.sealed,
            id: frame.id,
        };
        bytes[..HEADER_LEN].copy_from_slice(&header.encode());
        let associated = header.associated(&self.family);
        let body = &mut bytes[HEADER_LEN..];
        let tag = seal_bulk(&session.key, frame.id.as_bytes(), &associated, body);
        bytes.extend_from_slice(&tag);
        self.verify(&bytes, &session.key, &associated, frame, prefix)?;
        // At most FRAME_SEALED_LEN_MAX, as the plaintext is bounded.
        let stored_len = bytes.len() as u32;
        let chunks = frame.chunks.clone();
        Ok(SealedFrame {
            info: FrameInfo { id: frame.id, offset: 0, stored_len, codec, chunks },
            bytes,
        })
    }

    /// Room for the header, then the padded body before it is sealed; and the codec that was chosen.
    fn encode_body(&self, frame: &PlainFrame, level: i32) -> Result<(Vec<u8>, Codec), PackError> {
        SCRATCH.with_borrow_mut(|(compressed, _)| {
            if level != 0 {
                let compressed = room(compressed, compress::bound(frame.plain.len()));
                let len = compress::compress(&frame.plain, level, compressed)?;
                let enough = frame.plain.len() / 32 * WORTH_COMPRESSING;
                if let Some(len) = len.filter(|len| *len < enough) {
                    return Ok((
                        self.assemble(frame, Codec::Zstd, &compressed[..len]),
                        Codec::Zstd,
                    ));
                }
            }
            Ok((self.assemble(frame, Codec::Raw, &frame.plain), Codec::Raw))
        })
    }

    /// A buffer of just the length that the frame will have: a pack's frames wait in memory.
    fn assemble(&self, frame: &PlainFrame, codec: Codec, stored: &[u8]) -> Vec<u8> {
        let chunk_lens: Vec<u32> = frame.chunks.iter().map(|chunk| chunk.len).collect();
        // Bounded by FRAME_PLAIN_LEN_MAX, far below 2^32.
        let body = FrameBody { codec, chunk_lens, stored_len: stored.len() as u32 };
        let mut head = vec![0; HEADER_LEN];
        body.encode(&mut head);
        let len = HEADER_LEN + padded_len(head.len() - HEADER_LEN + stored.len());
        let mut bytes = self.spare.take(len + TAG_LEN);
        bytes.clear();
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(stored);
        bytes.resize(len, 0);
        bytes
    }

    /// Takes back what was sealed and is stored.
    pub fn give_back(&self, bytes: Vec<u8>) {
        self.spare.give_back(bytes);
    }

    /// Opens what was sealed and compares it: a bit that flipped in memory is found before the
    /// source is gone.
    fn verify(
        &self,
        sealed: &[u8],
        key: &Key,
        associated: &[u8],
        frame: &PlainFrame,
        prefix: &[u8],
    ) -> Result<(), PackError> {
        SCRATCH.with_borrow_mut(|(opened, plain)| {
            let (body, tag) = sealed[HEADER_LEN..].split_last_chunk().ok_or(PackError::Verify)?;
            let opened = room(opened, body.len());
            open_bulk_into(key, frame.id.as_bytes(), associated, body, opened, tag)
                .map_err(|_| PackError::Verify)?;
            let (body, stored) = FrameBody::decode(opened).map_err(|_| PackError::Verify)?;
            let same_chunks = body.chunk_lens.iter().eq(frame.chunks.iter().map(|c| &c.len));
            let same_bytes = match body.codec {
                Codec::Raw => stored == frame.plain,
                Codec::Zstd => {
                    let plain = room(plain, frame.plain.len());
                    compress::decompress(stored, plain).is_ok() && *plain == frame.plain
                }
                Codec::Delta { .. } => {
                    let plain = room(plain, frame.plain.len());
                    compress::decompress_with_prefix(prefix, stored, plain).is_ok()
                        && *plain == frame.plain
                }
            };
            if same_chunks && same_bytes { Ok(()) } else { Err(PackError::Verify) }
        })
    }
}

/// The beginning of a buffer, with anything in it: to clear it for every frame would cost.
fn room(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    buffer.resize(buffer.len().max(len), 0);
    &mut buffer[..len]
}

/// A frame that was opened: its chunks, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedFrame {
    /// Its name.
    pub id: FrameId,
    /// What its chunks are.
    pub kind: ChunkKind,
    /// How they are stored.
    pub codec: Codec,
    /// The chunks.
    pub plain: Vec<u8>,
    /// Their lengths.
    pub chunk_lens: Vec<u32>,
}

impl OpenedFrame {
    /// The chunks.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.plain.as_slice();
        self.chunk_lens.iter().map_while(move |len| {
            let (chunk, after) = rest.split_at_checked(*len as usize)?;
            rest = after;
            Some(chunk)
        })
    }
}

/// Opens frames of any session.
#[derive(Debug)]
pub struct FrameOpener {
    family: FamilyId,
    sessions: Mutex<HashMap<[u8; SEALED_KEY_LEN], Key>>,
    spare: Spare,
}

/// So many session keys are remembered; opening one again costs a fraction of a millisecond.
const SESSIONS_REMEMBERED: usize = 4096;
impl FrameOpener {
    /// For a family's frames.
    pub fn new(family: FamilyId) -> Self {
        Self { family, sessions: Mutex::default(), spare: Spare::default() }
    }

    /// Takes back an opened frame.
    pub fn give_back(&self, frame: OpenedFrame) {
        self.spare.give_back(frame.plain);
    }

    /// A buffer of this length, with anything in it.
    fn buffer(&self, len: usize) -> Vec<u8> {
        let mut buffer = self.spare.take(len);
        buffer.resize(len, 0);
        buffer
    }

    /// Opens a frame that may be the base of others, and so no delta itself.
    pub fn open_base(&self, keys: &KeyRing, bytes: &mut [u8]) -> Result<OpenedFrame, PackError> {
        let none = |_: &_| Err::<OpenedFrame, _>(FormatError::Bad("base of a frame").into());
        self.open(keys, bytes, none)
    }

    /// Opens a frame, whose stored bytes are overwritten. `base` gives the opened frame that a
    /// delta frame needs.
    pub fn open<B: Borrow<OpenedFrame>>(
        &self,
        keys: &KeyRing,
        bytes: &mut [u8],
        base: impl FnOnce(&FrameId) -> Result<B, PackError>,
    ) -> Result<OpenedFrame, PackError> {
        let (header, rest) = FrameHeader::decode(bytes)?;
        if rest.len() != header.body_len as usize {
            return Err(FormatError::Bad("length of a frame").into());
        }
        let (_, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(FormatError::Truncated("frame"))?;
        let tag = *tag;
        let key = self.session_key(keys, &header)?;
        let end = bytes.len() - TAG_LEN;
        let sealed = &mut bytes[HEADER_LEN..end];
        open_bulk(&key, header.id.as_bytes(), &header.associated(&self.family), sealed, &tag)?;
        let (body, stored) = FrameBody::decode(sealed)?;
        let plain = match body.codec {
            Codec::Raw => {
                let mut plain = self.buffer(stored.len());
                plain.copy_from_slice(stored);
                plain
            }
            Codec::Zstd => {
                let mut plain = self.buffer(body.plain_len());
                compress::decompress(stored, &mut plain)?;
                plain
            }
            Codec::Delta { base: id } => {
                let base = base(&id)?;
                let base = base.borrow();
                if (base.id, base.kind) != (id, header.kind) {
                    return Err(FormatError::Bad("base of a frame").into());
                }
                let mut plain = self.buffer(body.plain_len());
                compress::decompress_with_prefix(&base.plain, stored, &mut plain)?;
                plain
            }
        };
        let FrameBody { codec, chunk_lens, .. } = body;
        Ok(OpenedFrame { id: header.id, kind: header.kind, codec, plain, chunk_lens })
    }

    fn session_key(&self, keys: &KeyRing, header: &FrameHeader) -> Result<Key, CryptoError> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = sessions.get(&header.sealed_key) {
            return Ok(key.clone());
        }
        let secret = keys.get(purpose(header.kind), header.generation)?;
        let associated = FrameHeader::key_associated(&self.family, header.generation, header.kind);
        let key = unseal_session_key(secret, &header.sealed_key, &associated)?;
        if sessions.len() >= SESSIONS_REMEMBERED {
            sessions.clear();
        }
        sessions.insert(header.sealed_key, key.clone());
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{SeededWorld, Time, random};

    const FAMILY: FamilyId = FamilyId([7; 32]);

    fn no_base(id: &FrameId) -> Result<OpenedFrame, PackError> {
        Err(PackError::NoBase(*id))
    }

    fn frame(world: &dyn World, keys: &KeyRing, kind: ChunkKind, chunks: &[&[u8]]) -> PlainFrame {
        let info = |c: &&[u8]| ChunkInfo { id: keys.data_id(c), len: c.len() as u32 };
        let id = FrameId(random(world));
        PlainFrame { kind, id, plain: chunks.concat(), chunks: chunks.iter().map(info).collect() }
    }

    #[test]
    fn frames_there_and_back_and_no_bit_changed() {
        let world = SeededWorld::new(1, Time::default());
        let keys = KeyRing::generate(&world);
        let sealer = FrameSealer::new(&world, &keys, FAMILY).unwrap();
        let opener = FrameOpener::new(FAMILY);
        let noise: [u8; 5000] = random(&world);
        let text = b"the same again and again. ".repeat(300);
        for (kind, chunks, level, codec) in [
            (ChunkKind::Data, vec![&text[..], b"x", &text], 3, Codec::Zstd),
            (ChunkKind::Tree, vec![&text[..]], 19, Codec::Zstd),
            (ChunkKind::Data, vec![&noise[..]], 3, Codec::Raw),
            (ChunkKind::Data, vec![&text[..]], 0, Codec::Raw),
        ] {
            let plain = frame(&world, &keys, kind, &chunks);
            let sealed = sealer.seal(&plain, level).unwrap();
            assert_eq!(sealed.info.codec, codec);
            assert_eq!(sealed.info.stored_len as usize, sealed.bytes.len());
            let opened = opener.open(&keys, &mut sealed.bytes.clone(), no_base).unwrap();
            assert!(opened.chunks().eq(chunks.iter().copied()));
            assert_eq!((opened.kind, opened.id), (kind, plain.id));
            for at in (0..sealed.bytes.len()).step_by(37) {
                let mut flipped = sealed.bytes.clone();
                flipped[at] ^= 4;
                assert!(opener.open(&keys, &mut flipped, no_base).is_err(), "byte {at}");
                assert!(opener.open(&keys, &mut sealed.bytes.clone()[..at], no_base).is_err());
            }
            let stranger = FrameOpener::new(FamilyId([8; 32]));
            assert!(stranger.open(&keys, &mut sealed.bytes.clone(), no_base).is_err());
        }
    }

    #[test]
    fn a_delta_where_it_pays() {
        let world = SeededWorld::new(1, Time::default());
        let keys = KeyRing::generate(&world);
        let sealer = FrameSealer::new(&world, &keys, FAMILY).unwrap();
        let opener = FrameOpener::new(FAMILY);
        let noise: [u8; 9000] = random(&world);
        let mut like = noise;
        like.iter_mut().step_by(900).for_each(|byte| *byte ^= 1);
        let other: [u8; 9000] = random(&world);
        let open = |plain: &PlainFrame| {
            let sealed = sealer.seal(plain, 3).unwrap();
            let len = sealed.info.stored_len;
            (opener.open(&keys, &mut sealed.bytes.clone(), no_base).unwrap(), len)
        };
        let (base, len) = open(&frame(&world, &keys, ChunkKind::Data, &[&noise]));
        let plain = frame(&world, &keys, ChunkKind::Data, &[&like[..4000], &like[4000..]]);
        let delta = sealer.seal_like(&plain, 3, &base, len).unwrap();
        assert!(delta.info.stored_len < 600 && delta.info.codec == Codec::Delta { base: base.id });
        let opened = opener.open(&keys, &mut delta.bytes.clone(), |_| Ok(&base)).unwrap();
        assert!(opened.plain == like && opened.chunk_lens == [4000, 5000]);
        assert!(opener.open(&keys, &mut delta.bytes.clone(), no_base).is_err());
        let (stranger, _) = open(&frame(&world, &keys, ChunkKind::Data, &[&other]));
        assert!(opener.open(&keys, &mut delta.bytes.clone(), |_| Ok(&stranger)).is_err());
        assert!(opener.open_base(&keys, &mut delta.bytes.clone()).is_err());
        // Not on a delta, nor for what is not like the base or of another kind, nor on a tiny one.
        let codec = |plain: &PlainFrame, base: &OpenedFrame, len| {
            sealer.seal_like(plain, 3, base, len).unwrap().info.codec
        };
        assert_eq!(codec(&plain, &opened, len), Codec::Raw);
        let unlike = frame(&world, &keys, ChunkKind::Data, &[&other]);
        assert_eq!(codec(&unlike, &base, len), Codec::Raw);
        let tree = frame(&world, &keys, ChunkKind::Tree, &[&like]);
        assert_eq!(codec(&tree, &base, len), Codec::Raw);
        let (tiny, tiny_len) = open(&frame(&world, &keys, ChunkKind::Data, &[&noise[..7]]));
        let same = frame(&world, &keys, ChunkKind::Data, &[&noise[..7]]);
        assert_eq!(codec(&same, &tiny, tiny_len), Codec::Raw);
        // What is new in it may compress worse than the base: what counts is what it takes itself.
        for (new, is_delta) in [(4000, true), (5000, false)] {
            let mixed = frame(&world, &keys, ChunkKind::Data, &[&other[..new], &noise[new..]]);
            assert_eq!(codec(&mixed, &base, len / 4) != Codec::Raw, is_delta, "{new}");
        }
        let text = frame(&world, &keys, ChunkKind::Data, &[&b"again and again ".repeat(500)]);
        assert_eq!(codec(&text, &base, len / 64), Codec::Zstd);
    }

    #[test]
    fn what_errs_while_sealing_is_noticed() {
        let world = SeededWorld::new(1, Time::default());
        let keys = KeyRing::generate(&world);
        let sealer = FrameSealer::new(&world, &keys, FAMILY).unwrap();
        let good = frame(&world, &keys, ChunkKind::Data, &[b"content"]);
        let sealed = sealer.seal(&good, 3).unwrap();
        let (header, _) = FrameHeader::decode(&sealed.bytes).unwrap();
        let mut other = good;
        other.plain[0] ^= 1;
        let verdict = sealer.verify(
            &sealed.bytes,
            &sealer.data.1.key,
            &header.associated(&FAMILY),
            &other,
            &[],
        );
        assert!(matches!(verdict, Err(PackError::Verify)));
    }
}
