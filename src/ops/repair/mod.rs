//! Repair: what is damaged is made again from what is left, and what cannot be is said.
//!
//! First a plan, which changes nothing; then a session that writes (W1 to W7) and never commits:
//! mended packs get new names, and a prune then sees two copies, keeps the sound one, and condemns
//! the damaged pack. No pack is deleted here and no epoch written but by that prune (R3). Cut off
//! anywhere, a repair leaves copies and records of damage behind, and the next one goes on.

mod find;
mod mirror;
mod packs;
mod parity;
mod segments;
mod snapshots;

use std::fmt;
use std::sync::Arc;

use super::OpsError;
use super::check::Touched;
use super::prune::{Limit, PruneOptions, PruneReport, prune};
use crate::format::pack::pack_key;
use crate::format::session::Purpose;
use crate::format::snapshot::snapshot_key;
use crate::id::{FrameId, NoteId, PackId, SegmentId, SnapshotId};
use crate::index::segment_key;
use crate::progress::Progress;
use crate::repo::{Repository, Session, SnapshotRecord};
pub use mirror::Mirror;

/// How to repair.
#[derive(Debug, Clone, Copy, Default)]
pub struct RepairOptions<'a> {
    /// Read every pack to find what is damaged; else only what is known, listed, or in the way.
    pub read_data: bool,
    /// Another repository that may have what is lost here.
    pub from: Option<&'a Mirror>,
    /// Parity for packs that lack it and for all later ones, percent of their length.
    pub add_parity: Option<u8>,
    /// Write snapshots anew without what is lost for good.
    pub drop_lost: bool,
    /// How the damaged packs are pruned away.
    pub prune: PruneOptions<'a>,
}

/// Where what a damaged pack had comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Its parity gives all of it.
    Parity,
    /// What snapshots need of it can be read, there or in other packs.
    Frames,
    /// The other repository has what cannot be read.
    Mirror,
    /// Something of it is nowhere.
    Nowhere,
}

/// A pack that is damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPack {
    /// The pack.
    pub id: PackId,
    /// What is wrong with it.
    pub why: String,
    /// Frames that cannot be read, in ascending order.
    pub frames: Vec<FrameId>,
    /// Nobody has recorded it yet.
    pub is_news: bool,
    /// Where what it had comes from.
    pub from: Source,
}

/// What is damaged, and what would be done about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// What opens the repository and is damaged, by key, and why: put back from its copy, or the
    /// copy from it.
    pub openers: Vec<(String, String)>,
    /// Index segments that do not open, and why: made again from the packs themselves.
    pub segments: Vec<(SegmentId, String)>,
    /// Packs that no segment names: they get one.
    pub unnamed: Vec<PackId>,
    /// Packs that are damaged, or missing and needed.
    pub packs: Vec<DamagedPack>,
    /// Chunks that snapshots need and that no pack here has.
    pub chunks_lost: u64,
    /// Those among them that the other repository has.
    pub chunks_in_mirror: u64,
    /// Files and directories that need what is nowhere.
    pub touched: Vec<Touched>,
    /// Snapshots that nobody has forgotten and that do not open, and why.
    pub unreadable: Vec<(SnapshotId, String)>,
    /// Snapshots whose session record is lost, so that they do not count, or damaged.
    pub uncounted: Vec<SnapshotRecord>,
    /// Notes and records of forgetting that do not open, by key, and why.
    pub unsaid: Vec<(String, String)>,
    /// Records of damage to packs that are sound.
    pub outdated: Vec<NoteId>,
    /// Packs whose parity is damaged: it is made anew.
    pub damaged_parity: Vec<PackId>,
    /// Packs that lack parity, where it is wished for.
    pub without_parity: u64,
}

impl RepairPlan {
    /// Whether anything is damaged.
    pub fn is_damage(&self) -> bool {
        let Self { openers, segments, packs, touched, unreadable, uncounted, .. } = self;
        let (parity, unsaid) = (&self.damaged_parity, &self.unsaid);
        !(openers.is_empty()
            && unsaid.is_empty()
            && parity.is_empty()
            && segments.is_empty()
            && packs.is_empty()
            && touched.is_empty()
            && unreadable.is_empty()
            && uncounted.is_empty())
    }

    /// Whether there is anything to do.
    pub fn is_empty(&self) -> bool {
        let idle = self.unnamed.is_empty() && self.outdated.is_empty() && self.without_parity == 0;
        idle && !self.is_damage()
    }
}

/// How something was mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It was put back from its copy, or is that copy.
    PutBack,
    /// An index segment was made again from the packs.
    SegmentMade,
    /// A pack's frames were written anew from its parity.
    Parity,
    /// So many frames of a pack could be read and were written anew.
    Frames(u64),
    /// A chunk, or the frame with this chunk, came from the other repository.
    Mirror,
    /// A snapshot counts again, under this name.
    Committed(SnapshotId),
    /// A snapshot was written anew without what is lost, under this name.
    Rewritten(SnapshotId),
    /// A snapshot that nobody can read was forgotten.
    Forgotten,
    /// A note or a record of forgetting that nobody can read was removed.
    Removed,
    /// A pack has parity now.
    ParityMade,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutBack => f.write_str("put back: the other one of the two was good"),
            Self::SegmentMade => f.write_str("made again from the packs themselves"),
            Self::Parity => f.write_str("mended from its parity"),
            Self::Frames(1) => f.write_str("1 frame that can be read was moved out of it"),
            Self::Frames(n) => write!(f, "{n} frames that can be read were moved out of it"),
            Self::Mirror => f.write_str("fetched from the other repository"),
            Self::Committed(id) => write!(f, "committed again as {}", id.short()),
            Self::Rewritten(id) => write!(f, "written anew as {} without what is lost", id.short()),
            Self::Forgotten => f.write_str("forgotten: nobody can read it"),
            Self::Removed => f.write_str("removed: nobody can read it"),
            Self::ParityMade => f.write_str("has parity now"),
        }
    }
}

/// One thing that was mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mend {
    /// The object's key, or `chunk` and a chunk's id.
    pub object: String,
    /// How.
    pub how: How,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Everything that was mended, in order.
    pub mends: Vec<Mend>,
    /// What became of the damaged packs; `None` when there was nothing to prune away, or when it
    /// must wait until nothing is lost any more.
    pub pruned: Option<PruneReport>,
    /// What is damaged still.
    pub remaining: RepairPlan,
}

/// A repair at work: where mends are told.
struct Work<'a> {
    repository: &'a Arc<Repository>,
    options: &'a RepairOptions<'a>,
    progress: &'a dyn Progress,
    mends: Vec<Mend>,
}

impl Work<'_> {
    fn mended(&mut self, object: String, how: How) {
        self.mends.push(Mend { object, how });
    }
}

/// Looks what is damaged, and what can be done about it. Changes nothing.
pub fn plan(
    repository: &Arc<Repository>,
    options: &RepairOptions<'_>,
    progress: &dyn Progress,
) -> Result<RepairPlan, OpsError> {
    find::find(repository, options, progress)
}

/// Does what a plan says. Each mend is handed to `told` as soon as it is safe in the storage, so
/// that a log has it whatever happens later.
pub fn repair(
    repository: &Arc<Repository>,
    plan: &RepairPlan,
    options: &RepairOptions<'_>,
    told: &mut dyn FnMut(&[Mend]),
    progress: &dyn Progress,
) -> Result<RepairReport, OpsError> {
    let mut work = Work { repository, options, progress, mends: Vec::new() };
    let mut report = RepairReport::default();
    let mut tell = |work: &mut Work<'_>| {
        told(&work.mends);
        report.mends.append(&mut work.mends);
    };
    for id in &plan.outdated {
        repository.remove_damage(id)?;
    }
    record(repository, plan)?;
    for key in repository.restore_openers()? {
        work.mended(key, How::PutBack);
    }
    segments::replace(&mut work, plan)?;
    tell(&mut work);
    let mends_packs = !plan.packs.is_empty() || plan.chunks_lost > 0;
    let mut session = match mends_packs {
        true => Some(Session::begin(repository, Purpose::Repair, None)?),
        false => None,
    };
    let written = write(&mut work, session.as_mut(), plan);
    tell(&mut work);
    if let Err(error) = written {
        // What was stored stays usable for the next run; the error is what counts here.
        let _ = session.map_or(Ok(()), Session::abort);
        return Err(error);
    }
    if mends_packs || options.drop_lost {
        report.pruned = prune_away(repository, options, session, progress)?;
    }
    if let Some(percent) = options.add_parity {
        repository.set_parity(percent)?;
    }
    parity::make(&mut work, plan)?;
    tell(&mut work);
    let again = RepairOptions { read_data: false, add_parity: None, ..*options };
    report.remaining = find::find(repository, &again, progress)?;
    Ok(report)
}

/// Stores anew all that can be had: packs first, then the snapshots that need them. Those that do
/// not count come before any prune, which would tidy them away.
fn write(
    work: &mut Work<'_>,
    session: Option<&mut Session>,
    plan: &RepairPlan,
) -> Result<(), OpsError> {
    if let Some(session) = session {
        packs::mend(work, session, plan)?;
        mirror::fetch_lost(work, session)?;
    }
    snapshots::commit_again(work, plan)?;
    match work.options.drop_lost {
        true => snapshots::drop_lost(work, plan),
        false => Ok(()),
    }
}

/// Tells writers and prunes what is damaged, before anything relies on it.
fn record(repository: &Repository, plan: &RepairPlan) -> Result<(), OpsError> {
    for pack in plan.packs.iter().filter(|pack| pack.is_news) {
        repository.record_damage(pack.id, pack.frames.clone(), pack.why.clone())?;
    }
    Ok(())
}

/// Prunes while the session is there, which spares what it has written. The second time nobody is
/// in the way of packs that say nothing of themselves: whose they are is not known.
fn prune_away(
    repository: &Arc<Repository>,
    options: &RepairOptions<'_>,
    session: Option<Session>,
    progress: &dyn Progress,
) -> Result<Option<PruneReport>, OpsError> {
    let how = PruneOptions { max_unused: Limit::Unlimited, dry_run: false, ..options.prune };
    let pruned = prune(repository, &how, progress);
    session.map_or(Ok(()), Session::abort)?;
    let pruned = match pruned {
        Ok(report) if report.open_epoch.is_some() => return Ok(Some(report)),
        // As long as something is lost nobody can tell what is needed; what remains is told.
        Err(OpsError::Incomplete { .. }) => return Ok(None),
        result => result?,
    };
    let silent = super::mark::Stock::take(repository)?.silent;
    match silent.is_empty() {
        true => Ok(Some(pruned)),
        false => Ok(Some(prune(repository, &how, progress)?)),
    }
}
