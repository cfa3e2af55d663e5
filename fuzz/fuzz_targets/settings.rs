//! The file of settings: any text gives settings, or a mistake with a place in it.
#![no_main]

use holdall::settings::Settings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let lookup = |name: &str| (name.len() < 3).then(|| name.into());
    if let Err(error) = Settings::parse(bytes, &lookup) {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        assert!((1..=lines).contains(&error.place.line));
        assert!((1..=bytes.len() + 1).contains(&error.place.column));
        assert!(!error.to_string().chars().any(char::is_control));
    }
});
