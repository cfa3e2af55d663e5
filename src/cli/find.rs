//! `holdall find`

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

use super::context::Context;
use super::entry::{JsonEntry, long_line};
use super::error::{Exit, Failure, Result};
use super::filters::FilterArgs;
use super::output::{Style, json_text};
use super::progress::Reporter;
use super::tag::named;
use crate::calendar;
use crate::id::ChunkId;
use crate::index::Location;
use crate::ops::OpsError;
use crate::ops::find::{FindOptions, FindReport, chunk_by_prefix, find, find_chunk};
use crate::ops::walk::WalkItem;
use crate::repo::{Repository, SnapshotRecord};
use crate::source::Pattern;
use crate::text;

/// Find names, or what uses a chunk, in all snapshots
#[derive(Debug, clap::Args)]
pub struct FindArgs {
    /// Names or paths as in `holdall help patterns`; any of them
    #[arg(value_name = "PATTERN", required_unless_present_any = [
        "chunk", "larger_than", "smaller_than", "newer", "older",
    ])]
    patterns: Vec<OsString>,
    /// Search only these snapshots
    #[arg(short, long, value_name = "SNAPSHOT")]
    snapshot: Vec<String>,
    /// Search only below this path
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    below: OsString,
    /// Only files of at least this size
    #[arg(long, value_name = "SIZE", value_parser = text::parse_size)]
    larger_than: Option<u64>,
    /// Only files of at most this size
    #[arg(long, value_name = "SIZE", value_parser = text::parse_size)]
    smaller_than: Option<u64>,
    /// Only what was last changed then or later
    #[arg(long, value_name = "TIME")]
    newer: Option<String>,
    /// Only what was last changed then or earlier
    #[arg(long, value_name = "TIME")]
    older: Option<String>,
    /// Find what uses the chunk of this id, and where it lies
    #[arg(long, value_name = "ID", conflicts_with_all = [
        "patterns", "below", "larger_than", "smaller_than", "newer", "older",
    ])]
    chunk: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Serialize)]
struct JsonFound {
    r#type: &'static str,
    snapshot: String,
    #[serde(flatten)]
    entry: JsonEntry,
}

#[derive(Serialize)]
struct JsonLocation {
    pack: String,
    frame_offset: Option<u32>,
    offset: u32,
    len: u32,
}

#[derive(Serialize)]
struct JsonFind {
    r#type: &'static str,
    snapshots: u64,
    entries: u64,
    found: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locations: Option<Vec<JsonLocation>>,
}

/// Finds names or chunks.
pub fn run(args: &FindArgs, context: &Context) -> Result<Exit> {
    let options = options(args, context)?;
    let repository = context.open()?;
    let mut reporter = Reporter::start_beside_data(context)?;
    let records = named(&args.snapshot, &args.filter, &repository, &reporter)?;
    let each = &mut |record: &SnapshotRecord, item: &WalkItem<'_>| {
        let line = || {
            let id = context.output.paint(Style::Id, &record.id.short());
            format!("{id} {}", long_line(item.path, item.entry, &context.zone))
        };
        let object = || {
            let entry = JsonEntry::new(item.path, item.entry, &context.zone);
            let snapshot = record.id.to_hex();
            json_text(&JsonFound { r#type: "found", snapshot, entry })
        };
        context.output.item(line, object)
    };
    let mut chunk = None;
    let report = match &args.chunk {
        Some(prefix) => {
            let id = chunk_by_prefix(&repository, prefix)??;
            let (report, locations) = find_chunk(&repository, &records, &id, each, &reporter)?;
            chunk = Some((id, locations));
            report
        }
        None => find(&repository, &records, args.below.as_bytes(), &options, each, &reporter)?,
    };
    reporter.finish();
    tell(&report, chunk, &repository, context)?;
    Ok(reporter.exit())
}

fn options(args: &FindArgs, context: &Context) -> Result<FindOptions> {
    let pattern = |text: &OsString| {
        Pattern::parse(text.as_bytes()).map_err(|why| {
            let shown = text::escape(text.as_bytes());
            Failure::usage(format!("pattern \"{shown}\": {why}"))
                .hint("`holdall help patterns` tells how they are written")
        })
    };
    let time = |text: &Option<String>| {
        text.as_ref().map(|text| calendar::parse_time(text, &context.zone)).transpose()
    };
    Ok(FindOptions {
        patterns: args.patterns.iter().map(pattern).collect::<Result<_>>()?,
        size_min: args.larger_than,
        size_max: args.smaller_than,
        newer: time(&args.newer)?,
        older: time(&args.older)?,
    })
}

fn tell(
    report: &FindReport,
    chunk: Option<(ChunkId, Vec<Location>)>,
    repository: &Repository,
    context: &Context,
) -> Result<()> {
    let output = &context.output;
    let frame_offset = |place: &Location| place.frame().ok().map(|frame| frame.offset);
    if output.json() {
        let location = |place: &Location| JsonLocation {
            pack: place.pack.id.to_hex(),
            frame_offset: frame_offset(place),
            offset: place.offset,
            len: place.len,
        };
        return output.object(&JsonFind {
            r#type: "find",
            snapshots: report.snapshot_count,
            entries: report.entry_count,
            found: report.found_count,
            chunk: chunk.as_ref().map(|(id, _)| id.to_hex()),
            locations: chunk.map(|(_, places)| places.iter().map(location).collect()),
        });
    }
    if let Some((id, places)) = chunk {
        let here = repository.list_packs().map_err(OpsError::from)?;
        for place in &places {
            let is_here = here.iter().any(|(pack, _)| *pack == place.pack.id);
            let gone = if is_here { "" } else { ", which is not there" };
            output.line(&format!(
                "chunk {} ({}) lies in pack {}{gone}",
                id.short(),
                text::size(place.len.into()),
                place.pack.id
            ))?;
        }
    }
    output.flush()?;
    let snapshots = text::plural(report.snapshot_count, "snapshot", "snapshots");
    let found = text::plural(report.found_count, "entry", "entries");
    output.say(&format!("{found} found in {snapshots}"));
    Ok(())
}
