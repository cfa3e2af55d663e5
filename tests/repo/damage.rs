//! {delete, truncate, flip a bit, zero a page, swap two objects} × {every kind of object}: check
//! names it and what it touches, restore gives back everything else and never wrong bytes, the
//! next backup works and heals what the source still has, and a prune after it is clean.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use holdall::format::frame::{ChunkKind, Codec};
use holdall::format::session::Purpose;
use holdall::index::PackRow;
use holdall::ops::OpsError;
use holdall::ops::backup::{BackupOptions, BackupReport, Input, backup};
use holdall::ops::check::{CheckOptions, CheckReport, ReadData, check};
use holdall::ops::prune::{PruneOptions, prune};
use holdall::ops::repair::{RepairOptions, plan, repair};
use holdall::ops::restore::{RestoreOptions, restore};
use holdall::progress::{Problem, Silent};
use holdall::repo::{EpochState, Repository, Session, SnapshotRecord};
use holdall::storage::memory::MemoryState;
use holdall::storage::{ErrorKind, MemoryStorage, Storage};
use holdall::world::Time;

use crate::prune::ALL;
use crate::support::repository::{TestRepo, environment, small};
use crate::support::snapshots::{commit_tree, noise, read_tree};
use crate::support::storages::{Crashing, Damage, Fault, Faulty, Last, Verb, damage, keys};

/// Paths below the source, and contents.
type Files = BTreeMap<String, Vec<u8>>;

/// How far an epoch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// None was ever begun.
    Calm,
    /// Planned; a session that began before it is still at work.
    Planned,
    /// So is this, and the session is being fenced.
    Fenced,
    /// What is dead is decided, and some of it may be gone.
    Sweeping,
    /// At its end.
    Done,
}

/// A source of files, some of which are new in each snapshot, and a repository of them.
struct Scene {
    source: tempfile::TempDir,
    storage: MemoryStorage,
    repo: TestRepo,
    state: MemoryState,
    /// Snapshots with what they have.
    expected: Vec<(SnapshotRecord, Files)>,
}

fn files(below: &Path) -> Files {
    let mut found = Files::new();
    let mut open = vec![below.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let name = path.strip_prefix(below).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

fn raw(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

impl Scene {
    fn new(stage: Stage) -> Self {
        let storage = MemoryStorage::new();
        let repo = TestRepo::create(Arc::new(storage.clone()), &small(), 1);
        let source = tempfile::tempdir().unwrap();
        let state = storage.snapshot();
        let mut scene = Self { source, storage, repo, state, expected: Vec::new() };
        for number in 0..4u64 {
            scene.repo.world.set_now(Time::from_seconds(1_800_000_000 + number as i64));
            scene.write(&format!("d{number}/a"), &noise(number, 20_000));
            scene.write(&format!("d{number}/sub/b"), &noise(100 + number, 9_000));
            scene.write("changing", &noise(200 + number, 12_000));
            // From the second on these are deltas, and the first one's frames nothing but bases.
            let mut scattered = noise(300, 270_000);
            scattered.iter_mut().skip(number as usize).step_by(1_000).for_each(|b| *b ^= 1);
            scene.write("scattered", &scattered);
            let report = scene.backup(&scene.repo.repository);
            scene.expected.push((report.record.unwrap(), files(scene.source.path())));
        }
        for (n, (record, _)) in scene.expected.iter().enumerate().skip(2) {
            scene
                .repo
                .repository
                .annotate(record, |note| note.description = n.to_string())
                .unwrap();
        }
        let (gone, _) = scene.expected.remove(0);
        scene.repo.repository.forget(&[gone]).unwrap();
        let (gone, _) = scene.expected.remove(0);
        scene.repo.repository.forget(&[gone]).unwrap();
        let (mut bases, mut deltas) = (BTreeSet::new(), 0);
        let mut count = |_, pack: &Arc<PackRow>| {
            for frame in &pack.frames {
                if let Codec::Delta { base } = frame.codec {
                    bases.insert(base);
                    deltas += 1;
                }
            }
        };
        scene.repo.repository.with_index(|index| index.packs(&mut count)).unwrap().unwrap();
        assert!(deltas > 20 && bases.len() > 5, "{deltas} {}", bases.len());
        scene.advance(stage);
        scene.state = scene.storage.snapshot();
        scene
    }

    fn advance(&self, stage: Stage) {
        let prune = |repository: &Arc<Repository>| prune(repository, &ALL(), &Silent::default());
        match stage {
            Stage::Calm => {}
            Stage::Planned => {
                std::mem::forget(
                    Session::begin(&self.repo.repository, Purpose::Backup, None).unwrap(),
                );
                assert_eq!(prune(&self.repo.repository).unwrap().open_epoch, Some(1));
            }
            Stage::Fenced => {
                self.advance(Stage::Planned);
                let options = PruneOptions { fence_older_than: Some(0), ..ALL() };
                self.stop_when(&options, |storage| {
                    let sessions = keys(storage, "sessions/");
                    let fenced = sessions.iter().find_map(|key| key.strip_suffix(".fenced"));
                    fenced.is_some_and(|record| sessions.iter().any(|key| key == record))
                });
            }
            Stage::Sweeping => {
                self.stop_when(&ALL(), |_| {
                    let epoch = self.repo.repository.highest_epoch().unwrap();
                    epoch.is_some_and(|epoch| matches!(epoch.state, EpochState::Sweeping(..)))
                });
            }
            Stage::Done => _ = prune(&self.repo.repository).unwrap(),
        }
    }

    /// Prunes, and dies when it has come so far.
    fn stop_when(&self, options: &PruneOptions<'_>, so_far: impl Fn(&MemoryStorage) -> bool) {
        let before = self.storage.snapshot();
        for nth in 1..100 {
            self.storage.restore(&before);
            let cache = tempfile::tempdir().unwrap();
            let crashing = Crashing::new(Arc::new(self.storage.clone()), nth, Last::IsLost);
            let repository = self.repo.open_on(Arc::new(crashing), cache.path());
            let _ = prune(&repository, options, &Silent::default());
            if so_far(&self.storage) {
                return;
            }
        }
        panic!("it never comes so far");
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.source.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// What lies in a pack.
    fn kind_of(&self, pack: &str) -> ChunkKind {
        holdall::format::pack::decode_header(&self.storage.get(pack, u64::MAX).unwrap()).unwrap()
    }

    fn backup(&self, repository: &Arc<Repository>) -> BackupReport {
        let input = Input::Paths(vec![raw(self.source.path())]);
        backup(repository, input, &BackupOptions::default(), &Silent::default()).unwrap()
    }

    /// As it is opened on another machine.
    fn open(&self, cache: &Path) -> Result<Arc<Repository>, String> {
        let (storage, world) = (Arc::new(self.storage.clone()), self.repo.world.clone());
        let secrets = [self.repo.secret.clone()];
        let opened = Repository::open(storage, world, environment(cache), &secrets);
        opened.map(Arc::new).map_err(|error| error.to_string())
    }

    /// What a restore gives back, and its problems.
    fn restored(&self, at: &Arc<Repository>, of: &SnapshotRecord) -> (Files, Vec<Problem>) {
        let target = tempfile::tempdir().unwrap();
        let path = Some(raw(self.source.path()));
        let below = target.path().join("t");
        let options = RestoreOptions { path, target: below.clone(), ..RestoreOptions::default() };
        let silent = Silent::default();
        let mut problems = Vec::new();
        if let Err(error) = restore(at, of, &options, &silent) {
            problems.push(Problem::damage("", error));
        }
        problems.extend(silent.problems());
        (files(&below), problems)
    }

    /// Everything that is not named as damaged comes back, and nothing comes back wrong.
    fn assert_restores(&self, at: &Arc<Repository>, of: &SnapshotRecord, want: &Files, what: &str) {
        let (got, problems) = self.restored(at, of);
        let named = |name: &str| {
            problems.iter().any(|problem| {
                let at = String::from_utf8_lossy(&problem.what).into_owned();
                at.is_empty() || format!("/{name}").contains(at.trim_start_matches('/'))
            })
        };
        for (name, content) in want {
            match got.get(name) {
                Some(found) => assert!(found == content, "{what}: {name} came back wrong"),
                None => assert!(named(name), "{what}: {name} is lost and not named: {problems:?}"),
            }
        }
        assert!(got.keys().all(|name| want.contains_key(name)), "{what}: {got:?}");
    }

    fn assert_whole(&self, at: &Arc<Repository>, of: &SnapshotRecord, want: &Files, what: &str) {
        let (got, problems) = self.restored(at, of);
        assert!(problems.is_empty(), "{what}: {problems:?}");
        assert!(got == *want, "{what}: another tree came back");
    }
}

fn checked(repository: &Arc<Repository>, read_data: ReadData) -> (CheckReport, Vec<String>) {
    let options = CheckOptions { read_data, ..CheckOptions::default() };
    let silent = Silent::default();
    let report = check(repository, &options, &silent).unwrap();
    let notes = silent.notes.lock().unwrap().clone();
    (report, notes)
}

/// What is done to an object; `len` is its length, `other` one of its kind.
fn harms(len: u64, other: Option<&String>) -> Vec<Damage> {
    let mut harms = vec![
        Damage::Delete,
        Damage::Truncate { len: len / 2 },
        Damage::Flip { offset: len / 2, mask: 4 },
        Damage::Flip { offset: len - 1, mask: 1 },
        Damage::Flip { offset: 0, mask: 0x80 },
        Damage::ZeroPage { page: 0 },
    ];
    harms.extend(other.map(|other| Damage::Swap { with: other.clone() }));
    harms
}

/// What check says of a deleted object of a kind: nobody can miss a thing that nothing names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deleted {
    /// It names it.
    Named,
    /// It names it if a snapshot needs what was in it.
    IfNeeded,
    /// It says what that means, without taking it for damage.
    Noted,
    /// The line that its snapshot is in may show that something is missing.
    InLine,
    /// Nothing is lost, or nothing says that there ever was one.
    Unseen,
}

/// What is left to say after a backup and a prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing.
    Nothing,
    /// The object itself, which stays until it is mended or forgotten by name.
    Object,
}

use Deleted::*;
use Left::*;
use Stage::*;

#[rustfmt::skip]
const KINDS: &[(&str, Stage, Deleted, Left)] = &[
    ("config",       Calm,     Named,    Nothing),
    ("keys/",        Calm,     Named,    Nothing),
    ("copies/",      Calm,     Unseen,   Nothing),
    ("packs/",       Calm,     IfNeeded, Nothing),
    ("index/",       Calm,     Unseen,   Nothing),
    ("sessions/",    Calm,     Noted,    Object),
    ("snapshots/",   Calm,     InLine,   Object),
    ("notes/",       Calm,     Unseen,   Object),
    ("forgotten/",   Calm,     InLine,   Object),
    ("packs/",       Done,     Named,    Nothing),
    ("epochs/",      Planned,  Unseen,   Nothing),
    ("sessions/",    Planned,  InLine,   Object),
    ("epochs/",      Sweeping, Unseen,   Nothing),
    ("packs/",       Sweeping, IfNeeded, Nothing),
    ("index/",       Sweeping, Unseen,   Nothing),
    ("epochs/",      Done,     Unseen,   Object),
    ("sessions/",    Fenced,   InLine,   Object),
];

#[test]
fn every_damage_to_every_object_of_a_repository_at_rest() {
    every_damage(&|stage| stage == Calm, 150);
}

#[test]
fn every_damage_to_every_object_while_a_prune_begins() {
    every_damage(&|stage| matches!(stage, Planned | Fenced), 20);
}

#[test]
fn every_damage_to_every_object_while_a_prune_sweeps() {
    every_damage(&|stage| stage == Sweeping, 50);
}

#[test]
fn every_damage_to_every_object_after_a_prune() {
    every_damage(&|stage| stage == Done, 50);
}

fn every_damage(takes: &dyn Fn(Stage) -> bool, cases_min: usize) {
    let mut cases = 0;
    for &(prefix, stage, deleted, left) in KINDS.iter().filter(|(_, stage, ..)| takes(*stage)) {
        let scene = Scene::new(stage);
        let all = keys(&scene.storage, "");
        let mut of_kind: Vec<&String> = all.iter().filter(|key| key.starts_with(prefix)).collect();
        // The first and last few say as much as all of them; each pack holds something else.
        if prefix != "packs/" && of_kind.len() > 4 {
            of_kind.drain(2..of_kind.len() - 2);
        }
        assert!(!of_kind.is_empty(), "{prefix} in {stage:?}");
        for (n, key) in of_kind.iter().enumerate() {
            let other = of_kind.get(n + 1).or(of_kind.first()).filter(|other| *other != key);
            scene.storage.restore(&scene.state);
            for harm in harms(scene.storage.stat(key).unwrap(), other.copied()) {
                cases += 1;
                let what = format!("{stage:?}: {harm:?} of {key}");
                one_case(&scene, key, &harm, (stage, deleted, left), &what);
            }
        }
    }
    assert!(cases >= cases_min, "{cases}");
    println!("{cases} cases");
}

fn one_case(
    scene: &Scene,
    key: &str,
    harm: &Damage,
    (stage, deleted, left): (Stage, Deleted, Left),
    what: &str,
) {
    scene.storage.restore(&scene.state);
    damage(&scene.storage, key, harm).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let repository = scene.open(cache.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let is_gone = *harm == Damage::Delete;

    // Check names the object, and what it touches.
    let (report, notes) = checked(&repository, ReadData::All);
    let named = report.damaged.iter().any(|object| object.key == key);
    match (is_gone, deleted) {
        (false, _) | (true, Named) => assert!(named, "{what}: {report:?}"),
        (true, IfNeeded) => assert_eq!(named, !report.touched.is_empty(), "{what}: {report:?}"),
        (true, Noted) => assert!(notes.iter().any(|note| note.contains(key)), "{what}: {notes:?}"),
        (true, InLine) => {}
        (true, Unseen) => assert!(report.is_whole(), "{what}: {report:?}"),
    }

    // Restore gives back everything else, and never wrong bytes; what is touched was named.
    let records = repository.snapshots(&Silent::default()).unwrap();
    for (record, want) in &scene.expected {
        if records.iter().any(|found| found.id == record.id) {
            scene.assert_restores(&repository, record, want, what);
            if report.touched.iter().all(|touched| touched.snapshot != record.id) {
                scene.assert_whole(&repository, record, want, what);
            }
        }
    }

    // The next backup works, and heals what the source still has.
    let next = scene.backup(&repository);
    let (newest, source) = (next.record.unwrap(), files(scene.source.path()));
    scene.assert_whole(&repository, &newest, &source, what);

    // A prune tells what it cannot do; what it says is the way on.
    let mut touched: BTreeSet<_> = report.touched.iter().map(|touched| touched.snapshot).collect();
    let is_dead = |_: &_, _: &_| true;
    let options = PruneOptions { is_dead: &is_dead, fence_older_than: Some(0), ..ALL() };
    match prune(&repository, &options, &Silent::default()) {
        Ok(_) => {}
        Err(OpsError::Incomplete { first, .. }) => {
            let named = String::from_utf8_lossy(&first.what).into_owned();
            let by_object = named.starts_with("snapshots/");
            if stage == Sweeping {
                // The other copy lay in a pack that was dead already, and is gone now.
                let (report, _) = checked(&repository, ReadData::None);
                touched.extend(report.touched.iter().map(|touched| touched.snapshot));
            }
            assert!(by_object || !touched.is_empty(), "{what}: {named}");
            let counted = repository.counted().unwrap();
            let readable = repository.snapshots(&Silent::default()).unwrap();
            let ids = counted.into_iter().filter(|id| {
                touched.contains(id) || readable.iter().all(|record| record.id != *id)
            });
            let options =
                holdall::ops::forget::ForgetOptions { ids: ids.collect(), ..Default::default() };
            holdall::ops::forget::forget(&repository, &options, &Silent::default()).unwrap();
            let again = PruneOptions { is_dead: &is_dead, ..ALL() };
            let pruned = prune(&repository, &again, &Silent::default());
            assert!(pruned.is_ok(), "{what}: {pruned:?}");
        }
        Err(error) => panic!("{what}: {error}"),
    }
    scene.assert_whole(&repository, &newest, &source, what);

    // Afterwards there is nothing to say, or it is said exactly.
    repository.restore_openers().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let repository = scene.open(cache.path()).unwrap();
    assert!(repository.opening_problems().is_empty());
    let (report, _) = checked(&repository, ReadData::All);
    // What is missing in a line is told by the snapshot's name.
    let is_it = |found: &str| {
        found.split('/').next() == key.split('/').next() || found.starts_with("snapshots")
    };
    let only_it = report.damaged.iter().all(|object| is_it(&object.key));
    match left {
        Nothing => assert!(report.is_whole(), "{what}: {report:?}"),
        Object => assert!(only_it && report.touched.is_empty(), "{what}: {report:?}"),
    }
    let session = Session::begin(&repository, Purpose::Backup, None).unwrap();
    assert!(!session.is_mending(), "{what}: it is not seen that all is well again");
    session.abort().unwrap();
}

/// Missing and short packs are seen by whoever writes next; no check has to run before.
#[test]
fn a_backup_heals_packs_that_are_missing_or_short() {
    let scene = Scene::new(Calm);
    let source = files(scene.source.path());
    let (mut read_again, mut healed) = (0, 0);
    let warm = tempfile::tempdir().unwrap();
    scene.open(warm.path()).unwrap().refresh_index().unwrap();
    for key in keys(&scene.storage, "packs/") {
        for harm in [Damage::Delete, Damage::Truncate { len: 400 }] {
            for cold in [true, false] {
                let what = format!("{harm:?} of {key}, {cold}");
                scene.storage.restore(&scene.state);
                damage(&scene.storage, &key, &harm).unwrap();
                let cache = tempfile::tempdir().unwrap();
                let repository = scene.open(if cold { cache.path() } else { warm.path() }).unwrap();
                let report = scene.backup(&repository);
                scene.assert_whole(&repository, &report.record.unwrap(), &source, &what);
                read_again += report.files_read_again;
                healed += u64::from(report.statistics.bytes_new > 0);
            }
        }
    }
    assert!(read_again > 0 && healed > 4, "{read_again} {healed}");
}

/// What is cached of packs that a prune removed is no damage; nor is what a sweep is removing.
#[test]
fn a_prune_is_no_damage_to_anyone() {
    let scene = Scene::new(Calm);
    let warm = tempfile::tempdir().unwrap();
    let begin = |path: &Path| {
        Session::begin(&scene.open(path).unwrap(), Purpose::Backup, None).unwrap().is_mending()
    };
    let repository = scene.open(warm.path()).unwrap();
    repository.refresh_index().unwrap();
    repository.with_index_mut(|index| index.fold()).unwrap();
    let state = scene.storage.snapshot();
    for nth in 1.. {
        scene.storage.restore(&state);
        let crashing =
            Arc::new(Crashing::new(Arc::new(scene.storage.clone()), nth, Last::TakesEffect));
        let cache = tempfile::tempdir().unwrap();
        let repository = scene.repo.open_on(crashing.clone(), cache.path());
        let done = prune(&repository, &ALL(), &Silent::default()).is_ok();
        let cold = tempfile::tempdir().unwrap();
        for path in [cold.path(), warm.path()] {
            assert!(!begin(path), "stopped at {nth}");
        }
        if done {
            break;
        }
    }
}

/// A parent's tree that does not open is read again from the source and stored again, although
/// nobody has told that its pack is damaged.
#[test]
fn a_damaged_tree_of_the_parent_is_stored_again() {
    let scene = Scene::new(Calm);
    let source = files(scene.source.path());
    let mut read_again = 0;
    for key in keys(&scene.storage, "packs/") {
        if scene.kind_of(&key) != ChunkKind::Tree {
            continue;
        }
        scene.storage.restore(&scene.state);
        damage(&scene.storage, &key, &Damage::Flip { offset: 200, mask: 1 }).unwrap();
        let cache = tempfile::tempdir().unwrap();
        let repository = scene.open(cache.path()).unwrap();
        let report = scene.backup(&repository);
        scene.assert_whole(&repository, &report.record.unwrap(), &source, &key);
        read_again += report.files_read_again;
    }
    assert!(read_again > 0);
}

/// What a check or a repair has found and recorded is stored again by whoever writes next.
#[test]
fn what_is_recorded_as_damaged_is_stored_again() {
    let memory = MemoryStorage::new();
    let repo = TestRepo::create(Arc::new(memory.clone()), &small(), 1);
    let tree = crate::support::snapshots::files(1, 3, 6_000);
    commit_tree(&repo.repository, &tree).unwrap();
    let whole = memory.snapshot();
    for key in keys(&memory, "packs/") {
        for repairs in [false, true] {
            memory.restore(&whole);
            damage(&memory, &key, &Damage::Flip { offset: 300, mask: 1 }).unwrap();
            if repairs {
                let options = RepairOptions { read_data: true, ..RepairOptions::default() };
                let plan = plan(&repo.reopen(), &options, &Silent::default()).unwrap();
                let silent = Silent::default();
                repair(&repo.reopen(), &plan, &options, &mut |_| (), &silent).unwrap();
            } else {
                checked(&repo.reopen(), ReadData::All);
            }
            assert_eq!(keys(&memory, "damage/").len(), 1);
            let record = commit_tree(&repo.reopen(), &tree).unwrap();
            assert!(read_tree(&repo.reopen(), &record).unwrap() == tree, "{key}");
        }
    }
}

/// Records only advise: a check of what cannot be written says so once, and finds the same.
#[test]
fn a_check_that_cannot_write_finds_the_same() {
    let scene = Scene::new(Calm);
    // One of trees: deltas elsewhere may depend on a pack of data.
    let packs = keys(&scene.storage, "packs/");
    let pack = packs.into_iter().find(|pack| scene.kind_of(pack) == ChunkKind::Tree).unwrap();
    damage(&scene.storage, &pack, &Damage::Flip { offset: 700, mask: 1 }).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let faulty = Faulty::new(Arc::new(scene.storage.clone()));
    faulty.add(Fault::nth(&[Verb::Put], 1, ErrorKind::Denied).times(u64::MAX));
    let repository = scene.repo.open_on(Arc::new(faulty), cache.path());
    let (refused, notes) = checked(&repository, ReadData::All);
    let about_it = notes.iter().filter(|note| note.contains("cannot be noted down"));
    assert_eq!(about_it.count(), 1, "{notes:?}");
    assert!(keys(&scene.storage, "damage/").is_empty());
    let (found, notes) = checked(&scene.open(cache.path()).unwrap(), ReadData::All);
    assert_eq!(keys(&scene.storage, "damage/").len(), 1, "{notes:?}");
    assert_eq!((&refused.damaged, &refused.touched), (&found.damaged, &found.touched));
    assert!(!found.damaged.is_empty());
    // Again: nothing new is written; without reading it is still known; mended, it is forgotten.
    let repository = scene.open(cache.path()).unwrap();
    let records = keys(&scene.storage, "damage/");
    checked(&repository, ReadData::All);
    assert_eq!(keys(&scene.storage, "damage/"), records);
    let (known, _) = checked(&repository, ReadData::None);
    assert!(known.damaged.iter().any(|object| object.key == pack), "{known:?}");
    assert_eq!(known.touched, found.touched);
    // One that does not open still says that something is damaged, until everything was read.
    damage(&scene.storage, &records[0], &Damage::Flip { offset: 60, mask: 1 }).unwrap();
    let session = Session::begin(&repository, Purpose::Backup, None).unwrap();
    assert!(session.is_mending());
    session.abort().unwrap();
    let (named, _) = checked(&repository, ReadData::All);
    assert!(named.damaged.iter().any(|object| object.key == records[0]), "{named:?}");
    let again = keys(&scene.storage, "damage/");
    assert!(again.len() == 1 && again != records, "{again:?}");
    damage(&scene.storage, &pack, &Damage::Flip { offset: 700, mask: 1 }).unwrap();
    let (mended, _) = checked(&repository, ReadData::All);
    assert!(mended.is_whole() && keys(&scene.storage, "damage/").is_empty(), "{mended:?}");
}

/// Nobody can tell what an epoch condemns whose plan does not open: a writer relies on nothing.
#[test]
fn a_writer_relies_on_nothing_while_an_epoch_cannot_be_read() {
    for (stage, step) in [(Planned, "plan"), (Sweeping, "plan"), (Sweeping, "sweep")] {
        let scene = Scene::new(stage);
        let key = keys(&scene.storage, "epochs/").into_iter().find(|key| key.ends_with(step));
        damage(&scene.storage, &key.unwrap(), &Damage::Flip { offset: 60, mask: 1 }).unwrap();
        let cache = tempfile::tempdir().unwrap();
        let report = scene.backup(&scene.open(cache.path()).unwrap());
        let source = files(scene.source.path()).values().map(|content| content.len() as u64).sum();
        assert!(report.statistics.bytes_new > source, "{:?}", report.statistics);
    }
}

/// Runs a prune between a writer's listing of segments and its listing of packs.
#[derive(Debug)]
struct PrunedBetween {
    inner: MemoryStorage,
    pruner: std::sync::Mutex<Option<Arc<Repository>>>,
}

impl Storage for PrunedBetween {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn put(&self, key: &str, parts: &[&[u8]]) -> holdall::storage::Result<()> {
        self.inner.put(key, parts)
    }
    fn get(&self, key: &str, len_max: u64) -> holdall::storage::Result<Vec<u8>> {
        self.inner.get(key, len_max)
    }
    fn get_range_into(
        &self,
        key: &str,
        offset: u64,
        len: usize,
        into: &mut Vec<u8>,
    ) -> holdall::storage::Result<()> {
        self.inner.get_range_into(key, offset, len, into)
    }
    fn list(
        &self,
        prefix: &str,
        each: &mut dyn FnMut(holdall::storage::Listed),
    ) -> holdall::storage::Result<()> {
        if prefix == "packs/"
            && let Some(pruner) = self.pruner.lock().unwrap().take()
        {
            let is_dead = |_: &_, _: &_| true;
            let options = PruneOptions { is_dead: &is_dead, ..ALL() };
            let pruned = prune(&pruner, &options, &Silent::default()).unwrap();
            assert!(pruned.removed.packs > 0);
        }
        self.inner.list(prefix, each)
    }
    fn delete(&self, key: &str) -> holdall::storage::Result<()> {
        self.inner.delete(key)
    }
    fn stat(&self, key: &str) -> holdall::storage::Result<u64> {
        self.inner.stat(key)
    }
}

#[test]
fn a_sweep_between_two_listings_is_no_damage() {
    let scene = Scene::new(Calm);
    let (cache, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pruner = std::sync::Mutex::new(Some(scene.open(other.path()).unwrap()));
    let storage = Arc::new(PrunedBetween { inner: scene.storage.clone(), pruner });
    let repository = scene.repo.open_on(storage, cache.path());
    let session = Session::begin(&repository, Purpose::Backup, None).unwrap();
    assert!(!session.is_mending());
}
