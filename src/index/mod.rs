//! Where each chunk lies: immutable segments in storage, and the local index as a cache of them.
//!
//! Format of segments: `format-spec/08-index.md`. The local index is no part of the format: it
//! may be deleted at any moment and is built again from the segments, and those from packs.
//!
//! The cache is a few *runs*, finished redb files that nobody writes any more, so that any number
//! of processes read them at once; what the newest segments say beside them is kept in memory
//! (the *delta*) until it is worth a run of its own. Many new segments become a run at once. Runs
//! are merged so that each is at least four times as large as the next one: few files to look
//! into, each fact rewritten a few times.
//!
//! Memory does not grow with the number of chunks: nothing of a run is read before it is asked
//! for, and rows are sorted part by part. There is no filter in front of a run: a look-up in vain
//! costs 3 us, a hundredth of what it costs to store the chunk that is new.
//!
//! Facts are never wrong, only incomplete or about a pack that is gone: they may be cached for
//! ever. What exists is said by the listing of `packs/` alone.

mod build;
mod delta;
mod find;
mod near;
mod pass;
mod run;
mod segment;
mod sort;

pub use segment::{list_segments, read_segment, segment_key, segment_of_key, write_segment};

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::FormatError;
use crate::format::frame::{ChunkKind, Codec};
use crate::format::pack::PackInfo;
use crate::id::{FrameId, PackId, SegmentId, SnapshotId};
use crate::object::{ObjectError, Sealer};
use crate::storage::{Storage, StorageError};
use build::Builder;
use delta::Delta;
use run::Run;

/// What can be wrong with the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The storage did not give a segment, or not take it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A segment does not open.
    #[error("index segment {}: {source}", .id.short())]
    Segment {
        /// Which.
        id: SegmentId,
        /// Why.
        source: ObjectError,
    },
    /// A segment could not be sealed.
    #[error(transparent)]
    Seal(#[from] ObjectError),
    /// The local index cannot be read or written.
    #[error("the local index in {path}: {source}")]
    Cache {
        /// Its directory or file.
        path: PathBuf,
        /// What the system or redb said.
        source: std::io::Error,
    },
    /// The local index says something that cannot be.
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl IndexError {
    /// Whether a segment may well be whole, and is only not understood here.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Segment { source, .. } if source.is_unknown())
    }
}

/// A frame as the index knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRow {
    /// Its name.
    pub id: FrameId,
    /// Where it begins in its pack, bytes.
    pub offset: u32,
    /// Its length as stored, bytes.
    pub stored_len: u32,
    /// How its chunks are stored.
    pub codec: Codec,
}

/// A pack as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRow {
    /// The pack.
    pub id: PackId,
    /// Its length, bytes.
    pub len: u64,
    /// What its chunks are.
    pub kind: ChunkKind,
    /// The session that wrote it.
    pub session: SnapshotId,
    /// Its frames.
    pub frames: Vec<FrameRow>,
}

/// One place where a chunk lies.
#[derive(Debug, Clone)]
pub struct Location {
    /// The pack, with its frames.
    pub pack: Arc<PackRow>,
    /// Number of the frame in the pack.
    pub frame: usize,
    /// Where the chunk begins in the frame's plaintext, bytes.
    pub offset: u32,
    /// Its length, bytes.
    pub len: u32,
}

impl Location {
    /// The frame.
    pub fn frame(&self) -> Result<&FrameRow, IndexError> {
        Ok(self.pack.frames.get(self.frame).ok_or(FormatError::Bad("number of a frame"))?)
    }

    /// The frame that the chunk's frame is a delta on.
    pub fn base(&self) -> Option<FrameId> {
        match self.pack.frames.get(self.frame)?.codec {
            Codec::Delta { base } => Some(base),
            _ => None,
        }
    }
}

/// A chunk with all places where it lies, as a pass over the whole index meets it.
#[derive(Debug)]
pub struct Chunk {
    /// The first bytes of its id, which tell it from all others.
    pub start: [u8; run::START_LEN],
    /// Its number among all chunks of the index, for bit maps: that of one of its copies.
    pub number: u64,
    /// Its length, bytes.
    pub len: u32,
    /// Numbers of the packs that have it, as `Index::packs` counts.
    pub packs: Vec<(u32, u16)>,
}

/// What loading new segments came to.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// Segments that are there but cannot be read.
    pub damaged: Vec<(SegmentId, IndexError)>,
    /// Segments that are there.
    pub segments: BTreeSet<SegmentId>,
}

/// When so many bytes of segments are new, a run is made of them at once, some 65,536 chunks.
const NEWS_WORTH_A_RUN: u64 = 2 << 20;
/// So many segments are read ahead, each by a thread.
const READERS: usize = 2;
/// So many chunks are kept in memory before they become a run.
const DELTA_CHUNKS_MAX: usize = 65_536;
/// From so many chunks on, or segments, the next process shall find a run instead.
const DELTA_CHUNKS_WORTH_A_RUN: usize = 16_384;
const DELTA_SEGMENTS_WORTH_A_RUN: usize = 48;
/// A run is merged with one that is not this many times larger.
const MERGE_RATIO: u64 = 4;

/// So many chunks are kept in memory where the cache has no room for them, some 100 MB.
const MEMORY_CHUNKS_MAX: u64 = 2_000_000;

/// Whether a cache directory cannot take anything: full, read-only, somebody else's, or never made
/// for that reason.
fn cannot_be_written(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Io;
    matches!(
        error.kind(),
        Io::StorageFull
            | Io::QuotaExceeded
            | Io::FileTooLarge
            | Io::ReadOnlyFilesystem
            | Io::PermissionDenied
            | Io::NotFound
    )
}

/// The index of one repository.
#[derive(Debug)]
pub struct Index {
    directory: PathBuf,
    runs: Vec<Run>,
    delta: Delta,
}

impl Index {
    /// Opens what the cache directory holds; the directory is made where it is missing.
    pub fn open(directory: &Path) -> Result<Self, IndexError> {
        let mut index =
            Self { directory: directory.into(), runs: Vec::new(), delta: Delta::default() };
        match std::fs::create_dir_all(directory) {
            Ok(()) => index.load_runs()?,
            Err(error) if cannot_be_written(&error) => {}
            Err(source) => return Err(IndexError::Cache { path: directory.into(), source }),
        }
        Ok(index)
    }

    fn load_runs(&mut self) -> Result<(), IndexError> {
        let mut runs = run::open_all(&self.directory)?;
        runs.sort_by_key(|run| std::cmp::Reverse(run.chunk_count()));
        let mut covered = HashSet::new();
        for run in runs {
            // Two processes may have made runs of the same segments; one of them is enough.
            match run.segments().keys().all(|id| covered.contains(id)) {
                true => run.remove(),
                false => {
                    covered.extend(run.segments().keys().copied());
                    self.runs.push(run);
                }
            }
        }
        Ok(())
    }

    /// Learns what segments say that are not known yet. A damaged one is reported, not an error.
    pub fn refresh(
        &mut self,
        storage: &dyn Storage,
        sealer: &Sealer,
    ) -> Result<Refreshed, IndexError> {
        let listed = segment::list_with_lens(storage)?;
        let segments: BTreeSet<SegmentId> = listed.keys().copied().collect();
        let (stay, gone) =
            std::mem::take(&mut self.runs).into_iter().partition(|run| run.is_alive(&segments));
        self.runs = stay;
        Vec::into_iter(gone).for_each(|run: Run| run.remove());
        let news = listed.iter().filter(|(id, _)| !self.covers(id));
        let (mut news, lens): (Vec<SegmentId>, Vec<u64>) = news.unzip();
        if lens.iter().sum::<u64>() >= NEWS_WORTH_A_RUN {
            let read = self.read_at_once(storage, sealer, &news);
            match read {
                Ok(damaged) => {
                    self.fold()?;
                    return Ok(Refreshed { damaged, segments });
                }
                // In memory there may be room for a little.
                Err(IndexError::Cache { source, .. }) if cannot_be_written(&source) => {}
                Err(error) => return Err(error),
            }
        }
        news.retain(|id| !self.covers(id));
        let mut damaged = Vec::new();
        for id in news {
            match segment::read_segment(storage, sealer, &id) {
                Ok(packs) => self.add(id, &packs)?,
                Err(IndexError::Storage(error)) if error.is_not_found() => {}
                Err(error @ IndexError::Storage(_)) => return Err(error),
                Err(error) => damaged.push((id, error)),
            }
        }
        let worth = self.delta.chunk_count() >= DELTA_CHUNKS_WORTH_A_RUN
            || self.delta.segments().len() >= DELTA_SEGMENTS_WORTH_A_RUN;
        if worth {
            self.fold()?;
        }
        Ok(Refreshed { damaged, segments })
    }

    /// Makes one run of many segments. Returns those that are damaged. What was read before the
    /// storage failed is kept.
    fn read_at_once(
        &mut self,
        storage: &dyn Storage,
        sealer: &Sealer,
        ids: &[SegmentId],
    ) -> Result<Vec<(SegmentId, IndexError)>, IndexError> {
        let (mut damaged, mut outage) = (Vec::new(), None);
        let run = build::write_run(&self.directory, &mut |builder| {
            segment::read_ahead(storage, sealer, ids, READERS, &mut |id, packs| {
                match packs {
                    Ok(packs) => {
                        let segment = builder.add_segment(id, packs.len() as u32);
                        for pack in &packs {
                            builder.add_pack(pack, [segment])?;
                        }
                    }
                    Err(IndexError::Storage(error)) if error.is_not_found() => {}
                    Err(error @ IndexError::Storage(_)) => {
                        outage = Some(error);
                        return Ok(false);
                    }
                    Err(error) => damaged.push((id, error)),
                }
                Ok(true)
            })
        })?;
        match run.segments().is_empty() {
            true => run.remove(),
            false => self.runs.push(run),
        }
        outage.map_or(Ok(damaged), Err)
    }

    fn covers(&self, id: &SegmentId) -> bool {
        self.delta.segments().contains_key(id)
            || self.runs.iter().any(|run| run.segments().contains_key(id))
    }

    /// Adds what a stored segment says.
    pub fn add(&mut self, id: SegmentId, packs: &[PackInfo]) -> Result<(), IndexError> {
        self.delta.add_segment(id, packs);
        self.fold_if_large()
    }

    /// Adds facts that come from no segment, such as a pack's own trailer.
    pub fn learn(&mut self, packs: &[PackInfo]) -> Result<(), IndexError> {
        for pack in packs {
            self.delta.add_pack(pack);
            self.fold_if_large()?;
        }
        Ok(())
    }

    /// Between segments only: a run with a part of one would count as having all of it.
    fn fold_if_large(&mut self) -> Result<(), IndexError> {
        match self.delta.chunk_count() >= DELTA_CHUNKS_MAX {
            true => self.fold(),
            false => Ok(()),
        }
    }

    /// Makes a run of the delta, and merges runs that are alike in size.
    pub fn fold(&mut self) -> Result<(), IndexError> {
        if !self.delta.is_empty() {
            let delta = std::mem::take(&mut self.delta);
            let mut feed = |builder: &mut Builder<'_>| delta.feed(builder);
            let run = match build::write_run(&self.directory, &mut feed) {
                // The repository is not to be unusable because its cache is, nor while the disk
                // that both lie on is being cleaned up.
                Err(IndexError::Cache { source, .. })
                    if cannot_be_written(&source)
                        && delta.chunk_count() as u64 + self.chunk_count_in_memory()
                            <= MEMORY_CHUNKS_MAX =>
                {
                    build::write_run_in_memory(&self.directory, &mut feed)?
                }
                written => written?,
            };
            self.runs.push(run);
        }
        self.merge()
    }

    /// Makes one run of those that are too much alike in size.
    fn merge(&mut self) -> Result<(), IndexError> {
        self.runs.sort_by_key(|run| std::cmp::Reverse(run.chunk_count()));
        let counts: Vec<u64> = self.runs.iter().map(Run::chunk_count).collect();
        let mut first = counts.len();
        for (at, pair) in counts.windows(2).enumerate().rev() {
            // Those behind it are one by then, if they are merged.
            let behind = counts.get(first.max(at + 1)..).filter(|_| first == at + 1);
            let smaller = behind.map_or(pair[1], |merged| merged.iter().sum());
            if pair[0] < smaller.saturating_mul(MERGE_RATIO) {
                first = at;
            }
        }
        let alike = self.runs.split_off(first);
        if alike.is_empty() {
            return Ok(());
        }
        let merged = build::write_run(&self.directory, &mut |builder| {
            alike.iter().try_for_each(|run| builder.add_run(run))
        });
        match merged {
            Err(IndexError::Cache { source, .. }) if cannot_be_written(&source) => {
                self.runs.extend(alike);
            }
            merged => {
                self.runs.push(merged?);
                alike.into_iter().for_each(Run::remove);
            }
        }
        Ok(())
    }

    fn chunk_count_in_memory(&self) -> u64 {
        let in_memory = self.runs.iter().filter(|run| !run.is_in(&self.directory));
        in_memory.map(Run::chunk_count).sum()
    }

    /// Every pack that is known, with its number; one may come twice.
    pub fn packs(&self, each: &mut dyn FnMut(u32, &Arc<PackRow>)) -> Result<(), IndexError> {
        let mut first = 0;
        for run in &self.runs {
            run.packs(&mut |number, pack| each(first + number, pack))?;
            first += run.pack_count();
        }
        self.delta.packs(&mut |number, pack| each(first + number, pack));
        Ok(())
    }

    /// Those of these packs, which are in order, that are not known.
    pub fn unknown_of(&self, listed: &[(PackId, u64)]) -> Result<Vec<(PackId, u64)>, IndexError> {
        let mut is_known = vec![false; listed.len()];
        self.packs(&mut |_, pack| {
            if let Ok(at) = listed.binary_search_by_key(&pack.id, |(id, _)| *id) {
                is_known[at] = true;
            }
        })?;
        let unknown = listed.iter().zip(is_known).filter(|(_, is_known)| !is_known);
        Ok(unknown.map(|(listed, _)| *listed).collect())
    }

    /// Every pack that one of these segments names, at least once. What is cached may be about
    /// packs that went long ago; what a segment says that is there now should be there, too.
    pub fn packs_named(
        &self,
        segments: &BTreeSet<SegmentId>,
        each: &mut dyn FnMut(&Arc<PackRow>),
    ) -> Result<(), IndexError> {
        for run in &self.runs {
            let named = run.named_by(segments)?;
            run.packs(&mut |number, pack| {
                if named.binary_search(&number).is_ok() {
                    each(pack);
                }
            })?;
        }
        let named = self.delta.named().iter().filter(|(_, segment)| segments.contains(segment));
        let named: HashSet<u32> = named.map(|(number, _)| *number).collect();
        self.delta.packs(&mut |number, pack| {
            if named.contains(&number) {
                each(pack);
            }
        });
        Ok(())
    }

    /// The pack with a number, as `packs` counts. The delta must be folded.
    pub fn pack(&self, number: u32) -> Result<Arc<PackRow>, IndexError> {
        let (run, number) = self.run_of(number)?;
        run.pack(number)
    }

    /// All that is known of the pack with a number. The delta must be folded.
    pub fn pack_info(&self, number: u32) -> Result<PackInfo, IndexError> {
        let (run, number) = self.run_of(number)?;
        run.info(number)
    }

    fn run_of(&self, number: u32) -> Result<(&Run, u32), IndexError> {
        let mut below = number;
        for run in &self.runs {
            match below.checked_sub(run.pack_count()) {
                None => return Ok((run, below)),
                Some(rest) => below = rest,
            }
        }
        Err(FormatError::Bad("number of a pack").into())
    }

    /// Number of packs, as `packs` counts.
    pub fn pack_count(&self) -> u32 {
        self.runs.iter().map(Run::pack_count).sum::<u32>() + self.delta.pack_count()
    }

    /// Upper bound of `Chunk::number`, which is what a bit map needs.
    pub fn chunk_count(&self) -> u64 {
        self.runs.iter().map(Run::chunk_count).sum::<u64>() + self.delta.chunk_count() as u64
    }

    /// Every chunk once, in order of ids. The delta must be folded.
    pub fn chunks(&self, each: &mut dyn FnMut(&Chunk)) -> Result<(), IndexError> {
        pass::each_chunk(&self.runs, each)
    }
}

#[cfg(test)]
mod tests;
