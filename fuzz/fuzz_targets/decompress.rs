//! Compressed bytes as a frame holds them: exactly the stated length comes out, or an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::decompress(bytes));
