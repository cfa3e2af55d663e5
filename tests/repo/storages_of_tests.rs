//! The storages of the tests do what they say: a test that relies on them proves nothing else.

use std::sync::Arc;

use holdall::storage::{ErrorKind, MemoryStorage, Storage};

use crate::support::storages::{
    Call, Crashing, Damage, Fault, Faulty, Flipping, Last, Recording, Stale, Verb, damage, keys,
    list,
};

fn memory(keys: &[&str]) -> Arc<MemoryStorage> {
    let memory = MemoryStorage::new();
    for key in keys {
        memory.put(key, &[key.as_bytes()]).unwrap();
    }
    Arc::new(memory)
}

fn kind<T: std::fmt::Debug>(result: holdall::storage::Result<T>) -> ErrorKind {
    result.unwrap_err().kind
}

#[test]
fn memory_goes_back_to_a_snapshot() {
    let storage = memory(&["a", "b"]);
    let before = storage.snapshot();
    let shared = MemoryStorage::clone(&storage);
    shared.delete("a").unwrap();
    shared.put("c", &[b"new"]).unwrap();
    assert_eq!(keys(&*storage, ""), ["b", "c"]);
    assert_ne!(storage.snapshot(), before);
    storage.restore(&before);
    assert_eq!(keys(&shared, ""), ["a", "b"]);
    assert_eq!(shared.get("a", 9).unwrap(), b"a");
    assert_eq!(storage.snapshot(), before);
}

#[test]
fn recording_counts_and_lists() {
    let storage = Recording::new(memory(&["a"]));
    storage.put("b", &[b"12", b"345"]).unwrap();
    storage.put("b", &[b"12"]).unwrap_err();
    storage.get("b", 9).unwrap();
    storage.get_range("b", 1, 2).unwrap();
    storage.get("c", 9).unwrap_err();
    list(&storage, "packs/").unwrap();
    storage.delete("a").unwrap();
    storage.stat("b").unwrap();
    assert_eq!(Verb::ALL.map(|verb| storage.count(verb)), [2, 2, 1, 1, 1, 1]);
    assert_eq!((storage.bytes(Verb::Get), storage.bytes(Verb::GetRange)), (5, 2));
    assert_eq!(storage.keys(Verb::Get), ["b", "c"]);
    assert_eq!(storage.calls()[5], Call { verb: Verb::List, key: "packs/".into(), bytes: 0 });
    storage.clear();
    assert!(storage.calls().is_empty());
}

#[test]
fn faults_strike_the_calls_that_they_name() {
    let storage = Faulty::new(memory(&["a", "b"]));
    storage.add(Fault::nth(&[Verb::Get, Verb::Stat], 2, ErrorKind::Transient));
    storage.get("a", 9).unwrap();
    assert_eq!(kind(storage.stat("a")), ErrorKind::Transient);
    storage.get("a", 9).unwrap();

    storage.add(Fault::nth(&[Verb::Put], 1, ErrorKind::Full));
    assert_eq!(kind(storage.put("c", &[])), ErrorKind::Full);
    assert_eq!(kind(storage.get("c", 9)), ErrorKind::NotFound);
    storage.add(Fault::nth(&[Verb::Put], 1, ErrorKind::Transient).after());
    assert_eq!(kind(storage.put("c", &[])), ErrorKind::Transient);
    assert_eq!(kind(storage.put("c", &[])), ErrorKind::AlreadyExists);

    storage.add(Fault::nth(&[Verb::Delete], 2, ErrorKind::Denied).under("packs/").times(u64::MAX));
    storage.delete("a").unwrap();
    storage.delete("packs/a").unwrap();
    for _ in 0..3 {
        assert_eq!(kind(storage.delete("packs/a")), ErrorKind::Denied);
    }
    storage.delete("b").unwrap();
    storage.add(Fault::nth(&[Verb::List], 1, ErrorKind::Other).after());
    let mut seen = 0;
    assert_eq!(kind(storage.list("", &mut |_| seen += 1)), ErrorKind::Other);
    assert_eq!(seen, 1);
    storage.clear();
    storage.delete("packs/a").unwrap();
}

#[test]
fn after_a_crash_everything_fails() {
    for (last, left) in
        [(Last::TakesEffect, &["a", "b", "d"][..]), (Last::IsLost, &["a", "b", "c", "d"])]
    {
        let below = memory(&["a", "b", "c"]);
        let storage = Crashing::new(below.clone(), 2, last);
        storage.put("d", &[]).unwrap();
        storage.get("a", 9).unwrap();
        assert!(!storage.has_crashed());
        assert!(storage.delete("c").is_err());
        assert!(storage.has_crashed());
        assert_eq!(storage.mutations(), 2);
        assert!(storage.put("e", &[]).is_err());
        assert!(storage.delete("a").is_err());
        assert!(storage.get("a", 9).is_err());
        assert!(storage.get_range("a", 0, 1).is_err());
        assert!(storage.stat("a").is_err());
        assert!(list(&storage, "").is_err());
        assert_eq!(storage.mutations(), 2);
        assert_eq!(keys(&*below, ""), left);
    }
}

#[test]
fn stale_listings_lag_and_catch_up() {
    let storage = Stale::new(memory(&["a"]), 2);
    for key in ["b", "c", "d"] {
        storage.put(key, &[]).unwrap();
        storage.get(key, 0).unwrap();
    }
    assert_eq!(keys(&storage, ""), ["a", "b"]);
    storage.catch_up();
    assert_eq!(keys(&storage, ""), ["a", "b", "c", "d"]);
    storage.put("e", &[]).unwrap();
    assert_eq!(keys(&storage, ""), ["a", "b", "c", "d"]);
}

/// Each damage, what is left of 5000 sevens, and the same for a damage that is for good.
#[test]
fn damage_is_shown_and_done_alike() {
    let whole = vec![7; 5000];
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        Some(bytes)
    };
    let cases = [
        (Damage::Flip { offset: 4999, mask: 0x81 }, with(&|bytes| bytes[4999] = 0x86)),
        (Damage::Truncate { len: 10 }, with(&|bytes| bytes.truncate(10))),
        (Damage::ZeroPage { page: 1 }, with(&|bytes| bytes[4096..].fill(0))),
        (Damage::Delete, None),
        (Damage::Swap { with: "other".into() }, Some(b"other".to_vec())),
    ];
    for (wrong, left) in cases {
        let below = memory(&["other", "third"]);
        below.put("a", &[&whole]).unwrap();
        let shown = Flipping::new(below.clone());
        shown.damage("a", wrong.clone());
        let done = MemoryStorage::new();
        done.restore(&below.snapshot());
        damage(&done, "a", &wrong).unwrap();
        for storage in [&shown as &dyn Storage, &done] {
            assert_eq!(storage.get("a", u64::MAX).ok(), left, "{wrong:?}");
            let len = left.as_ref().map(|bytes| bytes.len() as u64);
            assert_eq!(storage.stat("a").ok(), len, "{wrong:?}");
            let listed = list(storage, "").unwrap();
            assert_eq!(listed.iter().find(|l| l.key == "a").map(|l| l.len), len, "{wrong:?}");
            if let Some(left) = &left {
                let end = left.len();
                assert_eq!(storage.get_range("a", end as u64 - 2, 2).unwrap(), left[end - 2..]);
                assert_eq!(kind(storage.get_range("a", end as u64, 1)), ErrorKind::Corrupt);
                assert_eq!(kind(storage.get("a", end as u64 - 1)), ErrorKind::Corrupt);
            }
            let swapped = matches!(wrong, Damage::Swap { .. });
            let other = if swapped { &whole[..] } else { b"other" };
            assert_eq!(storage.get("other", u64::MAX).unwrap(), other, "{wrong:?}");
            assert_eq!(storage.get("third", 9).unwrap(), b"third");
        }
        shown.heal();
        assert_eq!(shown.get("a", u64::MAX).unwrap(), whole);
    }
}
