//! Index segments: what they say is read, and made again from the packs' own trailers.

use std::collections::HashSet;

use super::super::{OpsError, SEGMENT_CHUNKS_MAX, is_outage};
use super::{How, RepairPlan, Work, segment_key};
use crate::format::pack::PackInfo;
use crate::id::{PackId, SegmentId};
use crate::index::{IndexError, list_segments, read_segment, write_segment};
use crate::limits;
use crate::pack::read_trailer;
use crate::repo::{RepoError, Repository};

/// What all segments together say: the packs that they name, and those that do not open.
pub(super) struct Segments {
    pub named: HashSet<PackId>,
    pub damaged: Vec<(SegmentId, String)>,
}

/// Reads every segment as it is stored: the local index may know what one said before it was
/// damaged.
pub(super) fn read(repository: &Repository) -> Result<Segments, OpsError> {
    let mut segments = Segments { named: HashSet::new(), damaged: Vec::new() };
    for id in list_segments(repository.storage())? {
        match read_segment(repository.storage(), repository.sealer(), &id) {
            Ok(packs) => segments.named.extend(packs.iter().map(|pack| pack.id)),
            Err(IndexError::Storage(error)) if error.is_not_found() => {}
            Err(error @ IndexError::Storage(_)) => return Err(error.into()),
            Err(error) if error.is_unknown() => return Err(error.into()),
            Err(error) => segments.damaged.push((id, error.to_string())),
        }
    }
    Ok(segments)
}

/// Stores what the packs say that no segment names, *then* deletes the damaged segments. What a
/// pack does not say itself is mended with the pack.
pub(super) fn replace(work: &mut Work<'_>, plan: &RepairPlan) -> Result<(), OpsError> {
    let repository = work.repository;
    let (mut infos, mut chunk_count) = (Vec::new(), 0);
    for id in &plan.unnamed {
        let info = match read_trailer(repository.storage(), repository.sealer(), id) {
            Ok(info) => info,
            Err(error) if is_outage(&error) => return Err(RepoError::from(error).into()),
            Err(_) => continue,
        };
        let count: usize = info.trailer.frames.iter().map(|frame| frame.chunks.len()).sum();
        if chunk_count + count > SEGMENT_CHUNKS_MAX || infos.len() >= limits::SEGMENT_PACKS_MAX {
            store(work, &mut infos)?;
            chunk_count = 0;
        }
        chunk_count += count;
        infos.push(info);
    }
    store(work, &mut infos)?;
    for (id, _) in &plan.segments {
        repository.storage().delete(&segment_key(id))?;
        work.mended(segment_key(id), How::SegmentMade);
    }
    Ok(())
}

fn store(work: &mut Work<'_>, infos: &mut Vec<PackInfo>) -> Result<(), OpsError> {
    if infos.is_empty() {
        return Ok(());
    }
    let repository = work.repository;
    let packs = std::mem::take(infos);
    write_segment(repository.storage(), repository.sealer(), repository.world(), &packs)?;
    Ok(())
}
