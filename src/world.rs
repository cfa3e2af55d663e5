//! The seams to the outside: what time it is, and randomness. Real, or seeded for tests.

use std::fmt;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time: seconds since 1970 (negative before), and nanoseconds forward from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// 0 to 999,999,999, always counted forward.
    pub nanoseconds: u32,
}

impl Time {
    /// From whole seconds since 1970.
    pub fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }
}

/// What the outside world gives: the time, and bytes nobody can guess.
pub trait World: Send + Sync + fmt::Debug {
    /// The time now.
    fn now(&self) -> Time;
    /// Fills a buffer with random bytes.
    fn random(&self, bytes: &mut [u8]);
}

/// Random bytes as an array.
pub fn random<const N: usize>(world: &dyn World) -> [u8; N] {
    let mut bytes = [0; N];
    world.random(&mut bytes);
    bytes
}

/// The system's clock and the kernel's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealWorld;

impl World for RealWorld {
    fn now(&self) -> Time {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => Time {
                seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                nanoseconds: after.subsec_nanos(),
            },
            // A clock before 1970 is wrong anyway; whole seconds are enough to say so.
            Err(before) => Time::from_seconds(
                i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
            ),
        }
    }

    fn random(&self, bytes: &mut [u8]) {
        // Going on without randomness would reuse nonces; there is nothing to do but to stop.
        getrandom::fill(bytes).expect("the kernel gives random bytes");
    }
}

/// A clock that moves only when told, and randomness from a seed: for tests and golden files.
#[derive(Debug)]
pub struct SeededWorld {
    state: Mutex<(Time, blake3::OutputReader)>,
}

impl SeededWorld {
    /// A world whose random bytes follow from `seed`.
    pub fn new(seed: u64, now: Time) -> Self {
        let key = *blake3::hash(&seed.to_le_bytes()).as_bytes();
        let reader = blake3::Hasher::new_keyed(&key).finalize_xof();
        Self { state: Mutex::new((now, reader)) }
    }

    /// Moves the clock.
    pub fn set_now(&self, now: Time) {
        self.lock().0 = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Time, blake3::OutputReader)> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl World for SeededWorld {
    fn now(&self) -> Time {
        self.lock().0
    }

    fn random(&self, bytes: &mut [u8]) {
        self.lock().1.fill(bytes);
    }
}
