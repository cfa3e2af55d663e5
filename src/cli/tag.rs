//! `holdall tag` and `holdall pin`

use std::collections::BTreeSet;
use std::sync::Arc;

use super::context::Context;
use super::error::{Exit, Failure, Result};
use super::filters::{FilterArgs, tags};
use super::json::JsonSnapshot;
use super::progress::Reporter;
use crate::calendar;
use crate::ops::select;
use crate::ops::tag::{TagOptions, tag};
use crate::repo::{Repository, SnapshotRecord};
use crate::text;

/// Change tags and descriptions of snapshots
///
/// Names of snapshots do not change by it.
#[derive(Debug, clap::Args)]
pub struct TagArgs {
    /// Ids or how they begin, `latest`, `latest~2`; without any, all that the filters let through
    #[arg(value_name = "SNAPSHOT")]
    names: Vec<String>,
    /// Add these tags
    #[arg(long, value_name = "TAG[,TAG…]")]
    add: Vec<String>,
    /// Remove these tags
    #[arg(long, value_name = "TAG[,TAG…]")]
    remove: Vec<String>,
    /// Have these tags and no others; an empty list removes all
    #[arg(long, value_name = "TAG[,TAG…]", conflicts_with_all = ["add", "remove"])]
    set: Vec<String>,
    /// Say this of them, instead of what was said before
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Changes tags.
pub fn run(args: &TagArgs, context: &Context) -> Result<Exit> {
    require_some(&args.names, &args.filter)?;
    let changes = !(args.add.is_empty() && args.remove.is_empty() && args.set.is_empty());
    if !changes && args.description.is_none() {
        return Err(Failure::usage("nothing is to be changed")
            .hint("give --add, --remove, --set or --description"));
    }
    let list = |lists: &[String]| lists.iter().flat_map(|list| tags(list)).collect::<Vec<_>>();
    let options = TagOptions {
        set: (!args.set.is_empty()).then(|| list(&args.set)),
        add: list(&args.add),
        remove: list(&args.remove),
        description: args.description.clone(),
        ..TagOptions::default()
    };
    annotate(&args.names, &args.filter, &options, context)
}

/// Says something of the snapshots that are named, or of all that pass the filter.
fn annotate(
    names: &[String],
    filter: &FilterArgs,
    options: &TagOptions,
    context: &Context,
) -> Result<Exit> {
    let repository = context.open()?;
    let mut reporter = Reporter::start(context)?;
    let records = named(names, filter, &repository, &reporter)?;
    let report = tag(&repository, &records, options, &reporter)?;
    reporter.finish();
    for record in &report.changed {
        if context.output.json() {
            context.output.object(&JsonSnapshot::new(record, &context.zone))?;
            continue;
        }
        let mut said = vec![match record.tags() {
            [] => "no tags".to_owned(),
            tags => format!("tags {}", text::escape(tags.join(",").as_bytes())),
        }];
        if record.pinned() {
            said.push("pinned".into());
        }
        if let Some(time) = record.expires() {
            said.push(format!("expires {}", calendar::show_time(time, &context.zone)));
        }
        context.output.say(&format!("snapshot {}: {}", record.id.short(), said.join(", ")));
    }
    if report.unchanged_count > 0 {
        let count = text::plural(report.unchanged_count, "snapshot", "snapshots");
        context.output.say(&format!("{count} unchanged"));
    }
    Ok(reporter.exit())
}

/// The snapshots that are named, each once, or all that pass the filter.
pub fn named(
    names: &[String],
    filter: &FilterArgs,
    repository: &Arc<Repository>,
    reporter: &Reporter,
) -> Result<Vec<SnapshotRecord>> {
    let filter = filter.filter();
    if names.is_empty() {
        return Ok(select::snapshots(repository, &filter, reporter)?);
    }
    let all = repository.snapshots(reporter)?;
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    for name in names {
        let record = select::pick(all.clone(), name, &filter)?;
        if seen.insert(record.id) {
            records.push(record);
        }
    }
    Ok(records)
}

/// Pin snapshots, so that no policy forgets them
///
/// A pinned snapshot goes only when `forget` is given its id.
#[derive(Debug, clap::Args)]
pub struct PinArgs {
    /// Ids or how they begin, `latest`, `latest~2`; without any, all that the filters let through
    #[arg(value_name = "SNAPSHOT")]
    names: Vec<String>,
    /// Take the pin away
    #[arg(long, conflicts_with_all = ["expires", "never_expires"])]
    off: bool,
    /// Do not pin; let `forget` remove them from this time on
    #[arg(long, value_name = "TIME", conflicts_with = "never_expires")]
    expires: Option<String>,
    /// Take that time away
    #[arg(long)]
    never_expires: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Pins snapshots, or says when they may go.
pub fn run_pin(args: &PinArgs, context: &Context) -> Result<Exit> {
    require_some(&args.names, &args.filter)?;
    let time = args.expires.as_ref();
    let time = time.map(|text| calendar::parse_time(text, &context.zone)).transpose()?;
    let expires = match (time, args.never_expires) {
        (Some(time), _) => Some(Some(time)),
        (None, true) => Some(None),
        (None, false) => None,
    };
    let pinned = expires.is_none().then_some(!args.off);
    let options = TagOptions { pinned, expires, ..TagOptions::default() };
    annotate(&args.names, &args.filter, &options, context)
}

fn require_some(names: &[String], filter: &FilterArgs) -> Result<()> {
    match names.is_empty() && filter.is_empty() {
        true => Err(Failure::usage("no snapshot is named")
            .hint("name some, or narrow by --host, --path, --tag")),
        false => Ok(()),
    }
}
