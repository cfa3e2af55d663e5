use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::crypto::{KeyFile, PasswordCost, Secret};
use crate::format::session::Purpose;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, EntryKind, Metadata, Ref, Refs};
use crate::id::ClientId;
use crate::repo::{CreateOptions, Environment, NewSlot, Repository};
use crate::storage::MemoryStorage;
use crate::world::{SeededWorld, Time};

fn repository(cache: &Path) -> Arc<Repository> {
    let world = Arc::new(SeededWorld::new(1, Time::default()));
    let secret = Secret::KeyFile(KeyFile::generate(&*world));
    let slot = NewSlot { secret, cost: PasswordCost::LOWEST, label: String::new() };
    let environment = Environment {
        cache: cache.into(),
        state: cache.join("state"),
        client: ClientId([1; 16]),
        host: "host".into(),
        user: "user".into(),
        process: 1,
        threads: 2,
    };
    let options = CreateOptions::default();
    let storage = Arc::new(MemoryStorage::new());
    let slots = [slot];
    Arc::new(Repository::create(storage, world, environment, &options, &slots, None).unwrap())
}

fn file(name: String) -> Entry {
    let kind = EntryKind::File { content: Refs::default(), unstable: false };
    Entry { name: name.into(), kind, metadata: Metadata::default() }
}

#[test]
fn long_streams_get_lists_of_lists_and_read_back_the_same() {
    let cache = tempfile::tempdir().unwrap();
    let repository = repository(cache.path());
    let mut session = Session::begin(&repository, Purpose::Backup, None).unwrap();
    for count in [0usize, 1, 24, 25, 70, 1500, 400_000] {
        let leaf = |n: usize| match n % 50 {
            7 => Ref::Hole { len: 4096 },
            _ => Ref::Chunk { id: repository.keys().data_id(&n.to_le_bytes()), len: 1 + n as u64 },
        };
        let mut builder = RefsBuilder::default();
        (0..count).for_each(|n| builder.push(leaf(n), &mut session).unwrap());
        let refs = builder.finish(&mut session).unwrap();
        assert!(refs.refs.len() <= 24, "{count}");
        assert_eq!(refs.len(), (0..count).map(|n| leaf(n).len()).sum::<u64>());
        session.flush().unwrap();
        let reader = TreeReader::new(&repository);
        let back: Vec<Ref> = reader.leaves(&refs).map(Result::unwrap).collect();
        assert!(back.into_iter().eq((0..count).map(leaf)), "{count}");
    }
}

#[test]
fn a_change_in_a_long_stream_or_listing_stores_little() {
    let cache = tempfile::tempdir().unwrap();
    let repository = repository(cache.path());
    let mut session = Session::begin(&repository, Purpose::Backup, None).unwrap();
    let build = |session: &mut Session, without: usize| {
        let mut listing = ListingBuilder::default();
        let mut refs = RefsBuilder::default();
        for n in (0..50_000usize).filter(|n| *n != without) {
            let id = repository.keys().data_id(&n.to_le_bytes());
            refs.push(Ref::Chunk { id, len: 9 }, session).unwrap();
            listing.push(&file(format!("file-{n:08}")), session).unwrap();
        }
        (listing.finish(session).unwrap(), refs.finish(session).unwrap())
    };
    let (listing, _) = build(&mut session, usize::MAX);
    let before = session.bytes_new();
    build(&mut session, 25_000);
    let grown = session.bytes_new() - before;
    assert!(grown < before / 20, "{grown} of {before}");
    session.flush().unwrap();
    let reader = TreeReader::new(&repository);
    assert_eq!(reader.entries(&listing).count(), 50_000);
    let path: [&[u8]; 1] = [b"file-00031234"];
    assert_eq!(reader.find(&listing, &path).unwrap(), file("file-00031234".into()));
    assert!(matches!(reader.find(&listing, &[b"file-x"]), Err(TreeError::NoSuchPath)));
    session.commit(Snapshot::default()).unwrap();
}
