//! Check: is the repository whole? Structure always; with `read_data` every byte of it.
//!
//! Nothing is mended here, and one damaged object never hides another.

mod choose;
mod deltas;
mod needs;
mod packs;
mod reading;
mod records;
mod steady;
mod structure;
mod verified;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::OpsError;
use super::mark::Stock;
use crate::format::snapshot::snapshot_key;
use crate::id::PackId;
use crate::progress::{Problem, Progress, Silent};
use crate::repo::{Repository, SnapshotRecord};

use needs::Needed;
pub(super) use reading::Seen;
use verified::Verified;

pub use needs::Touched;
pub use verified::verified_times;

/// How much of the packs is read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ReadData {
    /// Nothing: the structure only.
    #[default]
    None,
    /// Every pack.
    All,
    /// A share, 0 to 1. Of this and what follows: what was not read for the longest time, so that
    /// run after run everything is read.
    Share(f64),
    /// Packs of about so many bytes together.
    Bytes(u64),
    /// As much as one of `of` parts; of what was never read the `part`th part first, counted from
    /// 1, so that who remembers nothing reads everything in all parts.
    Part {
        /// Which.
        part: u32,
        /// Of how many.
        of: u32,
    },
}

/// What is checked.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// Only what these need; everything if empty.
    pub snapshots: Vec<SnapshotRecord>,
    /// How much of the packs is read.
    pub read_data: ReadData,
    /// Packs that were read and found good so many seconds ago at most are not read again.
    pub max_age_seconds: Option<u64>,
}

/// An object of the repository that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DamagedObject {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Snapshots that were walked.
    pub snapshots: u64,
    /// Chunks that they need.
    pub chunks: u64,
    /// Packs that are there.
    pub packs: u64,
    /// Packs that were read.
    pub packs_read: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// Packs that are there and in no index segment: what a run that was cut off left behind.
    pub packs_unknown: u64,
    /// Damaged or missing objects.
    pub damaged: Vec<DamagedObject>,
    /// Chunks that snapshots need and that cannot be had.
    pub chunks_damaged: u64,
    /// Files and directories that need them.
    pub touched: Vec<Touched>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.chunks_damaged == 0 && self.touched.is_empty()
    }
}

/// Collects what is wrong, and tells it as it comes.
struct Findings<'a> {
    progress: &'a dyn Progress,
    report: CheckReport,
    seen: BTreeSet<DamagedObject>,
}

impl Findings<'_> {
    fn damaged(&mut self, key: &str, why: String) {
        let object = DamagedObject { key: key.to_owned(), why };
        if self.seen.insert(object.clone()) {
            self.progress.problem(&Problem::damage(key, &object.why));
            self.report.damaged.push(object);
        }
    }
}

/// Checks a repository.
pub fn check(
    repository: &Arc<Repository>,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<CheckReport, OpsError> {
    steady::look(repository, progress, |progress, is_steady| {
        look(repository, options, progress, is_steady)
    })
}

fn look(
    repository: &Arc<Repository>,
    options: &CheckOptions,
    progress: &dyn Progress,
    is_steady: &dyn Fn() -> bool,
) -> Result<CheckReport, OpsError> {
    let mut findings = Findings { progress, report: CheckReport::default(), seen: BTreeSet::new() };
    structure::objects(repository, &mut findings)?;
    // Before the packs: what is committed from here on may lie in some that are not listed.
    let records = match options.snapshots.as_slice() {
        [] => {
            let records = repository.snapshots(&Silent::default())?;
            lines(repository, &records, &mut findings)?;
            records
        }
        some => some.to_vec(),
    };
    let mut stock = structure::packs(repository, &mut findings)?;
    let reads = options.read_data != ReadData::None;
    let some_only = reads && !options.snapshots.is_empty();
    let mut needed = needs::walk(repository, &stock, &records, some_only, &mut findings)?;
    let mut seen = Seen::default();
    if reads {
        let chosen = reading::choose(repository, &stock, options, needed.packs.as_ref());
        seen = reading::read(repository, &stock, &chosen, &mut findings)?;
        if stock.observe(&seen.packs, &seen.broken)? {
            let again = needs::walk(repository, &stock, &records, false, &mut findings)?;
            needed = Needed { packs: needed.packs, ..again };
        }
    }
    records::name(&stock, &seen, &mut findings);
    // What a prune has removed meanwhile is not damaged.
    if is_steady() {
        records::keep(repository, &stock, &seen, &needed, &mut findings)?;
    }
    let listed = || (0..).zip(&stock.packs).filter(|(_, pack)| pack.listed);
    let packs: Vec<PackId> = match options.snapshots.as_slice() {
        // What no snapshot needs is soon read as well, or gone; knowing it would cost a look-up of
        // each chunk.
        [] => listed().map(|(_, pack)| pack.id).collect(),
        _ => {
            let is_needed =
                |place| needed.packs.as_ref().is_some_and(|packs| packs.contains(&place));
            listed().filter(|(place, _)| is_needed(*place)).map(|(_, pack)| pack.id).collect()
        }
    };
    Verified::remember_snapshots(repository, &records, &packs, &findings.report);
    if options.snapshots.is_empty() {
        Verified::tidy(repository, &packs)?;
    }
    Ok(findings.report)
}

/// Whether every snapshot is there that was seen before or that others tell of.
fn lines(
    repository: &Arc<Repository>,
    records: &[SnapshotRecord],
    findings: &mut Findings<'_>,
) -> Result<(), OpsError> {
    // What cannot be read was told of before.
    for alarm in super::lines::look(repository, records, &Silent::default())?.alarms {
        let key = alarm.snapshot().map_or_else(|| "snapshots".into(), |id| snapshot_key(&id));
        findings.damaged(&key, alarm.to_string());
    }
    Ok(())
}

/// Reads the packs at these places of the stock, for a repair: what was seen, and what is wrong
/// with which pack.
pub(super) fn read_packs(
    repository: &Arc<Repository>,
    stock: &Stock,
    places: &HashSet<u32>,
    progress: &dyn Progress,
) -> Result<(Seen, Vec<DamagedObject>), OpsError> {
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let mut findings = Findings { progress, report: CheckReport::default(), seen: BTreeSet::new() };
    let chosen = reading::choose(repository, stock, &options, Some(places));
    let seen = reading::read(repository, stock, &chosen, &mut findings)?;
    Ok((seen, findings.report.damaged))
}

/// Whether every byte of the pack at a place of the stock is as it should be.
pub(super) fn is_sound(
    repository: &Repository,
    stock: &Stock,
    place: u32,
) -> Result<bool, OpsError> {
    let noted = deltas::Noted::default();
    let damage = packs::check_pack(repository, stock, place, &noted, &mut Vec::new(), &mut |_| ())?;
    Ok(damage.is_empty())
}
