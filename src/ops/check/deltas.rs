//! Delta frames, opened before the packs are read, in the order in which their bases lie: so each
//! base is opened once, for its own chunks and for all deltas on it.
//!
//! What opens is noted, and passed over in its pack if it holds what the trailer says. All else is
//! left for there: what is wrong is found and told in one place.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::super::mark::{Place, Stock};
use super::super::parallel::each_in_parallel;
use super::super::{OpsError, is_passing};
use super::choose::Candidate;
use super::packs::{side_by_side, span};
use crate::format::FormatError;
use crate::format::pack::{ChunkInfo, pack_key};
use crate::id::ChunkId;
use crate::index::FrameRow;
use crate::pack::{OpenedFrame, PackError};
use crate::progress::{Counter, Progress};
use crate::repo::Repository;

/// So many frames are noted at most, in some megabytes; deltas beyond them are opened one by one.
const NOTED_MAX: usize = 1 << 17;
/// Bases that a thread takes at a time: frames of a pack with numbers that begin alike.
const BASES_AT_ONCE: u16 = 8;

/// Frames that were opened ahead of their packs, each with a hash of the names of its chunks.
#[derive(Default)]
pub(super) struct Noted(HashMap<Place, [u8; 32]>);

impl Noted {
    /// Whether a frame was opened and holds these chunks.
    pub fn has(&self, place: Place, chunks: &[ChunkInfo]) -> bool {
        let noted = self.0.get(&place);
        noted.is_some_and(|noted| *noted == hash_of(chunks.iter().map(|chunk| chunk.id)))
    }

    /// Keeps what lies in packs that are still to be read.
    pub fn keep(&mut self, left: &HashSet<u32>) {
        self.0.retain(|(pack, _), _| left.contains(pack));
    }
}

fn hash_of(chunks: impl Iterator<Item = ChunkId>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    chunks.for_each(|id| _ = hasher.update(id.as_bytes()));
    hasher.finalize().into()
}

/// A frame and where it lies.
#[derive(Clone, Copy)]
struct Frame {
    place: Place,
    row: FrameRow,
}

/// A delta frame, and where its base lies.
struct Delta {
    base: Place,
    frame: Frame,
}

/// Opens the delta frames of some packs with their bases. `left` are the packs that are still to
/// be read, these among them.
pub(super) fn open_ahead(
    repository: &Repository,
    stock: &Stock,
    (some, left): (&[Candidate], &HashSet<u32>),
    noted: &mut Noted,
    progress: &dyn Progress,
) -> Result<(), OpsError> {
    let deltas = find(stock, some, (NOTED_MAX - noted.0.len().min(NOTED_MAX)) / 2)?;
    let near = |a: &Delta, b: &Delta| {
        a.base.0 == b.base.0 && a.base.1 / BASES_AT_ONCE == b.base.1 / BASES_AT_ONCE
    };
    let parts: Vec<&[Delta]> = deltas.chunk_by(near).collect();
    let (frames, is_out) = (Mutex::new(&mut noted.0), AtomicBool::new(false));
    each_in_parallel(repository.environment().threads, &parts, |part, buffers| {
        if progress.cancelled() || is_out.load(Ordering::Relaxed) {
            return;
        }
        let note = |frame: &Frame, opened: &OpenedFrame| {
            if left.contains(&frame.place.0) {
                let ids = opened.chunks().map(|chunk| repository.chunk_id(opened.kind, chunk));
                let hash = hash_of(ids);
                frames.lock().unwrap_or_else(PoisonError::into_inner).insert(frame.place, hash);
                progress.add(Counter::StoredBytes, frame.row.stored_len.into());
            }
        };
        let opening = Opening { repository, stock, note: &note };
        // Whatever fails here fails again where it is told, and ends the check if it may pass.
        if opening.open(part, buffers).is_err_and(|error| is_passing(&error)) {
            is_out.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// The delta frames of some packs, in the order of their bases.
fn find(stock: &Stock, some: &[Candidate], count_max: usize) -> Result<Vec<Delta>, OpsError> {
    let mut found = Vec::new();
    if stock.deltas().next().is_none() {
        return Ok(found);
    }
    for pack in some {
        for (row, number) in stock.row(pack.place)?.frames.iter().zip(0u16..) {
            let place = (pack.place, number);
            let bases = stock.bases_of(place).into_iter().flatten();
            let base = { bases }.find(|base| stock.is_usable(*base));
            found.extend(base.map(|base| Delta { base, frame: Frame { place, row: *row } }));
        }
        if found.len() >= count_max {
            found.truncate(count_max);
            break;
        }
    }
    found.sort_unstable_by_key(|delta| (delta.base, delta.frame.place));
    Ok(found)
}

/// Opens deltas and their bases.
struct Opening<'a> {
    repository: &'a Repository,
    stock: &'a Stock,
    /// Takes what opens.
    note: &'a dyn Fn(&Frame, &OpenedFrame),
}

impl Opening<'_> {
    /// Deltas on bases in one pack, in the order of these; one base is open at a time.
    fn open(&self, part: &[Delta], buffers: &mut [Vec<u8>; 2]) -> Result<(), PackError> {
        let Some((pack, _)) = part.first().map(|delta| delta.base) else { return Ok(()) };
        let Ok(known) = self.stock.row(pack) else { return Ok(()) };
        let same_base: Vec<(Frame, &[Delta])> = part
            .chunk_by(|a, b| a.base == b.base)
            .filter_map(|same| {
                let place = same.first()?.base;
                Some((Frame { place, row: *known.frames.get(usize::from(place.1))? }, same))
            })
            .collect();
        let bases: Vec<Frame> = same_base.iter().map(|(base, _)| *base).collect();
        let deltas: Vec<Frame> = part.iter().map(|delta| delta.frame).collect();
        let [of_bases, of_deltas] = buffers;
        let mut bases = Reading::new(self, &bases, of_bases);
        let mut deltas = Reading::new(self, &deltas, of_deltas);
        for (base, same) in same_base {
            let base = self.open_frame(&base, bases.next()?, None);
            for delta in same {
                let stored = deltas.next()?;
                if let Some(base) = &base {
                    let delta = self.open_frame(&delta.frame, stored, Some(base));
                    self.give_back(delta);
                }
            }
            self.give_back(base);
        }
        Ok(())
    }

    /// Opens a frame, and notes it if it is the one that shall lie there.
    fn open_frame(
        &self,
        frame: &Frame,
        stored: &mut [u8],
        base: Option<&OpenedFrame>,
    ) -> Option<OpenedFrame> {
        let kind = self.stock.packs.get(frame.place.0 as usize)?.kind;
        let base = |id: &_| base.ok_or(PackError::NoBase(*id));
        let opened = self.repository.open_frame_on(stored, base).ok()?;
        if (opened.id, opened.kind) != (frame.row.id, kind) {
            return None;
        }
        (self.note)(frame, &opened);
        Some(opened)
    }

    fn give_back(&self, frame: Option<OpenedFrame>) {
        frame.into_iter().for_each(|frame| self.repository.give_back(frame.into()));
    }
}

/// Frames read one after the other: those that lie side by side at once.
struct Reading<'a> {
    opening: &'a Opening<'a>,
    /// Those that were not given yet.
    frames: &'a [Frame],
    buffer: &'a mut Vec<u8>,
    /// What of the buffer was not given yet.
    rest: Range<usize>,
}

impl<'a> Reading<'a> {
    fn new(opening: &'a Opening<'a>, frames: &'a [Frame], buffer: &'a mut Vec<u8>) -> Self {
        Self { opening, frames, buffer, rest: 0..0 }
    }

    /// The stored bytes of the next one.
    fn next(&mut self) -> Result<&mut [u8], PackError> {
        let none = || FormatError::Truncated("frame");
        let (Frame { place: (pack, _), row }, after) =
            self.frames.split_first().ok_or_else(none)?;
        if self.rest.is_empty() {
            let Opening { repository, stock, .. } = self.opening;
            let pack = stock.packs.get(*pack as usize).ok_or_else(none)?;
            let lies = |of: &Frame| (of.place.0, span(of.row.offset, of.row.stored_len));
            let (_, len) = side_by_side(self.frames, lies);
            let storage = repository.storage();
            storage.get_range_into(&pack_key(&pack.id), row.offset.into(), len, self.buffer)?;
            self.rest = 0..len;
        }
        self.frames = after;
        let start = self.rest.start;
        self.rest.start += row.stored_len as usize;
        self.buffer.get_mut(start..self.rest.start).ok_or_else(|| none().into())
    }
}
