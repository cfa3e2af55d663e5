//! `holdall snapshots`

use std::collections::BTreeMap;

use serde::Serialize;

use super::alarms::warn_of;
use super::context::Context;
use super::error::{Exit, Result};
use super::filters::FilterArgs;
use super::json::{JsonSnapshot, kind_name, outcome_name, texts_of};
use super::output::{Align, Style, Table};
use super::progress::Reporter;
use crate::calendar;
use crate::format::snapshot::{Outcome, SnapshotKind};
use crate::id::SnapshotId;
use crate::ops::check::verified_times;
use crate::ops::forget::candidate;
use crate::ops::lines;
use crate::ops::retention::{GroupBy, GroupKey, RetentionError};
use crate::ops::select;
use crate::repo::SnapshotRecord;
use crate::text;
use crate::world::Time;

/// List snapshots
#[derive(Debug, clap::Args)]
pub struct SnapshotsArgs {
    /// Only these: ids or how they begin, `latest`, `latest~2`
    #[arg(value_name = "SNAPSHOT")]
    names: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only those of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<KindChoice>,
    /// Only those made at or after this time
    #[arg(long, value_name = "TIME")]
    after: Option<String>,
    /// Only those made before this time
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// Only the newest N, or the newest N of each group
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
    /// Show together what has these in common: host, paths, tags, job
    #[arg(long, value_name = "LIST", value_parser = parse_group_by)]
    group_by: Option<GroupBy>,
    /// Sort by this, the greatest last
    #[arg(long, value_name = "WHAT", default_value = "time")]
    sort: SortBy,
}

/// Kinds of snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum KindChoice {
    Manual,
    Scheduled,
    Safety,
    Imported,
}

/// What snapshots are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SortBy {
    Time,
    Size,
}

/// What snapshots are grouped by.
pub fn parse_group_by(list: &str) -> std::result::Result<GroupBy, RetentionError> {
    GroupBy::parse(list)
}

/// Lists snapshots.
pub fn run(args: &SnapshotsArgs, context: &Context) -> Result<Exit> {
    let time = |text: &Option<String>| {
        text.as_ref().map(|text| calendar::parse_time(text, &context.zone)).transpose()
    };
    let (after, before) = (time(&args.after)?, time(&args.before)?);
    let repository = context.open()?;
    let mut reporter = Reporter::start(context)?;
    let filter = args.filter.filter();
    let all = repository.snapshots(&reporter)?;
    let look = lines::look(&repository, &all, &reporter)?;
    let mut records: Vec<SnapshotRecord> = match args.names.is_empty() {
        true => all.into_iter().filter(|record| filter.matches(record)).collect(),
        false => {
            let named = args.names.iter().map(|name| select::pick(all.clone(), name, &filter));
            named.collect::<std::result::Result<_, _>>()?
        }
    };
    reporter.finish();
    warn_of(&look.alarms, context);
    records.retain(|record| {
        let snapshot = &record.snapshot;
        args.kind.is_none_or(|kind| kind_of(kind) == snapshot.kind)
            && after.is_none_or(|after| snapshot.time >= after)
            && before.is_none_or(|before| snapshot.time < before)
    });
    let verified = verified_times(&repository, records.iter().map(|record| record.id));
    let total = records.len();
    let mut groups: BTreeMap<Option<GroupKey>, Vec<SnapshotRecord>> = BTreeMap::new();
    for record in records {
        let key = args.group_by.map(|by| by.key(&candidate(&record)));
        groups.entry(key).or_default().push(record);
    }
    let mut shown = 0;
    for (key, mut members) in groups {
        let surplus = args.latest.map_or(0, |count| members.len().saturating_sub(count));
        members.drain(..surplus);
        if args.sort == SortBy::Size {
            members.sort_by_key(|record| record.snapshot.statistics.bytes);
        }
        shown += members.len();
        match context.output.json() {
            true => tell(context, key.as_ref(), &members, &verified)?,
            false => show(context, key.as_ref(), &members, &verified)?,
        }
    }
    context.output.flush()?;
    let count = text::plural(shown as u64, "snapshot", "snapshots");
    context.output.say(&match shown == total {
        true => count,
        false => format!("{count} of {}", text::count(total as u64)),
    });
    Ok(reporter.exit())
}

fn kind_of(choice: KindChoice) -> SnapshotKind {
    match choice {
        KindChoice::Manual => SnapshotKind::Manual,
        KindChoice::Scheduled => SnapshotKind::Scheduled,
        KindChoice::Safety => SnapshotKind::Safety,
        KindChoice::Imported => SnapshotKind::Imported,
    }
}

#[derive(Serialize)]
struct JsonGroup {
    r#type: &'static str,
    host: Option<String>,
    paths: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    job: Option<String>,
    snapshots: usize,
}

/// When which was verified.
type Verified = BTreeMap<SnapshotId, Time>;

fn tell(
    context: &Context,
    key: Option<&GroupKey>,
    members: &[SnapshotRecord],
    verified: &Verified,
) -> Result<()> {
    if let Some(key) = key {
        context.output.object(&JsonGroup {
            r#type: "group",
            host: key.host.clone(),
            paths: key.paths.as_deref().map(|paths| texts_of(paths).0),
            tags: key.tags.clone(),
            job: key.job.clone(),
            snapshots: members.len(),
        })?;
    }
    members.iter().try_for_each(|record| {
        let snapshot = JsonSnapshot::new(record, &context.zone);
        let time = verified.get(&record.id).copied();
        context.output.object(&snapshot.verified(time, &context.zone))
    })
}

fn show(
    context: &Context,
    key: Option<&GroupKey>,
    members: &[SnapshotRecord],
    verified: &Verified,
) -> Result<()> {
    if let Some(key) = key {
        context.output.line(&context.output.paint(Style::Heading, &key.to_string()))?;
    }
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("Time", Align::Left),
        ("Host", Align::Left),
        ("Tags", Align::Left),
        ("Size", Align::Right),
        ("Outcome", Align::Left),
        ("Verified", Align::Left),
        ("Paths", Align::Left),
    ]);
    for record in members {
        table.row(row(context, record, verified.get(&record.id).copied()));
    }
    table.print(&context.output)?;
    if key.is_some() { context.output.line("") } else { Ok(()) }
}

fn row(
    context: &Context,
    record: &SnapshotRecord,
    verified: Option<Time>,
) -> Vec<(String, Option<Style>)> {
    let snapshot = &record.snapshot;
    let plain = |text: String| (text, None);
    let outcome = match snapshot.outcome {
        Outcome::Complete => plain(outcome_name(snapshot.outcome).into()),
        Outcome::Partial => (outcome_name(snapshot.outcome).into(), Some(Style::Warning)),
    };
    let mut tags: Vec<String> = record.tags().to_vec();
    if snapshot.kind != SnapshotKind::Manual {
        tags.push(format!("({})", kind_name(snapshot.kind)));
    }
    if record.pinned() {
        tags.push("(pinned)".into());
    }
    let paths: Vec<String> = snapshot.paths.iter().map(|path| text::escape(path)).collect();
    vec![
        (record.id.short(), Some(Style::Id)),
        plain(calendar::show_time(snapshot.time, &context.zone)),
        plain(text::escape(snapshot.host.as_bytes())),
        plain(text::escape(tags.join(",").as_bytes())),
        plain(text::size(snapshot.statistics.bytes)),
        outcome,
        plain(verified.map_or_else(|| "-".into(), |time| day(time, context))),
        plain(paths.join(", ")),
    ]
}

/// The day of a time.
fn day(time: Time, context: &Context) -> String {
    let shown = calendar::show_time(time, &context.zone);
    shown.split(' ').next().unwrap_or_default().to_owned()
}
