//! Key slots: adding, listing, removing. Format: `format-spec/03-keys.md`.

use std::collections::HashMap;

use super::copies::{delete_twice, put_twice};
use super::{Environment, RepoError, Repository, unlock};
use crate::crypto::{
    CryptoError, KeyRing, PasswordCost, Secret, SlotKey, WRAPPED_LEN, seal_to_slot,
};
use crate::format::FormatError;
use crate::format::copies::copy_key;
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
    /// Whether it gives all keys that are used now; `None` where it does not say.
    pub is_current: Option<bool>,
}

impl Repository {
    /// Adds a slot; any that is there stays.
    pub fn add_slot(&self, slot: &NewSlot) -> Result<SlotId, RepoError> {
        leave_room(names(self.storage(), Shelf::Originals)?.len() as u64 + 1)?;
        let id = store(self.storage(), self.world(), self.sealer(), self.environment(), slot)?;
        // Either a rotation that is at work sees the new slot when it looks for the last time
        // whether every slot has the new keys, or what it has stored before that is seen here.
        let (found, _) = self.read_slots()?;
        if found.iter().any(|found| !self.keys().has_all(&found.about.keys)) {
            delete_twice(self.storage(), &slot_key(&id))?;
            return Err(CryptoError::Changed.into());
        }
        Ok(id)
    }

    /// Every slot that belongs to this repository.
    pub fn slots(&self) -> Result<Vec<SlotRecord>, RepoError> {
        let mut records: Vec<SlotRecord> = Vec::new();
        let mut given: HashMap<SlotId, Option<Vec<(u8, u32)>>> = HashMap::new();
        for Found { slot, about, .. } in self.read_slots()?.0 {
            let all = given.entry(slot.id).or_insert_with(|| Some(Vec::new()));
            match about.keys.is_empty() {
                true => *all = None,
                false => all.iter_mut().for_each(|all| all.extend(&about.keys)),
            }
            records.push(SlotRecord { id: slot.id, kind: slot.kind, about, is_current: None });
        }
        records.sort_by_key(|record| (record.about.created, record.id));
        // While keys are rotated a slot is there twice.
        records.dedup_by_key(|record| record.id);
        for record in &mut records {
            let given = given.get(&record.id).and_then(Option::as_ref);
            record.is_current = given.map(|given| self.keys().newest_are_among(given));
        }
        Ok(records)
    }

    /// Names under `keys/` that are no slots of this repository, nor their copies: damaged, or put
    /// there by somebody who has not its keys.
    pub fn strange_slots(&self) -> Result<Vec<(SlotId, ObjectError)>, RepoError> {
        Ok(self.read_slots()?.1)
    }

    /// Removes a slot, unless it is the only one; or an object that is none, by its name.
    pub fn remove_slot(&self, id: &SlotId) -> Result<(), RepoError> {
        if self.slots()?.iter().all(|slot| slot.id == *id) {
            return Err(CryptoError::LastSlot.into());
        }
        // Looked at again after it: a rotation that is at work may have stored it once more.
        loop {
            let (found, strange) = self.read_slots()?;
            let found = found.into_iter().filter(|found| found.slot.id == *id);
            let mut objects: Vec<SlotId> = found.map(|found| found.name).collect();
            for (name, _) in strange {
                // One that is damaged only in what it says about itself still opens.
                if name == *id || self.is_under(&name, id)? {
                    objects.push(name);
                }
            }
            if objects.is_empty() {
                return Ok(());
            }
            for name in objects {
                delete_twice(self.storage(), &slot_key(&name))?;
            }
        }
    }

    /// Whether either object of a name is this slot, whatever it says about itself.
    fn is_under(&self, name: &SlotId, id: &SlotId) -> Result<bool, RepoError> {
        for shelf in [Shelf::Originals, Shelf::Copies] {
            let slot = read(self.storage(), name, shelf)?;
            if slot.is_some_and(|slot| slot.is_ok_and(|slot| slot.id == *id)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The slots of this repository, and the names under which there is none: neither an original
    /// nor a copy. Only who has its keys can make what a slot says about itself, which is bound to
    /// the rest of it.
    pub(super) fn read_slots(&self) -> Result<ReadSlots, RepoError> {
        let (mut found, mut strange) = (Vec::<Found>::new(), Vec::new());
        for shelf in [Shelf::Originals, Shelf::Copies] {
            for (name, slot) in read_all(self.storage(), shelf, |_| {})?.0 {
                let about = slot.and_then(|slot| Ok((open_about(self.keys(), &slot)?, slot)));
                match about {
                    Ok((_, slot)) if found.iter().any(|it| it.name == name && it.slot == slot) => {}
                    Ok((about, slot)) => found.push(Found { name, shelf, slot, about }),
                    Err(error) => strange.push((name, error)),
                }
            }
        }
        strange.retain(|(name, _)| found.iter().all(|found| found.name != *name));
        strange.sort_by_key(|(name, _)| *name);
        strange.dedup_by_key(|(name, _)| *name);
        Ok((found, strange))
    }
}

/// An object that holds a slot of this repository: an original, or a copy that is not the same.
pub(super) struct Found {
    pub name: SlotId,
    pub shelf: Shelf,
    pub slot: Slot,
    pub about: SlotAbout,
}

type ReadSlots = (Vec<Found>, Vec<(SlotId, ObjectError)>);

/// Readers look at so many objects under `keys/` and at no more.
pub(super) fn leave_room(found: u64) -> Result<(), RepoError> {
    let (what, limit) = ("number of key slots", limits::SLOTS_MAX as u64);
    match found > limit {
        true => Err(RepoError::TooMuch(FormatError::TooLarge { what, found, limit })),
        false => Ok(()),
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
        keys: sealer.keys.names(),
    };
    slot.about = sealer.keys.seal_about(world, &slot.encode_bound(), &about.encode())?;
    // Read back what was made before anyone relies on it.
    let object = slot.encode();
    let again = Slot::decode(&object).map_err(|_| CryptoError::Bundle)?;
    unlock::open_all(&[&again], &new.secret)?;
    put_twice(storage, &slot_key(&slot.id), &object)?;
    Ok(slot.id)
}

fn open_about(keys: &KeyRing, slot: &Slot) -> Result<SlotAbout, ObjectError> {
    Ok(SlotAbout::decode(&keys.open_about(&slot.encode_bound(), &slot.about)?)?)
}

/// Where slots lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    Originals,
    Copies,
}

impl Shelf {
    fn prefix(self) -> &'static str {
        match self {
            Self::Originals => "keys/",
            Self::Copies => "copies/keys/",
        }
    }

    pub(super) fn key(self, name: &SlotId) -> String {
        match self {
            Self::Originals => slot_key(name),
            Self::Copies => copy_key(&slot_key(name)),
        }
    }
}

/// Names of the objects that may be slots, in order.
pub(super) fn names(storage: &dyn Storage, shelf: Shelf) -> Result<Vec<SlotId>, RepoError> {
    let mut names = Vec::new();
    storage.list(shelf.prefix(), &mut |listed| {
        let name = listed.key.strip_prefix(shelf.prefix()).map(SlotId::from_hex);
        names.extend(name.and_then(Result::ok));
    })?;
    names.sort();
    Ok(names)
}

/// What is wrong with a slot.
pub(super) fn problem(keys: &KeyRing, slot: Result<Slot, ObjectError>) -> Option<ObjectError> {
    slot.and_then(|slot| open_about(keys, &slot)).err()
}

/// Whether bytes are a slot of this repository.
pub(super) fn is_ours(keys: &KeyRing, object: &[u8]) -> bool {
    Slot::decode(object).is_ok_and(|slot| open_about(keys, &slot).is_ok())
}

/// A slot with the name of its object; a damaged one comes with what is wrong.
pub(super) type ReadSlot = (SlotId, Result<Slot, ObjectError>);

/// Looked at again so often when objects are gone that were listed just now: a rotation stores all
/// slots under new names.
const LOOKS_MAX: usize = 8;

/// All objects of a shelf that there may be, ordered as `order` likes, and how many more there
/// are.
pub(super) fn read_all(
    storage: &dyn Storage,
    shelf: Shelf,
    order: impl Fn(&mut Vec<SlotId>),
) -> Result<(Vec<ReadSlot>, usize), RepoError> {
    let mut looks = 0;
    loop {
        let mut names = names(storage, shelf)?;
        order(&mut names);
        let unread = names.len().saturating_sub(limits::SLOTS_MAX);
        names.truncate(limits::SLOTS_MAX);
        let mut slots = Vec::with_capacity(names.len());
        for name in &names {
            slots.extend(read(storage, name, shelf)?.map(|slot| (*name, slot)));
        }
        looks += 1;
        if slots.len() == names.len() || looks == LOOKS_MAX {
            return Ok((slots, unread));
        }
    }
}

/// The object of a name; `None` where it is gone again.
pub(super) fn read(
    storage: &dyn Storage,
    name: &SlotId,
    shelf: Shelf,
) -> Result<Option<Result<Slot, ObjectError>>, RepoError> {
    match storage.get(&shelf.key(name), limits::SLOT_LEN_MAX as u64) {
        Ok(object) => Ok(Some(Slot::decode(&object).map_err(ObjectError::from))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) if error.is_damage() => Ok(Some(Err(ObjectError::Unreadable))),
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
            state: cache.join("state"),
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
