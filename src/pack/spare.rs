//! Buffers that nobody needs any more, to be used again: the system takes as long to clear new
//! memory as it takes to seal or to open what comes into it.

use std::sync::{Mutex, PoisonError};

/// So many buffers are kept,
const COUNT_MAX: usize = 16;
/// of such lengths, bytes. For shorter ones the allocator has memory at hand.
const LENGTHS: std::ops::RangeInclusive<usize> = 256 << 10..=2 << 20;

/// Buffers of any lengths, the last one that came at the end.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// A buffer that has room for `len` bytes, and not much more, with anything in it. Not always
    /// one that was used before.
    pub fn take(&self, len: usize) -> Vec<u8> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &Vec<u8>| (len..=len + len / 4).contains(&buffer.capacity());
        // The one that came last is the most likely to be in the processor's cache.
        let found = spare.iter().rposition(fits).map(|at| spare.swap_remove(at));
        drop(spare);
        found.unwrap_or_else(|| Vec::with_capacity(len))
    }

    /// Takes one back.
    pub fn give_back(&self, buffer: Vec<u8>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < COUNT_MAX && LENGTHS.contains(&buffer.capacity()) {
            spare.push(buffer);
        }
    }
}
