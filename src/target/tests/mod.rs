//! The target with real files.

mod kinds;
mod metadata;
mod removal;
mod safety;
mod undo;
mod unprivileged;
mod writing;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::format::tree::{Entry, EntryKind, Ref, Refs, Xattr};
use crate::id::ChunkId;
use crate::world::{RealWorld, Time};

/// A target in a directory `target` beside a directory `outside` that nothing may touch.
struct Place {
    target: Target,
    root: Arc<Folder>,
    directory: tempfile::TempDir,
}

fn place() -> Place {
    place_with(TargetOptions::default())
}

fn place_with(options: TargetOptions) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let outside = directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), "precious").unwrap();
    let target = Target::open(&directory.path().join("target"), true, options, &RealWorld).unwrap();
    let root = target.root().clone();
    Place { target, root, directory }
}

impl Place {
    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join("target").join(below)
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.directory.path().join("outside").join(name)
    }

    /// Closes the handles, as a restore with many folders and files does.
    fn close_all(&self) {
        for handles in [&self.root.shared.folders, &self.root.shared.files] {
            for _ in 0..=OPEN_FOLDERS_MAX {
                handles.fill(&Arc::default(), File::open(self.directory.path()).unwrap());
            }
            assert_eq!(handles.len(), 0);
        }
    }

    fn assert_outside_untouched(&self) {
        let names: Vec<_> = std::fs::read_dir(self.outside("")).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(std::fs::read(self.outside("precious")).unwrap(), b"precious");
    }
}

fn at(seconds: i64, nanoseconds: u32) -> Time {
    Time { seconds, nanoseconds }
}

fn metadata(mode: u32) -> Metadata {
    let mtime = at(1_234_567_890, 987_654_321);
    // The owner is whoever runs the test.
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    Metadata { mode, uid, gid, mtime, ..Metadata::default() }
}

fn file_kind(len: u64) -> EntryKind {
    let refs = match len {
        0 => vec![],
        len => vec![Ref::Chunk { id: ChunkId([1; 32]), len }],
    };
    EntryKind::File { content: Refs { depth: 0, refs }, unstable: false }
}

fn directory_kind() -> EntryKind {
    EntryKind::Directory { listing: Refs::default() }
}

fn entry(name: &[u8], kind: EntryKind, metadata: &Metadata) -> Entry {
    Entry { name: name.to_vec(), kind, metadata: metadata.clone() }
}

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.into(), value: value.to_vec() }
}

fn read_xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 65_536];
    let len = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}

fn lstat(path: &Path) -> std::fs::Metadata {
    std::fs::symlink_metadata(path).unwrap()
}

/// Compares what `lstat` sees with what was wanted.
fn assert_metadata(path: &Path, wanted: &Metadata) {
    let found = lstat(path);
    if !found.is_symlink() {
        assert_eq!(found.mode() & 0o7777, wanted.mode, "mode of {path:?}");
    }
    assert_eq!((found.uid(), found.gid()), (wanted.uid, wanted.gid), "owner of {path:?}");
    let mtime = (found.mtime(), found.mtime_nsec());
    assert_eq!(mtime, (wanted.mtime.seconds, i64::from(wanted.mtime.nanoseconds)), "{path:?}");
    for Xattr { name, value } in &wanted.xattrs {
        let name = std::str::from_utf8(name).unwrap();
        assert_eq!(read_xattr(path, name).as_ref(), Some(value), "{name} of {path:?}");
    }
}

/// Nothing could not be set.
#[track_caller]
fn whole(done: Result<Vec<TargetError>>) {
    let problems = done.unwrap();
    assert!(problems.is_empty(), "{problems:?}");
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the machine refuses is said by name, and is no excuse where everything must run.
fn cannot(what: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{what} is not possible here");
    eprintln!("not tested, for it is not possible here: {what}");
}
