//! The file of settings: any text gives settings, or a mistake with a place in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::settings(bytes));
