//! Index segments in storage. Format: `format-spec/08-index.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::IndexError;
use crate::format::envelope::ObjectType;
use crate::format::pack::{PackInfo, decode_segment, encode_segment};
use crate::id::SegmentId;
use crate::limits;
use crate::object::{ObjectError, Sealer};
use crate::storage::Storage;
use crate::world::{World, random};

/// Key of a segment.
pub fn segment_key(id: &SegmentId) -> String {
    format!("index/{id}")
}

/// The segment that lies under a key.
pub fn segment_of_key(key: &str) -> Option<SegmentId> {
    SegmentId::from_hex(key.strip_prefix("index/")?).ok()
}

/// Stores a new segment under a fresh name.
pub fn write_segment(
    storage: &dyn Storage,
    sealer: &Sealer,
    world: &dyn World,
    packs: &[PackInfo],
) -> Result<SegmentId, IndexError> {
    let id = SegmentId(random(world));
    let key = segment_key(&id);
    let object = sealer.seal(world, ObjectType::Segment, &key, &encode_segment(packs))?;
    storage.put(&key, &[&object])?;
    Ok(id)
}

/// Names of the segments that are there.
pub fn list_segments(storage: &dyn Storage) -> Result<BTreeSet<SegmentId>, IndexError> {
    Ok(list_with_lens(storage)?.into_keys().collect())
}

/// Segments that are there, with their lengths, bytes.
pub(super) fn list_with_lens(
    storage: &dyn Storage,
) -> Result<BTreeMap<SegmentId, u64>, IndexError> {
    let mut segments = BTreeMap::new();
    storage.list("index/", &mut |listed| {
        segments.extend(segment_of_key(&listed.key).map(|id| (id, listed.len)));
    })?;
    Ok(segments)
}

/// What a segment says.
pub fn read_segment(
    storage: &dyn Storage,
    sealer: &Sealer,
    id: &SegmentId,
) -> Result<Vec<PackInfo>, IndexError> {
    let key = segment_key(id);
    let object = match storage.get(&key, limits::OBJECT_LEN_MAX as u64) {
        Err(error) if error.is_damage() => {
            return Err(IndexError::Segment { id: *id, source: ObjectError::Unreadable });
        }
        object => object?,
    };
    sealer
        .open(ObjectType::Segment, &key, object)
        .and_then(|payload| Ok(decode_segment(&payload)?))
        .map_err(|source| IndexError::Segment { id: *id, source })
}

/// Gives what each segment says to `each`, until it says stop. Several are read at once.
pub(super) fn read_ahead(
    storage: &dyn Storage,
    sealer: &Sealer,
    ids: &[SegmentId],
    threads: usize,
    each: &mut dyn FnMut(SegmentId, Result<Vec<PackInfo>, IndexError>) -> Result<bool, IndexError>,
) -> Result<(), IndexError> {
    let next = AtomicUsize::new(0);
    // Nothing waits in it: what was read is held by who read it.
    let (sender, receiver) = crossbeam_channel::bounded(0);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(ids.len()) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send((*id, read_segment(storage, sealer, id))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // Dropped at the end of the loop, it ends the threads.
        for (id, packs) in receiver {
            if !each(id, packs)? {
                break;
            }
        }
        Ok(())
    })
}
