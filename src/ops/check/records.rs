//! Records of damage: what was found is told to everyone, and what is no longer so is taken back.
//! Format: `format-spec/15-damage.md`.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::OpsError;
use super::super::mark::Stock;
use super::Findings;
use super::needs::Needed;
use super::reading::Seen;
use crate::format::damage::{Damage, damage_of_key};
use crate::format::pack::pack_key;
use crate::id::{FrameId, NoteId, PackId};
use crate::index::PackRow;
use crate::limits;
use crate::repo::{RepoError, Repository};
use crate::storage::Listed;

/// Names the packs that somebody found damaged, and that were not read now.
pub(super) fn name(stock: &Stock, seen: &Seen, findings: &mut Findings<'_>) {
    let is_listed = |place: u32| stock.packs.get(place as usize).is_some_and(|pack| pack.listed);
    for (_, record) in &stock.records {
        let place = stock.place(&record.pack).filter(|place| is_listed(*place));
        if place.is_some_and(|place| !seen.packs.contains(&place)) {
            let why = format!("it was found damaged earlier: {}", record.why);
            findings.damaged(&pack_key(&record.pack), why);
        }
    }
}

/// Writes and removes records. They only ever advise: where they cannot be written, that is said.
pub(super) fn keep(
    repository: &Repository,
    stock: &Stock,
    seen: &Seen,
    needed: &Needed,
    findings: &mut Findings<'_>,
) -> Result<(), OpsError> {
    let found = found(stock, seen, needed)?;
    let read: HashSet<PackId> =
        seen.packs.iter().filter_map(|n| Some(stock.packs.get(*n as usize)?.id)).collect();
    // What a record says that does not open is found again, if everything was read.
    let mut listed = (0..).zip(&stock.packs).filter(|(_, pack)| pack.listed);
    let all = listed.all(|(place, _)| seen.packs.contains(&place));
    let changed = change(repository, stock, &found, &read);
    let changed = changed.and_then(|()| if all { remove_unreadable(repository) } else { Ok(()) });
    if let Err(error) = changed {
        findings.progress.note(&format!(
            "what was found damaged cannot be noted down for the next backup: {error}"
        ));
    }
    Ok(())
}

type Found = BTreeMap<PackId, (Vec<FrameId>, String)>;

/// What is damaged, by pack: its frames that cannot be read, and why.
fn found(stock: &Stock, seen: &Seen, needed: &Needed) -> Result<Found, OpsError> {
    let mut found = Found::new();
    let mut add = |row: &PackRow, frames: Vec<FrameId>, why: &str| {
        found.entry(row.id).or_insert_with(|| (frames, why.to_owned()));
    };
    let broken = |place: u32, row: &PackRow| -> Vec<FrameId> {
        let numbered = row.frames.iter().zip(0u16..);
        let broken = numbered.filter(|(_, number)| stock.is_broken((place, *number)));
        broken.map(|(frame, _)| frame.id).collect()
    };
    for (place, why) in seen.whys.iter().filter(|(place, _)| seen.packs.contains(place)) {
        let row = stock.row(*place)?;
        add(&row, broken(*place, &row), why);
    }
    for (place, pack) in (0..).zip(&stock.packs) {
        if needed.missing.contains(&place) && pack.named {
            let row = stock.row(place)?;
            add(&row, row.frames.iter().map(|frame| frame.id).collect(), "it is missing");
        } else if pack.listed && !pack.whole {
            let row = stock.row(place)?;
            let why = format!("it has {} bytes instead of {}", pack.len, row.len);
            add(&row, broken(place, &row), &why);
        }
    }
    for (id, _, error) in &stock.silent {
        found.insert(*id, (Vec::new(), format!("its trailer cannot be read: {error}")));
    }
    if needed.is_anything_unknown {
        found.insert(PackId::default(), (Vec::new(), "nothing says where it was".into()));
    }
    Ok(found)
}

fn change(
    repository: &Repository,
    stock: &Stock,
    found: &Found,
    read: &HashSet<PackId>,
) -> Result<(), RepoError> {
    let mut earlier: HashMap<PackId, Vec<&(NoteId, Damage)>> = HashMap::new();
    for record in &stock.records {
        earlier.entry(record.1.pack).or_default().push(record);
    }
    for (pack, (frames, why)) in found {
        let known = earlier.get(pack).map(Vec::as_slice).unwrap_or_default();
        let says_it = |record: &Damage| frames.iter().all(|frame| record.frames.contains(frame));
        if known.iter().any(|(_, record)| says_it(record)) {
            continue;
        }
        let mut why = why.clone();
        why.truncate(why.floor_char_boundary(limits::TEXT_LEN_MAX));
        let earlier = known.iter().flat_map(|(_, record)| &record.frames);
        let all = frames.iter().chain(earlier).copied().collect();
        repository.record_damage(*pack, all, why)?;
        for (id, _) in known {
            repository.remove_damage(id)?;
        }
    }
    for (id, record) in &stock.records {
        if read.contains(&record.pack) && !found.contains_key(&record.pack) {
            repository.remove_damage(id)?;
        }
    }
    Ok(())
}

fn remove_unreadable(repository: &Repository) -> Result<(), RepoError> {
    let mut ids = Vec::new();
    let each = &mut |listed: Listed| ids.extend(damage_of_key(&listed.key));
    repository.storage().list("damage/", each)?;
    for id in ids {
        if let Err(RepoError::Object { source, .. }) = repository.read_damage(&id)
            && !source.is_unknown()
        {
            repository.remove_damage(&id)?;
        }
    }
    Ok(())
}
