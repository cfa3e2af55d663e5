//! Records of the undo journal that a restore keeps in its target.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::decode_undo(bytes));
