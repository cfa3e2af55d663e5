//! Parity of packs, the code among it: made by hand from the chapter's definition.

use std::sync::Arc;

use holdall::format::pack::pack_key;
use holdall::format::parity::{ParityHead, decode_mark, parity_key};
use holdall::format::snapshot::Wish;
use holdall::id::{PackId, RepositoryId};
use holdall::object::Sealer;
use holdall::pack::mend_pack;
use holdall::storage::{MemoryStorage, Storage};
use serde_json::{Value, json};

use super::{REPOSITORY, keys, ring, some, time};
use crate::by_hand::{Bytes32, Envelope, bytes as length_and, keyed_hash, varint, with_padding};
use crate::cases::{Group, Outcome, array, bytes, fails, file, gives, good, hex, unhex};

pub const GROUP: Group = Group {
    file: "parity",
    about: "marks: hex; the result is the length of the head. heads, wishes: hex is a payload. \
            packs: pack as it is found and its parity, with bundle, repository and pack id; the \
            result is the pack as it was, and bad is more damage than the parity mends.",
    make,
    run,
};

const PACK: [u8; 32] = [0x1f; 32];
const SHARD: usize = 64;
const HASH_KEY: Bytes32 = [7; 32];

const BASIS: [u32; 16] = [
    0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012, 0x6C98, 0x10D8, 0x6A72, 0xB900,
    0xFDB8, 0xFB34, 0xFF38, 0x991E,
];

fn element(symbol: u32) -> u32 {
    (0..16).filter(|bit| symbol >> bit & 1 == 1).fold(0, |sum, bit: usize| sum ^ BASIS[bit])
}

fn symbol(element: u32) -> u32 {
    (0..1 << 16).find(|symbol| self::element(*symbol) == element).unwrap()
}

fn times(a: u32, b: u32) -> u32 {
    let product = (0..16).filter(|bit| b >> bit & 1 == 1).fold(0, |sum, bit| sum ^ a << bit);
    (16..31).rev().fold(product, |rest, bit| match rest >> bit & 1 {
        0 => rest,
        _ => rest ^ 0x1_002D << (bit - 16),
    })
}

/// Two shards of parity. With two equations and the places 0 and 1, of which the elements are 0
/// and 1, the second equation gives the second shard, and the first one the first.
fn two_shards(data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut parity = vec![vec![0; SHARD]; 2];
    for n in 0..32 {
        let at = |shard: &[u8]| u32::from(shard[n]) | u32::from(shard[n + 32]) << 8;
        let (mut plain, mut weighted) = (0, 0);
        for (place, shard) in (2..).zip(data) {
            plain ^= element(at(shard));
            weighted ^= times(element(at(shard)), element(place));
        }
        for (shard, value) in parity.iter_mut().zip([plain ^ weighted, weighted]) {
            let [low, high, ..] = symbol(value).to_le_bytes();
            (shard[n], shard[n + 32]) = (low, high);
        }
    }
    parity
}

fn mark(head_len: usize) -> Vec<u8> {
    [&b"HOLDPRTY"[..], &(head_len as u32).to_le_bytes(), &[0; 4]].concat()
}

fn head(pack_len: usize, shards: &[Vec<u8>], parity_count: u64) -> Vec<u8> {
    let mut out = [varint(pack_len as u64), varint(SHARD as u64), varint(parity_count)].concat();
    out.extend(HASH_KEY);
    shards.iter().for_each(|shard| out.extend(&keyed_hash(&HASH_KEY, shard)[..16]));
    out
}

/// A pack and its parity object, and where its parts begin: front head, shards, back head.
fn made() -> (Vec<u8>, Vec<u8>, [usize; 3]) {
    let pack = some::<300>(3).to_vec();
    let shard = |bytes: &[u8]| {
        let mut shard = bytes.to_vec();
        shard.resize(SHARD, 0);
        shard
    };
    let data: Vec<Vec<u8>> = pack.chunks(SHARD).map(shard).collect();
    let parity = two_shards(&data);
    let all = [data, parity.clone()].concat();
    let sealed = Envelope {
        kind: 12,
        version: 1,
        reserved: 0,
        generation: 1,
        nonce: some(112),
        repository: REPOSITORY,
        name: format!("parity/{}", hex(PACK)),
        plain: with_padding(length_and(&head(pack.len(), &all, 2))),
    };
    let sealed = sealed.object(&keys());
    let mark = mark(sealed.len());
    let object = [&mark[..], &sealed, &parity.concat(), &sealed, &mark].concat();
    let shards = 16 + sealed.len();
    (pack, object, [16, shards, shards + 2 * SHARD])
}

fn packs() -> Vec<Value> {
    let (pack, object, [front, shards, back]) = made();
    let input = |pack: &[u8], parity: &[u8]| json!({ "id": hex(PACK), "pack": hex(pack), "parity": hex(parity) });
    let flip = |bytes: &[u8], at: &[usize]| {
        let mut bytes = bytes.to_vec();
        at.iter().for_each(|at| bytes[*at] ^= 0x40);
        bytes
    };
    let mends =
        |name: &str, hurt: Vec<u8>, parity: Vec<u8>| gives(name, input(&hurt, &parity), hex(&pack));
    let beyond =
        |name: &str, hurt: Vec<u8>, parity: Vec<u8>| fails(name, "bad", input(&hurt, &parity));
    vec![
        mends("nothing is damaged", pack.clone(), object.clone()),
        mends("two shards", flip(&pack, &[0, 64]), object.clone()),
        mends("the last shard, which is filled up", flip(&pack, &[299]), object.clone()),
        mends("the end is gone", pack[..192].to_vec(), object.clone()),
        mends("bytes behind the end", [&pack[..], b"more"].concat(), object.clone()),
        mends("one shard of each", flip(&pack, &[70]), flip(&object, &[shards + 64])),
        mends("the front mark", flip(&pack, &[1, 99]), flip(&object, &[2])),
        mends("the front head", flip(&pack, &[1, 99]), flip(&object, &[front + 40])),
        mends("the head at the end", flip(&pack, &[1, 99]), flip(&object, &[back + 40])),
        mends("the beginning of the parity is gone", flip(&pack, &[1]), object[front..].to_vec()),
        mends("the end of the parity is gone", flip(&pack, &[1]), object[..back - 64].to_vec()),
        beyond("three shards", flip(&pack, &[0, 64, 128]), object.clone()),
        beyond("two shards and one of parity", flip(&pack, &[0, 64]), flip(&object, &[shards])),
    ]
}

fn make() -> Value {
    let shards = vec![vec![1; SHARD]; 5];
    let good_head = head(129, &shards, 2);
    let wish = |parity: u8| [&[2, 5][..], &varint(18), &varint(7), &[parity]].concat();
    file(
        json!({ "bundle": hex(keys().bundle()), "repository": hex(REPOSITORY) }),
        [
            (
                "marks",
                vec![
                    gives("a mark", bytes(mark(500)), 500),
                    fails("another magic", "magic", bytes([&b"HOLDPACK"[..], &[0; 8]].concat())),
                    fails("a head that is too long", "too-large", bytes(mark((2 << 20) + 1))),
                    fails("reserved", "bad", bytes([&mark(500)[..12], &[1, 0, 0, 0]].concat())),
                    fails("cut short", "truncated", bytes(&mark(500)[..15])),
                ],
            ),
            (
                "heads",
                vec![
                    good("three shards and two", bytes(&good_head)),
                    good("bytes behind", bytes([&good_head[..], b"later"].concat())),
                    fails("cut short", "truncated", bytes(&good_head[..good_head.len() - 1])),
                    fails("a pack too long", "too-large", bytes(head((1 << 30) + 1, &shards, 2))),
                    fails("no bytes", "bad", bytes(head(0, &shards, 2))),
                    fails("too many shards", "bad", bytes(head(64 * 32_768 + 1, &shards, 2))),
                    fails("no parity", "bad", bytes(head(129, &shards, 0))),
                    fails("more parity than pack", "bad", bytes(head(129, &shards, 4))),
                    fails("too much parity", "too-large", bytes(head(129, &shards, 32_769))),
                    fails("shards of no length", "bad", bytes([129, 1, 0, 2])),
                    fails("shards of an odd length", "bad", bytes([129, 1, 65, 2])),
                    fails(
                        "shards too long",
                        "too-large",
                        bytes([vec![129, 1], varint((1 << 20) + 64)].concat()),
                    ),
                ],
            ),
            (
                "wishes",
                vec![
                    good("three percent", bytes(wish(3))),
                    good("bytes behind", bytes([wish(0), b"later".to_vec()].concat())),
                    gives("a note on a snapshot", bytes([1, 2, 3]), Value::Null),
                    fails("too much", "too-large", bytes(wish(51))),
                    fails("cut short", "truncated", bytes([2, 5])),
                ],
            ),
            ("packs", packs()),
        ],
    )
}

fn run(file: &Value, list: &str, case: &Value) -> Outcome {
    Ok(match list {
        "marks" => decode_mark(&unhex(&case["hex"]))?.into(),
        "heads" => {
            let head = ParityHead::decode(&unhex(&case["hex"]))?;
            json!({
                "pack_len": head.pack_len, "shard_len": head.shard_len,
                "parity_count": head.parity_count, "hash_key": hex(head.hash_key),
                "hashes": head.hashes.iter().map(hex).collect::<Vec<_>>(),
            })
        }
        "wishes" => match Wish::decode(&unhex(&case["hex"]))? {
            None => Value::Null,
            Some(wish) => json!({
                "counter": wish.counter, "time": time(wish.time), "parity": wish.parity,
            }),
        },
        _ => {
            let repository = RepositoryId(array(&file["repository"]));
            let sealer = Sealer { keys: ring(file), repository };
            let id = PackId(array(&case["id"]));
            let storage = Arc::new(MemoryStorage::new());
            storage.put(&pack_key(&id), &[&unhex(&case["pack"])]).unwrap();
            storage.put(&parity_key(&id), &[&unhex(&case["parity"])]).unwrap();
            hex(mend_pack(&*storage, &sealer, &id)?).into()
        }
    })
}
