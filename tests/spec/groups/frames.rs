//! Frames.

use std::collections::BTreeMap;

use holdall::format::frame::ChunkKind;
use holdall::id::{FamilyId, FrameId};
use holdall::pack::{FrameOpener, PackError};
use serde_json::{Value, json};
use zstd_safe::{CCtx, CParameter};

use super::{FAMILY, keys, ring, some};
use crate::by_hand::{Frame, frame_body, varint, with_padding};
use crate::cases::{Group, Outcome, array, fails, file, gives, hex, unhex};

pub const GROUP: Group = Group {
    file: "frames",
    about: "frames: frame, to be opened with bundle in family; bases are the decoded chunks of \
            other frames by frame id; the result is its kind, its id, and its chunks. Where \
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
    let input = |bytes: &[u8]| json!({ "frame": hex(bytes), "family": hex(FAMILY), "bases": {} });
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
    file(json!({ "bundle": hex(keys.bundle()) }), [("frames", cases)])
}

pub fn open(
    file: &Value,
    family: [u8; 32],
    bytes: Vec<u8>,
    bases: &BTreeMap<String, Vec<u8>>,
) -> Outcome {
    let opener = FrameOpener::new(FamilyId(family));
    let base = |id: &FrameId| bases.get(&id.to_hex()).cloned().ok_or(PackError::NoBase(*id));
    let opened = opener.open(&ring(file), bytes, base)?;
    let chunks: Vec<String> = opened.chunks().map(hex).collect();
    let kind = if opened.kind == ChunkKind::Data { 1 } else { 2 };
    Ok(json!({ "kind": kind, "id": opened.id.to_hex(), "chunks": chunks }))
}

fn run(file: &Value, _: &str, case: &Value) -> Outcome {
    let bases = case["bases"].as_object().unwrap();
    let bases = bases.iter().map(|(id, plain)| (id.clone(), unhex(plain))).collect();
    open(file, array(&case["family"]), unhex(&case["frame"]), &bases)
}
