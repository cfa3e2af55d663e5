//! Cleaning up on a full disk: what makes room begins with the room that was kept for it.

use super::OpsError;
use crate::index::IndexError;
use crate::pack::PackError;
use crate::repo::{RepoError, Repository};
use crate::storage::{ErrorKind, StorageError};

/// Does a work that makes room and may be repeated. Where there is none to begin with, the
/// reserve is given up and it is done again, being told so.
pub(super) fn with_reserve<T>(
    repository: &Repository,
    mut work: impl FnMut(bool) -> Result<T, OpsError>,
) -> Result<T, OpsError> {
    match work(false) {
        Err(error) if is_full(&error) => {
            repository.give_up_reserve()?;
            work(true)
        }
        done => done,
    }
}

/// Whether there was no room for what was to be written, in the storage or in the cache, which
/// often lies on the same disk.
pub(super) fn is_full(error: &OpsError) -> bool {
    let OpsError::Repo(error) = error else { return false };
    let storage = |error: &StorageError| error.kind == ErrorKind::Full;
    match error {
        RepoError::Storage(error)
        | RepoError::Pack(PackError::Storage(error))
        | RepoError::Index(IndexError::Storage(error)) => storage(error),
        RepoError::Index(IndexError::Cache { source, .. }) => {
            StorageError::from_io("", std::io::Error::from(source.kind())).kind == ErrorKind::Full
        }
        _ => false,
    }
}
