//! Headers and bodies of frames.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::decode_frame(bytes));
