//! Random operations, crashes among them, against a map of what must be there.

use std::sync::Arc;

use holdall::format::session::Purpose;
use holdall::ops::prune::{Limit, PruneOptions, prune};
use holdall::progress::Silent;
use holdall::repo::{RepoError, Repository, Session, SnapshotRecord};
use holdall::storage::{MemoryStorage, Storage};
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::support::repository::{TestRepo, small};
use crate::support::snapshots::{
    Tree, assert_snapshots, commit_in, commit_tree, noise, snapshot, write_tree,
};
use crate::support::storages::{Crashing, Last};

#[derive(Debug, Clone)]
enum Op {
    /// Changes some files and takes a snapshot.
    Commit { file: u8, count: u8, seed: u8 },
    /// Forgets the nth snapshot.
    Forget(u8),
    /// Prunes; keeps so many percent unused.
    Prune { unused: u8 },
    /// A writer begins, and has stored what it has so far.
    Begin { seed: u8 },
    /// The writer that has begun commits.
    End,
    /// Another process comes, with the same cache, or with none.
    Reopen { cache: bool },
}

/// When the operation's storage fails for good, if it does.
#[derive(Debug, Clone, Copy)]
struct Crash {
    nth: u64,
    takes_effect: bool,
}

fn ops() -> impl Strategy<Value = Vec<(Op, Option<Crash>)>> {
    let op = prop_oneof![
        4 => (0..12u8, 1..6u8, any::<u8>())
            .prop_map(|(file, count, seed)| Op::Commit { file, count, seed }),
        3 => any::<u8>().prop_map(Op::Forget),
        3 => prop_oneof![Just(0u8), Just(30), Just(100)].prop_map(|unused| Op::Prune { unused }),
        1 => any::<u8>().prop_map(|seed| Op::Begin { seed }),
        1 => Just(Op::End),
        1 => any::<bool>().prop_map(|cache| Op::Reopen { cache }),
    ];
    let crash =
        (1..25u64, any::<bool>()).prop_map(|(nth, takes_effect)| Crash { nth, takes_effect });
    prop::collection::vec((op, prop::option::weighted(0.3, crash)), 1..25)
}

struct Model {
    repo: TestRepo,
    memory: MemoryStorage,
    repository: Arc<Repository>,
    caches: Vec<tempfile::TempDir>,
    tree: Tree,
    expected: Vec<(SnapshotRecord, Tree)>,
    writer: Option<(Session, Tree)>,
}

impl Model {
    fn new() -> Self {
        let memory = MemoryStorage::new();
        let repo = TestRepo::create(Arc::new(memory.clone()), &small(), 1);
        let repository = repo.reopen();
        let (caches, tree) = (Vec::new(), Tree::new());
        Self { repo, memory, repository, caches, tree, expected: Vec::new(), writer: None }
    }

    /// The repository to work on, which crashes as it is told.
    fn handle(&self, crash: Option<Crash>) -> Arc<Repository> {
        let Some(crash) = crash else { return self.repository.clone() };
        let last = if crash.takes_effect { Last::TakesEffect } else { Last::IsLost };
        let crashing = Crashing::new(Arc::new(self.memory.clone()), crash.nth, last);
        let cache = &self.repository.environment().cache;
        // The cache directory of a repository is named after it, below the one that is given.
        self.repo.open_on(Arc::new(crashing), cache.parent().unwrap())
    }

    fn step(&mut self, op: &Op, crash: Option<Crash>) {
        let handle = self.handle(crash);
        match op {
            Op::Commit { file, count, seed } => {
                for n in *file..file + count {
                    let content = noise(u64::from(*seed) + u64::from(n), 3_000 + usize::from(n));
                    self.tree.insert(format!("d{}/f{n}", n % 3), content);
                }
                let tree = self.tree.clone();
                let committed = commit_tree(&handle, &tree);
                self.learn_of(committed, crash.is_some(), tree);
            }
            Op::Forget(n) if !self.expected.is_empty() => {
                let n = usize::from(*n) % self.expected.len();
                let (record, tree) = self.expected.remove(n);
                let done = handle.forget(std::slice::from_ref(&record));
                assert!(done.is_ok() || crash.is_some(), "{done:?}");
                if self.repository.counted().unwrap().contains(&record.id) {
                    assert!(done.is_err());
                    self.expected.push((record, tree));
                }
            }
            Op::Forget(_) => {}
            Op::Prune { unused } => {
                let alive = self.writer.as_ref().map(|(session, _)| session.id());
                let is_dead = |id: &_, _: &_| Some(*id) != alive;
                let max_unused = Limit::Percent((*unused).into());
                let options =
                    PruneOptions { max_unused, is_dead: &is_dead, ..PruneOptions::default() };
                let done = prune(&handle, &options, &Silent::default());
                assert!(done.is_ok() || crash.is_some(), "{done:?}");
                let open = done.is_ok_and(|report| report.open_epoch.is_some());
                assert!(!open || alive.is_some(), "only a session that is alive holds back");
            }
            Op::Begin { seed } if self.writer.is_none() => {
                let mut tree = self.tree.clone();
                tree.insert("writer".into(), noise((*seed).into(), 9_000));
                let session = Session::begin(&handle, Purpose::Backup, None);
                let written = session.and_then(|mut session| {
                    write_tree(&mut session, &tree)?;
                    session.flush()?;
                    Ok(session)
                });
                match written {
                    Ok(session) => self.writer = Some((session, tree)),
                    Err(error) => assert!(crash.is_some(), "{error}"),
                }
            }
            Op::Begin { .. } => {}
            Op::End => {
                if let Some((session, tree)) = self.writer.take() {
                    // Its own handle may have crashed since.
                    let committed = commit_in(session, &tree);
                    self.learn_of(committed, true, tree);
                }
            }
            Op::Reopen { cache } => {
                let directory = tempfile::tempdir().unwrap();
                let path = if *cache { self.repo.cache() } else { directory.path() };
                self.repository = self.repo.open_on(Arc::new(self.memory.clone()), path);
                self.caches.push(directory);
            }
        }
        assert_snapshots(&self.repository, &self.expected);
    }

    /// A commit that was answered counts; one that was not may count, and then it is whole.
    fn learn_of(
        &mut self,
        committed: Result<SnapshotRecord, RepoError>,
        may_fail: bool,
        tree: Tree,
    ) {
        let counted = self.repository.counted().unwrap();
        match committed {
            Ok(record) => {
                assert!(counted.contains(&record.id));
                self.expected.push((record, tree));
            }
            Err(error) => {
                assert!(may_fail, "{error}");
                let known: Vec<_> = self.expected.iter().map(|(record, _)| record.id).collect();
                for id in counted.into_iter().filter(|id| !known.contains(id)) {
                    let (snapshot, hash) = self.repository.read_snapshot(&id).unwrap().unwrap();
                    let record = SnapshotRecord { id, snapshot, note: None, hash };
                    self.expected.push((record, tree.clone()));
                }
            }
        }
    }

    /// In the end nothing is left but what is needed.
    fn finish(mut self) {
        self.writer = None;
        let options = PruneOptions {
            max_unused: Limit::Bytes(0),
            is_dead: &|_, _| true,
            ..PruneOptions::default()
        };
        for _ in 0..3 {
            prune(&self.repository, &options, &Silent::default()).unwrap();
            assert_snapshots(&self.repository, &self.expected);
        }
        let last = prune(&self.repository, &options, &Silent::default()).unwrap();
        assert_eq!((last.removed.packs, last.open_epoch), (0, None));
        let cache = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(self.memory.clone());
        assert_snapshots(&self.repo.open_on(storage, cache.path()), &self.expected);
    }
}

proptest! {
    #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_is_done_what_counts_reads_back(ops in ops()) {
        let mut model = Model::new();
        for (op, crash) in &ops {
            model.step(op, *crash);
        }
        model.finish();
    }
}

#[test]
fn writers_and_prunes_at_the_same_time_lose_nothing() {
    for round in 0..6u64 {
        let repo = TestRepo::memory();
        let caches: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        let open = |n: usize| repo.open_on(repo.storage.clone(), caches[n].path());
        let (first, second, third) = (open(0), open(1), open(2));
        let write = |repository: &Arc<Repository>, writer: u64| {
            let mut done: Vec<(SnapshotRecord, Tree)> = Vec::new();
            for n in 0..8 {
                // What the other writer has, what was forgotten, and something new.
                let mut tree: Tree =
                    (n..n + 6).map(|n| (format!("f{n}"), noise(n, 6_000))).collect();
                tree.insert("own".into(), noise(100 * writer + n, 4_000));
                loop {
                    let mut session = Session::begin(repository, Purpose::Backup, None).unwrap();
                    let root = write_tree(&mut session, &tree).unwrap();
                    match session.commit(snapshot(root)) {
                        Ok(record) => break done.push((record, tree)),
                        Err(RepoError::Fenced(_)) => {}
                        Err(error) => panic!("round {round}: {error}"),
                    }
                }
                if n % 2 == 1 {
                    let (gone, _) = done.remove(0);
                    repository.forget(&[gone]).unwrap();
                }
            }
            done
        };
        let pruning = |repository: &Arc<Repository>| {
            for n in 0..6 {
                let options = PruneOptions {
                    max_unused: Limit::Bytes(0),
                    // Now and then the others are not waited for.
                    fence_older_than: (n % 3 == round % 3).then_some(0),
                    ..PruneOptions::default()
                };
                prune(repository, &options, &Silent::default()).unwrap();
            }
        };
        let expected = std::thread::scope(|scope| {
            let writers = [(&first, 1), (&second, 2)]
                .map(|(repository, writer)| scope.spawn(move || write(repository, writer)));
            scope.spawn(|| pruning(&third));
            writers.map(|writer| writer.join().unwrap()).concat()
        });
        let last = open(3);
        assert_snapshots(&last, &expected);
        let options = PruneOptions { is_dead: &|_, _| true, ..PruneOptions::default() };
        (0..3).for_each(|_| _ = prune(&last, &options, &Silent::default()).unwrap());
        assert_snapshots(&last, &expected);
    }
}
