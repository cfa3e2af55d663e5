//! Index segments in storage. Format: `format-spec/08-index.md`.

use std::collections::BTreeSet;

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
    let mut ids = BTreeSet::new();
    storage.list("index/", &mut |listed| ids.extend(segment_of_key(&listed.key)))?;
    Ok(ids)
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
