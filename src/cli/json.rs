//! Shapes of `--json` that several commands share; `holdall help json` tells what they mean.

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::calendar;
use crate::format::snapshot::{Outcome, SnapshotKind, Statistics};
use crate::repo::SnapshotRecord;
use crate::world::Time;

/// Bytes as text, with a sign in the place of what is no UTF-8.
pub fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The bytes themselves where the text cannot say them.
pub fn hex_of(bytes: &[u8]) -> Option<String> {
    let digits = || bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    std::str::from_utf8(bytes).is_err().then(digits)
}

/// Paths as text, and as hexadecimal digits if one of them is no text.
pub fn texts_of(paths: &[Vec<u8>]) -> (Vec<String>, Option<Vec<String>>) {
    let plain = paths.iter().map(|path| text_of(path)).collect();
    let digits = |path: &Vec<u8>| path.iter().map(|byte| format!("{byte:02x}")).collect();
    let is_text = paths.iter().all(|path| std::str::from_utf8(path).is_ok());
    (plain, (!is_text).then(|| paths.iter().map(digits).collect()))
}

/// How an outcome is called.
pub fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Partial => "partial",
    }
}

/// How a kind of snapshot is called.
pub fn kind_name(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Manual => "manual",
        SnapshotKind::Scheduled => "scheduled",
        SnapshotKind::Safety => "safety",
        SnapshotKind::Imported => "imported",
    }
}

/// A snapshot.
#[derive(Debug, Serialize)]
pub struct JsonSnapshot {
    r#type: &'static str,
    id: String,
    time: String,
    host: String,
    user: String,
    job: String,
    kind: &'static str,
    paths: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths_hex: Option<Vec<String>>,
    tags: Vec<String>,
    description: String,
    parent: Option<String>,
    original: Option<String>,
    pinned: bool,
    expires: Option<String>,
    outcome: &'static str,
    verified: Option<String>,
    problem_count: u64,
    statistics: JsonStatistics,
    program: String,
}

impl JsonSnapshot {
    /// One as it is told to programs.
    pub fn new(record: &SnapshotRecord, zone: &TimeZone) -> Self {
        let snapshot = &record.snapshot;
        let (paths, paths_hex) = texts_of(&snapshot.paths);
        Self {
            r#type: "snapshot",
            id: record.id.to_hex(),
            time: calendar::rfc3339(snapshot.time, zone),
            host: snapshot.host.clone(),
            user: snapshot.user.clone(),
            job: snapshot.job.clone(),
            kind: kind_name(snapshot.kind),
            paths,
            paths_hex,
            tags: record.tags().to_vec(),
            description: record.description().to_owned(),
            parent: snapshot.parent.map(|id| id.to_hex()),
            original: snapshot.original.map(|id| id.to_hex()),
            pinned: record.pinned(),
            expires: record.expires().map(|time| calendar::rfc3339(time, zone)),
            outcome: outcome_name(snapshot.outcome),
            verified: None,
            problem_count: snapshot.problem_count,
            statistics: JsonStatistics::from(&snapshot.statistics),
            program: snapshot.program.clone(),
        }
    }

    /// The same with when all that it needs was read and found good.
    pub fn verified(self, time: Option<Time>, zone: &TimeZone) -> Self {
        Self { verified: time.map(|time| calendar::rfc3339(time, zone)), ..self }
    }
}

/// What a run dealt with.
#[derive(Debug, Serialize)]
pub struct JsonStatistics {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    files_new: u64,
    files_changed: u64,
    files_unchanged: u64,
    bytes_read: u64,
    bytes_new: u64,
    bytes_stored: u64,
    duration_ms: u64,
}

impl From<&Statistics> for JsonStatistics {
    fn from(of: &Statistics) -> Self {
        Self {
            files: of.files,
            directories: of.directories,
            others: of.others,
            bytes: of.bytes,
            files_new: of.files_new,
            files_changed: of.files_changed,
            files_unchanged: of.files_unchanged,
            bytes_read: of.bytes_read,
            bytes_new: of.bytes_new,
            bytes_stored: of.bytes_stored,
            duration_ms: of.duration_ms,
        }
    }
}
