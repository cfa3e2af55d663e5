//! A run: a finished redb file.
//!
//! Packs stand in it one after the other, with their frames, and so do the ids of all chunks, in
//! the order in which they were stored: what lies together is read together. Beside them stands
//! the order of chunks and of frames by their ids, in rows of the same length, some hundred of
//! them in one value whose key is the ids' first bits: one look-up costs one value.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadOnlyDatabase, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::near::{Near, Spot};
use super::sort::{ROW_LEN, Row};
use super::{FrameRow, IndexError, Location, PackRow};
use crate::format::FormatError;
use crate::format::codec::{Put, Take};
use crate::format::frame::{ChunkKind, Codec};
use crate::format::pack::{ChunkInfo, FrameInfo, PackInfo, Trailer};
use crate::id::{ChunkId, FrameId, PackId, SegmentId, SnapshotId};
use crate::limits;

/// Rows in order, by the first bits of what they are about.
pub(super) type Order = TableDefinition<'static, u32, &'static [u8]>;

pub(super) const PACKS: TableDefinition<u32, &[u8]> = TableDefinition::new("packs");
/// All chunks as they are stored, so many in each value.
pub(super) const CHUNKS: TableDefinition<u32, &[u8]> = TableDefinition::new("chunks");
pub(super) const CHUNK_ORDER: Order = TableDefinition::new("order of chunks");
pub(super) const FRAME_ORDER: Order = TableDefinition::new("order of frames");
pub(super) const FACTS: TableDefinition<&str, &[u8]> = TableDefinition::new("facts");

/// Bytes of a chunk as it is stored: its id and its length.
pub(super) const CHUNK_LEN: usize = 32 + 4;
/// Chunks in one value: one page of redb's, almost filled.
pub(super) const SLAB_CHUNKS: usize = 112;
/// Of a chunk's id, so many bytes stand in its row. That is enough to tell any two apart, since
/// ids are keyed hashes; the whole id stands where the chunk does.
pub(super) const START_LEN: usize = 16;
/// Rows aimed at in a value: few values are longer than a page then.
const ROWS_TOGETHER: u64 = 112;
/// So many chunks before and behind one that was looked up are remembered with it.
const NEIGHBOURS: u32 = 128;
/// redb's own cache for one run, bytes; the page cache of the system does the rest.
pub(super) const CACHE_LEN: usize = 2 << 20;
/// Decoded packs that are remembered: neighbours of a chunk that was asked for come next.
const PACKS_REMEMBERED: usize = 64;
/// Changes when the layout of runs changes; others are built anew.
pub(super) const LAYOUT: &[u8] = b"holdall run 4";
/// Name of a finished run: `run-`, a random part, `.redb`.
pub(super) const SUFFIX: &str = ".redb";

/// How many keys so many rows are spread over.
pub(super) fn key_count(row_count: u64) -> u32 {
    u32::try_from(row_count.div_ceil(ROWS_TOGETHER)).unwrap_or(u32::MAX)
}

/// The key under which a row stands that begins with these bytes.
pub(super) fn row_key(start: &[u8], key_count: u32) -> u32 {
    let first = start.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    // The product has 64 bits, of which the upper half is wanted.
    ((u64::from(first) * u64::from(key_count)) >> 32) as u32
}

/// Numbers stand with the high byte first, so that rows in the order of their bytes are in the
/// order of packs.
pub(super) fn chunk_row(id: &ChunkId, pack: u32, frame: u16, position: u32, len: u32) -> Row {
    let mut row = [0; ROW_LEN];
    row[..START_LEN].copy_from_slice(&id.0[..START_LEN]);
    row[16..20].copy_from_slice(&pack.to_be_bytes());
    row[20..22].copy_from_slice(&frame.to_be_bytes());
    row[22..26].copy_from_slice(&position.to_be_bytes());
    row[26..].copy_from_slice(&len.to_be_bytes());
    row
}

pub(super) fn frame_row(id: &FrameId, pack: u32, frame: u16) -> Row {
    let mut row = [0; ROW_LEN];
    row[..FrameId::LEN].copy_from_slice(&id.0);
    row[24..28].copy_from_slice(&pack.to_be_bytes());
    row[28..].copy_from_slice(&frame.to_be_bytes());
    row
}

/// A copy of a chunk, as its row has it.
pub(super) struct ChunkRow {
    pub start: [u8; START_LEN],
    pub pack: u32,
    pub frame: u16,
    /// Its number among all chunks of the run, as they are stored.
    pub position: u32,
    pub len: u32,
}

impl ChunkRow {
    pub fn of(row: &Row) -> Self {
        let number =
            |at: usize| u32::from_be_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
        Self {
            start: std::array::from_fn(|at| row[at]),
            pack: number(16),
            frame: u16::from_be_bytes([row[20], row[21]]),
            position: number(22),
            len: number(26),
        }
    }
}

fn place_of(row: &Row) -> (u32, u16) {
    let [.., a, b, c, d, e, f] = *row;
    (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]))
}

/// What stands for a pack: the position of its first chunk, and how many chunks each frame has,
/// beside what it says of itself.
pub(super) fn encode_pack(pack: &PackRow, first: u64, frames: &[FrameInfo]) -> Vec<u8> {
    let mut out = pack.id.as_bytes().to_vec();
    out.put_varint(pack.len);
    out.put_u8(pack.kind as u8);
    out.extend_from_slice(pack.session.as_bytes());
    out.put_varint(first);
    out.put_varint(pack.frames.len() as u64);
    for (frame, info) in pack.frames.iter().zip(frames) {
        out.extend_from_slice(frame.id.as_bytes());
        out.put_u32(frame.offset);
        out.put_u32(frame.stored_len);
        frame.codec.encode(&mut out);
        out.put_varint(info.chunks.len() as u64);
    }
    out
}

/// A pack, and where its chunks stand.
struct KnownPack {
    row: Arc<PackRow>,
    /// Position of the first chunk of each frame, and of one behind the last.
    starts: Vec<u32>,
}

impl KnownPack {
    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut take = Take::new(bytes);
        let id = PackId(take.array("pack id")?);
        let len = take.varint("length")?;
        let kind = ChunkKind::decode(take.u8("kind")?)?;
        let session = SnapshotId(take.array("session")?);
        let mut position = take.varint32("position")?;
        let count = take.count(limits::PACK_FRAMES_MAX, "number of frames")?;
        let mut frames = Vec::with_capacity(count.min(take.rest().len() / 34));
        let mut starts = Vec::with_capacity(frames.capacity() + 1);
        for _ in 0..count {
            starts.push(position);
            frames.push(FrameRow {
                id: FrameId(take.array("frame id")?),
                offset: take.u32("offset")?,
                stored_len: take.u32("length")?,
                codec: Codec::decode(&mut take)?,
            });
            let chunks = take.varint32("number of chunks")?;
            position = position.checked_add(chunks).ok_or(FormatError::Bad("number of chunks"))?;
        }
        starts.push(position);
        Ok(Self { row: Arc::new(PackRow { id, len, kind, session, frames }), starts })
    }

    /// Positions of the chunks of a frame.
    fn frame(&self, frame: u16) -> Range<u32> {
        let start = |at: usize| self.starts.get(at).copied().unwrap_or(0);
        start(frame.into())..start(usize::from(frame) + 1)
    }
}

pub(super) fn encode_segments(segments: &BTreeMap<SegmentId, u32>) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, packs) in segments {
        out.extend_from_slice(id.as_bytes());
        out.put_u32(*packs);
    }
    out
}

fn decode_segments(bytes: &[u8]) -> Result<BTreeMap<SegmentId, u32>, FormatError> {
    let mut take = Take::new(bytes);
    let mut segments = BTreeMap::new();
    while !take.is_empty() {
        segments.insert(SegmentId(take.array("segment id")?), take.u32("number of packs")?);
    }
    Ok(segments)
}

/// A finished file with what a set of segments says.
pub(super) struct Run {
    path: PathBuf,
    packs: ReadOnlyTable<u32, &'static [u8]>,
    chunks: ReadOnlyTable<u32, &'static [u8]>,
    chunk_order: ReadOnlyTable<u32, &'static [u8]>,
    frame_order: ReadOnlyTable<u32, &'static [u8]>,
    facts: ReadOnlyTable<&'static str, &'static [u8]>,
    segments: BTreeMap<SegmentId, u32>,
    chunk_count: u64,
    frame_count: u64,
    pack_count: u32,
    remembered: Mutex<Vec<(u32, Arc<KnownPack>)>>,
    near: Mutex<Near>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({}, {} chunks)", self.path.display(), self.chunk_count)
    }
}

pub(super) fn cache_error(path: &Path, error: impl Into<redb::Error>) -> IndexError {
    let source = match error.into() {
        redb::Error::Io(source) => source,
        other => std::io::Error::other(other),
    };
    IndexError::Cache { path: path.into(), source }
}

/// Opens every run of a directory. One that cannot be read is removed: it is only a cache.
pub(super) fn open_all(directory: &Path) -> Result<Vec<Run>, IndexError> {
    let cache = |source| IndexError::Cache { path: directory.into(), source };
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(cache)? {
        let path = entry.map_err(cache)?.path();
        if !path.to_string_lossy().ends_with(SUFFIX) {
            continue;
        }
        match Run::open(&path) {
            Ok(run) => runs.push(run),
            // Somebody else has merged it just now.
            Err(_) if !path.exists() => {}
            Err(_) => std::fs::remove_file(&path).map_err(cache)?,
        }
    }
    Ok(runs)
}

impl Run {
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let error = |e: redb::Error| cache_error(path, e);
        let database: ReadOnlyDatabase = redb::Builder::new()
            .set_cache_size(CACHE_LEN)
            .open_read_only(path)
            .map_err(|e| error(e.into()))?;
        let read = database.begin_read().map_err(|e| error(e.into()))?;
        let facts = read.open_table(FACTS).map_err(|e| error(e.into()))?;
        let fact = |name: &str| -> Result<Vec<u8>, IndexError> {
            let value = facts.get(name).map_err(|e| error(e.into()))?;
            Ok(value.ok_or(FormatError::Bad("fact of a run"))?.value().to_vec())
        };
        if fact("layout")? != LAYOUT {
            return Err(FormatError::Bad("layout of a run").into());
        }
        let counts = fact("counts")?;
        let mut take = Take::new(&counts);
        let (chunk_count, frame_count) = (take.u64("chunk count")?, take.u64("frame count")?);
        let pack_count = take.u32("pack count")?;
        let segments = decode_segments(&fact("segments")?)?;
        let table = |table| read.open_table(table).map_err(|e| error(e.into()));
        Ok(Self {
            path: path.into(),
            packs: table(PACKS)?,
            chunks: table(CHUNKS)?,
            chunk_order: table(CHUNK_ORDER)?,
            frame_order: table(FRAME_ORDER)?,
            facts,
            segments,
            chunk_count,
            frame_count,
            pack_count,
            remembered: Mutex::default(),
            near: Mutex::default(),
        })
    }

    /// Deletes the file; those who have it open go on reading it.
    pub fn remove(self) {
        // Left over, it would be found superfluous again at the next opening.
        let _ = std::fs::remove_file(&self.path);
    }

    /// Whether it is a file of this directory, and not one in memory.
    pub fn is_in(&self, directory: &Path) -> bool {
        self.path.parent() == Some(directory)
    }

    pub fn segments(&self) -> &BTreeMap<SegmentId, u32> {
        &self.segments
    }

    /// Whether the run is of use while these segments are there. Segments are gone when packs of
    /// theirs are, so one whose segments are mostly gone, by packs, speaks mostly of nothing: it
    /// costs less to read again what is left.
    pub fn is_alive(&self, there: &BTreeSet<SegmentId>) -> bool {
        let packs = |is_there: bool| -> u64 {
            let segments = self.segments.iter().filter(|(id, _)| there.contains(id) == is_there);
            segments.map(|(_, packs)| u64::from(*packs)).sum()
        };
        let alive = packs(true);
        alive > 0 && packs(false) <= alive
    }

    /// Which segments name which packs: the packs' numbers, the segments' places in order.
    pub fn named(&self) -> Result<Vec<(u32, u32)>, IndexError> {
        let value = self.facts.get("named").map_err(|e| cache_error(&self.path, e))?;
        let value = value.ok_or(FormatError::Bad("fact of a run"))?;
        let pair = |bytes: &[u8; 8]| {
            let mut take = Take::new(bytes);
            Ok((take.u32("number of a pack")?, take.u32("segment")?))
        };
        value.value().as_chunks().0.iter().map(pair).collect()
    }

    /// Numbers of the packs that one of these segments names, in order.
    pub fn named_by(&self, segments: &BTreeSet<SegmentId>) -> Result<Vec<u32>, IndexError> {
        let wanted: Vec<bool> = self.segments.keys().map(|id| segments.contains(id)).collect();
        let mut named = self.named()?;
        named.retain(|(_, segment)| wanted.get(*segment as usize).copied().unwrap_or(false));
        let mut numbers: Vec<u32> = named.into_iter().map(|(number, _)| number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub fn chunk_count(&self) -> u64 {
        self.chunk_count
    }

    pub fn pack_count(&self) -> u32 {
        self.pack_count
    }

    /// Calls `each` with the rows that begin with these bytes, until it says stop.
    fn rows(
        &self,
        (order, row_count): (&ReadOnlyTable<u32, &'static [u8]>, u64),
        start: &[u8],
        each: &mut dyn FnMut(&Row) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        let value = order.get(row_key(start, key_count(row_count)));
        let Some(value) = value.map_err(|e| cache_error(&self.path, e))? else { return Ok(()) };
        let rows = value.value().as_chunks::<ROW_LEN>().0;
        let first = rows.partition_point(|row| row[..start.len()] < *start);
        for row in rows.iter().skip(first) {
            if !row.starts_with(start) || !each(row)? {
                break;
            }
        }
        Ok(())
    }

    /// A copy of a chunk that was near one that was looked up lately.
    pub fn near(&self, id: &ChunkId) -> Option<Spot> {
        self.near.lock().unwrap_or_else(PoisonError::into_inner).get(id)
    }

    /// Calls `each` with every copy of a chunk, until it says stop.
    pub fn spots(
        &self,
        id: &ChunkId,
        each: &mut dyn FnMut(Spot) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        let order = (&self.chunk_order, self.chunk_count);
        self.rows(order, &id.0[..START_LEN], &mut |row| match self.spot(id, &ChunkRow::of(row))? {
            Some(spot) => each(spot),
            None => Ok(true),
        })
    }

    /// The copy of a chunk that a row speaks of. What stands around it is remembered.
    fn spot(&self, id: &ChunkId, row: &ChunkRow) -> Result<Option<Spot>, IndexError> {
        let pack = self.known_pack(row.pack)?;
        if usize::from(row.frame) >= pack.row.frames.len() {
            return Err(FormatError::Bad("number of a frame").into());
        }
        // Where it lies in its frame is the length of all that is before it.
        let first = pack.frame(row.frame).start;
        let last = row.position.saturating_add(NEIGHBOURS);
        let end = pack.starts.last().copied().unwrap_or(0).min(last);
        let (mut frame, mut offset, mut found) = (row.frame, 0, None);
        let mut near = self.near.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spot) = near.get(id).filter(|spot| spot.position == row.position) {
            return Ok(Some(spot));
        }
        for (position, chunk) in (first..end).zip(self.chunk_infos(first..end)?) {
            while position >= pack.frame(frame).end {
                (frame, offset) = (frame + 1, 0);
            }
            let spot = Spot { pack: row.pack, frame, offset, len: chunk.len, position };
            if position == row.position {
                found = (chunk.id == *id).then_some(spot);
            }
            if position.abs_diff(row.position) <= NEIGHBOURS {
                near.put(chunk.id, spot);
            }
            offset = offset.saturating_add(chunk.len);
        }
        Ok(found)
    }

    /// The chunks at these positions.
    fn chunk_infos(&self, positions: Range<u32>) -> Result<Vec<ChunkInfo>, IndexError> {
        let mut found = Vec::with_capacity(positions.len());
        let mut next = positions.start as usize;
        while next < positions.end as usize {
            let slab = self.chunks.get((next / SLAB_CHUNKS) as u32);
            let slab = slab.map_err(|e| cache_error(&self.path, e))?;
            let slab = slab.ok_or(FormatError::Bad("position of a chunk"))?;
            let chunks = slab.value().as_chunks::<CHUNK_LEN>().0;
            let from = chunks.get(next % SLAB_CHUNKS..).unwrap_or_default();
            let some = from.get(..positions.end as usize - next).unwrap_or(from);
            if some.is_empty() {
                return Err(FormatError::Bad("position of a chunk").into());
            }
            for bytes in some {
                let mut take = Take::new(bytes);
                let id = ChunkId(take.array("chunk id")?);
                found.push(ChunkInfo { id, len: take.u32("length")? });
            }
            next += some.len();
        }
        Ok(found)
    }

    /// The id of the chunk at a position.
    pub fn id(&self, position: u32) -> Result<ChunkId, IndexError> {
        let infos = self.chunk_infos(position..position.saturating_add(1))?;
        Ok(infos.first().ok_or(FormatError::Bad("position of a chunk"))?.id)
    }

    pub fn location(&self, spot: &Spot) -> Result<Location, IndexError> {
        let pack = self.pack(spot.pack)?;
        Ok(Location { pack, frame: spot.frame.into(), offset: spot.offset, len: spot.len })
    }

    /// Every place where a frame lies.
    pub fn frames(
        &self,
        id: &FrameId,
        found: &mut Vec<(Arc<PackRow>, usize)>,
    ) -> Result<(), IndexError> {
        self.rows((&self.frame_order, self.frame_count), &id.0, &mut |row| {
            let (pack, frame) = place_of(row);
            found.push((self.pack(pack)?, frame.into()));
            Ok(true)
        })
    }

    pub fn pack(&self, number: u32) -> Result<Arc<PackRow>, IndexError> {
        Ok(self.known_pack(number)?.row.clone())
    }

    fn known_pack(&self, number: u32) -> Result<Arc<KnownPack>, IndexError> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = remembered.iter().position(|(n, _)| *n == number) {
            // The latest comes last, the first one goes.
            let found = remembered.remove(at);
            remembered.push(found.clone());
            return Ok(found.1);
        }
        let value = self.packs.get(number).map_err(|e| cache_error(&self.path, e))?;
        let value = value.ok_or(FormatError::Bad("number of a pack"))?;
        let pack = Arc::new(KnownPack::decode(value.value())?);
        if remembered.len() >= PACKS_REMEMBERED {
            remembered.remove(0);
        }
        remembered.push((number, pack.clone()));
        Ok(pack)
    }

    /// All that a pack says of itself.
    pub fn info(&self, number: u32) -> Result<PackInfo, IndexError> {
        let pack = self.known_pack(number)?;
        let positions = pack.frame(0).start..pack.starts.last().copied().unwrap_or(0);
        let mut chunks = self.chunk_infos(positions)?.into_iter();
        let frames = pack.row.frames.iter().zip(0u16..).map(|(frame, number)| {
            let FrameRow { id, offset, stored_len, codec } = *frame;
            let chunks = chunks.by_ref().take(pack.frame(number).len()).collect();
            FrameInfo { id, offset, stored_len, codec, chunks }
        });
        let frames = frames.collect();
        let PackRow { id, len, kind, session, .. } = *pack.row;
        Ok(PackInfo { id, len, trailer: Trailer { session, kind, frames } })
    }

    pub fn packs(&self, each: &mut dyn FnMut(u32, &Arc<PackRow>)) -> Result<(), IndexError> {
        for item in self.packs.range::<u32>(..).map_err(|e| cache_error(&self.path, e))? {
            let (number, value) = item.map_err(|e| cache_error(&self.path, e))?;
            each(number.value(), &KnownPack::decode(value.value())?.row);
        }
        Ok(())
    }

    /// The rows of all chunks in order, some of them at once.
    pub fn chunk_rows(
        &self,
    ) -> Result<impl Iterator<Item = Result<Vec<Row>, IndexError>> + '_, IndexError> {
        let range = self.chunk_order.range::<u32>(..).map_err(|e| cache_error(&self.path, e))?;
        Ok(range.map(|item| {
            let (_, value) = item.map_err(|e| cache_error(&self.path, e))?;
            Ok(value.value().as_chunks().0.to_vec())
        }))
    }
}
