use std::sync::Arc;

use zeroize::Zeroizing;

use super::*;
use crate::crypto::{KeyFile, seal_to_slot};
use crate::id::ClientId;
use crate::repo::{CreateOptions, Environment, NewSlot, Repository};
use crate::storage::MemoryStorage;
use crate::world::{SeededWorld, Time, World};

/// What one slot of the lowest cost takes.
const ONCE: u64 = limits::ARGON2_MEMORY_KIB_MIN as u64;

struct Place {
    storage: Arc<MemoryStorage>,
    world: Arc<SeededWorld>,
    memory: tempfile::TempDir,
    repository: RepositoryId,
    keys: KeyRing,
    /// The slot of the password, or the only one.
    ours: Slot,
}

fn password(text: &str) -> Secret {
    Secret::Password(Zeroizing::new(text.into()))
}

impl Place {
    /// A repository that these secrets open.
    fn new(secrets: &[Secret]) -> Self {
        let (storage, world) =
            (Arc::new(MemoryStorage::new()), Arc::new(SeededWorld::new(1, Time::default())));
        let memory = tempfile::tempdir().unwrap();
        let environment = Environment {
            cache: memory.path().join("cache"),
            state: memory.path().join("state"),
            client: ClientId([1; 16]),
            host: "host".into(),
            user: "user".into(),
            process: 1,
            threads: 1,
        };
        let slot = |secret: &Secret| NewSlot {
            secret: secret.clone(),
            cost: PasswordCost::LOWEST,
            label: "ours".into(),
        };
        let slots: Vec<NewSlot> = secrets.iter().map(slot).collect();
        let options = CreateOptions::default();
        let (store, clock) = (storage.clone(), world.clone());
        let made = Repository::create(store, clock, environment, &options, &slots, None).unwrap();
        let (repository, keys) = (made.config().repository, made.keys().clone());
        let first = made
            .slots()
            .unwrap()
            .iter()
            .map(|slot| (slot.kind, slot.id))
            .max_by_key(|(kind, _)| work(*kind))
            .unwrap()
            .1;
        let ours = read(&*storage, &first, Shelf::Originals).unwrap().unwrap().unwrap();
        Self { storage, world, memory, repository, keys, ours }
    }

    fn put(&self, name: u16, slot: &Slot) {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&name.to_be_bytes());
        self.storage.put(&slot_key(&SlotId(id)), &[&slot.encode()]).unwrap();
    }

    /// As somebody makes it who can write to the storage; it comes before ours in every listing.
    fn put_bogus(&self, name: u16, cost: PasswordCost) {
        let PasswordCost { memory_kib, passes, lanes } = cost;
        let mut slot = self.ours.clone();
        slot.kind = SlotKind::Password { memory_kib, passes, lanes };
        slot.id = SlotId([0; 32]);
        self.world.random(&mut slot.salt);
        self.put(name, &slot);
    }

    fn open_within(&self, secrets: &[Secret], work: u64) -> Result<KeyRing, RepoError> {
        let memory = self.memory.path();
        unlock_within(&*self.storage, &self.repository, secrets, memory, work).map(|it| it.keys)
    }

    fn open(&self, secret: &Secret) -> Result<KeyRing, RepoError> {
        self.open_within(std::slice::from_ref(secret), limits::ARGON2_WORK_KIB_MAX)
    }

    fn untried(&self, secret: &Secret, work: u64) -> usize {
        match self.open_within(std::slice::from_ref(secret), work) {
            Err(RepoError::WrongSecret { untried, .. }) => untried,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn slots_of_somebody_else_do_not_choose_the_price() {
    let place = Place::new(&[password("ours")]);
    let twice = PasswordCost { passes: 2, ..PasswordCost::LOWEST };
    for name in 0..3 {
        place.put_bogus(name, twice);
    }
    // The cheapest first: ours costs the least.
    place.open_within(&[password("ours")], 2 * ONCE).unwrap();
    assert_eq!(place.untried(&password("theirs"), 2 * ONCE), 3);
    assert_eq!(place.untried(&password("theirs"), 3 * ONCE), 2);
    assert_eq!(place.untried(&password("theirs"), 7 * ONCE), 0);
    // Costs that no slot may have are refused and cost nothing.
    place.put_bogus(9, PasswordCost { passes: u32::MAX, ..twice });
    let refused = place.open_within(&[password("theirs")], 7 * ONCE);
    assert!(matches!(refused, Err(RepoError::Object { key, .. }) if key.starts_with("keys/0009")));
}

#[test]
fn the_slot_that_opened_before_is_tried_before_the_others() {
    let place = Place::new(&[password("ours")]);
    for name in 0..3 {
        place.put_bogus(name, PasswordCost::LOWEST);
    }
    place.open_within(&[password("ours")], 4 * ONCE).unwrap();
    place.open_within(&[password("ours")], ONCE).unwrap();
    // Under another name it is the same slot still; that is what a rotation leaves behind.
    place.storage.delete(&slot_key(&place.ours.id)).unwrap();
    place.put(0xffff, &place.ours);
    place.open_within(&[password("ours")], ONCE).unwrap();
    // Nor can somebody have it cost more under the name that is remembered.
    place.put_bogus(0xfffe, PasswordCost::LOWEST);
    place.open_within(&[password("ours")], ONCE).unwrap();
    std::fs::write(place.memory.path().join(KNOWN_FILE), "nothing of use").unwrap();
    assert_eq!(place.untried(&password("theirs"), ONCE), 4);
}

#[test]
fn a_flood_of_objects_locks_out_only_whoever_never_opened_it() {
    let key = Secret::KeyFile(KeyFile::generate(&SeededWorld::new(2, Time::default())));
    let place = Place::new(std::slice::from_ref(&key));
    place.open(&key).unwrap();
    for name in 0..300u16 {
        let key = format!("keys/{name:04x}{}", "0".repeat(60));
        place.storage.put(&key, &[b"no slot"]).unwrap();
    }
    place.open(&key).unwrap();
    std::fs::remove_file(place.memory.path().join(KNOWN_FILE)).unwrap();
    assert!(matches!(place.open(&key), Err(RepoError::WrongSecret { untried: 45, .. })));
}

#[test]
fn what_costs_nothing_is_tried_before_passwords() {
    let key = Secret::KeyFile(KeyFile::generate(&SeededWorld::new(2, Time::default())));
    let place = Place::new(&[password("ours"), key.clone()]);
    let opened_by_key_file = || {
        let known = Known::recall(place.memory.path()).unwrap();
        known.name != place.ours.id
    };
    place.open(&password("ours")).unwrap();
    assert!(!opened_by_key_file());
    place.open_within(&[password("ours"), key], ONCE).unwrap();
    assert!(opened_by_key_file());
}

/// A rotation stores the slot again with more keys, and was interrupted before it deleted the old
/// object. With the old keys nothing would open that was written since.
#[test]
fn of_several_objects_of_a_slot_all_keys_count() {
    let place = Place::new(&[password("ours")]);
    let slot = &place.ours;
    let mut bundle = place.keys.to_bundle().to_vec();
    // Generation 1 of the last purpose but one, behind generation 0: the entries are in order.
    let at = 7 * 37;
    let entry = [&[7, 1, 0, 0, 0][..], &[0x77; 32]].concat();
    bundle.splice(at..at, entry);
    let mut newer = slot.clone();
    newer.bundle = seal_to_slot(&*place.world, &slot.public, &slot.encode_head(), &bundle);
    let mut damaged = newer.clone();
    damaged.wrapped[50] ^= 1;
    for (name, copy) in [(0, slot), (1, &newer), (2, slot), (3, &damaged), (0xffff, slot)] {
        place.put(name, copy);
    }
    // All of them are one slot, and cost what one costs.
    let keys = place.open_within(&[password("ours")], ONCE).unwrap();
    assert_eq!(keys.key_count(), place.keys.key_count() + 1);
    let refused = place.open_within(&[password("theirs")], ONCE);
    assert!(matches!(refused, Err(RepoError::WrongSecret { untried: 0, .. })));
}
