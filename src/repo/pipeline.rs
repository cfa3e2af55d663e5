//! The way of new chunks to the storage: frames are compressed, sealed and verified by several
//! threads, put into packs in the order of their coming, and stored while the next are filled.
//!
//! Every queue is short, so that memory stays bounded: a frame per thread twice over, a pack
//! being filled for each kind of chunks, and two packs being stored.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, ScopedJoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::RepoError;
use super::bases::{BaseFrame, Bases};
use crate::format::frame::{ChunkKind, Codec};
use crate::format::pack::PackInfo;
use crate::format::parity::parity_key;
use crate::id::{FrameId, SegmentId, SnapshotId};
use crate::index::write_segment;
use crate::object::Sealer;
use crate::pack::{FinishedPack, FrameSealer, PackBuilder, PlainFrame, SealedFrame, make_parity};
use crate::storage::{ErrorKind, Storage, StorageError};
use crate::world::World;

/// A segment is stored when the packs behind it have so many chunks: about a megabyte of ids.
const SEGMENT_CHUNKS: usize = 32_768;
/// A pack with so many chunks is full whatever its length: they are kept in memory until it is
/// stored, and the longest trailer has room for some thirty times as many.
const PACK_CHUNKS: usize = 65_536;
/// So many packs are stored at a time: the disk writes one while the system takes the next.
const PACKS_STORING: usize = 2;
/// Fresh names are tried so often where the storage gives no clear answer (W6).
const NAMES_TRIED: usize = 3;

/// What the threads need.
pub(super) struct Settings {
    pub storage: Arc<dyn Storage>,
    pub world: Arc<dyn World>,
    pub sealer: Arc<Sealer>,
    pub frame_sealer: FrameSealer,
    pub bases: Arc<Bases>,
    pub session: SnapshotId,
    pub level: i32,
    pub pack_size: usize,
    /// Percent of a pack's length; 0 for none.
    pub parity: u8,
    pub threads: usize,
}

/// What comes in, in the order of its number.
enum Work {
    Plain(PlainFrame),
    /// The same, perhaps as a delta on this frame.
    Delta(PlainFrame, FrameId),
    /// A frame of another pack, to be stored as it is.
    Sealed(SealedFrame),
    Flush,
}

/// A message to the packing thread, in the order of its number.
enum Step {
    Frame(SealedFrame),
    /// Finish every pack and segment, then answer.
    Flush,
}

struct Shared {
    settings: Settings,
    bytes_stored: AtomicU64,
    /// The first thing that went wrong; everything after it is dropped.
    failed: Mutex<Option<RepoError>>,
}

impl Shared {
    fn fail(&self, error: RepoError) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn has_failed(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// Segments that are stored, with the packs that they speak of.
type Stored = (SegmentId, Vec<PackInfo>);

pub(super) struct Pipeline {
    shared: Arc<Shared>,
    frames: Option<Sender<(u64, Work)>>,
    next: u64,
    stored: Receiver<Stored>,
    flushed: Receiver<()>,
    buffers: Receiver<Vec<u8>>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pipeline({} frames)", self.next)
    }
}

impl Pipeline {
    pub fn start(settings: Settings) -> Self {
        let workers = settings.threads.max(1);
        let shared = Arc::new(Shared {
            settings,
            bytes_stored: AtomicU64::new(0),
            failed: Mutex::new(None),
        });
        let (frames, frames_in) = bounded(workers);
        let (sealed, sealed_in) = bounded(workers);
        let (packs, packs_in) = bounded(0);
        let (stored, stored_in) = unbounded();
        let (flushed, flushed_in) = bounded(1);
        let (buffers, buffers_in) = bounded(2 * workers);
        let mut threads = Vec::new();
        for _ in 0..workers {
            let (shared, frames_in) = (shared.clone(), frames_in.clone());
            let (sealed, buffers) = (sealed.clone(), buffers.clone());
            threads.push(spawn("seal", move || seal(&shared, &frames_in, &sealed, &buffers)));
        }
        let packing = shared.clone();
        threads.push(spawn("pack", move || pack(&packing, &sealed_in, &packs)));
        let storing = shared.clone();
        threads.push(spawn("store", move || store(&storing, &packs_in, &stored, &flushed)));
        Self {
            shared,
            frames: Some(frames),
            next: 0,
            stored: stored_in,
            flushed: flushed_in,
            buffers: buffers_in,
            threads,
        }
    }

    /// A buffer for a frame's plaintext: one that was used before, where there is one.
    pub fn buffer(&self, len: usize) -> Vec<u8> {
        self.buffers.try_recv().unwrap_or_else(|_| Vec::with_capacity(len))
    }

    pub fn bytes_stored(&self) -> u64 {
        self.shared.bytes_stored.load(Ordering::Relaxed)
    }

    /// Segments that were stored since the last call.
    pub fn stored(&self) -> Vec<Stored> {
        self.stored.try_iter().collect()
    }

    /// Hands a frame on; waits while the queues are full.
    pub fn send(&mut self, frame: PlainFrame) -> Result<(), RepoError> {
        self.step(Work::Plain(frame))
    }

    /// The same for one that becomes a delta on `base` if that pays.
    pub fn send_delta(&mut self, frame: PlainFrame, base: FrameId) -> Result<(), RepoError> {
        self.step(Work::Delta(frame, base))
    }

    /// Hands on a frame that is sealed already.
    pub fn send_sealed(&mut self, frame: SealedFrame) -> Result<(), RepoError> {
        self.step(Work::Sealed(frame))
    }

    /// Waits until everything sent so far is stored, segments included.
    pub fn flush(&mut self) -> Result<(), RepoError> {
        self.step(Work::Flush)?;
        // The threads answer also after a failure, unless one of them has panicked.
        let answered = self.flushed.recv();
        self.check()?;
        answered.map_err(|_| write_error("a thread that stores has ended").into())
    }

    fn step(&mut self, work: Work) -> Result<(), RepoError> {
        self.check()?;
        if let Some(frames) = &self.frames {
            // A closed channel means that the threads have ended, which `check` explains.
            let _ = frames.send((self.next, work));
            self.next += 1;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), RepoError> {
        // Taken before it is looked at: to fail again takes the same lock.
        let failed = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failed {
            None => Ok(()),
            Some(error) => {
                self.shared.fail(write_error("an earlier write failed").into());
                Err(error)
            }
        }
    }
}

fn write_error(why: &str) -> StorageError {
    StorageError::new(ErrorKind::Other, "packs/", why)
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.frames = None;
        for thread in self.threads.drain(..) {
            // A panic there was printed there, and the session is lost with it anyway.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .expect("the system starts the few threads that a session needs")
}

/// Compresses, seals and verifies frames.
fn seal(
    shared: &Shared,
    frames: &Receiver<(u64, Work)>,
    sealed: &Sender<(u64, Option<Step>)>,
    buffers: &Sender<Vec<u8>>,
) {
    for (number, work) in frames {
        let step = match work {
            Work::Flush => Some(Step::Flush),
            _ if shared.has_failed() => None,
            Work::Sealed(frame) => Some(Step::Frame(frame)),
            Work::Plain(frame) => seal_frame(shared, frame, None, buffers),
            Work::Delta(frame, base) => seal_frame(shared, frame, Some(base), buffers),
        };
        if sealed.send((number, step)).is_err() {
            return;
        }
    }
}

fn seal_frame(
    shared: &Shared,
    mut frame: PlainFrame,
    base: Option<FrameId>,
    buffers: &Sender<Vec<u8>>,
) -> Option<Step> {
    let Settings { frame_sealer, bases, level, .. } = &shared.settings;
    let sealed = match base.and_then(|base| bases.get(&base)) {
        None => frame_sealer.seal(&frame, *level),
        Some(BaseFrame { opened, row, .. }) => {
            let sealed = frame_sealer.seal_like(&frame, *level, &opened, row.stored_len);
            let paid = sealed.as_ref().is_ok_and(|s| matches!(s.info.codec, Codec::Delta { .. }));
            bases.tried(frame.plain.len(), paid);
            sealed
        }
    };
    frame.plain.clear();
    let _ = buffers.try_send(frame.plain);
    sealed.map(Step::Frame).map_err(|error| shared.fail(error.into())).ok()
}

/// A pack for the storing thread, or the wish to be told when all before is stored.
enum Parcel {
    Pack(FinishedPack),
    Flush,
}

/// Puts frames into packs, in the order in which their chunks came.
fn pack(shared: &Shared, sealed: &Receiver<(u64, Option<Step>)>, packs: &Sender<Parcel>) {
    let settings = &shared.settings;
    let mut early = BTreeMap::new();
    let mut next = 0;
    let mut open: [Option<PackBuilder>; 2] = [None, None];
    let finish = |builder: PackBuilder| match builder.finish(&*settings.world, &settings.sealer) {
        Ok(pack) => _ = packs.send(Parcel::Pack(pack)),
        Err(error) => shared.fail(error.into()),
    };
    for (number, step) in sealed {
        early.insert(number, step);
        while let Some(step) = early.remove(&next) {
            next += 1;
            match step {
                None => {}
                Some(Step::Flush) => {
                    open.iter_mut().filter_map(Option::take).for_each(finish);
                    let _ = packs.send(Parcel::Flush);
                }
                Some(Step::Frame(frame)) => {
                    let kind = kind_of(&frame);
                    let builder = open[kind as usize - 1]
                        .get_or_insert_with(|| PackBuilder::new(settings.session, kind));
                    if let Err(error) = builder.add(frame) {
                        shared.fail(error.into());
                    }
                    if builder.len() >= settings.pack_size || builder.chunk_count() >= PACK_CHUNKS {
                        open[kind as usize - 1].take().into_iter().for_each(finish);
                    }
                }
            }
        }
    }
}

fn kind_of(frame: &SealedFrame) -> ChunkKind {
    // The kind stands in the fifth byte of every frame's header.
    match frame.bytes.get(4) {
        Some(2) => ChunkKind::Tree,
        _ => ChunkKind::Data,
    }
}

/// Stores packs, several at a time, and behind them the segments that name them.
fn store(shared: &Shared, packs: &Receiver<Parcel>, stored: &Sender<Stored>, flushed: &Sender<()>) {
    std::thread::scope(|scope| {
        let mut storing = VecDeque::new();
        let mut named = Segmenting { shared, stored, waiting: Vec::new(), chunks: 0 };
        for parcel in packs {
            match parcel {
                Parcel::Pack(_) if shared.has_failed() => {}
                Parcel::Pack(pack) => {
                    storing.push_back(scope.spawn(|| store_pack(shared, pack)));
                    // Before the next one is taken: no more are in memory than need be.
                    if storing.len() >= PACKS_STORING {
                        storing.pop_front().into_iter().for_each(|pack| named.push(pack));
                    }
                }
                Parcel::Flush => {
                    storing.drain(..).for_each(|pack| named.push(pack));
                    named.store();
                    let _ = flushed.send(());
                }
            }
        }
    });
}

/// Collects packs that are stored, for the next segment.
struct Segmenting<'a> {
    shared: &'a Shared,
    stored: &'a Sender<Stored>,
    waiting: Vec<PackInfo>,
    chunks: usize,
}

impl Segmenting<'_> {
    /// Waits for a pack.
    fn push(&mut self, pack: ScopedJoinHandle<'_, Result<PackInfo, RepoError>>) {
        match pack.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Ok(info) => {
                self.shared.bytes_stored.fetch_add(info.len, Ordering::Relaxed);
                self.chunks += info.trailer.frames.iter().map(|f| f.chunks.len()).sum::<usize>();
                self.waiting.push(info);
            }
            Err(error) => self.shared.fail(error),
        }
        if self.chunks >= SEGMENT_CHUNKS {
            self.store();
        }
    }

    fn store(&mut self) {
        self.chunks = 0;
        let packs = std::mem::take(&mut self.waiting);
        if packs.is_empty() || self.shared.has_failed() {
            return;
        }
        let Settings { storage, sealer, world, .. } = &self.shared.settings;
        match write_segment(&**storage, sealer, &**world, &packs) {
            Ok(segment) => _ = self.stored.send((segment, packs)),
            Err(error) => self.shared.fail(error.into()),
        }
    }
}

/// W6: a pack's name is sent once. Without a clear answer it is looked for, and sent again under
/// another name where it is not there.
fn store_pack(shared: &Shared, mut pack: FinishedPack) -> Result<PackInfo, RepoError> {
    let settings = &shared.settings;
    let mut tried = 0;
    loop {
        let key = pack.key();
        let parts: Vec<&[u8]> = pack.parts.iter().map(Vec::as_slice).collect();
        match settings.storage.put(&key, &parts) {
            Ok(()) => {
                return end(settings, pack);
            }
            Err(error) => {
                tried += 1;
                let unclear = matches!(error.kind, ErrorKind::Transient | ErrorKind::AlreadyExists);
                if !unclear || tried >= NAMES_TRIED {
                    return Err(error.into());
                }
                let own = error.kind == ErrorKind::Transient
                    && settings.storage.stat(&key).is_ok_and(|len| len == pack.info.len);
                if own {
                    return end(settings, pack);
                }
                pack = pack.renamed(&*settings.world, &settings.sealer)?;
            }
        }
    }
}

/// What follows when a pack is stored.
fn end(settings: &Settings, pack: FinishedPack) -> Result<PackInfo, RepoError> {
    store_parity(settings, &pack)?;
    pack.parts.into_iter().for_each(|part| settings.frame_sealer.give_back(part));
    Ok(pack.info)
}

/// Makes the parity of a pack that was stored just now.
fn store_parity(settings: &Settings, pack: &FinishedPack) -> Result<(), RepoError> {
    if settings.parity == 0 {
        return Ok(());
    }
    let parts: Vec<&[u8]> = pack.parts.iter().map(Vec::as_slice).collect();
    let (world, sealer) = (&*settings.world, &*settings.sealer);
    let parity = make_parity(world, sealer, &pack.info.id, &parts, settings.parity)?;
    match settings.storage.put(&parity_key(&pack.info.id), &[&parity]) {
        // The backup itself is not in danger: a repair makes the parity that is missing.
        Err(error) if error.kind == ErrorKind::Transient => Ok(()),
        result => Ok(result?),
    }
}
