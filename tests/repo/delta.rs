//! Delta frames: what scattered changes cost, and what becomes of them and of their bases.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use holdall::format::frame::{ChunkKind, Codec};
use holdall::format::pack::pack_key;
use holdall::format::session::Purpose;
use holdall::index::{FrameRow, PackRow};
use holdall::ops::backup::{BackupOptions, BackupReport, Input, Stream, backup};
use holdall::ops::check::{CheckOptions, ReadData, check};
use holdall::ops::prune::{Limit, PruneOptions, prune};
use holdall::ops::restore::{RestoreOptions, restore};
use holdall::progress::Silent;
use holdall::repo::{Repository, Session, SnapshotRecord};
use holdall::storage::Storage;

use crate::prune::ALL;
use crate::support::repository::TestRepo;
use crate::support::snapshots::{
    Tree, assert_snapshots, commit_like, commit_tree, edited, files, noise,
};
use crate::support::storages::{Call, Damage, Flipping, Recording, Verb, list};

/// A dump of a table: rows of text that share no chunk with the next day's.
fn dump(day: u64, rows: u64) -> Vec<u8> {
    let mut text = String::from("INSERT INTO orders VALUES\n");
    for row in 0..rows {
        // Some rows are updated each day, all over the table.
        let updated = (1..=day).rev().find(|day| (row * 7 + day * 31) % 397 == 0);
        let number = u64::from_le_bytes(noise(row, 8).try_into().unwrap());
        write!(text, "({row},'{number:016x}','{:05}',", number % 7_919).unwrap();
        match updated {
            Some(day) => writeln!(text, "'shipped {day}'),").unwrap(),
            None => writeln!(text, "'open'),").unwrap(),
        }
        if day > 2 && row == rows / 3 {
            text.extend(std::iter::repeat_n("(0,'a row that was inserted'),\n", 200));
        }
    }
    text.into_bytes()
}

fn day(repository: &Arc<Repository>, source: &Path, content: &[u8]) -> BackupReport {
    fs::write(source.join("dump.sql"), content).unwrap();
    run(repository, Input::Paths(vec![source.as_os_str().as_bytes().to_vec()]), None)
}

fn run(repository: &Arc<Repository>, input: Input, compression: Option<i32>) -> BackupReport {
    let options = BackupOptions { compression, ..BackupOptions::default() };
    backup(repository, input, &options, &Silent::default()).unwrap()
}

fn restored(repository: &Arc<Repository>, record: &SnapshotRecord, source: &Path) -> Vec<u8> {
    let target = tempfile::tempdir().unwrap();
    let path = Some(source.as_os_str().as_bytes().to_vec());
    let options = RestoreOptions { path, target: target.path().join("t"), ..Default::default() };
    let silent = Silent::default();
    restore(repository, record, &options, &silent).unwrap();
    assert!(silent.problems().is_empty(), "{:?}", silent.problems());
    fs::read(target.path().join("t/dump.sql")).unwrap()
}

/// Frames that lie in packs which are there: deltas, others, and bytes of both.
#[derive(Debug, Default)]
struct Counted {
    deltas: usize,
    others: usize,
    delta_bytes: u64,
}

fn count(repository: &Arc<Repository>) -> Counted {
    repository.refresh_index().unwrap();
    let listed: BTreeSet<_> =
        repository.list_packs().unwrap().into_iter().map(|(id, _)| id).collect();
    let mut counted = Counted::default();
    let mut each = |_, pack: &Arc<holdall::index::PackRow>| {
        for frame in pack.frames.iter().filter(|_| listed.contains(&pack.id)) {
            match frame.codec {
                Codec::Delta { .. } => {
                    counted.deltas += 1;
                    counted.delta_bytes += u64::from(frame.stored_len);
                }
                Codec::Raw | Codec::Zstd => counted.others += 1,
            }
        }
    };
    repository.with_index(|index| index.packs(&mut each)).unwrap().unwrap();
    counted
}

fn assert_whole(repository: &Arc<Repository>) {
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let report = check(repository, &options, &Silent::default()).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

fn stored(storage: &dyn Storage) -> u64 {
    list(storage, "packs/").unwrap().iter().map(|listed| listed.len).sum()
}

#[test]
fn a_dump_day_by_day() {
    let (repo, source) = (TestRepo::memory(), tempfile::tempdir().unwrap());
    let mut days = Vec::new();
    for n in 0..6 {
        let content = dump(n, 20_000);
        let report = day(&repo.repository, source.path(), &content);
        days.push((report.record.unwrap(), content, report.statistics));
    }
    let full = days[0].2.bytes_stored;
    for (n, (_, content, statistics)) in days.iter().enumerate().skip(1) {
        let (new, added) = (statistics.bytes_new, statistics.bytes_stored);
        assert!(new > content.len() as u64 / 2, "day {n}: it is hardly different: {new}");
        assert!(added < full / 3, "day {n}: {added} of {full}");
    }
    assert!(count(&repo.repository).deltas > 20);
    // The first day, which has the bases, goes: they stay.
    for first in 0..3 {
        let (gone, ..) = days.remove(0);
        repo.repository.forget(&[gone]).unwrap();
        let before = stored(&*repo.storage);
        prune(&repo.reopen(), &ALL(), &Silent::default()).unwrap();
        let after = stored(&*repo.storage);
        assert!(after <= before, "prune {first} of {before} bytes left {after}");
        let cache = tempfile::tempdir().unwrap();
        let stranger = repo.open_on(repo.storage.clone(), cache.path());
        assert_whole(&stranger);
        for (record, content, _) in &days {
            assert!(restored(&stranger, record, source.path()) == *content, "prune {first}");
        }
    }
}

#[test]
fn a_stream_is_like_the_one_before() {
    let repo = TestRepo::memory();
    let stream = |content: &[u8]| {
        let reader = Box::new(std::io::Cursor::new(content.to_vec()));
        Input::Stream(Stream { name: b"dump.sql".to_vec(), reader, finish: None })
    };
    let full = run(&repo.repository, stream(&dump(0, 9_000)), None).statistics;
    let next = run(&repo.repository, stream(&dump(1, 9_000)), None).statistics;
    assert!(next.bytes_new > full.bytes_new / 2 && next.bytes_stored < full.bytes_stored / 5);
    assert_whole(&repo.repository);
}

#[test]
fn where_deltas_do_not_pay_there_are_none() {
    let (repo, source) = (TestRepo::memory(), tempfile::tempdir().unwrap());
    let input = || Input::Paths(vec![source.path().as_os_str().as_bytes().to_vec()]);
    let write = |content: &[u8]| fs::write(source.path().join("dump.sql"), content).unwrap();
    // Other bytes at the same place, bytes that are not to be compressed, and no parent.
    write(&noise(1, 600_000));
    run(&repo.repository, input(), None);
    write(&noise(2, 600_000));
    run(&repo.repository, input(), None);
    write(&dump(0, 9_000));
    run(&repo.repository, input(), None);
    write(&dump(1, 9_000));
    run(&repo.repository, input(), Some(0));
    assert_eq!(count(&repo.repository).deltas, 0);
    assert_whole(&repo.repository);
}

/// A base may be needed by nothing but deltas, a delta may be needed in part.
#[test]
fn a_prune_makes_no_delta_longer() {
    let repo = TestRepo::memory();
    let first = files(1, 40, 6_000);
    let mut second = edited(&first, 1);
    let base = commit_tree(&repo.repository, &first).unwrap();
    let gone = commit_like(&repo.repository, &second, &first).unwrap();
    let counted = count(&repo.repository);
    assert!(counted.deltas >= 8 && counted.delta_bytes < 20_000, "{counted:?}");
    // Half of what the delta frames hold stays.
    let mut n = 0;
    second.retain(|_, _| {
        n += 1;
        n % 2 == 0
    });
    let kept = commit_tree(&repo.repository, &second).unwrap();
    repo.repository.forget(&[base, gone]).unwrap();
    let before = stored(&*repo.storage);
    for _ in 0..2 {
        prune(&repo.reopen(), &ALL(), &Silent::default()).unwrap();
    }
    let (after, counted) = (stored(&*repo.storage), count(&repo.reopen()));
    assert!(after < before && counted.deltas > 0, "{before} {after} {counted:?}");
    assert!(counted.delta_bytes < 20_000, "{counted:?}");
    let expected: [(SnapshotRecord, Tree); 1] = [(kept, second)];
    assert_snapshots(&repo.reopen(), &expected);
    assert_whole(&repo.reopen());
}

#[test]
fn a_frame_that_goes_is_no_base() {
    let repo = TestRepo::memory();
    let tree = files(1, 10, 6_000);
    let old = commit_tree(&repo.repository, &tree).unwrap();
    let waiting = Session::begin(&repo.reopen(), Purpose::Backup, None).unwrap();
    repo.repository.forget(&[old]).unwrap();
    let pruned = || prune(&repo.reopen(), &ALL(), &Silent::default()).unwrap();
    assert!(pruned().open_epoch.is_some());
    let like = edited(&tree, 1);
    let record = commit_like(&repo.reopen(), &like, &tree).unwrap();
    assert_eq!(count(&repo.reopen()).deltas, 0);
    waiting.abort().unwrap();
    assert_eq!(pruned().rescued, 0);
    assert_snapshots(&repo.reopen(), &[(record, like)]);
}

/// A prune keeps bases of what is needed, and packs of which little is wasted: a frame that nobody
/// needs may outlive its base.
#[test]
fn a_delta_that_nobody_needs_is_not_damaged_without_its_base() {
    let repo = TestRepo::memory();
    let (tree, other) = (files(1, 10, 6_000), files(2, 60, 6_000));
    let mut both = edited(&tree, 1);
    both.extend(other.iter().map(|(name, content)| (format!("other-{name}"), content.clone())));
    let old = commit_tree(&repo.repository, &tree).unwrap();
    let forgotten = commit_like(&repo.repository, &both, &tree).unwrap();
    both.retain(|name, _| name.starts_with("other-"));
    let kept = commit_tree(&repo.repository, &both).unwrap();
    repo.repository.forget(&[old, forgotten]).unwrap();
    let options = PruneOptions { max_unused: Limit::Percent(30.0), ..ALL() };
    assert!(prune(&repo.reopen(), &options, &Silent::default()).unwrap().removed.packs > 0);
    let there = repo.reopen();
    assert!(count(&there).deltas > 0);
    assert_whole(&there);
    assert_snapshots(&there, &[(kept, both)]);
}

/// A tree, and two others whose files are deltas on those of the first.
fn three_alike(repository: &Arc<Repository>) {
    let tree = files(1, 40, 6_000);
    commit_tree(repository, &tree).unwrap();
    for seed in 1..3 {
        commit_like(repository, &edited(&tree, seed), &tree).unwrap();
    }
}

/// Packs of data, as the index knows them.
fn data_packs(repository: &Arc<Repository>) -> Vec<Arc<PackRow>> {
    let mut packs = Vec::new();
    repository.refresh_index().unwrap();
    let mut each = |_, pack: &Arc<PackRow>| packs.push(pack.clone());
    repository.with_index(|index| index.packs(&mut each)).unwrap().unwrap();
    packs.retain(|pack| pack.kind == ChunkKind::Data);
    packs
}

#[test]
fn a_check_reads_every_frame_once_whatever_is_a_delta_on_it() {
    let repo = TestRepo::memory();
    three_alike(&repo.repository);
    assert!(count(&repo.repository).deltas >= 8);
    let cache = tempfile::tempdir().unwrap();
    let recording = Arc::new(Recording::new(repo.storage.clone()));
    let observed = repo.open_on(recording.clone(), cache.path());
    assert_whole(&observed);
    for pack in data_packs(&observed) {
        let is_it = |call: &Call| call.verb == Verb::GetRange && call.key == pack_key(&pack.id);
        let read: u64 = recording.calls().into_iter().filter(is_it).map(|call| call.bytes).sum();
        // Its end is read for the trailer, and its first bytes.
        let frames: u64 = pack.frames.iter().map(|frame| u64::from(frame.stored_len)).sum();
        assert_eq!(read, frames + pack.len.min(64 << 10) + 16, "{pack:?}");
    }
}

/// Each damaged frame is told of its own pack, with the deltas that cannot be had without it.
#[test]
fn a_check_tells_which_frames_are_damaged_among_bases_and_deltas() {
    let repo = TestRepo::memory();
    three_alike(&repo.repository);
    let flipping = Arc::new(Flipping::new(repo.storage.clone()));
    let cache = tempfile::tempdir().unwrap();
    let observed = repo.open_on(flipping.clone(), cache.path());
    let packs = data_packs(&observed);
    let all = || packs.iter().flat_map(|pack| pack.frames.iter().map(|frame| (pack.id, frame)));
    for (pack, frame) in all() {
        let offset = u64::from(frame.offset + frame.stored_len / 2);
        flipping.damage(&pack_key(&pack), Damage::Flip { offset, mask: 4 });
        let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
        let report = check(&observed, &options, &Silent::default()).unwrap();
        let on_it = |other: &FrameRow| other.codec == Codec::Delta { base: frame.id };
        let expected: BTreeSet<(String, String)> = all()
            .filter(|(_, other)| other.id == frame.id || on_it(other))
            .map(|(of, other)| (pack_key(&of), format!("the frame at byte {} is", other.offset)))
            .collect();
        let told = report.damaged.iter().map(|object| {
            let (which, _) = object.why.split_once(" damaged").unwrap();
            (object.key.clone(), which.to_owned())
        });
        assert_eq!(told.collect::<BTreeSet<_>>(), expected);
        assert_eq!(report.damaged.len(), expected.len());
        assert!(!report.touched.is_empty());
        flipping.heal();
        assert_whole(&observed);
    }
}
