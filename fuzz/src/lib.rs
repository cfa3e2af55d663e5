//! What every fuzz target does with its input. An ordinary test runs the same functions on the
//! seeds and on mutations of them, so that they are right and hold wherever tests run.
//!
//! `cargo fuzz run TARGET fuzz/corpus/TARGET fuzz/seeds/TARGET`: what it finds goes into the first
//! directory, which git does not know; an input that found a mistake goes into the second.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use holdall::chunker::Chunker;
use holdall::compress;
use holdall::crypto::{KeyFile, KeyRing, RecoveryCode};
use holdall::format::codec::Take;
use holdall::format::config::{ChunkerParams, Config};
use holdall::format::copies::{copy_key, original_of};
use holdall::format::damage::{Damage, damage_key, damage_of_key};
use holdall::format::envelope::{Header, ObjectType, pad, unpad};
use holdall::format::epoch::{Plan, Sweep, epoch_key, epoch_of_key};
use holdall::format::frame::{FrameBody, FrameHeader};
use holdall::format::pack::{
    Trailer, decode_footer, decode_header, encode_segment, pack_key, pack_of_key,
};
use holdall::format::parity::{ParityHead, decode_mark};
use holdall::format::session::{Session, session_of_key};
use holdall::format::slot::{Slot, SlotAbout};
use holdall::format::snapshot::{Forgotten, Note, Outcome, Snapshot, Wish};
use holdall::format::tree::{ENTRIES_TAG, Refs, decode_entries, name_is_allowed};
use holdall::id::{FamilyId, SnapshotId};
use holdall::ops::retention::{Candidate, GroupBy, Policy, decide, parse_within};
use holdall::pack::{FrameOpener, OpenedFrame, PackError};
use holdall::settings::Settings;
use holdall::source::Pattern;
use holdall::storage::key_is_allowed;
use holdall::target::{Folder, Target, TargetOptions, UndoRecord};
use holdall::text::{escape, parse_size, unescape};
use holdall::world::{SeededWorld, Time};
use holdall::{calendar, limits};
use jiff::tz::TimeZone;

/// The name of a target, and what it does.
pub type Body = (&'static str, fn(&[u8]));

/// All of them.
pub const BODIES: &[Body] = &[
    ("calendar", calendar),
    ("chunker", chunker),
    ("decode_config", decode_config),
    ("decode_damage", decode_damage),
    ("decode_envelope", decode_envelope),
    ("decode_frame", decode_frame),
    ("decode_pack", decode_pack),
    ("decode_parity", decode_parity),
    ("decode_segment", decode_segment),
    ("decode_session", decode_session),
    ("decode_slot", decode_slot),
    ("decode_snapshot", decode_snapshot),
    ("decode_tree", decode_tree),
    ("decode_undo", decode_undo),
    ("decompress", decompress),
    ("open_frame", open_frame),
    ("restore_path", restore_path),
    ("retention", retention),
    ("settings", settings),
    ("text", text),
];

/// Times and spans that people write: what is understood is shown so that it is understood again.
pub fn calendar(bytes: &[u8]) {
    static ZONES: LazyLock<[TimeZone; 2]> =
        LazyLock::new(|| [TimeZone::UTC, TimeZone::get("Pacific/Apia").unwrap_or(TimeZone::UTC)]);
    let Ok(written) = std::str::from_utf8(bytes) else { return };
    for zone in &*ZONES {
        if let Ok(time) = calendar::parse_time(written, zone) {
            let again = calendar::parse_time(&calendar::rfc3339(time, zone), zone);
            assert!(again.is_err() || again == Ok(time));
        }
        if let Ok(within) = parse_within(written) {
            assert_eq!(parse_within(&within.to_string()), Ok(within));
            let now = Time::from_seconds(1_800_000_000);
            assert!(within.before(now, zone) < now);
        }
    }
    let _ = GroupBy::parse(written);
}

/// However a stream arrives, it is cut at the same places, and nothing of it is lost.
pub fn chunker(bytes: &[u8]) {
    let Some(([step, times], seed)) = bytes.split_first_chunk() else { return };
    // As small as the algorithm takes them: what matters is how the parts meet.
    let params = ChunkerParams { min_size: 64, avg_size: 256, max_size: 1024 };
    static CHUNKER: LazyLock<Box<[u64; 256]>> = LazyLock::new(|| {
        let mut number = 1u64;
        Box::new([0u64; 256].map(|_| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            number
        }))
    });
    let chunker = Chunker::new(CHUNKER.clone(), params);
    let stream = seed.repeat(1 + usize::from(*times % 32));
    let mut whole = Vec::new();
    assert_eq!(chunker.cut(&stream, true, |chunk| whole.push(chunk.len())), stream.len());
    let (mut parts, mut held) = (Vec::new(), Vec::new());
    for part in stream.chunks(usize::from(*step) * 8 + 8) {
        held.extend_from_slice(part);
        let done = chunker.cut(&held, false, |chunk| parts.push(chunk.len()));
        held.drain(..done);
    }
    chunker.cut(&held, true, |chunk| parts.push(chunk.len()));
    assert_eq!(whole, parts);
    assert!(whole.iter().all(|len| *len > 0 && *len <= 1024));
}

/// `config`: what decodes encodes to the same fields.
pub fn decode_config(bytes: &[u8]) {
    let Ok((bound, _)) = Config::split(bytes) else { return };
    if let Ok(config) = Config::decode(bound) {
        assert_eq!(Config::decode(&config.encode()), Ok(config));
    }
}

/// Records of damage, and the keys that they and copies lie under.
pub fn decode_damage(bytes: &[u8]) {
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
}

/// Envelopes and padding.
pub fn decode_envelope(bytes: &[u8]) {
    for kind in [ObjectType::Trailer, ObjectType::Snapshot, ObjectType::Plan] {
        if let Ok((header, rest)) = Header::decode(bytes, kind) {
            assert_eq!([&header.encode()[..], rest].concat(), bytes);
        }
    }
    if let Ok(payload) = unpad(bytes) {
        assert_eq!(pad(payload), bytes);
    }
    assert_eq!(unpad(&pad(bytes)), Ok(bytes));
}

/// Headers and bodies of frames.
pub fn decode_frame(bytes: &[u8]) {
    if let Ok((header, rest)) = FrameHeader::decode(bytes) {
        assert_eq!([&header.encode()[..], rest].concat(), bytes);
    }
    if let Ok((body, stored)) = FrameBody::decode(bytes) {
        assert!(body.plain_len() <= limits::FRAME_PLAIN_LEN_MAX);
        let mut again = Vec::new();
        body.encode(&mut again);
        again.extend_from_slice(stored);
        assert!(bytes.starts_with(&again));
    }
}

/// Packs: header, footer, trailer, the scan for frames, and the keys that they lie under.
pub fn decode_pack(bytes: &[u8]) {
    let _ = decode_header(bytes);
    let _ = decode_footer(bytes);
    for (start, len) in holdall::pack::scan_frames(bytes) {
        assert!(len > 0 && start + len <= bytes.len());
    }
    let mut take = Take::new(bytes);
    if let Ok(trailer) = Trailer::decode(&mut take) {
        let mut again = Vec::new();
        trailer.encode(&mut again);
        assert_eq!(again, bytes[..bytes.len() - take.rest().len()]);
    }
    if let Ok(key) = std::str::from_utf8(bytes)
        && let Some(id) = pack_of_key(key)
    {
        assert!(key_is_allowed(key) && pack_key(&id) == key);
    }
}

/// Index segments: what decodes encodes to the same bytes.
pub fn decode_segment(bytes: &[u8]) {
    if let Ok(packs) = holdall::format::pack::decode_segment(bytes) {
        assert_eq!(encode_segment(&packs), bytes);
    }
}

/// Session records, plans and sweep records, and the keys that they lie under.
pub fn decode_session(bytes: &[u8]) {
    if let Ok(session) = Session::decode(bytes) {
        assert_eq!(Session::decode(&session.encode()), Ok(session));
    }
    if let Ok(plan) = Plan::decode(bytes) {
        assert_eq!(Plan::decode(&plan.encode()), Ok(plan));
    }
    if let Ok(sweep) = Sweep::decode(bytes) {
        assert_eq!(Sweep::decode(&sweep.encode()), Ok(sweep));
    }
    if let Ok(key) = std::str::from_utf8(bytes) {
        let _ = session_of_key(key);
        if let Some((number, step)) = epoch_of_key(key) {
            assert_eq!(epoch_key(number, step), key);
        }
    }
}

/// Key slots: what decodes encodes to the same bytes.
pub fn decode_slot(bytes: &[u8]) {
    if let Ok(slot) = Slot::decode(bytes) {
        assert_eq!(Slot::decode(&slot.encode()), Ok(slot));
    }
    if let Ok(about) = SlotAbout::decode(bytes) {
        assert_eq!(SlotAbout::decode(&about.encode()), Ok(about));
    }
    let _ = KeyRing::from_bundle(bytes);
}

/// Snapshots, notes, records of forgetting.
pub fn decode_snapshot(bytes: &[u8]) {
    if let Ok(snapshot) = Snapshot::decode(bytes) {
        assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
    }
    if let Ok(Some(note)) = Note::decode(bytes) {
        assert_eq!(Note::decode(&note.encode()), Ok(Some(note)));
    }
    if let Ok(forgotten) = Forgotten::decode(bytes) {
        assert_eq!(Forgotten::decode(&forgotten.encode()), Ok(forgotten));
    }
}

/// Chunks of entries and of references.
pub fn decode_tree(bytes: &[u8]) {
    if let Ok(entries) = decode_entries(bytes, None) {
        assert!(entries.iter().all(|entry| name_is_allowed(&entry.name)));
        assert!(entries.is_sorted_by(|a, b| a.name < b.name));
        let mut again = vec![ENTRIES_TAG];
        entries.iter().for_each(|entry| entry.encode(&mut again));
        assert_eq!(decode_entries(&again, None), Ok(entries));
    }
    for depth in 0..3 {
        let list = Refs::decode(&mut Take::new(bytes.get(1..).unwrap_or_default()));
        let len = list.map_or(0, |list| list.len());
        if let Ok(refs) = Refs::decode_chunk(bytes, depth, len) {
            assert_eq!(refs.encode_chunk(), bytes);
        }
    }
}

/// Records of the undo journal that a restore keeps in its target.
pub fn decode_undo(bytes: &[u8]) {
    if let Ok(record) = UndoRecord::decode(bytes) {
        assert_eq!(UndoRecord::decode(&record.encode()).as_ref(), Ok(&record));
        let (UndoRecord::Aside { path, .. }
        | UndoRecord::Made { path, .. }
        | UndoRecord::Metadata { path, .. }
        | UndoRecord::Room { path }) = &record;
        assert!(path.is_empty() || path.split(|byte| *byte == b'/').all(name_is_allowed));
    }
}

/// Compressed bytes as a frame holds them: exactly the stated length comes out, or an error.
pub fn decompress(bytes: &[u8]) {
    let Some((len, compressed)) = bytes.split_first_chunk::<2>() else { return };
    let mut plain = vec![0; usize::from(u16::from_le_bytes(*len))];
    if compress::decompress(compressed, &mut plain).is_ok() {
        let mut longer = vec![0; plain.len() + 1];
        assert!(compress::decompress(compressed, &mut longer).is_err());
    }
    let (prefix, delta) = compressed.split_at(compressed.len() / 4);
    let _ = compress::decompress_with_prefix(prefix, delta, &mut plain);
    let mut out = vec![0; compress::bound(compressed.len())];
    let packed = compress::compress(compressed, 1, &mut out).expect("there is room");
    let Some(packed) = packed else { return };
    let mut back = vec![0; compressed.len()];
    compress::decompress(&out[..packed], &mut back).expect("it was just compressed");
    assert_eq!(back, compressed);
}

/// Frames as they come from a storage: nobody guesses a tag.
pub fn open_frame(bytes: &[u8]) {
    static KEYS: LazyLock<KeyRing> =
        LazyLock::new(|| KeyRing::generate(&SeededWorld::new(1, Time::default())));
    let opener = FrameOpener::new(FamilyId([1; 32]));
    let no_base = |id: &_| Err::<OpenedFrame, _>(PackError::NoBase(*id));
    let opened = opener.open(&KEYS, &mut bytes.to_vec(), no_base);
    assert!(opened.is_err(), "nobody guesses a tag");
}

/// Names on the way to a place in a target: only folders that are there are opened, never what is
/// beside the target or behind a link.
pub fn restore_path(bytes: &[u8]) {
    static TARGET: LazyLock<(PathBuf, Arc<Folder>)> = LazyLock::new(|| {
        let top = std::env::temp_dir().join(format!("holdall-fuzz-{}", std::process::id()));
        let root = top.join("target");
        std::fs::create_dir_all(root.join("d/e")).expect("a directory for the target");
        std::fs::create_dir_all(top.join("outside")).expect("a directory beside it");
        for (to, name) in [("../outside", "l"), ("/", "d/l"), (".", "d/e/l")] {
            let _ = std::os::unix::fs::symlink(to, root.join(name));
        }
        let world = SeededWorld::new(1, Time::default());
        let target = Target::open(&root, false, TargetOptions::default(), &world);
        let folder = target.expect("the target opens").root().clone();
        (top, folder)
    });
    let mut folder = TARGET.1.clone();
    for (depth, name) in bytes.split(|byte| *byte == b'/').enumerate() {
        match folder.child(name) {
            Ok(Some(child)) => {
                assert_eq!(Some(name), [&b"d"[..], b"e"].get(depth).copied());
                folder = child;
            }
            Ok(None) => return assert!(name_is_allowed(name)),
            Err(_) => return,
        }
    }
}

/// A policy and snapshots with any times: of every group something stays, pinned ones always do,
/// and the order in which they come does not matter.
pub fn retention(bytes: &[u8]) {
    let Some((counts, rest)) = bytes.split_first_chunk::<8>() else { return };
    let count = |at: usize| Some(u32::from(counts[at]));
    let policy = Policy {
        keep_last: count(0),
        keep_hourly: count(1),
        keep_daily: count(2),
        keep_weekly: count(3),
        keep_monthly: count(4),
        keep_yearly: count(5),
        keep_within: parse_within(&format!("{}d", counts[6])).ok(),
        keep_within_monthly: parse_within(&format!("{}y", counts[7])).ok(),
        ..Policy::default()
    };
    let candidates = rest.as_chunks::<8>().0.iter().take(40).zip(0u8..);
    let mut candidates: Vec<Candidate> = candidates
        .map(|(word, number)| {
            let word = i64::from_le_bytes(*word);
            // All the bits, or a time of these years.
            let seconds = if word & 1 == 0 { word } else { word.rem_euclid(2_000_000_000) };
            Candidate {
                id: SnapshotId([number; 32]),
                time: Time::from_seconds(seconds),
                outcome: if word & 2 == 0 { Outcome::Complete } else { Outcome::Partial },
                tags: Vec::new(),
                pinned: word & 28 == 28,
                expires: (word & 96 == 96).then(|| Time::from_seconds(seconds >> 1)),
                host: if word & 128 == 0 { "a" } else { "b" }.into(),
                paths: Vec::new(),
                job: String::new(),
            }
        })
        .collect();
    let now = Time::from_seconds(1_800_000_000);
    let judge = |candidates: &[Candidate]| {
        decide(&policy, GroupBy::default(), now, &TimeZone::UTC, candidates)
    };
    let Ok(groups) = judge(&candidates) else { return assert!(policy.is_empty()) };
    for group in &groups {
        assert!(group.decisions.iter().any(|decision| decision.verdict.keeps()));
    }
    let decisions = || groups.iter().flat_map(|group| &group.decisions);
    assert_eq!(decisions().count(), candidates.len());
    for decision in decisions().filter(|decision| !decision.verdict.keeps()) {
        assert!(!candidates.iter().any(|c| c.id == decision.id && c.pinned));
    }
    candidates.reverse();
    assert!(judge(&candidates).as_ref() == Ok(&groups));
}

/// The file of settings: any text gives settings, or a mistake with a place in it.
pub fn settings(bytes: &[u8]) {
    let lookup = |name: &str| (name.len() < 3).then(|| name.into());
    if let Err(error) = Settings::parse(bytes, &lookup) {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        assert!((1..=lines).contains(&error.place.line));
        assert!((1..=bytes.len() + 1).contains(&error.place.column));
        assert!(!error.to_string().chars().any(char::is_control));
    }
}

/// Names for a terminal, sizes, patterns, secrets.
pub fn text(bytes: &[u8]) {
    let escaped = escape(bytes);
    assert!(!escaped.chars().any(char::is_control));
    assert_eq!(unescape(&escaped).as_deref(), Ok(bytes));
    if let Ok(pattern) = Pattern::parse(bytes) {
        let _ = pattern.matches(b"/home/user", bytes, false);
        let _ = pattern.matches(b"/", b"name", true);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_size(text);
        let _ = RecoveryCode::from_text(text);
        let _ = KeyFile::from_text(text);
    }
}

/// Parity: marks, heads, wishes.
pub fn decode_parity(bytes: &[u8]) {
    let _ = decode_mark(bytes);
    if let Ok(head) = ParityHead::decode(bytes) {
        assert_eq!(head.hashes.len(), head.data_count() + head.parity_count as usize);
        let again = head.encode();
        assert_eq!(again, bytes[..again.len()]);
    }
    if let Ok(Some(wish)) = Wish::decode(bytes) {
        let again = wish.encode();
        assert_eq!(again, bytes[..again.len()]);
    }
}
