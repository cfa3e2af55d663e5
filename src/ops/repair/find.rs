//! The plan: what is damaged, and where it can be had from. Reads only.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::super::OpsError;
use super::super::check::{self, Touched};
use super::super::mark::{Loss, Marks, Place, Stock, StockedPack, Visitor, mark};
use super::{DamagedPack, RepairOptions, RepairPlan, Source, packs, segments, snapshots};
use crate::format::frame::ChunkKind;
use crate::format::pack::pack_of_key;
use crate::format::parity::parity_of_key;
use crate::id::{ChunkId, FrameId, NoteId, PackId, SnapshotId};
use crate::progress::{Counter, Progress, Silent};
use crate::repo::Repository;

/// So many losses are told apart.
const LOSSES_MAX: usize = 100_000;

/// Something that a snapshot needs and that no pack here has.
pub(super) struct Lost {
    pub kind: ChunkKind,
    pub id: ChunkId,
    pub snapshot: SnapshotId,
    pub path: Vec<u8>,
}

#[derive(Default)]
struct Losses {
    rows: Vec<Lost>,
}

impl Visitor for Losses {
    fn loss(&mut self, loss: Loss<'_>) -> Result<(), OpsError> {
        if self.rows.len() < LOSSES_MAX {
            let path = if loss.path.is_empty() { b"/" } else { loss.path };
            let Loss { kind, id, snapshot, .. } = loss;
            self.rows.push(Lost { kind, id, snapshot, path: path.to_vec() });
        }
        Ok(())
    }
}

/// What all snapshots that open miss.
pub(super) fn losses(
    repository: &Arc<Repository>,
    stock: &Stock,
    progress: &dyn Progress,
) -> Result<Vec<Lost>, OpsError> {
    let records = repository.snapshots(&Silent::default())?;
    let roots: Vec<_> = records.into_iter().map(|r| (r.id, r.snapshot.root)).collect();
    let mut losses = Losses::default();
    let mut marks = Marks::new(stock.chunk_count());
    mark(repository, stock, &roots, &mut marks, &mut losses, progress)?;
    Ok(losses.rows)
}

/// What is wrong with a pack, as it is found.
#[derive(Default)]
struct Finding {
    why: Vec<String>,
    frames: BTreeSet<FrameId>,
}

pub(super) fn find(
    repository: &Arc<Repository>,
    options: &RepairOptions<'_>,
    progress: &dyn Progress,
) -> Result<RepairPlan, OpsError> {
    let mut stock = Stock::take(repository)?;
    stock.require_known()?;
    let segments = segments::read(repository)?;
    let recorded = repository.damage(&Silent::default())?;
    let mut findings = told_by_listing(&stock)?;
    let wanted = |pack: &StockedPack| pack.listed && (options.read_data || pack.damaged);
    let wanted: HashSet<u32> =
        (0..).zip(&stock.packs).filter(|(_, pack)| wanted(pack)).map(|(place, _)| place).collect();
    let mut parity = BTreeSet::new();
    let told = (&mut findings, &mut parity);
    let mut read = read_packs(repository, &mut stock, &wanted, told, progress)?;
    let mut lost = losses(repository, &stock, progress)?;
    // A tree that does not open gives its pack away.
    let suspects = suspects(&stock, &lost, &read)?;
    if !suspects.is_empty() {
        let told = (&mut findings, &mut parity);
        read.extend(read_packs(repository, &mut stock, &suspects, told, progress)?);
        lost = losses(repository, &stock, progress)?;
    }
    let listed: HashSet<PackId> = repository.list_packs()?.into_iter().map(|(id, _)| id).collect();
    let is_outdated = |pack: &PackId| read.contains(pack) && !findings.contains_key(pack);
    let outdated = recorded.iter().filter(|(_, damage)| is_outdated(&damage.pack));
    let outdated: Vec<NoteId> = outdated.map(|(id, _)| *id).collect();
    missing_packs(&stock, &lost, &mut findings)?;
    let openers = repository.damaged_openers()?.into_iter();
    let mut plan = RepairPlan {
        openers: openers
            .map(|it| (String::from_utf8_lossy(&it.what).into_owned(), it.why))
            .collect(),
        unnamed: listed.difference(&segments.named).copied().collect(),
        segments: segments.damaged,
        unsaid: snapshots::unsaid(repository)?,
        outdated,
        damaged_parity: parity.into_iter().collect(),
        ..RepairPlan::default()
    };
    plan.uncounted = snapshots::uncounted(repository, &stock)?;
    plan.unreadable = snapshots::unreadable(repository, &plan.uncounted)?;
    if lost.is_empty() {
        plan.uncounted.append(&mut snapshots::with_damaged_session(repository)?);
    }
    plan.unnamed.retain(|id| !findings.contains_key(id));
    plan.unnamed.sort_unstable();
    // What parity gives back, or what is sound after all, is not lost.
    let mut whole: HashSet<PackId> = read.difference(&keys(&findings)).copied().collect();
    let with_parity = repository.list_parity()?;
    progress.phase("looking for what mends", Counter::Objects, Some(findings.len() as u64));
    for id in findings.keys().filter(|id| with_parity.contains(id)) {
        if packs::from_parity(repository, id)?.is_some() {
            whole.insert(*id);
        }
    }
    let sources = judge(&stock, &whole, lost, options, &mut plan)?;
    let known: HashMap<PackId, BTreeSet<FrameId>> =
        recorded.into_iter().map(|(_, it)| (it.pack, it.frames.into_iter().collect())).collect();
    plan.packs = findings
        .into_iter()
        .map(|(id, finding)| DamagedPack {
            id,
            is_news: known.get(&id).is_none_or(|frames| !finding.frames.is_subset(frames)),
            why: finding.why.join("; "),
            frames: finding.frames.into_iter().collect(),
            from: match whole.contains(&id) {
                true => Source::Parity,
                false => sources.get(&id).copied().unwrap_or(Source::Frames),
            },
        })
        .collect();
    if options.add_parity.map_or_else(|| repository.parity(), Ok)? > 0 {
        plan.without_parity = listed.difference(&with_parity).count() as u64;
    }
    Ok(plan)
}

fn keys(findings: &Findings) -> HashSet<PackId> {
    findings.keys().copied().collect()
}

type Findings = BTreeMap<PackId, Finding>;

/// Packs of which the listing, or the lack of a trailer, says that they are damaged.
fn told_by_listing(stock: &Stock) -> Result<Findings, OpsError> {
    let mut findings = Findings::new();
    for (id, _, error) in &stock.silent {
        let why = format!("its trailer cannot be read: {error}");
        findings.entry(*id).or_default().why.push(why);
    }
    for (place, pack) in (0..).zip(&stock.packs) {
        if pack.listed && !pack.whole {
            let why = format!("it has {} bytes instead of {}", pack.len, stock.row(place)?.len);
            findings.entry(pack.id).or_default().why.push(why);
        }
    }
    Ok(findings)
}

/// Packs that are there, should have what is lost, and were not read yet.
fn suspects(
    stock: &Stock,
    lost: &[Lost],
    read: &HashSet<PackId>,
) -> Result<HashSet<u32>, OpsError> {
    let mut suspects = HashSet::new();
    for lost in lost {
        for place in stock.known_places(&lost.id)? {
            let bases = stock.bases_of(place).into_iter().flatten();
            for (place, _) in bases.chain([place]) {
                let pack = stock.packs.get(place as usize);
                if pack.is_some_and(|pack| pack.listed && !read.contains(&pack.id)) {
                    suspects.insert(place);
                }
            }
        }
    }
    Ok(suspects)
}

/// Reads packs from the first byte to the last, and returns which. What does not open counts as
/// not there from then on.
fn read_packs(
    repository: &Arc<Repository>,
    stock: &mut Stock,
    wanted: &HashSet<u32>,
    (findings, parity): (&mut Findings, &mut BTreeSet<PackId>),
    progress: &dyn Progress,
) -> Result<HashSet<PackId>, OpsError> {
    let (seen, objects) = check::read_packs(repository, stock, wanted, progress)?;
    for object in objects {
        if let Some(id) = pack_of_key(&object.key) {
            findings.entry(id).or_default().why.push(object.why);
        } else if let Some(id) = parity_of_key(&object.key) {
            parity.insert(id);
        }
    }
    for (place, number) in &seen.broken {
        let row = stock.row(*place)?;
        let frame = row.frames.get(usize::from(*number)).map(|frame| frame.id);
        findings.entry(row.id).or_default().frames.extend(frame);
    }
    stock.observe(&seen.packs, &seen.broken)?;
    let read = wanted.iter().filter_map(|place| stock.packs.get(*place as usize));
    Ok(read.map(|pack| pack.id).collect())
}

/// Prunes remove packs that the local index still knows: only one that is needed is missed.
fn missing_packs(stock: &Stock, lost: &[Lost], findings: &mut Findings) -> Result<(), OpsError> {
    for lost in lost {
        for place in stock.known_places(&lost.id)? {
            let bases = stock.bases_of(place).into_iter().flatten();
            for place in bases.chain([place]) {
                let Some(pack) = stock.packs.get(place.0 as usize) else { continue };
                if !pack.listed && !findings.contains_key(&pack.id) {
                    let frames = stock.row(place.0)?.frames.iter().map(|frame| frame.id).collect();
                    let finding = Finding { why: vec!["it is missing".into()], frames };
                    findings.insert(pack.id, finding);
                }
            }
        }
    }
    Ok(())
}

/// Which of the losses the other repository has, and what is nowhere. Returns the worst of it for
/// each pack.
fn judge(
    stock: &Stock,
    whole: &HashSet<PackId>,
    lost: Vec<Lost>,
    options: &RepairOptions<'_>,
    plan: &mut RepairPlan,
) -> Result<HashMap<PackId, Source>, OpsError> {
    let mut sources: HashMap<PackId, Source> = HashMap::new();
    let mut judged: HashMap<ChunkId, bool> = HashMap::new();
    for Lost { id, snapshot, path, .. } in lost {
        let places: Vec<Place> = stock.known_places(&id)?;
        let packs = || places.iter().filter_map(|place| stock.packs.get(place.0 as usize));
        if packs().any(|pack| whole.contains(&pack.id)) {
            continue;
        }
        let is_had = match judged.get(&id) {
            Some(is_had) => *is_had,
            None => {
                let is_had = match options.from {
                    Some(mirror) => mirror.has(&id)?,
                    None => false,
                };
                plan.chunks_lost += 1;
                plan.chunks_in_mirror += u64::from(is_had);
                judged.insert(id, is_had);
                is_had
            }
        };
        for pack in packs() {
            let source = sources.entry(pack.id).or_insert(Source::Mirror);
            if !is_had {
                *source = Source::Nowhere;
            }
        }
        let touched = Touched { snapshot, path };
        if !is_had && plan.touched.last() != Some(&touched) {
            plan.touched.push(touched);
        }
    }
    Ok(sources)
}
