//! Disks without a free byte, or without room for one more file: every command leaves a repository
//! that works and says in one line what is the matter; forgetting and pruning make room.

use std::fs;
use std::io::Write;
use std::path::Path;

use holdall::world::{SeededWorld, Time, World};

use crate::dir::Dir;
use crate::mounts::{mount, where_one_may_mount};

/// Writes until there is no free byte.
fn fill(directory: &Path) {
    fill_up(directory).unwrap();
}

/// The same, once more.
fn fill_up(directory: &Path) -> std::io::Result<()> {
    let mut file = fs::File::options().create(true).append(true).open(directory.join("filler"))?;
    for len in [1 << 16, 1] {
        while file.write_all(&vec![1; len]).is_ok() {}
    }
    Ok(())
}

/// Makes empty files until there can be no more.
fn fill_files(directory: &Path) {
    let all = directory.join("files");
    fs::create_dir(&all).unwrap();
    for n in 0.. {
        if fs::File::create(all.join(n.to_string())).is_err() {
            return;
        }
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SeededWorld::new(seed, Time::default()).random(&mut bytes);
    bytes
}

fn stored(dir: &Dir) -> u64 {
    dir.files(&dir.repository()).iter().map(|(_, content)| content.len() as u64).sum()
}

const PASSWORD: &str = "one long password";

/// A repository with two snapshots, of 1.5 MB each, and a little that they share.
fn with_two_snapshots(dir: &Dir) -> [String; 2] {
    dir.run(["-q", "init"]).ok();
    let password = dir.write("password", PASSWORD);
    dir.run(["key", "add", "--new-password-file", password.to_str().unwrap()]).ok();
    dir.write("shared", noise(3, 300_000));
    dir.write("d/f", noise(1, 1_500_000));
    let first = dir.backup(".");
    dir.write("d/f", noise(2, 1_500_000));
    [first, dir.backup(".")]
}

fn assert_restores(dir: &Dir, id: &str, seed: u64) {
    let target = tempfile::tempdir().unwrap();
    let what = format!("{id}:{}", dir.work("d").display());
    let to = target.path().to_str().unwrap();
    dir.run(["restore", what.as_str(), "--target", to]).ok();
    assert!(fs::read(target.path().join("f")).unwrap() == noise(seed, 1_500_000));
}

#[track_caller]
fn make_room(dir: &Dir, first: &str, second: &str) {
    let before = stored(dir);
    dir.run(["forget", first]).ok();
    dir.run(["prune"]).ok();
    let after = stored(dir);
    assert!(after + 1_200_000 < before, "{before} bytes before, {after} after");
    dir.run(["check", "--read-data"]).ok();
    assert_restores(dir, second, 2);
    // And the room that helped is kept again.
    let kept = dir.files(&dir.repository().join("reserve")).len();
    assert!(kept >= 4, "{kept}");
    // Where there is room for all of it, there is some for others.
    if kept == 16 {
        dir.write("d/f", "new");
        dir.backup("d");
    }
}

/// The repository, or all that the user has, on a full disk.
fn on_full_disks(options: &str, fill: fn(&Path), check: impl Fn(&Dir, &str, &str)) {
    for below in ["", "data"] {
        let place = tempfile::tempdir().unwrap();
        let dir = match below {
            "" => {
                mount(place.path(), options);
                Dir::new_in(place.path())
            }
            _ => {
                let dir = Dir::new();
                mount(&dir.path(below), options);
                dir
            }
        };
        let [first, second] = with_two_snapshots(&dir);
        fill(&dir.path(below));
        check(&dir, &first, &second);
    }
}

#[test]
fn forgetting_and_pruning_make_room_where_no_byte_is_free() {
    let name = "full::forgetting_and_pruning_make_room_where_no_byte_is_free";
    where_one_may_mount(name, || {
        on_full_disks("size=16m", fill, make_room);
    });
}

#[test]
fn forgetting_and_pruning_make_room_where_no_file_can_be_made() {
    let name = "full::forgetting_and_pruning_make_room_where_no_file_can_be_made";
    where_one_may_mount(name, || {
        on_full_disks("size=64m,nr_inodes=300", fill_files, make_room);
    });
}

/// Every command that writes into a repository and makes no room there, by what it is given.
/// `OTHER` is another repository, which has room.
const WRITES: [&[&str]; 12] = [
    &["backup", "new"],
    &["tag", "FIRST", "--add", "x"],
    &["pin", "FIRST"],
    &["key", "recovery"],
    &["key", "add", "--new-key-file", "KEY"],
    &["key", "add", "--new-password-file", "OLD"],
    &["key", "passwd", "--password-file", "OLD", "--new-password-file", "NEW"],
    &["key", "rotate"],
    &["repair", "--yes", "--add-parity", "10"],
    &["copy", "--repo", "OTHER", "--to", "HERE", "--to-key-file", "KEYFILE"],
    &["init", "--repo", "BESIDE"],
    &["restore", "FIRST", "--target", "BESIDE"],
];

/// Room is kept for cleaning up, not for these: each says in one line what is the matter and what
/// to do, and nothing that was there is lost.
fn say_that_it_is_full(dir: &Dir, first: &str, second: &str) {
    let there = dir.files(&dir.repository());
    let outside = Dir::new();
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let other = path(outside.repository());
    dir.run(["init", "-q", "--repo", &other]).ok();
    fs::write(outside.work("new"), noise(9, 600_000)).unwrap();
    fs::write(outside.work("one"), PASSWORD).unwrap();
    fs::write(outside.work("two"), "another long password").unwrap();
    dir.run(["backup", "--repo", &other, outside.work("new").to_str().unwrap()]).ok();
    for command in WRITES {
        let args = command.iter().map(|arg| match *arg {
            "FIRST" => first.to_owned(),
            "new" => path(outside.work("new")),
            "KEY" => path(outside.work("key")),
            "OLD" => path(outside.work("one")),
            "NEW" => path(outside.work("two")),
            "OTHER" => other.clone(),
            "HERE" => path(dir.repository()),
            "KEYFILE" => path(dir.key_file()),
            "BESIDE" => path(dir.repository().with_file_name("beside")),
            arg => arg.to_owned(),
        });
        let ran = dir.run(args);
        // A restore says which file, and another target is as good as room in this one.
        let (place, hint) = match command[0] {
            "restore" => ("the target".into(), "; "),
            "init" => (path(dir.repository().with_file_name("beside")), "; make room there"),
            _ => (path(dir.repository()), "; make room there"),
        };
        ran.fails(1, &["No space left on device", &place, hint]);
    }
    assert_eq!(dir.files(&dir.repository().join("reserve")).len(), 16);
    let names = |files: Vec<(std::path::PathBuf, Vec<u8>)>| -> Vec<_> {
        files.into_iter().map(|(path, _)| path).collect()
    };
    let left = names(dir.files(&dir.repository()));
    assert!(names(there).iter().all(|path| left.contains(path)), "something was removed");
    for reads in [&["snapshots"][..], &["ls", first], &["check", "--read-data"], &["stats"]] {
        dir.run(reads).ok();
    }
    dir.run(["prune", "--dry-run"]).ok();
    for (id, seed) in [(first, 1), (second, 2)] {
        assert_restores(dir, id, seed);
    }
    assert_eq!(dir.json(["--json", "snapshots"]).len(), 2);
}

#[test]
fn a_repository_is_whole_after_any_command_on_a_disk_without_a_byte() {
    let name = "full::a_repository_is_whole_after_any_command_on_a_disk_without_a_byte";
    where_one_may_mount(name, || on_full_disks("size=16m", fill, say_that_it_is_full));
}

#[test]
fn a_repository_is_whole_after_any_command_on_a_disk_without_a_file() {
    let name = "full::a_repository_is_whole_after_any_command_on_a_disk_without_a_file";
    where_one_may_mount(name, || {
        on_full_disks("size=64m,nr_inodes=300", fill_files, say_that_it_is_full);
    });
}

/// A check finds what it finds, and says that nobody else is told.
#[test]
fn damage_that_cannot_be_noted_down_is_told() {
    where_one_may_mount("full::damage_that_cannot_be_noted_down_is_told", || {
        on_full_disks("size=16m", fill, |dir, _, _| {
            let packs = dir.files(&dir.repository().join("packs"));
            let (path, mut bytes) = packs.into_iter().max_by_key(|(_, it)| it.len()).unwrap();
            bytes[5_000] ^= 1;
            let mut file = fs::File::options().write(true).open(path).unwrap();
            file.write_all(&bytes).unwrap();
            let ran = dir.run(["check", "--read-data"]).code(4);
            assert!(ran.stderr.contains("cannot be noted down"), "{}", ran.stderr);
            let names = dir.files(&dir.repository()).into_iter().map(|(path, _)| path);
            assert_eq!(names.filter(|path| path.parent().unwrap().ends_with("damage")).count(), 0);
        });
    });
}

/// What a prune frees is for the next backup, not for the reserve.
#[test]
fn the_reserve_leaves_room_for_the_next_backup() {
    where_one_may_mount("full::the_reserve_leaves_room_for_the_next_backup", || {
        let dir = Dir::new();
        mount(&dir.path("data"), "size=16m");
        let [first, second] = with_two_snapshots(&dir);
        fill(&dir.path("data"));
        dir.run(["forget", &first]).ok();
        dir.run(["prune"]).ok();
        // The prune frees some 1.5 MB, and the reserve of 1 MiB was given up for it.
        dir.write("d/f", noise(4, 1_650_000));
        dir.backup("d");
        // And on the disk that is full again there is enough to clean up with.
        let _ = fill_up(&dir.path("data"));
        dir.run(["forget", &second]).ok();
        dir.run(["prune"]).ok();
        dir.run(["check", "--read-data"]).ok();
    });
}

/// The repository's disk has room: a cache is never what it fails for.
#[test]
fn a_full_cache_or_state_directory_is_in_nobodys_way() {
    let name = "full::a_full_cache_or_state_directory_is_in_nobodys_way";
    where_one_may_mount(name, || {
        for below in ["cache", "state"] {
            let dir = Dir::new();
            mount(&dir.path(below), "size=1m");
            fill(&dir.path(below));
            let [first, second] = with_two_snapshots(&dir);
            make_room(&dir, &first, &second);
        }
    });
}
