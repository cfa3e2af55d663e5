//! The bodies of the fuzz targets on their seeds and on mutations of them: what `cargo fuzz` does
//! for hours is done here for a moment, wherever tests run.

use std::fs;
use std::path::PathBuf;

use holdall::world::{SeededWorld, Time, World};

#[path = "../../fuzz/src/lib.rs"]
mod bodies;

/// Mutations of all seeds of a target together.
const MUTATIONS: usize = 4_000;
/// As long as `cargo fuzz` is told to make them.
const LEN_MAX: usize = 2_048;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{directory:?}: {e}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Numbers below a limit, the same in every run.
struct Dice(SeededWorld);

impl Dice {
    fn below(&self, limit: usize) -> usize {
        let mut bytes = [0; 4];
        self.0.random(&mut bytes);
        u32::from_le_bytes(bytes) as usize % limit.max(1)
    }
}

/// Changes a few places: bits, bytes that are the edges of something, lengths, parts of others.
fn mutate(dice: &Dice, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        let end = at + dice.below(bytes.len() - at + 1);
        match (dice.below(7), bytes.get_mut(at)) {
            (0, Some(byte)) => *byte ^= 1 << dice.below(8),
            (1, Some(byte)) => *byte = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'/', b'.'][dice.below(8)],
            (2, Some(byte)) => *byte = byte.wrapping_add(1),
            (3, _) => bytes.truncate(at),
            (4, _) => drop(bytes.drain(at..end)),
            (5, _) => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            (6, _) => drop(bytes.splice(at..end, other[dice.below(other.len())..].to_vec())),
            _ => bytes.push(dice.below(256) as u8),
        }
        bytes.truncate(LEN_MAX);
    }
    bytes
}

#[test]
fn seeds_and_mutations_of_them_hold() {
    for (target, body) in bodies::BODIES {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        seeds.iter().for_each(|seed| body(seed));
        let dice = Dice(SeededWorld::new(1, Time::default()));
        for _ in 0..MUTATIONS {
            let [one, other] = [(); 2].map(|()| &seeds[dice.below(seeds.len())]);
            let bytes = mutate(&dice, one.clone(), other);
            let shown = bytes.clone();
            let held = std::panic::catch_unwind(|| body(&bytes));
            assert!(held.is_ok(), "{target} fails with {shown:02x?}");
        }
    }
}

#[test]
fn every_target_has_a_body_seeds_and_a_name_in_the_manifest() {
    let house = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(house.join("Cargo.toml")).unwrap();
    let names = |below: &str| -> Vec<String> {
        let entries = fs::read_dir(house.join(below)).unwrap();
        let name = |entry: fs::DirEntry| entry.path().file_stem().unwrap().display().to_string();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    };
    let bodies: Vec<_> = bodies::BODIES.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names("fuzz_targets"), bodies);
    assert_eq!(names("seeds"), bodies);
    for name in bodies {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
