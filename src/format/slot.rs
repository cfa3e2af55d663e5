//! Key slots: what one password, key file or recovery code opens. Format: `format-spec/03-keys.md`.

use super::codec::{Put, Take};
use super::config::check_version;
use super::{FORMAT_VERSION, FormatError, Result};
use crate::id::{RepositoryId, SlotId};
use crate::limits;
use crate::world::Time;

/// First bytes of a slot.
pub const MAGIC: [u8; 8] = *b"HOLDSLOT";
/// Bytes that wrapped key and bundle are bound to.
pub const HEAD_LEN: usize = 168;
/// Bytes of the wrapped key.
pub const WRAPPED_LEN: usize = 104;

/// Key of a slot.
pub fn slot_key(id: &SlotId) -> String {
    format!("keys/{id}")
}

/// What opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// A password, by argon2id with these costs: memory in KiB, passes, lanes.
    Password {
        /// Memory, KiB.
        memory_kib: u32,
        /// Passes.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// A key file.
    KeyFile,
    /// A recovery code.
    Recovery,
}

/// A slot as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The repository that it belongs to.
    pub repository: RepositoryId,
    /// Its name.
    pub id: SlotId,
    /// What opens it.
    pub kind: SlotKind,
    /// Salt of the derivation.
    pub salt: [u8; 32],
    /// By which the right secret is known.
    pub check: [u8; 16],
    /// X25519 public key of the slot.
    pub public: [u8; 32],
    /// Its secret key and the pin of the repository's keys, wrapped: nonce, ciphertext, tag.
    pub wrapped: [u8; WRAPPED_LEN],
    /// The repository's keys, sealed to the public key.
    pub bundle: Vec<u8>,
    /// What the slot says about itself, sealed with the repository's keys: nonce, ciphertext, tag.
    pub about: Vec<u8>,
}

impl Slot {
    /// All but `wrapped`, `bundle` and `about`: what the first two are bound to.
    pub fn encode_head(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.put_u16(FORMAT_VERSION);
        let (number, costs) = match self.kind {
            SlotKind::Password { memory_kib, passes, lanes } => (1, [memory_kib, passes, lanes]),
            SlotKind::KeyFile => (2, [0; 3]),
            SlotKind::Recovery => (3, [0; 3]),
        };
        out.put_u8(number);
        out.put_u8(0);
        out.extend_from_slice(self.repository.as_bytes());
        out.extend_from_slice(self.id.as_bytes());
        costs.iter().for_each(|cost| out.put_u32(*cost));
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.check);
        out.extend_from_slice(&self.public);
        out
    }

    /// All but `about`: what `about` is bound to, so that nobody without the repository's keys
    /// can put in a slot that looks like one of its own.
    pub fn encode_bound(&self) -> Vec<u8> {
        let mut out = self.encode_head();
        out.extend_from_slice(&self.wrapped);
        out.put_bytes(&self.bundle);
        out
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.encode_bound();
        out.put_bytes(&self.about);
        out
    }

    /// From the stored form.
    pub fn decode(object: &[u8]) -> Result<Self> {
        let mut take = Take::new(object);
        if take.array("key slot")? != MAGIC {
            return Err(FormatError::Magic("key slot"));
        }
        check_version(take.u16("format version")?)?;
        let number = take.u8("kind of key slot")?;
        if take.u8("reserved byte")? != 0 {
            return Err(FormatError::Bad("reserved byte"));
        }
        let repository = RepositoryId(take.array("repository id")?);
        let id = SlotId(take.array("slot id")?);
        let [memory_kib, passes, lanes] = [take.u32("cost")?, take.u32("cost")?, take.u32("cost")?];
        let kind = match number {
            1 => SlotKind::Password { memory_kib, passes, lanes },
            2 | 3 if [memory_kib, passes, lanes] != [0; 3] => {
                return Err(FormatError::Bad("cost"));
            }
            2 => SlotKind::KeyFile,
            3 => SlotKind::Recovery,
            found => {
                let found = found.into();
                return Err(FormatError::Newer { what: "kind of key slot", found, known: 3 });
            }
        };
        let salt = take.array("salt")?;
        let check = take.array("key check")?;
        let public = take.array("public key")?;
        let wrapped = take.array("wrapped key")?;
        let bundle = take.bytes(limits::SLOT_LEN_MAX, "bundle of keys")?.to_vec();
        let about = take.bytes(limits::SLOT_LEN_MAX, "slot's label")?.to_vec();
        take.finish("key slot")?;
        Ok(Self { repository, id, kind, salt, check, public, wrapped, bundle, about })
    }
}

/// What a slot says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotAbout {
    /// Given by a person.
    pub label: String,
    /// Where it was made.
    pub host: String,
    /// When it was made.
    pub created: Time,
    /// Which keys it gives: numbers of purposes, and generations. Empty where it does not say.
    pub keys: Vec<(u8, u32)>,
}

impl SlotAbout {
    /// The plaintext.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_bytes(self.label.as_bytes());
        out.put_bytes(self.host.as_bytes());
        out.put_time(self.created);
        // As many as a bundle has at most.
        out.put_u16(self.keys.len() as u16);
        for (purpose, generation) in &self.keys {
            out.put_u8(*purpose);
            out.put_u32(*generation);
        }
        out
    }

    /// From the plaintext. Bytes after the fields known here are passed over.
    pub fn decode(plain: &[u8]) -> Result<Self> {
        let mut take = Take::new(plain);
        let label = take.text(limits::TEXT_LEN_MAX, "label")?;
        let host = take.text(limits::TEXT_LEN_MAX, "host")?;
        let created = take.time("time of creation")?;
        // A slot that was made before slots said this has nothing here, or not this.
        let keys = decode_names(&mut take).unwrap_or_default();
        Ok(Self { label, host, created, keys })
    }
}

fn decode_names(take: &mut Take<'_>) -> Result<Vec<(u8, u32)>> {
    let count = take.u16("number of keys")?;
    (0..count).map(|_| Ok((take.u8("purpose")?, take.u32("generation")?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let password = SlotKind::Password { memory_kib: 65_536, passes: 3, lanes: 1 };
        for kind in [password, SlotKind::KeyFile, SlotKind::Recovery] {
            let slot = Slot {
                repository: RepositoryId([1; 32]),
                id: SlotId([2; 32]),
                kind,
                salt: [3; 32],
                check: [4; 16],
                public: [5; 32],
                wrapped: [6; WRAPPED_LEN],
                bundle: vec![7; 300],
                about: vec![8; 60],
            };
            assert_eq!(slot.encode_head().len(), HEAD_LEN);
            let bytes = slot.encode();
            assert_eq!(Slot::decode(&bytes), Ok(slot));
            (0..bytes.len()).for_each(|n| assert!(Slot::decode(&bytes[..n]).is_err(), "{n}"));
            // Only passwords cost anything.
            let mut costly = bytes.clone();
            costly[76] = 1;
            assert_eq!(Slot::decode(&costly).is_ok(), kind == password);
        }
        let keys = vec![(1, 0), (3, 7)];
        let about =
            SlotAbout { label: "paper".into(), host: "h".into(), keys, ..Default::default() };
        let plain = about.encode();
        assert_eq!(SlotAbout::decode(&plain), Ok(about.clone()));
        // An older one says nothing of its keys.
        let older = SlotAbout { keys: Vec::new(), ..about };
        assert_eq!(SlotAbout::decode(&plain[..plain.len() - 12]), Ok(older));
    }
}
