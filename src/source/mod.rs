//! What is read from a living file system: directories, files, what there is to know about them,
//! and what is left out.
//!
//! Others may write to the tree while it is read, and may want to be backed up what is not
//! theirs. So everything goes by handles of open directories and single names, no symbolic link
//! is followed below the start, and what was opened must be what was looked at. Depth and length
//! of paths have no bound but the format's: no system call sees more than one name.
//!
//! Errors carry the name that was asked for; `SourceError::below` puts the directory's path
//! before it.

mod chain;
mod directory;
mod exclude;
mod file;
mod metadata;
mod mount;
mod names;
mod pattern;
mod stat;
#[cfg(test)]
mod tests;

pub use chain::{Chain, OPEN_MAX};
pub use directory::{Directory, Start, open_start};
pub use exclude::{CACHE_TAG, Excludes, Reason, Verdict};
pub use file::{Change, Extent, Extents, OpenFile};
pub use metadata::Owners;
pub use mount::pseudo_file_system;
pub use names::{Name, Names};
pub use pattern::Pattern;
pub use stat::{Identity, Kind, Stat};

use std::io;

use rustix::io::Errno;

/// Result of reading a source.
pub type Result<T> = std::result::Result<T, SourceError>;

/// Why something could not be read. The message leaves the path out: it is raw, and whoever
/// prints it escapes it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It was there and no longer is.
    #[error("it is no longer there")]
    Vanished {
        /// What was asked for.
        path: Vec<u8>,
    },
    /// The system refuses.
    #[error("{source}")]
    Denied {
        /// What was asked for.
        path: Vec<u8>,
        /// What the system said.
        source: io::Error,
    },
    /// Something else took its place between looking and opening.
    #[error("something else took its place while it was read")]
    Changed {
        /// What was asked for.
        path: Vec<u8>,
    },
    /// Extended attributes, or one of them, could not be read.
    #[error("extended attribute \"{}\": {source}", attribute.escape_ascii())]
    Attribute {
        /// What was asked for.
        path: Vec<u8>,
        /// The attribute; empty if they could not be listed.
        attribute: Vec<u8>,
        /// What the system said.
        source: io::Error,
    },
    /// More than the format holds.
    #[error("{what} is over the limit of {limit}")]
    TooLarge {
        /// What was asked for.
        path: Vec<u8>,
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A path to start from that is none.
    #[error("the path {why}")]
    Path {
        /// What was given.
        path: Vec<u8>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A pattern that is none.
    #[error("{}pattern \"{}\": {why}", place(file, *line), pattern.escape_ascii())]
    Pattern {
        /// The file that it stands in; empty if it was given by itself.
        file: Vec<u8>,
        /// The line there, counted from 1.
        line: usize,
        /// What was given.
        pattern: Vec<u8>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Anything else.
    #[error("{source}")]
    Other {
        /// What was asked for.
        path: Vec<u8>,
        /// What the system said.
        source: io::Error,
    },
}

impl SourceError {
    /// From what the system said about something inside an open directory. There a missing
    /// directory or a link in the way can only mean that the name stands for something else now.
    fn from_errno(name: &[u8], errno: Errno) -> Self {
        let path = name.to_vec();
        match errno {
            Errno::NOENT | Errno::STALE => Self::Vanished { path },
            Errno::ACCESS | Errno::PERM => Self::Denied { path, source: errno.into() },
            Errno::NOTDIR | Errno::LOOP | Errno::NXIO => Self::Changed { path },
            _ => Self::Other { path, source: errno.into() },
        }
    }

    /// From what the system said about a path that a person gave.
    fn from_io(path: &[u8], source: io::Error) -> Self {
        let path = path.to_vec();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Vanished { path },
            io::ErrorKind::PermissionDenied => Self::Denied { path, source },
            _ => Self::Other { path, source },
        }
    }

    /// What was asked for, raw.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Vanished { path }
            | Self::Denied { path, .. }
            | Self::Changed { path }
            | Self::Attribute { path, .. }
            | Self::TooLarge { path, .. }
            | Self::Path { path, .. }
            | Self::Pattern { file: path, .. }
            | Self::Other { path, .. } => path,
        }
    }

    /// The same error with the path of the directory before its name.
    pub fn below(mut self, directory: &[u8]) -> Self {
        if let Self::Vanished { path }
        | Self::Denied { path, .. }
        | Self::Changed { path }
        | Self::Attribute { path, .. }
        | Self::TooLarge { path, .. }
        | Self::Other { path, .. } = &mut self
        {
            *path = joined(directory, path);
        }
        self
    }
}

/// A directory's path and a name in it as one path.
fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    match name {
        b"." => directory.to_vec(),
        _ => [directory, slash, name].concat(),
    }
}

fn place(file: &[u8], line: usize) -> String {
    match file {
        [] => String::new(),
        _ => format!("\"{}\" line {line}: ", file.escape_ascii()),
    }
}
