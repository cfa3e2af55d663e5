//! Forget: snapshots go by policy or by name. What only they needed stays until a prune.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::OpsError;
use super::lines::{self, Alarm};
use super::retention::{self, Candidate, Group, GroupBy, Policy, RetentionError};
use super::room::with_reserve;
use super::select::Filter;
use crate::format::snapshot::Snapshot;
use crate::id::SnapshotId;
use crate::limits;
use crate::progress::{Problem, Progress};
use crate::repo::{Repository, SnapshotRecord};

/// What to forget.
#[derive(Debug, Clone)]
pub struct ForgetOptions {
    /// What to keep of those that pass the filter; `None`: only what is named goes.
    pub policy: Option<Policy>,
    /// Which snapshots are judged together.
    pub group_by: GroupBy,
    /// These go, whatever the policy says, pinned or the last of their group.
    pub ids: Vec<SnapshotId>,
    /// What is missing already, and shall not be told of again.
    pub missing: Vec<Alarm>,
    /// Which snapshots the policy is about.
    pub filter: Filter,
    /// Where the borders of days lie.
    pub zone: TimeZone,
    /// Only say what would be forgotten.
    pub dry_run: bool,
}

impl Default for ForgetOptions {
    fn default() -> Self {
        Self {
            policy: None,
            group_by: GroupBy::default(),
            ids: Vec::new(),
            missing: Vec::new(),
            filter: Filter::default(),
            zone: TimeZone::UTC,
            dry_run: false,
        }
    }
}

/// What was forgotten, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetReport {
    /// What the policy says of each snapshot, and why.
    pub groups: Vec<Group>,
    /// Those that go because they were named, damaged ones among them.
    pub named: Vec<SnapshotId>,
    /// All that go, in order of ids.
    pub forgotten: Vec<SnapshotId>,
    /// What was missing already, and is not told of any more.
    pub acknowledged: Vec<Alarm>,
    /// How many stay.
    pub kept: u64,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Forgets snapshots.
///
/// # Errors
/// `Retention` when there is neither a policy that keeps something nor a name, `NoSnapshot` when
/// a name is not that of a snapshot, `Incomplete` when a policy is asked while a note is damaged,
/// which may be a pin; then nothing is forgotten.
pub fn forget(
    repository: &Arc<Repository>,
    options: &ForgetOptions,
    progress: &dyn Progress,
) -> Result<ForgetReport, OpsError> {
    if options.policy.is_none() && options.ids.is_empty() && options.missing.is_empty() {
        return Err(RetentionError::EmptyPolicy.into());
    }
    let mut records = repository.snapshots(progress)?;
    let mut going = take_named(repository, &mut records, &options.ids)?;
    let mut report = ForgetReport {
        named: going.iter().map(|record| record.id).collect(),
        acknowledged: options.missing.clone(),
        dry_run: options.dry_run,
        ..ForgetReport::default()
    };
    if let Some(policy) = &options.policy {
        // It may be the one that pins a snapshot.
        if let Some((key, why)) = repository.damaged_notes()?.into_iter().next() {
            let first = Box::new(Problem::damage(key, why));
            return Err(OpsError::Incomplete { first, count: 1 });
        }
        let passing = records.iter().filter(|record| options.filter.matches(record));
        let candidates: Vec<Candidate> = passing.map(candidate).collect();
        let now = repository.world().now();
        report.groups =
            retention::decide(policy, options.group_by, now, &options.zone, &candidates)?;
        let decisions = report.groups.iter().flat_map(|group| &group.decisions);
        let goes: BTreeSet<SnapshotId> =
            decisions.filter(|d| !d.verdict.keeps()).map(|d| d.id).collect();
        going.extend(records.extract_if(.., |record| goes.contains(&record.id)));
    }
    report.kept = records.len() as u64;
    report.forgotten = going.iter().map(|record| record.id).collect();
    report.forgotten.sort_unstable();
    if !options.dry_run {
        with_reserve(repository, |_| {
            if !going.is_empty() {
                repository.forget(&going)?;
            }
            match options.missing.is_empty() {
                true => Ok(()),
                false => acknowledge(repository, &options.missing),
            }
        })?;
    }
    Ok(report)
}

/// Writes a record of forgetting for what is missing already.
fn acknowledge(repository: &Repository, missing: &[Alarm]) -> Result<(), OpsError> {
    let (mut places, mut remains) = (Vec::new(), BTreeSet::new());
    for alarm in missing {
        match alarm {
            Alarm::Missing(head) | Alarm::Changed(head) => {
                places.push((head.id, head.client, head.number));
                remains.insert(head.id);
            }
            // Nobody knows whose numbers they were: no snapshot has this name.
            Alarm::Gap { client, first, last, .. } => {
                let count = (last - first).saturating_add(1);
                let limit = limits::LIST_MAX as u64;
                if count > limit {
                    return Err(OpsError::Limit { what: "the number of missing snapshots", limit });
                }
                let all = (*first..=*last).map(|n| (SnapshotId::default(), *client, n));
                places.extend(all);
            }
        }
    }
    repository.record_forgotten(&places)?;
    // One whose session record alone was lost has left its snapshot behind.
    Ok(repository.remove_uncounted(&remains)?)
}

/// Takes the named ones out of `records`. One that is damaged can be forgotten too: as long as it
/// counts no prune can tell what it needs.
fn take_named(
    repository: &Repository,
    records: &mut Vec<SnapshotRecord>,
    ids: &[SnapshotId],
) -> Result<Vec<SnapshotRecord>, OpsError> {
    let ids: BTreeSet<SnapshotId> = ids.iter().copied().collect();
    let mut named: Vec<SnapshotRecord> =
        records.extract_if(.., |record| ids.contains(&record.id)).collect();
    let found: BTreeSet<SnapshotId> = named.iter().map(|record| record.id).collect();
    let mut missing = ids.difference(&found).peekable();
    if missing.peek().is_none() {
        return Ok(named);
    }
    let counted = repository.counted()?;
    for id in missing {
        if !counted.contains(id) {
            return Err(OpsError::NoSnapshot { name: id.short(), why: "it is not there".into() });
        }
        // So that its number is no gap once the one after it is forgotten, too.
        let (client, number) =
            lines::place(&named, id).or_else(|| lines::place(records, id)).unwrap_or_default();
        let snapshot = Snapshot { client, number, ..Snapshot::default() };
        named.push(SnapshotRecord { id: *id, snapshot, note: None, hash: [0; 32] });
    }
    Ok(named)
}

/// A snapshot as retention sees it.
pub fn candidate(record: &SnapshotRecord) -> Candidate {
    let snapshot = &record.snapshot;
    Candidate {
        id: record.id,
        time: snapshot.time,
        outcome: snapshot.outcome,
        tags: record.tags().to_vec(),
        pinned: record.pinned(),
        expires: record.expires(),
        host: snapshot.host.clone(),
        paths: snapshot.paths.clone(),
        job: snapshot.job.clone(),
    }
}
