//! Packs, read and opened from the first byte to the last.

use std::ops::Range;

use super::super::mark::Stock;
use super::super::{OpsError, is_outage, is_passing};
use super::deltas::Noted;
use crate::format::FormatError;
use crate::format::pack::{FrameInfo, HEADER_LEN, PackInfo, decode_header, pack_key};
use crate::id::ChunkId;
use crate::index::PackRow;
use crate::pack::{OpenedFrame, PackError, read_frame, read_trailer};
use crate::repo::{RepoError, Repository};

/// Read at once, bytes.
const BLOCK_LEN: u64 = 4 << 20;

/// Something that is wrong with a pack.
pub(super) struct PackDamage {
    /// What is wrong, in words.
    pub why: String,
    /// The frame that cannot be opened, if it is that.
    pub frame: Option<u16>,
    /// The storage did not give an answer, which says nothing about the pack.
    pub outage: bool,
}

/// Reads the pack at a place of the stock, and opens every frame of it that was not opened
/// already. `buffer` is memory that is used again.
pub(super) fn check_pack(
    repository: &Repository,
    stock: &Stock,
    place: u32,
    noted: &Noted,
    buffer: &mut Vec<u8>,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<PackDamage>, OpsError> {
    let known = stock.row(place)?;
    let mut damage = Vec::new();
    let info = match read_trailer(repository.storage(), repository.sealer(), &known.id) {
        Ok(info) if agrees(&known, &info) => Some(info),
        Ok(_) => {
            let why = "its trailer says something else than the index".into();
            damage.push(PackDamage { why, frame: None, outage: false });
            None
        }
        Err(error) => {
            damage.push(damage_of(error, "its trailer cannot be read", None)?);
            None
        }
    };
    if let Err(error) = check_header(repository, &known) {
        damage.push(damage_of(error, "its first bytes are wrong", None)?);
    }
    let frames = places(&known, info.as_ref()).into_iter().zip(0u16..);
    let frames: Vec<(FrameInfo, u16)> =
        frames.filter(|(frame, number)| !noted.has((place, *number), &frame.chunks)).collect();
    let mut rest = frames.as_slice();
    while let Some((first, _)) = rest.first() {
        let lies = |(frame, _): &(FrameInfo, _)| (place, span(frame.offset, frame.stored_len));
        let (count, len) = side_by_side(rest, lies);
        let (block, after) = rest.split_at(count);
        rest = after;
        let (start, storage) = (first.offset, repository.storage());
        let read = storage.get_range_into(&pack_key(&known.id), start.into(), len, buffer);
        progress(len as u64);
        for (frame, number) in block {
            let check = |bytes: &mut _| check_frame(repository, stock, place, &known, frame, bytes);
            let checked = match &read {
                Ok(()) => {
                    let from = (frame.offset - start) as usize;
                    let stored = buffer.get_mut(from..from + frame.stored_len as usize);
                    stored.ok_or(FormatError::Truncated("frame").into()).and_then(check)
                }
                // One unreadable sector does not hide its neighbours.
                Err(_) => read_frame(storage, &known.id, frame.offset, frame.stored_len)
                    .and_then(|mut stored| check(&mut stored)),
            };
            // If somebody needs one whose base is in no pack, the walk of needs says so.
            let lacks_base = |error: &_| {
                matches!(error, PackError::NoBase(_)) && !stock.is_usable((place, *number))
            };
            if let Err(error) = checked
                && !lacks_base(&error)
            {
                let what = format!("the frame at byte {} is damaged", frame.offset);
                damage.push(damage_of(error, &what, Some(*number))?);
            }
        }
    }
    Ok(damage)
}

/// What an error says of a pack. A storage that gives no answer now says nothing about any pack:
/// that ends the check, as it would otherwise find all of them damaged.
fn damage_of(error: PackError, what: &str, frame: Option<u16>) -> Result<PackDamage, OpsError> {
    if is_passing(&error) {
        return Err(RepoError::from(error).into());
    }
    let outage = is_outage(&error) || error.is_unknown();
    Ok(PackDamage { why: format!("{what}: {error}"), frame, outage })
}

fn agrees(known: &PackRow, info: &PackInfo) -> bool {
    let known_frames = known.frames.iter();
    known.len == info.len
        && known.kind == info.trailer.kind
        && known_frames.map(|f| (f.id, f.offset, f.stored_len, f.codec)).eq(info
            .trailer
            .frames
            .iter()
            .map(|f| (f.id, f.offset, f.stored_len, f.codec)))
}

fn check_header(repository: &Repository, known: &PackRow) -> Result<(), PackError> {
    let header = repository.storage().get_range(&pack_key(&known.id), 0, HEADER_LEN)?;
    match decode_header(&header)? == known.kind {
        true => Ok(()),
        false => Err(FormatError::Bad("kind of chunks").into()),
    }
}

/// The frames as the trailer says, or else as the index does, which does not know their chunks.
fn places(known: &PackRow, info: Option<&PackInfo>) -> Vec<FrameInfo> {
    match info {
        Some(info) => info.trailer.frames.clone(),
        None => known
            .frames
            .iter()
            .map(|frame| FrameInfo {
                id: frame.id,
                offset: frame.offset,
                stored_len: frame.stored_len,
                codec: frame.codec,
                chunks: Vec::new(),
            })
            .collect(),
    }
}

/// Where a frame lies in its pack.
pub(super) fn span(offset: u32, stored_len: u32) -> Range<u64> {
    offset.into()..u64::from(offset) + u64::from(stored_len)
}

/// How many frames from the first lie side by side and are read at once, and their bytes together.
/// `lies` gives a frame's pack and span.
pub(super) fn side_by_side<T>(
    frames: &[T],
    lies: impl Fn(&T) -> (u32, Range<u64>),
) -> (usize, usize) {
    let Some((pack, Range { start, mut end })) = frames.first().map(&lies) else { return (0, 0) };
    let joins = |frame: &&T| {
        let (of, next) = lies(frame);
        let joins = of == pack && next.start == end && next.end - start <= BLOCK_LEN;
        end = if joins { next.end } else { end };
        joins
    };
    let count = 1 + frames.iter().skip(1).take_while(joins).count();
    // Bounded by BLOCK_LEN and the length of one frame.
    (count, (end - start) as usize)
}

fn check_frame(
    repository: &Repository,
    stock: &Stock,
    place: u32,
    known: &PackRow,
    frame: &FrameInfo,
    bytes: &mut [u8],
) -> Result<(), PackError> {
    let opened = repository.open_frame(bytes)?;
    let checked = check_opened(repository, stock, place, known, frame, &opened);
    repository.give_back(opened.into());
    checked
}

fn check_opened(
    repository: &Repository,
    stock: &Stock,
    place: u32,
    known: &PackRow,
    frame: &FrameInfo,
    opened: &OpenedFrame,
) -> Result<(), PackError> {
    if opened.id != frame.id || opened.kind != known.kind {
        return Err(PackError::Misplaced(frame.id));
    }
    let named = |chunk: &[u8]| repository.chunk_id(known.kind, chunk);
    let mut expected = frame.chunks.iter();
    for chunk in opened.chunks() {
        // Where the trailer is lost, what the frame holds is at least looked for in the index.
        let right = match expected.next() {
            Some(expected) => named(chunk) == expected.id,
            None if frame.chunks.is_empty() => is_located(stock, place, &named(chunk)),
            None => false,
        };
        if !right {
            return Err(PackError::Misplaced(frame.id));
        }
    }
    match expected.next() {
        None => Ok(()),
        Some(_) => Err(FormatError::Bad("number of chunks").into()),
    }
}

fn is_located(stock: &Stock, pack: u32, id: &ChunkId) -> bool {
    let places = stock.known_places(id).unwrap_or_default();
    places.iter().any(|(place, _)| *place == pack)
}
