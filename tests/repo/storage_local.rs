//! What a local storage does on file systems that are full, read-only or hostile.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use holdall::storage::{ErrorKind, LocalStorage, Storage};

use crate::support::storages::keys;

/// Names the mounted directory to the test that runs again inside the namespace.
const MOUNTED: &str = "HOLDALL_TEST_MOUNTED";

/// Runs `check` in a small tmpfs of its own: the test binary starts itself again for this one test
/// in a mount namespace, so that no mount outlives a test that is killed.
fn on_a_small_disk(test: &str, check: impl FnOnce(&Path)) {
    if let Some(mounted) = std::env::var_os(MOUNTED) {
        return check(Path::new(&mounted));
    }
    let place = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@""#;
    let mut refusals = String::new();
    for namespaces in [&["--mount", "--user", "--map-root-user"][..], &["--mount"]] {
        let output = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-c", script])
            .arg(place.path())
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(MOUNTED, place.path())
            .output();
        let said = match output {
            Ok(output) => [output.stdout, output.stderr].concat(),
            Err(error) => error.to_string().into_bytes(),
        };
        let said = String::from_utf8_lossy(&said);
        if said.contains("test result: ok. 1 passed") {
            return;
        }
        assert!(!said.contains("running "), "on the small disk:\n{said}");
        refusals.push_str(&said);
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "may not mount: {refusals}");
    eprintln!("{test}: NOT TESTED, no tmpfs may be mounted here: {refusals}");
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
        let free_before = storage.free_bytes().unwrap();
        assert!(free_before <= 1 << 20, "{free_before}");
        let object = vec![7; 100_000];
        for n in 0..3 {
            storage.put(&format!("packs/1f/{n}"), &[&object]).unwrap();
        }
        assert!(storage.free_bytes().unwrap() <= free_before - 300_000);
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
        assert!(storage.free_bytes().unwrap() >= free_before - 400_000);
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
