//! Snapshots and notes that say too much.

use holdall::format::envelope::ObjectType;
use holdall::format::session::session_key;
use holdall::format::snapshot::snapshot_key;
use holdall::id::SnapshotId;
use holdall::limits::{LIST_MAX, TEXT_LEN_MAX};

use super::*;

#[test]
fn lists_and_texts_without_measure_cost_the_snapshot() {
    let mut hostile = Hostile::new();
    let entries = [hostile.file(b"good", b"good")];
    let good = hostile.commit(&entries);
    let base = || good.snapshot.clone();
    let long = "x".repeat(TEXT_LEN_MAX + 1);
    let bad = [
        Snapshot { tags: vec!["tag".into(); 1_000_000], ..base() },
        Snapshot { paths: vec![b"/p".to_vec(); LIST_MAX + 1], ..base() },
        Snapshot { previous: vec![(SnapshotId([1; 32]), [2; 32]); LIST_MAX + 1], ..base() },
        Snapshot { host: long.clone(), ..base() },
        Snapshot { user: long.clone(), ..base() },
        Snapshot { job: long.clone(), ..base() },
        Snapshot { description: long.clone(), ..base() },
        Snapshot { program: long.clone(), ..base() },
        Snapshot { tags: vec![long.clone()], ..base() },
    ];
    let repo = hostile.finish();
    let read = repo.repository.read_object(ObjectType::Session, &session_key(&good.id));
    let session = read.unwrap().unwrap();
    for (number, snapshot) in (0u8..).zip(&bad) {
        let id = SnapshotId([number; 32]);
        let write = |kind, key: &str, payload: &[u8]| {
            repo.repository.write_object(kind, key, payload).unwrap();
        };
        write(ObjectType::Session, &session_key(&id), &session);
        write(ObjectType::Snapshot, &snapshot_key(&id), &snapshot.encode());
    }
    let told = Silent::default();
    let records = repo.repository.snapshots(&told).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(told.problems().len(), bad.len(), "{:?}", told.problems());
    assert_eq!(checked(&repo).damaged.len(), bad.len());
    let place = tempfile::tempdir().unwrap();
    let (report, problems) = restored(&repo, &good, &place.path().join("target"));
    assert_eq!((report.damage, report.problems), (0, 0), "{problems:?}");
}
