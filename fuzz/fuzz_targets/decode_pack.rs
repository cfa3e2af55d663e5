//! Packs: header, footer, trailer, the scan for frames, and the keys that they lie under.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::decode_pack(bytes));
