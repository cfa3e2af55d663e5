//! Check: every kind of damage to every kind of object is named, with what it touches.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdall::ops::backup::{BackupOptions, Input, backup};
use holdall::ops::check::{CheckOptions, CheckReport, ReadData, check, verified_times};
use holdall::progress::{Counter, Problem, Progress, Silent};
use holdall::repo::{RepoError, Repository};
use holdall::storage::{MemoryStorage, Storage};
use holdall::world::{Time, World};

use crate::support::repository::{TestRepo, small};
use crate::support::storages::{Damage, damage, keys};

fn snapshot(repository: &Arc<Repository>, path: &Path) {
    let input = Input::Paths(vec![path.as_os_str().as_bytes().to_vec()]);
    backup(repository, input, &BackupOptions::default(), &Silent::default()).unwrap();
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    holdall::world::SeededWorld::new(seed, Time::default()).random(&mut bytes);
    bytes
}

/// Three snapshots of a small tree, with a note, and one snapshot forgotten.
fn filled() -> (MemoryStorage, TestRepo, tempfile::TempDir) {
    let storage = MemoryStorage::new();
    let repo = TestRepo::create(Arc::new(storage.clone()), &small(), 1);
    let source = tempfile::tempdir().unwrap();
    for number in 0..4u64 {
        repo.world.set_now(Time::from_seconds(1_800_000_000 + number as i64));
        fs::create_dir_all(source.path().join(format!("d{number}"))).unwrap();
        let path = source.path().join(format!("d{number}/file"));
        fs::write(path, noise(number, 40_000)).unwrap();
        snapshot(&repo.repository, source.path());
    }
    let records = repo.repository.snapshots(&Silent::default()).unwrap();
    repo.repository.annotate(&records[3], |note| note.pinned = true).unwrap();
    repo.repository.forget(&records[..1]).unwrap();
    (storage, repo, source)
}

fn run(repository: &Arc<Repository>, read_data: ReadData) -> Result<CheckReport, String> {
    let options = CheckOptions { read_data, ..CheckOptions::default() };
    check(repository, &options, &Silent::default()).map_err(|error| error.to_string())
}

fn fresh(repo: &TestRepo, storage: &MemoryStorage) -> Result<Arc<Repository>, RepoError> {
    let cache = tempfile::tempdir().unwrap();
    let environment = crate::support::repository::environment(cache.path());
    let secrets = [repo.secret.clone()];
    let opened =
        Repository::open(Arc::new(storage.clone()), repo.world.clone(), environment, &secrets);
    // The index is rebuilt from what is stored, as on another machine.
    std::mem::forget(cache);
    opened.map(Arc::new)
}

#[test]
fn a_whole_repository_is_whole() {
    let (storage, repo, _source) = filled();
    for read_data in [ReadData::None, ReadData::All, ReadData::Part { part: 1, of: 2 }] {
        let report = run(&fresh(&repo, &storage).unwrap(), read_data).unwrap();
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(report.snapshots, 3);
    }
    let report = run(&repo.repository, ReadData::All).unwrap();
    assert_eq!(report.packs_read, report.packs);
    let some = run(&repo.repository, ReadData::Share(0.3)).unwrap();
    assert!(some.packs_read > 0 && some.packs_read < report.packs);
    let options =
        CheckOptions { read_data: ReadData::All, max_age_seconds: Some(60), ..Default::default() };
    let again = check(&repo.repository, &options, &Silent::default()).unwrap();
    assert_eq!(again.packs_read, 0, "all of them were read a moment ago");
}

#[test]
fn a_damaged_pack_names_the_files_that_need_it() {
    let (storage, repo, source) = filled();
    let packs = keys(&storage, "packs/");
    // The pack that holds the contents of the third file: it is in the second and third snapshot.
    let mut touched_by = Vec::new();
    let whole = storage.snapshot();
    for pack in &packs {
        storage.restore(&whole);
        damage(&storage, pack, &Damage::Delete).unwrap();
        let report = run(&fresh(&repo, &storage).unwrap(), ReadData::None).unwrap();
        assert!(report.damaged.iter().all(|damaged| damaged.key == *pack));
        touched_by.push(report.touched);
    }
    let path = source.path().join("d2/file").into_os_string().into_encoded_bytes();
    let one = touched_by.iter().find(|touched| touched.iter().any(|t| t.path == path)).unwrap();
    assert!(one.iter().filter(|touched| touched.path == path).count() == 2, "{one:?}");
}

/// Without the trailer nobody says which chunks a damaged frame holds, but the index knows them.
#[test]
fn a_pack_without_its_trailer_tells_what_a_damaged_frame_touches() {
    let (storage, repo, source) = filled();
    let path = source.path().join("d2/file").into_os_string().into_encoded_bytes();
    let whole = storage.snapshot();
    let touching = keys(&storage, "packs/").into_iter().filter(|pack| {
        storage.restore(&whole);
        let len = storage.stat(pack).unwrap();
        for offset in [len - 1, 200] {
            damage(&storage, pack, &Damage::Flip { offset, mask: 1 }).unwrap();
        }
        let report = run(&repo.repository, ReadData::All).unwrap();
        assert!(report.damaged.iter().all(|damaged| damaged.key == *pack), "{report:?}");
        report.touched.iter().filter(|touched| touched.path == path).count() == 2
    });
    assert_eq!(touching.count(), 1);
}

/// Trees are read in any case, so the pack is named without reading all of them.
#[test]
fn a_damaged_tree_names_its_pack() {
    let (storage, repo, _source) = filled();
    let whole = storage.snapshot();
    let mut named = 0;
    for pack in keys(&storage, "packs/") {
        storage.restore(&whole);
        damage(&storage, &pack, &Damage::Flip { offset: 200, mask: 1 }).unwrap();
        let report = run(&fresh(&repo, &storage).unwrap(), ReadData::None).unwrap();
        assert!(report.damaged.iter().all(|damaged| damaged.key == pack), "{report:?}");
        assert_eq!(report.damaged.is_empty(), report.touched.is_empty());
        named += usize::from(!report.damaged.is_empty());
    }
    assert!(named >= 3, "each snapshot has a pack of trees");
}

fn recent(repository: &Arc<Repository>) -> CheckReport {
    let options =
        CheckOptions { read_data: ReadData::All, max_age_seconds: Some(60), ..Default::default() };
    check(repository, &options, &Silent::default()).unwrap()
}

/// With each run others are read, until all of them were; another process takes part.
#[test]
fn subsets_rotate() {
    let total = {
        let (_, repo, _source) = filled();
        run(&repo.repository, ReadData::None).unwrap().packs
    };
    for read_data in [ReadData::Share(0.25), ReadData::Part { part: 1, of: 4 }] {
        let (_, repo, _source) = filled();
        let other = repo.reopen();
        let mut read = 0;
        for repository in [&repo.repository, &other, &repo.repository] {
            read += run(repository, read_data).unwrap().packs_read;
        }
        assert!(read < total);
        assert_eq!(recent(&other).packs_read, total - read, "none was read twice");
    }
}

/// What was read until the end that somebody made is known to the next run.
#[test]
fn a_run_that_is_stopped_is_gone_on_with() {
    let (_, repo, _source) = filled();
    let total = run(&repo.repository, ReadData::None).unwrap().packs;
    let stopping = StopsAfter { packs: 1.into(), reading: false.into() };
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let stopped = check(&repo.repository, &options, &stopping);
    assert!(matches!(stopped, Err(holdall::ops::OpsError::Cancelled)), "{stopped:?}");
    // Both threads may have been at a pack.
    let rest = recent(&repo.reopen()).packs_read;
    assert!(rest < total && rest >= total - 2, "{rest} of {total}");
}

struct StopsAfter {
    packs: AtomicU64,
    reading: AtomicBool,
}

impl Progress for StopsAfter {
    fn phase(&self, name: &str, _: Counter, _: Option<u64>) {
        self.reading.store(name == "reading packs", Ordering::SeqCst);
    }
    fn add(&self, counter: Counter, amount: u64) {
        if counter == Counter::Objects && self.reading.load(Ordering::SeqCst) {
            let left = self.packs.load(Ordering::SeqCst).saturating_sub(amount);
            self.packs.store(left, Ordering::SeqCst);
        }
    }
    fn at(&self, _: &[u8]) {}
    fn problem(&self, _: &Problem) {}
    fn note(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        self.reading.load(Ordering::SeqCst) && self.packs.load(Ordering::SeqCst) == 0
    }
}

/// A snapshot is called verified when all that it needs was read, as of the oldest reading; and
/// not any more when it is found damaged.
#[test]
fn snapshots_are_known_to_be_verified() {
    let (storage, repo, _source) = filled();
    let records = repo.repository.snapshots(&Silent::default()).unwrap();
    let ids = || records.iter().map(|record| record.id);
    let since = |n: usize| verified_times(&repo.repository, ids()).get(&records[n].id).copied();
    let at = |seconds: i64| repo.world.set_now(Time::from_seconds(1_900_000_000 + seconds));
    at(0);
    run(&repo.repository, ReadData::Share(0.5)).unwrap();
    assert!((0..3).all(|n| since(n).is_none()), "a part says nothing");
    at(10);
    run(&repo.repository, ReadData::Share(0.6)).unwrap();
    assert!((0..3).all(|n| since(n) == Some(Time::from_seconds(1_900_000_000))));
    at(20);
    let one = CheckOptions {
        snapshots: vec![records[1].clone()],
        read_data: ReadData::All,
        ..CheckOptions::default()
    };
    check(&repo.repository, &one, &Silent::default()).unwrap();
    assert_eq!(since(1), Some(Time::from_seconds(1_900_000_020)));
    assert_eq!(since(0), Some(Time::from_seconds(1_900_000_000)));
    // A clock that was ahead when it was read proves nothing.
    at(-5);
    assert_eq!(since(0), None);
    at(30);
    let pack = keys(&storage, "packs/").into_iter().find(|pack| {
        let whole = storage.snapshot();
        damage(&storage, pack, &Damage::Flip { offset: 100, mask: 1 }).unwrap();
        let report = run(&fresh(&repo, &storage).unwrap(), ReadData::All).unwrap();
        storage.restore(&whole);
        let touched: BTreeSet<_> = report.touched.iter().map(|t| t.snapshot).collect();
        touched.len() == 1
    });
    damage(&storage, &pack.unwrap(), &Damage::Flip { offset: 100, mask: 1 }).unwrap();
    let report = run(&repo.repository, ReadData::All).unwrap();
    let hurt = report.touched[0].snapshot;
    for (n, record) in records.iter().enumerate() {
        assert_eq!(since(n).is_none(), record.id == hurt);
    }
    assert_eq!(recent(&repo.repository).packs_read, 1, "what is damaged is read again");
}
