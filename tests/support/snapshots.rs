//! Synthetic snapshots: trees given as maps of paths to contents, written and read back without
//! a file system.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdall::format::frame::ChunkKind;
use holdall::format::session::Purpose;
use holdall::format::snapshot::Snapshot;
use holdall::format::tree::{Entry, EntryKind, Metadata, Ref, Refs};
use holdall::repo::{ChunkReader, RepoError, Repository, Session, SnapshotRecord};
use holdall::tree::{ChunkSink, ListingBuilder, RefsBuilder, TreeError, TreeReader};
use holdall::world::{SeededWorld, Time, World};

/// Paths, with `/` between their parts, and contents.
pub type Tree = BTreeMap<String, Vec<u8>>;

/// Contents are cut into pieces of this length.
pub const PIECE: usize = 2_000;

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SeededWorld::new(seed, Time::default()).random(&mut bytes);
    bytes
}

/// A tree of `count` files of noise, `len` bytes each, in a few directories.
pub fn files(seed: u64, count: usize, len: usize) -> Tree {
    let file = |n: usize| (format!("d{}/e/f{n}", n % 4), noise(seed * 10_000 + n as u64, len));
    (0..count).map(file).collect()
}

/// Writes a tree as a whole session.
pub fn commit_tree(repository: &Arc<Repository>, tree: &Tree) -> Result<SnapshotRecord, RepoError> {
    let session = Session::begin(repository, Purpose::Backup, None)?;
    commit_in(session, tree)
}

/// Writes a tree in a session that has begun.
pub fn commit_in(mut session: Session, tree: &Tree) -> Result<SnapshotRecord, RepoError> {
    match write_tree(&mut session, tree) {
        Ok(root) => session.commit(snapshot(root)),
        Err(error) => Err(error),
    }
}

/// Writes a tree as a whole session; what another one has in the same place is the base.
pub fn commit_like(
    repository: &Arc<Repository>,
    tree: &Tree,
    before: &Tree,
) -> Result<SnapshotRecord, RepoError> {
    let mut session = Session::begin(repository, Purpose::Backup, None)?;
    let root = write_like(&mut session, tree, Some(before))?;
    session.commit(snapshot(root))
}

/// The same bytes with a few of them changed in every piece.
pub fn edited(tree: &Tree, seed: u8) -> Tree {
    let mut tree = tree.clone();
    for content in tree.values_mut() {
        content.iter_mut().skip(usize::from(seed)).step_by(PIECE / 2).for_each(|b| *b ^= 0x55);
    }
    tree
}

/// A snapshot of this root.
pub fn snapshot(root: Refs) -> Snapshot {
    Snapshot { host: "host".into(), paths: vec![b"/".to_vec()], root, ..Snapshot::default() }
}

/// Stores a tree.
pub fn write_tree(session: &mut Session, tree: &Tree) -> Result<Refs, RepoError> {
    write_like(session, tree, None)
}

fn write_like(
    session: &mut Session,
    tree: &Tree,
    before: Option<&Tree>,
) -> Result<Refs, RepoError> {
    let bases = session.presence();
    let of_repo = |error| match error {
        TreeError::Repo(error) => error,
        other => panic!("a tree is not written: {other}"),
    };
    let below = |first: &str| {
        let paths = before?.iter().filter_map(|(path, content)| {
            Some((path.strip_prefix(first)?.strip_prefix('/')?.to_owned(), content.clone()))
        });
        Some(paths.collect::<Tree>())
    };
    let mut directories: BTreeMap<&str, Tree> = BTreeMap::new();
    let mut files: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for (path, content) in tree {
        match path.split_once('/') {
            Some((first, rest)) => {
                directories.entry(first).or_default().insert(rest.into(), content.clone());
            }
            None => _ = files.insert(path, content),
        }
    }
    let mut entries: BTreeMap<&str, EntryKind> = BTreeMap::new();
    for (name, tree) in &directories {
        let listing = write_like(session, tree, below(name).as_ref())?;
        entries.insert(name, EntryKind::Directory { listing });
    }
    for (name, content) in files {
        let mut refs = RefsBuilder::default();
        let mut old = before.and_then(|before| before.get(name)).map(|old| old.chunks(PIECE));
        for piece in content.chunks(PIECE) {
            let id = session.repository().keys().data_id(piece);
            let like = old.as_mut().and_then(Iterator::next);
            let like = like.map(|like| session.repository().keys().data_id(like));
            match like.and_then(|like| bases.base(&like)) {
                Some(base) => session.add_data_like(id, piece, base)?,
                None => session.add_data(id, piece)?,
            };
            refs.push(Ref::Chunk { id, len: piece.len() as u64 }, session).map_err(of_repo)?;
        }
        let content = refs.finish(session).map_err(of_repo)?;
        entries.insert(name, EntryKind::File { content, unstable: false });
    }
    let mut listing = ListingBuilder::default();
    for (name, kind) in entries {
        let name = name.as_bytes().to_vec();
        let entry = Entry { name, kind, metadata: Metadata::default() };
        listing.push(&entry, session).map_err(of_repo)?;
    }
    listing.finish(session).map_err(of_repo)
}

/// Reads a snapshot back.
pub fn read_tree(repository: &Arc<Repository>, record: &SnapshotRecord) -> Result<Tree, TreeError> {
    let trees = TreeReader::new(repository);
    let chunks = ChunkReader::new(repository, 1 << 20);
    let mut tree = Tree::new();
    let mut waiting = vec![(String::new(), record.snapshot.root.clone())];
    while let Some((path, listing)) = waiting.pop() {
        for entry in trees.entries(&listing) {
            let entry = entry?;
            let name = String::from_utf8(entry.name).expect("the names of tests are text");
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            match entry.kind {
                EntryKind::Directory { listing } => waiting.push((path, listing)),
                EntryKind::File { content, .. } => {
                    let mut bytes = Vec::new();
                    for leaf in trees.leaves(&content) {
                        let Ref::Chunk { id, .. } = leaf? else { panic!("a hole") };
                        bytes.extend_from_slice(chunks.read(ChunkKind::Data, &id)?.bytes());
                    }
                    tree.insert(path, bytes);
                }
                other => panic!("{path} is a {other:?}"),
            }
        }
    }
    Ok(tree)
}

/// Every snapshot reads back as it was committed, and no other one counts.
#[track_caller]
pub fn assert_snapshots(repository: &Arc<Repository>, expected: &[(SnapshotRecord, Tree)]) {
    let counted: Vec<_> = repository.counted().unwrap().into_iter().collect();
    let mut ids: Vec<_> = expected.iter().map(|(record, _)| record.id).collect();
    ids.sort();
    assert_eq!(counted, ids);
    for (record, tree) in expected {
        let found = read_tree(repository, record);
        let found = found.unwrap_or_else(|error| panic!("{:?}: {error}", record.id));
        assert!(found == *tree, "{:?} reads back otherwise", record.id);
    }
}
