//! What a local storage does on file systems that are full, read-only or hostile.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use holdall::storage::{ErrorKind, LocalStorage, Storage};

use crate::support::mounts::{mount, where_one_may_mount};
use crate::support::storages::keys;

/// Runs `check` in a small tmpfs of its own.
fn on_a_small_disk(test: &str, check: impl FnOnce(&Path)) {
    where_one_may_mount(test, || {
        let place = tempfile::tempdir().unwrap();
        mount(place.path(), "size=1m");
        check(place.path());
    });
}

fn kind<T: std::fmt::Debug>(result: holdall::storage::Result<T>) -> ErrorKind {
    result.unwrap_err().kind
}

fn temporary_count(root: &Path) -> usize {
    fs::read_dir(root.join(".tmp")).unwrap().count()
}

#[test]
fn a_full_disk_costs_nothing_that_is_stored() {
    on_a_small_disk("storage_local::a_full_disk_costs_nothing_that_is_stored", |root| {
        let storage = LocalStorage::create(root).unwrap();
        let free_before = storage.free_room().unwrap().bytes;
        assert!(free_before <= 1 << 20, "{free_before}");
        let object = vec![7; 100_000];
        for n in 0..3 {
            storage.put(&format!("packs/1f/{n}"), &[&object]).unwrap();
        }
        assert!(storage.free_room().unwrap().bytes <= free_before - 300_000);
        // One that asks for its room ahead, and one that meets the end while it is written.
        for len in [2 << 20, 900_000] {
            let large = vec![8; len];
            let parts: Vec<&[u8]> = large.chunks(1000).collect();
            assert_eq!(kind(storage.put("packs/1f/large", &parts)), ErrorKind::Full, "{len}");
            assert_eq!(temporary_count(root), 0);
        }
        assert_eq!(keys(&storage, ""), ["packs/1f/0", "packs/1f/1", "packs/1f/2"]);
        for n in 0..3 {
            assert!(storage.get(&format!("packs/1f/{n}"), 100_000).unwrap() == object);
        }
        // What is given up makes room again.
        storage.put("packs/1f/3", &[&object]).unwrap();
        storage.delete("packs/1f/0").unwrap();
        assert!(storage.free_room().unwrap().bytes >= free_before - 400_000);
    });
}

#[test]
fn a_read_only_disk_can_be_read_and_says_that_it_is() {
    on_a_small_disk("storage_local::a_read_only_disk_can_be_read_and_says_that_it_is", |root| {
        let storage = LocalStorage::create(root).unwrap();
        storage.put("packs/1f/a", &[b"inside"]).unwrap();
        fs::write(root.join(".tmp/abandoned"), b"half of").unwrap();
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(root).status().unwrap();
        assert!(status.success());

        for storage in [storage, LocalStorage::open(root).unwrap()] {
            assert_eq!(storage.get("packs/1f/a", 9).unwrap(), b"inside");
            assert_eq!(keys(&storage, ""), ["packs/1f/a"]);
            assert_eq!(kind(storage.put("packs/1f/b", &[b"x"])), ErrorKind::Denied);
            assert_eq!(kind(storage.put("packs/20/b", &[b"x"])), ErrorKind::Denied);
            assert_eq!(kind(storage.delete("packs/1f/a")), ErrorKind::Denied);
            assert_eq!(kind(storage.tidy_temporary(0)), ErrorKind::Denied);
        }
        assert_eq!(kind(LocalStorage::create(&root.join("new"))), ErrorKind::Denied);
    });
}

#[test]
fn links_planted_in_the_repository_are_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("repository");
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a"), b"outside").unwrap();
    let storage = LocalStorage::create(&root).unwrap();
    storage.put("packs/1f/real", &[b"inside"]).unwrap();
    symlink(&outside, root.join("packs/20")).unwrap();
    symlink(&outside, root.join("snapshots")).unwrap();
    symlink(outside.join("a"), root.join("packs/1f/link")).unwrap();
    symlink(outside.join("new"), root.join("packs/1f/dangling")).unwrap();

    for key in ["packs/20/a", "snapshots/a", "packs/1f/link"] {
        assert_eq!(kind(storage.get(key, 9)), ErrorKind::Corrupt, "{key}");
        assert_eq!(kind(storage.get_range(key, 0, 1)), ErrorKind::Corrupt, "{key}");
        assert_eq!(kind(storage.stat(key)), ErrorKind::Corrupt, "{key}");
    }
    for key in ["packs/20/new", "packs/20/deeper/new", "snapshots/new"] {
        assert_eq!(kind(storage.put(key, &[b"x"])), ErrorKind::Corrupt, "{key}");
    }
    assert_eq!(kind(storage.put("packs/1f/dangling", &[b"x"])), ErrorKind::AlreadyExists);
    assert_eq!(kind(storage.delete("packs/20/a")), ErrorKind::Corrupt);
    storage.delete("packs/1f/link").unwrap();
    assert_eq!(keys(&storage, ""), ["packs/1f/real"]);
    // Somebody who moved a directory elsewhere must not be told that it is empty.
    assert_eq!(kind(storage.list("snapshots/", &mut |_| ())), ErrorKind::Corrupt);

    // Nor is the place of the temporary files: nothing is ever written elsewhere.
    fs::remove_dir(root.join(".tmp")).unwrap();
    symlink(&outside, root.join(".tmp")).unwrap();
    assert_eq!(kind(storage.put("packs/1f/new", &[b"x"])), ErrorKind::Corrupt);
    assert_eq!(kind(storage.tidy_temporary(0)), ErrorKind::Corrupt);
    let left: Vec<_> = fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["a"]);
    assert_eq!(fs::read(outside.join("a")).unwrap(), b"outside");
}

#[test]
fn names_that_are_no_keys_are_not_listed() {
    let place = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(place.path()).unwrap();
    storage.put("packs/1f/real", &[b"inside"]).unwrap();
    for name in ["packs/.hidden", "packs/UPPER", "packs/1f/a b", ".hidden", ".tmp/a", "packs/é"] {
        fs::write(place.path().join(name), b"x").unwrap();
    }
    fs::write(place.path().join(OsStr::from_bytes(b"packs/\xff")), b"x").unwrap();
    fs::create_dir(place.path().join("lost+found")).unwrap();
    fs::write(place.path().join("lost+found/a"), b"x").unwrap();
    fs::create_dir(place.path().join("empty")).unwrap();
    assert_eq!(keys(&storage, ""), ["packs/1f/real"]);
    assert_eq!(keys(&storage, "packs/"), ["packs/1f/real"]);
}

#[test]
fn the_root_may_be_a_link_and_may_be_renamed_under_way() {
    let place = tempfile::tempdir().unwrap();
    let real = place.path().join("real");
    let link = place.path().join("link");
    LocalStorage::create(&real).unwrap();
    symlink(&real, &link).unwrap();
    let storage = LocalStorage::open(&link).unwrap();
    assert_eq!(Path::new(&storage.location()), link);
    storage.put("packs/1f/a", &[b"x"]).unwrap();
    fs::rename(&real, place.path().join("moved")).unwrap();
    storage.put("packs/1f/b", &[b"y"]).unwrap();
    assert_eq!(keys(&storage, ""), ["packs/1f/a", "packs/1f/b"]);
    assert!(place.path().join("moved/packs/1f/b").exists());
}

/// Set for the process that is watched.
const WATCHED: &str = "HOLDALL_TESTS_WATCHED_STORAGE";

/// What a put asks of the kernel: nothing is given its name before its content is settled, and no
/// put returns before the name is, nor before the names of the directories above.
#[test]
fn a_put_settles_content_then_name_then_directories() {
    if let Some(path) = std::env::var_os(WATCHED) {
        let storage = LocalStorage::open(Path::new(&path)).unwrap();
        storage.put("packs/1f/first", &[b"content"]).unwrap();
        storage.put("packs/1f/second", &[b"content"]).unwrap();
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let root = place.path().canonicalize().unwrap().join("repository");
    LocalStorage::create(&root).unwrap();
    let log = place.path().join("log");
    let calls = "trace=mkdir,mkdirat,writev,fsync,fdatasync,rename,renameat,renameat2,linkat";
    let status = Command::new("strace")
        .args(["-f", "-qq", "-y", "-e", calls, "-e", "signal=none", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "storage_local::a_put_settles_content_then_name_then_directories"])
        .env(WATCHED, &root)
        .stdout(std::process::Stdio::null())
        .status()
        .expect("strace is there; tests/run installs it");
    assert!(status.success());
    let log = fs::read_to_string(log).unwrap();
    let root = root.to_str().unwrap();
    let steps: Vec<String> = log.lines().filter_map(|line| step(line, root)).collect();
    let first = [
        "mkdirat packs",
        "fsync .",
        "mkdirat packs/1f",
        "fsync packs",
        // The directory of temporary files, made by another process.
        "fsync .",
        "writev .tmp/*",
        "fsync .tmp/*",
        "rename packs/1f/first",
        "fsync packs/1f",
    ];
    let second = ["writev .tmp/*", "fsync .tmp/*", "rename packs/1f/second", "fsync packs/1f"];
    assert_eq!(steps, [&first[..], &second].concat(), "{log}");
}

/// A line of the log in short: the call, and what below the root it is about.
fn step(line: &str, root: &str) -> Option<String> {
    // `1234  fsync(5</root/packs>) = 0`, and names in another directory behind a comma.
    let (_, call) = line.split_once(' ')?;
    let (call, arguments) = call.trim_start().split_once('(')?;
    let below = |text: &str| {
        let path = text.split_once('<')?.1.split_once('>')?.0.strip_prefix(root)?;
        Some(path.trim_start_matches('/').to_owned())
    };
    let parts: Vec<&str> = arguments.split(", ").collect();
    let named = |directory: &str, name: &str| {
        let name = name.split('"').nth(1)?;
        Some(format!("{}/{name}", below(directory)?).trim_start_matches('/').to_owned())
    };
    Some(match (call, &parts[..]) {
        ("renameat2", [_, _, directory, name, flags]) if flags.starts_with("RENAME_NOREPLACE") => {
            format!("rename {}", named(directory, name)?)
        }
        ("mkdirat", [directory, name, _]) => format!("mkdirat {}", named(directory, name)?),
        (call, [first, ..]) => {
            let path = below(first)?;
            match path.as_str() {
                "" => format!("{call} ."),
                path if path.starts_with(".tmp/") => format!("{call} .tmp/*"),
                path => format!("{call} {path}"),
            }
        }
        _ => return None,
    })
}
