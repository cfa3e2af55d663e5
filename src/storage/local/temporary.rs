//! Files that have no object's name yet.
//!
//! Their writer holds a lock on them for as long as it lives, and the kernel drops it when the
//! process dies, however it dies. So a temporary file that can be locked is one that nobody will
//! finish.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags,
};
use rustix::io::{Errno, Result, retry_on_intr};

use crate::world::{RealWorld, random};

/// Room is reserved ahead for objects from this length on, so that a full disk shows before the
/// writing and not at its end. Smaller ones are not worth a call.
const RESERVE_LEN_MIN: u64 = 1 << 20;

/// Mode of the files: what is stored is sealed, yet nobody else needs to see even that.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A file under a name of its own; it is removed when dropped before it was given another.
#[derive(Debug)]
pub(super) struct Temporary {
    directory: OwnedFd,
    name: String,
    file: OwnedFd,
    renamed: bool,
}

impl Temporary {
    /// Makes an empty file in `directory`, locked.
    pub(super) fn create(directory: OwnedFd) -> Result<Self> {
        // A turn is lost only to somebody who tidies up between the making and the locking.
        for _ in 0..16 {
            let name = format!("{:032x}", u128::from_le_bytes(random(&RealWorld)));
            if let Some(file) = create_locked(&directory, &name)? {
                return Ok(Self { directory, name, file, renamed: false });
            }
        }
        Err(Errno::AGAIN)
    }

    /// Writes the content and syncs it.
    pub(super) fn write(&self, parts: &[&[u8]]) -> Result<()> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        if len >= RESERVE_LEN_MIN {
            reserve(&self.file, len)?;
        }
        // An empty part at the front would make a write of nothing look like a full disk.
        let filled = parts.iter().filter(|part| !part.is_empty());
        let mut slices: Vec<IoSlice<'_>> = filled.map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match rustix::io::writev(&self.file, rest) {
                Ok(0) => return Err(Errno::NOSPC),
                Ok(count) => IoSlice::advance_slices(&mut rest, count),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        retry_on_intr(|| rustix::fs::fsync(&self.file))
    }

    /// Gives the file its name in another directory, if nothing has it yet. `links` remembers
    /// that the file system cannot rename without replacing; linking never replaces anywhere.
    pub(super) fn give_name(
        mut self,
        directory: &OwnedFd,
        name: &str,
        links: &AtomicBool,
    ) -> Result<()> {
        if !links.load(Ordering::Relaxed) {
            let from = self.name.as_str();
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&self.directory, from, directory, name, flags) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    links.store(true, Ordering::Relaxed);
                }
                given => {
                    self.renamed = given.is_ok();
                    return given;
                }
            }
        }
        // The temporary name goes when `self` does.
        rustix::fs::linkat(&self.directory, &self.name, directory, name, AtFlags::empty())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // What cannot be removed now is removed as abandoned some day.
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// A new file, locked; `None` when the name was taken, or was taken away again.
fn create_locked(directory: &OwnedFd, name: &str) -> Result<Option<OwnedFd>> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, MODE) {
        Err(Errno::EXIST) => Ok(None),
        opened => opened.and_then(|file| Ok(is_ours(&file)?.then_some(file))),
    }
}

/// Locks a file just made. Not ours is one that somebody who tidies up has locked or removed
/// between its making and its locking.
pub(super) fn is_ours(file: &OwnedFd) -> Result<bool> {
    // Any other failure means that there are no locks here. Then nobody takes the file for
    // abandoned either: they could not lock it.
    let locked = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
    Ok(locked != Err(Errno::WOULDBLOCK) && rustix::fs::fstat(file)?.st_nlink > 0)
}

/// Takes the room that the content will need, where the file system can.
fn reserve(file: &OwnedFd, len: u64) -> Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(errno),
        // Not supported, interrupted: the writing will show what is the matter.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes the files in `directory` that nobody holds a lock on and that were last written
/// `older_than_seconds` ago or earlier. Returns how many.
///
/// Some network file systems keep locks within one machine, so the lock alone would not protect
/// another machine's writer. Ages are told by the file system's own clock, of which a file made
/// now gives the time: a server's clock and ours may differ by more than any patience.
pub(super) fn remove_abandoned(directory: &OwnedFd, older_than_seconds: u64) -> Result<u64> {
    let mut entries = Dir::read_from(directory)?;
    let mut now = None;
    let mut removed = 0;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let about = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            about => about?,
        };
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            continue;
        }
        let now = match now {
            Some(now) => now,
            None => *now.insert(time_there(directory)?),
        };
        let age = u64::try_from(now.saturating_sub(about.st_mtime)).unwrap_or(0);
        if age >= older_than_seconds && remove_unlocked(directory, name)? {
            removed += 1;
        }
    }
    Ok(removed)
}

/// The file system's time, seconds.
fn time_there(directory: &OwnedFd) -> Result<i64> {
    let probe = Temporary::create(rustix::io::fcntl_dupfd_cloexec(directory, 0)?)?;
    Ok(rustix::fs::fstat(&probe.file)?.st_mtime)
}

fn remove_unlocked(directory: &OwnedFd, name: &std::ffi::CStr) -> Result<bool> {
    // For writing, because network file systems want that of whoever locks; and without waiting
    // for a FIFO that has taken the file's place.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(false),
        opened => opened?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(false),
            gone => gone.map(|()| true),
        },
        Err(_) => Ok(false),
    }
}
