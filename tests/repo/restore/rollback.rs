//! All or nothing.

use std::os::unix::fs::DirBuilderExt;
use std::sync::atomic::AtomicU64;

use holdall::ops::restore::undo;
use holdall::storage::{ErrorKind, MemoryStorage};
use holdall::world::RealWorld;

use super::*;
use crate::support::repository::small;
use crate::support::storages::{Fault, Faulty, Verb};

/// Changes the tree that `fill` makes in every way that a restore takes back: contents, kinds,
/// metadata, names, links; missing and additional things.
fn change(target: &Path) {
    let path = |name: &str| target.join(name);
    fs::write(path("a/file-4"), "old content").unwrap();
    fs::write(path("a/file-1"), noise(77, 4)).unwrap();
    fs::remove_file(path("link")).unwrap();
    symlink("elsewhere", path("link")).unwrap();
    fs::remove_file(path("same-again")).unwrap();
    fs::create_dir_all(path("same-again/with")).unwrap();
    fs::write(path("same-again/with/content"), "in the way").unwrap();
    fs::remove_file(path("zeros")).unwrap();
    fs::remove_dir_all(path("empty")).unwrap();
    fs::write(path("empty"), "a file where a folder comes").unwrap();
    fs::remove_file(path("linked-0")).unwrap();
    fs::write(path("linked-0"), "other").unwrap();
    fs::hard_link(path("linked-0"), path("linked-3")).unwrap();
    fs::create_dir_all(path("a/mine/deep")).unwrap();
    fs::write(path("a/mine/deep/file"), "to be removed").unwrap();
    fs::remove_file(path("a/deep/er/small-7")).unwrap();
    set_mode(&path("a/deep/er/small-9"), 0o604);
    set_mode(&path("a/mine"), 0o500);
    set_mode(&path("a"), 0o2750);
    let value = rustix::fs::XattrFlags::empty();
    let _ = rustix::fs::setxattr(path("a"), "user.mine", b"kept", value);
    let _ = rustix::fs::setxattr(path("a/deep/er/small-8"), "user.mine", b"kept", value);
    for name in ["a/deep/er", "a/deep", "a/mine", "a", ""] {
        set_mtime(&path(name), 1_200_000_000 + name.len() as u64);
    }
}

type Whole = (BTreeMap<Vec<u8>, Seen>, Seen);

/// All of it, and what the directory itself is like.
fn whole(root: &Path) -> Whole {
    let mut own = seen(root, b"", &mut BTreeMap::new());
    own.first.clear();
    (tree(root), own)
}

/// A snapshot, an older tree in the target, and options that bring it in line.
fn changed() -> (Place, Arc<Faulty>, SnapshotRecord) {
    let faulty = Arc::new(Faulty::new(Arc::new(MemoryStorage::new())));
    let mut place = Place::new();
    place.repo = TestRepo::create(faulty.clone(), &small(), 1);
    fill(&place);
    let record = place.backup();
    place.restore(&record, place.options()).assert_whole();
    change(&place.target(""));
    (place, faulty, record)
}

fn options(place: &Place) -> RestoreOptions<'static> {
    RestoreOptions { rollback: true, delete: true, ..place.options() }
}

#[track_caller]
fn assert_as_before(target: &Path, before: &Whole, what: &str) {
    let after = whole(target);
    let names = |tree: &BTreeMap<Vec<u8>, Seen>| {
        let names = tree.keys().map(|name| String::from_utf8_lossy(name).into_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&after.0), names(&before.0), "{what}");
    for (path, seen) in &before.0 {
        assert!(after.0[path] == *seen, "{what}: {}", String::from_utf8_lossy(path));
    }
    assert_eq!(after.1, before.1, "{what}");
}

/// Lets every call of the storage fail, one after the other; the first run without a fault then
/// succeeds. How many failed.
fn fail_at_every_call(place: &Place, faulty: &Arc<Faulty>, record: &SnapshotRecord) -> u64 {
    let before = whole(&place.target(""));
    for nth in 1.. {
        let cache = tempfile::tempdir().unwrap();
        let repository = place.repo.open_on(faulty.clone(), cache.path());
        let fault = Fault::nth(&[Verb::Get, Verb::GetRange], nth, ErrorKind::Denied);
        faulty.add(fault.times(u64::MAX));
        let ahead = Ahead { chunks: 5, files: 3 };
        let ended = run(&repository, record, RestoreOptions { ahead, ..options(place) });
        faulty.clear();
        match ended {
            Err(OpsError::RolledBack { whole, .. }) => assert!(whole, "{nth}"),
            Ok(said) if said.report.rolled_back => assert!(said.report.damage > 0),
            Ok(said) => {
                said.assert_whole();
                return nth - 1;
            }
            // Before anything was changed.
            Err(_) => {}
        }
        assert_as_before(&place.target(""), &before, &format!("call {nth}"));
    }
    0
}

#[test]
fn whichever_call_fails_the_target_is_what_it_was() {
    let (place, faulty, record) = changed();
    let failed = fail_at_every_call(&place, &faulty, &record);
    assert!(failed > 15, "{failed}");
    assert_same_tree(&place.source(""), &place.target(""));
}

#[test]
fn without_root_it_is_the_same() {
    if !is_root() {
        return unprivileged();
    }
    let directory = ends::place_for_all();
    let args = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let name = "restore::rollback::without_root_it_is_the_same";
    if !ends::again(name, directory.path(), "setpriv", &args) {
        cannot("setpriv");
    }
}

/// Folders that may not be written in, changed and removed.
fn unprivileged() {
    let (mut place, faulty) = (Place::new(), Arc::new(Faulty::new(Arc::new(MemoryStorage::new()))));
    place.repo = TestRepo::create(faulty.clone(), &small(), 1);
    for name in ["d/f", "d/ro/f", "d/ro/new/f", "e/f"] {
        fs::create_dir_all(place.source(name).parent().unwrap()).unwrap();
        fs::write(place.source(name), noise(name.len() as u64, 50_000)).unwrap();
    }
    for name in ["d/ro/new", "d/ro", "e"] {
        set_mode(&place.source(name), 0o555);
    }
    let record = place.backup();
    for name in ["d/f", "d/ro/f", "d/ro/mine/deep/f", "e/mine/f"] {
        fs::create_dir_all(place.target(name).parent().unwrap()).unwrap();
        fs::write(place.target(name), "old").unwrap();
    }
    for name in ["d/ro/mine/deep", "d/ro/mine", "d/ro", "e/mine", "e", "d"] {
        set_mode(&place.target(name), 0o555);
    }
    assert!(fail_at_every_call(&place, &faulty, &record) > 3);
    assert_same_tree(&place.source(""), &place.target(""));
    // So that the directories can be removed by their owner.
    for root in [place.source(""), place.target("")] {
        for name in ["d/ro", "d/ro/new", "e"] {
            set_mode(&root.join(name), 0o755);
        }
    }
}

#[test]
fn in_the_end_it_is_what_it_would_be_otherwise() {
    let (place, _, record) = changed();
    place.restore_foretold(&record, || options(&place)).assert_whole();
    assert_same_tree(&place.source(""), &place.target(""));
    let own =
        |path: &Path| (fs::metadata(path).unwrap().mtime(), fs::metadata(path).unwrap().mode());
    assert_eq!(own(&place.source("")), own(&place.target("")));
    // In place, files would be changed for which nothing is kept; so they are replaced.
    change_one(&place);
    let inode = fs::metadata(place.target("a/file-4")).unwrap().ino();
    place.restore(&record, RestoreOptions { in_place: true, ..options(&place) }).assert_whole();
    assert_ne!(fs::metadata(place.target("a/file-4")).unwrap().ino(), inode);
    assert_same_tree(&place.source(""), &place.target(""));
}

fn change_one(place: &Place) {
    fs::write(place.target("a/file-4"), noise(6, 300_000)).unwrap();
}

#[test]
fn a_target_that_was_missing_is_missing_again() {
    let (place, faulty, record) = changed();
    let target = place.target("not/there");
    let cache = tempfile::tempdir().unwrap();
    let repository = place.repo.open_on(faulty.clone(), cache.path());
    faulty.add(Fault::nth(&[Verb::GetRange], 2, ErrorKind::Denied).times(u64::MAX));
    let ended = run(&repository, &record, RestoreOptions { target, ..options(&place) });
    let rolled_back = match ended {
        Ok(said) => said.report.rolled_back,
        Err(error) => matches!(error, OpsError::RolledBack { whole: true, .. }),
    };
    assert!(rolled_back);
    assert!(!place.target("not").exists());
}

#[test]
fn what_comes_only_in_part_does_not_come_at_all() {
    let (place, _, record) = changed();
    let before = whole(&place.target(""));
    // A directory is in the way of a file, and nothing may be removed.
    let said = place.restore(&record, RestoreOptions { delete: false, ..options(&place) });
    assert!(said.report.rolled_back && said.report.problems > 0 && said.report.damage == 0);
    assert_as_before(&place.target(""), &before, "partial");
}

#[test]
fn who_interrupts_it_finds_what_was_there() {
    let (place, _, record) = changed();
    let before = whole(&place.target(""));
    for left in [0, 1, 30_000, 300_000, 500_000] {
        let progress = ends::Impatient { left: AtomicU64::new(left) };
        let ended = restore(&place.repo.repository, &record, &options(&place), &progress);
        let Err(OpsError::RolledBack { whole: true, source }) = ended else { panic!("{ended:?}") };
        assert!(matches!(*source, OpsError::Cancelled));
        assert_as_before(&place.target(""), &before, &format!("{left}"));
    }
}

#[test]
fn a_full_disk_is_as_full_as_before() {
    let name = "restore::rollback::a_full_disk_is_as_full_as_before";
    ends::on_a_small_disk(name, |small| {
        let place = Place::new();
        for number in 0..6 {
            fs::write(place.source(&format!("b{number}")), noise(number, 300_000)).unwrap();
        }
        let record = place.backup();
        let target = small.join("d");
        let at = |name: &str| target.join(name);
        fs::DirBuilder::new().mode(0o750).create(&target).unwrap();
        fs::write(at("b0"), noise(50, 200_000)).unwrap();
        fs::write(at("mine"), noise(51, 200_000)).unwrap();
        // To the last page, so that nothing can be written that was not free before.
        let free = rustix::fs::statvfs(small).unwrap();
        let before = whole(&target);
        let options = || RestoreOptions { target: target.clone(), ..options(&place) };
        let ended = run(&place.repo.repository, &record, options());
        let Err(OpsError::RolledBack { whole: true, source }) = ended.map(|_| ()) else {
            panic!("it fits")
        };
        assert!(matches!(*source, OpsError::TargetFull { .. }), "{source}");
        assert_as_before(&target, &before, "full");
        assert_eq!(rustix::fs::statvfs(small).unwrap().f_bfree, free.f_bfree);
        // No room for the journal.
        fs::write(small.join("rest"), noise(52, 1 << 20)).unwrap_err();
        let before = whole(&target);
        let failed = run(&place.repo.repository, &record, options());
        assert!(failed.is_err());
        assert_as_before(&target, &before, "no room at all");
    });
}

#[test]
fn another_file_system_below_has_what_was_its_own() {
    let name = "restore::rollback::another_file_system_below_has_what_was_its_own";
    ends::on_a_small_disk(name, |small| {
        let place = Place::new();
        let target = small.parent().unwrap().join("t");
        fs::create_dir_all(place.source("m")).unwrap();
        for name in ["m/a", "m/b", "c"] {
            fs::write(place.source(name), noise(1, 5_000)).unwrap();
        }
        let record = place.backup();
        fs::create_dir_all(target.join("m")).unwrap();
        let mut mount = std::process::Command::new("mount");
        assert!(mount.arg("--bind").args([small, &target.join("m")]).status().unwrap().success());
        for name in ["m/a", "m/mine", "c"] {
            fs::write(target.join(name), "old").unwrap();
        }
        fs::create_dir_all(target.join("m/b/in/the/way")).unwrap();
        let options = |delete| RestoreOptions { target: target.clone(), delete, ..options(&place) };
        let before = whole(&target);
        let said = place.restore(&record, options(false));
        assert!(said.report.rolled_back, "{:?}", said.problems);
        assert_as_before(&target, &before, "mounted");
        place.restore(&record, options(true)).assert_whole();
        assert_same_tree(&place.source(""), &target);
    });
}

#[test]
fn nothing_is_restored_over_what_was_cut_off() {
    let (place, _, record) = changed();
    // Somebody else's directory of such a name means nothing.
    fs::DirBuilder::new().mode(0o755).create(place.target(".holdall-01234567-undo")).unwrap();
    assert_eq!(undo(&place.target(""), &RealWorld, &Silent::default()).unwrap(), None);
    place.restore(&record, RestoreOptions { delete: false, ..options(&place) });
    assert!(place.target(".holdall-01234567-undo").exists());
}
