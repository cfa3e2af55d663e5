//! A policy and snapshots with any times: of every group something stays, pinned ones always do,
//! and the order in which they come does not matter.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::retention(bytes));
