//! How much of each pack is needed, and which of several copies of a chunk is the one that counts.

use std::cmp::Reverse;

use super::super::OpsError;
use super::super::mark::{Marks, Place, Stock};

/// What is needed of each pack, by its place in the stock.
#[derive(Debug)]
pub(super) struct Usage {
    /// Packs that stay whatever is needed of them.
    pub spared: Vec<bool>,
    /// Bytes of chunks that are needed and lie nowhere else.
    exclusive: Vec<u64>,
    /// Bytes of chunks that are needed and whose copy here counts.
    pub used: Vec<u64>,
    /// Bases of needed delta frames: the copies that count, needed as they are.
    whole_frames: Marks,
}

/// The order of copies: the greatest counts.
type Rank = (bool, bool, bool, u64, Reverse<Place>);

impl Usage {
    /// Counts. A chunk of which there are several copies counts where most is needed anyway, so
    /// that the others can go.
    pub fn count(stock: &Stock, marks: &Marks, spared: Vec<bool>) -> Result<Self, OpsError> {
        let count = stock.packs.len();
        let mut usage = Self {
            spared,
            exclusive: vec![0; count],
            used: Vec::new(),
            whole_frames: Marks::new(stock.frame_count()),
        };
        let mut exclusive = vec![0; count];
        stock.chunks(&mut |chunk, copies| {
            if let ([only], true) = (copies, marks.get(chunk.number)) {
                add(&mut exclusive, *only, chunk.len.into());
            }
        })?;
        let mut used = exclusive.clone();
        usage.exclusive = exclusive;
        let mut deltas = Marks::new(stock.frame_count());
        stock.chunks(&mut |chunk, copies| {
            if !marks.get(chunk.number) {
                return;
            }
            let Some(chosen) = usage.choose(stock, copies) else { return };
            if copies.len() > 1 {
                add(&mut used, chosen, chunk.len.into());
            }
            if stock.is_delta(chosen) {
                deltas.set(stock.frame_number(chosen));
            }
        })?;
        // P2: along base edges. A base stays whole: the delta needs all of its plaintext.
        for (delta, bases) in stock.deltas() {
            if !deltas.get(delta) {
                continue;
            }
            let there = bases.filter(|base| stock.is_usable(*base));
            if let Some(base) = there.max_by_key(|base| usage.rank(stock, *base))
                && usage.whole_frames.set(stock.frame_number(base))
            {
                // That it counts for more than nothing, if it has no chunks.
                add(&mut used, base, 1);
            }
        }
        usage.used = used;
        usage.count_bases(stock, marks)?;
        Ok(usage)
    }

    /// Whether a frame is the base of one that is needed, and this copy of it counts.
    pub fn is_needed_whole(&self, stock: &Stock, place: Place) -> bool {
        self.whole_frames.get(stock.frame_number(place))
    }

    /// Counts what bases hold and nobody else needs: it stays all the same.
    fn count_bases(&mut self, stock: &Stock, marks: &Marks) -> Result<(), OpsError> {
        if self.whole_frames.count() == 0 {
            return Ok(());
        }
        let mut used = std::mem::take(&mut self.used);
        stock.chunks(&mut |chunk, copies| {
            let needed = marks.get(chunk.number).then(|| self.choose(stock, copies)).flatten();
            for place in copies.iter().filter(|place| self.is_needed_whole(stock, **place)) {
                if needed != Some(*place) {
                    add(&mut used, *place, chunk.len.into());
                }
            }
        })?;
        self.used = used;
        Ok(())
    }

    /// The copy that counts.
    pub fn choose(&self, stock: &Stock, copies: &[Place]) -> Option<Place> {
        copies.iter().copied().max_by_key(|place| self.rank(stock, *place))
    }

    fn rank(&self, stock: &Stock, place: Place) -> Rank {
        let pack = place.0 as usize;
        let exclusive = self.exclusive.get(pack).copied().unwrap_or(0);
        let plain = stock.packs.get(pack).map_or(1, |pack| pack.plain.max(1));
        let share = exclusive.saturating_mul(1 << 16) / plain;
        let spared = self.spared.get(pack).copied().unwrap_or(false);
        let sound = stock.packs.get(pack).is_some_and(|pack| !pack.damaged);
        (sound, !stock.is_delta(place), spared, share, Reverse(place))
    }
}

fn add(counters: &mut [u64], place: Place, amount: u64) {
    if let Some(counter) = counters.get_mut(place.0 as usize) {
        *counter += amount;
    }
}
