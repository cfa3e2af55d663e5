//! Which key slot opens: found so that whoever writes to the storage cannot choose the price.
//! Format: `format-spec/03-keys.md#trying-slots`.

use std::collections::BTreeMap;
use std::path::Path;

use super::RepoError;
use super::slots::{names, read};
use crate::crypto::{CryptoError, KeyRing, PasswordCost, Secret, SlotKey, open_from_slot};
use crate::format::slot::{Slot, SlotKind};
use crate::id::{RepositoryId, SlotId};
use crate::limits;
use crate::object::ObjectError;
use crate::storage::Storage;

/// The keys that the first fitting secret opens. `memory` is this client's directory for the
/// repository, where it remembers the slot that opened last.
pub(super) fn unlock(
    storage: &dyn Storage,
    repository: &RepositoryId,
    secrets: &[Secret],
    memory: &Path,
) -> Result<KeyRing, RepoError> {
    unlock_within(storage, repository, secrets, memory, limits::ARGON2_WORK_KIB_MAX)
}

fn unlock_within(
    storage: &dyn Storage,
    repository: &RepositoryId,
    secrets: &[Secret],
    memory: &Path,
    mut work_left: u64,
) -> Result<KeyRing, RepoError> {
    let known = Known::recall(memory);
    let Slots { heads, damaged, unread } = read_slots(storage, repository, known.as_ref())?;
    let (mut untried, mut failed) = (unread, None);
    for copies in in_order(&heads, known.as_ref()) {
        let Some((key, first)) = copies.first() else { continue };
        let slots: Vec<&Slot> = copies.iter().map(|(_, slot)| slot).collect();
        for secret in secrets.iter().filter(|secret| fits(first.kind, secret)) {
            let work = work(first.kind);
            if work > work_left {
                untried += 1;
                continue;
            }
            work_left -= work;
            match open_newest(&slots, secret) {
                Ok(keys) => {
                    Known::of(key, first).remember(memory, known);
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
    let mut names = names(storage)?;
    names.sort_by_key(|name| (known.is_none_or(|known| known.name != *name), *name));
    let unread = names.len().saturating_sub(limits::SLOTS_MAX);
    names.truncate(limits::SLOTS_MAX);
    let mut slots = Slots { heads: BTreeMap::new(), damaged: None, unread };
    for name in names {
        match read(storage, &name)? {
            Some((key, Ok(slot))) if slot.repository == *repository => {
                slots.heads.entry(slot.encode_head()).or_default().push((key, slot));
            }
            Some((key, Err(error))) => slots.damaged = Some((key, error)),
            Some(_) | None => {}
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

/// Opens slots of the same head, of which a rotation that was interrupted leaves two: the one
/// with the most keys counts, as keys are only ever added.
pub(super) fn open_newest(slots: &[&Slot], secret: &Secret) -> Result<KeyRing, CryptoError> {
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
    let newest = opened.into_iter().flatten().max_by_key(KeyRing::key_count);
    let refused = refused.into_iter().find_map(Result::err);
    newest.ok_or(refused.unwrap_or(CryptoError::WrongSecret))
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

    fn remember(&self, memory: &Path, before: Option<Self>) {
        if before.as_ref() == Some(self) {
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
