//! A storage that has damaged objects.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use holdall::storage::{ErrorKind, Listed, Result, Storage, StorageError};

use super::lock;

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The bits of `mask` are flipped in the byte at `offset`; one past the end is an error.
    Flip { offset: u64, mask: u8 },
    /// Only the first `len` bytes are left.
    Truncate { len: u64 },
    /// The `page`th 4096 bytes, or what there is of them, are zeros.
    ZeroPage { page: u64 },
    /// It is gone.
    Delete,
    /// It has the content of the object under this key, and that one has its content.
    Swap { with: String },
}

/// Damages an object for good: with every storage, by removing and putting.
pub fn damage(storage: &dyn Storage, key: &str, damage: &Damage) -> Result<()> {
    let rewrite = |key: &str, bytes: Option<Vec<u8>>| {
        storage.delete(key)?;
        bytes.map_or(Ok(()), |bytes| storage.put(key, &[&bytes]))
    };
    let before = storage.get(key, u64::MAX)?;
    if let Damage::Swap { with } = damage {
        let other = storage.get(with, u64::MAX)?;
        rewrite(with, Some(before))?;
        return rewrite(key, Some(other));
    }
    rewrite(key, damaged(before, damage))
}

fn damaged(mut bytes: Vec<u8>, damage: &Damage) -> Option<Vec<u8>> {
    let position = |offset: u64| usize::try_from(offset).unwrap();
    match damage {
        Damage::Flip { offset, mask } => bytes[position(*offset)] ^= mask,
        Damage::Truncate { len } => bytes.truncate(position(*len)),
        Damage::ZeroPage { page } => {
            let page = bytes.chunks_mut(4096).nth(position(*page));
            page.expect("the object has such a page").fill(0);
        }
        Damage::Delete | Damage::Swap { .. } => return None,
    }
    Some(bytes)
}

/// Shows damaged objects to whoever reads; what lies below stays whole.
#[derive(Debug)]
pub struct Flipping {
    inner: Arc<dyn Storage>,
    damages: Mutex<BTreeMap<String, Damage>>,
    unreadable: Mutex<Vec<(String, Range<u64>)>>,
}

impl Flipping {
    /// Without damage yet.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, damages: Mutex::default(), unreadable: Mutex::default() }
    }

    /// Shows `key` damaged from now on; a damage that it has already is replaced.
    pub fn damage(&self, key: &str, damage: Damage) {
        let mut damages = lock(&self.damages);
        if let Damage::Swap { with } = &damage {
            damages.insert(with.clone(), Damage::Swap { with: key.into() });
        }
        damages.insert(key.into(), damage);
    }

    /// These bytes of an object cannot be read from now on, as those of a bad sector, until it is
    /// written anew.
    pub fn make_unreadable(&self, key: &str, bytes: Range<u64>) {
        lock(&self.unreadable).push((key.into(), bytes));
    }

    /// Shows everything whole again.
    pub fn heal(&self) {
        lock(&self.damages).clear();
        lock(&self.unreadable).clear();
    }

    fn require_readable(&self, key: &str, bytes: Range<u64>) -> Result<()> {
        let meets = |(of, bad): &(String, Range<u64>)| {
            of == key && bad.start < bytes.end && bytes.start < bad.end
        };
        match lock(&self.unreadable).iter().any(meets) {
            true => Err(StorageError::new(ErrorKind::Corrupt, key, "Input/output error")),
            false => Ok(()),
        }
    }

    /// The content that is shown, if this object is shown damaged.
    fn shown(&self, key: &str) -> Option<Result<Vec<u8>>> {
        let damage = lock(&self.damages).get(key).cloned()?;
        let get = |key| self.inner.get(key, u64::MAX);
        Some(match &damage {
            Damage::Swap { with } => get(with),
            damage => get(key).and_then(|bytes| {
                let gone = || StorageError::new(ErrorKind::NotFound, key, "gone");
                damaged(bytes, damage).ok_or_else(gone)
            }),
        })
    }
}

impl Storage for Flipping {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        self.inner.put(key, parts)?;
        lock(&self.unreadable).retain(|(of, _)| of != key);
        Ok(())
    }

    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        self.require_readable(key, 0..u64::MAX)?;
        let Some(shown) = self.shown(key) else { return self.inner.get(key, len_max) };
        let bytes = shown?;
        match bytes.len() as u64 <= len_max {
            true => Ok(bytes),
            false => Err(StorageError::new(ErrorKind::Corrupt, key, "too long")),
        }
    }

    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        self.require_readable(key, offset..offset.saturating_add(len as u64))?;
        let Some(shown) = self.shown(key) else {
            return self.inner.get_range_into(key, offset, len, into);
        };
        let bytes = shown?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = bytes.get(start..start.saturating_add(len));
        let short = || StorageError::new(ErrorKind::Corrupt, key, "too short");
        range.ok_or_else(short)?.clone_into(into);
        Ok(())
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.inner.list(prefix, &mut |listed| match self.shown(&listed.key) {
            None => each(listed),
            Some(Ok(bytes)) => each(Listed { len: bytes.len() as u64, ..listed }),
            Some(Err(_)) => {}
        })
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }

    fn stat(&self, key: &str) -> Result<u64> {
        match self.shown(key) {
            None => self.inner.stat(key),
            Some(shown) => Ok(shown?.len() as u64),
        }
    }
}
