//! The room on real files: what a tree can contain, and what can happen to it meanwhile.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use rustix::fs::{lsetxattr, makedev, mknodat, utimensat};
use tempfile::TempDir;

use super::*;
use crate::format::tree::{Entry, EntryKind, Metadata, Ref, Refs};
use crate::id::ChunkId;
use crate::world::Time;

pub(super) fn place() -> (TempDir, Directory) {
    let place = tempfile::tempdir().unwrap();
    let directory = Directory::open_path(place.path()).unwrap();
    (place, directory)
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn every_kind_of_entry_is_told_apart() {
    let (place, directory) = place();
    let at = |name: &str| place.path().join(name);
    fs::write(at("a file"), b"12345").unwrap();
    fs::create_dir(at("b dir")).unwrap();
    symlink("/nowhere/\u{e9}", at("c link")).unwrap();
    let pipe = FileType::Fifo;
    mknodat(CWD, at("d pipe"), pipe, Mode::from_raw_mode(0o640), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("e socket")).unwrap();
    let mut expected = vec![Kind::File, Kind::Directory, Kind::Symlink, Kind::Fifo, Kind::Socket];
    if is_root() {
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, at("f char"), FileType::CharacterDevice, mode, makedev(1, 3)).unwrap();
        mknodat(CWD, at("g block"), FileType::BlockDevice, mode, makedev(7, 300)).unwrap();
        expected.extend([Kind::CharDevice, Kind::BlockDevice]);
    }
    let names = directory.names().unwrap();
    let stats: Vec<Stat> = names.iter().map(|n| directory.stat(n.bytes).unwrap()).collect();
    assert_eq!(stats.iter().map(|s| s.kind).collect::<Vec<_>>(), expected);
    for (name, kind) in names.iter().zip(expected) {
        assert!(name.kind.is_none() || name.kind == Some(kind), "{name:?}");
    }
    assert_eq!((stats[0].size, stats[0].links), (5, 1));
    assert_eq!(stats[3].mode & 0o600, 0o600);
    assert_eq!(directory.read_link(b"c link").unwrap(), "/nowhere/\u{e9}".as_bytes());
    assert!(matches!(directory.read_link(b"a file"), Err(SourceError::Changed { .. })));
    if is_root() {
        assert_eq!((stats[5].major, stats[5].minor), (1, 3));
        assert_eq!((stats[6].major, stats[6].minor), (7, 300));
    }
    // Only a file is opened.
    for (name, stat) in names.iter().zip(&stats).skip(1) {
        assert!(directory.open_file(name.bytes, stat).is_err(), "{name:?}");
        directory.metadata(name.bytes, stat, &Owners::new()).unwrap();
    }
}

#[test]
fn names_are_sorted_bytes_of_any_kind() {
    let (place, directory) = place();
    let long = [b'\xfd'; 255];
    let given: [&[u8]; 9] =
        [b"b", b"a\xff", b"a", b"B", b"\n", b" ", b"-rf", &long, "\u{e9}".as_bytes()];
    for name in given {
        fs::write(place.path().join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let names = directory.names().unwrap();
    let mut expected = given.to_vec();
    expected.sort_unstable();
    assert_eq!(names.iter().map(|n| n.bytes).collect::<Vec<_>>(), expected);
    assert!(given.iter().all(|name| names.contains(name)) && !names.contains(b"c"));
    assert_eq!((names.len(), names.unusable()), (9, 0));
    assert_eq!(names.get(9), None);
    // Again from the same handle, whose reading position is at the end now.
    assert_eq!(directory.names().unwrap().len(), 9);
    assert!(directory.stat(&long).unwrap().size == 255);
    assert!(matches!(directory.stat(b"a\0b"), Err(SourceError::Other { .. })));
}

#[test]
fn a_hundred_thousand_names() {
    let (place, directory) = place();
    fs::write(place.path().join("0"), b"").unwrap();
    // Links to one inode are quicker to make than files; ext4 allows 65,000 to each.
    for number in 1..100_000u32 {
        let from = if number <= 50_000 { 0 } else { 50_001 };
        let to = place.path().join(number.to_string());
        match number {
            50_001 => fs::write(to, b"").unwrap(),
            _ => fs::hard_link(place.path().join(from.to_string()), to).unwrap(),
        }
    }
    let names = directory.names().unwrap();
    assert_eq!(names.len(), 100_000);
    let sorted = names.iter().zip(names.iter().skip(1)).all(|(a, b)| a.bytes < b.bytes);
    assert!(sorted);
    assert!(directory.stat(names.get(99_999).unwrap().bytes).unwrap().links > 40_000);
}

#[test]
fn two_listings_of_one_handle_at_once_are_both_whole() {
    let (place, directory) = place();
    for number in 0..3_000 {
        fs::write(place.path().join(format!("{number:060}")), b"").unwrap();
    }
    std::thread::scope(|scope| {
        let count = || (0..20).all(|_| directory.names().unwrap().len() == 3_000);
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(count)).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    });
}

#[test]
fn extents_follow_the_holes() {
    const MIB: u64 = 1 << 20;
    let (place, directory) = place();
    let open = |name: &str| {
        let stat = directory.stat(name.as_bytes()).unwrap();
        directory.open_file(name.as_bytes(), &stat).unwrap()
    };
    let file = fs::File::create(place.path().join("sparse")).unwrap();
    file.write_all_at(&[1; 5000], 2 * MIB).unwrap();
    file.write_all_at(&[2; 4096], 8 * MIB).unwrap();
    file.set_len(20 * MIB).unwrap();
    let sparse = open("sparse");
    let extents: Vec<Extent> = sparse.extents().map(Result::unwrap).collect();
    assert!(extents[0].hole && extents.len() >= 4, "{extents:?}");
    assert!(extents.iter().filter(|e| e.hole).map(|e| e.len).sum::<u64>() >= 18 * MIB);
    let mut end = 0;
    for extent in &extents {
        assert_eq!(extent.offset, end);
        end += extent.len;
        let mut bytes = vec![9; extent.len as usize];
        assert_eq!(sparse.read_at(extent.offset, &mut bytes).unwrap(), bytes.len());
        assert!(!extent.hole || bytes.iter().all(|b| *b == 0));
        let holds = |at: u64| (extent.offset..end).contains(&at) && !extent.hole;
        assert_eq!(holds(2 * MIB) || holds(8 * MIB), bytes.iter().any(|b| *b != 0));
    }
    assert_eq!(end, 20 * MIB);
    fs::File::create(place.path().join("hole")).unwrap().set_len(MIB + 1).unwrap();
    let hole: Vec<Extent> = open("hole").extents().map(Result::unwrap).collect();
    assert_eq!(hole, [Extent { offset: 0, len: MIB + 1, hole: true }]);
    fs::write(place.path().join("full"), [7; 9_000]).unwrap();
    let full: Vec<Extent> = open("full").extents().map(Result::unwrap).collect();
    assert_eq!(full, [Extent { offset: 0, len: 9_000, hole: false }]);
    fs::write(place.path().join("empty"), b"").unwrap();
    assert_eq!(open("empty").extents().count(), 0);
}

#[test]
fn times_before_1970_keep_their_nanoseconds() {
    let (place, directory) = place();
    fs::write(place.path().join("old"), b"").unwrap();
    let time = Timespec { tv_sec: -86_401, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, place.path().join("old"), &times, AtFlags::empty()).unwrap();
    let stat = directory.stat(b"old").unwrap();
    assert_eq!(stat.mtime, Time { seconds: -86_401, nanoseconds: 123_456_789 });
    let (metadata, _) = directory.metadata(b"old", &stat, &Owners::new()).unwrap();
    assert_eq!((metadata.mtime, metadata.ctime), (stat.mtime, stat.ctime));
}

#[test]
fn content_is_known_by_size_times_and_inode() {
    let (place, directory) = place();
    fs::write(place.path().join("f"), b"12345").unwrap();
    let stat = directory.stat(b"f").unwrap();
    let (metadata, _) = directory.metadata(b"f", &stat, &Owners::new()).unwrap();
    let refs = vec![Ref::Chunk { id: ChunkId([1; 32]), len: 5 }];
    let kind = EntryKind::File { content: Refs { depth: 0, refs }, unstable: false };
    let entry = Entry { name: b"f".to_vec(), kind, metadata };
    assert!(stat.has_content_of(&entry));
    let later = Time { nanoseconds: stat.mtime.nanoseconds ^ 1, ..stat.mtime };
    assert!(!Stat { size: 6, ..stat }.has_content_of(&entry));
    assert!(!Stat { mtime: later, ..stat }.has_content_of(&entry));
    assert!(!Stat { ctime: later, ..stat }.has_content_of(&entry));
    assert!(!Stat { inode: 1, ..stat }.has_content_of(&entry));
    assert!(!Stat { kind: Kind::Fifo, ..stat }.has_content_of(&entry));
    let EntryKind::File { content, .. } = entry.kind.clone() else { unreachable!() };
    let unstable = EntryKind::File { content, unstable: true };
    assert!(!stat.has_content_of(&Entry { kind: unstable, ..entry }));
    let after = |seconds| Time::from_seconds(stat.ctime.seconds + seconds);
    assert!(!stat.is_settled(after(0)) && !stat.is_settled(after(1)) && stat.is_settled(after(9)));
    let ahead = Stat { mtime: after(100), ..stat };
    assert!(!ahead.is_settled(after(9)));
}

#[test]
fn hard_links_and_owners() {
    let (place, directory) = place();
    fs::create_dir_all(place.path().join("d/e")).unwrap();
    fs::write(place.path().join("a"), b"").unwrap();
    fs::hard_link(place.path().join("a"), place.path().join("b")).unwrap();
    fs::write(place.path().join("single"), b"").unwrap();
    fs::set_permissions(place.path().join("a"), fs::Permissions::from_mode(0o6751)).unwrap();
    let owners = Owners::new();
    let of = |name: &[u8]| -> (Metadata, Stat) {
        let stat = directory.stat(name).unwrap();
        let (metadata, problems) = directory.metadata(name, &stat, &owners).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        (metadata, stat)
    };
    let ((a, stat), (b, _)) = (of(b"a"), of(b"b"));
    assert_eq!((a.inode, a.device, a.links, a.mode), (b.inode, stat.device, 2, 0o6751));
    assert_eq!((a.uid, a.gid), (stat.uid, stat.gid));
    assert!(Arc::ptr_eq(&a.user, &b.user));
    assert!(!is_root() || (&*a.user, &*a.group) == (&b"root"[..], &b"root"[..]));
    assert_eq!(&*owners.user(3_999_999_999), b"");
    assert_eq!((of(b"single").0.links, of(b"single").0.device), (1, 0));
    // Three names in some file systems' counting: its own, `.`, and `d/e/..`.
    assert_eq!((of(b"d").0.links, of(b"d").0.device), (1, 0));
    assert_eq!(of(b".").0.inode, directory.own_stat().inode);
}

#[test]
fn what_takes_a_files_place_is_not_opened() {
    let (place, directory) = place();
    let file = place.path().join("f");
    fs::write(place.path().join("secret"), b"secret").unwrap();
    fs::write(&file, b"mine").unwrap();
    let stat = directory.stat(b"f").unwrap();
    // Held by another name, or the file system would give its inode number to the next file.
    fs::hard_link(&file, place.path().join("held")).unwrap();
    let changed = |what: &str| {
        let result = directory.open_file(b"f", &stat);
        assert!(matches!(result, Err(SourceError::Changed { .. })), "{what}: {result:?}");
    };
    fs::remove_file(&file).unwrap();
    let result = directory.open_file(b"f", &stat);
    assert!(matches!(result, Err(SourceError::Vanished { .. })), "{result:?}");
    symlink("secret", &file).unwrap();
    changed("a link");
    fs::remove_file(&file).unwrap();
    symlink("held", &file).unwrap();
    changed("a link to the same inode");
    fs::remove_file(&file).unwrap();
    // Nobody writes to it: opening it to read and wait would never return.
    mknodat(CWD, &file, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    changed("a pipe");
    fs::remove_file(&file).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(&file).unwrap();
    changed("a socket");
    drop(socket);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    changed("a directory");
    let elsewhere = Stat { device: stat.device ^ 1, ..stat };
    assert!(matches!(directory.open_file(b"held", &elsewhere), Err(SourceError::Changed { .. })));
    // Asking for anything but a file is refused before the system is asked.
    let pipe = Stat { kind: Kind::Fifo, ..stat };
    assert!(matches!(directory.open_file(b"absent", &pipe), Err(SourceError::Changed { .. })));
    fs::remove_dir(&file).unwrap();
    // Another file, as an editor leaves it: read, and described as what it is.
    fs::write(place.path().join("new"), b"longer than before").unwrap();
    fs::rename(place.path().join("new"), &file).unwrap();
    let open = directory.open_file(b"f", &stat).unwrap();
    assert_eq!(*open.stat(), directory.stat(b"f").unwrap());
    assert_ne!(open.stat().inode, stat.inode);
}

#[test]
fn what_takes_a_directorys_place_is_not_entered() {
    let (place, directory) = place();
    let inner = place.path().join("d");
    fs::create_dir(&inner).unwrap();
    let stat = directory.stat(b"d").unwrap();
    directory.open_directory(b"d", &stat).unwrap();
    fs::rename(&inner, place.path().join("moved")).unwrap();
    let open = || directory.open_directory(b"d", &stat);
    assert!(matches!(open(), Err(SourceError::Vanished { .. })));
    symlink("moved", &inner).unwrap();
    assert!(matches!(open(), Err(SourceError::Changed { .. })));
    fs::remove_file(&inner).unwrap();
    fs::write(&inner, b"").unwrap();
    assert!(matches!(open(), Err(SourceError::Changed { .. })));
    fs::remove_file(&inner).unwrap();
    fs::create_dir(&inner).unwrap();
    assert!(matches!(open(), Err(SourceError::Changed { .. })));
    let mut chain = Chain::new(directory, b"/p".to_vec());
    assert!(chain.enter(b"d", &stat).is_err());
    assert_eq!((chain.depth(), chain.path()), (0, &b"/p"[..]));
}

#[test]
fn changes_while_reading_are_noticed() {
    let (place, directory) = place();
    let path = place.path().join("f");
    fs::write(&path, vec![5; 10_000]).unwrap();
    let before = directory.stat(b"f").unwrap();
    let open = directory.open_file(b"f", &before).unwrap();
    let mut buffer = vec![0; 20_000];
    assert_eq!(open.read_at(0, &mut buffer).unwrap(), 10_000);
    assert_eq!(open.read_at(9_999, &mut buffer[..1]).unwrap(), 1);
    assert_eq!(open.read_at(10_000, &mut buffer).unwrap(), 0);
    assert_eq!(open.read_at(u64::MAX, &mut buffer).unwrap(), 0);
    assert!(open.unchanged(&before).unwrap());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(15_000).unwrap();
    assert_eq!(open.read_at(0, &mut buffer).unwrap(), 10_000, "what it grew by is not read");
    assert_eq!(open.change(&before).unwrap(), Change::Grown);
    file.set_len(4_000).unwrap();
    assert_eq!(open.read_at(0, &mut buffer).unwrap(), 4_000);
    assert_eq!(open.change(&before).unwrap(), Change::Shrunk);
    file.set_len(10_000).unwrap();
    let resized = directory.stat(b"f").unwrap();
    let times = Timestamps {
        last_access: Timespec { tv_sec: 1, tv_nsec: 0 },
        last_modification: Timespec { tv_sec: 1, tv_nsec: 0 },
    };
    utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
    assert_eq!(open.change(&before).unwrap(), Change::Touched);
    assert!(!open.unchanged(&before).unwrap());
    // Whoever puts the time back cannot put back the inode's.
    let last_modification =
        Timespec { tv_sec: resized.mtime.seconds, tv_nsec: i64::from(resized.mtime.nanoseconds) };
    let times = Timestamps { last_modification, ..times };
    utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
    let touched =
        Stat { ctime: Time { seconds: resized.ctime.seconds - 1, ..resized.ctime }, ..resized };
    assert_eq!(open.change(&touched).unwrap(), Change::Touched);
    // Gone by name, it is still there to be read to its end.
    fs::remove_file(&path).unwrap();
    assert_eq!(open.read_at(0, &mut buffer).unwrap(), 10_000);
}

const UNPRIVILEGED: &str = "HOLDALL_TEST_UNPRIVILEGED";

/// Root may read everything, so as root the test runs itself once more as nobody.
#[test]
fn what_may_not_be_read_is_denied_and_what_may_is_read() {
    if let Some(place) = std::env::var_os(UNPRIVILEGED) {
        return read_as_nobody(Path::new(&place));
    }
    let (place, _) = place();
    let at = |name: &str| place.path().join(name);
    let allow = |name: &str, mode| {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::write(at("closed"), b"secret").unwrap();
    lsetxattr(at("closed"), "user.a", b"1", XattrFlags::empty()).unwrap();
    fs::write(at("open"), b"public").unwrap();
    fs::create_dir(at("closed dir")).unwrap();
    allow("closed", 0o000);
    allow("open", 0o444);
    allow("closed dir", 0o000);
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if !is_root() {
        read_as_nobody(place.path());
        return allow("closed dir", 0o700);
    }
    let output = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "source::tests::what_may_not_be_read_is_denied_and_what_may_is_read"])
        .env(UNPRIVILEGED, place.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

fn read_as_nobody(place: &Path) {
    assert!(!is_root());
    let directory = Directory::open_path(place).unwrap();
    let stat = |name: &[u8]| directory.stat(name).unwrap();
    let file = directory.open_file(b"closed", &stat(b"closed"));
    assert!(matches!(file, Err(SourceError::Denied { .. })), "{file:?}");
    let inner = directory.open_directory(b"closed dir", &stat(b"closed dir"));
    assert!(matches!(inner, Err(SourceError::Denied { .. })), "{inner:?}");
    // An attribute that cannot be read is a problem; the entry is described all the same.
    let (metadata, problems) =
        directory.metadata(b"closed", &stat(b"closed"), &Owners::new()).unwrap();
    assert_eq!(metadata.mode, 0);
    assert!(
        matches!(&problems[..], [SourceError::Attribute { attribute, .. }] if attribute == b"user.a"),
        "{problems:?}"
    );
    // Others' files are opened without NOATIME, which only owners may ask for.
    let mut buffer = [0; 6];
    directory.open_file(b"open", &stat(b"open")).unwrap().read_at(0, &mut buffer).unwrap();
    assert_eq!(&buffer, b"public");
    assert_eq!(directory.names().unwrap().len(), 3);
}

#[test]
fn starts_follow_links_on_the_way_and_not_at_the_end() {
    let (place, _) = place();
    let at = |name: &str| place.path().join(name);
    fs::create_dir_all(at("real/inner")).unwrap();
    symlink("real", at("link")).unwrap();
    let kind = |path: &Path| {
        let start = open_start(path).unwrap();
        (start.parent.stat(&start.name).unwrap().kind, start.name, start.path)
    };
    let raw = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let link = (Kind::Symlink, b"link".to_vec(), raw(&at("link")));
    assert_eq!(kind(&at("link")), link);
    assert_eq!(kind(&at("link/")), link);
    assert_eq!(kind(&at(".//link/.")), link);
    let inner = (Kind::Directory, b"inner".to_vec(), raw(&at("link/inner")));
    assert_eq!(kind(&at("link/inner")), inner);
    let dotted = (Kind::Directory, b"real".to_vec(), raw(&at("real").canonicalize().unwrap()));
    assert_eq!(kind(&at("link/inner/..")), dotted);
    assert_eq!(kind(Path::new("/")), (Kind::Directory, b".".to_vec(), b"/".to_vec()));
    assert!(matches!(open_start(Path::new("a")), Err(SourceError::Path { .. })));
    let missing = open_start(&at("missing/x"));
    assert!(
        matches!(&missing, Err(SourceError::Vanished { path }) if path.ends_with(b"missing/x")),
        "{missing:?}"
    );
    fs::write(at("file"), b"").unwrap();
    assert!(matches!(open_start(&at("file/x")), Err(SourceError::Other { .. })));
}

#[test]
fn errors_get_the_path_of_their_directory() {
    let error = |name: &[u8]| SourceError::Vanished { path: name.to_vec() };
    assert_eq!(error(b"b").below(b"/a").path(), b"/a/b");
    assert_eq!(error(b"b").below(b"/").path(), b"/b");
    assert_eq!(error(b".").below(b"/a").path(), b"/a");
    let given = SourceError::Path { path: b"x".to_vec(), why: "is not absolute" };
    assert_eq!(given.below(b"/a").path(), b"x");
}
