//! A storage whose listings lag behind what was put: less than `Storage` promises.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use holdall::storage::{Listed, Result, Storage};

use super::lock;

/// Passes calls on, but leaves the last puts out of its listings.
#[derive(Debug)]
pub struct Stale {
    inner: Arc<dyn Storage>,
    lag: usize,
    unseen: Mutex<VecDeque<String>>,
}

impl Stale {
    /// The last `lag` objects put through it are not listed; with 0 it lags behind nothing.
    pub fn new(inner: Arc<dyn Storage>, lag: usize) -> Self {
        Self { inner, lag, unseen: Mutex::default() }
    }

    /// From now on listings show all that has been put so far.
    pub fn catch_up(&self) {
        lock(&self.unseen).clear();
    }
}

impl Storage for Stale {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        self.inner.put(key, parts)?;
        let mut unseen = lock(&self.unseen);
        unseen.push_back(key.into());
        if unseen.len() > self.lag {
            unseen.pop_front();
        }
        Ok(())
    }

    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        self.inner.get(key, len_max)
    }

    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        self.inner.get_range_into(key, offset, len, into)
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let unseen = lock(&self.unseen).clone();
        self.inner.list(prefix, &mut |listed| {
            if !unseen.contains(&listed.key) {
                each(listed);
            }
        })
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }

    fn stat(&self, key: &str) -> Result<u64> {
        self.inner.stat(key)
    }
}
