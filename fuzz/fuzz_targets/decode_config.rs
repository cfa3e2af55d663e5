//! `config`: what decodes encodes to the same fields.
#![no_main]

use holdall::format::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok((bound, _)) = Config::split(bytes) else { return };
    if let Ok(config) = Config::decode(bound) {
        assert_eq!(Config::decode(&config.encode()), Ok(config));
    }
});
