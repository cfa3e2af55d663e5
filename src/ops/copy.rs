//! Copying snapshots into another repository, chunk by chunk.
//!
//! Every chunk gets the id that the destination's keys give it. What the destination has is not
//! stored again; between repositories of one family, whose ids are the same, it is not even read.
//! Between others a snapshot that was copied before tells which chunks are which: its tree and
//! its copy's are walked next to the one that is copied, and what is the same is taken over.

#[cfg(test)]
mod tests;
pub(super) mod tree;
mod twin;

use std::sync::Arc;

use super::content::ContentReader;
use super::{OpsError, in_sessions, or_abort};
use crate::format::session::Purpose;
use crate::format::snapshot::{Outcome, Snapshot, Statistics};
use crate::id::SnapshotId;
use crate::progress::{Counter, Progress};
use crate::repo::{Repository, Session, SnapshotRecord};
use crate::tree::TreeReader;
use tree::TreeCopy;

/// How to copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// zstd level instead of the destination's.
    pub compression: Option<i32>,
}

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Snapshots that are new in the destination, in the order of their making.
    pub copied: Vec<SnapshotRecord>,
    /// Snapshots that the destination had: their names in the source, and there.
    pub skipped: Vec<(SnapshotId, SnapshotId)>,
    /// Bytes of chunks that were read from the source.
    pub bytes_read: u64,
    /// Plain bytes of chunks that the destination did not have.
    pub bytes_new: u64,
    /// Bytes added to the destination's storage.
    pub bytes_stored: u64,
    /// Files and directories of which something is damaged in the source.
    pub problem_count: u64,
}

/// Copies snapshots, oldest first. One of which something is damaged becomes a partial snapshot
/// that says what it lacks.
pub fn copy(
    from: &Arc<Repository>,
    to: &Arc<Repository>,
    records: &[SnapshotRecord],
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<CopyReport, OpsError> {
    let mut records: Vec<&SnapshotRecord> = records.iter().collect();
    records.sort_by_key(|record| (record.snapshot.time, record.id));
    let bytes = records.iter().map(|record| record.snapshot.statistics.bytes);
    progress.phase("copying", Counter::Bytes, Some(bytes.fold(0, u64::saturating_add)));
    from.refresh_index()?;
    let sources = from.snapshots(progress)?;
    let mut copies = to.snapshots(progress)?;
    let copying = Copying {
        to,
        reader: ContentReader::new(from),
        copies: TreeReader::new(to),
        options,
        progress,
    };
    let mut report = CopyReport::default();
    for record in records {
        if let Some(copy) = copies.iter().find(|copy| is_copy(record, copy)) {
            report.skipped.push((record.id, copy.id));
            progress.add(Counter::Bytes, record.snapshot.statistics.bytes);
            continue;
        }
        let pair = pair_for(record, &sources, &copies);
        let parent = record.snapshot.parent;
        let parent = copies.iter().find(|copy| parent.is_some_and(|id| origin(copy) == id));
        let copied = copying.one(record, pair, parent.map(|copy| copy.id), &mut report)?;
        copies.push(copied.clone());
        report.copied.push(copied);
    }
    Ok(report)
}

/// By what the copies of a snapshot are known in every repository.
fn origin(record: &SnapshotRecord) -> SnapshotId {
    record.snapshot.original.unwrap_or(record.id)
}

/// A snapshot of the source, and its whole copy in the destination.
type Pair<'a> = (&'a SnapshotRecord, &'a SnapshotRecord);

/// The pair whose source is most like the snapshot: of the same machine, best of the same paths,
/// and nearest in time.
fn pair_for<'a>(
    record: &SnapshotRecord,
    sources: &'a [SnapshotRecord],
    copies: &'a [SnapshotRecord],
) -> Option<Pair<'a>> {
    let pairs =
        sources.iter().filter(|s| s.snapshot.host == record.snapshot.host).filter_map(|s| {
            let copy = copies.iter().find(|copy| origin(copy) == origin(s) && is_whole(s, copy))?;
            Some((s, copy))
        });
    let distance = |source: &SnapshotRecord| {
        source.snapshot.time.seconds.abs_diff(record.snapshot.time.seconds)
    };
    pairs.min_by_key(|(s, _)| (s.snapshot.paths != record.snapshot.paths, distance(s)))
}

/// Whether one was copied from the other, or both from a third: not if either was written anew
/// with something else in it. A copy that lacks what was damaged is one all the same.
fn is_copy(source: &SnapshotRecord, copy: &SnapshotRecord) -> bool {
    let lacking = copy.snapshot.problem_count > source.snapshot.problem_count;
    origin(copy) == origin(source) && (lacking || is_whole(source, copy))
}

/// Whether a copy has the same tree: nothing was left out then, and nothing was written anew.
fn is_whole(source: &SnapshotRecord, copy: &SnapshotRecord) -> bool {
    let facts = |record: &SnapshotRecord| {
        let Snapshot { time, problem_count, statistics: s, .. } = &record.snapshot;
        (*time, *problem_count, s.files, s.directories, s.others, s.bytes)
    };
    facts(source) == facts(copy)
        && source.snapshot.host == copy.snapshot.host
        && source.snapshot.paths == copy.snapshot.paths
}

struct Copying<'a> {
    to: &'a Arc<Repository>,
    reader: ContentReader,
    copies: TreeReader,
    options: &'a CopyOptions,
    progress: &'a dyn Progress,
}

impl Copying<'_> {
    fn one(
        &self,
        record: &SnapshotRecord,
        pair: Option<Pair<'_>>,
        parent: Option<SnapshotId>,
        report: &mut CopyReport,
    ) -> Result<SnapshotRecord, OpsError> {
        in_sessions(None, self.progress, |replaces| {
            self.attempt(record, pair, parent, replaces, report)
        })
    }

    fn attempt(
        &self,
        record: &SnapshotRecord,
        pair: Option<Pair<'_>>,
        parent: Option<SnapshotId>,
        replaces: Option<SnapshotId>,
        report: &mut CopyReport,
    ) -> Result<SnapshotRecord, OpsError> {
        let mut session = Session::begin(self.to, Purpose::Copy, self.options.compression)?;
        let pair = match pair {
            Some((source, copy)) if session.may_adopt(&copy.id, copy.snapshot.epoch)? => {
                Some((source.snapshot.root.clone(), copy.snapshot.root.clone()))
            }
            _ => None,
        };
        let tree = TreeCopy::new(&self.reader, &self.copies, &mut session, self.progress);
        let copied = tree.run(&record.snapshot, pair);
        let (session, copied) = or_abort(session, copied)?;
        let source = &record.snapshot;
        let mut snapshot = Snapshot {
            root: copied.root,
            tags: record.tags().to_vec(),
            description: record.description().to_owned(),
            parent,
            original: Some(origin(record)),
            replaces,
            // The line of snapshots that these name lies in the other repository.
            previous: Vec::new(),
            problem_count: source.problem_count.saturating_add(copied.problem_count),
            statistics: Statistics {
                files: source.statistics.files.saturating_sub(copied.lost_file_count),
                bytes: source.statistics.bytes.saturating_sub(copied.lost_bytes),
                ..source.statistics
            },
            ..source.clone()
        };
        if copied.problem_count > 0 {
            snapshot.outcome = Outcome::Partial;
            snapshot.problems.extend(copied.problems);
        }
        let mut new = session.commit(snapshot)?;
        report.bytes_read += copied.bytes_read;
        report.bytes_new += new.snapshot.statistics.bytes_new;
        report.bytes_stored += new.snapshot.statistics.bytes_stored;
        report.problem_count += copied.problem_count;
        let (pinned, expires) = (record.pinned(), record.expires());
        if pinned || expires.is_some() {
            let note = self.to.annotate(&new, |note| {
                note.pinned = pinned;
                note.expires = expires;
            })?;
            new.note = Some(note);
        }
        Ok(new)
    }
}
