//! Look-ups of one chunk or frame.

use std::sync::Arc;

use super::near::Spot;
use super::run::Run;
use super::{Index, IndexError, Location, PackRow};
use crate::format::FormatError;
use crate::id::{ChunkId, FrameId};

impl Index {
    /// Every place where a chunk is known to lie.
    pub fn locations(&self, id: &ChunkId) -> Result<Vec<Location>, IndexError> {
        let mut found = self.delta.locations(id);
        for run in &self.runs {
            run.spots(id, &mut |spot| {
                found.push(run.location(&spot)?);
                Ok(true)
            })?;
        }
        Ok(found)
    }

    /// Whether any of the places where the chunk lies is `acceptable`.
    pub fn any_location(
        &self,
        id: &ChunkId,
        mut acceptable: impl FnMut(&Location) -> bool,
    ) -> Result<bool, IndexError> {
        if self.delta.locations(id).iter().any(&mut acceptable) {
            return Ok(true);
        }
        let found = self.find(id, &mut |_, run, spot| Ok(acceptable(&run.location(spot)?)))?;
        Ok(found.is_some())
    }

    /// The number of a copy in runs that is `acceptable`: of one that is remembered, or else of
    /// the first.
    fn find(
        &self,
        id: &ChunkId,
        acceptable: &mut dyn FnMut(u64, &Run, &Spot) -> Result<bool, IndexError>,
    ) -> Result<Option<u64>, IndexError> {
        let mut first = 0;
        for run in &self.runs {
            if let Some(spot) = run.near(id) {
                let number = first + u64::from(spot.position);
                if acceptable(number, run, &spot)? {
                    return Ok(Some(number));
                }
            }
            first += run.chunk_count();
        }
        self.find_first(id, acceptable)
    }

    fn find_first(
        &self,
        id: &ChunkId,
        acceptable: &mut dyn FnMut(u64, &Run, &Spot) -> Result<bool, IndexError>,
    ) -> Result<Option<u64>, IndexError> {
        let (mut first, mut found) = (0, None);
        for run in &self.runs {
            run.spots(id, &mut |spot| {
                let number = first + u64::from(spot.position);
                if acceptable(number, run, &spot)? {
                    found = Some(number);
                }
                Ok(found.is_none())
            })?;
            if found.is_some() {
                break;
            }
            first += run.chunk_count();
        }
        Ok(found)
    }

    /// Every place where a frame is known to lie.
    pub fn frame_locations(&self, id: &FrameId) -> Result<Vec<(Arc<PackRow>, usize)>, IndexError> {
        let mut found = Vec::new();
        self.delta.frames(id, &mut found);
        for run in &self.runs {
            run.frames(id, &mut found)?;
        }
        Ok(found)
    }

    /// The number of a chunk among all, as `chunks` counts. The delta must be folded.
    pub fn number(&self, id: &ChunkId) -> Result<Option<u64>, IndexError> {
        self.find_first(id, &mut |_, _, _| Ok(true))
    }

    /// The same for who knows which numbers count, and so need not ask for all copies.
    pub fn number_where(
        &self,
        id: &ChunkId,
        counts: impl Fn(u64) -> bool,
    ) -> Result<Option<u64>, IndexError> {
        self.find(id, &mut |number, _, _| Ok(counts(number)))
    }

    /// The id of the chunk with a number. The delta must be folded.
    pub fn id(&self, number: u64) -> Result<ChunkId, IndexError> {
        let mut below = number;
        for run in &self.runs {
            match below.checked_sub(run.chunk_count()) {
                // A run has fewer than 2^32 chunks.
                None => return run.id(below as u32),
                Some(rest) => below = rest,
            }
        }
        Err(FormatError::Bad("number of a chunk").into())
    }
}
