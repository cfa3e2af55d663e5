//! What holds keys does not print them.

use std::sync::Arc;

use holdall::crypto::{KeyRing, Purpose, seal_session_key};
use holdall::format::frame::ChunkKind;
use holdall::pack::FrameSealer;

use crate::support::repository::TestRepo;
use crate::support::snapshots::{commit_tree, files};

#[test]
fn nothing_that_holds_keys_prints_them() {
    let repo = TestRepo::memory();
    let (repository, world) = (&repo.repository, &*repo.world);
    commit_tree(repository, &files(1, 3, 2_000)).unwrap();
    let rotated = Arc::new(repository.rotate().unwrap().repository);
    repository.open_frame(&mut []).unwrap_err();
    let keys: &KeyRing = rotated.keys();
    let (_, reader) = keys.reader(Purpose::Data).unwrap();
    let printed = [
        format!("{repository:?} {rotated:?} {:?} {:?}", repo.secret, rotated.sealer()),
        format!("{keys:?} {:#?} {:?}", keys, keys.newest(Purpose::Config)),
        format!("{:?}", FrameSealer::new(world, keys, rotated.config().family)),
        format!("{:?}", seal_session_key(world, &reader, &[ChunkKind::Data as u8])),
        format!(
            "{:?}",
            holdall::repo::Session::begin(
                &rotated,
                holdall::format::session::Purpose::Backup,
                None
            )
        ),
    ]
    .concat();
    assert!(printed.contains("Key(secret)") && printed.contains("Secret(key file)"));
    let bundle = keys.to_bundle();
    for entry in bundle.chunks_exact(37).filter(|entry| entry[0] <= 8) {
        let part = &entry[5..11];
        let decimal = part.iter().map(u8::to_string).collect::<Vec<_>>();
        let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
        for shown in [decimal.join(", "), decimal.join(",\n"), hex] {
            assert!(!printed.contains(&shown), "{shown} of the key for {}", entry[0]);
        }
    }
}
