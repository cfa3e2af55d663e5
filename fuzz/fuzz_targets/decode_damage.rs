//! Records of damage, and the keys that they lie under.
#![no_main]

use holdall::format::copies::{copy_key, original_of};
use holdall::format::damage::{Damage, damage_key, damage_of_key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(damage) = Damage::decode(bytes) {
        assert_eq!(Damage::decode(&damage.encode()), Ok(damage));
    }
    if let Ok(key) = std::str::from_utf8(bytes) {
        if let Some(id) = damage_of_key(key) {
            assert_eq!(damage_key(&id), key);
        }
        if let Some(original) = original_of(key) {
            assert_eq!(copy_key(original), key);
        }
    }
});
