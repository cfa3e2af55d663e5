//! What an error of the device below a file system means: the same `EIO` comes from a sector that
//! nobody will ever read again, and from a disk or a server that is gone for a minute.
//!
//! A sector is damage of one object: it has to be named, kept away from and mended. Taking an
//! outage for that would call every object damaged that was looked at meanwhile. So the rest of
//! the storage is asked: an object counts as unreadable when it fails twice, and another one was
//! read from the device, not from memory, before the second time and after it. A storage that
//! comes and goes faster than that is told wrongly, which costs work and no data, since a record
//! of damage only advises (`format-spec/15-damage.md#failures-of-the-storage`).

use std::os::fd::OwnedFd;

use rustix::fs::{Advice, Dir, FileType};
use rustix::io::{Errno, retry_on_intr};

use super::directory::{READ, Root, open_directory_in};
use super::len_of_regular;
use crate::storage::{ErrorKind, Result, StorageError, key_is_allowed};

/// Other objects that are tried at most before nothing is believed to answer.
const WITNESSES_MAX: usize = 8;

/// Names that are looked at in a directory at most, to find them.
const NAMES_MAX: usize = 64;

/// Reads something of an object. An error of the device is told as `Corrupt` when it is this
/// object's own, and else as `Transient`.
pub(super) fn read<T>(root: &Root, key: &str, mut read: impl FnMut() -> Result<T>) -> Result<T> {
    let is_of_device = |result: &Result<T>| result.as_ref().is_err_and(is_of_device);
    let first = read();
    if !is_of_device(&first) {
        return first;
    }
    let kind_if = |answers| if answers { ErrorKind::Corrupt } else { ErrorKind::Transient };
    let told = |result: Result<T>, kind| result.map_err(|error| StorageError { kind, ..error });
    if !answers(root, key) {
        return told(first, ErrorKind::Transient);
    }
    let second = read();
    match is_of_device(&second) {
        true => told(second, kind_if(answers(root, key))),
        false => second,
    }
}

/// An error below the file system, or in what the file system itself keeps there of a file.
fn is_of_device(error: &StorageError) -> bool {
    let errno = Errno::from_io_error(&error.source);
    matches!(errno, Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG))
}

/// Whether any other object can be read.
fn answers(root: &Root, key: &str) -> bool {
    let mut others = Vec::new();
    if let Ok(directory) = root.open_directory("") {
        // What could be found is tried, however the search ended.
        let _ = near(directory, "", key, &mut others);
    }
    others.iter().any(|other| reads(root, other).unwrap_or(false))
}

/// Reads the first byte of an object from the device; whether there is one.
fn reads(root: &Root, key: &str) -> rustix::io::Result<bool> {
    let file = root.open_file(key, READ)?;
    if len_of_regular(&rustix::fs::fstat(&file)?).is_none() {
        return Ok(false);
    }
    // What lies in memory is read as well after the disk has gone.
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    let mut byte = [0];
    Ok(retry_on_intr(|| rustix::io::pread(&file, &mut byte, 0))? == 1)
}

/// Objects other than `key`, those nearest to the root first.
fn near(
    directory: OwnedFd,
    above: &str,
    key: &str,
    found: &mut Vec<String>,
) -> rustix::io::Result<()> {
    let mut entries = Dir::new(directory)?;
    let mut directories = Vec::new();
    for _ in 0..NAMES_MAX {
        let Some(entry) = entries.read().transpose()? else { break };
        let Ok(name) = entry.file_name().to_str() else { continue };
        let path = format!("{above}{name}");
        if !key_is_allowed(&path) || path == key {
            continue;
        }
        match entry.file_type() {
            FileType::RegularFile if found.len() < WITNESSES_MAX => found.push(path),
            FileType::Directory => directories.push(name.to_owned()),
            _ => {}
        }
    }
    for name in directories {
        if found.len() >= WITNESSES_MAX {
            break;
        }
        if let Ok(below) = open_directory_in(entries.fd()?, &name) {
            near(below, &format!("{above}{name}/"), key, found)?;
        }
    }
    Ok(())
}
