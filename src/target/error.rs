//! Why something could not be restored.

use std::io;

use super::Kind;
use crate::progress::Problem;

/// Result of a call on the target.
pub type Result<T> = std::result::Result<T, TargetError>;

/// Why something could not be restored. Paths are raw bytes, relative to the target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// `..`, an empty name, or one with a slash: such an entry leads elsewhere.
    #[error("such a name is never restored")]
    Name {
        /// Where.
        path: Vec<u8>,
    },
    /// The system refused.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried, in words that fit after "failed to".
        operation: &'static str,
        /// On what.
        path: Vec<u8>,
        /// What the system said.
        source: io::Error,
    },
    /// Something of another kind is there, and was not replaced.
    #[error("{kind} is in the way")]
    InTheWay {
        /// Where.
        path: Vec<u8>,
        /// What is there.
        kind: Kind,
    },
    /// What was opened or made before is another one now: somebody else is at work there.
    #[error("it was exchanged while it was being restored")]
    Exchanged {
        /// Where.
        path: Vec<u8>,
    },
    /// An existing file with more names: it is replaced, never changed.
    #[error("it has {links} names, of which some may lie outside the target")]
    Linked {
        /// Where.
        path: Vec<u8>,
        /// How many names it has.
        links: u64,
    },
    /// A removal stops where another file system is mounted.
    #[error("another file system is mounted there")]
    Mounted {
        /// Where.
        path: Vec<u8>,
    },
    /// A run that could be undone was cut off, and is not undone.
    #[error("a restore was cut off here, and what it changed is not put back")]
    Unfinished {
        /// What it left.
        path: Vec<u8>,
    },
    /// A run that can be undone is at work in this target.
    #[error("another restore is at work here")]
    AtWork {
        /// What it keeps.
        path: Vec<u8>,
    },
    /// An extended attribute could not be set.
    #[error("set the attribute {}: {source}{}", .name.escape_ascii(),
        if *.class { " (the same for others of its kind is not said again)" } else { "" })]
    Attribute {
        /// Whose.
        path: Vec<u8>,
        /// Which, raw.
        name: Vec<u8>,
        /// Whether it stands for all attributes of its class: the target refuses them.
        class: bool,
        /// What the system said.
        source: io::Error,
    },
    /// A device or another special file that cannot be created here.
    #[error("{kind} cannot be created: {source}")]
    NotCreatable {
        /// Where.
        path: Vec<u8>,
        /// What it is.
        kind: Kind,
        /// What the system said.
        source: io::Error,
    },
}

impl TargetError {
    pub(super) fn io(operation: &'static str, path: Vec<u8>, source: io::Error) -> Self {
        Self::Io { operation, path, source }
    }

    /// Where it happened: raw bytes, relative to the target (empty for the target itself).
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Name { path }
            | Self::Io { path, .. }
            | Self::InTheWay { path, .. }
            | Self::Exchanged { path }
            | Self::Linked { path, .. }
            | Self::Mounted { path }
            | Self::Unfinished { path }
            | Self::AtWork { path }
            | Self::Attribute { path, .. }
            | Self::NotCreatable { path, .. } => path,
        }
    }

    /// What the system said, if it was asked.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. }
            | Self::Attribute { source, .. }
            | Self::NotCreatable { source, .. } => Some(source.kind()),
            _ => None,
        }
    }

    /// As something that does not end the run.
    pub fn to_problem(&self) -> Problem {
        Problem::at(self.path(), self)
    }
}
