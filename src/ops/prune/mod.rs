//! Prune: what no snapshot needs is removed. Format: `format-spec/11-sessions.md#prune`.
//!
//! A prune works in epochs: plan (P1 to P5), fence (P6), mark again (P7), sweep (P8 to P11). Each
//! step leaves in the storage all that the next one needs, so whoever comes next goes on where
//! another one stopped, and several may work on the same epoch at once. After every step the
//! highest epoch is read again: what is stored is obeyed, not what is remembered.

mod closing;
mod fence;
mod plan;
mod repack;
mod rescue;
mod sweep;
mod usage;

use std::fmt;
use std::sync::Arc;

use super::OpsError;
use super::room::with_reserve;
use crate::format::epoch::Plan;
use crate::format::session::Session;
use crate::id::SnapshotId;
use crate::progress::{Problem, Progress};
use crate::repo::{EpochState, RESERVE_LEN, RepoError, Repository};
use plan::Trust;

/// How much may be left that nobody needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// So many percent of what is stored afterwards.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
    /// Any amount: nothing is moved for its sake.
    Unlimited,
}

impl Limit {
    /// The limit in bytes beside so many bytes that are needed.
    fn bytes(&self, used: u64) -> u64 {
        match *self {
            Self::Percent(percent) if percent >= 100.0 => u64::MAX,
            // Of used + unused, `percent` may be unused. Casts of floats saturate.
            Self::Percent(percent) if percent > 0.0 => {
                (used as f64 * percent / (100.0 - percent)) as u64
            }
            Self::Percent(_) => 0,
            Self::Bytes(bytes) => bytes,
            Self::Unlimited => u64::MAX,
        }
    }
}

/// A session whose end is not known: it has a record and no snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided {
    /// The session.
    pub id: SnapshotId,
    /// What its record says; `None` when it cannot be read.
    pub record: Option<Session>,
    /// Bytes of the packs that it has written.
    pub bytes_written: u64,
}

/// How to prune.
#[derive(Clone, Copy)]
pub struct PruneOptions<'a> {
    /// Only say what would be done.
    pub dry_run: bool,
    /// How much may be left that nobody needs.
    pub max_unused: Limit,
    /// Copy at most so many bytes.
    pub max_repack: Option<u64>,
    /// Write anew whatever is sealed with keys that a rotation has replaced, in as many epochs as
    /// that takes.
    pub reseal: bool,
    /// Sessions that began so many seconds ago or earlier are not waited for.
    pub fence_older_than: Option<u64>,
    /// Whether the process of a session is known to have ended; nothing here can know.
    pub is_dead: &'a dyn Fn(&SnapshotId, &Session) -> bool,
    /// Asked while sessions are undecided: `true`, after as long as it likes, to look again;
    /// `false` to leave the rest to the next prune.
    pub wait: &'a dyn Fn(&[Undecided]) -> bool,
}

impl Default for PruneOptions<'_> {
    fn default() -> Self {
        Self {
            dry_run: false,
            max_unused: Limit::Percent(5.0),
            max_repack: None,
            reseal: false,
            fence_older_than: None,
            is_dead: &|_, _| false,
            wait: &|_| false,
        }
    }
}

impl fmt::Debug for PruneOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PruneOptions")
            .field("dry_run", &self.dry_run)
            .field("max_unused", &self.max_unused)
            .field("max_repack", &self.max_repack)
            .field("reseal", &self.reseal)
            .field("fence_older_than", &self.fence_older_than)
            .finish_non_exhaustive()
    }
}

/// Packs and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// How many packs.
    pub packs: u64,
    /// Their length together, bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.packs += 1;
        self.bytes += bytes;
    }
}

/// What a plan comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// All packs.
    pub total: Amount,
    /// Packs that stay as they are.
    pub kept: Amount,
    /// Packs of which nothing is needed: they go.
    pub unused: Amount,
    /// Packs of which a part is needed, or which are small: that part is copied, they go.
    pub repacked: Amount,
    /// Estimated length of the copies, bytes.
    pub bytes_to_copy: u64,
    /// What will be free in the end, estimated, bytes.
    pub bytes_to_free: u64,
    /// What is left that nobody needs, estimated, bytes.
    pub bytes_unused_left: u64,
    /// Among `kept`: packs of sessions whose snapshots were not looked at.
    pub spared: Amount,
    /// Among `kept`: packs that are sealed with keys that a rotation has replaced, left to the next
    /// epoch. Looked for only when they are to be written anew.
    pub outdated: Amount,
    /// Snapshots whose needs were looked at.
    pub snapshots: u64,
}

/// What a prune did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PruneReport {
    /// Nothing was changed.
    pub dry_run: bool,
    /// What this prune has planned; `None` when it only went on with what another one began.
    pub figures: Option<Figures>,
    /// Packs that were removed.
    pub removed: Amount,
    /// Packs that were written instead of some of them, bytes.
    pub bytes_repacked: u64,
    /// Packs that a plan had condemned and that stay after all.
    pub rescued: u64,
    /// Sessions that were not waited for.
    pub fenced: Vec<SnapshotId>,
    /// The epoch that is not at its end; the next prune goes on with it.
    pub open_epoch: Option<u64>,
    /// Sessions that must be decided before it can go on.
    pub undecided: Vec<Undecided>,
    /// What they hold back, bytes.
    pub bytes_held_back: u64,
}

/// Removes what no snapshot needs, as far as it can be decided now.
///
/// # Errors
/// `Incomplete` when something that snapshots need is missing or damaged: then nobody can tell
/// what is not needed, and nothing is planned.
pub fn prune(
    repository: &Arc<Repository>,
    options: &PruneOptions<'_>,
    progress: &dyn Progress,
) -> Result<PruneReport, OpsError> {
    let mut report = PruneReport { dry_run: options.dry_run, ..PruneReport::default() };
    if options.dry_run {
        let epoch = repository.highest_epoch()?;
        report.open_epoch = epoch.filter(|e| e.state != EpochState::Done).map(|e| e.number);
        let draft = plan::draft(repository, options, Trust::Listed, progress)?;
        report.figures = Some(draft.figures);
        report.undecided = fence::undecided(repository)?;
        return Ok(report);
    }
    for id in repository.unexplained()? {
        progress.note(&format!(
            "snapshot {} does not count: its session record is missing, and nobody is known to have \
             forgotten it; `holdall repair` commits it again",
            id.short()
        ));
    }
    with_reserve(repository, |was_given_up| {
        // That room is for what removes; what is copied into it must leave most of it.
        let copy_max = if was_given_up { RESERVE_LEN / 4 } else { u64::MAX };
        let max_repack = options.max_repack.unwrap_or(u64::MAX).min(copy_max);
        let options = PruneOptions { max_repack: Some(max_repack), ..*options };
        work(repository, &options, progress, &mut report)
    })?;
    Ok(report)
}

/// Goes from step to step until nothing is left to do, or others hold back the rest.
fn work(
    repository: &Arc<Repository>,
    options: &PruneOptions<'_>,
    progress: &dyn Progress,
    report: &mut PruneReport,
) -> Result<(), OpsError> {
    // The last epoch when this prune looked what could be removed.
    let mut looked_after: Option<u64> = None;
    let mut resealed = 0;
    let mut records = Vec::new();
    loop {
        if progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        // P1, and P5 after every record: whatever number was ours, the highest one is obeyed.
        let (number, state) = match repository.highest_epoch()? {
            None => (0, EpochState::Done),
            Some(epoch) => (epoch.number, epoch.state),
        };
        match state {
            EpochState::Planned(condemned) => {
                let going_on =
                    fence::fence(repository, number, &condemned, options, progress, report)?;
                if !going_on {
                    return Ok(());
                }
                rescue::decide(repository, number, &condemned, progress, report)?;
            }
            EpochState::Unreadable { key, source: Some(source), .. } if source.is_unknown() => {
                return Err(RepoError::Object { key, source }.into());
            }
            EpochState::Unreadable { decided, key, source } => {
                let why =
                    source.map_or_else(|| "it is missing".into(), |source| source.to_string());
                progress.problem(&Problem::damage(key, why));
                if !decided {
                    closing::rescue_all(repository, number)?;
                    continue;
                }
                // What older sessions rely on is known when they are decided; younger ones rely
                // on nothing that is there (W2).
                let nothing = Plan { condemned: Vec::new(), marked: Vec::new() };
                if !fence::fence(repository, number, &nothing, options, progress, report)? {
                    return Ok(());
                }
                plan::publish(repository, number, options, Trust::Needed, progress, report)?;
            }
            EpochState::Sweeping(plan, sweep) => {
                if !sweep::sweep(repository, number, &plan, &sweep, progress, report)? {
                    report.open_epoch = Some(number);
                    return Ok(());
                }
            }
            EpochState::Done => {
                let is_more = report.figures.is_some_and(|figures| figures.outdated.packs > 0);
                let is_useful = report.bytes_repacked > resealed;
                if looked_after.is_some_and(|before| number > before) && !(is_more && is_useful) {
                    sweep::tidy_damage(repository, &records)?;
                    return Ok(());
                }
                resealed = report.bytes_repacked;
                looked_after = Some(number);
                records = repository.damage(progress)?;
                let trust = Trust::Listed;
                match plan::publish(repository, number, options, trust, progress, report) {
                    Ok(true) if highest_number(repository)? > number => {}
                    // Damage was found, and everyone was told: the plan is made again with that.
                    Ok(true) => looked_after = None,
                    // Nothing to remove; what lies about is tidied all the same.
                    Ok(false) => {
                        sweep::tidy(repository, number, &records)?;
                        return Ok(());
                    }
                    // What seems lost may only have been moved by a prune that was faster.
                    Err(OpsError::Incomplete { .. }) if highest_number(repository)? > number => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

fn highest_number(repository: &Repository) -> Result<u64, OpsError> {
    Ok(repository.list_epochs()?.pop_last().map_or(0, |(number, _)| number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_bytes() {
        assert_eq!(Limit::Percent(5.0).bytes(950), 50);
        assert_eq!(Limit::Percent(0.0).bytes(950), 0);
        assert_eq!(Limit::Percent(-1.0).bytes(950), 0);
        assert_eq!(Limit::Percent(f64::NAN).bytes(950), 0);
        assert_eq!(Limit::Percent(100.0).bytes(950), u64::MAX);
        assert_eq!(Limit::Percent(50.0).bytes(u64::MAX), u64::MAX);
        assert_eq!(Limit::Bytes(7).bytes(950), 7);
    }
}
