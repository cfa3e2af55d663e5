//! What the measurements share: repositories, copies, clocks.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use holdall::crypto::{KeyFile, PasswordCost, Secret};
use holdall::id::ClientId;
use holdall::repo::{CreateOptions, Environment, NewSlot, Repository};
use holdall::storage::LocalStorage;
use holdall::world::RealWorld;
use rustix::time::{ClockId, clock_gettime};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A new repository below `place`, with its cache beside it.
pub fn create(place: &Path, options: &CreateOptions) -> Result<Arc<Repository>> {
    let storage = Arc::new(LocalStorage::create(&place.join("repository"))?);
    let environment = Environment {
        cache: place.join("cache"),
        state: place.join("state"),
        client: ClientId([7; 16]),
        host: "host".into(),
        user: "user".into(),
        process: std::process::id(),
        threads: std::thread::available_parallelism()?.get(),
    };
    let secret = Secret::KeyFile(KeyFile::generate(&RealWorld));
    let slots = [NewSlot { secret, cost: PasswordCost::LOWEST, label: "bench".into() }];
    let world = Arc::new(RealWorld);
    Ok(Arc::new(Repository::create(storage, world, environment, options, &slots, None)?))
}

/// A plain copy of a tree, with all that `cp` keeps.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("-a").arg(from).arg(to))
}

/// Runs a program that has to succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {status}").into()),
    }
}

/// Seconds of the processor so far, all threads together: they say more than the clock where
/// others are at work.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
