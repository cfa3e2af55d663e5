//! What is missing: a pure function over what is there, what is remembered, and what was
//! forgotten.

use std::collections::{BTreeMap, BTreeSet};

use super::memory::HEADS_MAX;
use super::{Alarm, Head};
use crate::id::{ClientId, SnapshotId};
use crate::repo::SnapshotRecord;

/// What should be there, and is not. `counted` are all snapshots that count, those that cannot be
/// read among them: their damage is told elsewhere.
pub(super) fn judge(
    records: &[SnapshotRecord],
    counted: &BTreeSet<SnapshotId>,
    remembered: &BTreeMap<SnapshotId, Head>,
    forgotten: &[(SnapshotId, ClientId, u64)],
) -> Vec<Alarm> {
    let gone: BTreeSet<SnapshotId> = forgotten.iter().map(|(id, ..)| *id).collect();
    let hashes: BTreeMap<SnapshotId, [u8; 32]> =
        records.iter().map(|record| (record.id, record.hash)).collect();
    let linked = records.iter().flat_map(links);
    let mut alarms = BTreeMap::new();
    // What was seen is the better witness than what a link says.
    for head in linked.chain(remembered.values().copied()) {
        if gone.contains(&head.id) {
            continue;
        }
        if !counted.contains(&head.id) {
            alarms.insert(head.id, Alarm::Missing(head));
        } else if hashes.get(&head.id).is_some_and(|hash| *hash != head.hash) {
            alarms.insert(head.id, Alarm::Changed(head));
        }
    }
    let mut alarms: Vec<Alarm> = alarms.into_values().collect();
    alarms.extend(gaps(records, remembered, forgotten));
    alarms
}

/// The snapshots that one names as those before it.
fn links(record: &SnapshotRecord) -> impl Iterator<Item = Head> {
    let (client, number) = (record.snapshot.client, record.snapshot.number.saturating_sub(1));
    let links = record.snapshot.previous.iter();
    links.map(move |(id, hash)| Head { id: *id, hash: *hash, client, number })
}

/// Numbers that nobody has. A copy keeps the number that it had in another repository's line, and
/// is in none here.
fn gaps(
    records: &[SnapshotRecord],
    remembered: &BTreeMap<SnapshotId, Head>,
    forgotten: &[(SnapshotId, ClientId, u64)],
) -> Vec<Alarm> {
    let mut lines: BTreeMap<(ClientId, &str), BTreeMap<u64, &str>> = BTreeMap::new();
    for record in records.iter().filter(|r| r.snapshot.original.is_none()) {
        let snapshot = &record.snapshot;
        let line = lines.entry((snapshot.client, &snapshot.job)).or_default();
        line.insert(snapshot.number, &snapshot.host);
        // Whether what it links to is there was looked at already.
        if !snapshot.previous.is_empty() {
            line.entry(snapshot.number.saturating_sub(1)).or_insert(&snapshot.host);
        }
    }
    // Neither tells the job; so a number is found in a line where another job of the client had it.
    let known = forgotten.iter().map(|(_, client, number)| (*client, *number));
    let known = known.chain(remembered.values().map(|head| (head.client, head.number)));
    let mut accounted: BTreeMap<ClientId, BTreeSet<u64>> = BTreeMap::new();
    known.for_each(|(client, number)| _ = accounted.entry(client).or_default().insert(number));
    let mut alarms = Vec::new();
    for ((client, job), line) in lines {
        let numbers = accounted.get(&client);
        let mut next = 1u64;
        for (number, host) in line {
            let span = next..number.max(next);
            let between = numbers.into_iter().flat_map(|numbers| numbers.range(span.clone()));
            for end in between.copied().chain([number]) {
                if end > next {
                    let (host, job) = (host.to_owned(), job.to_owned());
                    alarms.push(Alarm::Gap { client, host, job, first: next, last: end - 1 });
                }
                next = next.max(end.saturating_add(1));
            }
        }
    }
    alarms
}

/// What is to be remembered from now on: what is missing or changed or cannot be read, and of the
/// rest all that no other one names as the one before it. `records` come oldest first.
pub(super) fn to_remember(
    records: &[SnapshotRecord],
    counted: &BTreeSet<SnapshotId>,
    fenced: &BTreeSet<SnapshotId>,
    remembered: &BTreeMap<SnapshotId, Head>,
    alarms: &[Alarm],
) -> BTreeMap<SnapshotId, Head> {
    let read: BTreeSet<SnapshotId> = records.iter().map(|record| record.id).collect();
    let unread = |head: &&Head| counted.contains(&head.id) && !read.contains(&head.id);
    let mut heads: BTreeMap<SnapshotId, Head> =
        remembered.values().filter(unread).map(|head| (head.id, *head)).collect();
    for alarm in alarms {
        match alarm {
            Alarm::Missing(head) => _ = heads.insert(head.id, *head),
            Alarm::Changed(head) if remembered.contains_key(&head.id) => {
                heads.insert(head.id, *head);
            }
            _ => {}
        }
    }
    let linked: BTreeSet<SnapshotId> = records.iter().flat_map(links).map(|head| head.id).collect();
    let is_tip =
        |record: &&SnapshotRecord| !linked.contains(&record.id) && !fenced.contains(&record.id);
    let room = HEADS_MAX.saturating_sub(heads.len());
    for record in records.iter().rev().filter(is_tip).take(room) {
        heads.entry(record.id).or_insert_with(|| Head::of(record));
    }
    heads
}

#[cfg(test)]
mod tests;
