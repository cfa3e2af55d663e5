//! Which snapshots are meant: by id, by `latest`, by filter.

use std::sync::Arc;

use super::OpsError;
use crate::id::{SnapshotId, by_prefix};
use crate::progress::Progress;
use crate::repo::{Repository, SnapshotRecord};

/// Narrows what is meant. Empty fields do not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Any of these machines.
    pub hosts: Vec<String>,
    /// All of these among the paths that the snapshot was asked for.
    pub paths: Vec<Vec<u8>>,
    /// All tags of any of these lists.
    pub tags: Vec<Vec<String>>,
    /// Any of these jobs.
    pub jobs: Vec<String>,
}

impl Filter {
    /// Whether a snapshot passes.
    pub fn matches(&self, record: &SnapshotRecord) -> bool {
        let snapshot = &record.snapshot;
        let has_path = |wanted: &Vec<u8>| snapshot.paths.iter().any(|path| path == wanted);
        let has_tags = |wanted: &Vec<String>| wanted.iter().all(|tag| record.tags().contains(tag));
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && self.paths.iter().all(has_path)
            && (self.tags.is_empty() || self.tags.iter().any(has_tags))
            && (self.jobs.is_empty() || self.jobs.contains(&snapshot.job))
    }

    /// Whether it narrows nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The snapshots that pass, oldest first.
pub fn snapshots(
    repository: &Arc<Repository>,
    filter: &Filter,
    progress: &dyn Progress,
) -> Result<Vec<SnapshotRecord>, OpsError> {
    let mut records = repository.snapshots(progress)?;
    records.retain(|record| filter.matches(record));
    Ok(records)
}

/// The one that a name means: `latest`, `latest~2`, or a unique prefix of an id. `latest` is the
/// newest of those that pass the filter; an id needs no filter.
pub fn snapshot(
    repository: &Arc<Repository>,
    name: &str,
    filter: &Filter,
    progress: &dyn Progress,
) -> Result<SnapshotRecord, OpsError> {
    pick(repository.snapshots(progress)?, name, filter)
}

/// The one of `records` (oldest first) that a name means.
pub fn pick(
    records: Vec<SnapshotRecord>,
    name: &str,
    filter: &Filter,
) -> Result<SnapshotRecord, OpsError> {
    let none = |why: &str| OpsError::NoSnapshot { name: name.into(), why: why.into() };
    if let Some(back) = back_from_latest(name) {
        let back = back.ok_or_else(|| none("after `latest~` comes a number"))?;
        let passing: Vec<SnapshotRecord> =
            records.into_iter().filter(|record| filter.matches(record)).collect();
        let count = passing.len();
        return passing.into_iter().rev().nth(back).ok_or_else(|| match count {
            0 => none("there is none that fits"),
            count => none(&format!("only {count} fit")),
        });
    }
    let id: SnapshotId = by_prefix(records.iter().map(|record| record.id), name)
        .map_err(|error| none(&error.to_string()))?;
    records.into_iter().find(|record| record.id == id).ok_or_else(|| none("it is gone"))
}

/// How many steps back from the newest a name means; `None` if it is no such name.
fn back_from_latest(name: &str) -> Option<Option<usize>> {
    match name.strip_prefix("latest")? {
        "" => Some(Some(0)),
        rest => rest.strip_prefix('~').map(|number| number.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::Snapshot;
    use crate::world::Time;

    fn record(n: u8, host: &str, tags: &[&str]) -> SnapshotRecord {
        let snapshot = Snapshot {
            time: Time::from_seconds(n.into()),
            host: host.into(),
            tags: tags.iter().map(|tag| tag.to_string()).collect(),
            paths: vec![b"/home".to_vec()],
            ..Snapshot::default()
        };
        SnapshotRecord { id: SnapshotId([n; 32]), snapshot, note: None, hash: [0; 32] }
    }

    #[test]
    fn names() {
        let records =
            || vec![record(0x11, "a", &["x"]), record(0x12, "b", &[]), record(0x20, "a", &[])];
        let of_a = Filter { hosts: vec!["a".into()], ..Filter::default() };
        let all = Filter::default();
        let picked = |name: &str, filter: &Filter| pick(records(), name, filter).map(|r| r.id.0[0]);
        assert_eq!(picked("latest", &all).unwrap(), 0x20);
        assert_eq!(picked("latest~1", &all).unwrap(), 0x12);
        assert_eq!(picked("latest~1", &of_a).unwrap(), 0x11);
        assert_eq!(picked("2", &all).unwrap(), 0x20);
        assert_eq!(picked("12", &of_a).unwrap(), 0x12);
        for bad in ["1", "3", "", "latest~3", "latest~x", "latest~"] {
            assert!(matches!(picked(bad, &all), Err(OpsError::NoSnapshot { .. })), "{bad}");
        }
        let tagged = Filter { tags: vec![vec!["x".into()]], ..Filter::default() };
        assert_eq!(picked("latest", &tagged).unwrap(), 0x11);
        let elsewhere = Filter { paths: vec![b"/home/u".to_vec()], ..Filter::default() };
        assert!(picked("latest", &elsewhere).is_err());
    }
}
