//! Parity: marks, heads, wishes.
#![no_main]

use holdall::format::parity::{ParityHead, decode_mark};
use holdall::format::snapshot::Wish;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_mark(bytes);
    if let Ok(head) = ParityHead::decode(bytes) {
        assert_eq!(head.hashes.len(), head.data_count() + head.parity_count as usize);
        let again = head.encode();
        assert_eq!(again, bytes[..again.len()]);
    }
    if let Ok(Some(wish)) = Wish::decode(bytes) {
        let again = wish.encode();
        assert_eq!(again, bytes[..again.len()]);
    }
});
