//! Damaged packs: what they had is written anew, from parity or from the frames that open.

use std::collections::HashSet;

use super::super::mark::Stock;
use super::super::{OpsError, is_passing};
use super::{How, RepairPlan, Source, Work, pack_key};
use crate::format::frame::FrameHeader;
use crate::format::pack::{ChunkInfo, FrameInfo};
use crate::id::{FrameId, PackId};
use crate::limits;
use crate::pack::{PackError, SealedFrame, mend_pack, read_frame, read_trailer, scan_frames};
use crate::progress::Counter;
use crate::repo::{RepoError, Repository, Session};
use crate::storage::Storage;

/// What a disk cannot read, it cannot read in pages of this length.
const PAGE_LEN: usize = 4 << 10;

/// A pack's bytes as its parity gives them; `None` where it has no parity, or not enough.
pub(super) fn from_parity(
    repository: &Repository,
    id: &PackId,
) -> Result<Option<Vec<u8>>, OpsError> {
    match mend_pack(repository.storage(), repository.sealer(), id) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_passing(&error) => Err(RepoError::from(error).into()),
        Err(_) => Ok(None),
    }
}

/// A frame with all that a trailer says of it, if it opens and has this name.
pub(super) fn sealed(repository: &Repository, bytes: Vec<u8>, id: FrameId) -> Option<SealedFrame> {
    let opened = repository.open_frame(&mut bytes.clone()).ok().filter(|opened| opened.id == id)?;
    let chunk = |plain: &[u8]| ChunkInfo {
        id: repository.chunk_id(opened.kind, plain),
        // Chunks are bounded far below 2^32, and so are frames.
        len: plain.len() as u32,
    };
    let chunks = opened.chunks().map(chunk).collect();
    let (stored_len, codec) = (bytes.len() as u32, opened.codec);
    Some(SealedFrame { bytes, info: FrameInfo { id, offset: 0, stored_len, codec, chunks } })
}

/// Writes anew what can be had of the packs that a prune cannot read by itself.
pub(super) fn mend(
    work: &mut Work<'_>,
    session: &mut Session,
    plan: &RepairPlan,
) -> Result<(), OpsError> {
    let repository = work.repository;
    let stock = Stock::take(repository)?;
    let damaged: HashSet<PackId> = plan.packs.iter().map(|pack| pack.id).collect();
    work.progress.phase("mending packs", Counter::Objects, Some(damaged.len() as u64));
    for pack in &plan.packs {
        if work.progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        let mended = match pack.from {
            Source::Parity => from_parity(repository, &pack.id)?,
            _ => None,
        };
        let how = match mended {
            Some(bytes) => {
                let places: Vec<_> = scan_frames(&bytes).collect();
                for (start, len) in places {
                    let frame = bytes.get(start..start + len).unwrap_or_default().to_vec();
                    add(session, &stock, &damaged, frame)?;
                }
                Some(How::Parity)
            }
            None => salvage(session, &stock, &damaged, &pack.id)?.map(How::Frames),
        };
        session.flush()?;
        if let Some(how) = how {
            work.mended(pack_key(&pack.id), how);
        }
        work.progress.add(Counter::Objects, 1);
    }
    Ok(())
}

/// Writes anew the frames that open of a pack whose trailer does not: others are read by the
/// prune. Says how many.
fn salvage(
    session: &mut Session,
    stock: &Stock,
    damaged: &HashSet<PackId>,
    id: &PackId,
) -> Result<Option<u64>, OpsError> {
    let repository = session.repository().clone();
    let storage = repository.storage();
    let outage = |error| OpsError::from(RepoError::from(error));
    match read_trailer(storage, repository.sealer(), id) {
        Ok(_) => return Ok(None),
        Err(PackError::Storage(error)) if error.is_not_found() => return Ok(None),
        Err(error) if is_passing(&error) => return Err(outage(error)),
        Err(_) => {}
    }
    let mut count = 0;
    let known = (0..).zip(&stock.packs).find(|(_, pack)| pack.id == *id).map(|(place, _)| place);
    if let Some(place) = known {
        for frame in &stock.row(place)?.frames {
            match read_frame(storage, id, frame.offset, frame.stored_len) {
                Ok(bytes) => count += u64::from(add(session, stock, damaged, bytes)?),
                Err(error) if is_passing(&error) => return Err(outage(error)),
                Err(_) => {}
            }
        }
    } else {
        let bytes = what_is_readable(storage, id)?;
        for (start, len) in scan_frames(&bytes) {
            let frame = bytes.get(start..start + len).unwrap_or_default().to_vec();
            count += u64::from(add(session, stock, damaged, frame)?);
        }
    }
    Ok(Some(count).filter(|count| *count > 0))
}

/// A pack's bytes, with zeros for what cannot be read of it.
fn what_is_readable(storage: &dyn Storage, id: &PackId) -> Result<Vec<u8>, OpsError> {
    let key = pack_key(id);
    match storage.get(&key, limits::PACK_LEN_MAX) {
        Err(error) if error.is_damage() => {}
        bytes => return Ok(bytes?),
    }
    // One longer than the limit is none of ours; what is behind the limit is not looked at.
    let mut bytes = vec![0; storage.stat(&key)?.min(limits::PACK_LEN_MAX) as usize];
    for (page, offset) in bytes.chunks_mut(PAGE_LEN).zip((0u64..).step_by(PAGE_LEN)) {
        match storage.get_range(&key, offset, page.len()) {
            Ok(read) => page.copy_from_slice(&read),
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// Adds a frame if it opens and holds anything that no sound pack has.
fn add(
    session: &mut Session,
    stock: &Stock,
    damaged: &HashSet<PackId>,
    bytes: Vec<u8>,
) -> Result<bool, OpsError> {
    let Ok((header, _)) = FrameHeader::decode(&bytes) else { return Ok(false) };
    let Some(frame) = sealed(session.repository(), bytes, header.id) else { return Ok(false) };
    let is_sound = |place: u32| {
        let pack = stock.packs.get(place as usize);
        pack.is_some_and(|pack| !damaged.contains(&pack.id))
    };
    for chunk in &frame.info.chunks {
        if !stock.copies(&chunk.id)?.iter().any(|(place, _)| is_sound(*place)) {
            session.add_frame(frame)?;
            return Ok(true);
        }
    }
    Ok(false)
}
