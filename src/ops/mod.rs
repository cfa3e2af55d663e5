//! What can be done with a repository: one file per operation, each a plain function
//! `x(repository, options, progress) -> Result<XReport, OpsError>`.

pub mod backup;
pub mod check;
pub mod content;
pub mod copy;
pub mod diff;
pub mod dump;
pub mod find;
pub mod forget;
pub mod lines;
pub mod ls;
pub mod mark;
mod memory;
mod parallel;
pub mod probe;
pub mod prune;
pub mod repair;
pub mod restore;
pub mod retention;
mod room;
#[cfg(test)]
mod sample;
pub mod select;
pub mod stats;
pub mod tag;
pub mod walk;

use crate::id::SnapshotId;
use crate::index::IndexError;
use crate::pack::PackError;
use crate::progress::{Problem, Progress};
use crate::repo::{RepoError, Session};
use crate::storage::{ErrorKind, StorageError};
use crate::target::TargetError;
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
    /// The source cannot be read: nothing of what was asked for, or a stream not to its end.
    #[error("cannot read {}: {why}", crate::text::escape(path))]
    Source {
        /// The first path, or the stream's name in the snapshot; raw.
        path: Vec<u8>,
        /// Why.
        why: String,
    },
    /// The target cannot be used.
    #[error("the target {}: {source}", crate::text::escape(path))]
    Target {
        /// The directory, raw.
        path: Vec<u8>,
        /// Why.
        source: TargetError,
    },
    /// No room is left in the target.
    #[error("the target is full: {}: {source}", crate::text::escape(path))]
    TargetFull {
        /// What was written then: relative to the target, raw.
        path: Vec<u8>,
        /// What the system said.
        source: TargetError,
    },
    /// A path that the snapshot does not have, or that is not what was asked for.
    #[error("{}: {source}", crate::text::escape(path))]
    Path {
        /// What was asked for, raw.
        path: Vec<u8>,
        /// Why it cannot be taken.
        source: TreeError,
    },
    /// What takes the output took no more of it.
    #[error("writing the output: {0}")]
    Output(#[source] std::io::Error),
    /// More than a format holds.
    #[error("{what} is over the limit of {limit}")]
    Limit {
        /// What is too large, or too many.
        what: &'static str,
        /// The limit.
        limit: u64,
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
    /// A restore that is all or nothing failed.
    #[error("{source}")]
    RolledBack {
        /// Whether the target is what it was before; else something could not be put back.
        whole: bool,
        /// Why it failed.
        source: Box<OpsError>,
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

/// A segment that is written anew gets no more chunks than this, some ten megabytes.
const SEGMENT_CHUNKS_MAX: usize = 262_144;

/// A session that a prune did not wait for is begun again so often.
const SESSIONS_TRIED: usize = 4;

/// Writes a snapshot in as many sessions as that takes. `attempt` gets the name of the session that
/// the next one replaces.
fn in_sessions<T>(
    mut replaces: Option<SnapshotId>,
    progress: &dyn Progress,
    mut attempt: impl FnMut(Option<SnapshotId>) -> Result<T, OpsError>,
) -> Result<T, OpsError> {
    for _ in 1..SESSIONS_TRIED {
        match attempt(replaces) {
            Err(OpsError::Repo(RepoError::Fenced(id))) => {
                progress.note("a prune elsewhere went on without this snapshot; it begins again");
                replaces = Some(id);
            }
            result => return result,
        }
    }
    attempt(replaces)
}

/// Ends a session without a snapshot where the work in it failed. What was stored stays usable for
/// the next run; the error is what counts.
fn or_abort<T>(session: Session, done: Result<T, OpsError>) -> Result<(Session, T), OpsError> {
    match done {
        Ok(done) => Ok((session, done)),
        Err(error) => {
            let _ = session.abort();
            Err(error)
        }
    }
}

/// What a part of a stored tree that cannot be read means: damage that is told and passed over,
/// or the end of the run, because the storage gives no clear answer about anything.
fn lost(what: &[u8], error: TreeError) -> Result<Problem, OpsError> {
    match &error {
        TreeError::Repo(RepoError::Chunk { source: Some(source), .. }) if is_passing(source) => {
            Err(error.into())
        }
        TreeError::Format { .. } | TreeError::Repo(RepoError::Chunk { .. }) => {
            Ok(Problem::damage(what, error))
        }
        _ => Err(error.into()),
    }
}

/// Whether it may work when tried again: nothing is damaged, and nothing is to be passed over.
fn is_passing(error: &PackError) -> bool {
    matches!(error, PackError::Storage(error) if error.kind == ErrorKind::Transient)
}

/// Whether the storage failed in any way: who removes things takes nothing that it says for
/// damage, not even what a reader passes over.
fn is_outage(error: &PackError) -> bool {
    matches!(error, PackError::Storage(error)
        if !matches!(error.kind, ErrorKind::NotFound | ErrorKind::Corrupt))
}
