//! The structure but for the trees: every object opens and is understood, and packs are as the
//! index has them.

use std::sync::Arc;

use super::super::OpsError;
use super::super::mark::Stock;
use super::Findings;
use crate::format::FormatError;
use crate::format::damage::Damage;
use crate::format::envelope::ObjectType;
use crate::format::epoch::{EpochStep, Plan, Sweep, epoch_of_key};
use crate::format::pack::pack_key;
use crate::format::session::{Session, SessionObject, session_key, session_of_key};
use crate::format::snapshot::{Forgotten, Note, Snapshot};
use crate::index::segment_key;
use crate::progress::{Counter, Problem};
use crate::repo::{RepoError, Repository};

/// Opens every object but packs and index segments.
pub(super) fn objects(
    repository: &Arc<Repository>,
    findings: &mut Findings<'_>,
) -> Result<(), OpsError> {
    findings.progress.phase("opening objects", Counter::Objects, None);
    for Problem { what, why, .. } in repository.damaged_openers()? {
        findings.damaged(&String::from_utf8_lossy(&what), why);
    }
    for id in repository.unexplained()? {
        findings.progress.note(&format!(
            "snapshot {} does not count: {} is missing, and nobody is known to have forgotten it",
            id.short(),
            session_key(&id)
        ));
    }
    let mut keys = Vec::new();
    for prefix in ["snapshots/", "notes/", "forgotten/", "sessions/", "epochs/", "damage/"] {
        repository.storage().list(prefix, &mut |listed| keys.push(listed.key))?;
    }
    keys.sort();
    for key in keys {
        let Some(kind) = kind_of(&key) else {
            findings.progress.note(&format!(
                "{}: no object of a repository",
                crate::text::escape(key.as_bytes())
            ));
            continue;
        };
        findings.progress.add(Counter::Objects, 1);
        match repository.read_object(kind, &key) {
            Ok(payload) => {
                if let Some(Err(error)) = payload.map(|payload| decode(kind, &payload)) {
                    findings.damaged(&key, error.to_string());
                }
            }
            Err(RepoError::Object { key, source }) => findings.damaged(&key, source.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn kind_of(key: &str) -> Option<ObjectType> {
    let (directory, _) = key.split_once('/')?;
    match directory {
        "snapshots" => Some(ObjectType::Snapshot),
        "notes" => Some(ObjectType::Note),
        "forgotten" => Some(ObjectType::Forgotten),
        "damage" => Some(ObjectType::Damage),
        "sessions" => match session_of_key(key)? {
            SessionObject::Record(_) => Some(ObjectType::Session),
            SessionObject::Fence(_) => Some(ObjectType::Fence),
        },
        "epochs" => match epoch_of_key(key)?.1 {
            EpochStep::Plan => Some(ObjectType::Plan),
            EpochStep::Sweep => Some(ObjectType::Sweep),
            EpochStep::Done => Some(ObjectType::Done),
        },
        _ => None,
    }
}

/// Whether what an object says can be understood.
fn decode(kind: ObjectType, payload: &[u8]) -> Result<(), FormatError> {
    match kind {
        ObjectType::Snapshot => Snapshot::decode(payload).map(drop),
        ObjectType::Note => Note::decode(payload).map(drop),
        ObjectType::Forgotten => Forgotten::decode(payload).map(drop),
        ObjectType::Session => Session::decode(payload).map(drop),
        ObjectType::Plan => Plan::decode(payload).map(drop),
        ObjectType::Sweep => Sweep::decode(payload).map(drop),
        ObjectType::Damage => Damage::decode(payload).map(drop),
        // Those that are there say all that they have to say; the others are read elsewhere.
        ObjectType::Fence
        | ObjectType::Done
        | ObjectType::Trailer
        | ObjectType::Segment
        | ObjectType::Parity => Ok(()),
    }
}

/// Compares what the index says with the packs that are there.
pub(super) fn packs(
    repository: &Arc<Repository>,
    findings: &mut Findings<'_>,
) -> Result<Stock, OpsError> {
    findings.progress.phase("comparing packs with the index", Counter::Objects, None);
    let stock = Stock::take(repository)?;
    for (id, error) in &stock.damaged {
        findings.damaged(&segment_key(id), error.to_string());
    }
    for (id, _, error) in &stock.silent {
        findings.damaged(&pack_key(id), format!("its trailer cannot be read: {error}"));
    }
    for (place, pack) in (0..).zip(&stock.packs) {
        if pack.listed && !pack.whole {
            let known = stock.row(place)?;
            let why = format!("it has {} bytes instead of {}", pack.len, known.len);
            findings.damaged(&pack_key(&pack.id), why);
        }
    }
    let listed = stock.packs.iter().filter(|pack| pack.listed).count();
    findings.report.packs = (listed + stock.silent.len()) as u64;
    findings.report.packs_unknown = stock.packs.iter().filter(|pack| pack.unnamed).count() as u64;
    Ok(stock)
}
