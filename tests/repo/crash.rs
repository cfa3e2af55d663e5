//! A crash at every call that changes something: nothing that was committed is lost, and whoever
//! comes next completes the work.

use std::path::Path;
use std::sync::Arc;

use holdall::crypto::{KeyFile, PasswordCost, Secret};
use holdall::format::session::Purpose;
use holdall::format::session::session_key;
use holdall::ops::prune::{Limit, PruneOptions, prune};
use holdall::ops::repair::{RepairOptions, plan, repair};
use holdall::progress::Silent;
use holdall::repo::{NewSlot, Repository, Session, SnapshotRecord};
use holdall::storage::{MemoryStorage, Storage};

use crate::prune::{ALL, run, with_holes};
use crate::support::repository::{TestRepo, environment, small};
use crate::support::snapshots::{
    Tree, assert_snapshots, commit_like, commit_tree, edited, files, noise, read_tree, write_tree,
};
use crate::support::storages::{Crashing, Damage, Last, damage, keys};

/// A repository in memory that can be put back to how it was.
pub struct Scene {
    pub repo: TestRepo,
    pub memory: MemoryStorage,
    pub expected: Vec<(SnapshotRecord, Tree)>,
}

impl Scene {
    /// Snapshots, holes in packs, packs that nobody needs, delta frames, bases that only those
    /// need, a crashed session, a note.
    pub fn new() -> Self {
        let memory = MemoryStorage::new();
        let repo = TestRepo::create(Arc::new(memory.clone()), &small(), 1);
        let mut expected = with_holes(&repo, 40);
        let tree = files(3, 8, 5_000);
        let record = commit_tree(&repo.repository, &tree).unwrap();
        repo.repository.annotate(&record, |note| note.description = "noted".into()).unwrap();
        expected.push((record, tree));
        let base: Tree = files(6, 8, 5_000);
        let gone = commit_tree(&repo.repository, &base).unwrap();
        let mut like = edited(&base, 1);
        let half = commit_like(&repo.repository, &like, &base).unwrap();
        like.retain(|path, _| path.ends_with(['1', '2', '5']));
        expected.push((commit_tree(&repo.repository, &like).unwrap(), like));
        repo.repository.forget(&[gone, half]).unwrap();
        let gone = commit_tree(&repo.repository, &files(4, 20, 5_000)).unwrap();
        repo.repository.forget(&[gone]).unwrap();
        let mut crashed = Session::begin(&repo.repository, Purpose::Backup, None).unwrap();
        write_tree(&mut crashed, &files(5, 4, 5_000)).unwrap();
        crashed.flush().unwrap();
        Self { repo, memory, expected }
    }

    /// Calls `work` with a repository that crashes at each of its mutations in turn, both ways,
    /// then `after` with what it returned and a repository on what is left.
    pub fn at_every_call<T>(
        &self,
        work: impl Fn(&Arc<Repository>) -> T,
        after: impl Fn(&T, &Arc<Repository>, &str),
    ) -> u64 {
        let state = self.memory.snapshot();
        let storage = || -> Arc<dyn Storage> { Arc::new(self.memory.clone()) };
        let crashing = |nth, last| {
            self.memory.restore(&state);
            let cache = tempfile::tempdir().unwrap();
            let crashing = Arc::new(Crashing::new(storage(), nth, last));
            let outcome = work(&self.repo.open_on(crashing.clone(), cache.path()));
            (outcome, crashing, cache)
        };
        let (_, counting, _) = crashing(u64::MAX, Last::IsLost);
        let count = counting.mutations();
        for nth in 1..=count {
            for last in [Last::TakesEffect, Last::IsLost] {
                let (outcome, crashed, cache) = crashing(nth, last);
                let what = format!("call {nth} of {count}, {last:?}");
                // The order of deletions by several threads may vary, so the last may be missed.
                assert!(crashed.has_crashed() || nth + 4 > count, "{what}");
                // What comes next has the cache of the crashed run half of the time.
                let fresh = tempfile::tempdir().unwrap();
                let cache: &Path = if nth % 2 == 0 { cache.path() } else { fresh.path() };
                after(&outcome, &self.repo.open_on(storage(), cache), &what);
            }
        }
        count
    }
}

/// The next prunes complete: whatever the crash has left behind is gone after the second one.
fn assert_prunes(repository: &Arc<Repository>, expected: &[(SnapshotRecord, Tree)], what: &str) {
    let options = PruneOptions { is_dead: &|_, _| true, ..ALL() };
    for _ in 0..3 {
        assert_eq!(run(repository, &options).open_epoch, None, "{what}");
        assert_snapshots(repository, expected);
    }
    let last = run(repository, &options);
    assert_eq!((last.removed.packs, last.fenced.len()), (0, 0), "{what}");
    let needed: Vec<_> = expected.iter().map(|(record, _)| record.id.to_hex()).collect();
    for prefix in ["sessions/", "snapshots/"] {
        let mut left = keys(repository.storage(), prefix);
        left.retain(|key| !needed.iter().any(|id| key.ends_with(id)));
        assert!(left.is_empty(), "{what}: {left:?}");
    }
}

#[test]
fn a_backup_crashes() {
    let scene = Scene::new();
    let mut tree: Tree = (0..90).map(|n| (format!("new/{n}"), noise(n + 30, 5_000))).collect();
    // Deltas on bases that a snapshot needs, and on bases that only deltas need.
    let (before, deltas_only) = (scene.expected[1].1.clone(), scene.expected[2].1.clone());
    tree.extend(edited(&before, 2));
    tree.extend(edited(&deltas_only, 3));
    let before: Tree = before.into_iter().chain(deltas_only).collect();
    let count = scene.at_every_call(
        |repository| commit_like(repository, &tree, &before).ok(),
        |committed, repository, what| {
            let mut expected = scene.expected.clone();
            let known: Vec<_> = expected.iter().map(|(record, _)| record.id).collect();
            for id in repository.counted().unwrap().into_iter().filter(|id| !known.contains(id)) {
                // What counts is whole, whether anybody was told so or not.
                let (snapshot, hash) = repository.read_snapshot(&id).unwrap().unwrap();
                let record = SnapshotRecord { id, snapshot, note: None, hash };
                expected.push((record, tree.clone()));
            }
            if let Some(record) = committed {
                assert!(expected.iter().any(|(found, _)| found.id == record.id), "{what}");
            }
            assert_snapshots(repository, &expected);
            let again = commit_tree(repository, &tree).unwrap();
            expected.push((again, tree.clone()));
            assert_snapshots(repository, &expected);
            assert_prunes(repository, &expected, what);
        },
    );
    assert!(count > 6, "{count}");
}

#[test]
fn a_forget_crashes() {
    let scene = Scene::new();
    let gone: Vec<SnapshotRecord> =
        scene.expected.iter().map(|(record, _)| record.clone()).collect();
    scene.at_every_call(
        |repository| repository.forget(&gone).is_ok(),
        |done, repository, what| {
            let counted = repository.counted().unwrap();
            let mut expected = scene.expected.clone();
            expected.retain(|(record, _)| counted.contains(&record.id));
            assert!(!done || expected.is_empty(), "{what}");
            assert_snapshots(repository, &expected);
            assert_prunes(repository, &expected, what);
            repository.forget(&gone).unwrap();
            assert_prunes(repository, &[], what);
            assert_eq!(keys(repository.storage(), "notes/"), [""; 0], "{what}");
        },
    );
}

#[test]
fn a_prune_crashes() {
    let scene = Scene::new();
    let count = scene.at_every_call(
        |repository| {
            let options = PruneOptions { is_dead: &|_, _| true, ..ALL() };
            prune(repository, &options, &Silent::default()).is_ok()
        },
        |_, repository, what| {
            assert_snapshots(repository, &scene.expected);
            let record = commit_tree(repository, &scene.expected[0].1).unwrap();
            let mut expected = scene.expected.clone();
            expected.push((record, scene.expected[0].1.clone()));
            assert_snapshots(repository, &expected);
            assert_prunes(repository, &expected, what);
        },
    );
    assert!(count > 15, "{count}");
}

#[test]
fn a_prune_crashes_that_goes_on_with_another_ones_plan() {
    let scene = Scene::new();
    // A writer that began before the plan commits after it, so there is something to rescue.
    let writer = scene.repo.reopen();
    let gone = &scene.expected[1];
    let mut session = Session::begin(&writer, Purpose::Backup, None).unwrap();
    let root = write_tree(&mut session, &gone.1).unwrap();
    scene.repo.repository.forget(std::slice::from_ref(&gone.0)).unwrap();
    let id = session.id();
    let others = |other: &_, _: &_| *other != id;
    run(&scene.repo.repository, &PruneOptions { is_dead: &others, ..ALL() });
    let record = session.commit(crate::support::snapshots::snapshot(root)).unwrap();
    let mut expected = scene.expected.clone();
    expected[1] = (record, gone.1.clone());
    scene.at_every_call(
        |repository| {
            let options = PruneOptions {
                is_dead: &|_, _| true,
                max_unused: Limit::Percent(5.0),
                ..PruneOptions::default()
            };
            prune(repository, &options, &Silent::default()).is_ok()
        },
        |_, repository, what| {
            assert_snapshots(repository, &expected);
            assert_prunes(repository, &expected, what);
        },
    );
}

#[test]
fn a_repair_crashes() {
    let memory = MemoryStorage::new();
    let repo = TestRepo::create(Arc::new(memory.clone()), &small(), 1);
    repo.repository.set_parity(20).unwrap();
    let tree = files(3, 6, 12_000);
    let expected: Vec<_> = [tree.clone(), files(4, 3, 9_000)]
        .into_iter()
        .map(|tree| (commit_tree(&repo.repository, &tree).unwrap(), tree))
        .collect();
    let lost = commit_tree(&repo.repository, &files(5, 2, 9_000)).unwrap();
    // A flipped bit that parity mends; a trailer and a segment that do not open; a snapshot
    // without its session.
    let packs = keys(&memory, "packs/");
    damage(&memory, &packs[0], &Damage::Flip { offset: 300, mask: 1 }).unwrap();
    let end = memory.stat(&packs[1]).unwrap() - 20;
    damage(&memory, &packs[1], &Damage::Flip { offset: end, mask: 1 }).unwrap();
    memory.delete(&format!("parity/{}", packs[1].rsplit('/').next().unwrap())).unwrap();
    let segment = keys(&memory, "index/").remove(0);
    damage(&memory, &segment, &Damage::Flip { offset: 60, mask: 1 }).unwrap();
    memory.delete(&session_key(&lost.id)).unwrap();
    let scene = Scene { repo, memory, expected };
    let options = RepairOptions {
        read_data: true,
        prune: PruneOptions { is_dead: &|_, _| true, ..PruneOptions::default() },
        ..RepairOptions::default()
    };
    let run = |repository: &Arc<Repository>| {
        let plan = plan(repository, &options, &Silent::default())?;
        repair(repository, &plan, &options, &mut |_| (), &Silent::default())
    };
    let count = scene.at_every_call(
        |repository| run(repository).is_ok(),
        |_, repository, what| {
            let report = run(repository).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(!report.remaining.is_damage(), "{what}: {report:?}");
            let mut expected = scene.expected.clone();
            let ours: Vec<_> = expected.iter().map(|(record, _)| record.id).collect();
            for record in repository.snapshots(&Silent::default()).unwrap() {
                // The one that counts again, once or, if its forgetting was cut off, twice.
                if !ours.contains(&record.id) {
                    assert!(record.snapshot.replaces.is_some(), "{what}");
                    expected.push((record, files(5, 2, 9_000)));
                }
            }
            assert_eq!(expected.len(), 3, "{what}");
            assert_snapshots(repository, &expected);
            assert_prunes(repository, &expected, what);
            let whole = plan(repository, &options, &Silent::default()).unwrap();
            assert!(whole.is_empty(), "{what}: {whole:?}");
        },
    );
    assert!(count > 15, "{count}");
}

#[test]
fn a_change_of_keys_crashes() {
    let scene = Scene::new();
    let secret = Secret::KeyFile(KeyFile::generate(&*scene.repo.world));
    let slot =
        NewSlot { secret: secret.clone(), cost: PasswordCost::LOWEST, label: "second".into() };
    let opens = |repository: &Arc<Repository>, secret: &Secret| {
        let cache = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(scene.memory.clone());
        let environment = environment(cache.path());
        assert_eq!(repository.config().family, scene.repo.repository.config().family);
        Repository::open(
            storage,
            scene.repo.world.clone(),
            environment,
            std::slice::from_ref(secret),
        )
        .is_ok()
    };
    scene.at_every_call(
        |repository| repository.add_slot(&slot).ok(),
        |added, repository, what| {
            assert!(opens(repository, &scene.repo.secret), "{what}");
            assert!(added.is_none() || opens(repository, &secret), "{what}");
            repository.add_slot(&slot).unwrap();
            assert!(opens(repository, &secret), "{what}");
            assert_snapshots(repository, &scene.expected);
        },
    );
    let first = scene.repo.repository.slots().unwrap().remove(0).id;
    scene.repo.repository.add_slot(&slot).unwrap();
    scene.at_every_call(
        |repository| repository.remove_slot(&first).is_ok(),
        |removed, repository, what| {
            assert!(opens(repository, &secret), "{what}");
            assert!(!removed || !opens(repository, &scene.repo.secret), "{what}");
            assert!(!repository.slots().is_ok_and(|slots| slots.is_empty()), "{what}");
        },
    );
}

#[test]
fn what_a_crash_leaves_open_is_still_readable() {
    // A reader that has the index of before the prune reads on during it.
    let scene = Scene::new();
    let cache = tempfile::tempdir().unwrap();
    let reader = scene.repo.open_on(Arc::new(scene.memory.clone()), cache.path());
    reader.refresh_index().unwrap();
    run(&scene.repo.reopen(), &PruneOptions { is_dead: &|_, _| true, ..ALL() });
    for (record, tree) in &scene.expected {
        assert!(read_tree(&reader, record).unwrap() == *tree);
    }
}
