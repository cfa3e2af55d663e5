//! `config`: what decodes encodes to the same fields.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::decode_config(bytes));
