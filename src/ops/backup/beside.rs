//! The parent's version of a large file, walked beside the new one: which frame a new chunk is
//! likely to resemble.
//!
//! Cuts depend on a small window of bytes only, so most of them stand at corresponding places in
//! both versions, however scattered the changes are. What differs is the shift between them.

use std::collections::VecDeque;

use crate::format::tree::{Entry, EntryKind, Ref};
use crate::id::{ChunkId, FrameId};
use crate::repo::Presence;
use crate::tree::{Leaves, TreeReader};

/// So many of the parent's chunks are looked at before the expected place, and so many behind it.
const REACH: usize = 512;
/// A cut of the parent that is nearer to the expected place than one part in so many of a chunk
/// is taken for the same cut.
const NEAR_SHARE: u64 = 8;

/// A chunk of the parent's file.
#[derive(Debug)]
struct Leaf {
    id: ChunkId,
    start: u64,
}

/// The walk along the parent's file.
#[derive(Debug)]
pub(super) struct Beside {
    presence: Presence,
    leaves: Leaves,
    /// In the order of the file.
    window: VecDeque<Leaf>,
    /// Where the last pair stood: in the parent's file, less in the new one.
    shift: i64,
    /// How near a cut is to be, bytes.
    near: u64,
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
        let (presence, leaves) = (presence.clone(), trees.leaves(content));
        let near = chunk_len as u64 / NEAR_SHARE;
        Some(Self { presence, leaves, window: VecDeque::new(), shift: 0, near })
    }

    /// The base for the new chunk at `start`. Chunks come in the order of the file.
    pub fn base(&mut self, id: &ChunkId, start: u64, len: usize) -> Option<FrameId> {
        let expected = start.saturating_add_signed(self.shift);
        self.advance(expected);
        let distance = |leaf: &&Leaf| leaf.start.abs_diff(expected);
        let same = self.window.iter().filter(|leaf| leaf.id == *id).min_by_key(distance);
        if let Some(leaf) = same {
            // It did not change, and if it is stored all the same, what is there is no good.
            self.shift = shift(leaf, start);
            return None;
        }
        let nearest = self.window.iter().min_by_key(distance)?;
        let like = match distance(&nearest) <= self.near {
            true => {
                self.shift = shift(nearest, start);
                nearest
            }
            // Where most of it would be.
            false => {
                let middle = expected.saturating_add(len as u64 / 2);
                let behind = self.window.partition_point(|leaf| leaf.start <= middle);
                self.window.get(behind.checked_sub(1)?)?
            }
        };
        self.presence.base(&like.id)
    }

    /// Keeps the part of the parent's file around the expected place in the window.
    fn advance(&mut self, expected: u64) {
        let mut before = self.window.partition_point(|leaf| leaf.start <= expected);
        while self.window.len() - before < REACH {
            // What cannot be read of the parent is passed over.
            let leaf = match self.leaves.next() {
                None => break,
                Some(Ok(Ref::Chunk { id, len })) => {
                    Leaf { id, start: self.leaves.position().saturating_sub(len) }
                }
                Some(Ok(Ref::Hole { .. }) | Err(_)) => continue,
            };
            before += usize::from(leaf.start <= expected);
            self.window.push_back(leaf);
            if before > REACH {
                self.window.pop_front();
                before -= 1;
            }
        }
    }
}

fn shift(leaf: &Leaf, start: u64) -> i64 {
    leaf.start.checked_signed_diff(start).unwrap_or(0)
}
