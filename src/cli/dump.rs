//! `holdall dump`

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::context::Context;
use super::error::{Exit, Failure, Result};
use super::filters::{FilterArgs, SnapshotPath};
use super::progress::Reporter;
use crate::ops::OpsError;
use crate::ops::dump::{ArchiveFormat, DumpReport, dump_file, dump_folder};
use crate::ops::walk::Start;
use crate::repo::{Repository, SnapshotRecord};
use crate::text;
use crate::tree::TreeReader;

/// Write a file, or a directory as an archive, to standard output
///
/// A file's content comes as it is. A directory comes as tar, unless --archive says otherwise.
#[derive(Debug, clap::Args)]
pub struct DumpArgs {
    /// The snapshot, and which path in it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,
    /// What a directory is written as
    #[arg(short, long, value_name = "FORMAT", default_value = "tar")]
    archive: ArchiveChoice,
    /// Write into this file instead; it must not be there yet
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What a directory is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ArchiveChoice {
    /// With owners, exact times, hard links, devices and extended attributes
    Tar,
    /// Files, directories and links
    Zip,
}

#[derive(Serialize)]
struct JsonDump {
    r#type: &'static str,
    snapshot: String,
    entries: u64,
    bytes: u64,
    lost_bytes: u64,
    left_out: u64,
}

/// Writes a part of a snapshot.
pub fn run(args: &DumpArgs, context: &Context) -> Result<Exit> {
    let repository = context.open()?;
    let mut reporter = match args.output {
        Some(_) => Reporter::start(context)?,
        None => Reporter::start_beside_data(context)?,
    };
    let wanted = SnapshotPath::parse(&args.snapshot);
    let record = wanted.find(&repository, &args.filter.filter(), &reporter, context)?;
    let report = match &args.output {
        None => {
            let mut output = BufWriter::with_capacity(256 << 10, io::stdout());
            dump(args, &wanted, &repository, &record, &mut output, &reporter, context)?
        }
        Some(path) => {
            let cannot = |error: io::Error| Failure::file("write", path, &error);
            let file = File::create_new(path).map_err(cannot)?;
            let mut output = BufWriter::with_capacity(256 << 10, file);
            let report =
                dump(args, &wanted, &repository, &record, &mut output, &reporter, context)?;
            output.get_ref().sync_all().map_err(cannot)?;
            report
        }
    };
    reporter.finish();
    if context.output.json() {
        context.output.event(&JsonDump {
            r#type: "dump",
            snapshot: record.id.to_hex(),
            entries: report.entry_count,
            bytes: report.bytes,
            lost_bytes: report.lost_bytes,
            left_out: report.left_out_count,
        });
    }
    let entries = text::plural(report.entry_count, "entry", "entries");
    context.output.say(&format!("{entries}, {}", text::size(report.bytes)));
    if report.left_out_count > 0 {
        let left_out = text::plural(report.left_out_count, "entry", "entries");
        context.output.warn(&format!("{left_out} left out, which the archive cannot hold"));
    }
    if report.lost_bytes > 0 {
        let lost = text::size(report.lost_bytes);
        context.output.warn(&format!("{lost} are damaged; zeros stand in their place"));
        return Ok(Exit::Damage);
    }
    Ok(match (reporter.exit(), report.left_out_count) {
        (Exit::Done, 1..) => Exit::Incomplete,
        (exit, _) => exit,
    })
}

fn dump(
    args: &DumpArgs,
    wanted: &SnapshotPath,
    repository: &Arc<Repository>,
    record: &SnapshotRecord,
    output: &mut dyn Write,
    reporter: &Reporter,
    context: &Context,
) -> Result<DumpReport> {
    let (snapshot, path) = (&record.snapshot, wanted.path());
    let start = Start::find(&TreeReader::new(repository), snapshot, path)?;
    let report = match start.listing() {
        None => dump_file(repository, snapshot, path, output, reporter),
        Some(_) => {
            if args.output.is_none() && context.output.stdout_is_terminal() {
                return Err(Failure::usage("an archive is nothing for a terminal")
                    .hint("write it to a file or a pipe"));
            }
            let format = match args.archive {
                ArchiveChoice::Tar => ArchiveFormat::Tar,
                ArchiveChoice::Zip => ArchiveFormat::Zip,
            };
            dump_folder(repository, snapshot, path, format, output, reporter)
        }
    };
    report.map_err(|error| match error {
        // Unlike a listing, half of a file is not what was asked for.
        OpsError::Output(source) => Failure { exit: Exit::Failed, ..Failure::output(&source) },
        error => error.into(),
    })
}
