//! What can be done with a repository: one file per operation, each a plain function
//! `x(repository, options, progress) -> Result<XReport, OpsError>`.

pub mod backup;
pub mod forget;
pub mod mark;
pub mod prune;
pub mod retention;
pub mod select;

use crate::id::PrefixError;
use crate::index::IndexError;
use crate::progress::Problem;
use crate::repo::RepoError;
use crate::storage::StorageError;
use crate::tree::TreeError;

/// Why an operation ended without doing its work.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The repository cannot be worked with.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A stored tree cannot be read or written.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// No snapshot is meant by what was said, or several are.
    #[error("no snapshot {name}: {why}")]
    NoSnapshot {
        /// What was said.
        name: String,
        /// Why it names none.
        why: String,
    },
    /// The policy keeps nothing, so it would remove everything.
    #[error(transparent)]
    Retention(#[from] retention::RetentionError),
    /// Nothing that was asked for could be read, so there is nothing to take a snapshot of.
    #[error("nothing could be read: {}: {why}", crate::text::escape(path))]
    NothingRead {
        /// The first path, raw.
        path: Vec<u8>,
        /// Why.
        why: String,
    },
    /// A stream ended before its end, or the command that writes it failed.
    #[error("{}: {why}", crate::text::escape(name))]
    Stream {
        /// The file's name in the snapshot, raw.
        name: Vec<u8>,
        /// Why.
        why: String,
    },
    /// Something that snapshots need is missing or damaged, so that nobody can tell what is not
    /// needed. Nothing was changed.
    #[error(
        "{count} things that snapshots need are missing or damaged, the first is {}: {}",
        crate::text::escape(&first.what),
        first.why
    )]
    Incomplete {
        /// The first one: an object's key, or a path in a snapshot.
        first: Box<Problem>,
        /// How many there are.
        count: u64,
    },
    /// It was asked to stop.
    #[error("stopped before the end")]
    Cancelled,
}

impl From<IndexError> for OpsError {
    fn from(error: IndexError) -> Self {
        Self::Repo(error.into())
    }
}

impl From<StorageError> for OpsError {
    fn from(error: StorageError) -> Self {
        Self::Repo(error.into())
    }
}

impl From<PrefixError> for OpsError {
    fn from(error: PrefixError) -> Self {
        Self::Repo(error.into())
    }
}
