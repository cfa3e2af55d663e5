//! Parity for packs that were stored without it.

use super::super::OpsError;
use super::super::check;
use super::super::mark::Stock;
use super::{How, Work, pack_key};
use crate::format::parity::parity_key;
use crate::limits;
use crate::pack::make_parity;
use crate::progress::Counter;
use crate::repo::RepoError;
use crate::storage::ErrorKind;

/// Makes parity for every sound pack that lacks it, and for all later ones: the wish comes first,
/// so that no pack falls between the two.
pub(super) fn add(work: &mut Work<'_>, percent: u8) -> Result<(), OpsError> {
    let repository = work.repository;
    repository.set_parity(percent)?;
    let stock = Stock::take(repository)?;
    let with_parity = repository.list_parity()?;
    let lacking: Vec<u32> = (0..)
        .zip(&stock.packs)
        .filter(|(_, pack)| pack.whole && !pack.damaged && !with_parity.contains(&pack.id))
        .map(|(place, _)| place)
        .collect();
    work.progress.phase("making parity", Counter::Objects, Some(lacking.len() as u64));
    for place in lacking.into_iter().filter(|_| percent > 0) {
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
