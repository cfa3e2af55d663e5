//! Key slots: adding, listing, removing. Format: `format-spec/03-keys.md`.

use super::{Environment, RepoError, Repository, unlock};
use crate::crypto::{
    CryptoError, KeyRing, PasswordCost, Secret, SlotKey, WRAPPED_LEN, seal_to_slot,
};
use crate::format::FormatError;
use crate::format::slot::{Slot, SlotAbout, SlotKind, slot_key};
use crate::id::SlotId;
use crate::limits;
use crate::object::{ObjectError, Sealer};
use crate::storage::Storage;
use crate::world::{World, random};

/// A slot to be made.
#[derive(Debug, Clone)]
pub struct NewSlot {
    /// What will open it.
    pub secret: Secret,
    /// Cost of guessing, where the secret is a password.
    pub cost: PasswordCost,
    /// What to call it.
    pub label: String,
}

/// A slot that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRecord {
    /// Its name.
    pub id: SlotId,
    /// What opens it.
    pub kind: SlotKind,
    /// What it says about itself.
    pub about: SlotAbout,
}

impl Repository {
    /// Adds a slot; any that is there stays.
    pub fn add_slot(&self, slot: &NewSlot) -> Result<SlotId, RepoError> {
        let (found, limit) = (names(self.storage())?.len() as u64 + 1, limits::SLOTS_MAX as u64);
        if found > limit {
            let what = "number of key slots";
            return Err(RepoError::TooMuch(FormatError::TooLarge { what, found, limit }));
        }
        store(self.storage(), self.world(), self.sealer(), self.environment(), slot)
    }

    /// Every slot that belongs to this repository. One that does not open to the repository's
    /// own keys was put there by somebody else, and is an error.
    pub fn slots(&self) -> Result<Vec<SlotRecord>, RepoError> {
        let mut records = Vec::new();
        for name in names(self.storage())? {
            let Some((key, slot)) = read(self.storage(), &name)? else { continue };
            let about = slot
                .and_then(|slot| open_about(&self.sealer().keys, &slot).map(|about| (slot, about)));
            let (slot, about) = about.map_err(|source| RepoError::Object { key, source })?;
            records.push(SlotRecord { id: slot.id, kind: slot.kind, about });
        }
        records.sort_by_key(|record| (record.about.created, record.id));
        // While keys are rotated a slot is there twice.
        records.dedup_by_key(|record| record.id);
        Ok(records)
    }

    /// Removes a slot, unless it is the only one.
    pub fn remove_slot(&self, id: &SlotId) -> Result<(), RepoError> {
        if self.slots()?.iter().all(|slot| slot.id == *id) {
            return Err(CryptoError::LastSlot.into());
        }
        for name in names(self.storage())? {
            let Some((key, slot)) = read(self.storage(), &name)? else { continue };
            if slot.is_ok_and(|slot| slot.id == *id) {
                self.storage().delete(&key)?;
            }
        }
        Ok(())
    }
}

/// Makes a slot and stores it.
pub(super) fn store(
    storage: &dyn Storage,
    world: &dyn World,
    sealer: &Sealer,
    environment: &Environment,
    new: &NewSlot,
) -> Result<SlotId, RepoError> {
    let cost = new.cost;
    let kind = match new.secret {
        Secret::Password(_) => SlotKind::Password {
            memory_kib: cost.memory_kib,
            passes: cost.passes,
            lanes: cost.lanes,
        },
        Secret::KeyFile(_) => SlotKind::KeyFile,
        Secret::Recovery(_) => SlotKind::Recovery,
    };
    let salt = random(world);
    let key = SlotKey::derive(&new.secret, &salt, Some(cost))?;
    let mut slot = Slot {
        repository: sealer.repository,
        id: SlotId(random(world)),
        kind,
        salt,
        check: key.check(),
        public: [0; 32],
        wrapped: [0; WRAPPED_LEN],
        bundle: Vec::new(),
        about: Vec::new(),
    };
    let (public, wrapped) = key.wrap_fresh(world, &sealer.keys, &|public| {
        let mut head = slot.clone();
        head.public = *public;
        head.encode_head()
    })?;
    slot.public = public;
    slot.wrapped = wrapped;
    let bundle = sealer.keys.to_bundle();
    slot.bundle = seal_to_slot(world, &slot.public, &slot.encode_head(), &bundle);
    let about = SlotAbout {
        label: new.label.clone(),
        host: environment.host.clone(),
        created: world.now(),
    };
    slot.about = sealer.keys.seal_about(world, &slot.encode_bound(), &about.encode())?;
    // Read back what was made before anyone relies on it.
    let object = slot.encode();
    let again = Slot::decode(&object).map_err(|_| CryptoError::Bundle)?;
    unlock::open_newest(&[&again], &new.secret)?;
    storage.put(&slot_key(&slot.id), &[&object])?;
    Ok(slot.id)
}

fn open_about(keys: &KeyRing, slot: &Slot) -> Result<SlotAbout, ObjectError> {
    Ok(SlotAbout::decode(&keys.open_about(&slot.encode_bound(), &slot.about)?)?)
}

/// Names of the objects that may be slots, in order.
pub(super) fn names(storage: &dyn Storage) -> Result<Vec<SlotId>, RepoError> {
    let mut names = Vec::new();
    storage.list("keys/", &mut |listed| {
        let name = listed.key.strip_prefix("keys/").map(SlotId::from_hex);
        names.extend(name.and_then(Result::ok));
    })?;
    names.sort();
    Ok(names)
}

/// A slot with its key; a damaged one comes with what is wrong.
pub(super) type ReadSlot = (String, Result<Slot, ObjectError>);

/// The object of a name; `None` where it is gone again.
pub(super) fn read(storage: &dyn Storage, name: &SlotId) -> Result<Option<ReadSlot>, RepoError> {
    let key = slot_key(name);
    match storage.get(&key, limits::SLOT_LEN_MAX as u64) {
        Ok(object) => Ok(Some((key, Slot::decode(&object).map_err(ObjectError::from)))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::crypto::KeyFile;
    use crate::id::ClientId;
    use crate::repo::CreateOptions;
    use crate::storage::memory::MemoryStorage;
    use crate::world::{SeededWorld, Time};

    fn environment(cache: &Path) -> Environment {
        Environment {
            cache: cache.into(),
            client: ClientId([1; 16]),
            host: "host".into(),
            user: "user".into(),
            process: 1,
            threads: 1,
        }
    }

    fn slot(world: &dyn World, label: &str) -> NewSlot {
        let secret = Secret::KeyFile(KeyFile::generate(world));
        NewSlot { secret, cost: PasswordCost::LOWEST, label: label.into() }
    }

    /// A rotation that was interrupted leaves the slot there twice, the newer under another name.
    #[test]
    fn a_slot_opens_under_any_name_and_is_removed_under_all() {
        let cache = tempfile::tempdir().unwrap();
        let environment = || environment(cache.path());
        let world = Arc::new(SeededWorld::new(1, Time::default()));
        let storage = Arc::new(MemoryStorage::new());
        let [one, two] = ["one", "two"].map(|label| slot(&*world, label));
        let slots = [one.clone(), two];
        let options = CreateOptions::default();
        let repository = Repository::create(
            storage.clone(),
            world.clone(),
            environment(),
            &options,
            &slots,
            None,
        )
        .unwrap();
        let found = repository.slots().unwrap();
        let first = found.iter().find(|slot| slot.about.label == "one").unwrap();
        let object = storage.get(&slot_key(&first.id), limits::SLOT_LEN_MAX as u64).unwrap();
        storage.put(&slot_key(&SlotId([9; 32])), &[&object]).unwrap();
        assert_eq!(repository.slots().unwrap().len(), 2);
        storage.delete(&slot_key(&first.id)).unwrap();
        Repository::open(storage.clone(), world, environment(), std::slice::from_ref(&one.secret))
            .unwrap();
        storage.put(&slot_key(&first.id), &[&object]).unwrap();
        repository.remove_slot(&first.id).unwrap();
        let mut left = 0;
        storage.list("keys/", &mut |_| left += 1).unwrap();
        assert_eq!(left, 1);
        let last = repository.slots().unwrap()[0].id;
        assert!(repository.remove_slot(&last).is_err());
        for name in 0..255 {
            storage.put(&slot_key(&SlotId([name; 32])), &[b"no slot"]).unwrap();
        }
        let refused = repository.add_slot(&one);
        assert!(matches!(refused, Err(RepoError::TooMuch(_))));
    }
}
