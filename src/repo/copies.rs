//! Copies of what opens the repository: the config and the slots, of which one damaged sector
//! would lose everything. Format: `format-spec/15-damage.md#copies`.

use super::create::Opened;
use super::slots::{self, Shelf};
use super::{RepoError, Repository};
use crate::format::config;
use crate::format::copies::copy_key;
use crate::format::slot::slot_key;
use crate::limits;
use crate::progress::Problem;
use crate::storage::{Storage, StorageError};

/// Stores an object, then its copy: a copy without its original is one whose original was lost.
pub(super) fn put_twice(
    storage: &dyn Storage,
    key: &str,
    object: &[u8],
) -> Result<(), StorageError> {
    storage.put(key, &[object])?;
    storage.put(&copy_key(key), &[object])
}

/// Removes an object, its copy first, for the same reason.
pub(super) fn delete_twice(storage: &dyn Storage, key: &str) -> Result<(), StorageError> {
    storage.delete(&copy_key(key))?;
    storage.delete(key)
}

/// An object, or why there is none. An outage is an error: it says nothing about the object.
pub(super) fn get(
    storage: &dyn Storage,
    key: &str,
    len_max: usize,
) -> Result<Result<Vec<u8>, StorageError>, StorageError> {
    match storage.get(key, len_max as u64) {
        Ok(object) => Ok(Ok(object)),
        Err(error) if error.is_not_found() || error.is_damage() => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

impl Repository {
    /// What is damaged of that by which the repository is opened: config, slots, their copies.
    /// A repository that has no copies was made before there were any, and is whole.
    pub fn damaged_openers(&self) -> Result<Vec<Problem>, RepoError> {
        let storage = self.storage();
        let mut found = Vec::new();
        let opens = |object: &[u8]| Opened::check(object, self.keys()).map(drop);
        let copy = copy_key(config::KEY);
        let original = get(storage, config::KEY, limits::CONFIG_LEN_MAX)?;
        let original = original.map_err(|error| error.to_string());
        let original = original.and_then(|object| opens(&object).map_err(|e| e.to_string()));
        found.extend(original.err().map(|why| Problem::damage(config::KEY, why)));
        match get(storage, &copy, limits::CONFIG_LEN_MAX)? {
            Err(error) if error.is_not_found() => {}
            Err(error) => found.push(Problem::damage(copy, error)),
            Ok(object) => {
                found.extend(opens(&object).err().map(|why| Problem::damage(copy, why)));
            }
        }
        // Copies are listed first and read last: a slot that comes or goes meanwhile is not lost.
        let copies = slots::names(storage, Shelf::Copies)?;
        let originals = slots::names(storage, Shelf::Originals)?;
        let mut look = |name, shelf: Shelf| {
            let Some(slot) = slots::read(storage, name, shelf)? else { return Ok(()) };
            if shelf == Shelf::Copies && !originals.contains(name) {
                found.push(Problem::damage(slot_key(name), "it is missing; its copy is there"));
            }
            let wrong = slots::problem(self.keys(), slot);
            found.extend(wrong.map(|why| Problem::damage(shelf.key(name), why)));
            Ok::<_, RepoError>(())
        };
        originals.iter().try_for_each(|name| look(name, Shelf::Originals))?;
        copies.iter().try_for_each(|name| look(name, Shelf::Copies))?;
        Ok(found)
    }

    /// What was wrong when it was opened, although it opened.
    pub fn opening_problems(&self) -> &[Problem] {
        &self.opening_problems
    }

    /// Puts back what opens the repository, from whichever of the two is good, and makes copies
    /// where there are none. Returns the keys that were written.
    pub fn restore_openers(&self) -> Result<Vec<String>, RepoError> {
        let storage = self.storage();
        let mut written = Vec::new();
        let mut both = |key: String, len_max, good: &dyn Fn(&[u8]) -> bool| {
            let copy = copy_key(&key);
            let read = |key: &str| get(storage, key, len_max);
            let [first, second] = [read(&key)?, read(&copy)?];
            let whole = |object: &Result<Vec<u8>, StorageError>| {
                object.as_ref().ok().filter(|object| good(object)).cloned()
            };
            let (one, two) = ((&key, &first), (&copy, &second));
            for ((key, mine), (from, other)) in [(one, two), (two, one)] {
                let (None, Some(object)) = (whole(mine), whole(other)) else { continue };
                storage.delete(key)?;
                storage.put(key, &[&object])?;
                // Who removes a slot looks after it whether it is gone: either what was put back is
                // seen there, or it is seen here that the other one is gone.
                match storage.stat(from) {
                    Ok(_) => written.push(key.clone()),
                    Err(error) if error.is_not_found() => storage.delete(key)?,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok::<_, RepoError>(())
        };
        let opens = |object: &[u8]| Opened::check(object, self.keys()).is_ok();
        both(config::KEY.into(), limits::CONFIG_LEN_MAX, &opens)?;
        let mut names = slots::names(storage, Shelf::Originals)?;
        names.extend(slots::names(storage, Shelf::Copies)?);
        names.sort();
        names.dedup();
        for name in names {
            let ours = |object: &[u8]| slots::is_ours(self.keys(), object);
            both(slot_key(&name), limits::SLOT_LEN_MAX, &ours)?;
        }
        Ok(written)
    }
}
