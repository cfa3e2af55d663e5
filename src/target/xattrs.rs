//! Extended attributes of one inode: list, get, set, remove.

use rustix::buffer::spare_capacity;
use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};

use super::metadata::Handle;

/// What the kernel sets as the limit of a list and of a value.
const LEN_MAX: usize = 64 << 10;

/// Attributes that a file system takes or refuses together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    User,
    Trusted,
    Acl,
    Capability,
    Security,
    Other,
}

impl Class {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"security.capability" => Self::Capability,
            _ if name.starts_with(b"user.") => Self::User,
            _ if name.starts_with(b"trusted.") => Self::Trusted,
            _ if name.starts_with(b"system.posix_acl_") => Self::Acl,
            _ if name.starts_with(b"security.") => Self::Security,
            _ => Self::Other,
        }
    }

    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Whether one that the snapshot does not know is removed. Labels of security modules and
    /// what file systems show about themselves are not ours to remove.
    pub(super) fn is_managed(self) -> bool {
        matches!(self, Self::User | Self::Trusted | Self::Acl | Self::Capability)
    }
}

pub(super) fn list(handle: &Handle<'_>) -> Result<Vec<Vec<u8>>> {
    let bytes = with_room(|bytes| match handle {
        Handle::Open(file) => rustix::fs::flistxattr(file, spare_capacity(bytes)),
        Handle::Place(_) => rustix::fs::listxattr(handle.way(), spare_capacity(bytes)),
        Handle::Named(..) => rustix::fs::llistxattr(handle.way(), spare_capacity(bytes)),
    })?;
    Ok(bytes.split(|b| *b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

pub(super) fn get(handle: &Handle<'_>, name: &[u8]) -> Result<Vec<u8>> {
    with_room(|bytes| match handle {
        Handle::Open(file) => rustix::fs::fgetxattr(file, name, spare_capacity(bytes)),
        Handle::Place(_) => rustix::fs::getxattr(handle.way(), name, spare_capacity(bytes)),
        Handle::Named(..) => rustix::fs::lgetxattr(handle.way(), name, spare_capacity(bytes)),
    })
}

pub(super) fn set(handle: &Handle<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    match handle {
        Handle::Open(file) => rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()),
        Handle::Place(_) => rustix::fs::setxattr(handle.way(), name, value, XattrFlags::empty()),
        Handle::Named(..) => Err(Errno::BADF),
    }
}

pub(super) fn remove(handle: &Handle<'_>, name: &[u8]) -> Result<()> {
    let removed = match handle {
        Handle::Open(file) => rustix::fs::fremovexattr(file, name),
        Handle::Place(_) => rustix::fs::removexattr(handle.way(), name),
        Handle::Named(..) => Err(Errno::BADF),
    };
    match removed {
        Err(Errno::NODATA) => Ok(()),
        done => done,
    }
}

/// Calls with little room first, and with all that can be needed if that was not enough.
fn with_room(call: impl Fn(&mut Vec<u8>) -> Result<usize>) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(256);
    match call(&mut bytes) {
        Err(Errno::RANGE) => {}
        done => return done.map(|_| bytes),
    }
    let mut bytes = Vec::with_capacity(LEN_MAX);
    call(&mut bytes)?;
    Ok(bytes)
}
