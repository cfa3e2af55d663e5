//! Check: is the repository whole? Structure always; with `read_data` every byte of it.
//!
//! Nothing is mended here, and one damaged object never hides another.

mod needs;
mod packs;
mod reading;
mod structure;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::OpsError;
use super::mark::{Place, Stock};
use crate::progress::{Problem, Progress, Silent};
use crate::repo::{Repository, SnapshotRecord};

pub use needs::Touched;

/// How much of the packs is read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ReadData {
    /// Nothing: the structure only.
    #[default]
    None,
    /// Every pack.
    All,
    /// A random share, 0 to 1.
    Share(f64),
    /// Random packs of about so many bytes together.
    Bytes(u64),
    /// The `part`th of `of` parts, counted from 1: run after run everything is read.
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
    let mut findings = Findings { progress, report: CheckReport::default(), seen: BTreeSet::new() };
    structure::objects(repository, &mut findings)?;
    let mut stock = structure::packs(repository, &mut findings)?;
    let records = match options.snapshots.as_slice() {
        [] => repository.snapshots(&Silent::default())?,
        some => some.to_vec(),
    };
    let reads = options.read_data != ReadData::None;
    let some_only = reads && !options.snapshots.is_empty();
    let needed = needs::walk(repository, &stock, &records, some_only, &mut findings)?;
    if reads {
        let chosen = reading::choose(repository, &stock, options, needed.as_ref());
        let broken = reading::read(repository, &stock, &chosen, &mut findings)?;
        if !broken.is_empty() {
            stock.break_frames(broken)?;
            needs::walk(repository, &stock, &records, false, &mut findings)?;
        }
    }
    Ok(findings.report)
}

/// Reads the packs at these places of the stock, for a repair: the frames that do not open, and
/// what is wrong with which pack.
pub(super) fn read_packs(
    repository: &Arc<Repository>,
    stock: &Stock,
    places: &HashSet<u32>,
    progress: &dyn Progress,
) -> Result<(Vec<Place>, Vec<DamagedObject>), OpsError> {
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let mut findings = Findings { progress, report: CheckReport::default(), seen: BTreeSet::new() };
    let chosen = reading::choose(repository, stock, &options, Some(places));
    let broken = reading::read(repository, stock, &chosen, &mut findings)?;
    Ok((broken, findings.report.damaged))
}

/// Whether every byte of the pack at a place of the stock is as it should be.
pub(super) fn is_sound(
    repository: &Repository,
    stock: &Stock,
    place: u32,
) -> Result<bool, OpsError> {
    Ok(packs::check_pack(repository, stock, place, &mut |_| ())?.is_empty())
}
