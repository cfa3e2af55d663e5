//! Key slots: what decodes encodes to the same bytes.
#![no_main]

use holdall::format::slot::{Slot, SlotAbout};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(slot) = Slot::decode(bytes) {
        assert_eq!(Slot::decode(&slot.encode()), Ok(slot));
    }
    if let Ok(about) = SlotAbout::decode(bytes) {
        assert_eq!(SlotAbout::decode(&about.encode()), Ok(about));
    }
});
