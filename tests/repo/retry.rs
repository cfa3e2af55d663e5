//! A storage that is asked again: what is repeated, how often, after which pauses, and what never.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdall::repo::may_put_again;
use holdall::storage::{
    ErrorKind, FreeRoom, Listed, MemoryStorage, Result, RetryingStorage, Storage, ThrottledStorage,
};
use holdall::world::{SeededWorld, Time};

use crate::support::storages::{Fault, Faulty, Recording, Verb, keys};

/// A storage that fails as told, calls of which are counted, and the pauses that were made.
struct Scene {
    faulty: Arc<Faulty>,
    calls: Arc<Recording>,
    pauses: Arc<Mutex<Vec<Duration>>>,
    patient: RetryingStorage,
}

/// Nobody wants to wait after so many pauses.
fn scene(pauses_max: usize, seed: u64) -> Scene {
    let memory = MemoryStorage::new();
    for key in ["packs/1f/a", "index/a", "sessions/a"] {
        memory.put(key, &[key.as_bytes()]).unwrap();
    }
    let faulty = Arc::new(Faulty::new(Arc::new(memory)));
    let calls = Arc::new(Recording::new(faulty.clone()));
    let pauses = Arc::new(Mutex::new(Vec::new()));
    let made = pauses.clone();
    let wait = move |pause| {
        let mut made = made.lock().unwrap();
        made.push(pause);
        made.len() < pauses_max
    };
    let world = Arc::new(SeededWorld::new(seed, Time::default()));
    let patient = RetryingStorage::new(calls.clone(), world, Box::new(wait), may_put_again);
    Scene { faulty, calls, pauses, patient }
}

fn every_verb(storage: &dyn Storage) -> [(Verb, Result<()>); 6] {
    [
        (Verb::Get, storage.get("packs/1f/a", 99).map(drop)),
        (Verb::GetRange, storage.get_range("packs/1f/a", 1, 2).map(drop)),
        (Verb::Stat, storage.stat("packs/1f/a").map(drop)),
        (Verb::List, storage.list("packs/", &mut |_| ())),
        (Verb::Put, storage.put("index/new", &[b"x"])),
        (Verb::Delete, storage.delete("packs/1f/a")),
    ]
}

#[test]
fn what_passes_is_tried_again_and_nothing_else() {
    for kind in [ErrorKind::Transient, ErrorKind::Other, ErrorKind::Denied, ErrorKind::Full] {
        let scene = scene(99, 1);
        for verb in Verb::ALL {
            scene.faulty.add(Fault::nth(&[verb], 1, kind).times(4));
        }
        for (verb, result) in every_verb(&scene.patient) {
            match kind {
                ErrorKind::Transient => {
                    result.unwrap();
                    assert_eq!(scene.calls.count(verb), 5, "{verb:?}");
                }
                kind => {
                    assert_eq!(result.unwrap_err().kind, kind);
                    assert_eq!(scene.calls.count(verb), 1, "{verb:?}");
                }
            }
        }
    }
}

#[test]
fn attempts_have_an_end_and_pauses_grow_and_differ() {
    let mut all = Vec::new();
    for seed in 0..3 {
        let scene = scene(99, seed);
        scene.faulty.add(Fault::nth(&[Verb::Get], 1, ErrorKind::Transient).times(u64::MAX));
        let error = scene.patient.get("packs/1f/a", 99).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Transient);
        assert_eq!(scene.calls.count(Verb::Get), 5);
        let pauses = scene.pauses.lock().unwrap().clone();
        let mut longest = Duration::from_millis(200);
        for pause in &pauses {
            assert!((longest / 2..=longest).contains(pause), "{pauses:?}");
            longest *= 3;
        }
        assert!(!all.contains(&pauses), "machines come back together: {pauses:?}");
        all.push(pauses);
    }
}

#[test]
fn who_wants_an_end_waits_no_more() {
    let scene = scene(2, 1);
    scene.faulty.add(Fault::nth(&[Verb::Stat], 1, ErrorKind::Transient).times(u64::MAX));
    scene.patient.stat("index/a").unwrap_err();
    assert_eq!((scene.calls.count(Verb::Stat), scene.pauses.lock().unwrap().len()), (3, 2));
}

/// W1, W6, and names that several write to.
#[test]
fn what_may_be_put_once_only_is_put_once() {
    let scene = scene(99, 1);
    scene.faulty.add(Fault::nth(&[Verb::Put], 1, ErrorKind::Transient).times(u64::MAX));
    for key in [
        "packs/1f/b",
        "sessions/b",
        "sessions/b.fenced",
        "epochs/1/plan",
        "epochs/1/sweep",
        "config",
        "copies/config",
        "keys/b",
        "copies/keys/b",
    ] {
        scene.calls.clear();
        scene.patient.put(key, &[b"x"]).unwrap_err();
        assert_eq!(scene.calls.count(Verb::Put), 1, "{key}");
    }
}

/// The first attempt was heard, and only its answer was lost.
#[test]
fn a_put_that_finds_itself_has_succeeded() {
    let scene = scene(99, 1);
    scene.faulty.add(Fault::nth(&[Verb::Put], 1, ErrorKind::Transient).after());
    scene.patient.put("index/b", &[b"x"]).unwrap();
    assert_eq!(scene.calls.count(Verb::Put), 2);
    // What was there before is no success.
    let error = scene.patient.put("index/b", &[b"y"]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
}

/// Nothing is handed out twice.
#[test]
fn a_listing_is_begun_again_only_before_its_first_object() {
    let scene = scene(99, 1);
    scene.faulty.add(Fault::nth(&[Verb::List], 1, ErrorKind::Transient));
    assert_eq!(keys(&scene.patient, ""), ["index/a", "packs/1f/a", "sessions/a"]);
    scene.faulty.add(Fault::nth(&[Verb::List], 1, ErrorKind::Transient).after());
    let mut seen = 0;
    assert!(scene.patient.list("", &mut |_| seen += 1).is_err());
    assert_eq!((seen, scene.calls.count(Verb::List)), (3, 3));
}

/// A storage on the other side of a network, with little room.
#[derive(Debug)]
struct Far(MemoryStorage);

impl Storage for Far {
    fn location(&self) -> String {
        self.0.location()
    }
    fn is_remote(&self) -> bool {
        true
    }
    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        self.0.put(key, parts)
    }
    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        self.0.get(key, len_max)
    }
    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        self.0.get_range_into(key, offset, len, into)
    }
    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.0.list(prefix, each)
    }
    fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key)
    }
    fn stat(&self, key: &str) -> Result<u64> {
        self.0.stat(key)
    }
    fn free_room(&self) -> Option<FreeRoom> {
        Some(FreeRoom { bytes: 7, objects: 1 })
    }
}

#[test]
fn what_a_storage_says_of_itself_passes_through() {
    let far = || Arc::new(Far(MemoryStorage::new()));
    let world = Arc::new(SeededWorld::new(1, Time::default()));
    let patient = RetryingStorage::new(far(), world, Box::new(|_| true), may_put_again);
    let slow = ThrottledStorage::new(far(), None, None);
    for storage in [&patient as &dyn Storage, &slow] {
        assert!(storage.is_remote(), "{}", storage.location());
        assert_eq!(storage.free_room(), Some(FreeRoom { bytes: 7, objects: 1 }));
    }
}
