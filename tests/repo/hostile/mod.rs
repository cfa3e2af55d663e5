//! Repositories and trees made to do harm, by somebody who has every key.

mod frames;
mod names;
mod sizes;
mod snapshots;
mod swaps;
mod trees;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdall::format::frame::ChunkKind;
use holdall::format::session::Purpose;
use holdall::format::snapshot::Snapshot;
use holdall::format::tree::{ENTRIES_TAG, Entry, EntryKind, Metadata, Ref, Refs};
use holdall::ops::OpsError;
use holdall::ops::check::{CheckOptions, CheckReport, check};
use holdall::ops::restore::{RestoreOptions, RestoreReport, restore};
use holdall::progress::{Counter, Problem, Progress, Silent};
use holdall::repo::{Session, SnapshotRecord};

use crate::support::repository::TestRepo;

/// A repository to which any bytes can be written as chunks.
struct Hostile {
    repo: TestRepo,
    session: Session,
}

impl Hostile {
    fn new() -> Self {
        let repo = TestRepo::memory();
        let session = Session::begin(&repo.repository, Purpose::Backup, None).unwrap();
        Self { repo, session }
    }

    fn chunk(&mut self, kind: ChunkKind, bytes: &[u8]) -> Ref {
        let id = self.repo.repository.chunk_id(kind, bytes);
        self.session.add(kind, id, bytes).unwrap();
        Ref::Chunk { id, len: bytes.len() as u64 }
    }

    /// A file of these bytes.
    fn file(&mut self, name: &[u8], bytes: &[u8]) -> Entry {
        let refs = vec![self.chunk(ChunkKind::Data, bytes)];
        file_of(name, Refs { depth: 0, refs })
    }

    /// A listing of these entries, whatever they are and in whatever order.
    fn listing(&mut self, entries: &[Entry]) -> Refs {
        let mut bytes = vec![ENTRIES_TAG];
        entries.iter().for_each(|entry| entry.encode(&mut bytes));
        Refs { depth: 0, refs: vec![self.chunk(ChunkKind::Tree, &bytes)] }
    }

    fn directory(&mut self, name: &[u8], entries: &[Entry]) -> Entry {
        let listing = self.listing(entries);
        entry(name, EntryKind::Directory { listing })
    }

    /// A snapshot of these entries, and what comes next belongs to another one.
    fn commit(&mut self, entries: &[Entry]) -> SnapshotRecord {
        let root = self.listing(entries);
        let next = Session::begin(&self.repo.repository, Purpose::Backup, None).unwrap();
        let session = std::mem::replace(&mut self.session, next);
        let paths = vec![b"/".to_vec()];
        session.commit(Snapshot { root, paths, ..Snapshot::default() }).unwrap()
    }

    /// The repository when all is written.
    fn finish(self) -> TestRepo {
        self.session.abort().unwrap();
        self.repo
    }
}

fn entry(name: &[u8], kind: EntryKind) -> Entry {
    let mode = if matches!(kind, EntryKind::Directory { .. }) { 0o755 } else { 0o644 };
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let metadata = Metadata { mode, uid, gid, ..Metadata::default() };
    Entry { name: name.to_vec(), kind, metadata }
}

fn file_of(name: &[u8], content: Refs) -> Entry {
    entry(name, EntryKind::File { content, unstable: false })
}

fn checked(repo: &TestRepo) -> CheckReport {
    check(&repo.reopen(), &CheckOptions::default(), &Patience::new(u64::MAX)).unwrap()
}

/// Restores into `target` and gives what was said about it.
fn restored(
    repo: &TestRepo,
    record: &SnapshotRecord,
    target: &std::path::Path,
) -> (RestoreReport, Vec<Problem>) {
    let silent = Silent::default();
    let options = RestoreOptions { target: target.into(), ..RestoreOptions::default() };
    let report = restore(&repo.repository, record, &options, &silent).unwrap();
    (report, silent.problems())
}

/// Wants the work to end when it was asked so often whether it shall; fails the test when much
/// more than that is done without asking.
struct Patience {
    asks_max: u64,
    asked: AtomicU64,
    steps: AtomicU64,
}

/// More than any test here has to do.
const STEPS_MAX: u64 = 2_000_000;

impl Patience {
    fn new(asks_max: u64) -> Self {
        Self { asks_max, asked: AtomicU64::new(0), steps: AtomicU64::new(0) }
    }

    fn step(&self) {
        let steps = self.steps.fetch_add(1, Ordering::Relaxed);
        assert!(steps < STEPS_MAX, "there is no end of it");
    }
}

impl Progress for Patience {
    fn phase(&self, _: &str, _: Counter, _: Option<u64>) {}

    fn add(&self, _: Counter, _: u64) {
        self.step();
    }

    fn at(&self, _: &[u8]) {}

    fn problem(&self, _: &Problem) {
        self.step();
    }

    fn note(&self, _: &str) {}

    fn cancelled(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.asks_max
    }
}

/// It went on until it was told to end.
#[track_caller]
fn assert_ended<T>(what: &str, ended: Result<T, OpsError>) {
    assert!(matches!(ended, Err(OpsError::Cancelled)), "{what} came to an end by itself");
}

/// A discarding output that never ends.
fn nowhere() -> std::io::Sink {
    std::io::sink()
}

type Shared = Arc<holdall::repo::Repository>;
