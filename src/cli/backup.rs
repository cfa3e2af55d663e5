//! `holdall backup`

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde::Serialize;

use super::alarms::{JsonAlarm, warn_of};
use super::context::{Context, show_path};
use super::creation::{Created, Creation, create};
use super::error::{Exit, Failure, Result, said};
use super::filters::{absolute, tags};
use super::init::parse_compression;
use super::json::{JsonSnapshot, JsonStatistics};
use super::output::Style;
use super::progress::Reporter;
use super::secrets::PASSWORD_VARIABLE;
use crate::calendar;
use crate::ops::backup::{BackupOptions, BackupReport, Detection, Input, Parent, Stream, backup};
use crate::ops::check::{CheckOptions, ReadData, check};
use crate::ops::select::{self, Filter};
use crate::repo::{Repository, SnapshotRecord};
use crate::source::Excludes;
use crate::text;

/// Store a new snapshot of files and directories
///
/// With nothing configured the first backup makes a repository and a key file, and says where.
/// Where a repository is named, it must be there: `holdall init` makes it.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// Files and directories; symbolic links among them are stored as links
    #[arg(value_name = "PATH", conflicts_with_all = ["stdin", "command"])]
    paths: Vec<PathBuf>,
    /// Take paths from a file, too: one a line, or with a NUL byte after each (`-`: standard input)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stdin", "command"])]
    files_from: Vec<PathBuf>,
    #[command(flatten)]
    leave_out: LeaveOutArgs,
    #[command(flatten)]
    about: AboutArgs,
    #[command(flatten)]
    how: HowArgs,
    /// Store standard input, or what --command prints, as a file of this name
    #[arg(long, value_name = "NAME")]
    stdin: Option<OsString>,
    /// Store what the command after `--` prints, if it succeeds
    #[arg(long, requires = "words")]
    command: bool,
    /// The command and its arguments
    #[arg(last = true, value_name = "CMD", requires = "command")]
    words: Vec<OsString>,
}

/// What is left out.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is left out")]
pub(super) struct LeaveOutArgs {
    /// Leave out what matches (`holdall help patterns`)
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// Leave out what matches a pattern of this file
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out the content of directories with a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out files longer than this
    #[arg(long, value_name = "SIZE", value_parser = text::parse_size)]
    exclude_larger_than: Option<u64>,
    /// Stay in the file systems that the paths are in
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

/// What is said of the snapshot.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is said of the snapshot")]
struct AboutArgs {
    /// Give it tags
    #[arg(long, value_name = "TAG[,TAG…]")]
    tag: Vec<String>,
    /// Say what it is
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// Call this machine so
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Say that it was made then
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
}

/// How it is made.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How it is made")]
struct HowArgs {
    /// Take unchanged files from this snapshot, instead of the newest of the same host and paths
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "force")]
    parent: Option<String>,
    /// Read every file, whether it seems unchanged or not
    #[arg(short, long)]
    force: bool,
    /// Do not take a changed ctime for a changed file
    #[arg(long)]
    ignore_ctime: bool,
    /// Do not take a changed inode number for a changed file
    #[arg(long)]
    ignore_inode: bool,
    /// Compress with `none`, `fast`, `default`, `best`, or a level of zstd from -7 to 22
    #[arg(long, value_name = "LEVEL", value_parser = parse_compression, allow_hyphen_values = true)]
    compression: Option<i32>,
    /// Store nothing; say what would be stored
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Read back and open everything that the snapshot needs
    #[arg(long, conflicts_with = "dry_run")]
    verify: bool,
}

/// Takes a snapshot.
pub fn run(args: &BackupArgs, context: &Context) -> Result<Exit> {
    let paths = asked_paths(args)?;
    let excludes = excludes(&args.leave_out, context)?;
    let compression = match args.how.compression {
        Some(level) => Some(level),
        None => usual_compression(context)?,
    };
    let now = context.world.now();
    let given = args.about.time.as_ref();
    let time = given.map(|time| calendar::parse_time(time, &context.zone)).transpose()?;
    let (repository, created) = open_or_create(args, &paths, context)?;
    let mut reporter = Reporter::start(context)?;
    let parent = match (&args.how.parent, args.how.force) {
        (_, true) => Parent::None,
        (None, false) => Parent::Automatic,
        (Some(name), false) => {
            let record = select::snapshot(&repository, name, &Filter::default(), &reporter)?;
            Parent::Snapshot(record.id)
        }
    };
    let options = BackupOptions {
        excludes,
        tags: args.about.tag.iter().flat_map(|list| tags(list)).collect(),
        description: args.about.description.clone(),
        host: args.about.host.clone(),
        time,
        offset_minutes: context.offset_minutes(time.unwrap_or(now)),
        parent,
        detection: Detection { ctime: !args.how.ignore_ctime, inode: !args.how.ignore_inode },
        compression,
        dry_run: args.how.dry_run,
        program: super::PROGRAM.into(),
        ..BackupOptions::default()
    };
    let input = match stream(args)? {
        Some(stream) => Input::Stream(stream),
        None => Input::Paths(paths),
    };
    let report = backup(&repository, input, &options, &reporter)?;
    if args.how.verify {
        // What is damaged is told as it is found, and makes the exit code.
        let snapshots = report.record.iter().cloned().collect();
        let options = CheckOptions { snapshots, read_data: ReadData::All, ..Default::default() };
        check(&repository, &options, &reporter)?;
    }
    reporter.finish();
    for (pattern, count) in options.excludes.counts() {
        let entries = text::plural(count, "entry", "entries");
        let shown = text::escape(pattern.text());
        context.output.say_more(&format!("pattern {shown}: decided about {entries}"));
    }
    warn_of(&report.alarms, context);
    let took = text::duration(reporter.elapsed());
    tell(&report, args, &took, created.is_some(), context)?;
    Ok(reporter.exit())
}

/// The paths, absolute and in order, none twice: so that the next backup of the same paths knows
/// this one as its parent.
fn asked_paths(args: &BackupArgs) -> Result<Vec<Vec<u8>>> {
    let mut paths: Vec<Vec<u8>> = args.paths.iter().map(|path| absolute(path)).collect();
    for list in &args.files_from {
        let cannot = |error| Failure::file("read the list of paths", list, &error);
        let bytes = match list.as_os_str() == "-" {
            true => {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes)
                    .map(|_| bytes)
                    .map_err(cannot)?
            }
            false => std::fs::read(list).map_err(cannot)?,
        };
        // No path holds a NUL byte, so that one tells which kind of list it is.
        let end = if bytes.contains(&0) { 0 } else { b'\n' };
        let given = bytes.split(|byte| *byte == end).filter(|path| !path.is_empty());
        paths.extend(given.map(|path| absolute(Path::new(std::ffi::OsStr::from_bytes(path)))));
    }
    paths.sort();
    paths.dedup();
    if !args.words.is_empty() && !args.command {
        return Err(Failure::usage("a command is given without --command")
            .hint("`--` comes before a command only"));
    }
    match paths.is_empty() && args.stdin.is_none() && !args.command {
        true => Err(Failure::usage("nothing is named that should be backed up")
            .hint("give a path, --files-from, --stdin or --command")),
        false => Ok(paths),
    }
}

pub(super) fn excludes(args: &LeaveOutArgs, context: &Context) -> Result<Excludes> {
    let mut excludes = context.own_excludes();
    let file = &context.file;
    let always = &file.settings.backup;
    for path in &always.exclude_file {
        excludes.add_file(&file.path(path))?;
    }
    for pattern in &always.exclude {
        excludes
            .add_pattern(pattern.value.as_bytes())
            .map_err(|error| file.at(pattern.place, error.into()))?;
    }
    // The last pattern that matches decides, so that what is given now comes after.
    for file in &args.exclude_file {
        excludes.add_file(file)?;
    }
    for pattern in &args.exclude {
        excludes.add_pattern(pattern.as_bytes())?;
    }
    excludes.caches = args.exclude_caches || always.exclude_caches;
    excludes.larger_than = args.exclude_larger_than.or(always.exclude_larger_than);
    excludes.one_file_system = args.one_file_system || always.one_file_system;
    Ok(excludes)
}

/// The level of compression that the file asks for.
fn usual_compression(context: &Context) -> Result<Option<i32>> {
    let Some(level) = &context.file.settings.backup.compression else { return Ok(None) };
    let parsed = parse_compression(&level.value).map_err(Failure::usage);
    parsed.map(Some).map_err(|failure| context.file.at(level.place, failure))
}

/// The repository that is named, or the default one, made now if this is the very first backup.
fn open_or_create(
    args: &BackupArgs,
    paths: &[Vec<u8>],
    context: &Context,
) -> Result<(Arc<Repository>, Option<Created>)> {
    let failure = match context.open() {
        Ok(repository) => return Ok((repository, None)),
        Err(failure) => failure,
    };
    let is_first = failure.exit == Exit::NoRepository && failure.is_missing;
    if !is_first || context.location.named || args.how.dry_run {
        return Err(failure);
    }
    // A mistyped path must not leave a repository behind.
    let stat = |path: &Vec<u8>| {
        let path = PathBuf::from(OsString::from_vec(path.clone()));
        path.symlink_metadata().map_err(|error| Failure::file("read", &path, &error))
    };
    let found: Vec<Result<std::fs::Metadata>> = paths.iter().map(stat).collect();
    let devices: Vec<u64> = found.iter().flatten().map(|about| about.dev()).collect();
    if devices.is_empty()
        && let Some(Err(failure)) = found.into_iter().next()
    {
        return Err(failure);
    }
    let created = create(context, &Creation::default())?;
    created.announce(context);
    let place = std::fs::metadata(&context.location.path).map(|about| about.dev());
    if place.is_ok_and(|place| devices.contains(&place)) {
        context.output.warn(
            "the repository is on the same file system as what is backed up: it does not survive \
             the loss of that disk",
        );
    }
    Ok((created.repository.clone(), Some(created)))
}

/// Standard input, or what a command prints.
fn stream(args: &BackupArgs) -> Result<Option<Stream>> {
    let Some((program, rest)) = args.words.split_first().filter(|_| args.command) else {
        let stream = |name: &OsString| Stream {
            name: name.as_bytes().to_vec(),
            reader: Box::new(std::io::stdin()),
            finish: None,
        };
        return Ok(args.stdin.as_ref().map(stream));
    };
    let shown = show_path(Path::new(program));
    let mut child = Command::new(program)
        .args(rest)
        .env_remove(PASSWORD_VARIABLE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot run {shown}: {}", said(&error)))
                .object(shown.clone())
        })?;
    let Some(pipe) = child.stdout.take() else {
        unreachable!("the child was started with a pipe");
    };
    let usual = Path::new(program).file_name().unwrap_or(program);
    let name = args.stdin.as_deref().unwrap_or(usual).as_bytes().to_vec();
    let finish = move || match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the command {shown} failed: {status}")),
        Err(error) => Err(said(&error)),
    };
    Ok(Some(Stream { name, reader: Box::new(pipe), finish: Some(Box::new(finish)) }))
}

#[derive(Serialize)]
struct JsonBackup {
    r#type: &'static str,
    dry_run: bool,
    snapshot: Option<JsonSnapshot>,
    parent: Option<String>,
    statistics: JsonStatistics,
    files_read_again: u64,
    problem_count: u64,
    repository_created: bool,
    alarms: Vec<JsonAlarm>,
}

fn tell(
    report: &BackupReport,
    args: &BackupArgs,
    took: &str,
    is_new: bool,
    context: &Context,
) -> Result<()> {
    let output = &context.output;
    if output.json() {
        return output.object(&JsonBackup {
            r#type: "backup",
            dry_run: args.how.dry_run,
            snapshot: report.record.as_ref().map(|r| JsonSnapshot::new(r, &context.zone)),
            parent: report.parent.map(|id| id.to_hex()),
            statistics: JsonStatistics::from(&report.statistics),
            files_read_again: report.files_read_again,
            problem_count: report.problem_count,
            repository_created: is_new,
            alarms: report.alarms.iter().map(JsonAlarm::new).collect(),
        });
    }
    let counts = &report.statistics;
    let short = |record: &SnapshotRecord| output.paint_talk(Style::Id, &record.id.short());
    match &report.record {
        Some(record) => output.say(&format!("snapshot {} saved in {took}", short(record))),
        None => output.say(&format!("dry run, {took}: nothing was stored")),
    }
    output.say(&format!(
        "  {}, {}: {} new, {} changed, {} unchanged",
        text::plural(counts.files, "file", "files"),
        text::size(counts.bytes),
        text::count(counts.files_new),
        text::count(counts.files_changed),
        text::count(counts.files_unchanged),
    ));
    let stored = match report.record {
        Some(_) => format!("{} stored", text::size(counts.bytes_stored)),
        None => "before compression".into(),
    };
    output.say(&format!("  {} new, {stored}", text::size(counts.bytes_new)));
    if report.files_read_again > 0 {
        let files = text::plural(report.files_read_again, "unchanged file", "unchanged files");
        output.say(&format!("  {files} read again because of damage in the repository"));
    }
    if report.problem_count > 0 {
        let problems = text::plural(report.problem_count, "problem", "problems");
        output.warn(&format!("the snapshot is partial: {problems}"));
    }
    if let Some(record) = &report.record {
        output.say(&format!("restore with: {}", restore_command(record, context)));
    }
    Ok(())
}

/// The command that brings a snapshot back, fit to be typed.
fn restore_command(record: &SnapshotRecord, context: &Context) -> String {
    let repository = match context.location.named_by_option {
        true => format!(" --repo {}", shell_word(&context.location.path)),
        false => String::new(),
    };
    format!("holdall restore {}{repository} --target DIR", record.id.short())
}

fn shell_word(path: &Path) -> String {
    let shown = show_path(path);
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    match shown.chars().all(is_plain) {
        true => shown,
        false => format!("'{}'", shown.replace('\'', "'\\''")),
    }
}
