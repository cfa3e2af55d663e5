//! Owner, mode, attributes and times of what is restored.
//!
//! The order matters. A change of owner takes set-id bits and capabilities away, so it comes
//! first; attributes come before the mode, which may forbid them, and which an ACL changes;
//! set-id bits and capabilities come when all else stands, so that no half-made file has them;
//! times come last, for all of this changes them.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::difference::mtime;
use super::xattrs::{self, Class};
use super::{Folder, Result, Shared, TargetError};
use crate::format::tree::{Metadata, Xattr};
use crate::world::Time;

/// How an inode is reached: always that inode, whatever happens to its name.
pub(super) enum Handle<'a> {
    /// Opened for reading or writing.
    Open(&'a File),
    /// Opened as a place only (`O_PATH`): links, devices, whatever must not be opened really.
    Place(&'a File),
    /// A name in an open folder, its last component not followed: for reading only.
    Named(&'a File, &'a [u8]),
}

impl Handle<'_> {
    pub(super) fn file(&self) -> &File {
        match self {
            Self::Open(file) | Self::Place(file) | Self::Named(file, _) => file,
        }
    }

    /// The way through our own open handle, which the kernel resolves to exactly that inode; for
    /// the calls that do not take an `O_PATH` handle.
    pub(super) fn way(&self) -> Vec<u8> {
        let mut way = format!("/proc/self/fd/{}", self.file().as_raw_fd()).into_bytes();
        if let Self::Named(_, name) = self {
            way.push(b'/');
            way.extend_from_slice(name);
        }
        way
    }

    fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> rustix::io::Result<()> {
        // -1 stands for "as it is" in the system call, so it is no id that can be set.
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Self::Open(file) => rustix::fs::fchown(file, uid, gid),
            Self::Place(file) => rustix::fs::chownat(file, "", uid, gid, AtFlags::EMPTY_PATH),
            Self::Named(..) => Err(Errno::BADF),
        }
    }

    pub(super) fn set_mode(&self, mode: u32) -> rustix::io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::Open(file) => rustix::fs::fchmod(file, mode),
            Self::Place(_) => rustix::fs::chmod(self.way(), mode),
            Self::Named(..) => Err(Errno::BADF),
        }
    }

    pub(super) fn set_mtime(&self, time: Time) -> rustix::io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: time.seconds,
                tv_nsec: time.nanoseconds.min(999_999_999).into(),
            },
        };
        match self {
            Self::Open(file) => rustix::fs::futimens(file, &times),
            Self::Place(file) => {
                match rustix::fs::utimensat(file, "", &times, AtFlags::EMPTY_PATH) {
                    // Kernels before 5.8.
                    Err(Errno::INVAL) => {
                        let way = self.way();
                        rustix::fs::utimensat(rustix::fs::CWD, way, &times, AtFlags::empty())
                    }
                    done => done,
                }
            }
            Self::Named(..) => Err(Errno::BADF),
        }
    }
}

/// The mode that an entry gets when its owner ends up as `owner`. Set-id bits that belong to
/// another owner are left off: a program of user 1000 must not become one of root's.
pub(super) fn wanted_mode(
    shared: &Shared,
    metadata: &Metadata,
    owner: (u32, u32),
    directory: bool,
) -> u32 {
    let wanted = shared.wanted_owner(metadata);
    let mut mode = metadata.mode & 0o7777;
    if !directory && owner.0 != wanted.0 {
        mode &= !0o4000;
    }
    if !directory && owner.1 != wanted.1 {
        mode &= !0o2000;
    }
    mode
}

/// One inode that gets its metadata.
pub(super) struct Finishing<'a> {
    pub(super) folder: &'a Folder,
    /// Its name in the folder; `None` for the folder itself.
    pub(super) name: Option<&'a [u8]>,
    pub(super) handle: Handle<'a>,
    /// It may have attributes already.
    pub(super) existing: bool,
}

impl Finishing<'_> {
    fn path(&self) -> Vec<u8> {
        match self.name {
            Some(name) => self.folder.path_of(name),
            None => self.folder.path(),
        }
    }

    fn error(&self, operation: &'static str, errno: Errno) -> TargetError {
        TargetError::io(operation, self.path(), errno.into())
    }

    /// Sets all of it. What could not be set is returned; the rest is set nevertheless.
    pub(super) fn apply(&self, metadata: &Metadata) -> Result<Vec<TargetError>> {
        let shared = &self.folder.shared;
        let stat =
            rustix::fs::fstat(self.handle.file()).map_err(|errno| self.error("stat", errno))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut problems = Vec::new();
        let owner = self.apply_owner(metadata, &stat, &mut problems);
        let changed = match shared.options.xattrs {
            true => self.apply_xattrs(&metadata.xattrs, &stat, &mut problems),
            false => false,
        };
        let wanted = wanted_mode(shared, metadata, owner, kind == FileType::Directory);
        // Set-id bits may be gone since the look: a change of owner takes them away.
        let set_mode = wanted != stat.st_mode & 0o7777 || changed || wanted & 0o6000 != 0;
        if kind != FileType::Symlink
            && set_mode
            && let Err(errno) = self.handle.set_mode(wanted)
        {
            problems.push(self.error("set the mode", errno));
        }
        if mtime(&stat) != metadata.mtime
            && let Err(errno) = self.handle.set_mtime(metadata.mtime)
        {
            problems.push(self.error("set the time", errno));
        }
        Ok(problems)
    }

    /// The owner that it has afterwards.
    pub(super) fn apply_owner(
        &self,
        metadata: &Metadata,
        stat: &Stat,
        problems: &mut Vec<TargetError>,
    ) -> (u32, u32) {
        let shared = &self.folder.shared;
        let now = (stat.st_uid, stat.st_gid);
        let wanted = shared.wanted_owner(metadata);
        if !shared.options.owner || wanted == now {
            return now;
        }
        let uid = (wanted.0 != now.0).then_some(wanted.0);
        let gid = (wanted.1 != now.1).then_some(wanted.1);
        let mut outcome = self.handle.set_owner(uid, gid).map(|()| wanted);
        // A group that one is a member of can be set without being root.
        if outcome == Err(Errno::PERM) && uid.is_some() && gid.is_some() {
            outcome = self.handle.set_owner(None, gid).map(|()| (now.0, wanted.1));
            shared.owners_refused.store(true, Ordering::Relaxed);
        }
        match outcome {
            Ok(owner) => owner,
            // INVAL: the id has no meaning in this user namespace.
            Err(Errno::PERM | Errno::INVAL) => {
                shared.owners_refused.store(true, Ordering::Relaxed);
                now
            }
            Err(errno) => {
                problems.push(self.error("set the owner", errno));
                now
            }
        }
    }

    /// Whether anything was changed (an ACL may have changed the mode).
    fn apply_xattrs(&self, wanted: &[Xattr], stat: &Stat, problems: &mut Vec<TargetError>) -> bool {
        if !self.existing {
            let mut changed = false;
            for xattr in in_order(wanted) {
                changed |= self.apply_xattr(xattr, problems);
            }
            return changed;
        }
        let present = match xattrs::list(&self.handle) {
            Ok(present) => present,
            Err(Errno::NOTSUP) => Vec::new(),
            Err(errno) => {
                problems.push(self.error("read the attributes", errno));
                return false;
            }
        };
        // Attributes of a read-only file are read-only too, unless one is root. If this is
        // refused, so will be the attributes, and that is said then.
        let mut changed = !self.folder.shared.is_root
            && stat.st_mode & 0o200 == 0
            && self.handle.set_mode(stat.st_mode & 0o777 | 0o200).is_ok();
        for name in &present {
            let unwanted = !wanted.iter().any(|xattr| xattr.name == *name);
            if unwanted && Class::of(name).is_managed() {
                if let Err(errno) = xattrs::remove(&self.handle, name) {
                    problems.push(self.error("remove an attribute", errno));
                }
                changed = true;
            }
        }
        for xattr in in_order(wanted) {
            let same = present.contains(&xattr.name)
                && xattrs::get(&self.handle, &xattr.name).is_ok_and(|value| value == xattr.value);
            changed |= !same && self.apply_xattr(xattr, problems);
        }
        changed
    }

    fn apply_xattr(&self, xattr: &Xattr, problems: &mut Vec<TargetError>) -> bool {
        let refused = &self.folder.shared.attributes_refused;
        let class = Class::of(&xattr.name);
        let Err(errno) = xattrs::set(&self.handle, &xattr.name, &xattr.value) else {
            return true;
        };
        let whole_class = matches!(errno, Errno::NOTSUP | Errno::PERM | Errno::ACCESS);
        let said =
            whole_class && refused.fetch_or(class.bit(), Ordering::Relaxed) & class.bit() != 0;
        if !said {
            problems.push(TargetError::Attribute {
                path: self.path(),
                name: xattr.name.clone(),
                class: whole_class,
                source: errno.into(),
            });
        }
        false
    }
}

/// ACLs after plain attributes, capabilities last.
fn in_order(xattrs: &[Xattr]) -> impl Iterator<Item = &Xattr> {
    let rank = |xattr: &Xattr| match Class::of(&xattr.name) {
        Class::Acl => 1,
        Class::Capability => 2,
        _ => 0,
    };
    (0..3).flat_map(move |now| xattrs.iter().filter(move |xattr| rank(xattr) == now))
}

/// Whether the attributes of what is there are others than wanted.
pub(super) fn xattrs_differ(
    shared: &Shared,
    handle: &Handle<'_>,
    wanted: &[Xattr],
) -> rustix::io::Result<bool> {
    let refused = shared.attributes_refused.load(Ordering::Relaxed);
    let mut present = match xattrs::list(handle) {
        Ok(present) => present,
        Err(Errno::NOTSUP) => Vec::new(),
        Err(errno) => return Err(errno),
    };
    for xattr in wanted {
        let was_there = present.iter().position(|name| *name == xattr.name);
        if Class::of(&xattr.name).bit() & refused != 0 {
            continue;
        }
        match was_there {
            Some(at) if xattrs::get(handle, &xattr.name)? == xattr.value => {
                present.swap_remove(at);
            }
            _ => return Ok(true),
        }
    }
    let wanted = |name: &Vec<u8>| wanted.iter().any(|xattr| xattr.name == *name);
    Ok(present.iter().any(|name| Class::of(name).is_managed() && !wanted(name)))
}
