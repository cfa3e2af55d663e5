//! What the parent snapshot has, as far as it can be read and relied on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::beside::Beside;
use crate::format::tree::{Entry, Ref, Refs};
use crate::repo::{Distrusted, Presence, RepoError, Session};
use crate::tree::{Entries, TreeError, TreeReader};

/// How far a backup relies on what the repository has.
#[derive(Default)]
pub(super) struct Trust {
    /// Set where nothing is taken over from the parent before its chunks were looked up (W5).
    presence: Option<Presence>,
    /// Tells what new chunks may be deltas on, where deltas are written.
    bases: Option<Presence>,
    /// Something is known to be damaged.
    mending: bool,
    /// Where chunks are named that cannot be read.
    distrusted: Option<Arc<Distrusted>>,
    /// Files that are as the parent has them, and that were read all the same.
    read_again: AtomicU64,
}

impl Trust {
    /// In this session; `adopts`: whole trees of the parent may be taken over.
    pub fn new(session: &Session, adopts: bool) -> Self {
        Self {
            presence: (!adopts).then(|| session.presence()),
            bases: session.bases(),
            mending: session.is_mending(),
            distrusted: Some(session.distrusted()),
            read_again: AtomicU64::new(0),
        }
    }

    /// What a new version of this file is compared with, chunk by chunk.
    pub fn beside(
        &self,
        trees: &TreeReader,
        before: Option<&Entry>,
        chunk_len: usize,
    ) -> Option<Beside> {
        Beside::new(trees, self.bases.as_ref()?, before?, chunk_len)
    }

    /// Whether all chunks of a stream are where they will stay, where that is not sure.
    pub fn has(&self, trees: &TreeReader, refs: &Refs) -> bool {
        let Some(presence) = &self.presence else { return true };
        let mut leaves = trees.leaves(refs).with_lists();
        loop {
            let leaf = leaves.next();
            if !leaves.take_lists().iter().all(|id| presence.has(id)) {
                return false;
            }
            match leaf {
                None => return true,
                Some(Ok(Ref::Chunk { id, .. })) if !presence.has(&id) => return false,
                Some(Err(_)) => return false,
                Some(Ok(_)) => {}
            }
        }
    }

    /// A file is read although it did not change.
    pub fn reads_again(&self, lost: bool) {
        if self.mending || lost {
            self.read_again.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were read again because of damage.
    pub fn read_again(&self) -> u64 {
        self.read_again.load(Ordering::Relaxed)
    }

    fn distrust(&self, error: &TreeError) {
        match error {
            TreeError::Repo(RepoError::Chunk { id, .. }) | TreeError::Format { id, .. } => {
                self.distrusted.iter().for_each(|distrusted| distrusted.add(id));
            }
            _ => {}
        }
    }
}

/// A directory of the parent snapshot, its entries in byte order of names.
#[derive(Default)]
pub(super) struct Before {
    entries: Option<Entries>,
    /// The entry that comes next, if it was looked at.
    next: Option<Box<Entry>>,
    /// Some of it cannot be read: what it would have spared is read.
    pub lost: bool,
}

impl Before {
    /// The directory with this listing, if the parent has it.
    pub fn new(trees: &TreeReader, listing: Option<&Refs>) -> Self {
        let entries = listing.map(|listing| trees.entries(listing));
        Self { entries, next: None, lost: false }
    }

    /// The entry of a name, and whether entries before it are gone now. Names come in order.
    pub fn take(&mut self, name: &[u8], trust: &Trust) -> (Option<Box<Entry>>, bool) {
        let mut gone = false;
        let Some(entries) = &mut self.entries else { return (None, gone) };
        loop {
            let next = match self.next.take() {
                Some(next) => next,
                None => match entries.next() {
                    Some(Ok(entry)) => Box::new(entry),
                    Some(Err(error)) => {
                        self.lost = true;
                        trust.distrust(&error);
                        gone = true;
                        continue;
                    }
                    None => return (None, gone),
                },
            };
            match next.name.as_slice().cmp(name) {
                std::cmp::Ordering::Less => gone = true,
                std::cmp::Ordering::Equal => return (Some(next), gone),
                std::cmp::Ordering::Greater => {
                    self.next = Some(next);
                    return (None, gone);
                }
            }
        }
    }

    /// Whether there are no more entries, asked once.
    pub fn is_at_end(&mut self, trust: &Trust) -> bool {
        let next = self.entries.as_mut().filter(|_| self.next.is_none()).map(Iterator::next);
        if let Some(Some(Err(error))) = &next {
            trust.distrust(error);
        }
        self.next.is_none() && matches!(next, None | Some(None))
    }
}
