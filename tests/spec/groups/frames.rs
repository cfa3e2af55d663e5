//! Frames.

use std::collections::BTreeMap;

use holdall::format::frame::{ChunkKind, Codec, FrameHeader};
use holdall::id::{FamilyId, FrameId};
use holdall::pack::{FrameOpener, OpenedFrame, PackError};
use serde_json::{Value, json};
use zstd_safe::{CCtx, CParameter};

use super::{FAMILY, keys, ring, some};
use crate::by_hand::{Frame, Keys, frame_body, varint, with_padding};
use crate::cases::{Group, Outcome, array, fails, file, gives, hex, unhex};

pub const GROUP: Group = Group {
    file: "frames",
    about: "frames: frame, to be opened with bundle in family; bases are the decoded chunks of \
            other frames of its kind by frame id, base_frames the stored bytes of what lies where \
            the index says that the frame with that id is; the result is its kind, its id, and its chunks. Where \
            compressed names a field, another compressor makes other bytes of it.",
    make,
    run,
};

/// One zstd frame without content size and checksum, with a prefix or without.
pub fn compressed(plain: &[u8], prefix: Option<&[u8]>) -> Vec<u8> {
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(3),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::WindowLog(20),
    ] {
        context.set_parameter(parameter).unwrap();
    }
    if let Some(prefix) = prefix {
        context.ref_prefix(prefix).unwrap();
    }
    let mut out = vec![0; zstd_safe::compress_bound(plain.len())];
    let len = context.compress2(&mut out[..], plain).unwrap();
    out.truncate(len);
    out
}

pub fn frame(kind: u8, generation: u32, number: u64, body: Vec<u8>) -> Frame {
    Frame {
        kind,
        reserved: 0,
        generation,
        family: FAMILY,
        session_key: some(400 + u64::from(kind)),
        e: some(410 + u64::from(kind)),
        id: some(420 + number),
        body,
    }
}

fn make() -> Value {
    let keys = keys();
    let text = b"the same again and again, ".repeat(60);
    let changed = [&text[..900], b"but not here", &text[900..]].concat();
    let base = some::<24>(499);
    let result = |frame: &Frame, chunks: &[&[u8]]| {
        let chunks: Vec<String> = chunks.iter().map(hex).collect();
        json!({ "kind": frame.kind, "id": hex(frame.id), "chunks": chunks })
    };
    let input = |bytes: &[u8]| json!({ "frame": hex(bytes), "family": hex(FAMILY), "bases": {}, "base_frames": {} });
    let raw = frame(1, 0, 1, with_padding(frame_body(&[0], &[3, 5], b"abcdefgh")));
    let bytes = raw.bytes(&keys);
    let small = |name: &str, frame: Frame, chunks: &[&[u8]]| {
        gives(name, input(&frame.bytes(&keys)), result(&frame, chunks))
    };
    let zstd = frame(
        2,
        1,
        2,
        with_padding(frame_body(&[1], &[10, text.len() - 10], &compressed(&text, None))),
    );
    let mut zstd_case = small("zstd, tree, generation 1", zstd, &[&text[..10], &text[10..]]);
    zstd_case["compressed"] = json!(["frame"]);
    let codec = [&[2][..], &base].concat();
    let delta_body = frame_body(&codec, &[changed.len()], &compressed(&changed, Some(&text)));
    let delta = frame(1, 1, 3, with_padding(delta_body));
    let mut delta_case = small("delta", delta, &[&changed]);
    delta_case["compressed"] = json!(["frame"]);
    delta_case["bases"] = json!({ hex(base): hex(&text) });
    let padded = |body: Vec<u8>| frame(1, 0, 1, with_padding(body));
    // 8 bytes before the stored ones: the frame's plaintext is full.
    let full = padded(frame_body(&[0], &[248], &[7; 248]));
    assert_eq!(full.body.len(), 256);

    let mut cases = vec![
        small("raw, data, two chunks", raw.clone(), &[b"abc", b"defgh"]),
        zstd_case,
        delta_case,
        small("no padding needed", full, &[&[7; 248]]),
        small("no chunks", padded(frame_body(&[0], &[], b"")), &[]),
    ];
    let mut refuse =
        |name: &str, class: &str, bytes: &[u8]| cases.push(fails(name, class, input(bytes)));
    let flipped = |at: usize, bit: u8| {
        let mut bytes = bytes.clone();
        bytes[at] ^= bit;
        bytes
    };
    refuse("magic", "magic", &flipped(0, 1));
    refuse("kind changed to tree", "tag", &flipped(4, 3));
    refuse("a kind that is not known", "bad", &flipped(4, 8));
    refuse("reserved byte", "bad", &flipped(5, 1));
    refuse("body length changed", "bad", &flipped(8, 1));
    refuse("body length over the limit", "too-large", &flipped(11, 0x40));
    refuse("generation changed", "tag", &flipped(12, 1));
    refuse("generation that is not there", "no-key", &flipped(12, 8));
    refuse("sealed key changed", "tag", &flipped(60, 1));
    refuse("id changed", "tag", &flipped(100, 1));
    refuse("ciphertext changed", "tag", &flipped(130, 1));
    refuse("tag changed", "tag", &flipped(bytes.len() - 1, 1));
    refuse("cut in the header", "truncated", &bytes[..119]);
    refuse("cut in the body", "bad", &bytes[..bytes.len() - 1]);
    refuse("a byte follows", "bad", &[&bytes[..], &[0]].concat());
    refuse("body shorter than a tag", "bad", &{
        let mut short = bytes[..135].to_vec();
        short[8..12].copy_from_slice(&15u32.to_le_bytes());
        short
    });
    refuse("ephemeral key zero", "tag", &[&bytes[..16], &[0; 32], &bytes[48..]].concat());
    refuse("of another family", "tag", &Frame { family: [1; 32], ..raw.clone() }.bytes(&keys));
    let mut body = |name: &str, class: &str, body: Vec<u8>| {
        refuse(name, class, &Frame { body, ..raw.clone() }.bytes(&keys));
    };
    body("a codec that is not known", "newer", with_padding(frame_body(&[3], &[3], b"abc")));
    body("a chunk of no bytes", "bad", with_padding(frame_body(&[0], &[3, 0], b"abc")));
    body(
        "a chunk over the limit",
        "too-large",
        with_padding(frame_body(&[1], &[(8 << 20) + 1], b"abc")),
    );
    body(
        "chunks over the limit together",
        "bad",
        with_padding(frame_body(&[1], &[8 << 20, 8 << 20, 1], b"abc")),
    );
    body("too many chunks", "too-large", with_padding([&[1][..], &varint(65_536)].concat()));
    body("raw, stored length too short", "bad", with_padding(frame_body(&[0], &[4], b"abc")));
    body(
        "stored length beyond the end",
        "truncated",
        with_padding([&[0, 1, 3][..], &1000u32.to_le_bytes()].concat()),
    );
    body("no padding", "bad", frame_body(&[0], &[3], b"abc"));
    body("too much padding", "bad", {
        let mut b = frame_body(&[0], &[3], b"abc");
        b.resize(512, 0);
        b
    });
    body("padding that is not zero", "bad", {
        let mut b = with_padding(frame_body(&[0], &[3], b"abc"));
        b[200] = 1;
        b
    });
    body("nothing inside", "truncated", vec![]);
    body("no zstd", "bad", with_padding(frame_body(&[1], &[3], b"abc")));
    let mut length = |name: &str, len: usize| {
        let body = with_padding(frame_body(&[1], &[len], &compressed(&text, None)));
        let frame = Frame { body, ..raw.clone() };
        let mut case = fails(name, "bad", input(&frame.bytes(&keys)));
        case["compressed"] = json!(["frame"]);
        cases.push(case);
    };
    length("decompresses to more", text.len() - 1);
    length("decompresses to less", text.len() + 1);
    cases.extend(with_bases(&keys, &input));
    cases.extend(more_than_a_frame(&keys, &input));
    file(json!({ "bundle": hex(keys.bundle()) }), [("frames", cases)])
}

/// Delta frames, and what lies where their base should.
fn with_bases(keys: &Keys, input: &dyn Fn(&[u8]) -> Value) -> Vec<Value> {
    let (text, kind) = (b"the same again and again, ".repeat(60), 1);
    let changed = [&text[..700], b"changed", &text[700..]].concat();
    let whole =
        |kind, number| frame(kind, 0, number, with_padding(frame_body(&[0], &[text.len()], &text)));
    let delta = |number, base: &Frame, prefix: &[u8], plain: &[u8]| {
        let codec = [&[2][..], &base.id].concat();
        let body = frame_body(&codec, &[plain.len()], &compressed(plain, Some(prefix)));
        frame(kind, 0, number, with_padding(body))
    };
    let base = whole(kind, 10);
    let first = delta(11, &base, &text, &changed);
    let second = delta(12, &first, &changed, &text);
    let based = |frame: &Frame, id: [u8; 24], there: &Frame| {
        let mut input = input(&frame.bytes(keys));
        input["base_frames"] = json!({ hex(id): hex(there.bytes(keys)) });
        input
    };
    let said = json!({ "kind": kind, "id": hex(first.id), "chunks": [hex(&changed)] });
    let mut of_delta = based(&second, first.id, &first);
    of_delta["base_frames"][hex(base.id)] = hex(base.bytes(keys)).into();
    let mut unsealed = based(&first, base.id, &base);
    let mut flipped = base.bytes(keys);
    *flipped.last_mut().unwrap() ^= 1;
    unsealed["base_frames"][hex(base.id)] = hex(flipped).into();
    let mut cases = vec![
        gives("delta of a stored frame", based(&first, base.id, &base), said),
        fails("delta of a delta", "bad", of_delta),
        fails("a base that is not given", "missing", input(&first.bytes(keys))),
        fails("a base of another kind", "bad", based(&first, base.id, &whole(2, 10))),
        fails(
            "another frame in the place of the base",
            "bad",
            based(&first, base.id, &whole(1, 13)),
        ),
        fails("a base that does not open", "tag", unsealed),
    ];
    for case in &mut cases {
        case["compressed"] = json!(["frame", "base_frames"]);
    }
    cases
}

/// What libraries take for compressed data, and what is more than one frame.
fn more_than_a_frame(keys: &Keys, input: &dyn Fn(&[u8]) -> Value) -> Vec<Value> {
    let text = b"the same again and again, ".repeat(60);
    let (whole, none) = (compressed(&text, None), compressed(b"", None));
    let (front, back) = (compressed(&text[..500], None), compressed(&text[500..], None));
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let case = |(name, stored): (&str, Vec<u8>)| {
        let frame = frame(1, 0, 14, with_padding(frame_body(&[1], &[text.len()], &stored)));
        let mut case = fails(name, "bad", input(&frame.bytes(keys)));
        case["compressed"] = json!(["frame"]);
        case
    };
    let ways = [
        ("two zstd frames", [front, back].concat()),
        ("an empty zstd frame follows", [&whole[..], &none].concat()),
        ("an empty zstd frame before", [&none[..], &whole].concat()),
        ("a skippable frame follows", [&whole[..], &skippable].concat()),
        ("a skippable frame before", [&skippable[..], &whole].concat()),
        ("a byte follows the zstd frame", [&whole[..], &[0]].concat()),
        ("half a zstd frame", whole[..whole.len() / 2].to_vec()),
    ];
    ways.into_iter().map(case).collect()
}

/// Bases by id: decoded chunks, and stored frames.
#[derive(Default)]
pub struct Bases {
    decoded: BTreeMap<String, Vec<u8>>,
    stored: BTreeMap<String, Vec<u8>>,
}

pub fn open(file: &Value, family: [u8; 32], mut bytes: Vec<u8>, bases: &Bases) -> Outcome {
    let (opener, ring) = (FrameOpener::new(FamilyId(family)), ring(file));
    let kind = FrameHeader::decode(&bytes)?.0.kind;
    let base =
        |id: &FrameId| match (bases.decoded.get(&id.to_hex()), bases.stored.get(&id.to_hex())) {
            (Some(plain), _) => Ok(OpenedFrame {
                id: *id,
                kind,
                codec: Codec::Raw,
                plain: plain.clone(),
                chunk_lens: vec![],
            }),
            (None, Some(bytes)) => opener.open_base(&ring, &mut bytes.clone()),
            (None, None) => Err(PackError::NoBase(*id)),
        };
    let opened = opener.open(&ring, &mut bytes, base)?;
    let chunks: Vec<String> = opened.chunks().map(hex).collect();
    let kind = if opened.kind == ChunkKind::Data { 1 } else { 2 };
    Ok(json!({ "kind": kind, "id": opened.id.to_hex(), "chunks": chunks }))
}

fn run(file: &Value, _: &str, case: &Value) -> Outcome {
    let by_id = |field: &str| {
        let bases = case[field].as_object().unwrap();
        bases.iter().map(|(id, bytes)| (id.clone(), unhex(bytes))).collect()
    };
    let bases = Bases { decoded: by_id("bases"), stored: by_id("base_frames") };
    open(file, array(&case["family"]), unhex(&case["frame"]), &bases)
}
