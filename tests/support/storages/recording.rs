//! A storage that remembers what it was asked.

use std::sync::{Arc, Mutex};

use holdall::storage::{Listed, Result, Storage};

use super::{Verb, lock};

/// One call, whether it succeeded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub verb: Verb,
    /// The key, or the prefix of a listing.
    pub key: String,
    /// Bytes given to `put`, or given back by `get` and `get_range`.
    pub bytes: u64,
}

/// Passes every call on and keeps a list of them.
#[derive(Debug)]
pub struct Recording {
    inner: Arc<dyn Storage>,
    calls: Mutex<Vec<Call>>,
}

impl Recording {
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, calls: Mutex::default() }
    }

    /// The calls since the beginning, or since `clear`, in the order in which they returned.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// How many calls of one verb.
    pub fn count(&self, verb: Verb) -> usize {
        lock(&self.calls).iter().filter(|call| call.verb == verb).count()
    }

    /// The keys of the calls of one verb.
    pub fn keys(&self, verb: Verb) -> Vec<String> {
        let calls = self.calls().into_iter();
        calls.filter(|call| call.verb == verb).map(|call| call.key).collect()
    }

    /// Bytes moved by one verb.
    pub fn bytes(&self, verb: Verb) -> u64 {
        lock(&self.calls).iter().filter(|call| call.verb == verb).map(|call| call.bytes).sum()
    }

    pub fn clear(&self) {
        lock(&self.calls).clear();
    }

    fn note(&self, verb: Verb, key: &str, bytes: usize) {
        lock(&self.calls).push(Call { verb, key: key.into(), bytes: bytes as u64 });
    }
}

impl Storage for Recording {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        let result = self.inner.put(key, parts);
        self.note(Verb::Put, key, parts.iter().map(|part| part.len()).sum());
        result
    }

    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        let result = self.inner.get(key, len_max);
        self.note(Verb::Get, key, result.as_ref().map_or(0, Vec::len));
        result
    }

    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        let result = self.inner.get_range_into(key, offset, len, into);
        self.note(Verb::GetRange, key, if result.is_ok() { len } else { 0 });
        result
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let result = self.inner.list(prefix, each);
        self.note(Verb::List, prefix, 0);
        result
    }

    fn delete(&self, key: &str) -> Result<()> {
        let result = self.inner.delete(key);
        self.note(Verb::Delete, key, 0);
        result
    }

    fn stat(&self, key: &str) -> Result<u64> {
        let result = self.inner.stat(key);
        self.note(Verb::Stat, key, 0);
        result
    }
}
