//! W3: which packs may be built upon, and whether anything is known to be damaged.
//! Format: `format-spec/11-sessions.md#writer`, `format-spec/15-damage.md`.

use std::collections::{BTreeSet, HashSet};

use super::{RepoError, Repository, listed_len};
use crate::id::{PackId, SegmentId};
use crate::index::list_segments;
use crate::progress::Silent;

/// Packs that a session does not build upon (W2).
#[derive(Debug)]
pub(super) enum Avoided {
    /// These, in order.
    Packs(Vec<PackId>),
    /// All that are there: nobody can tell which of them will go.
    All,
}

impl Default for Avoided {
    fn default() -> Self {
        Self::Packs(Vec::new())
    }
}

impl Avoided {
    fn contains(&self, id: &PackId) -> bool {
        match self {
            Self::Packs(packs) => packs.binary_search(id).is_ok(),
            Self::All => true,
        }
    }
}

/// What a session finds.
pub(super) struct Condition {
    /// Packs that are there, that stay and that nobody found damaged, in order.
    pub reusable: Vec<PackId>,
    /// Something is missing or was found damaged.
    pub is_damaged: bool,
}

/// Reads the index, then lists the packs.
pub(super) fn find(repository: &Repository, avoided: &Avoided) -> Result<Condition, RepoError> {
    let segments = repository.refresh_index()?.segments;
    let listed = repository.list_packs()?;
    let missing = missing(repository, &segments, &listed, avoided)?;
    let silent = Silent::default();
    let records = repository.damage(&silent)?;
    // A record that does not open says that something is damaged, and no more.
    let is_damaged = !missing.is_empty() || !records.is_empty() || !silent.problems().is_empty();
    let damaged: HashSet<PackId> = records.into_iter().map(|(_, record)| record.pack).collect();
    let is_reusable =
        |id: &PackId| !(avoided.contains(id) || damaged.contains(id) || missing.contains(id));
    let reusable = listed.iter().map(|(id, _)| *id).filter(is_reusable).collect();
    Ok(Condition { reusable, is_damaged })
}

/// Packs that a segment names and that are not there, or not as long as it says. A sweep replaces
/// segments before it deletes packs, so what is only on its way out is named by none that is
/// still there after the packs were listed.
fn missing(
    repository: &Repository,
    segments: &BTreeSet<SegmentId>,
    listed: &[(PackId, u64)],
    avoided: &Avoided,
) -> Result<HashSet<PackId>, RepoError> {
    let missing = named_and_missing(repository, segments, listed, avoided)?;
    if missing.is_empty() {
        return Ok(missing);
    }
    let mut still = list_segments(repository.storage())?;
    still.retain(|id| segments.contains(id));
    named_and_missing(repository, &still, listed, avoided)
}

fn named_and_missing(
    repository: &Repository,
    segments: &BTreeSet<SegmentId>,
    listed: &[(PackId, u64)],
    avoided: &Avoided,
) -> Result<HashSet<PackId>, RepoError> {
    let mut missing = HashSet::new();
    repository.with_index(|index| {
        index.packs_named(segments, &mut |pack| {
            if listed_len(listed, &pack.id) != Some(pack.len) && !avoided.contains(&pack.id) {
                missing.insert(pack.id);
            }
        })
    })??;
    Ok(missing)
}
