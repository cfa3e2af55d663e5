//! When packs were last read and found good, and snapshots with all that they need: kept in the
//! state directory, because finding it out again means reading everything.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::CheckReport;
use crate::id::{PackId, SnapshotId};
use crate::ops::memory;
use crate::repo::{RepoError, Repository, SnapshotRecord};
use crate::world::Time;

/// What the file begins with.
const MAGIC: &[u8; 16] = b"holdall verified";
/// Of an id, which is random, this much tells it from all others.
const KEY_LEN: usize = 16;
/// A key, and seconds since 1970.
const ROW_LEN: usize = KEY_LEN + 8;
/// So many packs and snapshots are remembered.
const ROWS_MAX: usize = 1 << 21;

type Key = [u8; KEY_LEN];

/// A pack or a snapshot, by its random id.
fn key(id: &[u8; 32]) -> Key {
    std::array::from_fn(|at| id[at])
}

/// When each was found good, seconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Verified {
    times: BTreeMap<Key, i64>,
}

impl Verified {
    fn path(repository: &Repository) -> PathBuf {
        repository.environment().state.join("verified")
    }

    pub fn load(repository: &Repository) -> Self {
        Self::decode(&Self::read(repository))
    }

    fn read(repository: &Repository) -> Vec<u8> {
        let len_max = MAGIC.len() + ROWS_MAX * ROW_LEN;
        memory::read(&Self::path(repository), len_max as u64)
    }

    fn decode(bytes: &[u8]) -> Self {
        let rows = bytes.strip_prefix(MAGIC).unwrap_or_default().as_chunks::<ROW_LEN>().0;
        let row = |row: &[u8; ROW_LEN]| {
            let (id, time) = row.split_at(KEY_LEN);
            Some((*id.first_chunk()?, i64::from_le_bytes(*time.first_chunk()?)))
        };
        Self { times: rows.iter().filter_map(row).collect() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (id, time) in self.times.iter().take(ROWS_MAX) {
            bytes.extend_from_slice(id);
            bytes.extend_from_slice(&time.to_le_bytes());
        }
        bytes
    }

    /// When a pack was read last; a time that is still to come says nothing.
    pub fn time(&self, id: &[u8; 32], now: Time) -> Option<i64> {
        self.times.get(&key(id)).copied().filter(|time| *time <= now.seconds)
    }

    /// Changes what is remembered by now. Where it cannot be written the next check reads more;
    /// this one is done.
    fn change(repository: &Repository, change: impl FnOnce(&mut Self)) {
        // What another process has found out meanwhile stays.
        let before = Self::read(repository);
        let mut verified = Self::decode(&before);
        change(&mut verified);
        let after = verified.encode();
        if after != before {
            let _ = memory::replace(&Self::path(repository), &after);
        }
    }

    /// Packs were read just now.
    pub fn remember_packs(repository: &Repository, good: &[PackId], broken: &HashSet<PackId>) {
        let now = repository.world().now().seconds;
        Self::change(repository, |verified| {
            verified.times.extend(good.iter().map(|id| (key(&id.0), now)));
            broken.iter().for_each(|id| _ = verified.times.remove(&key(&id.0)));
        });
    }

    /// A check of snapshots that need no more than these packs has ended: those that lack nothing
    /// are good since the pack that was not read for the longest time was read, and those that
    /// are damaged are not good any more.
    pub fn remember_snapshots(
        repository: &Repository,
        records: &[SnapshotRecord],
        packs: &[PackId],
        report: &CheckReport,
    ) {
        let now = repository.world().now();
        Self::change(repository, |verified| {
            report.touched.iter().for_each(|t| _ = verified.times.remove(&key(&t.snapshot.0)));
            let times = packs.iter().map(|pack| verified.time(&pack.0, now));
            // With no pack at all there is nothing that could have been read.
            let since = times.min().flatten();
            let is_whole = report.chunks_damaged == 0 && report.touched.is_empty();
            if let Some(since) = since.filter(|_| is_whole) {
                verified.times.extend(records.iter().map(|record| (key(&record.id.0), since)));
            }
        });
    }

    /// Forgets about packs and snapshots that are gone.
    pub fn tidy(repository: &Repository, packs: &[PackId]) -> Result<(), RepoError> {
        let mut there: HashSet<Key> = packs.iter().map(|id| key(&id.0)).collect();
        there.extend(repository.counted()?.iter().map(|id| key(&id.0)));
        Self::change(repository, |verified| verified.times.retain(|id, _| there.contains(id)));
        Ok(())
    }
}

/// When all that a snapshot needs was last known to have been read and found good, by checks that
/// ran here: not later than the oldest of its packs' last readings.
pub fn verified_times(
    repository: &Repository,
    ids: impl IntoIterator<Item = SnapshotId>,
) -> BTreeMap<SnapshotId, Time> {
    let verified = Verified::load(repository);
    let now = repository.world().now();
    let time =
        |id: SnapshotId| verified.time(&id.0, now).map(|seconds| (id, Time::from_seconds(seconds)));
    ids.into_iter().filter_map(time).collect()
}
