//! Packs, their trailers, and index segments.

use holdall::format::codec::Take;
use holdall::format::frame::{ChunkKind, Codec};
use holdall::format::pack::{
    ChunkInfo, FrameInfo, PackInfo, Trailer, decode_footer, decode_header, decode_segment,
    encode_segment,
};
use holdall::id::{ChunkId, FrameId, PackId, RepositoryId, SnapshotId};
use holdall::object::Sealer;
use holdall::pack::{read_trailer, scan_frames};
use holdall::storage::{ErrorKind, Listed, Result as StorageResult, Storage, StorageError};
use serde_json::{Value, json};

use super::frames::frame;
use super::{FAMILY, REPOSITORY, keys, ring, some};
use crate::by_hand::{
    Envelope, bytes as length_and, derive, frame_body, keyed_hash, varint, with_padding,
};
use crate::cases::{Group, Outcome, array, bytes, fails, file, gives, good, hex, unhex};

pub const GROUP: Group = Group {
    file: "packs",
    about: "headers, footers: hex; the result is the kind, or the length of the trailer. trailers, \
            segments: hex is a payload. packs: object, with bundle, repository, family and pack \
            id; the result is what its trailer says. scans: object, read without trailer; the \
            result are offset and length of each frame. Every frame of these packs opens.",
    make,
    run,
};

fn render(trailer: &Trailer) -> Value {
    let frames: Vec<Value> = trailer
        .frames
        .iter()
        .map(|frame| {
            let (codec, base) = match frame.codec {
                Codec::Raw => (0, Value::Null),
                Codec::Zstd => (1, Value::Null),
                Codec::Delta { base } => (2, base.to_hex().into()),
            };
            let chunks: Vec<Value> =
                frame.chunks.iter().map(|c| json!({ "id": c.id.to_hex(), "len": c.len })).collect();
            json!({
                "id": frame.id.to_hex(),
                "offset": frame.offset,
                "stored_len": frame.stored_len,
                "codec": codec,
                "base": base,
                "chunks": chunks,
            })
        })
        .collect();
    let kind = if trailer.kind == ChunkKind::Data { 1 } else { 2 };
    json!({ "session": trailer.session.to_hex(), "kind": kind, "frames": frames })
}

fn trailer() -> Trailer {
    let chunk = |n: u8, len| ChunkInfo { id: ChunkId([n; 32]), len };
    let info = |n: u8, offset, stored_len, codec, chunks| FrameInfo {
        id: FrameId([n; 24]),
        offset,
        stored_len,
        codec,
        chunks,
    };
    Trailer {
        session: SnapshotId([8; 32]),
        kind: ChunkKind::Data,
        frames: vec![
            info(1, 16, 392, Codec::Zstd, vec![chunk(1, 5), chunk(2, 70_000)]),
            info(2, 408, 648, Codec::Delta { base: FrameId([1; 24]) }, vec![chunk(3, 1)]),
            info(3, 1056, 136, Codec::Raw, vec![]),
        ],
    }
}

fn encoded(change: &dyn Fn(&mut Trailer)) -> Value {
    let mut trailer = trailer();
    change(&mut trailer);
    let mut out = Vec::new();
    trailer.encode(&mut out);
    bytes(out)
}

/// A pack of two raw frames, by hand, and what its trailer says.
fn whole(name: &str, kind: u8) -> (Vec<u8>, Value) {
    let keys = keys();
    let ids =
        if kind == 1 { "holdall 1 ids of data chunks" } else { "holdall 1 ids of tree chunks" };
    let id_key = derive(ids, &keys.get(1, 0));
    let (mut object, mut frames) = (b"HOLDPACK\x01\0".to_vec(), Vec::new());
    object.extend([kind, 0, 0, 0, 0, 0]);
    let mut payload = [&some::<32>(501)[..], &[kind, 2]].concat();
    for (number, chunks) in [(11, vec![&b"Eabc"[..], b"E"]), (12, vec![&[b'E'; 1000]])] {
        let lens: Vec<usize> = chunks.iter().map(|c| c.len()).collect();
        let sealed =
            frame(kind, 1, number, with_padding(frame_body(&[0], &lens, &chunks.concat())));
        let stored = sealed.bytes(&keys);
        payload.extend(
            [&sealed.id[..], &varint(stored.len() as u64), &[0, chunks.len() as u8]].concat(),
        );
        let mut said = Vec::new();
        for chunk in &chunks {
            let id = keyed_hash(&id_key, chunk);
            payload.extend([&varint(chunk.len() as u64)[..], &id].concat());
            said.push(json!({ "id": hex(id), "len": chunk.len() }));
        }
        frames.push(json!({
            "id": hex(sealed.id), "offset": object.len(), "stored_len": stored.len(),
            "codec": 0, "base": null, "chunks": said,
        }));
        object.extend(stored);
    }
    let trailer = Envelope {
        kind: 1,
        version: 1,
        reserved: 0,
        generation: 1,
        nonce: some(502),
        repository: REPOSITORY,
        name: name.into(),
        plain: with_padding(length_and(&payload)),
    }
    .object(&keys);
    object.extend(&trailer);
    object.extend((trailer.len() as u32).to_le_bytes());
    object.extend(b"HEND");
    (object, json!({ "session": hex(some::<32>(501)), "kind": kind, "frames": frames }))
}

fn make() -> Value {
    let header = |change: &dyn Fn(&mut [u8; 16])| {
        let mut header = *b"HOLDPACK\x01\0\x02\0\0\0\0\0";
        change(&mut header);
        bytes(header)
    };
    let footer = |len: u32, magic: &[u8; 4]| bytes([len.to_le_bytes(), *magic].concat());
    let id = "1f".repeat(32);
    let name = format!("packs/1f/{id}");
    let (pack, says) = whole(&name, 2);
    let (data_pack, data_says) = whole(&name, 1);
    let input = |object: &[u8], id: &str| json!({ "object": hex(object), "pack": id });
    let end = pack.len();
    let longer = [&pack[..16], &pack[16..32], &pack[16..]].concat();
    let info = |len: u64| PackInfo { id: PackId([9; 32]), len, trailer: trailer() };
    let segment = |packs: &[PackInfo]| encode_segment(packs);
    let two = segment(&[info(2000), info(3000)]);
    let scanned = |says: &Value| -> Vec<Value> {
        let frames = says["frames"].as_array().unwrap();
        frames.iter().map(|f| json!([f["offset"], f["stored_len"]])).collect()
    };
    let bundle = hex(keys().bundle());
    file(
        json!({ "bundle": bundle, "repository": hex(REPOSITORY), "family": hex(FAMILY) }),
        [
            (
                "headers",
                vec![
                    gives("tree", header(&|_| ()), 2),
                    gives("data", header(&|h| h[10] = 1), 1),
                    fails("magic", "magic", header(&|h| h[0] = b'h')),
                    fails("version 2", "newer", header(&|h| h[8] = 2)),
                    fails("version 0", "bad", header(&|h| h[8] = 0)),
                    fails("a kind that is not known", "bad", header(&|h| h[10] = 3)),
                    fails("reserved byte", "bad", header(&|h| h[15] = 1)),
                    fails("cut short", "truncated", bytes(b"HOLDPACK\x01\0\x02")),
                ],
            ),
            (
                "footers",
                vec![
                    gives("usual", footer(308, b"HEND"), 308),
                    gives("the longest", footer(64 << 20, b"HEND"), 64 << 20),
                    fails("over the limit", "too-large", footer((64 << 20) + 1, b"HEND")),
                    fails("magic", "magic", footer(308, b"HEN\0")),
                    fails("cut short", "truncated", bytes([0; 7])),
                ],
            ),
            (
                "trailers",
                vec![
                    gives("three frames", encoded(&|_| ()), render(&trailer())),
                    good("tree", encoded(&|t| t.kind = ChunkKind::Tree)),
                    good("no frames", encoded(&|t| t.frames.clear())),
                    fails(
                        "frame shorter than its header",
                        "bad",
                        encoded(&|t| t.frames[0].stored_len = 119),
                    ),
                    fails(
                        "frame shorter than header and tag",
                        "bad",
                        encoded(&|t| t.frames[0].stored_len = 135),
                    ),
                    fails(
                        "frame over the limit",
                        "too-large",
                        encoded(&|t| t.frames[0].stored_len = (18 << 20) + 1),
                    ),
                    fails("chunk of no bytes", "bad", encoded(&|t| t.frames[0].chunks[0].len = 0)),
                    fails(
                        "chunk over the limit",
                        "too-large",
                        encoded(&|t| t.frames[0].chunks[0].len = (8 << 20) + 1),
                    ),
                    fails(
                        "chunks over the limit together",
                        "bad",
                        encoded(&|t| {
                            t.frames[0].chunks =
                                vec![ChunkInfo { id: ChunkId([1; 32]), len: 8 << 20 }; 3];
                        }),
                    ),
                    fails(
                        "frames beyond the longest pack",
                        "bad",
                        encoded(&|t| {
                            t.frames[0].chunks.clear();
                            t.frames[0].stored_len = 18 << 20;
                            t.frames = vec![t.frames[0].clone(); 57];
                        }),
                    ),
                    fails("cut short", "truncated", bytes([8; 32])),
                    fails(
                        "a byte follows",
                        "bad",
                        bytes([unhex(&encoded(&|_| ())["hex"]), vec![0]].concat()),
                    ),
                    fails(
                        "a kind that is not known",
                        "bad",
                        bytes([&[8u8; 32][..], &[3, 0]].concat()),
                    ),
                    fails(
                        "a codec that is not known",
                        "newer",
                        bytes([&[8u8; 32][..], &[1, 1], &[1; 24], &varint(200), &[3, 0]].concat()),
                    ),
                    fails(
                        "too many frames",
                        "too-large",
                        bytes([&[8u8; 32][..], &[1], &varint(65_536)].concat()),
                    ),
                    fails(
                        "too many chunks",
                        "too-large",
                        bytes(
                            [
                                &[8u8; 32][..],
                                &[1, 1],
                                &[1; 24],
                                &varint(200),
                                &[0],
                                &varint(65_536),
                            ]
                            .concat(),
                        ),
                    ),
                ],
            ),
            (
                "segments",
                vec![
                    good("two packs", bytes(&two)),
                    good("none", bytes([0])),
                    good("a pack that ends with its frames", bytes(segment(&[info(1192)]))),
                    fails("frames beyond the pack", "bad", bytes(segment(&[info(1191)]))),
                    fails(
                        "pack over the limit",
                        "too-large",
                        bytes(segment(&[info((1 << 30) + 1)])),
                    ),
                    fails("a byte follows", "bad", bytes([&two[..], &[0]].concat())),
                    fails("cut short", "truncated", bytes(&two[..two.len() - 1])),
                    fails("too many packs", "too-large", bytes(varint(65_537))),
                ],
            ),
            (
                "packs",
                vec![
                    gives("tree", input(&pack, &id), says.clone()),
                    gives("data", input(&data_pack, &id), data_says),
                    fails("under another name", "tag", input(&pack, &"1e".repeat(32))),
                    fails("bytes too many before the trailer", "bad", input(&longer, &id)),
                    fails("cut short", "magic", input(&pack[..end - 1], &id)),
                    fails(
                        "trailer longer than the pack",
                        "bad",
                        input(
                            &[&pack[..end - 8], &(end as u32 - 23).to_le_bytes(), b"HEND"].concat(),
                            &id,
                        ),
                    ),
                    fails(
                        "trailer changed",
                        "tag",
                        input(
                            &{
                                let mut p = pack.clone();
                                p[end - 30] ^= 1;
                                p
                            },
                            &id,
                        ),
                    ),
                ],
            ),
            (
                "scans",
                vec![
                    gives("trailer lost", input(&pack[..end - 100], &id), scanned(&says)),
                    gives(
                        "header lost",
                        input(&pack[3..], &id),
                        json!([[13, 392], [405, says["frames"][1]["stored_len"]]]),
                    ),
                    gives(
                        "first frame lost",
                        input(
                            &{
                                let mut p = pack.clone();
                                p[16] = 0;
                                p
                            },
                            &id,
                        ),
                        scanned(&says)[1..].to_vec(),
                    ),
                ],
            ),
        ],
    )
}

/// A storage with nothing but one object.
#[derive(Debug)]
struct One(Vec<u8>);

impl Storage for One {
    fn location(&self) -> String {
        "one object".into()
    }

    fn put(&self, key: &str, _: &[&[u8]]) -> StorageResult<()> {
        Err(StorageError::new(ErrorKind::Denied, key, "read only"))
    }

    fn get(&self, _: &str, _: u64) -> StorageResult<Vec<u8>> {
        Ok(self.0.clone())
    }

    fn get_range_into(
        &self,
        key: &str,
        offset: u64,
        len: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        let range = self.0.get(offset as usize..offset as usize + len);
        let short = || StorageError::new(ErrorKind::Corrupt, key, "short");
        range.ok_or_else(short)?.clone_into(into);
        Ok(())
    }

    fn list(&self, _: &str, _: &mut dyn FnMut(Listed)) -> StorageResult<()> {
        Ok(())
    }

    fn delete(&self, key: &str) -> StorageResult<()> {
        Err(StorageError::new(ErrorKind::Denied, key, "read only"))
    }

    fn stat(&self, _: &str) -> StorageResult<u64> {
        Ok(self.0.len() as u64)
    }
}

fn run(file: &Value, list: &str, case: &Value) -> Outcome {
    let input = unhex(if case["hex"].is_string() { &case["hex"] } else { &case["object"] });
    match list {
        "headers" => Ok(if decode_header(&input)? == ChunkKind::Data { 1 } else { 2 }.into()),
        "footers" => Ok(decode_footer(&input)?.into()),
        "trailers" => {
            let mut take = Take::new(&input);
            let trailer = Trailer::decode(&mut take)?;
            take.finish("trailer")?;
            Ok(render(&trailer))
        }
        "segments" => {
            let packs = decode_segment(&input)?;
            let render = |info: &PackInfo| {
                let (id, trailer) = (info.id.to_hex(), render(&info.trailer));
                json!({ "id": id, "len": info.len, "trailer": trailer })
            };
            Ok(packs.iter().map(render).collect::<Vec<_>>().into())
        }
        "packs" => {
            let sealer =
                Sealer { keys: ring(file), repository: RepositoryId(array(&file["repository"])) };
            let info = read_trailer(&One(input.clone()), &sealer, &PackId(array(&case["pack"])))?;
            for found in &info.trailer.frames {
                let (start, len) = (found.offset as usize, found.stored_len as usize);
                let bytes = input[start..start + len].to_vec();
                let opened =
                    super::frames::open(file, array(&file["family"]), bytes, &Default::default())?;
                for (chunk, info) in opened["chunks"].as_array().unwrap().iter().zip(&found.chunks)
                {
                    let (ring, plain) = (ring(file), unhex(chunk));
                    let id = if opened["kind"] == 1 {
                        ring.data_id(&plain)
                    } else {
                        ring.tree_id(&plain)
                    };
                    assert_eq!((id, plain.len() as u32), (info.id, info.len));
                }
            }
            Ok(render(&info.trailer))
        }
        _ => Ok(scan_frames(&input).map(|(at, len)| json!([at, len])).collect::<Vec<_>>().into()),
    }
}
