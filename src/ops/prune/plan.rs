//! The plan (P2 to P4): what is needed, which packs go, which are repacked first.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::super::mark::{Loss, Marks, Stock, Visitor, mark};
use super::super::{OpsError, is_outage};
use super::repack::{self, Outcome};
use super::usage::Usage;
use super::{Figures, PruneOptions, PruneReport, closing, fence, rescue, sweep};
use crate::format::epoch::{EpochStep, Plan};
use crate::format::frame::{ChunkKind, HEADER_LEN};
use crate::format::session::SessionObject;
use crate::format::snapshot::snapshot_key;
use crate::format::tree::Refs;
use crate::id::{PackId, SegmentId, SnapshotId};
use crate::index::{segment_key, write_segment};
use crate::limits;
use crate::pack::{PackError, is_outdated, read_frame, read_trailer};
use crate::progress::{Problem, Progress};
use crate::repo::{RepoError, Repository};
use crate::tree::TreeError;

/// So many snapshots are named in a plan; others are marked again (P7). With as many packs as a
/// plan may name it stays well below the longest object.
const MARKED_MAX: usize = limits::EPOCH_PACKS_MAX / 2;
/// Small packs are merged when there are so many of them, however little they have together.
const SMALL_PACKS_MAX: usize = 32;
/// A pack below this share of a full one is small, and so many bytes together are worth merging.
const SMALL_SHARE: u64 = 4;

/// This part of what is stored is sealed anew at once, or so many packs, if that is more.
const RESEALED_SHARE: u64 = 8;
const RESEALED_PACKS_MIN: u64 = 16;

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    /// Nothing of it is needed.
    Condemn,
    /// What is needed of it is copied first.
    Repack,
}

/// Which packs a plan relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Those that are there.
    Listed,
    /// Those that have what is needed and lies nowhere else: somebody may be deleting any other.
    Needed,
}

/// A plan that is not published, with what it was made from.
pub(super) struct Draft {
    pub stock: Stock,
    pub marks: Marks,
    pub usage: Usage,
    /// By place in the stock.
    pub fates: Vec<Fate>,
    /// Packs sealed with keys that a rotation has replaced, if they are to be written anew.
    outdated: Marks,
    /// Packs that nothing describes and that go.
    pub silent: Vec<PackId>,
    pub marked: Vec<SnapshotId>,
    pub figures: Figures,
}

/// P2: marks, and decides. Changes nothing.
pub(super) fn draft(
    repository: &Arc<Repository>,
    options: &PruneOptions<'_>,
    trust: Trust,
    progress: &dyn Progress,
) -> Result<Draft, OpsError> {
    // The snapshots first: the packs of those that are committed from here on may not be listed,
    // so these are not marked; P7 looks at them.
    let roots = roots(repository, repository.counted()?)?;
    let mut stock = Stock::take(repository)?;
    stock.require_known()?;
    // What a damaged segment said is known from the trailers of the packs that are there.
    for (id, error) in &stock.damaged {
        progress.problem(&Problem::damage(segment_key(id), error));
    }
    // P2: sessions are listed after the packs. Those of sessions whose snapshot is not looked at
    // are spared, whether they are undecided or were committed just now.
    let marked: BTreeSet<SnapshotId> = roots.iter().map(|(id, _)| *id).collect();
    let mut others = HashSet::new();
    for session in repository.list_sessions()? {
        if let SessionObject::Record(id) = session
            && !marked.contains(&id)
        {
            others.insert(id);
        }
    }
    let spared: Vec<bool> = stock.packs.iter().map(|pack| others.contains(&pack.session)).collect();
    let mut marks = Marks::new(stock.chunk_count());
    let mut losses = Losses::default();
    mark(repository, &stock, &roots, &mut marks, &mut losses, progress)?;
    losses.refuse()?;
    let unexplained = rescue::unexplained_roots(repository)?;
    mark(repository, &stock, &unexplained, &mut marks, &mut rescue::Passed, progress)?;
    if trust == Trust::Needed {
        closing::suspect(&mut stock, &marks, &spared)?;
    }
    let usage = Usage::count(&stock, &marks, spared)?;
    let silent = match others.is_empty() {
        true => stock.silent.iter().map(|(id, ..)| *id).collect(),
        // Nobody can tell whose they are, and those of undecided sessions are not condemned.
        false => Vec::new(),
    };
    let mut draft = Draft {
        fates: vec![Fate::Keep; stock.packs.len()],
        stock,
        marks,
        usage,
        silent,
        outdated: Marks::default(),
        marked: marked.into_iter().collect(),
        figures: Figures::default(),
    };
    draft.condemn_unused();
    if options.reseal {
        draft.outdated = outdated(repository, &draft)?;
    }
    draft.choose_repacks(options, u64::from(repository.config().pack_size));
    draft.count();
    Ok(draft)
}

/// Packs whose first frame is sealed with a key that a rotation has replaced. One pack is written
/// by one session, and none puts such a frame into a new pack.
fn outdated(repository: &Repository, draft: &Draft) -> Result<Marks, OpsError> {
    let mut outdated = Marks::new(draft.stock.packs.len() as u64);
    for place in draft.candidates() {
        let row = draft.stock.row(place as u32)?;
        let Some(frame) = row.frames.first() else { continue };
        let header = read_frame(repository.storage(), &row.id, frame.offset, HEADER_LEN as u32);
        match header.and_then(|header| is_outdated(repository.keys(), &header)) {
            Ok(true) => _ = outdated.set(place as u64),
            Ok(false) => {}
            Err(error) if is_outage(&error) => return Err(RepoError::from(error).into()),
            // A damaged one stays where it is.
            Err(_) => {}
        }
    }
    Ok(outdated)
}

/// The trees of snapshots. One that cannot be read is needed, and nobody knows for what.
pub(super) fn roots(
    repository: &Repository,
    ids: impl IntoIterator<Item = SnapshotId>,
) -> Result<Vec<(SnapshotId, Refs)>, OpsError> {
    let mut roots = Vec::new();
    let mut damaged = Vec::new();
    for id in ids {
        match repository.read_snapshot(&id) {
            Ok(Some((snapshot, _))) => roots.push((id, snapshot.root)),
            // Forgotten since it was listed: its session record went first.
            Ok(None) => {}
            Err(RepoError::Object { source, .. }) => damaged.push((id, source)),
            Err(error) => return Err(error.into()),
        }
    }
    match damaged.first() {
        None => Ok(roots),
        Some((id, error)) => Err(incomplete(snapshot_key(id), error, damaged.len() as u64)),
    }
}

fn incomplete(what: String, why: impl std::fmt::Display, count: u64) -> OpsError {
    OpsError::Incomplete { first: Box::new(Problem::damage(what, why)), count }
}

/// Whether it is the storage that failed.
pub(super) fn is_outage_of(loss: &Loss<'_>) -> bool {
    matches!(&loss.error, Some(TreeError::Repo(RepoError::Chunk { source: Some(source), .. }))
        if is_outage(source))
}

/// What is lost of what snapshots need.
#[derive(Default)]
pub(super) struct Losses {
    first: Option<Problem>,
    count: u64,
}

impl Visitor for Losses {
    fn loss(&mut self, loss: Loss<'_>) -> Result<(), OpsError> {
        // A storage that refuses or fails says nothing about what lies there.
        if is_outage_of(&loss) {
            return loss.error.map_or(Ok(()), |error| Err(error.into()));
        }
        self.count += 1;
        self.first.get_or_insert_with(|| {
            let what = [loss.snapshot.short().as_bytes(), b":", loss.path].concat();
            match loss.error {
                Some(error) => Problem::damage(what, error),
                None => Problem::damage(what, format!("chunk {} is missing", loss.id.short())),
            }
        });
        Ok(())
    }
}

impl Losses {
    pub fn refuse(self) -> Result<(), OpsError> {
        match self.first {
            None => Ok(()),
            Some(first) => Err(OpsError::Incomplete { first: Box::new(first), count: self.count }),
        }
    }
}

impl Draft {
    fn condemn_unused(&mut self) {
        let packs = self.stock.packs.iter().zip(&self.usage.used).zip(&self.usage.spared);
        let mut room = limits::EPOCH_PACKS_MAX.saturating_sub(self.silent.len());
        for (((pack, used), spared), fate) in packs.zip(&mut self.fates) {
            if pack.listed && *used == 0 && !spared && room > 0 {
                *fate = Fate::Condemn;
                room -= 1;
            }
        }
    }

    /// Bytes of a pack that are needed, estimated from the share of its chunks that are.
    fn bytes_used(&self, place: usize) -> u64 {
        let Some(pack) = self.stock.packs.get(place) else { return 0 };
        let used = self.usage.used.get(place).copied().unwrap_or(0).min(pack.plain);
        match pack.plain {
            0 => 0,
            plain => (u128::from(pack.len) * u128::from(used) / u128::from(plain)) as u64,
        }
    }

    /// Packs that may be repacked.
    fn candidates(&self) -> Vec<usize> {
        let places = self.stock.packs.iter().zip(&self.fates).zip(&self.usage.spared).enumerate();
        let fit = places
            .filter(|(_, ((pack, fate), spared))| pack.listed && **fate == Fate::Keep && !**spared);
        fit.map(|(place, _)| place).collect()
    }

    fn choose_repacks(&mut self, options: &PruneOptions<'_>, pack_size: u64) {
        let mut copied = 0u64;
        let copy_max = options.max_repack.unwrap_or(u64::MAX);
        let condemned = self.fates.iter().filter(|fate| **fate == Fate::Condemn).count();
        let mut room = limits::EPOCH_PACKS_MAX.saturating_sub(self.silent.len() + condemned);
        // What is good in a damaged pack is moved out of it, whatever that costs.
        for place in self.candidates() {
            if self.stock.packs[place].damaged && room > 0 {
                self.fates[place] = Fate::Repack;
                copied += self.bytes_used(place);
                room -= 1;
            }
        }
        // The worst first, until what is left unused is little enough.
        let mut partly: Vec<(u64, u64, usize)> = Vec::new();
        let (mut used_all, mut unused_all) = (0u64, 0u64);
        for place in self.candidates() {
            let (len, used) = (self.stock.packs[place].len, self.bytes_used(place));
            used_all += used;
            unused_all += len - used;
            if used < len {
                partly.push(((len - used).saturating_mul(1 << 20) / len.max(1), len - used, place));
            }
        }
        partly.sort_unstable_by_key(|item| Reverse(*item));
        let unused_max = options.max_unused.bytes(used_all);
        for (_, unused, place) in partly {
            let used = self.bytes_used(place);
            if unused_all <= unused_max || room == 0 {
                break;
            }
            if copied.saturating_add(used) <= copy_max {
                self.fates[place] = Fate::Repack;
                copied += used;
                unused_all -= unused;
                room -= 1;
            }
        }
        // Copies take room before what they replace goes, so not too many at once.
        let stored: u64 = self.stock.packs.iter().map(|pack| pack.len).sum();
        let reseal_max = (stored / RESEALED_SHARE).max(RESEALED_PACKS_MIN * pack_size);
        let mut resealed = 0;
        for place in self.candidates() {
            let used = self.bytes_used(place);
            let fits = resealed < reseal_max && copied.saturating_add(used) <= copy_max;
            if self.outdated.get(place as u64) && room > 0 && fits {
                self.fates[place] = Fate::Repack;
                copied += used;
                resealed += used;
                room -= 1;
            }
        }
        for kind in [ChunkKind::Data, ChunkKind::Tree] {
            for place in self.small_packs(kind, pack_size) {
                let used = self.bytes_used(place);
                if room > 0 && copied.saturating_add(used) <= copy_max {
                    self.fates[place] = Fate::Repack;
                    copied += used;
                    room -= 1;
                }
            }
        }
    }

    /// Small packs, if there are enough of them that each byte is seldom moved for it.
    fn small_packs(&self, kind: ChunkKind, pack_size: u64) -> Vec<usize> {
        let limit = pack_size / SMALL_SHARE;
        let mut small = self.candidates();
        small.retain(|place| {
            let pack = &self.stock.packs[*place];
            pack.kind == kind && pack.len < limit
        });
        let bytes: u64 = small.iter().map(|place| self.bytes_used(*place)).sum();
        match small.len() {
            0 | 1 => Vec::new(),
            count if count >= SMALL_PACKS_MAX || bytes >= limit => small,
            _ => Vec::new(),
        }
    }

    fn count(&mut self) {
        let mut figures = Figures { snapshots: self.marked.len() as u64, ..Figures::default() };
        for (place, pack) in self.stock.packs.iter().enumerate().filter(|(_, pack)| pack.listed) {
            figures.total.add(pack.len);
            let used = self.bytes_used(place);
            match self.fates[place] {
                Fate::Condemn => figures.unused.add(pack.len),
                Fate::Repack => {
                    figures.repacked.add(pack.len);
                    figures.bytes_to_copy += used;
                }
                Fate::Keep if self.usage.spared[place] => {
                    figures.kept.add(pack.len);
                    figures.spared.add(pack.len);
                }
                Fate::Keep => {
                    if self.outdated.get(place as u64) {
                        figures.outdated.add(pack.len);
                    }
                    figures.kept.add(pack.len);
                    figures.bytes_unused_left += pack.len - used;
                }
            }
        }
        let condemned: HashSet<&PackId> = self.silent.iter().collect();
        for (id, len, _) in &self.stock.silent {
            figures.total.add(*len);
            match condemned.contains(id) {
                true => figures.unused.add(*len),
                false => figures.kept.add(*len),
            }
        }
        let gone = figures.unused.bytes + figures.repacked.bytes;
        figures.bytes_to_free = gone.saturating_sub(figures.bytes_to_copy);
        self.figures = figures;
    }
}

/// P2 to P4: plans epoch `number` + 1 and publishes it. `false`: there is nothing to do.
pub(super) fn publish(
    repository: &Arc<Repository>,
    number: u64,
    options: &PruneOptions<'_>,
    trust: Trust,
    progress: &dyn Progress,
    report: &mut PruneReport,
) -> Result<bool, OpsError> {
    let draft = draft(repository, options, trust, progress)?;
    let anything = !draft.silent.is_empty() || draft.fates.iter().any(|f| *f != Fate::Keep);
    if !anything && trust == Trust::Listed && !fence::any_to_fence(repository, options)? {
        mend_index(repository, &draft, progress)?;
        report.figures = Some(draft.figures);
        report.undecided = fence::undecided(repository)?;
        return Ok(false);
    }
    name_kept(repository, &draft)?;
    // P3: copies and their segments are stored before the plan.
    let repacked = match repack::repack(repository, &draft, number, progress)? {
        Outcome::Ready(repacked) => repacked,
        Outcome::Again => return Ok(true),
    };
    if trust == Trust::Needed && !closing::has_all(&draft, &repacked) {
        repacked.end()?;
        return Err(closing::not_all());
    }
    let unused = draft.stock.packs.iter().zip(&draft.fates);
    let unused = unused.filter(|(_, fate)| **fate == Fate::Condemn).map(|(pack, _)| pack.id);
    let mut condemned: Vec<PackId> = unused.chain(draft.silent.iter().copied()).collect();
    condemned.extend(&repacked.packs);
    condemned.sort_unstable();
    let mut marked = draft.marked;
    marked.truncate(MARKED_MAX);
    // P4. Lost: the loop looks what is there now, and this plan is thrown away.
    let plan = Plan { condemned, marked };
    let published = repository.put_epoch(number + 1, EpochStep::Plan, &plan.encode());
    let bytes = repacked.bytes;
    // From here on the plan protects the copies, and nothing else is needed.
    repacked.end()?;
    if published? {
        report.figures = Some(draft.figures);
        report.bytes_repacked += bytes;
        // All that stays is named elsewhere now.
        for (id, _) in &draft.stock.damaged {
            repository.storage().delete(&segment_key(id))?;
        }
    }
    Ok(true)
}

/// Names the packs that no segment names and that stay. Those of undecided sessions are named by
/// these, unless a segment is damaged, which may have been theirs.
fn name_kept(repository: &Repository, draft: &Draft) -> Result<(), OpsError> {
    let all = !draft.stock.damaged.is_empty();
    let kept = draft.stock.packs.iter().zip(&draft.fates).zip(&draft.usage.spared);
    let kept = kept.filter(|((pack, fate), spared)| {
        pack.unnamed && pack.listed && **fate == Fate::Keep && (all || !**spared)
    });
    name(repository, kept.map(|((pack, _), _)| pack.id))?;
    Ok(())
}

/// Where nothing is to be removed: segments that do not open, or that name packs which are not
/// there and which nobody needs, are replaced all the same.
fn mend_index(
    repository: &Repository,
    draft: &Draft,
    progress: &dyn Progress,
) -> Result<(), OpsError> {
    if draft.stock.packs.iter().any(|pack| pack.named && !pack.listed) {
        sweep::replace_segments(repository, &[], progress)?;
    }
    if !draft.stock.damaged.is_empty() {
        name_kept(repository, draft)?;
        for (id, _) in &draft.stock.damaged {
            repository.storage().delete(&segment_key(id))?;
        }
    }
    Ok(())
}

/// Stores what packs say of themselves as a segment: those that no segment names and that stay
/// are found by everyone from then on.
pub(super) fn name(
    repository: &Repository,
    packs: impl IntoIterator<Item = PackId>,
) -> Result<Option<SegmentId>, OpsError> {
    let (storage, sealer) = (repository.storage(), repository.sealer());
    let mut infos = Vec::new();
    for id in packs {
        match read_trailer(storage, sealer, &id) {
            Ok(info) => infos.push(info),
            // Swept meanwhile: another prune was faster, and this one's record will be too late.
            Err(PackError::Storage(error)) if error.is_not_found() => {}
            Err(error) => return Err(RepoError::from(error).into()),
        }
    }
    match infos.is_empty() {
        true => Ok(None),
        false => Ok(Some(write_segment(storage, sealer, repository.world(), &infos)?)),
    }
}
