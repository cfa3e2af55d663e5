use super::super::sample::{CHUNK, Node, Sample, Tree, noise};
use super::*;
use crate::progress::Silent;
use crate::repo::SnapshotRecord;
use crate::world::Time;

fn differences(
    sample: &Sample,
    before: (&SnapshotRecord, &[u8]),
    after: (&SnapshotRecord, &[u8]),
    progress: &Silent,
) -> (Vec<String>, DiffReport) {
    let mut lines = Vec::new();
    let each = &mut |item: &DiffItem<'_>| {
        let path = crate::text::escape(item.path);
        lines.push(match item.difference {
            Difference::Added(_) => format!("+ {path}"),
            Difference::Removed(_) => format!("- {path}"),
            Difference::Changed { kind, content, metadata, .. } => {
                let flags = [
                    (kind, 'K'),
                    (content, 'C'),
                    (metadata.mode, 'm'),
                    (metadata.owner, 'o'),
                    (metadata.mtime, 't'),
                    (metadata.xattrs, 'x'),
                ];
                let flags: String =
                    flags.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).collect();
                format!("{flags} {path}")
            }
        });
        Ok(())
    };
    let before = (&before.0.snapshot, before.1);
    let after = (&after.0.snapshot, after.1);
    let report = diff(&sample.repository, before, after, each, progress).unwrap();
    (lines, report)
}

fn tree() -> Tree {
    let mut tree = Tree::default();
    tree.file(b"/same/deep/file", b"same");
    tree.file(b"/d/changed", &noise(1, 3 * CHUNK));
    tree.file(b"/d/gone\xff", b"12345");
    tree.file(b"/d/was-folder/x", b"");
    tree.file(b"/d/touched", b"");
    tree.put(b"/link", Node::Other(EntryKind::Symlink { target: b"a".to_vec() }));
    tree
}

#[test]
fn every_kind_of_difference() {
    let sample = Sample::new(1);
    let mut tree = tree();
    let before = sample.snapshot(&tree, b"");
    tree.file(b"/d/changed", &noise(2, 3 * CHUNK));
    tree.remove(b"/d/gone\xff");
    tree.remove(b"/d/was-folder");
    tree.file(b"/d/was-folder", b"abc");
    *tree.file(b"/d/touched", b"") = Metadata {
        mode: 0o644,
        uid: 7,
        mtime: Time::from_seconds(3),
        xattrs: vec![crate::format::tree::Xattr { name: b"a".to_vec(), value: vec![] }],
        inode: 99,
        ..Metadata::default()
    };
    tree.put(b"/link", Node::Other(EntryKind::Symlink { target: b"b".to_vec() }));
    tree.file(b"/new/in/it", b"1");
    let after = sample.snapshot(&tree, b"");
    let progress = Silent::default();
    let (lines, report) = differences(&sample, (&before, b""), (&after, b"/"), &progress);
    assert_eq!(
        lines,
        [
            "C /d/changed",
            "- /d/gone\\xff",
            "motx /d/touched",
            "Kmt /d/was-folder",
            "- /d/was-folder/x",
            "C /link",
            "+ /new",
            "+ /new/in",
            "+ /new/in/it",
        ]
    );
    let len = 3 * CHUNK as u64;
    assert_eq!(report.added, Tally { file_count: 1, directory_count: 2, other_count: 0, bytes: 1 });
    assert_eq!(report.removed, Tally { file_count: 2, bytes: 5, ..Tally::default() });
    let changed = Tally { file_count: 2, other_count: 1, bytes: len + 3, ..Tally::default() };
    assert_eq!((report.changed, report.changed_bytes_before), (changed, len));
    assert_eq!((report.metadata_count, report.unknown_count), (1, 0));
    let (lines, _) = differences(&sample, (&after, b""), (&after, b""), &progress);
    assert!(lines.is_empty());
    let (lines, _) = differences(&sample, (&before, b"/d"), (&after, b"/new/in"), &progress);
    assert_eq!(lines.first().map(String::as_str), Some("- /new/in/changed"));
    assert_eq!(lines.last().map(String::as_str), Some("- /new/in/was-folder/x"));
    let (lines, _) =
        differences(&sample, (&before, b"/d/changed"), (&after, b"/d/changed"), &progress);
    assert_eq!(lines, ["C /d/changed"]);
    let (lines, _) = differences(&sample, (&before, b"/d/changed"), (&after, b"/new"), &progress);
    assert_eq!(lines, ["Kmt /new", "+ /new/in", "+ /new/in/it"]);
    let (lines, _) = differences(&sample, (&before, b"/link"), (&after, b"/"), &progress);
    assert_eq!(lines[..2], ["- /", "+ /d"]);
    assert!(progress.problems().is_empty());
}

#[test]
fn equal_listings_are_not_read() {
    let sample = Sample::new(1);
    let mut tree = tree();
    let before = sample.snapshot(&tree, b"");
    tree.file(b"/new", b"");
    let after = sample.snapshot(&tree, b"");
    sample.break_chunk(&sample.content_of(&after, b"/same").refs[0]);
    sample.break_chunk(&sample.content_of(&after, b"/d").refs[0]);
    let progress = Silent::default();
    let (lines, _) = differences(&sample, (&before, b""), (&after, b""), &progress);
    assert_eq!(lines, ["+ /new"]);
    assert!(progress.problems().is_empty());
}

#[test]
fn what_lies_next_to_damage_is_unknown_and_not_called_new() {
    let sample = Sample::new(1);
    let mut tree = Tree::default();
    for n in 0..2_000 {
        tree.file(format!("/many/file-{n:05}").as_bytes(), b"");
    }
    let before = sample.snapshot(&tree, b"");
    tree.file(b"/many/file-00000", b"changed");
    tree.remove(b"/many/file-01999");
    let after = sample.snapshot(&tree, b"");
    // A chunk in the middle is the same on both sides; the first is not.
    let chunks = sample.content_of(&after, b"/many").refs;
    assert!(chunks.len() > 2);
    sample.break_chunk(&chunks[0]);
    let progress = Silent::default();
    let (lines, report) = differences(&sample, (&before, b""), (&after, b""), &progress);
    assert_eq!(lines, ["- /many/file-01999"]);
    assert!(report.unknown_count > 20, "{report:?}");
    let problems = progress.problems();
    assert!(problems.len() == 1 && problems[0].what == b"/many" && problems[0].damage);
}

#[test]
fn the_same_chunks_in_other_lists_are_the_same_content() {
    let sample = Sample::new(1);
    let mut tree = Tree::default();
    tree.file(b"/f", &noise(1, 40 * CHUNK));
    let record = sample.snapshot(&tree, b"");
    let content = sample.content_of(&record, b"/f");
    assert_eq!(content.depth, 1);
    let leaves = sample.trees().leaves(&content).collect::<Result<Vec<_>, _>>().unwrap();
    let entry = |content| Entry {
        name: b"f".to_vec(),
        kind: EntryKind::File { content, unstable: false },
        metadata: Metadata::default(),
    };
    let progress = Silent::default();
    let diff = Diff {
        reader: sample.trees(),
        path: b"/f".to_vec(),
        levels: Vec::new(),
        report: DiffReport::default(),
        each: &mut |_| Ok(()),
        progress: &progress,
    };
    let flat = entry(Refs { depth: 0, refs: leaves.clone() });
    assert!(diff.same_content(&entry(content.clone()), &flat).unwrap());
    let mut swapped = leaves;
    swapped.swap(0, 1);
    let swapped = entry(Refs { depth: 0, refs: swapped });
    assert!(!diff.same_content(&entry(content), &swapped).unwrap());
}

#[test]
fn deep_trees() {
    let sample = Sample::new(1);
    let (one, other) = (sample.deep(5_000), sample.deep(5_001));
    let progress = Silent::default();
    let (lines, report) = differences(&sample, (&one, b""), (&other, b""), &progress);
    assert_eq!((lines.len(), report.added.file_count), (3, 2));
    assert!(lines.iter().all(|line| line.starts_with("+ /d/d/d/")));
    let (lines, report) = differences(&sample, (&one, b""), (&one, b"/a"), &progress);
    assert_eq!((lines.len(), report.removed.file_count), (15_001, 10_000));
    assert!(progress.problems().is_empty());
}
