//! Lines: whether the storage has lost snapshots, or shows an older state than was seen before.
//! Format: `format-spec/10-snapshot.md#lines`.
//!
//! Three things tell of snapshots that should be there: links from later ones, numbers of a line,
//! and what this installation has seen before and keeps outside of the repository. Who is told of
//! must count, or stand in a record of forgetting. No clock takes part.

mod judge;
mod memory;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::OpsError;
use crate::format::session::SessionObject;
use crate::id::{ClientId, SnapshotId};
use crate::progress::Progress;
use crate::repo::{Repository, SnapshotRecord};
use memory::Memory;

/// A snapshot, as others know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// Its name.
    pub id: SnapshotId,
    /// Hash of its payload.
    pub hash: [u8; 32],
    /// Whose line it is in.
    pub client: ClientId,
    /// Its number there.
    pub number: u64,
}

impl Head {
    /// A snapshot that is there.
    fn of(record: &SnapshotRecord) -> Self {
        let (client, number) = (record.snapshot.client, record.snapshot.number);
        Self { id: record.id, hash: record.hash, client, number }
    }
}

/// What should be there, and is not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// A snapshot does not count any more, and nobody forgot it.
    Missing(Head),
    /// Another snapshot stands in its place.
    Changed(Head),
    /// Numbers of a line that no snapshot and no record of forgetting has.
    Gap {
        /// Whose line.
        client: ClientId,
        /// The machine, as the next one in the line says.
        host: String,
        /// The job.
        job: String,
        /// The first number.
        first: u64,
        /// The last one.
        last: u64,
    },
}

impl Alarm {
    /// The snapshot, where it is known which.
    pub fn snapshot(&self) -> Option<SnapshotId> {
        match self {
            Self::Missing(head) | Self::Changed(head) => Some(head.id),
            Self::Gap { .. } => None,
        }
    }

    /// By what a person names it: a snapshot's id, or a client and a number.
    pub fn name(&self) -> String {
        match self {
            Self::Missing(head) | Self::Changed(head) => head.id.short(),
            Self::Gap { client, first, .. } => format!("{}/{first}", client.short()),
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nobody = "and there is no record that somebody forgot";
        match self {
            Self::Missing(head) => match head.number {
                0 => write!(f, "snapshot {} is missing, {nobody} it", head.id.short()),
                number => {
                    let id = head.id.short();
                    write!(f, "snapshot {id}, number {number} of its line, is missing, {nobody} it")
                }
            },
            Self::Changed(head) => {
                write!(f, "snapshot {} is not the one that was saved", head.id.short())
            }
            Self::Gap { client, host, job, first, last } => {
                match first == last {
                    true => write!(f, "number {first}")?,
                    false => write!(f, "numbers {first} to {last}")?,
                }
                write!(f, " of the snapshots of client {}, host {host:?}", client.short())?;
                if !job.is_empty() {
                    write!(f, ", job {job:?}")?;
                }
                match first == last {
                    true => write!(f, ", is missing, {nobody} it"),
                    false => write!(f, ", are missing, {nobody} them"),
                }
            }
        }
    }
}

/// What a look at the lines gave.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// What should be there, and is not.
    pub alarms: Vec<Alarm>,
    /// Snapshots that a prune did not wait for: nobody was told that they are saved, and they may
    /// go at any time, so that no line may rely on them.
    pub fenced: BTreeSet<SnapshotId>,
}

/// Looks whether everything is there, and remembers what is. `records` are all snapshots.
pub fn look(
    repository: &Arc<Repository>,
    records: &[SnapshotRecord],
    progress: &dyn Progress,
) -> Result<Look, OpsError> {
    // In this order: what is remembered or linked to was committed before, so a listing that
    // begins now shows it; and what went since has a record that was written before it went.
    let memory = Memory::load(&repository.environment().state);
    let mut counted = repository.list_snapshot_objects()?;
    let sessions = repository.list_sessions()?;
    counted.retain(|id| sessions.contains(&SessionObject::Record(*id)));
    let fenced: BTreeSet<SnapshotId> = counted
        .iter()
        .filter(|id| sessions.contains(&SessionObject::Fence(**id)))
        .copied()
        .collect();
    let heads = memory.heads();
    let mut alarms = judge::judge(records, &counted, heads, &[]);
    if !alarms.is_empty() {
        // Only now: there is one record for each time that something was forgotten.
        let forgotten = repository.forgotten(progress)?;
        let forgotten: Vec<_> = forgotten.into_iter().flat_map(|record| record.snapshots).collect();
        alarms = judge::judge(records, &counted, heads, &forgotten);
    }
    let heads = judge::to_remember(records, &counted, &fenced, heads, &alarms);
    if let Err(error) = memory.replace(heads) {
        progress.note(&format!("what snapshots there are cannot be remembered: {error}"));
    }
    Ok(Look { alarms, fenced })
}

/// Remembers a snapshot that was committed just now.
pub fn remember(repository: &Repository, record: &SnapshotRecord, progress: &dyn Progress) {
    let memory = Memory::load(&repository.environment().state);
    let mut heads = memory.heads().clone();
    heads.insert(record.id, Head::of(record));
    for (id, _) in &record.snapshot.previous {
        heads.remove(id);
    }
    if let Err(error) = memory.replace(heads) {
        progress.note(&format!("this snapshot cannot be remembered: {error}"));
    }
}

/// The place in its line of a snapshot that cannot be read, as those that link to it know it.
pub fn place(records: &[SnapshotRecord], id: &SnapshotId) -> Option<(ClientId, u64)> {
    let links = |record: &&SnapshotRecord| record.snapshot.previous.iter().any(|(to, _)| to == id);
    let next = &records.iter().find(links)?.snapshot;
    Some((next.client, next.number.saturating_sub(1)))
}
