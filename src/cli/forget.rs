//! `holdall forget`

use std::sync::Arc;

use serde::Serialize;

use super::context::Context;
use super::error::{Exit, Failure, Result};
use super::filters::FilterArgs;
use super::json::texts_of;
use super::output::{Align, Style, Table};
use super::progress::Reporter;
use super::prune::{self, PruneHowArgs};
use super::snapshots::parse_group_by;
use crate::calendar;
use crate::id::{SnapshotId, by_prefix};
use crate::ops::OpsError;
use crate::ops::forget::{ForgetOptions, ForgetReport, forget};
use crate::ops::lines::{self, Alarm};
use crate::ops::retention::{Decision, Group, GroupBy, Policy, Verdict, Within, parse_within};
use crate::ops::select;
use crate::repo::{Repository, SnapshotRecord};
use crate::text;

/// Forget snapshots, by policy or by id
///
/// A policy keeps what any of its rules wants, and never forgets what is pinned nor the last good
/// snapshot of a group. Named snapshots go in any case. What only forgotten snapshots needed is
/// removed by `prune`, at once with --prune.
#[derive(Debug, clap::Args)]
pub struct ForgetArgs {
    /// These go, whatever the policy says: ids or how they begin, `latest`, `latest~2`; one that
    /// is missing is not told of any more
    #[arg(value_name = "SNAPSHOT")]
    names: Vec<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Judge together what has these in common: host, paths, tags, job (nothing: all as one)
    #[arg(long, value_name = "LIST", value_parser = parse_group_by, default_value = "host,paths")]
    group_by: GroupBy,
    /// Forget nothing; say what would be forgotten, and why the rest stays
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Prune afterwards
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    how: PruneHowArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What is kept.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is kept (numbers, or `all`; spans such as 2y5m7d3h)")]
struct PolicyArgs {
    /// The newest N
    #[arg(short = 'l', long, value_name = "N", value_parser = parse_count)]
    keep_last: Option<u32>,
    /// One of each of the newest N hours that have one
    #[arg(short = 'H', long, value_name = "N", value_parser = parse_count)]
    keep_hourly: Option<u32>,
    /// One of each of the newest N days
    #[arg(short = 'd', long, value_name = "N", value_parser = parse_count)]
    keep_daily: Option<u32>,
    /// One of each of the newest N weeks
    #[arg(short = 'w', long, value_name = "N", value_parser = parse_count)]
    keep_weekly: Option<u32>,
    /// One of each of the newest N months
    #[arg(short = 'm', long, value_name = "N", value_parser = parse_count)]
    keep_monthly: Option<u32>,
    /// One of each of the newest N years
    #[arg(short = 'y', long, value_name = "N", value_parser = parse_count)]
    keep_yearly: Option<u32>,
    /// All within this span before the newest
    #[arg(long, value_name = "SPAN", value_parser = parse_within)]
    keep_within: Option<Within>,
    /// One of each hour within this span before the newest
    #[arg(long, value_name = "SPAN", value_parser = parse_within)]
    keep_within_hourly: Option<Within>,
    /// One of each day within this span before the newest
    #[arg(long, value_name = "SPAN", value_parser = parse_within)]
    keep_within_daily: Option<Within>,
    /// One of each week within this span before the newest
    #[arg(long, value_name = "SPAN", value_parser = parse_within)]
    keep_within_weekly: Option<Within>,
    /// One of each month within this span before the newest
    #[arg(long, value_name = "SPAN", value_parser = parse_within)]
    keep_within_monthly: Option<Within>,
    /// One of each year within this span before the newest
    #[arg(long, value_name = "SPAN", value_parser = parse_within)]
    keep_within_yearly: Option<Within>,
    /// All that have all these tags (several lists: those of any)
    #[arg(long, value_name = "TAG[,TAG…]")]
    keep_tag: Vec<String>,
}

fn parse_count(value: &str) -> std::result::Result<u32, String> {
    match value {
        "all" | "unlimited" => Ok(u32::MAX),
        number => number.parse().map_err(|_| "a number or `all` is possible".to_owned()),
    }
}

impl PolicyArgs {
    fn policy(&self) -> Policy {
        Policy {
            keep_last: self.keep_last,
            keep_hourly: self.keep_hourly,
            keep_daily: self.keep_daily,
            keep_weekly: self.keep_weekly,
            keep_monthly: self.keep_monthly,
            keep_yearly: self.keep_yearly,
            keep_within: self.keep_within,
            keep_within_hourly: self.keep_within_hourly,
            keep_within_daily: self.keep_within_daily,
            keep_within_weekly: self.keep_within_weekly,
            keep_within_monthly: self.keep_within_monthly,
            keep_within_yearly: self.keep_within_yearly,
            keep_tags: self.keep_tag.iter().map(|list| super::filters::tags(list)).collect(),
        }
    }

    /// Whether any rule was given, one that keeps nothing included.
    fn is_given(&self) -> bool {
        self.policy() != Policy::default()
    }
}

/// Forgets.
pub fn run(args: &ForgetArgs, context: &Context) -> Result<Exit> {
    if args.names.is_empty() && !args.policy.is_given() {
        return Err(Failure::usage("neither snapshots are named nor what is to be kept")
            .hint("give ids, or rules such as --keep-daily 7; try them with --dry-run"));
    }
    let repository = context.open()?;
    let mut reporter = Reporter::start(context)?;
    let (ids, missing) = named(args, &repository, &reporter)?;
    let options = ForgetOptions {
        policy: args.policy.is_given().then(|| args.policy.policy()),
        group_by: args.group_by,
        ids,
        missing,
        filter: args.filter.filter(),
        zone: context.zone.clone(),
        dry_run: args.dry_run,
    };
    let report = forget(&repository, &options, &reporter)?;
    reporter.finish();
    match context.output.json() {
        true => tell(&report, context)?,
        false => show(&report, context)?,
    }
    context.output.flush()?;
    let exit = reporter.exit();
    if !args.prune {
        return Ok(exit);
    }
    if args.dry_run {
        context.output.say("a prune would follow; after a dry run there is nothing new for it");
        return Ok(exit);
    }
    let pruned = prune::prune_now(&repository, &args.how, false, context)?;
    Ok(if exit == Exit::Done { pruned } else { exit })
}

/// What the names mean: a damaged snapshot can be forgotten, too, by its id, and so can one that
/// is missing.
fn named(
    args: &ForgetArgs,
    repository: &Arc<Repository>,
    reporter: &Reporter,
) -> Result<(Vec<SnapshotId>, Vec<Alarm>)> {
    if args.names.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    // Damage is told of by the operation itself.
    let records = repository.snapshots(&crate::progress::Silent::default())?;
    let filter = args.filter.filter();
    let (mut ids, mut missing) = (Vec::new(), Vec::new());
    for name in &args.names {
        let picked = select::pick(records.clone(), name, &filter).map(|record| record.id);
        match picked {
            Ok(id) => ids.push(id),
            Err(error @ OpsError::NoSnapshot { .. }) => {
                match by_prefix(repository.counted()?, name) {
                    Ok(damaged) => ids.push(damaged),
                    Err(_) => {
                        missing.push(alarm(name, repository, &records)?.ok_or(error)?);
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    if crate::progress::Progress::cancelled(reporter) {
        return Err(OpsError::Cancelled.into());
    }
    Ok((ids, missing))
}

/// What is missing under a name.
fn alarm(
    name: &str,
    repository: &Arc<Repository>,
    records: &[SnapshotRecord],
) -> Result<Option<Alarm>> {
    let look = lines::look(repository, records, &crate::progress::Silent::default())?;
    let is_meant = |alarm: &&Alarm| match by_prefix(alarm.snapshot(), name) {
        Ok(_) => true,
        Err(_) => alarm.name() == name,
    };
    let mut meant = look.alarms.iter().filter(is_meant);
    Ok(meant.next().filter(|_| meant.next().is_none()).cloned())
}

fn zone_name(context: &Context) -> String {
    context.zone.iana_name().unwrap_or("the system's").to_owned()
}

#[derive(Serialize)]
struct JsonDecision {
    r#type: &'static str,
    snapshot: String,
    time: String,
    keep: bool,
    reasons: Vec<String>,
    host: Option<String>,
    paths: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    job: Option<String>,
}

#[derive(Serialize)]
struct JsonForget {
    r#type: &'static str,
    dry_run: bool,
    forgotten: Vec<String>,
    named: Vec<String>,
    acknowledged: Vec<String>,
    kept: u64,
    timezone: String,
}

fn reasons(decision: &Decision) -> Vec<String> {
    match &decision.verdict {
        Verdict::Keep { reasons } => reasons.iter().map(ToString::to_string).collect(),
        Verdict::Forget { reason } => vec![reason.to_string()],
    }
}

fn tell(report: &ForgetReport, context: &Context) -> Result<()> {
    for group in &report.groups {
        for decision in &group.decisions {
            context.output.object(&JsonDecision {
                r#type: "decision",
                snapshot: decision.id.to_hex(),
                time: calendar::rfc3339(decision.time, &context.zone),
                keep: decision.verdict.keeps(),
                reasons: reasons(decision),
                host: group.key.host.clone(),
                paths: group.key.paths.as_deref().map(|paths| texts_of(paths).0),
                tags: group.key.tags.clone(),
                job: group.key.job.clone(),
            })?;
        }
    }
    let all = |ids: &[SnapshotId]| ids.iter().map(SnapshotId::to_hex).collect();
    context.output.object(&JsonForget {
        r#type: "forget",
        dry_run: report.dry_run,
        forgotten: all(&report.forgotten),
        named: all(&report.named),
        acknowledged: report.acknowledged.iter().map(Alarm::name).collect(),
        kept: report.kept,
        timezone: zone_name(context),
    })
}

fn show(report: &ForgetReport, context: &Context) -> Result<()> {
    let output = &context.output;
    if !report.groups.is_empty() {
        output.line(&format!("days begin at midnight in {}", zone_name(context)))?;
    }
    for group in &report.groups {
        show_group(group, context)?;
    }
    let verb = if report.dry_run { "would be forgotten" } else { "forgotten" };
    for id in &report.named {
        output.line(&format!("{} {verb}, as named", output.paint(Style::Id, &id.short())))?;
    }
    for alarm in &report.acknowledged {
        let name = output.paint(Style::Id, &alarm.name());
        output.line(&format!("{name} is missing already; nobody is told of it any more"))?;
    }
    let count = text::plural(report.forgotten.len() as u64, "snapshot", "snapshots");
    output.line(&format!("{count} {verb}, {} kept", text::count(report.kept)))
}

fn show_group(group: &Group, context: &Context) -> Result<()> {
    let output = &context.output;
    output.line("")?;
    output.line(&output.paint(Style::Heading, &group.key.to_string()))?;
    let mut table = Table::new(&[
        ("", Align::Left),
        ("ID", Align::Left),
        ("Time", Align::Left),
        ("Why", Align::Left),
    ]);
    for decision in &group.decisions {
        let (word, style) = match decision.verdict.keeps() {
            true => ("keep", Style::Good),
            false => ("forget", Style::Error),
        };
        table.row(vec![
            (word.into(), Some(style)),
            (decision.id.short(), Some(Style::Id)),
            (calendar::show_time(decision.time, &context.zone), None),
            (reasons(decision).join("; "), None),
        ]);
    }
    table.print(output)?;
    output.line("")
}
