//! Names for a terminal, sizes, times, patterns, retention spans.
#![no_main]

use holdall::ops::retention::parse_within;
use holdall::source::Pattern;
use holdall::text::{escape, parse_size, unescape};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let escaped = escape(bytes);
    assert!(!escaped.chars().any(char::is_control));
    assert_eq!(unescape(&escaped).as_deref(), Ok(bytes));
    if let Ok(pattern) = Pattern::parse(bytes) {
        let _ = pattern.matches(b"/home/user", bytes, false);
        let _ = pattern.matches(b"/", b"name", true);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_size(text);
        let _ = parse_within(text);
        let _ = holdall::crypto::RecoveryCode::from_text(text);
        let _ = holdall::crypto::KeyFile::from_text(text);
    }
});
