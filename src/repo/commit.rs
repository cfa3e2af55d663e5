//! The commit of a session (W7, W8). Format: `format-spec/11-sessions.md#writer`.

use super::{RepoError, Session, SnapshotRecord};
use crate::format::envelope::ObjectType;
use crate::format::session::{fence_key, session_key};
use crate::format::snapshot::{Snapshot, snapshot_key};
use crate::storage::ErrorKind;

impl Session {
    /// Stores everything, then the snapshot, then looks whether the session was fenced. Only
    /// when this returns may anyone be told that something was saved. `Fenced`: begin again;
    /// what was stored is known to the index and is used where it may be.
    pub fn commit(mut self, mut snapshot: Snapshot) -> Result<SnapshotRecord, RepoError> {
        self.flush()?;
        snapshot.epoch = self.epoch;
        snapshot.statistics.bytes_new = self.bytes_new();
        snapshot.statistics.bytes_stored = self.bytes_stored();
        snapshot.check().map_err(RepoError::TooMuch)?;
        let key = snapshot_key(&self.id);
        let payload = snapshot.encode();
        self.commit_tried = true;
        match self.repository.write_object(ObjectType::Snapshot, &key, &payload) {
            Ok(()) => {}
            // The answer was lost, or will be: only this session writes this key, so what is
            // there now, or at the second attempt, is its own.
            Err(RepoError::Storage(error))
                if matches!(error.kind, ErrorKind::Transient | ErrorKind::AlreadyExists) =>
            {
                self.commit_again(&key, &payload)?;
            }
            Err(error) => return Err(error),
        }
        // The mark first, then the record: a listing of both is not of one moment everywhere, and
        // could show the record before it went and miss a mark that was tidied away since.
        if self.exists(&fence_key(&self.id))? || !self.exists(&session_key(&self.id))? {
            return Err(RepoError::Fenced(self.id));
        }
        let hash = self.repository.keys().snapshot_hash(&payload)?;
        Ok(SnapshotRecord { id: self.id, snapshot, note: None, hash })
    }

    fn exists(&self, key: &str) -> Result<bool, RepoError> {
        match self.repository.storage().stat(key) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn commit_again(&self, key: &str, payload: &[u8]) -> Result<(), RepoError> {
        if self.repository.read_object(ObjectType::Snapshot, key)?.as_deref() == Some(payload) {
            return Ok(());
        }
        self.repository.write_object(ObjectType::Snapshot, key, payload)
    }
}
