//! `holdall tag`

use std::collections::BTreeSet;

use super::context::Context;
use super::error::{Exit, Failure, Result};
use super::filters::{FilterArgs, tags};
use super::json::JsonSnapshot;
use super::progress::Reporter;
use crate::format::snapshot::Note;
use crate::ops::select;
use crate::repo::SnapshotRecord;
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
    if args.names.is_empty() && args.filter.is_empty() {
        return Err(Failure::usage("no snapshot is named")
            .hint("name some, or narrow by --host, --path, --tag"));
    }
    let changes = !(args.add.is_empty() && args.remove.is_empty() && args.set.is_empty());
    if !changes && args.description.is_none() {
        return Err(Failure::usage("nothing is to be changed")
            .hint("give --add, --remove, --set or --description"));
    }
    let repository = context.open()?;
    let mut reporter = Reporter::start(context)?;
    let records = named(args.names.as_slice(), &args.filter, &repository, &reporter)?;
    reporter.finish();
    for record in records {
        let note = repository.annotate(&record, |note| change(args, note))?;
        let record = SnapshotRecord { note: Some(note), ..record };
        if context.output.json() {
            context.output.object(&JsonSnapshot::new(&record, &context.zone))?;
            continue;
        }
        let tags = match record.tags() {
            [] => "no tags".to_owned(),
            tags => format!("tags {}", text::escape(tags.join(",").as_bytes())),
        };
        context.output.say(&format!("snapshot {}: {tags}", record.id.short()));
    }
    Ok(reporter.exit())
}

/// The snapshots that are named, or all that pass the filter.
fn named(
    names: &[String],
    filter: &FilterArgs,
    repository: &std::sync::Arc<crate::repo::Repository>,
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

fn change(args: &TagArgs, note: &mut Note) {
    let list = |lists: &[String]| lists.iter().flat_map(|list| tags(list)).collect::<Vec<_>>();
    if !args.set.is_empty() {
        note.tags.clear();
    }
    let removed = list(&args.remove);
    note.tags.retain(|tag| !removed.contains(tag));
    for tag in list(&args.set).into_iter().chain(list(&args.add)) {
        if !note.tags.contains(&tag) {
            note.tags.push(tag);
        }
    }
    if let Some(description) = &args.description {
        note.description.clone_from(description);
    }
}
