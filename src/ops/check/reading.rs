//! Which packs are read, and reading them.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::super::OpsError;
use super::super::mark::{Place, Stock};
use super::packs::{PackDamage, check_pack};
use super::{CheckOptions, Findings, ReadData};
use crate::format::pack::pack_key;
use crate::id::PackId;
use crate::progress::Counter;
use crate::repo::Repository;
use crate::world::Time;

/// A pack to be read: its place in the stock, its name, its length.
type Chosen = (u32, PackId, u64);

/// The packs to be read.
pub(super) fn choose(
    repository: &Repository,
    stock: &Stock,
    options: &CheckOptions,
    wanted: Option<&HashSet<u32>>,
) -> Vec<Chosen> {
    let verified = Verified::load(repository);
    let now = repository.world().now();
    let is_recent = |id: &PackId| {
        let age = verified.times.get(id).map(|time| now.seconds.saturating_sub(*time));
        let limit = options.max_age_seconds.and_then(|max| i64::try_from(max).ok());
        age.zip(limit).is_some_and(|(age, limit)| (0..=limit).contains(&age))
    };
    let mut chosen: Vec<Chosen> = (0..)
        .zip(&stock.packs)
        .filter(|(_, pack)| pack.listed && !is_recent(&pack.id))
        .filter(|(place, _)| wanted.is_none_or(|wanted| wanted.contains(place)))
        .map(|(place, pack)| (place, pack.id, pack.len))
        .collect();
    // The places are those in which the index has them; reading goes by names.
    chosen.sort_unstable_by_key(|(_, id, _)| *id);
    let part_of = |id: &PackId, of: u32| {
        // Ids are random: their first bytes spread packs over the parts, the same way each time.
        let first = id.0.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        first % of.max(1)
    };
    match options.read_data {
        ReadData::None => chosen.clear(),
        ReadData::All => {}
        ReadData::Part { part, of } => {
            chosen.retain(|(_, id, _)| part_of(id, of) == part.saturating_sub(1));
        }
        ReadData::Share(share) => {
            let total: u64 = chosen.iter().map(|(.., len)| len).sum();
            limit(repository, &mut chosen, (total as f64 * share.clamp(0.0, 1.0)).ceil() as u64);
        }
        ReadData::Bytes(bytes) => limit(repository, &mut chosen, bytes),
    }
    chosen
}

/// Random packs of about so many bytes together.
fn limit(repository: &Repository, packs: &mut Vec<Chosen>, bytes: u64) {
    let salt: [u8; 32] = crate::world::random(repository.world());
    packs.sort_by_key(|(_, id, _)| *blake3::keyed_hash(&salt, id.as_bytes()).as_bytes());
    let mut sum = 0u64;
    packs.retain(|(.., len)| {
        let wanted = sum < bytes;
        sum = sum.saturating_add(*len);
        wanted
    });
}

/// Reads packs with several threads. Returns the frames that do not open.
pub(super) fn read(
    repository: &Repository,
    stock: &Stock,
    chosen: &[Chosen],
    findings: &mut Findings<'_>,
) -> Result<Vec<Place>, OpsError> {
    let progress = findings.progress;
    let total = chosen.iter().map(|(.., len)| len).sum();
    progress.phase("reading packs", Counter::StoredBytes, Some(total));
    let results = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..repository.environment().threads.max(1) {
            scope.spawn(|| {
                while !progress.cancelled() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(pack) = chosen.get(number) else { break };
                    let mut read = |len| progress.add(Counter::StoredBytes, len);
                    let damage = check_pack(repository, stock, pack.0, &mut read);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((*pack, damage));
                    progress.add(Counter::Objects, 1);
                }
            });
        }
    });
    let (mut good, mut bad, mut broken) = (Vec::new(), HashSet::new(), Vec::new());
    for ((place, id, len), damage) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
        findings.report.packs_read += 1;
        let damage = damage?;
        if damage.is_empty() {
            findings.report.bytes_read += len;
            good.push(id);
            continue;
        }
        bad.insert(id);
        for PackDamage { why, frame } in damage {
            findings.damaged(&pack_key(&id), why);
            broken.extend(frame.map(|frame| (place, frame)));
        }
    }
    Verified::remember(repository, good, &bad);
    match progress.cancelled() {
        true => Err(OpsError::Cancelled),
        false => Ok(broken),
    }
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

    fn remember(repository: &Repository, good: Vec<PackId>, broken: &HashSet<PackId>) {
        let Time { seconds, .. } = repository.world().now();
        let mut verified = Self::load(repository);
        verified.times.retain(|id, _| !broken.contains(id));
        verified.times.extend(good.into_iter().map(|id| (id, seconds)));
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
