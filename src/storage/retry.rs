//! A storage that is asked again when it gives no answer.
//!
//! Only what may be repeated whatever became of the first attempt: reading, looking, removing, and
//! putting what nobody but its writer ever puts. The others have answers of their own to an
//! unclear one: a pack is looked for and sent under another name (W6), a session takes another
//! name (W1), and what several write at once is read back.

use std::sync::Arc;
use std::time::Duration;

use super::{ErrorKind, FreeRoom, Listed, Result, Storage};
use crate::world::{World, random};

/// Attempts in all.
const ATTEMPTS: u32 = 5;
/// The longest pause before the second attempt; each later one may be three times as long, so
/// that all of them together take up to eight seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const GROWTH: u32 = 3;

/// Lets time pass; `false` when nobody wants to wait any more.
pub type Wait = Box<dyn Fn(Duration) -> bool + Send + Sync>;

/// Asks `storage` again after failures that pass.
pub struct RetryingStorage {
    storage: Arc<dyn Storage>,
    world: Arc<dyn World>,
    wait: Wait,
    /// Whether an object of this key may be put again.
    may_put_again: fn(&str) -> bool,
}

impl RetryingStorage {
    /// Pauses are made by `wait`, and their lengths come from the randomness of `world`, so that
    /// machines that failed together do not all come back together.
    pub fn new(
        storage: Arc<dyn Storage>,
        world: Arc<dyn World>,
        wait: Wait,
        may_put_again: fn(&str) -> bool,
    ) -> Self {
        Self { storage, world, wait, may_put_again }
    }

    /// Calls until the answer is one that stays; says with the answer which attempt it was.
    fn repeat<T>(&self, mut call: impl FnMut() -> Result<T>) -> (u32, Result<T>) {
        let mut longest = FIRST_PAUSE;
        for attempt in 1..ATTEMPTS {
            match call() {
                Err(error) if error.kind == ErrorKind::Transient => {}
                answer => return (attempt, answer),
            }
            // At least half of it: what is gone for a moment is to be back by then.
            let share = u32::from(u16::from_le_bytes(random(&*self.world)));
            let pause = longest / 2 + longest / 2 * share / u32::from(u16::MAX);
            if !(self.wait)(pause) {
                break;
            }
            longest *= GROWTH;
        }
        (ATTEMPTS, call())
    }
}

impl std::fmt::Debug for RetryingStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RetryingStorage").field(&self.storage).finish()
    }
}

impl Storage for RetryingStorage {
    fn location(&self) -> String {
        self.storage.location()
    }

    fn is_remote(&self) -> bool {
        self.storage.is_remote()
    }

    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        if !(self.may_put_again)(key) {
            return self.storage.put(key, parts);
        }
        match self.repeat(|| self.storage.put(key, parts)) {
            // An earlier attempt has done it after all: nobody else puts this.
            (2.., Err(error)) if error.kind == ErrorKind::AlreadyExists => Ok(()),
            (_, answer) => answer,
        }
    }

    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        self.repeat(|| self.storage.get(key, len_max)).1
    }

    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        self.repeat(|| self.storage.get_range_into(key, offset, len, into)).1
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        // What was handed out cannot be taken back, and all that is listed would not fit into
        // memory: only a listing that failed before its first object is begun again.
        let mut failed = None;
        let listed = self.repeat(|| {
            let mut begun = false;
            let listed = self.storage.list(prefix, &mut |object| {
                begun = true;
                each(object);
            });
            match listed {
                Err(error) if begun => {
                    failed = Some(error);
                    Ok(())
                }
                listed => listed,
            }
        });
        failed.map_or(listed.1, Err)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.repeat(|| self.storage.delete(key)).1
    }

    fn stat(&self, key: &str) -> Result<u64> {
        self.repeat(|| self.storage.stat(key)).1
    }

    fn free_room(&self) -> Option<FreeRoom> {
        self.storage.free_room()
    }
}
