//! Which key slot opens: found so that whoever writes to the storage cannot choose the price.
//! Format: `format-spec/03-keys.md#trying-slots`.

use std::collections::BTreeMap;
use std::path::Path;

use super::RepoError;
use super::slots::{Shelf, read, read_all};
use crate::crypto::{CryptoError, KeyRing, PasswordCost, Secret, SlotKey, open_from_slot};
use crate::format::slot::{Slot, SlotKind, slot_key};
use crate::id::{RepositoryId, SlotId};
use crate::limits;
use crate::object::ObjectError;
use crate::progress::Problem;
use crate::storage::Storage;

/// The keys that the first fitting secret opens. `memory` is this client's directory for the
/// repository, where it remembers the slot that opened last.
pub(super) fn unlock(
    storage: &dyn Storage,
    repository: &RepositoryId,
    secrets: &[Secret],
    memory: &Path,
) -> Result<Unlocked, RepoError> {
    unlock_within(storage, repository, secrets, memory, limits::ARGON2_WORK_KIB_MAX)
}

/// Tries the slots, and where none opens those of their copies that are not the same.
fn unlock_within(
    storage: &dyn Storage,
    repository: &RepositoryId,
    secrets: &[Secret],
    memory: &Path,
    mut work_left: u64,
) -> Result<Unlocked, RepoError> {
    let known = Known::recall(memory);
    let slots = read_slots(storage, repository, known.as_ref())?;
    let error = match try_slots(storage, slots, secrets, memory, &known, &mut work_left) {
        Ok(keys) => return Ok(Unlocked { keys, problem: None }),
        Err(error @ (RepoError::WrongSecret { .. } | RepoError::Object { .. })) => error,
        Err(error) => return Err(error),
    };
    let copies = read_copies(storage, repository)?;
    match try_slots(storage, copies, secrets, memory, &known, &mut work_left) {
        Ok(keys) => {
            let problem = Problem::damage("keys/", "a slot is lost; its copy was used");
            Ok(Unlocked { keys, problem: Some(problem) })
        }
        Err(RepoError::WrongSecret { .. } | RepoError::Object { .. }) => Err(error),
        Err(error) => Err(error),
    }
}

/// Keys, and what was wrong on the way to them.
#[derive(Debug)]
pub(super) struct Unlocked {
    pub keys: KeyRing,
    pub problem: Option<Problem>,
}

fn try_slots(
    storage: &dyn Storage,
    slots: Slots,
    secrets: &[Secret],
    memory: &Path,
    known: &Option<Known>,
    work_left: &mut u64,
) -> Result<KeyRing, RepoError> {
    let Slots { heads, damaged, unread } = slots;
    let (mut untried, mut failed) = (unread, None);
    for copies in in_order(&heads, known.as_ref()) {
        let Some((key, first)) = copies.first() else { continue };
        let slots: Vec<&Slot> = copies.iter().map(|(_, slot)| slot).collect();
        for secret in secrets.iter().filter(|secret| fits(first.kind, secret)) {
            let work = work(first.kind);
            if work > *work_left {
                untried += 1;
                continue;
            }
            *work_left -= work;
            match open_all(&slots, secret) {
                Ok(keys) => {
                    Known::of(key, first).remember(memory, known.as_ref());
                    return Ok(keys);
                }
                Err(CryptoError::WrongSecret) => {}
                Err(error) => failed = Some((key.clone(), error.into())),
            }
        }
    }
    // A slot that names another repository, or is damaged, does not keep the others from opening.
    match failed.or(damaged.filter(|_| heads.is_empty() && untried == 0)) {
        Some((key, source)) => Err(RepoError::Object { key, source }),
        None => Err(RepoError::WrongSecret { location: storage.location(), untried }),
    }
}

/// Slots as they are tried.
struct Slots {
    /// By head: what has the same one opens with the same secret, and is derived once.
    heads: BTreeMap<Vec<u8>, Vec<(String, Slot)>>,
    /// One that does not decode.
    damaged: Option<(String, ObjectError)>,
    /// So many objects were not even looked at.
    unread: usize,
}

fn read_slots(
    storage: &dyn Storage,
    repository: &RepositoryId,
    known: Option<&Known>,
) -> Result<Slots, RepoError> {
    let (read, unread) = read_all(storage, Shelf::Originals, |names| {
        names.sort_by_key(|name| (known.is_none_or(|known| known.name != *name), *name));
    })?;
    let mut slots = Slots { heads: BTreeMap::new(), damaged: None, unread };
    for (name, slot) in read {
        match slot {
            Ok(slot) if slot.repository == *repository => {
                slots.heads.entry(slot.encode_head()).or_default().push((slot_key(&name), slot));
            }
            Ok(_) => {}
            Err(error) => slots.damaged = Some((slot_key(&name), error)),
        }
    }
    Ok(slots)
}

/// The copies of slots that are not the same as these; of a whole repository none.
fn read_copies(storage: &dyn Storage, repository: &RepositoryId) -> Result<Slots, RepoError> {
    let (copies, unread) = read_all(storage, Shelf::Copies, |_| {})?;
    let mut slots = Slots { heads: BTreeMap::new(), damaged: None, unread };
    for (name, copy) in copies {
        let Ok(slot) = copy else { continue };
        let original = read(storage, &name, Shelf::Originals)?.and_then(Result::ok);
        if slot.repository == *repository && original.as_ref() != Some(&slot) {
            let key = Shelf::Copies.key(&name);
            slots.heads.entry(slot.encode_head()).or_default().push((key, slot));
        }
    }
    Ok(slots)
}

/// First what costs nothing, then what opened before, then from the cheapest on: a slot that
/// somebody put there does not keep a cheaper one from being tried.
fn in_order<'a>(
    heads: &'a BTreeMap<Vec<u8>, Vec<(String, Slot)>>,
    known: Option<&Known>,
) -> Vec<&'a [(String, Slot)]> {
    let rank = |(head, copies): &(&Vec<u8>, &'a Vec<(String, Slot)>)| {
        let work = copies.first().map_or(0, |(_, slot)| work(slot.kind));
        (work > 0, known.is_none_or(|known| known.head != blake3::hash(head)), work)
    };
    let mut heads: Vec<_> = heads.iter().collect();
    heads.sort_by_cached_key(rank);
    heads.into_iter().map(|(_, copies)| copies.as_slice()).collect()
}

/// What a derivation costs, in KiB times passes. Of costs that are refused before it, nothing.
fn work(kind: SlotKind) -> u64 {
    match cost(kind) {
        Some(cost) if cost.is_accepted() => u64::from(cost.memory_kib) * u64::from(cost.passes),
        _ => 0,
    }
}

fn cost(kind: SlotKind) -> Option<PasswordCost> {
    match kind {
        SlotKind::Password { memory_kib, passes, lanes } => {
            Some(PasswordCost { memory_kib, passes, lanes })
        }
        SlotKind::KeyFile | SlotKind::Recovery => None,
    }
}

fn fits(kind: SlotKind, secret: &Secret) -> bool {
    matches!(
        (kind, secret),
        (SlotKind::Password { .. }, Secret::Password(_))
            | (SlotKind::KeyFile, Secret::KeyFile(_))
            | (SlotKind::Recovery, Secret::Recovery(_))
    )
}

/// Opens slots of the same head, of which rotations leave several while they are at work, and
/// where they were interrupted: all that they give counts, as keys are only ever added.
pub(super) fn open_all(slots: &[&Slot], secret: &Secret) -> Result<KeyRing, CryptoError> {
    let first = slots.first().filter(|slot| fits(slot.kind, secret));
    let first = first.ok_or(CryptoError::WrongSecret)?;
    let key = SlotKey::derive(secret, &first.salt, cost(first.kind))?;
    if key.check() != first.check {
        return Err(CryptoError::WrongSecret);
    }
    let head = first.encode_head();
    let open = |slot: &&Slot| {
        let secret = key.unwrap(&slot.wrapped, &slot.public, &head)?;
        open_from_slot(&secret, &slot.bundle, &head)
    };
    let (opened, refused): (Vec<_>, Vec<_>) = slots.iter().map(open).partition(Result::is_ok);
    let joined = opened.into_iter().flatten().reduce(KeyRing::join);
    let refused = refused.into_iter().find_map(Result::err);
    joined.ok_or(refused.unwrap_or(CryptoError::WrongSecret))
}

/// The slot that opened last on this client, so that whatever else is put beside it, it is tried
/// before the price of the others. Known by its head, which nobody can keep and change what it
/// costs; by its name only to be read first. Forgetting it costs time and nothing else.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    name: SlotId,
    head: blake3::Hash,
}

/// The file that it is remembered in.
const KNOWN_FILE: &str = "slot";

impl Known {
    fn of(key: &str, slot: &Slot) -> Self {
        // A name that is none would only not be read first.
        let name = key.strip_prefix("keys/").map(SlotId::from_hex).and_then(Result::ok);
        Self { name: name.unwrap_or(slot.id), head: blake3::hash(&slot.encode_head()) }
    }

    fn recall(memory: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(memory.join(KNOWN_FILE)).ok()?;
        let (name, head) = text.trim_end().split_once(' ')?;
        let head = blake3::Hash::from_hex(head).ok()?;
        Some(Self { name: SlotId::from_hex(name).ok()?, head })
    }

    fn remember(&self, memory: &Path, before: Option<&Self>) {
        if before == Some(self) {
            return;
        }
        let text = format!("{} {}\n", self.name, self.head.to_hex());
        // Half of it, or none: then the slots are tried in their usual order the next time.
        let _ = std::fs::create_dir_all(memory)
            .and_then(|()| std::fs::write(memory.join(KNOWN_FILE), text));
    }
}

#[cfg(test)]
mod tests;
