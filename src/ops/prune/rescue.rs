//! The second marking (P7): what was committed since the plan keeps all that it needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::OpsError;
use super::super::mark::{Loss, Marks, Place, Stock, Visitor, mark};
use super::PruneReport;
use super::plan::{Losses, is_outage_of, name, roots};
use crate::format::epoch::{EpochStep, Plan, Sweep};
use crate::format::tree::Refs;
use crate::id::{PackId, SnapshotId};
use crate::progress::Progress;
use crate::repo::{RepoError, Repository};

/// P7: rescues what snapshots need that the plan has not marked, and records it. If another
/// prune's record is there, that one is obeyed: the caller reads what is stored.
pub(super) fn decide(
    repository: &Arc<Repository>,
    number: u64,
    plan: &Plan,
    progress: &dyn Progress,
    report: &mut PruneReport,
) -> Result<(), OpsError> {
    let rescued = match rescued(repository, plan, progress) {
        Ok(rescued) => rescued,
        // What seems lost may be swept already, if another prune was faster: its record is there.
        Err(OpsError::Incomplete { .. }) if !is_undecided(repository, number)? => return Ok(()),
        // Nobody can tell what is needed. The epoch ends without removing anything, and the next
        // plan is refused until it is mended.
        Err(OpsError::Incomplete { first, .. }) => {
            progress.problem(&first);
            plan.condemned.clone()
        }
        Err(error) => return Err(error),
    };
    let sweep = Sweep { rescued };
    if repository.put_epoch(number, EpochStep::Sweep, &sweep.encode())? {
        report.rescued += sweep.rescued.len() as u64;
    }
    Ok(())
}

/// Whether the epoch is the highest, and nobody has recorded yet what is dead.
fn is_undecided(repository: &Repository, number: u64) -> Result<bool, OpsError> {
    let highest = repository.list_epochs()?.pop_last();
    Ok(highest.is_some_and(|(found, steps)| found == number && steps == [EpochStep::Plan]))
}

fn rescued(
    repository: &Arc<Repository>,
    plan: &Plan,
    progress: &dyn Progress,
) -> Result<Vec<PackId>, OpsError> {
    if plan.condemned.is_empty() {
        return Ok(Vec::new());
    }
    // *Now*, after the last session was decided: snapshots, then the index, then the packs.
    let marked: BTreeSet<SnapshotId> = plan.marked.iter().copied().collect();
    let mut counted = repository.counted()?;
    counted.retain(|id| !marked.contains(id));
    let roots = roots(repository, counted)?;
    let mut unexplained = unexplained_roots(repository)?;
    unexplained.retain(|(id, _)| !marked.contains(id));
    if roots.is_empty() && unexplained.is_empty() {
        return Ok(Vec::new());
    }
    let stock = Stock::take(repository)?;
    let mut marks = Marks::new(stock.chunk_count());
    let mut losses = Losses::default();
    mark(repository, &stock, &roots, &mut marks, &mut losses, progress)?;
    losses.refuse()?;
    mark(repository, &stock, &unexplained, &mut marks, &mut Passed, progress)?;
    let condemned = plan.dead(&Sweep::default());
    let is_condemned = |id: &PackId| condemned.binary_search(id).is_ok();
    let mut staying =
        Staying { stays: stock.packs.iter().map(|p| p.listed && !is_condemned(&p.id)).collect() };
    stock.chunks(&mut |chunk, copies| {
        if marks.get(chunk.number) {
            staying.rescue_one_of(&stock, copies);
        }
    })?;
    let rescued = stock.packs.iter().zip(&staying.stays);
    let rescued: Vec<_> =
        rescued.filter(|(p, stays)| **stays && is_condemned(&p.id)).map(|(p, _)| p).collect();
    // What stays is to be found by everyone.
    name(repository, rescued.iter().filter(|pack| pack.unnamed).map(|pack| pack.id))?;
    let mut rescued: Vec<PackId> = rescued.iter().map(|pack| pack.id).collect();
    rescued.sort_unstable();
    Ok(rescued)
}

/// The trees of snapshots that may have lost their session record: a repair commits them again, so
/// what they need stays as far as it is there.
pub(super) fn unexplained_roots(
    repository: &Repository,
) -> Result<Vec<(SnapshotId, Refs)>, OpsError> {
    let mut roots = Vec::new();
    for id in repository.unexplained()? {
        match repository.read_snapshot(&id) {
            Ok(Some((snapshot, _))) => roots.push((id, snapshot.root)),
            Ok(None) => {}
            Err(RepoError::Object { source, .. }) if !source.is_unknown() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(roots)
}

/// Passes over what is lost, but for what the storage does not say.
pub(super) struct Passed;

impl Visitor for Passed {
    fn loss(&mut self, loss: Loss<'_>) -> Result<(), OpsError> {
        match is_outage_of(&loss) {
            true => loss.error.map_or(Ok(()), |error| Err(error.into())),
            false => Ok(()),
        }
    }
}

/// Which packs stay, by place in the stock.
struct Staying {
    stays: Vec<bool>,
}

impl Staying {
    fn stays(&self, place: Place) -> bool {
        self.stays.get(place.0 as usize).copied().unwrap_or(false)
    }

    fn base_stays(&self, stock: &Stock, place: Place) -> bool {
        stock.bases_of(place).is_none_or(|mut bases| bases.any(|base| self.stays(base)))
    }

    /// Rescues packs until one of the copies stays, with its base.
    fn rescue_one_of(&mut self, stock: &Stock, copies: &[Place]) {
        let whole = |place: &&Place| self.stays(**place) && self.base_stays(stock, **place);
        if copies.iter().any(|place| whole(&place)) {
            return;
        }
        // As few packs as possible: a copy that stays and lacks its base, or has no base to lack.
        let cost = |place: &&Place| {
            u8::from(!self.stays(**place)) + u8::from(!self.base_stays(stock, **place))
        };
        let Some(chosen) = copies.iter().min_by_key(cost).copied() else { return };
        self.rescue(chosen);
        if !self.base_stays(stock, chosen) {
            let mut bases = stock.bases_of(chosen).into_iter().flatten();
            let there = bases.find(|base| stock.is_usable(*base));
            there.into_iter().for_each(|base| self.rescue(base));
        }
    }

    fn rescue(&mut self, place: Place) {
        if let Some(stays) = self.stays.get_mut(place.0 as usize) {
            *stays = true;
        }
    }
}
