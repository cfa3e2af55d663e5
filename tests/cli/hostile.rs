//! What somebody who can write to a repository would like a terminal to do.

use std::sync::Arc;

use holdall::crypto::{KeyFile, Secret};
use holdall::format::envelope::ObjectType;
use holdall::format::session::Purpose;
use holdall::format::snapshot::{Outcome, Snapshot, SnapshotProblem};
use holdall::format::tree::{ENTRIES_TAG, Entry, EntryKind, Metadata, Ref, Refs, Xattr};
use holdall::id::{ChunkId, ClientId, SnapshotId};
use holdall::repo::{Environment, Repository, Session};
use holdall::storage::LocalStorage;
use holdall::world::RealWorld;

use crate::dir::Dir;

/// A title, a cleared screen, a bell, a carriage return, a C1 control, an override of direction, an
/// isolate, a joiner, a tag character, and a hyperlink.
const EVIL: &str =
    "\x1b]0;owned\x07\x1b[2J\r\u{9b}31m\u{202e}\u{2066}\u{200d}\u{e0041}\n\x1b]8;;x:\x1b\\";

fn open(dir: &Dir) -> Arc<Repository> {
    let key = KeyFile::from_text(&std::fs::read_to_string(dir.key_file()).unwrap()).unwrap();
    let environment = Environment {
        cache: dir.path("other-cache"),
        state: dir.path("other-state"),
        client: ClientId([7; 16]),
        host: EVIL.into(),
        user: EVIL.into(),
        process: 1,
        threads: 2,
    };
    let storage = Arc::new(LocalStorage::open(&dir.repository()).unwrap());
    let world = Arc::new(RealWorld);
    Arc::new(Repository::open(storage, world, environment, &[Secret::KeyFile(key)]).unwrap())
}

/// Names that are nothing but trouble, of every kind, some of them damaged.
fn entries(session: &mut Session, invalid: &[u8]) -> Vec<Entry> {
    let repository = session.repository().clone();
    let mut file = |content: &[u8]| {
        let id = repository.keys().data_id(content);
        session.add(holdall::format::frame::ChunkKind::Data, id, content).unwrap();
        Refs { depth: 0, refs: vec![Ref::Chunk { id, len: content.len() as u64 }] }
    };
    let lost = || Refs { depth: 0, refs: vec![Ref::Chunk { id: ChunkId([7; 32]), len: 9 }] };
    let metadata = Metadata {
        user: EVIL.as_bytes().into(),
        group: invalid.into(),
        xattrs: vec![Xattr { name: invalid.to_vec(), value: invalid.to_vec() }],
        ..Metadata::default()
    };
    let entry = |prefix: &str, kind: EntryKind| Entry {
        name: [prefix.as_bytes(), invalid].concat(),
        kind,
        metadata: metadata.clone(),
    };
    vec![
        entry("a", EntryKind::File { content: file(invalid), unstable: true }),
        entry("b", EntryKind::Directory { listing: lost() }),
        entry("c", EntryKind::File { content: lost(), unstable: false }),
        entry("d", EntryKind::Symlink { target: invalid.to_vec() }),
        entry("e", EntryKind::Fifo),
        entry("f", EntryKind::CharDevice { major: u32::MAX, minor: u32::MAX }),
    ]
}

fn commit(repository: &Arc<Repository>, invalid: &[u8]) -> SnapshotId {
    let mut session = Session::begin(repository, Purpose::Backup, None).unwrap();
    let mut bytes = vec![ENTRIES_TAG];
    entries(&mut session, invalid).iter().for_each(|entry| entry.encode(&mut bytes));
    let id = repository.keys().tree_id(&bytes);
    session.add(holdall::format::frame::ChunkKind::Tree, id, &bytes).unwrap();
    let root = Refs { depth: 0, refs: vec![Ref::Chunk { id, len: bytes.len() as u64 }] };
    let evil = || EVIL.to_owned();
    let problem = SnapshotProblem { path: invalid.to_vec(), why: evil() };
    let snapshot = Snapshot {
        root,
        host: evil(),
        user: evil(),
        job: evil(),
        description: evil(),
        program: evil(),
        tags: vec![evil(), "t".into()],
        paths: vec![[b"/", invalid].concat(), b"/p".to_vec()],
        outcome: Outcome::Partial,
        problem_count: 1,
        problems: vec![problem],
        previous: vec![(SnapshotId([1; 32]), [0; 32])],
        number: u64::MAX,
        ..Snapshot::default()
    };
    session.commit(snapshot).unwrap().id
}

#[track_caller]
fn assert_harmless(what: &str, text: &str) {
    let harmless = |c: char| {
        c == '\n'
            || !(c.is_control()
                || c == '\u{200d}'
                || c == '\u{e0041}'
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c))
    };
    if let Some(at) = text.find(|c| !harmless(c)) {
        let start = text[..at].rfind('\n').map_or(0, |start| start + 1);
        panic!("{what}: {:?}", &text[start..]);
    }
}

#[test]
fn nothing_in_a_repository_reaches_the_terminal_as_it_is() {
    let dir = Dir::with_repository();
    let repository = open(&dir);
    let invalid = [EVIL.as_bytes(), b"\xff\xc3"].concat();
    let one = commit(&repository, &invalid).to_string();
    let other = commit(&repository, &[&invalid[..], b"2"].concat()).to_string();
    // Notes of sessions that are open, and objects under names that are none.
    let left = Session::begin(&repository, Purpose::Backup, None).unwrap();
    std::mem::forget(left);
    let note = "notes/".to_owned() + &"0".repeat(32);
    let _ = repository.write_object(ObjectType::Note, &note, EVIL.as_bytes());
    let odd = dir.repository().join("snapshots").join("odd\x1b[2J\u{202e}");
    std::fs::write(odd, "odd").unwrap();
    let target = dir.work("target").display().to_string();
    let other_repository = dir.path("copy").display().to_string();
    let all: [&[&str]; 23] = [
        &["snapshots"],
        &["snapshots", "--host", EVIL],
        &["snapshots", &one],
        &["ls", &one],
        &["ls", "-l", &one],
        &["ls", "--recursive", &one],
        &["ls", &format!("{one}:/{EVIL}")],
        &["find", "*"],
        &["find", EVIL],
        &["diff", &one, &other],
        &["stats"],
        &["stats", &one],
        &["check"],
        &["check", "--read-data"],
        &["restore", &one, "--target", &target, "--dry-run"],
        &["restore", &one, "--target", &target],
        &["restore", &one, "--target", &target, "--verbose"],
        &["dump", &format!("{one}:/c{EVIL}")],
        &["tag", &one, "--add", EVIL],
        &["forget", "--keep-last", "1", "--dry-run", "--group-by", "host,paths,tags,job"],
        &["prune", "--dry-run"],
        &["copy", "--to", &other_repository],
        &["key", "list"],
    ];
    for args in all {
        for json in [false, true] {
            let ran = match json {
                true => dir.run([&["--json"], args].concat()),
                false => dir.run(args),
            };
            let what = format!("{args:?}");
            assert!(ran.code.is_some_and(|code| code < 100), "{what} {ran:?}");
            assert!(!ran.stderr.contains("panicked"), "{what} {ran:?}");
            assert_harmless(&what, &ran.stderr);
            assert_harmless(&what, &ran.stdout);
        }
    }
    // The same where colours and a progress bar are wanted: their own sequences only.
    for line in ["snapshots", "check", "ls -l latest", "diff latest latest"] {
        let shown = dir.terminal(&format!("$H --color always {line}"), "").stdout;
        for part in ["\x1b]", "\u{202e}", "\u{9b}", "\x07", "\u{e0041}"] {
            assert!(!shown.contains(part), "{line}: {shown:?}");
        }
    }
}
