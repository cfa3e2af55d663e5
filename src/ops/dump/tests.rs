use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::sample::{CHUNK, Node, Sample, Tree, noise};
use super::*;
use crate::format::tree::{Metadata, Xattr};
use crate::progress::Silent;
use crate::repo::SnapshotRecord;
use crate::world::Time;

const LONG: &[u8] = &[b'l'; 200];
const ODD: &[u8] = b"odd \xff\xfe \x1b[31m\n name";

fn tree() -> Tree {
    let mut tree = Tree::default();
    let sparse = [noise(1, 40 * CHUNK), vec![0; 3 * CHUNK], b"end".to_vec()].concat();
    let mtime = Time { seconds: 1_234_567_890, nanoseconds: 123_456_789 };
    *tree.file(b"/top/file", &sparse) =
        Metadata { mode: 0o4751, uid: 1234, gid: 1 << 22, mtime, ..Metadata::default() };
    tree.file(b"/top/empty", b"").mtime = Time { seconds: -5, nanoseconds: 7 };
    tree.file(&[b"/top/", ODD].concat(), b"odd");
    tree.file(&[b"/top/", LONG, b"/", LONG, b"/", ODD].concat(), b"far away");
    let link = |target: &[u8]| Node::Other(EntryKind::Symlink { target: target.to_vec() });
    tree.put(b"/top/link", link(b"../\xfe"));
    tree.put(b"/top/long-link", link(&[LONG, b"/", LONG].concat()));
    tree.put(b"/top/pipe", Node::Other(EntryKind::Fifo));
    tree.put(b"/top/socket", Node::Other(EntryKind::Socket));
    for path in [&b"/top/one"[..], b"/top/sub/two", b"/top/three"] {
        let metadata = tree.file(path, b"linked");
        *metadata = Metadata { links: 3, device: 7, inode: 99, ..metadata.clone() };
    }
    let directory = tree.directory(b"/top/sub");
    *directory = Metadata { mode: 0o750, mtime, ..directory.clone() };
    tree
}

fn dumped(
    sample: &Sample,
    record: &SnapshotRecord,
    path: &[u8],
    format: ArchiveFormat,
    progress: &Silent,
) -> (Vec<u8>, DumpReport) {
    let mut bytes = Vec::new();
    let repository = &sample.repository;
    let report = dump_folder(repository, &record.snapshot, path, format, &mut bytes, progress);
    (bytes, report.unwrap())
}

/// Extracts with the system's tar.
fn extract(archive: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar")
        .args(["-x", "-p", "--no-same-owner", "-f", "-", "-C"])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(tar.wait().unwrap().success());
    folder
}

fn below(folder: &Path, name: &[u8]) -> PathBuf {
    folder.join(OsStr::from_bytes(name))
}

fn content(tree: &Tree, path: &[&[u8]]) -> Vec<u8> {
    let key: Vec<Vec<u8>> = path.iter().map(|part| part.to_vec()).collect();
    match &tree.nodes[&key].0 {
        Node::File(content) => content.clone(),
        node => panic!("{node:?}"),
    }
}

#[test]
fn the_systems_tar_finds_everything_in_it() {
    let sample = Sample::new(1);
    let tree = tree();
    let record = sample.snapshot(&tree, b"");
    let progress = Silent::default();
    let (archive, report) = dumped(&sample, &record, b"/top", ArchiveFormat::Tar, &progress);
    let folder = extract(&archive);
    let top = folder.path();
    let stat = |name: &[u8]| fs::symlink_metadata(below(top, name)).unwrap();

    let read = |name: &[u8]| fs::read(below(top, name)).unwrap();
    assert!(read(b"file") == content(&tree, &[b"top", b"file"]));
    let file = stat(b"file");
    assert_eq!((file.mtime(), file.mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!(file.mode() & 0o777, 0o751);
    assert_eq!((stat(b"empty").len(), stat(b"empty").mtime()), (0, -5));
    assert_eq!(read(ODD), b"odd");
    assert_eq!(read(&[LONG, b"/", LONG, b"/", ODD].concat()), b"far away");
    let target = |name: &[u8]| fs::read_link(below(top, name)).unwrap();
    assert_eq!(target(b"link").as_os_str().as_bytes(), b"../\xfe");
    assert_eq!(target(b"long-link").as_os_str().len(), 401);
    assert!(stat(b"pipe").file_type().is_fifo());
    assert!(!below(top, b"socket").exists());
    assert_eq!(read(b"sub/two"), b"linked");
    assert_eq!(stat(b"one").ino(), stat(b"sub/two").ino());
    assert_eq!(stat(b"one").nlink(), 3);
    let sub = stat(b"sub");
    assert_eq!((sub.mode() & 0o7777, sub.mtime()), (0o750, 1_234_567_890));

    assert_eq!((report.left_out_count, report.lost_bytes), (1, 0));
    // Links do not carry the content a second time.
    assert_eq!(report.bytes, file.len() + 3 + 8 + 6);
    assert_eq!(report.entry_count, 13);
    assert!(progress.problems().is_empty());
    let notes = progress.notes.lock().unwrap().clone();
    assert!(notes.len() == 1 && notes[0].contains("/top/socket"), "{notes:?}");
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// A header of the archive, with its records, by name.
fn member(archive: &[u8], name: &[u8]) -> (::tar::Header, Records) {
    let mut archive = ::tar::Archive::new(archive);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if *entry.path_bytes() == *name {
            let mut records = Vec::new();
            for record in entry.pax_extensions().unwrap().into_iter().flatten() {
                let record = record.unwrap();
                records.push((record.key_bytes().to_vec(), record.value_bytes().to_vec()));
            }
            return (entry.header().clone(), records);
        }
    }
    panic!("it is not there")
}

#[test]
fn owners_devices_and_attributes_are_in_the_tar() {
    let sample = Sample::new(1);
    let mut tree = Tree::default();
    let long: &[u8] = &[b'u'; 50];
    let metadata =
        tree.put(b"/d/tty", Node::Other(EntryKind::CharDevice { major: 4, minor: 1 << 20 }));
    metadata.user = "root".as_bytes().into();
    metadata.group = long.into();
    tree.put(b"/d/sda", Node::Other(EntryKind::BlockDevice { major: 8, minor: 1 << 24 }));
    let metadata = tree.file(b"/d/f", b"x");
    metadata.uid = 70_000;
    metadata.gid = u32::MAX - 1;
    let xattr = |name: &[u8], value: &[u8]| Xattr { name: name.into(), value: value.into() };
    metadata.xattrs = vec![xattr(b"security.capability", b"\0\xff="), xattr(b"user.a=%", b"")];
    let record = sample.snapshot(&tree, b"");
    let progress = Silent::default();
    let (archive, _) = dumped(&sample, &record, b"", ArchiveFormat::Tar, &progress);
    let (tty, records) = member(&archive, b"d/tty");
    assert_eq!(tty.username_bytes(), Some(&b"root"[..]));
    assert_eq!(records, [(b"gname".to_vec(), long.to_vec())]);
    let numbers =
        |header: &::tar::Header| (header.device_major().unwrap(), header.device_minor().unwrap());
    assert_eq!(numbers(&tty), (Some(4), Some(1 << 20)));
    assert_eq!(tty.entry_type(), ::tar::EntryType::Char);
    // The crate that reads here knows only seven octal digits, others also binary.
    let sda = member(&archive, b"d/sda").0;
    assert_eq!(sda.as_ustar().unwrap().dev_minor, [0x80, 0, 0, 0, 1, 0, 0, 0]);
    let (file, records) = member(&archive, b"d/f");
    assert_eq!((file.uid().unwrap(), file.gid().unwrap()), (70_000, u64::from(u32::MAX - 1)));
    let expected: [(&[u8], &[u8]); 3] = [
        (b"gid", b"4294967294"),
        (b"SCHILY.xattr.security.capability", b"\0\xff="),
        (b"SCHILY.xattr.user.a%3D%25", b""),
    ];
    assert!(records.iter().map(|(key, value)| (&key[..], &value[..])).eq(expected), "{records:?}");
}

#[test]
fn damage_in_a_file_is_zeros_and_everything_else_comes() {
    let sample = Sample::new(1);
    let mut tree = Tree::default();
    for (n, name) in [&b"/a"[..], b"/b", b"/c"].into_iter().enumerate() {
        tree.file(name, &noise(n as u64, 3 * CHUNK));
    }
    let record = sample.snapshot(&tree, b"/b");
    sample.delete_packs_of(&sample.content_of(&record, b"/b").refs[1]);
    for format in [ArchiveFormat::Tar, ArchiveFormat::Zip] {
        let progress = Silent::default();
        let (archive, report) = dumped(&sample, &record, b"/", format, &progress);
        let mut files = std::collections::BTreeMap::new();
        match format {
            ArchiveFormat::Tar => {
                let folder = extract(&archive);
                for name in ["a", "b", "c"] {
                    files.insert(name, fs::read(folder.path().join(name)).unwrap());
                }
            }
            ArchiveFormat::Zip => {
                for name in ["a", "b", "c"] {
                    files.insert(name, unzipped(&archive, name).1);
                }
            }
        }
        assert!(files["a"] == noise(0, 3 * CHUNK) && files["c"] == noise(2, 3 * CHUNK));
        // The whole pack is gone, and with it all of the file.
        assert!(files["b"] == vec![0; 3 * CHUNK]);
        assert_eq!(report.lost_bytes, 3 * CHUNK as u64);
        let problems = progress.problems();
        assert!(problems.len() == 1 && problems[0].damage && problems[0].what == b"/b");
    }
}

/// Mode and content of an entry.
fn unzipped(archive: &[u8], name: &str) -> (Option<u32>, Vec<u8>) {
    let mut archive = ::zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    let mut file = archive.by_name(name).unwrap();
    let mut content = Vec::new();
    file.read_to_end(&mut content).unwrap();
    (file.unix_mode(), content)
}

#[test]
fn a_zip_has_files_directories_and_links() {
    let sample = Sample::new(1);
    let mut tree = tree();
    tree.file(br"/top/back\slash", b"1");
    tree.file(b"/top/old", b"").mtime = Time::from_seconds(-1);
    let record = sample.snapshot(&tree, b"");
    let progress = Silent::default();
    let (archive, report) = dumped(&sample, &record, b"/top", ArchiveFormat::Zip, &progress);
    let (mode, file) = unzipped(&archive, "file");
    assert!(file == content(&tree, &[b"top", b"file"]));
    // The set-id bit is there as well; who reads here leaves it out.
    assert_eq!(mode, Some(0o100_751));
    assert_eq!(unzipped(&archive, "sub/").0, Some(0o040_750));
    assert_eq!(unzipped(&archive, "link"), (Some(0o120_777), b"../\xfe".to_vec()));
    assert_eq!(unzipped(&archive, r"odd \xff\xfe \e[31m\n name").1, b"odd");
    assert_eq!(unzipped(&archive, r"back\\slash").1, b"1");
    for name in ["one", "sub/two", "three"] {
        assert_eq!(unzipped(&archive, name).1, b"linked");
    }
    let mut read = ::zip::ZipArchive::new(std::io::Cursor::new(&archive[..])).unwrap();
    let time = read.by_name("file").unwrap().last_modified().unwrap();
    assert_eq!((time.year(), time.month(), time.hour(), time.minute()), (2009, 2, 23, 31));
    assert_eq!(read.by_name("old").unwrap().last_modified().unwrap().year(), 1980);
    assert_eq!((report.left_out_count, read.len() as u64), (2, report.entry_count));
    let notes = progress.notes.lock().unwrap().clone();
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[test]
fn one_file_alone() {
    let sample = Sample::new(1);
    let tree = tree();
    let record = sample.snapshot(&tree, b"");
    let progress = Silent::default();
    let mut bytes = Vec::new();
    let mut dump = |path: &[u8]| {
        bytes.clear();
        dump_file(&sample.repository, &record.snapshot, path, &mut bytes, &progress)
            .map(|report| (bytes.clone(), report))
    };
    let (file, report) = dump(b"/top/file").unwrap();
    assert!(file == content(&tree, &[b"top", b"file"]));
    assert_eq!((report.bytes, report.entry_count), (file.len() as u64, 1));
    for path in [&b"/top"[..], b"/top/link", b"/"] {
        assert!(matches!(dump(path), Err(OpsError::Path { source: TreeError::NotAFile, .. })));
    }
    assert!(matches!(dump(b"/none"), Err(OpsError::Path { .. })));
    let (archive, _) = dumped(&sample, &record, b"/top/one", ArchiveFormat::Tar, &progress);
    assert_eq!(fs::read(extract(&archive).path().join("one")).unwrap(), b"linked");
}

#[test]
fn deep_trees_as_tar() {
    let sample = Sample::new(1);
    let record = sample.deep(3_000);
    let progress = Silent::default();
    let (archive, report) = dumped(&sample, &record, b"", ArchiveFormat::Tar, &progress);
    assert_eq!(report.entry_count, 9_000);
    let mut read = ::tar::Archive::new(&archive[..]);
    let longest = read.entries().unwrap().map(|entry| entry.unwrap().path_bytes().len()).max();
    assert_eq!(longest, Some(2 * 3_000));
    assert!(progress.problems().is_empty());
}

/// Takes so many bytes and no more.
struct Short(usize, Vec<u8>);

impl std::io::Write for Short {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.1.len() + bytes.len() > self.0 {
            return Err(std::io::Error::other("enough"));
        }
        self.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_archive_that_was_left_does_not_look_whole() {
    let sample = Sample::new(1);
    let mut tree = Tree::default();
    for n in 0..100 {
        tree.file(format!("/{n}").as_bytes(), &noise(n, CHUNK));
    }
    let record = sample.snapshot(&tree, b"");
    for format in [ArchiveFormat::Tar, ArchiveFormat::Zip] {
        let mut output = Short(20 * CHUNK, Vec::new());
        let ended = dump_folder(
            &sample.repository,
            &record.snapshot,
            b"",
            format,
            &mut output,
            &Silent::default(),
        );
        assert!(matches!(ended, Err(OpsError::Output(_))));
        let cancelled = Stopping { silent: Silent::default(), after: 15 };
        let mut bytes = Vec::new();
        let repository = &sample.repository;
        let ended = dump_folder(repository, &record.snapshot, b"", format, &mut bytes, &cancelled);
        assert!(matches!(ended, Err(OpsError::Cancelled)));
        match format {
            ArchiveFormat::Tar => assert!(!bytes.ends_with(&[0; 1024])),
            ArchiveFormat::Zip => {
                assert!(::zip::ZipArchive::new(std::io::Cursor::new(&bytes[..])).is_err());
            }
        }
    }
}

/// Asks to stop after so many entries.
struct Stopping {
    silent: Silent,
    after: u64,
}

impl Progress for Stopping {
    fn phase(&self, _: &str, _: Counter, _: Option<u64>) {}

    fn add(&self, counter: Counter, amount: u64) {
        self.silent.add(counter, amount);
    }

    fn at(&self, _: &[u8]) {}

    fn problem(&self, _: &crate::progress::Problem) {}

    fn note(&self, _: &str) {}

    fn cancelled(&self) -> bool {
        self.silent.count(Counter::Entries) > self.after
    }
}
