//! `holdall ls`

use std::ffi::OsString;

use serde::Serialize;

use super::context::Context;
use super::entry::{JsonEntry, long_line, path_text};
use super::error::{Exit, Result};
use super::filters::{FilterArgs, SnapshotPath};
use super::output::json_text;
use super::progress::Reporter;
use crate::ops::ls::ls;
use crate::ops::walk::WalkItem;
use crate::text;

/// List what is in a snapshot
#[derive(Debug, clap::Args)]
pub struct LsArgs {
    /// The snapshot, and which path in it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,
    /// Only one level, not what is below it
    #[arg(short = '1', long)]
    one_level: bool,
    /// Show mode, owner, size and time, too
    #[arg(short, long)]
    long: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Serialize)]
struct JsonListed {
    r#type: &'static str,
    #[serde(flatten)]
    entry: JsonEntry,
}

#[derive(Serialize)]
struct JsonLs {
    r#type: &'static str,
    snapshot: String,
    entries: u64,
    bytes: u64,
}

/// Lists a snapshot.
pub fn run(args: &LsArgs, context: &Context) -> Result<Exit> {
    let output = &context.output;
    let repository = context.open()?;
    let mut reporter = Reporter::start_beside_data(context)?;
    let wanted = SnapshotPath::parse(&args.snapshot);
    let record = wanted.find(&repository, &args.filter.filter(), &reporter, context)?;
    let each = &mut |item: &WalkItem<'_>| {
        let (path, entry) = (item.path, item.entry);
        let line = || match args.long {
            true => long_line(path, entry, &context.zone),
            false => path_text(path, entry),
        };
        let object = || {
            let entry = JsonEntry::new(path, entry, &context.zone);
            json_text(&JsonListed { r#type: "entry", entry })
        };
        output.item(line, object)
    };
    let snapshot = &record.snapshot;
    let report = ls(&repository, snapshot, wanted.path(), !args.one_level, each, &reporter)?;
    reporter.finish();
    if output.json() {
        output.object(&JsonLs {
            r#type: "ls",
            snapshot: record.id.to_hex(),
            entries: report.entry_count,
            bytes: report.bytes,
        })?;
    }
    output.flush()?;
    let entries = text::plural(report.entry_count, "entry", "entries");
    output.say(&format!("{entries}, {}", text::size(report.bytes)));
    Ok(reporter.exit())
}
