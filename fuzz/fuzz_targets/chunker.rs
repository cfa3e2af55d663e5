//! However a stream arrives, it is cut at the same places, and nothing of it is lost.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::chunker(bytes));
