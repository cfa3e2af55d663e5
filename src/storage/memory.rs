//! Objects in memory: for tests, and for trying things out.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ErrorKind, Listed, Result, Storage, StorageError, require_key, require_prefix};

type Objects = BTreeMap<String, Arc<[u8]>>;

/// A repository in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    objects: Arc<Mutex<Objects>>,
}

/// What a `MemoryStorage` held at one moment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MemoryState {
    objects: Objects,
}

impl MemoryStorage {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it holds now. Contents are shared, not copied.
    pub fn snapshot(&self) -> MemoryState {
        MemoryState { objects: self.lock().clone() }
    }

    /// Makes it hold again what it held at a snapshot, and nothing else.
    pub fn restore(&self, state: &MemoryState) {
        *self.lock() = state.objects.clone();
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: &str) -> Result<Arc<[u8]>> {
        require_key(key)?;
        let found = self.lock().get(key).cloned();
        found.ok_or_else(|| StorageError::new(ErrorKind::NotFound, key, "there is no such object"))
    }

    /// The object that comes after `key`, or first of all that start with it.
    fn next(&self, after: Bound<&str>) -> Option<Listed> {
        let objects = self.lock();
        let (key, bytes) = objects.range::<str, _>((after, Bound::Unbounded)).next()?;
        Some(Listed { key: key.clone(), len: bytes.len() as u64 })
    }
}

impl Storage for MemoryStorage {
    fn location(&self) -> String {
        "memory".into()
    }

    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        require_key(key)?;
        let bytes = parts.concat();
        let mut objects = self.lock();
        if objects.contains_key(key) {
            let why = "there is an object under this key already";
            return Err(StorageError::new(ErrorKind::AlreadyExists, key, why));
        }
        objects.insert(key.to_owned(), bytes.into());
        Ok(())
    }

    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        let bytes = self.object(key)?;
        match bytes.len() as u64 <= len_max {
            true => Ok(bytes.to_vec()),
            false => Err(StorageError::new(ErrorKind::Corrupt, key, "is longer than it may be")),
        }
    }

    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        let bytes = self.object(key)?;
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| bytes.get(start..start.checked_add(len)?));
        let short = || StorageError::new(ErrorKind::Corrupt, key, "is shorter than asked for");
        range.ok_or_else(short)?.clone_into(into);
        Ok(())
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        require_prefix(prefix)?;
        // One at a time, so that `each` may use the storage itself.
        let mut next = self.next(Bound::Included(prefix));
        while let Some(listed) = next.take_if(|listed| listed.key.starts_with(prefix)) {
            let key = listed.key.clone();
            each(listed);
            next = self.next(Bound::Excluded(&key));
        }
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<()> {
        require_key(key)?;
        self.lock().remove(key);
        Ok(())
    }

    fn stat(&self, key: &str) -> Result<u64> {
        Ok(self.object(key)?.len() as u64)
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStorage({} objects)", self.lock().len())
    }
}

impl fmt::Debug for MemoryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.objects.keys()).finish()
    }
}
