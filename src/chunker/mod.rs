//! FastCDC with a keyed gear table: where a stream is cut.
//!
//! Format: `format-spec/06-chunking.md`. Source: Xia et al., "The Design of Fast Content-Defined
//! Chunking", IEEE TPDS 2020; the cutting itself is the `fastcdc` crate's.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};

use crate::format::config::ChunkerParams;

/// Cuts streams. Equal bytes after a cut give equal chunks, wherever they stand.
pub struct Chunker {
    gear: Box<[u64; 256]>,
    gear_shifted: Box<[u64; 256]>,
    params: ChunkerParams,
    strict: u64,
    relaxed: u64,
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunker({:?})", self.params)
    }
}

impl Chunker {
    /// From a secret table and accepted parameters.
    pub fn new(gear: Box<[u64; 256]>, params: ChunkerParams) -> Self {
        let gear_shifted = Box::new(gear.map(|number| number << 1));
        let (strict, relaxed) = select_masks(params.avg_size as usize, Normalization::Level1);
        Self { gear, gear_shifted, params, strict, relaxed }
    }

    /// Longest chunk, bytes.
    pub fn max_size(&self) -> usize {
        self.params.max_size as usize
    }

    /// Length of chunks aimed at, bytes.
    pub fn avg_size(&self) -> usize {
        self.params.avg_size as usize
    }

    /// Cuts `data`, of which `ended` says that the stream ends with it; calls `each` with every
    /// chunk and returns how many bytes were cut. What is left is to come again in front of the
    /// bytes that follow; it is shorter than the longest chunk.
    pub fn cut<'d>(&self, data: &'d [u8], ended: bool, mut each: impl FnMut(&'d [u8])) -> usize {
        let mut done = 0;
        while let Some(len) = self.first(&data[done..], ended) {
            each(&data[done..done + len]);
            done += len;
        }
        done
    }

    /// The length of the first chunk, bytes; `None` where that depends on what follows, or
    /// nothing is left. It depends on nothing that stood before.
    pub fn first(&self, data: &[u8], ended: bool) -> Option<usize> {
        if data.is_empty() || (data.len() < self.max_size() && !ended) {
            return None;
        }
        let data = &data[..data.len().min(self.max_size())];
        if data.len() <= self.params.min_size as usize {
            return Some(data.len());
        }
        let (_, len) = cut_gear(
            data,
            self.params.min_size as usize,
            self.params.avg_size as usize,
            self.params.max_size as usize,
            self.strict,
            self.relaxed,
            self.strict << 1,
            self.relaxed << 1,
            self.gear.as_slice(),
            self.gear_shifted.as_slice(),
        );
        // A cut of nothing would never end.
        Some(len.clamp(1, data.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::KeyRing;
    use crate::world::{SeededWorld, Time, World};
    use proptest::prelude::*;

    const PARAMS: ChunkerParams =
        ChunkerParams { min_size: 4 << 10, avg_size: 16 << 10, max_size: 64 << 10 };

    fn chunker(seed: u64) -> Chunker {
        let ring = KeyRing::generate(&SeededWorld::new(seed, Time::default()));
        Chunker::new(ring.gear_table().unwrap(), PARAMS)
    }

    fn bytes(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        SeededWorld::new(seed, Time::default()).random(&mut bytes);
        bytes
    }

    fn lens(chunker: &Chunker, data: &[u8]) -> Vec<usize> {
        let mut lens = Vec::new();
        assert_eq!(chunker.cut(data, true, |chunk| lens.push(chunk.len())), data.len());
        lens
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn how_the_stream_arrives_does_not_matter(len in 0usize..400_000, step in 1usize..200_000) {
            let (chunker, data) = (chunker(1), bytes(2, len));
            let (mut pieces, mut held) = (Vec::new(), Vec::new());
            for piece in data.chunks(step) {
                held.extend_from_slice(piece);
                let done = chunker.cut(&held, false, |chunk| pieces.push(chunk.len()));
                held.drain(..done);
                prop_assert!(held.len() < chunker.max_size());
            }
            chunker.cut(&held, true, |chunk| pieces.push(chunk.len()));
            prop_assert_eq!(&pieces, &lens(&chunker, &data));
            let (last, rest) = pieces.split_last().unwrap_or((&1, &[]));
            prop_assert!(*last <= PARAMS.max_size as usize);
            prop_assert!(rest.iter().all(|n| (4096..=65_536).contains(n)));
        }
    }

    #[test]
    fn an_insertion_moves_few_cuts_and_another_key_moves_all() {
        let data = bytes(3, 4 << 20);
        let mut changed = data.clone();
        changed.splice(2_000_000..2_000_000, *b"inserted");
        let ends = |seed, data: &[u8]| {
            let mut at = 0;
            lens(&chunker(seed), data)
                .iter()
                .map(|len| {
                    at += len;
                    data.len() - at
                })
                .collect::<std::collections::HashSet<_>>()
        };
        let (before, after) = (ends(1, &data), ends(1, &changed));
        assert!(before.len() > 150, "{}", before.len());
        // From the end, all cuts behind the insertion are where they were.
        let behind = |cuts: &std::collections::HashSet<usize>| {
            cuts.iter().filter(|c| **c < 2_000_000).count()
        };
        let common = before.intersection(&after).filter(|c| **c < 2_000_000).count();
        assert!(behind(&before) - common < 5, "{common}");
        assert!(ends(2, &data).intersection(&before).count() < 5);
    }

    #[test]
    fn zeros_are_cut_at_the_longest() {
        assert_eq!(lens(&chunker(1), &vec![0; 200_000])[..3], [65_536; 3]);
    }
}
