//! Snapshots, notes, records of forgetting.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::decode_snapshot(bytes));
