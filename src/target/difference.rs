//! What stands under a name, and how it differs from an entry of a snapshot.

use std::fmt;

use rustix::fs::{FileType, Stat};

use super::metadata::{self, Handle};
use super::{Folder, Result};
use crate::format::tree::{Entry, EntryKind};
use crate::world::Time;

/// What something in a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// Something this program does not know.
    Other,
}

impl Kind {
    /// The kind that an entry has.
    pub fn of(kind: &EntryKind) -> Self {
        match kind {
            EntryKind::File { .. } => Self::File,
            EntryKind::Directory { .. } => Self::Directory,
            EntryKind::Symlink { .. } => Self::Symlink,
            EntryKind::Fifo => Self::Fifo,
            EntryKind::Socket => Self::Socket,
            EntryKind::CharDevice { .. } => Self::CharDevice,
            EntryKind::BlockDevice { .. } => Self::BlockDevice,
        }
    }

    pub(super) fn of_mode(mode: u32) -> Self {
        match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Unknown => Self::Other,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a named pipe",
            Self::Socket => "a socket",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Other => "something unknown",
        })
    }
}

/// What stands under a name; links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Length, bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Time,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How many names it has.
    pub links: u64,
    /// The file system's device number.
    pub device: u64,
    /// Which inode of it.
    pub inode: u64,
}

/// How what is there differs from the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Nothing is there.
    Absent,
    /// Nothing differs, as far as can be told without reading content.
    Same,
    /// Only this. A file's content is taken to be the same, for its size and time are.
    Metadata(MetadataDifference),
    /// A file of another size or time, a link to elsewhere, another device; or only metadata
    /// differs, but of a file that has several names and is therefore never changed, only replaced.
    Content,
    /// Something of another kind is there.
    OtherKind(Kind),
}

/// Which metadata differs. What this run cannot set is not compared: owners without root, classes
/// of attributes that the target has refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetadataDifference {
    /// Owner or group.
    pub owner: bool,
    /// Permission bits.
    pub mode: bool,
    /// Extended attributes.
    pub xattrs: bool,
    /// Time of the last change (of what is no regular file).
    pub mtime: bool,
}

impl Folder {
    /// What stands under a name; `None` if nothing does.
    pub fn stat(&self, name: &[u8]) -> Result<Option<Found>> {
        Ok(self.raw_stat(name)?.as_ref().map(found))
    }

    /// How what stands under a name differs from an entry.
    pub fn difference(&self, name: &[u8], entry: &Entry) -> Result<Difference> {
        let Some(stat) = self.raw_stat(name)? else {
            return Ok(Difference::Absent);
        };
        let found = found(&stat);
        if found.kind != Kind::of(&entry.kind) {
            return Ok(Difference::OtherKind(found.kind));
        }
        let same_content = match &entry.kind {
            EntryKind::File { content, .. } => {
                found.size == content.len() && found.mtime == entry.metadata.mtime
            }
            EntryKind::Symlink { target } => self.read_link(name)? == *target,
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                rustix::fs::major(stat.st_rdev) == *major
                    && rustix::fs::minor(stat.st_rdev) == *minor
            }
            EntryKind::Directory { .. } | EntryKind::Fifo | EntryKind::Socket => true,
        };
        if !same_content {
            return Ok(Difference::Content);
        }
        let differs = self.metadata_difference(name, entry, &stat)?;
        Ok(match (differs == MetadataDifference::default(), found.kind) {
            (true, _) => Difference::Same,
            (false, kind) if kind != Kind::Directory && found.links > 1 => Difference::Content,
            (false, _) => Difference::Metadata(differs),
        })
    }

    fn metadata_difference(
        &self,
        name: &[u8],
        entry: &Entry,
        stat: &Stat,
    ) -> Result<MetadataDifference> {
        let shared = &self.shared;
        let wanted = &entry.metadata;
        let symlink = matches!(entry.kind, EntryKind::Symlink { .. });
        let owner_now = (stat.st_uid, stat.st_gid);
        let owner = match shared.options.owner && shared.is_root {
            true => shared.wanted_owner(wanted),
            false => owner_now,
        };
        let mode = metadata::wanted_mode(shared, wanted, owner, entry.is_directory());
        Ok(MetadataDifference {
            owner: owner != owner_now,
            mode: !symlink && mode != stat.st_mode & 0o7777,
            xattrs: shared.options.xattrs && {
                let folder = self.handle()?;
                let handle = Handle::Named(&folder, name);
                metadata::xattrs_differ(shared, &handle, &wanted.xattrs)
                    .map_err(|e| self.error("read the attributes", name, e))?
            },
            mtime: mtime(stat) != wanted.mtime,
        })
    }
}

fn found(stat: &Stat) -> Found {
    Found {
        kind: Kind::of_mode(stat.st_mode),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: mtime(stat),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        links: links(stat),
        device: stat.st_dev,
        inode: stat.st_ino,
    }
}

/// How many names an inode has; the field's width depends on the machine.
#[allow(clippy::useless_conversion, reason = "the field has 32 bits on some machines")]
pub(super) fn links(stat: &Stat) -> u64 {
    u64::from(stat.st_nlink)
}

/// The time of the last change.
#[allow(clippy::useless_conversion, reason = "the fields' types depend on the machine")]
pub(super) fn mtime(stat: &Stat) -> Time {
    Time {
        seconds: i64::from(stat.st_mtime),
        nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    }
}
