//! Creating and opening. Format: `format-spec/05-config.md`, `format-spec/03-keys.md`.

use std::sync::{Arc, OnceLock, RwLock};

use super::slots::{self, NewSlot};
use super::unlock::{self, Unlocked};
use super::{Environment, RepoError, Repository, copies};
use crate::compress;
use crate::crypto::{CryptoError, KeyRing, Secret};
use crate::format::FormatError;
use crate::format::config::{self, ChunkerParams, Config};
use crate::format::copies::copy_key;
use crate::id::{FamilyId, RepositoryId};
use crate::limits;
use crate::object::{ObjectError, Sealer};
use crate::pack::FrameOpener;
use crate::progress::Problem;
use crate::storage::{Storage, StorageError};
use crate::world::{World, random};

/// How a new repository is to be.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Where streams are cut.
    pub chunker: ChunkerParams,
    /// Plaintext length at which a frame is closed, bytes.
    pub frame_size: u32,
    /// Length at which a pack is closed, bytes.
    pub pack_size: u32,
    /// zstd level; 0 stores as it is.
    pub compression: i32,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            chunker: ChunkerParams::DEFAULT,
            frame_size: 1 << 20,
            pack_size: 16 << 20,
            compression: compress::DEFAULT_LEVEL,
        }
    }
}

impl Repository {
    /// Makes a repository in an empty storage, opened by any of the slots. `relative` makes it
    /// one of another repository's family: what one has need not be stored again by the other.
    pub fn create(
        storage: Arc<dyn Storage>,
        world: Arc<dyn World>,
        environment: Environment,
        options: &CreateOptions,
        slots: &[NewSlot],
        relative: Option<&Repository>,
    ) -> Result<Self, RepoError> {
        let location = storage.location();
        let mut occupied = false;
        storage.list("", &mut |_| occupied = true)?;
        if occupied {
            return Err(RepoError::Occupied { location });
        }
        let repository = RepositoryId(random(&*world));
        let config = Config {
            repository,
            family: relative.map_or_else(|| FamilyId(random(&*world)), |r| r.config.family),
            created: world.now(),
            chunker: relative.map_or(options.chunker, |r| r.config.chunker),
            frame_size: options.frame_size,
            pack_size: options.pack_size,
            compression: options.compression,
        };
        let keys = match relative {
            Some(relative) => relative.keys().generate_relative(&*world),
            None => KeyRing::generate(&*world),
        };
        let sealer = Arc::new(Sealer { keys, repository });
        for slot in slots {
            slots::store(&*storage, &*world, &sealer, &environment, slot)?;
        }
        // Last of all: where there is a config, there is a repository.
        let mut object = config.encode();
        object.extend_from_slice(&sealer.keys.config_mac(&object)?);
        copies::put_twice(&*storage, config::KEY, &object)?;
        let environment = environment.of(&repository);
        Ok(Self::assemble(storage, world, environment, config, sealer))
    }

    /// Opens a repository with the first of the secrets that fits a slot. Where the config is
    /// missing, damaged or refused, its copy is tried.
    pub fn open(
        storage: Arc<dyn Storage>,
        world: Arc<dyn World>,
        environment: Environment,
        secrets: &[Secret],
    ) -> Result<Self, RepoError> {
        let original = copies::get(&*storage, config::KEY, limits::CONFIG_LEN_MAX)?;
        let first = Opened::open(&*storage, &environment, secrets, &original);
        let (opened, problem) = match first {
            Ok(opened) => (opened, None),
            Err(error) => {
                let key = copy_key(config::KEY);
                let copy = copies::get(&*storage, &key, limits::CONFIG_LEN_MAX)?;
                let differs = copy.is_ok() && copy.as_ref().ok() != original.as_ref().ok();
                if !differs {
                    return Err(error);
                }
                match (Opened::open(&*storage, &environment, secrets, &copy), &error) {
                    (Ok(opened), _) => (opened, Some(Problem::damage(config::KEY, &error))),
                    // With its copy it is a repository, so what its copy says counts.
                    (Err(second), RepoError::Missing { .. }) => return Err(second),
                    _ => return Err(error),
                }
            }
        };
        let Opened { config, keys, problem: slot_problem } = opened;
        let sealer = Arc::new(Sealer { keys, repository: config.repository });
        let environment = environment.of(&config.repository);
        let mut repository = Self::assemble(storage, world, environment, config, sealer);
        repository.opening_problems.extend(problem.into_iter().chain(slot_problem));
        Ok(repository)
    }

    /// The same repository with other keys.
    pub(super) fn with_sealer(&self, sealer: Sealer) -> Self {
        Self::assemble(
            self.storage.clone(),
            self.world.clone(),
            self.environment.clone(),
            self.config.clone(),
            Arc::new(sealer),
        )
    }

    fn assemble(
        storage: Arc<dyn Storage>,
        world: Arc<dyn World>,
        environment: Environment,
        config: Config,
        sealer: Arc<Sealer>,
    ) -> Self {
        let opener = FrameOpener::new(config.family);
        let index = RwLock::new(None);
        Self {
            storage,
            world,
            config,
            sealer,
            opener,
            environment,
            index,
            opening_problems: Vec::new(),
            asked_trailers: OnceLock::new(),
        }
    }
}

/// A config with the keys that it is authenticated by.
pub(super) struct Opened {
    config: Config,
    keys: KeyRing,
    problem: Option<Problem>,
}

impl Opened {
    fn open(
        storage: &dyn Storage,
        environment: &Environment,
        secrets: &[Secret],
        object: &Result<Vec<u8>, StorageError>,
    ) -> Result<Self, RepoError> {
        let location = storage.location();
        let object = match object {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Err(RepoError::Missing { location }),
            Err(_) => {
                let source = ObjectError::Unreadable;
                return Err(RepoError::Object { key: config::KEY.into(), source });
            }
        };
        let unreadable = |source| RepoError::Unreadable { location: location.clone(), source };
        let (bytes, _) = Config::split(object).map_err(unreadable)?;
        let config = Config::decode(bytes).map_err(unreadable)?;
        let memory = environment.clone().of(&config.repository).cache;
        let Unlocked { keys, problem } =
            unlock::unlock(storage, &config.repository, secrets, &memory)?;
        let config = Self::check(object, &keys).map_err(|error| match error {
            ObjectError::Format(source) => unreadable(source),
            source => RepoError::Object { key: config::KEY.into(), source },
        })?;
        if !keys.is_usable() {
            return Err(unreadable(FormatError::Bad("bundle of keys")));
        }
        Ok(Self { config, keys, problem })
    }

    /// The config that these bytes are, if it is authentic.
    pub(super) fn check(object: &[u8], keys: &KeyRing) -> Result<Config, ObjectError> {
        let (bytes, mac) = Config::split(object)?;
        let config = Config::decode(bytes)?;
        match keys.config_mac(bytes)? == *mac {
            true => Ok(config),
            false => Err(CryptoError::Tag.into()),
        }
    }
}
