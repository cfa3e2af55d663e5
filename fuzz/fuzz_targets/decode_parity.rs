//! Parity: marks, heads, wishes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::decode_parity(bytes));
