//! Records of the undo journal that a restore keeps in its target.
#![no_main]

use holdall::format::tree::name_is_allowed;
use holdall::target::UndoRecord;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = UndoRecord::decode(bytes) {
        assert_eq!(UndoRecord::decode(&record.encode()).as_ref(), Ok(&record));
        let (UndoRecord::Aside { path, .. }
        | UndoRecord::Made { path, .. }
        | UndoRecord::Metadata { path, .. }
        | UndoRecord::Room { path }) = &record;
        assert!(path.is_empty() || path.split(|byte| *byte == b'/').all(name_is_allowed));
    }
});
