//! The golden repositories as this crate reads them.

use holdall::ops::check::{CheckOptions, ReadData, check};
use holdall::ops::content::{ContentReader, Piece};
use holdall::progress::Silent;

use super::*;

fn entries(reader: &ContentReader, path: &[u8], listing: &Refs, said: &mut Vec<Value>) {
    for entry in reader.trees().entries(listing) {
        let entry = entry.unwrap();
        let path = [path, b"/", &entry.name].concat();
        let mut one = describe(&path, &entry.metadata);
        match &entry.kind {
            EntryKind::File { content, unstable } => {
                let mut parts = Vec::new();
                let mut add = |piece| {
                    parts.push(match piece {
                        Piece::Hole(len) => Part::Hole(len),
                        Piece::Chunk(chunk) => Part::Bytes(chunk.bytes().to_vec()),
                        Piece::Lost { .. } => panic!("{name}: content is lost", name = hex(&path)),
                    });
                    Ok(())
                };
                reader.read(content, &path, &mut add).unwrap();
                one["kind"] = "file".into();
                one["size"] = content.len().into();
                one["unstable"] = (*unstable).into();
                one["blake3"] = hash(&parts).into();
                one["holes"] = holes(&parts);
                said.push(one);
            }
            EntryKind::Directory { listing } => {
                one["kind"] = "directory".into();
                said.push(one);
                entries(reader, &path, listing, said);
            }
            other => {
                say_kind(&mut one, other);
                said.push(one);
            }
        }
    }
}

#[test]
fn golden_repositories_are_read_as_their_manifests_say() {
    for name in names() {
        let (manifest, path) = committed(name);
        for secret in secrets()
            .iter()
            .filter(|s| manifest["secrets"].as_array().unwrap().contains(&secret_text(s)))
        {
            let cache = tempfile::tempdir().unwrap();
            let environment = Environment {
                cache: cache.path().into(),
                state: cache.path().join("state"),
                client: ClientId([9; 16]),
                host: "reader".into(),
                user: "somebody".into(),
                process: 1,
                threads: 1,
            };
            let storage = Arc::new(LocalStorage::open(&path).unwrap());
            let world = Arc::new(SeededWorld::new(1, Time::default()));
            let secrets = std::slice::from_ref(secret);
            let repository = Repository::open(storage, world, environment, secrets).unwrap();
            let repository = Arc::new(repository);
            let reader = ContentReader::new(&repository);
            let mut found = Vec::new();
            for record in repository.snapshots(&Silent::default()).unwrap() {
                let mut said = Vec::new();
                entries(&reader, b"", &record.snapshot.root, &mut said);
                found.push(said_of(&record, said));
            }
            assert!(manifest["snapshots"] == Value::from(found), "{name} by {secret:?}");
            let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
            let report = check(&repository, &options, &Silent::default()).unwrap();
            assert!(report.is_whole(), "{name}: {report:?}");
        }
    }
}
