//! Which packs are read, and reading them.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::super::OpsError;
use super::super::mark::{Place, Stock};
use super::choose::{self, Candidate};
use super::deltas::{self, Noted};
use super::packs::{PackDamage, check_pack};
use super::verified::Verified;
use super::{CheckOptions, Findings};
use crate::format::pack::pack_key;
use crate::format::parity::parity_key;
use crate::id::PackId;
use crate::pack::{PackError, check_parity};
use crate::progress::Counter;
use crate::repo::Repository;
use crate::storage::ErrorKind;

/// After so many packs it is remembered which were good: often enough that a run that dies loses
/// some minutes, and seldom enough that writing it down costs nothing beside the reading.
const PACKS_REMEMBERED_AT_ONCE: usize = 1_024;

/// The packs to be read, in order.
pub(super) fn choose(
    repository: &Repository,
    stock: &Stock,
    options: &CheckOptions,
    wanted: Option<&HashSet<u32>>,
) -> Vec<Candidate> {
    let verified = Verified::load(repository);
    let now = repository.world().now();
    let age = options.max_age_seconds.map(|age| i64::try_from(age).unwrap_or(i64::MAX));
    let recent = age.map(|age| now.seconds.saturating_sub(age));
    let packs = (0..)
        .zip(&stock.packs)
        .filter(|(_, pack)| pack.listed)
        .filter(|(place, _)| wanted.is_none_or(|wanted| wanted.contains(place)));
    let candidates = packs.map(|(place, pack)| Candidate {
        place,
        id: pack.id,
        len: pack.len,
        verified: verified.time(&pack.id.0, now),
    });
    let salt = crate::world::random(repository.world());
    choose::choose(candidates.collect(), options.read_data, recent, &salt)
}

/// What was seen in packs that were read, by their places in the stock.
#[derive(Default)]
pub(in crate::ops) struct Seen {
    /// Packs that gave a clear answer.
    pub packs: HashSet<u32>,
    /// Frames that do not open.
    pub broken: Vec<Place>,
    /// What is wrong with packs that are damaged, in words.
    pub whys: BTreeMap<u32, String>,
}

/// Reads packs, and remembers now and then which were good: whatever ends the run, the next one
/// goes on with the others.
pub(super) fn read(
    repository: &Repository,
    stock: &Stock,
    chosen: &[Candidate],
    findings: &mut Findings<'_>,
) -> Result<Seen, OpsError> {
    let total = chosen.iter().map(|pack| pack.len).sum();
    findings.progress.phase("reading packs", Counter::StoredBytes, Some(total));
    let mut seen = Seen::default();
    let with_parity = repository.list_parity()?;
    let (mut left, mut noted) = (chosen.iter().map(|pack| pack.place).collect(), Noted::default());
    for some in chosen.chunks(PACKS_REMEMBERED_AT_ONCE) {
        deltas::open_ahead(repository, stock, (some, &left), &mut noted, findings.progress)?;
        read_some(repository, stock, (some, &with_parity, &noted), findings, &mut seen)?;
        some.iter().for_each(|pack| _ = left.remove(&pack.place));
        noted.keep(&left);
    }
    Ok(seen)
}

/// Reads packs with several threads.
fn read_some(
    repository: &Repository,
    stock: &Stock,
    (chosen, with_parity, noted): (&[Candidate], &HashSet<PackId>, &Noted),
    findings: &mut Findings<'_>,
    seen: &mut Seen,
) -> Result<(), OpsError> {
    let progress = findings.progress;
    let results = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..repository.environment().threads.max(1) {
            scope.spawn(|| {
                let mut buffer = Vec::new();
                while !progress.cancelled() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(pack) = chosen.get(number) else { break };
                    let mut read = |len| progress.add(Counter::StoredBytes, len);
                    let damage =
                        check_pack(repository, stock, pack.place, noted, &mut buffer, &mut read);
                    let parity =
                        with_parity.contains(&pack.id).then(|| parity_of(repository, &pack.id));
                    if damage.is_err() {
                        // There is no more to be had.
                        next.fetch_max(chosen.len(), Ordering::Relaxed);
                    }
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((*pack, damage, parity.flatten()));
                    progress.add(Counter::Objects, 1);
                }
            });
        }
    });
    let (mut good, mut bad) = (Vec::new(), HashSet::new());
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (Candidate { place, id, len, .. }, damage, parity) in results {
        findings.report.packs_read += 1;
        if let Some(why) = parity {
            findings.damaged(&parity_key(&id), why);
        }
        let damage = damage?;
        if !damage.iter().any(|damage| damage.outage) {
            seen.packs.insert(place);
        }
        if damage.is_empty() {
            findings.report.bytes_read += len;
            good.push(id);
            continue;
        }
        bad.insert(id);
        for PackDamage { why, frame, .. } in damage {
            seen.whys.entry(place).or_insert_with(|| why.clone());
            findings.damaged(&pack_key(&id), why);
            seen.broken.extend(frame.map(|frame| (place, frame)));
        }
    }
    Verified::remember_packs(repository, &good, &bad);
    match progress.cancelled() {
        true => Err(OpsError::Cancelled),
        false => Ok(()),
    }
}

/// What is wrong with a pack's parity. An outage, or a prune that was faster, says nothing about it.
fn parity_of(repository: &Repository, id: &PackId) -> Option<String> {
    match check_parity(repository.storage(), repository.sealer(), id) {
        Ok(()) => None,
        Err(PackError::Storage(error)) if error.kind != ErrorKind::Corrupt => None,
        Err(error) => Some(error.to_string()),
    }
}
