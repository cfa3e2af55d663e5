//! Chunks of entries and of references.
#![no_main]

use holdall::format::codec::Take;
use holdall::format::tree::{ENTRIES_TAG, Refs, decode_entries, name_is_allowed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entries) = decode_entries(bytes, None) {
        assert!(entries.iter().all(|entry| name_is_allowed(&entry.name)));
        assert!(entries.is_sorted_by(|a, b| a.name < b.name));
        let mut again = vec![ENTRIES_TAG];
        entries.iter().for_each(|entry| entry.encode(&mut again));
        assert_eq!(decode_entries(&again, None), Ok(entries));
    }
    for depth in 0..3 {
        let list = Refs::decode(&mut Take::new(bytes.get(1..).unwrap_or_default()));
        let len = list.map_or(0, |list| list.len());
        if let Ok(refs) = Refs::decode_chunk(bytes, depth, len) {
            assert_eq!(refs.encode_chunk(), bytes);
        }
    }
});
