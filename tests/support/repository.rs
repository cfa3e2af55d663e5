//! Repositories for tests: in memory or in a directory, opened by key file, seeded.

use std::path::Path;
use std::sync::Arc;

use holdall::crypto::{KeyFile, PasswordCost, Secret};
use holdall::format::config::ChunkerParams;
use holdall::id::ClientId;
use holdall::repo::{CreateOptions, Environment, NewSlot, Repository};
use holdall::storage::{LocalStorage, MemoryStorage, Storage};
use holdall::world::{SeededWorld, Time};

/// A repository, what opens it, and its cache, which goes with it.
pub struct TestRepo {
    /// Where its objects lie.
    pub storage: Arc<dyn Storage>,
    /// Clock and randomness.
    pub world: Arc<SeededWorld>,
    /// What opens it.
    pub secret: Secret,
    /// It, as it was created.
    pub repository: Arc<Repository>,
    cache: tempfile::TempDir,
}

/// Small chunks, frames and packs, so that small trees have many of them.
pub fn small() -> CreateOptions {
    let chunker = ChunkerParams { min_size: 4 << 10, avg_size: 8 << 10, max_size: 32 << 10 };
    CreateOptions { chunker, frame_size: 32 << 10, pack_size: 128 << 10, compression: 1 }
}

impl TestRepo {
    /// In memory, with small chunks and packs.
    pub fn memory() -> Self {
        Self::create(Arc::new(MemoryStorage::new()), &small(), 1)
    }

    /// In a directory, as `init` makes it.
    pub fn local(path: &Path) -> Self {
        let storage = LocalStorage::create(path).expect("the directory can be made");
        Self::create(Arc::new(storage), &CreateOptions::default(), 1)
    }

    /// In any storage.
    pub fn create(storage: Arc<dyn Storage>, options: &CreateOptions, seed: u64) -> Self {
        let world = Arc::new(SeededWorld::new(seed, Time::from_seconds(1_800_000_000)));
        let cache = tempfile::tempdir().expect("a directory for the cache");
        let secret = Secret::KeyFile(KeyFile::generate(&*world));
        let cost = PasswordCost::LOWEST;
        let slots = [NewSlot { secret: secret.clone(), cost, label: "test".into() }];
        let environment = environment(cache.path());
        let (store, clock) = (storage.clone(), world.clone());
        let repository = Repository::create(store, clock, environment, options, &slots, None);
        let repository = Arc::new(repository.expect("a repository can be created"));
        Self { storage, world, secret, repository, cache }
    }

    /// Opens it again, as another process would, with the same cache.
    pub fn reopen(&self) -> Arc<Repository> {
        self.open_on(self.storage.clone(), self.cache.path())
    }

    /// Opens it on another view of its storage, with another cache.
    pub fn open_on(&self, storage: Arc<dyn Storage>, cache: &Path) -> Arc<Repository> {
        let secrets = [self.secret.clone()];
        let opened = Repository::open(storage, self.world.clone(), environment(cache), &secrets);
        Arc::new(opened.expect("the repository opens"))
    }

    /// Its cache.
    pub fn cache(&self) -> &Path {
        self.cache.path()
    }
}

/// An environment with two threads.
pub fn environment(cache: &Path) -> Environment {
    Environment {
        cache: cache.into(),
        state: cache.join("state"),
        client: ClientId([7; 16]),
        host: "host".into(),
        user: "user".into(),
        process: 1,
        threads: 2,
    }
}
