//! Golden repositories: committed byte for byte, made again byte for byte, and what is in them.
//!
//! `HOLDALL_WRITE_GOLDEN=1` writes them anew: after a change of the format, and only then. They
//! store frames as they are, since zstd's output is not the same from release to release; one of
//! them is compressed, and is only read.

mod aged;
mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdall::crypto::{KeyFile, PasswordCost, RecoveryCode, Secret};
use holdall::format::envelope::ObjectType;
use holdall::format::session::{self, Purpose, fence_key, session_key};
use holdall::format::snapshot::{Note, Outcome, Snapshot, SnapshotProblem, note_key};
use holdall::format::tree::{Entry, EntryKind, Metadata, Ref, Refs, Xattr};
use holdall::id::{ClientId, NoteId};
use holdall::repo::{CreateOptions, Environment, NewSlot, Repository, Session, SnapshotRecord};
use holdall::storage::{LocalStorage, MemoryStorage, Storage};
use holdall::tree::{ChunkSink, ListingBuilder, RefsBuilder};
use holdall::world::{SeededWorld, Time, World};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Name, what it shows, and whether its bytes are made again.
const GOLDEN: [(&str, &str, bool); 9] = [
    ("empty", "a repository without a snapshot", true),
    ("kinds", "every kind of entry, odd names, holes, attributes, a partial outcome", true),
    ("history", "six snapshots, one forgotten, some with notes, and what others left behind", true),
    ("slots", "a password, a key file and a recovery code", true),
    ("large", "lists of lists, large directories, compressed", false),
    ("deep", "lists three levels deep, listings two, holes at every level, deep nesting", true),
    ("epochs", "an epoch that ended and one that is open, copies, a pack without segment", true),
    ("rotated", "two generations of keys, a slot before and after its rotation", true),
    ("deltas", "a delta frame, its base in another pack and once more in a third", false),
];

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name)
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SeededWorld::new(seed, Time::default()).random(&mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a file is made of.
enum Part {
    Bytes(Vec<u8>),
    Hole(u64),
}

/// A tree to be stored.
enum Node {
    File(Vec<Part>, bool),
    Directory(BTreeMap<Vec<u8>, (Node, Metadata)>),
    Other(EntryKind),
}

struct Maker {
    repository: Arc<Repository>,
    world: Arc<SeededWorld>,
    manifest: Vec<Value>,
    /// References in a list and entries in a chunk at most; 0 for what a usual writer does.
    fan: usize,
}

impl Maker {
    fn new(
        storage: Arc<dyn Storage>,
        cache: &Path,
        seed: u64,
        level: i32,
        secrets: &[Secret],
    ) -> Self {
        let world = Arc::new(SeededWorld::new(seed, Time::from_seconds(1_800_000_000)));
        let slots: Vec<NewSlot> = secrets
            .iter()
            .map(|secret| NewSlot {
                secret: secret.clone(),
                cost: PasswordCost::LOWEST,
                label: format!("{secret:?}"),
            })
            .collect();
        let environment = Environment {
            cache: cache.into(),
            state: cache.join("state"),
            client: ClientId([7; 16]),
            host: "golden".into(),
            user: "somebody".into(),
            process: 4711,
            // Several would draw random numbers in another order each time.
            threads: 1,
        };
        let options = CreateOptions { compression: level, ..CreateOptions::default() };
        let repository =
            Repository::create(storage, world.clone(), environment, &options, &slots, None);
        Self { repository: Arc::new(repository.unwrap()), world, manifest: Vec::new(), fan: 0 }
    }

    fn refs(&self, session: &mut Session, parts: &[Part]) -> Refs {
        let mut leaves = Vec::new();
        for part in parts {
            match part {
                Part::Hole(len) => leaves.push(Ref::Hole { len: *len }),
                Part::Bytes(bytes) => {
                    for chunk in bytes.chunks(5000) {
                        let id = self.repository.keys().data_id(chunk);
                        session.add_data(id, chunk).unwrap();
                        leaves.push(Ref::Chunk { id, len: chunk.len() as u64 });
                    }
                }
            }
        }
        if self.fan > 0 {
            return aged::lists(session, leaves, self.fan);
        }
        let mut refs = RefsBuilder::default();
        leaves.into_iter().for_each(|leaf| refs.push(leaf, session).unwrap());
        refs.finish(session).unwrap()
    }

    fn listing(
        &self,
        session: &mut Session,
        path: &[u8],
        nodes: &BTreeMap<Vec<u8>, (Node, Metadata)>,
        entries: &mut Vec<Value>,
    ) -> Refs {
        let mut all = Vec::new();
        for (name, (node, metadata)) in nodes {
            let path = [path, b"/", name].concat();
            let mut said = describe(&path, metadata);
            let place = entries.len();
            entries.push(Value::Null);
            let kind = match node {
                Node::File(parts, unstable) => {
                    let content = self.refs(session, parts);
                    said["kind"] = "file".into();
                    said["size"] = content.len().into();
                    said["unstable"] = (*unstable).into();
                    said["blake3"] = hash(parts).into();
                    said["holes"] = holes(parts);
                    EntryKind::File { content, unstable: *unstable }
                }
                Node::Directory(below) => {
                    said["kind"] = "directory".into();
                    EntryKind::Directory { listing: self.listing(session, &path, below, entries) }
                }
                Node::Other(kind) => {
                    say_kind(&mut said, kind);
                    kind.clone()
                }
            };
            entries[place] = said;
            all.push(Entry { name: name.clone(), kind, metadata: metadata.clone() });
        }
        if self.fan > 0 {
            return aged::listing(session, &all, self.fan);
        }
        let mut listing = ListingBuilder::default();
        all.iter().for_each(|entry| listing.push(entry, session).unwrap());
        listing.finish(session).unwrap()
    }

    /// Commits a tree; what is in it goes to the manifest unless it is forgotten later.
    fn commit(
        &mut self,
        tree: &BTreeMap<Vec<u8>, (Node, Metadata)>,
        snapshot: Snapshot,
        keep: bool,
    ) -> SnapshotRecord {
        let mut session = Session::begin(&self.repository, Purpose::Backup, None).unwrap();
        let mut entries = Vec::new();
        let root = self.listing(&mut session, b"", tree, &mut entries);
        let record = session.commit(Snapshot { root, ..snapshot }).unwrap();
        if keep {
            self.manifest.push(said_of(&record, entries));
        }
        record
    }
}

/// A snapshot as a manifest says it.
fn said_of(record: &SnapshotRecord, entries: Vec<Value>) -> Value {
    let s = &record.snapshot;
    json!({
        "id": record.id.to_hex(),
        "time": [s.time.seconds, s.time.nanoseconds],
        "host": s.host,
        "paths": s.paths.iter().map(|p| hex(p)).collect::<Vec<_>>(),
        "tags": record.tags(),
        "description": record.description(),
        "pinned": record.pinned(),
        "partial": s.outcome == Outcome::Partial,
        "problems": s.problems.iter().map(|p| json!([hex(&p.path), p.why])).collect::<Vec<_>>(),
        "entries": entries,
    })
}

/// What a manifest says of an entry that is neither a file nor a directory.
fn say_kind(said: &mut Value, kind: &EntryKind) {
    let (name, device) = match kind {
        EntryKind::Symlink { target } => {
            said["target"] = hex(target).into();
            ("symlink", None)
        }
        EntryKind::Fifo => ("fifo", None),
        EntryKind::Socket => ("socket", None),
        EntryKind::CharDevice { major, minor } => ("char-device", Some((major, minor))),
        EntryKind::BlockDevice { major, minor } => ("block-device", Some((major, minor))),
        EntryKind::File { .. } | EntryKind::Directory { .. } => unreachable!("said elsewhere"),
    };
    said["kind"] = name.into();
    if let Some((major, minor)) = device {
        said["device-number"] = json!([major, minor]);
    }
}

fn describe(path: &[u8], m: &Metadata) -> Value {
    let attributes = m.xattrs.iter().map(|x| json!([hex(&x.name), hex(&x.value)]));
    json!({
        "path": hex(path),
        "mode": m.mode,
        "uid": m.uid,
        "gid": m.gid,
        "user": hex(&m.user),
        "group": hex(&m.group),
        "mtime": [m.mtime.seconds, m.mtime.nanoseconds],
        "links": m.links,
        "xattrs": attributes.collect::<Vec<_>>(),
    })
}

fn hash(parts: &[Part]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        match part {
            Part::Bytes(bytes) => _ = hasher.update(bytes),
            Part::Hole(len) => {
                for _ in 0..*len {
                    hasher.update(&[0]);
                }
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}

fn holes(parts: &[Part]) -> Value {
    let (mut at, mut holes) = (0, Vec::new());
    for part in parts {
        match part {
            Part::Bytes(bytes) => at += bytes.len() as u64,
            Part::Hole(len) => {
                holes.push(json!([at, len]));
                at += len;
            }
        }
    }
    holes.into()
}

fn meta(seed: u32) -> Metadata {
    Metadata {
        mode: 0o644,
        uid: 1000 + seed,
        gid: 100,
        user: Arc::from(&b"somebody"[..]),
        group: Arc::from(&b"users"[..]),
        mtime: Time { seconds: 1_700_000_000 + i64::from(seed), nanoseconds: seed },
        ctime: Time::from_seconds(1_700_000_001),
        inode: 10 + u64::from(seed),
        ..Metadata::default()
    }
}

fn file(parts: Vec<Part>, seed: u32) -> (Node, Metadata) {
    (Node::File(parts, false), meta(seed))
}

fn text(text: &str, seed: u32) -> (Node, Metadata) {
    file(vec![Part::Bytes(text.as_bytes().to_vec())], seed)
}

fn folder<const N: usize>(nodes: [(&[u8], (Node, Metadata)); N]) -> (Node, Metadata) {
    (Node::Directory(tree(nodes)), Metadata { mode: 0o755, ..meta(0) })
}

fn tree<const N: usize>(
    nodes: [(&[u8], (Node, Metadata)); N],
) -> BTreeMap<Vec<u8>, (Node, Metadata)> {
    nodes.into_iter().map(|(name, node)| (name.to_vec(), node)).collect()
}

fn kinds(maker: &mut Maker) {
    let other = |kind, seed| (Node::Other(kind), meta(seed));
    let linked = Metadata { links: 2, device: 2049, ..meta(20) };
    let attributes = ["security.capability", "system.posix_acl_access", "user.note"];
    let xattrs = attributes.map(|name| Xattr { name: name.into(), value: bytes(9, 20) }).to_vec();
    let before_1970 = Time { seconds: -86_401, nanoseconds: 999_999_999 };
    let sparse = vec![Part::Hole(8192), Part::Bytes(bytes(3, 7000)), Part::Hole(1 << 20)];
    let tree = tree([
        (
            b"a",
            folder([
                (b"empty", file(vec![], 1)),
                (b"old", (Node::File(vec![], false), Metadata { mtime: before_1970, ..meta(2) })),
                (
                    b"setuid",
                    (
                        Node::File(vec![Part::Bytes(bytes(4, 10))], false),
                        Metadata { mode: 0o6755, xattrs, ..meta(3) },
                    ),
                ),
                (b"sparse", file(sparse, 4)),
                (
                    b"twin-1",
                    (Node::File(vec![Part::Bytes(b"twins".to_vec())], false), linked.clone()),
                ),
                (b"unstable", (Node::File(vec![Part::Bytes(b"mixed".to_vec())], true), meta(5))),
            ]),
        ),
        (
            b"b",
            folder([
                (b"block", other(EntryKind::BlockDevice { major: 8, minor: 1 }, 6)),
                (b"char", other(EntryKind::CharDevice { major: 1, minor: 3 }, 7)),
                (b"dangling", other(EntryKind::Symlink { target: b"../no\xffwhere".to_vec() }, 8)),
                (b"fifo", other(EntryKind::Fifo, 9)),
                (b"socket", other(EntryKind::Socket, 10)),
                (b"twin-2", (Node::File(vec![Part::Bytes(b"twins".to_vec())], false), linked)),
            ]),
        ),
        (b"empty folder", folder([])),
        (b"\x1b[31mred\x07", text("escape", 11)),
        (b"line\nfeed", text("line feed", 12)),
        (b"not\xff\xfeutf-8", text("any bytes", 13)),
        ("ünïcode".as_bytes(), text("unicode", 14)),
        (&[b'n'; 255], text("long", 15)),
    ]);
    let problem =
        SnapshotProblem { path: b"/b/gone\xff".to_vec(), why: "it is no longer there".into() };
    let snapshot = Snapshot {
        time: Time { seconds: 1_750_000_000, nanoseconds: 123_456_789 },
        offset_minutes: -330,
        host: "golden".into(),
        paths: vec![b"/a".to_vec(), b"/b".to_vec()],
        tags: vec!["odd".into(), "töken".into()],
        description: "every kind".into(),
        outcome: Outcome::Partial,
        problem_count: 1,
        problems: vec![problem],
        number: 1,
        program: "golden".into(),
        ..Snapshot::default()
    };
    maker.commit(&tree, snapshot, true);
}

fn history(maker: &mut Maker) {
    let mut records = Vec::new();
    for number in 0..6u32 {
        let tree = tree([
            (b"always", file(vec![Part::Bytes(bytes(1, 60_000))], 1)),
            (b"changing", file(vec![Part::Bytes(bytes(100 + u64::from(number), 20_000))], number)),
        ]);
        let snapshot = Snapshot {
            time: Time::from_seconds(1_760_000_000 + i64::from(number) * 86_400),
            host: "golden".into(),
            paths: vec![b"/".to_vec()],
            number: u64::from(number) + 1,
            previous: records
                .iter()
                .map(|r: &SnapshotRecord| (r.id, r.hash))
                .next_back()
                .into_iter()
                .collect(),
            ..Snapshot::default()
        };
        maker.world.set_now(snapshot.time);
        records.push(maker.commit(&tree, snapshot, number != 2));
    }
    let noted =
        maker.repository.annotate(&records[4], |note| note.tags = vec!["first".into()]).unwrap();
    let noted = SnapshotRecord { note: Some(noted), ..records[4].clone() };
    let change = |note: &mut Note| {
        note.tags = vec!["kept".into()];
        note.description = "said later".into();
        note.pinned = true;
    };
    maker.repository.annotate(&noted, change).unwrap();
    let said = maker.manifest.iter_mut().find(|s| s["id"] == records[4].id.to_hex()).unwrap();
    said["tags"] = json!(["kept"]);
    said["description"] = "said later".into();
    said["pinned"] = true.into();
    maker.repository.forget(&records[2..3]).unwrap();
    // A writer that died: its record stays, and its packs are of use to the next one.
    let mut session = Session::begin(&maker.repository, Purpose::Backup, None).unwrap();
    let left = bytes(77, 5000);
    let id = maker.repository.keys().data_id(&left);
    session.add_data(id, &left).unwrap();
    session.flush().unwrap();
    left_behind(maker, &records);
}

/// Notes of the same counter; a snapshot without its session record; a mark on one that counts.
fn left_behind(maker: &mut Maker, records: &[SnapshotRecord]) {
    let noted = &records[3];
    // The valid one has neither the greatest id of all nor the smallest of its counter.
    for (id, counter, description) in
        [(9, 1, "smaller counter"), (1, 3, "smaller id"), (2, 3, "valid")]
    {
        let note = Note {
            snapshot: noted.id,
            counter,
            time: noted.snapshot.time,
            tags: vec![],
            description: description.into(),
            pinned: false,
            expires: None,
        };
        let key = note_key(&NoteId([id; 32]));
        maker.repository.write_object(ObjectType::Note, &key, &note.encode()).unwrap();
    }
    let said = maker.manifest.iter_mut().find(|s| s["id"] == noted.id.to_hex()).unwrap();
    said["description"] = "valid".into();

    let snapshot = Snapshot { root: Refs::default(), ..noted.snapshot.clone() };
    let gone = maker.commit(&tree([(b"nobody", text("sees this", 1))]), snapshot, false);
    maker.repository.storage().delete(&session_key(&gone.id)).unwrap();

    let mark = session::Session {
        client: ClientId([8; 16]),
        host: "another".into(),
        process: 1,
        time: noted.snapshot.time,
        purpose: Purpose::Repack,
    };
    let key = fence_key(&records[5].id);
    maker.repository.write_object(ObjectType::Fence, &key, &mark.encode()).unwrap();
}

fn large(maker: &mut Maker) {
    let names: BTreeMap<Vec<u8>, (Node, Metadata)> =
        (0..800).map(|n| (format!("file-{n:05}").into_bytes(), text("same", n))).collect();
    // Many chunks, few of them different, and a compressible listing.
    let mut parts = Vec::new();
    for n in 0..2000u64 {
        parts.push(Part::Bytes(bytes(n % 40, 600)));
        if n % 500 == 499 {
            parts.push(Part::Hole(4096));
        }
    }
    let tree = tree([(b"many", (Node::Directory(names), meta(0))), (b"long", file(parts, 1))]);
    let snapshot = Snapshot {
        time: Time::from_seconds(1_770_000_000),
        host: "golden".into(),
        ..Snapshot::default()
    };
    maker.commit(&tree, snapshot, true);
}

fn secrets() -> [Secret; 3] {
    [
        Secret::Password(Zeroizing::new("correct horse – battery".into())),
        Secret::KeyFile(KeyFile::generate(&SeededWorld::new(7, Time::default()))),
        Secret::Recovery(RecoveryCode::generate(&SeededWorld::new(8, Time::default()))),
    ]
}

fn secret_text(secret: &Secret) -> Value {
    match secret {
        Secret::Password(text) => json!({ "password": text.as_str() }),
        Secret::KeyFile(file) => json!({ "key-file": file.to_text().as_str() }),
        Secret::Recovery(code) => json!({ "recovery-code": code.to_text().as_str() }),
    }
}

/// Makes a golden repository in a storage; returns its manifest.
fn make(name: &str, what: &str, storage: Arc<dyn Storage>) -> Value {
    let cache = tempfile::tempdir().unwrap();
    let all = secrets();
    let secrets = if name == "slots" { &all[..] } else { &all[1..2] };
    let level = if name == "large" { 3 } else { 0 };
    // Each has ids and keys of its own.
    let seed = 42 + names().position(|other| other == name).unwrap() as u64;
    let mut maker = Maker::new(storage.clone(), cache.path(), seed, level, secrets);
    match name {
        "deep" => aged::deep(&mut maker),
        "epochs" => aged::epochs(&mut maker),
        "rotated" => aged::rotated(&mut maker, storage, &secrets[0]),
        "deltas" => aged::deltas(&mut maker),
        "kinds" => kinds(&mut maker),
        "history" => history(&mut maker),
        "large" => large(&mut maker),
        _ => {}
    }
    json!({
        "what": what,
        "secrets": secrets.iter().map(secret_text).collect::<Vec<_>>(),
        "snapshots": maker.manifest,
    })
}

fn objects(storage: &dyn Storage) -> BTreeMap<String, Vec<u8>> {
    let mut keys = Vec::new();
    storage.list("", &mut |listed| keys.push(listed.key)).unwrap();
    keys.into_iter().map(|key| (key.clone(), storage.get(&key, u64::MAX).unwrap())).collect()
}

/// The manifest that is committed beside a golden repository, and where the repository lies.
pub fn committed(name: &str) -> (Value, PathBuf) {
    let directory = directory(name);
    let manifest = std::fs::read_to_string(directory.join("manifest.json")).unwrap();
    (serde_json::from_str(&manifest).unwrap(), directory.join("repository"))
}

/// Names of all golden repositories.
pub fn names() -> impl Iterator<Item = &'static str> {
    GOLDEN.iter().map(|(name, ..)| *name)
}

#[test]
fn golden_repositories_are_made_again_byte_for_byte() {
    for (name, what, again) in GOLDEN {
        let storage = Arc::new(MemoryStorage::new());
        let manifest = make(name, what, storage.clone());
        if std::env::var_os("HOLDALL_WRITE_GOLDEN").is_some() {
            let directory = directory(name);
            let _ = std::fs::remove_dir_all(&directory);
            let local = LocalStorage::create(&directory.join("repository")).unwrap();
            for (key, bytes) in objects(&*storage) {
                local.put(&key, &[&bytes]).unwrap();
            }
            let text = serde_json::to_string_pretty(&manifest).unwrap() + "\n";
            std::fs::write(directory.join("manifest.json"), text).unwrap();
        }
        let (said, path) = committed(name);
        let there = objects(&LocalStorage::open(&path).unwrap());
        if again {
            assert_eq!(manifest, said, "{name}");
            assert!(there == objects(&*storage), "{name}: other bytes than committed");
        } else {
            assert_eq!(manifest["snapshots"][0]["entries"], said["snapshots"][0]["entries"]);
        }
    }
}

#[test]
fn the_fixtures_on_disk_are_those_of_the_list() {
    let mut found: Vec<String> = std::fs::read_dir(directory(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let mut listed: Vec<&str> = names().collect();
    listed.sort();
    assert_eq!(found, listed);
}
