//! Which names belong to one file. The first that comes gets the content, later ones are links
//! to it. What is known of the first so many groups stays in memory, of all others in a
//! temporary file that has no name and vanishes by itself.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};

use crate::format::tree::Entry;
use crate::index::IndexError;
use crate::target::{Folder, Found, Kind};

/// A group of names: device and inode where the backup was made, and the kind, for a snapshot may
/// say the same numbers of things that cannot be one.
pub(super) type LinkKey = (u64, u64, u8);

/// What stands under a name of the target: device and inode.
pub(super) type Standing = (u64, u64);

/// So many groups are kept in memory: about 30 MB.
const GROUPS_MAX: usize = 200_000;
/// Memory that the file may take besides.
const CACHE_SIZE: usize = 4 << 20;

/// Of a group: names to come, whether it is settled, what stands there, the first name's path.
type Row = (u64, bool, Option<Standing>, &'static [u8]);
const GROUPS: TableDefinition<'_, LinkKey, Row> = TableDefinition::new("groups");

/// The key of an entry's group, if it has other names.
pub(super) fn key_of(entry: &Entry) -> Option<LinkKey> {
    let metadata = &entry.metadata;
    let kind = Kind::of(&entry.kind) as u8;
    (metadata.links > 1).then_some((metadata.device, metadata.inode, kind))
}

/// What stands there, to recognise another name of it.
pub(super) fn standing(found: &Found) -> Standing {
    (found.device, found.inode)
}

/// The first name of a group.
#[derive(Debug, Clone)]
pub(super) struct First {
    /// The folder, where it is known.
    pub folder: Option<Arc<Folder>>,
    /// Relative to the target.
    pub path: Vec<u8>,
    /// What stands there and stays, if nothing new is put there.
    pub standing: Option<Standing>,
}

#[derive(Debug)]
struct Group {
    /// Names that are still to come.
    left: u64,
    /// `None` as long as its fate is not decided, and when what stands there is another file.
    first: Option<First>,
}

/// All groups that came so far and are not complete.
#[derive(Debug)]
pub(super) struct Links {
    groups: HashMap<LinkKey, Group>,
    groups_max: usize,
    cache: PathBuf,
    spilled: Option<Spilled>,
}

type Result<T> = std::result::Result<T, IndexError>;

impl Links {
    /// With its temporary file, should it be needed, in this directory.
    pub fn new(cache: &Path) -> Self {
        Self { groups: HashMap::new(), groups_max: GROUPS_MAX, cache: cache.into(), spilled: None }
    }

    /// Whether a name is the first of its group, which has so many.
    pub fn is_first(&mut self, key: LinkKey, links: u64) -> Result<bool> {
        if self.groups.contains_key(&key) {
            return Ok(false);
        }
        let in_file = self.spilled.as_ref().map(|spilled| spilled.get(key)).transpose()?;
        if in_file.flatten().is_some() {
            return Ok(false);
        }
        self.put(key, Group { left: links.saturating_sub(1), first: None })?;
        Ok(true)
    }

    /// Says where a group's first name is.
    pub fn settle(&mut self, key: LinkKey, first: First) -> Result<()> {
        if let Some(group) = self.groups.get_mut(&key) {
            group.first = Some(first);
            return Ok(());
        }
        let Some(spilled) = &self.spilled else { return Ok(()) };
        match spilled.get(key)? {
            Some(group) => spilled.put(key, &Group { first: Some(first), ..group }),
            None => Ok(()),
        }
    }

    /// The first name of the group of a later one; `None` if that one must get content itself.
    /// Groups that are complete are forgotten.
    pub fn first(&mut self, key: LinkKey) -> Result<Option<First>> {
        let Some(mut group) = self.take(key)? else { return Ok(None) };
        group.left = group.left.saturating_sub(1);
        let first = group.first.clone();
        if group.left > 0 {
            self.put(key, group)?;
        }
        Ok(first)
    }

    fn take(&mut self, key: LinkKey) -> Result<Option<Group>> {
        match (self.groups.remove(&key), &self.spilled) {
            (None, Some(spilled)) => spilled.take(key),
            (group, _) => Ok(group),
        }
    }

    fn put(&mut self, key: LinkKey, group: Group) -> Result<()> {
        if self.groups.len() < self.groups_max {
            self.groups.insert(key, group);
            return Ok(());
        }
        match &self.spilled {
            Some(spilled) => spilled.put(key, &group),
            None => self.spilled.insert(Spilled::create(&self.cache)?).put(key, &group),
        }
    }
}

/// Groups in a file.
struct Spilled {
    path: PathBuf,
    /// Never committed: nobody reads it after this run.
    writing: WriteTransaction,
    _database: Database,
}

impl std::fmt::Debug for Spilled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spilled").finish_non_exhaustive()
    }
}

impl Spilled {
    fn create(cache: &Path) -> Result<Self> {
        let failed = |source| IndexError::Cache { path: cache.into(), source };
        let file = tempfile::tempfile_in(cache).map_err(failed)?;
        let database = Database::builder()
            .set_cache_size(CACHE_SIZE)
            .create_file(file)
            .map_err(|e| failed(io::Error::other(e)))?;
        let writing = database.begin_write().map_err(|e| failed(io::Error::other(e)))?;
        Ok(Self { path: cache.into(), writing, _database: database })
    }

    fn failed(&self, error: impl Into<redb::Error>) -> IndexError {
        IndexError::Cache { path: self.path.clone(), source: io::Error::other(error.into()) }
    }

    fn get(&self, key: LinkKey) -> Result<Option<Group>> {
        let table = self.writing.open_table(GROUPS).map_err(|e| self.failed(e))?;
        let row = table.get(key).map_err(|e| self.failed(e))?;
        Ok(row.map(|row| decode(row.value())))
    }

    fn take(&self, key: LinkKey) -> Result<Option<Group>> {
        let mut table = self.writing.open_table(GROUPS).map_err(|e| self.failed(e))?;
        let row = table.remove(key).map_err(|e| self.failed(e))?;
        Ok(row.map(|row| decode(row.value())))
    }

    fn put(&self, key: LinkKey, group: &Group) -> Result<()> {
        let mut table = self.writing.open_table(GROUPS).map_err(|e| self.failed(e))?;
        let first = group.first.as_ref();
        let path = first.map_or(&b""[..], |first| &first.path);
        let row = (group.left, first.is_some(), first.and_then(|first| first.standing), path);
        table.insert(key, row).map_err(|e| self.failed(e))?;
        Ok(())
    }
}

fn decode((left, settled, standing, path): (u64, bool, Option<Standing>, &[u8])) -> Group {
    let first = settled.then(|| First { folder: None, path: path.to_vec(), standing });
    Group { left, first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_the_same_in_memory_and_in_the_file() {
        let cache = tempfile::tempdir().unwrap();
        let mut links = Links::new(cache.path());
        links.groups_max = 10;
        let path = |n: u64| format!("a/{n}").into_bytes();
        for n in 0..1_000 {
            assert!(links.is_first((1, n, 0), 3).unwrap());
            assert!(!links.is_first((1, n, 0), 3).unwrap());
            let standing = (n % 2 == 0).then_some((5, n));
            // Every seventh is left undecided.
            if n % 7 != 0 {
                links.settle((1, n, 0), First { folder: None, path: path(n), standing }).unwrap();
            }
        }
        assert_eq!(links.groups.len(), 10);
        for _ in 0..2 {
            for n in 0..1_000 {
                let first = links.first((1, n, 0)).unwrap();
                assert_eq!(first.is_some(), n % 7 != 0);
                if let Some(first) = first {
                    assert_eq!(first.path, path(n));
                    assert_eq!(first.standing, (n % 2 == 0).then_some((5, n)));
                }
            }
        }
        // They had three names, and three came.
        assert!(links.groups.is_empty() && links.is_first((1, 3, 0), 2).unwrap());
        assert!(links.first((1, 500, 0)).unwrap().is_none());
        assert!(std::fs::read_dir(cache.path()).unwrap().next().is_none(), "the file has a name");
    }
}
