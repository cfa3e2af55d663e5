//! Integers, texts, times, padding, derivation, sealing; and ids.

use holdall::crypto::{Key, SEALED_KEY_LEN, TAG_LEN, open_in_place, unseal_session_key};
use holdall::format::FormatError;
use holdall::format::codec::Take;
use holdall::format::envelope::padded_len;
use serde_json::{Value, json};

use super::{keys, ring, some, time};
use crate::by_hand::{derive, keyed_hash, padded, public, seal, seal_to, varint};
use crate::cases::{Class, Group, Outcome, array, bytes, fails, file, gives, hex, unhex};

pub const GROUP: Group = Group {
    file: "primitives",
    about: "varints, signed, times: hex is one encoded value, nothing more. texts: hex is a text \
            with the limit given. padding: len is padded to the result. keyed_hashes, derivations: \
            BLAKE3. sealed: XChaCha20-Poly1305. sealed_to: opened with the reader's secret.",
    make,
    run,
};

fn make() -> Value {
    let number = |n: u64| gives(&n.to_string(), bytes(varint(n)), n.to_string());
    let signed =
        |n: i64, encoded: u64| gives(&n.to_string(), bytes(varint(encoded)), n.to_string());
    let text = |content: &[u8]| {
        let encoded = crate::by_hand::bytes(content);
        json!({ "hex": hex(encoded), "limit": 16 })
    };
    let pad = |len: usize| gives(&len.to_string(), json!({ "len": len }), padded(len));
    let (key, nonce, secret) = (some::<32>(1), some::<24>(2), some::<32>(3));
    let sealed = seal(&key, &nonce, b"place", b"some content");
    let opened = |associated: &[u8], sealed: &[u8]| {
        let (key, nonce, associated) = (hex(key), hex(nonce), hex(associated));
        json!({ "key": key, "nonce": nonce, "associated": associated, "sealed": hex(sealed) })
    };
    let to = seal_to(&some(4), &public(&secret), b"for whom", &some::<32>(5));
    let opened_to = |associated: &[u8], sealed: &[u8]| {
        let (secret, associated) = (hex(secret), hex(associated));
        json!({ "secret": secret, "associated": associated, "sealed": hex(sealed) })
    };
    let flipped = |sealed: &[u8], at: usize| {
        let mut sealed = sealed.to_vec();
        sealed[at] ^= 1;
        sealed
    };
    let zero = [vec![0; 32], to[32..].to_vec()].concat();
    let mut varints: Vec<Value> = [0, 1, 127, 128, 300, 16_383, 16_384, (1 << 32) - 1, 1 << 32]
        .into_iter()
        .chain([i64::MAX as u64, 1 << 63, u64::MAX])
        .map(number)
        .collect();
    varints.extend([
        fails("nothing", "truncated", bytes([])),
        fails("no last byte", "truncated", bytes([0x80])),
        fails("no last byte of ten", "truncated", bytes([0xff; 9])),
        fails("0 in two bytes", "bad", bytes([0x80, 0])),
        fails("127 in two bytes", "bad", bytes([0xff, 0])),
        fails("128 in three bytes", "bad", bytes([0x80, 0x81, 0])),
        fails("2^64", "bad", bytes([[0x80; 9].as_slice(), &[2]].concat())),
        fails("eleven bytes", "bad", bytes([[0x80; 10].as_slice(), &[1]].concat())),
        fails("2^63 and a zero byte", "bad", bytes([[0x80; 9].as_slice(), &[0x80, 0]].concat())),
        fails("a byte follows", "bad", bytes([1, 1])),
    ]);
    file(
        json!({}),
        [
            ("varints", varints),
            (
                "signed",
                vec![
                    signed(0, 0),
                    signed(-1, 1),
                    signed(1, 2),
                    signed(-2, 3),
                    signed(64, 128),
                    signed(i64::MAX, u64::MAX - 1),
                    signed(i64::MIN, u64::MAX),
                ],
            ),
            (
                "times",
                vec![
                    gives("1970", bytes([0, 0]), json!({ "seconds": "0", "nanoseconds": 0 })),
                    gives(
                        "half a second before",
                        bytes([&[1][..], &varint(500_000_000)].concat()),
                        json!({ "seconds": "-1", "nanoseconds": 500_000_000 }),
                    ),
                    gives(
                        "last nanosecond",
                        bytes([&[2][..], &varint(999_999_999)].concat()),
                        json!({ "seconds": "1", "nanoseconds": 999_999_999 }),
                    ),
                    fails(
                        "one nanosecond too many",
                        "too-large",
                        bytes([&[2][..], &varint(1_000_000_000)].concat()),
                    ),
                    fails("no nanoseconds", "truncated", bytes([2])),
                ],
            ),
            (
                "texts",
                vec![
                    gives("empty", text(b""), ""),
                    gives("ascii", text(b"host"), "host"),
                    gives(
                        "two languages",
                        text("h\u{f6}st \u{4e3b}".as_bytes()),
                        "h\u{f6}st \u{4e3b}",
                    ),
                    gives("a control character", text(b"a\x1b[2J"), "a\u{1b}[2J"),
                    gives("sixteen bytes", text(&[b'x'; 16]), "x".repeat(16)),
                    fails("seventeen bytes", "too-large", text(&[b'x'; 17])),
                    fails("no utf-8", "bad", text(b"\xff")),
                    fails("a surrogate", "bad", text(b"\xed\xa0\x80")),
                    fails("an overlong slash", "bad", text(b"\xc0\xaf")),
                    fails("too short", "truncated", json!({ "hex": "0461", "limit": 16 })),
                ],
            ),
            (
                "padding",
                vec![
                    pad(0),
                    pad(1),
                    pad(255),
                    pad(256),
                    pad(257),
                    pad(32_767),
                    pad(32_768),
                    pad(65_535),
                    pad(65_536),
                    pad(65_537),
                    pad(1 << 20),
                    pad((1 << 20) + 1),
                    pad(1_000_001),
                    pad(16 << 20),
                ],
            ),
            (
                "keyed_hashes",
                vec![
                    gives(
                        "empty",
                        json!({ "key": hex(key), "message": "" }),
                        hex(keyed_hash(&key, b"")),
                    ),
                    gives(
                        "text",
                        json!({ "key": hex(key), "message": hex("text") }),
                        hex(keyed_hash(&key, b"text")),
                    ),
                ],
            ),
            (
                "derivations",
                vec![gives(
                    "key check",
                    json!({ "context": "holdall 1 key check", "material": hex(key) }),
                    hex(derive("holdall 1 key check", &key)),
                )],
            ),
            (
                "sealed",
                vec![
                    gives("good", opened(b"place", &sealed), hex("some content")),
                    gives("empty", opened(b"", &seal(&key, &nonce, b"", b"")), ""),
                    fails("other associated data", "tag", opened(b"elsewhere", &sealed)),
                    fails("ciphertext changed", "tag", opened(b"place", &flipped(&sealed, 3))),
                    fails("tag changed", "tag", opened(b"place", &flipped(&sealed, 20))),
                ],
            ),
            (
                "sealed_to",
                vec![
                    gives("good", opened_to(b"for whom", &to), hex(some::<32>(5))),
                    fails("other associated data", "tag", opened_to(b"for another", &to)),
                    fails("ephemeral key changed", "tag", opened_to(b"for whom", &flipped(&to, 0))),
                    fails("content changed", "tag", opened_to(b"for whom", &flipped(&to, 40))),
                    fails("ephemeral key zero", "tag", opened_to(b"for whom", &zero)),
                ],
            ),
        ],
    )
}

fn run(_: &Value, list: &str, case: &Value) -> Outcome {
    let input = if case["hex"].is_string() { unhex(&case["hex"]) } else { Vec::new() };
    let mut take = Take::new(&input);
    let result = match list {
        "varints" => take.varint("n")?.to_string().into(),
        "signed" => take.signed("n")?.to_string().into(),
        "times" => time(take.time("time")?),
        "texts" => take.text(case["limit"].as_u64().unwrap() as usize, "text")?.into(),
        "padding" => padded_len(case["len"].as_u64().unwrap() as usize).into(),
        "keyed_hashes" => hex(keyed_hash(&array(&case["key"]), &unhex(&case["message"]))).into(),
        "derivations" => {
            hex(derive(case["context"].as_str().unwrap(), &unhex(&case["material"]))).into()
        }
        "sealed" => sealed(case)?,
        "sealed_to" => {
            let sealed: [u8; SEALED_KEY_LEN] = array(&case["sealed"]);
            let secret = Key::new(array(&case["secret"]));
            let opened = unseal_session_key(&secret, &sealed, &unhex(&case["associated"]))?;
            // Keys are never shown, but they can be compared.
            match opened == Key::new(array(&case["result"])) {
                true => case["result"].clone(),
                false => "another content".into(),
            }
        }
        other => panic!("{other}"),
    };
    take.finish("input").map_err(|e: FormatError| Class::from(e))?;
    Ok(result)
}

fn sealed(case: &Value) -> Outcome {
    let sealed = unhex(&case["sealed"]);
    let (content, tag) = sealed.split_last_chunk::<TAG_LEN>().unwrap();
    let mut content = content.to_vec();
    let (key, nonce) = (Key::new(array(&case["key"])), array(&case["nonce"]));
    open_in_place(&key, &nonce, &unhex(&case["associated"]), &mut content, tag)?;
    Ok(hex(content).into())
}

pub const IDS: Group = Group {
    file: "ids",
    about: "ids: chunk ids by the keys of bundle; plain is the chunk in hex, or plain_len says how \
            many bytes of 0x61 it is.",
    make: make_ids,
    run: |file, _, case| {
        let plain = match case["plain"].is_string() {
            true => unhex(&case["plain"]),
            false => vec![b'a'; case["plain_len"].as_u64().unwrap() as usize],
        };
        let ring = ring(file);
        Ok(match case["kind"].as_str().unwrap() {
            "data" => ring.data_id(&plain),
            _ => ring.tree_id(&plain),
        }
        .to_hex()
        .into())
    },
};

fn make_ids() -> Value {
    let keys = keys();
    let case = |kind: &str, plain: &[u8], input: Value| {
        let key = derive(&format!("holdall 1 ids of {kind} chunks"), &keys.get(1, 0));
        let name = format!("{kind} {} bytes", plain.len());
        let mut input = input;
        input["kind"] = kind.into();
        gives(&name, input, hex(keyed_hash(&key, plain)))
    };
    let short = |kind: &str, plain: &[u8]| case(kind, plain, json!({ "plain": hex(plain) }));
    let long = |kind: &str, len: usize| case(kind, &vec![b'a'; len], json!({ "plain_len": len }));
    file(
        json!({"bundle": hex(keys.bundle())}),
        [(
            "ids",
            vec![
                short("data", b""),
                short("tree", b""),
                short("data", b"R"),
                short("tree", b"E"),
                long("data", 1025),
                long("data", 1 << 20),
                long("tree", 1 << 20),
            ],
        )],
    )
}
