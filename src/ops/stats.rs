//! How much a repository holds, and what it takes in the storage.

use std::collections::HashMap;
use std::sync::Arc;

use super::walk::{Flow, Start, WalkItem, walk};
use super::{OpsError, lost};
use crate::format::frame::ChunkKind;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{EntryKind, Ref, Refs};
use crate::id::{ChunkId, PackId};
use crate::progress::{Counter, Progress};
use crate::repo::Repository;
use crate::tree::TreeReader;

/// Objects of one kind in the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// How many there are.
    pub object_count: u64,
    /// Bytes of them together.
    pub bytes: u64,
}

impl Stored {
    fn add(&mut self, bytes: u64) {
        self.object_count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatsReport {
    /// Snapshots that count.
    pub snapshot_count: u64,
    /// Bytes that restoring each of them would write, holes included.
    pub restore_bytes: u64,
    /// Chunks of file contents, each once.
    pub data_chunk_count: u64,
    /// Bytes of them before compression.
    pub data_bytes: u64,
    /// Chunks of trees, each once.
    pub tree_chunk_count: u64,
    /// Bytes of them before compression.
    pub tree_bytes: u64,
    /// Frames in packs that are there.
    pub frame_count: u64,
    /// Packs of file contents.
    pub data_packs: Stored,
    /// Packs of trees.
    pub tree_packs: Stored,
    /// Packs that no index segment names.
    pub unknown_packs: Stored,
    /// Index segments.
    pub segments: Stored,
    /// Snapshots, sessions, notes and records of forgetting.
    pub snapshots: Stored,
    /// Everything else: configuration, key slots, epochs.
    pub others: Stored,
}

impl StatsReport {
    /// Bytes that the repository takes in the storage.
    pub fn stored_bytes(&self) -> u64 {
        let Self { data_packs, tree_packs, unknown_packs, segments, snapshots, others, .. } = self;
        [data_packs, tree_packs, unknown_packs, segments, snapshots, others]
            .iter()
            .fold(0, |sum: u64, stored| sum.saturating_add(stored.bytes))
    }

    /// Packs of all kinds.
    pub fn pack_count(&self) -> u64 {
        let packs = [self.data_packs, self.tree_packs, self.unknown_packs];
        packs.iter().map(|stored| stored.object_count).sum()
    }

    /// How many times the unique bytes of file contents the snapshots hold; `None` without any.
    pub fn dedup_ratio(&self) -> Option<f64> {
        ratio(self.restore_bytes, self.data_bytes)
    }

    /// How many bytes before compression one byte in packs stands for; `None` without any.
    pub fn compression_ratio(&self) -> Option<f64> {
        let stored = self.data_packs.bytes.saturating_add(self.tree_packs.bytes);
        ratio(self.data_bytes.saturating_add(self.tree_bytes), stored)
    }
}

fn ratio(of: u64, to: u64) -> Option<f64> {
    (to > 0).then(|| of as f64 / to as f64)
}

/// Counts what the repository holds, from its snapshots, its index and its listing.
pub fn stats(
    repository: &Arc<Repository>,
    progress: &dyn Progress,
) -> Result<StatsReport, OpsError> {
    let mut report = StatsReport::default();
    progress.phase("counting", Counter::Objects, None);
    for record in repository.snapshots(progress)? {
        let bytes = record.snapshot.statistics.bytes;
        report.snapshot_count += 1;
        report.restore_bytes = report.restore_bytes.saturating_add(bytes);
    }
    repository.refresh_index()?;
    repository.with_index_mut(|index| index.fold())?;
    let packs = Packs::read(repository)?;
    repository.storage().list("", &mut |listed| {
        progress.add(Counter::Objects, 1);
        stored_of(&mut report, &packs, &listed.key).add(listed.len);
    })?;
    repository.with_index(|index| {
        index.chunks(&mut |chunk| {
            let kind = chunk.packs.iter().find_map(|(pack, _)| packs.kind_of(*pack));
            let len = u64::from(chunk.len);
            match kind {
                Some(ChunkKind::Data) => {
                    report.data_chunk_count += 1;
                    report.data_bytes = report.data_bytes.saturating_add(len);
                }
                Some(ChunkKind::Tree) => {
                    report.tree_chunk_count += 1;
                    report.tree_bytes = report.tree_bytes.saturating_add(len);
                }
                // All its packs are gone.
                None => {}
            }
        })
    })??;
    report.frame_count = packs.frame_count;
    Ok(report)
}

/// What the index says of the packs that are there.
struct Packs {
    by_id: HashMap<PackId, ChunkKind>,
    /// By the index's number of a pack.
    by_number: Vec<Option<ChunkKind>>,
    frame_count: u64,
}

impl Packs {
    fn read(repository: &Repository) -> Result<Self, OpsError> {
        let mut there: HashMap<PackId, Option<ChunkKind>> =
            repository.list_packs()?.into_iter().map(|(id, _)| (id, None)).collect();
        let mut frame_count = 0;
        let mut by_number = Vec::new();
        repository.with_index(|index| {
            index.packs(&mut |number, pack| {
                let number = number as usize;
                if by_number.len() <= number {
                    by_number.resize(number + 1, None);
                }
                if let Some(kind) = there.get_mut(&pack.id) {
                    // One that several runs know comes several times.
                    if kind.replace(pack.kind).is_none() {
                        frame_count += pack.frames.len() as u64;
                    }
                    by_number[number] = Some(pack.kind);
                }
            })
        })??;
        let by_id = there.into_iter().filter_map(|(id, kind)| Some((id, kind?))).collect();
        Ok(Self { by_id, by_number, frame_count })
    }

    fn kind_of(&self, number: u32) -> Option<ChunkKind> {
        self.by_number.get(number as usize).copied().flatten()
    }
}

fn stored_of<'a>(report: &'a mut StatsReport, packs: &Packs, key: &str) -> &'a mut Stored {
    let (top, _) = key.split_once('/').unwrap_or((key, ""));
    match top {
        "packs" => {
            let id = crate::format::pack::pack_of_key(key);
            match id.and_then(|id| packs.by_id.get(&id)) {
                Some(ChunkKind::Data) => &mut report.data_packs,
                Some(ChunkKind::Tree) => &mut report.tree_packs,
                None => &mut report.unknown_packs,
            }
        }
        "index" => &mut report.segments,
        "snapshots" | "sessions" | "notes" | "forgotten" => &mut report.snapshots,
        _ => &mut report.others,
    }
}

/// What one snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotStats {
    /// Regular files, by their names.
    pub file_count: u64,
    /// Directories.
    pub directory_count: u64,
    /// Everything else.
    pub other_count: u64,
    /// Bytes of all files, holes included; a file with several names counts with each.
    pub bytes: u64,
    /// Of these, bytes in holes, which take no room.
    pub hole_bytes: u64,
    /// Bytes of its chunks of file contents, each once, before compression.
    pub unique_bytes: u64,
    /// How many chunks these are.
    pub chunk_count: u64,
}

/// Counts what SNAPSHOT:PATH holds. A path that names a file counts as that file.
pub fn snapshot_stats(
    repository: &Arc<Repository>,
    snapshot: &Snapshot,
    path: &[u8],
    progress: &dyn Progress,
) -> Result<SnapshotStats, OpsError> {
    progress.phase("counting", Counter::Entries, None);
    let reader = TreeReader::new(repository);
    let start = Start::find(&reader, snapshot, path)?;
    let mut report = SnapshotStats::default();
    let mut seen = Seen::new(repository)?;
    let visit = &mut |item: &WalkItem<'_>| {
        progress.add(Counter::Entries, 1);
        match &item.entry.kind {
            EntryKind::File { content, .. } => {
                report.file_count += 1;
                report.bytes = report.bytes.saturating_add(content.len());
                let lists = Lists { reader: &reader, path: item.path, progress };
                lists.count(content, &mut seen, &mut report)?;
            }
            EntryKind::Directory { .. } => report.directory_count += 1,
            _ => report.other_count += 1,
        }
        Ok(Flow::Continue)
    };
    walk(&reader, &start, visit, progress)?;
    Ok(report)
}

/// A file whose lists are read, and where trouble with them is told.
struct Lists<'a> {
    reader: &'a TreeReader,
    path: &'a [u8],
    progress: &'a dyn Progress,
}

impl Lists<'_> {
    fn count(
        &self,
        content: &Refs,
        seen: &mut Seen<'_>,
        report: &mut SnapshotStats,
    ) -> Result<(), OpsError> {
        for leaf in self.reader.leaves(content) {
            if self.progress.cancelled() {
                return Err(OpsError::Cancelled);
            }
            match leaf {
                Ok(Ref::Hole { len }) => report.hole_bytes = report.hole_bytes.saturating_add(len),
                Ok(Ref::Chunk { id, len }) => {
                    if seen.is_first(&id)? {
                        report.chunk_count += 1;
                        report.unique_bytes = report.unique_bytes.saturating_add(len);
                    }
                }
                Err(error) => self.progress.problem(&lost(self.path, error)?),
            }
        }
        Ok(())
    }
}

/// Which chunks were met: a bit for each that the index knows.
struct Seen<'a> {
    repository: &'a Repository,
    bits: Vec<u64>,
}

impl<'a> Seen<'a> {
    fn new(repository: &'a Repository) -> Result<Self, OpsError> {
        repository.refresh_index()?;
        repository.with_index_mut(|index| index.fold())?;
        let count = repository.with_index(|index| index.chunk_count())?;
        let words = usize::try_from(count.div_ceil(64)).unwrap_or(usize::MAX);
        Ok(Self { repository, bits: vec![0; words] })
    }

    /// One that the index does not know is lost, and holds nothing.
    fn is_first(&mut self, id: &ChunkId) -> Result<bool, OpsError> {
        let number = self.repository.with_index(|index| index.number(id))??;
        let Some(number) = number else { return Ok(false) };
        let word = usize::try_from(number / 64).ok().and_then(|at| self.bits.get_mut(at));
        let Some(word) = word else { return Ok(false) };
        let bit = 1 << (number % 64);
        let first = *word & bit == 0;
        *word |= bit;
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{CHUNK, Sample, Tree, noise};
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn what_is_stored_adds_up() {
        let sample = Sample::new(1);
        let progress = Silent::default();
        let empty = stats(&sample.repository, &progress).unwrap();
        assert_eq!((empty.snapshot_count, empty.pack_count()), (0, 0));
        assert_eq!((empty.dedup_ratio(), empty.compression_ratio()), (None, None));
        let mut tree = Tree::default();
        tree.file(b"/a", &noise(1, 4 * CHUNK));
        tree.file(b"/b", &noise(1, 4 * CHUNK));
        tree.file(b"/d/c", &vec![7; CHUNK]);
        sample.snapshot(&tree, b"");
        tree.file(b"/d/new", b"new");
        sample.snapshot(&tree, b"");
        let report = stats(&sample.repository, &progress).unwrap();
        assert_eq!(report.snapshot_count, 2);
        assert_eq!(report.restore_bytes, 2 * 9 * CHUNK as u64 + 3);
        assert_eq!((report.data_chunk_count, report.data_bytes), (6, 5 * CHUNK as u64 + 3));
        // The top and /d, twice each.
        assert_eq!(report.tree_chunk_count, 4);
        assert!(report.tree_bytes > 0 && report.frame_count >= 7);
        let packs = (report.data_packs.object_count, report.tree_packs.object_count);
        assert_eq!((packs, report.unknown_packs.object_count), ((2, 2), 0));
        assert_eq!(report.segments.object_count, 2);
        // Two snapshots and their sessions; the configuration and a key slot, with their copies.
        assert_eq!((report.snapshots.object_count, report.others.object_count), (4, 4));
        let (mut count, mut bytes) = (0, 0);
        let listed = &mut |listed: crate::storage::Listed| {
            count += 1;
            bytes += listed.len;
        };
        sample.repository.storage().list("", listed).unwrap();
        assert_eq!(report.stored_bytes(), bytes);
        assert_eq!(count, 4 + 2 + 4 + 4);
        assert!(report.dedup_ratio().is_some_and(|ratio| (3.5..3.7).contains(&ratio)));
        assert!(report.compression_ratio().is_some_and(|ratio| (0.9..1.3).contains(&ratio)));
        assert!(progress.problems().is_empty());
    }

    #[test]
    fn packs_that_are_gone_count_for_nothing() {
        let sample = Sample::new(1);
        let mut tree = Tree::default();
        tree.file(b"/alone/a", &noise(1, CHUNK));
        tree.file(b"/alone/b", &noise(2, CHUNK));
        let record = sample.snapshot(&tree, b"/alone");
        let before = stats(&sample.repository, &Silent::default()).unwrap();
        sample.delete_packs_of(&sample.content_of(&record, b"/alone/a").refs[0]);
        let after = stats(&sample.repository, &Silent::default()).unwrap();
        assert_eq!((before.data_bytes, after.data_bytes), (2 * CHUNK as u64, CHUNK as u64));
        assert_eq!(before.frame_count, after.frame_count + 1);
    }

    #[test]
    fn one_snapshot_or_a_part_of_it() {
        let sample = Sample::new(1);
        let mut tree = Tree::default();
        let long = [noise(1, 80 * CHUNK), vec![0; 2 * CHUNK]].concat();
        tree.file(b"/d/a", &long);
        tree.file(b"/d/b", &long);
        tree.file(b"/c", b"xyz");
        tree.put(b"/p", super::super::sample::Node::Other(EntryKind::Fifo));
        let record = sample.snapshot(&tree, b"");
        let progress = Silent::default();
        let of = |path: &[u8]| {
            snapshot_stats(&sample.repository, &record.snapshot, path, &progress).unwrap()
        };
        let chunk = CHUNK as u64;
        let part = SnapshotStats {
            file_count: 2,
            bytes: 2 * 82 * chunk,
            hole_bytes: 4 * chunk,
            unique_bytes: 80 * chunk,
            chunk_count: 80,
            ..SnapshotStats::default()
        };
        assert_eq!(of(b"/d"), part);
        let all = SnapshotStats {
            file_count: 3,
            directory_count: 1,
            other_count: 1,
            bytes: part.bytes + 3,
            unique_bytes: part.unique_bytes + 3,
            chunk_count: 81,
            ..part
        };
        assert_eq!(of(b"/"), all);
        assert_eq!(of(b"/c").bytes, 3);
        assert!(progress.problems().is_empty());
    }
}
