//! Chunks of entries and of references.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::decode_tree(bytes));
