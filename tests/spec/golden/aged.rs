//! What a repository may be after years, and with other writers than this one.

use std::collections::BTreeSet;

use holdall::crypto::{KeyRing, seal_to_slot};
use holdall::format::epoch::{EpochStep, Plan, Sweep};
use holdall::format::frame::{ChunkKind, Codec};
use holdall::format::pack::{ChunkInfo, FrameInfo, pack_key};
use holdall::format::slot::{Slot, SlotAbout, slot_key};
use holdall::format::tree::ENTRIES_TAG;
use holdall::id::{FrameId, PackId, SlotId};
use holdall::index::{list_segments, segment_key};
use holdall::pack::{FrameSealer, PlainFrame, SealedFrame, read_frame, read_trailer};
use holdall::tree::TreeReader;
use holdall::world::random;

use super::*;
use crate::by_hand::{self, Keys, frame_body, with_padding};
use crate::groups::compressed;

/// Lists of `fan` references each, one above the other, until one list holds them all. A hole
/// that would be alone in its list stands for itself above.
pub fn lists(session: &mut Session, mut refs: Vec<Ref>, fan: usize) -> Refs {
    let mut depth = 0;
    while refs.len() > fan {
        let mut above = Vec::new();
        for part in refs.chunks(fan) {
            let list = Refs { depth, refs: part.to_vec() };
            above.push(match part {
                [Ref::Hole { len }] => Ref::Hole { len: *len },
                _ => {
                    let id = session.add_tree(&list.encode_chunk()).unwrap();
                    Ref::Chunk { id, len: list.len() }
                }
            });
        }
        (refs, depth) = (above, depth + 1);
    }
    Refs { depth, refs }
}

/// A listing in chunks of at most `fan` entries.
pub fn listing(session: &mut Session, entries: &[Entry], fan: usize) -> Refs {
    let mut leaves = Vec::new();
    for part in entries.chunks(fan) {
        let mut chunk = vec![ENTRIES_TAG];
        part.iter().for_each(|entry| entry.encode(&mut chunk));
        let id = session.add_tree(&chunk).unwrap();
        leaves.push(Ref::Chunk { id, len: chunk.len() as u64 });
    }
    lists(session, leaves, fan)
}

fn snapshot(day: i64) -> Snapshot {
    Snapshot {
        time: Time::from_seconds(1_780_000_000 + day * 86_400),
        host: "golden".into(),
        paths: vec![b"/".to_vec()],
        ..Snapshot::default()
    }
}

pub fn deep(maker: &mut Maker) {
    maker.fan = 3;
    let mut parts: Vec<Part> = (0..42).map(|n| Part::Bytes(bytes(n, 300))).collect();
    // Alone in the last list of its level, and of the level above: it rises twice.
    parts.insert(20, Part::Hole(5000));
    parts.push(Part::Hole(70_000));
    let many = (0..40).map(|n| (format!("entry-{n:02}").into_bytes(), text("same", n))).collect();
    let mut nested = folder([(b"bottom", text("far down", 1))]);
    for _ in 0..40 {
        nested = folder([(b"d", nested)]);
    }
    let tree = tree([
        (b"long", file(parts, 1)),
        (b"many", (Node::Directory(many), meta(0))),
        (b"nested", nested),
    ]);
    let record = maker.commit(&tree, snapshot(0), true);
    let trees = TreeReader::new(&maker.repository);
    let kind = |name: &[u8]| trees.find(&record.snapshot.root, &[name]).unwrap().kind;
    let EntryKind::File { content, .. } = kind(b"long") else { panic!("no file") };
    let EntryKind::Directory { listing } = kind(b"many") else { panic!("no directory") };
    assert_eq!((content.depth, listing.depth), (3, 2));
}

fn packs(maker: &Maker) -> BTreeSet<PackId> {
    maker.repository.list_packs().unwrap().into_iter().map(|(id, _)| id).collect()
}

/// Does something in a session that has no snapshot; returns the one pack that came of it.
fn repack(maker: &Maker, work: impl FnOnce(&mut Session)) -> PackId {
    let before = packs(maker);
    let mut session = Session::begin(&maker.repository, Purpose::Repack, None).unwrap();
    work(&mut session);
    session.abort().unwrap();
    let new: Vec<PackId> = packs(maker).difference(&before).copied().collect();
    let [pack] = new[..] else { panic!("{} packs", new.len()) };
    pack
}

fn frames_of(maker: &Maker, pack: &PackId) -> Vec<SealedFrame> {
    let storage = maker.repository.storage();
    let trailer = read_trailer(storage, maker.repository.sealer(), pack).unwrap().trailer;
    let read = |info: FrameInfo| {
        let bytes = read_frame(storage, pack, info.offset, info.stored_len).unwrap();
        SealedFrame { bytes, info }
    };
    trailer.frames.into_iter().map(read).collect()
}

/// The same frames in a pack of another name.
fn copied(maker: &Maker, pack: &PackId) -> PackId {
    let frames = frames_of(maker, pack);
    repack(maker, |session| frames.into_iter().for_each(|f| session.add_frame(f).unwrap()))
}

pub fn epochs(maker: &mut Maker) {
    let (one, two) = (bytes(31, 4000), bytes(32, 3000));
    let both = |more: Option<&[u8]>| {
        let content = |bytes: &[u8], seed| file(vec![Part::Bytes(bytes.to_vec())], seed);
        let mut tree = tree([(b"one", content(&one, 1)), (b"two", content(&two, 2))]);
        tree.extend(more.map(|bytes| (b"three".to_vec(), content(bytes, 3))));
        tree
    };
    let first = maker.commit(&both(None), snapshot(0), true);
    let storage = maker.repository.storage();
    let is_data = |pack: &&PackId| {
        let info = read_trailer(storage, maker.repository.sealer(), pack).unwrap();
        info.trailer.kind == ChunkKind::Data
    };
    let original = *packs(maker).iter().find(is_data).unwrap();
    let put = |number, step, payload: &[u8]| {
        assert!(maker.repository.put_epoch(number, step, payload).unwrap());
    };
    let plan = |mut condemned: Vec<PackId>| {
        condemned.sort();
        Plan { condemned, marked: vec![first.id] }.encode()
    };
    // One epoch has ended. A segment that came late speaks of the pack that it deleted.
    let copy = copied(maker, &original);
    put(1, EpochStep::Plan, &plan(vec![original]));
    put(1, EpochStep::Sweep, &Sweep::default().encode());
    storage.delete(&pack_key(&original)).unwrap();
    put(1, EpochStep::Done, &[]);
    // One is open: of two packs that it condemns, one is rescued, the other not yet deleted. The
    // same frames lie in a third pack; the rescued one has a chunk once more in another frame.
    copied(maker, &copy);
    let rescued = repack(maker, |session| {
        let id = maker.repository.keys().data_id(&two);
        session.add_copy(ChunkKind::Data, id, &two).unwrap();
    });
    put(2, EpochStep::Plan, &plan(vec![copy, rescued]));
    put(2, EpochStep::Sweep, &Sweep { rescued: vec![rescued] }.encode());
    // What was written under it lost its segments.
    let before = list_segments(storage).unwrap();
    let (repository, three) = (maker.repository.clone(), bytes(33, 2000));
    let second = maker.commit(&both(Some(&three)), snapshot(1), true);
    assert_eq!(second.snapshot.epoch, 2);
    for segment in list_segments(repository.storage()).unwrap().difference(&before) {
        repository.storage().delete(&segment_key(segment)).unwrap();
    }
}

/// The rotation of the one slot was interrupted before its old object was deleted. Under the new
/// keys another snapshot was taken, of which most was stored under the old ones.
pub fn rotated(maker: &mut Maker, storage: Arc<dyn Storage>, secret: &Secret) {
    let unchanged = file(vec![Part::Bytes(bytes(41, 4000))], 1);
    let before = tree([(b"unchanged", unchanged)]);
    maker.commit(&before, snapshot(0), true);

    let mut key = None;
    storage.list("keys/", &mut |listed| key = Some(listed.key)).unwrap();
    let mut slot = Slot::decode(&storage.get(&key.unwrap(), u64::MAX).unwrap()).unwrap();
    let world = maker.world.clone();
    let mut bundle = Vec::new();
    for entry in maker.repository.keys().to_bundle().chunks_exact(37) {
        bundle.extend_from_slice(entry);
        if (3..=7).contains(&entry[0]) {
            let fresh: [u8; 32] = random(&*world);
            bundle.extend([&[entry[0], 1, 0, 0, 0][..], &fresh].concat());
        }
    }
    bundle.extend([&[9, 1, 0, 0, 0][..], &[0; 32]].concat());
    let keys = KeyRing::from_bundle(&bundle).unwrap();
    let about = keys.open_about(&slot.encode_bound(), &slot.about).unwrap();
    let about = SlotAbout { keys: keys.names(), ..SlotAbout::decode(&about).unwrap() }.encode();
    slot.bundle = seal_to_slot(&*world, &slot.public, &slot.encode_head(), &bundle);
    slot.about = keys.seal_about(&*world, &slot.encode_bound(), &about).unwrap();
    storage.put(&slot_key(&SlotId(random(&*world))), &[&slot.encode()]).unwrap();

    let environment = maker.repository.environment().clone();
    let secrets = std::slice::from_ref(secret);
    let opened = Repository::open(storage, world, environment, secrets).unwrap();
    assert_eq!(opened.keys().key_count(), 13);
    maker.repository = Arc::new(opened);
    let mut after = before;
    after.insert(b"new".to_vec(), file(vec![Part::Bytes(bytes(42, 3000))], 2));
    maker.commit(&after, snapshot(1), true);
}

pub fn deltas(maker: &mut Maker) {
    let old = bytes(51, 4500);
    let new = [&old[..2000], b"a row that was changed", &old[2100..]].concat();
    let (keys, world) = (maker.repository.keys().clone(), maker.world.clone());
    let chunk = |plain: &[u8]| ChunkInfo { id: keys.data_id(plain), len: plain.len() as u32 };
    let family = maker.repository.config().family;
    let sealer = FrameSealer::new(&*world, &keys, family).unwrap();
    let id = FrameId(random(&*world));
    let (kind, chunks) = (ChunkKind::Data, vec![chunk(&old)]);
    let base = PlainFrame { kind, id, plain: old.clone(), chunks };
    let base = sealer.seal(&base, 0).unwrap();
    let first = repack(maker, |session| session.add_frame(base).unwrap());

    let entry = |e: &[u8]| (e[0], u32::from(e[1]), e[5..].try_into().unwrap());
    let by_hand = by_hand::Frame {
        kind: 1,
        reserved: 0,
        generation: 0,
        family: family.0,
        session_key: random(&*world),
        e: random(&*world),
        id: random(&*world),
        body: with_padding(frame_body(
            &[&[2][..], id.as_bytes()].concat(),
            &[new.len()],
            &compressed(&new, Some(&old)),
        )),
    };
    let sealed = by_hand.bytes(&Keys(keys.to_bundle().chunks_exact(37).map(entry).collect()));
    assert!(sealed.len() < 1000, "{} bytes are no delta", sealed.len());
    let info = FrameInfo {
        id: FrameId(by_hand.id),
        offset: 0,
        stored_len: sealed.len() as u32,
        codec: Codec::Delta { base: id },
        chunks: vec![chunk(&new)],
    };
    let delta = SealedFrame { bytes: sealed, info };
    repack(maker, |session| session.add_frame(delta).unwrap());
    copied(maker, &first);
    let whole = |bytes: Vec<u8>, seed| file(vec![Part::Bytes(bytes)], seed);
    maker.commit(&tree([(b"new", whole(new, 2)), (b"old", whole(old, 1))]), snapshot(0), true);
    assert_eq!(maker.repository.list_packs().unwrap().len(), 4, "three with data, one with trees");
}
