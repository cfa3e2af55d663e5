//! Rotations of keys: interrupted at every step, beside each other and beside other changes of the
//! slots. Whoever opens any slot seals only with keys that every slot has.

use std::collections::HashSet;
use std::sync::Arc;

use holdall::crypto::{CryptoError, KeyFile, PasswordCost, Purpose, Secret};
use holdall::format::frame::FrameHeader;
use holdall::format::slot::Slot;
use holdall::id::SlotId;
use holdall::ops::prune::PruneOptions;
use holdall::repo::{NewSlot, RepoError, Repository, Rotation};
use holdall::storage::{MemoryStorage, Storage};

use crate::crash::Scene;
use crate::prune::{ALL, run, with_holes};
use crate::support::repository::{TestRepo, environment, small};
use crate::support::snapshots::{assert_snapshots, commit_tree, files};
use crate::support::storages::{Meanwhile, keys, list};

const SEALING: [Purpose; 5] =
    [Purpose::Data, Purpose::Tree, Purpose::Index, Purpose::Snapshot, Purpose::Prune];

fn slot(repo: &TestRepo, label: &str) -> NewSlot {
    let secret = Secret::KeyFile(KeyFile::generate(&*repo.world));
    NewSlot { secret, cost: PasswordCost::LOWEST, label: label.into() }
}

fn open(repo: &TestRepo, storage: Arc<dyn Storage>, secret: &Secret) -> Option<Arc<Repository>> {
    let cache = tempfile::tempdir().unwrap();
    let secrets = std::slice::from_ref(secret);
    let opened = Repository::open(storage, repo.world.clone(), environment(cache.path()), secrets);
    match opened {
        Ok(repository) => Some(Arc::new(repository)),
        Err(RepoError::WrongSecret { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// What any of them seals, each of them opens.
fn assert_shared(openers: &[Arc<Repository>], readers: &[Arc<Repository>], what: &str) {
    for (opener, reader) in openers.iter().flat_map(|o| readers.iter().map(move |r| (o, r))) {
        for purpose in SEALING {
            let (generation, key) = opener.keys().newest(purpose).unwrap();
            assert_eq!(reader.keys().get(purpose, generation), Ok(key), "{what}: {purpose}");
        }
    }
}

fn generation(repository: &Repository) -> u32 {
    repository.keys().newest(Purpose::Data).unwrap().0
}

#[test]
fn every_slot_gets_the_new_keys_and_keeps_the_old_ones() {
    let repo = TestRepo::memory();
    let second = slot(&repo, "second");
    repo.repository.add_slot(&second).unwrap();
    let before = (commit_tree(&repo.repository, &files(1, 5, 3_000)).unwrap(), files(1, 5, 3_000));
    let ids = |repository: &Repository| -> Vec<SlotId> {
        repository.slots().unwrap().iter().map(|slot| slot.id).collect()
    };
    let slots = ids(&repo.repository);
    let Rotation { repository, slot_count, is_shared } = repo.repository.rotate().unwrap();
    assert_eq!((slot_count, is_shared), (2, false));
    let rotated = Arc::new(repository);
    assert_eq!(ids(&rotated), slots);
    assert!(rotated.slots().unwrap().iter().all(|slot| slot.is_current == Some(true)));
    let tree = files(2, 5, 3_000);
    let after = (commit_tree(&rotated, &tree).unwrap(), tree);
    for secret in [&repo.secret, &second.secret] {
        let opened = open(&repo, repo.storage.clone(), secret).unwrap();
        assert_eq!(generation(&opened), generation(&rotated));
        assert_snapshots(&opened, &[before.clone(), after.clone()]);
    }
    // Who opened it before goes on, and what that one stores is readable; what others store under
    // the new keys is not for that one.
    let tree = files(3, 5, 3_000);
    let late = (commit_tree(&repo.repository, &tree).unwrap(), tree);
    assert_snapshots(&rotated, &[before, after.clone(), late]);
    assert!(repo.repository.read_snapshot(&after.0.id).is_err());
    assert!(matches!(
        repo.repository.add_slot(&slot(&repo, "late")),
        Err(RepoError::Key(CryptoError::Changed))
    ));
    assert_eq!(keys(&*repo.storage, "keys/").len(), 2);
}

#[test]
fn a_rotation_crashes() {
    let scene = Scene::new();
    let second = slot(&scene.repo, "second");
    scene.repo.repository.add_slot(&second).unwrap();
    let secrets = [&scene.repo.secret, &second.secret];
    let tree = files(9, 3, 3_000);
    let count = scene.at_every_call(
        |repository| repository.rotate().ok().map(|rotation| Arc::new(rotation.repository)),
        |rotated, repository, what| {
            let storage: Arc<dyn Storage> = Arc::new(scene.memory.clone());
            let open = || secrets.map(|secret| open(&scene.repo, storage.clone(), secret).unwrap());
            let opened = open();
            assert_shared(&opened, &opened, what);
            if let Some(rotated) = rotated {
                assert_shared(std::slice::from_ref(rotated), &opened, what);
            }
            // Whichever slot the next one opens.
            let next = &opened[generation(repository) as usize % 2];
            let mut expected = scene.expected.clone();
            expected.push((commit_tree(&opened[1], &tree).unwrap(), tree.clone()));
            let rotation = next.rotate().unwrap();
            let opened = open();
            assert_shared(&opened, &opened, what);
            let all = next.keys().names();
            for repository in opened {
                assert!(repository.keys().has_all(&all), "{what}");
                assert_eq!(generation(&repository), generation(&rotation.repository), "{what}");
                assert_snapshots(&repository, &expected);
            }
        },
    );
    // Two rounds over two slots, and what was there goes, all with their copies.
    assert_eq!(count, 16);
}

/// What happens to the slots while a rotation is at work.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Other {
    Rotates,
    Adds,
    Removes,
}

#[test]
fn other_changes_come_between_any_two_steps_of_a_rotation() {
    for other in [Other::Rotates, Other::Adds, Other::Removes] {
        let mut nth = 1;
        while between(other, nth) {
            nth += 1;
        }
        assert!(nth > 20, "{other:?}: {nth}");
    }
}

/// Each slot has its copy, and nothing else has one: an old copy would bring back what is gone.
fn assert_copied(repo: &TestRepo, what: &str) {
    let slots = keys(&*repo.storage, "keys/").into_iter().map(|key| format!("copies/{key}"));
    assert_eq!(keys(&*repo.storage, "copies/keys/"), slots.collect::<Vec<_>>(), "{what}");
    assert_eq!(repo.repository.damaged_openers().unwrap(), [], "{what}");
}

/// Either half of a slot is lost, and while the other one puts it back the slot is removed.
#[test]
fn a_slot_that_is_removed_meanwhile_is_not_put_back() {
    for lost in ["", "copies/"] {
        let mut nth = 1;
        while removed_while_restored(lost, nth) {
            nth += 1;
        }
        assert!(nth > 8, "{lost}: {nth}");
    }
}

/// `false`: restoring has not so many calls.
fn removed_while_restored(lost: &str, nth: u64) -> bool {
    let memory = MemoryStorage::new();
    let repo = TestRepo::create(Arc::new(memory.clone()), &small(), 1);
    let second = slot(&repo, "second");
    let id = repo.repository.add_slot(&second).unwrap();
    memory.delete(&format!("{lost}keys/{id}")).unwrap();
    let theirs = repo.reopen();
    let meanwhile = Arc::new(Meanwhile::new(repo.storage.clone()));
    let cache = tempfile::tempdir().unwrap();
    let ours = repo.open_on(meanwhile.clone(), cache.path());
    meanwhile.arm(nth, move || theirs.remove_slot(&id).unwrap());
    ours.restore_openers().unwrap();
    if meanwhile.disarm() {
        return false;
    }
    let what = format!("{lost}keys/ before call {nth}");
    assert!(open(&repo, repo.storage.clone(), &second.secret).is_none(), "{what}");
    assert_copied(&repo, &what);
    true
}

/// `false`: the rotation has not so many calls.
fn between(other: Other, nth: u64) -> bool {
    let repo = TestRepo::memory();
    let [second, third] = ["second", "third"].map(|label| slot(&repo, label));
    let second_id = repo.repository.add_slot(&second).unwrap();
    let (theirs, new) = (repo.reopen(), third.clone());
    let (tell, told) = std::sync::mpsc::channel();
    let meanwhile = Arc::new(Meanwhile::new(repo.storage.clone()));
    let cache = tempfile::tempdir().unwrap();
    let ours = repo.open_on(meanwhile.clone(), cache.path());
    meanwhile.arm(nth, move || {
        let done = match other {
            Other::Rotates => theirs.rotate().map(|rotation| Some(rotation.repository)),
            Other::Adds => theirs.add_slot(&new).map(|_| None),
            Other::Removes => theirs.remove_slot(&second_id).map(|()| None),
        };
        tell.send(done).unwrap();
    });
    let outcome = ours.rotate();
    let Ok(done) = told.try_recv() else {
        assert!(meanwhile.disarm());
        return false;
    };
    let what = format!("{other:?} before call {nth}: {outcome:?}, {done:?}");
    let outcome = outcome.unwrap();

    let open = |secret| open(&repo, repo.storage.clone(), secret);
    let mut readers = vec![open(&repo.secret).unwrap()];
    match (other, &done) {
        (Other::Rotates, _) => {
            assert!(done.is_ok(), "{what}");
            readers.extend(open(&second.secret));
            assert_eq!(readers.len(), 2, "{what}");
        }
        (Other::Adds, Ok(_)) => {
            readers.extend([open(&second.secret).unwrap(), open(&third.secret).expect(&what)]);
        }
        (Other::Adds, Err(error)) => {
            assert!(matches!(error, RepoError::Key(CryptoError::Changed)), "{what}");
            assert!(open(&third.secret).is_none(), "{what}");
        }
        (Other::Removes, _) => {
            assert!(done.is_ok(), "{what}");
            assert!(open(&second.secret).is_none(), "{what}");
        }
    }
    let mut openers = readers.clone();
    openers.push(Arc::new(outcome.repository));
    openers.extend(done.ok().flatten().map(Arc::new));
    assert_shared(&openers, &readers, &what);
    // The next one leaves one object for each slot, and all keys in it.
    let all: HashSet<_> = readers.iter().flat_map(|reader| reader.keys().names()).collect();
    let next = readers[0].rotate().unwrap();
    let objects = keys(&*repo.storage, "keys/");
    assert_eq!((objects.len(), next.is_shared), (next.slot_count, false), "{what}");
    assert_copied(&repo, &what);
    let names: Vec<_> = all.into_iter().collect();
    assert!(open(&repo.secret).unwrap().keys().has_all(&names), "{what}");
    true
}

/// The generations of all stored frames.
fn frame_generations(storage: &dyn Storage) -> HashSet<u32> {
    frames(storage).into_iter().map(|header| header.generation).collect()
}

fn frames(storage: &dyn Storage) -> Vec<FrameHeader> {
    let mut headers = Vec::new();
    for key in keys(storage, "packs/") {
        let pack = storage.get(&key, u64::MAX).unwrap();
        headers.extend(split(&pack).0);
    }
    headers
}

/// The frames that an object begins with, if it is a pack, and the envelope behind them.
fn split(object: &[u8]) -> (Vec<FrameHeader>, &[u8]) {
    let is_pack = object.starts_with(b"HOLDPACK");
    let (mut headers, mut rest) = (Vec::new(), if is_pack { &object[16..] } else { object });
    while rest.starts_with(b"HFRM") {
        let (header, body) = FrameHeader::decode(rest).unwrap();
        rest = &body[header.body_len as usize..];
        headers.push(header);
    }
    (headers, rest)
}

#[test]
fn what_is_stored_moves_to_the_new_keys_when_it_is_written_anew() {
    let repo = TestRepo::memory();
    let mut expected = with_holes(&repo, 200);
    let rotated = Arc::new(repo.repository.rotate().unwrap().repository);
    let tree = files(5, 3, 3_000);
    expected.push((commit_tree(&rotated, &tree).unwrap(), tree));
    assert_eq!(frame_generations(&*repo.storage).len(), 2);
    // What a prune copies anyway has the new keys afterwards.
    let before = frames(&*repo.storage);
    let report = run(&rotated, &ALL());
    assert!(report.bytes_repacked > 0);
    let old = |headers: &[FrameHeader]| headers.iter().filter(|h| h.generation == 0).count();
    assert!(old(&frames(&*repo.storage)) < old(&before));
    assert_snapshots(&rotated, &expected);
}

#[test]
fn everything_moves_to_the_new_keys_when_it_shall() {
    let repo = TestRepo::memory();
    let tree = files(1, 800, 5_000);
    let expected = [(commit_tree(&repo.repository, &tree).unwrap(), tree)];
    let rotated = Arc::new(repo.repository.rotate().unwrap().repository);
    assert_eq!(frame_generations(&*repo.storage), HashSet::from([0]));
    // As it is stopped by a limit, so it may be by anything else, and goes on.
    let limited = PruneOptions { reseal: true, max_repack: Some(300_000), ..ALL() };
    let report = run(&rotated, &limited);
    assert!(report.figures.unwrap().outdated.packs > 0 || report.removed.packs > 20);
    let all = PruneOptions { reseal: true, ..ALL() };
    run(&rotated, &all);
    assert_eq!(frame_generations(&*repo.storage), HashSet::from([generation(&rotated)]));
    assert_snapshots(&rotated, &expected);
    let again = run(&rotated, &all);
    assert_eq!((again.bytes_repacked, again.removed.packs), (0, 0));
}

#[test]
fn a_resealing_prune_crashes() {
    let scene = Scene::new();
    let rotated = scene.repo.repository.rotate().unwrap().repository;
    let options = || PruneOptions { is_dead: &|_, _| true, reseal: true, ..ALL() };
    scene.at_every_call(
        |repository| {
            let progress = holdall::progress::Silent::default();
            _ = holdall::ops::prune::prune(repository, &options(), &progress);
        },
        |(), repository, what| {
            assert_snapshots(repository, &scene.expected);
            run(repository, &options());
            run(repository, &options());
            let generations = frame_generations(&scene.memory);
            assert_eq!(generations, HashSet::from([generation(&rotated)]), "{what}");
            assert_snapshots(repository, &scene.expected);
        },
    );
}

/// A key and a nonce seal one text only. Frames and sealed objects show both in clear: whatever is
/// stored at any time is looked at, the same bytes once.
#[test]
fn no_nonce_comes_twice() {
    let repo = TestRepo::memory();
    let (mut objects, mut nonces) = (HashSet::new(), HashSet::new());
    let mut frame_keys = HashSet::new();
    let mut look = || {
        let storage = &*repo.storage;
        for object in list(storage, "").unwrap() {
            let is_plain = object.key == "config" || object.key.starts_with("copies/");
            if is_plain || !objects.insert(object.key.clone()) {
                continue;
            }
            let bytes = storage.get(&object.key, u64::MAX).unwrap();
            let nonce = match object.key.split('/').next() {
                // The keys of what else is in a slot are its own.
                Some("keys") => {
                    let about = Slot::decode(&bytes).unwrap().about;
                    *about.first_chunk::<24>().unwrap()
                }
                _ => *split(&bytes).1[12..].first_chunk::<24>().unwrap(),
            };
            assert!(nonces.insert(nonce), "{}", object.key);
        }
        for header in frames(storage) {
            frame_keys.insert((header.sealed_key, header.id, header.body_len));
        }
    };
    let mut rotated = repo.repository.clone();
    for round in 0..4 {
        for n in 0..4 {
            let tree = files(round * 10 + n, 60, 6_000);
            let record = commit_tree(&rotated, &tree).unwrap();
            rotated.annotate(&record, |note| note.description = "noted".into()).unwrap();
            look();
            if n % 2 == 0 {
                rotated.forget(&[record]).unwrap();
            }
        }
        rotated = Arc::new(rotated.rotate().unwrap().repository);
        look();
        run(&rotated, &PruneOptions { reseal: round % 2 == 1, ..ALL() });
        look();
    }
    let distinct: HashSet<_> = frame_keys.iter().map(|(key, id, _)| (key, id)).collect();
    assert_eq!(distinct.len(), frame_keys.len());
    assert!(frame_keys.len() + nonces.len() > 500, "{} {}", frame_keys.len(), nonces.len());
}

#[test]
fn a_rotation_comes_between_any_two_steps_of_a_removal() {
    for nth in 1.. {
        let repo = TestRepo::memory();
        let second = slot(&repo, "second");
        let id = repo.repository.add_slot(&second).unwrap();
        let theirs = repo.reopen();
        let meanwhile = Arc::new(Meanwhile::new(repo.storage.clone()));
        let cache = tempfile::tempdir().unwrap();
        let ours = repo.open_on(meanwhile.clone(), cache.path());
        meanwhile.arm(nth, move || _ = theirs.rotate().unwrap());
        let removed = ours.remove_slot(&id);
        assert!(removed.is_ok(), "call {nth}: {removed:?}");
        if meanwhile.disarm() {
            assert!(nth > 6, "{nth}");
            return;
        }
        assert!(open(&repo, repo.storage.clone(), &second.secret).is_none(), "call {nth}");
        assert!(open(&repo, repo.storage.clone(), &repo.secret).is_some(), "call {nth}");
    }
}
