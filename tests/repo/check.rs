//! Check: every kind of damage to every kind of object is named, with what it touches.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use holdall::ops::backup::{BackupOptions, Input, backup};
use holdall::ops::check::{CheckOptions, CheckReport, ReadData, check};
use holdall::progress::Silent;
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
    let parts: u64 = (1..=3)
        .map(|part| run(&repo.repository, ReadData::Part { part, of: 3 }).unwrap().packs_read)
        .sum();
    assert_eq!(parts, report.packs, "the parts together are everything");
    let some = run(&repo.repository, ReadData::Share(0.3)).unwrap();
    assert!(some.packs_read > 0 && some.packs_read < report.packs);
    let options =
        CheckOptions { read_data: ReadData::All, max_age_seconds: Some(60), ..Default::default() };
    let again = check(&repo.repository, &options, &Silent::default()).unwrap();
    assert_eq!(again.packs_read, 0, "all of them were read a moment ago");
}

/// {delete, truncate, flip, zero a page, swap} × every object: check names it, or the repository
/// says at opening what is wrong.
#[test]
fn every_damage_to_every_object_is_named() {
    let (storage, repo, _source) = filled();
    let whole = storage.snapshot();
    let all = keys(&storage, "");
    let kinds: BTreeSet<&str> = all.iter().map(|key| key.split('/').next().unwrap()).collect();
    for kind in ["config", "forgotten", "index", "keys", "notes", "packs", "sessions", "snapshots"]
    {
        assert!(kinds.contains(kind), "{kind}");
    }
    for key in &all {
        let other = all
            .iter()
            .find(|other| *other != key && other.split('/').next() == key.split('/').next());
        let len = storage.stat(key).unwrap();
        let mut damages = vec![
            Damage::Delete,
            Damage::Truncate { len: len / 2 },
            Damage::Flip { offset: len / 2, mask: 4 },
            Damage::Flip { offset: len - 1, mask: 1 },
            Damage::ZeroPage { page: 0 },
        ];
        damages.extend(other.map(|other| Damage::Swap { with: other.clone() }));
        for hurt in damages {
            storage.restore(&whole);
            damage(&storage, key, &hurt).unwrap();
            // What nobody can miss: without a record of it, it was never there.
            let silent = matches!(hurt, Damage::Delete)
                && ["notes", "forgotten", "sessions", "snapshots", "index"]
                    .contains(&key.split('/').next().unwrap());
            let named = match fresh(&repo, &storage) {
                Err(error) => error.to_string(),
                Ok(repository) => match run(&repository, ReadData::All) {
                    Err(error) => error,
                    Ok(report) => {
                        assert!(silent || !report.is_whole(), "{hurt:?} of {key}: not seen");
                        format!("{report:?}")
                    }
                },
            };
            let gone = ["config", "keys"].contains(&key.split('/').next().unwrap());
            assert!(silent || gone || named.contains(key), "{hurt:?} of {key}: {named}");
        }
    }
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
