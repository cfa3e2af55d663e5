//! The keys of a repository, by purpose and generation.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::seal::public_key;
use super::{CryptoError, Key, NONCE_LEN, TAG_LEN, open_in_place, seal_in_place};
use crate::id::ChunkId;
use crate::limits;
use crate::world::{World, random};

/// What a key of the repository is for. The numbers are those of the stored bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Ids of chunks. One generation only: changing it would end deduplication.
    ChunkId = 1,
    /// The chunker's table. One generation only.
    Chunker = 2,
    /// X25519 secret of those who read file contents.
    Data = 3,
    /// X25519 secret of those who read trees.
    Tree = 4,
    /// Trailers of packs and index segments.
    Index = 5,
    /// Snapshots, notes, sessions, records of forgetting.
    Snapshot = 6,
    /// Epochs.
    Prune = 7,
    /// The configuration's authentication, what slots say about themselves. One generation only.
    Config = 8,
}

impl Purpose {
    const ALL: [Self; 8] = [
        Self::ChunkId,
        Self::Chunker,
        Self::Data,
        Self::Tree,
        Self::Index,
        Self::Snapshot,
        Self::Prune,
        Self::Config,
    ];
    /// Those of which a rotation makes a new key.
    const ROTATED: [Self; 5] = [Self::Data, Self::Tree, Self::Index, Self::Snapshot, Self::Prune];
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChunkId => "chunk ids",
            Self::Chunker => "chunking",
            Self::Data => "file contents",
            Self::Tree => "trees",
            Self::Index => "the index",
            Self::Snapshot => "snapshots",
            Self::Prune => "prune",
            Self::Config => "the configuration",
        })
    }
}

/// Bytes of one key in a bundle: purpose, generation, key.
const BUNDLE_ENTRY_LEN: usize = 1 + 4 + 32;
/// The entry of a bundle that is no key: its generation is the greatest one to seal with.
const SEALING_MARK: u8 = 9;
/// A rotation goes on by one at least, and by less than this: two at the same time take different
/// numbers, and there are enough for as many rotations as a slot has room for.
const GENERATION_STEP_MAX: u32 = 1 << 23;

/// The keys that a slot gives. A slot for a narrower role gives fewer.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: BTreeMap<(Purpose, u32), Key>,
    /// Greater generations only open; `None` where every one seals.
    sealing: Option<u32>,
    data_ids: Option<Key>,
    tree_ids: Option<Key>,
}

impl KeyRing {
    /// Fresh keys for a new repository: every purpose, generation 0.
    pub fn generate(world: &dyn World) -> Self {
        Self::from_keys(Purpose::ALL.map(|p| ((p, 0), Key(random(world)))).into())
    }

    /// Fresh keys for a repository of the same family: chunk ids and cuts are the same, so that
    /// what one has need not be stored again by the other, and so are the readers of its frames.
    pub fn generate_relative(&self, world: &dyn World) -> Self {
        let shared = [Purpose::ChunkId, Purpose::Chunker, Purpose::Data, Purpose::Tree];
        let mut keys = Self::generate(world).keys;
        keys.retain(|(purpose, _), _| !shared.contains(purpose));
        keys.extend(
            self.keys.iter().filter(|((p, _), _)| shared.contains(p)).map(|(k, v)| (*k, v.clone())),
        );
        Self::from_keys(keys)
    }

    fn from_keys(keys: BTreeMap<(Purpose, u32), Key>) -> Self {
        let ids = keys.get(&(Purpose::ChunkId, 0));
        let data_ids = ids.map(|key| key.derive("holdall 1 ids of data chunks"));
        let tree_ids = ids.map(|key| key.derive("holdall 1 ids of tree chunks"));
        Self { keys, sealing: None, data_ids, tree_ids }
    }

    /// The same keys with a fresh generation, which only opens until it is settled: a slot may
    /// not have it yet.
    pub fn rotated(&self, world: &dyn World) -> Result<(Self, u32), CryptoError> {
        let last = self.keys.keys().map(|(_, generation)| *generation).max().unwrap_or(0);
        let step = 1 + u32::from_le_bytes(random(world)) % GENERATION_STEP_MAX;
        let generation = last.checked_add(step).ok_or(CryptoError::Bundle)?;
        let mut keys = self.keys.clone();
        for purpose in Purpose::ROTATED {
            if self.newest(purpose).is_ok() {
                keys.insert((purpose, generation), Key(random(world)));
            }
        }
        let sealing = Some(self.sealing());
        Ok((Self { sealing, ..Self::from_keys(keys) }, generation))
    }

    /// From now on a generation seals.
    pub fn settle(&mut self, generation: u32) {
        self.sealing = Some(self.sealing().max(generation));
    }

    /// The greatest generation that seals.
    fn sealing(&self) -> u32 {
        let greatest = || self.keys.keys().map(|(_, generation)| *generation).max();
        self.sealing.or_else(greatest).unwrap_or(0)
    }

    /// The keys of several objects of one slot: what any of them has, and the greatest generation
    /// that one of them seals with, since every slot has that.
    pub fn join(self, other: Self) -> Self {
        let sealing = Some(self.sealing().max(other.sealing()));
        let mut keys = other.keys;
        keys.extend(self.keys);
        Self { sealing, ..Self::from_keys(keys) }
    }

    /// Which keys these are: numbers of purposes, and generations.
    pub fn names(&self) -> Vec<(u8, u32)> {
        self.keys.keys().map(|(purpose, generation)| (*purpose as u8, *generation)).collect()
    }

    /// Whether all of these keys are among them.
    pub fn has_all(&self, names: &[(u8, u32)]) -> bool {
        let mine = self.names();
        names.iter().all(|name| mine.binary_search(name).is_ok())
    }

    /// Whether, of each purpose that occurs, the key to seal with is among these.
    pub fn newest_are_among(&self, names: &[(u8, u32)]) -> bool {
        Purpose::ALL.into_iter().filter(|p| names.iter().any(|name| name.0 == *p as u8)).all(|p| {
            self.newest(p).is_ok_and(|(generation, _)| names.contains(&(p as u8, generation)))
        })
    }

    /// The keys of some purposes only: what a slot for a narrower role gives.
    pub fn of_purposes(&self, is_given: impl Fn(u8) -> bool) -> Self {
        let mut keys = self.keys.clone();
        keys.retain(|(purpose, _), _| is_given(*purpose as u8));
        Self { sealing: self.sealing, ..Self::from_keys(keys) }
    }

    /// The form in which a slot stores the keys: 37 bytes each, ordered.
    pub fn to_bundle(&self) -> Zeroizing<Vec<u8>> {
        let mut bundle =
            Zeroizing::new(Vec::with_capacity((self.keys.len() + 1) * BUNDLE_ENTRY_LEN));
        for ((purpose, generation), key) in &self.keys {
            bundle.push(*purpose as u8);
            bundle.extend_from_slice(&generation.to_le_bytes());
            bundle.extend_from_slice(&key.0);
        }
        if let Some(generation) = self.sealing {
            bundle.push(SEALING_MARK);
            bundle.extend_from_slice(&generation.to_le_bytes());
            bundle.extend_from_slice(&[0; 32]);
        }
        bundle
    }

    /// The keys of a stored bundle. Purposes that are not known here are passed over.
    pub fn from_bundle(bundle: &[u8]) -> Result<Self, CryptoError> {
        let entries = bundle.chunks_exact(BUNDLE_ENTRY_LEN);
        if !entries.remainder().is_empty() || entries.len() > limits::BUNDLE_KEYS_MAX {
            return Err(CryptoError::Bundle);
        }
        let mut keys = BTreeMap::new();
        let mut sealing = None;
        let mut before = None;
        for entry in entries {
            let (number, rest) = entry.split_first().ok_or(CryptoError::Bundle)?;
            let (generation, key) = rest.split_first_chunk().ok_or(CryptoError::Bundle)?;
            let place = (*number, u32::from_le_bytes(*generation));
            if before.replace(place).is_some_and(|before| before >= place) {
                return Err(CryptoError::Bundle);
            }
            let key = Key(key.try_into().map_err(|_| CryptoError::Bundle)?);
            if let Some(purpose) = Purpose::ALL.into_iter().find(|p| *p as u8 == *number) {
                keys.insert((purpose, place.1), key);
            } else if *number == SEALING_MARK {
                sealing = Some(place.1);
            }
        }
        Ok(Self { sealing, ..Self::from_keys(keys) })
    }

    /// How many keys there are, of all purposes and generations.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The newest generation of a purpose that every slot has, which is the one to seal with.
    pub fn newest(&self, purpose: Purpose) -> Result<(u32, &Key), CryptoError> {
        self.keys
            .range((purpose, 0)..=(purpose, self.sealing.unwrap_or(u32::MAX)))
            .next_back()
            .map(|((_, generation), key)| (*generation, key))
            .ok_or(CryptoError::Missing { purpose, generation: 0 })
    }

    /// The key of a purpose and generation.
    pub fn get(&self, purpose: Purpose, generation: u32) -> Result<&Key, CryptoError> {
        self.keys.get(&(purpose, generation)).ok_or(CryptoError::Missing { purpose, generation })
    }

    /// Public key of the newest generation of readers of file contents or of trees.
    pub fn reader(&self, purpose: Purpose) -> Result<(u32, [u8; 32]), CryptoError> {
        let (generation, secret) = self.newest(purpose)?;
        Ok((generation, public_key(secret)))
    }

    /// Id of a chunk of file contents.
    pub fn data_id(&self, plain: &[u8]) -> ChunkId {
        keyed_id(&self.data_ids, plain)
    }

    /// Id of a chunk of entries or references.
    pub fn tree_id(&self, plain: &[u8]) -> ChunkId {
        keyed_id(&self.tree_ids, plain)
    }

    /// Whether chunks can be named and cut with these keys, as every use of the repository needs.
    pub fn is_usable(&self) -> bool {
        self.data_ids.is_some() && self.keys.contains_key(&(Purpose::Chunker, 0))
    }

    /// 256 random numbers for the chunker, from its key. `format-spec/06-chunking.md#gear-table`
    pub fn gear_table(&self) -> Result<Box<[u64; 256]>, CryptoError> {
        let key = self.get(Purpose::Chunker, 0)?;
        let mut bytes = Zeroizing::new([0u8; 256 * 8]);
        blake3::Hasher::new_derive_key("holdall 1 gear table")
            .update(&key.0)
            .finalize_xof()
            .fill(bytes.as_mut_slice());
        let mut table = Box::new([0u64; 256]);
        for (number, bytes) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *number = u64::from_le_bytes(*bytes);
        }
        Ok(table)
    }

    /// Keyed BLAKE3 that authenticates the configuration.
    pub fn config_mac(&self, bytes: &[u8]) -> Result<[u8; 32], CryptoError> {
        let key = self.get(Purpose::Config, 0)?.derive("holdall 1 authentication of config");
        Ok(*blake3::keyed_hash(&key.0, bytes).as_bytes())
    }

    /// Keyed BLAKE3 by which a snapshot names the one before it in its line.
    pub fn snapshot_hash(&self, payload: &[u8]) -> Result<[u8; 32], CryptoError> {
        let key = self.get(Purpose::Config, 0)?.derive("holdall 1 line of snapshots");
        Ok(*blake3::keyed_hash(&key.0, payload).as_bytes())
    }

    /// By which a slot knows the bundle of keys that it was made for. `format-spec/03-keys.md#pin`
    pub(super) fn pin(&self) -> Result<Key, CryptoError> {
        Ok(self.get(Purpose::Config, 0)?.derive("holdall 1 pin of a slot's keys"))
    }

    /// Seals what a slot says about itself: nonce, ciphertext, tag. `bound` is the slot before it.
    pub fn seal_about(
        &self,
        world: &dyn World,
        bound: &[u8],
        about: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let nonce: [u8; NONCE_LEN] = random(world);
        let mut sealed = [&nonce, about].concat();
        let tag = seal_in_place(&self.about_key()?, &nonce, bound, &mut sealed[NONCE_LEN..]);
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens what a slot says about itself.
    pub fn open_about(&self, bound: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(CryptoError::Tag)?;
        let (content, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(CryptoError::Tag)?;
        let mut about = content.to_vec();
        open_in_place(&self.about_key()?, nonce, bound, &mut about, tag)?;
        Ok(about)
    }

    fn about_key(&self) -> Result<Key, CryptoError> {
        Ok(self.get(Purpose::Config, 0)?.derive("holdall 1 what a slot says"))
    }
}

fn keyed_id(key: &Option<Key>, plain: &[u8]) -> ChunkId {
    let key = key.as_ref().expect("a repository is opened only with usable keys");
    ChunkId(*blake3::keyed_hash(&key.0, plain).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{SeededWorld, Time};

    #[test]
    fn bundles_there_and_back() {
        let ring = KeyRing::generate(&SeededWorld::new(1, Time::default()));
        let bundle = ring.to_bundle();
        let again = KeyRing::from_bundle(&bundle).unwrap();
        assert_eq!(again.to_bundle(), bundle);
        assert_eq!(again.data_id(b"x"), ring.data_id(b"x"));
        assert_ne!(ring.data_id(b"x"), ring.tree_id(b"x"));
        assert!(again.is_usable() && !KeyRing::from_bundle(&[]).unwrap().is_usable());
        assert!(KeyRing::from_bundle(&bundle[1..]).is_err());
        let twice = [&bundle[..37], &bundle[..37]].concat();
        assert!(KeyRing::from_bundle(&twice).is_err());
    }

    #[test]
    fn what_slots_say_opens_behind_its_own_slot_only() {
        let world = SeededWorld::new(1, Time::default());
        let (ring, other) = (KeyRing::generate(&world), KeyRing::generate(&world));
        let sealed = ring.seal_about(&world, b"slot", b"about").unwrap();
        assert_eq!(ring.open_about(b"slot", &sealed), Ok(b"about".to_vec()));
        assert_eq!(ring.open_about(b"tols", &sealed), Err(CryptoError::Tag));
        assert_eq!(other.open_about(b"slot", &sealed), Err(CryptoError::Tag));
        assert_eq!(ring.open_about(b"slot", &sealed[..39]), Err(CryptoError::Tag));
    }

    #[test]
    fn relatives_share_ids_and_cuts_but_no_object_keys() {
        let world = SeededWorld::new(1, Time::default());
        let ring = KeyRing::generate(&world);
        let relative = ring.generate_relative(&world);
        assert_eq!(ring.data_id(b"x"), relative.data_id(b"x"));
        assert_eq!(ring.gear_table(), relative.gear_table());
        assert_ne!(ring.newest(Purpose::Snapshot), relative.newest(Purpose::Snapshot));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let ring = KeyRing::generate(&SeededWorld::new(1, Time::default()));
        let printed = format!("{ring:?}");
        assert!(printed.contains("Key(secret)") && !printed.contains("Key(["), "{printed}");
    }
}
