//! Parity for packs that were stored without it.

use super::super::OpsError;
use super::super::check;
use super::super::mark::Stock;
use super::{How, RepairPlan, Work, pack_key};
use crate::format::parity::parity_key;
use crate::id::PackId;
use crate::limits;
use crate::pack::make_parity;
use crate::progress::Counter;
use crate::repo::RepoError;
use crate::storage::ErrorKind;

/// So much parity is made instead of what was damaged, where none is wished for.
const PERCENT_USUAL: u8 = 3;

/// Makes parity for every sound pack that lacks it where it is wished for, or whose parity is
/// damaged. That is derived from the pack, so it may go before it is made anew under its name.
pub(super) fn make(work: &mut Work<'_>, plan: &RepairPlan) -> Result<(), OpsError> {
    let repository = work.repository;
    let wish = repository.parity()?;
    if plan.damaged_parity.is_empty() && (wish == 0 || plan.without_parity == 0) {
        return Ok(());
    }
    for id in &plan.damaged_parity {
        repository.storage().delete(&parity_key(id))?;
    }
    let percent = if wish > 0 { wish } else { PERCENT_USUAL };
    let wanted = |id: &PackId| wish > 0 || plan.damaged_parity.contains(id);
    let stock = Stock::take(repository)?;
    let with_parity = repository.list_parity()?;
    let lacking: Vec<u32> = (0..)
        .zip(&stock.packs)
        .filter(|(_, pack)| pack.whole && !pack.damaged && !with_parity.contains(&pack.id))
        .filter(|(_, pack)| wanted(&pack.id))
        .map(|(place, _)| place)
        .collect();
    work.progress.phase("making parity", Counter::Objects, Some(lacking.len() as u64));
    for place in lacking {
        if work.progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        work.progress.add(Counter::Objects, 1);
        // Parity of something damaged would keep it damaged.
        if !check::is_sound(repository, &stock, place)? {
            continue;
        }
        let id = stock.row(place)?.id;
        let (storage, sealer) = (repository.storage(), repository.sealer());
        let pack = match storage.get(&pack_key(&id), limits::PACK_LEN_MAX) {
            Ok(pack) => pack,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        let parity = make_parity(repository.world(), sealer, &id, &[&pack], percent);
        match storage.put(&parity_key(&id), &[&parity.map_err(RepoError::from)?]) {
            Ok(()) => work.mended(pack_key(&id), How::ParityMade),
            Err(error) if error.kind == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
