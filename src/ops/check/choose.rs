//! Which packs are read: those that were not read for the longest time come first, so that run
//! after run everything is read.

use std::cmp::Reverse;

use super::ReadData;
use crate::id::PackId;

/// A pack that could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its place in the stock.
    pub place: u32,
    pub id: PackId,
    pub len: u64,
    /// When it was last read and found good, seconds since 1970.
    pub verified: Option<i64>,
}

/// The packs to be read, in order. Those read at `recent` or later are passed over. `salt` orders
/// those that were never read, so that who remembers nothing reads others each time.
pub(super) fn choose(
    mut packs: Vec<Candidate>,
    read_data: ReadData,
    recent: Option<i64>,
    salt: &[u8; 32],
) -> Vec<Candidate> {
    let total: u64 = packs.iter().map(|pack| pack.len).sum();
    let in_part = |pack: &Candidate| match read_data {
        ReadData::Part { part, of } => part_of(&pack.id, of) == part.saturating_sub(1),
        _ => false,
    };
    let budget = match read_data {
        ReadData::None => 0,
        ReadData::All => u64::MAX,
        ReadData::Bytes(bytes) => bytes,
        ReadData::Share(share) => (total as f64 * share.clamp(0.0, 1.0)).ceil() as u64,
        ReadData::Part { of, .. } => {
            let of_part = packs.iter().filter(|pack| in_part(pack)).map(|pack| pack.len).sum();
            total.div_ceil(of.max(1).into()).max(of_part)
        }
    };
    packs.retain(|pack| recent.is_none_or(|recent| pack.verified.is_none_or(|at| at < recent)));
    packs.sort_by_cached_key(|pack| {
        let mixed = *blake3::keyed_hash(salt, pack.id.as_bytes()).as_bytes();
        (pack.verified, Reverse(in_part(pack)), mixed)
    });
    let mut sum = 0u64;
    packs.retain(|pack| {
        let wanted = sum < budget;
        sum = sum.saturating_add(pack.len);
        wanted
    });
    packs
}

/// The part that a pack is in, counted from 0. Ids are random: their first bytes spread packs over
/// the parts, the same way each time.
fn part_of(id: &PackId, of: u32) -> u32 {
    let first = id.0.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    first % of.max(1)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn packs(lens: &[u64]) -> Vec<Candidate> {
        let pack = |(n, len): (usize, &u64)| {
            let id = PackId(*blake3::hash(&n.to_le_bytes()).as_bytes());
            Candidate { place: 0, id, len: *len, verified: None }
        };
        lens.iter().enumerate().map(pack).collect()
    }

    fn chosen(packs: &[Candidate], read_data: ReadData, recent: Option<i64>) -> Vec<PackId> {
        let salt = [packs.len() as u8; 32];
        choose(packs.to_vec(), read_data, recent, &salt).iter().map(|pack| pack.id).collect()
    }

    fn kinds() -> impl Strategy<Value = (ReadData, usize)> {
        prop_oneof![
            (1..40u32).prop_map(|of| (ReadData::Share(1.0 / f64::from(of)), of as usize)),
            (1..40u32).prop_map(|of| (ReadData::Part { part: 1, of }, of as usize)),
        ]
    }

    proptest! {
        /// So many runs as a share says that there are read every pack.
        #[test]
        fn shares_rotate(lens in vec(1..9u64, 1..60), (read_data, runs) in kinds()) {
            let mut packs = packs(&lens);
            for run in 0..runs {
                for id in chosen(&packs, read_data, None) {
                    let pack = packs.iter_mut().find(|pack| pack.id == id).unwrap();
                    pack.verified = Some(run as i64);
                }
            }
            prop_assert!(packs.iter().all(|pack| pack.verified.is_some()));
        }

        /// Who remembers nothing reads everything in the parts one after the other.
        #[test]
        fn parts_are_everything(lens in vec(1..9u64, 1..60), of in 1..40u32) {
            let packs = packs(&lens);
            let part = |part| chosen(&packs, ReadData::Part { part, of }, None);
            let parts = (1..=of).flat_map(part);
            let read: std::collections::HashSet<PackId> = parts.collect();
            prop_assert_eq!(read.len(), packs.len());
        }

        /// Neither less than asked for, nor more than one pack more.
        #[test]
        fn sizes_are_kept(lens in vec(1..9u64, 1..60), bytes in 1..300u64) {
            let packs = packs(&lens);
            let chosen = chosen(&packs, ReadData::Bytes(bytes), None);
            let read: u64 =
                packs.iter().filter(|pack| chosen.contains(&pack.id)).map(|pack| pack.len).sum();
            prop_assert!(read >= bytes.min(lens.iter().sum()) && read < bytes + 9);
        }
    }

    #[test]
    fn the_one_that_waits_longest_comes_first() {
        let mut packs = packs(&[1; 4]);
        for (pack, verified) in packs.iter_mut().zip([Some(30), None, Some(10), Some(20)]) {
            pack.verified = verified;
        }
        let ids: Vec<PackId> = packs.iter().map(|pack| pack.id).collect();
        let all = |recent| chosen(&packs, ReadData::All, recent);
        assert_eq!(all(None), [ids[1], ids[2], ids[3], ids[0]]);
        assert_eq!(all(Some(20)), [ids[1], ids[2]], "what was read since then is passed over");
        assert_eq!(chosen(&packs, ReadData::None, None), []);
    }
}
