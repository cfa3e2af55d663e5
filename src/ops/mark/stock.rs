//! What is stored, seen at one moment: an index of one's own whose numbers stay, and the packs
//! that are there.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::super::{OpsError, is_outage};
use super::Marks;
use crate::format::FormatError;
use crate::format::damage::Damage;
use crate::format::frame::{ChunkKind, Codec};
use crate::format::pack::PackInfo;
use crate::id::{ChunkId, FrameId, NoteId, PackId, SegmentId, SnapshotId};
use crate::index::{Chunk, FrameRow, Index, IndexError, PackRow, Refreshed};
use crate::pack::{PackError, read_trailer};
use crate::progress::Silent;
use crate::repo::{RepoError, Repository, listed_len};

/// So many bases are looked for at once: 24 bytes each, and as much again for where they lie.
const BASES_AT_ONCE: usize = 1 << 20;

/// A frame: the place of its pack in `Stock::packs`, and its number there.
pub type Place = (u32, u16);

/// A pack that is there, or that the index knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockedPack {
    /// The pack.
    pub id: PackId,
    /// Its length as it is listed, else as the index has it; bytes.
    pub len: u64,
    /// What its chunks are.
    pub kind: ChunkKind,
    /// The session that wrote it.
    pub session: SnapshotId,
    /// It is listed, as long as it should be.
    pub whole: bool,
    /// It is listed.
    pub listed: bool,
    /// Something in it is damaged, or somebody found it so: what is good is to be moved out.
    pub damaged: bool,
    /// A segment that is there names it.
    pub named: bool,
    /// Only its own trailer speaks of it, no segment.
    pub unnamed: bool,
    /// Bytes of its chunks.
    pub plain: u64,
}

/// What is stored.
#[derive(Debug)]
pub struct Stock {
    /// Every pack that the index or its own trailer describes.
    pub packs: Vec<StockedPack>,
    /// Packs that are listed and that nothing describes, with their length and why.
    pub silent: Vec<(PackId, u64, PackError)>,
    /// Segments that are there and cannot be read.
    pub damaged: Vec<(SegmentId, IndexError)>,
    /// Segments that are there.
    pub segments: BTreeSet<SegmentId>,
    /// What was found damaged so far.
    pub records: Vec<(NoteId, Damage)>,
    index: Index,
    /// Places of the packs in the order of their ids.
    by_id: Vec<u32>,
    /// The place of each pack by the index's number.
    numbers: Vec<u32>,
    /// A number that the index has for each pack, by place.
    rows: Vec<u32>,
    /// The number of the first frame of each pack, by place, and of one behind the last.
    frame_starts: Vec<u32>,
    /// Numbers of the delta frames, in order, each with the number of its base.
    deltas: Vec<(u32, u32)>,
    /// Where the bases lie, in order of their numbers.
    bases: Vec<(u32, Place)>,
    /// Frames that do not open, or that somebody found damaged, by number.
    broken: Marks,
    present: Marks,
}

impl Stock {
    /// Reads the index, then lists the packs, then asks those that no segment names themselves.
    pub fn take(repository: &Repository) -> Result<Self, OpsError> {
        // New segments are read once, by the index that all share. Others may fold that one at
        // any time, and its numbers change with it: the one whose numbers count is our own.
        repository.refresh_index()?;
        repository.with_index_mut(Index::fold)?;
        let mut index = Index::open(&repository.environment().cache)?;
        let Refreshed { damaged, segments } =
            index.refresh(repository.storage(), repository.sealer())?;
        let listed = repository.list_packs()?;
        let (unnamed, silent) = learn(repository, &mut index, &listed)?;
        index.fold()?;
        let mut stock = Self {
            packs: Vec::new(),
            silent,
            damaged,
            segments,
            records: Vec::new(),
            index,
            by_id: Vec::new(),
            numbers: Vec::new(),
            rows: Vec::new(),
            frame_starts: Vec::new(),
            deltas: Vec::new(),
            bases: Vec::new(),
            broken: Marks::default(),
            present: Marks::default(),
        };
        stock.count_packs(&listed, &unnamed)?;
        drop((listed, unnamed));
        stock.find_named()?;
        stock.find_damage(repository)?;
        stock.find_bases()?;
        stock.count_chunks()?;
        Ok(stock)
    }

    fn count_packs(
        &mut self,
        listed: &[(PackId, u64)],
        unnamed: &[PackId],
    ) -> Result<(), OpsError> {
        let mut ids = Vec::with_capacity(self.index.pack_count() as usize);
        self.index.packs(&mut |number, row| ids.push((row.id, number)))?;
        ids.sort_unstable();
        // Two runs may know the same pack: its lowest number counts.
        let mut firsts = vec![u32::MAX; ids.len()];
        for same in ids.chunk_by(|(a, _), (b, _)| a == b) {
            for (_, number) in same {
                firsts[*number as usize] = same[0].1;
            }
        }
        ids.dedup_by_key(|(id, _)| *id);
        let Self { index, packs, by_id, numbers, rows, frame_starts, deltas, .. } = self;
        packs.reserve_exact(ids.len());
        let mut frame_count = 0u32;
        index.packs(&mut |number, row| {
            let first = firsts[number as usize];
            if first < number {
                numbers.push(numbers[first as usize]);
                return;
            }
            numbers.push(packs.len() as u32);
            packs.push(stocked(row, listed, unnamed));
            rows.push(number);
            frame_starts.push(frame_count);
            for info in &row.frames {
                if let Codec::Delta { .. } = info.codec {
                    deltas.push((frame_count, u32::MAX));
                }
                frame_count += 1;
            }
        })?;
        frame_starts.push(frame_count);
        by_id.extend(ids.iter().map(|(_, number)| numbers[*number as usize]));
        Ok(())
    }

    fn find_named(&mut self) -> Result<(), OpsError> {
        let Self { index, packs, by_id, segments, .. } = self;
        index.packs_named(segments, &mut |row| {
            let pack = place_in(by_id, packs, &row.id).and_then(|at| packs.get_mut(at as usize));
            pack.into_iter().for_each(|pack| pack.named = true);
        })?;
        Ok(())
    }

    /// What somebody found damaged counts as if it were not there, and so does what lies behind
    /// the end of a pack that is too short.
    fn find_damage(&mut self, repository: &Repository) -> Result<(), OpsError> {
        self.broken = Marks::new(self.frame_count());
        self.records = repository.damage(&Silent::default())?;
        for pack in &mut self.packs {
            pack.damaged = pack.listed && !pack.whole;
        }
        let mut frames = Vec::new();
        for (_, record) in &self.records {
            if let Some(place) = place_in(&self.by_id, &self.packs, &record.pack) {
                self.packs[place as usize].damaged = true;
                frames.extend(record.frames.iter().map(|frame| (place, *frame)));
            }
        }
        frames.sort_unstable();
        for (place, pack) in (0u32..).zip(&self.packs).filter(|(_, pack)| pack.damaged) {
            let row = self.row(place)?;
            for (info, number) in row.frames.iter().zip(0u16..) {
                let end = u64::from(info.offset) + u64::from(info.stored_len);
                if end > pack.len || frames.binary_search(&(place, info.id)).is_ok() {
                    self.broken.set(self.frame_number((place, number)));
                }
            }
        }
        Ok(())
    }

    /// Where the bases of delta frames lie: some of them at once, by the first byte of their ids,
    /// so that a table of all ids is never needed.
    fn find_bases(&mut self) -> Result<(), OpsError> {
        let parts = self.deltas.len().div_ceil(BASES_AT_ONCE).min(256);
        let mut first = 0u32;
        for part in 0..parts {
            let in_part = |id: &FrameId| usize::from(id.0[0]) * parts / 256 == part;
            let base_of = |frame: &FrameRow| match frame.codec {
                Codec::Delta { base } if in_part(&base) => Some(base),
                _ => None,
            };
            let mut ids = Vec::new();
            self.each_frame(&mut |_, _, frame| ids.extend(base_of(frame)))?;
            ids.sort_unstable();
            ids.dedup();
            let number = |id: &FrameId| ids.binary_search(id).ok().map(|at| first + at as u32);
            let (mut deltas, mut bases) = (Vec::new(), Vec::new());
            self.each_frame(&mut |place, at, frame| {
                deltas.extend(base_of(frame).and_then(|base| Some((at, number(&base)?))));
                if in_part(&frame.id) {
                    bases.extend(number(&frame.id).map(|number| (number, place)));
                }
            })?;
            for (frame, base) in deltas {
                if let Ok(at) = self.deltas.binary_search_by_key(&frame, |(frame, _)| *frame) {
                    self.deltas[at].1 = base;
                }
            }
            bases.sort_unstable();
            self.bases.extend(bases);
            first += ids.len() as u32;
        }
        Ok(())
    }

    /// Calls `each` with every frame, its place and its number.
    fn each_frame(&self, each: &mut dyn FnMut(Place, u32, &FrameRow)) -> Result<(), OpsError> {
        self.index.packs(&mut |number, row| {
            let place = self.numbers[number as usize];
            if self.rows[place as usize] == number {
                let frames = row.frames.iter().zip(0u16..).zip(self.frame_starts[place as usize]..);
                frames.for_each(|((frame, at), number)| each((place, at), number, frame));
            }
        })?;
        Ok(())
    }

    fn count_chunks(&mut self) -> Result<(), OpsError> {
        let mut present = Marks::new(self.index.chunk_count());
        let mut plain = vec![0u64; self.packs.len()];
        let mut copies = Vec::new();
        self.index.chunks(&mut |chunk| {
            self.all_places(chunk, &mut copies);
            for (pack, _) in &copies {
                plain[*pack as usize] += u64::from(chunk.len);
            }
            if copies.iter().any(|place| self.is_usable(*place)) {
                present.set(chunk.number);
            }
        })?;
        self.present = present;
        self.packs.iter_mut().zip(plain).for_each(|(pack, plain)| pack.plain = plain);
        Ok(())
    }

    fn all_places(&self, chunk: &Chunk, places: &mut Vec<Place>) {
        places.clear();
        let known = |number: u32| self.numbers.get(number as usize).copied();
        let found =
            chunk.packs.iter().filter_map(|(number, frame)| Some((known(*number)?, *frame)));
        places.extend(found.filter(|(pack, _)| (*pack as usize) < self.packs.len()));
        places.sort_unstable();
        places.dedup();
    }

    /// Whether what lies there can be read: its pack is there, and so is the base of its frame.
    pub fn is_usable(&self, place: Place) -> bool {
        self.is_there(place)
            && self.bases_of(place).is_none_or(|mut bases| bases.any(|base| self.is_there(base)))
    }

    fn is_there(&self, place: Place) -> bool {
        let pack = self.packs.get(place.0 as usize);
        pack.is_some_and(|pack| pack.listed) && !self.is_broken(place)
    }

    /// Fails if something is only not understood here, so that nothing is removed for that: it may
    /// be sealed with keys, or written in a format, of later than this program.
    pub fn require_known(&mut self) -> Result<(), OpsError> {
        if let Some(at) = self.damaged.iter().position(|(_, error)| error.is_unknown()) {
            return Err(self.damaged.swap_remove(at).1.into());
        }
        match self.silent.iter().position(|(.., error)| error.is_unknown()) {
            None => Ok(()),
            Some(at) => Err(RepoError::from(self.silent.swap_remove(at).2).into()),
        }
    }

    /// Takes over what was seen when these packs were read: their frames that do not open count
    /// as not there, and the others as there, whatever was found earlier.
    /// Says whether that is news.
    pub fn observe(&mut self, packs: &HashSet<u32>, broken: &[Place]) -> Result<bool, OpsError> {
        let mut now = self.broken.clone();
        for pack in packs {
            self.frames_of(*pack).for_each(|frame| now.unset(frame.into()));
        }
        for place in broken {
            now.set(self.frame_number(*place));
        }
        let news = now != self.broken;
        if news {
            self.broken = now;
            self.count_chunks()?;
        }
        Ok(news)
    }

    /// Whether a frame was found not to open.
    pub fn is_broken(&self, place: Place) -> bool {
        self.broken.get(self.frame_number(place))
    }

    /// The place of a pack.
    pub fn place(&self, id: &PackId) -> Option<u32> {
        place_in(&self.by_id, &self.packs, id)
    }

    /// How many frames there are, for bit maps.
    pub fn frame_count(&self) -> u64 {
        self.frame_starts.last().copied().unwrap_or(0).into()
    }

    /// The number of a frame among all; `u64::MAX` where there is none.
    pub fn frame_number(&self, (pack, frame): Place) -> u64 {
        let number = self.frames_of(pack).nth(frame.into());
        number.map_or(u64::MAX, u64::from)
    }

    fn frames_of(&self, pack: u32) -> Range<u32> {
        let start = |place: usize| self.frame_starts.get(place).copied().unwrap_or(0);
        start(pack as usize)..start(pack as usize + 1)
    }

    /// What the index, or its own trailer, says of a pack.
    pub fn row(&self, pack: u32) -> Result<Arc<PackRow>, OpsError> {
        Ok(self.index.pack(self.index_number(pack)?)?)
    }

    /// What a pack's trailer says, from what the index knows.
    pub fn describe(&self, pack: u32) -> Result<PackInfo, OpsError> {
        Ok(self.index.pack_info(self.index_number(pack)?)?)
    }

    fn index_number(&self, pack: u32) -> Result<u32, OpsError> {
        let number = self.rows.get(pack as usize).copied();
        Ok(number.ok_or(IndexError::from(FormatError::Bad("number of a pack")))?)
    }

    /// The frame that a delta frame needs; `None` when it is no delta.
    pub fn base(&self, place: Place) -> Result<Option<FrameId>, OpsError> {
        if !self.is_delta(place) {
            return Ok(None);
        }
        let row = self.row(place.0)?;
        Ok(row.frames.get(usize::from(place.1)).and_then(|frame| match frame.codec {
            Codec::Delta { base } => Some(base),
            _ => None,
        }))
    }

    fn base_number(&self, place: Place) -> Option<u32> {
        // No delta is the usual case.
        if self.deltas.is_empty() {
            return None;
        }
        let frame = self.frame_number(place);
        let at = self.deltas.binary_search_by_key(&frame, |(frame, _)| (*frame).into()).ok()?;
        self.deltas.get(at).map(|(_, base)| *base)
    }

    /// Whether it is a delta frame.
    pub fn is_delta(&self, place: Place) -> bool {
        self.base_number(place).is_some()
    }

    /// Where the frame lies that a delta frame needs; `None` when it is no delta.
    pub fn bases_of(&self, place: Place) -> Option<impl Iterator<Item = Place>> {
        self.base_number(place).map(|base| self.places_of_base(base))
    }

    fn places_of_base(&self, base: u32) -> impl Iterator<Item = Place> {
        let from = self.bases.partition_point(|(number, _)| *number < base);
        let rest = self.bases.get(from..).unwrap_or_default().iter();
        rest.take_while(move |(number, _)| *number == base).map(|(_, place)| *place)
    }

    /// Every delta frame's number, with the places of its base.
    pub fn deltas(&self) -> impl Iterator<Item = (u64, impl Iterator<Item = Place>)> {
        self.deltas.iter().map(|(frame, base)| ((*frame).into(), self.places_of_base(*base)))
    }

    /// Upper bound of the chunks' numbers.
    pub fn chunk_count(&self) -> u64 {
        self.index.chunk_count()
    }

    /// A chunk's number, if a pack that is there has it, and its base.
    pub fn number(&self, id: &ChunkId) -> Result<Option<u64>, OpsError> {
        // Of several copies only the one whose number counts is ever marked as present.
        Ok(self.index.number_where(id, |number| self.present.get(number))?)
    }

    /// Calls `each` with every chunk and all places where it can be read, in order; at least one.
    pub fn chunks(&self, each: &mut dyn FnMut(&Chunk, &[Place])) -> Result<(), OpsError> {
        let mut places = Vec::new();
        self.index.chunks(&mut |chunk| {
            self.all_places(chunk, &mut places);
            places.retain(|place| self.is_usable(*place));
            if !places.is_empty() {
                each(chunk, &places);
            }
        })?;
        Ok(())
    }

    /// All places where a chunk can be read, in order.
    pub fn copies(&self, id: &ChunkId) -> Result<Vec<Place>, OpsError> {
        let mut places = self.known_places(id)?;
        places.retain(|place| self.is_usable(*place));
        Ok(places)
    }

    /// All places where a chunk should lie, in order, whether they can be read or not.
    pub fn known_places(&self, id: &ChunkId) -> Result<Vec<Place>, OpsError> {
        let mut places = Vec::new();
        for location in self.index.locations(id)? {
            let frame = u16::try_from(location.frame).ok();
            places.extend(self.place(&location.pack.id).zip(frame));
        }
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }
}

fn place_in(by_id: &[u32], packs: &[StockedPack], id: &PackId) -> Option<u32> {
    let id_at = |place: &u32| packs.get(*place as usize).map(|pack| pack.id);
    let at = by_id.binary_search_by_key(&Some(*id), id_at).ok()?;
    by_id.get(at).copied()
}

fn stocked(row: &PackRow, listed: &[(PackId, u64)], unnamed: &[PackId]) -> StockedPack {
    let len = listed_len(listed, &row.id);
    StockedPack {
        id: row.id,
        len: len.unwrap_or(row.len),
        kind: row.kind,
        session: row.session,
        whole: len == Some(row.len),
        damaged: false,
        named: false,
        listed: len.is_some(),
        unnamed: unnamed.binary_search(&row.id).is_ok(),
        plain: 0,
    }
}

type Learned = (Vec<PackId>, Vec<(PackId, u64, PackError)>);

/// Asks the packs that no segment names; those that answer come in order. Those of crashed
/// sessions are the usual ones.
fn learn(
    repository: &Repository,
    index: &mut Index,
    listed: &[(PackId, u64)],
) -> Result<Learned, OpsError> {
    let (mut unnamed, mut silent) = (Vec::new(), Vec::new());
    for (id, len) in index.unknown_of(listed)? {
        match read_trailer(repository.storage(), repository.sealer(), &id) {
            Ok(info) => {
                index.learn(&[info])?;
                unnamed.push(id);
            }
            Err(PackError::Storage(error)) if error.is_not_found() => {}
            Err(error) if is_outage(&error) => return Err(RepoError::from(error).into()),
            Err(error) => silent.push((id, len, error)),
        }
    }
    Ok((unnamed, silent))
}
