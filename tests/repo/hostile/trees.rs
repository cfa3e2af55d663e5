//! Trees with more paths than anyone can count, in a few chunks.

use holdall::format::pack::pack_of_key;
use holdall::id::ChunkId;
use holdall::index::write_segment;
use holdall::limits::TREE_DEPTH_MAX;
use holdall::ops::copy::{CopyOptions, copy};
use holdall::ops::diff::diff;
use holdall::ops::dump::{ArchiveFormat, dump_folder};
use holdall::ops::find::{FindOptions, find, find_chunk};
use holdall::ops::ls::ls;
use holdall::ops::prune::{PruneOptions, prune};
use holdall::ops::stats::{snapshot_stats, stats};
use holdall::pack::read_trailer;
use holdall::source::Pattern;

use crate::support::storages::list;

use super::*;

const LEVELS: usize = 40;

/// Forty directories, each of which names the next one twice: 2^40 paths lead to the file.
fn laughs(hostile: &mut Hostile, content: &[u8]) -> SnapshotRecord {
    let mut inside = vec![hostile.file(b"f", content)];
    for _ in 0..LEVELS {
        let listing = hostile.listing(&inside);
        inside = [b"a", b"b"]
            .map(|name| entry(name, EntryKind::Directory { listing: listing.clone() }))
            .into();
    }
    hostile.commit(&inside)
}

#[test]
fn each_chunk_of_a_tree_is_checked_once_however_many_paths_lead_to_it() {
    let mut hostile = Hostile::new();
    laughs(&mut hostile, b"content");
    let repo = hostile.finish();
    let report = checked(&repo);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.chunks, LEVELS as u64 + 2);
    let report = stats(&repo.repository, &Patience::new(u64::MAX)).unwrap();
    assert_eq!(report.tree_chunk_count, LEVELS as u64 + 1);
    let options = PruneOptions::default();
    let report = prune(&repo.repository, &options, &Patience::new(u64::MAX)).unwrap();
    assert_eq!(report.figures.unwrap().unused.packs, 0);
}

#[test]
fn what_is_lost_behind_countless_paths_is_told_until_it_is_enough() {
    // A lost file; and trees that can be read although somebody says that they cannot.
    for tree in [false, true] {
        let mut hostile = Hostile::new();
        laughs(&mut hostile, b"content");
        let repo = hostile.finish();
        let mut packs = list(&*repo.storage, "packs/").unwrap();
        packs.sort_by_key(|pack| pack.len);
        if tree {
            let (storage, sealer) = (&*repo.storage, repo.repository.sealer());
            let pack = pack_of_key(&packs.last().unwrap().key).unwrap();
            let frames = read_trailer(storage, sealer, &pack).unwrap().trailer.frames;
            let frames = frames.iter().map(|frame| frame.id).collect();
            repo.repository.record_damage(pack, frames, "w".into()).unwrap();
        } else {
            repo.storage.delete(&packs[0].key).unwrap();
        }
        let report = checked(&repo);
        assert!(!report.is_whole());
    }
}

#[test]
fn whoever_follows_every_path_can_be_stopped() {
    let mut hostile = Hostile::new();
    let one = laughs(&mut hostile, b"content");
    let other = laughs(&mut hostile, b"another");
    let repo = hostile.finish();
    let (repository, snapshot): (&Shared, _) = (&repo.repository, &one.snapshot);
    let patience = || Patience::new(10_000);
    let records = [one.clone()];
    let mut count = 0;
    let listed = ls(
        repository,
        snapshot,
        b"",
        true,
        &mut |_| {
            count += 1;
            assert!(count < 100_000, "there is no end of it");
            Ok(())
        },
        &patience(),
    );
    assert_ended("ls", listed);
    let everything = FindOptions::default();
    let found = find(repository, &records, b"", &everything, &mut |_, _| Ok(()), &patience());
    assert_ended("find", found);
    let nothing = FindOptions {
        patterns: vec![Pattern::parse(b"nothing").unwrap()],
        ..FindOptions::default()
    };
    let found = find(repository, &records, b"", &nothing, &mut |_, _| Ok(()), &patience());
    assert_ended("find", found);
    let id = holdall::id::ChunkId([7; 32]);
    let found = find_chunk(repository, &records, &id, &mut |_, _| Ok(()), &patience());
    assert_ended("find of a chunk", found);
    let compared =
        diff(repository, (snapshot, b""), (&other.snapshot, b""), &mut |_| Ok(()), &patience());
    assert_ended("diff", compared);
    let (listing, out) = (snapshot_stats(repository, snapshot, b"", &patience()), &mut nowhere());
    assert_ended("stats", listing);
    for format in [ArchiveFormat::Tar, ArchiveFormat::Zip] {
        assert_ended("dump", dump_folder(repository, snapshot, b"", format, out, &patience()));
    }
    let to = TestRepo::memory();
    let options = CopyOptions::default();
    assert_ended("copy", copy(repository, &to.repository, &records, &options, &patience()));
    let target = tempfile::tempdir().unwrap();
    for dry_run in [true, false] {
        let options = RestoreOptions {
            target: target.path().join("target"),
            dry_run,
            ..RestoreOptions::default()
        };
        let patience = Patience::new(if dry_run { 10_000 } else { 500 });
        assert_ended("restore", restore(repository, &one, &options, &patience));
    }
    // What is alike on both sides is not compared.
    let same = diff(repository, (snapshot, b""), (snapshot, b""), &mut |_| Ok(()), &patience());
    assert!(same.is_ok());
}

/// No listing can contain itself, for its id is made from its content: whoever says where another
/// one lies lies.
#[test]
fn a_directory_that_contains_itself_is_none() {
    let mut hostile = Hostile::new();
    let itself = |len: u64| {
        let refs = vec![Ref::Chunk { id: ChunkId([9; 32]), len }];
        entry(b"d", EntryKind::Directory { listing: Refs { depth: 0, refs } })
    };
    let len = hostile.listing(&[itself(1)]).len();
    let record = hostile.commit(&[itself(len)]);
    assert_eq!(record.snapshot.root.len(), len);
    let repo = hostile.finish();
    // Where what it names lies nowhere, and where somebody says that it lies there itself.
    let touched = || -> Vec<_> { checked(&repo).touched.into_iter().map(|t| t.path).collect() };
    assert_eq!(touched(), [b"/d".to_vec()]);
    let (repository, root) = (&repo.repository, &record.snapshot.root.refs[0]);
    let Ref::Chunk { id, .. } = root else { panic!() };
    let locations = repository.with_index(|index| index.locations(id)).unwrap().unwrap();
    let pack = locations[0].pack.id;
    let mut lie = read_trailer(&*repo.storage, repository.sealer(), &pack).unwrap();
    let chunks = lie.trailer.frames.iter_mut().flat_map(|frame| &mut frame.chunks);
    chunks.filter(|chunk| chunk.id == *id).for_each(|chunk| chunk.id = ChunkId([9; 32]));
    write_segment(&*repo.storage, repository.sealer(), repository.world(), &[lie]).unwrap();
    assert_eq!(touched(), [b"/d".to_vec()]);
    let target = tempfile::tempdir().unwrap();
    let (report, problems) = restored(&repo, &record, &target.path().join("target"));
    assert_eq!((report.damage, report.problems), (1, 0), "{problems:?}");
}

#[test]
fn what_lies_deeper_than_the_format_allows_is_told_once() {
    let mut hostile = Hostile::new();
    let mut inside = vec![hostile.file(b"f", b"content")];
    for _ in 0..TREE_DEPTH_MAX + 10 {
        inside = vec![hostile.directory(b"d", &inside)];
    }
    let record = hostile.commit(&inside);
    let repo = hostile.finish();
    let (repository, snapshot): (&Shared, _) = (&repo.repository, &record.snapshot);
    let told = Silent::default();
    let listed = ls(repository, snapshot, b"", true, &mut |_| Ok(()), &told).unwrap();
    assert_eq!((listed.entry_count, told.problems().len()), (TREE_DEPTH_MAX as u64, 1));
    let report = checked(&repo);
    assert_eq!((report.touched.len(), report.damaged.len()), (1, 0));
    let target = tempfile::tempdir().unwrap();
    let options = RestoreOptions {
        target: target.path().join("target"),
        dry_run: true,
        ..RestoreOptions::default()
    };
    let report = restore(repository, &record, &options, &Silent::default()).unwrap();
    assert_eq!(report.damage, 1);
}
