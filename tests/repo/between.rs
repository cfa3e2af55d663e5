//! Somebody comes between any two steps of a writer, or of a prune: whatever is committed reads
//! back, then and after every later prune.

use std::sync::{Arc, Mutex, mpsc};

use holdall::format::session::{Purpose, session_key};
use holdall::ops::prune::{PruneOptions, prune};
use holdall::progress::Silent;
use holdall::repo::{EpochState, RepoError, Repository, Session, SnapshotRecord};
use holdall::storage::{ErrorKind, Listed, MemoryStorage, Result, Storage};

use crate::prune::{ALL, run};
use crate::support::repository::{TestRepo, small};
use crate::support::snapshots::{Tree, assert_snapshots, commit_tree, files, snapshot, write_tree};
use crate::support::storages::{
    Crashing, Fault, Faulty, Last, Meanwhile, Recording, Verb, keys, lock,
};

type Kept = (SnapshotRecord, Tree);

/// A snapshot that stays, and one that shares nothing with it, whose packs will be condemned.
struct Scene {
    repo: TestRepo,
    stays: Kept,
    goes: Kept,
}

impl Scene {
    fn new() -> Self {
        let repo = TestRepo::memory();
        let [stays, goes] = [1, 2].map(|seed| {
            let tree = files(seed, 2, 3_000);
            (commit_tree(&repo.repository, &tree).unwrap(), tree)
        });
        Self { repo, stays, goes }
    }

    /// The repository as somebody sees it who is held up, and who has read the index before.
    fn held_up(&self) -> (Arc<Meanwhile>, Arc<Repository>, tempfile::TempDir) {
        let meanwhile = Arc::new(Meanwhile::new(self.repo.storage.clone()));
        let cache = tempfile::tempdir().unwrap();
        let repository = self.repo.open_on(meanwhile.clone(), cache.path());
        repository.refresh_index().unwrap();
        (meanwhile, repository, cache)
    }

    /// All that counts reads back, and still does when prunes that wait for nobody have come to
    /// their end.
    fn assert_nothing_lost(&self, committed: Option<SnapshotRecord>) {
        let mut expected = vec![self.stays.clone()];
        expected.extend(committed.map(|record| (record, self.goes.1.clone())));
        for _ in 0..2 {
            let repository = self.repo.reopen();
            assert_eq!(run(&repository, &options(true)).open_epoch, None);
            assert_snapshots(&repository, &expected);
        }
    }
}

fn options(fences: bool) -> PruneOptions<'static> {
    match fences {
        true => PruneOptions { is_dead: &|_, _| true, ..ALL() },
        false => ALL(),
    }
}

fn begin(repository: &Arc<Repository>) -> std::result::Result<Session, RepoError> {
    Session::begin(repository, Purpose::Backup, None)
}

/// Commits what a snapshot has; `adopts`: takes its tree over unseen where that is allowed.
fn write(
    session: &mut Session,
    (record, tree): &Kept,
    adopts: bool,
) -> std::result::Result<holdall::format::tree::Refs, RepoError> {
    match adopts && session.may_adopt(&record.id, record.snapshot.epoch)? {
        true => Ok(record.snapshot.root.clone()),
        false => write_tree(session, tree),
    }
}

/// The snapshot that a writer has committed. One that is told that it was fenced begins again; its
/// snapshot may count all the same, if the prune saw it before it removed the session's record.
fn committed(
    repository: &Repository,
    answer: std::result::Result<SnapshotRecord, RepoError>,
    may_be_fenced: bool,
) -> Option<SnapshotRecord> {
    match answer {
        Ok(record) => Some(record),
        Err(RepoError::Fenced(id)) if may_be_fenced => {
            let counts = repository.counted().unwrap().contains(&id);
            let (snapshot, hash) = repository.read_snapshot(&id).unwrap().filter(|_| counts)?;
            Some(SnapshotRecord { id, snapshot, note: None, hash })
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_prune_comes_between_any_two_steps_of_a_writer() {
    // How far the prune comes: its plan, its sweep record, its end. Another one goes on when the
    // writer has committed.
    for last_step in [1, 2, u64::MAX] {
        for (fences, adopts) in [(false, false), (false, true), (true, false)] {
            let nth = (1..).find(|nth| !pruned_before(*nth, last_step, fences, adopts));
            assert!(nth.unwrap() > 9, "{nth:?}");
        }
    }
}

/// `false`: the writer has not so many calls.
fn pruned_before(nth: u64, last_step: u64, fences: bool, adopts: bool) -> bool {
    let scene = Scene::new();
    let (meanwhile, writer, _cache) = scene.held_up();
    let (here, gone) = (scene.repo.repository.clone(), scene.goes.0.clone());
    let crashing = Crashing::new(scene.repo.storage.clone(), last_step, Last::TakesEffect);
    let cache = tempfile::tempdir().unwrap();
    let pruner = scene.repo.open_on(Arc::new(crashing), cache.path());
    let adopted = scene.goes.clone();
    meanwhile.arm(nth, move || {
        here.forget(&[gone]).unwrap();
        let done = prune(&pruner, &options(fences), &Silent::default());
        assert!(done.is_ok() || last_step < u64::MAX, "{done:?}");
    });
    let answer = begin(&writer).and_then(|mut session| {
        let root = write(&mut session, &adopted, adopts)?;
        session.commit(snapshot(root))
    });
    if meanwhile.disarm() {
        return false;
    }
    scene.assert_nothing_lost(committed(&scene.repo.repository, answer, fences));
    true
}

/// Who comes between two steps of a prune.
#[derive(Debug, Clone, Copy)]
enum Writer {
    /// A session from its beginning to its commit.
    Whole,
    /// The commit of one that began before the plan.
    Commits,
    /// One that takes over the tree of a snapshot which the plan does not know, which is forgotten
    /// then; it commits when the prune has ended.
    Adopts,
}

#[test]
fn a_writer_comes_between_any_two_steps_of_a_prune() {
    use Writer::{Adopts, Commits, Whole};
    for (writer, fences) in [(Whole, false), (Commits, false), (Commits, true), (Adopts, false)] {
        let nth = (1..).find(|nth| !written_before(*nth, writer, fences));
        assert!(nth.unwrap() > 12, "{writer:?}: {nth:?}");
    }
}

/// `false`: the prune has not so many calls.
fn written_before(nth: u64, writer: Writer, fences: bool) -> bool {
    let mut scene = Scene::new();
    let early = scene.repo.reopen();
    let mut older = begin(&early).unwrap();
    let root = write_tree(&mut older, &scene.goes.1).unwrap();
    scene.repo.repository.forget(&[scene.goes.0.clone()]).unwrap();
    let (meanwhile, pruner, _cache) = scene.held_up();
    let theirs = scene.repo.reopen();
    let (tell, later) = mpsc::channel();
    let adopted = match writer {
        // Its plan is there, and has condemned what this one has; it counts from now on.
        Writer::Adopts => {
            assert_eq!(run(&scene.repo.reopen(), &ALL()).open_epoch, Some(1));
            scene.goes.0 = older.commit(snapshot(root.clone())).unwrap();
            None
        }
        Writer::Commits => Some(older),
        Writer::Whole => {
            older.abort().unwrap();
            None
        }
    };
    let goes = scene.goes.clone();
    meanwhile.arm(nth, move || {
        let done = match (writer, adopted) {
            (Writer::Commits, Some(session)) => (None, Some(session.commit(snapshot(root)))),
            (Writer::Adopts, _) => {
                let mut session = begin(&theirs).unwrap();
                let root = write(&mut session, &goes, true).unwrap();
                theirs.forget(&[goes.0]).unwrap();
                (Some((session, root)), None)
            }
            _ => {
                let mut session = begin(&theirs).unwrap();
                let root = write_tree(&mut session, &goes.1).unwrap();
                (None, Some(session.commit(snapshot(root))))
            }
        };
        tell.send(done).unwrap();
    });
    let done = prune(&pruner, &options(fences), &Silent::default());
    assert!(done.is_ok(), "{done:?}");
    if meanwhile.disarm() {
        return false;
    }
    let answer = match later.recv().unwrap() {
        (Some((session, root)), _) => session.commit(snapshot(root)),
        (_, answer) => answer.unwrap(),
    };
    scene.assert_nothing_lost(committed(&scene.repo.repository, answer, fences));
    true
}

/// A storage that answers deletions of packs and does them later.
#[derive(Debug)]
struct Postponing {
    inner: MemoryStorage,
    waiting: Mutex<Option<Vec<String>>>,
}

impl Storage for Postponing {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        self.inner.put(key, parts)
    }
    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        self.inner.get(key, len_max)
    }
    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        self.inner.get_range_into(key, offset, len, into)
    }
    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.inner.list(prefix, each)
    }
    fn delete(&self, key: &str) -> Result<()> {
        match &mut *lock(&self.waiting) {
            Some(waiting) if key.starts_with("packs/") => waiting.push(key.into()),
            _ => self.inner.delete(key)?,
        }
        Ok(())
    }
    fn stat(&self, key: &str) -> Result<u64> {
        self.inner.stat(key)
    }
}

#[test]
fn an_epoch_ends_when_what_it_deletes_is_gone() {
    let memory = MemoryStorage::new();
    let late =
        Arc::new(Postponing { inner: memory.clone(), waiting: Mutex::new(Some(Vec::new())) });
    let repo = TestRepo::create(late.clone(), &small(), 1);
    let tree = files(1, 2, 3_000);
    let gone = commit_tree(&repo.repository, &tree).unwrap();
    repo.repository.forget(&[gone]).unwrap();
    let report = prune(&repo.repository, &ALL(), &Silent::default()).unwrap();
    assert_eq!(report.open_epoch, Some(1));
    // Whoever comes now builds on nothing of it, and the next plan is not made before its end.
    let record = commit_tree(&repo.reopen(), &tree).unwrap();
    let again = prune(&repo.reopen(), &ALL(), &Silent::default()).unwrap();
    assert_eq!((again.open_epoch, again.figures), (Some(1), None));
    for key in lock(&late.waiting).take().unwrap() {
        memory.delete(&key).unwrap();
    }
    assert_eq!(run(&repo.reopen(), &ALL()).open_epoch, None);
    assert_eq!(repo.repository.highest_epoch().unwrap().unwrap().state, EpochState::Done);
    assert_snapshots(&repo.reopen(), &[(record, tree)]);
}

/// What is sent again may arrive after the first one was used, forgotten and swept (W1, W6).
#[test]
fn no_pack_and_no_session_is_sent_twice_under_one_name() {
    for (prefix, count) in [("packs/", 2), ("sessions/", 1)] {
        for taken in [false, true] {
            for nth in 1..=count {
                let faulty = Arc::new(Faulty::new(Arc::new(MemoryStorage::new())));
                let recording = Arc::new(Recording::new(faulty.clone()));
                let repo = TestRepo::create(recording.clone(), &small(), 1);
                let fault = Fault::nth(&[Verb::Put], nth, ErrorKind::Transient).under(prefix);
                faulty.add(if taken { fault.after() } else { fault });
                let tree = files(1, 2, 3_000);
                let record = commit_tree(&repo.repository, &tree).unwrap();
                let mut sent = recording.keys(Verb::Put);
                sent.retain(|key| key.starts_with(prefix));
                let tried = sent.len();
                sent.sort();
                sent.dedup();
                assert_eq!(sent.len(), tried, "{prefix} {nth} {taken}");
                // A pack that has arrived after all is used; a session's record that may be there
                // is never believed to be one's own.
                let again = u64::from(!taken || prefix == "sessions/");
                assert_eq!(tried as u64, count + again, "{prefix} {nth} {taken}");
                assert!(keys(&*repo.storage, "sessions/").contains(&session_key(&record.id)));
                assert_snapshots(&repo.reopen(), &[(record, tree)]);
            }
        }
    }
}
