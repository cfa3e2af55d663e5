//! Chunks as they are read: located, their frame opened once, their id checked.
//! Format: `format-spec/11-sessions.md#reader` (R1, R2).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::{BaseFrame, RepoError, Repository};
use crate::format::frame::{ChunkKind, Codec};
use crate::id::{ChunkId, FrameId, PackId};
use crate::index::Location;
use crate::pack::{OpenedFrame, PackError, read_frame};

/// A chunk within the frame that it was read with.
#[derive(Debug, Clone)]
pub struct Found {
    frame: Arc<OpenedFrame>,
    start: usize,
    end: usize,
}

impl Found {
    /// The chunk's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.frame.plain.get(self.start..self.end).unwrap_or_default()
    }
}

/// So many frames are kept at most, however small they are: they are looked through one by one.
const FRAMES_MAX: usize = 96;

/// A frame's place: its pack, and its offset there.
type Place = (PackId, u32);

/// Reads chunks, and keeps the frames that were opened last: what lies together is asked for
/// together.
#[derive(Debug)]
pub struct ChunkReader {
    repository: Arc<Repository>,
    frames: Mutex<Frames>,
}

#[derive(Debug)]
struct Frames {
    kept: VecDeque<(Place, Arc<OpenedFrame>)>,
    bytes: usize,
    bytes_max: usize,
}

impl Frames {
    fn get(&mut self, is_it: impl Fn(&Place, &OpenedFrame) -> bool) -> Option<Arc<OpenedFrame>> {
        let at = self.kept.iter().position(|(place, frame)| is_it(place, frame))?;
        let found = self.kept.remove(at)?;
        let frame = found.1.clone();
        self.kept.push_back(found);
        Some(frame)
    }

    fn keep(&mut self, place: Place, frame: Arc<OpenedFrame>) {
        self.bytes += frame.plain.len();
        self.kept.push_back((place, frame));
        while (self.bytes > self.bytes_max || self.kept.len() > FRAMES_MAX) && self.kept.len() > 1 {
            if let Some((_, oldest)) = self.kept.pop_front() {
                self.bytes -= oldest.plain.len();
            }
        }
    }
}

impl ChunkReader {
    /// Keeps frames of up to `bytes_max` of plaintext.
    pub fn new(repository: &Arc<Repository>, bytes_max: usize) -> Self {
        let frames = Mutex::new(Frames { kept: VecDeque::new(), bytes: 0, bytes_max });
        Self { repository: repository.clone(), frames }
    }

    /// The repository that is read.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Reads a chunk from any of the places where it lies.
    pub fn read(&self, kind: ChunkKind, id: &ChunkId) -> Result<Found, RepoError> {
        let mut worst = None;
        for attempt in 0..3 {
            for location in self.repository.with_index(|index| index.locations(id))?? {
                match self.read_at(kind, id, &location) {
                    Ok(found) => return Ok(found),
                    Err(error) => worst = Some(error),
                }
            }
            // A prune may have moved it, or its segment may be lost.
            match attempt {
                0 => _ = self.repository.refresh_index()?,
                1 => _ = self.repository.learn_from_trailers()?,
                _ => {}
            }
        }
        let worst = worst.filter(|error| !is_gone(error));
        Err(RepoError::Chunk { id: *id, source: worst.map(Box::new) })
    }

    /// Reads a chunk from one place.
    fn read_at(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        location: &Location,
    ) -> Result<Found, PackError> {
        let frame = self.frame_at(location)?;
        self.found(kind, id, location, frame)
    }

    /// The opened frame of a place.
    fn frame_at(&self, location: &Location) -> Result<Arc<OpenedFrame>, PackError> {
        let row = location.pack.frames.get(location.frame).ok_or(PackError::Verify)?;
        let place = (location.pack.id, row.offset);
        let kept = self.lock().get(|kept, _| *kept == place);
        if let Some(frame) = kept {
            return Ok(frame);
        }
        let mut bytes =
            read_frame(self.repository.storage(), &location.pack.id, row.offset, row.stored_len)?;
        let opened = self.repository.open_frame_on(&mut bytes, |id| self.base(id))?;
        if opened.id != row.id {
            return Err(PackError::Misplaced(row.id));
        }
        let opened = Arc::new(opened);
        self.lock().keep(place, opened.clone());
        Ok(opened)
    }

    /// The base of a delta frame; what follows is likely a delta on it, too.
    fn base(&self, id: &FrameId) -> Result<Arc<OpenedFrame>, PackError> {
        let kept = self.lock().get(|_, frame| frame.id == *id);
        if let Some(frame) = kept.filter(|frame| !matches!(frame.codec, Codec::Delta { .. })) {
            return Ok(frame);
        }
        let BaseFrame { opened, pack, row } = self.repository.open_base(id)?;
        self.lock().keep((pack, row.offset), opened.clone());
        Ok(opened)
    }

    /// A chunk of an opened frame; its id is checked, whatever the index says.
    fn found(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        location: &Location,
        frame: Arc<OpenedFrame>,
    ) -> Result<Found, PackError> {
        let start = location.offset as usize;
        let found = Found { frame, start, end: start + location.len as usize };
        let actual = self.repository.chunk_id(kind, found.bytes());
        match actual == *id && found.frame.kind == kind {
            true => Ok(found),
            false => Err(PackError::Misplaced(found.frame.id)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_gone(error: &PackError) -> bool {
    matches!(error, PackError::Storage(error) if error.is_not_found())
}
