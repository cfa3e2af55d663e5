//! Puts and deletes that arrive arbitrarily late, in the middle of whatever others do (P9, F1, F2,
//! W1, W6): nothing that was said to be saved is lost, and in the end nothing is left over.

use std::sync::Arc;

use holdall::format::session::Purpose;
use holdall::ops::check::{CheckOptions, ReadData, check};
use holdall::ops::prune::{Limit, PruneOptions, prune};
use holdall::progress::Silent;
use holdall::repo::{Repository, Session, SnapshotRecord, may_put_again};
use holdall::storage::{MemoryStorage, RetryingStorage, Storage};
use holdall::world::{SeededWorld, Time, random};

use crate::support::repository::{TestRepo, small};
use crate::support::snapshots::{
    Tree, assert_snapshots, commit_in, commit_tree, files, read_tree, write_tree,
};
use crate::support::storages::Late;

/// Whoever writes is taken for dead in half of the prunes.
fn sweep(repository: &Arc<Repository>, all_are_dead: bool) -> bool {
    let is_dead = |_: &_, _: &_| all_are_dead;
    let max_unused = Limit::Percent(0.0);
    let options = PruneOptions { is_dead: &is_dead, max_unused, ..PruneOptions::default() };
    prune(repository, &options, &Silent::default()).is_ok_and(|report| report.open_epoch.is_none())
}

fn history(seed: u64) -> u64 {
    let memory = Arc::new(MemoryStorage::new());
    let repo = TestRepo::create(memory.clone(), &small(), seed);
    let late = Arc::new(Late::new(memory.clone(), 6, seed));
    let world = Arc::new(SeededWorld::new(seed, Time::default()));
    // Half of them ask again, so that some changes are asked for twice and arrive twice.
    let storage: Arc<dyn Storage> = match seed % 2 {
        0 => late.clone(),
        _ => {
            let wait = Box::new(|_| true);
            Arc::new(RetryingStorage::new(late.clone(), world.clone(), wait, may_put_again))
        }
    };
    let dice = |sides: u64| u64::from_le_bytes(random(&*world)) % sides;
    let caches = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut saved: Vec<(SnapshotRecord, Tree)> = Vec::new();
    let mut slow: Option<(Session, Tree)> = None;
    for step in 0..30 {
        let cache = caches[dice(2) as usize].path();
        let repository = repo.open_on(storage.clone(), cache);
        let tree = files(dice(5), 5, 4_000);
        match dice(6) {
            0 | 1 => {
                saved.extend(commit_tree(&repository, &tree).ok().map(|record| (record, tree)))
            }
            // A writer that is at work while others forget and prune.
            2 if slow.is_none() => {
                let begun = Session::begin(&repository, Purpose::Backup, None);
                slow = begun.ok().and_then(|mut session| {
                    write_tree(&mut session, &tree).ok()?;
                    Some((session, tree))
                });
            }
            2 => {
                let (session, tree) = slow.take().unwrap();
                saved.extend(commit_in(session, &tree).ok().map(|record| (record, tree)));
            }
            3 if saved.len() > 2 => {
                let (record, _) = saved.remove(dice(2) as usize);
                // Without an answer it may be forgotten now, later, or not.
                let _ = repository.forget(&[record]);
            }
            _ => _ = sweep(&repository, dice(2) == 0),
        }
        let fresh = tempfile::tempdir().unwrap();
        let calm = repo.open_on(memory.clone(), fresh.path());
        let counted = calm.counted().unwrap();
        for (record, tree) in &saved {
            assert!(counted.contains(&record.id), "seed {seed}, step {step}: {:?}", record.id);
            let found = read_tree(&calm, record);
            assert!(found.is_ok_and(|found| found == *tree), "seed {seed}, step {step}");
        }
    }
    drop(slow);
    let delivered = late.deliver_all();
    let fresh = tempfile::tempdir().unwrap();
    let calm = repo.open_on(memory.clone(), fresh.path());
    let known = |record: &SnapshotRecord| saved.iter().any(|(saved, _)| saved.id == record.id);
    for record in calm.snapshots(&Silent::default()).unwrap() {
        if !known(&record) {
            calm.forget(&[record]).unwrap();
        }
    }
    assert!((0..3).any(|_| sweep(&calm, true)), "seed {seed}: no prune comes to its end");
    // Packs of sessions that the first one fenced are freed by the next one.
    assert!(sweep(&calm, true));
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let report = check(&calm, &options, &Silent::default()).unwrap();
    assert!(report.is_whole() && report.packs_unknown == 0, "seed {seed}: {report:?}");
    assert_snapshots(&calm, &saved);
    delivered
}

#[test]
fn what_arrives_late_harms_nothing() {
    let delivered: u64 = (0..6).map(history).sum();
    assert!(delivered > 40, "{delivered} are too few to show anything");
}
