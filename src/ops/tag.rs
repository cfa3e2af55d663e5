//! Notes on snapshots: tags, description, pin, expiry. A snapshot's id never changes by them.

use std::sync::Arc;

use super::OpsError;
use crate::format::snapshot::Note;
use crate::limits;
use crate::progress::{Counter, Progress};
use crate::repo::{Repository, SnapshotRecord};
use crate::world::Time;

/// What is to be said of snapshots. What is `None` or empty stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagOptions {
    /// Instead of all tags that are there; the two others come after it.
    pub set: Option<Vec<String>>,
    /// Tags to be added.
    pub add: Vec<String>,
    /// Tags to be removed.
    pub remove: Vec<String>,
    /// Another description.
    pub description: Option<String>,
    /// Whether a policy may not forget it.
    pub pinned: Option<bool>,
    /// From when on it is to be forgotten; `Some(None)` for never.
    pub expires: Option<Option<Time>>,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagReport {
    /// Snapshots of which something else is said now, with their new notes.
    pub changed: Vec<SnapshotRecord>,
    /// Snapshots of which all of it was said before.
    pub unchanged_count: u64,
}

/// Says something of snapshots.
pub fn tag(
    repository: &Arc<Repository>,
    records: &[SnapshotRecord],
    options: &TagOptions,
    progress: &dyn Progress,
) -> Result<TagReport, OpsError> {
    let mut report = TagReport::default();
    progress.phase("tagging", Counter::Objects, Some(records.len() as u64));
    for record in records {
        if progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        let tags = new_tags(record.tags(), options);
        let description = options.description.clone();
        let description = description.unwrap_or_else(|| record.description().to_owned());
        check(&tags, &description)?;
        let pinned = options.pinned.unwrap_or(record.pinned());
        let expires = options.expires.unwrap_or(record.expires());
        progress.add(Counter::Objects, 1);
        let same = tags == record.tags()
            && description == record.description()
            && (pinned, expires) == (record.pinned(), record.expires());
        if same {
            report.unchanged_count += 1;
            continue;
        }
        let note = repository.annotate(record, |note| {
            *note = Note { tags, description, pinned, expires, ..note.clone() };
        })?;
        report.changed.push(SnapshotRecord { note: Some(note), ..record.clone() });
    }
    Ok(report)
}

/// In the order of their coming, none twice.
fn new_tags(before: &[String], options: &TagOptions) -> Vec<String> {
    let mut tags: Vec<String> = Vec::new();
    for tag in options.set.as_deref().unwrap_or(before).iter().chain(&options.add) {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    tags.retain(|tag| !options.remove.contains(tag));
    tags
}

/// What would be stored must be readable again.
fn check(tags: &[String], description: &str) -> Result<(), OpsError> {
    let limit = |what, limit: usize| Err(OpsError::Limit { what, limit: limit as u64 });
    if tags.len() > limits::LIST_MAX {
        return limit("the number of tags", limits::LIST_MAX);
    }
    if tags.iter().any(|tag| tag.len() > limits::TEXT_LEN_MAX) {
        return limit("the length of a tag", limits::TEXT_LEN_MAX);
    }
    if description.len() > limits::TEXT_LEN_MAX {
        return limit("the length of the description", limits::TEXT_LEN_MAX);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, Tree};
    use super::*;
    use crate::progress::Silent;

    fn texts(tags: &[&str]) -> Vec<String> {
        tags.iter().map(|tag| tag.to_string()).collect()
    }

    #[test]
    fn what_is_said_last_counts_and_the_id_stays() {
        let sample = Sample::new(1);
        let first = sample.snapshot(&Tree::default(), b"");
        let second = sample.snapshot(&Tree::default(), b"");
        let progress = Silent::default();
        let read = || sample.repository.snapshots(&progress).unwrap();
        let said = |options: TagOptions| {
            let record = read().into_iter().find(|record| record.id == first.id).unwrap();
            let report = tag(&sample.repository, &[record], &options, &progress).unwrap();
            let now = read().into_iter().find(|record| record.id == first.id).unwrap();
            assert!(report.changed.is_empty() || report.changed == [now.clone()]);
            assert_eq!(report.unchanged_count, u64::from(report.changed.is_empty()));
            assert_eq!((now.hash, &now.snapshot), (first.hash, &first.snapshot));
            (now, report.changed.len())
        };
        let add = TagOptions { add: texts(&["b", "a", "b"]), ..TagOptions::default() };
        let (now, changed) = said(add.clone());
        assert_eq!((now.tags(), changed), (&texts(&["sample", "b", "a"])[..], 1));
        assert_eq!(said(add).1, 0);
        let remove = TagOptions { remove: texts(&["sample", "none"]), ..TagOptions::default() };
        assert_eq!(said(remove).0.tags(), texts(&["b", "a"]));
        let expires = Some(Time::from_seconds(9));
        let (now, _) = said(TagOptions {
            set: Some(texts(&["x"])),
            description: Some("why".into()),
            pinned: Some(true),
            expires: Some(expires),
            ..TagOptions::default()
        });
        assert_eq!((now.tags(), now.description()), (&texts(&["x"])[..], "why"));
        assert!(now.pinned() && now.expires() == expires);
        let (now, _) =
            said(TagOptions { pinned: Some(false), expires: Some(None), ..TagOptions::default() });
        assert!(!now.pinned() && now.expires().is_none() && now.description() == "why");
        assert!(read().contains(&second));
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let sample = Sample::new(1);
        let record = sample.snapshot(&Tree::default(), b"");
        let long = "x".repeat(limits::TEXT_LEN_MAX + 1);
        for options in [
            TagOptions { add: vec![long.clone()], ..TagOptions::default() },
            TagOptions { description: Some(long.clone()), ..TagOptions::default() },
        ] {
            let ended = tag(
                &sample.repository,
                std::slice::from_ref(&record),
                &options,
                &Silent::default(),
            );
            assert!(matches!(ended, Err(OpsError::Limit { .. })));
        }
        let many: Vec<String> = (0..=limits::LIST_MAX).map(|n| n.to_string()).collect();
        assert!(check(&many, "").is_err());
        assert_eq!(sample.repository.snapshots(&Silent::default()).unwrap(), [record]);
    }
}
