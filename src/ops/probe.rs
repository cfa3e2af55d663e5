//! What a storage guarantees, found out by trying: the protocol of prune relies on it.

use std::sync::Arc;

use super::OpsError;
use crate::id::NoteId;
use crate::storage::{ErrorKind, Storage, StorageError};
use crate::world::{World, random};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeReport {
    /// What was put comes back, whole and in parts, with its length.
    pub reads_what_was_written: bool,
    /// A listing shows what was put before it began.
    pub lists_what_was_written: bool,
    /// Reading and listing do not show what was deleted before.
    pub forgets_what_was_deleted: bool,
    /// A second put under the same key is refused, and changes nothing.
    pub refuses_second_put: bool,
    /// Of two puts under one key at the same time exactly one succeeds.
    pub refuses_one_of_two_puts: bool,
}

impl ProbeReport {
    /// Whether backup, restore and check may rely on it.
    pub fn is_usable(&self) -> bool {
        self.reads_what_was_written && self.lists_what_was_written && self.forgets_what_was_deleted
    }

    /// Whether several machines may prune.
    pub fn creates_if_absent(&self) -> bool {
        self.refuses_second_put && self.refuses_one_of_two_puts
    }
}

/// How many pairs of puts race each other.
const RACES: usize = 8;

/// Tries a storage under names that nobody else uses, and removes what it put.
pub fn probe(storage: &Arc<dyn Storage>, world: &dyn World) -> Result<ProbeReport, OpsError> {
    let mut keys = Vec::new();
    let report = try_all(&**storage, world, &mut keys);
    for key in keys {
        storage.delete(&key)?;
    }
    Ok(report?)
}

fn fresh(world: &dyn World, keys: &mut Vec<String>) -> String {
    let key = format!("probe/{}", NoteId(random(world)));
    keys.push(key.clone());
    key
}

fn try_all(
    storage: &dyn Storage,
    world: &dyn World,
    keys: &mut Vec<String>,
) -> Result<ProbeReport, StorageError> {
    let content: [u8; 64] = random(world);
    let (first, second) = content.split_at(20);
    let key = fresh(world, keys);
    storage.put(&key, &[first, second])?;
    let whole = storage.get(&key, 1 << 10)?;
    let part = storage.get_range(&key, 20, second.len())?;
    let reads_what_was_written =
        whole == content && part == second && storage.stat(&key)? == content.len() as u64;
    let lists_what_was_written = is_listed(storage, &key)?;
    let refuses_second_put =
        is_refused(storage.put(&key, &[b"another"]))? && storage.get(&key, 1 << 10)? == content;
    storage.delete(&key)?;
    let is_gone = matches!(storage.get(&key, 1 << 10), Err(error) if error.is_not_found());
    let forgets_what_was_deleted = is_gone && !is_listed(storage, &key)?;
    let mut refuses_one_of_two_puts = true;
    for _ in 0..RACES {
        refuses_one_of_two_puts &= one_wins(storage, &fresh(world, keys))?;
    }
    Ok(ProbeReport {
        reads_what_was_written,
        lists_what_was_written,
        forgets_what_was_deleted,
        refuses_second_put,
        refuses_one_of_two_puts,
    })
}

fn is_listed(storage: &dyn Storage, key: &str) -> Result<bool, StorageError> {
    let mut found = false;
    storage.list("probe/", &mut |listed| found |= listed.key == key)?;
    Ok(found)
}

fn is_refused(put: Result<(), StorageError>) -> Result<bool, StorageError> {
    match put {
        Ok(()) => Ok(false),
        Err(error) if error.kind == ErrorKind::AlreadyExists => Ok(true),
        Err(error) => Err(error),
    }
}

/// Two threads put at once: one is refused, and what is there is the other's.
fn one_wins(storage: &dyn Storage, key: &str) -> Result<bool, StorageError> {
    let put = |content: &'static [u8]| move || is_refused(storage.put(key, &[content]));
    let (one, other) = rayon::join(put(b"one"), put(b"other"));
    let there = storage.get(key, 1 << 10)?;
    Ok(match (one?, other?) {
        (false, true) => there == b"one",
        (true, false) => there == b"other",
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Listed, LocalStorage, MemoryStorage};
    use crate::world::RealWorld;

    #[test]
    fn good_storages_pass_and_nothing_stays() {
        let place = tempfile::tempdir().unwrap();
        let local: Arc<dyn Storage> = Arc::new(LocalStorage::create(place.path()).unwrap());
        for storage in [local, Arc::new(MemoryStorage::default())] {
            let report = probe(&storage, &RealWorld).unwrap();
            assert!(report.is_usable() && report.creates_if_absent(), "{report:?}");
            let mut count = 0;
            storage.list("", &mut |_| count += 1).unwrap();
            assert_eq!(count, 0);
        }
    }

    /// Overwrites, and lists what is gone.
    #[derive(Debug, Default)]
    struct Careless(MemoryStorage);

    impl Storage for Careless {
        fn location(&self) -> String {
            self.0.location()
        }

        fn put(&self, key: &str, parts: &[&[u8]]) -> crate::storage::Result<()> {
            self.0.delete(key)?;
            self.0.put(key, parts)
        }

        fn get(&self, key: &str, len_max: u64) -> crate::storage::Result<Vec<u8>> {
            self.0.get(key, len_max)
        }

        fn get_range_into(
            &self,
            key: &str,
            offset: u64,
            len: usize,
            into: &mut Vec<u8>,
        ) -> crate::storage::Result<()> {
            self.0.get_range_into(key, offset, len, into)
        }

        fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> crate::storage::Result<()> {
            self.0.list(prefix, each)
        }

        fn delete(&self, _: &str) -> crate::storage::Result<()> {
            Ok(())
        }

        fn stat(&self, key: &str) -> crate::storage::Result<u64> {
            self.0.stat(key)
        }
    }

    #[test]
    fn a_careless_one_is_found_out() {
        let storage: Arc<dyn Storage> = Arc::new(Careless::default());
        let report = probe(&storage, &RealWorld).unwrap();
        assert!(report.reads_what_was_written && report.lists_what_was_written);
        assert!(!report.forgets_what_was_deleted && !report.is_usable());
        assert!(!report.refuses_second_put && !report.creates_if_absent());
    }
}
