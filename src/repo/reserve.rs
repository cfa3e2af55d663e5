//! The reserve: room that is given up on a full disk, so that cleaning up can begin at all.
//! Format: `format-spec/01-overview.md#the-reserve`.

use super::{RepoError, Repository};
use crate::id::NoteId;
use crate::storage::{ErrorKind, StorageError};
use crate::world::random;

const PREFIX: &str = "reserve/";
/// Objects that it is made of: a file system can run out of files before it runs out of bytes,
/// and a prune makes a few before it removes the first.
const OBJECTS: usize = 16;
/// Length of each, bytes.
const OBJECT_LEN: usize = 64 << 10;

/// So many are made however little room there is: a repository that cannot be cleaned up is worse
/// than one that takes no more backups.
const OBJECTS_MIN: usize = 4;
/// Beyond those it takes at most one part in so many of what is free.
const SHARE: u64 = 4;

/// Length of the whole reserve, bytes.
pub const RESERVE_LEN: u64 = (OBJECTS * OBJECT_LEN) as u64;

impl Repository {
    /// Makes what is missing of the reserve, as far as there is room, and without taking most of
    /// it: what a prune has freed on a full disk is for the next backup. Two who do so at once
    /// make one that is larger than it has to be.
    pub fn keep_reserve(&self) -> Result<(), RepoError> {
        let mut content = vec![0; OBJECT_LEN];
        for _ in self.reserve_keys()?.len()..self.reserve_wanted() {
            // Nothing that a file system could compress or share.
            self.world().random(&mut content);
            // Never an old name: who gives the reserve up may be late.
            let key = format!("{PREFIX}{}", NoteId(random(self.world())));
            match self.storage().put(&key, &[&content]) {
                Err(StorageError { kind: ErrorKind::Full, .. }) => break,
                put => put?,
            }
        }
        Ok(())
    }

    /// How many objects it is to have.
    fn reserve_wanted(&self) -> usize {
        let Some(free) = self.storage().free_room() else { return OBJECTS };
        let fit = free.objects.min(free.bytes / OBJECT_LEN as u64) / SHARE;
        usize::try_from(fit).unwrap_or(OBJECTS).clamp(OBJECTS_MIN, OBJECTS)
    }

    /// Gives the reserve up. Only what makes room may do so: for others it is not there.
    pub fn give_up_reserve(&self) -> Result<(), RepoError> {
        self.reserve_keys()?.iter().try_for_each(|key| Ok(self.storage().delete(key)?))
    }

    fn reserve_keys(&self) -> Result<Vec<String>, RepoError> {
        let mut keys = Vec::new();
        self.storage().list(PREFIX, &mut |listed| keys.push(listed.key))?;
        Ok(keys)
    }
}
