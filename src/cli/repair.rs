//! `holdall repair`

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::check::JsonTouched;
use super::context::{Context, Location, show_path};
use super::error::{Exit, Failure, Result};
use super::init::parse_parity;
use super::output::Style;
use super::places::make_private_directory;
use super::progress::Reporter;
use super::prompt;
use super::prune::is_dead;
use super::secrets::Sources;
use crate::calendar;
use crate::format::snapshot::snapshot_key;
use crate::index::segment_key;
use crate::ops::prune::PruneOptions;
use crate::ops::repair::{
    DamagedPack, How, Mend, Mirror, RepairOptions, RepairPlan, RepairReport, Source, plan, repair,
};
use crate::repo::Repository;
use crate::text;

/// Mend what is damaged, after saying what would be done
///
/// Without --yes, and without a terminal to ask on, it only says what is damaged and what mends
/// it, and changes nothing. Nothing is thrown away that has not been stored anew before, and no
/// snapshot loses anything unless --drop-lost is given. `holdall help repair` tells how to go on.
#[derive(Debug, clap::Args)]
pub struct RepairArgs {
    /// Do it, without asking
    #[arg(short, long)]
    yes: bool,
    /// Read every pack first, so that all damage is found
    #[arg(long)]
    read_data: bool,
    /// Fetch what is lost from this repository, which `copy` has filled
    #[arg(long, value_name = "URL")]
    from: Option<OsString>,
    /// Open that repository with this key file
    #[arg(long, value_name = "FILE", requires = "from")]
    from_key_file: Option<PathBuf>,
    /// Read the password of that repository from a file
    #[arg(long, value_name = "FILE", requires = "from")]
    from_password_file: Option<PathBuf>,
    /// Run a command that prints the password of that repository
    #[arg(long, value_name = "COMMAND", requires = "from")]
    from_password_command: Option<OsString>,
    /// Add parity to packs that lack it and to all later ones, so many percent; 0 ends that
    #[arg(long, value_name = "PERCENT", value_parser = parse_parity)]
    add_parity: Option<u8>,
    /// Write damaged snapshots anew without the files that nothing brings back, and remove notes
    /// that nobody can read
    #[arg(long)]
    drop_lost: bool,
}

/// Repairs.
pub fn run(args: &RepairArgs, context: &Context) -> Result<Exit> {
    let repository = context.open()?;
    let mirror = open_mirror(args, &repository, context)?;
    let dead = is_dead(&repository);
    let options = RepairOptions {
        read_data: args.read_data,
        from: mirror.as_ref(),
        add_parity: args.add_parity,
        drop_lost: args.drop_lost,
        prune: PruneOptions { is_dead: &dead, ..PruneOptions::default() },
    };
    let mut reporter = Reporter::start(context)?;
    let found = plan(&repository, &options, &reporter)?;
    reporter.finish();
    match context.output.json() {
        true => tell_plan(&found, context)?,
        false => show_plan(&found, args, context)?,
    }
    let damage = |plan: &RepairPlan| if plan.is_damage() { Exit::Damage } else { Exit::Done };
    if found.is_empty() && args.add_parity.is_none() {
        return Ok(damage(&found));
    }
    // Whoever wants JSON is a program, and is not asked.
    if !args.yes && (context.output.json() || !prompt::confirm("do this?")?) {
        context.output.say("nothing was changed; with --yes it is done");
        return Ok(damage(&found));
    }
    let mut reporter = Reporter::start(context)?;
    let mut log = Log::open(&repository, context);
    let mut told = |mends: &[Mend]| log.write(mends);
    let report = repair(&repository, &found, &options, &mut told, &reporter)?;
    reporter.finish();
    match context.output.json() {
        true => tell(&report, context)?,
        false => show(&report, context)?,
    }
    Ok(damage(&report.remaining))
}

fn open_mirror(
    args: &RepairArgs,
    repository: &Arc<Repository>,
    context: &Context,
) -> Result<Option<Mirror>> {
    let Some(url) = &args.from else { return Ok(None) };
    let place = Location::parse(url)?;
    let same = |path: &PathBuf| path.canonicalize().ok();
    if same(&place).is_some() && same(&place) == same(&context.location.path) {
        return Err(Failure::usage("--from names the repository that is to be repaired"));
    }
    let given = Sources {
        key_file: args.from_key_file.clone(),
        password_file: args.from_password_file.clone(),
        password_command: args.from_password_command.clone(),
    };
    // Without secrets of its own it is opened with those of the damaged one.
    let from = match given.is_empty() {
        true => context.open_at(&place)?,
        false => context.open_with(&place, &given)?,
    };
    let shown = show_path(&place);
    match Mirror::of(repository, from)? {
        Some(mirror) => Ok(Some(mirror)),
        None => Err(Failure::usage(format!("the repository at {shown} is of another family"))
            .hint("copy snapshots back from it with `holdall copy`; nothing else of it fits here")
            .object(shown)),
    }
}

/// Every mend, kept beside what else this installation remembers.
struct Log<'a> {
    path: PathBuf,
    repository: String,
    context: &'a Context,
    failed: bool,
}

impl<'a> Log<'a> {
    fn open(repository: &Repository, context: &'a Context) -> Self {
        let path = context.places.state.join("repair.log");
        let repository = repository.config().repository.to_hex();
        Self { path, repository, context, failed: false }
    }

    fn write(&mut self, mends: &[Mend]) {
        let now = calendar::rfc3339(self.context.world.now(), &self.context.zone);
        let line =
            |mend: &Mend| format!("{now} {} {}: {}\n", self.repository, mend.object, mend.how);
        let lines: String = mends.iter().map(line).collect();
        let write = || -> std::io::Result<()> {
            make_private_directory(&self.context.places.state)?;
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o600);
            options.open(&self.path)?.write_all(lines.as_bytes())
        };
        if let Err(error) = write()
            && !std::mem::replace(&mut self.failed, true)
        {
            let failure = Failure::file("write", &self.path, &error);
            self.context.output.warn(&failure.line());
        }
    }
}

fn brings_back(pack: &DamagedPack) -> &'static str {
    match pack.from {
        Source::Parity => "its parity brings all of it back",
        Source::Frames => "what is needed of it can be read, and moves to a new pack",
        Source::Mirror => "the other repository has what cannot be read",
        Source::Nowhere => "something of it is nowhere else",
    }
}

fn show_plan(plan: &RepairPlan, args: &RepairArgs, context: &Context) -> Result<()> {
    let output = &context.output;
    let escape = |why: &str| text::escape(why.as_bytes());
    for (key, why) in &plan.openers {
        output.line(&format!("{}: {}", escape(key), escape(why)))?;
        output.line("    it is put back from its copy, if that is good")?;
    }
    for id in &plan.damaged_parity {
        output.line(&format!("parity of pack {} is damaged", id.short()))?;
        output.line("    it is made anew from the pack")?;
    }
    for (id, why) in &plan.segments {
        output.line(&format!("{}: {}", segment_key(id), escape(why)))?;
        output.line("    the packs themselves say what was in it")?;
    }
    for pack in &plan.packs {
        output.line(&format!("pack {}: {}", pack.id.short(), escape(&pack.why)))?;
        output.line(&format!("    {}", brings_back(pack)))?;
    }
    for record in &plan.uncounted {
        let id = record.id.short();
        output.line(&format!("snapshot {id}: its session record is lost or damaged"))?;
        output.line("    it is whole enough to be committed again, under a new id")?;
    }
    for (key, why) in &plan.unsaid {
        output.line(&format!("{}: {}", escape(key), escape(why)))?;
        let what = match key.starts_with("notes/") {
            true => "tags, a description or a pin",
            false => "which snapshots were forgotten",
        };
        output.line(&match args.drop_lost {
            true => format!("    what it said ({what}) is lost; it is removed"),
            false => format!("    what it said ({what}) is lost; --drop-lost removes it"),
        })?;
    }
    for (id, why) in &plan.unreadable {
        output.line(&format!("snapshot {}: {}", id.short(), escape(why)))?;
        output.line(match args.drop_lost {
            true => "    nobody can read it; it is forgotten",
            false => "    nobody can read it; --drop-lost forgets it",
        })?;
    }
    show_lost(plan, args.drop_lost, context)?;
    if !plan.unnamed.is_empty() {
        let packs = text::plural(plan.unnamed.len() as u64, "pack", "packs");
        output.line(&format!("{packs} in no index: they are named in a new one"))?;
    }
    if plan.without_parity > 0 {
        let packs = text::plural(plan.without_parity, "pack", "packs");
        output.line(&format!("{packs} without parity"))?;
    }
    if !plan.is_damage() {
        output.line(&output.paint(Style::Good, "no damage was found"))?;
        if !args.read_data {
            output.say("what lies inside the packs was not read; --read-data does that");
        }
    }
    Ok(())
}

/// What nothing here brings back.
fn show_lost(plan: &RepairPlan, drop_lost: bool, context: &Context) -> Result<()> {
    let output = &context.output;
    for touched in &plan.touched {
        let id = output.paint(Style::Id, &touched.snapshot.short());
        output.line(&format!("lost in snapshot {id}: {}", text::escape(&touched.path)))?;
    }
    if plan.touched.is_empty() {
        return Ok(());
    }
    output.say("everything else in these snapshots can be restored");
    output.say("the next backup stores the lost files again where the source still has them");
    output.say(match drop_lost {
        true => "--drop-lost writes these snapshots anew without them",
        false => "with --drop-lost these snapshots are written anew without them",
    });
    Ok(())
}

fn show(report: &RepairReport, context: &Context) -> Result<()> {
    let output = &context.output;
    for mend in &report.mends {
        output.line(&format!("{}: {}", mend.object, mend.how))?;
    }
    let open = report.pruned.as_ref().and_then(|pruned| pruned.open_epoch);
    if open.is_some() {
        output.say("sessions are at work: the next `holdall prune` removes the damaged packs");
    }
    let left = &report.remaining;
    show_lost(left, false, context)?;
    match left.is_damage() {
        true => output.line(&output.paint(Style::Error, "some of the damage is left")),
        false => output.line(&output.paint(Style::Good, "nothing that is known is damaged now")),
    }
}

#[derive(Serialize)]
struct JsonDamaged {
    object: String,
    why: String,
    from: Option<&'static str>,
}

#[derive(Serialize)]
struct JsonPlan {
    r#type: &'static str,
    damaged: Vec<JsonDamaged>,
    uncounted: Vec<String>,
    unnamed: usize,
    chunks_lost: u64,
    chunks_in_mirror: u64,
    without_parity: u64,
    damage: bool,
}

#[derive(Serialize)]
struct JsonMend<'a> {
    r#type: &'static str,
    object: &'a str,
    how: &'static str,
    snapshot: Option<String>,
}

#[derive(Serialize)]
struct JsonRepair {
    r#type: &'static str,
    mended: usize,
    open_epoch: Option<u64>,
    damage: bool,
}

fn tell_plan(plan: &RepairPlan, context: &Context) -> Result<()> {
    for touched in &plan.touched {
        context.output.object(&JsonTouched::from(touched))?;
    }
    let damaged = |object, why: &String, from| JsonDamaged { object, why: why.clone(), from };
    let openers = plan.openers.iter().map(|(key, why)| damaged(key.clone(), why, Some("copy")));
    let segments =
        plan.segments.iter().map(|(id, why)| damaged(segment_key(id), why, Some("packs")));
    let from = |pack: &DamagedPack| match pack.from {
        Source::Parity => Some("parity"),
        Source::Frames => Some("frames"),
        Source::Mirror => Some("mirror"),
        Source::Nowhere => None,
    };
    let key = |pack: &DamagedPack| crate::format::pack::pack_key(&pack.id);
    let packs = plan.packs.iter().map(|pack| damaged(key(pack), &pack.why, from(pack)));
    let unsaid = plan.unsaid.iter().map(|(key, why)| damaged(key.clone(), why, None));
    let unreadable = plan.unreadable.iter().map(|(id, why)| damaged(snapshot_key(id), why, None));
    context.output.object(&JsonPlan {
        r#type: "repair_plan",
        damaged: openers.chain(segments).chain(packs).chain(unsaid).chain(unreadable).collect(),
        uncounted: plan.uncounted.iter().map(|record| record.id.to_hex()).collect(),
        unnamed: plan.unnamed.len(),
        chunks_lost: plan.chunks_lost,
        chunks_in_mirror: plan.chunks_in_mirror,
        without_parity: plan.without_parity,
        damage: plan.is_damage(),
    })
}

fn tell(report: &RepairReport, context: &Context) -> Result<()> {
    for Mend { object, how } in &report.mends {
        let (how, snapshot) = match how {
            How::PutBack => ("copy", None),
            How::SegmentMade => ("segment", None),
            How::Parity => ("parity", None),
            How::Frames(_) => ("frames", None),
            How::Mirror => ("mirror", None),
            How::Committed(id) => ("committed", Some(id.to_hex())),
            How::Rewritten(id) => ("rewritten", Some(id.to_hex())),
            How::Forgotten => ("forgotten", None),
            How::Removed => ("removed", None),
            How::ParityMade => ("parity_made", None),
        };
        context.output.object(&JsonMend { r#type: "mend", object, how, snapshot })?;
    }
    for touched in &report.remaining.touched {
        context.output.object(&JsonTouched::from(touched))?;
    }
    context.output.object(&JsonRepair {
        r#type: "repair",
        mended: report.mends.len(),
        open_epoch: report.pruned.as_ref().and_then(|pruned| pruned.open_epoch),
        damage: report.remaining.is_damage(),
    })
}
