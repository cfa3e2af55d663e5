//! `holdall prune`

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::context::Context;
use super::error::{Exit, Result};
use super::progress::Reporter;
use crate::calendar;
use crate::format::session::{Purpose, Session};
use crate::id::SnapshotId;
use crate::ops::prune::{Figures, Limit, PruneOptions, PruneReport, Undecided, prune};
use crate::ops::retention::{Within, parse_within};
use crate::progress::Progress;
use crate::repo::Repository;
use crate::text;

/// How often --wait looks again.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Remove what no snapshot needs
///
/// Backups may run at the same time, and a prune that was cut off is finished by the next one.
/// What a session still at work may need stays for now: prune says which, and how much that is.
#[derive(Debug, clap::Args)]
pub struct PruneArgs {
    #[command(flatten)]
    how: PruneHowArgs,
    /// Remove nothing; say what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// How to prune.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How to prune")]
pub struct PruneHowArgs {
    /// Leave at most so much that nobody needs: `5%` of what is stored, `500M`, or `unlimited`
    #[arg(long, value_name = "LIMIT", default_value = "5%", value_parser = parse_limit)]
    max_unused: Limit,
    /// Copy at most so much out of packs of which a part is needed
    #[arg(long, value_name = "SIZE", value_parser = text::parse_size)]
    max_repack: Option<u64>,
    /// Write anew whatever is still sealed with keys from before the last `key rotate`
    #[arg(long)]
    reseal: bool,
    /// Wait for sessions at work, instead of leaving the rest to the next prune
    #[arg(long)]
    wait: bool,
    /// Do not wait for sessions that began longer ago than this; one that is still at work has to
    /// begin again
    #[arg(long, value_name = "SPAN", value_parser = parse_within)]
    fence_older_than: Option<Within>,
}

fn parse_limit(value: &str) -> std::result::Result<Limit, String> {
    let bad = || "a share (5%), a size (500M) or `unlimited` is possible".to_owned();
    if value == "unlimited" {
        return Ok(Limit::Unlimited);
    }
    match value.strip_suffix('%') {
        Some(percent) => match percent.trim().parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Limit::Percent(percent)),
            _ => Err(bad()),
        },
        None => text::parse_size(value).map(Limit::Bytes).map_err(|_| bad()),
    }
}

/// Prunes.
pub fn run(args: &PruneArgs, context: &Context) -> Result<Exit> {
    let repository = context.open()?;
    prune_now(&repository, &args.how, args.dry_run, context)
}

/// Writes anew whatever is sealed with keys that a rotation has replaced, and tells of it.
pub fn reseal_now(repository: &Arc<Repository>, context: &Context) -> Result<Exit> {
    let how = PruneHowArgs {
        max_unused: PruneOptions::default().max_unused,
        max_repack: None,
        reseal: true,
        wait: false,
        fence_older_than: None,
    };
    prune_now(repository, &how, false, context)
}

/// Prunes an open repository, and tells of it.
pub fn prune_now(
    repository: &Arc<Repository>,
    how: &PruneHowArgs,
    dry_run: bool,
    context: &Context,
) -> Result<Exit> {
    let mut reporter = Reporter::start(context)?;
    let now = context.world.now();
    let seconds = |span: Within| {
        let start = span.before(now, &context.zone);
        now.seconds.saturating_sub(start.seconds).max(0).unsigned_abs()
    };
    let is_dead = is_dead(repository);
    let wait = |undecided: &[Undecided]| {
        let sessions = text::plural(undecided.len() as u64, "session", "sessions");
        reporter.at(format!("waiting for {sessions}").as_bytes());
        // Nothing comes through this channel: it only lets time pass.
        let _ = crossbeam_channel::after(LOOK_EVERY).recv();
        true
    };
    let options = PruneOptions {
        dry_run,
        max_unused: how.max_unused,
        max_repack: how.max_repack,
        reseal: how.reseal,
        fence_older_than: how.fence_older_than.map(seconds),
        is_dead: &is_dead,
        wait: if how.wait { &wait } else { &|_| false },
    };
    let report = prune(repository, &options, &reporter)?;
    if !dry_run {
        // Whoever gave it up: there may be room for it again.
        repository.keep_reserve()?;
    }
    reporter.finish();
    match context.output.json() {
        true => tell(&report, context)?,
        false => show(&report, context)?,
    }
    Ok(reporter.exit())
}

/// Whether the process of a session is known to have ended: one of this machine.
pub fn is_dead(repository: &Repository) -> impl Fn(&SnapshotId, &Session) -> bool {
    let environment = repository.environment();
    move |_, session| {
        let is_here = session.client == environment.client && session.host == environment.host;
        is_here && has_ended(session.process)
    }
}

/// Whether a process of this machine is surely not there any more.
fn has_ended(process: u32) -> bool {
    let id = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    id.is_some_and(|id| rustix::process::test_kill_process(id) == Err(rustix::io::Errno::SRCH))
}

fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Backup => "backup",
        Purpose::Copy => "copy",
        Purpose::Rewrite => "rewrite",
        Purpose::Repack => "repack",
        Purpose::Repair => "repair",
    }
}

#[derive(Serialize)]
struct JsonAmount {
    packs: u64,
    bytes: u64,
}

impl From<crate::ops::prune::Amount> for JsonAmount {
    fn from(of: crate::ops::prune::Amount) -> Self {
        Self { packs: of.packs, bytes: of.bytes }
    }
}

#[derive(Serialize)]
struct JsonFigures {
    total: JsonAmount,
    kept: JsonAmount,
    unused: JsonAmount,
    repacked: JsonAmount,
    spared: JsonAmount,
    bytes_to_copy: u64,
    bytes_to_free: u64,
    bytes_unused_left: u64,
    snapshots: u64,
}

impl From<Figures> for JsonFigures {
    fn from(of: Figures) -> Self {
        Self {
            total: of.total.into(),
            kept: of.kept.into(),
            unused: of.unused.into(),
            repacked: of.repacked.into(),
            spared: of.spared.into(),
            bytes_to_copy: of.bytes_to_copy,
            bytes_to_free: of.bytes_to_free,
            bytes_unused_left: of.bytes_unused_left,
            snapshots: of.snapshots,
        }
    }
}

#[derive(Serialize)]
struct JsonSession {
    id: String,
    host: Option<String>,
    process: Option<u32>,
    time: Option<String>,
    purpose: Option<&'static str>,
    bytes_written: u64,
}

#[derive(Serialize)]
struct JsonPrune {
    r#type: &'static str,
    dry_run: bool,
    figures: Option<JsonFigures>,
    removed: JsonAmount,
    bytes_repacked: u64,
    rescued: u64,
    fenced: Vec<String>,
    open_epoch: Option<u64>,
    undecided: Vec<JsonSession>,
    bytes_held_back: u64,
}

fn tell(report: &PruneReport, context: &Context) -> Result<()> {
    let session = |undecided: &Undecided| {
        let record = undecided.record.as_ref();
        JsonSession {
            id: undecided.id.to_hex(),
            host: record.map(|record| record.host.clone()),
            process: record.map(|record| record.process),
            time: record.map(|record| calendar::rfc3339(record.time, &context.zone)),
            purpose: record.map(|record| purpose_name(record.purpose)),
            bytes_written: undecided.bytes_written,
        }
    };
    context.output.object(&JsonPrune {
        r#type: "prune",
        dry_run: report.dry_run,
        figures: report.figures.map(Into::into),
        removed: report.removed.into(),
        bytes_repacked: report.bytes_repacked,
        rescued: report.rescued,
        fenced: report.fenced.iter().map(SnapshotId::to_hex).collect(),
        open_epoch: report.open_epoch,
        undecided: report.undecided.iter().map(session).collect(),
        bytes_held_back: report.bytes_held_back,
    })
}

fn show(report: &PruneReport, context: &Context) -> Result<()> {
    let output = &context.output;
    let packs = |count: u64| text::plural(count, "pack", "packs");
    if let Some(figures) = &report.figures {
        if report.dry_run {
            show_plan(figures, context)?;
        } else {
            output.say_more(&format!(
                "planned: {} unused, {} to be copied in part",
                packs(figures.unused.packs),
                packs(figures.repacked.packs)
            ));
        }
    }
    if !report.dry_run {
        let removed = &report.removed;
        let copied = match report.bytes_repacked {
            0 => String::new(),
            bytes => format!(", {} of it written anew", text::size(bytes)),
        };
        output.say(&match removed.packs {
            0 if report.undecided.is_empty() => "nothing is to be removed".to_owned(),
            0 => "nothing was removed yet".to_owned(),
            count => {
                let freed = text::size(removed.bytes.saturating_sub(report.bytes_repacked));
                format!("{freed} freed: {} removed{copied}", packs(count))
            }
        });
    }
    if !report.fenced.is_empty() {
        let sessions = text::plural(report.fenced.len() as u64, "session", "sessions");
        output.say(&format!("{sessions} not waited for"));
    }
    for session in &report.undecided {
        output.say(&held_back(session, context));
    }
    if report.bytes_held_back > 0 {
        let bytes = text::size(report.bytes_held_back);
        output.say(&format!("{bytes} are held back by this; the next prune goes on"));
    }
    Ok(())
}

fn show_plan(figures: &Figures, context: &Context) -> Result<()> {
    let output = &context.output;
    let amount = |amount: &crate::ops::prune::Amount| {
        format!("{} in {}", text::size(amount.bytes), text::plural(amount.packs, "pack", "packs"))
    };
    for (what, value) in [
        ("stored", amount(&figures.total)),
        ("stays as it is", amount(&figures.kept)),
        ("nobody needs", amount(&figures.unused)),
        ("needed in part", amount(&figures.repacked)),
        ("to be copied", text::size(figures.bytes_to_copy)),
        ("would be freed", text::size(figures.bytes_to_free)),
        ("unused, yet left", text::size(figures.bytes_unused_left)),
    ] {
        output.line(&format!("{what:<20}{value}"))?;
    }
    output.flush()
}

fn held_back(session: &Undecided, context: &Context) -> String {
    let written = text::size(session.bytes_written);
    match &session.record {
        Some(record) => format!(
            "a {} on host {} (process {}) is at work since {}, with {written} stored",
            purpose_name(record.purpose),
            text::escape(record.host.as_bytes()),
            record.process,
            calendar::show_time(record.time, &context.zone)
        ),
        None => format!("session {} cannot be read; it has {written} stored", session.id.short()),
    }
}
