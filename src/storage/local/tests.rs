use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::*;

fn fresh() -> (tempfile::TempDir, LocalStorage) {
    let place = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(&place.path().join("above/repository")).unwrap();
    (place, storage)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn temporary_names(storage: &LocalStorage) -> Vec<String> {
    names(&storage.path.join(TEMPORARY_DIRECTORY))
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn only_the_owner_sees_what_is_stored() {
    let (place, storage) = fresh();
    storage.put("packs/1f/a", &[b"x"]).unwrap();
    for directory in ["above", "above/repository", "above/repository/packs/1f"] {
        assert_eq!(mode(&place.path().join(directory)), 0o700, "{directory}");
    }
    assert_eq!(mode(&storage.path.join(".tmp")), 0o700);
    assert_eq!(mode(&storage.path.join("packs/1f/a")), 0o600);
}

#[test]
fn open_wants_a_directory_and_create_takes_one_that_is_there() {
    let (place, storage) = fresh();
    storage.put("a", &[b"x"]).unwrap();
    let again = LocalStorage::create(&storage.path).unwrap();
    assert_eq!(again.get("a", 1).unwrap(), b"x");
    assert_eq!(kind(LocalStorage::open(&place.path().join("nowhere"))), ErrorKind::NotFound);
    assert!(LocalStorage::open(&storage.path.join("a")).is_err());
    assert!(LocalStorage::create(&storage.path.join("a")).is_err());
    assert!(storage.free_room().unwrap().bytes > 0);
}

#[test]
fn a_link_gives_the_name_where_no_rename_can() {
    let (_place, storage) = fresh();
    storage.links_instead_of_renames.store(true, Ordering::Relaxed);
    storage.put("packs/1f/a", &[b"first"]).unwrap();
    assert_eq!(kind(storage.put("packs/1f/a", &[b"second"])), ErrorKind::AlreadyExists);
    assert_eq!(storage.get("packs/1f/a", 9).unwrap(), b"first");
    assert_eq!(temporary_names(&storage), Vec::<String>::new());
}

#[test]
fn no_link_is_followed_on_a_kernel_without_openat2() {
    let (place, storage) = fresh();
    storage.root.walks.store(true, Ordering::Relaxed);
    storage.put("packs/1f/a", &[b"inside"]).unwrap();
    assert_eq!(storage.get("packs/1f/a", 9).unwrap(), b"inside");
    assert_eq!(kind(storage.get("packs/1f/b", 9)), ErrorKind::NotFound);

    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a"), b"outside").unwrap();
    symlink(&outside, storage.path.join("packs/20")).unwrap();
    symlink(outside.join("a"), storage.path.join("packs/1f/b")).unwrap();
    for key in ["packs/20/a", "packs/1f/b"] {
        assert_eq!(kind(storage.get(key, 9)), ErrorKind::Corrupt, "{key}");
        assert_eq!(kind(storage.stat(key)), ErrorKind::Corrupt, "{key}");
    }
    assert_eq!(kind(storage.put("packs/20/new", &[b"x"])), ErrorKind::Corrupt);
    assert_eq!(kind(storage.delete("packs/20/a")), ErrorKind::Corrupt);
    assert_eq!(kind(storage.list("packs/20/", &mut |_| ())), ErrorKind::Corrupt);
    assert_eq!(names(&outside), ["a"]);
}

#[test]
fn directories_tidied_away_by_somebody_are_made_again() {
    let (_place, storage) = fresh();
    storage.put("packs/1f/a", &[b"x"]).unwrap();
    storage.delete("packs/1f/a").unwrap();
    fs::remove_dir(storage.path.join("packs/1f")).unwrap();
    fs::remove_dir(storage.path.join("packs")).unwrap();
    fs::remove_dir(storage.path.join(".tmp")).unwrap();
    storage.put("packs/1f/a", &[b"y"]).unwrap();
    assert_eq!(storage.get("packs/1f/a", 1).unwrap(), b"y");
}

#[test]
fn a_file_of_a_living_writer_is_never_tidied_away() {
    let (_place, storage) = fresh();
    let alive = Temporary::create(storage.root.make_directory(".tmp").unwrap()).unwrap();
    alive.write(&[b"half of"]).unwrap();
    fs::write(storage.path.join(".tmp/dead"), b"half of").unwrap();
    assert_eq!(storage.tidy_temporary(3600).unwrap(), 0);
    assert_eq!(storage.tidy_temporary(0).unwrap(), 1);
    assert_eq!(temporary_names(&storage).len(), 1);
    let directory = storage.root.open_directory("").unwrap();
    alive.give_name(&directory, "a", &storage.links_instead_of_renames).unwrap();
    assert_eq!(storage.get("a", 9).unwrap(), b"half of");
}

#[test]
fn open_removes_what_was_abandoned_long_ago_and_nothing_else() {
    let (place, storage) = fresh();
    let temporary = storage.path.join(".tmp");
    let long_ago = SystemTime::now() - Duration::from_secs(ABANDONED_AFTER_SECONDS + 60);
    for name in ["old", "young"] {
        fs::write(temporary.join(name), b"half of").unwrap();
    }
    let old = fs::File::options().write(true).open(temporary.join("old")).unwrap();
    old.set_modified(long_ago).unwrap();
    let outside = place.path().join("outside");
    fs::write(&outside, b"precious").unwrap();
    fs::File::options().write(true).open(&outside).unwrap().set_modified(long_ago).unwrap();
    symlink(&outside, temporary.join("link")).unwrap();
    fs::create_dir(temporary.join("directory")).unwrap();

    LocalStorage::open(&storage.path).unwrap();
    let mut left = temporary_names(&storage);
    left.sort();
    assert_eq!(left, ["directory", "link", "young"]);
    assert_eq!(storage.tidy_temporary(0).unwrap(), 1);
    assert_eq!(temporary_names(&storage).len(), 2);
    assert_eq!(fs::read(&outside).unwrap(), b"precious");

    // Nothing of this may keep anybody from reading.
    fs::remove_dir_all(&temporary).unwrap();
    fs::write(&temporary, b"not a directory").unwrap();
    LocalStorage::open(&storage.path).unwrap();
    assert!(storage.put("a", &[b"x"]).is_err());
}

#[test]
fn a_file_that_was_tidied_away_before_its_locking_is_not_written_to() {
    let (_place, storage) = fresh();
    let make = |name| fs::File::create(storage.path.join(".tmp").join(name)).unwrap();
    assert!(temporary::is_ours(&make("ours").into()).unwrap());

    let made = make("about to go");
    let tidying = fs::File::open(storage.path.join(".tmp/about to go")).unwrap();
    tidying.lock().unwrap();
    assert!(!temporary::is_ours(&made.into()).unwrap());

    let made = make("gone");
    fs::remove_file(storage.path.join(".tmp/gone")).unwrap();
    assert!(!temporary::is_ours(&made.into()).unwrap());
}

#[test]
fn what_cannot_be_an_object_is_corrupt_and_no_reader_hangs_on_it() {
    let (_place, storage) = fresh();
    fs::create_dir(storage.path.join("directory")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let at = storage.root.fd();
    rustix::fs::mknodat(at, "fifo", fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    for key in ["directory", "fifo"] {
        assert_eq!(kind(storage.get(key, 9)), ErrorKind::Corrupt, "{key}");
        assert_eq!(kind(storage.get_range(key, 0, 0)), ErrorKind::Corrupt, "{key}");
        assert_eq!(kind(storage.stat(key)), ErrorKind::Corrupt, "{key}");
    }
    assert_eq!(kind(storage.delete("directory")), ErrorKind::Corrupt);
    let unreadable = storage.path.join("unreadable");
    fs::write(&unreadable, b"x").unwrap();
    fs::set_permissions(&unreadable, Permissions::from_mode(0o000)).unwrap();
    let mut keys = Vec::new();
    storage.list("", &mut |listed| keys.push(listed.key)).unwrap();
    assert_eq!(keys, ["unreadable"]);
}
