//! The vectors, one file of `format-spec/vectors/` each.

mod chunking;
mod damage;
mod envelopes;
mod frames;
mod names;
mod packs;
mod parity;
mod primitives;
mod sessions;
mod slots;
mod snapshots;
mod trees;

use holdall::crypto::KeyRing;
use holdall::world::{SeededWorld, Time, World};
use serde_json::{Value, json};

use crate::by_hand::Keys;
use crate::cases::{Group, unhex};

pub const GROUPS: &[Group] = &[
    primitives::GROUP,
    primitives::IDS,
    names::GROUP,
    envelopes::CONFIGS,
    envelopes::GROUP,
    slots::GROUP,
    chunking::GROUP,
    frames::GROUP,
    packs::GROUP,
    parity::GROUP,
    trees::GROUP,
    snapshots::GROUP,
    sessions::GROUP,
    damage::GROUP,
];

/// Bytes that are the same every time.
fn some<const N: usize>(seed: u64) -> [u8; N] {
    let mut bytes = [0; N];
    SeededWorld::new(seed, Time::default()).random(&mut bytes);
    bytes
}

pub use frames::compressed;

const REPOSITORY: [u8; 32] = [0x52; 32];
const FAMILY: [u8; 32] = [0x46; 32];

/// The keys of all purposes; of those that rotate, two generations.
fn keys() -> Keys {
    let key = |purpose: u8, generation: u32| {
        (purpose, generation, some(1000 + u64::from(purpose) * 10 + u64::from(generation)))
    };
    let rotates = |purpose: &u8| (3..=7).contains(purpose);
    let generations = |p: u8| (0..=u32::from(rotates(&p))).map(move |g| key(p, g));
    Keys((1..=8).flat_map(generations).collect())
}

fn ring(file: &Value) -> KeyRing {
    KeyRing::from_bundle(&unhex(&file["bundle"])).unwrap()
}

fn time(time: Time) -> Value {
    json!({ "seconds": time.seconds.to_string(), "nanoseconds": time.nanoseconds })
}
