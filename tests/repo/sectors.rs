//! Objects that cannot be read any more, as on a disk with a bad sector, while others can: damage
//! of those objects, whatever they are, and no end of the work.

use std::ops::Range;
use std::sync::Arc;

use holdall::ops::OpsError;
use holdall::ops::check::{CheckOptions, CheckReport, ReadData, check};

use holdall::ops::prune::{Limit, PruneOptions, prune};
use holdall::ops::repair::{How, Mend, RepairOptions, Source, plan, repair};
use holdall::progress::Silent;
use holdall::repo::{Repository, SnapshotRecord};
use holdall::storage::{ErrorKind, MemoryStorage, Storage};

use crate::support::repository::{TestRepo, small};
use crate::support::snapshots::{Tree, assert_snapshots, commit_tree, files, read_tree};
use crate::support::storages::{Fault, Faulty, Flipping, Verb, keys};

struct Scene {
    repo: TestRepo,
    disk: Arc<Flipping>,
    expected: Vec<(SnapshotRecord, Tree)>,
}

impl Scene {
    /// Two snapshots that share much, a note on one, and something to be pruned.
    fn new(parity: u8) -> Self {
        let disk = Arc::new(Flipping::new(Arc::new(MemoryStorage::new())));
        let repo = TestRepo::create(disk.clone(), &small(), 1);
        let repository = &repo.repository;
        repository.set_parity(parity).unwrap();
        let gone = commit_tree(repository, &files(7, 12, 20_000)).unwrap();
        let mut expected = Vec::new();
        let mut tree = files(1, 12, 20_000);
        for seed in [2, 3] {
            tree.extend(files(seed, 2, 9_000).into_iter().map(|(p, b)| (format!("{seed}/{p}"), b)));
            expected.push((commit_tree(repository, &tree).unwrap(), tree.clone()));
        }
        let note = repository.annotate(&expected[0].0, |note| note.description = "x".into());
        expected[0].0.note = Some(note.unwrap());
        repository.forget(&[gone]).unwrap();
        Self { repo, disk, expected }
    }

    fn open(&self, cache: &tempfile::TempDir) -> Arc<Repository> {
        self.repo.open_on(self.disk.clone(), cache.path())
    }
}

fn checked(repository: &Arc<Repository>) -> CheckReport {
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    check(repository, &options, &Silent::default()).unwrap()
}

fn sweep() -> PruneOptions<'static> {
    PruneOptions {
        is_dead: &|_, _| true,
        max_unused: Limit::Percent(0.0),
        ..PruneOptions::default()
    }
}

/// What of an object is hit: all, its front, its middle, its end.
const HITS: [fn(u64) -> Range<u64>; 4] =
    [|len| 0..len, |_| 0..1, |len| len / 2..len / 2 + 1, |len| len - 1..len];

#[test]
fn an_object_that_cannot_be_read_is_named_and_ends_nothing() {
    let scene = Scene::new(0);
    for key in keys(&*scene.disk, "") {
        // Nobody reads the reserve.
        if key.starts_with("reserve/") {
            continue;
        }
        let hits = if key.starts_with("packs/") { &HITS[..] } else { &HITS[..1] };
        for hit in hits {
            scene.disk.heal();
            let len = scene.disk.stat(&key).unwrap();
            scene.disk.make_unreadable(&key, hit(len));
            let cache = tempfile::tempdir().unwrap();
            let report = checked(&scene.open(&cache));
            assert!(report.damaged.iter().any(|object| object.key == key), "{key}: {report:?}");
            // What can be read is read.
            for (record, tree) in &scene.expected {
                if let Ok(found) = read_tree(&scene.open(&cache), record) {
                    assert!(found == *tree, "{key}");
                }
            }
            // It may refuse, since it knows what is damaged, but not for want of an answer.
            let options = PruneOptions { dry_run: true, ..sweep() };
            match prune(&scene.open(&cache), &options, &Silent::default()) {
                Ok(_) | Err(OpsError::Incomplete { .. }) => {}
                Err(error) => panic!("{key}: {error}"),
            }
            let options = RepairOptions { read_data: true, ..RepairOptions::default() };
            plan(&scene.open(&cache), &options, &Silent::default()).unwrap();
            for key in keys(&*scene.disk, "damage/") {
                scene.disk.delete(&key).unwrap();
            }
        }
    }
}

/// The way of every damage: found, recorded, stored again by the next backup, kept away from and
/// condemned by a prune, although it can still not be read.
#[test]
fn the_next_backup_heals_what_cannot_be_read_and_a_prune_gets_rid_of_it() {
    let Scene { repo, disk, expected } = Scene::new(0);
    let cache = tempfile::tempdir().unwrap();
    let open = || repo.open_on(disk.clone(), cache.path());
    let pack = {
        // One that the first snapshot needs: it does not read back without it.
        let needed = keys(&*disk, "packs/").into_iter().find(|key| {
            disk.heal();
            disk.make_unreadable(key, 2_000..2_001);
            let elsewhere = tempfile::tempdir().unwrap();
            read_tree(&repo.open_on(disk.clone(), elsewhere.path()), &expected[0].0).is_err()
        });
        needed.unwrap()
    };
    let found = checked(&open());
    assert!(!found.touched.is_empty(), "{found:?}");
    assert_eq!(keys(&*disk, "damage/").len(), 1);
    let refused = prune(&open(), &sweep(), &Silent::default());
    assert!(matches!(refused, Err(OpsError::Incomplete { .. })), "{refused:?}");

    let mut all = expected.clone();
    for (_, tree) in expected {
        all.push((commit_tree(&open(), &tree).unwrap(), tree));
    }
    assert_snapshots(&open(), &all);
    prune(&open(), &sweep(), &Silent::default()).unwrap();
    assert!(!keys(&*disk, "packs/").contains(&pack));
    assert!(checked(&open()).is_whole());
    assert_snapshots(&open(), &all);
}

/// To parity a range that cannot be read is what it is: lost, and known to be.
#[test]
fn parity_gives_back_what_cannot_be_read() {
    for hit in &HITS[1..] {
        let Scene { repo, disk, expected } = Scene::new(5);
        let cache = tempfile::tempdir().unwrap();
        for key in keys(&*disk, "packs/") {
            disk.make_unreadable(&key, hit(disk.stat(&key).unwrap()));
        }
        // The head of parity stands there twice.
        for key in keys(&*disk, "parity/") {
            disk.make_unreadable(&key, 0..1);
        }
        let repository = repo.open_on(disk.clone(), cache.path());
        let options = RepairOptions { read_data: true, prune: sweep(), ..RepairOptions::default() };
        let planned = plan(&repository, &options, &Silent::default()).unwrap();
        assert!(!planned.packs.is_empty());
        assert!(planned.packs.iter().all(|pack| pack.from == Source::Parity), "{planned:?}");
        repair(&repository, &planned, &options, &mut |_| (), &Silent::default()).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let repository = repo.open_on(disk.clone(), elsewhere.path());
        assert_snapshots(&repository, &expected);
        assert!(checked(&repository).is_whole());
    }
}

/// Packs whose trailers cannot be read, and that no segment names that can: what they have is
/// found page by page.
#[test]
fn frames_are_salvaged_around_what_cannot_be_read() {
    let Scene { repo, disk, .. } = Scene::new(0);
    for key in keys(&*disk, "index/") {
        disk.make_unreadable(&key, 0..1);
    }
    let packs: Vec<_> =
        keys(&*disk, "packs/").into_iter().map(|key| (disk.stat(&key), key)).collect();
    let large: Vec<_> =
        packs.into_iter().filter(|(len, _)| *len.as_ref().unwrap() > 100_000).collect();
    assert!(large.len() > 2);
    for (len, key) in &large {
        let len = *len.as_ref().unwrap();
        disk.make_unreadable(key, len - 1..len);
    }
    let cache = tempfile::tempdir().unwrap();
    let repository = repo.open_on(disk.clone(), cache.path());
    let options = RepairOptions { read_data: true, prune: sweep(), ..RepairOptions::default() };
    let planned = plan(&repository, &options, &Silent::default()).unwrap();
    let report = repair(&repository, &planned, &options, &mut |_| (), &Silent::default()).unwrap();
    for (_, key) in large {
        let is_it = |mend: &&Mend| mend.object == key && matches!(mend.how, How::Frames(2..));
        assert!(report.mends.iter().any(|mend| is_it(&mend)), "{key}: {:?}", report.mends);
    }
}

/// A storage that has gone says nothing about its objects.
#[test]
fn a_storage_that_has_gone_is_not_damaged() {
    let Scene { repo, disk, expected } = Scene::new(2);
    let faulty = Arc::new(Faulty::new(disk.clone()));
    let cache = tempfile::tempdir().unwrap();
    let before = keys(&*disk, "");
    // It goes at some call of a check, a prune, a repair, and is there again for the next.
    for nth in (1..200).step_by(7) {
        let repository = repo.open_on(faulty.clone(), cache.path());
        let gone = |nth| {
            faulty.clear();
            let verbs = [Verb::Get, Verb::GetRange, Verb::Stat, Verb::List];
            faulty.add(Fault::nth(&verbs, nth, ErrorKind::Transient).times(u64::MAX));
        };
        gone(nth);
        let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
        if let Ok(report) = check(&repository, &options, &Silent::default()) {
            assert!(report.is_whole(), "{nth}: {report:?}");
        }
        gone(nth);
        let options = RepairOptions { read_data: true, ..RepairOptions::default() };
        if let Ok(planned) = plan(&repository, &options, &Silent::default()) {
            assert!(!planned.is_damage(), "{nth}: {planned:?}");
        }
        gone(nth);
        let options = PruneOptions { dry_run: true, ..sweep() };
        if let Err(error) = prune(&repository, &options, &Silent::default()) {
            assert!(!matches!(error, OpsError::Incomplete { .. }), "{nth}: {error}");
        }
        faulty.clear();
    }
    assert_eq!(keys(&*disk, ""), before);
    assert_snapshots(&repo.open_on(faulty, cache.path()), &expected);
}

/// Nor do packs that give no answer any more while everything else still does.
#[test]
fn packs_that_give_no_answer_end_a_check() {
    let Scene { repo, disk, .. } = Scene::new(0);
    let faulty = Arc::new(Faulty::new(disk.clone()));
    let cache = tempfile::tempdir().unwrap();
    let before = keys(&*disk, "");
    let mut nth = 1;
    loop {
        let repository = repo.open_on(faulty.clone(), cache.path());
        let fault = Fault::nth(&[Verb::GetRange], nth, ErrorKind::Transient);
        faulty.clear();
        faulty.add(fault.under("packs/").times(u64::MAX));
        let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
        match check(&repository, &options, &Silent::default()) {
            Err(_) => nth += 1,
            Ok(report) => {
                assert!(report.is_whole(), "{nth}: {report:?}");
                break;
            }
        }
    }
    assert!(nth > 10, "{nth} calls");
    assert_eq!(keys(&*disk, ""), before);
}
