//! Frames as they come from a storage: opened or refused, never more memory than they may take.
#![no_main]

use std::sync::LazyLock;

use holdall::crypto::KeyRing;
use holdall::id::FamilyId;
use holdall::pack::{FrameOpener, PackError};
use holdall::world::{SeededWorld, Time};
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<KeyRing> =
    LazyLock::new(|| KeyRing::generate(&SeededWorld::new(1, Time::default())));

fuzz_target!(|bytes: &[u8]| {
    let opener = FrameOpener::new(FamilyId([1; 32]));
    let opened = opener.open(&KEYS, bytes.to_vec(), |id| Err(PackError::NoBase(*id)));
    assert!(opened.is_err(), "nobody guesses a tag");
});
