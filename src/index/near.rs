//! Chunks near those that were looked up lately. What was stored together is asked for together,
//! in the same order, so one look-up in the file serves some hundred.

use super::delta::IdMap;

use crate::id::ChunkId;

/// A copy of a chunk in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub pack: u32,
    pub frame: u16,
    pub offset: u32,
    pub len: u32,
    /// Its number among all chunks of the run, as they are stored.
    pub position: u32,
}

/// So many are remembered twice over, some two megabytes together.
const REMEMBERED: usize = 14_336;

/// Two halves: when the younger one is full it becomes the older one, which goes.
#[derive(Default)]
pub(super) struct Near {
    young: IdMap<Spot>,
    old: IdMap<Spot>,
}

impl Near {
    pub fn get(&self, id: &ChunkId) -> Option<Spot> {
        self.young.get(id).or_else(|| self.old.get(id)).copied()
    }

    pub fn put(&mut self, id: ChunkId, spot: Spot) {
        if self.young.len() >= REMEMBERED {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(id, spot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_and_not_many_more() {
        let id = |n: usize| ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
        let spot = |n: usize| Spot { pack: 1, frame: 2, offset: 3, len: 4, position: n as u32 };
        let mut near = Near::default();
        (0..5 * REMEMBERED).for_each(|n| near.put(id(n), spot(n)));
        let known: Vec<usize> =
            (0..5 * REMEMBERED).filter(|n| near.get(&id(*n)).is_some()).collect();
        assert!(known.len() <= 2 * REMEMBERED && known.len() >= REMEMBERED);
        assert_eq!(known.last(), Some(&(5 * REMEMBERED - 1)));
        assert!(known.iter().all(|n| near.get(&id(*n)).unwrap().position == *n as u32));
    }
}
