//! Index segments: what decodes encodes to the same bytes.
#![no_main]

use holdall::format::pack::{decode_segment, encode_segment};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(packs) = decode_segment(bytes) {
        assert_eq!(encode_segment(&packs), bytes);
    }
});
