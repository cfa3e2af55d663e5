//! The sweep (P8 to P11): the index first, then the packs, then the end, then what lies about.

use std::sync::Mutex;
use std::sync::PoisonError;

use super::super::mark::Marks;
use super::super::room::is_full;
use super::super::{OpsError, SEGMENT_CHUNKS_MAX};
use super::PruneReport;
use crate::format::damage::Damage;
use crate::format::epoch::{EpochStep, Plan, Sweep, epoch_key};
use crate::format::pack::{PackInfo, pack_key};
use crate::format::parity::parity_key;
use crate::format::session::{SessionObject, fence_key, session_key};
use crate::id::{NoteId, PackId, SegmentId, SnapshotId};
use crate::index::{IndexError, list_segments, read_segment, segment_key, write_segment};
use crate::limits;
use crate::progress::{Counter, Problem, Progress, Silent};
use crate::repo::{Repository, listed_len};
use crate::storage::StorageError;

/// A segment with fewer chunks is merged with others.
const SMALL_SEGMENT_CHUNKS: usize = 8_192;
/// So many objects are deleted at once: each deletion waits for the disk or the network.
const DELETIONS_AT_ONCE: usize = 4;

/// P8 to P11 of an epoch whose sweep record is there. `false`: dead packs are still listed.
pub(super) fn sweep(
    repository: &Repository,
    number: u64,
    plan: &Plan,
    sweep: &Sweep,
    progress: &dyn Progress,
    report: &mut PruneReport,
) -> Result<bool, OpsError> {
    let dead = plan.dead(sweep);
    if !dead.is_empty() {
        match replace_segments(repository, &dead, progress) {
            // No room for the replacements. What names dead packs harms nobody (W3, R1), so the
            // packs may go first; the segments with living ones are still there.
            Err(error) if is_full(&error) => {
                delete_packs(repository, &dead, progress, report)?;
                replace_segments(repository, &dead, progress)?;
            }
            result => result?,
        }
        delete_packs(repository, &dead, progress, report)?;
    }
    // P10: only when a listing shows none of them.
    if repository.list_packs()?.iter().any(|(id, _)| dead.binary_search(id).is_ok()) {
        let why = "dead packs are still listed after they were deleted";
        progress.problem(&Problem::at("packs/", why));
        return Ok(false);
    }
    repository.put_epoch(number, EpochStep::Done, &[])?;
    tidy(repository, number, &[])?;
    Ok(true)
}

/// P8: segments that name dead packs are replaced: stored first, then deleted. Small ones are
/// merged on the way.
pub(super) fn replace_segments(
    repository: &Repository,
    dead: &[PackId],
    progress: &dyn Progress,
) -> Result<(), OpsError> {
    // Segments first, then packs: a pack that a listed segment names was stored before it, so one
    // that is not listed now is gone.
    let segments = list_segments(repository.storage())?;
    let listed = repository.list_packs()?;
    let stays = |id: &PackId| listed_len(&listed, id).is_some() && dead.binary_search(id).is_err();
    let mut replacing = Replacing {
        repository,
        written: Marks::new(listed.len() as u64),
        listed: &listed,
        waiting: Vec::new(),
        chunk_count: 0,
        sources: Vec::new(),
        changed: false,
    };
    progress.phase("index", Counter::Objects, Some(segments.len() as u64));
    for id in segments {
        if progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        let mut packs = match read_segment(repository.storage(), repository.sealer(), &id) {
            Ok(packs) => packs,
            Err(IndexError::Storage(error)) if error.is_not_found() => continue,
            Err(error @ IndexError::Storage(_)) => return Err(error.into()),
            // It names nothing to anybody; to mend it is a repair's work.
            Err(error) => {
                progress.problem(&Problem::damage(segment_key(&id), error));
                continue;
            }
        };
        let before = packs.len();
        packs.retain(|pack| stays(&pack.id));
        let changed = packs.len() < before;
        if changed || chunk_count(&packs) < SMALL_SEGMENT_CHUNKS {
            replacing.add(id, packs, changed)?;
        }
        progress.add(Counter::Objects, 1);
    }
    replacing.finish()
}

fn chunk_count(packs: &[PackInfo]) -> usize {
    packs.iter().flat_map(|pack| &pack.trailer.frames).map(|frame| frame.chunks.len()).sum()
}

struct Replacing<'a> {
    repository: &'a Repository,
    listed: &'a [(PackId, u64)],
    /// Which of them stand in a replacement already. Only what this pass has stored itself counts:
    /// another prune may replace whatever else is there.
    written: Marks,
    waiting: Vec<PackInfo>,
    chunk_count: usize,
    /// What the next replacement replaces.
    sources: Vec<SegmentId>,
    /// One of the sources names what is gone.
    changed: bool,
}

impl Replacing<'_> {
    /// The number of a pack that is listed.
    fn number(&self, id: &PackId) -> u64 {
        self.listed.partition_point(|(listed, _)| listed < id) as u64
    }

    fn add(&mut self, id: SegmentId, packs: Vec<PackInfo>, changed: bool) -> Result<(), OpsError> {
        let count = chunk_count(&packs);
        let full = self.chunk_count + count > SEGMENT_CHUNKS_MAX
            || self.waiting.len() + packs.len() > limits::SEGMENT_PACKS_MAX;
        if full && !self.sources.is_empty() {
            self.store()?;
        }
        self.chunk_count += count;
        self.changed |= changed;
        self.sources.push(id);
        for pack in packs {
            let number = self.number(&pack.id);
            if self.written.set(number) {
                self.waiting.push(pack);
            }
        }
        Ok(())
    }

    fn store(&mut self) -> Result<(), OpsError> {
        let sources = std::mem::take(&mut self.sources);
        let packs = std::mem::take(&mut self.waiting);
        self.chunk_count = 0;
        // One small segment that names only what is there is as good as its copy. But it is not
        // ours: it may go at any time, and what it names must not be left out elsewhere.
        if !std::mem::take(&mut self.changed) && sources.len() < 2 {
            for pack in &packs {
                let number = self.number(&pack.id);
                self.written.unset(number);
            }
            return Ok(());
        }
        let repository = self.repository;
        if !packs.is_empty() {
            write_segment(repository.storage(), repository.sealer(), repository.world(), &packs)?;
        }
        delete_all(repository, sources.iter().map(segment_key))
    }

    fn finish(mut self) -> Result<(), OpsError> {
        self.store()
    }
}

/// P9: deletes the dead packs and their parity, and nothing else.
fn delete_packs(
    repository: &Repository,
    dead: &[PackId],
    progress: &dyn Progress,
    report: &mut PruneReport,
) -> Result<(), OpsError> {
    let is_dead = |id: &&PackId| dead.binary_search(id).is_ok();
    let mut listed = repository.list_packs()?;
    listed.retain(|(id, _)| is_dead(&id));
    progress.phase("removing", Counter::Objects, Some(listed.len() as u64));
    let parity = repository.list_parity()?;
    delete_all(repository, parity.iter().filter(is_dead).map(parity_key))?;
    delete_all(repository, listed.iter().map(|(id, _)| pack_key(id)))?;
    listed.iter().for_each(|(_, len)| report.removed.add(*len));
    progress.add(Counter::Objects, listed.len() as u64);
    Ok(())
}

/// Deletes objects, several at once. The first failure is returned after all were tried.
fn delete_all(
    repository: &Repository,
    keys: impl Iterator<Item = String> + Send,
) -> Result<(), OpsError> {
    let left = Mutex::new(keys.peekable());
    let failed: Mutex<Option<StorageError>> = Mutex::new(None);
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(key) = next() {
            if let Err(error) = repository.storage().delete(&key) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    let is_empty = left.lock().unwrap_or_else(PoisonError::into_inner).peek().is_none();
    if !is_empty {
        std::thread::scope(|scope| (0..DELETIONS_AT_ONCE).for_each(|_| _ = scope.spawn(work)));
    }
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(error) => Err(error.into()),
    }
}

/// P11, after the end of epoch `number`: marks, then void snapshots, then the epochs below.
pub(super) fn tidy(
    repository: &Repository,
    number: u64,
    records: &[(NoteId, Damage)],
) -> Result<(), OpsError> {
    tidy_damage(repository, records)?;
    let sessions = repository.list_sessions()?;
    for session in &sessions {
        if let SessionObject::Fence(id) = session
            && !sessions.contains(&SessionObject::Record(*id))
            && is_gone(repository, id)?
        {
            repository.storage().delete(&fence_key(id))?;
        }
    }
    let (void, _) = repository.void_and_unexplained()?;
    if !void.is_empty() {
        repository.remove_uncounted(&void)?;
    }
    for (below, steps) in repository.list_epochs()?.range(..number) {
        for step in steps {
            repository.storage().delete(&epoch_key(*below, *step))?;
        }
    }
    tidy_packs(repository)
}

/// What is left of packs that are gone: their parity, and what was found damaged in them. The
/// packs are listed last, and one that is not listed then never comes back.
fn tidy_packs(repository: &Repository) -> Result<(), OpsError> {
    let parity = repository.list_parity()?;
    let damage = repository.damage(&Silent::default())?;
    if parity.is_empty() && damage.is_empty() {
        return Ok(());
    }
    let listed = repository.list_packs()?;
    let is_gone = |id: &PackId| listed_len(&listed, id).is_none();
    for id in parity.iter().filter(|id| is_gone(id)) {
        repository.storage().delete(&parity_key(id))?;
    }
    for (id, _) in damage.iter().filter(|(_, damage)| is_gone(&damage.pack)) {
        repository.remove_damage(id)?;
    }
    Ok(())
}

/// Records of damage to packs that are gone. They were there before the plan was made, which has
/// found all that is needed, so nobody misses what was damaged.
pub(super) fn tidy_damage(
    repository: &Repository,
    records: &[(NoteId, Damage)],
) -> Result<(), OpsError> {
    if records.is_empty() {
        return Ok(());
    }
    let listed = repository.list_packs()?;
    for (id, damage) in records {
        if listed_len(&listed, &damage.pack).is_none() {
            repository.remove_damage(id)?;
        }
    }
    Ok(())
}

/// Whether a session's record is gone, looked at after its mark was seen: a listing is not of
/// one moment, and may show the mark of a session that began while it was made. A record never
/// comes back, so this stays true.
fn is_gone(repository: &Repository, id: &SnapshotId) -> Result<bool, OpsError> {
    match repository.storage().stat(&session_key(id)) {
        Ok(_) => Ok(false),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error.into()),
    }
}
