//! What snapshots need: a walk over their trees that meets every chunk once.
//!
//! Used by `prune`, which keeps what is met, and by `check`, which looks at it.

mod stock;
mod walk;

pub use stock::{Place, Stock, StockedPack};
pub use walk::mark;

use super::OpsError;
use crate::format::frame::ChunkKind;
use crate::id::{ChunkId, SnapshotId};
use crate::tree::TreeError;

/// A bit for each chunk of a `Stock`: a hundred million of them take 12.5 MB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    words: Vec<u64>,
}

impl Marks {
    /// For chunks with numbers below `count`, none of them marked.
    pub fn new(count: u64) -> Self {
        // A machine whose memory cannot hold the bits fails here whatever the type of a length.
        let words = usize::try_from(count.div_ceil(64)).unwrap_or(usize::MAX);
        Self { words: vec![0; words] }
    }

    fn place(number: u64) -> (usize, u64) {
        (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64))
    }

    /// Whether this chunk is marked.
    pub fn get(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Marks a chunk; says whether it was not marked yet.
    pub fn set(&mut self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        let Some(word) = self.words.get_mut(word) else { return false };
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    /// Takes a mark away.
    pub fn unset(&mut self, number: u64) {
        let (word, bit) = Self::place(number);
        self.words.get_mut(word).into_iter().for_each(|word| *word &= !bit);
    }

    /// How many are marked.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// A chunk that a snapshot needs.
#[derive(Debug, Clone, Copy)]
pub struct Need<'a> {
    /// What it is.
    pub kind: ChunkKind,
    /// The chunk.
    pub id: ChunkId,
    /// A snapshot that needs it: the first one.
    pub snapshot: SnapshotId,
    /// The file or directory, raw: the first one.
    pub path: &'a [u8],
}

/// Something that a snapshot needs and that is not there, or not readable.
#[derive(Debug)]
pub struct Loss<'a> {
    /// What it is.
    pub kind: ChunkKind,
    /// The chunk.
    pub id: ChunkId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The file or directory, raw.
    pub path: &'a [u8],
    /// Why it cannot be used; `None`: no pack that is there has it, or its base.
    pub error: Option<TreeError>,
}

/// Who is told what a walk meets, and may end it.
pub trait Visitor {
    /// A chunk is needed: told once for each.
    fn need(&mut self, _: &Need<'_>) -> Result<(), OpsError> {
        Ok(())
    }
    /// Something is lost. Told for each snapshot and path, until there were very many.
    fn loss(&mut self, loss: Loss<'_>) -> Result<(), OpsError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_count_each_chunk_once() {
        let mut marks = Marks::new(130);
        assert!(marks.set(0) && marks.set(129) && marks.set(64) && !marks.set(64));
        assert!(marks.get(129) && !marks.get(128) && !marks.get(1_000_000));
        assert!(!marks.set(1_000_000), "beyond the end there is nothing to mark");
        assert_eq!(marks.count(), 3);
        marks.unset(64);
        marks.unset(1_000_000);
        assert!(!marks.get(64) && marks.count() == 2);
    }
}
