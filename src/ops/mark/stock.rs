//! What is stored, seen at one moment: an index of one's own whose numbers stay, and the packs
//! that are there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::super::{OpsError, is_outage};
use super::Marks;
use crate::format::FormatError;
use crate::format::damage::Damage;
use crate::format::frame::{ChunkKind, Codec};
use crate::format::pack::{ChunkInfo, FrameInfo, PackInfo, Trailer};
use crate::id::{ChunkId, FrameId, NoteId, PackId, SegmentId, SnapshotId};
use crate::index::{Chunk, FrameRow, Index, IndexError, PackRow, Refreshed};
use crate::pack::{PackError, read_trailer};
use crate::progress::Silent;
use crate::repo::{RepoError, Repository};

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
    places: HashMap<PackId, u32>,
    /// The place of each pack by the index's number.
    numbers: Vec<u32>,
    /// A number that the index has for each pack, by place.
    rows: Vec<u32>,
    deltas: HashMap<Place, FrameId>,
    bases: HashMap<FrameId, Vec<Place>>,
    /// Frames that do not open, or that somebody found damaged.
    broken: HashSet<Place>,
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
        let listed: HashMap<PackId, u64> = repository.list_packs()?.into_iter().collect();
        let (unnamed, silent) = learn(repository, &mut index, &listed)?;
        index.fold()?;
        let mut stock = Self {
            packs: Vec::new(),
            silent,
            damaged,
            segments,
            records: Vec::new(),
            index,
            places: HashMap::new(),
            numbers: Vec::new(),
            rows: Vec::new(),
            deltas: HashMap::new(),
            bases: HashMap::new(),
            broken: HashSet::new(),
            present: Marks::default(),
        };
        stock.count_packs(&listed, &unnamed)?;
        stock.find_named()?;
        stock.find_damage(repository)?;
        stock.find_bases()?;
        stock.count_chunks()?;
        Ok(stock)
    }

    fn count_packs(
        &mut self,
        listed: &HashMap<PackId, u64>,
        unnamed: &HashSet<PackId>,
    ) -> Result<(), OpsError> {
        let Self { index, packs, places, numbers, rows, deltas, .. } = self;
        index.packs(&mut |index_number, row| {
            let number = index_number as usize;
            numbers.resize(number.max(numbers.len()), u32::MAX);
            // Two runs may know the same pack.
            let place = *places.entry(row.id).or_insert_with(|| {
                let place = packs.len() as u32;
                packs.push(stocked(row, listed, unnamed));
                rows.push(index_number);
                for (frame, info) in row.frames.iter().enumerate() {
                    if let Codec::Delta { base } = info.codec {
                        deltas.insert((place, frame as u16), base);
                    }
                }
                place
            });
            numbers.push(place);
        })?;
        Ok(())
    }

    fn find_named(&mut self) -> Result<(), OpsError> {
        let Self { index, packs, places, segments, .. } = self;
        index.packs_named(segments, &mut |row| {
            let pack = places.get(&row.id).and_then(|place| packs.get_mut(*place as usize));
            pack.into_iter().for_each(|pack| pack.named = true);
        })?;
        Ok(())
    }

    /// What somebody found damaged counts as if it were not there, and so does what lies behind
    /// the end of a pack that is too short.
    fn find_damage(&mut self, repository: &Repository) -> Result<(), OpsError> {
        let mut damaged: HashMap<PackId, HashSet<FrameId>> = HashMap::new();
        for pack in self.packs.iter().filter(|pack| pack.listed && !pack.whole) {
            damaged.insert(pack.id, HashSet::new());
        }
        self.records = repository.damage(&Silent::default())?;
        for (_, record) in &self.records {
            damaged.entry(record.pack).or_default().extend(&record.frames);
        }
        if damaged.is_empty() {
            return Ok(());
        }
        let Self { index, packs, places, broken, .. } = self;
        index.packs(&mut |_, row| {
            let Some((frames, place)) = damaged.get(&row.id).zip(places.get(&row.id)) else {
                return;
            };
            let pack = &mut packs[*place as usize];
            pack.damaged = true;
            let hit = |frame: &FrameRow| {
                let end = u64::from(frame.offset) + u64::from(frame.stored_len);
                frames.contains(&frame.id) || end > pack.len
            };
            let numbered = row.frames.iter().enumerate();
            let hit = numbered.filter(|(_, frame)| hit(frame));
            broken.extend(hit.map(|(number, _)| (*place, number as u16)));
        })?;
        Ok(())
    }

    /// Where the bases of delta frames lie.
    fn find_bases(&mut self) -> Result<(), OpsError> {
        let Self { index, places, deltas, bases, .. } = self;
        bases.extend(deltas.values().map(|base| (*base, Vec::new())));
        if bases.is_empty() {
            return Ok(());
        }
        index.packs(&mut |_, row| {
            let Some(pack) = places.get(&row.id) else { return };
            for (frame, info) in row.frames.iter().enumerate() {
                let place = (*pack, frame as u16);
                if let Some(found) = bases.get_mut(&info.id)
                    && !found.contains(&place)
                {
                    found.push(place);
                }
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
            && self.bases_of(place).is_none_or(|bases| bases.iter().any(|b| self.is_there(*b)))
    }

    fn is_there(&self, place: Place) -> bool {
        let pack = self.packs.get(place.0 as usize);
        pack.is_some_and(|pack| pack.listed) && !self.broken.contains(&place)
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
        now.retain(|(pack, _)| !packs.contains(pack));
        now.extend(broken);
        let news = now != self.broken;
        if news {
            self.broken = now;
            self.count_chunks()?;
        }
        Ok(news)
    }

    /// Whether a frame was found not to open.
    pub fn is_broken(&self, place: Place) -> bool {
        self.broken.contains(&place)
    }

    /// What the index, or its own trailer, says of a pack.
    pub fn row(&self, pack: u32) -> Result<Arc<PackRow>, OpsError> {
        let number = self.rows.get(pack as usize).ok_or(FormatError::Bad("number of a pack"));
        Ok(self.index.pack(*number.map_err(IndexError::from)?)?)
    }

    /// What a pack's trailer says, from what the index knows. A pass over all chunks: only a
    /// pack whose trailer is damaged needs it.
    pub fn describe(&self, pack: u32) -> Result<PackInfo, OpsError> {
        let row = self.row(pack)?;
        let mut ids = Vec::new();
        let mut places = Vec::new();
        self.index.chunks(&mut |chunk| {
            self.all_places(chunk, &mut places);
            if places.iter().any(|(place, _)| *place == pack) {
                ids.push(chunk.id);
            }
        })?;
        let mut chunks: Vec<Vec<(u32, ChunkInfo)>> = vec![Vec::new(); row.frames.len()];
        for id in ids {
            let here = self.index.locations(&id)?.into_iter().filter(|l| l.pack.id == row.id);
            for location in here {
                let chunk = ChunkInfo { id, len: location.len };
                let frame = chunks.get_mut(location.frame);
                frame.into_iter().for_each(|frame| frame.push((location.offset, chunk)));
            }
        }
        let frames = row.frames.iter().zip(chunks).map(|(frame, mut chunks)| {
            chunks.sort_by_key(|(offset, _)| *offset);
            chunks.dedup_by_key(|(offset, _)| *offset);
            let FrameRow { id, offset, stored_len, codec } = *frame;
            let chunks = chunks.into_iter().map(|(_, chunk)| chunk).collect();
            FrameInfo { id, offset, stored_len, codec, chunks }
        });
        let frames = frames.collect();
        let trailer = Trailer { session: row.session, kind: row.kind, frames };
        Ok(PackInfo { id: row.id, len: row.len, trailer })
    }

    /// The frame that a delta frame needs; `None` when it is no delta.
    pub fn base(&self, place: Place) -> Option<FrameId> {
        self.deltas.get(&place).copied()
    }

    /// Where the frame lies that a delta frame needs; `None` when it is no delta.
    pub fn bases_of(&self, place: Place) -> Option<&[Place]> {
        let base = self.base(place)?;
        Some(self.bases.get(&base).map(Vec::as_slice).unwrap_or_default())
    }

    /// Upper bound of the chunks' numbers.
    pub fn chunk_count(&self) -> u64 {
        self.index.chunk_count()
    }

    /// A chunk's number, if a pack that is there has it, and its base.
    pub fn number(&self, id: &ChunkId) -> Result<Option<u64>, OpsError> {
        Ok(self.index.number(id)?.filter(|number| self.present.get(*number)))
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
            places.extend(self.places.get(&location.pack.id).copied().zip(frame));
        }
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }
}

fn stocked(row: &PackRow, listed: &HashMap<PackId, u64>, unnamed: &HashSet<PackId>) -> StockedPack {
    let len = listed.get(&row.id).copied();
    StockedPack {
        id: row.id,
        len: len.unwrap_or(row.len),
        kind: row.kind,
        session: row.session,
        whole: len == Some(row.len),
        damaged: false,
        named: false,
        listed: len.is_some(),
        unnamed: unnamed.contains(&row.id),
        plain: 0,
    }
}

type Learned = (HashSet<PackId>, Vec<(PackId, u64, PackError)>);

/// Asks the packs that no segment names. Those of crashed sessions are the usual ones.
fn learn(
    repository: &Repository,
    index: &mut Index,
    listed: &HashMap<PackId, u64>,
) -> Result<Learned, OpsError> {
    let mut unnamed: HashSet<PackId> = listed.keys().copied().collect();
    index.packs(&mut |_, row| _ = unnamed.remove(&row.id))?;
    let mut silent = Vec::new();
    for id in unnamed.clone() {
        match read_trailer(repository.storage(), repository.sealer(), &id) {
            Ok(info) => index.learn(&[info])?,
            Err(PackError::Storage(error)) if error.is_not_found() => _ = unnamed.remove(&id),
            Err(error) if is_outage(&error) => return Err(RepoError::from(error).into()),
            Err(error) => {
                unnamed.remove(&id);
                silent.push((id, listed.get(&id).copied().unwrap_or(0), error));
            }
        }
    }
    Ok((unnamed, silent))
}
