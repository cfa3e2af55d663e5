//! What the newest segments say, in memory.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::build::Builder;
use super::{FrameRow, IndexError, Location, PackRow};
use crate::format::pack::PackInfo;
use crate::id::{ChunkId, FrameId, SegmentId};

/// Ids are keyed hashes: eight of their bytes are as good as any hash of them.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length of the array, which says nothing.
    fn write_usize(&mut self, _: usize) {}
}

pub(super) type IdMap<V> = HashMap<ChunkId, V, BuildHasherDefault<IdHasher>>;

/// No earlier row of the same chunk.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Row {
    pack: u32,
    frame: u16,
    offset: u32,
    len: u32,
    /// The row before it of the same chunk.
    before: u32,
}

#[derive(Debug, Default)]
pub(super) struct Delta {
    /// Each with the number of packs that it speaks of.
    segments: BTreeMap<SegmentId, u32>,
    packs: Vec<Arc<PackRow>>,
    infos: Vec<PackInfo>,
    /// Which segments name which packs.
    named: Vec<(u32, SegmentId)>,
    rows: Vec<Row>,
    newest: IdMap<u32>,
}

pub(super) fn pack_row(info: &PackInfo) -> PackRow {
    let frames = info.trailer.frames.iter().map(|frame| FrameRow {
        id: frame.id,
        offset: frame.offset,
        stored_len: frame.stored_len,
        codec: frame.codec,
    });
    PackRow {
        id: info.id,
        len: info.len,
        kind: info.trailer.kind,
        session: info.trailer.session,
        frames: frames.collect(),
    }
}

impl Delta {
    pub fn segments(&self) -> &BTreeMap<SegmentId, u32> {
        &self.segments
    }

    pub fn add_segment(&mut self, id: SegmentId, packs: &[PackInfo]) {
        self.segments.insert(id, packs.len() as u32);
        for pack in packs {
            self.named.push((self.packs.len() as u32, id));
            self.add_pack(pack);
        }
    }

    /// Which segments name which packs.
    pub fn named(&self) -> &[(u32, SegmentId)] {
        &self.named
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.packs.is_empty()
    }

    pub fn chunk_count(&self) -> usize {
        self.rows.len()
    }

    pub fn pack_count(&self) -> u32 {
        self.packs.len() as u32
    }

    pub fn add_pack(&mut self, info: &PackInfo) {
        let pack = self.packs.len() as u32;
        self.packs.push(Arc::new(pack_row(info)));
        self.infos.push(info.clone());
        // The format bounds frames to 65,535, and chunks far below 2^32.
        for (frame, info) in info.trailer.frames.iter().enumerate() {
            let mut offset = 0;
            for chunk in &info.chunks {
                let number = self.rows.len() as u32;
                let before = self.newest.insert(chunk.id, number).unwrap_or(NONE);
                let frame = frame as u16;
                self.rows.push(Row { pack, frame, offset, len: chunk.len, before });
                offset += chunk.len;
            }
        }
    }

    pub fn locations(&self, id: &ChunkId) -> Vec<Location> {
        let mut found = Vec::new();
        let mut at = self.newest.get(id).copied().unwrap_or(NONE);
        while let Some(row) = self.rows.get(at as usize) {
            if let Some(pack) = self.packs.get(row.pack as usize) {
                let pack = pack.clone();
                let frame = row.frame.into();
                found.push(Location { pack, frame, offset: row.offset, len: row.len });
            }
            at = row.before;
        }
        found
    }

    pub fn packs(&self, each: &mut dyn FnMut(u32, &Arc<PackRow>)) {
        self.packs.iter().enumerate().for_each(|(number, pack)| each(number as u32, pack));
    }

    /// Every place where a frame lies.
    pub fn frames(&self, id: &FrameId, found: &mut Vec<(Arc<PackRow>, usize)>) {
        for pack in &self.packs {
            let at = pack.frames.iter().position(|frame| frame.id == *id);
            found.extend(at.map(|at| (pack.clone(), at)));
        }
    }

    /// Makes a run of it.
    pub fn feed(&self, builder: &mut Builder<'_>) -> Result<(), IndexError> {
        let mut named = self.named.iter().peekable();
        let segments = self.segments.iter();
        let numbers: BTreeMap<SegmentId, u32> =
            segments.map(|(id, count)| (*id, builder.add_segment(*id, *count))).collect();
        for (info, pack) in self.infos.iter().zip(0u32..) {
            let mut about = Vec::new();
            while let Some((_, segment)) = named.next_if(|(named, _)| *named == pack) {
                about.extend(numbers.get(segment));
            }
            builder.add_pack(info, about)?;
        }
        Ok(())
    }
}
