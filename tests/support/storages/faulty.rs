//! A storage some of whose calls fail.

use std::sync::{Arc, Mutex};

use holdall::storage::{ErrorKind, Listed, Result, Storage, StorageError};
use holdall::world::{SeededWorld, Time, random};

use super::{Verb, lock};

/// Whether a failing call has done its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It has not: nothing has happened.
    Before,
    /// It has, and only the answer is lost.
    After,
}

/// Which calls fail, and how.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Calls of these verbs count.
    pub verbs: Vec<Verb>,
    /// Only calls whose key or prefix starts with this count; "" for all.
    pub prefix: String,
    /// The first call that fails, counted from 1 when the fault is added.
    pub nth: u64,
    /// How many in a row fail; `u64::MAX` for all from then on.
    pub times: u64,
    pub kind: ErrorKind,
    pub when: When,
}

/// Calls that fail by chance.
#[derive(Debug)]
struct Chance {
    one_in: u64,
    dice: SeededWorld,
    failed: u64,
}

impl Fault {
    /// The nth call of these verbs fails, once, before it has done anything.
    pub fn nth(verbs: &[Verb], nth: u64, kind: ErrorKind) -> Self {
        let prefix = String::new();
        Self { verbs: verbs.into(), prefix, nth, times: 1, kind, when: When::Before }
    }

    /// The same, but only for keys that start with `prefix`.
    pub fn under(self, prefix: &str) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// The same, but the call has done its work.
    pub fn after(self) -> Self {
        Self { when: When::After, ..self }
    }

    /// The same, but this many calls in a row.
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }
}

/// Passes calls on, except those that faults name.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Storage>,
    /// With how many calls each has counted.
    faults: Mutex<Vec<(Fault, u64)>>,
    chance: Mutex<Option<Chance>>,
}

impl Faulty {
    /// Without faults yet.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, faults: Mutex::default(), chance: Mutex::default() }
    }

    pub fn add(&self, fault: Fault) {
        lock(&self.faults).push((fault, 0));
    }

    /// No more faults; returns how many came by chance.
    pub fn clear(&self) -> u64 {
        lock(&self.faults).clear();
        lock(&self.chance).take().map_or(0, |chance| chance.failed)
    }

    /// From now on one call in so many fails, in any way that says nothing of the object; half of
    /// those that change something have done it all the same.
    pub fn fail_by_chance(&self, one_in: u64, seed: u64) {
        let dice = SeededWorld::new(seed, Time::default());
        *lock(&self.chance) = Some(Chance { one_in, dice, failed: 0 });
    }

    fn strikes_by_chance(&self, verb: Verb) -> Option<(ErrorKind, When)> {
        let mut chance = lock(&self.chance);
        let Chance { one_in, dice, failed } = chance.as_mut()?;
        let throw = || u64::from_le_bytes(random(dice));
        if !throw().is_multiple_of(*one_in) {
            return None;
        }
        *failed += 1;
        let kinds = [ErrorKind::Transient, ErrorKind::Other, ErrorKind::Denied];
        let kind = kinds[throw() as usize % kinds.len()];
        let done = Verb::MUTATING.contains(&verb) && throw().is_multiple_of(2);
        Some((kind, if done { When::After } else { When::Before }))
    }

    /// The fault that strikes this call; every fault counts it.
    fn strikes(&self, verb: Verb, key: &str) -> Option<(ErrorKind, When)> {
        let mut struck = None;
        for (fault, count) in lock(&self.faults).iter_mut() {
            if fault.verbs.contains(&verb) && key.starts_with(&fault.prefix) {
                *count += 1;
                let last = fault.nth.saturating_add(fault.times.saturating_sub(1));
                if struck.is_none() && (fault.nth..=last).contains(count) {
                    struck = Some((fault.kind, fault.when));
                }
            }
        }
        struck
    }

    fn call<T>(&self, verb: Verb, key: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let error = |kind| StorageError::new(kind, key, "a fault of the test");
        match self.strikes(verb, key).or_else(|| self.strikes_by_chance(verb)) {
            None => call(),
            Some((kind, When::Before)) => Err(error(kind)),
            Some((kind, When::After)) => call().and(Err(error(kind))),
        }
    }
}

impl Storage for Faulty {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        self.call(Verb::Put, key, || self.inner.put(key, parts))
    }

    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        self.call(Verb::Get, key, || self.inner.get(key, len_max))
    }

    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        self.call(Verb::GetRange, key, || self.inner.get_range_into(key, offset, len, into))
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.call(Verb::List, prefix, || self.inner.list(prefix, each))
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.call(Verb::Delete, key, || self.inner.delete(key))
    }

    fn stat(&self, key: &str) -> Result<u64> {
        self.call(Verb::Stat, key, || self.inner.stat(key))
    }
}
