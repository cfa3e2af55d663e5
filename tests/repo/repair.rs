//! Repair: what is damaged is mended from parity, from what is left, or from a mirror; the rest
//! is said, and dropped only when asked for.

use std::sync::Arc;

use holdall::format::envelope::ObjectType;
use holdall::format::epoch::{EpochStep, Plan};
use holdall::format::session::{Purpose, session_key};
use holdall::format::snapshot::{Outcome, snapshot_key};
use holdall::index::{read_segment, segment_of_key, write_segment};
use holdall::ops::OpsError;
use holdall::ops::check::{CheckOptions, ReadData, check};
use holdall::ops::copy::{CopyOptions, copy};
use holdall::ops::prune::{Limit, PruneOptions, prune};
use holdall::ops::repair::{
    DamagedPack, How, Mirror, RepairOptions, RepairPlan, RepairReport, Source, plan, repair,
};
use holdall::progress::Silent;
use holdall::repo::{Repository, Session, SnapshotRecord};
use holdall::storage::{MemoryStorage, Storage};

use crate::support::repository::{TestRepo, environment, small};
use crate::support::snapshots::{
    Tree, assert_snapshots, commit_tree, files, read_tree, write_tree,
};
use crate::support::storages::{Damage, Meanwhile, damage, keys};

type Expected = Vec<(SnapshotRecord, Tree)>;

/// Two snapshots that share most of what they have.
fn filled(parity: u8) -> (MemoryStorage, TestRepo, Expected) {
    let memory = MemoryStorage::new();
    let repo = TestRepo::create(Arc::new(memory.clone()), &small(), 1);
    repo.repository.set_parity(parity).unwrap();
    let mut tree = files(1, 24, 20_000);
    let first = (commit_tree(&repo.repository, &tree).unwrap(), tree.clone());
    tree.extend(files(2, 6, 9_000).into_iter().map(|(path, bytes)| (format!("new/{path}"), bytes)));
    let second = (commit_tree(&repo.repository, &tree).unwrap(), tree);
    (memory, repo, vec![first, second])
}

/// The repository as another machine sees it, which knows no index yet.
fn fresh(repo: &TestRepo) -> (Arc<Repository>, tempfile::TempDir) {
    let cache = tempfile::tempdir().unwrap();
    (repo.open_on(repo.storage.clone(), cache.path()), cache)
}

const READ: RepairOptions<'static> = RepairOptions {
    read_data: true,
    from: None,
    add_parity: None,
    drop_lost: false,
    prune: PruneOptions {
        dry_run: false,
        max_unused: holdall::ops::prune::Limit::Unlimited,
        max_repack: None,
        reseal: false,
        fence_older_than: None,
        is_dead: &|_, _| true,
        wait: &|_| false,
    },
};

fn planned(repository: &Arc<Repository>, options: &RepairOptions<'_>) -> RepairPlan {
    plan(repository, options, &Silent::default()).unwrap()
}

fn run(repository: &Arc<Repository>, options: &RepairOptions<'_>) -> RepairReport {
    let plan = planned(repository, options);
    let mut told = Vec::new();
    let mut tell = |mends: &[_]| told.extend_from_slice(mends);
    let report = repair(repository, &plan, options, &mut tell, &Silent::default()).unwrap();
    assert_eq!(report.mends, told);
    report
}

/// Everything is mended, and another machine finds nothing wrong in any byte.
#[track_caller]
fn assert_mended(repo: &TestRepo, report: &RepairReport, expected: &[(SnapshotRecord, Tree)]) {
    assert!(!report.remaining.is_damage(), "{report:?}");
    let (repository, _cache) = fresh(repo);
    assert_whole(&repository);
    assert_snapshots(&repository, expected);
    let again = planned(&repository, &READ);
    assert!(again.is_empty(), "{again:?}");
}

#[track_caller]
fn assert_whole(repository: &Arc<Repository>) {
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let report = check(repository, &options, &Silent::default()).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert!(keys(repository.storage(), "damage/").is_empty());
}

#[test]
fn nothing_is_wrong_and_nothing_is_done() {
    let (memory, repo, expected) = filled(0);
    let before = memory.snapshot();
    let report = run(&repo.repository, &READ);
    assert!(report.mends.is_empty() && report.pruned.is_none());
    assert_eq!(memory.snapshot(), before);
    assert_mended(&repo, &report, &expected);
}

#[test]
fn parity_mends_packs_whatever_was_hit() {
    let (memory, repo, expected) = filled(5);
    let packs = keys(&memory, "packs/");
    assert_eq!(keys(&memory, "parity/").len(), packs.len());
    let whole = memory.snapshot();
    for (n, key) in packs.iter().enumerate() {
        let len = memory.stat(key).unwrap();
        let hurts = [
            Damage::Flip { offset: 3, mask: 1 },
            Damage::Flip { offset: len / 2, mask: 0x10 },
            Damage::Flip { offset: len - 3, mask: 1 },
            Damage::ZeroPage { page: len / 4096 / 2 },
            Damage::Truncate { len: len - 1 },
        ];
        // Each kind of damage to some of the packs.
        for hurt in [&hurts[n % 5], &hurts[(n + 2) % 5]] {
            memory.restore(&whole);
            damage(&memory, key, hurt).unwrap();
            let (repository, _cache) = fresh(&repo);
            let before = memory.snapshot();
            let plan = planned(&repository, &READ);
            assert!(memory.snapshot() == before, "a plan changes nothing");
            assert_eq!(plan.packs.len(), 1, "{hurt:?} of {key}: {plan:?}");
            assert_eq!(plan.packs[0].from, Source::Parity, "{hurt:?} of {key}");
            assert!(plan.touched.is_empty() && plan.is_damage());
            let report = run(&repository, &READ);
            assert!(report.mends.iter().any(|mend| mend.object == *key && mend.how == How::Parity));
            assert!(!keys(&memory, "packs/").contains(key), "{hurt:?} of {key}");
            assert_mended(&repo, &report, &expected);
            // What was written anew has parity as well, and nothing else has.
            let ids = |prefix| {
                keys(&memory, prefix)
                    .iter()
                    .map(|k| k[k.len() - 64..].to_owned())
                    .collect::<Vec<_>>()
            };
            assert_eq!(ids("packs/"), ids("parity/"));
        }
    }
}

#[test]
fn parity_that_is_damaged_or_gone_is_found_and_made_anew() {
    let (memory, repo, expected) = filled(5);
    let whole = memory.snapshot();
    let key = keys(&memory, "parity/")[0].clone();
    let len = memory.stat(&key).unwrap();
    let hurts = [4, 100, len / 2, len - 40, len - 2].map(|offset| Damage::Flip { offset, mask: 1 });
    for hurt in hurts.into_iter().chain([Damage::Truncate { len: len / 2 }, Damage::Delete]) {
        memory.restore(&whole);
        damage(&memory, &key, &hurt).unwrap();
        let (repository, _cache) = fresh(&repo);
        let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
        let found = check(&repository, &options, &Silent::default()).unwrap();
        let named: Vec<_> = found.damaged.iter().map(|object| &object.key).collect();
        // A backup that could not store parity is a good backup: none is no damage.
        let is_gone = hurt == Damage::Delete;
        assert_eq!(named, [&key].into_iter().filter(|_| !is_gone).collect::<Vec<_>>(), "{hurt:?}");
        let plan = planned(&repository, &READ);
        assert_eq!((plan.is_damage(), plan.without_parity), (!is_gone, u64::from(is_gone)));
        let report = run(&repository, &READ);
        assert!(report.mends.iter().any(|mend| mend.how == How::ParityMade), "{hurt:?}");
        assert_mended(&repo, &report, &expected);
        assert!(memory.stat(&key).is_ok());
    }
}

#[test]
fn damage_that_check_has_recorded_is_mended_without_reading_everything() {
    let (memory, repo, expected) = filled(5);
    // Of contents: a tree that does not open would give its pack away.
    let kind = |key: &String| memory.get(key, 1 << 30).unwrap()[10];
    let (data, trees): (Vec<_>, Vec<_>) =
        keys(&memory, "packs/").into_iter().partition(|key| kind(key) == 1);
    let (key, tree) = (&data[0], &trees[0]);
    let whole = memory.snapshot();
    let known = RepairOptions { read_data: false, ..READ };
    damage(&memory, tree, &Damage::Flip { offset: 300, mask: 1 }).unwrap();
    let (repository, _cache) = fresh(&repo);
    let report = run(&repository, &known);
    assert!(report.mends.iter().any(|mend| mend.object == *tree && mend.how == How::Parity));
    assert_mended(&repo, &report, &expected);
    memory.restore(&whole);
    damage(&memory, key, &Damage::Flip { offset: 300, mask: 1 }).unwrap();
    let (repository, _cache) = fresh(&repo);
    assert!(!planned(&repository, &known).is_damage(), "nobody knows of it yet");
    let plan = planned(&repository, &READ);
    // A repair that ends after its records: the damage is known from then on.
    let DamagedPack { id, frames, .. } = plan.packs[0].clone();
    repository.record_damage(id, frames, "w".into()).unwrap();
    let report = run(&repository, &known);
    assert_mended(&repo, &report, &expected);
}

#[test]
fn a_record_of_damage_to_a_sound_pack_is_taken_back() {
    let (memory, repo, expected) = filled(0);
    let (repository, _cache) = fresh(&repo);
    let pack = repository.list_packs().unwrap()[0].0;
    repository.record_damage(pack, Vec::new(), "w".into()).unwrap();
    let plan = planned(&repository, &READ);
    assert!(!plan.is_damage() && plan.outdated.len() == 1, "{plan:?}");
    let report = run(&repository, &RepairOptions { read_data: false, ..READ });
    assert_mended(&repo, &report, &expected);
    assert!(memory.stat(&holdall::format::pack::pack_key(&pack)).is_ok());
}

#[test]
fn packs_that_say_nothing_of_themselves_give_their_frames() {
    // The end of the trailer is damaged; with and without a segment that knows the pack.
    for without_index in [false, true] {
        let (memory, repo, expected) = filled(0);
        let whole = memory.snapshot();
        for key in keys(&memory, "packs/") {
            memory.restore(&whole);
            let len = memory.stat(&key).unwrap();
            damage(&memory, &key, &Damage::Flip { offset: len - 20, mask: 1 }).unwrap();
            if without_index {
                keys(&memory, "index/").iter().for_each(|key| memory.delete(key).unwrap());
            }
            let (repository, _cache) = fresh(&repo);
            let plan = planned(&repository, &READ);
            assert!(plan.packs.len() == 1, "{plan:?}");
            let report = run(&repository, &READ);
            let mended = |mend: &holdall::ops::repair::Mend| {
                mend.object == key && matches!(mend.how, How::Frames(_))
            };
            assert!(report.mends.iter().any(mended), "{report:?}");
            assert_mended(&repo, &report, &expected);
        }
    }
}

#[test]
fn index_segments_are_made_again() {
    let (memory, repo, expected) = filled(0);
    let whole = memory.snapshot();
    for key in keys(&memory, "index/") {
        for hurt in
            [Damage::Flip { offset: 60, mask: 1 }, Damage::Truncate { len: 9 }, Damage::Delete]
        {
            memory.restore(&whole);
            damage(&memory, &key, &hurt).unwrap();
            // A machine whose index knows what the segment said, and one that does not.
            let (stranger, _cache) = fresh(&repo);
            for repository in [repo.reopen(), stranger] {
                let left = memory.snapshot();
                let plan = planned(&repository, &READ);
                assert_eq!(plan.segments.len(), usize::from(hurt != Damage::Delete));
                assert!(!plan.unnamed.is_empty());
                let report = run(&repository, &READ);
                assert_mended(&repo, &report, &expected);
                memory.restore(&left);
            }
        }
    }
}

/// A mirror with a copy of every snapshot.
fn mirrored(repo: &TestRepo, relative: bool) -> (Arc<Repository>, tempfile::TempDir) {
    let cache = tempfile::tempdir().unwrap();
    let mirror = Repository::create(
        Arc::new(MemoryStorage::new()),
        repo.world.clone(),
        environment(cache.path()),
        &small(),
        &[],
        relative.then_some(&*repo.repository),
    );
    let mirror = Arc::new(mirror.unwrap());
    let records = repo.repository.snapshots(&Silent::default()).unwrap();
    copy(&repo.repository, &mirror, &records, &CopyOptions::default(), &Silent::default()).unwrap();
    (mirror, cache)
}

#[test]
fn a_mirror_gives_back_missing_and_damaged_packs() {
    let (memory, repo, expected) = filled(0);
    let (mirror, _mirror_cache) = mirrored(&repo, true);
    let whole = memory.snapshot();
    let all = keys(&memory, "packs/");
    let mut cases: Vec<Vec<(String, Damage)>> = Vec::new();
    let hurts =
        [Damage::Delete, Damage::Flip { offset: 500, mask: 1 }, Damage::Truncate { len: 700 }];
    for (n, key) in all.iter().enumerate() {
        cases.push(vec![(key.clone(), hurts[n % 3].clone())]);
    }
    cases.push(all.iter().map(|key| (key.clone(), Damage::Delete)).collect());
    for case in cases {
        memory.restore(&whole);
        case.iter().for_each(|(key, hurt)| damage(&memory, key, hurt).unwrap());
        let (repository, _cache) = fresh(&repo);
        let from = Mirror::of(&repository, mirror.clone()).unwrap().unwrap();
        let options = RepairOptions { from: Some(&from), ..READ };
        let plan = planned(&repository, &options);
        assert!(plan.touched.is_empty() && plan.chunks_in_mirror == plan.chunks_lost, "{plan:?}");
        assert!(planned(&repository, &READ).packs.iter().all(|p| p.from == Source::Nowhere));
        let report = run(&repository, &options);
        assert_mended(&repo, &report, &expected);
    }
}

#[test]
fn a_repository_of_another_family_is_no_mirror() {
    let (_memory, repo, _) = filled(0);
    let (stranger, _cache) = mirrored(&repo, false);
    assert!(Mirror::of(&repo.repository, stranger).unwrap().is_none());
}

#[test]
fn what_is_nowhere_is_said_and_dropped_only_when_asked_for() {
    let (memory, repo, expected) = filled(0);
    repo.repository.annotate(&expected[0].0, |note| note.pinned = true).unwrap();
    // The pack with the contents that only the second snapshot has.
    let whole = memory.snapshot();
    let mut hit = 0;
    for key in keys(&memory, "packs/") {
        memory.restore(&whole);
        damage(&memory, &key, &Damage::Delete).unwrap();
        let (repository, _cache) = fresh(&repo);
        let before = repository.snapshots(&Silent::default()).unwrap();
        let first = run(&repository, &READ);
        assert!(first.remaining.is_damage() && !first.remaining.touched.is_empty());
        assert_eq!(first.pruned, None);
        assert_eq!(repository.snapshots(&Silent::default()).unwrap(), before, "nothing is dropped");
        let touched: Vec<_> = first.remaining.touched.iter().map(|t| t.snapshot).collect();
        let report = run(&repository, &RepairOptions { drop_lost: true, ..READ });
        assert!(!report.remaining.is_damage(), "{report:?}");
        let (repository, _cache) = fresh(&repo);
        assert_whole(&repository);
        let after = repository.snapshots(&Silent::default()).unwrap();
        assert_eq!(after.len(), expected.len());
        for (record, tree) in &expected {
            if !touched.contains(&record.id) {
                assert!(read_tree(&repository, record).unwrap() == *tree);
                continue;
            }
            hit += 1;
            let new = after.iter().find(|new| new.snapshot.original == Some(record.id)).unwrap();
            assert_eq!(new.snapshot.outcome, Outcome::Partial);
            assert!(!new.snapshot.problems.is_empty());
            assert_eq!(new.pinned(), record.id == expected[0].0.id);
            let left = read_tree(&repository, new).unwrap();
            assert!(left.len() < tree.len());
            assert!(left.iter().all(|(path, bytes)| tree.get(path) == Some(bytes)));
        }
        prune(&repository, &PruneOptions::default(), &Silent::default()).unwrap();
    }
    assert!(hit > 2);
}

#[test]
fn a_snapshot_that_lost_its_session_counts_again() {
    let (memory, repo, mut expected) = filled(0);
    let (record, tree) = expected.remove(0);
    repo.repository.annotate(&record, |note| note.pinned = true).unwrap();
    memory.delete(&session_key(&record.id)).unwrap();
    let (repository, _cache) = fresh(&repo);
    let known = RepairOptions { read_data: false, ..READ };
    let plan = planned(&repository, &known);
    assert_eq!(plan.uncounted.iter().map(|r| r.id).collect::<Vec<_>>(), [record.id]);
    let report = run(&repository, &known);
    let How::Committed(id) = report.mends[0].how else { panic!("{report:?}") };
    let records = repository.snapshots(&Silent::default()).unwrap();
    let again = records.iter().find(|record| record.id == id).unwrap();
    assert!(again.pinned() && again.snapshot.outcome == Outcome::Complete);
    assert_eq!(again.snapshot.replaces, Some(record.id));
    expected.push((again.clone(), tree));
    assert_mended(&repo, &report, &expected);
    assert!(memory.stat(&snapshot_key(&record.id)).is_err());
    // One of which nothing is left is not offered.
    let before = memory.snapshot();
    memory.delete(&session_key(&id)).unwrap();
    assert_eq!(planned(&repository, &known).uncounted.len(), 1);
    keys(&memory, "packs/").iter().for_each(|key| memory.delete(key).unwrap());
    assert!(planned(&repository, &known).uncounted.is_empty());
    memory.restore(&before);
    // One that was forgotten stays so, even when something of it is left.
    let object = memory.get(&snapshot_key(&id), 1 << 20).unwrap();
    repository.forget(std::slice::from_ref(again)).unwrap();
    memory.put(&snapshot_key(&id), &[&object]).unwrap();
    assert!(planned(&repository, &known).uncounted.is_empty());
}

#[test]
fn a_snapshot_that_lost_its_session_outlives_a_prune() {
    let (memory, repo, mut expected) = filled(0);
    // All that only the second one needs would go.
    let (record, tree) = expected.remove(1);
    memory.delete(&session_key(&record.id)).unwrap();
    let (repository, _cache) = fresh(&repo);
    let all = PruneOptions { max_unused: Limit::Bytes(0), ..PruneOptions::default() };
    (0..2).for_each(|_| _ = prune(&repository, &all, &Silent::default()).unwrap());
    let report = run(&repository, &READ);
    let How::Committed(id) = report.mends[0].how else { panic!("{report:?}") };
    let records = repository.snapshots(&Silent::default()).unwrap();
    expected.push((records.into_iter().find(|record| record.id == id).unwrap(), tree));
    assert_mended(&repo, &report, &expected);
    assert!(memory.stat(&snapshot_key(&record.id)).is_err());
    // What was forgotten or replaced goes, and so does what only it needed.
    let objects = keys(&memory, "packs/").len();
    let gone = expected.pop().unwrap().0;
    let object = memory.get(&snapshot_key(&id), 1 << 20).unwrap();
    repository.forget(&[gone]).unwrap();
    memory.put(&snapshot_key(&id), &[&object]).unwrap();
    prune(&repository, &all, &Silent::default()).unwrap();
    assert!(memory.stat(&snapshot_key(&id)).is_err());
    assert!(keys(&memory, "packs/").len() < objects);
    assert_mended(&repo, &report, &expected);
}

#[test]
fn a_snapshot_that_nobody_can_read_is_dropped_when_asked_for() {
    let (memory, repo, mut expected) = filled(0);
    let (record, _) = expected.remove(0);
    let hurt = Damage::Flip { offset: 60, mask: 1 };
    damage(&memory, &snapshot_key(&record.id), &hurt).unwrap();
    let (repository, _cache) = fresh(&repo);
    let report = run(&repository, &READ);
    assert_eq!(report.remaining.unreadable.len(), 1);
    let report = run(&repository, &RepairOptions { drop_lost: true, ..READ });
    assert_eq!(report.mends[0].how, How::Forgotten);
    assert_mended(&repo, &report, &expected);
}

#[test]
fn notes_and_records_that_nobody_can_read_go_when_asked_for() {
    let (memory, repo, mut expected) = filled(0);
    let repository = &repo.repository;
    let third = commit_tree(repository, &expected[0].1).unwrap();
    repository.annotate(&third, |note| note.tags = vec!["old".into()]).unwrap();
    let (first, tree) = expected.remove(0);
    repository.forget(&[first]).unwrap();
    let hurt = Damage::Flip { offset: 60, mask: 1 };
    for prefix in ["notes/", "forgotten/"] {
        damage(&memory, &keys(&memory, prefix)[0], &hurt).unwrap();
    }
    damage(&memory, &session_key(&third.id), &hurt).unwrap();
    let report = run(repository, &READ);
    let [mend] = report.mends.as_slice() else { panic!("{report:?}") };
    let How::Committed(id) = mend.how else { panic!("the session record: {mend:?}") };
    let records = repository.snapshots(&Silent::default()).unwrap();
    expected.push((records.into_iter().find(|record| record.id == id).unwrap(), tree));
    assert_eq!(report.remaining.unsaid.len(), 2);
    let report = run(repository, &RepairOptions { drop_lost: true, ..READ });
    assert!(report.mends.iter().all(|mend| mend.how == How::Removed), "{report:?}");
    assert!(keys(&memory, "notes/").is_empty());
    assert_mended(&repo, &report, &expected);
}

#[test]
fn parity_is_added_to_what_is_there_and_to_what_comes() {
    let (memory, repo, mut expected) = filled(0);
    assert!(keys(&memory, "parity/").is_empty());
    let options = RepairOptions { add_parity: Some(5), ..READ };
    let before = memory.snapshot();
    let plan = planned(&repo.repository, &options);
    assert_eq!(plan.without_parity as usize, keys(&memory, "packs/").len());
    assert!(!plan.is_damage() && memory.snapshot() == before);
    run(&repo.repository, &options);
    assert_eq!(keys(&memory, "parity/").len(), keys(&memory, "packs/").len());
    let tree = files(7, 5, 20_000);
    expected.push((commit_tree(&repo.repository, &tree).unwrap(), tree));
    assert_eq!(keys(&memory, "parity/").len(), keys(&memory, "packs/").len());
    for key in keys(&memory, "packs/") {
        damage(&memory, &key, &Damage::Flip { offset: 200, mask: 1 }).unwrap();
    }
    let (repository, _cache) = fresh(&repo);
    let report = run(&repository, &READ);
    assert_mended(&repo, &report, &expected);
    // Off again for what comes; parity without its pack goes with the next prune.
    repository.set_parity(0).unwrap();
    assert_eq!(repository.parity().unwrap(), 0);
    let count = keys(&memory, "parity/").len();
    commit_tree(&repository, &files(8, 5, 20_000)).unwrap();
    assert_eq!(keys(&memory, "parity/").len(), count);
    let stray = format!("parity/{}", "0".repeat(64));
    memory.put(&stray, &[b"x"]).unwrap();
    prune(&repository, &PruneOptions::default(), &Silent::default()).unwrap();
    assert!(memory.stat(&stray).is_err());
}

#[test]
fn no_parity_is_made_of_a_damaged_pack() {
    let (memory, repo, _) = filled(0);
    // Of contents: a tree that does not open would give its pack away.
    let is_data = |key: &String| memory.get(key, 1 << 30).unwrap()[10] == 1;
    let key = keys(&memory, "packs/").into_iter().find(is_data).unwrap();
    damage(&memory, &key, &Damage::Flip { offset: 300, mask: 1 }).unwrap();
    let options = RepairOptions { add_parity: Some(5), read_data: false, ..READ };
    run(&repo.repository, &options);
    let with_parity = repo.repository.list_parity().unwrap();
    let packs = repo.repository.list_packs().unwrap().into_iter().map(|(id, _)| id);
    let without: Vec<_> = packs.filter(|id| !with_parity.contains(id)).collect();
    assert_eq!(without.iter().map(holdall::format::pack::pack_key).collect::<Vec<_>>(), [key]);
}

/// A program that is older than what others have written: after a rotation of keys of which it
/// knows nothing, or after a change of the format.
struct Outdated {
    memory: MemoryStorage,
    /// Where this program is held up.
    meanwhile: Arc<Meanwhile>,
    ours: Arc<Repository>,
    later: Arc<Repository>,
    record: SnapshotRecord,
    _repo: TestRepo,
    _caches: [tempfile::TempDir; 2],
}

impl Outdated {
    fn new() -> Self {
        let memory = MemoryStorage::new();
        let repo = TestRepo::create(Arc::new(memory.clone()), &small(), 1);
        let record = commit_tree(&repo.repository, &files(1, 2, 3_000)).unwrap();
        let meanwhile = Arc::new(Meanwhile::new(repo.storage.clone()));
        let our_cache = tempfile::tempdir().unwrap();
        let ours = repo.open_on(meanwhile.clone(), our_cache.path());
        let (other, cache) = fresh(&repo);
        let later = Arc::new(other.rotate().unwrap().repository);
        let _caches = [our_cache, cache];
        Self { memory, meanwhile, ours, later, record, _repo: repo, _caches }
    }

    /// A session that is not at its end, and the segment that it has stored.
    fn work(&self) -> (Session, String) {
        let before = keys(&self.memory, "index/");
        let mut session = Session::begin(&self.later, Purpose::Backup, None).unwrap();
        write_tree(&mut session, &files(3, 2, 3_000)).unwrap();
        session.flush().unwrap();
        let mut new = keys(&self.memory, "index/");
        new.retain(|key| !before.contains(key));
        (session, new.remove(0))
    }

    fn write(&self, what: &str) {
        let snapshot = snapshot_key(&self.record.id);
        match what {
            "a snapshot" => {
                let kind = ObjectType::Snapshot;
                let payload = self.later.read_object(kind, &snapshot).unwrap().unwrap();
                self.memory.delete(&snapshot).unwrap();
                self.later.write_object(kind, &snapshot, &payload).unwrap();
            }
            // Its version stands in clear.
            "a newer snapshot" => {
                damage(&self.memory, &snapshot, &Damage::Flip { offset: 6, mask: 2 }).unwrap();
            }
            "a session" => drop(self.work()),
            "packs of which no segment is left" => {
                let (session, segment) = self.work();
                session.abort().unwrap();
                self.memory.delete(&segment).unwrap();
            }
            "a plan" => {
                let plan = Plan { condemned: Vec::new(), marked: Vec::new() };
                self.later.put_epoch(1, EpochStep::Plan, &plan.encode()).unwrap();
            }
            _ => _ = commit_tree(&self.later, &files(3, 2, 3_000)).unwrap(),
        }
    }

    fn repair(&self, read_data: bool) -> Result<RepairReport, OpsError> {
        let (repository, silent) = (&self.ours, Silent::default());
        let options = RepairOptions { drop_lost: true, read_data, ..READ };
        let plan = plan(repository, &options, &silent)?;
        repair(repository, &plan, &options, &mut |_| (), &silent)
    }
}

#[test]
fn what_is_only_not_understood_is_no_damage() {
    for what in [
        "a snapshot",
        "a newer snapshot",
        "a session",
        "packs of which no segment is left",
        "a plan",
        "a backup",
    ] {
        let outdated = Outdated::new();
        outdated.write(what);
        let before = outdated.memory.snapshot();
        let repaired = outdated.repair(true);
        assert!(outdated.memory.snapshot() == before, "{what}: {repaired:?}");
        let pruned = prune(&outdated.ours, &READ.prune, &Silent::default());
        assert!(outdated.memory.snapshot() == before, "{what}: {pruned:?}");
        assert!(repaired.is_err() && pruned.is_err(), "{what}: {repaired:?} {pruned:?}");
    }
}

/// Where a segment can be read and the packs that it names cannot, nobody is told of damage.
#[test]
fn packs_that_are_not_understood_are_not_recorded_as_damaged() {
    let outdated = Outdated::new();
    let (session, segment) = outdated.work();
    drop(session);
    let id = segment_of_key(&segment).unwrap();
    let packs = read_segment(&outdated.memory, outdated.later.sealer(), &id).unwrap();
    let repository = &outdated.ours;
    outdated.memory.delete(&segment).unwrap();
    write_segment(&outdated.memory, repository.sealer(), repository.world(), &packs).unwrap();
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let report = check(repository, &options, &Silent::default()).unwrap();
    assert!(!report.is_whole() && keys(&outdated.memory, "damage/").is_empty(), "{report:?}");
}

/// And what others have found damaged they still know.
#[test]
fn records_of_damage_that_are_not_understood_stay() {
    let outdated = Outdated::new();
    let pack = outdated.later.list_packs().unwrap()[0].0;
    outdated.later.record_damage(pack, Vec::new(), "w".into()).unwrap();
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    check(&outdated.ours, &options, &Silent::default()).unwrap();
    assert_eq!(keys(&outdated.memory, "damage/").len(), 1);
}

#[test]
fn a_segment_that_comes_while_a_repair_looks_about_stays() {
    for nth in 1.. {
        let outdated = Arc::new(Outdated::new());
        let (theirs, (tell, told)) = (outdated.clone(), std::sync::mpsc::channel());
        outdated.meanwhile.arm(nth, move || tell.send(theirs.work()).unwrap());
        let repaired = outdated.repair(false);
        if outdated.meanwhile.disarm() {
            assert!(nth > 12, "{nth}");
            return;
        }
        let (_, segment) = told.recv().unwrap();
        assert!(outdated.memory.stat(&segment).is_ok(), "call {nth}: {repaired:?}");
    }
}
