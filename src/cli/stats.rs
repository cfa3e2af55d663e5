//! `holdall stats`

use std::ffi::OsString;

use serde::Serialize;

use super::context::Context;
use super::error::{Exit, Result};
use super::filters::{FilterArgs, SnapshotPath};
use super::progress::Reporter;
use crate::ops::stats::{SnapshotStats, StatsReport, Stored, snapshot_stats, stats};
use crate::text;

/// Show how much is stored, or how much one snapshot holds
#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    /// The snapshot, and which path in it; without one, the whole repository
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Option<OsString>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Counts.
pub fn run(args: &StatsArgs, context: &Context) -> Result<Exit> {
    let repository = context.open()?;
    let mut reporter = Reporter::start(context)?;
    match &args.snapshot {
        None => {
            let report = stats(&repository, &reporter)?;
            reporter.finish();
            match context.output.json() {
                true => context.output.object(&JsonStats::new(&report))?,
                false => show(&report, context)?,
            }
        }
        Some(wanted) => {
            let wanted = SnapshotPath::parse(wanted);
            let record = wanted.find(&repository, &args.filter.filter(), &reporter, context)?;
            let report = snapshot_stats(&repository, &record.snapshot, wanted.path(), &reporter)?;
            reporter.finish();
            match context.output.json() {
                true => {
                    let id = record.id.to_hex();
                    context.output.object(&JsonSnapshotStats::new(id, &report))?;
                }
                false => show_snapshot(&report, context)?,
            }
        }
    }
    Ok(reporter.exit())
}

#[derive(Serialize)]
struct JsonStored {
    objects: u64,
    bytes: u64,
}

impl From<Stored> for JsonStored {
    fn from(of: Stored) -> Self {
        Self { objects: of.object_count, bytes: of.bytes }
    }
}

#[derive(Serialize)]
struct JsonStats {
    r#type: &'static str,
    snapshots: u64,
    restore_bytes: u64,
    stored_bytes: u64,
    data_chunks: u64,
    data_bytes: u64,
    tree_chunks: u64,
    tree_bytes: u64,
    frames: u64,
    data_packs: JsonStored,
    tree_packs: JsonStored,
    unknown_packs: JsonStored,
    segments: JsonStored,
    snapshot_objects: JsonStored,
    others: JsonStored,
    dedup_ratio: Option<f64>,
    compression_ratio: Option<f64>,
}

impl JsonStats {
    fn new(report: &StatsReport) -> Self {
        Self {
            r#type: "stats",
            snapshots: report.snapshot_count,
            restore_bytes: report.restore_bytes,
            stored_bytes: report.stored_bytes(),
            data_chunks: report.data_chunk_count,
            data_bytes: report.data_bytes,
            tree_chunks: report.tree_chunk_count,
            tree_bytes: report.tree_bytes,
            frames: report.frame_count,
            data_packs: report.data_packs.into(),
            tree_packs: report.tree_packs.into(),
            unknown_packs: report.unknown_packs.into(),
            segments: report.segments.into(),
            snapshot_objects: report.snapshots.into(),
            others: report.others.into(),
            dedup_ratio: report.dedup_ratio(),
            compression_ratio: report.compression_ratio(),
        }
    }
}

#[derive(Serialize)]
struct JsonSnapshotStats {
    r#type: &'static str,
    snapshot: String,
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    hole_bytes: u64,
    unique_bytes: u64,
    chunks: u64,
}

impl JsonSnapshotStats {
    fn new(snapshot: String, report: &SnapshotStats) -> Self {
        Self {
            r#type: "snapshot_stats",
            snapshot,
            files: report.file_count,
            directories: report.directory_count,
            others: report.other_count,
            bytes: report.bytes,
            hole_bytes: report.hole_bytes,
            unique_bytes: report.unique_bytes,
            chunks: report.chunk_count,
        }
    }
}

fn rows(rows: &[(&str, String)], context: &Context) -> Result<()> {
    rows.iter().try_for_each(|(what, value)| context.output.line(&format!("{what:<24}{value}")))
}

fn show(report: &StatsReport, context: &Context) -> Result<()> {
    let stored = |stored: &Stored| {
        let objects = text::plural(stored.object_count, "object", "objects");
        format!("{} in {objects}", text::size(stored.bytes))
    };
    let chunks = |bytes, count| {
        format!("{} in {}", text::size(bytes), text::plural(count, "chunk", "chunks"))
    };
    let ratio = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
    rows(
        &[
            ("snapshots", text::count(report.snapshot_count)),
            ("all of them restored", text::size(report.restore_bytes)),
            ("different contents", chunks(report.data_bytes, report.data_chunk_count)),
            ("different trees", chunks(report.tree_bytes, report.tree_chunk_count)),
            ("stored", text::size(report.stored_bytes())),
            ("  packs of contents", stored(&report.data_packs)),
            ("  packs of trees", stored(&report.tree_packs)),
            ("  packs in no index", stored(&report.unknown_packs)),
            ("  index", stored(&report.segments)),
            ("  snapshots", stored(&report.snapshots)),
            ("  everything else", stored(&report.others)),
            ("deduplication", ratio(report.dedup_ratio())),
            ("compression", ratio(report.compression_ratio())),
        ],
        context,
    )
}

fn show_snapshot(report: &SnapshotStats, context: &Context) -> Result<()> {
    let chunks = text::plural(report.chunk_count, "chunk", "chunks");
    rows(
        &[
            ("files", text::count(report.file_count)),
            ("directories", text::count(report.directory_count)),
            ("other entries", text::count(report.other_count)),
            ("size", text::size(report.bytes)),
            ("  of it holes", text::size(report.hole_bytes)),
            ("different contents", format!("{} in {chunks}", text::size(report.unique_bytes))),
        ],
        context,
    )
}
