//! `holdall restore`

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::context::{Context, show_path};
use super::error::{Exit, Failure, Result};
use super::filters::{FilterArgs, SnapshotPath, absolute};
use super::json::{hex_of, text_of};
use super::output::{Style, json_text};
use super::progress::Reporter;
use crate::format::snapshot::SnapshotKind;
use crate::ops::OpsError;
use crate::ops::backup::{BackupOptions, Input, backup};
use crate::ops::restore::{
    Action, Change, Counts, Overwrite, RestoreOptions, RestoreReport, restore, undo,
};
use crate::repo::{Repository, SnapshotRecord};
use crate::source::Pattern;
use crate::target::{Kind, TargetOptions};
use crate::text;
use crate::tree::TreeError;

/// Restore files from a snapshot
///
/// SNAPSHOT:PATH puts what is in PATH right into the target. Without PATH the absolute paths are
/// built again below it. Nothing outside of the target is ever written.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// The snapshot, and which path in it
    #[arg(value_name = "SNAPSHOT[:PATH]", required_unless_present = "undo")]
    snapshot: Option<OsString>,
    /// Restore into this directory; it is made if it is missing
    #[arg(short, long, value_name = "DIR", required_unless_present = "original")]
    target: Option<PathBuf>,
    /// Restore everything where it was
    #[arg(long, conflicts_with = "target")]
    original: bool,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    writing: WritingArgs,
    /// Change nothing; say what would be changed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Restore nothing; put back what a `--rollback` that was killed has left
    ///
    /// What was replaced until then lies in `.holdall-…-undo` in the target.
    #[arg(long, conflicts_with_all = ["snapshot", "dry_run", "rollback"])]
    undo: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What is restored.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is restored")]
struct SelectionArgs {
    /// Only what matches, and all below it (`holdall help patterns`)
    #[arg(short, long, value_name = "PATTERN")]
    include: Vec<OsString>,
    /// Neither what matches, nor anything below it
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<OsString>,
}

/// How it is written.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How it is written")]
struct WritingArgs {
    /// What becomes of files that are there
    #[arg(long, value_name = "WHEN", default_value = "if-changed")]
    overwrite: OverwriteChoice,
    /// Remove what the snapshot does not have, in directories that it has
    #[arg(long)]
    delete: bool,
    /// Read what was written again and compare
    #[arg(long)]
    verify: bool,
    /// Return only when all of it would survive a power cut
    #[arg(long)]
    sync: bool,
    /// Leave holes where files have nothing but zeros
    #[arg(long)]
    sparse: bool,
    /// Change existing files where they stand, and only where they differ
    ///
    /// A run that is cut off leaves such files half changed; otherwise they are replaced whole.
    #[arg(long)]
    in_place: bool,
    /// All or nothing: if anything cannot be restored, put the target back as it was
    ///
    /// What is replaced or removed is kept in the target until the end, so it needs room for both.
    /// A run that was killed is taken back with `restore --undo`, after a power cut as far as the
    /// disk still has its journal.
    #[arg(long, conflicts_with = "in_place")]
    rollback: bool,
    /// Take a snapshot of the target first
    #[arg(long)]
    safety_snapshot: bool,
    /// Leave owner and group as they come
    #[arg(long)]
    no_owner: bool,
    /// Take owner and group by their names, where this machine knows them
    #[arg(long, conflicts_with = "no_owner")]
    owner_by_name: bool,
    /// Leave out extended attributes, ACLs and capabilities
    #[arg(long)]
    no_xattrs: bool,
}

/// What becomes of files that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OverwriteChoice {
    /// They become what the snapshot has; all of them are compared byte by byte
    Always,
    /// The same, but those of the same length and time are taken for unchanged
    IfChanged,
    /// Only older ones
    IfNewer,
    /// They stay
    Never,
}

/// Restores.
pub fn run(args: &RestoreArgs, context: &Context) -> Result<Exit> {
    let target = args.target.clone().unwrap_or_else(|| PathBuf::from("/"));
    match &args.snapshot {
        Some(snapshot) => restore_snapshot(snapshot, &target, args, context),
        None => take_back(&target, context),
    }
}

fn restore_snapshot(
    snapshot: &OsString,
    target: &Path,
    args: &RestoreArgs,
    context: &Context,
) -> Result<Exit> {
    let (include, exclude) =
        (patterns(&args.selection.include)?, patterns(&args.selection.exclude)?);
    let repository = context.open()?;
    let mut reporter = Reporter::start(context)?;
    let wanted = SnapshotPath::parse(snapshot);
    let record = wanted.find(&repository, &args.filter.filter(), &reporter, context)?;
    if args.writing.safety_snapshot && !args.dry_run {
        save(&repository, &record, &wanted, args, target, &reporter, context)?;
    }
    let shows = args.dry_run || context.output.verbose() > 0;
    let on_change = |change: &Change<'_>| {
        if change.action != Action::Unchanged || context.output.verbose() > 1 {
            show(change, context);
        }
    };
    let options = RestoreOptions {
        path: wanted.path.clone(),
        rebuild: args.original,
        target: target.to_owned(),
        include,
        exclude,
        dry_run: args.dry_run,
        overwrite: match args.writing.overwrite {
            OverwriteChoice::Always => Overwrite::Always,
            OverwriteChoice::IfChanged => Overwrite::IfChanged,
            OverwriteChoice::IfNewer => Overwrite::IfNewer,
            OverwriteChoice::Never => Overwrite::Never,
        },
        delete: args.writing.delete,
        verify: args.writing.verify,
        sync: args.writing.sync,
        sparse: args.writing.sparse,
        in_place: args.writing.in_place,
        rollback: args.writing.rollback,
        metadata: TargetOptions {
            owner: !args.writing.no_owner,
            by_name: args.writing.owner_by_name,
            xattrs: !args.writing.no_xattrs,
        },
        on_change: shows.then_some(&on_change),
        ..RestoreOptions::default()
    };
    let report =
        restore(&repository, &record, &options, &reporter).map_err(|error| match error {
            OpsError::Tree(source @ (TreeError::NoSuchPath | TreeError::NotADirectory)) => {
                OpsError::Path { path: wanted.path().to_vec(), source }
            }
            error => error,
        })?;
    reporter.finish();
    match context.output.json() {
        true => tell(&record, &report, args, context)?,
        false => summarize(&record, &report, args, target, &reporter, context)?,
    }
    Ok(match (report.damage, report.problems) {
        (0, 0) => reporter.exit(),
        (0, _) if report.rolled_back => Exit::Failed,
        (0, _) if reporter.exit() != Exit::Damage => Exit::Incomplete,
        _ => Exit::Damage,
    })
}

/// Puts back what a run has left that was killed.
fn take_back(target: &Path, context: &Context) -> Result<Exit> {
    let mut reporter = Reporter::start(context)?;
    let undone = undo(target, &*context.world, &reporter)?;
    reporter.finish();
    let output = &context.output;
    match (output.json(), undone) {
        (true, _) => output.object(&JsonUndo {
            r#type: "undo",
            found: undone.is_some(),
            rolled_back: undone == Some(true),
        })?,
        (false, None) => output.say(&format!("no restore was cut off in {}", show_path(target))),
        (false, Some(true)) => {
            output.say(&format!("{} is again what it was before", show_path(target)));
        }
        (false, Some(false)) => output.warn("not everything could be put back"),
    }
    Ok(if undone == Some(false) { Exit::Failed } else { reporter.exit() })
}

#[derive(Serialize)]
struct JsonUndo {
    r#type: &'static str,
    found: bool,
    rolled_back: bool,
}

fn patterns(texts: &[OsString]) -> Result<Vec<Pattern>> {
    let parse = |text: &OsString| {
        Pattern::parse(text.as_bytes()).map_err(|why| {
            Failure::usage(format!("pattern \"{}\": {why}", text::escape(text.as_bytes())))
                .hint("`holdall help patterns` tells how they are written")
        })
    };
    texts.iter().map(parse).collect()
}

/// A snapshot of what is there before it is changed.
fn save(
    repository: &Arc<Repository>,
    record: &SnapshotRecord,
    wanted: &SnapshotPath,
    args: &RestoreArgs,
    target: &Path,
    reporter: &Reporter,
    context: &Context,
) -> Result<()> {
    let paths = match (args.original, &wanted.path) {
        (false, _) => vec![absolute(target)],
        (true, Some(path)) => vec![path.clone()],
        (true, None) => record.snapshot.paths.clone(),
    };
    let is_there = |path: &Vec<u8>| Path::new(std::ffi::OsStr::from_bytes(path)).exists();
    let paths: Vec<Vec<u8>> = paths.into_iter().filter(is_there).collect();
    if paths.is_empty() {
        context.output.say("nothing is there yet, so no safety snapshot is needed");
        return Ok(());
    }
    let excludes = context.own_excludes();
    let options = BackupOptions {
        excludes,
        kind: SnapshotKind::Safety,
        description: format!("before snapshot {} was restored", record.id.short()),
        offset_minutes: context.offset_minutes(context.world.now()),
        program: super::PROGRAM.into(),
        ..BackupOptions::default()
    };
    let report = backup(repository, Input::Paths(paths), &options, reporter)?;
    if let Some(saved) = report.record {
        context.output.say(&format!("safety snapshot {} saved", saved.id.short()));
    }
    Ok(())
}

/// How an action is called.
fn action_name(action: Action) -> &'static str {
    match action {
        Action::Created => "created",
        Action::Replaced => "replaced",
        Action::Metadata => "metadata",
        Action::Unchanged => "unchanged",
        Action::Deleted => "deleted",
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice => "char_device",
        Kind::BlockDevice => "block_device",
        Kind::Other => "other",
    }
}

#[derive(Serialize)]
struct JsonChange {
    r#type: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    kind: &'static str,
    action: &'static str,
    bytes: u64,
}

fn show(change: &Change<'_>, context: &Context) {
    let line = || {
        let (sign, style) = match change.action {
            Action::Created => ("+", Style::Good),
            Action::Replaced => ("M", Style::Warning),
            Action::Metadata => ("U", Style::Id),
            Action::Unchanged => ("=", Style::Heading),
            Action::Deleted => ("-", Style::Error),
        };
        let slash = if change.kind == Kind::Directory { "/" } else { "" };
        let path = text::escape(change.path);
        format!("{} {path}{slash}", context.output.paint(style, sign))
    };
    let object = || {
        json_text(&JsonChange {
            r#type: "change",
            path: text_of(change.path),
            path_hex: hex_of(change.path),
            kind: kind_name(change.kind),
            action: action_name(change.action),
            bytes: change.bytes,
        })
    };
    // The work goes on although nobody wants to read of it; what matters comes in the report.
    let _ = context.output.item(line, object);
}

#[derive(Serialize)]
struct JsonCounts {
    files: u64,
    directories: u64,
    others: u64,
}

impl From<Counts> for JsonCounts {
    fn from(of: Counts) -> Self {
        Self { files: of.files, directories: of.directories, others: of.others }
    }
}

#[derive(Serialize)]
struct JsonRestore {
    r#type: &'static str,
    snapshot: String,
    dry_run: bool,
    created: JsonCounts,
    replaced: JsonCounts,
    metadata: JsonCounts,
    unchanged: JsonCounts,
    deleted: u64,
    bytes_written: u64,
    bytes_unchanged: u64,
    verified: u64,
    problems: u64,
    damage: u64,
    owners_refused: bool,
    rolled_back: bool,
}

fn tell(
    record: &SnapshotRecord,
    report: &RestoreReport,
    args: &RestoreArgs,
    context: &Context,
) -> Result<()> {
    context.output.object(&JsonRestore {
        r#type: "restore",
        snapshot: record.id.to_hex(),
        dry_run: args.dry_run,
        created: report.created.into(),
        replaced: report.replaced.into(),
        metadata: report.metadata.into(),
        unchanged: report.unchanged.into(),
        deleted: report.deleted,
        bytes_written: report.bytes_written,
        bytes_unchanged: report.bytes_unchanged,
        verified: report.verified,
        problems: report.problems,
        damage: report.damage,
        owners_refused: report.owners_refused,
        rolled_back: report.rolled_back,
    })
}

fn summarize(
    record: &SnapshotRecord,
    report: &RestoreReport,
    args: &RestoreArgs,
    target: &Path,
    reporter: &Reporter,
    context: &Context,
) -> Result<()> {
    let output = &context.output;
    output.flush()?;
    let took = text::duration(reporter.elapsed());
    let id = output.paint_talk(Style::Id, &record.id.short());
    output.say(&match (args.dry_run, report.rolled_back) {
        (true, _) => format!("dry run, {took}: nothing was changed"),
        (_, true) => format!("{} is again what it was before", show_path(target)),
        _ => format!("snapshot {id} restored to {} in {took}", show_path(target)),
    });
    if report.rolled_back {
        tell_what_failed(report, context);
        return Ok(());
    }
    let files = |counts: Counts| text::count(counts.files);
    output.say(&format!(
        "  {} created, {} replaced, {} unchanged, {} written",
        text::plural(report.created.files, "file", "files"),
        files(report.replaced),
        text::count(report.unchanged.files + report.metadata.files),
        text::size(report.bytes_written),
    ));
    if report.deleted > 0 {
        output.say(&format!("  {} deleted", text::plural(report.deleted, "entry", "entries")));
    }
    if report.verified > 0 {
        let files = text::plural(report.verified, "file", "files");
        output.say(&format!("  {files} read again and found right"));
    }
    if report.owners_refused {
        output.say("  owners were not set: only root can give files away");
    }
    tell_what_failed(report, context);
    Ok(())
}

fn tell_what_failed(report: &RestoreReport, context: &Context) {
    let output = &context.output;
    if report.problems > 0 {
        let problems = text::plural(report.problems, "problem", "problems");
        output.warn(&format!("not everything was restored: {problems}"));
    }
    if report.damage > 0 {
        let places = text::plural(report.damage, "place", "places");
        output.warn(&format!("the repository is damaged: {places} could not be restored"));
    }
}
