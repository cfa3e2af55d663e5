//! What every storage keeps: one list of checks, run against each of them.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use holdall::storage::{
    ErrorKind, Limiter, LocalStorage, MemoryStorage, Result, RetryingStorage, Storage,
    ThrottledStorage,
};
use holdall::world::{SeededWorld, Time};

use crate::support::storages::{Crashing, Faulty, Flipping, Last, Recording, Stale, keys, list};

/// Gets an empty storage.
type Check = fn(&dyn Storage);

const CHECKS: &[(&str, Check)] = &[
    ("comes_back_as_put", comes_back_as_put),
    ("many_parts_are_one_object", many_parts_are_one_object),
    ("is_never_overwritten", is_never_overwritten),
    ("what_is_not_there", what_is_not_there),
    ("get_is_bounded", get_is_bounded),
    ("ranges_are_exact", ranges_are_exact),
    ("keys_that_are_refused", keys_that_are_refused),
    ("keys_that_are_accepted", keys_that_are_accepted),
    ("listings_by_prefix", listings_by_prefix),
    ("prefixes_that_are_refused", prefixes_that_are_refused),
    ("a_listing_bears_changes", a_listing_bears_changes),
    ("removals_may_be_repeated", removals_may_be_repeated),
    ("one_of_many_puts_wins", one_of_many_puts_wins),
    ("puts_side_by_side", puts_side_by_side),
    ("appears_whole", appears_whole),
];

fn run(make: impl Fn() -> Arc<dyn Storage>) {
    for (name, check) in CHECKS {
        eprintln!("{name}");
        check(&*make());
    }
}

/// Around a fresh local storage, which is removed at the end.
fn run_on_local(around: impl Fn(Arc<dyn Storage>) -> Arc<dyn Storage>) {
    let place = tempfile::tempdir().unwrap();
    run(|| {
        let root = tempfile::tempdir_in(&place).unwrap().keep();
        around(Arc::new(LocalStorage::create(&root).unwrap()))
    });
}

#[test]
fn local() {
    run_on_local(|storage| storage);
}

#[test]
fn memory() {
    run(|| Arc::new(MemoryStorage::new()));
}

#[test]
fn throttled() {
    run_on_local(|storage| {
        let limiter = || {
            let rate = NonZeroU64::new(1 << 30).unwrap();
            Some(Arc::new(Limiter::new(rate, Arc::new(AtomicBool::new(false)))))
        };
        Arc::new(ThrottledStorage::new(storage, limiter(), limiter()))
    });
}

#[test]
fn retrying() {
    run_on_local(|storage| {
        let world = Arc::new(SeededWorld::new(1, Time::default()));
        Arc::new(RetryingStorage::new(storage, world, Box::new(|_| true), |_| true))
    });
}

#[test]
fn recording() {
    run_on_local(|storage| Arc::new(Recording::new(storage)));
    run(|| Arc::new(Recording::new(Arc::new(MemoryStorage::new()))));
}

#[test]
fn faulty_without_faults() {
    run(|| Arc::new(Faulty::new(Arc::new(MemoryStorage::new()))));
}

#[test]
fn crashing_before_the_crash() {
    run(|| Arc::new(Crashing::new(Arc::new(MemoryStorage::new()), u64::MAX, Last::IsLost)));
}

#[test]
fn stale_without_lag() {
    run(|| Arc::new(Stale::new(Arc::new(MemoryStorage::new()), 0)));
}

#[test]
fn flipping_without_damage() {
    run(|| Arc::new(Flipping::new(Arc::new(MemoryStorage::new()))));
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind
}

/// Bytes that differ from place to place and from seed to seed.
fn content(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn comes_back_as_put(storage: &dyn Storage) {
    for len in [0, 1, 4095, 4096, 4097, 3 << 20] {
        let key = format!("packs/1f/{len}");
        let bytes = content(1, len);
        storage.put(&key, &[&bytes]).unwrap();
        assert_eq!(storage.get(&key, u64::MAX).unwrap(), bytes, "{key}");
        assert_eq!(storage.stat(&key).unwrap(), len as u64, "{key}");
    }
    storage.put("nothing", &[]).unwrap();
    assert_eq!(storage.get("nothing", 0).unwrap(), b"");
    assert!(!storage.location().is_empty());
}

fn many_parts_are_one_object(storage: &dyn Storage) {
    // More than one system call takes (1024), with empty ones in front and between.
    let bytes = content(2, 3000 * 700);
    let mut parts: Vec<&[u8]> = vec![&[]; 2000];
    for part in bytes.chunks(700) {
        parts.extend([part, &[]]);
    }
    storage.put("packs/1f/many", &parts).unwrap();
    assert_eq!(storage.get("packs/1f/many", u64::MAX).unwrap(), bytes);
    // And more at once than a pipe, a page or a partial write is long.
    let large = content(3, 9 << 20);
    storage.put("packs/1f/large", &[&large[..1], &large[1..5 << 20], &large[5 << 20..]]).unwrap();
    assert!(storage.get("packs/1f/large", 9 << 20).unwrap() == large);
}

fn is_never_overwritten(storage: &dyn Storage) {
    storage.put("epochs/1/plan", &[b"first"]).unwrap();
    for second in [&b"second"[..], b"first", b""] {
        assert_eq!(kind(storage.put("epochs/1/plan", &[second])), ErrorKind::AlreadyExists);
        assert_eq!(storage.get("epochs/1/plan", 9).unwrap(), b"first");
    }
    assert_eq!(keys(storage, ""), ["epochs/1/plan"]);
}

fn what_is_not_there(storage: &dyn Storage) {
    storage.put("packs/1f/there", &[b"x"]).unwrap();
    for key in ["packs/1f/other", "packs/20/other", "snapshots/other", "config"] {
        assert_eq!(kind(storage.get(key, 9)), ErrorKind::NotFound, "{key}");
        assert_eq!(kind(storage.get_range(key, 0, 1)), ErrorKind::NotFound, "{key}");
        assert_eq!(kind(storage.stat(key)), ErrorKind::NotFound, "{key}");
        let error = storage.get(key, 9).unwrap_err();
        assert!(error.is_not_found() && error.key == key && error.to_string().contains(key));
    }
}

fn get_is_bounded(storage: &dyn Storage) {
    storage.put("config", &[b"0123456789"]).unwrap();
    for len_max in [10, 11, u64::MAX] {
        assert_eq!(storage.get("config", len_max).unwrap(), b"0123456789", "{len_max}");
    }
    for len_max in [0, 9] {
        assert_eq!(kind(storage.get("config", len_max)), ErrorKind::Corrupt, "{len_max}");
    }
}

fn ranges_are_exact(storage: &dyn Storage) {
    let bytes = content(4, 10_000);
    storage.put("packs/1f/a", &[&bytes]).unwrap();
    for (offset, len) in
        [(0, 0), (0, 1), (0, 10_000), (1, 9_999), (4095, 2), (9_999, 1), (10_000, 0)]
    {
        let range = storage.get_range("packs/1f/a", offset as u64, len).unwrap();
        assert_eq!(range, &bytes[offset..offset + len], "{len} from {offset}");
    }
    for (offset, len) in [
        (0, 10_001),
        (1, 10_000),
        (10_000, 1),
        (10_001, 0),
        (u64::MAX, 0),
        (u64::MAX, 1),
        (u64::MAX, usize::MAX),
        (0, usize::MAX),
        (1, usize::MAX),
    ] {
        let range = storage.get_range("packs/1f/a", offset, len);
        assert_eq!(kind(range), ErrorKind::Corrupt, "{len} from {offset}");
    }
}

fn keys_that_are_refused(storage: &dyn Storage) {
    let long = "a".repeat(513);
    for key in [
        "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", ".tmp/a", "a/.b", "A",
        "a b", "a\0", "a\n", "é", "a\\b", "a:b", "a*", "~", &long,
    ] {
        assert_eq!(kind(storage.put(key, &[b"x"])), ErrorKind::Other, "{key:?}");
        assert_eq!(kind(storage.get(key, 9)), ErrorKind::Other, "{key:?}");
        assert_eq!(kind(storage.get_range(key, 0, 0)), ErrorKind::Other, "{key:?}");
        assert_eq!(kind(storage.delete(key)), ErrorKind::Other, "{key:?}");
        assert_eq!(kind(storage.stat(key)), ErrorKind::Other, "{key:?}");
    }
    assert_eq!(keys(storage, ""), [""; 0]);
}

fn keys_that_are_accepted(storage: &dyn Storage) {
    let deep = ["a"; 256].join("/");
    let wide = ["a".repeat(255), "b".repeat(255)].join("/");
    let id = "0123456789abcdef".repeat(4);
    let pack = format!("packs/01/{id}");
    let fenced = format!("sessions/{id}.fenced");
    let mut all = [&deep, &wide, &pack, &fenced, "config", "a-b_c.d", "x/-", "x/_", "x/a..b"];
    for key in all {
        storage.put(key, &[key.as_bytes()]).unwrap();
    }
    for key in all {
        assert_eq!(storage.get(key, 512).unwrap(), key.as_bytes());
    }
    all.sort_unstable();
    assert_eq!(keys(storage, ""), all);
}

fn listings_by_prefix(storage: &dyn Storage) {
    let all = ["config", "packs-old/a", "packs/1f/a", "packs/1f/b", "packs/20/c", "packs0"];
    for (len, key) in all.iter().enumerate() {
        storage.put(key, &[&vec![7; len]]).unwrap();
    }
    assert_eq!(keys(storage, ""), all);
    assert_eq!(keys(storage, "packs/"), all[2..5]);
    assert_eq!(keys(storage, "packs/1f/"), all[2..4]);
    assert_eq!(keys(storage, "packs/1/"), [""; 0]);
    assert_eq!(keys(storage, "snapshots/"), [""; 0]);
    assert_eq!(keys(storage, "snapshots/deeper/"), [""; 0]);
    assert_eq!(keys(storage, "config/"), [""; 0]);
    for listed in list(storage, "").unwrap() {
        assert_eq!(all[listed.len as usize], listed.key);
    }
}

fn prefixes_that_are_refused(storage: &dyn Storage) {
    storage.put("packs/1f/a", &[b"x"]).unwrap();
    for prefix in ["packs", "/", "/packs/", "packs//", "../", "packs/../", ".tmp/", "P/", "pac"] {
        assert_eq!(kind(list(storage, prefix)), ErrorKind::Other, "{prefix}");
    }
}

fn a_listing_bears_changes(storage: &dyn Storage) {
    let key = |n| format!("index/{n:03}");
    for n in 0..300 {
        storage.put(&key(n), &[b"x"]).unwrap();
    }
    let mut seen = Vec::new();
    let mut change = |listed: String| {
        // What is put or removed meanwhile may be seen or not; what was there before and is still
        // there when its turn comes must be.
        if !listed.starts_with("index/") {
            return;
        }
        if seen.is_empty() {
            (200..300).for_each(|n| storage.delete(&key(n)).unwrap());
        }
        storage.delete(&listed).unwrap();
        storage.put(&listed.replace("index", "notes"), &[]).unwrap();
        seen.push(listed);
    };
    storage.list("", &mut |listed| change(listed.key)).unwrap();
    seen.sort();
    seen.retain(|listed| *listed < key(200));
    assert!(seen.into_iter().eq((0..200).map(key)));
    assert_eq!(keys(storage, "index/"), [""; 0]);
    assert!(keys(storage, "notes/").len() >= 200);
}

fn removals_may_be_repeated(storage: &dyn Storage) {
    storage.delete("packs/1f/never").unwrap();
    storage.put("packs/1f/a", &[b"x"]).unwrap();
    storage.put("packs/1f/b", &[b"y"]).unwrap();
    for _ in 0..3 {
        storage.delete("packs/1f/a").unwrap();
        assert_eq!(kind(storage.get("packs/1f/a", 9)), ErrorKind::NotFound);
        assert_eq!(keys(storage, ""), ["packs/1f/b"]);
    }
    assert_eq!(storage.get("packs/1f/b", 1).unwrap(), b"y");
}

fn one_of_many_puts_wins(storage: &dyn Storage) {
    for round in 0..10 {
        let key = format!("epochs/{round}/plan");
        let start = Barrier::new(6);
        let put = |seed: u8| {
            let bytes = content(seed, 70_000 + usize::from(seed));
            start.wait();
            storage.put(&key, &[&bytes[..9], &bytes[9..]]).map(|()| bytes)
        };
        let results: Vec<Result<Vec<u8>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6).map(|seed| scope.spawn(move || put(seed))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        assert!(lost.into_iter().all(|result| kind(result) == ErrorKind::AlreadyExists));
        let winner = won.into_iter().next().unwrap().unwrap();
        assert!(storage.get(&key, 100_000).unwrap() == winner);
    }
}

fn puts_side_by_side(storage: &dyn Storage) {
    let key = |thread: u8, n: u8| format!("packs/{:02x}/{thread}-{n}", n % 3);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            scope.spawn(move || {
                for n in 0..10 {
                    storage
                        .put(&key(thread, n), &[&content(thread, 1000 + usize::from(n))])
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(keys(storage, "packs/").len(), 60);
    for (thread, n) in (0..6).flat_map(|thread| (0..10).map(move |n| (thread, n))) {
        let bytes = storage.get(&key(thread, n), 2000).unwrap();
        assert_eq!(bytes, content(thread, 1000 + usize::from(n)));
    }
}

fn appears_whole(storage: &dyn Storage) {
    let bytes = content(5, 4 << 20);
    let parts: Vec<&[u8]> = bytes.chunks(997).collect();
    let is_put = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // At least once after the put has returned.
            loop {
                let was_put = is_put.load(Ordering::Acquire);
                for listed in list(storage, "").unwrap() {
                    assert_eq!((&*listed.key, listed.len), ("packs/1f/a", 4 << 20));
                }
                match storage.get("packs/1f/a", u64::MAX) {
                    Ok(seen) => assert!(seen == bytes, "only {} bytes of it", seen.len()),
                    Err(error) => assert!(error.is_not_found() && !was_put, "{error}"),
                }
                if was_put {
                    return;
                }
            }
        });
        storage.put("packs/1f/a", &parts).unwrap();
        is_put.store(true, Ordering::Release);
        reader.join().unwrap();
    });
}
