//! Forgetting by policy and by name.

use std::sync::Arc;

use holdall::format::session::Purpose;
use holdall::format::snapshot::Snapshot;
use holdall::id::SnapshotId;
use holdall::ops::OpsError;
use holdall::ops::forget::{ForgetOptions, ForgetReport, forget};
use holdall::ops::lines::look;
use holdall::ops::retention::{Policy, RetentionError};
use holdall::ops::select::Filter;
use holdall::progress::Silent;
use holdall::repo::{Repository, Session, SnapshotRecord};
use holdall::world::Time;

use crate::support::repository::TestRepo;
use crate::support::snapshots::{Tree, noise, snapshot, write_tree};
use crate::support::storages::{Crashing, Last, keys, list};

/// Five snapshots, a day apart; the last two are of another host.
fn five(repo: &TestRepo) -> Vec<SnapshotRecord> {
    let mut records = Vec::new();
    for n in 0..5u8 {
        let mut session = Session::begin(&repo.repository, Purpose::Backup, None).unwrap();
        let tree: Tree = [("f".into(), noise(n.into(), 2_000))].into();
        let root = write_tree(&mut session, &tree).unwrap();
        let time = Time::from_seconds(1_790_000_000 + 86_400 * i64::from(n));
        let host = if n < 3 { "a" } else { "b" }.to_owned();
        let snapshot = Snapshot { time, host, ..snapshot(root) };
        records.push(session.commit(snapshot).unwrap());
    }
    records
}

fn last(count: u32) -> ForgetOptions {
    let policy = Policy { keep_last: Some(count), ..Policy::default() };
    ForgetOptions { policy: Some(policy), ..ForgetOptions::default() }
}

fn run(repo: &TestRepo, options: &ForgetOptions) -> Result<ForgetReport, OpsError> {
    forget(&repo.reopen(), options, &Silent::default())
}

fn left(repo: &TestRepo) -> Vec<SnapshotId> {
    repo.repository.counted().unwrap().into_iter().collect()
}

fn ids(records: &[SnapshotRecord], which: &[usize]) -> Vec<SnapshotId> {
    let mut ids: Vec<_> = which.iter().map(|n| records[*n].id).collect();
    ids.sort();
    ids
}

#[test]
fn a_policy_forgets_group_by_group_and_says_why() {
    let repo = TestRepo::memory();
    let records = five(&repo);
    let before = list(&*repo.storage, "").unwrap();
    let dry = run(&repo, &ForgetOptions { dry_run: true, ..last(1) }).unwrap();
    assert_eq!(list(&*repo.storage, "").unwrap(), before);
    let report = run(&repo, &last(1)).unwrap();
    assert_eq!(ForgetReport { dry_run: true, ..report.clone() }, dry);
    assert_eq!(report.forgotten, ids(&records, &[0, 1, 3]));
    assert_eq!((report.kept, report.groups.len()), (2, 2));
    assert_eq!(left(&repo), ids(&records, &[2, 4]));
    assert_eq!(keys(&*repo.storage, "snapshots/").len(), 2);
    assert_eq!(keys(&*repo.storage, "forgotten/").len(), 1);
    assert_eq!(run(&repo, &last(1)).unwrap().forgotten, []);
}

#[test]
fn pinned_ones_go_only_when_they_are_named() {
    let repo = TestRepo::memory();
    let records = five(&repo);
    repo.repository.annotate(&records[0], |note| note.pinned = true).unwrap();
    run(&repo, &last(1)).unwrap();
    assert_eq!(left(&repo), ids(&records, &[0, 2, 4]));
    let named = ForgetOptions { ids: ids(&records, &[0, 2]), ..ForgetOptions::default() };
    let report = run(&repo, &named).unwrap();
    assert_eq!((report.named.len(), report.forgotten), (2, ids(&records, &[0, 2])));
    assert_eq!(left(&repo), ids(&records, &[4]), "even the last of its group");
    assert!(keys(&*repo.storage, "notes/").is_empty());
}

#[test]
fn a_named_one_does_not_count_for_the_policy() {
    let repo = TestRepo::memory();
    let records = five(&repo);
    let options = ForgetOptions { ids: ids(&records, &[2]), ..last(1) };
    run(&repo, &options).unwrap();
    assert_eq!(left(&repo), ids(&records, &[1, 4]));
}

#[test]
fn a_filter_narrows_what_the_policy_is_about() {
    let repo = TestRepo::memory();
    let records = five(&repo);
    let filter = Filter { hosts: vec!["b".into()], ..Filter::default() };
    let report = run(&repo, &ForgetOptions { filter, ..last(1) }).unwrap();
    assert_eq!((report.forgotten, report.kept), (ids(&records, &[3]), 4));
}

#[test]
fn without_policy_or_name_nothing_goes() {
    let repo = TestRepo::memory();
    let records = five(&repo);
    let empty = Some(Policy::default());
    for options in
        [ForgetOptions::default(), ForgetOptions { policy: empty, ..ForgetOptions::default() }]
    {
        let refused = run(&repo, &options);
        let expected = matches!(refused, Err(OpsError::Retention(RetentionError::EmptyPolicy)));
        assert!(expected, "{refused:?}");
    }
    let mut named = ids(&records, &[0]);
    named.push(SnapshotId([9; 32]));
    let refused = run(&repo, &ForgetOptions { ids: named, ..last(1) });
    assert!(matches!(refused, Err(OpsError::NoSnapshot { .. })), "{refused:?}");
    assert_eq!(left(&repo).len(), 5);
}

#[test]
fn a_policy_forgets_nothing_while_a_note_is_damaged() {
    let repo = TestRepo::memory();
    let records = five(&repo);
    repo.repository.annotate(&records[0], |note| note.pinned = true).unwrap();
    let note = keys(&*repo.storage, "notes/").remove(0);
    let hurt = crate::support::storages::Damage::Flip { offset: 60, mask: 1 };
    crate::support::storages::damage(&*repo.storage, &note, &hurt).unwrap();
    let refused = run(&repo, &last(1)).unwrap_err();
    assert!(
        matches!(&refused, OpsError::Incomplete { first, .. } if first.what == note.as_bytes())
    );
    assert_eq!(left(&repo).len(), 5);
    let named = ForgetOptions { ids: ids(&records, &[4]), ..ForgetOptions::default() };
    run(&repo, &named).unwrap();
    assert_eq!(left(&repo).len(), 4);
}

/// Whoever looks after a forgetting that was cut off is not alarmed: the record is there before
/// anything goes.
#[test]
fn forgetting_that_is_cut_off_is_no_alarm() {
    let seen = |repository: &Arc<Repository>| {
        let records = repository.snapshots(&Silent::default()).unwrap();
        look(repository, &records, &Silent::default()).unwrap().alarms
    };
    for last in [Last::TakesEffect, Last::IsLost] {
        for nth in 1.. {
            let repo = TestRepo::memory();
            let records = five(&repo);
            assert_eq!(seen(&repo.repository), []);
            let cache = tempfile::tempdir().unwrap();
            let dying = Arc::new(Crashing::new(repo.storage.clone(), nth, last));
            let named = ForgetOptions { ids: ids(&records, &[1, 4]), ..ForgetOptions::default() };
            let repository = repo.open_on(dying.clone(), cache.path());
            let _ = forget(&repository, &named, &Silent::default());
            assert_eq!(seen(&repo.reopen()), [], "{last:?} {nth}");
            if !dying.has_crashed() {
                assert!(nth > 4, "nothing was deleted");
                break;
            }
        }
    }
}
