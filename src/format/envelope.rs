//! The envelope of every sealed object but frames. Format: `format-spec/04-envelope.md`.

use super::codec::{Put, Take};
use super::config::check_version;
use super::{FORMAT_VERSION, FormatError, Result};
use crate::id::RepositoryId;

/// First bytes of a sealed object.
pub const MAGIC: [u8; 4] = *b"HOLD";
/// Bytes of the header, before the ciphertext.
pub const HEADER_LEN: usize = 36;
/// Bytes of the authentication tag, after the ciphertext.
pub const TAG_LEN: usize = 16;

/// What a sealed object is. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectType {
    /// Trailer of a pack.
    Trailer = 1,
    /// Index segment.
    Segment = 2,
    /// Session record.
    Session = 3,
    /// Mark on a session that a prune no longer waits for.
    Fence = 4,
    /// Snapshot.
    Snapshot = 5,
    /// Note on a snapshot.
    Note = 6,
    /// Record of what was forgotten.
    Forgotten = 7,
    /// Plan of an epoch.
    Plan = 8,
    /// Sweep record of an epoch.
    Sweep = 9,
    /// End of an epoch.
    Done = 10,
    /// Record of damage to a pack.
    Damage = 11,
    /// Head of the parity of a pack.
    Parity = 12,
}

/// What stands in clear before the ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub kind: ObjectType,
    /// Generation of the key that it is sealed with.
    pub generation: u32,
    /// Nonce that it is sealed with.
    pub nonce: [u8; 24],
}

impl Header {
    /// The stored form.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.put_u8(self.kind as u8);
        out.put_u8(0);
        out.put_u16(FORMAT_VERSION);
        out.put_u32(self.generation);
        out.extend_from_slice(&self.nonce);
        out.try_into().expect("the fields have 36 bytes together")
    }

    /// From the front of an object that must be of this type; returns the rest as well.
    pub fn decode(object: &[u8], kind: ObjectType) -> Result<(Self, &[u8])> {
        let mut take = Take::new(object);
        if take.array("sealed object")? != MAGIC {
            return Err(FormatError::Magic("sealed object"));
        }
        let number = take.u8("object type")?;
        let reserved = take.u8("reserved byte")?;
        check_version(take.u16("format version")?)?;
        if number != kind as u8 {
            return Err(FormatError::Bad("object type"));
        }
        if reserved != 0 {
            return Err(FormatError::Bad("reserved byte"));
        }
        let generation = take.u32("key generation")?;
        let nonce = take.array("nonce")?;
        Ok((Self { kind, generation, nonce }, take.rest()))
    }

    /// The associated data: header, repository, and the key under which the object lies, so that
    /// no object can stand in another's place.
    pub fn associated(&self, repository: &RepositoryId, key: &str) -> Vec<u8> {
        let mut out = self.encode().to_vec();
        out.extend_from_slice(repository.as_bytes());
        out.extend_from_slice(key.as_bytes());
        out
    }
}

/// What a sealed thing of `len` bytes is padded to: lengths come in steps of 1/128 of their
/// power of two, and of 256 bytes at least.
pub fn padded_len(len: usize) -> usize {
    let power = usize::BITS - 1 - len.max(1).leading_zeros();
    let step = 1usize << power.saturating_sub(7).max(8);
    len.div_ceil(step) * step
}

/// The padded plaintext of a sealed object: length, payload, zeros.
pub fn pad(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(padded_len(payload.len() + 10));
    out.put_bytes(payload);
    out.resize(padded_len(out.len()), 0);
    out
}

/// The payload of a padded plaintext.
pub fn unpad(plain: &[u8]) -> Result<&[u8]> {
    let mut take = Take::new(plain);
    let payload = take.bytes(plain.len(), "payload")?;
    let used = plain.len() - take.rest().len();
    match plain.len() == padded_len(used) && take.rest().iter().all(|byte| *byte == 0) {
        true => Ok(payload),
        false => Err(FormatError::Bad("padding")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_there_and_back() {
        let header = Header { kind: ObjectType::Note, generation: 3, nonce: [9; 24] };
        let mut bytes = header.encode().to_vec();
        bytes.push(1);
        assert_eq!(Header::decode(&bytes, ObjectType::Note), Ok((header, &[1u8][..])));
        assert!(Header::decode(&bytes, ObjectType::Plan).is_err());
        assert!(Header::decode(&bytes[..35], ObjectType::Note).is_err());
    }

    #[test]
    fn padding_is_small_and_comes_off() {
        for len in [0usize, 1, 255, 256, 257, 32 << 10, (32 << 10) + 1, 1 << 20, 1_000_001] {
            let padded = padded_len(len);
            assert!(padded >= len && padded - len < 256.max(len / 64), "{len} {padded}");
            assert_eq!(padded_len(padded), padded, "{len}");
            let payload = vec![7u8; len];
            assert_eq!(unpad(&pad(&payload)), Ok(&payload[..]));
        }
        assert!(unpad(&[1, 2, 3]).is_err());
        assert!(unpad(&[200, 1]).is_err());
        let mut longer = pad(b"x");
        longer.resize(512, 0);
        assert_eq!(unpad(&longer), Err(FormatError::Bad("padding")));
        assert!(unpad(&[]).is_err());
    }
}
