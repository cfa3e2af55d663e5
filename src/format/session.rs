//! Sessions: writers at work. Format: `format-spec/11-sessions.md`.

use super::codec::{Put, Take};
use super::{FormatError, Result};
use crate::id::{ClientId, SnapshotId};
use crate::limits;
use crate::world::Time;

/// Key of a session record.
pub fn session_key(id: &SnapshotId) -> String {
    format!("sessions/{id}")
}

/// Key of the mark on a session that a prune no longer waits for.
pub fn fence_key(id: &SnapshotId) -> String {
    format!("sessions/{id}.fenced")
}

/// What lies under a key below `sessions/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionObject {
    /// The record itself.
    Record(SnapshotId),
    /// Its fence mark.
    Fence(SnapshotId),
}

/// From a key of a listing.
pub fn session_of_key(key: &str) -> Option<SessionObject> {
    let name = key.strip_prefix("sessions/")?;
    match name.strip_suffix(".fenced") {
        Some(name) => SnapshotId::from_hex(name).ok().map(SessionObject::Fence),
        None => SnapshotId::from_hex(name).ok().map(SessionObject::Record),
    }
}

/// What a session does. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Takes a snapshot.
    Backup = 0,
    /// Brings snapshots from another repository.
    Copy = 1,
    /// Writes a snapshot anew.
    Rewrite = 2,
    /// Copies live frames together for a prune; never commits.
    Repack = 3,
    /// Mends what is damaged; never commits.
    Repair = 4,
}

/// A session record, or a fence mark (then about the one who fenced).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The client.
    pub client: ClientId,
    /// The machine.
    pub host: String,
    /// The process.
    pub process: u32,
    /// When it began.
    pub time: Time,
    /// What it does.
    pub purpose: Purpose,
}

impl Session {
    /// The payload of the sealed object.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(self.client.as_bytes());
        out.put_bytes(self.host.as_bytes());
        out.put_varint(self.process.into());
        out.put_time(self.time);
        out.put_u8(self.purpose as u8);
        out
    }

    /// From the payload. Bytes after the fields known here are passed over.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let mut take = Take::new(payload);
        Ok(Self {
            client: ClientId(take.array("client")?),
            host: take.text(limits::TEXT_LEN_MAX, "host")?,
            process: take.varint32("process")?,
            time: take.time("time")?,
            purpose: match take.u8("purpose of a session")? {
                0 => Purpose::Backup,
                1 => Purpose::Copy,
                2 => Purpose::Rewrite,
                3 => Purpose::Repack,
                4 => Purpose::Repair,
                _ => return Err(FormatError::Bad("purpose of a session")),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let session = Session {
            client: ClientId([1; 16]),
            host: "h".into(),
            process: 77,
            time: Time::from_seconds(5),
            purpose: Purpose::Repack,
        };
        assert_eq!(Session::decode(&session.encode()), Ok(session));
    }

    #[test]
    fn keys_there_and_back() {
        let id = SnapshotId([7; 32]);
        assert_eq!(session_of_key(&session_key(&id)), Some(SessionObject::Record(id)));
        assert_eq!(session_of_key(&fence_key(&id)), Some(SessionObject::Fence(id)));
        assert_eq!(session_of_key("sessions/x"), None);
        assert_eq!(session_of_key(&format!("{}.other", session_key(&id))), None);
    }
}
