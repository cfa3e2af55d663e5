//! Parity: what brings back the parts of a pack that a disk has lost.
//! Format: `format-spec/16-parity.md`.
//!
//! The code works on the same few bytes of every shard at a time, so that it takes little memory
//! however long the pack is.

use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder};

use super::PackError;
use crate::format::FormatError;
use crate::format::envelope::ObjectType;
use crate::format::pack::pack_key;
use crate::format::parity::{
    MARK_LEN, ParityHead, SHARD_STEP, decode_mark, encode_mark, parity_key,
};
use crate::id::PackId;
use crate::limits;
use crate::object::Sealer;
use crate::storage::{ErrorKind, Storage, StorageError};
use crate::world::{World, random};

/// So many shards a pack has, about: each damaged place costs one of them.
const SHARDS: u64 = 1024;
/// What a disk loses, it loses in pages of this length.
const SHARD_LEN_MIN: u64 = 4 << 10;
/// Of every shard, so many bytes go through the code at once.
const WIDTH: usize = 4 << 10;

/// The parity object of a pack that consists of these pieces: of about so many percent of its
/// length, and one shard at least.
pub fn make_parity(
    world: &dyn World,
    sealer: &Sealer,
    id: &PackId,
    pack: &[&[u8]],
    percent: u8,
) -> Result<Vec<u8>, PackError> {
    let pieces = Pieces::new(pack);
    let pack_len = pieces.len as u64;
    let shard_len = shard_len(pack_len);
    let data_count = pack_len.div_ceil(shard_len);
    let parity_count = (data_count * u64::from(percent)).div_ceil(100).clamp(1, data_count);
    let mut head = ParityHead {
        pack_len,
        // Bounded by PARITY_SHARD_LEN_MAX and by SHARDS.
        shard_len: shard_len as u32,
        parity_count: parity_count as u32,
        hash_key: random(world),
        hashes: Vec::new(),
    };
    let parity = encode(&pieces, &head)?;
    let shard_len = shard_len as usize;
    let mut shard = vec![0; shard_len];
    for number in 0..head.data_count() {
        pieces.read(number * shard_len, &mut shard);
        head.hashes.push(head.hash(&shard));
    }
    let hashes: Vec<_> = parity.chunks_exact(shard_len).map(|shard| head.hash(shard)).collect();
    head.hashes.extend(hashes);
    let sealed = sealer.seal(world, ObjectType::Parity, &parity_key(id), &head.encode())?;
    // A head has at most PARITY_SHARDS_MAX hashes, far below 2^32.
    let mark = encode_mark(sealed.len() as u32);
    Ok([&mark[..], &sealed, &parity, &sealed, &mark].concat())
}

fn shard_len(pack_len: u64) -> u64 {
    let usual = (pack_len / SHARDS).next_power_of_two();
    let usual = usual.clamp(SHARD_LEN_MIN, limits::PARITY_SHARD_LEN_MAX);
    usual.min(pack_len.next_multiple_of(SHARD_STEP)).max(SHARD_STEP)
}

/// A pack in pieces, read as if it were one.
struct Pieces<'a> {
    /// Each with the place where it begins.
    pieces: Vec<(usize, &'a [u8])>,
    len: usize,
}

impl<'a> Pieces<'a> {
    fn new(pieces: &[&'a [u8]]) -> Self {
        let mut len = 0;
        let place = |piece: &&'a [u8]| {
            let start = len;
            len += piece.len();
            (start, *piece)
        };
        Self { pieces: pieces.iter().map(place).collect(), len }
    }

    /// Fills `out` from a place on; with zeros behind the end.
    fn read(&self, from: usize, out: &mut [u8]) {
        let first = self.pieces.partition_point(|(start, piece)| start + piece.len() <= from);
        let mut filled = 0;
        for (start, piece) in self.pieces.iter().skip(first) {
            let Some(piece) = piece.get((from + filled).saturating_sub(*start)..) else { break };
            let rest = out.len() - filled;
            let part = &piece[..piece.len().min(rest)];
            out[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        out[filled..].fill(0);
    }
}

/// The same range of every shard, one after the other.
fn columns(shard_len: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..shard_len).step_by(WIDTH).map(move |start| start..shard_len.min(start + WIDTH))
}

fn code(_: reed_solomon_simd::Error) -> PackError {
    FormatError::Bad("number of shards").into()
}

/// All shards of parity, one behind the other.
fn encode(pack: &Pieces<'_>, head: &ParityHead) -> Result<Vec<u8>, PackError> {
    let (data_count, parity_count) = (head.data_count(), head.parity_count as usize);
    let shard_len = head.shard_len as usize;
    let mut parity = vec![0; parity_count * shard_len];
    let width = shard_len.min(WIDTH);
    let mut buffer = vec![0; width];
    let engine = DefaultEngine::new();
    let mut encoder = HighRateEncoder::new(data_count, parity_count, width, engine, None);
    let encoder = encoder.as_mut().map_err(|error| code(*error))?;
    for columns in columns(shard_len) {
        let part = &mut buffer[..columns.len()];
        encoder.reset(data_count, parity_count, part.len()).map_err(code)?;
        for number in 0..data_count {
            pack.read(number * shard_len + columns.start, part);
            encoder.add_original_shard(&*part).map_err(code)?;
        }
        let encoded = encoder.encode().map_err(code)?;
        for (shard, part) in parity.chunks_exact_mut(shard_len).zip(encoded.recovery_iter()) {
            shard[columns.clone()].copy_from_slice(part);
        }
    }
    Ok(parity)
}

/// Shards one behind the other, and which of them are as they were.
struct Shards {
    bytes: Vec<u8>,
    good: Vec<bool>,
}

impl Shards {
    /// Reads `count` shards from `offset` of an object. What cannot be read, or has another hash,
    /// is lost.
    fn read(
        storage: &dyn Storage,
        (key, len, offset): (&str, u64, u64),
        count: usize,
        head: &ParityHead,
        hashes: &[[u8; 16]],
    ) -> Result<Self, StorageError> {
        let shard_len = head.shard_len as usize;
        let mut shards = Self { bytes: vec![0; count * shard_len], good: vec![false; count] };
        let places = shards.bytes.chunks_exact_mut(shard_len).zip(&mut shards.good).zip(hashes);
        let mut start = offset;
        for ((shard, good), hash) in places {
            let there = len.saturating_sub(start).min(shard_len as u64) as usize;
            match storage.get_range(key, start, there) {
                Ok(bytes) => shard[..there].copy_from_slice(&bytes),
                Err(error) if error.kind == ErrorKind::Transient => return Err(error),
                Err(_) => {}
            }
            *good = head.hash(shard) == *hash;
            start += shard_len as u64;
        }
        Ok(shards)
    }

    fn lost_count(&self) -> usize {
        self.good.iter().filter(|good| !**good).count()
    }
}

/// A pack's bytes as they were when its parity was made, whatever became of them since.
///
/// # Errors
/// `BeyondParity` when more is lost than the parity brings back.
pub fn mend_pack(
    storage: &dyn Storage,
    sealer: &Sealer,
    id: &PackId,
) -> Result<Vec<u8>, PackError> {
    let parity = parity_key(id);
    let parity_len = storage.stat(&parity)?;
    let (head, parity_start) = read_head(storage, sealer, &parity, parity_len)?;
    let (data_hashes, parity_hashes) = head.hashes.split_at(head.data_count());
    let pack = pack_key(id);
    let pack_len = match storage.stat(&pack) {
        Ok(len) => len.min(head.pack_len),
        Err(error) if error.is_not_found() => 0,
        Err(error) => return Err(error.into()),
    };
    let place = (pack.as_str(), pack_len, 0);
    let mut data = Shards::read(storage, place, head.data_count(), &head, data_hashes)?;
    if data.lost_count() > 0 {
        let place = (parity.as_str(), parity_len, parity_start);
        let count = head.parity_count as usize;
        let parity = Shards::read(storage, place, count, &head, parity_hashes)?;
        let (lost, spare) = (data.lost_count(), count - parity.lost_count());
        if lost > spare {
            return Err(PackError::BeyondParity { lost, spare });
        }
        decode(&mut data, &parity, &head)?;
        let shards = data.bytes.chunks_exact(head.shard_len as usize);
        if !shards.zip(data_hashes).all(|(shard, hash)| head.hash(shard) == *hash) {
            return Err(PackError::Verify);
        }
    }
    // Bounded by PACK_LEN_MAX.
    data.bytes.truncate(head.pack_len as usize);
    Ok(data.bytes)
}

/// Whether a pack's parity is as it was made: both heads and every shard.
pub fn check_parity(storage: &dyn Storage, sealer: &Sealer, id: &PackId) -> Result<(), PackError> {
    let key = parity_key(id);
    let len = storage.stat(&key)?;
    let (head, start) = open_head(storage, sealer, &key, End::Front, len)?;
    if open_head(storage, sealer, &key, End::Back, len)? != (head.clone(), start) {
        return Err(FormatError::Bad("second head of parity").into());
    }
    let (_, hashes) = head.hashes.split_at(head.data_count());
    let place = (key.as_str(), len, start);
    match Shards::read(storage, place, hashes.len(), &head, hashes)?.lost_count() {
        0 => Ok(()),
        _ => Err(PackError::Verify),
    }
}

/// The head, and where parity begins: from the front, or else from the end.
fn read_head(
    storage: &dyn Storage,
    sealer: &Sealer,
    key: &str,
    len: u64,
) -> Result<(ParityHead, u64), PackError> {
    let front = open_head(storage, sealer, key, End::Front, len);
    front.or_else(|error| open_head(storage, sealer, key, End::Back, len).map_err(|_| error))
}

/// The two places where a head stands.
#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

fn open_head(
    storage: &dyn Storage,
    sealer: &Sealer,
    key: &str,
    end: End,
    len: u64,
) -> Result<(ParityHead, u64), PackError> {
    let too_short = FormatError::Truncated("parity");
    let mark_len = MARK_LEN as u64;
    let mark_at = match end {
        End::Front => 0,
        End::Back => len.checked_sub(mark_len).ok_or(too_short.clone())?,
    };
    let head_len = decode_mark(&storage.get_range(key, mark_at, MARK_LEN)?)?;
    let head_at = match end {
        End::Front => mark_len,
        End::Back => mark_at.checked_sub(head_len as u64).ok_or(too_short.clone())?,
    };
    let sealed = storage.get_range(key, head_at, head_len)?;
    let head = ParityHead::decode(&sealer.open(ObjectType::Parity, key, sealed)?)?;
    let start = match end {
        End::Front => head_at + head_len as u64,
        End::Back => head_at.checked_sub(head.parity_len()).ok_or(too_short)?,
    };
    Ok((head, start))
}

/// Computes the shards of the pack that are lost.
fn decode(data: &mut Shards, parity: &Shards, head: &ParityHead) -> Result<(), PackError> {
    let shard_len = head.shard_len as usize;
    let (data_count, parity_count) = (data.good.len(), parity.good.len());
    let width = shard_len.min(WIDTH);
    let engine = DefaultEngine::new();
    let mut decoder = HighRateDecoder::new(data_count, parity_count, width, engine, None);
    let decoder = decoder.as_mut().map_err(|error| code(*error))?;
    for columns in columns(shard_len) {
        decoder.reset(data_count, parity_count, columns.len()).map_err(code)?;
        let part = |bytes: &[u8]| bytes[columns.clone()].to_vec();
        for (number, shard) in good_shards(data, shard_len) {
            decoder.add_original_shard(number, part(shard)).map_err(code)?;
        }
        for (number, shard) in good_shards(parity, shard_len) {
            decoder.add_recovery_shard(number, part(shard)).map_err(code)?;
        }
        let decoded = decoder.decode().map_err(code)?;
        for (number, part) in decoded.restored_original_iter() {
            let start = number * shard_len + columns.start;
            data.bytes[start..start + part.len()].copy_from_slice(part);
        }
    }
    Ok(())
}

fn good_shards(shards: &Shards, shard_len: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let all = shards.bytes.chunks_exact(shard_len).enumerate().zip(&shards.good);
    all.filter(|(_, good)| **good).map(|(shard, _)| shard)
}

#[cfg(test)]
mod tests;
