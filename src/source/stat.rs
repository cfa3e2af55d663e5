//! What the system says about an entry.

use rustix::fs::FileType;

use crate::format::tree::{Entry, EntryKind};
use crate::world::Time;

/// What an entry is.
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
}

impl Kind {
    /// From the system's file type; there is none for types that Linux does not have.
    pub(super) fn from_type(kind: FileType) -> Option<Self> {
        Some(match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Unknown => return None,
        })
    }
}

/// Which inode it is: the same under all its names and through every mount of its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The file system's device number.
    pub device: u64,
    /// The inode's number in it.
    pub inode: u64,
}

/// What the system says about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Length, bytes.
    pub size: u64,
    /// Bytes that it takes in its file system.
    pub allocated: u64,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// The inode's number.
    pub inode: u64,
    /// The file system's device number.
    pub device: u64,
    /// How many names it has.
    pub links: u64,
    /// Of a device: which driver.
    pub major: u32,
    /// Of a device: which one.
    pub minor: u32,
}

/// How old a change must be so that a later one gets another time. Kernels stamp by a clock that
/// ticks every few milliseconds, FAT counts in two seconds.
const SETTLING_SECONDS: i64 = 3;

impl Stat {
    #[expect(clippy::unnecessary_cast, reason = "these types differ between processors")]
    pub(super) fn from_system(stat: &rustix::fs::Stat) -> Option<Self> {
        let raw_mode = stat.st_mode as u32;
        let kind = Kind::from_type(FileType::from_raw_mode(raw_mode))?;
        Some(Self {
            kind,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
            mode: raw_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            ctime: time(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
            inode: stat.st_ino as u64,
            device: stat.st_dev as u64,
            links: stat.st_nlink as u64,
            major: rustix::fs::major(stat.st_rdev),
            minor: rustix::fs::minor(stat.st_rdev),
        })
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Which inode it is.
    pub fn identity(&self) -> Identity {
        Identity { device: self.device, inode: self.inode }
    }

    /// Whether a file's content is the one that the parent snapshot holds, as far as size, times
    /// and inode can tell.
    pub fn has_content_of(&self, entry: &Entry) -> bool {
        self.kind == Kind::File
            && matches!(entry.kind, EntryKind::File { unstable: false, .. })
            && self.size == entry.size()
            && self.mtime == entry.metadata.mtime
            && self.ctime == entry.metadata.ctime
            && self.inode == entry.metadata.inode
    }

    /// Whether a change after `now`, the time of this look, is sure to show in the times. Of a
    /// file that changed a moment ago the content may change once more under the same time: who
    /// stores its ctime would take the old content for the new one for ever.
    pub fn is_settled(&self, now: Time) -> bool {
        let newest = self.ctime.max(self.mtime);
        newest.seconds.saturating_add(SETTLING_SECONDS) <= now.seconds
    }
}

fn time(seconds: i64, nanoseconds: u64) -> Time {
    // A file system in user space may say anything; a clamped value is below 2^32.
    Time { seconds, nanoseconds: nanoseconds.min(999_999_999) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_nanoseconds_stay_possible() {
        assert_eq!(time(-5, 999_999_999), Time { seconds: -5, nanoseconds: 999_999_999 });
        assert_eq!(time(5, u64::MAX), Time { seconds: 5, nanoseconds: 999_999_999 });
    }
}
