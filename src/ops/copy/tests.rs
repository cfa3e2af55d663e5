use std::sync::atomic::{AtomicBool, Ordering};

use super::super::content::write_content;
use super::super::sample::{CHUNK, Node, Sample, Tree, noise};
use super::super::walk::{Flow, Start, WalkItem, walk};
use super::*;
use crate::format::epoch::{EpochStep, Plan};
use crate::format::session::{SessionObject, fence_key};
use crate::format::tree::{Entry, EntryKind, Ref, Refs};
use crate::progress::{Problem, Silent};
use crate::storage::Storage;
use crate::world::Time;

/// Everything that a restore would give, file contents by hash.
fn everything(sample: &Sample, record: &SnapshotRecord) -> Vec<(Vec<u8>, Entry, blake3::Hash)> {
    let reader = ContentReader::new(&sample.repository);
    let progress = Silent::default();
    let start = Start::find(reader.trees(), &record.snapshot, b"").unwrap();
    let mut found = Vec::new();
    let visit = &mut |item: &WalkItem<'_>| {
        let mut entry = item.entry.clone();
        let mut hasher = blake3::Hasher::new();
        match &mut entry.kind {
            EntryKind::File { content, .. } => {
                let content = std::mem::take(content);
                let lost = write_content(&reader, &content, item.path, &mut hasher, &progress)?;
                assert_eq!(lost, 0);
                hasher.update(&content.len().to_le_bytes());
            }
            EntryKind::Directory { listing } => *listing = Refs::default(),
            _ => {}
        }
        found.push((item.path.to_vec(), entry, hasher.finalize()));
        Ok(Flow::Continue)
    };
    walk(reader.trees(), &start, visit, &progress).unwrap();
    assert!(progress.problems().is_empty());
    found
}

fn copied(from: &Sample, to: &Sample, records: &[&SnapshotRecord]) -> (CopyReport, Silent) {
    let progress = Silent::default();
    let records: Vec<SnapshotRecord> = records.iter().map(|r| (*r).clone()).collect();
    let options = CopyOptions::default();
    let report = copy(&from.repository, &to.repository, &records, &options, &progress).unwrap();
    (report, progress)
}

fn tree() -> Tree {
    let mut tree = Tree::default();
    let large = [noise(1, 100 * CHUNK), vec![0; 5 * CHUNK], noise(2, 30 * CHUNK)].concat();
    tree.file(b"/data/large", &large);
    for n in 0..300 {
        tree.file(format!("/many/{n}").as_bytes(), &noise(n + 10, 1_000)).inode = n;
    }
    tree.file(b"/odd\xff\x1b[m/f", b"");
    tree.put(b"/link", Node::Other(EntryKind::Symlink { target: b"\xff".to_vec() }));
    tree.directory(b"/empty");
    tree
}

/// With another chunk in the middle of the large file, and a few new and missing names.
fn changed(mut tree: Tree) -> Tree {
    let Node::File(mut large) = tree.nodes[&vec![b"data".to_vec(), b"large".to_vec()]].0.clone()
    else {
        panic!("it is a file")
    };
    large[50 * CHUNK..51 * CHUNK].copy_from_slice(&noise(999, CHUNK));
    tree.file(b"/data/large", &large);
    tree.file(b"/many/7", b"other");
    tree.file(b"/many/7a", b"new");
    tree.remove(b"/many/8");
    tree
}

#[test]
fn relatives_and_strangers_get_everything_once() {
    for related in [true, false] {
        let from = Sample::new(1);
        let to = if related { Sample::relative(2, &from) } else { Sample::new(2) };
        let first = from.snapshot(&tree(), b"");
        let second = from.snapshot(&changed(tree()), b"");
        let total = first.snapshot.statistics.bytes;

        let (report, progress) = copied(&from, &to, &[&first]);
        assert!(report.bytes_read >= total - 5 * CHUNK as u64 && report.bytes_read <= total);
        assert_eq!(progress.count(Counter::Bytes), total);
        let one = &report.copied[0];
        assert!(everything(&to, one) == everything(&from, &first));
        assert_eq!(one.snapshot.root == first.snapshot.root, related);
        let expected = Snapshot {
            original: Some(first.id),
            root: one.snapshot.root.clone(),
            statistics: Statistics {
                bytes_new: one.snapshot.statistics.bytes_new,
                bytes_stored: one.snapshot.statistics.bytes_stored,
                ..first.snapshot.statistics
            },
            ..first.snapshot.clone()
        };
        assert_eq!(one.snapshot, expected);

        // Again: nothing. The next one: what is new in it.
        let (report, _) = copied(&from, &to, &[&first]);
        assert_eq!((report.copied.len(), report.skipped), (0, vec![(first.id, one.id)]));
        let (report, progress) = copied(&from, &to, &[&first, &second]);
        assert_eq!((report.copied.len(), report.skipped.len()), (1, 1));
        assert_eq!(report.bytes_read, CHUNK as u64 + 5 + 3);
        assert!(report.bytes_new < 100_000, "{}", report.bytes_new);
        let two = &report.copied[0];
        assert!(everything(&to, two) == everything(&from, &second));
        let both = first.snapshot.statistics.bytes + second.snapshot.statistics.bytes;
        assert_eq!(progress.count(Counter::Bytes), both);
        assert!(progress.problems().is_empty());

        // And back: the source has them.
        let (report, _) = copied(&to, &from, &[one, two]);
        assert_eq!((report.copied.len(), report.skipped.len()), (0, 2));
    }
}

#[test]
fn without_an_earlier_copy_what_is_there_is_not_stored_again() {
    for related in [true, false] {
        let from = Sample::new(1);
        let to = if related { Sample::relative(2, &from) } else { Sample::new(2) };
        let first = from.snapshot(&tree(), b"");
        let (report, _) = copied(&from, &to, &[&first]);
        let before = report.bytes_new;
        to.repository.forget(&report.copied).unwrap();
        let (report, _) = copied(&from, &to, &[&first]);
        assert!(before > 100 * CHUNK as u64);
        assert_eq!((report.copied.len(), report.bytes_new), (1, 0));
        assert_eq!(report.bytes_read == 0, related);
        assert!(everything(&to, &report.copied[0]) == everything(&from, &first));
    }
}

#[test]
fn damaged_files_are_left_out_and_named() {
    let from = Sample::new(1);
    let to = Sample::new(2);
    let mut tree = Tree::default();
    for name in [&b"/a"[..], b"/d/b", b"/z"] {
        tree.file(name, &noise(name.len() as u64, 3 * CHUNK));
    }
    tree.file(b"/gone/file", b"x");
    let first = from.snapshot(&tree, b"");
    from.break_chunk(&from.content_of(&first, b"/d/b").refs[1]);
    from.break_chunk(&from.content_of(&first, b"/gone").refs[0]);
    let (report, progress) = copied(&from, &to, &[&first]);
    assert_eq!(report.problem_count, 2);
    let problems = progress.problems();
    assert!(problems.iter().all(|problem| problem.damage));
    let snapshot = &report.copied[0].snapshot;
    assert_eq!((snapshot.outcome, snapshot.problem_count), (Outcome::Partial, 2));
    let named: Vec<&[u8]> = snapshot.problems.iter().map(|p| p.path.as_slice()).collect();
    assert_eq!(named, [&b"/d/b"[..], b"/gone"]);
    assert_eq!(snapshot.statistics.files, first.snapshot.statistics.files - 1);
    assert_eq!(snapshot.statistics.bytes, first.snapshot.statistics.bytes - 3 * CHUNK as u64);
    let paths: Vec<Vec<u8>> =
        everything(&to, &report.copied[0]).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(paths, [&b"/a"[..], b"/d", b"/gone", b"/z"]);
    // It counts as copied, but nothing is taken over from it: a later snapshot with the same
    // damage says so again.
    tree.file(b"/new", b"");
    let second = from.snapshot(&tree, b"");
    from.break_chunk(&from.content_of(&second, b"/gone").refs[0]);
    from.break_chunk(&from.content_of(&second, b"/gone").refs[0]);
    let (report, _) = copied(&from, &to, &[&first, &second]);
    assert_eq!((report.skipped.len(), report.copied.len(), report.problem_count), (1, 1, 2));
}

#[test]
fn what_was_said_of_a_snapshot_is_said_of_its_copy() {
    let from = Sample::new(1);
    let to = Sample::new(2);
    let first = from.snapshot(&Tree::default(), b"");
    let expires = Some(Time::from_seconds(99));
    let change = |note: &mut crate::format::snapshot::Note| {
        note.tags = vec!["said later".into()];
        note.description = "why".into();
        note.pinned = true;
        note.expires = expires;
    };
    from.repository.annotate(&first, change).unwrap();
    let records = from.repository.snapshots(&Silent::default()).unwrap();
    copied(&from, &to, &[&records[0]]);
    let copies = to.repository.snapshots(&Silent::default()).unwrap();
    assert_eq!((copies[0].tags(), copies[0].description()), (records[0].tags(), "why"));
    assert!(copies[0].pinned() && copies[0].expires() == expires);
}

#[test]
fn one_written_anew_is_no_copy() {
    let from = Sample::new(1);
    let to = Sample::new(2);
    let first = from.snapshot(&tree(), b"");
    let (report, _) = copied(&from, &to, &[&first]);
    // The destination's copy is written anew without something, under the same origin.
    let copy = &report.copied[0];
    let session = to.begin();
    let mut snapshot = copy.snapshot.clone();
    snapshot.root = Refs::default();
    snapshot.statistics.files = 0;
    session.commit(snapshot).unwrap();
    to.repository.forget(&report.copied).unwrap();
    let (report, _) = copied(&from, &to, &[&first]);
    assert_eq!(report.copied.len(), 1);
    assert!(everything(&to, &report.copied[0]) == everything(&from, &first));
}

/// Fences every session of the destination that has no snapshot yet, once.
struct Fencing<'a> {
    to: &'a Sample,
    done: AtomicBool,
    silent: Silent,
}

impl Progress for Fencing<'_> {
    fn phase(&self, _: &str, _: Counter, _: Option<u64>) {}
    fn add(&self, _: Counter, _: u64) {}
    fn at(&self, _: &[u8]) {
        if self.done.swap(true, Ordering::Relaxed) {
            return;
        }
        for session in self.to.repository.list_sessions().unwrap() {
            if let SessionObject::Record(id) = session {
                self.to.storage.put(&fence_key(&id), &[b"fenced"]).unwrap();
            }
        }
    }
    fn problem(&self, problem: &Problem) {
        self.silent.problem(problem);
    }
    fn note(&self, text: &str) {
        self.silent.note(text);
    }
    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn a_fenced_session_is_begun_again() {
    let from = Sample::new(1);
    let to = Sample::new(2);
    let first = from.snapshot(&tree(), b"");
    let progress = Fencing { to: &to, done: false.into(), silent: Silent::default() };
    let options = CopyOptions::default();
    let report =
        copy(&from.repository, &to.repository, std::slice::from_ref(&first), &options, &progress)
            .unwrap();
    assert!(report.copied[0].snapshot.replaces.is_some());
    assert_eq!(progress.silent.notes.lock().unwrap().len(), 1);
    assert!(everything(&to, &report.copied[0]) == everything(&from, &first));
    assert!(report.bytes_new == 0, "what the fenced session stored is used");
}

#[test]
fn deep_trees_are_copied() {
    let from = Sample::new(1);
    let to = Sample::new(2);
    let first = from.deep(3_000);
    let (report, _) = copied(&from, &to, &[&first]);
    assert_eq!(everything(&to, &report.copied[0]).len(), 9_000);
    let second = from.deep(3_001);
    let (report, _) = copied(&from, &to, &[&second]);
    assert_eq!(everything(&to, &report.copied[0]).len(), 9_003);
}

#[test]
fn cancelling_leaves_no_snapshot_and_no_session() {
    let from = Sample::new(1);
    let to = Sample::new(2);
    let first = from.snapshot(&tree(), b"");
    let progress = Silent::default();
    progress.cancel.store(true, Ordering::Relaxed);
    let options = CopyOptions::default();
    let ended = copy(&from.repository, &to.repository, &[first], &options, &progress);
    assert!(matches!(ended, Err(OpsError::Cancelled)));
    assert!(to.repository.list_sessions().unwrap().is_empty());
    assert!(to.repository.snapshots(&Silent::default()).unwrap().is_empty());
}

#[test]
fn twins_of_contents_are_found_by_their_place() {
    let from = Sample::new(1);
    let mut tree = Tree::default();
    tree.file(b"/a", &noise(1, 30 * CHUNK));
    tree.file(b"/b", &noise(2, 30 * CHUNK));
    let record = from.snapshot(&tree, b"");
    let trees = from.trees();
    // Two contents that are cut in the same places stand for a source and its copy.
    let (source, copy) = (from.content_of(&record, b"/a"), from.content_of(&record, b"/b"));
    let leaves = |refs| trees.leaves(refs).map(Result::unwrap).collect::<Vec<Ref>>();
    let (sources, copies) = (leaves(&source), leaves(&copy));
    let at = |n: usize| n as u64 * CHUNK as u64;
    let mut twins = twin::TwinLeaves::new((&trees, &trees), &source, &copy);
    assert_eq!(twins.copy_of(at(0), &sources[0]), Some(copies[0]));
    assert_eq!(twins.copy_of(at(3), &sources[3]), Some(copies[3]));
    assert_eq!(twins.copy_of(at(4), &sources[5]), None);
    assert_eq!(twins.copy_of(at(5) + 1, &sources[6]), None);
    assert_eq!(twins.copy_of(at(29), &sources[29]), Some(copies[29]));
    assert_eq!(twins.copy_of(at(30), &sources[29]), None);
}

#[test]
fn while_a_prune_decides_nothing_unmarked_is_taken_over() {
    for related in [true, false] {
        let from = Sample::new(1);
        let to = if related { Sample::relative(2, &from) } else { Sample::new(2) };
        let first = from.snapshot(&tree(), b"");
        let second = from.snapshot(&changed(tree()), b"");
        copied(&from, &to, &[&first]);
        let condemned = to.repository.list_packs().unwrap().into_iter().map(|(id, _)| id);
        let plan = Plan { condemned: condemned.collect(), ..Plan::default() };
        assert!(to.repository.put_epoch(1, EpochStep::Plan, &plan.encode()).unwrap());
        let (report, _) = copied(&from, &to, &[&second]);
        assert!(report.bytes_new > 100 * CHUNK as u64, "{}", report.bytes_new);
        // Without the condemned packs everything is there.
        for id in plan.condemned {
            to.storage.delete(&crate::format::pack::pack_key(&id)).unwrap();
        }
        assert!(everything(&to, &report.copied[0]) == everything(&from, &second));
    }
}
