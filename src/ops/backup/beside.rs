//! The parent's version of a large file, walked beside the new one: which frame a new chunk is
//! likely to resemble.
//!
//! Cuts depend on a small window of bytes only, so most of them stand at corresponding places in
//! both versions, however scattered the changes are. What differs is the shift between them.

use std::collections::VecDeque;

use crate::format::tree::{Entry, EntryKind, Ref};
use crate::id::{ChunkId, FrameId};
use crate::repo::Presence;
use crate::tree::TreeReader;

/// So many of the parent's chunks are looked at before the expected place, and so many behind it.
const REACH: usize = 512;
/// A cut of the parent that is nearer to the expected place than one part in so many of a chunk
/// is taken for the same cut.
const NEAR_SHARE: u64 = 8;

/// The walk along the parent's file.
pub(super) struct Beside {
    presence: Presence,
    pairing: Pairing,
}

impl Beside {
    /// Along what the parent has there, if that is a file.
    pub fn new(
        trees: &TreeReader,
        presence: &Presence,
        before: &Entry,
        chunk_len: usize,
    ) -> Option<Self> {
        let EntryKind::File { content, .. } = &before.kind else { return None };
        let mut leaves = trees.leaves(content);
        let places = std::iter::from_fn(move || {
            loop {
                match leaves.next()? {
                    Ok(Ref::Chunk { id, len }) => {
                        return Some(Place { id, start: leaves.position().saturating_sub(len) });
                    }
                    // What cannot be read of the parent is passed over.
                    Ok(Ref::Hole { .. }) | Err(_) => {}
                }
            }
        });
        let pairing = Pairing::new(Box::new(places), chunk_len as u64 / NEAR_SHARE);
        Some(Self { presence: presence.clone(), pairing })
    }

    /// The base for the new chunk at `start`. Chunks come in the order of the file.
    pub fn base(&mut self, id: &ChunkId, start: u64, len: usize) -> Option<FrameId> {
        self.presence.base(&self.pairing.like(id, start, len as u64)?)
    }
}

/// Where a chunk of the parent's file begins there.
struct Place {
    id: ChunkId,
    start: u64,
}

/// Finds, for each chunk of a file, the one that stands in its place in another version.
struct Pairing {
    places: Box<dyn Iterator<Item = Place> + Send>,
    /// In the order of the file.
    window: VecDeque<Place>,
    /// Where the last pair stood: in the parent's file, less in the new one.
    shift: i64,
    /// How near a cut is to be, bytes.
    near: u64,
}

impl Pairing {
    fn new(places: Box<dyn Iterator<Item = Place> + Send>, near: u64) -> Self {
        Self { places, window: VecDeque::new(), shift: 0, near }
    }

    /// The chunk that this one is likely like, unless it is there itself.
    fn like(&mut self, id: &ChunkId, start: u64, len: u64) -> Option<ChunkId> {
        let expected = start.saturating_add_signed(self.shift);
        self.advance(expected);
        let distance = |place: &&Place| place.start.abs_diff(expected);
        let same = || self.window.iter().filter(|place| place.id == *id);
        if let Some(place) = same().min_by_key(distance) {
            // It did not change, and if it is stored all the same, what is there is no good. One
            // of many that are the same, as in a long run of zeros, may stand for any of them.
            if distance(&place) <= self.near || same().nth(1).is_none() {
                self.shift = shift(place, start);
            }
            return None;
        }
        let nearest = self.window.iter().min_by_key(distance)?;
        if distance(&nearest) <= self.near {
            self.shift = shift(nearest, start);
            return Some(nearest.id);
        }
        // Where most of it would be.
        let middle = expected.saturating_add(len / 2);
        let behind = self.window.partition_point(|place| place.start <= middle);
        self.window.get(behind.checked_sub(1)?).map(|place| place.id)
    }

    /// Keeps the part of the parent's file around the expected place in the window.
    fn advance(&mut self, expected: u64) {
        let mut before = self.window.partition_point(|place| place.start <= expected);
        while self.window.len() - before < REACH {
            let Some(place) = self.places.next() else { break };
            before += usize::from(place.start <= expected);
            self.window.push_back(place);
            if before > REACH {
                self.window.pop_front();
                before -= 1;
            }
        }
    }
}

fn shift(place: &Place, start: u64) -> i64 {
    place.start.checked_signed_diff(start).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: u64 = 64 << 10;

    /// A hole of the old version, and what a program that copies the file makes of it.
    const HOLE: u32 = u32::MAX;
    const ZEROS: u32 = HOLE - 1;

    /// A chunk of a version: which one of the table it is, changed or not, and its length.
    type Chunk = (u32, bool, u64);

    fn id(number: u32, changed: bool) -> ChunkId {
        let mut id = ChunkId::default();
        id.0[..4].copy_from_slice(&number.to_le_bytes());
        id.0[4] = u8::from(changed);
        id
    }

    fn table(count: u32) -> Vec<Chunk> {
        (0..count).map(|n| (n, false, LEN / 2 + u64::from(n) * 7_919 % LEN)).collect()
    }

    /// How many of the chunks that changed are paired with what they were, and with others.
    fn paired(old: &[Chunk], new: &[Chunk]) -> (usize, usize) {
        let mut end = 0;
        let places: Vec<Place> = old
            .iter()
            .filter_map(|(number, changed, len)| {
                end += len;
                let place = Place { id: id(*number, *changed), start: end - len };
                (*number != HOLE).then_some(place)
            })
            .collect();
        let mut pairing = Pairing::new(Box::new(places.into_iter()), LEN / NEAR_SHARE);
        let (mut right, mut wrong, mut start) = (0, 0, 0);
        for (number, changed, len) in new {
            let like = pairing.like(&id(*number, *changed), start, *len);
            assert!(pairing.window.len() <= 2 * REACH);
            match *changed {
                true if like == Some(id(*number, false)) => right += 1,
                true => wrong += 1,
                false => {}
            }
            start += len;
        }
        (right, wrong)
    }

    fn every_chunk_changed(table: &[Chunk]) -> Vec<Chunk> {
        // Rows that were updated are a little longer.
        table.iter().map(|(number, _, len)| (*number, true, len + 20)).collect()
    }

    #[test]
    fn each_chunk_has_its_pair_though_all_of_them_changed() {
        let old = table(5_000);
        assert_eq!(paired(&old, &every_chunk_changed(&old)), (5_000, 0));
        assert_eq!(paired(&[], &every_chunk_changed(&table(3))), (0, 3));
    }

    #[test]
    fn what_was_inserted_or_removed_throws_the_pairs_off_until_a_chunk_is_the_same() {
        let old = table(4_000);
        for (from, inserted) in [(1_000, 50), (0, 300), (3_990, 50)] {
            let mut new = every_chunk_changed(&old);
            new.iter_mut().step_by(10).for_each(|chunk| *chunk = old[chunk.0 as usize]);
            let rows = (0..inserted).map(|n| (10_000 + n, false, LEN));
            new.splice(from..from, rows);
            let (right, wrong) = paired(&old, &new);
            assert!(right >= 3_500 && wrong < 20, "{right} {wrong}");
            let mut new = every_chunk_changed(&old);
            new.iter_mut().step_by(10).for_each(|chunk| *chunk = old[chunk.0 as usize]);
            new.drain(from..(from + inserted as usize).min(new.len()));
            let (right, wrong) = paired(&old, &new);
            assert!(right >= 3_200 && wrong < 20, "{right} {wrong}");
        }
    }

    #[test]
    fn zeros_tell_nothing_of_the_place() {
        // An image: zeros here and there, some of them holes until it was copied.
        let image = |holes: u32| {
            let mut image = table(3_000);
            for (from, number) in [(2_000, holes), (1_500, ZEROS), (1_000, holes), (900, ZEROS)] {
                image.splice(from..from, std::iter::repeat_n((number, false, 4 * LEN), 20));
            }
            image
        };
        let mut new = image(ZEROS);
        new.iter_mut().filter(|chunk| chunk.0 < ZEROS).for_each(|chunk| chunk.1 = true);
        assert_eq!(paired(&image(HOLE), &new), (3_000, 0));
    }
}
