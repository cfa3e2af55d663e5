//! A storage whose user is held up while somebody else works.

use std::fmt;
use std::sync::{Arc, Mutex};

use holdall::storage::{Listed, Result, Storage};

use super::lock;

/// What somebody else does.
pub type Work = Box<dyn FnOnce() + Send>;

/// Passes calls on. Before the nth of them, counted from 1 since it was armed, comes the work of
/// somebody else, once.
pub struct Meanwhile {
    inner: Arc<dyn Storage>,
    armed: Mutex<Option<(u64, Work)>>,
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meanwhile").finish_non_exhaustive()
    }
}

impl Meanwhile {
    /// Passes everything on until it is armed.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, armed: Mutex::new(None) }
    }

    pub fn arm(&self, nth: u64, work: impl FnOnce() + Send + 'static) {
        *lock(&self.armed) = Some((nth, Box::new(work)));
    }

    /// Whether the work was not done: there were not so many calls.
    pub fn disarm(&self) -> bool {
        lock(&self.armed).take().is_some()
    }

    fn inner(&self) -> &dyn Storage {
        // In the lock: other threads of the user are held up as well.
        let mut armed = lock(&self.armed);
        if let Some((left, work)) = armed.take() {
            match left {
                0 | 1 => work(),
                _ => *armed = Some((left - 1, work)),
            }
        }
        &*self.inner
    }
}

impl Storage for Meanwhile {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        self.inner().put(key, parts)
    }

    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        self.inner().get(key, len_max)
    }

    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        self.inner().get_range_into(key, offset, len, into)
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.inner().list(prefix, each)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner().delete(key)
    }

    fn stat(&self, key: &str) -> Result<u64> {
        self.inner().stat(key)
    }
}
