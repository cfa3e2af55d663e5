//! A run: a finished redb file. Chunks stand in rows of some fifty, ordered by id; a row's key is
//! the ids' first bits. One row costs one look-up, and building costs one insertion a row.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadOnlyDatabase, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::{ChunkRow, FrameRow, IndexError, Location, PackRow};
use crate::format::FormatError;
use crate::format::codec::{Put, Take};
use crate::format::frame::{ChunkKind, Codec};
use crate::id::{ChunkId, FrameId, PackId, SegmentId, SnapshotId};
use crate::limits;

pub(super) const CHUNKS: TableDefinition<u32, &[u8]> = TableDefinition::new("chunks");
pub(super) const PACKS: TableDefinition<u32, &[u8]> = TableDefinition::new("packs");
pub(super) const FACTS: TableDefinition<&str, &[u8]> = TableDefinition::new("facts");

/// Bytes of a chunk in a row.
pub(super) const ROW_LEN: usize = 32 + 4 + 2 + 4 + 4;
/// Bytes before the chunks of a row: the number of the first of them.
pub(super) const ROW_START_LEN: usize = 8;
/// Chunks aimed at in a row.
const ROW_CHUNKS: u64 = 48;
/// redb's own cache for one run, bytes; the page cache of the system does the rest.
pub(super) const CACHE_LEN: usize = 2 << 20;
/// Decoded packs that are remembered: neighbours of a chunk that was asked for come next.
const PACKS_REMEMBERED: usize = 64;
/// Changes when the layout of runs changes; others are built anew.
pub(super) const LAYOUT: &[u8] = b"holdall run 3";
/// Name of a finished run: `run-`, a random part, `.redb`.
pub(super) const SUFFIX: &str = ".redb";

/// How many of an id's bits make a row's key, for so many chunks.
pub(super) fn key_bits(chunk_count: u64) -> u32 {
    (chunk_count / ROW_CHUNKS).checked_ilog2().map_or(0, |bits| (bits + 1).min(32))
}

/// The row that a chunk is in.
pub(super) fn row_key(id: &ChunkId, bits: u32) -> u32 {
    let [a, b, c, d, ..] = id.0;
    u32::from_be_bytes([a, b, c, d]).checked_shr(32 - bits).unwrap_or(0)
}

pub(super) fn encode_row(row: &ChunkRow, out: &mut Vec<u8>) {
    out.extend_from_slice(row.id.as_bytes());
    out.put_u32(row.pack);
    out.put_u16(row.frame);
    out.put_u32(row.offset);
    out.put_u32(row.len);
}

pub(super) fn decode_row(bytes: &[u8]) -> Result<ChunkRow, FormatError> {
    let mut take = Take::new(bytes);
    Ok(ChunkRow {
        id: ChunkId(take.array("chunk id")?),
        pack: take.u32("pack")?,
        frame: take.u16("frame")?,
        offset: take.u32("offset")?,
        len: take.u32("length")?,
    })
}

pub(super) fn encode_pack(pack: &PackRow) -> Vec<u8> {
    let mut out = pack.id.as_bytes().to_vec();
    out.put_varint(pack.len);
    out.put_u8(pack.kind as u8);
    out.extend_from_slice(pack.session.as_bytes());
    out.put_varint(pack.frames.len() as u64);
    for frame in &pack.frames {
        out.extend_from_slice(frame.id.as_bytes());
        out.put_u32(frame.offset);
        out.put_u32(frame.stored_len);
        frame.codec.encode(&mut out);
    }
    out
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

fn decode_pack(bytes: &[u8]) -> Result<PackRow, FormatError> {
    let mut take = Take::new(bytes);
    let id = PackId(take.array("pack id")?);
    let len = take.varint("length")?;
    let kind = ChunkKind::decode(take.u8("kind")?)?;
    let session = SnapshotId(take.array("session")?);
    let count = take.count(limits::PACK_FRAMES_MAX, "number of frames")?;
    let frames = (0..count).map(|_| {
        Ok(FrameRow {
            id: FrameId(take.array("frame id")?),
            offset: take.u32("offset")?,
            stored_len: take.u32("length")?,
            codec: Codec::decode(&mut take)?,
        })
    });
    let frames = frames.collect::<Result<_, FormatError>>()?;
    Ok(PackRow { id, len, kind, session, frames })
}

/// A finished file with what a set of segments says.
pub(super) struct Run {
    path: PathBuf,
    chunks: ReadOnlyTable<u32, &'static [u8]>,
    packs: ReadOnlyTable<u32, &'static [u8]>,
    facts: ReadOnlyTable<&'static str, &'static [u8]>,
    segments: BTreeMap<SegmentId, u32>,
    chunk_count: u64,
    pack_count: u32,
    bits: u32,
    remembered: Mutex<Vec<(u32, Arc<PackRow>)>>,
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
        let (chunk_count, pack_count) = (take.u64("chunk count")?, take.u32("pack count")?);
        let bits = take.u32("bits")?.min(32);
        let segments = decode_segments(&fact("segments")?)?;
        Ok(Self {
            path: path.into(),
            chunks: read.open_table(CHUNKS).map_err(|e| error(e.into()))?,
            packs: read.open_table(PACKS).map_err(|e| error(e.into()))?,
            facts,
            segments,
            chunk_count,
            pack_count,
            bits,
            remembered: Mutex::default(),
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

    /// Which segments name which packs, by the packs' numbers.
    pub fn named(&self) -> Result<Vec<(u32, SegmentId)>, IndexError> {
        let value = self.facts.get("named").map_err(|e| cache_error(&self.path, e))?;
        let value = value.ok_or(FormatError::Bad("fact of a run"))?;
        let segments: Vec<SegmentId> = self.segments.keys().copied().collect();
        let pair = |bytes: &[u8; 8]| {
            let mut take = Take::new(bytes);
            let (pack, segment) = (take.u32("number of a pack")?, take.u32("segment")?);
            let segment = segments.get(segment as usize).ok_or(FormatError::Bad("segment"))?;
            Ok((pack, *segment))
        };
        value.value().as_chunks().0.iter().map(pair).collect()
    }

    /// Numbers of the packs that one of these segments names, in order.
    pub fn named_by(&self, segments: &BTreeSet<SegmentId>) -> Result<Vec<u32>, IndexError> {
        let mut named = self.named()?;
        named.retain(|(_, segment)| segments.contains(segment));
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

    /// Calls `each` with the rows of a chunk and their numbers, until it says stop.
    fn rows(
        &self,
        id: &ChunkId,
        each: &mut dyn FnMut(u64, ChunkRow) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        let value = self.chunks.get(row_key(id, self.bits));
        let Some(value) = value.map_err(|e| cache_error(&self.path, e))? else { return Ok(()) };
        let (start, rows) = value
            .value()
            .split_first_chunk::<ROW_START_LEN>()
            .ok_or(FormatError::Truncated("row of a run"))?;
        let rows = rows.as_chunks::<ROW_LEN>().0;
        let first = rows.partition_point(|row| row[..32] < id.0[..]);
        for (at, row) in rows.iter().enumerate().skip(first) {
            if row[..32] != id.0 || !each(u64::from_le_bytes(*start) + at as u64, decode_row(row)?)?
            {
                break;
            }
        }
        Ok(())
    }

    pub fn locations(&self, id: &ChunkId, found: &mut Vec<Location>) -> Result<(), IndexError> {
        self.rows(id, &mut |_, row| {
            let pack = self.pack(row.pack)?;
            found.push(Location {
                pack,
                frame: row.frame.into(),
                offset: row.offset,
                len: row.len,
            });
            Ok(true)
        })
    }

    pub fn number(&self, id: &ChunkId) -> Result<Option<u64>, IndexError> {
        let mut found = None;
        self.rows(id, &mut |number, _| {
            found = Some(number);
            Ok(false)
        })?;
        Ok(found)
    }

    pub fn pack(&self, number: u32) -> Result<Arc<PackRow>, IndexError> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = remembered.iter().position(|(n, _)| *n == number) {
            // The latest comes last, the first one goes.
            let found = remembered.remove(at);
            remembered.push(found.clone());
            return Ok(found.1);
        }
        let value = self.packs.get(number).map_err(|e| cache_error(&self.path, e))?;
        let value = value.ok_or(FormatError::Bad("number of a pack"))?;
        let pack = Arc::new(decode_pack(value.value())?);
        if remembered.len() >= PACKS_REMEMBERED {
            remembered.remove(0);
        }
        remembered.push((number, pack.clone()));
        Ok(pack)
    }

    pub fn packs(&self, each: &mut dyn FnMut(u32, &Arc<PackRow>)) -> Result<(), IndexError> {
        for item in self.packs.range::<u32>(..).map_err(|e| cache_error(&self.path, e))? {
            let (number, value) = item.map_err(|e| cache_error(&self.path, e))?;
            each(number.value(), &Arc::new(decode_pack(value.value())?));
        }
        Ok(())
    }

    /// All chunk rows in order, with their numbers.
    pub fn all_rows(
        &self,
    ) -> Result<impl Iterator<Item = Result<(u64, ChunkRow), IndexError>> + '_, IndexError> {
        let range = self.chunks.range::<u32>(..).map_err(|e| cache_error(&self.path, e))?;
        Ok(range.flat_map(|item| {
            let rows = item.map_err(|e| cache_error(&self.path, e)).and_then(|(_, value)| {
                let (start, rows) = value
                    .value()
                    .split_first_chunk::<ROW_START_LEN>()
                    .ok_or(FormatError::Truncated("row of a run"))?;
                let start = u64::from_le_bytes(*start);
                let rows = rows.as_chunks::<ROW_LEN>().0.iter().enumerate();
                let rows = rows.map(|(at, row)| Ok((start + at as u64, decode_row(row)?)));
                rows.collect::<Result<Vec<_>, IndexError>>()
            });
            match rows {
                Ok(rows) => rows.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(error) => vec![Err(error)],
            }
        }))
    }
}
