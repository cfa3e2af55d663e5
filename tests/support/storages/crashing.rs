//! A storage that its user loses for good in the middle of the work.

use std::sync::{Arc, Mutex};

use holdall::storage::{ErrorKind, Listed, Result, Storage, StorageError};

use super::lock;

/// What becomes of the call during which the crash comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It has taken effect, but nobody hears of it.
    TakesEffect,
    /// Nothing of it remains.
    IsLost,
}

/// Passes calls on until the nth that changes something (a put or a delete, counted from 1):
/// that one fails, and so does everything after it. What lies in the storage around which it
/// was put is what the next run finds.
#[derive(Debug)]
pub struct Crashing {
    inner: Arc<dyn Storage>,
    nth: u64,
    last: Last,
    mutations: Mutex<u64>,
}

impl Crashing {
    /// With `u64::MAX` it never crashes, but counts.
    pub fn new(inner: Arc<dyn Storage>, nth: u64, last: Last) -> Self {
        Self { inner, nth, last, mutations: Mutex::default() }
    }

    /// How many calls that change something have come, the one that crashed included, those
    /// after it not.
    pub fn mutations(&self) -> u64 {
        *lock(&self.mutations)
    }

    pub fn has_crashed(&self) -> bool {
        self.mutations() >= self.nth
    }

    fn mutate(&self, key: &str, call: impl FnOnce() -> Result<()>) -> Result<()> {
        {
            let mut mutations = lock(&self.mutations);
            if *mutations >= self.nth {
                return Err(crashed(key));
            }
            *mutations += 1;
            if *mutations < self.nth {
                // Out of the lock: calls that came before the crash may still be at work.
                drop(mutations);
                return call();
            }
        }
        if self.last == Last::TakesEffect {
            let _ = call();
        }
        Err(crashed(key))
    }

    fn read<T>(&self, key: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.has_crashed() {
            true => Err(crashed(key)),
            false => call(),
        }
    }
}

fn crashed(key: &str) -> StorageError {
    StorageError::new(ErrorKind::Other, key, "the test has crashed the storage")
}

impl Storage for Crashing {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        self.mutate(key, || self.inner.put(key, parts))
    }

    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        self.read(key, || self.inner.get(key, len_max))
    }

    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        self.read(key, || self.inner.get_range_into(key, offset, len, into))
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.read(prefix, || self.inner.list(prefix, each))
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.mutate(key, || self.inner.delete(key))
    }

    fn stat(&self, key: &str) -> Result<u64> {
        self.read(key, || self.inner.stat(key))
    }
}
