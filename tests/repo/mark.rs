//! The walk that marks what snapshots need.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdall::format::frame::ChunkKind;
use holdall::format::session::Purpose;
use holdall::format::tree::{Entry, EntryKind, Metadata, Refs, Xattr};
use holdall::id::{ChunkId, SnapshotId};
use holdall::ops::OpsError;
use holdall::ops::mark::{Loss, Marks, Need, Stock, Visitor, mark};
use holdall::progress::{Counter, Silent};
use holdall::repo::{Repository, Session, SnapshotRecord};
use holdall::storage::{ErrorKind, MemoryStorage};
use holdall::tree::{ListingBuilder, TreeReader};

use crate::support::repository::{TestRepo, small};
use crate::support::snapshots::{Tree, commit_tree, files, noise, read_tree, snapshot};
use crate::support::storages::{Damage, Fault, Faulty, Verb, damage, list};

/// What a walk has told.
#[derive(Default)]
struct Told {
    needs: Vec<(ChunkKind, ChunkId, Vec<u8>)>,
    losses: BTreeSet<(SnapshotId, Vec<u8>)>,
    damaged: usize,
}

impl Visitor for Told {
    fn need(&mut self, need: &Need<'_>) -> Result<(), OpsError> {
        self.needs.push((need.kind, need.id, need.path.to_vec()));
        Ok(())
    }

    fn loss(&mut self, loss: Loss<'_>) -> Result<(), OpsError> {
        self.losses.insert((loss.snapshot, loss.path.to_vec()));
        self.damaged += usize::from(loss.error.is_some());
        Ok(())
    }
}

fn walk(repository: &Arc<Repository>, records: &[&SnapshotRecord]) -> (Told, u64, Stock) {
    walk_with(repository, records, &Silent::default())
}

fn walk_with(
    repository: &Arc<Repository>,
    records: &[&SnapshotRecord],
    progress: &Silent,
) -> (Told, u64, Stock) {
    let stock = Stock::take(repository).unwrap();
    let roots: Vec<_> = records.iter().map(|r| (r.id, r.snapshot.root.clone())).collect();
    let mut marks = Marks::new(stock.chunk_count());
    let mut told = Told::default();
    mark(repository, &stock, &roots, &mut marks, &mut told, progress).unwrap();
    (told, marks.count(), stock)
}

#[test]
fn every_chunk_is_told_once() {
    let repo = TestRepo::memory();
    let tree = files(1, 30, 9_000);
    let first = commit_tree(&repo.repository, &tree).unwrap();
    // Long enough for lists of lists.
    let long: Tree =
        [("long".into(), noise(9, 300_000)), ("same".into(), noise(9, 300_000))].into();
    let second = commit_tree(&repo.repository, &long).unwrap();
    let third = commit_tree(&repo.repository, &tree).unwrap();
    let (told, marked, stock) = walk(&repo.repository, &[&first, &second, &third]);
    let ids: BTreeSet<_> = told.needs.iter().map(|(kind, id, _)| (*kind, *id)).collect();
    assert_eq!((ids.len(), told.needs.len() as u64), (told.needs.len(), marked));
    assert_eq!(marked, stock.chunk_count(), "nothing that is stored is not needed");
    assert!(told.losses.is_empty());
    assert!(told.needs.iter().any(|(kind, _, path)| *kind == ChunkKind::Data && path == b"/long"));
    assert!(told.needs.iter().any(|(kind, _, path)| *kind == ChunkKind::Tree && path == b"/d1/e"));
    let (told, marked, _) = walk(&repo.repository, &[&third]);
    assert!(marked < stock.chunk_count() && told.needs.len() as u64 == marked);
}

/// A listing of many chunks: what two snapshots have in common is walked once.
#[test]
fn a_chunk_of_a_listing_is_walked_once() {
    let repo = TestRepo::memory();
    let mut tree: Tree =
        (0..3_000).map(|n| (format!("d/{n:05}"), noise(n % 7, 10 + n as usize % 50))).collect();
    let first = commit_tree(&repo.repository, &tree).unwrap();
    tree.insert("d/01500a".into(), noise(8, 100));
    let second = commit_tree(&repo.repository, &tree).unwrap();
    let entries = |records: &[&SnapshotRecord]| {
        let progress = Silent::default();
        let (told, ..) = walk_with(&repo.repository, records, &progress);
        assert!(told.losses.is_empty());
        progress.count(Counter::Entries)
    };
    assert_eq!((entries(&[&first]), entries(&[&second])), (3_001, 3_002));
    let both = entries(&[&first, &second]);
    assert!(both > 3_001 && both < 4_000, "{both}");
}

/// A chain of directories: in each stand a file before and behind the next one. They are so large
/// that the walk cannot keep all of them.
fn deep(repository: &Arc<Repository>, depth: usize) -> SnapshotRecord {
    let xattrs = vec![Xattr { name: b"user.large".to_vec(), value: noise(1, 9_000) }];
    let mut session = Session::begin(repository, Purpose::Backup, None).unwrap();
    let mut below = Refs::default();
    for level in 0..depth {
        let mut listing = ListingBuilder::default();
        let other = |name: String| {
            let mut listing = ListingBuilder::default();
            let entry = Entry {
                name: name.clone().into(),
                kind: EntryKind::Fifo,
                metadata: Metadata::default(),
            };
            listing.push(&entry, &mut session).unwrap();
            let listing = listing.finish(&mut session).unwrap();
            Entry {
                name: name.into(),
                kind: EntryKind::Directory { listing },
                metadata: Metadata::default(),
            }
        };
        let [first, last] = ["a", "z"].map(|name| format!("{name}{level}")).map(other);
        let middle = Entry {
            name: b"m".to_vec(),
            kind: EntryKind::Directory { listing: below },
            metadata: Metadata { xattrs: xattrs.clone(), ..Metadata::default() },
        };
        for entry in [first, middle, last] {
            listing.push(&entry, &mut session).unwrap();
        }
        below = listing.finish(&mut session).unwrap();
    }
    session.commit(snapshot(below)).unwrap()
}

#[test]
fn deep_trees_are_walked_whole() {
    let repo = TestRepo::memory();
    let record = deep(&repo.repository, 1_000);
    let progress = Silent::default();
    let (told, marked, stock) = walk_with(&repo.repository, &[&record], &progress);
    assert_eq!(marked, 3_000);
    // Directories that were left for those below them go on where they were left.
    assert_eq!(progress.count(Counter::Entries), 5_000);
    assert_eq!((marked, told.losses.len()), (stock.chunk_count(), 0));
    let deepest = told.needs.iter().map(|(.., path)| path.len()).max().unwrap();
    assert_eq!(deepest, 2 * 999 + "/a0".len());
    assert!(told.needs.iter().any(|(.., path)| path == b"/m/z998"));
}

#[test]
fn losses_are_told_for_every_snapshot_and_path() {
    let repo = TestRepo::memory();
    let mut tree = files(1, 40, 9_000);
    // The same directory at another place, and the same file in another directory.
    let copies: Tree = tree.iter().map(|(p, c)| (format!("copy/{p}"), c.clone())).collect();
    tree.extend(copies);
    tree.insert("long".into(), noise(9, 200_000));
    let first = commit_tree(&repo.repository, &tree).unwrap();
    tree.insert("more".into(), noise(2, 5_000));
    let second = commit_tree(&repo.repository, &tree).unwrap();
    let packs = list(&*repo.storage, "packs/").unwrap();
    for lost in packs.iter().filter(|pack| pack.len > 60_000) {
        let content = repo.storage.get(&lost.key, u64::MAX).unwrap();
        repo.storage.delete(&lost.key).unwrap();
        let cache = tempfile::tempdir().unwrap();
        let repository = repo.open_on(repo.storage.clone(), cache.path());
        let mut expected = BTreeSet::new();
        for record in [&first, &second] {
            for path in unreadable(&repository, record) {
                expected.insert((record.id, path));
            }
        }
        let (told, ..) = walk(&repository, &[&first, &second]);
        assert!(expected.len() >= 2);
        assert_eq!(told.losses, expected, "{}", lost.key);
        repo.storage.put(&lost.key, &[&content]).unwrap();
    }
    assert!(read_tree(&repo.reopen(), &second).unwrap() == tree);
}

/// Files that do not read back, raw.
fn unreadable(repository: &Arc<Repository>, record: &SnapshotRecord) -> Vec<Vec<u8>> {
    let trees = TreeReader::new(repository);
    let chunks = holdall::repo::ChunkReader::new(repository, 1 << 20);
    let mut waiting = vec![(Vec::new(), record.snapshot.root.clone())];
    let mut found = Vec::new();
    while let Some((path, listing)) = waiting.pop() {
        for entry in trees.entries(&listing).map(Result::unwrap) {
            let path = [&path[..], b"/", &entry.name].concat();
            match entry.kind {
                EntryKind::Directory { listing } => waiting.push((path, listing)),
                EntryKind::File { content, .. } => {
                    let reads = trees.leaves(&content).all(|leaf| match leaf.unwrap() {
                        holdall::format::tree::Ref::Chunk { id, .. } => {
                            chunks.read(ChunkKind::Data, &id).is_ok()
                        }
                        _ => true,
                    });
                    found.extend((!reads).then_some(path));
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn the_walk_goes_on_behind_a_damaged_tree() {
    let repo = TestRepo::memory();
    let record = commit_tree(&repo.repository, &files(1, 10, 3_000)).unwrap();
    let packs = list(&*repo.storage, "packs/").unwrap();
    let trees = packs.iter().min_by_key(|pack| pack.len).unwrap();
    let (whole, ..) = walk(&repo.repository, &[&record]);
    damage(&*repo.storage, &trees.key, &Damage::Flip { offset: 300, mask: 1 }).unwrap();
    let (told, ..) = walk(&repo.reopen(), &[&record]);
    assert_eq!((told.needs.len(), told.damaged), (0, 1), "all trees are in that frame");
    assert_eq!(told.losses, BTreeSet::from([(record.id, Vec::new())]));
    assert!(whole.needs.len() > 10);
}

#[test]
fn an_outage_is_no_damage() {
    let faulty = Arc::new(Faulty::new(Arc::new(MemoryStorage::new())));
    let repo = TestRepo::create(faulty.clone(), &small(), 1);
    let record = commit_tree(&repo.repository, &files(1, 10, 3_000)).unwrap();
    let repository = repo.reopen();
    let stock = Stock::take(&repository).unwrap();
    faulty.add(
        Fault::nth(&[Verb::GetRange], 1, ErrorKind::Transient).under("packs/").times(u64::MAX),
    );
    let mut marks = Marks::new(stock.chunk_count());
    let mut told = Told::default();
    let roots = [(record.id, record.snapshot.root.clone())];
    let ended = mark(&repository, &stock, &roots, &mut marks, &mut told, &Silent::default());
    assert!(matches!(ended, Err(OpsError::Tree(_))), "{ended:?}");
    assert!(told.losses.is_empty());
}
