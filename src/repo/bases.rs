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
/// After so many frames in a row that were no shorter as deltas, no base is tried for a while.
const MISSES_MAX: u64 = 3;
/// How long, for each of them: bytes of chunks that have a base.
const PAUSE_LEN: u64 = 16 << 20;
/// The longest while, as a multiple.
const PAUSES_MAX: u64 = 16;

#[derive(Debug)]
pub(super) struct Bases {
    repository: Arc<Repository>,
    kept: Mutex<VecDeque<(FrameId, Option<BaseFrame>)>>,
    luck: Mutex<Luck>,
}

#[derive(Debug, Default)]
struct Luck {
    misses: u64,
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
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((*id, base.clone()));
        base
    }

    /// Whether a base shall be tried for a chunk of this length.
    pub fn try_for(&self, len: usize) -> bool {
        let mut luck = lock(&self.luck);
        let tries = luck.pause == 0;
        luck.pause = luck.pause.saturating_sub(len as u64);
        tries
    }

    /// What became of a frame that was tried with a base.
    pub fn tried(&self, paid: bool) {
        let mut luck = lock(&self.luck);
        luck.misses = if paid { 0 } else { luck.misses + 1 };
        if luck.misses >= MISSES_MAX {
            luck.pause = (luck.misses - MISSES_MAX + 1).min(PAUSES_MAX) * PAUSE_LEN;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
