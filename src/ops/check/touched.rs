//! Which files and directories of which snapshots need chunks that cannot be had.

use std::collections::HashSet;
use std::sync::Arc;

use crate::format::tree::{Entry, EntryKind, Ref, Refs};
use crate::id::{ChunkId, SnapshotId};
use crate::ops::OpsError;
use crate::progress::{Counter, Progress};
use crate::repo::{Repository, SnapshotRecord};
use crate::tree::{Entries, TreeReader};

/// A file or directory that cannot be restored whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The path in it, raw.
    pub path: Vec<u8>,
}

/// So many are listed; the damaged chunks are counted in any case.
const TOUCHED_MAX: usize = 10_000;
/// So many directories are remembered as not touched.
const CLEAN_MAX: usize = 200_000;

struct Open {
    entries: Entries,
    path_len: usize,
    listing: Option<ChunkId>,
    touched_before: usize,
}

/// Walks all snapshots and lists what needs one of `bad`.
pub(super) fn find(
    repository: &Arc<Repository>,
    records: &[SnapshotRecord],
    bad: &HashSet<ChunkId>,
    progress: &dyn Progress,
) -> Result<Vec<Touched>, OpsError> {
    let trees = TreeReader::new(repository);
    let mut clean: HashSet<ChunkId> = HashSet::new();
    let mut found = Vec::new();
    for record in records {
        snapshot(&trees, record, bad, &mut clean, &mut found, progress)?;
        progress.add(Counter::Objects, 1);
        if found.len() >= TOUCHED_MAX {
            progress.note("there is more that is touched than is listed");
            found.truncate(TOUCHED_MAX);
            break;
        }
    }
    Ok(found)
}

/// By what a listing is known again: two with the same first chunk and one reference are equal.
fn name(listing: &Refs) -> Option<ChunkId> {
    match listing.refs.as_slice() {
        [Ref::Chunk { id, .. }] => Some(*id),
        _ => None,
    }
}

fn snapshot(
    trees: &TreeReader,
    record: &SnapshotRecord,
    bad: &HashSet<ChunkId>,
    clean: &mut HashSet<ChunkId>,
    found: &mut Vec<Touched>,
    progress: &dyn Progress,
) -> Result<(), OpsError> {
    let mut path: Vec<u8> = Vec::new();
    let touch = |found: &mut Vec<Touched>, path: &[u8]| {
        let path = if path.is_empty() { b"/" } else { path };
        let touched = Touched { snapshot: record.id, path: path.to_vec() };
        if found.last() != Some(&touched) && found.len() < TOUCHED_MAX {
            found.push(touched);
        }
    };
    let open_listing = |listing: &Refs, path_len, found: &Vec<Touched>| Open {
        entries: trees.entries(listing),
        path_len,
        listing: name(listing),
        touched_before: found.len(),
    };
    let root = &record.snapshot.root;
    let mut open = vec![open_listing(root, 0, found)];
    while let Some(level) = open.last_mut() {
        if progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        match level.entries.next() {
            Some(Err(_)) => {
                path.truncate(level.path_len);
                touch(found, &path);
            }
            Some(Ok(entry)) => {
                path.truncate(level.path_len);
                path.push(b'/');
                path.extend_from_slice(&entry.name);
                match &entry.kind {
                    EntryKind::Directory { listing }
                        if name(listing).is_some_and(|id| clean.contains(&id)) => {}
                    EntryKind::Directory { listing } => {
                        let level = open_listing(listing, path.len(), found);
                        open.push(level);
                    }
                    _ if needs_bad(trees, &entry, bad) => touch(found, &path),
                    _ => {}
                }
            }
            None => {
                if let Some(level) = open.pop()
                    && level.touched_before == found.len()
                    && clean.len() < CLEAN_MAX
                    && let Some(id) = level.listing
                {
                    clean.insert(id);
                }
            }
        }
    }
    Ok(())
}

fn needs_bad(trees: &TreeReader, entry: &Entry, bad: &HashSet<ChunkId>) -> bool {
    let EntryKind::File { content, .. } = &entry.kind else { return false };
    trees.leaves(content).any(|leaf| match leaf {
        Ok(Ref::Chunk { id, .. }) => bad.contains(&id),
        Ok(Ref::Hole { .. }) => false,
        Err(_) => true,
    })
}
