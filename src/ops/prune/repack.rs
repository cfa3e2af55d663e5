//! Repacking (P3): what is needed of some packs is copied together before they are condemned.

use std::sync::Arc;

use super::super::mark::Place;
use super::super::{OpsError, is_outage};
use super::highest_number;
use super::plan::{Draft, Fate};
use crate::format::pack::{FrameInfo, PackInfo, pack_key};
use crate::format::session::Purpose;
use crate::id::{ChunkId, PackId};
use crate::pack::{PackError, SealedFrame, read_frame, read_trailer};
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

/// Copies what the draft wants copied. `None`: another prune has begun an epoch meanwhile.
pub(super) fn repack(
    repository: &Arc<Repository>,
    draft: &Draft,
    number: u64,
    progress: &dyn Progress,
) -> Result<Option<Repacked>, OpsError> {
    let nothing = Repacked { session: None, packs: Vec::new(), bytes: 0 };
    if !draft.fates.contains(&Fate::Repack) {
        return Ok(Some(nothing));
    }
    let mut session = match Session::begin(repository, Purpose::Repack, None) {
        Err(RepoError::Storage(error)) if error.kind == ErrorKind::Full => {
            progress.note("there is no room for copies: only what is not needed at all goes");
            return Ok(Some(nothing));
        }
        session => session?,
    };
    if session.epoch() != number {
        session.abort()?;
        return Ok(None);
    }
    progress.phase("repacking", Counter::Objects, Some(draft.figures.repacked.packs));
    match copy_all(&mut session, draft, number, progress) {
        Ok(Some(packs)) => {
            let bytes = session.bytes_stored();
            Ok(Some(Repacked { session: Some(session), packs, bytes }))
        }
        Ok(None) => {
            session.abort()?;
            Ok(None)
        }
        Err(OpsError::Repo(RepoError::Storage(error))) if error.kind == ErrorKind::Full => {
            // What does not fit is not copied. To free what needs no copy takes little room.
            progress.note("there is no room for copies: only what is not needed at all goes");
            let _ = session.abort();
            Ok(Some(nothing))
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
) -> Result<Option<Vec<PackId>>, OpsError> {
    let mut packs = Vec::new();
    for (place, (pack, fate)) in (0u32..).zip(draft.stock.packs.iter().zip(&draft.fates)) {
        if *fate != Fate::Repack {
            continue;
        }
        if progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        match copy_pack(session, draft, place, &pack.id) {
            Ok(()) => packs.push(pack.id),
            // A prune that was faster may have swept it.
            Err(CopyError::Damaged(_)) if highest_number(session.repository())? > number => {
                return Ok(None);
            }
            // It stays as it is, and so does whatever was copied of it already.
            Err(CopyError::Damaged(error)) => {
                progress.problem(&Problem::damage(pack_key(&pack.id), error));
            }
            Err(CopyError::Failed(error)) => return Err(error),
        }
        progress.add(Counter::Objects, 1);
    }
    session.flush()?;
    Ok(Some(packs))
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

fn copy_pack(
    session: &mut Session,
    draft: &Draft,
    pack: u32,
    id: &PackId,
) -> Result<(), CopyError> {
    let repository = session.repository().clone();
    let info = read_trailer(repository.storage(), repository.sealer(), id)?;
    for (frame, number) in info.trailer.frames.iter().zip(0u16..) {
        let place = (pack, number);
        let mut needed = Vec::with_capacity(frame.chunks.len());
        for chunk in &frame.chunks {
            needed.push(is_needed(draft, place, &chunk.id)?);
        }
        let whole = draft.usage.whole_frames.contains(&place);
        if !whole && !needed.contains(&true) {
            continue;
        }
        let bytes = read_frame(repository.storage(), id, frame.offset, frame.stored_len)?;
        if whole || !needed.contains(&false) {
            move_frame(session, &info, frame, bytes)?;
        } else {
            copy_chunks(session, &info, frame, bytes, &needed)?;
        }
    }
    Ok(())
}

/// Whether a chunk is needed, and from here.
fn is_needed(draft: &Draft, place: Place, id: &ChunkId) -> Result<bool, OpsError> {
    let marked = draft.stock.number(id)?.is_some_and(|number| draft.marks.get(number));
    Ok(marked && draft.usage.choose(&draft.stock, &draft.stock.copies(id)?) == Some(place))
}

/// Moves a frame as it is, once it was seen to open: under the same name, which deltas on it
/// know, and without being compressed and sealed again.
fn move_frame(
    session: &mut Session,
    info: &PackInfo,
    frame: &FrameInfo,
    bytes: Vec<u8>,
) -> Result<(), CopyError> {
    let opened = session.repository().open_frame(bytes.clone())?;
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
    bytes: Vec<u8>,
    needed: &[bool],
) -> Result<(), CopyError> {
    let repository = session.repository().clone();
    let opened = repository.open_frame(bytes)?;
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
        session.add_copy(kind, id, plain)?;
    }
    Ok(())
}
