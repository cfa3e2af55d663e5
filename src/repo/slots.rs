//! Key slots: adding, listing, removing, opening. Format: `format-spec/03-keys.md`.

use super::{Environment, RepoError, Repository};
use crate::crypto::{
    CryptoError, Key, KeyRing, NONCE_LEN, PasswordCost, Purpose, Secret, SlotKey, TAG_LEN,
    open_from_slot, open_in_place, seal_in_place, seal_to_slot,
};
use crate::format::FormatError;
use crate::format::slot::{Slot, SlotAbout, SlotKind, slot_key};
use crate::id::{RepositoryId, SlotId, by_prefix};
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
        store(self.storage(), self.world(), self.sealer(), self.environment(), slot)
    }

    /// Every slot that belongs to this repository. One that does not open to the repository's
    /// own keys was put there by somebody else, and is an error.
    pub fn slots(&self) -> Result<Vec<SlotRecord>, RepoError> {
        let slots = read_all(self.storage())?;
        let mut records = Vec::new();
        for (key, slot) in slots {
            let about = slot
                .and_then(|slot| open_about(&self.sealer().keys, &slot).map(|about| (slot, about)));
            let (slot, about) = about.map_err(|source| RepoError::Object { key, source })?;
            records.push(SlotRecord { id: slot.id, kind: slot.kind, about });
        }
        records.sort_by_key(|record| (record.about.created, record.id));
        Ok(records)
    }

    /// Removes the slot that a prefix of its id names, unless it is the only one.
    pub fn remove_slot(&self, prefix: &str) -> Result<SlotId, RepoError> {
        let slots = self.slots()?;
        let id = by_prefix(slots.iter().map(|slot| slot.id), prefix)?;
        if slots.len() < 2 {
            return Err(CryptoError::LastSlot.into());
        }
        self.storage().delete(&slot_key(&id))?;
        Ok(id)
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
        wrapped: [0; 72],
        bundle: Vec::new(),
        about: Vec::new(),
    };
    let (public, wrapped) = key.wrap_fresh(world, &|public| {
        let mut head = slot.clone();
        head.public = *public;
        head.encode_head()
    });
    slot.public = public;
    slot.wrapped = wrapped;
    let bundle = sealer.keys.to_bundle();
    slot.bundle = seal_to_slot(world, &slot.public, &slot.encode_head(), &bundle);
    let about = SlotAbout {
        label: new.label.clone(),
        host: environment.host.clone(),
        created: world.now(),
    };
    slot.about = seal_about(world, &sealer.keys, &slot, &about)?;
    // Read back what was made before anyone relies on it.
    let object = slot.encode();
    let again = Slot::decode(&object).map_err(|_| CryptoError::Bundle)?;
    open(&again, &new.secret)?;
    storage.put(&slot_key(&slot.id), &[&object])?;
    Ok(slot.id)
}

fn about_key(keys: &KeyRing) -> Result<&Key, CryptoError> {
    keys.get(Purpose::Config, 0)
}

fn seal_about(
    world: &dyn World,
    keys: &KeyRing,
    slot: &Slot,
    about: &SlotAbout,
) -> Result<Vec<u8>, CryptoError> {
    let nonce: [u8; NONCE_LEN] = random(world);
    let mut sealed = nonce.to_vec();
    sealed.extend_from_slice(&about.encode());
    let body = &mut sealed[NONCE_LEN..];
    let tag = seal_in_place(about_key(keys)?, &nonce, &slot.encode_bound(), body);
    sealed.extend_from_slice(&tag);
    Ok(sealed)
}

fn open_about(keys: &KeyRing, slot: &Slot) -> Result<SlotAbout, ObjectError> {
    let truncated = FormatError::Truncated("slot's label");
    let (nonce, rest) = slot.about.split_first_chunk::<NONCE_LEN>().ok_or(truncated.clone())?;
    let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(truncated)?;
    let mut body = body.to_vec();
    open_in_place(about_key(keys)?, nonce, &slot.encode_bound(), &mut body, tag)?;
    Ok(SlotAbout::decode(&body)?)
}

/// A slot with its key; a damaged one comes with what is wrong.
type ReadSlot = (String, Result<Slot, ObjectError>);

fn read_all(storage: &dyn Storage) -> Result<Vec<ReadSlot>, RepoError> {
    let mut keys = Vec::new();
    storage.list("keys/", &mut |listed| keys.push(listed.key))?;
    keys.sort();
    keys.truncate(limits::SLOTS_MAX);
    let mut slots = Vec::new();
    for key in keys {
        match storage.get(&key, limits::SLOT_LEN_MAX as u64) {
            Ok(object) => {
                let slot = Slot::decode(&object).and_then(|slot| match slot_key(&slot.id) == key {
                    true => Ok(slot),
                    false => Err(FormatError::Bad("name of a key slot")),
                });
                slots.push((key, slot.map_err(ObjectError::from)));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(slots)
}

/// The keys that the first fitting secret opens.
pub(super) fn unlock(
    storage: &dyn Storage,
    repository: &RepositoryId,
    secrets: &[Secret],
) -> Result<KeyRing, RepoError> {
    let slots = read_all(storage)?;
    // A slot that names another repository, or is damaged, does not keep the others from opening.
    let usable = |slot: &Slot| slot.repository == *repository;
    let mut failed = None;
    for secret in secrets {
        for (key, slot) in &slots {
            let Ok(slot) = slot else { continue };
            if !usable(slot) {
                continue;
            }
            match open(slot, secret) {
                Ok(keys) => return Ok(keys),
                Err(CryptoError::WrongSecret) => {}
                Err(error) => failed = Some((key.clone(), error)),
            }
        }
    }
    if let Some((key, source)) = failed {
        return Err(RepoError::Object { key, source: source.into() });
    }
    if !slots.is_empty() && slots.iter().all(|(_, slot)| slot.is_err()) {
        let damaged = slots.into_iter().find_map(|(key, slot)| Some((key, slot.err()?)));
        if let Some((key, source)) = damaged {
            return Err(RepoError::Object { key, source });
        }
    }
    Err(RepoError::WrongSecret { location: storage.location() })
}

fn open(slot: &Slot, secret: &Secret) -> Result<KeyRing, CryptoError> {
    let cost = match (slot.kind, secret) {
        (SlotKind::Password { memory_kib, passes, lanes }, Secret::Password(_)) => {
            Some(PasswordCost { memory_kib, passes, lanes })
        }
        (SlotKind::KeyFile, Secret::KeyFile(_)) | (SlotKind::Recovery, Secret::Recovery(_)) => None,
        _ => return Err(CryptoError::WrongSecret),
    };
    let key = SlotKey::derive(secret, &slot.salt, cost)?;
    if key.check() != slot.check {
        return Err(CryptoError::WrongSecret);
    }
    let head = slot.encode_head();
    let slot_secret = key.unwrap(&slot.wrapped, &head)?;
    let bundle = open_from_slot(&slot_secret, &slot.bundle, &head)?;
    KeyRing::from_bundle(&bundle)
}
