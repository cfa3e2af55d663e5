//! A storage some of whose calls fail.

use std::sync::{Arc, Mutex};

use holdall::storage::{ErrorKind, Listed, Result, Storage, StorageError};

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
}

impl Faulty {
    /// Without faults yet.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, faults: Mutex::default() }
    }

    pub fn add(&self, fault: Fault) {
        lock(&self.faults).push((fault, 0));
    }

    pub fn clear(&self) {
        lock(&self.faults).clear();
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
        match self.strikes(verb, key) {
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

    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.call(Verb::GetRange, key, || self.inner.get_range(key, offset, len))
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
