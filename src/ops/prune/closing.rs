//! An epoch of which a record does not open: nobody can tell what it condemns.
//! Format: `format-spec/11-sessions.md#epochs-that-cannot-be-read`.

use super::super::OpsError;
use super::super::mark::{Marks, Place, Stock};
use super::plan::{Draft, Fate};
use super::repack::Repacked;
use crate::format::epoch::{EpochStep, Sweep};
use crate::id::PackId;
use crate::limits;
use crate::repo::Repository;

/// Ends an epoch without sweep record: every pack that is there is rescued, so it deletes none,
/// whoever still knows its plan.
pub(super) fn rescue_all(repository: &Repository, number: u64) -> Result<(), OpsError> {
    let listed = repository.list_packs()?;
    let mut rescued: Vec<PackId> = listed.into_iter().map(|(id, _)| id).collect();
    if rescued.len() > limits::EPOCH_PACKS_MAX {
        return Err(not_all());
    }
    rescued.sort_unstable();
    if repository.put_epoch(number, EpochStep::Sweep, &Sweep { rescued }.encode())? {
        // P10: what it has condemned was rescued, or is not listed.
        repository.put_epoch(number, EpochStep::Done, &[])?;
    }
    Ok(())
}

/// Distrusts every pack but those with something that is needed and lies nowhere else: these the
/// unknown plan has not condemned, or has rescued. What is needed is moved out of the others, so
/// that they can all be condemned anew.
pub(super) fn suspect(stock: &mut Stock, marks: &Marks, spared: &[bool]) -> Result<(), OpsError> {
    let mut stays = spared.to_vec();
    let mut sure = |(pack, _): Place| {
        stays.get_mut(pack as usize).into_iter().for_each(|stays| *stays = true);
    };
    stock.chunks(&mut |chunk, copies| {
        if let ([only], true) = (copies, marks.get(chunk.number)) {
            sure(*only);
            let bases = stock.bases_of(*only).into_iter().flatten();
            let mut bases = bases.filter(|base| stock.is_usable(*base));
            if let (Some(base), None) = (bases.next(), bases.next()) {
                sure(base);
            }
        }
    })?;
    for (pack, stays) in stock.packs.iter_mut().zip(stays) {
        pack.damaged |= pack.listed && !stays;
    }
    Ok(())
}

/// Whether all that is distrusted goes with this plan. Only then may it be published: it hides
/// the one that nobody can read.
pub(super) fn has_all(draft: &Draft, repacked: &Repacked) -> bool {
    let copied = draft.fates.iter().filter(|fate| **fate == Fate::Repack).count();
    let packs = draft.stock.packs.iter().zip(&draft.fates).zip(&draft.usage.spared);
    let left = packs.filter(|((pack, fate), spared)| {
        pack.damaged && pack.listed && **fate == Fate::Keep && !**spared
    });
    repacked.packs.len() == copied && left.count() == 0
}

/// Why an epoch that cannot be read was not ended.
pub(super) fn not_all() -> OpsError {
    let (what, limit) = ("what an unreadable epoch may have condemned", limits::EPOCH_PACKS_MAX);
    OpsError::Limit { what, limit: limit as u64 }
}
