//! Rotation: new keys for everything that is written from now on, in every slot, without any
//! slot's secret. Format: `format-spec/03-keys.md#rotation`.
//!
//! Two rounds over all slots. After the first one every slot has the new keys, and still seals
//! with the old ones; the second one tells each to seal with the new ones. Whoever opens any slot
//! between any two steps seals with keys that all slots have.

use std::collections::BTreeMap;

use super::copies::{delete_twice, put_twice};
use super::slots::{Found, leave_room};
use super::{RepoError, Repository};
use crate::crypto::{CryptoError, KeyRing, seal_to_slot};
use crate::format::FormatError;
use crate::format::slot::{Slot, SlotAbout, slot_key};
use crate::id::SlotId;
use crate::limits;
use crate::object::{ObjectError, Sealer};
use crate::world::random;

/// What a rotation came to.
#[derive(Debug)]
pub struct Rotation {
    /// The repository with the new keys; who opened it before goes on with the old ones.
    pub repository: Repository,
    /// So many slots have them.
    pub slot_count: usize,
    /// Somebody else rotated at the same time. Each slot has both generations, and whoever opens
    /// one from now on knows both; this repository does not know the other one's.
    pub is_shared: bool,
}

/// The objects of each slot, by the head that they have in common.
type Heads = BTreeMap<Vec<u8>, Vec<Found>>;

impl Repository {
    /// Gives every slot a new generation of keys, which seals from now on. One that was
    /// interrupted leaves every slot usable, and the next one cleans up after it.
    ///
    /// # Errors
    /// `Object` when an object under `keys/` is no slot of this repository, nor is its copy: it may
    /// be a damaged one of somebody who would be shut out.
    pub fn rotate(&self) -> Result<Rotation, RepoError> {
        let (mut keys, generation) = self.keys().rotated(self.world())?;
        self.give_to_all(&keys)?;
        keys.settle(generation);
        let heads = self.heads()?;
        for found in heads.values() {
            if !self.store_again(found, &keys)? {
                continue;
            }
            for old in found.iter().filter(|old| keys.has_all(&old.about.keys)) {
                delete_twice(self.storage(), &slot_key(&old.name))?;
            }
        }
        let mut found = heads.values().flatten();
        let is_shared = found.any(|found| !keys.has_all(&found.about.keys));
        let sealer = Sealer { keys, repository: self.config.repository };
        Ok(Rotation { repository: self.with_sealer(sealer), slot_count: heads.len(), is_shared })
    }

    /// The first round, until a look at all slots finds none that lacks a key.
    fn give_to_all(&self, keys: &KeyRing) -> Result<(), RepoError> {
        loop {
            let heads = self.heads()?;
            let is_lacking = |found: &&Vec<Found>| !found.iter().any(|f| gives_all(f, keys));
            let lacking: Vec<&Vec<Found>> = heads.values().filter(is_lacking).collect();
            if lacking.is_empty() {
                return Ok(());
            }
            // Twice as many objects as slots, and one that is stored before others go.
            let count: usize = heads.values().map(Vec::len).sum();
            leave_room((count + lacking.len() + 1) as u64)?;
            for found in lacking {
                self.store_again(found, keys)?;
            }
        }
    }

    fn heads(&self) -> Result<Heads, RepoError> {
        let (found, strange) = self.read_slots()?;
        if let Some((name, source)) = strange.into_iter().next() {
            return Err(RepoError::Object { key: slot_key(&name), source });
        }
        let mut heads = Heads::new();
        for found in found {
            heads.entry(found.slot.encode_head()).or_default().push(found);
        }
        match heads.is_empty() {
            true => Err(CryptoError::Changed.into()),
            false => Ok(heads),
        }
    }

    /// Stores a slot again under a fresh name, with these keys as far as its role goes. `false`:
    /// it was removed, or replaced, since it was found.
    fn store_again(&self, found: &[Found], keys: &KeyRing) -> Result<bool, RepoError> {
        let Some(Found { slot, about, .. }) = found.first() else { return Ok(false) };
        let keys = given(about, keys);
        let mut slot = Slot { bundle: Vec::new(), about: Vec::new(), ..slot.clone() };
        let bundle = keys.to_bundle();
        slot.bundle = seal_to_slot(self.world(), &slot.public, &slot.encode_head(), &bundle);
        let about = SlotAbout { keys: keys.names(), ..about.clone() };
        slot.about = self.keys().seal_about(self.world(), &slot.encode_bound(), &about.encode())?;
        let object = slot.encode();
        let limit = limits::SLOT_LEN_MAX as u64;
        if object.len() as u64 > limit {
            let (what, found) = ("length of a key slot", object.len() as u64);
            return Err(RepoError::TooMuch(FormatError::TooLarge { what, found, limit }));
        }
        // Looked at again before anyone relies on it.
        let name = SlotId(random(self.world()));
        let key = slot_key(&name);
        let damaged = |source: ObjectError| RepoError::Object { key: key.clone(), source };
        let again = Slot::decode(&object).map_err(|error| damaged(error.into()))?;
        if again != slot {
            return Err(damaged(CryptoError::Bundle.into()));
        }
        put_twice(self.storage(), &key, &object)?;
        // Who removes a slot looks after it whether it is gone: either this object is seen there,
        // or it is seen here that the others are gone.
        for found in found {
            match self.storage().stat(&found.shelf.key(&found.name)) {
                Ok(_) => return Ok(true),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        delete_twice(self.storage(), &key)?;
        Ok(false)
    }
}

/// The keys that a slot is to give: of all purposes, unless it says that its role is narrower.
fn given(about: &SlotAbout, keys: &KeyRing) -> KeyRing {
    let names = &about.keys;
    keys.of_purposes(|purpose| names.is_empty() || names.iter().any(|(of, _)| *of == purpose))
}

fn gives_all(found: &Found, keys: &KeyRing) -> bool {
    let wanted = given(&found.about, keys).names();
    wanted.iter().all(|name| found.about.keys.contains(name))
}
