//! Snapshots: those that lost their session record count again, and those that miss something for
//! good are written anew without it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::content::ContentReader;
use super::super::copy::tree::TreeCopy;
use super::super::mark::Stock;
use super::super::{OpsError, in_sessions, or_abort};
use super::{How, RepairPlan, Work, find, snapshot_key};
use crate::format::envelope::ObjectType;
use crate::format::session::{Purpose, Session as SessionRecord, session_key};
use crate::format::snapshot::{Outcome, Snapshot, Statistics};
use crate::format::tree::Ref;
use crate::id::SnapshotId;
use crate::progress::{Progress, Silent};
use crate::repo::{RepoError, Repository, Session, SnapshotRecord};
use crate::tree::TreeReader;

/// Snapshots that cannot be had, and why: those that count and do not open, and those that lost
/// their session record together with what it would take to commit them again.
pub(super) fn unreadable(
    repository: &Repository,
    uncounted: &[SnapshotRecord],
) -> Result<Vec<(SnapshotId, String)>, OpsError> {
    let mut found = Vec::new();
    let unexplained = repository.unexplained()?;
    let known: BTreeSet<SnapshotId> = uncounted.iter().map(|record| record.id).collect();
    for id in repository.counted()?.union(&unexplained).filter(|id| !known.contains(id)) {
        match repository.read_snapshot(id) {
            Ok(Some(_)) if unexplained.contains(id) => {
                found.push((*id, "its session record and its topmost listing are lost".into()));
            }
            Ok(_) => {}
            Err(RepoError::Object { source, .. }) if !source.is_unknown() => {
                found.push((*id, source.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Snapshots that open and do not count, though nothing says that they are void (P11): their session
/// record is lost. Not those of which nothing is left.
pub(super) fn uncounted(
    repository: &Repository,
    stock: &Stock,
) -> Result<Vec<SnapshotRecord>, OpsError> {
    // The snapshots first: one that is committed in between is not in the first listing.
    let mut found = repository.uncounted()?;
    if found.is_empty() {
        return Ok(found);
    }
    let unexplained = repository.unexplained()?;
    found.retain(|record| unexplained.contains(&record.id));
    let mut with_root = Vec::new();
    for record in found {
        let chunks = record.snapshot.root.refs.iter().filter_map(|item| match item {
            Ref::Chunk { id, .. } => Some(stock.number(id)),
            Ref::Hole { .. } => None,
        });
        if chunks.collect::<Result<Vec<_>, _>>()?.iter().all(Option::is_some) {
            with_root.push(record);
        }
    }
    Ok(with_root)
}

/// Snapshots that count by a session record that does not open. It cannot be stored again: nobody
/// but its session writes that name (F2).
pub(super) fn with_damaged_session(
    repository: &Repository,
) -> Result<Vec<SnapshotRecord>, OpsError> {
    let mut found = Vec::new();
    for record in repository.snapshots(&Silent::default())? {
        let key = session_key(&record.id);
        let read = repository.read_object(ObjectType::Session, &key).and_then(|payload| {
            let session = payload.map(|payload| SessionRecord::decode(&payload)).transpose();
            session.map_err(|e| RepoError::Object { key, source: e.into() })
        });
        match read {
            Ok(_) => {}
            Err(RepoError::Object { source, .. }) if !source.is_unknown() => found.push(record),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Notes and records of forgetting that do not open, by key, and why.
pub(super) fn unsaid(repository: &Repository) -> Result<Vec<(String, String)>, OpsError> {
    let mut found = repository.damaged_notes()?;
    found.append(&mut repository.damaged_forgotten()?);
    match found.iter().position(|(_, source)| source.is_unknown()) {
        Some(at) => {
            let (key, source) = found.swap_remove(at);
            Err(RepoError::Object { key, source }.into())
        }
        None => Ok(found.into_iter().map(|(key, source)| (key, source.to_string())).collect()),
    }
}

/// Commits snapshots again that lost their session record. Every chunk is looked up (W5), and the
/// old name is forgotten then.
pub(super) fn commit_again(work: &mut Work<'_>, plan: &RepairPlan) -> Result<(), OpsError> {
    for record in &plan.uncounted {
        let original = record.snapshot.original;
        let new = write(work.repository, record, original, Some(record.id), work.progress)?;
        work.repository.forget(std::slice::from_ref(record))?;
        work.mended(snapshot_key(&record.id), How::Committed(new));
    }
    Ok(())
}

/// Removes what nobody can read, writes snapshots anew without what is lost, and forgets the old
/// ones.
pub(super) fn drop_lost(work: &mut Work<'_>, plan: &RepairPlan) -> Result<(), OpsError> {
    let repository = work.repository;
    for (key, _) in &plan.unsaid {
        repository.storage().delete(key).map_err(RepoError::from)?;
        work.mended(key.clone(), How::Removed);
    }
    // What was mended since the plan may have brought back what some of them need.
    let uncounted = uncounted(repository, &Stock::take(repository)?)?;
    let still = unreadable(repository, &uncounted)?;
    for (id, _) in still {
        if !plan.unreadable.iter().any(|(planned, _)| *planned == id) {
            continue;
        }
        let snapshot = Snapshot::default();
        repository.forget(&[SnapshotRecord { id, snapshot, note: None, hash: [0; 32] }])?;
        work.mended(snapshot_key(&id), How::Forgotten);
    }
    let mut done: BTreeSet<SnapshotId> = BTreeSet::new();
    loop {
        let stock = Stock::take(repository)?;
        let lost = find::losses(repository, &stock, work.progress)?;
        let touched: BTreeSet<SnapshotId> = lost.iter().map(|lost| lost.snapshot).collect();
        let records = repository.snapshots(&Silent::default())?;
        let mut dropped = false;
        for record in records.iter().filter(|record| touched.contains(&record.id)) {
            if !done.insert(record.id) {
                continue;
            }
            // A repair that was cut off may have written it already.
            let is_new = |other: &&SnapshotRecord| other.snapshot.original == Some(record.id);
            let new = match records.iter().find(is_new) {
                Some(new) => new.id,
                None => write(repository, record, Some(record.id), None, work.progress)?,
            };
            done.insert(new);
            repository.forget(std::slice::from_ref(record))?;
            work.mended(snapshot_key(&record.id), How::Rewritten(new));
            dropped = true;
        }
        if !dropped {
            return Ok(());
        }
    }
}

/// Writes a snapshot as a new one: all of it that can be had.
fn write(
    repository: &Arc<Repository>,
    record: &SnapshotRecord,
    original: Option<SnapshotId>,
    replaces: Option<SnapshotId>,
    progress: &dyn Progress,
) -> Result<SnapshotId, OpsError> {
    in_sessions(replaces, progress, |replaces| {
        attempt(repository, record, original, replaces, progress)
    })
}

fn attempt(
    repository: &Arc<Repository>,
    record: &SnapshotRecord,
    original: Option<SnapshotId>,
    replaces: Option<SnapshotId>,
    progress: &dyn Progress,
) -> Result<SnapshotId, OpsError> {
    let (reader, trees) = (ContentReader::new(repository), TreeReader::new(repository));
    let mut session = Session::begin(repository, Purpose::Rewrite, None)?;
    let tree = TreeCopy::new(&reader, &trees, &mut session, progress);
    let copied = tree.run(&record.snapshot, None);
    let (session, copied) = or_abort(session, copied)?;
    let old = &record.snapshot;
    let mut snapshot = Snapshot {
        root: copied.root,
        tags: record.tags().to_vec(),
        description: record.description().to_owned(),
        original,
        replaces,
        problem_count: old.problem_count.saturating_add(copied.problem_count),
        statistics: Statistics {
            files: old.statistics.files.saturating_sub(copied.lost_file_count),
            bytes: old.statistics.bytes.saturating_sub(copied.lost_bytes),
            ..old.statistics
        },
        ..old.clone()
    };
    if copied.problem_count > 0 {
        snapshot.outcome = Outcome::Partial;
        snapshot.problems.extend(copied.problems);
    }
    let new = session.commit(snapshot)?;
    let (pinned, expires) = (record.pinned(), record.expires());
    if pinned || expires.is_some() {
        repository.annotate(&new, |note| {
            note.pinned = pinned;
            note.expires = expires;
        })?;
    }
    Ok(new.id)
}
