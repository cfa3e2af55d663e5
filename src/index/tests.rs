use super::*;
use crate::crypto::KeyRing;
use crate::format::pack::{ChunkInfo, FrameInfo, Trailer};
use crate::id::{ChunkId, RepositoryId};
use crate::storage::{ErrorKind, Listed, MemoryStorage};
use crate::world::{SeededWorld, Time, World, random};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

fn pack(world: &dyn World, chunks: &[ChunkId]) -> PackInfo {
    let mut offset = 16;
    let frames = chunks.chunks(3).map(|ids| {
        let chunks = ids.iter().map(|id| ChunkInfo { id: *id, len: 7 }).collect();
        let id = FrameId(random(world));
        let frame = FrameInfo { id, offset, stored_len: 500, codec: Codec::Zstd, chunks };
        offset += 500;
        frame
    });
    let frames = frames.collect();
    let trailer = Trailer { session: SnapshotId([1; 32]), kind: ChunkKind::Data, frames };
    PackInfo { id: PackId(random(world)), len: 1 << 20, trailer }
}

fn check(index: &Index, expected: &BTreeMap<ChunkId, Vec<PackId>>) {
    for (id, packs) in expected {
        let mut found: Vec<_> =
            index.locations(id).unwrap().iter().map(|place| place.pack.id).collect();
        found.sort();
        let mut packs = packs.clone();
        packs.sort();
        assert_eq!(found, packs, "{id:?}");
    }
    assert!(index.locations(&ChunkId([0xee; 32])).unwrap().is_empty());
}

/// Packs of random chunks, some of which lie in several packs, added in many segments.
fn fill(index: &mut Index, world: &dyn World, segments: usize) -> BTreeMap<ChunkId, Vec<PackId>> {
    let mut expected: BTreeMap<ChunkId, Vec<PackId>> = BTreeMap::new();
    let mut before = Vec::new();
    for number in 0..segments {
        let mut ids: Vec<ChunkId> = (0..40).map(|_| ChunkId(random(world))).collect();
        ids.extend(before.iter().take(2).copied());
        before = ids.clone();
        let pack = pack(world, &ids);
        ids.iter().for_each(|id| expected.entry(*id).or_default().push(pack.id));
        index.add(SegmentId([number as u8; 32]), &[pack]).unwrap();
        if number % 3 == 2 {
            index.fold().unwrap();
        }
    }
    expected
}

#[test]
fn what_was_added_is_found_in_runs_and_delta_and_again_after_opening() {
    let directory = tempfile::tempdir().unwrap();
    let world = SeededWorld::new(1, Time::default());
    let mut index = Index::open(directory.path()).unwrap();
    let expected = fill(&mut index, &world, 20);
    assert!(index.delta.chunk_count() > 0 && !index.runs.is_empty() && index.runs.len() < 5);
    check(&index, &expected);
    index.fold().unwrap();
    check(&index, &expected);
    // A second process reads the same files while the first has them open.
    let second = Index::open(directory.path()).unwrap();
    check(&second, &expected);
    check(&index, &expected);
}

#[test]
fn a_pass_meets_every_chunk_once_with_its_own_number() {
    let directory = tempfile::tempdir().unwrap();
    let world = SeededWorld::new(2, Time::default());
    let mut index = Index::open(directory.path()).unwrap();
    let expected = fill(&mut index, &world, 30);
    index.fold().unwrap();
    assert!(index.runs.len() > 1, "several runs make it worth a test");
    let mut packs = BTreeMap::new();
    index.packs(&mut |number, pack| assert!(packs.insert(number, pack.id).is_none())).unwrap();
    assert_eq!(packs.len(), index.pack_count() as usize);
    packs.iter().for_each(|(number, id)| assert_eq!(index.pack(*number).unwrap().id, *id));
    assert!(index.pack(index.pack_count()).is_err());
    let mut numbers = BTreeSet::new();
    let mut met = BTreeMap::new();
    index
        .chunks(&mut |chunk| {
            assert!(numbers.insert(chunk.number) && chunk.number < index.chunk_count());
            let id = index.id(chunk.number).unwrap();
            assert_eq!(index.number(&id).unwrap(), Some(chunk.number));
            let is_it = |number| number == chunk.number;
            assert_eq!(index.number_where(&id, is_it).unwrap(), Some(chunk.number));
            met.insert(id, chunk.packs.iter().map(|(n, _)| packs[n]).collect::<Vec<_>>());
        })
        .unwrap();
    met.values_mut().for_each(|packs| packs.sort());
    let sorted = expected.into_iter().map(|(id, mut packs)| {
        packs.sort();
        (id, packs)
    });
    assert_eq!(met, sorted.collect());
}

#[test]
fn facts_that_two_processes_cached_count_once() {
    let directory = tempfile::tempdir().unwrap();
    let world = SeededWorld::new(3, Time::default());
    let ids: Vec<ChunkId> = (0..100).map(|_| ChunkId(random(&world))).collect();
    let pack = pack(&world, &ids);
    for _ in 0..2 {
        let mut index =
            Index { directory: directory.path().into(), runs: Vec::new(), delta: Delta::default() };
        index.add(SegmentId([1; 32]), std::slice::from_ref(&pack)).unwrap();
        index.fold().unwrap();
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    let mut index = Index::open(directory.path()).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    index.learn(std::slice::from_ref(&pack)).unwrap();
    index.fold().unwrap();
    assert_eq!(index.pack_count(), 1, "merging drops what is known twice");
    assert_eq!(index.locations(&ids[0]).unwrap().len(), 1);
}

#[test]
fn a_run_that_is_no_run_is_removed_and_does_not_stop_anyone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("run-x.redb"), b"not a database").unwrap();
    let index = Index::open(directory.path()).unwrap();
    assert!(index.runs.is_empty());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_long_segment_is_whole_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let world = SeededWorld::new(4, Time::default());
    let ids: Vec<ChunkId> =
        (0..DELTA_CHUNKS_MAX + 20_000).map(|_| ChunkId(random(&world))).collect();
    let packs: Vec<PackInfo> = ids.chunks(DELTA_CHUNKS_MAX).map(|ids| pack(&world, ids)).collect();
    let mut index = Index::open(directory.path()).unwrap();
    index.add(SegmentId([1; 32]), &packs).unwrap();
    index.fold().unwrap();
    let index = Index::open(directory.path()).unwrap();
    assert_eq!(index.chunk_count(), ids.len() as u64);
}

/// What a prune leaves behind: the segments that spoke of dead packs are replaced.
#[test]
fn facts_of_packs_that_are_gone_do_not_stay_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let world = SeededWorld::new(5, Time::default());
    let storage = MemoryStorage::new();
    let sealer =
        Sealer { keys: KeyRing::generate(&world), repository: RepositoryId(random(&world)) };
    let new_pack = || pack(&world, &[ChunkId(random(&world))]);
    let store = |packs: &[PackInfo]| write_segment(&storage, &sealer, &world, packs).unwrap();
    let [dead, alive, small] = [10, 9, 5].map(|count| (0..count).map(|_| new_pack()).collect());
    let [dead, alive, small]: [Vec<PackInfo>; 3] = [dead, alive, small];
    let first = store(&dead);
    store(&alive);
    let known = |index: &mut Index| {
        index.refresh(&storage, &sealer).unwrap();
        index.fold().unwrap();
        let mut known = BTreeSet::new();
        index.packs(&mut |_, pack| _ = known.insert(pack.id)).unwrap();
        known
    };
    let ids = |packs: &[&[PackInfo]]| packs.concat().iter().map(|pack| pack.id).collect();
    let mut index = Index::open(directory.path()).unwrap();
    assert_eq!(known(&mut index), ids(&[&dead, &alive]));
    let second = store(&small);
    assert_eq!(known(&mut index), ids(&[&dead, &alive, &small]));
    // A little may be wrong; half of it may not.
    storage.delete(&segment_key(&second)).unwrap();
    assert_eq!(known(&mut index), ids(&[&dead, &alive, &small]));
    storage.delete(&segment_key(&first)).unwrap();
    assert_eq!(known(&mut index), ids(&[&alive]));
    assert_eq!(known(&mut Index::open(directory.path()).unwrap()), ids(&[&alive]));
}

#[test]
fn a_pack_counts_as_named_by_every_segment_that_names_it_and_by_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let world = SeededWorld::new(5, Time::default());
    let mut index = Index::open(directory.path()).unwrap();
    let ids: Vec<ChunkId> = (0..100).map(|_| ChunkId(random(&world))).collect();
    let packs: Vec<PackInfo> = ids.chunks(10).map(|ids| pack(&world, ids)).collect();
    let segment = |n: usize| SegmentId([n as u8; 32]);
    // The tenth segment replaces the others.
    for (number, pack) in packs.iter().enumerate() {
        index.add(segment(number), std::slice::from_ref(pack)).unwrap();
        if number % 2 == 1 {
            index.fold().unwrap();
        }
    }
    index.add(segment(10), &packs[..9]).unwrap();
    let named = |index: &Index, segments: &[usize]| {
        let segments = segments.iter().map(|n| segment(*n)).collect();
        let mut found = BTreeSet::new();
        index.packs_named(&segments, &mut |pack| _ = found.insert(pack.id)).unwrap();
        packs.iter().map(|pack| found.contains(&pack.id)).collect::<Vec<_>>()
    };
    for folded in [false, true] {
        assert_eq!(named(&index, &[]), [false; 10]);
        let only = |n: usize| std::array::from_fn::<_, 10, _>(|at| at == n);
        (0..10).for_each(|n| assert_eq!(named(&index, &[n]), only(n), "{n}, {folded}"));
        let all_but_the_last = std::array::from_fn::<_, 10, _>(|at| at != 9);
        assert_eq!(named(&index, &[10]), all_but_the_last);
        index.fold().unwrap();
    }
    index.learn(&packs).unwrap();
    index.fold().unwrap();
    assert_eq!(named(&index, &[]), [false; 10], "what a pack says of itself names it nowhere");
}

#[test]
fn a_frame_is_found_in_every_pack_that_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let world = SeededWorld::new(6, Time::default());
    let mut index = Index::open(directory.path()).unwrap();
    let ids: Vec<ChunkId> = (0..90).map(|_| ChunkId(random(&world))).collect();
    let first = pack(&world, &ids);
    // A repack moves frames as they are.
    let mut second = pack(&world, &ids[..9]);
    second.trailer.frames[1] = first.trailer.frames[20].clone();
    index.add(SegmentId([1; 32]), std::slice::from_ref(&first)).unwrap();
    index.fold().unwrap();
    index.add(SegmentId([2; 32]), std::slice::from_ref(&second)).unwrap();
    for folded in [false, true] {
        for (at, frame) in first.trailer.frames.iter().enumerate() {
            let found = index.frame_locations(&frame.id).unwrap();
            let mut found: Vec<_> = found.iter().map(|(pack, at)| (pack.id, *at)).collect();
            let mut expected = vec![(first.id, at)];
            expected.extend((at == 20).then_some((second.id, 1)));
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{folded}");
        }
        assert!(index.frame_locations(&FrameId([0xee; 24])).unwrap().is_empty());
        index.fold().unwrap();
    }
}

#[test]
fn what_is_remembered_of_neighbours_is_right_and_is_not_all() {
    let directory = tempfile::tempdir().unwrap();
    let world = SeededWorld::new(7, Time::default());
    let mut index = Index::open(directory.path()).unwrap();
    let ids: Vec<ChunkId> = (0..400).map(|_| ChunkId(random(&world))).collect();
    let packs = [pack(&world, &ids), pack(&world, &ids[100..])];
    index.add(SegmentId([1; 32]), &packs).unwrap();
    index.fold().unwrap();
    assert!(index.runs[0].near(&ids[1]).is_none());
    for (at, id) in ids.iter().enumerate() {
        for wanted in &packs {
            let is_there = index.any_location(id, |location| {
                let frame = wanted.trailer.frames.get(location.frame);
                let chunks = frame.into_iter().flat_map(|frame| &frame.chunks);
                let at = chunks.map(|chunk| chunk.id).position(|found| found == *id);
                location.pack.id == wanted.id && at == Some(location.offset as usize / 7)
            });
            let is_there = is_there.unwrap();
            assert_eq!(is_there, wanted.id == packs[0].id || at >= 100, "{at}");
        }
    }
    assert_eq!(index.pack_info(1).unwrap(), packs[1]);
    assert!(index.runs[0].near(&ids[350]).is_some());
}

#[test]
fn in_a_long_frame_what_follows_a_chunk_is_remembered_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let world = SeededWorld::new(7, Time::default());
    let mut index = Index::open(directory.path()).unwrap();
    let ids: Vec<ChunkId> = (0..2_000).map(|_| ChunkId(random(&world))).collect();
    let mut long = pack(&world, &ids[..1]);
    let chunks = ids.iter().map(|id| ChunkInfo { id: *id, len: 7 }).collect();
    long.trailer.frames[0].chunks = chunks;
    index.add(SegmentId([1; 32]), &[long]).unwrap();
    index.fold().unwrap();
    let found = index.locations(&ids[1_000]).unwrap();
    assert_eq!((found.len(), found[0].offset), (1, 7_000));
    let remembered = |at: usize| index.runs[0].near(&ids[at]);
    assert_eq!(remembered(1_001).unwrap().offset, 7_007);
    assert!(remembered(0).is_none() && remembered(1_999).is_none());
}

/// Gives so many objects, and no more.
#[derive(Debug)]
struct Failing<'a>(&'a MemoryStorage, AtomicUsize);

impl Storage for Failing<'_> {
    fn location(&self) -> String {
        self.0.location()
    }
    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.0.put(key, parts)
    }
    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>, StorageError> {
        let counted = |left: usize| left.checked_sub(1);
        match self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, counted) {
            Ok(_) => self.0.get(key, len_max),
            Err(_) => Err(StorageError::new(ErrorKind::Transient, key, "is not to be had")),
        }
    }
    fn get_range_into(
        &self,
        key: &str,
        offset: u64,
        len: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), StorageError> {
        self.0.get_range_into(key, offset, len, into)
    }
    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        self.0.list(prefix, each)
    }
    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.0.delete(key)
    }
    fn stat(&self, key: &str) -> Result<u64, StorageError> {
        self.0.stat(key)
    }
}

#[test]
fn many_segments_become_one_run_and_an_outage_costs_only_what_was_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let world = SeededWorld::new(8, Time::default());
    let storage = MemoryStorage::new();
    let sealer =
        Sealer { keys: KeyRing::generate(&world), repository: RepositoryId(random(&world)) };
    let mut expected = BTreeMap::new();
    for _ in 0..8 {
        let ids: Vec<ChunkId> = (0..12_000).map(|_| ChunkId(random(&world))).collect();
        let packs: Vec<PackInfo> = ids.chunks(3_000).map(|ids| pack(&world, ids)).collect();
        write_segment(&storage, &sealer, &world, &packs).unwrap();
        for (ids, pack) in ids.chunks(3_000).zip(&packs) {
            expected.extend(ids.iter().step_by(100).map(|id| (*id, vec![pack.id])));
        }
    }
    let damaged = SegmentId([9; 32]);
    storage.put(&segment_key(&damaged), &[&[0; 100]]).unwrap();
    let mut index = Index::open(directory.path()).unwrap();
    let failing = Failing(&storage, AtomicUsize::new(5));
    assert!(matches!(index.refresh(&failing, &sealer), Err(IndexError::Storage(_))));
    let kept = index.runs[0].segments().len();
    assert!((1..=5).contains(&kept) && index.runs.len() == 1 && index.delta.is_empty());
    // Another process goes on from there.
    let mut index = Index::open(directory.path()).unwrap();
    let failing = Failing(&storage, AtomicUsize::new(9 - kept));
    let refreshed = index.refresh(&failing, &sealer).unwrap();
    assert_eq!(refreshed.damaged.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [damaged]);
    index.fold().unwrap();
    assert_eq!(index.chunk_count(), 96_000);
    check(&index, &expected);
}
