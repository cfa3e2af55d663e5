//! A storage some of whose puts and deletes get no answer, and are done much later.

use std::sync::{Arc, Mutex};

use holdall::storage::{ErrorKind, Listed, Result, Storage, StorageError};
use holdall::world::{SeededWorld, Time, random};

use super::lock;

/// What was asked for and is under way.
#[derive(Debug)]
enum Change {
    Put(String, Vec<u8>),
    Delete(String),
}

/// Delays one change in so many; each call that comes may be the one before which one of those
/// under way is done.
#[derive(Debug)]
pub struct Late {
    inner: Arc<dyn Storage>,
    dice: SeededWorld,
    one_in: u64,
    under_way: Mutex<Vec<Change>>,
    delivered: Mutex<u64>,
}

impl Late {
    pub fn new(inner: Arc<dyn Storage>, one_in: u64, seed: u64) -> Self {
        let dice = SeededWorld::new(seed, Time::default());
        Self { inner, dice, one_in, under_way: Mutex::default(), delivered: Mutex::default() }
    }

    /// Does all that is under way, and returns how many came late so far.
    pub fn deliver_all(&self) -> u64 {
        while self.deliver_one() {}
        *lock(&self.delivered)
    }

    fn dice(&self, sides: u64) -> u64 {
        u64::from_le_bytes(random(&self.dice)) % sides
    }

    fn deliver_one(&self) -> bool {
        let change = {
            let mut under_way = lock(&self.under_way);
            match under_way.len() as u64 {
                0 => return false,
                len => under_way.swap_remove(self.dice(len) as usize),
            }
        };
        *lock(&self.delivered) += 1;
        match change {
            // Somebody else's may be there by now: nothing is overwritten.
            Change::Put(key, bytes) => _ = self.inner.put(&key, &[&bytes]),
            Change::Delete(key) => self.inner.delete(&key).unwrap(),
        }
        true
    }

    fn pass(&self) {
        if self.dice(20) == 0 {
            self.deliver_one();
        }
    }

    fn change(
        &self,
        key: &str,
        late: impl FnOnce() -> Change,
        now: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.pass();
        if self.dice(self.one_in) != 0 {
            return now();
        }
        lock(&self.under_way).push(late());
        Err(StorageError::new(ErrorKind::Transient, key, "no answer yet"))
    }
}

impl Storage for Late {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        let late = || Change::Put(key.into(), parts.concat());
        self.change(key, late, || self.inner.put(key, parts))
    }

    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        self.pass();
        self.inner.get(key, len_max)
    }

    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        self.pass();
        self.inner.get_range_into(key, offset, len, into)
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.pass();
        self.inner.list(prefix, each)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let late = || Change::Delete(key.into());
        self.change(key, late, || self.inner.delete(key))
    }

    fn stat(&self, key: &str) -> Result<u64> {
        self.pass();
        self.inner.stat(key)
    }
}
