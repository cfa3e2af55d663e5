//! Envelopes and padding.
#![no_main]

use holdall::format::envelope::{Header, ObjectType, pad, unpad};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for kind in [ObjectType::Trailer, ObjectType::Snapshot, ObjectType::Plan] {
        if let Ok((header, rest)) = Header::decode(bytes, kind) {
            assert_eq!([&header.encode()[..], rest].concat(), bytes);
        }
    }
    if let Ok(payload) = unpad(bytes) {
        assert_eq!(pad(payload), bytes);
    }
    assert_eq!(unpad(&pad(bytes)), Ok(bytes));
});
