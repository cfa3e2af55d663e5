//! Fencing (P6): every session that may not have read the plan is decided before anything goes.

use std::collections::BTreeSet;

use super::super::OpsError;
use super::{PruneOptions, PruneReport, Undecided};
use crate::format::envelope::ObjectType;
use crate::format::epoch::{Plan, Sweep};
use crate::format::session::{Purpose, Session, SessionObject, fence_key, session_key};
use crate::format::snapshot::snapshot_key;
use crate::id::{PackId, SnapshotId};
use crate::progress::Progress;
use crate::repo::{RepoError, Repository};
use crate::storage::ErrorKind;

/// Sessions that have a record and no snapshot.
pub(super) fn undecided(repository: &Repository) -> Result<Vec<Undecided>, OpsError> {
    let sessions = repository.list_sessions()?;
    let snapshots = repository.list_snapshot_objects()?;
    let records = sessions.into_iter().filter_map(|session| match session {
        SessionObject::Record(id) if !snapshots.contains(&id) => Some(id),
        _ => None,
    });
    let mut found = Vec::new();
    for id in records {
        match repository.read_object(ObjectType::Session, &session_key(&id)) {
            Ok(Some(payload)) => {
                let record = Session::decode(&payload).ok();
                found.push(Undecided { id, record, bytes_written: 0 });
            }
            // It has ended since it was listed.
            Ok(None) => {}
            // That it is there decides, whether it opens or not.
            Err(RepoError::Object { .. }) => {
                found.push(Undecided { id, record: None, bytes_written: 0 });
            }
            Err(error) => return Err(error.into()),
        }
    }
    count_written(repository, &mut found)?;
    Ok(found)
}

fn count_written(repository: &Repository, found: &mut [Undecided]) -> Result<(), OpsError> {
    if found.is_empty() {
        return Ok(());
    }
    let mut written: Vec<(PackId, u64, usize)> = Vec::new();
    repository.with_index(|index| {
        index.packs(&mut |_, pack| {
            let session = found.iter().position(|session| session.id == pack.session);
            written.extend(session.map(|session| (pack.id, pack.len, session)));
        })
    })??;
    // A pack may come twice.
    written.sort_unstable();
    written.dedup_by_key(|(id, ..)| *id);
    for (_, len, session) in written {
        found[session].bytes_written += len;
    }
    Ok(())
}

/// Whether a session is not waited for. To be fenced costs a session that is alive a new
/// beginning, and never what it has committed.
fn is_to_fence(repository: &Repository, options: &PruneOptions<'_>, session: &Undecided) -> bool {
    match &session.record {
        // Nobody can tell its age; whoever sets a limit to patience means this one too.
        None => options.fence_older_than.is_some(),
        // It never commits. What protects the copies of a repack is that only one plan is
        // published; those of a repair are sound where the others are known not to be.
        Some(record) if matches!(record.purpose, Purpose::Repack | Purpose::Repair) => true,
        Some(record) => {
            let age = repository.world().now().seconds.saturating_sub(record.time.seconds).max(0);
            let old = options.fence_older_than.is_some_and(|limit| age.unsigned_abs() >= limit);
            old || (options.is_dead)(&session.id, record)
        }
    }
}

/// Whether there are sessions that would be fenced now.
pub(super) fn any_to_fence(
    repository: &Repository,
    options: &PruneOptions<'_>,
) -> Result<bool, OpsError> {
    Ok(undecided(repository)?.iter().any(|session| is_to_fence(repository, options, session)))
}

/// P6: decides the sessions that are there after the plan was published. `false`: some are not
/// decided, and the report says which; the epoch stays open.
pub(super) fn fence(
    repository: &Repository,
    number: u64,
    plan: &Plan,
    options: &PruneOptions<'_>,
    progress: &dyn Progress,
    report: &mut PruneReport,
) -> Result<bool, OpsError> {
    // Sessions that are not in this listing have read the plan (W1, W2).
    let mut waiting = undecided(repository)?;
    let listed: BTreeSet<SnapshotId> = waiting.iter().map(|session| session.id).collect();
    loop {
        if progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        let mut left = Vec::new();
        for session in waiting {
            if is_to_fence(repository, options, &session) {
                if fence_one(repository, &session.id)? {
                    report.fenced.push(session.id);
                }
            } else {
                left.push(session);
            }
        }
        if left.is_empty() {
            return Ok(true);
        }
        if !(options.wait)(&left) {
            report.open_epoch = Some(number);
            report.undecided = left;
            report.bytes_held_back = bytes_of(repository, plan)?;
            return Ok(false);
        }
        waiting = undecided(repository)?;
        waiting.retain(|session| listed.contains(&session.id));
    }
}

/// Writes the mark, *then* looks whether the session has committed. Says whether it was lost.
fn fence_one(repository: &Repository, id: &SnapshotId) -> Result<bool, OpsError> {
    let environment = repository.environment();
    let mark = Session {
        client: environment.client,
        host: environment.host.clone(),
        process: environment.process,
        time: repository.world().now(),
        purpose: Purpose::Repack,
    };
    match repository.write_object(ObjectType::Fence, &fence_key(id), &mark.encode()) {
        Ok(()) => {}
        Err(RepoError::Storage(error)) if error.kind == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    match repository.storage().stat(&snapshot_key(id)) {
        // It counts. A commit that lands from here on sees the mark.
        Ok(_) => Ok(false),
        Err(error) if error.is_not_found() => {
            repository.storage().delete(&session_key(id))?;
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

fn bytes_of(repository: &Repository, plan: &Plan) -> Result<u64, OpsError> {
    let condemned = plan.dead(&Sweep::default());
    let is_condemned = |id: &PackId| condemned.binary_search(id).is_ok();
    let packs = repository.list_packs()?;
    Ok(packs.iter().filter(|(id, _)| is_condemned(id)).map(|(_, len)| len).sum())
}
