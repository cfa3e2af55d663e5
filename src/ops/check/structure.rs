//! The structure: every object opens, every chunk that a snapshot needs lies in a pack that is
//! there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{Findings, Packs};
use crate::format::envelope::ObjectType;
use crate::format::epoch::{EpochStep, epoch_of_key};
use crate::format::pack::pack_key;
use crate::format::session::session_of_key;
use crate::format::tree::{EntryKind, Ref, Refs};
use crate::id::{ChunkId, PackId};
use crate::index::segment_key;
use crate::ops::OpsError;
use crate::progress::Counter;
use crate::repo::{RepoError, Repository, SnapshotRecord};
use crate::tree::{Entries, TreeReader};

/// Opens every object but packs and index segments.
pub(super) fn objects(
    repository: &Arc<Repository>,
    findings: &mut Findings<'_>,
) -> Result<(), OpsError> {
    findings.progress.phase("opening objects", Counter::Objects, None);
    match repository.slots() {
        Ok(_) => {}
        Err(RepoError::Object { key, source }) => findings.damaged(&key, source.to_string()),
        Err(error) => return Err(error.into()),
    }
    let mut keys = Vec::new();
    for prefix in ["snapshots/", "notes/", "forgotten/", "sessions/", "epochs/"] {
        repository.storage().list(prefix, &mut |listed| keys.push(listed.key))?;
    }
    keys.sort();
    for key in keys {
        let Some(kind) = kind_of(&key) else {
            findings.progress.note(&format!(
                "{}: no object of a repository",
                crate::text::escape(key.as_bytes())
            ));
            continue;
        };
        findings.progress.add(Counter::Objects, 1);
        match repository.read_object(kind, &key) {
            Ok(_) => {}
            Err(RepoError::Object { key, source }) => findings.damaged(&key, source.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn kind_of(key: &str) -> Option<ObjectType> {
    use crate::format::session::SessionObject;
    let (directory, _) = key.split_once('/')?;
    match directory {
        "snapshots" => Some(ObjectType::Snapshot),
        "notes" => Some(ObjectType::Note),
        "forgotten" => Some(ObjectType::Forgotten),
        "sessions" => match session_of_key(key)? {
            SessionObject::Record(_) => Some(ObjectType::Session),
            SessionObject::Fence(_) => Some(ObjectType::Fence),
        },
        "epochs" => match epoch_of_key(key)?.1 {
            EpochStep::Plan => Some(ObjectType::Plan),
            EpochStep::Sweep => Some(ObjectType::Sweep),
            EpochStep::Done => Some(ObjectType::Done),
        },
        _ => None,
    }
}

/// Compares what the index says with the packs that are there.
pub(super) fn packs(
    repository: &Arc<Repository>,
    findings: &mut Findings<'_>,
) -> Result<Packs, OpsError> {
    findings.progress.phase("comparing packs with the index", Counter::Objects, None);
    let refreshed = repository.refresh_index()?;
    for (id, error) in refreshed.damaged {
        findings.damaged(&segment_key(&id), error.to_string());
    }
    let listed: HashMap<PackId, u64> = repository.list_packs()?.into_iter().collect();
    let mut known = BTreeMap::new();
    let mut learn = |repository: &Repository| {
        repository
            .with_index(|index| index.packs(&mut |_, pack| _ = known.insert(pack.id, pack.clone())))
    };
    learn(repository)??;
    let before = known.len();
    let unknown = listed.keys().filter(|id| !known.contains_key(id)).count();
    if unknown > 0 {
        for (id, error) in repository.learn_from_trailers()? {
            findings.damaged(&pack_key(&id), format!("its trailer cannot be read: {error}"));
        }
        let mut learn = |repository: &Repository| {
            repository.with_index(|index| {
                index.packs(&mut |_, pack| _ = known.insert(pack.id, pack.clone()))
            })
        };
        learn(repository)??;
    }
    findings.report.packs = listed.len() as u64;
    findings.report.packs_unknown = (known.len() - before) as u64;
    for pack in known.values() {
        if let Some(len) = listed.get(&pack.id).filter(|len| **len != pack.len) {
            let why = format!("it has {len} bytes instead of {}", pack.len);
            findings.damaged(&pack_key(&pack.id), why);
        }
    }
    Ok(Packs { listed, known })
}

/// What the snapshots need.
pub(super) struct Needs {
    /// Chunks that are nowhere.
    pub missing: HashSet<ChunkId>,
    /// Packs that hold what is needed; `None` when nobody asked.
    pub packs: Option<HashSet<PackId>>,
}

struct Walk<'a, 'b> {
    repository: &'a Arc<Repository>,
    packs: &'a Packs,
    trees: TreeReader,
    /// Chunks that were met, by their number in the index.
    met: Vec<u64>,
    needs: Needs,
    findings: &'a mut Findings<'b>,
}

/// Walks the trees of all snapshots, each subtree once.
pub(super) fn needs(
    repository: &Arc<Repository>,
    records: &[SnapshotRecord],
    packs: &Packs,
    findings: &mut Findings<'_>,
) -> Result<Needs, OpsError> {
    let progress = findings.progress;
    progress.phase("walking snapshots", Counter::Objects, Some(records.len() as u64));
    repository.with_index_mut(|index| index.fold())?;
    let count = repository.with_index(|index| index.chunk_count())?;
    let mut walk = Walk {
        repository,
        packs,
        trees: TreeReader::new(repository),
        met: vec![0; usize::try_from(count / 64 + 1).unwrap_or(usize::MAX)],
        needs: Needs { missing: HashSet::new(), packs: Some(HashSet::new()) },
        findings,
    };
    for record in records {
        walk.tree(&record.snapshot.root)?;
        progress.add(Counter::Objects, 1);
    }
    walk.findings.report.snapshots = records.len() as u64;
    let needs = walk.needs;
    for pack in packs.known.values().filter(|pack| !packs.listed.contains_key(&pack.id)) {
        // Prunes remove packs that the local index still knows: only a needed one is missed.
        let needed = needs.packs.as_ref().is_some_and(|needed| needed.contains(&pack.id));
        if needed {
            findings.damaged(&pack_key(&pack.id), "it is missing".into());
        }
    }
    Ok(needs)
}

impl Walk<'_, '_> {
    fn tree(&mut self, root: &Refs) -> Result<(), OpsError> {
        let mut open: Vec<Entries> = self.below(root)?.into_iter().collect();
        while let Some(entries) = open.last_mut() {
            if self.findings.progress.cancelled() {
                return Err(OpsError::Cancelled);
            }
            let entry = entries.next();
            let lists = entries.take_lists();
            for id in lists {
                self.chunk(&id)?;
            }
            match entry {
                None => _ = open.pop(),
                // What is missing or damaged is noted by its chunk; the walk goes on behind it.
                Some(Err(error)) => self.unreadable(error)?,
                Some(Ok(entry)) => match entry.kind {
                    EntryKind::Directory { listing } => open.extend(self.below(&listing)?),
                    EntryKind::File { content, .. } => self.content(&content)?,
                    _ => {}
                },
            }
        }
        Ok(())
    }

    fn unreadable(&mut self, error: crate::tree::TreeError) -> Result<(), OpsError> {
        use crate::tree::TreeError;
        match error {
            TreeError::Repo(RepoError::Chunk { id, .. }) | TreeError::Format { id, .. } => {
                self.needs.missing.insert(id);
                Ok(())
            }
            error => Err(error.into()),
        }
    }

    /// The entries of a listing that was not walked before.
    fn below(&mut self, listing: &Refs) -> Result<Option<Entries>, OpsError> {
        let walk = self.listing(listing)?;
        Ok(walk.then(|| self.trees.entries(listing).with_lists()))
    }

    /// Whether a listing is to be walked: one whose first chunk was met was walked before, and so
    /// was what is below it.
    fn listing(&mut self, listing: &Refs) -> Result<bool, OpsError> {
        let mut all_met = true;
        for item in &listing.refs {
            if let Ref::Chunk { id, .. } = item {
                all_met &= self.is_met(id)?;
            }
        }
        Ok(!all_met)
    }

    fn content(&mut self, content: &Refs) -> Result<(), OpsError> {
        let mut leaves = self.trees.leaves(content).with_lists();
        loop {
            let leaf = leaves.next();
            for id in leaves.take_lists() {
                self.chunk(&id)?;
            }
            match leaf {
                None => return Ok(()),
                Some(Ok(Ref::Chunk { id, .. })) => self.chunk(&id)?,
                Some(Ok(Ref::Hole { .. })) => {}
                Some(Err(error)) => self.unreadable(error)?,
            }
        }
    }

    fn is_met(&self, id: &ChunkId) -> Result<bool, OpsError> {
        let number = self.repository.with_index(|index| index.number(id))??;
        Ok(number.is_some_and(|number| self.bit(number).is_some_and(|(word, bit)| word & bit != 0)))
    }

    fn bit(&self, number: u64) -> Option<(u64, u64)> {
        let at = usize::try_from(number / 64).ok()?;
        Some((*self.met.get(at)?, 1 << (number % 64)))
    }

    /// Notes that a chunk is needed: it must lie in a pack that is there.
    fn chunk(&mut self, id: &ChunkId) -> Result<(), OpsError> {
        if self.is_met(id)? {
            return Ok(());
        }
        let number = self.repository.with_index(|index| index.number(id))??;
        if let Some(number) = number
            && let Ok(at) = usize::try_from(number / 64)
            && let Some(word) = self.met.get_mut(at)
        {
            *word |= 1 << (number % 64);
        }
        self.findings.report.chunks += 1;
        let places = self.repository.with_index(|index| index.locations(id))??;
        let listed = |pack: &PackId| self.packs.listed.contains_key(pack);
        if let Some(needed) = &mut self.needs.packs {
            // One good copy is enough; where there is none, all that are known are missed.
            let good = places.iter().find(|place| listed(&place.pack.id));
            match good {
                Some(place) => _ = needed.insert(place.pack.id),
                None => needed.extend(places.iter().map(|place| place.pack.id)),
            }
        }
        if !places.iter().any(|place| listed(&place.pack.id)) {
            self.needs.missing.insert(*id);
        }
        Ok(())
    }
}
