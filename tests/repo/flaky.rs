//! Storages that fail now and then, or whose answers get lost: nothing that was said to be saved is
//! lost, and when the storage is well again so is the repository.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use holdall::ops::OpsError;
use holdall::ops::check::{CheckOptions, ReadData, check};
use holdall::ops::forget::{ForgetOptions, forget};
use holdall::ops::prune::{Limit, PruneOptions, prune};
use holdall::progress::Silent;
use holdall::repo::{RepoError, Repository, SnapshotRecord};
use holdall::storage::{ErrorKind, Listed, MemoryStorage, Result, Storage, StorageError};
use holdall::world::{SeededWorld, Time};

use crate::support::repository::TestRepo;
use crate::support::snapshots::{Tree, assert_snapshots, commit_tree, files, read_tree};
use crate::support::storages::Verb;

/// Fails one call in so many; half of those that change something have done it all the same.
#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn Storage>,
    dice: SeededWorld,
    /// 0: never.
    one_in: AtomicU64,
    failed: AtomicU64,
}

impl Flaky {
    fn dice(&self) -> u64 {
        u64::from_le_bytes(holdall::world::random(&self.dice))
    }

    fn call<T>(&self, verb: Verb, key: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let one_in = self.one_in.load(Relaxed);
        if one_in == 0 || !self.dice().is_multiple_of(one_in) {
            return call();
        }
        self.failed.fetch_add(1, Relaxed);
        let kind = match self.dice() % 3 {
            0 => ErrorKind::Transient,
            1 => ErrorKind::Other,
            _ => ErrorKind::Denied,
        };
        if Verb::MUTATING.contains(&verb) && self.dice().is_multiple_of(2) {
            call()?;
        }
        Err(StorageError::new(kind, key, "no answer"))
    }
}

impl Storage for Flaky {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        self.call(Verb::Put, key, || self.inner.put(key, parts))
    }

    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        self.call(Verb::Get, key, || self.inner.get(key, len_max))
    }

    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.call(Verb::GetRange, key, || self.inner.get_range(key, offset, len))
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.call(Verb::List, prefix, || self.inner.list(prefix, each))
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.call(Verb::Delete, key, || self.inner.delete(key))
    }

    fn stat(&self, key: &str) -> Result<u64> {
        self.call(Verb::Stat, key, || self.inner.stat(key))
    }
}

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
    let is_outage = error.to_string().contains("no answer")
        || matches!(error, OpsError::Repo(RepoError::Fenced(_)));
    assert!(is_outage, "{error}");
}

#[test]
fn what_was_saved_survives_any_storage_that_fails_now_and_then() {
    for (seed, one_in) in [(1, 5), (2, 15), (3, 50)] {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let repo = TestRepo::create(storage.clone(), &crate::support::repository::small(), seed);
        let flaky = Arc::new(Flaky {
            inner: storage,
            dice: SeededWorld::new(seed, Time::default()),
            one_in: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let mut saved: Vec<(SnapshotRecord, Tree)> = Vec::new();
        for step in 0..24u64 {
            let cache = tempfile::tempdir().unwrap();
            let repository = repo.open_on(flaky.clone(), cache.path());
            flaky.one_in.store(one_in, Relaxed);
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
                        flaky.one_in.store(0, Relaxed);
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
            flaky.one_in.store(0, Relaxed);
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
        assert!(flaky.failed.load(Relaxed) > 0, "one in {one_in} is too seldom to show anything");
    }
}
