//! Prunes: what goes, what stays, and what others may do meanwhile.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use holdall::format::envelope::ObjectType;
use holdall::format::epoch::{EpochStep, Plan};
use holdall::format::frame::{ChunkKind, Codec};
use holdall::format::pack::ChunkInfo;
use holdall::format::session::{Purpose, fence_key, session_key};
use holdall::format::snapshot::Snapshot;
use holdall::id::{FrameId, SnapshotId};
use holdall::index::write_segment;
use holdall::ops::OpsError;
use holdall::ops::prune::{Limit, PruneOptions, PruneReport, prune};
use holdall::pack::{FrameSealer, PackBuilder, PlainFrame};
use holdall::progress::Silent;
use holdall::repo::{EpochState, RepoError, Repository, Session, SnapshotRecord};
use holdall::storage::{ErrorKind, LocalStorage, MemoryStorage, Storage};
use holdall::world::random;

use crate::support::repository::{TestRepo, small};
use crate::support::snapshots::{
    Tree, assert_snapshots, commit_in, commit_tree, files, noise, read_tree, snapshot, write_tree,
};
use crate::support::storages::{Damage, Fault, Faulty, Meanwhile, Stale, Verb, damage, keys, list};

/// Leaves nothing that is not needed.
pub const ALL: fn() -> PruneOptions<'static> =
    || PruneOptions { max_unused: Limit::Bytes(0), ..PruneOptions::default() };

pub fn run(repository: &Arc<Repository>, options: &PruneOptions<'_>) -> PruneReport {
    let progress = Silent::default();
    let report = prune(repository, options, &progress).unwrap();
    assert!(progress.problems().is_empty(), "{:?}", progress.problems());
    report
}

fn bytes(storage: &dyn Storage, prefix: &str) -> u64 {
    list(storage, prefix).unwrap().iter().map(|listed| listed.len).sum()
}

/// Three snapshots that share a part; the middle one is forgotten.
fn with_garbage(repo: &TestRepo) -> Vec<(SnapshotRecord, Tree)> {
    let mut all = Vec::new();
    for n in 0..3u64 {
        let mut tree = files(7, 20, 9_000);
        // Every other snapshot's files lie between those that stay.
        tree.extend(files(n + 20, 30, 7_000).into_iter().map(|(p, c)| (format!("own/{p}"), c)));
        all.push((commit_tree(&repo.repository, &tree).unwrap(), tree));
    }
    let (gone, _) = all.remove(1);
    repo.repository.forget(&[gone]).unwrap();
    all
}

/// A repository whose next prune has to repack: half of each pack is forgotten.
pub fn with_holes(repo: &TestRepo, count: u64) -> Vec<(SnapshotRecord, Tree)> {
    let tree: Tree = (0..count).map(|n| (format!("f{n}"), noise(n, 5_000))).collect();
    let half: Tree = tree.clone().into_iter().step_by(2).collect();
    let whole = commit_tree(&repo.repository, &tree).unwrap();
    let kept = commit_tree(&repo.repository, &half).unwrap();
    repo.repository.forget(&[whole]).unwrap();
    vec![(kept, half)]
}

#[test]
fn what_is_not_needed_goes_and_the_rest_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let local = LocalStorage::create(&directory.path().join("repository")).unwrap();
    let storages: [Arc<dyn Storage>; 2] = [Arc::new(local), Arc::new(MemoryStorage::new())];
    for storage in storages {
        let repo = TestRepo::create(storage, &small(), 1);
        let mut expected = with_garbage(&repo);
        expected.extend(with_holes(&repo, 60));
        let before = bytes(&*repo.storage, "packs/");
        let dry = run(&repo.repository, &PruneOptions { dry_run: true, ..ALL() });
        assert_eq!(bytes(&*repo.storage, "packs/"), before);
        let planned = dry.figures.unwrap();
        assert_eq!(planned.total.bytes, before);
        assert!(planned.repacked.packs > 0 && planned.unused.packs > 0, "{planned:?}");

        let report = run(&repo.repository, &ALL());
        assert_eq!(report.figures.unwrap(), planned);
        assert_eq!(report.removed.bytes, planned.unused.bytes + planned.repacked.bytes);
        let freed = before - bytes(&*repo.storage, "packs/");
        assert_eq!(freed, report.removed.bytes - report.bytes_repacked);
        let error = freed.abs_diff(planned.bytes_to_free);
        assert!(error < before / 50, "{freed} of {before} are free, planned {planned:?}");
        assert_eq!((report.open_epoch, report.rescued), (None, 0));

        for repository in [repo.repository.clone(), repo.reopen()] {
            assert_snapshots(&repository, &expected);
        }
        let cache = tempfile::tempdir().unwrap();
        let stranger = repo.open_on(repo.storage.clone(), cache.path());
        assert_snapshots(&stranger, &expected);
        assert_eq!(keys(&*repo.storage, "epochs/").len(), 3);

        // Nothing is left to do.
        let objects = list(&*repo.storage, "").unwrap();
        let again = run(&stranger, &ALL());
        assert_eq!(again.removed.packs, 0);
        assert_eq!(again.figures.unwrap().unused.packs, 0);
        assert_eq!(list(&*repo.storage, "").unwrap(), objects);
    }
}

#[test]
fn a_repository_without_snapshots_becomes_empty() {
    let repo = TestRepo::memory();
    for (record, _) in with_garbage(&repo) {
        repo.repository.forget(&[record]).unwrap();
    }
    run(&repo.repository, &PruneOptions::default());
    for prefix in ["packs/", "index/", "sessions/", "snapshots/"] {
        assert!(keys(&*repo.storage, prefix).is_empty(), "{prefix}");
    }
}

#[test]
fn limits_of_unused_and_repacked_bytes_hold() {
    let repo = TestRepo::memory();
    let expected = with_holes(&repo, 300);
    let unlimited = PruneOptions { max_unused: Limit::Unlimited, ..ALL() };
    let figures = |options: &PruneOptions<'_>| {
        let dry = PruneOptions { dry_run: true, ..*options };
        run(&repo.repository, &dry).figures.unwrap()
    };
    assert_eq!(figures(&unlimited).repacked.packs, 0);
    let all = figures(&ALL());
    assert!(all.repacked.packs > 2 && all.bytes_unused_left == 0, "{all:?}");
    let some = figures(&PruneOptions { max_repack: Some(all.bytes_to_copy / 2), ..ALL() });
    assert!(some.repacked.packs > 0 && some.bytes_to_copy <= all.bytes_to_copy / 2, "{some:?}");
    let percent = figures(&PruneOptions { max_unused: Limit::Percent(20.0), ..ALL() });
    let stored = percent.kept.bytes + percent.bytes_to_copy;
    assert!(percent.repacked.packs < all.repacked.packs, "{percent:?}");
    assert!(percent.bytes_unused_left * 5 <= stored, "{percent:?}");
    run(&repo.repository, &PruneOptions { max_repack: Some(0), ..ALL() });
    assert_snapshots(&repo.reopen(), &expected);
}

#[test]
fn small_packs_are_merged_once() {
    let repo = TestRepo::memory();
    let mut expected = Vec::new();
    for n in 0..40 {
        let tree: Tree = [(format!("f{n}"), noise(n, 1_500))].into();
        expected.push((commit_tree(&repo.repository, &tree).unwrap(), tree));
    }
    let before = (keys(&*repo.storage, "packs/").len(), keys(&*repo.storage, "index/").len());
    assert_eq!(before, (80, 40));
    let report = run(&repo.repository, &PruneOptions::default());
    assert_eq!(report.figures.unwrap().repacked.packs, 80);
    let after = (keys(&*repo.storage, "packs/").len(), keys(&*repo.storage, "index/").len());
    assert!(after.0 <= 4 && after.1 == 1, "{after:?}");
    assert_snapshots(&repo.reopen(), &expected);
    assert_eq!(run(&repo.reopen(), &PruneOptions::default()).removed.packs, 0);
}

#[test]
fn of_several_copies_one_stays() {
    let repo = TestRepo::memory();
    let tree = files(1, 20, 6_000);
    // Neither sees what the other stores.
    let mut sessions = [(); 2].map(|()| Some(begin(&repo.repository, Purpose::Backup)));
    let records = [0, 1].map(|n| commit_in(sessions[n].take().unwrap(), &tree).unwrap());
    let before = bytes(&*repo.storage, "packs/");
    run(&repo.repository, &ALL());
    let after = bytes(&*repo.storage, "packs/");
    assert!(after < before * 11 / 20, "{after} of {before}");
    let [a, b] = records;
    assert_snapshots(&repo.reopen(), &[(a, tree.clone()), (b, tree)]);
}

fn begin(repository: &Arc<Repository>, purpose: Purpose) -> Session {
    Session::begin(repository, purpose, None).unwrap()
}

#[test]
fn a_session_older_than_the_plan_is_waited_for_and_keeps_everything() {
    let repo = TestRepo::memory();
    let tree = files(1, 30, 6_000);
    let record = commit_tree(&repo.repository, &tree).unwrap();
    // It will rely on what is forgotten and condemned while it is at work.
    let writer = repo.reopen();
    let mut session = begin(&writer, Purpose::Backup);
    let root = write_tree(&mut session, &tree).unwrap();
    assert_eq!(session.bytes_new(), 0, "it relies on what is there");
    repo.repository.forget(&[record]).unwrap();
    let held = run(&repo.repository, &ALL());
    assert_eq!((held.open_epoch, held.removed.packs), (Some(1), 0));
    assert_eq!(held.undecided.len(), 1);
    assert_eq!(held.undecided[0].id, session.id());
    assert_eq!(held.bytes_held_back, bytes(&*repo.storage, "packs/"));
    // A second look changes nothing.
    assert_eq!(run(&repo.reopen(), &ALL()).undecided, held.undecided);

    let record = session.commit(snapshot(root)).unwrap();
    let report = run(&repo.reopen(), &ALL());
    assert!(report.rescued > 0, "{report:?}");
    assert_eq!(report.open_epoch, None);
    assert_snapshots(&repo.reopen(), &[(record, tree)]);
}

#[test]
fn waiting_ends_when_the_session_ends() {
    let repo = TestRepo::memory();
    let expected = with_garbage(&repo);
    let session = Cell::new(Some(begin(&repo.repository, Purpose::Backup)));
    let asked = Cell::new(0);
    let wait = |undecided: &[_]| {
        assert_eq!(undecided.len(), 1);
        asked.set(asked.get() + 1);
        if asked.get() == 3 {
            session.take().unwrap().abort().unwrap();
        }
        true
    };
    let report = run(&repo.reopen(), &PruneOptions { wait: &wait, ..ALL() });
    assert_eq!(asked.get(), 3);
    assert!(report.removed.packs > 0 && report.open_epoch.is_none());
    assert_snapshots(&repo.reopen(), &expected);
}

#[test]
fn a_fenced_session_is_told_and_its_next_try_keeps_everything() {
    for by_age in [false, true] {
        let repo = TestRepo::memory();
        let tree = files(1, 30, 6_000);
        let record = commit_tree(&repo.repository, &tree).unwrap();
        let writer = repo.reopen();
        let mut session = begin(&writer, Purpose::Backup);
        let mut more = tree.clone();
        more.extend(files(2, 10, 6_000).into_iter().map(|(p, c)| (format!("more/{p}"), c)));
        let root = write_tree(&mut session, &more).unwrap();
        session.flush().unwrap();
        repo.repository.forget(&[record]).unwrap();
        let id = session.id();
        let is_dead = |session: &_, _: &_| *session == id && !by_age;
        let fence_older_than = by_age.then_some(0);
        let options = PruneOptions { is_dead: &is_dead, fence_older_than, ..ALL() };
        let report = run(&repo.repository, &options);
        assert_eq!((report.fenced.as_slice(), report.open_epoch), (&[id][..], None));
        assert!(report.removed.packs > 0);
        let lost = session.commit(snapshot(root)).unwrap_err();
        assert!(matches!(lost, RepoError::Fenced(fenced) if fenced == id), "{lost}");
        assert!(repo.repository.counted().unwrap().is_empty());

        let mut session = begin(&writer, Purpose::Backup);
        let root = write_tree(&mut session, &more).unwrap();
        let new = session.bytes_new();
        assert!(new < 200_000, "what the lost session stored is used again: {new} are new");
        let again = Snapshot { replaces: Some(id), ..snapshot(root) };
        let record = session.commit(again).unwrap();
        // The lost one's snapshot object is litter, and the mark has gone already.
        run(&repo.reopen(), &ALL());
        assert_eq!(keys(&*repo.storage, "snapshots/").len(), 1);
        assert_eq!(keys(&*repo.storage, "sessions/"), [session_key(&record.id)]);
        assert_snapshots(&repo.reopen(), &[(record, more)]);
    }
}

/// A listing is not of one moment: it may show the mark of a session that began while it was made.
#[test]
fn the_mark_of_a_session_that_a_listing_has_missed_stays() {
    let repo = TestRepo::memory();
    let stale = Arc::new(Stale::new(repo.storage.clone(), 10));
    let cache = tempfile::tempdir().unwrap();
    let lagging = repo.open_on(stale, cache.path());
    let session = begin(&lagging, Purpose::Backup);
    // Another prune is about to look whether it has committed.
    let mark = fence_key(&session.id());
    repo.repository.write_object(ObjectType::Fence, &mark, &[]).unwrap();
    run(&lagging, &ALL());
    assert!(repo.storage.stat(&mark).is_ok());
}

#[test]
fn packs_of_a_crashed_session_go_with_the_second_prune() {
    let repo = TestRepo::memory();
    let expected = with_garbage(&repo);
    run(&repo.repository, &ALL());
    let clean = bytes(&*repo.storage, "packs/");
    let mut session = begin(&repo.repository, Purpose::Backup);
    write_tree(&mut session, &files(9, 20, 6_000)).unwrap();
    session.flush().unwrap();
    let id = session.id();
    drop(session);
    // Its segment is lost too: its packs are known by themselves only.
    let segments = keys(&*repo.storage, "index/");
    let cache = tempfile::tempdir().unwrap();
    let stranger = repo.open_on(repo.storage.clone(), cache.path());
    let with_all = stranger.refresh_index().unwrap().segments;
    assert_eq!(with_all.len(), segments.len());
    let of_session = |key: &String| {
        let segment = holdall::index::segment_of_key(key).unwrap();
        let packs = holdall::index::read_segment(&*repo.storage, stranger.sealer(), &segment);
        packs.unwrap().iter().any(|pack| pack.trailer.session == id)
    };
    let segment = segments.iter().find(|key| of_session(key)).unwrap();
    repo.storage.delete(segment).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let stranger = repo.open_on(repo.storage.clone(), cache.path());
    let options = PruneOptions { is_dead: &|_, _| true, ..ALL() };
    let first = run(&stranger, &options);
    assert_eq!((first.fenced.as_slice(), first.removed.packs), (&[id][..], 0));
    let second = run(&stranger, &options);
    assert!(second.removed.packs > 0);
    assert_eq!(bytes(&*repo.storage, "packs/"), clean);
    assert_snapshots(&stranger, &expected);
}

/// Somebody who reads segments only finds every pack.
#[track_caller]
fn assert_named(repo: &TestRepo) {
    let cache = tempfile::tempdir().unwrap();
    let mut index = holdall::index::Index::open(cache.path()).unwrap();
    index.refresh(&*repo.storage, repo.repository.sealer()).unwrap();
    let mut named = BTreeSet::new();
    index.packs(&mut |_, pack| _ = named.insert(pack.id)).unwrap();
    let listed = repo.repository.list_packs().unwrap();
    assert!(listed.iter().all(|(id, _)| named.contains(id)));
}

#[test]
fn packs_that_only_their_trailers_know_are_kept_and_named() {
    let repo = TestRepo::memory();
    let expected = with_garbage(&repo);
    for key in keys(&*repo.storage, "index/") {
        repo.storage.delete(&key).unwrap();
    }
    let cache = tempfile::tempdir().unwrap();
    let report = run(&repo.open_on(repo.storage.clone(), cache.path()), &PruneOptions::default());
    assert!(report.removed.packs > 0);
    assert!(!keys(&*repo.storage, "index/").is_empty());
    assert_named(&repo);
    assert_snapshots(&repo.reopen(), &expected);
}

#[test]
fn damage_stops_it_before_anything_is_changed() {
    let make = || {
        let repo = TestRepo::memory();
        let expected = with_garbage(&repo);
        (repo, expected)
    };
    // Which objects, what to do with each of them in turn, and what the error names.
    for (prefix, harm, named) in [
        ("snapshots/", Damage::Flip { offset: 60, mask: 1 }, "snapshots/"),
        ("packs/", Damage::Delete, ":"),
        ("packs/", Damage::Truncate { len: 1_000 }, ":"),
    ] {
        let mut refused = 0;
        let count = keys(&*make().0.storage, prefix).len();
        for n in 0..count {
            let (repo, expected) = make();
            let key = keys(&*repo.storage, prefix)[n].clone();
            damage(&*repo.storage, &key, &harm).unwrap();
            let before = list(&*repo.storage, "").unwrap();
            let cache = tempfile::tempdir().unwrap();
            let repository = repo.open_on(repo.storage.clone(), cache.path());
            match prune(&repository, &ALL(), &Silent::default()) {
                Err(OpsError::Incomplete { first, count }) => {
                    let what = String::from_utf8(first.what.clone()).unwrap();
                    assert!(what.contains(named) && count > 0, "{what} {}", first.why);
                    assert_eq!(list(&*repo.storage, "").unwrap(), before);
                    refused += 1;
                }
                Ok(_) if prefix == "packs/" => assert_snapshots(&repository, &expected),
                other => panic!("{key}: {other:?}"),
            }
        }
        assert!(refused > 0 && (prefix == "packs/" || refused == count), "{prefix}: {refused}");
    }
}

#[test]
fn what_a_damaged_segment_said_is_learned_from_the_packs_and_said_again() {
    let count = {
        let repo = TestRepo::memory();
        with_garbage(&repo);
        keys(&*repo.storage, "index/").len()
    };
    for n in 0..count {
        for garbage in [true, false] {
            let repo = TestRepo::memory();
            let expected = with_garbage(&repo);
            if !garbage {
                run(&repo.repository, &ALL());
            }
            let segments = keys(&*repo.storage, "index/");
            let Some(key) = segments.get(n) else { continue };
            damage(&*repo.storage, key, &Damage::Flip { offset: 60, mask: 1 }).unwrap();
            let cache = tempfile::tempdir().unwrap();
            let repository = repo.open_on(repo.storage.clone(), cache.path());
            let progress = Silent::default();
            prune(&repository, &ALL(), &progress).unwrap();
            let named: Vec<_> = progress.problems().into_iter().map(|p| p.what).collect();
            assert!(named.iter().all(|what| *what == key.as_bytes()) && !named.is_empty());
            assert!(repo.storage.stat(key).is_err(), "nobody has to look at it any more");
            assert_named(&repo);
            assert_snapshots(&repo.reopen(), &expected);
        }
    }
}

#[test]
fn what_a_damaged_segment_said_of_a_session_at_work_is_said_again() {
    let repo = TestRepo::memory();
    let mut expected = with_garbage(&repo);
    let before = keys(&*repo.storage, "index/");
    let (writer, tree) = (repo.reopen(), files(5, 3, 6_000));
    let mut session = begin(&writer, Purpose::Backup);
    let root = write_tree(&mut session, &tree).unwrap();
    session.flush().unwrap();
    let after = keys(&*repo.storage, "index/");
    let key = after.iter().find(|key| !before.contains(key)).unwrap();
    damage(&*repo.storage, key, &Damage::Flip { offset: 60, mask: 1 }).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let pruner = repo.open_on(repo.storage.clone(), cache.path());
    let report = prune(&pruner, &ALL(), &Silent::default()).unwrap();
    assert!(report.open_epoch.is_some() && repo.storage.stat(key).is_err());
    expected.push((session.commit(snapshot(root)).unwrap(), tree));
    assert_named(&repo);
    run(&repo.reopen(), &ALL());
    assert_named(&repo);
    assert_snapshots(&repo.reopen(), &expected);
}

#[test]
fn a_damaged_frame_stays_where_it_is_and_the_rest_moves() {
    let repo = TestRepo::memory();
    let expected = with_holes(&repo, 60);
    let [(record, _)] = expected.as_slice() else { unreachable!() };
    let key = list(&*repo.storage, "packs/").unwrap().into_iter().max_by_key(|l| l.len).unwrap();
    damage(&*repo.storage, &key.key, &Damage::Flip { offset: 2_000, mask: 1 }).unwrap();
    let progress = Silent::default();
    let report = prune(&repo.repository, &ALL(), &progress).unwrap();
    let problems = progress.problems();
    assert!(problems.len() == 1 && problems[0].damage, "{problems:?}");
    assert_eq!(problems[0].what, key.key.as_bytes());
    assert!(repo.storage.stat(&key.key).is_ok() && report.removed.packs > 0);
    assert!(read_tree(&repo.reopen(), record).is_err(), "what was damaged is no better");
}

#[test]
fn a_damaged_frame_is_not_moved_whole() {
    let repo = TestRepo::memory();
    let mut records = Vec::new();
    for n in 0..40 {
        let tree: Tree = [(format!("f{n}"), noise(n, 1_500))].into();
        records.push((commit_tree(&repo.repository, &tree).unwrap(), tree));
    }
    // Data packs are the longer ones here.
    let packs = list(&*repo.storage, "packs/").unwrap();
    let key = packs.iter().max_by_key(|pack| pack.len).unwrap().key.clone();
    damage(&*repo.storage, &key, &Damage::Flip { offset: 900, mask: 1 }).unwrap();
    let progress = Silent::default();
    let report = prune(&repo.repository, &ALL(), &progress).unwrap();
    let problems = progress.problems();
    assert!(problems.len() == 1 && problems[0].what == key.as_bytes(), "{problems:?}");
    assert_eq!(report.removed.packs, 79);
    let lost = |(record, _): &&(SnapshotRecord, Tree)| read_tree(&repo.reopen(), record).is_err();
    assert_eq!(records.iter().filter(lost).count(), 1);
}

#[test]
fn a_record_of_damage_stays_as_long_as_its_pack() {
    let repo = TestRepo::memory();
    let mut session = begin(&repo.repository, Purpose::Backup);
    write_tree(&mut session, &files(2, 2, 3_000)).unwrap();
    session.flush().unwrap();
    let (pack, _) = repo.repository.list_packs().unwrap()[0];
    repo.repository.record_damage(pack, Vec::new(), "w".into()).unwrap();
    run(&repo.reopen(), &ALL());
    assert_eq!(keys(&*repo.storage, "damage/").len(), 1);
    session.abort().unwrap();
    run(&repo.reopen(), &ALL());
    assert!(keys(&*repo.storage, "damage/").is_empty());
}

#[test]
fn a_full_disk_still_gets_room() {
    let memory = Arc::new(MemoryStorage::new());
    let faulty = Arc::new(Faulty::new(memory));
    let repo = TestRepo::create(faulty.clone(), &small(), 1);
    let mut expected = with_garbage(&repo);
    expected.extend(with_holes(&repo, 60));
    let full = |prefix: &str| Fault::nth(&[Verb::Put], 1, ErrorKind::Full).under(prefix);
    faulty.add(full("packs/").times(u64::MAX));
    faulty.add(full("index/"));
    let before = bytes(&*repo.storage, "packs/");
    let progress = Silent::default();
    let report = prune(&repo.repository, &ALL(), &progress).unwrap();
    assert!(report.removed.packs > 0 && report.bytes_repacked == 0, "{report:?}");
    assert!(bytes(&*repo.storage, "packs/") < before);
    assert_eq!(progress.notes.lock().unwrap().len(), 1);
    assert_snapshots(&repo.reopen(), &expected);
    faulty.clear();
    assert!(run(&repo.reopen(), &ALL()).bytes_repacked > 0);
    assert_snapshots(&repo.reopen(), &expected);
}

#[test]
fn another_handle_goes_on_from_every_step() {
    let repo = TestRepo::memory();
    let expected = with_garbage(&repo);
    let plan = {
        // A session keeps the first prune from going on: only the plan is there.
        let session = begin(&repo.repository, Purpose::Backup);
        run(&repo.repository, &ALL());
        session.abort().unwrap();
        let epoch = repo.repository.highest_epoch().unwrap().unwrap();
        let EpochState::Planned(plan) = epoch.state else { panic!("{epoch:?}") };
        plan
    };
    assert!(!plan.condemned.is_empty());
    let sweep = holdall::format::epoch::Sweep { rescued: plan.condemned[..1].to_vec() };
    // What another prune has rescued is obeyed.
    repo.repository.put_epoch(1, EpochStep::Sweep, &sweep.encode()).unwrap();
    let key = holdall::format::pack::pack_key(&plan.condemned[1]);
    repo.storage.delete(&key).unwrap();
    let report = run(&repo.reopen(), &PruneOptions { max_unused: Limit::Unlimited, ..ALL() });
    assert_eq!(report.open_epoch, None);
    assert_eq!(repo.repository.highest_epoch().unwrap().unwrap().number, 2);
    assert_snapshots(&repo.reopen(), &expected);
}

#[test]
fn a_plan_under_a_number_that_is_past_is_void() {
    // Whoever obeyed the lowest one would not come to an end.
    let faulty = Arc::new(Faulty::new(Arc::new(MemoryStorage::new())));
    faulty.add(Fault::nth(&Verb::ALL, 2_000, ErrorKind::Other).times(u64::MAX));
    let repo = TestRepo::create(faulty, &small(), 1);
    let expected = with_garbage(&repo);
    run(&repo.repository, &ALL());
    let extra = commit_tree(&repo.repository, &files(3, 10, 6_000)).unwrap();
    repo.repository.forget(&[extra]).unwrap();
    run(&repo.repository, &ALL());
    assert!(keys(&*repo.storage, "epochs/").iter().all(|key| key.contains("0002/")));
    // A prune that slept publishes number 1 again, and condemns everything.
    let condemned = repo.repository.list_packs().unwrap().into_iter().map(|(id, _)| id).collect();
    let plan = Plan { condemned, marked: Vec::new() };
    repo.repository.put_epoch(1, EpochStep::Plan, &plan.encode()).unwrap();
    run(&repo.reopen(), &ALL());
    assert_snapshots(&repo.reopen(), &expected);
    assert!(keys(&*repo.storage, "epochs/").iter().all(|key| key.contains("0002/")));
}

#[test]
fn what_is_lost_since_the_plan_ends_the_epoch_without_a_sweep() {
    let repo = TestRepo::memory();
    let expected = with_garbage(&repo);
    let mut session = begin(&repo.repository, Purpose::Backup);
    let root = write_tree(&mut session, &files(5, 10, 6_000)).unwrap();
    run(&repo.reopen(), &ALL());
    let record = session.commit(snapshot(root)).unwrap();
    let key = holdall::format::snapshot::snapshot_key(&record.id);
    damage(&*repo.storage, &key, &Damage::Flip { offset: 60, mask: 1 }).unwrap();
    let packs = keys(&*repo.storage, "packs/");
    let refused = prune(&repo.reopen(), &ALL(), &Silent::default());
    assert!(matches!(refused, Err(OpsError::Incomplete { .. })), "{refused:?}");
    assert_eq!(keys(&*repo.storage, "packs/"), packs);
    assert_eq!(repo.repository.highest_epoch().unwrap().unwrap().state, EpochState::Done);
    // A damaged snapshot can be forgotten by name, and then it goes on.
    let options = holdall::ops::forget::ForgetOptions {
        ids: vec![record.id],
        ..holdall::ops::forget::ForgetOptions::default()
    };
    holdall::ops::forget::forget(&repo.reopen(), &options, &Silent::default()).unwrap();
    assert!(run(&repo.reopen(), &ALL()).removed.packs > 0);
    assert_snapshots(&repo.reopen(), &expected);
}

#[test]
fn two_prunes_at_once_do_what_one_does() {
    for round in 0..10 {
        let repo = TestRepo::memory();
        let mut expected = with_garbage(&repo);
        expected.extend(with_holes(&repo, 60));
        let caches = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let handles =
            caches.each_ref().map(|cache| repo.open_on(repo.storage.clone(), cache.path()));
        std::thread::scope(|scope| {
            for handle in &handles {
                scope.spawn(|| run(handle, &ALL()));
            }
        });
        assert_snapshots(&repo.reopen(), &expected);
        let again = run(&repo.reopen(), &ALL());
        assert_eq!(again.undecided, [], "round {round}");
        assert_snapshots(&repo.reopen(), &expected);
        let last = run(&repo.reopen(), &ALL());
        assert_eq!(last.removed.packs, 0, "round {round}");
    }
}

/// Stores a pack of one frame, which says of itself that it is a delta where `base` is given.
fn store_frame(repo: &TestRepo, chunks: &[Vec<u8>], base: Option<FrameId>) -> FrameId {
    let repository = &repo.repository;
    let (world, keys) = (repository.world(), repository.keys());
    let sealer = FrameSealer::new(world, keys, repository.config().family).unwrap();
    let infos = chunks.iter().map(|c| ChunkInfo { id: keys.data_id(c), len: c.len() as u32 });
    let id = FrameId(random(world));
    let (kind, plain) = (ChunkKind::Data, chunks.concat());
    let frame = PlainFrame { kind, id, plain, chunks: infos.collect() };
    let mut sealed = sealer.seal(&frame, 1).unwrap();
    if let Some(base) = base {
        sealed.info.codec = Codec::Delta { base };
    }
    let mut builder = PackBuilder::new(SnapshotId(random(world)), kind);
    builder.add(sealed).unwrap();
    if base.is_none() {
        // Something unneeded beside it, so that the pack is repacked.
        let chunk = noise(77, 9_000);
        let chunks = vec![ChunkInfo { id: keys.data_id(&chunk), len: 9_000 }];
        let id = FrameId(random(world));
        let frame = PlainFrame { kind, id, plain: chunk, chunks };
        builder.add(sealer.seal(&frame, 1).unwrap()).unwrap();
    }
    let pack = builder.finish(world, repository.sealer()).unwrap();
    let parts: Vec<&[u8]> = pack.parts.iter().map(Vec::as_slice).collect();
    repo.storage.put(&pack.key(), &parts).unwrap();
    write_segment(&*repo.storage, repository.sealer(), world, &[pack.info]).unwrap();
    id
}

/// In how many packs that are there a frame lies.
fn copies_of(repository: &Repository, frame: &FrameId) -> usize {
    repository.refresh_index().unwrap();
    let listed: BTreeSet<_> =
        repository.list_packs().unwrap().into_iter().map(|(id, _)| id).collect();
    let places = repository.with_index(|index| index.frame_locations(frame)).unwrap().unwrap();
    let there: BTreeSet<_> = places.iter().map(|(pack, _)| pack.id).collect();
    there.intersection(&listed).count()
}

#[test]
fn the_base_of_a_needed_delta_stays_whole() {
    for committed_late in [false, true] {
        let repo = TestRepo::memory();
        let tree: Tree = [("f".into(), noise(5, 1_900))].into();
        let base = store_frame(&repo, &[noise(1, 4_000), noise(2, 4_000)], None);
        let delta = store_frame(&repo, &[noise(5, 1_900)], Some(base));
        let mut session = begin(&repo.repository, Purpose::Backup);
        let root = write_tree(&mut session, &tree).unwrap();
        let (record, before) = if committed_late {
            assert!(run(&repo.reopen(), &ALL()).open_epoch.is_some());
            let record = session.commit(snapshot(root)).unwrap();
            let report = run(&repo.reopen(), &ALL());
            assert_eq!(report.rescued, 2);
            (record, report.bytes_repacked)
        } else {
            (session.commit(snapshot(root)).unwrap(), 0)
        };
        let report = run(&repo.reopen(), &ALL());
        let repacked = before + report.bytes_repacked;
        assert!(repacked > 0, "what lies beside the base goes: {report:?}");
        assert_eq!(run(&repo.reopen(), &ALL()).bytes_repacked, 0, "and the base is all used");
        let cache = tempfile::tempdir().unwrap();
        let stranger = repo.open_on(repo.storage.clone(), cache.path());
        assert_eq!((copies_of(&stranger, &base), copies_of(&stranger, &delta)), (1, 1));
        let packs = stranger.list_packs().unwrap();
        assert!(packs.iter().all(|(_, len)| *len < 14_000), "{packs:?}");
        assert_snapshots(&stranger, &[(record, tree)]);
    }
}

/// A delta is no copy of its chunks for a writer who knows that its base will go (W4).
#[test]
fn a_chunk_whose_base_is_condemned_is_stored_again() {
    let repo = TestRepo::memory();
    let base = store_frame(&repo, &[noise(1, 4_000)], None);
    let condemned = repo.repository.list_packs().unwrap().into_iter().map(|(id, _)| id).collect();
    store_frame(&repo, &[noise(5, 1_900)], Some(base));
    let plan = Plan { condemned, marked: Vec::new() };
    repo.repository.put_epoch(1, EpochStep::Plan, &plan.encode()).unwrap();
    let tree: Tree = [("f".into(), noise(5, 1_900))].into();
    let record = commit_tree(&repo.repository, &tree).unwrap();
    assert!(run(&repo.repository, &ALL()).removed.packs > 0);
    assert_eq!(copies_of(&repo.repository, &base), 0);
    assert_snapshots(&repo.reopen(), &[(record, tree)]);
}

#[test]
fn a_write_that_fails_is_an_error_and_not_the_end_of_all_writes() {
    let faulty = Arc::new(Faulty::new(Arc::new(MemoryStorage::new())));
    let repo = TestRepo::create(faulty.clone(), &small(), 1);
    faulty.add(Fault::nth(&[Verb::Put], 1, ErrorKind::Full).under("packs/"));
    let mut session = begin(&repo.repository, Purpose::Backup);
    let root = write_tree(&mut session, &files(1, 3, 5_000)).unwrap();
    assert!(session.flush().is_err());
    // What was lost is lost: nothing that relies on it may be committed.
    assert!(session.commit(snapshot(root)).is_err());
    let tree = files(1, 3, 5_000);
    let record = commit_tree(&repo.repository, &tree).unwrap();
    assert_snapshots(&repo.reopen(), &[(record, tree)]);
}

#[test]
fn a_thread_that_panics_while_it_stores_is_an_error() {
    let meanwhile = Arc::new(Meanwhile::new(Arc::new(MemoryStorage::new())));
    let repo = TestRepo::create(meanwhile.clone(), &small(), 1);
    let mut session = begin(&repo.repository, Purpose::Backup);
    let root = write_tree(&mut session, &files(1, 1, 5_000)).unwrap();
    meanwhile.arm(1, || panic!("the test panics"));
    assert!(session.flush().is_err());
    assert!(session.commit(snapshot(root)).is_err());
}
