//! `holdall diff`

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;

use super::backup::{LeaveOutArgs, excludes};
use super::context::Context;
use super::entry::kind_name;
use super::error::{Exit, Result};
use super::filters::{FilterArgs, SnapshotPath};
use super::json::{hex_of, text_of};
use super::output::{Style, json_text};
use super::progress::Reporter;
use crate::format::tree::Entry;
use crate::ops::diff::{
    DiffItem, DiffReport, Difference, LiveOptions, MetadataChange, Tally, diff, diff_live,
};
use crate::text;

/// Show what differs between two snapshots, or one and the live tree
///
/// A line for each name: `+` it is new, `-` it is gone, `M` its content changed, `T` it is
/// something else now, `U` only its metadata changed (with --metadata).
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// The snapshot before, and which path in it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    before: OsString,
    /// The snapshot after, and which path in it; without it, the live tree
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    after: Option<OsString>,
    /// Show what differs in mode, owner, time or attributes only, too
    #[arg(long)]
    metadata: bool,
    #[command(flatten)]
    leave_out: LeaveOutArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Serialize)]
struct JsonDifference {
    r#type: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    change: &'static str,
    kind: &'static str,
    kind_before: Option<&'static str>,
    size: u64,
    size_before: Option<u64>,
    content: bool,
    mode: bool,
    owner: bool,
    mtime: bool,
    xattrs: bool,
}

#[derive(Serialize)]
struct JsonTally {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
}

impl From<Tally> for JsonTally {
    fn from(of: Tally) -> Self {
        Self {
            files: of.file_count,
            directories: of.directory_count,
            others: of.other_count,
            bytes: of.bytes,
        }
    }
}

#[derive(Serialize)]
struct JsonDiff {
    r#type: &'static str,
    before: String,
    after: String,
    added: JsonTally,
    removed: JsonTally,
    changed: JsonTally,
    changed_bytes_before: u64,
    metadata_only: u64,
    unknown: u64,
}

/// Compares two snapshots, or one with what is there now.
pub fn run(args: &DiffArgs, context: &Context) -> Result<Exit> {
    let output = &context.output;
    let repository = context.open()?;
    let mut reporter = Reporter::start_beside_data(context)?;
    let filter = args.filter.filter();
    let wanted = SnapshotPath::parse(&args.before);
    let before = wanted.find(&repository, &filter, &reporter, context)?;
    let each = &mut |item: &DiffItem<'_>| {
        let seen = Seen::new(item);
        match seen.change == "metadata" && !args.metadata {
            true => Ok(()),
            false => output.item(|| seen.line(context), || json_text(&seen.to_json())),
        }
    };
    let (report, after) = match &args.after {
        Some(after) => {
            let path = SnapshotPath::parse(after);
            let after = path.find(&repository, &filter, &reporter, context)?;
            let sides = ((&before.snapshot, wanted.path()), (&after.snapshot, path.path()));
            (diff(&repository, sides.0, sides.1, each, &reporter)?, after.id.to_hex())
        }
        None => {
            let excludes = excludes(&args.leave_out, context)?;
            let options = LiveOptions { excludes, ..LiveOptions::default() };
            let mut report = DiffReport::default();
            for path in
                wanted.path.as_ref().map_or(&before.snapshot.paths[..], std::slice::from_ref)
            {
                let live = Path::new(OsStr::from_bytes(path));
                let side = (&before.snapshot, &path[..]);
                report += diff_live(&repository, side, live, &options, each, &reporter)?;
            }
            (report, "live".into())
        }
    };
    reporter.finish();
    match output.json() {
        true => output.object(&JsonDiff {
            r#type: "diff",
            before: before.id.to_hex(),
            after,
            added: report.added.into(),
            removed: report.removed.into(),
            changed: report.changed.into(),
            changed_bytes_before: report.changed_bytes_before,
            metadata_only: report.metadata_count,
            unknown: report.unknown_count,
        })?,
        false => summarize(&report, context)?,
    }
    Ok(reporter.exit())
}

/// A difference taken apart.
struct Seen<'a> {
    path: &'a [u8],
    change: &'static str,
    before: Option<&'a Entry>,
    /// As it is now, or as it was if it is gone.
    entry: &'a Entry,
    kind: bool,
    content: bool,
    metadata: MetadataChange,
}

impl<'a> Seen<'a> {
    fn new(item: &DiffItem<'a>) -> Self {
        let path = item.path;
        let plain = |change, entry| Self {
            path,
            change,
            before: None,
            entry,
            kind: false,
            content: false,
            metadata: MetadataChange::default(),
        };
        match item.difference {
            Difference::Added(entry) => plain("added", entry),
            Difference::Removed(entry) => plain("removed", entry),
            Difference::Changed { before, after, kind, content, metadata } => {
                let change = if kind || content { "changed" } else { "metadata" };
                Self { path, change, before: Some(before), entry: after, kind, content, metadata }
            }
        }
    }

    fn line(&self, context: &Context) -> String {
        let (sign, style) = match self.change {
            "added" => ("+", Style::Good),
            "removed" => ("-", Style::Error),
            "changed" if self.kind => ("T", Style::Warning),
            "changed" => ("M", Style::Warning),
            _ => ("U", Style::Id),
        };
        let slash = if self.entry.is_directory() { "/" } else { "" };
        format!("{} {}{slash}", context.output.paint(style, sign), text::escape(self.path))
    }

    fn to_json(&self) -> JsonDifference {
        JsonDifference {
            r#type: "difference",
            path: text_of(self.path),
            path_hex: hex_of(self.path),
            change: self.change,
            kind: kind_name(&self.entry.kind),
            kind_before: self.before.map(|entry| kind_name(&entry.kind)),
            size: self.entry.size(),
            size_before: self.before.map(Entry::size),
            content: self.content,
            mode: self.metadata.mode,
            owner: self.metadata.owner,
            mtime: self.metadata.mtime,
            xattrs: self.metadata.xattrs,
        }
    }
}

fn summarize(report: &DiffReport, context: &Context) -> Result<()> {
    let output = &context.output;
    output.flush()?;
    for (what, tally) in
        [("new", &report.added), ("gone", &report.removed), ("changed", &report.changed)]
    {
        output.say(&format!(
            "{what}: {}, {}, {} others, {}",
            text::plural(tally.file_count, "file", "files"),
            text::plural(tally.directory_count, "directory", "directories"),
            text::count(tally.other_count),
            text::size(tally.bytes)
        ));
    }
    let only = text::plural(report.metadata_count, "entry", "entries");
    output.say(&format!("metadata only: {only}"));
    if report.unknown_count > 0 {
        let names = text::plural(report.unknown_count, "name", "names");
        output.warn(&format!("{names} cannot be compared, because of damage"));
    }
    Ok(())
}
