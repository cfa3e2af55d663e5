//! Index segments: what decodes encodes to the same bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::decode_segment(bytes));
