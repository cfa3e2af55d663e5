//! Frames that hold more, or other, than they say: sealed rightly, by somebody who has the keys.

use holdall::compress::{bound, compress, compress_with_prefix};
use holdall::crypto::{Purpose as KeyPurpose, seal_in_place, seal_session_key};
use holdall::format::envelope::padded_len;
use holdall::format::frame::{Codec, FrameBody, FrameHeader, HEADER_LEN, TAG_LEN};
use holdall::format::pack::{ChunkInfo, FrameInfo};
use holdall::id::{ChunkId, FrameId};
use holdall::limits::{CHUNK_LEN_MAX, FRAME_PLAIN_LEN_MAX};
use holdall::pack::SealedFrame;
use holdall::world::random;

use super::*;

/// A frame of one chunk that says what it likes.
fn forged(repo: &TestRepo, codec: Codec, chunk_lens: Vec<u32>, stored: &[u8]) -> SealedFrame {
    let (repository, kind) = (&repo.repository, ChunkKind::Data);
    let (world, family) = (repository.world(), repository.config().family);
    let (generation, reader) = repository.keys().reader(KeyPurpose::Data).unwrap();
    let associated = FrameHeader::key_associated(&family, generation, kind);
    let session = seal_session_key(world, &reader, &associated);
    let id = FrameId(random(world));
    let mut body = Vec::new();
    let stored_len = stored.len() as u32;
    FrameBody { codec, chunk_lens: chunk_lens.clone(), stored_len }.encode(&mut body);
    body.extend_from_slice(stored);
    body.resize(padded_len(body.len()), 0);
    let body_len = (body.len() + TAG_LEN) as u32;
    let header = FrameHeader { kind, body_len, generation, sealed_key: session.sealed, id };
    let tag = seal_in_place(&session.key, id.as_bytes(), &header.associated(&family), &mut body);
    let bytes = [&header.encode()[..], &body, &tag].concat();
    assert_eq!(bytes.len(), HEADER_LEN + body.len() + TAG_LEN);
    let chunks = chunk_lens.iter().map(|len| ChunkInfo { id: ChunkId(random(world)), len: *len });
    let (stored_len, chunks) = (bytes.len() as u32, chunks.collect());
    SealedFrame { info: FrameInfo { id, offset: 0, stored_len, codec, chunks }, bytes }
}

fn compressed(plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; bound(plain.len())];
    let len = compress(plain, 3, &mut out).unwrap().unwrap();
    out.truncate(len);
    out
}

/// A frame of zstd, by hand: the head, then a block that stands for 128 KiB of one byte, so often.
fn by_hand(head: &[u8], blocks: usize) -> Vec<u8> {
    let mut out = [&[0x28, 0xb5, 0x2f, 0xfd], head].concat();
    for number in 1..=blocks {
        let block = (128u32 << 10) << 3 | 1 << 1 | u32::from(number == blocks);
        out.extend_from_slice(&block.to_le_bytes()[..3]);
        out.push(7);
    }
    out
}

#[test]
fn frames_that_hold_more_than_they_say_are_refused() {
    const LEN: u32 = 1 << 20;
    let repo = TestRepo::memory();
    let zeros = compressed(&vec![0; 64 << 20]);
    // A megabyte in a window of as much, said by the head or not.
    let (window, huge) = ([0x00, 0x50], [0x00, 0xa8]);
    let said = |len: u64| [&[0xe0], &len.to_le_bytes()[..]].concat();
    let open = |codec, lens: Vec<u32>, stored: &[u8]| {
        let mut frame = forged(&repo, codec, lens, stored);
        repo.repository.open_frame(&mut frame.bytes).map(|opened| opened.plain.len())
    };
    let zstd = |stored: &[u8]| open(Codec::Zstd, vec![LEN], stored);
    assert_eq!(zstd(&by_hand(&window, 8)).unwrap(), LEN as usize);
    assert_eq!(zstd(&by_hand(&said(LEN.into()), 8)).unwrap(), LEN as usize);
    for (what, stored) in [
        ("64 MiB", zeros.clone()),
        ("half as much", by_hand(&window, 4)),
        ("one block more", by_hand(&window, 9)),
        ("100,000 blocks", by_hand(&window, 100_000)),
        ("a head that says 2^60", by_hand(&said(1 << 60), 8)),
        ("a head that says less", by_hand(&said(1 << 19), 8)),
        ("two frames", by_hand(&window, 4).repeat(2)),
        ("a frame to be skipped", [&by_hand(&window, 8)[..], b"\x50\x2a\x4d\x18\0\0\0\0"].concat()),
        ("no frame", vec![7; 100]),
        ("nothing", vec![]),
    ] {
        assert!(zstd(&stored).is_err(), "{what}");
    }
    // A window of 4 GiB is never made, since the whole plaintext is at hand.
    let _ = zstd(&by_hand(&huge, 8));
    // What is said is bounded before room is made for it, also where it is true.
    let whole = CHUNK_LEN_MAX as u32;
    let blocks = |len: usize| by_hand(&window, len / (128 << 10));
    let most = blocks(FRAME_PLAIN_LEN_MAX);
    assert_eq!(open(Codec::Zstd, vec![whole; 2], &most).unwrap(), FRAME_PLAIN_LEN_MAX);
    for (lens, stored) in [
        (vec![whole; 3], blocks(3 * CHUNK_LEN_MAX)),
        (vec![2 * whole], most),
        (vec![2; 65_536], blocks(128 << 10)),
        (vec![u32::MAX; 100], zeros),
        (vec![LEN, 0], blocks(LEN as usize)),
    ] {
        assert!(open(Codec::Zstd, lens, &stored).is_err());
    }
    assert!(open(Codec::Raw, vec![LEN], &[7; 100]).is_err());
    let base = FrameId([7; 24]);
    assert!(open(Codec::Delta { base }, vec![LEN], &by_hand(&window, 8)).is_err());
}

#[test]
fn a_bomb_costs_the_file_that_needs_it() {
    let mut hostile = Hostile::new();
    let mut entries = vec![hostile.file(b"good", b"good")];
    for number in 0..50 {
        // So small that it costs nothing to send, and says that it is as large as any may be.
        let blocks = FRAME_PLAIN_LEN_MAX / (128 << 10);
        let stored = by_hand(&[0x00, 0x50], blocks + number % 2);
        let lens = vec![CHUNK_LEN_MAX as u32; 2];
        let frame = forged(&hostile.repo, Codec::Zstd, lens, &stored);
        assert!(frame.bytes.len() < 4096);
        let refs = frame.info.chunks.iter();
        let refs = refs.map(|chunk| Ref::Chunk { id: chunk.id, len: chunk.len.into() }).collect();
        hostile.session.add_frame(frame).unwrap();
        let name = format!("z{number:02}");
        entries.push(file_of(name.as_bytes(), Refs { depth: 0, refs }));
    }
    let record = hostile.commit(&entries);
    let repo = hostile.finish();
    let place = tempfile::tempdir().unwrap();
    let (report, problems) = restored(&repo, &record, &place.path().join("target"));
    assert_eq!((report.damage, report.problems), (50, 0), "{problems:?}");
    let names = std::fs::read_dir(place.path().join("target")).unwrap().count();
    assert_eq!(names, 1);
    let options =
        CheckOptions { read_data: holdall::ops::check::ReadData::All, ..CheckOptions::default() };
    let report = check(&repo.reopen(), &options, &Silent::default()).unwrap();
    assert!(report.touched.len() == 50 && !report.is_whole(), "{report:?}");
}

/// All of them open, and none is what its pack says: a base and a delta with other chunks, and
/// a delta of another name.
#[test]
fn bases_and_deltas_that_are_something_else_are_named() {
    let mut hostile = Hostile::new();
    let plain: [u8; 9_000] = random(hostile.repo.repository.world());
    let (mut like, mut out) = (plain, vec![0; plain.len()]);
    like[7] ^= 1;
    let len = compress_with_prefix(&plain, &like, &mut out).unwrap();
    let lens = || vec![plain.len() as u32];
    let base = forged(&hostile.repo, Codec::Raw, lens(), &plain);
    let codec = Codec::Delta { base: base.info.id };
    let delta = forged(&hostile.repo, codec, lens(), &out[..len]);
    let mut renamed = forged(&hostile.repo, codec, lens(), &out[..len]);
    renamed.info.chunks[0].id = hostile.repo.repository.chunk_id(ChunkKind::Data, &like);
    renamed.info.id = FrameId([7; 24]);
    for frame in [base, delta, renamed] {
        hostile.session.add_frame(frame).unwrap();
    }
    hostile.commit(&[]);
    let options =
        CheckOptions { read_data: holdall::ops::check::ReadData::All, ..CheckOptions::default() };
    let report = check(&hostile.finish().reopen(), &options, &Silent::default()).unwrap();
    let are_frames = report.damaged.iter().all(|object| object.why.contains("the frame at byte"));
    assert!(report.damaged.len() == 3 && are_frames, "{report:?}");
}
