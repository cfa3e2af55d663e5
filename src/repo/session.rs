//! A session: one writer at work, from its record to its commit (W1 to W8).
//! Format: `format-spec/11-sessions.md#writer`.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bases::Bases;
use super::condition::{self, Avoided};
use super::pipeline::{Pipeline, Settings};
use super::{EpochState, RepoError, Repository};
use crate::format::envelope::ObjectType;
use crate::format::epoch::Sweep;
use crate::format::frame::{ChunkKind, Codec};
use crate::format::pack::ChunkInfo;
use crate::format::session::{Purpose, Session as Record, session_key};
use crate::id::{ChunkId, FrameId, PackId, SnapshotId};
use crate::index::Index;
use crate::pack::{FrameSealer, OpenedFrame, PlainFrame, SealedFrame, is_outdated};
use crate::storage::ErrorKind;
use crate::world::random;

/// Fresh names are tried so often where the storage gives no clear answer (W1).
const NAMES_TRIED: usize = 5;

/// So many frames with a base of their own are filled at a time: chunks that follow each other
/// may be like chunks of a few frames in turn.
const DELTAS_OPEN: usize = 4;

/// A writer at work. Chunks are added by one thread; compressing, sealing and storing go on in
/// others. Dropped without a commit, it leaves packs behind that the next session uses.
#[derive(Debug)]
pub struct Session {
    pub(super) repository: Arc<Repository>,
    pub(super) id: SnapshotId,
    /// The highest epoch when it began; 0 for none.
    pub(super) epoch: u64,
    pub(super) commit_tried: bool,
    /// Snapshots that an unfinished plan has marked; `None` where there is no such plan (W5).
    marked: Option<(u64, HashSet<SnapshotId>)>,
    /// Something is damaged, so nothing is taken over unseen: what the source still has is
    /// stored again.
    mending: bool,
    /// Packs that were there when it began, that stay and that nobody found damaged, in order.
    reusable: Arc<Vec<PackId>>,
    /// What could not be read while it was at work.
    distrusted: Arc<Distrusted>,
    /// Packs that it has stored itself.
    own: HashSet<PackId>,
    /// Chunks that were added and that the index does not know yet.
    pending: HashSet<ChunkId>,
    open: [Option<PlainFrame>; 2],
    /// Frames of chunks that are like those of another frame, with its name.
    deltas: VecDeque<(FrameId, PlainFrame)>,
    /// `None` where no deltas are written.
    bases: Option<Arc<Bases>>,
    pipeline: Pipeline,
    bytes_new: u64,
}

impl Session {
    /// Begins: record first, then the newest epoch, then the index and the packs that are there.
    pub fn begin(
        repository: &Arc<Repository>,
        purpose: Purpose,
        compression: Option<i32>,
    ) -> Result<Self, RepoError> {
        let id = record(repository, purpose)?; // W1
        let (epoch, avoided, marked) = avoided(repository)?; // W2
        let found = condition::find(repository, &avoided)?; // W3
        // Nor are trees adopted while an epoch cannot be read.
        let mending = found.is_damaged || matches!(avoided, Avoided::All);
        let reusable = found.reusable;
        let config = repository.config();
        let sealer = FrameSealer::new(repository.world(), repository.keys(), config.family)?;
        let level = compression.unwrap_or(config.compression);
        let bases = Arc::new(Bases::new(repository));
        // A base is read from the storage, which is not worth it over a network.
        let deltas = level != 0 && !repository.storage().is_remote();
        let pipeline = Pipeline::start(Settings {
            storage: repository.storage.clone(),
            world: repository.world.clone(),
            sealer: repository.sealer.clone(),
            frame_sealer: sealer,
            session: id,
            bases: bases.clone(),
            level,
            pack_size: config.pack_size as usize,
            parity: repository.parity()?,
            threads: repository.environment.threads,
        });
        Ok(Self {
            repository: repository.clone(),
            id,
            epoch,
            commit_tried: false,
            marked,
            mending,
            reusable: Arc::new(reusable),
            distrusted: Arc::new(Distrusted {
                repository: repository.clone(),
                packs: Mutex::default(),
            }),
            own: HashSet::new(),
            pending: HashSet::new(),
            open: [None, None],
            deltas: VecDeque::new(),
            bases: deltas.then_some(bases),
            pipeline,
            bytes_new: 0,
        })
    }

    /// Its name, which will be its snapshot's.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// The highest epoch when it began; 0 for none.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The repository that it writes to.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Plain bytes of chunks that the repository did not have.
    pub fn bytes_new(&self) -> u64 {
        self.bytes_new
    }

    /// Bytes added to the storage so far.
    pub fn bytes_stored(&self) -> u64 {
        self.pipeline.bytes_stored()
    }

    /// Whether a snapshot's trees may be taken over without looking up their chunks (W5): it
    /// counts, no prune is deciding about what it needs, and nothing is known to be damaged.
    pub fn may_adopt(&self, id: &SnapshotId, began_under: u64) -> Result<bool, RepoError> {
        if self.mending || !self.repository.counted()?.contains(id) {
            return Ok(false);
        }
        Ok(match &self.marked {
            None => true,
            Some((epoch, marked)) => marked.contains(id) || began_under == *epoch,
        })
    }

    /// Whether the repository has a chunk where it will stay (W4).
    pub fn has(&self, id: &ChunkId) -> Result<bool, RepoError> {
        if self.pending.contains(id) {
            return Ok(true);
        }
        let stays = |pack: &PackId| {
            self.own.contains(pack)
                || (self.reusable.binary_search(pack).is_ok() && !self.distrusted.contains(pack))
        };
        stays_somewhere(&self.repository, id, &stays)
    }

    /// Tells other threads which chunks the repository had when the session began.
    pub fn presence(&self) -> Presence {
        Presence { repository: self.repository.clone(), reusable: self.reusable.clone() }
    }

    /// Tells other threads what new chunks may be deltas on; `None` where no deltas are written.
    pub fn bases(&self) -> Option<Presence> {
        self.bases.as_ref().map(|_| self.presence())
    }

    /// Where other threads name the chunks that they could not read: what the source still has
    /// of what lies beside them is stored again.
    pub fn distrusted(&self) -> Arc<Distrusted> {
        self.distrusted.clone()
    }

    /// Whether something is known to be damaged, so that nothing is taken over unseen.
    pub fn is_mending(&self) -> bool {
        self.mending
    }

    /// Adds a chunk unless the repository has it; says whether it was new.
    pub fn add(&mut self, kind: ChunkKind, id: ChunkId, plain: &[u8]) -> Result<bool, RepoError> {
        if self.has(&id)? {
            return Ok(false);
        }
        self.add_copy(kind, id, plain)?;
        Ok(true)
    }

    /// The same for a chunk of file contents that is like what the frame `base` has, which
    /// `Presence` named. Chunks of the same base share a frame, which becomes a delta if that pays.
    pub fn add_like(
        &mut self,
        id: ChunkId,
        plain: &[u8],
        base: FrameId,
    ) -> Result<bool, RepoError> {
        if self.has(&id)? {
            return Ok(false);
        }
        match self.bases.as_ref().is_some_and(|bases| bases.try_for(plain.len())) {
            true => self.add_copy_like(id, plain, base)?,
            false => self.add_copy(ChunkKind::Data, id, plain)?,
        }
        Ok(true)
    }

    /// Adds a chunk although the repository has it: a repack moves it (P3).
    pub fn add_copy(
        &mut self,
        kind: ChunkKind,
        id: ChunkId,
        plain: &[u8],
    ) -> Result<(), RepoError> {
        let slot = kind as usize - 1;
        if self.open[slot].as_ref().is_some_and(|frame| !self.fits(frame, plain)) {
            self.close_frame(slot)?;
        }
        let mut frame = self.open[slot].take().unwrap_or_else(|| self.new_frame(kind));
        self.push(&mut frame, id, plain);
        self.open[slot] = Some(frame);
        Ok(())
    }

    /// The same for a chunk of a delta frame on `base`: otherwise a repack would swell it.
    pub fn add_copy_like(
        &mut self,
        id: ChunkId,
        plain: &[u8],
        base: FrameId,
    ) -> Result<(), RepoError> {
        let open = self.deltas.iter().position(|(of, _)| *of == base);
        let mut frame = match open.and_then(|at| self.deltas.remove(at)) {
            Some((_, frame)) if self.fits(&frame, plain) => frame,
            full => {
                if let Some((base, frame)) = full {
                    self.close_delta(base, frame)?;
                }
                self.new_frame(ChunkKind::Data)
            }
        };
        self.push(&mut frame, id, plain);
        self.deltas.push_back((base, frame));
        if self.deltas.len() > DELTAS_OPEN
            && let Some((base, frame)) = self.deltas.pop_front()
        {
            self.close_delta(base, frame)?;
        }
        Ok(())
    }

    fn new_frame(&self, kind: ChunkKind) -> PlainFrame {
        PlainFrame {
            kind,
            id: FrameId(random(&*self.repository.world)),
            plain: self.pipeline.buffer(self.repository.config().frame_size as usize),
            chunks: Vec::new(),
        }
    }

    fn fits(&self, frame: &PlainFrame, plain: &[u8]) -> bool {
        let len_max = self.repository.config().frame_size as usize;
        frame.plain.is_empty()
            || (frame.plain.len() + plain.len() <= len_max
                && frame.chunks.len() < crate::limits::FRAME_CHUNKS_MAX)
    }

    fn push(&mut self, frame: &mut PlainFrame, id: ChunkId, plain: &[u8]) {
        self.pending.insert(id);
        self.bytes_new += plain.len() as u64;
        frame.plain.extend_from_slice(plain);
        // Chunks are bounded far below 2^32.
        frame.chunks.push(ChunkInfo { id, len: plain.len() as u32 });
    }

    /// Adds a frame as it is stored elsewhere, under the same name (P3), which is its nonce, too.
    /// If a rotation has replaced its key, it is sealed anew.
    pub fn add_frame(&mut self, mut frame: SealedFrame) -> Result<(), RepoError> {
        if is_outdated(self.repository.keys(), &frame.bytes)? {
            let OpenedFrame { id, kind, plain, codec, .. } =
                self.repository.open_frame(&mut frame.bytes)?;
            let frame = PlainFrame { kind, id, plain, chunks: frame.info.chunks };
            match codec {
                Codec::Delta { base } => self.pipeline.send_delta(frame, base)?,
                Codec::Raw | Codec::Zstd => self.pipeline.send(frame)?,
            }
        } else {
            self.pipeline.send_sealed(frame)?;
        }
        self.take_stored()
    }

    fn close_delta(&mut self, base: FrameId, frame: PlainFrame) -> Result<(), RepoError> {
        self.pipeline.send_delta(frame, base)?;
        self.take_stored()
    }

    fn close_frame(&mut self, slot: usize) -> Result<(), RepoError> {
        if let Some(frame) = self.open[slot].take() {
            self.pipeline.send(frame)?;
            self.take_stored()?;
        }
        Ok(())
    }

    /// Tells the index about packs whose segment is stored.
    fn take_stored(&mut self) -> Result<(), RepoError> {
        for (segment, packs) in self.pipeline.stored() {
            for pack in &packs {
                self.own.insert(pack.id);
                for frame in &pack.trailer.frames {
                    frame.chunks.iter().for_each(|chunk| _ = self.pending.remove(&chunk.id));
                }
            }
            self.repository.with_index_mut(|index| index.add(segment, &packs))?;
        }
        Ok(())
    }

    /// Waits until every chunk added so far is stored, with its segment (W7).
    pub fn flush(&mut self) -> Result<(), RepoError> {
        self.close_frame(0)?;
        self.close_frame(1)?;
        while let Some((base, frame)) = self.deltas.pop_front() {
            self.close_delta(base, frame)?;
        }
        self.pipeline.flush()?;
        self.take_stored()
    }

    /// Ends without a snapshot. The record is removed, so that no prune has to wait for it; that
    /// is safe because nothing was or will be committed under this name.
    pub fn abort(mut self) -> Result<(), RepoError> {
        let flushed = self.flush();
        if !self.commit_tried {
            self.repository.storage().delete(&session_key(&self.id))?;
        }
        flushed
    }
}

/// Packs that seem good, and in which something could not be read: what else lies there may be
/// no better.
#[derive(Debug)]
pub struct Distrusted {
    repository: Arc<Repository>,
    packs: Mutex<HashSet<PackId>>,
}

impl Distrusted {
    /// Names a chunk that could not be read. Where the index cannot say where it lies, nobody
    /// relies on it either.
    pub fn add(&self, id: &ChunkId) {
        let places = self.repository.with_index(|index| index.locations(id));
        let places = places.ok().and_then(Result::ok).unwrap_or_default();
        self.lock().extend(places.iter().map(|place| place.pack.id));
    }

    fn contains(&self, pack: &PackId) -> bool {
        self.lock().contains(pack)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<PackId>> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which chunks the repository had when a session began, where they will stay (W4).
#[derive(Debug, Clone)]
pub struct Presence {
    repository: Arc<Repository>,
    reusable: Arc<Vec<PackId>>,
}

impl Presence {
    /// Whether it had this one. Where the index cannot say, it had not.
    pub fn has(&self, id: &ChunkId) -> bool {
        let stays = |pack: &PackId| self.reusable.binary_search(pack).is_ok();
        stays_somewhere(&self.repository, id, &stays).unwrap_or(false)
    }

    /// The frame that a chunk like this one may be a delta on: that of the chunk, or the base of
    /// that one, since a base is no delta itself.
    pub fn base(&self, like: &ChunkId) -> Option<FrameId> {
        let stays = |pack: &PackId| self.reusable.binary_search(pack).is_ok();
        let base = self.repository.with_index(|index| {
            let places = index.locations(like).ok()?;
            places.iter().filter(|place| stays(&place.pack.id)).find_map(|place| {
                match place.base() {
                    None => Some(place.frame().ok()?.id),
                    base => base.filter(|base| frame_stays(index, base, &stays)),
                }
            })
        });
        base.ok().flatten()
    }
}

/// Whether a chunk lies in a pack that stays, and so does the base of its frame.
fn stays_somewhere(
    repository: &Repository,
    id: &ChunkId,
    stays: &dyn Fn(&PackId) -> bool,
) -> Result<bool, RepoError> {
    Ok(repository.with_index(|index| {
        index.any_location(id, |location| {
            stays(&location.pack.id)
                && location.base().is_none_or(|base| frame_stays(index, &base, stays))
        })
    })??)
}

/// Whether an object of this key may be put again when nobody knows what became of the first
/// attempt: only its writer puts it, under a name of its own, and if the first one lands after the
/// object was removed again, nobody is misled (W7, F2, and facts that are never wrong).
pub fn may_put_again(key: &str) -> bool {
    ["index/", "snapshots/", "damage/"].iter().any(|prefix| key.starts_with(prefix))
}

fn frame_stays(index: &Index, id: &FrameId, stays: &dyn Fn(&PackId) -> bool) -> bool {
    let places = index.frame_locations(id);
    places.is_ok_and(|places| places.iter().any(|(pack, _)| stays(&pack.id)))
}

/// W1: a record under a name that nobody had before.
fn record(repository: &Repository, purpose: Purpose) -> Result<SnapshotId, RepoError> {
    let environment = repository.environment();
    let record = Record {
        client: environment.client,
        host: environment.host.clone(),
        process: environment.process,
        time: repository.world().now(),
        purpose,
    };
    let mut tried = 0;
    loop {
        let id = SnapshotId(random(repository.world()));
        match repository.write_object(ObjectType::Session, &session_key(&id), &record.encode()) {
            Ok(()) => return Ok(id),
            Err(RepoError::Storage(error)) => {
                tried += 1;
                let unclear = matches!(error.kind, ErrorKind::Transient | ErrorKind::AlreadyExists);
                if !unclear || tried >= NAMES_TRIED {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

type Marked = Option<(u64, HashSet<SnapshotId>)>;

/// W2: what the highest epoch condemns, or has sentenced.
fn avoided(repository: &Repository) -> Result<(u64, Avoided, Marked), RepoError> {
    let Some(epoch) = repository.highest_epoch()? else {
        return Ok((0, Avoided::default(), None));
    };
    let number = epoch.number;
    Ok(match epoch.state {
        EpochState::Planned(plan) => {
            let condemned = plan.dead(&Sweep::default());
            let marked = plan.marked.into_iter().collect();
            (number, Avoided::Packs(condemned), Some((number, marked)))
        }
        EpochState::Sweeping(plan, sweep) => (number, Avoided::Packs(plan.dead(&sweep)), None),
        // It may condemn anything, and has marked nothing that anyone knows of.
        EpochState::Unreadable { .. } => (number, Avoided::All, Some((number, HashSet::new()))),
        EpochState::Done => (number, Avoided::default(), None),
    })
}
