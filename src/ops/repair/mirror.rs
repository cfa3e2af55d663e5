//! What another repository of the family has of what is lost here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::mark::Stock;
use super::super::{OpsError, is_passing};
use super::{How, Work, find, packs};
use crate::format::frame::ChunkKind;
use crate::id::{ChunkId, FrameId, PackId};
use crate::pack::read_frame;
use crate::progress::Counter;
use crate::repo::{ChunkReader, RepoError, Repository, Session};

/// Opened frames that are kept, bytes.
const KEPT: usize = 16 << 20;

/// Another repository that names chunks as the one that is repaired does.
#[derive(Debug)]
pub struct Mirror {
    repository: Arc<Repository>,
    packs: HashSet<PackId>,
}

impl Mirror {
    /// `None` if it is of another family: then nothing in it has the names that are looked for.
    pub fn of(repository: &Repository, from: Arc<Repository>) -> Result<Option<Self>, RepoError> {
        let family = |r: &Repository| (r.config().family, r.keys().data_id(b""));
        if family(repository) != family(&from) {
            return Ok(None);
        }
        from.refresh_index()?;
        let packs = from.list_packs()?.into_iter().map(|(id, _)| id).collect();
        Ok(Some(Self { repository: from, packs }))
    }

    /// Whether it has a chunk.
    pub(super) fn has(&self, id: &ChunkId) -> Result<bool, OpsError> {
        let there = |pack: &PackId| self.packs.contains(pack);
        Ok(self
            .repository
            .with_index(|index| index.any_location(id, |location| there(&location.pack.id)))??)
    }

    /// Moves those of the frames that it has as they are, under the same names.
    fn fetch_frames(
        &self,
        session: &mut Session,
        wanted: &HashSet<FrameId>,
    ) -> Result<u64, OpsError> {
        let mut places = HashMap::new();
        self.repository.with_index(|index| {
            index.packs(&mut |_, pack| {
                let hits = pack.frames.iter().filter(|frame| wanted.contains(&frame.id));
                let there = self.packs.contains(&pack.id);
                places.extend(hits.filter(|_| there).map(|frame| (frame.id, (pack.id, *frame))));
            })
        })??;
        let mut count = 0;
        for (pack, frame) in places.into_values() {
            let storage = self.repository.storage();
            match read_frame(storage, &pack, frame.offset, frame.stored_len) {
                Ok(bytes) => {
                    if let Some(sealed) = packs::sealed(session.repository(), bytes, frame.id) {
                        session.add_frame(sealed)?;
                        count += 1;
                    }
                }
                Err(error) if is_passing(&error) => return Err(RepoError::from(error).into()),
                Err(_) => {}
            }
        }
        Ok(count)
    }
}

/// Fetches what is lost as long as the other repository gives more of it: what lies below a tree
/// is known only when the tree is there again.
pub(super) fn fetch_lost(work: &mut Work<'_>, session: &mut Session) -> Result<(), OpsError> {
    let Some(mirror) = work.options.from else { return Ok(()) };
    let reader = ChunkReader::new(&mirror.repository, KEPT);
    let mut tried: HashSet<ChunkId> = HashSet::new();
    loop {
        let stock = Stock::take(work.repository)?;
        let lost = find::losses(work.repository, &stock, work.progress)?;
        let mut wanted: Vec<(ChunkKind, ChunkId)> = Vec::new();
        let mut frames = HashSet::new();
        for lost in &lost {
            if tried.insert(lost.id) {
                wanted.push((lost.kind, lost.id));
                for place in stock.known_places(&lost.id)? {
                    let row = stock.row(place.0)?;
                    frames.extend(row.frames.get(usize::from(place.1)).map(|frame| frame.id));
                    frames.extend(stock.base(place)?);
                }
            }
        }
        let phase = "fetching from the other repository";
        work.progress.phase(phase, Counter::Objects, Some(wanted.len() as u64));
        let mut gained = mirror.fetch_frames(session, &frames)?;
        session.flush()?;
        for (kind, id) in wanted {
            if work.progress.cancelled() {
                return Err(OpsError::Cancelled);
            }
            work.progress.add(Counter::Objects, 1);
            if session.has(&id)? {
                work.mended(format!("chunk {id}"), How::Mirror);
                continue;
            }
            match reader.read(kind, &id) {
                // The other repository's keys say what it is; here ours do.
                Ok(found) if work.repository.chunk_id(kind, found.bytes()) == id => {
                    session.add_copy(kind, id, found.bytes())?;
                    work.mended(format!("chunk {id}"), How::Mirror);
                    gained += 1;
                }
                Ok(_) => {}
                Err(RepoError::Chunk { source, .. })
                    if !source.as_deref().is_some_and(is_passing) => {}
                Err(error) => return Err(error.into()),
            }
        }
        session.flush()?;
        if gained == 0 {
            return Ok(());
        }
    }
}
