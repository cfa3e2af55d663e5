//! Repositories in memory with trees made by hand, for the tests of operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::crypto::{KeyFile, PasswordCost, Secret};
use crate::format::frame::ChunkKind;
use crate::format::pack::pack_key;
use crate::format::session::Purpose;
use crate::format::snapshot::{Snapshot, Statistics};
use crate::format::tree::{Entry, EntryKind, Metadata, Ref, Refs};
use crate::id::ClientId;
use crate::index::Location;
use crate::repo::{CreateOptions, Environment, NewSlot, Repository, Session, SnapshotRecord};
use crate::storage::{MemoryStorage, Storage};
use crate::tree::{ListingBuilder, RefsBuilder, TreeReader};
use crate::world::{SeededWorld, Time};

/// Files are cut into chunks of this length.
pub const CHUNK: usize = 16 << 10;

/// What a tree has in one place.
#[derive(Debug, Clone)]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file; chunks of nothing but zeros become holes.
    File(Vec<u8>),
    /// Anything else.
    Other(EntryKind),
}

/// A tree to be stored, by path.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    pub nodes: BTreeMap<Vec<Vec<u8>>, (Node, Metadata)>,
}

fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
}

impl Tree {
    pub fn put(&mut self, path: &[u8], node: Node) -> &mut Metadata {
        let parts = parts(path);
        for len in 1..parts.len() {
            let folder = || (Node::Directory, Metadata { mode: 0o755, ..Metadata::default() });
            self.nodes.entry(parts[..len].to_vec()).or_insert_with(folder);
        }
        let metadata = Metadata { mtime: Time::from_seconds(1_000_000_000), ..Metadata::default() };
        self.nodes.insert(parts.clone(), (node, metadata));
        &mut self.nodes.get_mut(&parts).unwrap().1
    }

    pub fn file(&mut self, path: &[u8], content: &[u8]) -> &mut Metadata {
        self.put(path, Node::File(content.to_vec()))
    }

    pub fn directory(&mut self, path: &[u8]) -> &mut Metadata {
        let metadata = self.put(path, Node::Directory);
        metadata.mode = 0o755;
        metadata
    }

    pub fn remove(&mut self, path: &[u8]) {
        let parts = parts(path);
        self.nodes.retain(|key, _| !key.starts_with(&parts));
    }
}

/// Bytes that do not compress, different for each seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A repository in memory.
pub struct Sample {
    pub storage: MemoryStorage,
    pub repository: Arc<Repository>,
    world: Arc<SeededWorld>,
    _cache: tempfile::TempDir,
}

impl Sample {
    pub fn new(seed: u64) -> Self {
        Self::create(seed, None)
    }

    pub fn relative(seed: u64, other: &Self) -> Self {
        Self::create(seed, Some(&other.repository))
    }

    fn create(seed: u64, relative: Option<&Repository>) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let world = Arc::new(SeededWorld::new(seed, Time::from_seconds(1_700_000_000)));
        let secret = Secret::KeyFile(KeyFile::generate(&*world));
        let slots = [NewSlot { secret, cost: PasswordCost::LOWEST, label: String::new() }];
        let environment = Environment {
            cache: cache.path().into(),
            state: cache.path().join("state"),
            client: ClientId([1; 16]),
            host: "host".into(),
            user: "user".into(),
            process: 1,
            threads: 1,
        };
        // Every chunk has a frame of its own, so that damage hits one thing.
        let options = CreateOptions { compression: 1, frame_size: 1, ..CreateOptions::default() };
        let storage = MemoryStorage::new();
        let shared: Arc<dyn Storage> = Arc::new(storage.clone());
        let repository =
            Repository::create(shared, world.clone(), environment, &options, &slots, relative);
        let repository = Arc::new(repository.unwrap());
        Self { storage, repository, world, _cache: cache }
    }

    pub fn trees(&self) -> TreeReader {
        TreeReader::new(&self.repository)
    }

    pub fn begin(&self) -> Session {
        Session::begin(&self.repository, Purpose::Backup, None).unwrap()
    }

    /// Stores a tree as the newest snapshot. What is below `alone` gets packs of its own, a file
    /// each; so do the tree chunks.
    pub fn snapshot(&self, tree: &Tree, alone: &[u8]) -> SnapshotRecord {
        let mut session = self.begin();
        let alone = parts(alone);
        let mut levels = vec![ListingBuilder::default()];
        let mut open: Vec<(Vec<u8>, Metadata)> = Vec::new();
        let mut statistics = Statistics::default();
        for (path, (node, metadata)) in &tree.nodes {
            close(&mut levels, &mut open, path.len() - 1, &mut session);
            let name = path.last().unwrap().clone();
            let kind = match node {
                Node::Directory => {
                    statistics.directories += 1;
                    open.push((name, metadata.clone()));
                    levels.push(ListingBuilder::default());
                    continue;
                }
                Node::File(content) => {
                    statistics.files += 1;
                    statistics.bytes += content.len() as u64;
                    let by_itself = !alone.is_empty() && path.starts_with(&alone);
                    if by_itself {
                        session.flush().unwrap();
                    }
                    let content = self.content(content, &mut session);
                    if by_itself {
                        session.flush().unwrap();
                    }
                    EntryKind::File { content, unstable: false }
                }
                Node::Other(kind) => {
                    statistics.others += 1;
                    kind.clone()
                }
            };
            let entry = Entry { name, kind, metadata: metadata.clone() };
            levels.last_mut().unwrap().push(&entry, &mut session).unwrap();
        }
        close(&mut levels, &mut open, 0, &mut session);
        let root = levels.pop().unwrap().finish(&mut session).unwrap();
        self.commit(session, root, statistics)
    }

    pub fn commit(&self, session: Session, root: Refs, statistics: Statistics) -> SnapshotRecord {
        let time = self.repository.world().now();
        self.world.set_now(Time::from_seconds(time.seconds + 60));
        let snapshot = Snapshot {
            time,
            host: "host".into(),
            user: "user".into(),
            client: ClientId([1; 16]),
            paths: vec![b"/".to_vec()],
            tags: vec!["sample".into()],
            number: 1,
            root,
            statistics,
            ..Snapshot::default()
        };
        session.commit(snapshot).unwrap()
    }

    /// Directories called `d`, one in the other, each with a file `a` before and `z` behind it.
    pub fn deep(&self, depth: usize) -> SnapshotRecord {
        let mut session = self.begin();
        let mut below = Refs::default();
        for _ in 0..depth {
            let mut listing = ListingBuilder::default();
            let file = || EntryKind::File { content: Refs::default(), unstable: false };
            let kinds =
                [(b"a", file()), (b"d", EntryKind::Directory { listing: below }), (b"z", file())];
            for (name, kind) in kinds {
                let entry = Entry { name: name.to_vec(), kind, metadata: Metadata::default() };
                listing.push(&entry, &mut session).unwrap();
            }
            below = listing.finish(&mut session).unwrap();
        }
        self.commit(session, below, Statistics::default())
    }

    fn content(&self, content: &[u8], session: &mut Session) -> Refs {
        let mut refs = RefsBuilder::default();
        for chunk in content.chunks(CHUNK) {
            let len = chunk.len() as u64;
            if chunk.iter().all(|byte| *byte == 0) {
                refs.push(Ref::Hole { len }, session).unwrap();
                continue;
            }
            let id = self.repository.keys().data_id(chunk);
            session.add(ChunkKind::Data, id, chunk).unwrap();
            refs.push(Ref::Chunk { id, len }, session).unwrap();
        }
        refs.finish(session).unwrap()
    }

    /// The content of a file of a snapshot.
    pub fn content_of(&self, record: &SnapshotRecord, path: &[u8]) -> Refs {
        let parts = parts(path);
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        match self.trees().find(&record.snapshot.root, &parts).unwrap().kind {
            EntryKind::File { content, .. } | EntryKind::Directory { listing: content } => content,
            kind => panic!("{kind:?} has no content"),
        }
    }

    /// Deletes every pack that holds this chunk.
    pub fn delete_packs_of(&self, chunk: &Ref) {
        for location in self.locations(chunk) {
            self.storage.delete(&pack_key(&location.pack.id)).unwrap();
        }
    }

    /// Damages every frame that holds this chunk, and no other.
    pub fn break_chunk(&self, chunk: &Ref) {
        for location in self.locations(chunk) {
            let key = pack_key(&location.pack.id);
            let mut bytes = self.storage.get(&key, u64::MAX).unwrap();
            let frame = location.frame().unwrap();
            bytes[frame.offset as usize + frame.stored_len as usize / 2] ^= 1;
            self.storage.delete(&key).unwrap();
            self.storage.put(&key, &[&bytes]).unwrap();
        }
    }

    fn locations(&self, chunk: &Ref) -> Vec<Location> {
        let Ref::Chunk { id, .. } = chunk else { panic!("a hole") };
        let found = self.repository.with_index(|index| index.locations(id)).unwrap().unwrap();
        assert!(!found.is_empty());
        found
    }
}

/// Closes directories until so many are open.
fn close(
    levels: &mut Vec<ListingBuilder>,
    open: &mut Vec<(Vec<u8>, Metadata)>,
    depth: usize,
    session: &mut Session,
) {
    while open.len() > depth {
        let listing = levels.pop().unwrap().finish(session).unwrap();
        let (name, metadata) = open.pop().unwrap();
        let entry = Entry { name, kind: EntryKind::Directory { listing }, metadata };
        levels.last_mut().unwrap().push(&entry, session).unwrap();
    }
}
