//! Sealed objects, and the one that is authenticated only.

use holdall::crypto::CryptoError;
use holdall::format::codec::Put;
use holdall::format::config::{ChunkerParams, Config};
use holdall::format::envelope::ObjectType;
use holdall::id::{FamilyId, RepositoryId};
use holdall::object::Sealer;
use holdall::world::Time;
use serde_json::{Value, json};

use super::{FAMILY, REPOSITORY, keys, ring, some, time};
use crate::by_hand::{Envelope, bytes, derive, keyed_hash, with_padding};
use crate::cases::{Class, Group, Outcome, array, fails, file, gives, good, hex, unhex};

pub const GROUP: Group = Group {
    file: "envelopes",
    about: "envelopes: object is to be opened as type and name, in repository, with bundle; the \
            result is the payload.",
    make,
    run,
};

fn make() -> Value {
    let keys = keys();
    let id = "1f".repeat(32);
    let names = [
        format!("packs/1f/{id}"),
        format!("index/{id}"),
        format!("sessions/{id}"),
        format!("sessions/{id}.fenced"),
        format!("snapshots/{id}"),
        format!("notes/{id}"),
        format!("forgotten/{id}"),
        "epochs/0000000000000042/plan".into(),
        "epochs/0000000000000042/sweep".into(),
        "epochs/0000000000000042/done".into(),
    ];
    let envelope = |kind: u8, payload: &[u8]| Envelope {
        kind,
        version: 1,
        reserved: 0,
        generation: u32::from(kind) % 2,
        nonce: some(100 + u64::from(kind)),
        repository: REPOSITORY,
        name: names[usize::from(kind) - 1].clone(),
        plain: with_padding(bytes(payload)),
    };
    let input = |kind: u8, name: &str, object: &[u8]| {
        let object = hex(object);
        json!({ "type": kind, "object_name": name, "object": object })
    };
    let mut cases: Vec<Value> = (1..=10u8)
        .map(|kind| {
            let payload =
                if kind == 10 { vec![] } else { format!("payload of type {kind}").into() };
            let object = envelope(kind, &payload).object(&keys);
            gives(
                &format!("type {kind}"),
                input(kind, &names[usize::from(kind) - 1], &object),
                hex(payload),
            )
        })
        .collect();
    // 256 bytes of padded plaintext: the length takes two.
    let full = envelope(6, &[7; 254]).object(&keys);
    assert_eq!(full.len(), 36 + 256 + 16);
    cases.push(gives("payload that needs no padding", input(6, &names[5], &full), hex([7; 254])));

    let note = envelope(6, b"payload");
    let sealed = note.object(&keys);
    let mut refuse = |name: &str, class: &str, kind: u8, at: &str, object: Vec<u8>| {
        cases.push(fails(name, class, input(kind, at, &object)));
    };
    let own = names[5].as_str();
    let other = format!("notes/{}", "1e".repeat(32));
    let flipped = |at: usize| {
        let mut object = sealed.clone();
        object[at] ^= 1;
        object
    };
    refuse("under another name", "tag", 6, &other, sealed.clone());
    refuse("as another type", "bad", 5, &names[4], sealed.clone());
    refuse("magic changed", "magic", 6, own, flipped(0));
    refuse("type changed", "bad", 6, own, flipped(4));
    refuse("reserved byte set", "bad", 6, own, flipped(5));
    refuse("nonce changed", "tag", 6, own, flipped(12));
    refuse("ciphertext changed", "tag", 6, own, flipped(40));
    refuse("tag changed", "tag", 6, own, flipped(sealed.len() - 1));
    refuse("cut short", "tag", 6, own, sealed[..sealed.len() - 1].to_vec());
    refuse("no whole header", "truncated", 6, own, sealed[..35].to_vec());
    refuse("no whole tag", "truncated", 6, own, sealed[..51].to_vec());
    refuse("empty", "truncated", 6, own, vec![]);
    let (record, mark) = (envelope(3, b"payload"), envelope(4, b"payload"));
    let (session, fence) = (names[2].as_str(), names[3].as_str());
    refuse("a session record as the mark on it", "bad", 4, fence, record.object(&keys));
    refuse("a fence mark as its session record", "bad", 3, session, mark.object(&keys));
    let posing = Envelope { kind: 4, ..record };
    refuse("a record that says that it is a mark", "tag", 4, fence, posing.object(&keys));
    let mut remade = |name: &str, class: &str, change: &dyn Fn(&mut Envelope)| {
        let mut envelope = note.clone();
        change(&mut envelope);
        refuse(name, class, 6, own, envelope.object(&keys));
    };
    remade("of another repository", "tag", &|e| e.repository = [0x53; 32]);
    remade("version 2", "newer", &|e| e.version = 2);
    remade("version 0", "bad", &|e| e.version = 0);
    remade("a generation that is not there", "no-key", &|e| e.generation = 7);
    remade("no padding", "bad", &|e| e.plain = bytes(b"payload"));
    remade("too much padding", "bad", &|e| e.plain.resize(512, 0));
    remade("padding that is not zero", "bad", &|e| e.plain[255] = 1);
    remade("a length beyond the end", "too-large", &|e| e.plain = with_padding(vec![0xff, 0x7f]));
    remade("nothing inside", "truncated", &|e| e.plain = vec![]);
    let shared = json!({ "bundle": hex(keys.bundle()), "repository": hex(REPOSITORY) });
    file(shared, [("envelopes", cases)])
}

fn run(file: &Value, _: &str, case: &Value) -> Outcome {
    let sealer = Sealer { keys: ring(file), repository: RepositoryId(array(&file["repository"])) };
    let kind = match case["type"].as_u64().unwrap() {
        1 => ObjectType::Trailer,
        2 => ObjectType::Segment,
        3 => ObjectType::Session,
        4 => ObjectType::Fence,
        5 => ObjectType::Snapshot,
        6 => ObjectType::Note,
        7 => ObjectType::Forgotten,
        8 => ObjectType::Plan,
        9 => ObjectType::Sweep,
        _ => ObjectType::Done,
    };
    let name = case["object_name"].as_str().unwrap();
    Ok(hex(sealer.open(kind, name, unhex(&case["object"]))?).into())
}

pub const CONFIGS: Group = Group {
    file: "configs",
    about: "configs: object, to be checked with bundle; the result are its fields.",
    make: make_configs,
    run: run_config,
};

fn make_configs() -> Value {
    let keys = keys();
    let usual = Config {
        repository: RepositoryId(REPOSITORY),
        family: FamilyId(FAMILY),
        created: Time { seconds: 1_800_000_000, nanoseconds: 5 },
        chunker: ChunkerParams::DEFAULT,
        frame_size: 1 << 20,
        pack_size: 16 << 20,
        compression: 3,
    };
    let signed = |fields: Vec<u8>| {
        let key = derive("holdall 1 authentication of config", &keys.get(8, 0));
        let code = keyed_hash(&key, &fields);
        json!({ "object": hex([fields, code.to_vec()].concat()) })
    };
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = usual.clone();
        change(&mut config);
        signed(config.encode())
    };
    // The features stand behind 74 bytes: two empty lists.
    let raw = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut fields = usual.encode();
        change(&mut fields);
        signed(fields)
    };
    let object = [usual.encode(), vec![0; 32]].concat();
    let sizes = |min_size, avg_size, max_size| {
        with(&|c| c.chunker = ChunkerParams { min_size, avg_size, max_size })
    };
    let start_only = json!({ "object": hex(&object[..40]) });
    file(
        json!({ "bundle": hex(keys.bundle()) }),
        [(
            "configs",
            vec![
                good("usual", signed(usual.encode())),
                good("bytes behind the fields", raw(&|f| f.extend(b"later"))),
                good("greatest sizes", sizes(2 << 20, 4 << 20, 8 << 20)),
                good("smallest sizes", sizes(4096, 8192, 16_384)),
                good("no compression", with(&|c| c.compression = 0)),
                good("fastest compression", with(&|c| c.compression = -7)),
                fails("code wrong", "tag", json!({ "object": hex(&object) })),
                fails("cut short", "truncated", start_only),
                fails("magic", "magic", raw(&|f| f[0] ^= 1)),
                fails("version 0", "bad", raw(&|f| f[8] = 0)),
                fails("version 2", "newer", raw(&|f| f[8] = 2)),
                fails("version 257", "newer", raw(&|f| f[9] = 1)),
                fails(
                    "a feature needed for reading",
                    "newer",
                    raw(&|f| {
                        f.splice(74..75, [1, 9]);
                    }),
                ),
                fails("min size below the limit", "bad", sizes(4094, 65_536, 262_144)),
                fails("min size odd", "bad", sizes(16_385, 65_536, 262_144)),
                fails("min size over half of the average", "bad", sizes(32_770, 65_536, 262_144)),
                fails("average no power of two", "bad", sizes(16_384, 65_538, 262_144)),
                fails("max size below twice the average", "bad", sizes(16_384, 65_536, 131_070)),
                fails("max size over the limit", "bad", sizes(16_384, 65_536, (8 << 20) + 2)),
                fails(
                    "frame size over half of the limit",
                    "too-large",
                    with(&|c| c.frame_size = (8 << 20) + 1),
                ),
                fails(
                    "pack size over half of the limit",
                    "too-large",
                    with(&|c| c.pack_size = (1 << 29) + 1),
                ),
                fails("compression 23", "bad", with(&|c| c.compression = 23)),
                fails("compression -8", "bad", with(&|c| c.compression = -8)),
                fails(
                    "size over 32 bits",
                    "too-large",
                    raw(&|f| {
                        f.truncate(76);
                        f.put_time(Time::default());
                        f.put_varint(1 << 32);
                    }),
                ),
            ],
        )],
    )
}

fn run_config(file: &Value, _: &str, case: &Value) -> Outcome {
    let object = unhex(&case["object"]);
    let (fields, code) = Config::split(&object)?;
    let config = Config::decode(fields)?;
    if ring(file).config_mac(fields)? != *code {
        return Err(Class::from(CryptoError::Tag));
    }
    Ok(json!({
        "repository": config.repository.to_hex(),
        "family": config.family.to_hex(),
        "created": time(config.created),
        "min_size": config.chunker.min_size,
        "avg_size": config.chunker.avg_size,
        "max_size": config.chunker.max_size,
        "frame_size": config.frame_size,
        "pack_size": config.pack_size,
        "compression": config.compression,
    }))
}
