//! `Repository`: opening it, its keys, sessions that write, readers, snapshots.
//!
//! Sessions follow `format-spec/11-sessions.md`; the rules are cited there and here by their
//! names (W1 to W8, F1, R1).

mod bases;
mod commit;
mod condition;
mod copies;
mod create;
mod damage;
mod epochs;
mod parity;
mod pipeline;
mod reader;
mod reserve;
mod rotation;
mod session;
mod slots;
mod snapshots;
mod unlock;

pub use bases::BaseFrame;
pub use create::CreateOptions;
pub use epochs::{Epoch, EpochState};
pub use reader::{ChunkReader, Found};
pub use reserve::RESERVE_LEN;
pub use rotation::Rotation;
pub use session::{Distrusted, Presence, Session, may_put_again};
pub use slots::{NewSlot, SlotRecord};
pub use snapshots::SnapshotRecord;

use std::borrow::Borrow;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::crypto::{CryptoError, KeyRing};
use crate::format::FormatError;
use crate::format::config::Config;
use crate::format::frame::ChunkKind;
use crate::format::pack::pack_of_key;
use crate::id::{ChunkId, ClientId, FrameId, PackId, RepositoryId, SnapshotId};
use crate::index::{Index, IndexError, Refreshed};
use crate::object::{ObjectError, Sealer};
use crate::pack::{FrameOpener, OpenedFrame, PackError};
use crate::progress::Problem;
use crate::storage::{Storage, StorageError};
use crate::world::World;

/// What can be wrong with a repository, or with work on it.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// There is none.
    #[error("there is no repository at {location}")]
    Missing {
        /// Where it was looked for.
        location: String,
    },
    /// There is something already where one was to be created.
    #[error("{location} is not empty")]
    Occupied {
        /// Where.
        location: String,
    },
    /// What lies there is none, or a newer one.
    #[error("{location}: {source}")]
    Unreadable {
        /// Where.
        location: String,
        /// Why.
        source: FormatError,
    },
    /// None of the given secrets opens a slot.
    #[error("wrong password or key for the repository at {location}{}", match .untried {
        0 => String::new(),
        untried => format!(
            "; {untried} of its key slots were not tried, as that would cost too much: \
             remove those that are nobody's"
        ),
    })]
    WrongSecret {
        /// Where.
        location: String,
        /// So many slots were not tried: more than somebody's own slots ever cost.
        untried: usize,
    },
    /// The configuration, or a slot, was tampered with.
    #[error("{key} is damaged or was tampered with: {source}")]
    Object {
        /// The object.
        key: String,
        /// Why it does not open.
        source: ObjectError,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A pack or frame cannot be written.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A chunk is nowhere, or damaged wherever it is.
    #[error("chunk {} {}", .id.short(), match .source {
        Some(error) => format!("is damaged: {error}"),
        None => "is missing".to_owned(),
    })]
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// Why the last copy could not be used; `None` when no copy is known.
        source: Option<Box<PackError>>,
    },
    /// Something has more in it than the format holds; nothing of it was stored.
    #[error("this cannot be stored: {0}")]
    TooMuch(FormatError),
    /// A prune did not wait for this session; what it wrote stays usable for the next one.
    #[error("a prune on another machine went on without session {}", .0.short())]
    Fenced(SnapshotId),
    /// A key that is needed is not given by this slot, or the last slot was to be removed.
    #[error(transparent)]
    Key(#[from] CryptoError),
}

/// The length of a pack in a listing; `None` if it is not listed.
pub fn listed_len(listed: &[(PackId, u64)], id: &PackId) -> Option<u64> {
    let at = listed.binary_search_by_key(id, |(id, _)| *id).ok()?;
    listed.get(at).map(|(_, len)| *len)
}

/// Who works on the repository, and with what.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Directory for the local index of this repository; made where it is missing.
    pub cache: PathBuf,
    /// Directory for what this installation remembers of this repository, which no other place
    /// could tell; made where it is missing.
    pub state: PathBuf,
    /// This installation.
    pub client: ClientId,
    /// This machine's name.
    pub host: String,
    /// The user's name.
    pub user: String,
    /// This process.
    pub process: u32,
    /// Threads for compressing and sealing.
    pub threads: usize,
}

impl Environment {
    /// The same for one repository: a directory of each kind serves several.
    fn of(self, repository: &RepositoryId) -> Self {
        let own = repository.to_hex();
        Self { cache: self.cache.join(&own), state: self.state.join(&own), ..self }
    }
}

/// An open repository. Shared by all threads that work on it.
#[derive(Debug)]
pub struct Repository {
    storage: Arc<dyn Storage>,
    world: Arc<dyn World>,
    config: Config,
    sealer: Arc<Sealer>,
    opener: FrameOpener,
    environment: Environment,
    index: RwLock<Option<Index>>,
    opening_problems: Vec<Problem>,
    /// Packs that no segment names were asked what they hold, for a base that was not found.
    asked_trailers: OnceLock<()>,
}

impl Repository {
    /// Where its objects lie.
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Clock and randomness.
    pub fn world(&self) -> &dyn World {
        &*self.world
    }

    /// What it is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its keys, as far as the slot gives them.
    pub fn keys(&self) -> &KeyRing {
        &self.sealer.keys
    }

    /// The name of a chunk.
    pub fn chunk_id(&self, kind: ChunkKind, plain: &[u8]) -> ChunkId {
        match kind {
            ChunkKind::Data => self.keys().data_id(plain),
            ChunkKind::Tree => self.keys().tree_id(plain),
        }
    }

    /// Seals and opens its objects.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Who works on it.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The index, up to date with the segments that are there now (R1).
    pub fn refresh_index(&self) -> Result<Refreshed, RepoError> {
        let mut guard = self.index_mut();
        let index = match guard.take() {
            Some(index) => guard.insert(index),
            None => guard.insert(Index::open(&self.environment.cache)?),
        };
        Ok(index.refresh(&*self.storage, &self.sealer)?)
    }

    /// Works with the index as it was last refreshed.
    pub fn with_index<T>(&self, work: impl FnOnce(&Index) -> T) -> Result<T, RepoError> {
        if let Some(index) = &*self.index() {
            return Ok(work(index));
        }
        self.refresh_index()?;
        match &*self.index() {
            Some(index) => Ok(work(index)),
            None => unreachable!("refreshing leaves an index behind"),
        }
    }

    /// Changes the index as it was last refreshed.
    pub fn with_index_mut<T>(
        &self,
        work: impl FnOnce(&mut Index) -> Result<T, IndexError>,
    ) -> Result<T, RepoError> {
        if self.index().is_none() {
            self.refresh_index()?;
        }
        match &mut *self.index_mut() {
            Some(index) => Ok(work(index)?),
            None => unreachable!("refreshing leaves an index behind"),
        }
    }

    fn index(&self) -> RwLockReadGuard<'_, Option<Index>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Option<Index>> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every pack that is there now, with its length, in order of ids.
    pub fn list_packs(&self) -> Result<Vec<(PackId, u64)>, RepoError> {
        let mut packs = Vec::new();
        self.storage.list("packs/", &mut |listed| {
            packs.extend(pack_of_key(&listed.key).map(|id| (id, listed.len)));
        })?;
        packs.sort_unstable();
        // What changes while it is listed may come twice.
        packs.dedup_by_key(|(id, _)| *id);
        Ok(packs)
    }

    /// Opens a frame's stored bytes where they are, fetching its base if it is a delta.
    pub fn open_frame(&self, bytes: &mut [u8]) -> Result<OpenedFrame, PackError> {
        self.open_frame_on(bytes, |base| Ok(self.open_base(base)?.opened))
    }

    /// The same where the caller keeps bases that it may need again.
    pub fn open_frame_on<B: Borrow<OpenedFrame>>(
        &self,
        bytes: &mut [u8],
        base: impl FnOnce(&FrameId) -> Result<B, PackError>,
    ) -> Result<OpenedFrame, PackError> {
        self.opener.open(self.keys(), bytes, base)
    }

    /// Takes back an opened frame that nobody needs any more: its memory is used again.
    pub fn give_back(&self, frame: Arc<OpenedFrame>) {
        Arc::into_inner(frame).into_iter().for_each(|frame| self.opener.give_back(frame));
    }

    /// Opens the frame of this name, from any of its places, for deltas on it.
    pub fn open_base(&self, id: &FrameId) -> Result<BaseFrame, PackError> {
        let places = || self.with_index(|index| index.frame_locations(id)).ok()?.ok();
        let mut known = places().unwrap_or_default();
        if known.is_empty() {
            // It may lie in a pack that no segment names any more. To ask once is enough.
            self.asked_trailers.get_or_init(|| _ = self.learn_from_trailers());
            known = places().unwrap_or_default();
        }
        let mut last = PackError::NoBase(*id);
        for (pack, number) in known {
            let Some(frame) = pack.frames.get(number) else { continue };
            let read = |offset, len| crate::pack::read_frame(&*self.storage, &pack.id, offset, len);
            let opened = read(frame.offset, frame.stored_len)
                .and_then(|mut bytes| self.opener.open_base(self.keys(), &mut bytes));
            match opened {
                Ok(opened) if opened.id == *id => {
                    let (opened, pack) = (Arc::new(opened), pack.id);
                    return Ok(BaseFrame { opened, pack, row: *frame });
                }
                Ok(_) => last = PackError::Misplaced(*id),
                Err(PackError::Storage(error)) if error.is_not_found() => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Every pack that is listed and that no segment names: their own trailers are asked, so that
    /// a lost or damaged segment costs time and nothing else. Returns those that do not say.
    pub fn learn_from_trailers(&self) -> Result<Vec<(PackId, PackError)>, RepoError> {
        let listed = self.list_packs()?;
        let unknown = self.with_index(|index| index.unknown_of(&listed))??;
        let mut silent = Vec::new();
        for (id, _) in unknown {
            match crate::pack::read_trailer(&*self.storage, &self.sealer, &id) {
                Ok(info) => self.with_index_mut(|index| index.learn(&[info]))?,
                // Deleted since the listing.
                Err(PackError::Storage(error)) if error.is_not_found() => {}
                Err(error) => silent.push((id, error)),
            }
        }
        Ok(silent)
    }
}
