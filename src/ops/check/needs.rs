//! What snapshots need: whether it is there, and who misses what is not.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::OpsError;
use super::super::mark::{Loss, Marks, Need, Place, Stock, Visitor, mark};
use super::Findings;
use crate::format::pack::pack_key;
use crate::id::{ChunkId, SnapshotId};
use crate::repo::{RepoError, Repository, SnapshotRecord};
use crate::tree::TreeError;

/// A file or directory that cannot be restored whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The path in it, raw.
    pub path: Vec<u8>,
}

/// So many are listed.
const TOUCHED_MAX: usize = 10_000;
/// So many chunks that cannot be had are told apart: 33 bytes each, and as much again while the
/// set grows.
const LOST_MAX: usize = 400_000;

struct Needs<'a, 'b> {
    stock: &'a Stock,
    findings: &'a mut Findings<'b>,
    /// Packs that are needed, by place in the stock; `None` when nobody asked.
    packs: Option<HashSet<u32>>,
    lost: HashSet<ChunkId>,
    /// Packs that were named as missing or damaged.
    named: HashSet<u32>,
    is_anything_unknown: bool,
    touched: Vec<Touched>,
    /// There is more than is told apart, or listed.
    more: bool,
}

/// What a walk found.
#[derive(Default)]
pub(super) struct Needed {
    /// Packs that hold what is needed; `None` when nobody asked.
    pub packs: Option<HashSet<u32>>,
    /// Packs that are missing and have something that is needed.
    pub missing: HashSet<u32>,
    /// Something is lost, and no pack that is known should have it.
    pub is_anything_unknown: bool,
}

/// Walks the trees of snapshots, and reports what they cannot have. With `with_packs`, the places
/// of the packs that hold what they need.
pub(super) fn walk(
    repository: &Arc<Repository>,
    stock: &Stock,
    records: &[SnapshotRecord],
    with_packs: bool,
    findings: &mut Findings<'_>,
) -> Result<Needed, OpsError> {
    let progress = findings.progress;
    let roots: Vec<_> = records.iter().map(|r| (r.id, r.snapshot.root.clone())).collect();
    let mut marks = Marks::new(stock.chunk_count());
    let mut needs = Needs {
        stock,
        findings,
        packs: with_packs.then(HashSet::new),
        lost: HashSet::new(),
        named: HashSet::new(),
        is_anything_unknown: false,
        touched: Vec::new(),
        more: false,
    };
    mark(repository, stock, &roots, &mut marks, &mut needs, progress)?;
    let Needs { packs, lost, touched, more, findings, named, is_anything_unknown, .. } = needs;
    if more {
        progress.note("there is more that is lost, or touched, than is listed");
    }
    let report = &mut findings.report;
    report.snapshots = records.len() as u64;
    report.chunks_damaged = lost.len() as u64;
    report.chunks = marks.count() + report.chunks_damaged;
    report.touched = touched;
    let is_missing = |place: &u32| stock.packs.get(*place as usize).is_some_and(|p| !p.listed);
    Ok(Needed {
        packs,
        missing: named.into_iter().filter(is_missing).collect(),
        is_anything_unknown,
    })
}

impl Visitor for Needs<'_, '_> {
    fn need(&mut self, need: &Need<'_>) -> Result<(), OpsError> {
        let Some(packs) = &mut self.packs else { return Ok(()) };
        // One copy is enough.
        let Some(place) = self.stock.copies(&need.id)?.first().copied() else { return Ok(()) };
        packs.insert(place.0);
        let mut bases = self.stock.bases_of(place).into_iter().flatten();
        let base = bases.find(|base| self.stock.is_usable(*base));
        packs.extend(base.map(|base| base.0));
        Ok(())
    }

    fn loss(&mut self, loss: Loss<'_>) -> Result<(), OpsError> {
        let path = if loss.path.is_empty() { b"/" } else { loss.path };
        let last = self.touched.last();
        if last.is_none_or(|last| last.snapshot != loss.snapshot || last.path != path) {
            match self.touched.len() < TOUCHED_MAX {
                true => {
                    self.touched.push(Touched { snapshot: loss.snapshot, path: path.to_vec() });
                }
                false => self.more = true,
            }
        }
        if self.lost.contains(&loss.id) {
            return Ok(());
        }
        match self.lost.len() < LOST_MAX {
            true => _ = self.lost.insert(loss.id),
            false => self.more = true,
        }
        self.name_packs(&loss)
    }
}

impl Needs<'_, '_> {
    /// Names the packs that should have a chunk: prunes remove packs that the index still knows,
    /// and only one that is needed is missed.
    fn name_packs(&mut self, loss: &Loss<'_>) -> Result<(), OpsError> {
        let damage = match &loss.error {
            Some(TreeError::Repo(RepoError::Chunk { source: Some(source), .. })) => Some(source),
            _ => None,
        };
        let places = self.stock.known_places(&loss.id)?;
        self.is_anything_unknown |= places.is_empty();
        for place in places {
            for base in self.stock.bases_of(place).into_iter().flatten() {
                self.name_pack(base, None);
            }
            self.name_pack(place, damage.map(|error| error.to_string()));
        }
        Ok(())
    }

    fn name_pack(&mut self, place: Place, damage: Option<String>) {
        let Some(pack) = self.stock.packs.get(place.0 as usize) else { return };
        let why = match damage {
            _ if !pack.listed => "it is missing".to_owned(),
            Some(why) if pack.whole => format!("a tree in it cannot be read: {why}"),
            _ => return,
        };
        if self.named.insert(place.0) {
            self.findings.damaged(&pack_key(&pack.id), why);
        }
    }
}
