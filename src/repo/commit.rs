//! The commit of a session (W7, W8). Format: `format-spec/11-sessions.md#writer`.

use super::{RepoError, Session, SnapshotRecord};
use crate::format::envelope::ObjectType;
use crate::format::session::SessionObject;
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
        let sessions = self.repository.list_sessions()?;
        let here = sessions.contains(&SessionObject::Record(self.id));
        if !here || sessions.contains(&SessionObject::Fence(self.id)) {
            return Err(RepoError::Fenced(self.id));
        }
        let hash = self.repository.keys().snapshot_hash(&payload)?;
        Ok(SnapshotRecord { id: self.id, snapshot, note: None, hash })
    }

    fn commit_again(&self, key: &str, payload: &[u8]) -> Result<(), RepoError> {
        if self.repository.read_object(ObjectType::Snapshot, key)?.as_deref() == Some(payload) {
            return Ok(());
        }
        self.repository.write_object(ObjectType::Snapshot, key, payload)
    }
}
