//! Walking the directories of a local storage, one open directory a level and no list of names.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::{Errno, Result};

use super::directory::open_directory_in;
use super::len_of_regular;
use crate::storage::{Listed, key_is_allowed};

/// Reports every object in `directory`, whose keys begin with `key`. The depth is bounded by the
/// longest key that is allowed.
pub(super) fn list(
    directory: OwnedFd,
    key: &mut String,
    each: &mut dyn FnMut(Listed),
) -> Result<()> {
    let mut entries = Dir::new(directory)?;
    let key_len = key.len();
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        key.push_str(name);
        if key_is_allowed(key) {
            match visit(entries.fd()?, name, entry.file_type(), key, each) {
                // Removed since its name was read, or replaced by something that is no object.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                visited => visited?,
            }
        }
        key.truncate(key_len);
    }
    Ok(())
}

fn visit(
    directory: BorrowedFd<'_>,
    name: &str,
    kind: FileType,
    key: &mut String,
    each: &mut dyn FnMut(Listed),
) -> Result<()> {
    let descend = |key: &mut String, each: &mut dyn FnMut(Listed)| {
        let below = open_directory_in(directory, name)?;
        key.push('/');
        list(below, key, each)
    };
    match kind {
        FileType::Directory => descend(key, each),
        // Not every file system says in the directory what a name stands for.
        FileType::RegularFile | FileType::Unknown => {
            let about = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match len_of_regular(&about) {
                Some(len) => each(Listed { key: key.clone(), len }),
                None if FileType::from_raw_mode(about.st_mode) == FileType::Directory => {
                    descend(key, each)?;
                }
                None => {}
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
