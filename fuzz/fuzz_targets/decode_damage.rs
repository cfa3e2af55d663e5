//! Records of damage, and the keys that they and copies lie under.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::decode_damage(bytes));
