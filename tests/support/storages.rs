//! Storages that watch, wait, fail, crash, lag and lie, each around another storage.

mod crashing;
mod faulty;
mod flipping;
mod late;
mod meanwhile;
mod recording;
mod stale;

pub use crashing::{Crashing, Last};
pub use faulty::{Fault, Faulty, When};
pub use flipping::{Damage, Flipping, damage};
pub use late::Late;
pub use meanwhile::Meanwhile;
pub use recording::{Call, Recording};
pub use stale::Stale;

use std::sync::{Mutex, MutexGuard, PoisonError};

use holdall::storage::{Listed, Result, Storage};

/// The calls of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Put,
    Get,
    GetRange,
    List,
    Delete,
    Stat,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 6] =
        [Verb::Put, Verb::Get, Verb::GetRange, Verb::List, Verb::Delete, Verb::Stat];

    /// Those that change what is stored.
    pub const MUTATING: [Verb; 2] = [Verb::Put, Verb::Delete];
}

/// Everything under a prefix, sorted by key.
pub fn list(storage: &dyn Storage, prefix: &str) -> Result<Vec<Listed>> {
    let mut all = Vec::new();
    storage.list(prefix, &mut |listed| all.push(listed))?;
    all.sort();
    Ok(all)
}

/// The keys under a prefix, sorted.
pub fn keys(storage: &dyn Storage, prefix: &str) -> Vec<String> {
    list(storage, prefix).unwrap().into_iter().map(|listed| listed.key).collect()
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
