//! Repacking (P3): what is needed of some packs is copied together before they are condemned.

use std::sync::Arc;

use super::super::mark::Place;
use super::super::{OpsError, is_outage};
use super::highest_number;
use super::plan::{Draft, Fate};
use crate::format::frame::Codec;
use crate::format::pack::{FrameInfo, PackInfo, pack_key};
use crate::format::session::Purpose;
use crate::id::{ChunkId, FrameId, PackId};
use crate::pack::{PackError, SealedFrame, is_outdated, read_frame, read_trailer};
use crate::progress::{Counter, Problem, Progress};
use crate::repo::{RepoError, Repository, Session};
use crate::storage::ErrorKind;

/// What was copied. The session's record is there until `end`, so that others spare its packs.
pub(super) struct Repacked {
    session: Option<Session>,
    /// Packs of which everything that is needed was copied.
    pub packs: Vec<PackId>,
    /// Bytes of the copies.
    pub bytes: u64,
}

impl Repacked {
    /// Removes the session's record: it never commits.
    pub fn end(self) -> Result<(), OpsError> {
        Ok(self.session.map_or(Ok(()), Session::abort)?)
    }
}

/// What came of repacking.
pub(super) enum Outcome {
    /// The plan may be published.
    Ready(Box<Repacked>),
    /// It is to be made again: another prune has begun an epoch meanwhile, or damage was found.
    Again,
}

/// Copies what the draft wants copied.
pub(super) fn repack(
    repository: &Arc<Repository>,
    draft: &Draft,
    number: u64,
    progress: &dyn Progress,
) -> Result<Outcome, OpsError> {
    let nothing =
        || Outcome::Ready(Box::new(Repacked { session: None, packs: Vec::new(), bytes: 0 }));
    if !draft.fates.contains(&Fate::Repack) {
        return Ok(nothing());
    }
    let mut session = match Session::begin(repository, Purpose::Repack, None) {
        Err(RepoError::Storage(error)) if error.kind == ErrorKind::Full => {
            progress.note("there is no room for copies: only what is not needed at all goes");
            return Ok(nothing());
        }
        session => session?,
    };
    if session.epoch() != number {
        session.abort()?;
        return Ok(Outcome::Again);
    }
    progress.phase("repacking", Counter::Objects, Some(draft.figures.repacked.packs));
    match copy_all(&mut session, draft, number, progress) {
        Ok(Copied::Packs(packs)) => {
            let bytes = session.bytes_stored();
            let repacked = Repacked { session: Some(session), packs, bytes };
            Ok(Outcome::Ready(Box::new(repacked)))
        }
        Ok(Copied::Damage(found)) => {
            let _ = session.abort();
            for Damaged { pack, frame, why } in found {
                repository.record_damage(pack, vec![frame], why)?;
            }
            Ok(Outcome::Again)
        }
        Ok(Copied::Overtaken) => {
            session.abort()?;
            Ok(Outcome::Again)
        }
        Err(OpsError::Repo(RepoError::Storage(error))) if error.kind == ErrorKind::Full => {
            // What does not fit is not copied. To free what needs no copy takes little room.
            progress.note("there is no room for copies: only what is not needed at all goes");
            let _ = session.abort();
            Ok(nothing())
        }
        Err(error) => {
            // What was copied is nobody's, and goes with the next prune.
            let _ = session.abort();
            Err(error)
        }
    }
}

fn copy_all(
    session: &mut Session,
    draft: &Draft,
    number: u64,
    progress: &dyn Progress,
) -> Result<Copied, OpsError> {
    let (mut packs, mut found) = (Vec::new(), Vec::new());
    for (place, (pack, fate)) in (0u32..).zip(draft.stock.packs.iter().zip(&draft.fates)) {
        if *fate != Fate::Repack {
            continue;
        }
        if progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        match copy_pack(session, draft, place, &pack.id) {
            Ok(None) => packs.push(pack.id),
            // A prune that was faster may have swept it.
            Ok(Some(_)) if highest_number(session.repository())? > number => {
                return Ok(Copied::Overtaken);
            }
            // It stays as it is, and so does whatever was copied of it already.
            Ok(Some(damage)) => {
                progress.problem(&Problem::damage(pack_key(&pack.id), &damage.error));
                found.extend(elsewhere(draft, damage)?);
            }
            Err(CopyError::Failed(error)) => return Err(error),
            Err(CopyError::Damaged(error)) => return Err(RepoError::from(error).into()),
        }
        progress.add(Counter::Objects, 1);
    }
    if !found.is_empty() {
        return Ok(Copied::Damage(found));
    }
    session.flush()?;
    Ok(Copied::Packs(packs))
}

/// A frame that does not open, if other packs have all that is needed of it: this plan may
/// condemn them, the next one knows better.
fn elsewhere(draft: &Draft, damage: FrameDamage) -> Result<Option<Damaged>, OpsError> {
    let FrameDamage { pack, place, frame, error } = damage;
    let mut others = false;
    for chunk in &frame.chunks {
        if is_needed(draft, place, &chunk.id)? {
            if draft.stock.copies(&chunk.id)?.len() < 2 {
                return Ok(None);
            }
            others = true;
        }
    }
    Ok(others.then(|| Damaged { pack, frame: frame.id, why: error.to_string() }))
}

/// A frame of a pack that does not open, and why.
#[derive(Debug)]
pub(super) struct Damaged {
    pub pack: PackId,
    pub frame: FrameId,
    pub why: String,
}

/// What came of copying.
enum Copied {
    /// These packs may go.
    Packs(Vec<PackId>),
    /// This was found on the way: the plan was made without knowing it.
    Damage(Vec<Damaged>),
    /// Another prune has begun an epoch meanwhile.
    Overtaken,
}

struct FrameDamage {
    pack: PackId,
    place: Place,
    frame: FrameInfo,
    error: PackError,
}

enum CopyError {
    /// The pack cannot be copied; others can.
    Damaged(PackError),
    Failed(OpsError),
}

impl From<PackError> for CopyError {
    fn from(error: PackError) -> Self {
        match is_outage(&error) {
            true => Self::Failed(RepoError::from(error).into()),
            false => Self::Damaged(error),
        }
    }
}

impl From<RepoError> for CopyError {
    fn from(error: RepoError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<OpsError> for CopyError {
    fn from(error: OpsError) -> Self {
        Self::Failed(error)
    }
}

/// Copies what is needed of a pack. Returns the first frame that does not open.
fn copy_pack(
    session: &mut Session,
    draft: &Draft,
    pack: u32,
    id: &PackId,
) -> Result<Option<FrameDamage>, CopyError> {
    let repository = session.repository().clone();
    let info = match read_trailer(repository.storage(), repository.sealer(), id) {
        Ok(info) => info,
        Err(error) if is_outage(&error) => return Err(error.into()),
        // The index has what it says.
        Err(_) => draft.stock.describe(pack)?,
    };
    for (frame, number) in info.trailer.frames.iter().zip(0u16..) {
        let place = (pack, number);
        if draft.stock.is_broken(place) {
            continue;
        }
        match copy_frame(session, draft, place, &info, frame) {
            Ok(()) => {}
            Err(CopyError::Damaged(error)) => {
                return Ok(Some(FrameDamage { pack: *id, place, frame: frame.clone(), error }));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn copy_frame(
    session: &mut Session,
    draft: &Draft,
    place: Place,
    info: &PackInfo,
    frame: &FrameInfo,
) -> Result<(), CopyError> {
    let mut needed = Vec::with_capacity(frame.chunks.len());
    for chunk in &frame.chunks {
        needed.push(is_needed(draft, place, &chunk.id)?);
    }
    let whole = draft.usage.is_needed_whole(&draft.stock, place);
    if !whole && !needed.contains(&true) {
        return Ok(());
    }
    let storage = session.repository().storage();
    let bytes = read_frame(storage, &info.id, frame.offset, frame.stored_len)?;
    let is_old = is_outdated(session.repository().keys(), &bytes)?;
    match whole || !(is_old || needed.contains(&false)) {
        true => move_frame(session, info, frame, bytes),
        false => copy_chunks(session, info, frame, bytes, &needed),
    }
}

/// Whether a chunk is needed, and from here.
fn is_needed(draft: &Draft, place: Place, id: &ChunkId) -> Result<bool, OpsError> {
    let marked = draft.stock.number(id)?.is_some_and(|number| draft.marks.get(number));
    Ok(marked && draft.usage.choose(&draft.stock, &draft.stock.copies(id)?) == Some(place))
}

/// Moves a frame as it is, once it was seen to open: under the same name, which deltas on it
/// know, and without being compressed and sealed again, unless a rotation has replaced its key.
fn move_frame(
    session: &mut Session,
    info: &PackInfo,
    frame: &FrameInfo,
    bytes: Vec<u8>,
) -> Result<(), CopyError> {
    let opened = session.repository().open_frame(&mut bytes.clone())?;
    let alike = opened.id == frame.id
        && opened.kind == info.trailer.kind
        && opened.chunk_lens.iter().eq(frame.chunks.iter().map(|chunk| &chunk.len));
    if !alike {
        return Err(PackError::Misplaced(frame.id).into());
    }
    Ok(session.add_frame(SealedFrame { bytes, info: FrameInfo { offset: 0, ..frame.clone() } })?)
}

/// Copies the needed chunks of a frame, each checked against its name.
fn copy_chunks(
    session: &mut Session,
    info: &PackInfo,
    frame: &FrameInfo,
    mut bytes: Vec<u8>,
    needed: &[bool],
) -> Result<(), CopyError> {
    let repository = session.repository().clone();
    let opened = repository.open_frame(&mut bytes)?;
    let kind = info.trailer.kind;
    let mut live = Vec::new();
    for ((chunk, plain), needed) in frame.chunks.iter().zip(opened.chunks()).zip(needed) {
        let id = repository.chunk_id(kind, plain);
        if *needed && id != chunk.id {
            return Err(PackError::Misplaced(frame.id).into());
        }
        if *needed {
            live.push((id, plain));
        }
    }
    let missing = needed.iter().filter(|needed| **needed).count() != live.len();
    if missing || opened.id != frame.id || opened.kind != kind {
        return Err(PackError::Misplaced(frame.id).into());
    }
    for (id, plain) in live {
        match opened.codec {
            Codec::Delta { base } => session.add_copy_like(id, plain, base)?,
            Codec::Raw | Codec::Zstd => session.add_copy(kind, id, plain)?,
        }
    }
    Ok(())
}
