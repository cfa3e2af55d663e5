//! The command line: one file per command. Arguments come in here, answers and exit codes go out;
//! the work is done below.

mod alarms;
mod backup;
mod check;
mod config;
mod context;
mod copy;
mod creation;
mod diff;
mod dump;
mod entry;
mod error;
mod filters;
mod find;
mod forget;
mod help;
mod init;
mod json;
mod key;
mod ls;
mod manual;
mod output;
mod places;
mod probe;
mod progress;
mod prompt;
mod prune;
mod repair;
mod restore;
mod secrets;
mod snapshots;
mod stats;
mod tag;

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches, Parser};

use self::config::SettingsFile;
use self::context::Context;
use self::error::{Exit, Failure, Result};
use self::output::{ColorChoice, Output};
use self::places::Places;
use crate::settings::THREADS_MAX;
use crate::text;

/// Back up files and directories, and bring them back
///
/// Everything is stored in a repository: deduplicated, compressed, encrypted. With nothing
/// configured, `holdall backup PATH` makes one and backs up.
#[derive(Debug, Parser)]
#[command(
    name = "holdall",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "`holdall help` lists guides; `holdall help COMMAND` tells more of a command."
)]
struct Args {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes, before or after its name.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Directory of the repository [env: HOLDALL_REPO]
    #[arg(short, long, global = true, value_name = "URL")]
    repo: Option<OsString>,
    /// Read the password from a file [env: HOLDALL_PASSWORD_FILE]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    password_file: Option<PathBuf>,
    /// Run a command that prints the password [env: HOLDALL_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND", hide_short_help = true)]
    password_command: Option<OsString>,
    /// Open the repository with a key file [env: HOLDALL_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    key_file: Option<PathBuf>,
    /// Take what is not given from this file (`holdall help config`) [env: HOLDALL_CONFIG]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    config: Option<PathBuf>,
    /// Keep the local index in this directory [env: HOLDALL_CACHE_DIR]
    #[arg(long, global = true, value_name = "DIR", hide_short_help = true)]
    cache_dir: Option<PathBuf>,
    /// Answer in JSON (`holdall help json`)
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing but answers and warnings
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Do not show how far the work is
    #[arg(long, global = true, hide_short_help = true)]
    no_progress: bool,
    /// When to use colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_short_help = true
    )]
    color: ColorChoice,
    /// Use so many threads, instead of one for each core
    #[arg(
        long,
        global = true,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(THREADS_MAX)),
        hide_short_help = true
    )]
    threads: Option<u16>,
    /// Write no more bytes a second to the repository (`10M`)
    #[arg(
        long,
        global = true,
        value_name = "RATE",
        value_parser = text::parse_rate,
        hide_short_help = true
    )]
    limit_upload: Option<NonZeroU64>,
    /// Read no more bytes a second from the repository
    #[arg(
        long,
        global = true,
        value_name = "RATE",
        value_parser = text::parse_rate,
        hide_short_help = true
    )]
    limit_download: Option<NonZeroU64>,
    /// Show times and count days in this time zone, instead of the system's
    #[arg(long, global = true, value_name = "ZONE", hide_short_help = true)]
    timezone: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Init(init::InitArgs),
    Backup(backup::BackupArgs),
    Snapshots(snapshots::SnapshotsArgs),
    Ls(ls::LsArgs),
    Find(find::FindArgs),
    Diff(diff::DiffArgs),
    Dump(dump::DumpArgs),
    Restore(restore::RestoreArgs),
    Stats(stats::StatsArgs),
    Check(check::CheckArgs),
    Repair(repair::RepairArgs),
    Forget(forget::ForgetArgs),
    Prune(prune::PruneArgs),
    Copy(copy::CopyArgs),
    Tag(tag::TagArgs),
    Pin(tag::PinArgs),
    Key(key::KeyArgs),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
    Help(help::HelpArgs),
}

/// By what a snapshot knows the program that made it.
const PROGRAM: &str = concat!("holdall ", env!("CARGO_PKG_VERSION"));

/// A file that would grow over the limit of the process is an error of that file. Left alone, the
/// system would end the process with a signal instead.
fn survive_limits() {
    // Where no handler can be set, it stays as it was.
    let _ = signal_hook::flag::register(libc::SIGXFSZ, Arc::default());
}

/// Runs the program with the arguments of this process.
pub fn run() -> ExitCode {
    secrets::keep_in_memory();
    survive_limits();
    let given: Vec<OsString> = std::env::args_os().collect();
    let args = match parse(&given) {
        Ok(args) => args,
        Err(error) => return ExitCode::from(usage(&given, &error).code()),
    };
    let globals = &args.globals;
    let output = Output::new(globals.color, globals.json, globals.quiet, globals.verbose);
    // What is dumped is the data then, and nothing else may stand between its bytes.
    let output = match &args.command {
        Command::Dump(_) => output.for_bytes(),
        _ => output,
    };
    let file = match &args.command {
        // What tells how to mend the file must not need it.
        Command::Completions(_) | Command::Man(_) | Command::Help(_) => Ok(SettingsFile::default()),
        _ => {
            Places::find().and_then(|places| SettingsFile::read(globals.config.as_deref(), &places))
        }
    };
    let context = match file.and_then(|file| Context::new(globals, file, output)) {
        Ok(context) => context,
        Err(failure) => {
            Output::new(globals.color, globals.json, globals.quiet, 0).fail(&failure);
            return ExitCode::from(failure.exit.code());
        }
    };
    let ended =
        dispatch(&args.command, &context).and_then(|exit| context.output.flush().map(|()| exit));
    let exit = ended.unwrap_or_else(|failure| {
        let failure = context.located(failure);
        context.output.fail(&failure);
        failure.exit
    });
    ExitCode::from(exit.code())
}

fn dispatch(command: &Command, context: &Context) -> Result<Exit> {
    match command {
        Command::Init(args) => init::run(args, context),
        Command::Backup(args) => backup::run(args, context),
        Command::Snapshots(args) => snapshots::run(args, context),
        Command::Ls(args) => ls::run(args, context),
        Command::Find(args) => find::run(args, context),
        Command::Diff(args) => diff::run(args, context),
        Command::Dump(args) => dump::run(args, context),
        Command::Restore(args) => restore::run(args, context),
        Command::Stats(args) => stats::run(args, context),
        Command::Check(args) => check::run(args, context),
        Command::Repair(args) => repair::run(args, context),
        Command::Forget(args) => forget::run(args, context),
        Command::Prune(args) => prune::run(args, context),
        Command::Copy(args) => copy::run(args, context),
        Command::Pin(args) => tag::run_pin(args, context),
        Command::Tag(args) => tag::run(args, context),
        Command::Key(args) => key::run(args, context),
        Command::Completions(args) => manual::completions(args, context),
        Command::Man(args) => manual::pages(args, context),
        Command::Help(args) => help::run(args, context),
    }
}

/// The program as clap sees it.
fn command() -> clap::Command {
    Args::command()
}

fn parse(given: &[OsString]) -> std::result::Result<Args, clap::Error> {
    // clap's own colours follow the same option, before it is parsed.
    let word = |choice: &str| given.iter().any(|arg| arg == choice);
    let after = |choice: &str| {
        given.windows(2).any(|pair| matches!(pair, [a, b] if a == "--color" && b == choice))
    };
    let color = match () {
        () if word("--color=never") || after("never") => clap::ColorChoice::Never,
        () if word("--color=always") || after("always") => clap::ColorChoice::Always,
        () => clap::ColorChoice::Auto,
    };
    let matches = command().color(color).try_get_matches_from(given)?;
    Args::from_arg_matches(&matches)
}

/// What clap has to say: help and the version on stdout, mistakes on stderr.
fn usage(given: &[OsString], error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        // Nothing is lost when nobody reads it.
        let _ = error.print();
        return Exit::Done;
    }
    let json = given.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    match json {
        true => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            let message = line.strip_prefix("error: ").unwrap_or(line);
            let failure = Failure::usage(text::escape(message.as_bytes()))
                .hint("`holdall --help` tells what is understood");
            Output::new(ColorChoice::Never, true, false, 0).fail(&failure);
        }
        false => _ = error.print(),
    }
    Exit::Usage
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_arguments_make_sense() {
        super::command().debug_assert();
    }
}
