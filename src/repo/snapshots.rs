//! Snapshots that count, the notes on them, and forgetting. Format: `format-spec/10-snapshot.md`.

use std::collections::{BTreeMap, BTreeSet};

use super::{RepoError, Repository};
use crate::format::envelope::ObjectType;
use crate::format::session::{SessionObject, session_key, session_of_key};
use crate::format::snapshot::{Forgotten, Note, Snapshot, forgotten_key, note_key, snapshot_key};
use crate::id::{ClientId, NoteId, SnapshotId};
use crate::limits;
use crate::object::ObjectError;
use crate::progress::{Problem, Progress, Silent};
use crate::world::{Time, random};

/// A snapshot with its name and the newest note on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Its name.
    pub id: SnapshotId,
    /// Itself, as it was committed.
    pub snapshot: Snapshot,
    /// What was said of it later.
    pub note: Option<Note>,
    /// By which the next one in its line names it.
    pub hash: [u8; 32],
}

impl SnapshotRecord {
    /// The tags that count: the note's, else its own.
    pub fn tags(&self) -> &[String] {
        self.note.as_ref().map_or(&self.snapshot.tags, |note| &note.tags)
    }

    /// The description that counts: the note's, else its own.
    pub fn description(&self) -> &str {
        self.note.as_ref().map_or(&self.snapshot.description, |note| &note.description)
    }

    /// Whether no policy may forget it.
    pub fn pinned(&self) -> bool {
        self.note.as_ref().is_some_and(|note| note.pinned)
    }

    /// From when on it is to be forgotten.
    pub fn expires(&self) -> Option<Time> {
        self.note.as_ref().and_then(|note| note.expires)
    }
}

impl Repository {
    /// Names of the snapshots that count: those with a session record. `snapshots/` is listed
    /// first, so that one committed in between is at worst not seen yet.
    pub fn counted(&self) -> Result<BTreeSet<SnapshotId>, RepoError> {
        let mut ids = self.list_snapshot_objects()?;
        let sessions = self.list_sessions()?;
        ids.retain(|id| sessions.contains(&SessionObject::Record(*id)));
        Ok(ids)
    }

    /// Names of all snapshot objects, whether they count or not.
    pub fn list_snapshot_objects(&self) -> Result<BTreeSet<SnapshotId>, RepoError> {
        let mut ids = BTreeSet::new();
        self.storage().list("snapshots/", &mut |listed| {
            let name = listed.key.strip_prefix("snapshots/").unwrap_or_default();
            ids.extend(SnapshotId::from_hex(name));
        })?;
        Ok(ids)
    }

    /// Session records and fence marks.
    pub fn list_sessions(&self) -> Result<BTreeSet<SessionObject>, RepoError> {
        let mut sessions = BTreeSet::new();
        self.storage()
            .list("sessions/", &mut |listed| sessions.extend(session_of_key(&listed.key)))?;
        Ok(sessions)
    }

    /// Every snapshot that counts, oldest first. Damaged ones are told to `progress`.
    pub fn snapshots(&self, progress: &dyn Progress) -> Result<Vec<SnapshotRecord>, RepoError> {
        let mut notes = self.notes(progress)?;
        let mut records = Vec::new();
        for id in self.counted()? {
            match self.read_snapshot(&id) {
                Ok(Some((snapshot, hash))) => {
                    let note = notes.remove(&id);
                    records.push(SnapshotRecord { id, snapshot, note, hash });
                }
                Ok(None) => {}
                Err(RepoError::Object { key, source }) => {
                    progress.problem(&Problem::damage(key, source));
                }
                Err(error) => return Err(error),
            }
        }
        records.sort_by_key(|record| (record.snapshot.time, record.id));
        Ok(records)
    }

    /// Snapshots that open and do not count, with the notes on them.
    pub fn uncounted(&self) -> Result<Vec<SnapshotRecord>, RepoError> {
        let mut ids = self.list_snapshot_objects()?;
        let sessions = self.list_sessions()?;
        ids.retain(|id| !sessions.contains(&SessionObject::Record(*id)));
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut notes = self.notes(&Silent::default())?;
        let mut records = Vec::new();
        for id in ids {
            match self.read_snapshot(&id) {
                Ok(Some((snapshot, hash))) => {
                    let note = notes.remove(&id);
                    records.push(SnapshotRecord { id, snapshot, note, hash });
                }
                // It is nobody's, and says nothing to anybody.
                Ok(None) | Err(RepoError::Object { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// A snapshot and its hash, whether it counts or not; `None` when it is not there.
    pub fn read_snapshot(
        &self,
        id: &SnapshotId,
    ) -> Result<Option<(Snapshot, [u8; 32])>, RepoError> {
        let key = snapshot_key(id);
        let Some(payload) = self.read_object(ObjectType::Snapshot, &key)? else { return Ok(None) };
        let snapshot = Snapshot::decode(&payload);
        let snapshot =
            snapshot.map_err(|e| RepoError::Object { key, source: ObjectError::from(e) })?;
        Ok(Some((snapshot, self.keys().snapshot_hash(&payload)?)))
    }

    /// The payload of a sealed object, or `None` when it is not there.
    pub fn read_object(&self, kind: ObjectType, key: &str) -> Result<Option<Vec<u8>>, RepoError> {
        match self.storage().get(key, limits::OBJECT_LEN_MAX as u64) {
            Ok(object) => match self.sealer().open(kind, key, object) {
                Ok(payload) => Ok(Some(payload)),
                Err(source) => Err(RepoError::Object { key: key.into(), source }),
            },
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) if error.is_damage() => {
                Err(RepoError::Object { key: key.into(), source: ObjectError::Unreadable })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Seals and stores an object under a fresh key.
    pub fn write_object(
        &self,
        kind: ObjectType,
        key: &str,
        payload: &[u8],
    ) -> Result<(), RepoError> {
        let object = self
            .sealer()
            .seal(self.world(), kind, key, payload)
            .map_err(|source| RepoError::Object { key: key.into(), source })?;
        Ok(self.storage().put(key, &[&object])?)
    }

    /// The newest note on each snapshot.
    fn notes(&self, progress: &dyn Progress) -> Result<BTreeMap<SnapshotId, Note>, RepoError> {
        let mut newest: BTreeMap<SnapshotId, (u64, NoteId, Note)> = BTreeMap::new();
        for id in self.list_notes()? {
            let note = match self.read_note(&id) {
                Ok(Some(note)) => note,
                Ok(None) => continue,
                Err(RepoError::Object { key, source }) => {
                    progress.problem(&Problem::damage(key, source));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let rank = (note.counter, id);
            match newest.get(&note.snapshot) {
                Some((counter, other, _)) if (*counter, *other) > rank => {}
                _ => _ = newest.insert(note.snapshot, (rank.0, rank.1, note)),
            }
        }
        Ok(newest.into_iter().map(|(id, (_, _, note))| (id, note)).collect())
    }

    /// Notes that do not open, with what is wrong: nobody knows what they say, and of which
    /// snapshot.
    pub fn damaged_notes(&self) -> Result<Vec<(String, ObjectError)>, RepoError> {
        let mut damaged = Vec::new();
        for id in self.list_notes()? {
            if let Err(RepoError::Object { key, source }) = self.read_note(&id) {
                damaged.push((key, source));
            }
        }
        Ok(damaged)
    }

    /// Records of forgetting that do not open, with what is wrong.
    pub fn damaged_forgotten(&self) -> Result<Vec<(String, ObjectError)>, RepoError> {
        let mut damaged = Vec::new();
        self.read_forgotten(&mut |key, read| {
            damaged.extend(read.err().map(|source| (key, source)));
        })?;
        Ok(damaged)
    }

    pub(super) fn list_notes(&self) -> Result<BTreeSet<NoteId>, RepoError> {
        let mut ids = BTreeSet::new();
        self.storage().list("notes/", &mut |listed| {
            let name = listed.key.strip_prefix("notes/").unwrap_or_default();
            ids.extend(NoteId::from_hex(name));
        })?;
        Ok(ids)
    }

    fn read_note(&self, id: &NoteId) -> Result<Option<Note>, RepoError> {
        let key = note_key(id);
        let Some(payload) = self.read_object(ObjectType::Note, &key)? else { return Ok(None) };
        Note::decode(&payload).map_err(|e| RepoError::Object { key, source: e.into() })
    }

    /// Says something new of a snapshot; `change` starts from what is said now.
    pub fn annotate(
        &self,
        record: &SnapshotRecord,
        change: impl FnOnce(&mut Note),
    ) -> Result<Note, RepoError> {
        let mut note = record.note.clone().unwrap_or_else(|| Note {
            snapshot: record.id,
            counter: 0,
            time: Time::default(),
            tags: record.snapshot.tags.clone(),
            description: record.snapshot.description.clone(),
            pinned: false,
            expires: None,
        });
        note.counter += 1;
        note.time = self.world().now();
        change(&mut note);
        let payload = note.encode();
        Note::decode(&payload).map_err(RepoError::TooMuch)?;
        let key = note_key(&NoteId(random(self.world())));
        self.write_object(ObjectType::Note, &key, &payload)?;
        Ok(note)
    }

    /// Forgets snapshots (F1): first the record of it, then each session record, which is the
    /// moment of forgetting, then what is left of it. May be repeated by anyone.
    pub fn forget(&self, records: &[SnapshotRecord]) -> Result<(), RepoError> {
        // What it replaces is void, and soon nobody else would say so.
        let places = records.iter().flat_map(|record| {
            let Snapshot { client, number, replaces, .. } = &record.snapshot;
            let names = [Some(record.id), *replaces].into_iter().flatten();
            names.map(|id| (id, *client, *number))
        });
        self.record_forgotten(&places.collect::<Vec<_>>())?;
        let ids: BTreeSet<SnapshotId> = records.iter().map(|record| record.id).collect();
        for id in &ids {
            self.storage().delete(&session_key(id))?;
        }
        self.remove_uncounted(&ids)
    }

    /// Says for good that these are gone, and that somebody wanted or knows it: snapshots, each
    /// with its client and number in the line.
    pub fn record_forgotten(
        &self,
        snapshots: &[(SnapshotId, ClientId, u64)],
    ) -> Result<(), RepoError> {
        for some in snapshots.chunks(limits::LIST_MAX) {
            let forgotten = Forgotten {
                time: self.world().now(),
                host: self.environment().host.clone(),
                client: self.environment().client,
                snapshots: some.to_vec(),
            };
            let key = forgotten_key(&NoteId(random(self.world())));
            self.write_object(ObjectType::Forgotten, &key, &forgotten.encode())?;
        }
        Ok(())
    }

    /// Every record of forgetting. Damaged ones are told to `progress`.
    pub fn forgotten(&self, progress: &dyn Progress) -> Result<Vec<Forgotten>, RepoError> {
        let mut records = Vec::new();
        self.read_forgotten(&mut |key, read| match read {
            Ok(record) => records.push(record),
            Err(source) => progress.problem(&Problem::damage(key, source)),
        })?;
        Ok(records)
    }

    fn read_forgotten(
        &self,
        each: &mut dyn FnMut(String, Result<Forgotten, ObjectError>),
    ) -> Result<(), RepoError> {
        let mut keys = BTreeSet::new();
        self.storage().list("forgotten/", &mut |listed| _ = keys.insert(listed.key))?;
        for key in keys {
            match self.read_object(ObjectType::Forgotten, &key) {
                Ok(Some(payload)) => each(key, Forgotten::decode(&payload).map_err(Into::into)),
                Ok(None) => {}
                Err(RepoError::Object { key, source }) => each(key, Err(source)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Snapshots that do not count (P11): those that are known to be void, and those of which
    /// nothing says so. The latter may have lost their session record, so they are kept.
    pub fn void_and_unexplained(
        &self,
    ) -> Result<(BTreeSet<SnapshotId>, BTreeSet<SnapshotId>), RepoError> {
        let mut left = self.list_snapshot_objects()?;
        let counted = self.counted()?;
        left.retain(|id| !counted.contains(id));
        let mut void = BTreeSet::new();
        if left.is_empty() {
            return Ok((void, left));
        }
        // What a damaged record says is not known, so it explains nothing.
        for forgotten in self.forgotten(&Silent::default())? {
            void.extend(
                forgotten.snapshots.iter().map(|(id, ..)| *id).filter(|id| left.remove(id)),
            );
        }
        // Whoever replaces a void one may be void, too, and replaced by one that counts.
        let mut known: Vec<SnapshotId> = counted.into_iter().collect();
        while let Some(id) = known.pop() {
            if let Ok(Some((Snapshot { replaces: Some(replaced), .. }, _))) =
                self.read_snapshot(&id)
                && left.remove(&replaced)
            {
                void.insert(replaced);
                known.push(replaced);
            }
        }
        Ok((void, left))
    }

    /// Snapshots that do not count although nothing says that they are void.
    pub fn unexplained(&self) -> Result<BTreeSet<SnapshotId>, RepoError> {
        Ok(self.void_and_unexplained()?.1)
    }

    /// Removes what is left of snapshots that do not count: the notes on them, then themselves,
    /// so that whoever finds one knows that there may be notes too.
    pub fn remove_uncounted(&self, ids: &BTreeSet<SnapshotId>) -> Result<(), RepoError> {
        for note_id in self.list_notes()? {
            // A damaged note stays; it says nothing and harms nobody.
            if let Ok(Some(note)) = self.read_note(&note_id)
                && ids.contains(&note.snapshot)
            {
                self.storage().delete(&note_key(&note_id))?;
            }
        }
        for id in ids {
            self.storage().delete(&snapshot_key(id))?;
        }
        Ok(())
    }
}
