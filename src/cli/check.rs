//! `holdall check`

use serde::Serialize;

use super::context::Context;
use super::error::{Exit, Failure, Result};
use super::filters::FilterArgs;
use super::json::{hex_of, text_of};
use super::output::Style;
use super::progress::Reporter;
use super::tag::named;
use crate::ops::OpsError;
use crate::ops::check::{CheckOptions, CheckReport, ReadData, Touched, check};
use crate::ops::retention::parse_within;
use crate::text;

/// Check that the repository is whole
///
/// Structure is always checked; what is stored is read and opened with --read-data. Damaged
/// objects are named, and the snapshots and files that need them. Nothing is changed.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Only what these snapshots need
    #[arg(value_name = "SNAPSHOT")]
    names: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Read and open everything that is stored
    #[arg(long)]
    read_data: bool,
    /// Read a part of it, what was not read for the longest time: `5%`, `500M`, or `1/12`
    #[arg(
        long,
        value_name = "PART",
        value_parser = parse_subset,
        conflicts_with = "read_data"
    )]
    read_data_subset: Option<ReadData>,
    /// Pass over what was read and found good within this span (`30d`)
    #[arg(long, value_name = "SPAN")]
    max_age: Option<String>,
}

fn parse_subset(value: &str) -> std::result::Result<ReadData, String> {
    let bad = || "a share (5%), a size (500M) or a part (1/12) is possible".to_owned();
    if let Some(percent) = value.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().map_err(|_| bad())?;
        return match percent > 0.0 && percent <= 100.0 {
            true => Ok(ReadData::Share(percent / 100.0)),
            false => Err(bad()),
        };
    }
    if let Some((part, of)) = value.split_once('/') {
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| bad());
        let (part, of) = (number(part)?, number(of)?);
        return match (1..=of).contains(&part) {
            true => Ok(ReadData::Part { part, of }),
            false => Err(bad()),
        };
    }
    match text::parse_size(value) {
        Ok(bytes) if bytes > 0 => Ok(ReadData::Bytes(bytes)),
        _ => Err(bad()),
    }
}

/// Checks a repository.
pub fn run(args: &CheckArgs, context: &Context) -> Result<Exit> {
    let read_data = match (args.read_data, args.read_data_subset) {
        (true, _) => ReadData::All,
        (false, subset) => subset.unwrap_or_default(),
    };
    if args.max_age.is_some() && read_data == ReadData::None {
        return Err(Failure::usage("--max-age is about what is read")
            .hint("give --read-data or --read-data-subset, too"));
    }
    let now = context.world.now();
    let seconds = |span: &String| {
        let start = parse_within(span)?.before(now, &context.zone);
        Ok::<_, Failure>(now.seconds.saturating_sub(start.seconds).max(0).unsigned_abs())
    };
    let max_age_seconds = args.max_age.as_ref().map(seconds).transpose()?;
    let repository = context.open()?;
    let mut reporter = Reporter::start(context)?;
    let snapshots = match args.names.is_empty() && args.filter.is_empty() {
        true => Vec::new(),
        false => {
            let some = named(&args.names, &args.filter, &repository, &reporter)?;
            if some.is_empty() {
                return Err(Failure::new(Exit::Failed, "there is no snapshot that fits")
                    .hint("`holdall snapshots` lists them"));
            }
            some
        }
    };
    let options = CheckOptions { snapshots, read_data, max_age_seconds };
    let report = check(&repository, &options, &reporter).map_err(|error| {
        let is_resumed = matches!(error, OpsError::Cancelled) && read_data != ReadData::None;
        let failure = Failure::from(error);
        match is_resumed {
            true => failure.hint(
                "what was read is remembered: the next run begins with the rest, and passes over \
                 it with --max-age",
            ),
            false => failure,
        }
    })?;
    reporter.finish();
    match context.output.json() {
        true => tell(&report, context)?,
        false => show(&report, read_data, context)?,
    }
    Ok(if report.is_whole() { reporter.exit() } else { Exit::Damage })
}

/// A file or directory that cannot be restored whole.
#[derive(Debug, Serialize)]
pub struct JsonTouched {
    r#type: &'static str,
    snapshot: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl From<&Touched> for JsonTouched {
    fn from(Touched { snapshot, path }: &Touched) -> Self {
        let (path, path_hex) = (text_of(path), hex_of(path));
        Self { r#type: "touched", snapshot: snapshot.to_hex(), path, path_hex }
    }
}

#[derive(Serialize)]
struct JsonDamaged<'a> {
    object: &'a str,
    why: &'a str,
}

#[derive(Serialize)]
struct JsonCheck<'a> {
    r#type: &'static str,
    whole: bool,
    snapshots: u64,
    chunks: u64,
    packs: u64,
    packs_read: u64,
    packs_unknown: u64,
    bytes_read: u64,
    chunks_damaged: u64,
    touched: usize,
    damaged: Vec<JsonDamaged<'a>>,
}

fn tell(report: &CheckReport, context: &Context) -> Result<()> {
    for touched in &report.touched {
        context.output.object(&JsonTouched::from(touched))?;
    }
    let damaged = report.damaged.iter().map(|d| JsonDamaged { object: &d.key, why: &d.why });
    context.output.object(&JsonCheck {
        r#type: "check",
        whole: report.is_whole(),
        snapshots: report.snapshots,
        chunks: report.chunks,
        packs: report.packs,
        packs_read: report.packs_read,
        packs_unknown: report.packs_unknown,
        bytes_read: report.bytes_read,
        chunks_damaged: report.chunks_damaged,
        touched: report.touched.len(),
        damaged: damaged.collect(),
    })
}

fn show(report: &CheckReport, read_data: ReadData, context: &Context) -> Result<()> {
    let output = &context.output;
    output.line(&format!(
        "checked {}: {} in {}",
        text::plural(report.snapshots, "snapshot", "snapshots"),
        text::plural(report.chunks, "chunk", "chunks"),
        text::plural(report.packs, "pack", "packs"),
    ))?;
    if read_data != ReadData::None {
        let packs = text::plural(report.packs_read, "pack", "packs");
        output.line(&format!("read {packs}, {}", text::size(report.bytes_read)))?;
    }
    if report.packs_unknown > 0 {
        let packs = text::plural(report.packs_unknown, "pack", "packs");
        output.line(&format!("{packs} in no index: left by runs that were cut off, harmless"))?;
    }
    for Touched { snapshot, path } in &report.touched {
        let id = output.paint(Style::Id, &snapshot.short());
        output.line(&format!("damaged in snapshot {id}: {}", text::escape(path)))?;
    }
    if report.is_whole() {
        return output.line(&output.paint(Style::Good, "no damage was found"));
    }
    let objects = text::plural(report.damaged.len() as u64, "object", "objects");
    let chunks = text::plural(report.chunks_damaged, "chunk", "chunks");
    let touched = text::plural(report.touched.len() as u64, "place", "places");
    let line = format!("damage: {objects}; {chunks} cannot be had, which {touched} need");
    output.line(&output.paint(Style::Error, &line))
}
