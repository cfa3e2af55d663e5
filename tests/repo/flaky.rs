//! Storages that fail now and then, or whose answers get lost: nothing that was said to be saved is
//! lost, and when the storage is well again so is the repository.

use std::sync::Arc;

use holdall::ops::OpsError;
use holdall::ops::check::{CheckOptions, ReadData, check};
use holdall::ops::forget::{ForgetOptions, forget};
use holdall::ops::prune::{Limit, PruneOptions, prune};
use holdall::progress::Silent;
use holdall::repo::{RepoError, Repository, SnapshotRecord};
use holdall::storage::{MemoryStorage, Storage};

use crate::support::repository::TestRepo;
use crate::support::snapshots::{Tree, assert_snapshots, commit_tree, files, read_tree};
use crate::support::storages::Faulty;

/// Nobody here is alive when a prune begins.
fn sweep(repository: &Arc<Repository>) -> std::result::Result<(), OpsError> {
    let is_dead = |_: &_, _: &_| true;
    let max_unused = Limit::Percent(0.0);
    let options = PruneOptions { is_dead: &is_dead, max_unused, ..PruneOptions::default() };
    prune(repository, &options, &Silent::default()).map(|_| ())
}

/// An error that says what failed, and never that something is damaged or lost.
#[track_caller]
fn assert_is_outage(error: &OpsError) {
    let is_outage = error.to_string().contains("a fault of the test")
        || matches!(error, OpsError::Repo(RepoError::Fenced(_)));
    assert!(is_outage, "{error}");
}

#[test]
fn what_was_saved_survives_any_storage_that_fails_now_and_then() {
    for (seed, one_in) in [(1, 5), (2, 15), (3, 50)] {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let repo = TestRepo::create(storage.clone(), &crate::support::repository::small(), seed);
        let flaky = Arc::new(Faulty::new(storage));
        let mut failed = 0;
        let mut saved: Vec<(SnapshotRecord, Tree)> = Vec::new();
        for step in 0..24u64 {
            let cache = tempfile::tempdir().unwrap();
            let repository = repo.open_on(flaky.clone(), cache.path());
            flaky.fail_by_chance(one_in, seed * 100 + step);
            match step % 6 {
                0..3 => {
                    let tree = files(step % 5, 6, 5_000);
                    match commit_tree(&repository, &tree) {
                        Ok(record) => saved.push((record, tree)),
                        Err(error) => assert_is_outage(&error.into()),
                    }
                }
                3 if saved.len() > 2 => {
                    let (record, tree) = saved.remove(0);
                    let ids = vec![record.id];
                    let options = ForgetOptions { ids, ..ForgetOptions::default() };
                    if let Err(error) = forget(&repository, &options, &Silent::default()) {
                        assert_is_outage(&error);
                        // Forgotten or not: both are true after an answer that was lost.
                        failed += flaky.clear();
                        if repository.counted().unwrap().contains(&record.id) {
                            saved.insert(0, (record, tree));
                        }
                    }
                }
                4 => {
                    for (record, tree) in &saved {
                        if let Ok(found) = read_tree(&repository, record) {
                            assert!(found == *tree, "{:?} reads back otherwise", record.id);
                        }
                    }
                }
                _ => {
                    if let Err(error) = sweep(&repository) {
                        assert_is_outage(&error);
                    }
                }
            }
            failed += flaky.clear();
            // A commit whose answer was lost counts, and nobody was told.
            let mut counted = repository.counted().unwrap();
            saved.iter().for_each(|(record, _)| _ = counted.remove(&record.id));
            for record in repository.snapshots(&Silent::default()).unwrap() {
                if counted.contains(&record.id) {
                    repository.forget(&[record]).unwrap();
                }
            }
            assert_snapshots(&repository, &saved);
        }
        let cache = tempfile::tempdir().unwrap();
        let repository = repo.open_on(flaky.clone(), cache.path());
        sweep(&repository).unwrap();
        let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
        let report = check(&repository, &options, &Silent::default()).unwrap();
        assert!(report.is_whole(), "{report:?}");
        assert_snapshots(&repository, &saved);
        assert!(failed > 0, "one in {one_in} is too seldom to show anything");
    }
}
