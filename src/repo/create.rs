//! Creating and opening. Format: `format-spec/05-config.md`, `format-spec/03-keys.md`.

use std::sync::{Arc, RwLock};

use super::slots::{self, NewSlot};
use super::{Environment, RepoError, Repository, unlock};
use crate::crypto::{KeyRing, Secret};
use crate::format::FormatError;
use crate::format::config::{self, ChunkerParams, Config};
use crate::id::{FamilyId, RepositoryId};
use crate::limits;
use crate::object::Sealer;
use crate::pack::FrameOpener;
use crate::storage::{ErrorKind, Storage};
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
            compression: 3,
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
        storage.put(config::KEY, &[&object])?;
        let environment = environment.of(&repository);
        Ok(Self::assemble(storage, world, environment, config, sealer))
    }

    /// Opens a repository with the first of the secrets that fits a slot.
    pub fn open(
        storage: Arc<dyn Storage>,
        world: Arc<dyn World>,
        environment: Environment,
        secrets: &[Secret],
    ) -> Result<Self, RepoError> {
        let location = storage.location();
        let object = match storage.get(config::KEY, limits::CONFIG_LEN_MAX as u64) {
            Ok(object) => object,
            Err(error) if error.kind == ErrorKind::NotFound => {
                return Err(RepoError::Missing { location });
            }
            Err(error) => return Err(error.into()),
        };
        let unreadable = |source| RepoError::Unreadable { location: location.clone(), source };
        let (bytes, mac) = Config::split(&object).map_err(unreadable)?;
        let config = Config::decode(bytes).map_err(unreadable)?;
        let environment = environment.of(&config.repository);
        let keys = unlock::unlock(&*storage, &config.repository, secrets, &environment.cache)?;
        if keys.config_mac(bytes)? != *mac {
            return Err(RepoError::Object {
                key: config::KEY.into(),
                source: crate::crypto::CryptoError::Tag.into(),
            });
        }
        if !keys.is_usable() {
            return Err(unreadable(FormatError::Bad("bundle of keys")));
        }
        let sealer = Arc::new(Sealer { keys, repository: config.repository });
        Ok(Self::assemble(storage, world, environment, config, sealer))
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
        Self { storage, world, config, sealer, opener, environment, index }
    }
}
