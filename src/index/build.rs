//! A run is written: packs as they come, then the order of their chunks and frames.
//!
//! Whatever a run is made of, segments, the delta or other runs, all of it comes as what packs
//! say of themselves, and is sorted again: to sort costs no more than to merge.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsRawFd;
use std::path::Path;

use redb::{Durability, Table};

use super::run::{
    CACHE_LEN, CHUNK_LEN, CHUNK_ORDER, CHUNKS, FACTS, FRAME_ORDER, LAYOUT, Order, PACKS, Run,
    SLAB_CHUNKS, SUFFIX, cache_error, chunk_row, encode_pack, encode_segments, frame_row,
    key_count, row_key,
};
use super::sort::Sorter;
use super::{IndexError, delta};
use crate::format::FormatError;
use crate::format::codec::Put;
use crate::format::pack::PackInfo;
use crate::id::{PackId, SegmentId};

/// What a run is made of is handed to a `Builder`.
pub(super) type Feed<'a> = &'a mut dyn FnMut(&mut Builder<'_>) -> Result<(), IndexError>;

/// Writes a run and opens it. It gets its name when it is whole and synced.
pub(super) fn write_run(directory: &Path, feed: Feed<'_>) -> Result<Run, IndexError> {
    let io = |source| IndexError::Cache { path: directory.into(), source };
    let temporary = tempfile::Builder::new().prefix("new-").tempfile_in(directory).map_err(io)?;
    write_file(directory, temporary.as_file(), feed)?;
    let name = temporary.path().file_name().unwrap_or_default();
    let finished = directory.join(format!("run-{}{SUFFIX}", name.to_string_lossy()));
    temporary.persist(&finished).map_err(|e| io(e.error))?;
    Run::open(&finished)
}

/// Makes a run that lies in memory and goes with this process: for a cache directory without
/// room.
pub(super) fn write_run_in_memory(directory: &Path, feed: Feed<'_>) -> Result<Run, IndexError> {
    let io = |source| IndexError::Cache { path: directory.into(), source };
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = rustix::fs::memfd_create(c"holdall run", flags).map_err(|e| io(e.into()))?;
    let file = std::fs::File::from(file);
    write_file(directory, &file, feed)?;
    // Opening it again makes a handle of its own, which keeps it.
    Run::open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))
}

fn write_file(directory: &Path, file: &std::fs::File, feed: Feed<'_>) -> Result<(), IndexError> {
    let error = |e: redb::Error| cache_error(directory, e);
    let file = file.try_clone().map_err(|e| error(redb::Error::Io(e)))?;
    let database = redb::Builder::new()
        .set_cache_size(8 * CACHE_LEN)
        .create_file(file)
        .map_err(|e| error(e.into()))?;
    let mut write = database.begin_write().map_err(|e| error(e.into()))?;
    write.set_durability(Durability::Immediate).map_err(|e| error(e.into()))?;
    let facts = {
        let mut builder = Builder {
            directory,
            packs: write.open_table(PACKS).map_err(|e| error(e.into()))?,
            chunks: write.open_table(CHUNKS).map_err(|e| error(e.into()))?,
            seen: HashMap::new(),
            segments: Vec::new(),
            numbers: BTreeMap::new(),
            named: Vec::new(),
            slab: Vec::new(),
            slab_count: 0,
            chunk_rows: Sorter::new(directory),
            frame_rows: Sorter::new(directory),
        };
        feed(&mut builder)?;
        builder.finish()?
    };
    let mut counts = Vec::new();
    counts.put_u64(facts.chunk_rows.row_count());
    counts.put_u64(facts.frame_rows.row_count());
    counts.put_u32(facts.pack_count);
    write_order(directory, &write, CHUNK_ORDER, facts.chunk_rows)?;
    write_order(directory, &write, FRAME_ORDER, facts.frame_rows)?;
    let named = &facts.named;
    let segments = encode_segments(&facts.segments);
    for (name, value) in
        [("layout", LAYOUT), ("counts", &counts), ("segments", &segments), ("named", named)]
    {
        let mut table = write.open_table(FACTS).map_err(|e| error(e.into()))?;
        table.insert(name, value).map_err(|e| error(e.into()))?;
    }
    write.commit().map_err(|e| error(e.into()))
}

/// Writes rows in order, those with the same key together.
fn write_order(
    directory: &Path,
    write: &redb::WriteTransaction,
    order: Order,
    rows: Sorter,
) -> Result<(), IndexError> {
    let error = |e: redb::Error| cache_error(directory, e);
    let mut table = write.open_table(order).map_err(|e| error(e.into()))?;
    let keys = key_count(rows.row_count());
    let (mut key, mut value) = (0, Vec::new());
    for rows in rows.sorted() {
        for row in rows.map_err(|e| error(redb::Error::Io(e)))? {
            let row_key = row_key(&row, keys);
            if row_key != key && !value.is_empty() {
                table.insert(key, value.as_slice()).map_err(|e| error(e.into()))?;
                value.clear();
            }
            key = row_key;
            value.extend_from_slice(&row);
        }
    }
    if !value.is_empty() {
        table.insert(key, value.as_slice()).map_err(|e| error(e.into()))?;
    }
    Ok(())
}

/// Takes what packs say of themselves.
pub(super) struct Builder<'a> {
    directory: &'a Path,
    packs: Table<'a, u32, &'static [u8]>,
    chunks: Table<'a, u32, &'static [u8]>,
    seen: HashMap<PackId, u32>,
    /// Segments in the order of their coming, each with the number of packs that it speaks of.
    segments: Vec<(SegmentId, u32)>,
    numbers: BTreeMap<SegmentId, u32>,
    /// Which packs are named by which segments.
    named: Vec<(u32, u32)>,
    /// Chunks that wait until a slab is full.
    slab: Vec<u8>,
    slab_count: u32,
    chunk_rows: Sorter,
    frame_rows: Sorter,
}

struct Facts {
    chunk_rows: Sorter,
    frame_rows: Sorter,
    pack_count: u32,
    segments: BTreeMap<SegmentId, u32>,
    named: Vec<u8>,
}

impl Builder<'_> {
    /// The run is to have all that a segment says. Returns the segment's number.
    pub fn add_segment(&mut self, id: SegmentId, pack_count: u32) -> u32 {
        let Self { segments, numbers, .. } = self;
        *numbers.entry(id).or_insert_with(|| {
            segments.push((id, pack_count));
            segments.len() as u32 - 1
        })
    }

    /// Adds a pack, once, which these segments name.
    pub fn add_pack(
        &mut self,
        info: &PackInfo,
        segments: impl IntoIterator<Item = u32>,
    ) -> Result<(), IndexError> {
        let fresh = self.seen.len() as u32;
        let number = *self.seen.entry(info.id).or_insert(fresh);
        self.named.extend(segments.into_iter().map(|segment| (number, segment)));
        if number < fresh {
            return Ok(());
        }
        let io = |source| IndexError::Cache { path: self.directory.into(), source };
        let redb = |e: redb::StorageError| cache_error(self.directory, e);
        let first = self.chunk_rows.row_count();
        let value = encode_pack(&delta::pack_row(info), first, &info.trailer.frames);
        self.packs.insert(number, value.as_slice()).map_err(redb)?;
        // The format bounds frames to 65,535.
        for (frame, at) in info.trailer.frames.iter().zip(0u16..) {
            self.frame_rows.push(frame_row(&frame.id, number, at)).map_err(io)?;
            for chunk in &frame.chunks {
                let position = u32::try_from(self.chunk_rows.row_count())
                    .map_err(|_| FormatError::Bad("number of chunks in a run"))?;
                let row = chunk_row(&chunk.id, number, at, position, chunk.len);
                self.chunk_rows.push(row).map_err(io)?;
                self.slab.extend_from_slice(chunk.id.as_bytes());
                self.slab.put_u32(chunk.len);
                if self.slab.len() == SLAB_CHUNKS * CHUNK_LEN {
                    self.chunks.insert(self.slab_count, self.slab.as_slice()).map_err(redb)?;
                    self.slab_count += 1;
                    self.slab.clear();
                }
            }
        }
        Ok(())
    }

    /// Adds all that another run says.
    pub fn add_run(&mut self, run: &Run) -> Result<(), IndexError> {
        let segments = run.segments().iter();
        let numbers: Vec<u32> = segments.map(|(id, count)| self.add_segment(*id, *count)).collect();
        let mut named = run.named()?;
        named.sort_unstable();
        for number in 0..run.pack_count() {
            let from = named.partition_point(|(pack, _)| *pack < number);
            let about = named.get(from..).unwrap_or_default().iter();
            let about = about.take_while(|(pack, _)| *pack == number);
            let about = about.filter_map(|(_, segment)| numbers.get(*segment as usize).copied());
            self.add_pack(&run.info(number)?, about)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Facts, IndexError> {
        if !self.slab.is_empty() {
            let inserted = self.chunks.insert(self.slab_count, self.slab.as_slice());
            inserted.map_err(|e| cache_error(self.directory, e))?;
        }
        let segments: BTreeMap<SegmentId, u32> = self.segments.iter().copied().collect();
        // By their places in order, as they are stored.
        let mut places = vec![0u32; self.segments.len()];
        for (place, (_, number)) in (0u32..).zip(&self.numbers) {
            places[*number as usize] = place;
        }
        self.named.sort_unstable();
        self.named.dedup();
        let mut named = Vec::with_capacity(8 * self.named.len());
        for (pack, segment) in &self.named {
            named.put_u32(*pack);
            named.put_u32(places[*segment as usize]);
        }
        let Self { chunk_rows, frame_rows, seen, .. } = self;
        Ok(Facts { chunk_rows, frame_rows, pack_count: seen.len() as u32, segments, named })
    }
}
