//! Snapshots, notes, records of forgetting.
#![no_main]

use holdall::format::snapshot::{Forgotten, Note, Snapshot};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(snapshot) = Snapshot::decode(bytes) {
        assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
    }
    if let Ok(Some(note)) = Note::decode(bytes) {
        assert_eq!(Note::decode(&note.encode()), Ok(Some(note)));
    }
    if let Ok(forgotten) = Forgotten::decode(bytes) {
        assert_eq!(Forgotten::decode(&forgotten.encode()), Ok(forgotten));
    }
});
