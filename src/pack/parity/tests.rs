use super::*;
use crate::crypto::KeyRing;
use crate::id::RepositoryId;
use crate::storage::MemoryStorage;
use crate::world::{SeededWorld, Time, World};

const ID: PackId = PackId([9; 32]);

struct Scene {
    storage: MemoryStorage,
    sealer: Sealer,
    pack: Vec<u8>,
    parity: Vec<u8>,
}

impl Scene {
    fn new(len: usize, percent: u8) -> Self {
        let world = SeededWorld::new(1, Time::default());
        let sealer = Sealer { keys: KeyRing::generate(&world), repository: RepositoryId([1; 32]) };
        let mut pack = vec![0; len];
        world.random(&mut pack);
        // Pieces of odd lengths, an empty one among them.
        let mut pieces: Vec<&[u8]> = pack.chunks(10_007).collect();
        pieces.insert(1.min(pieces.len()), &[]);
        let parity = make_parity(&world, &sealer, &ID, &pieces, percent).unwrap();
        let storage = MemoryStorage::new();
        let scene = Self { storage, sealer, pack, parity };
        scene.set(&pack_key(&ID), &scene.pack);
        scene.set(&parity_key(&ID), &scene.parity);
        scene
    }

    fn set(&self, key: &str, bytes: &[u8]) {
        self.storage.delete(key).unwrap();
        self.storage.put(key, &[bytes]).unwrap();
    }

    fn mend(&self) -> Result<Vec<u8>, PackError> {
        mend_pack(&self.storage, &self.sealer, &ID)
    }

    /// The pack changed in this way is mended.
    #[track_caller]
    fn assert_mends(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut pack = self.pack.clone();
        change(&mut pack);
        self.set(&pack_key(&ID), &pack);
        assert!(self.mend().unwrap() == self.pack);
    }

    #[track_caller]
    fn assert_beyond(&self, change: impl FnOnce(&mut Vec<u8>), expected: (usize, usize)) {
        let mut pack = self.pack.clone();
        change(&mut pack);
        self.set(&pack_key(&ID), &pack);
        let Err(PackError::BeyondParity { lost, spare }) = self.mend() else {
            panic!("this is beyond what parity can do");
        };
        assert_eq!((lost, spare), expected);
    }
}

#[test]
fn packs_of_any_length_come_back() {
    for len in [1, 63, 64, 65, 4095, 4096, 4097, 20_000, 300_001] {
        let scene = Scene::new(len, 3);
        scene.assert_mends(|_| ());
        scene.assert_mends(|pack| pack[len / 2] ^= 1);
        scene.assert_mends(|pack| _ = pack.pop());
        scene.assert_mends(|pack| pack.extend([7; 100]));
    }
}

#[test]
fn flipped_bits_zeroed_pages_and_lost_ends_up_to_its_share() {
    // 74 shards of the pack, 8 of parity.
    let scene = Scene::new(300_001, 10);
    scene.assert_mends(|pack| (0..8).for_each(|n| pack[n * 9 * 4096 + n] ^= 0x80));
    scene.assert_beyond(|pack| (0..9).for_each(|n| pack[n * 8 * 4096] ^= 1), (9, 8));
    scene.assert_mends(|pack| pack[5 * 4096..13 * 4096].fill(0));
    scene.assert_beyond(|pack| pack[5 * 4096 + 1..13 * 4096 + 1].fill(0), (9, 8));
    scene.assert_mends(|pack| pack.truncate(66 * 4096));
    scene.assert_beyond(|pack| pack.truncate(66 * 4096 - 1), (9, 8));
    scene.assert_beyond(|pack| pack.clear(), (74, 8));
    scene.storage.delete(&pack_key(&ID)).unwrap();
    assert!(matches!(scene.mend(), Err(PackError::BeyondParity { lost: 74, spare: 8 })));
}

#[test]
fn damage_in_any_part_of_the_parity_itself() {
    let scene = Scene::new(300_001, 10);
    let head_len = decode_mark(&scene.parity).unwrap();
    let (shards, back) = (MARK_LEN + head_len, scene.parity.len() - MARK_LEN - head_len);
    let broken = |at: &[usize]| {
        let mut parity = scene.parity.clone();
        at.iter().for_each(|at| parity[*at] ^= 1);
        scene.set(&parity_key(&ID), &parity);
    };
    let end = scene.parity.len();
    for at in [0, 9, 13, MARK_LEN, MARK_LEN + 50, shards - 1, back, end - 20, end - 16, end - 1] {
        broken(&[at]);
        scene.assert_mends(|pack| pack[4096 * 3..4096 * 11].fill(0));
    }
    // Shards of it count as lost; a damaged front and a damaged shard are not too much, either.
    broken(&[0, shards + 5, shards + 4096]);
    scene.assert_mends(|pack| pack[4096 * 3..4096 * 9].fill(0));
    scene.assert_beyond(|pack| pack[4096 * 3..4096 * 10].fill(0), (7, 6));
    // Its end is gone, or its beginning.
    scene.set(&parity_key(&ID), &scene.parity[..shards + 3 * 4096]);
    scene.assert_mends(|pack| pack[..4096 * 3].fill(0));
    scene.assert_beyond(|pack| pack[..4096 * 4].fill(0), (4, 3));
    scene.set(&parity_key(&ID), &scene.parity[shards..]);
    scene.assert_mends(|pack| pack[..4096 * 8].fill(0));
    broken(&[20, end - 20]);
    assert!(scene.mend().is_err(), "both heads are damaged");
    scene.set(&parity_key(&ID), &[]);
    assert!(scene.mend().is_err());
}

#[test]
fn the_parity_of_another_pack_is_refused() {
    let scene = Scene::new(20_000, 10);
    let other = PackId([8; 32]);
    scene.set(&parity_key(&other), &scene.parity);
    scene.set(&pack_key(&other), &scene.pack);
    assert!(mend_pack(&scene.storage, &scene.sealer, &other).is_err());
}

/// The chapter's own definition of the code, computed the slow way.
#[test]
fn the_code_is_the_one_that_the_chapter_defines() {
    const BASIS: [u32; 16] = [
        0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012, 0x6C98, 0x10D8, 0x6A72,
        0xB900, 0xFDB8, 0xFB34, 0xFF38, 0x991E,
    ];
    let element = |symbol: u32| {
        let set = (0..16).filter(|bit| symbol >> bit & 1 == 1);
        set.fold(0, |sum, bit: usize| sum ^ BASIS[bit])
    };
    let times = |a: u32, b: u32| {
        let product = (0..16).filter(|bit| b >> bit & 1 == 1).fold(0, |sum, bit| sum ^ a << bit);
        (16..31).rev().fold(product, |rest, bit| match rest >> bit & 1 {
            0 => rest,
            _ => rest ^ 0x1002D << (bit - 16),
        })
    };
    let pack: Vec<u8> = (0..5 * 64).map(|n| (n * n % 251) as u8).collect();
    let head = ParityHead {
        pack_len: pack.len() as u64,
        shard_len: 64,
        parity_count: 3,
        hash_key: [0; 32],
        hashes: Vec::new(),
    };
    let parity = encode(&Pieces::new(&[&pack]), &head).unwrap();
    let symbol = |shard: &[u8], n: usize| u32::from(shard[n]) | u32::from(shard[n + 32]) << 8;
    // Three shards of parity count as four, of which the fourth is not stored: the fourth
    // equation would give it, and three of its multiples are left.
    for n in 0..32 {
        let data = pack.chunks(64).enumerate().map(|(i, s)| (4 + i as u32, symbol(s, n)));
        let known = parity.chunks(64).enumerate().map(|(i, s)| (i as u32, symbol(s, n)));
        let place = |(place, symbol)| (element(place), element(symbol));
        let shards: Vec<(u32, u32)> = data.chain(known).map(place).collect();
        // The shard that is not stored stands at place 3: times (x - x3) it vanishes.
        for power in 0..3 {
            let sum = shards.iter().fold(0, |sum, (x, symbol)| {
                let weight = (0..power).fold(x ^ element(3), |weight, _| times(weight, *x));
                sum ^ times(weight, *symbol)
            });
            assert_eq!(sum, 0, "symbol {n}, power {power}");
        }
    }
}
