//! Objects as files below one directory.
//!
//! A put survives a power cut when it returns: the content is synced under a temporary name, the
//! name is given by a rename that replaces nothing, and the directory that holds the name is
//! synced. Whoever else can write into the directory may plant symbolic links, FIFOs and odd
//! names in it: nothing here follows them, waits for them or reports them as objects.

mod device;
mod directory;
mod listing;
mod temporary;
#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;

use self::directory::{READ, Root, sync_directory};
use self::temporary::Temporary;
use super::{
    ErrorKind, FreeRoom, Listed, Result, Storage, StorageError, require_key, require_prefix,
};

/// Where objects are written before they get their name. Hidden, so never part of a listing.
const TEMPORARY_DIRECTORY: &str = ".tmp";

/// How long a temporary file must have been left alone before `open` removes it. Only machines
/// that share a file system without sharing its locks need this; the lock serves all others.
const ABANDONED_AFTER_SECONDS: u64 = 24 * 60 * 60;

/// A repository in a directory of this machine, or of a mounted one.
#[derive(Debug)]
pub struct LocalStorage {
    path: PathBuf,
    root: Root,
    /// Whether the file system has said that it cannot rename without replacing.
    links_instead_of_renames: AtomicBool,
}

impl LocalStorage {
    /// Opens a directory that exists, and removes what crashed runs left in it half written.
    pub fn open(root: &Path) -> Result<Self> {
        let storage = Self::at(root)?;
        // A store that may only be read is as good as any other to read from.
        let _ = storage.tidy_temporary(ABANDONED_AFTER_SECONDS);
        Ok(storage)
    }

    /// Opens a directory, made with its parents where they are missing.
    pub fn create(root: &Path) -> Result<Self> {
        make_with_parents(root)
            .map_err(|source| StorageError::from_io(&root.to_string_lossy(), source))?;
        let storage = Self::at(root)?;
        storage
            .root
            .make_directory(TEMPORARY_DIRECTORY)
            .map_err(|errno| failed(TEMPORARY_DIRECTORY, errno))?;
        Ok(storage)
    }

    /// Removes temporary files that no living process writes and that nobody has touched for
    /// `older_than_seconds`; returns how many.
    pub fn tidy_temporary(&self, older_than_seconds: u64) -> Result<u64> {
        let removed = match self.root.open_directory(TEMPORARY_DIRECTORY) {
            Ok(directory) => temporary::remove_abandoned(&directory, older_than_seconds),
            Err(Errno::NOENT) => Ok(0),
            Err(errno) => Err(errno),
        };
        removed.map_err(|errno| failed(TEMPORARY_DIRECTORY, errno))
    }

    fn at(root: &Path) -> Result<Self> {
        let fd = Root::open(root)
            .map_err(|errno| StorageError::from_io(&root.to_string_lossy(), errno.into()))?;
        let links_instead_of_renames = AtomicBool::new(false);
        Ok(Self { path: root.to_owned(), root: fd, links_instead_of_renames })
    }

    fn write_and_name(&self, key: &str, parts: &[&[u8]]) -> rustix::io::Result<()> {
        let (above, name) = split_key(key);
        let directory = self.root.make_directory(above)?;
        let temporary = Temporary::create(self.root.make_directory(TEMPORARY_DIRECTORY)?)?;
        temporary.write(parts)?;
        temporary.give_name(&directory, name, &self.links_instead_of_renames)?;
        sync_directory(&directory)
    }

    fn remove(&self, key: &str) -> rustix::io::Result<()> {
        let (above, name) = split_key(key);
        let directory = match self.root.open_directory(above) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            // Synced all the same: whoever removed it may not have come that far.
            Ok(()) | Err(Errno::NOENT) => sync_directory(&directory),
            failed => failed,
        }
    }

    /// An object's open file and its length.
    fn open_object(&self, key: &str, flags: OFlags) -> Result<(OwnedFd, u64)> {
        require_key(key)?;
        let file = self.root.open_file(key, flags).map_err(|errno| failed(key, errno))?;
        let about = rustix::fs::fstat(&file).map_err(|errno| failed(key, errno))?;
        match len_of_regular(&about) {
            Some(len) => Ok((file, len)),
            None => Err(StorageError::new(ErrorKind::Corrupt, key, "is not a regular file")),
        }
    }
}

impl Storage for LocalStorage {
    fn location(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        require_key(key)?;
        self.write_and_name(key, parts).map_err(|errno| failed(key, errno))
    }

    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        device::read(&self.root, key, || {
            let (file, len) = self.open_object(key, READ)?;
            match usize::try_from(len) {
                Ok(wanted) if len <= len_max => {
                    let mut bytes = Vec::new();
                    read_exactly(&file, key, 0, wanted, &mut bytes)?;
                    Ok(bytes)
                }
                _ => Err(StorageError::new(ErrorKind::Corrupt, key, "is longer than it may be")),
            }
        })
    }

    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
        device::read(&self.root, key, || {
            let (file, len_stored) = self.open_object(key, READ)?;
            match end {
                Some(end) if end <= len_stored => read_exactly(&file, key, offset, len, into),
                _ => Err(too_short(key)),
            }
        })
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        require_prefix(prefix)?;
        let directory = self.root.open_directory(prefix.trim_end_matches('/'));
        match directory.and_then(|opened| listing::list(opened, &mut prefix.to_owned(), each)) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            listed => listed.map_err(|errno| failed(prefix, errno)),
        }
    }

    fn delete(&self, key: &str) -> Result<()> {
        require_key(key)?;
        self.remove(key).map_err(|errno| failed(key, errno))
    }

    fn stat(&self, key: &str) -> Result<u64> {
        device::read(&self.root, key, || Ok(self.open_object(key, OFlags::PATH)?.1))
    }

    fn free_room(&self) -> Option<FreeRoom> {
        let figures = rustix::fs::fstatvfs(self.root.fd()).ok()?;
        // Some file systems make room for files as they need it, and call that none.
        let objects = if figures.f_files == 0 { u64::MAX } else { figures.f_favail };
        let bytes = figures.f_bavail.checked_mul(figures.f_frsize)?;
        Some(FreeRoom { bytes, objects })
    }
}

fn failed(key: &str, errno: Errno) -> StorageError {
    let error = StorageError::from_io(key, errno.into());
    match errno {
        // A symbolic link, where none of ours ever is.
        Errno::LOOP => StorageError { kind: ErrorKind::Corrupt, ..error },
        _ => error,
    }
}

fn too_short(key: &str) -> StorageError {
    let source =
        std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "is shorter than asked for");
    StorageError::from_io(key, source)
}

/// The directory of a key ("" for the root) and its name there.
fn split_key(key: &str) -> (&str, &str) {
    key.rsplit_once('/').unwrap_or(("", key))
}

/// The length of a regular file; nothing else can be an object.
fn len_of_regular(about: &Stat) -> Option<u64> {
    match FileType::from_raw_mode(about.st_mode) {
        FileType::RegularFile => u64::try_from(about.st_size).ok(),
        _ => None,
    }
}

/// Exactly `len` bytes from `offset`. What `bytes` holds already is not cleared before.
fn read_exactly(
    file: &OwnedFd,
    key: &str,
    offset: u64,
    len: usize,
    bytes: &mut Vec<u8>,
) -> Result<()> {
    let more = len.saturating_sub(bytes.len());
    bytes.try_reserve_exact(more).map_err(|_| failed(key, Errno::NOMEM))?;
    bytes.resize(len, 0);
    let (mut rest, mut at) = (bytes.as_mut_slice(), offset);
    while !rest.is_empty() {
        match rustix::io::pread(file, &mut *rest, at) {
            Ok(0) => return Err(too_short(key)),
            Ok(count) => {
                rest = &mut rest[count..];
                at = at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(key, errno)),
        }
    }
    Ok(())
}

/// Makes a directory and those above it, each synced into the one that holds its name.
fn make_with_parents(path: &Path) -> std::io::Result<()> {
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    let make = || DirBuilder::new().mode(directory::MODE.as_raw_mode()).create(path);
    let made = match make() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && above != path => {
            make_with_parents(above)?;
            make()
        }
        made => made,
    };
    match made {
        Ok(()) => File::open(above)?.sync_all(),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
