//! The open root of a local storage: names below it are resolved without following links.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::split_key;

/// Mode of the directories.
pub(super) const MODE: Mode = Mode::RWXU;

/// Most directories that are remembered as settled; there are 256 of packs and a few more.
const SETTLED_MAX: usize = 4_096;

/// Reads without waiting for the writer that a planted FIFO will never have. Directories are
/// opened the same way: asked for a directory, the kernel calls a link to one "not a directory",
/// and that must not pass for an empty listing.
pub(super) const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK);
const NEVER_FOLLOW: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// The directory that holds a repository, kept open: it stays the same one however its path is
/// renamed or replaced in the meantime.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    /// Directories whose names this process knows to survive a power cut.
    settled: Mutex<HashSet<String>>,
    /// Whether the kernel has said that it does not have `openat2`.
    pub(super) walks: AtomicBool,
}

impl Root {
    /// Opens the root; here alone links are followed, since the path is the user's own word.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let fd = rustix::fs::open(path, READ | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd, settled: Mutex::default(), walks: AtomicBool::new(false) })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens a file below the root, as it is: no link on the way is followed.
    pub(super) fn open_file(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | NEVER_FOLLOW;
        if !self.walks.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve) {
                // Old kernels do not know the call, and old sandboxes forbid what they do not
                // know.
                Err(Errno::NOSYS | Errno::PERM) => self.walks.store(true, Ordering::Relaxed),
                opened => return opened,
            }
        }
        let (above, name) = split_key(path);
        let mut at: Option<OwnedFd> = None;
        for part in above.split('/').filter(|part| !part.is_empty()) {
            let here = at.as_ref().unwrap_or(&self.fd);
            at = Some(open_directory_in(here, part)?);
        }
        rustix::fs::openat(at.as_ref().unwrap_or(&self.fd), name, flags, Mode::empty())
    }

    /// Opens a directory below the root; "" is the root itself.
    pub(super) fn open_directory(&self, path: &str) -> Result<OwnedFd> {
        self.open_file(if path.is_empty() { "." } else { path }, READ)
    }

    /// Opens a directory to put names in, made where it is missing. Its own name survives a power
    /// cut from then on, also when another process made it a moment ago and has not synced yet:
    /// so the first use of each directory in a process syncs the one above it.
    pub(super) fn make_directory(&self, path: &str) -> Result<OwnedFd> {
        if path.is_empty() || self.is_settled(path) {
            match self.open_directory(path) {
                // Somebody has tidied away an empty directory.
                Err(Errno::NOENT) if !path.is_empty() => {}
                opened => return opened,
            }
        }
        let (above, name) = split_key(path);
        let above = self.make_directory(above)?;
        let open = || open_directory_in(&above, name);
        let directory = match open() {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&above, name, MODE) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                open()?
            }
            opened => opened?,
        };
        sync_directory(&above)?;
        self.settle(path);
        Ok(directory)
    }

    fn is_settled(&self, path: &str) -> bool {
        self.lock().contains(path)
    }

    fn settle(&self, path: &str) {
        let mut settled = self.lock();
        if settled.len() >= SETTLED_MAX {
            settled.clear();
        }
        settled.insert(path.to_owned());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.settled.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Opens a directory by its name in another, unless it is a link.
pub(super) fn open_directory_in(above: impl AsFd, name: &str) -> Result<OwnedFd> {
    rustix::fs::openat(above, name, READ | NEVER_FOLLOW, Mode::empty())
}

/// Makes the names in a directory survive a power cut.
pub(super) fn sync_directory(directory: &OwnedFd) -> Result<()> {
    match rustix::io::retry_on_intr(|| rustix::fs::fsync(directory)) {
        // Some network file systems have no such call for directories: there the server settles
        // names before it answers, or nobody can.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        synced => synced,
    }
}
