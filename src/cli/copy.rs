//! `holdall copy`

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::context::{Context, Location, show_path};
use super::error::{Exit, Failure, Result};
use super::filters::FilterArgs;
use super::init::parse_compression;
use super::output::Style;
use super::progress::Reporter;
use super::secrets::Sources;
use super::tag::named;
use crate::index::IndexError;
use crate::ops::OpsError;
use crate::ops::copy::{CopyOptions, CopyReport, copy};
use crate::pack::PackError;
use crate::repo::RepoError;
use crate::storage::{ErrorKind, StorageError};
use crate::text;

/// Copy snapshots into another repository
///
/// What is there already is not copied again. `holdall init --like` makes a repository into which
/// copying is cheap.
#[derive(Debug, clap::Args)]
pub struct CopyArgs {
    /// Only these: ids or how they begin, `latest`, `latest~2`; without any, all that fit
    #[arg(value_name = "SNAPSHOT")]
    names: Vec<String>,
    /// The repository that they are copied into; it must be there
    #[arg(long, value_name = "URL")]
    to: OsString,
    /// Open that repository with this key file
    #[arg(long, value_name = "FILE")]
    to_key_file: Option<PathBuf>,
    /// Read the password of that repository from a file
    #[arg(long, value_name = "FILE")]
    to_password_file: Option<PathBuf>,
    /// Run a command that prints the password of that repository
    #[arg(long, value_name = "COMMAND")]
    to_password_command: Option<OsString>,
    /// Compress with `none`, `fast`, `default`, `best`, or a level of zstd from -7 to 22
    #[arg(long, value_name = "LEVEL", value_parser = parse_compression, allow_hyphen_values = true)]
    compression: Option<i32>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Copies.
pub fn run(args: &CopyArgs, context: &Context) -> Result<Exit> {
    let destination = Location::parse(&args.to)?;
    let same = |path: &PathBuf| path.canonicalize().ok();
    if same(&destination).is_some() && same(&destination) == same(&context.location.path) {
        return Err(Failure::usage("source and destination are the same repository"));
    }
    let from = context.open()?;
    let given = Sources {
        key_file: args.to_key_file.clone(),
        password_file: args.to_password_file.clone(),
        password_command: args.to_password_command.clone(),
    };
    // Without secrets of its own it is opened with those of the source.
    let to = match given.is_empty() {
        true => context.open_at(&destination)?,
        false => context.open_with(&destination, &given)?,
    };
    let mut reporter = Reporter::start(context)?;
    let records = named(&args.names, &args.filter, &from, &reporter)?;
    let options = CopyOptions { compression: args.compression };
    let report = copy(&from, &to, &records, &options, &reporter)
        .map_err(|error| located(error, &destination))?;
    reporter.finish();
    match context.output.json() {
        true => tell(&report, context)?,
        false => show(&report, &reporter, &destination, context),
    }
    Ok(reporter.exit())
}

/// A failure, with the destination's place where only writing fails like this.
fn located(error: OpsError, destination: &Path) -> Failure {
    let is_written = |error: &StorageError| {
        error.kind == ErrorKind::Full || error.source.kind() == io::ErrorKind::ReadOnlyFilesystem
    };
    let is_written = match &error {
        OpsError::Repo(
            RepoError::Storage(error)
            | RepoError::Pack(PackError::Storage(error))
            | RepoError::Index(IndexError::Storage(error)),
        ) => is_written(error),
        _ => false,
    };
    let failure = Failure::from(error);
    if !is_written {
        return failure;
    }
    let message = format!("{} (repository {})", failure.message, show_path(destination));
    Failure { message, in_repository: false, ..failure }
}

#[derive(Serialize)]
struct JsonPair {
    original: Option<String>,
    copy: String,
}

#[derive(Serialize)]
struct JsonCopy {
    r#type: &'static str,
    copied: Vec<JsonPair>,
    skipped: Vec<JsonPair>,
    bytes_read: u64,
    bytes_new: u64,
    bytes_stored: u64,
    problem_count: u64,
}

fn tell(report: &CopyReport, context: &Context) -> Result<()> {
    let copied = report.copied.iter().map(|record| JsonPair {
        original: record.snapshot.original.map(|id| id.to_hex()),
        copy: record.id.to_hex(),
    });
    let skipped = report.skipped.iter().map(|(original, copy)| JsonPair {
        original: Some(original.to_hex()),
        copy: copy.to_hex(),
    });
    context.output.object(&JsonCopy {
        r#type: "copy",
        copied: copied.collect(),
        skipped: skipped.collect(),
        bytes_read: report.bytes_read,
        bytes_new: report.bytes_new,
        bytes_stored: report.bytes_stored,
        problem_count: report.problem_count,
    })
}

fn show(report: &CopyReport, reporter: &Reporter, to: &std::path::Path, context: &Context) {
    let output = &context.output;
    for record in &report.copied {
        let original = record.snapshot.original.map(|id| id.short()).unwrap_or_default();
        let id = output.paint_talk(Style::Id, &record.id.short());
        output.say(&format!("snapshot {original} copied as {id}"));
    }
    let copied = text::plural(report.copied.len() as u64, "snapshot", "snapshots");
    let took = text::duration(reporter.elapsed());
    output.say(&format!(
        "{copied} copied to {} in {took}, {} there already",
        show_path(to),
        text::count(report.skipped.len() as u64)
    ));
    output.say(&format!(
        "  {} read, {} new, {} stored",
        text::size(report.bytes_read),
        text::size(report.bytes_new),
        text::size(report.bytes_stored)
    ));
    if report.problem_count > 0 {
        let problems = text::plural(report.problem_count, "place", "places");
        output.warn(&format!("the source is damaged: {problems} could not be copied whole"));
    }
}
