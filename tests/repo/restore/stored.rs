//! Trees that no file system would give.

use holdall::format::frame::ChunkKind;
use holdall::format::session::Purpose;
use holdall::format::snapshot::Snapshot;
use holdall::format::tree::{Entry, EntryKind, Metadata, Ref, Refs};
use holdall::repo::Session;
use holdall::tree::{ListingBuilder, RefsBuilder};

use super::*;

struct Stored {
    place: Place,
    session: Session,
}

impl Stored {
    fn new() -> Self {
        let place = Place::new();
        let session = Session::begin(&place.repo.repository, Purpose::Backup, None).unwrap();
        Self { place, session }
    }

    fn chunk(&mut self, bytes: &[u8]) -> Ref {
        let id = self.place.repo.repository.keys().data_id(bytes);
        self.session.add(ChunkKind::Data, id, bytes).unwrap();
        Ref::Chunk { id, len: bytes.len() as u64 }
    }

    fn content(&mut self, refs: impl IntoIterator<Item = Ref>) -> EntryKind {
        let mut builder = RefsBuilder::default();
        refs.into_iter().for_each(|item| builder.push(item, &mut self.session).unwrap());
        let content = builder.finish(&mut self.session).unwrap();
        EntryKind::File { content, unstable: false }
    }

    fn directory(&mut self, entries: &[Entry]) -> EntryKind {
        let mut listing = ListingBuilder::default();
        entries.iter().for_each(|entry| listing.push(entry, &mut self.session).unwrap());
        EntryKind::Directory { listing: listing.finish(&mut self.session).unwrap() }
    }

    fn commit(self, root: EntryKind) -> (Place, SnapshotRecord) {
        let EntryKind::Directory { listing: root } = root else { panic!() };
        let snapshot = Snapshot { root, paths: vec![b"/".to_vec()], ..Snapshot::default() };
        let record = self.session.commit(snapshot).unwrap();
        (self.place, record)
    }
}

fn entry(name: &str, kind: EntryKind) -> Entry {
    let is_directory = matches!(kind, EntryKind::Directory { .. });
    let mode = if is_directory { 0o755 } else { 0o644 };
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let metadata = Metadata { mode, uid, gid, ..Metadata::default() };
    Entry { name: name.into(), kind, metadata }
}

fn options(place: &Place) -> RestoreOptions<'static> {
    RestoreOptions { path: None, ..place.options() }
}

#[test]
fn three_thousand_levels() {
    let mut stored = Stored::new();
    let chunk = stored.chunk(b"at the bottom");
    let mut inner = vec![entry("f", stored.content([chunk]))];
    for level in 0..3_000 {
        let beside = entry("z", stored.content([chunk]));
        let directory = stored.directory(&inner);
        inner = vec![entry("d", directory)];
        if level % 500 == 0 {
            inner.push(beside);
        }
    }
    let root = stored.directory(&inner);
    let (place, record) = stored.commit(root);
    let said = place.restore(&record, options(&place));
    said.assert_whole();
    assert_eq!(said.report.created.directories, 3_000);
    assert_eq!(said.report.created.files, 1 + 6);
    let again = place.restore(&record, RestoreOptions { delete: true, ..options(&place) });
    again.assert_whole();
    assert_eq!(again.report.unchanged, said.report.created);
    // What the usual way of removing a directory cannot do.
    let target = holdall::target::Target::open(
        place.directory.path(),
        false,
        holdall::target::TargetOptions::default(),
        place.repo.repository.world(),
    );
    let removed = target.unwrap().root().remove_tree(b"target", &mut |error| panic!("{error}"));
    assert_eq!(removed.unwrap(), 3_000 + 7 + 1);
}

#[test]
fn many_chunks_of_one_file_and_one_chunk_of_many_files() {
    let mut stored = Stored::new();
    let chunks: Vec<Ref> = (0..40u64).map(|n| stored.chunk(&noise(n, 3000))).collect();
    // 20,000 references with holes between them: lists of lists.
    let many = (0..20_000usize).map(|n| match n % 50 {
        7 => Ref::Hole { len: 8192 },
        _ => chunks[n * 7 % 40],
    });
    let many: Vec<Ref> = many.collect();
    let mut entries = vec![entry("large", stored.content(many.clone()))];
    for number in 0..200 {
        let name = format!("small-{number:03}");
        entries.push(entry(&name, stored.content([chunks[number % 3], chunks[5]])));
    }
    let root = stored.directory(&entries);
    let (place, record) = stored.commit(root);
    for ahead in [Ahead::default(), Ahead { chunks: 333, files: 10 }] {
        let _ = fs::remove_dir_all(place.target(""));
        let options = || RestoreOptions { ahead, verify: true, ..options(&place) };
        let said = place.restore_foretold(&record, options);
        said.assert_whole();
        assert_eq!(said.report.verified, 201);
        let mut expected = Vec::new();
        for item in &many {
            match item {
                Ref::Hole { len } => expected.resize(expected.len() + *len as usize, 0),
                chunk => {
                    let number = chunks.iter().position(|other| other == chunk).unwrap();
                    expected.extend_from_slice(&noise(number as u64, 3000));
                }
            }
        }
        assert!(fs::read(place.target("large")).unwrap() == expected);
        let small = [noise(1, 3000), noise(5, 3000)].concat();
        assert!(fs::read(place.target("small-199")).unwrap() == small);
    }
}

#[test]
fn lies_about_lengths_cost_the_file_and_nothing_else() {
    let mut stored = Stored::new();
    let Ref::Chunk { id, .. } = stored.chunk(b"eight by") else { panic!() };
    let good = Ref::Chunk { id, len: 8 };
    let lies = [
        vec![Ref::Chunk { id, len: 9 }],
        vec![good, Ref::Chunk { id, len: 7 }],
        vec![Ref::Chunk { id, len: 1 << 40 }],
        vec![good, Ref::Chunk { id, len: u64::from(u32::MAX) + 9 }],
        vec![Ref::Chunk { id: holdall::id::ChunkId([7; 32]), len: 8 }],
    ];
    let mut entries = Vec::new();
    for (number, refs) in lies.into_iter().enumerate() {
        let content = Refs { depth: 0, refs };
        let kind = EntryKind::File { content, unstable: false };
        entries.push(entry(&format!("lie-{number}"), kind));
    }
    // A list chunk that says another length than is said of it.
    let list = Refs { depth: 0, refs: vec![good] }.encode_chunk();
    let list_id = stored.place.repo.repository.keys().tree_id(&list);
    stored.session.add(ChunkKind::Tree, list_id, &list).unwrap();
    for (name, len) in [("list-bad", 9), ("list-good", 8)] {
        let content = Refs { depth: 1, refs: vec![Ref::Chunk { id: list_id, len }] };
        entries.push(entry(name, EntryKind::File { content, unstable: false }));
    }
    entries.push(entry("true", stored.content([good, good])));
    let root = stored.directory(&entries);
    let (place, record) = stored.commit(root);
    let said = place.restore(&record, options(&place));
    assert_eq!((said.report.damage, said.report.problems), (6, 0));
    let names: Vec<_> = tree(&place.target("")).into_keys().collect();
    assert_eq!(names, [b"list-good".to_vec(), b"true".to_vec()]);
    assert_eq!(fs::read(place.target("true")).unwrap(), b"eight byeight by");
}

#[test]
fn a_group_of_links_that_is_none_does_no_harm() {
    let mut stored = Stored::new();
    let chunk = stored.chunk(b"content");
    let linked = |name: &str, kind: EntryKind| {
        let mut entry = entry(name, kind);
        entry.metadata = Metadata { links: 2, device: 1, inode: 1, ..entry.metadata };
        entry
    };
    let hole = stored.content([Ref::Hole { len: 1 << 61 }]);
    let entries = [
        linked("a", hole),
        linked("b", stored.content([chunk])),
        linked("c", EntryKind::Fifo),
        linked("d", EntryKind::Symlink { target: b"x".to_vec() }),
    ];
    let root = stored.directory(&entries);
    let (place, record) = stored.commit(root);
    // The first cannot be made: the file system has no such length.
    let said = place.restore(&record, options(&place));
    assert_eq!(said.report.problems, 2, "{:?}", said.problems);
    assert_eq!(tree(&place.target("")).len(), 2);
}

#[test]
fn a_damaged_listing_costs_what_it_lists_and_nothing_is_removed_there() {
    let mut stored = Stored::new();
    let chunk = stored.chunk(b"content");
    let files = [entry("a", stored.content([chunk])), entry("b", stored.content([chunk]))];
    let EntryKind::Directory { listing: mut damaged } = stored.directory(&files) else { panic!() };
    damaged.refs.push(Ref::Chunk { id: holdall::id::ChunkId([7; 32]), len: 50 });
    let whole = stored.directory(&files);
    let entries =
        [entry("damaged", EntryKind::Directory { listing: damaged }), entry("whole", whole)];
    let root = stored.directory(&entries);
    let (place, record) = stored.commit(root);
    for name in ["damaged/c", "whole/c", "c"] {
        fs::create_dir_all(place.target(name).parent().unwrap()).unwrap();
        fs::write(place.target(name), "mine").unwrap();
    }
    let delete = || RestoreOptions { delete: true, ..options(&place) };
    let said = place.restore_foretold(&record, delete);
    assert_eq!((said.report.damage, said.report.problems), (1, 0));
    assert_eq!(said.problems[0].what, b"damaged");
    assert_eq!(said.paths(Action::Deleted), ["c", "whole/c"]);
    assert_eq!(said.paths(Action::Created), ["damaged/a", "damaged/b", "whole/a", "whole/b"]);
    assert_eq!(fs::read(place.target("damaged/c")).unwrap(), b"mine");
}

#[test]
fn an_index_that_errs_gives_no_wrong_bytes() {
    let mut stored = Stored::new();
    let chunk = stored.chunk(b"content");
    let wrong = holdall::id::ChunkId([9; 32]);
    let content = Refs { depth: 0, refs: vec![Ref::Chunk { id: wrong, len: 7 }] };
    let entries = [
        entry("right", stored.content([chunk])),
        entry("wrong", EntryKind::File { content, unstable: false }),
    ];
    let root = stored.directory(&entries);
    let (place, record) = stored.commit(root);
    let repository = &place.repo.repository;
    let Ref::Chunk { id, .. } = chunk else { panic!() };
    let locations = repository.with_index(|index| index.locations(&id)).unwrap().unwrap();
    let pack = locations[0].pack.id;
    let trailer = holdall::pack::read_trailer(&*place.repo.storage, repository.sealer(), &pack);
    let mut lie = trailer.unwrap();
    lie.trailer.frames[0].chunks[0].id = wrong;
    repository.with_index_mut(|index| index.learn(&[lie])).unwrap();
    let said = place.restore(&record, options(&place));
    assert_eq!((said.report.damage, said.report.problems), (1, 0));
    assert_eq!(fs::read(place.target("right")).unwrap(), b"content");
    assert!(!place.target("wrong").exists());
}
