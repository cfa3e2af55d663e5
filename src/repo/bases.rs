//! Bases of delta frames. For those that a session writes they are opened once for frames that
//! follow each other, and left alone for a while where deltas do not pay.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Repository;
use crate::id::{FrameId, PackId};
use crate::index::FrameRow;
use crate::pack::OpenedFrame;

/// A frame that others are deltas on.
#[derive(Debug, Clone)]
pub struct BaseFrame {
    /// It, opened.
    pub opened: Arc<OpenedFrame>,
    /// The pack that it was read from.
    pub pack: PackId,
    /// Its place there.
    pub row: FrameRow,
}

/// Opened bases that are kept: chunks come in about the order of those that they are like.
const KEPT: usize = 4;
/// After so many bytes of frames in a row that did not pay as deltas, no base is tried for a while.
const MISSED_MAX: u64 = 3 << 20;
/// How long: so many times what was missed since, in bytes of chunks that have a base.
const PAUSE_SHARE: u64 = 16;
/// The longest while, bytes.
const PAUSE_MAX: u64 = 256 << 20;

#[derive(Debug)]
pub(super) struct Bases {
    repository: Arc<Repository>,
    kept: Mutex<VecDeque<(FrameId, Option<BaseFrame>)>>,
    luck: Mutex<Luck>,
}

#[derive(Debug, Default)]
struct Luck {
    /// Bytes of frames in a row that did not pay.
    missed: u64,
    /// Bytes of chunks for which no base is tried.
    pause: u64,
}

impl Bases {
    pub fn new(repository: &Arc<Repository>) -> Self {
        let (kept, luck) = (Mutex::default(), Mutex::default());
        Self { repository: repository.clone(), kept, luck }
    }

    /// The base of this name. One that cannot be had is no reason to store less.
    pub fn get(&self, id: &FrameId) -> Option<BaseFrame> {
        if let Some((_, base)) = lock(&self.kept).iter().find(|(kept, _)| kept == id) {
            return base.clone();
        }
        let base = self.repository.open_base(id).ok();
        let mut kept = lock(&self.kept);
        if kept.len() >= KEPT
            && let Some((_, Some(old))) = kept.pop_front()
        {
            self.repository.give_back(old.opened);
        }
        kept.push_back((*id, base.clone()));
        base
    }

    /// Whether a base shall be tried for a chunk of this length.
    pub fn try_for(&self, len: usize) -> bool {
        lock(&self.luck).try_for(len)
    }

    /// What became of a frame of this length that was tried with a base.
    pub fn tried(&self, len: usize, paid: bool) {
        lock(&self.luck).tried(len, paid);
    }
}

impl Luck {
    fn try_for(&mut self, len: usize) -> bool {
        let tries = self.pause == 0;
        self.pause = self.pause.saturating_sub(len as u64);
        tries
    }

    fn tried(&mut self, len: usize, paid: bool) {
        self.missed = if paid { 0 } else { self.missed.saturating_add(len as u64) };
        if self.missed >= MISSED_MAX {
            let since = self.missed - MISSED_MAX + len as u64;
            self.pause = since.saturating_mul(PAUSE_SHARE).min(PAUSE_MAX);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pay_is_left_alone_for_longer_and_longer() {
        let mut luck = Luck::default();
        let tries_until = |luck: &mut Luck| {
            let mut mebibytes = 0;
            while !luck.try_for(1 << 20) {
                mebibytes += 1;
            }
            mebibytes
        };
        let mut pauses = Vec::new();
        for _ in 0..24 {
            pauses.push(tries_until(&mut luck));
            luck.tried(1 << 20, false);
        }
        assert_eq!(pauses[..6], [0, 0, 0, 16, 32, 48]);
        assert_eq!(pauses[23], 256);
        tries_until(&mut luck);
        luck.tried(1 << 20, true);
        assert_eq!(tries_until(&mut luck), 0);
    }
}
