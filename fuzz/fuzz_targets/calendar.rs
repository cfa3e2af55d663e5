//! Times and spans that people write: what is understood is shown so that it is understood again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdall_fuzz::calendar(bytes));
