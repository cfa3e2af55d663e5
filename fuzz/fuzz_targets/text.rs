//! Names for a terminal, sizes, patterns, secrets.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::text(bytes));
