//! Which snapshots are judged together.

use std::fmt;

use super::{Candidate, RetentionError};
use crate::text;

/// What snapshots must have in common to be judged together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The machine.
    pub host: bool,
    /// What was backed up, in any order.
    pub paths: bool,
    /// All tags, in any order.
    pub tags: bool,
    /// The job.
    pub job: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, paths: true, ..Self::NOTHING }
    }
}

impl GroupBy {
    /// All snapshots are one group.
    pub const NOTHING: Self = Self { host: false, paths: false, tags: false, job: false };

    /// What a list with commas says, such as "host,paths"; nothing at all makes one group.
    pub fn parse(text: &str) -> Result<Self, RetentionError> {
        let mut group_by = Self::NOTHING;
        if text.trim().is_empty() {
            return Ok(group_by);
        }
        for word in text.split(',') {
            match word.trim() {
                "host" | "hosts" => group_by.host = true,
                "path" | "paths" => group_by.paths = true,
                "tag" | "tags" => group_by.tags = true,
                "job" | "jobs" => group_by.job = true,
                other => return Err(RetentionError::GroupBy(other.chars().take(80).collect())),
            }
        }
        Ok(group_by)
    }

    /// The group that a snapshot belongs to.
    pub fn key(&self, candidate: &Candidate) -> GroupKey {
        GroupKey {
            host: self.host.then(|| candidate.host.clone()),
            paths: self.paths.then(|| sorted(&candidate.paths)),
            tags: self.tags.then(|| sorted(&candidate.tags)),
            job: self.job.then(|| candidate.job.clone()),
        }
    }
}

fn sorted<T: Ord + Clone>(items: &[T]) -> Vec<T> {
    let mut items = items.to_vec();
    items.sort();
    items.dedup();
    items
}

/// What the snapshots of a group have in common; `None` where it does not matter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The machine.
    pub host: Option<String>,
    /// What was backed up: raw, in byte order, none twice.
    pub paths: Option<Vec<Vec<u8>>>,
    /// Tags in byte order, none twice.
    pub tags: Option<Vec<String>>,
    /// The job; empty if none made them.
    pub job: Option<String>,
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(host) = &self.host {
            parts.push(format!("host {}", text::escape(host.as_bytes())));
        }
        if let Some(paths) = &self.paths {
            let paths: Vec<String> = paths.iter().map(|path| text::escape(path)).collect();
            parts.push(format!("paths {}", paths.join(", ")));
        }
        match self.tags.as_deref() {
            None => {}
            Some([]) => parts.push("no tags".to_owned()),
            Some(tags) => parts.push(format!("tags {}", text::escape(tags.join(", ").as_bytes()))),
        }
        match self.job.as_deref() {
            None => {}
            Some("") => parts.push("no job".to_owned()),
            Some(job) => parts.push(format!("job {}", text::escape(job.as_bytes()))),
        }
        match parts.is_empty() {
            true => f.write_str("all snapshots"),
            false => f.write_str(&parts.join("; ")),
        }
    }
}
