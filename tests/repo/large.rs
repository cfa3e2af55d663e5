//! Large files, which several threads read side by side: the cuts are those of one who reads from
//! front to back.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use holdall::chunker::Chunker;
use holdall::format::tree::{EntryKind, Ref};
use holdall::ops::backup::{BackupOptions, Input, backup};
use holdall::progress::Silent;
use holdall::repo::{CreateOptions, Repository};
use holdall::storage::MemoryStorage;
use holdall::tree::TreeReader;

use crate::support::repository::{TestRepo, small};
use crate::support::snapshots::noise;

/// Segments are that long.
const SEGMENT: usize = 1 << 20;

/// What a file is made of, one behind the other: a hole, or data.
type Stretch = (bool, Vec<u8>);

fn write(path: &Path, stretches: &[Stretch]) {
    let file = File::create(path).unwrap();
    let mut at = 0;
    for (hole, bytes) in stretches {
        if !hole {
            file.write_all_at(bytes, at).unwrap();
        }
        at += bytes.len() as u64;
    }
    file.set_len(at).unwrap();
}

/// Each stretch cut from front to back, neighbours of a kind together.
fn expected(repository: &Repository, stretches: &[Stretch]) -> Vec<Ref> {
    let keys = repository.keys();
    let chunker = Chunker::new(keys.gear_table().unwrap(), repository.config().chunker);
    let mut refs = Vec::new();
    for kind in stretches.chunk_by(|a, b| a.0 == b.0) {
        let bytes = kind.iter().map(|(_, bytes)| bytes.as_slice()).collect::<Vec<_>>().concat();
        match kind[0].0 {
            true => refs.push(Ref::Hole { len: bytes.len() as u64 }),
            false => {
                _ = chunker.cut(&bytes, true, |chunk| {
                    refs.push(Ref::Chunk { id: keys.data_id(chunk), len: chunk.len() as u64 });
                })
            }
        }
    }
    refs
}

fn found(repository: &Arc<Repository>, path: &Path) -> Vec<Ref> {
    let input = Input::Paths(vec![path.as_os_str().as_bytes().to_vec()]);
    let report = backup(repository, input, &BackupOptions::default(), &Silent::default()).unwrap();
    let trees = TreeReader::new(repository);
    let mut listing = report.record.unwrap().snapshot.root;
    loop {
        let entry = trees.entries(&listing).next().unwrap().unwrap();
        match entry.kind {
            EntryKind::Directory { listing: below } => listing = below,
            EntryKind::File { content, .. } => {
                return trees.leaves(&content).map(Result::unwrap).collect();
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn cuts_are_those_of_one_who_reads_from_front_to_back() {
    let data = |seed, len| (false, noise(seed, len));
    let zeros = |len| (false, vec![0; len]);
    let hole = |len| (true, vec![0; len]);
    // Never a cut but at the longest.
    let dull = (false, b"abcdefgh".repeat(5 * SEGMENT / 16));
    let files: Vec<Vec<Stretch>> = vec![
        vec![data(1, 300_000)],
        vec![data(2, SEGMENT)],
        vec![data(3, SEGMENT + 1)],
        vec![data(4, 5 * SEGMENT - 1)],
        vec![data(5, 3 * SEGMENT + 77_777)],
        vec![zeros(3 * SEGMENT + 5)],
        vec![dull.clone()],
        vec![data(6, 100_000), dull, data(7, SEGMENT)],
        vec![data(8, SEGMENT - 9), zeros(SEGMENT + 900_001), data(9, SEGMENT + 1)],
        vec![hole(1 << 20), data(10, 3 * SEGMENT), hole(4096), data(11, 70_001)],
        vec![data(12, SEGMENT), hole(8192), data(13, SEGMENT), hole(3 << 20)],
        (0..3000).map(|n| if n % 2 == 0 { data(n, 4096) } else { hole(4096) }).collect(),
    ];
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    for options in [small(), CreateOptions::default()] {
        let repo = TestRepo::create(Arc::new(MemoryStorage::new()), &options, 1);
        for (number, stretches) in files.iter().enumerate() {
            write(&path, stretches);
            let expected = expected(&repo.repository, stretches);
            assert!(found(&repo.repository, &path) == expected, "file {number}");
            fs::remove_file(&path).unwrap();
        }
    }
}
