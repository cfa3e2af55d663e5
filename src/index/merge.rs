//! Several runs, and perhaps the delta, made into one; and a pass over all chunks in order.

use std::collections::{BTreeMap, HashMap};
use std::iter::Peekable;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use redb::Durability;

use super::delta::Delta;
use super::run::{
    CACHE_LEN, CHUNKS, FACTS, LAYOUT, PACKS, ROW_START_LEN, Run, SUFFIX, cache_error, encode_pack,
    encode_row, encode_segments, key_bits, row_key,
};
use super::{Chunk, ChunkRow, IndexError, PackRow};
use crate::format::codec::Put;
use crate::id::{ChunkId, PackId, SegmentId};

type Rows<'a> = Box<dyn Iterator<Item = Result<(u64, ChunkRow), IndexError>> + 'a>;

/// Several ordered streams of rows as one; each row comes with the number of its stream.
struct Merged<'a> {
    streams: Vec<Peekable<Rows<'a>>>,
}

impl<'a> Merged<'a> {
    fn new(runs: &'a [Run], more: Option<Rows<'a>>) -> Result<Self, IndexError> {
        let mut streams = Vec::new();
        for run in runs {
            let rows: Rows<'a> = Box::new(run.all_rows()?);
            streams.push(rows.peekable());
        }
        streams.extend(more.map(Iterator::peekable));
        Ok(Self { streams })
    }

    fn next(&mut self) -> Result<Option<(usize, u64, ChunkRow)>, IndexError> {
        let mut least: Option<(usize, ChunkId)> = None;
        for (number, stream) in self.streams.iter_mut().enumerate() {
            match stream.peek() {
                Some(Ok((_, row))) if least.is_none_or(|(_, id)| row.id < id) => {
                    least = Some((number, row.id));
                }
                // No row is told before it.
                Some(Err(_)) => {
                    least = Some((number, ChunkId::default()));
                    break;
                }
                _ => {}
            }
        }
        let Some((number, _)) = least else { return Ok(None) };
        let next = self.streams.get_mut(number).and_then(Iterator::next).transpose()?;
        Ok(next.map(|(at, row)| (number, at, row)))
    }
}

/// New numbers for the packs of all inputs; a pack that several inputs know gets one.
struct Packs {
    numbers: Vec<Vec<Option<u32>>>,
    seen: HashMap<PackId, u32>,
    /// Which segments name which packs, by their new numbers.
    named: Vec<(u32, SegmentId)>,
    count: u32,
}

impl Packs {
    /// The pack's new number, or `None` when it is known already. `segments` name it.
    fn number(&mut self, input: usize, id: &PackId, segments: &[(u32, SegmentId)]) -> Option<u32> {
        let known = self.seen.get(id).copied();
        let number = known.unwrap_or(self.count);
        self.named.extend(segments.iter().map(|(_, segment)| (number, *segment)));
        let fresh = known.is_none().then_some(number);
        if fresh.is_some() {
            self.seen.insert(*id, number);
            self.count += 1;
        }
        if let Some(numbers) = self.numbers.get_mut(input) {
            numbers.push(fresh);
        }
        fresh
    }
}

/// Those of the ordered pairs that are about this pack.
fn about(named: &[(u32, SegmentId)], pack: u32) -> &[(u32, SegmentId)] {
    let from = named.partition_point(|(number, _)| *number < pack);
    let rest = named.get(from..).unwrap_or_default();
    let count = rest.partition_point(|(number, _)| *number == pack);
    rest.get(..count).unwrap_or_default()
}

/// Writes a run and opens it. It gets its name when it is whole and synced.
pub(super) fn write_run(
    directory: &Path,
    runs: &[Run],
    delta: Option<&Delta>,
) -> Result<Run, IndexError> {
    let io = |source| IndexError::Cache { path: directory.into(), source };
    let temporary = tempfile::Builder::new().prefix("new-").tempfile_in(directory).map_err(io)?;
    write_file(directory, temporary.as_file(), runs, delta)?;
    let name = temporary.path().file_name().unwrap_or_default();
    let finished = directory.join(format!("run-{}{SUFFIX}", name.to_string_lossy()));
    temporary.persist(&finished).map_err(|e| io(e.error))?;
    Run::open(&finished)
}

/// Makes a run of the delta that lies in memory and goes with this process: for a cache directory
/// without room.
pub(super) fn write_run_in_memory(directory: &Path, delta: &Delta) -> Result<Run, IndexError> {
    let io = |source| IndexError::Cache { path: directory.into(), source };
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = rustix::fs::memfd_create(c"holdall run", flags).map_err(|e| io(e.into()))?;
    let file = std::fs::File::from(file);
    write_file(directory, &file, &[], Some(delta))?;
    // Opening it again makes a handle of its own, which keeps it.
    Run::open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))
}

fn write_file(
    directory: &Path,
    file: &std::fs::File,
    runs: &[Run],
    delta: Option<&Delta>,
) -> Result<(), IndexError> {
    let error = |e: redb::Error| cache_error(directory, e);
    let file = file.try_clone().map_err(|e| error(redb::Error::Io(e)))?;
    let database = redb::Builder::new()
        .set_cache_size(8 * CACHE_LEN)
        .create_file(file)
        .map_err(|e| error(e.into()))?;
    let mut write = database.begin_write().map_err(|e| error(e.into()))?;
    write.set_durability(Durability::Immediate).map_err(|e| error(e.into()))?;
    let packs = write_packs(&write, runs, delta).map_err(|e| named(directory, e))?;
    write_chunks(&write, runs, delta, &packs).map_err(|e| named(directory, e))?;
    write.commit().map_err(|e| error(e.into()))
}

/// What goes wrong while a run is written.
enum WriteError {
    Redb(redb::Error),
    Index(IndexError),
}

impl<E: Into<redb::Error>> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

fn named(directory: &Path, error: WriteError) -> IndexError {
    match error {
        WriteError::Redb(error) => cache_error(directory, error),
        WriteError::Index(error) => error,
    }
}

fn write_packs(
    write: &redb::WriteTransaction,
    runs: &[Run],
    delta: Option<&Delta>,
) -> Result<Packs, WriteError> {
    let mut table = write.open_table(PACKS)?;
    let mut packs =
        Packs { numbers: Vec::new(), seen: HashMap::new(), named: Vec::new(), count: 0 };
    let mut failed = None;
    let mut put = |packs: &mut Packs, input, segments: &[_], pack: &Arc<PackRow>| {
        if let Some(number) = packs.number(input, &pack.id, segments) {
            failed = table.insert(number, encode_pack(pack).as_slice()).err();
        }
    };
    for (input, run) in runs.iter().enumerate() {
        packs.numbers.push(Vec::new());
        let mut named = run.named().map_err(WriteError::Index)?;
        named.sort_unstable();
        run.packs(&mut |number, pack| put(&mut packs, input, about(&named, number), pack))
            .map_err(WriteError::Index)?;
    }
    if let Some(delta) = delta {
        packs.numbers.push(Vec::new());
        let named = delta.named();
        delta.packs(&mut |number, pack| put(&mut packs, runs.len(), about(named, number), pack));
    }
    packs.named.sort_unstable();
    packs.named.dedup();
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(packs),
    }
}

fn write_chunks(
    write: &redb::WriteTransaction,
    runs: &[Run],
    delta: Option<&Delta>,
    packs: &Packs,
) -> Result<(), WriteError> {
    let mut table = write.open_table(CHUNKS)?;
    let delta_rows = delta.map(Delta::sorted_rows).unwrap_or_default();
    let expected = runs.iter().map(Run::chunk_count).sum::<u64>() + delta_rows.len() as u64;
    let bits = key_bits(expected);
    let more: Rows<'_> = Box::new(delta_rows.iter().map(|row| Ok((0, *row))));
    let mut merged = Merged::new(runs, Some(more)).map_err(WriteError::Index)?;
    let (mut count, mut key, mut value) = (0u64, 0u32, Vec::new());
    while let Some((input, _, mut row)) = merged.next().map_err(WriteError::Index)? {
        let numbers = packs.numbers.get(input);
        let Some(pack) = numbers.and_then(|n| *n.get(row.pack as usize)?) else { continue };
        row.pack = pack;
        let row_key = row_key(&row.id, bits);
        if row_key != key && !value.is_empty() {
            table.insert(key, value.as_slice())?;
            value.clear();
        }
        if value.is_empty() {
            value.reserve(ROW_START_LEN);
            value.put_u64(count);
        }
        key = row_key;
        encode_row(&row, &mut value);
        count += 1;
    }
    if !value.is_empty() {
        table.insert(key, value.as_slice())?;
    }
    let segments: BTreeMap<SegmentId, u32> = runs
        .iter()
        .flat_map(|run| run.segments())
        .chain(delta.into_iter().flat_map(|delta| delta.segments()))
        .map(|(id, packs)| (*id, *packs))
        .collect();
    let mut named = Vec::new();
    let places: Vec<SegmentId> = segments.keys().copied().collect();
    for (pack, segment) in &packs.named {
        // Segments are bounded by what a listing of them holds in memory.
        if let Ok(place) = places.binary_search(segment) {
            named.put_u32(*pack);
            named.put_u32(place as u32);
        }
    }
    let mut counts = Vec::new();
    counts.put_u64(count);
    counts.put_u32(packs.count);
    counts.put_u32(bits);
    let mut facts = write.open_table(FACTS)?;
    facts.insert("layout", LAYOUT)?;
    facts.insert("counts", counts.as_slice())?;
    facts.insert("segments", encode_segments(&segments).as_slice())?;
    facts.insert("named", named.as_slice())?;
    Ok(())
}

/// Every chunk of all runs once, in order, with the number that `Index::number` gives it.
pub(super) fn each_chunk(runs: &[Run], each: &mut dyn FnMut(&Chunk)) -> Result<(), IndexError> {
    let mut chunk_starts = Vec::new();
    let mut pack_starts = Vec::new();
    let (mut chunks, mut packs) = (0, 0);
    for run in runs {
        chunk_starts.push(chunks);
        pack_starts.push(packs);
        chunks += run.chunk_count();
        packs += run.pack_count();
    }
    let mut merged = Merged::new(runs, None)?;
    // One for all of them: there may be a hundred million.
    let mut chunk = Chunk { id: ChunkId::default(), number: 0, len: 0, packs: Vec::new() };
    while let Some((input, at, row)) = merged.next()? {
        let starts = chunk_starts.get(input).zip(pack_starts.get(input));
        let Some((chunk_start, pack_start)) = starts else { continue };
        if chunk.id != row.id || chunk.packs.is_empty() {
            if !chunk.packs.is_empty() {
                each(&chunk);
                chunk.packs.clear();
            }
            // The first stream that has it is the one that `number` looks into first.
            (chunk.id, chunk.number, chunk.len) = (row.id, chunk_start + at, row.len);
        }
        chunk.packs.push((pack_start + row.pack, row.frame));
    }
    if !chunk.packs.is_empty() {
        each(&chunk);
    }
    Ok(())
}
