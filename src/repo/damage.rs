//! What was found damaged, told to everyone: writers store it again, a prune keeps other copies,
//! a repair mends it. Format: `format-spec/15-damage.md`.

use std::collections::BTreeSet;

use super::{RepoError, Repository};
use crate::format::damage::{Damage, damage_key, damage_of_key};
use crate::format::envelope::ObjectType;
use crate::id::{FrameId, NoteId, PackId};
use crate::progress::{Problem, Progress};
use crate::world::random;

impl Repository {
    /// Every record of damage. A record that is damaged itself is told to `progress`.
    pub fn damage(&self, progress: &dyn Progress) -> Result<Vec<(NoteId, Damage)>, RepoError> {
        let mut ids = BTreeSet::new();
        self.storage().list("damage/", &mut |listed| ids.extend(damage_of_key(&listed.key)))?;
        let mut records = Vec::new();
        for id in ids {
            match self.read_damage(&id) {
                Ok(record) => records.extend(record.map(|damage| (id, damage))),
                Err(RepoError::Object { key, source }) => {
                    progress.problem(&Problem::damage(key, source));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// A record, or `None` when it is not there.
    pub fn read_damage(&self, id: &NoteId) -> Result<Option<Damage>, RepoError> {
        let key = damage_key(id);
        let Some(payload) = self.read_object(ObjectType::Damage, &key)? else { return Ok(None) };
        let damage = Damage::decode(&payload);
        damage.map(Some).map_err(|e| RepoError::Object { key, source: e.into() })
    }

    /// Tells everyone that a pack is damaged: these of its frames, in any order, or if there are
    /// none its header or trailer.
    pub fn record_damage(
        &self,
        pack: PackId,
        mut frames: Vec<FrameId>,
        why: String,
    ) -> Result<(), RepoError> {
        frames.sort_unstable();
        frames.dedup();
        let environment = self.environment();
        let (host, client) = (environment.host.clone(), environment.client);
        let damage = Damage { pack, frames, time: self.world().now(), host, client, why };
        let key = damage_key(&NoteId(random(self.world())));
        self.write_object(ObjectType::Damage, &key, &damage.encode())
    }

    /// Takes a record back: what it says is no longer so. It only ever advises, so this is safe
    /// at any time.
    pub fn remove_damage(&self, id: &NoteId) -> Result<(), RepoError> {
        Ok(self.storage().delete(&damage_key(id))?)
    }
}
