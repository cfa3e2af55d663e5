//! Sealed objects: an envelope put on and taken off, with the key that the object's type asks for.
//!
//! Format: `format-spec/04-envelope.md`.

use crate::crypto::{CryptoError, KeyRing, Purpose, TAG_LEN, open_in_place, seal_in_place};
use crate::format::FormatError;
use crate::format::envelope::{HEADER_LEN, Header, ObjectType, pad, unpad};
use crate::id::RepositoryId;
use crate::world::{World, random};

/// Why an object does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Its bytes are not well formed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// It was changed, moved, or sealed with a key that is not at hand.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Its bytes cannot be had where it lies: a bad sector, or no regular file.
    #[error("it cannot be read whole")]
    Unreadable,
}

impl ObjectError {
    /// Whether the object may well be whole: it asks for a key or a format that is not known here,
    /// as what others wrote after a rotation does. Nothing may be removed for that.
    pub fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::Format(FormatError::Newer { .. }) | Self::Crypto(CryptoError::Missing { .. })
        )
    }
}

/// What sealed objects of one repository are sealed and opened with.
#[derive(Debug)]
pub struct Sealer {
    /// The repository's keys, as far as they are given.
    pub keys: KeyRing,
    /// The repository.
    pub repository: RepositoryId,
}

fn purpose(kind: ObjectType) -> Purpose {
    match kind {
        ObjectType::Trailer | ObjectType::Segment | ObjectType::Damage | ObjectType::Parity => {
            Purpose::Index
        }
        ObjectType::Session
        | ObjectType::Fence
        | ObjectType::Snapshot
        | ObjectType::Note
        | ObjectType::Forgotten => Purpose::Snapshot,
        ObjectType::Plan | ObjectType::Sweep | ObjectType::Done => Purpose::Prune,
    }
}

impl Sealer {
    /// Seals a payload as the object that will lie under `key`. What was sealed is opened again
    /// and compared before anyone relies on it.
    pub fn seal(
        &self,
        world: &dyn World,
        kind: ObjectType,
        key: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, ObjectError> {
        let (generation, secret) = self.keys.newest(purpose(kind))?;
        let header = Header { kind, generation, nonce: random(world) };
        let mut object = header.encode().to_vec();
        object.extend_from_slice(&pad(payload));
        let associated = header.associated(&self.repository, key);
        let tag = seal_in_place(secret, &header.nonce, &associated, &mut object[HEADER_LEN..]);
        object.extend_from_slice(&tag);
        match self.open(kind, key, object.clone())? == payload {
            true => Ok(object),
            false => Err(CryptoError::Tag.into()),
        }
    }

    /// The payload of an object that was read from under `key`.
    pub fn open(
        &self,
        kind: ObjectType,
        key: &str,
        mut object: Vec<u8>,
    ) -> Result<Vec<u8>, ObjectError> {
        let (header, rest) = Header::decode(&object, kind)?;
        let (_, tag) = rest
            .split_last_chunk::<TAG_LEN>()
            .ok_or(FormatError::Truncated("authentication tag"))?;
        let tag = *tag;
        let secret = self.keys.get(purpose(kind), header.generation)?;
        let associated = header.associated(&self.repository, key);
        let end = object.len() - TAG_LEN;
        let body = &mut object[HEADER_LEN..end];
        open_in_place(secret, &header.nonce, &associated, body, &tag)?;
        Ok(unpad(body)?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{SeededWorld, Time};

    fn sealer(seed: u64) -> Sealer {
        let keys = KeyRing::generate(&SeededWorld::new(seed, Time::default()));
        Sealer { keys, repository: RepositoryId([1; 32]) }
    }

    #[test]
    fn objects_open_in_their_own_place_only() {
        let world = SeededWorld::new(2, Time::default());
        let sealer = sealer(1);
        let object = sealer.seal(&world, ObjectType::Note, "notes/a", b"payload").unwrap();
        let open = |kind, key: &str, object: &[u8]| sealer.open(kind, key, object.to_vec());
        assert_eq!(open(ObjectType::Note, "notes/a", &object), Ok(b"payload".to_vec()));
        assert!(open(ObjectType::Note, "notes/b", &object).is_err());
        assert!(open(ObjectType::Snapshot, "notes/a", &object).is_err());
        let other = Sealer { keys: sealer.keys.clone(), repository: RepositoryId([2; 32]) };
        assert!(other.open(ObjectType::Note, "notes/a", object.clone()).is_err());
        for at in 0..object.len() {
            let mut flipped = object.clone();
            flipped[at] ^= 1;
            assert!(open(ObjectType::Note, "notes/a", &flipped).is_err(), "byte {at}");
            assert!(open(ObjectType::Note, "notes/a", &object[..at]).is_err(), "length {at}");
        }
    }
}
