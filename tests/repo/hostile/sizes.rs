//! Lengths that add up to more than a number holds, in files that take no room.

use holdall::limits::{CONTENT_LEN_MAX, REFS_DEPTH_MAX};
use holdall::ops::copy::{CopyOptions, copy};
use holdall::ops::diff::diff;
use holdall::ops::dump::{ArchiveFormat, dump_file, dump_folder};
use holdall::ops::find::{FindOptions, find};
use holdall::ops::ls::ls;
use holdall::ops::prune::{PruneOptions, prune};
use holdall::ops::stats::snapshot_stats;

use super::*;

fn hole() -> Refs {
    Refs { depth: 0, refs: vec![Ref::Hole { len: CONTENT_LEN_MAX }] }
}

#[test]
fn eight_files_of_the_greatest_length_are_counted_and_copied() {
    let mut hostile = Hostile::new();
    let entries = |name: &str| -> Vec<Entry> {
        (0..8).map(|n| file_of(format!("{name}{n}").as_bytes(), hole())).collect()
    };
    let one = hostile.commit(&entries("a"));
    let other = hostile.commit(&entries("b"));
    // The same names, of another length.
    let mut short = entries("a");
    for entry in &mut short {
        let refs = vec![Ref::Hole { len: CONTENT_LEN_MAX - 1 }];
        let content = Refs { depth: 0, refs };
        entry.kind = EntryKind::File { content, unstable: false };
    }
    let changed = hostile.commit(&short);
    let repo = hostile.finish();
    let (repository, snapshot): (&Shared, _) = (&repo.repository, &one.snapshot);
    let silent = Silent::default();
    let listed = ls(repository, snapshot, b"", true, &mut |_| Ok(()), &silent).unwrap();
    assert_eq!((listed.entry_count, listed.bytes), (8, u64::MAX));
    let options = FindOptions { size_min: Some(CONTENT_LEN_MAX), ..FindOptions::default() };
    let records = [one.clone()];
    let found = find(repository, &records, b"", &options, &mut |_, _| Ok(()), &silent).unwrap();
    assert_eq!(found.found_count, 8);
    for after in [&other, &changed] {
        let (before, after) = ((snapshot, &b""[..]), (&after.snapshot, &b""[..]));
        let differ = diff(repository, before, after, &mut |_| Ok(()), &silent).unwrap();
        assert_eq!(differ.added.bytes.max(differ.changed.bytes), u64::MAX);
    }
    let counted = snapshot_stats(repository, snapshot, b"", &silent).unwrap();
    assert_eq!((counted.bytes, counted.hole_bytes), (u64::MAX, u64::MAX));
    assert!(checked(&repo).is_whole());
    prune(repository, &PruneOptions::default(), &silent).unwrap();
    let to = TestRepo::memory();
    let copied = copy(repository, &to.repository, &records, &CopyOptions::default(), &silent);
    assert_eq!(copied.unwrap().copied[0].snapshot.root, one.snapshot.root);
    assert!(silent.problems().is_empty());
}

#[test]
fn writing_them_can_be_stopped_and_restoring_them_says_what_does_not_fit() {
    let mut hostile = Hostile::new();
    let good = hostile.file(b"good", b"good");
    let record = hostile.commit(&[good, file_of(b"hole", hole()), file_of(b"hole2", hole())]);
    let repo = hostile.finish();
    let (repository, snapshot): (&Shared, _) = (&repo.repository, &record.snapshot);
    let patience = || Patience::new(1_000);
    assert_ended("dump", dump_file(repository, snapshot, b"/hole", &mut nowhere(), &patience()));
    for format in [ArchiveFormat::Tar, ArchiveFormat::Zip] {
        let dumped = dump_folder(repository, snapshot, b"", format, &mut nowhere(), &patience());
        assert_ended("dump", dumped);
    }
    let place = tempfile::tempdir().unwrap();
    let (report, problems) = restored(&repo, &record, &place.path().join("target"));
    assert_eq!((report.damage, report.problems), (0, 2), "{problems:?}");
    assert_eq!(std::fs::read(place.path().join("target/good")).unwrap(), b"good");
}

#[test]
fn references_that_add_up_to_more_or_lie_deeper_are_refused() {
    let mut hostile = Hostile::new();
    let refs = vec![Ref::Hole { len: CONTENT_LEN_MAX }, Ref::Hole { len: 1 }];
    let inside = file_of(b"inside", Refs { depth: 0, refs: refs.clone() });
    let list = hostile.chunk(ChunkKind::Tree, &Refs { depth: 0, refs }.encode_chunk());
    let Ref::Chunk { id, .. } = list else { panic!() };
    let below = Ref::Chunk { id, len: CONTENT_LEN_MAX };
    let listed = file_of(b"listed", Refs { depth: 1, refs: vec![below] });
    let deep = Refs { depth: REFS_DEPTH_MAX + 1, refs: vec![below] };
    let deep = hostile.directory(b"e", &[file_of(b"deep", deep)]);
    let entries = [hostile.directory(b"d", &[inside]), deep, listed];
    hostile.commit(&entries);
    let report = checked(&hostile.finish());
    let paths: Vec<_> = report.touched.iter().map(|touched| touched.path.clone()).collect();
    assert_eq!(paths, [b"/d".to_vec(), b"/e".to_vec(), b"/listed".to_vec()]);
}
