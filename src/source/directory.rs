//! Open directories: everything below the start is reached from one of these, by one name.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::{Errno, retry_on_intr};

use super::{Kind, Names, OpenFile, Result, SourceError, Stat};
use crate::limits;

/// An open directory. Names given to it are single names; `.` is the directory itself.
#[derive(Debug)]
pub struct Directory {
    handle: OwnedFd,
    stat: Stat,
    /// The handle has one reading position: two listings at once would each miss names.
    listing: Mutex<()>,
}

/// Where a person wants a backup to start.
#[derive(Debug)]
pub struct Start {
    /// The directory that holds the start.
    pub parent: Directory,
    /// Its name there; `.` for the root directory.
    pub name: Vec<u8>,
    /// Its absolute path, without `.`, `..` and doubled slashes.
    pub path: Vec<u8>,
}

/// Opens the directory around an absolute path. Links on the way are followed, as the person who
/// gave the path would expect; the last component is not, whether or not a slash comes after it.
pub fn open_start(path: &Path) -> Result<Start> {
    let raw = path.as_os_str().as_bytes();
    let path = clean(path)?;
    let name = path.file_name().map_or(&b"."[..], OsStr::as_bytes).to_vec();
    let parent = path.parent().unwrap_or(&path);
    // The person asked for the whole path, so that is what an error names.
    let parent = Directory::open_path(parent).map_err(|error| match error {
        SourceError::Vanished { .. } => SourceError::Vanished { path: raw.to_vec() },
        error => error,
    })?;
    Ok(Start { parent, name, path: path.into_os_string().into_vec() })
}

/// The path without `.`, doubled slashes and `..`. What `..` means after a link only the system
/// knows, so everything up to the last one is resolved by it.
fn clean(path: &Path) -> Result<PathBuf> {
    let raw = path.as_os_str().as_bytes();
    if !path.is_absolute() {
        return Err(SourceError::Path { path: raw.to_vec(), why: "is not absolute" });
    }
    if raw.contains(&0) {
        return Err(SourceError::Path { path: raw.to_vec(), why: "contains a NUL byte" });
    }
    let components: Vec<Component<'_>> = path.components().collect();
    let last = components.iter().rposition(|c| *c == Component::ParentDir);
    let (dotted, rest) = components.split_at(last.map_or(0, |last| last + 1));
    let mut cleaned = PathBuf::from("/");
    if !dotted.is_empty() {
        let dotted: PathBuf = dotted.iter().collect();
        cleaned =
            std::fs::canonicalize(dotted).map_err(|error| SourceError::from_io(raw, error))?;
    }
    cleaned.extend(rest);
    Ok(cleaned)
}

impl Directory {
    /// Opens a directory by the path that a person gave, following links.
    pub fn open_path(path: &Path) -> Result<Self> {
        let raw = path.as_os_str().as_bytes();
        let handle = open_quietly(CWD, raw, OFlags::DIRECTORY)
            .map_err(|errno| SourceError::from_io(raw, errno.into()))?;
        Self::from_handle(handle, raw)
    }

    /// Opens a directory in this one. It must be the one that `expected` describes.
    pub fn open_directory(&self, name: &[u8], expected: &Stat) -> Result<Self> {
        let opened = self.open_below(name)?;
        match opened.stat.identity() == expected.identity() {
            true => Ok(opened),
            false => Err(SourceError::Changed { path: name.to_vec() }),
        }
    }

    /// Opens the directory that holds this one now.
    pub(super) fn open_parent(&self) -> Result<Self> {
        self.open_below(b"..")
    }

    fn open_below(&self, name: &[u8]) -> Result<Self> {
        let handle = open_quietly(self.handle(), name, OFlags::DIRECTORY | OFlags::NOFOLLOW)
            .map_err(|errno| SourceError::from_errno(name, errno))?;
        Self::from_handle(handle, name)
    }

    fn from_handle(handle: OwnedFd, name: &[u8]) -> Result<Self> {
        let stat = handle_stat(handle.as_fd(), name)?;
        Ok(Self { handle, stat, listing: Mutex::new(()) })
    }

    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// What the directory itself was like when it was opened.
    pub fn own_stat(&self) -> &Stat {
        &self.stat
    }

    /// The names in it.
    pub fn names(&self) -> Result<Names> {
        let _alone = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        Names::read(self.handle()).map_err(|errno| SourceError::from_errno(b".", errno))
    }

    /// What a name stands for; links are not followed.
    pub fn stat(&self, name: &[u8]) -> Result<Stat> {
        let stat = retry_on_intr(|| statat(self.handle(), name, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(|errno| SourceError::from_errno(name, errno))?;
        Stat::from_system(&stat).ok_or_else(|| unknown_kind(name))
    }

    /// What a symbolic link points to.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>> {
        let target = readlinkat(self.handle(), name, Vec::new()).map_err(|errno| match errno {
            Errno::INVAL => SourceError::Changed { path: name.to_vec() },
            errno => SourceError::from_errno(name, errno),
        })?;
        let target = target.into_bytes();
        within(name, "the link's target", target.len() as u64, limits::SYMLINK_LEN_MAX as u64)?;
        Ok(target)
    }

    /// Opens a regular file for reading. Nothing else is opened on purpose, and what another
    /// process may put in its place in the last moment is closed unread.
    ///
    /// Another regular file in its place, as editors leave when they save, is as good: what counts
    /// is that the name itself stands for it, in this file system. `OpenFile::stat` describes what
    /// was opened.
    pub fn open_file(&self, name: &[u8], expected: &Stat) -> Result<OpenFile> {
        if expected.kind != Kind::File {
            return Err(SourceError::Changed { path: name.to_vec() });
        }
        // A pipe put here must not make us wait for its writer: NONBLOCK.
        let handle = open_quietly(self.handle(), name, OFlags::NOFOLLOW | OFlags::NONBLOCK)
            .map_err(|errno| SourceError::from_errno(name, errno))?;
        let stat = handle_stat(handle.as_fd(), name)?;
        if stat.kind != Kind::File || stat.device != expected.device {
            return Err(SourceError::Changed { path: name.to_vec() });
        }
        within(name, "the file's length", stat.size, limits::CONTENT_LEN_MAX)?;
        Ok(OpenFile::new(handle, stat, name))
    }
}

/// Opens without leaving a trace in the access time where that is allowed: to owners and root.
fn open_quietly(
    at: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
) -> std::result::Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let open = |flags| retry_on_intr(|| openat(at, name, flags, Mode::empty()));
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        result => result,
    }
}

/// What an open handle stands for.
pub(super) fn handle_stat(handle: BorrowedFd<'_>, name: &[u8]) -> Result<Stat> {
    let stat = fstat(handle).map_err(|errno| SourceError::from_errno(name, errno))?;
    Stat::from_system(&stat).ok_or_else(|| unknown_kind(name))
}

fn unknown_kind(name: &[u8]) -> SourceError {
    let source =
        std::io::Error::new(std::io::ErrorKind::Unsupported, "a kind of file unknown here");
    SourceError::Other { path: name.to_vec(), source }
}

pub(super) fn within(name: &[u8], what: &'static str, found: u64, limit: u64) -> Result<()> {
    match found <= limit {
        true => Ok(()),
        false => Err(SourceError::TooLarge { path: name.to_vec(), what, limit }),
    }
}
