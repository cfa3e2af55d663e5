//! The chunker's table, and where it cuts.

use fastcdc::v2020::{Normalization, select_masks};
use holdall::chunker::Chunker;
use holdall::crypto::KeyRing;
use holdall::format::config::ChunkerParams;
use serde_json::{Value, json};

use super::{keys, some};
use crate::by_hand::cut;
use crate::cases::{Group, Outcome, array, file, gives, hex, unhex};

pub const GROUP: Group = Group {
    file: "chunking",
    about: "gear: the first and the last four numbers of the table of bundle, in hexadecimal. \
            cuts: sizes are min, avg, max; the stream is the first len bytes of the extended \
            output of the BLAKE3 keyed hash of the empty message with stream_key, or len zero \
            bytes; the result are the lengths of its chunks.",
    make,
    run,
};

fn stream(case: &Value) -> Vec<u8> {
    let mut bytes = vec![0; case["len"].as_u64().unwrap() as usize];
    if case["stream_key"].is_string() {
        let hasher = blake3::Hasher::new_keyed(&array(&case["stream_key"]));
        hasher.finalize_xof().fill(&mut bytes);
    }
    bytes
}

fn gear(bundle: &[u8]) -> [u64; 256] {
    // Purpose 2 is the second entry of a whole bundle.
    let key = &bundle[37 + 5..37 * 2];
    let mut bytes = [0; 2048];
    blake3::Hasher::new_derive_key("holdall 1 gear table")
        .update(key)
        .finalize_xof()
        .fill(&mut bytes);
    std::array::from_fn(|n| u64::from_le_bytes(*bytes[n * 8..].first_chunk().unwrap()))
}

fn make() -> Value {
    let bundle = keys().bundle();
    let gear = gear(&bundle);
    let ends = |table: &[u64]| table.iter().map(|n| format!("{n:016x}")).collect::<Vec<_>>();
    let case = |name: &str, sizes: [usize; 3], len: usize, seed: Option<u64>| {
        let mut input = json!({ "sizes": sizes, "len": len });
        if let Some(seed) = seed {
            input["stream_key"] = hex(some::<32>(seed)).into();
        }
        let stream = stream(&input);
        let (strict, relaxed) = select_masks(sizes[1], Normalization::Level1);
        let (mut lens, mut rest) = (Vec::new(), &stream[..]);
        while !rest.is_empty() {
            let len = cut(&gear, sizes, [strict, relaxed], rest);
            lens.push(len);
            rest = &rest[len..];
        }
        gives(name, input, lens)
    };
    let (usual, small) = ([16_384, 65_536, 262_144], [4096, 8192, 16_384]);
    file(
        json!({"bundle": hex(&bundle)}),
        [
            (
                "gear",
                vec![gives(
                    "table",
                    json!({}),
                    json!({ "first": ends(&gear[..4]), "last": ends(&gear[252..]) }),
                )],
            ),
            (
                "cuts",
                vec![
                    case("usual sizes", usual, 3_000_000, Some(301)),
                    case("smallest sizes", small, 200_001, Some(302)),
                    case("large sizes", [65_536, 262_144, 1_048_576], 4_000_000, Some(303)),
                    case("uneven sizes", [5_000, 16_384, 33_334], 300_000, Some(304)),
                    case("zeros", small, 50_000, None),
                    case("empty", usual, 0, None),
                    case("one byte", usual, 1, Some(305)),
                    case("the shortest", usual, 16_384, Some(306)),
                    case("odd, below the average", small, 8_001, Some(307)),
                    case("odd, over the average", small, 12_345, Some(308)),
                ],
            ),
        ],
    )
}

fn run(file: &Value, list: &str, case: &Value) -> Outcome {
    let table = KeyRing::from_bundle(&unhex(&file["bundle"]))?.gear_table()?;
    if list == "gear" {
        let ends = |table: &[u64]| table.iter().map(|n| format!("{n:016x}")).collect::<Vec<_>>();
        return Ok(json!({ "first": ends(&table[..4]), "last": ends(&table[252..]) }));
    }
    let [min_size, avg_size, max_size] =
        [0, 1, 2].map(|at| case["sizes"][at].as_u64().unwrap() as u32);
    let params = ChunkerParams { min_size, avg_size, max_size };
    assert!(params.is_accepted());
    let mut lens = Vec::new();
    Chunker::new(table, params).cut(&stream(case), true, |chunk| lens.push(chunk.len()));
    Ok(lens.into())
}
