//! Damaged and moved objects of the repository.

use holdall::format::frame::ChunkKind;
use holdall::format::pack::pack_key;
use holdall::id::PackId;
use holdall::pack::read_trailer;
use holdall::storage::MemoryStorage;

use super::*;
use crate::support::repository::small;
use crate::support::storages::{Damage, Flipping, keys};

/// A place whose repository can be shown damaged.
fn damageable() -> (Place, Arc<Flipping>) {
    let flipping = Arc::new(Flipping::new(Arc::new(MemoryStorage::new())));
    let mut place = Place::new();
    place.repo = TestRepo::create(flipping.clone(), &small(), 1);
    (place, flipping)
}

fn packs(place: &Place, kind: ChunkKind) -> Vec<(PackId, u64)> {
    let mut packs = Vec::new();
    let index = place.repo.repository.with_index(|index| {
        index.packs(&mut |_, pack| packs.extend((pack.kind == kind).then_some((pack.id, pack.len))))
    });
    index.unwrap().unwrap();
    packs
}

fn data_packs(place: &Place) -> Vec<(String, u64)> {
    let packs = packs(place, ChunkKind::Data);
    packs.into_iter().map(|(id, len)| (pack_key(&id), len)).collect()
}

#[test]
fn a_damaged_pack_costs_its_files_and_no_others() {
    let (place, flipping) = damageable();
    fill(&place);
    let record = place.backup();
    let source = tree(&place.source(""));
    let packs = data_packs(&place);
    assert!(packs.len() > 3);
    let mut lost_in_all = std::collections::BTreeSet::new();
    for (pack, len) in &packs {
        let damages = [
            Damage::Delete,
            Damage::Truncate { len: len / 2 },
            Damage::Flip { offset: len / 3, mask: 4 },
        ];
        for (number, damage) in damages.into_iter().enumerate() {
            let _ = fs::remove_dir_all(place.target(""));
            fs::create_dir_all(place.target("a")).unwrap();
            fs::write(place.target("a/file-4"), "old").unwrap();
            flipping.damage(pack, damage);
            let ahead = if number == 1 { Ahead { chunks: 4, files: 5 } } else { Ahead::default() };
            let cache = tempfile::tempdir().unwrap();
            let repository = place.repo.open_on(flipping.clone(), cache.path());
            let said = run(&repository, &record, RestoreOptions { ahead, ..place.options() });
            let said = said.unwrap();
            flipping.heal();
            assert!(said.report.damage > 0 && said.report.problems == 0);
            assert_eq!(said.report.damage, said.problems.len() as u64);
            let lost: Vec<&[u8]> = said.problems.iter().map(|p| &p.what[..]).collect();
            let target = tree(&place.target(""));
            for (path, seen) in &source {
                match target.get(path) {
                    Some(restored) if lost.contains(&&path[..]) => {
                        assert_eq!(restored.content, b"old", "{path:?}");
                    }
                    Some(restored) => assert!(restored.content == seen.content, "{path:?}"),
                    None => assert!(lost.contains(&&path[..]), "{path:?}"),
                }
            }
            assert!(target.keys().all(|path| source.contains_key(path)), "something is left over");
            // A run and its messages go together: what came was said, what did not come too.
            assert_eq!(said.changes.len() + lost.len(), source.len());
            lost_in_all.extend(lost.iter().map(|path| path.to_vec()));
        }
    }
    // All names of a file whose content is lost are named.
    for name in ["linked-0", "linked-2", "a/deep/linked-1", "same-again", "sparse"] {
        assert!(lost_in_all.contains(name.as_bytes()), "{name}");
    }
}

#[test]
fn a_lost_index_costs_nothing() {
    let (place, flipping) = damageable();
    fill(&place);
    let record = place.backup();
    for key in keys(&*place.repo.storage, "index/") {
        flipping.damage(&key, Damage::Delete);
    }
    let cache = tempfile::tempdir().unwrap();
    let repository = place.repo.open_on(flipping.clone(), cache.path());
    // Trees are known, so it is the files' chunks that are looked for.
    for (id, _) in packs(&place, ChunkKind::Tree) {
        let trailer = read_trailer(&*flipping, repository.sealer(), &id).unwrap();
        repository.with_index_mut(|index| index.learn(&[trailer])).unwrap();
    }
    run(&repository, &record, place.options()).unwrap().assert_whole();
    assert_same_tree(&place.source(""), &place.target(""));
}

#[test]
fn a_second_copy_stands_in_for_a_damaged_one() {
    let (place, flipping) = damageable();
    fill(&place);
    let record = place.backup();
    let first = data_packs(&place);
    // Another session that does not see these packs stores everything once more.
    first.iter().for_each(|(key, _)| flipping.damage(key, Damage::Delete));
    let again = place.backup_with(&BackupOptions { parent: Parent::None, ..Default::default() });
    flipping.heal();
    assert!(data_packs(&place).len() > first.len(), "{}", again.id);
    for (key, len) in first {
        flipping.damage(&key, Damage::Flip { offset: len / 3, mask: 1 });
    }
    place.restore(&record, place.options()).assert_whole();
    assert_same_tree(&place.source(""), &place.target(""));
}
