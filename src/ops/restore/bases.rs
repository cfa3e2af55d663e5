//! Bases of the delta frames that a restore opens: once for all deltas that come together.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::format::frame::Codec;
use crate::id::FrameId;
use crate::pack::{OpenedFrame, PackError};
use crate::repo::Repository;

/// Opened bases that a thread keeps, bytes.
const KEPT: usize = 8 << 20;

/// The bases of the delta frames in one part of the work.
pub(super) struct Bases<'a> {
    repository: &'a Repository,
    needed: HashSet<FrameId>,
    kept: RefCell<VecDeque<Arc<OpenedFrame>>>,
}

impl<'a> Bases<'a> {
    /// For deltas on the frames of these names.
    pub fn new(repository: &'a Repository, needed: impl Iterator<Item = FrameId>) -> Self {
        Self { repository, needed: needed.collect(), kept: RefCell::default() }
    }

    /// One of them.
    pub fn get(&self, id: &FrameId) -> Result<Arc<OpenedFrame>, PackError> {
        if let Some(kept) = self.kept.borrow().iter().find(|kept| kept.id == *id) {
            return Ok(kept.clone());
        }
        let opened = self.repository.open_base(id)?.opened;
        self.keep(&opened);
        Ok(opened)
    }

    /// Keeps a frame that was opened for its own chunks, if it is one of them.
    pub fn keep(&self, opened: &Arc<OpenedFrame>) {
        if !self.needed.contains(&opened.id) || matches!(opened.codec, Codec::Delta { .. }) {
            return;
        }
        let mut kept = self.kept.borrow_mut();
        kept.push_back(opened.clone());
        while kept.len() > 1 && kept.iter().map(|kept| kept.plain.len()).sum::<usize>() > KEPT {
            kept.pop_front().into_iter().for_each(|base| self.repository.give_back(base));
        }
    }
}

impl Drop for Bases<'_> {
    fn drop(&mut self) {
        self.kept.take().into_iter().for_each(|base| self.repository.give_back(base));
    }
}
