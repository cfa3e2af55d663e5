//! Disks without a free byte, or without room for one more file: every command leaves a repository
//! that works and says in one line what is the matter; forgetting and pruning make room.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use holdall::world::{SeededWorld, Time, World};

use crate::dir::{Dir, Ran};

/// Set for the test that runs again where it may mount.
const MAY_MOUNT: &str = "HOLDALL_TEST_MAY_MOUNT";

/// Runs `check` in a mount namespace of its own: the test binary starts itself again for this one
/// test, so that no mount outlives a test that is killed.
fn where_one_may_mount(test: &str, check: impl FnOnce()) {
    if std::env::var_os(MAY_MOUNT).is_some() {
        return check();
    }
    let mut refusals = String::new();
    for namespaces in [&["--mount", "--user", "--map-root-user"][..], &["--mount"]] {
        let place = tempfile::tempdir().unwrap();
        // Whether one may is tried first, so that a failure of the test is not taken for a no.
        let script = r#"mount -t tmpfs tmpfs "$0" && umount "$0" && echo mounted && exec "$@""#;
        let output = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-c", script])
            .arg(place.path())
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(MAY_MOUNT, "1")
            .output();
        let said = match output {
            Ok(output) => [output.stdout, output.stderr].concat(),
            Err(error) => error.to_string().into_bytes(),
        };
        let said = String::from_utf8_lossy(&said);
        if said.contains("test result: ok. 1 passed") {
            return;
        }
        assert!(!said.contains("mounted"), "{said}");
        refusals.push_str(&said);
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "may not mount: {refusals}");
    eprintln!("{test}: NOT TESTED, no tmpfs may be mounted here: {refusals}");
}

fn mount(at: &Path, options: &str) {
    fs::create_dir_all(at).unwrap();
    let mut command = Command::new("mount");
    let status = command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
    assert!(status.unwrap().success());
}

/// Writes until there is no free byte.
fn fill(directory: &Path) {
    let mut file = fs::File::create(directory.join("filler")).unwrap();
    for len in [1 << 16, 1] {
        while file.write_all(&vec![1; len]).is_ok() {}
    }
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

/// A repository with two snapshots, of 1.5 MB each, and a little that they share.
fn with_two_snapshots(dir: &Dir) -> [String; 2] {
    dir.run(["-q", "init"]).ok();
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

/// Whatever it did: it ended in order, and said in one line what is the matter.
#[track_caller]
fn fails_for_want_of_room(ran: Ran) {
    ran.fails(1, &["No space left on device"]);
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
    assert!(kept > 4, "{kept}");
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

#[test]
fn a_repository_is_whole_after_any_command_on_a_full_disk() {
    let name = "full::a_repository_is_whole_after_any_command_on_a_full_disk";
    where_one_may_mount(name, || {
        on_full_disks("size=16m", fill, |dir, first, second| {
            // Room is kept for cleaning up, not for these.
            fails_for_want_of_room(dir.run(["backup", dir.key_file().to_str().unwrap()]));
            fails_for_want_of_room(dir.run(["tag", first, "--add", "x"]));
            fails_for_want_of_room(dir.run(["key", "recovery"]));
            assert_eq!(dir.files(&dir.repository().join("reserve")).len(), 16);
            for reads in [&["snapshots"][..], &["ls", first], &["check", "--read-data"], &["stats"]]
            {
                dir.run(reads).ok();
            }
            dir.run(["prune", "--dry-run"]).ok();
            for (id, seed) in [(first, 1), (second, 2)] {
                assert_restores(dir, id, seed);
            }
            assert_eq!(dir.json(["--json", "snapshots"]).len(), 2);
        });
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
