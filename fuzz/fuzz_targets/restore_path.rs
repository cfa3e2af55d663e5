//! Names on the way to a place in a target: only folders that are there are opened, never what is
//! beside the target or behind a link.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::restore_path(bytes));
