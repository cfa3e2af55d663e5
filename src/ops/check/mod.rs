//! Check: is the repository whole? Structure always; with `read_data` every byte of it.
//!
//! Nothing is mended here, and one damaged object never hides another.

mod packs;
mod structure;
mod touched;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::OpsError;
use crate::id::{ChunkId, PackId};
use crate::index::PackRow;
use crate::progress::{Counter, Problem, Progress, Silent};
use crate::repo::{Repository, SnapshotRecord};
use crate::world::Time;

pub use packs::PackDamage;
pub use touched::Touched;

/// How much of the packs is read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ReadData {
    /// Nothing: the structure only.
    #[default]
    None,
    /// Every pack.
    All,
    /// A random share, 0 to 1.
    Share(f64),
    /// Random packs of about so many bytes together.
    Bytes(u64),
    /// The `part`th of `of` parts, counted from 1: run after run everything is read.
    Part {
        /// Which.
        part: u32,
        /// Of how many.
        of: u32,
    },
}

/// What is checked.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// Only what these need; everything if empty.
    pub snapshots: Vec<SnapshotRecord>,
    /// How much of the packs is read.
    pub read_data: ReadData,
    /// Packs that were read and found good so many seconds ago at most are not read again.
    pub max_age_seconds: Option<u64>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Snapshots that were walked.
    pub snapshots: u64,
    /// Chunks that they need.
    pub chunks: u64,
    /// Packs that are there.
    pub packs: u64,
    /// Packs that were read.
    pub packs_read: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// Packs that are there and in no index segment: what a run that was cut off left behind.
    pub packs_unknown: u64,
    /// Damaged or missing objects, by key, and what is wrong with each.
    pub damaged: Vec<(String, String)>,
    /// Chunks that snapshots need and that cannot be had.
    pub chunks_damaged: u64,
    /// Files and directories that need them.
    pub touched: Vec<Touched>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.chunks_damaged == 0 && self.touched.is_empty()
    }
}

/// What is known of the packs while a check goes on.
struct Packs {
    /// Those that are there, with their lengths.
    listed: HashMap<PackId, u64>,
    /// Those that the index knows, each once.
    known: BTreeMap<PackId, Arc<PackRow>>,
}

/// Collects what is wrong, and tells it as it comes.
struct Findings<'a> {
    progress: &'a dyn Progress,
    report: CheckReport,
    seen: BTreeSet<(String, String)>,
}

impl Findings<'_> {
    fn damaged(&mut self, key: &str, why: String) {
        if self.seen.insert((key.to_owned(), why.clone())) {
            self.progress.problem(&Problem::damage(key, &why));
            self.report.damaged.push((key.to_owned(), why));
        }
    }
}

/// Checks a repository.
pub fn check(
    repository: &Arc<Repository>,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<CheckReport, OpsError> {
    let mut findings = Findings { progress, report: CheckReport::default(), seen: BTreeSet::new() };
    structure::objects(repository, &mut findings)?;
    let packs = structure::packs(repository, &mut findings)?;
    let records = match options.snapshots.as_slice() {
        [] => repository.snapshots(&Silent::default())?,
        some => some.to_vec(),
    };
    let needs = structure::needs(repository, &records, &packs, &mut findings)?;
    let mut bad: HashSet<ChunkId> = needs.missing;
    if options.read_data != ReadData::None {
        let wanted = needs.packs.filter(|_| !options.snapshots.is_empty());
        let chosen = choose(repository, &packs, options, wanted.as_ref())?;
        let unreadable = read(repository, &chosen, &mut findings)?;
        bad.extend(elsewhere(repository, unreadable, &findings)?);
    }
    findings.report.chunks_damaged = bad.len() as u64;
    if !bad.is_empty() {
        progress.phase("finding what is touched", Counter::Objects, Some(records.len() as u64));
        findings.report.touched = touched::find(repository, &records, &bad, progress)?;
    }
    Ok(findings.report)
}

/// The chunks that no other pack has in good order.
fn elsewhere(
    repository: &Arc<Repository>,
    damage: Vec<PackDamage>,
    findings: &Findings<'_>,
) -> Result<Vec<ChunkId>, OpsError> {
    let broken: HashSet<PackId> = damage.iter().map(|damage| damage.pack).collect();
    let whole_pack = |key: &String| crate::format::pack::pack_of_key(key);
    let missing: HashSet<PackId> =
        findings.report.damaged.iter().filter_map(|(key, _)| whole_pack(key)).collect();
    let mut bad = Vec::new();
    for id in damage.into_iter().flat_map(|damage| damage.chunks) {
        let good = repository.with_index(|index| {
            index.any_location(&id, |place| {
                !broken.contains(&place.pack.id) && !missing.contains(&place.pack.id)
            })
        })??;
        if !good {
            bad.push(id);
        }
    }
    Ok(bad)
}

/// The packs to be read.
fn choose(
    repository: &Repository,
    packs: &Packs,
    options: &CheckOptions,
    wanted: Option<&HashSet<PackId>>,
) -> Result<Vec<Arc<PackRow>>, OpsError> {
    let verified = Verified::load(repository);
    let now = repository.world().now();
    let is_recent = |id: &PackId| {
        let age = verified.times.get(id).map(|time| now.seconds.saturating_sub(*time));
        let limit = options.max_age_seconds.and_then(|max| i64::try_from(max).ok());
        age.zip(limit).is_some_and(|(age, limit)| (0..=limit).contains(&age))
    };
    let mut chosen: Vec<Arc<PackRow>> = packs
        .known
        .values()
        .filter(|pack| packs.listed.contains_key(&pack.id) && !is_recent(&pack.id))
        .filter(|pack| wanted.is_none_or(|wanted| wanted.contains(&pack.id)))
        .cloned()
        .collect();
    let part_of = |id: &PackId, of: u32| {
        // Ids are random: their first bytes spread packs over the parts, the same way each time.
        let first = id.0.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        first % of.max(1)
    };
    match options.read_data {
        ReadData::None => chosen.clear(),
        ReadData::All => {}
        ReadData::Part { part, of } => {
            chosen.retain(|pack| part_of(&pack.id, of) == part.saturating_sub(1));
        }
        ReadData::Share(share) => {
            let total: u64 = chosen.iter().map(|pack| pack.len).sum();
            limit(repository, &mut chosen, (total as f64 * share.clamp(0.0, 1.0)).ceil() as u64);
        }
        ReadData::Bytes(bytes) => limit(repository, &mut chosen, bytes),
    }
    Ok(chosen)
}

/// Random packs of about so many bytes together.
fn limit(repository: &Repository, packs: &mut Vec<Arc<PackRow>>, bytes: u64) {
    let salt: [u8; 32] = crate::world::random(repository.world());
    packs.sort_by_key(|pack| *blake3::keyed_hash(&salt, pack.id.as_bytes()).as_bytes());
    let mut sum = 0u64;
    packs.retain(|pack| {
        let wanted = sum < bytes;
        sum = sum.saturating_add(pack.len);
        wanted
    });
}

/// Reads packs with several threads.
fn read(
    repository: &Arc<Repository>,
    chosen: &[Arc<PackRow>],
    findings: &mut Findings<'_>,
) -> Result<Vec<PackDamage>, OpsError> {
    let progress = findings.progress;
    let total = chosen.iter().map(|pack| pack.len).sum();
    progress.phase("reading packs", Counter::StoredBytes, Some(total));
    let found = Mutex::new(Vec::new());
    let good = Mutex::new(Vec::new());
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..repository.environment().threads.max(1) {
            scope.spawn(|| {
                while !progress.cancelled() {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(pack) = chosen.get(number) else { break };
                    let mut read = |len| progress.add(Counter::StoredBytes, len);
                    let damage = packs::check_pack(repository, pack, &mut read);
                    if damage.is_empty() {
                        lock(&good).push((pack.id, pack.len));
                    }
                    lock(&found).extend(damage);
                    progress.add(Counter::Objects, 1);
                }
            });
        }
    });
    let good = good.into_inner().unwrap_or_else(PoisonError::into_inner);
    let found: Vec<PackDamage> = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    for damage in &found {
        let key = crate::format::pack::pack_key(&damage.pack);
        findings.damaged(&key, damage.why.clone());
    }
    let broken: HashSet<PackId> = found.iter().map(|damage| damage.pack).collect();
    findings.report.packs_read += (good.len() + broken.len()) as u64;
    findings.report.bytes_read += good.iter().map(|(_, len)| len).sum::<u64>();
    Verified::remember(repository, good.into_iter().map(|(id, _)| id), &broken);
    match progress.cancelled() {
        true => Err(OpsError::Cancelled),
        false => Ok(found),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When each pack was last read and found good, kept beside the local index: losing it costs
/// reading again, and nothing else.
struct Verified {
    times: BTreeMap<PackId, i64>,
}

impl Verified {
    fn path(repository: &Repository) -> PathBuf {
        repository.environment().cache.join("verified")
    }

    fn load(repository: &Repository) -> Self {
        let text = std::fs::read_to_string(Self::path(repository)).unwrap_or_default();
        let line = |line: &str| {
            let (id, time) = line.split_once(' ')?;
            Some((PackId::from_hex(id).ok()?, time.parse().ok()?))
        };
        Self { times: text.lines().filter_map(line).collect() }
    }

    fn remember(
        repository: &Repository,
        good: impl Iterator<Item = PackId>,
        broken: &HashSet<PackId>,
    ) {
        let Time { seconds, .. } = repository.world().now();
        let mut verified = Self::load(repository);
        verified.times.retain(|id, _| !broken.contains(id));
        verified.times.extend(good.map(|id| (id, seconds)));
        let lines = verified.times.iter().map(|(id, time)| format!("{id} {time}\n"));
        let path = Self::path(repository);
        let write = || -> std::io::Result<()> {
            let directory = path.parent().unwrap_or(&path);
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            std::io::Write::write_all(&mut file, lines.collect::<String>().as_bytes())?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        // A cache that cannot be written makes the next check slower; this one is done.
        let _ = write();
    }
}
