//! Frames as they come from a storage: nobody guesses a tag.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::open_frame(bytes));
