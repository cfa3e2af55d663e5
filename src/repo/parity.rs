//! Parity: which packs have it, and whether new ones get it. Format: `format-spec/16-parity.md`.

use std::collections::HashSet;

use super::{RepoError, Repository};
use crate::format::FormatError;
use crate::format::envelope::ObjectType;
use crate::format::parity::parity_of_key;
use crate::format::snapshot::{Wish, note_key};
use crate::id::{NoteId, PackId};
use crate::limits;
use crate::world::random;

impl Repository {
    /// How much parity new packs get, percent of their length; 0 for none.
    pub fn parity(&self) -> Result<u8, RepoError> {
        Ok(self.wish()?.unwrap_or_default().parity)
    }

    /// From now on new packs get so much parity.
    pub fn set_parity(&self, percent: u8) -> Result<(), RepoError> {
        if percent > limits::PARITY_PERCENT_MAX {
            return Err(RepoError::TooMuch(FormatError::Bad("parity")));
        }
        let before = self.wish()?.unwrap_or_default();
        if before.parity == percent {
            return Ok(());
        }
        let counter = before.counter.saturating_add(1);
        let wish = Wish { counter, time: self.world().now(), parity: percent };
        let key = note_key(&NoteId(random(self.world())));
        self.write_object(ObjectType::Note, &key, &wish.encode())
    }

    /// The newest wish. One that is damaged is passed over: it is not worth stopping a backup.
    fn wish(&self) -> Result<Option<Wish>, RepoError> {
        let mut newest: Option<(u64, NoteId, Wish)> = None;
        for id in self.list_notes()? {
            let wish = match self.read_object(ObjectType::Note, &note_key(&id)) {
                Ok(payload) => payload.and_then(|payload| Wish::decode(&payload).ok().flatten()),
                Err(RepoError::Object { .. }) => None,
                Err(error) => return Err(error),
            };
            if let Some(wish) = wish
                && newest.is_none_or(|(counter, other, _)| (counter, other) < (wish.counter, id))
            {
                newest = Some((wish.counter, id, wish));
            }
        }
        Ok(newest.map(|(.., wish)| wish))
    }

    /// Packs that have parity.
    pub fn list_parity(&self) -> Result<HashSet<PackId>, RepoError> {
        let mut packs = HashSet::new();
        self.storage().list("parity/", &mut |listed| packs.extend(parity_of_key(&listed.key)))?;
        Ok(packs)
    }
}
