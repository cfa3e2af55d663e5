//! A storage that is used no faster than allowed, so that others find room on the same line.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{FreeRoom, Listed, Result, Storage};

/// For how long without use a limiter saves up.
const SAVED_MAX: Duration = Duration::from_secs(1);

/// How often one that waits looks whether it still has to.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// When how many bytes may go. What goes is paid for with time, and time that was not used is
/// saved for a while, so that in any span of time at most as many bytes go as its length and
/// `SAVED_MAX` together allow.
#[derive(Debug)]
struct Budget {
    rate: NonZeroU64,
    /// Until when all that has gone so far is paid for.
    paid_until: Duration,
}

impl Budget {
    fn new(rate: NonZeroU64) -> Self {
        Self { rate, paid_until: Duration::ZERO }
    }

    /// Takes so many bytes at the time `now`; gives how long they have to wait.
    fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let begin = self.paid_until.max(now.saturating_sub(SAVED_MAX));
        self.paid_until = begin.saturating_add(self.price(bytes));
        self.paid_until.saturating_sub(now)
    }

    /// The time that so many bytes take, rounded up to a nanosecond.
    fn price(&self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000;
        Duration::from_nanos_u128(nanoseconds.div_ceil(self.rate.get().into()))
    }
}

/// Lets bytes pass at a certain rate. Whoever shares it shares the rate, and comes in turn.
pub struct Limiter {
    budget: Mutex<Budget>,
    began: Instant,
    hurry: Arc<AtomicBool>,
}

impl Limiter {
    /// One for so many bytes a second. As soon as `hurry` is set nothing waits any more.
    pub fn new(bytes_per_second: NonZeroU64, hurry: Arc<AtomicBool>) -> Self {
        let budget = Mutex::new(Budget::new(bytes_per_second));
        Self { budget, began: Instant::now(), hurry }
    }

    /// Returns when so many bytes may pass.
    fn pass(&self, bytes: usize) {
        let now = self.began.elapsed();
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let until = now + budget.take(bytes as u64, now);
        drop(budget);
        while !self.hurry.load(Ordering::Relaxed) {
            let left = until.saturating_sub(self.began.elapsed());
            if left.is_zero() {
                break;
            }
            // It may come back early; then the rest is waited for.
            std::thread::park_timeout(left.min(LOOK_EVERY));
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "Limiter({} bytes a second)", budget.rate)
    }
}

/// A storage with limits. Objects go as a whole, so it is between them that it waits: before
/// what is written, and after what is read, whose length is not known earlier.
#[derive(Debug)]
pub struct ThrottledStorage {
    storage: Arc<dyn Storage>,
    upload: Option<Arc<Limiter>>,
    download: Option<Arc<Limiter>>,
}

impl ThrottledStorage {
    /// Writes to `storage` no faster than `upload` lets pass, and reads no faster than `download`.
    pub fn new(
        storage: Arc<dyn Storage>,
        upload: Option<Arc<Limiter>>,
        download: Option<Arc<Limiter>>,
    ) -> Self {
        Self { storage, upload, download }
    }

    /// So much was read.
    fn pass_read(&self, len: usize) {
        self.download.iter().for_each(|limiter| limiter.pass(len));
    }
}

impl Storage for ThrottledStorage {
    fn location(&self) -> String {
        self.storage.location()
    }

    fn is_remote(&self) -> bool {
        self.storage.is_remote()
    }

    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        let len = parts.iter().map(|part| part.len()).sum();
        self.upload.iter().for_each(|limiter| limiter.pass(len));
        self.storage.put(key, parts)
    }

    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>> {
        self.storage.get(key, len_max).inspect(|bytes| self.pass_read(bytes.len()))
    }

    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()> {
        self.storage.get_range_into(key, offset, len, into)?;
        self.pass_read(len);
        Ok(())
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.storage.list(prefix, each)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.storage.delete(key)
    }

    fn stat(&self, key: &str) -> Result<u64> {
        self.storage.stat(key)
    }

    fn free_room(&self) -> Option<FreeRoom> {
        self.storage.free_room()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;
    use proptest::prelude::*;

    fn rate(bytes_per_second: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes_per_second).unwrap()
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn bytes_are_paid_for_with_time() {
        let mut budget = Budget::new(rate(1000));
        assert_eq!(budget.take(500, millis(0)), millis(500));
        // Side by side: the second waits for the first.
        assert_eq!(budget.take(1000, millis(100)), millis(1400));
        assert_eq!(budget.take(0, millis(100)), millis(1400));
        // All is paid for at 1500; what was saved since is spent first.
        assert_eq!(budget.take(400, millis(2000)), millis(0));
        assert_eq!(budget.take(200, millis(2000)), millis(100));
        // No more is saved than a second's worth.
        assert_eq!(budget.take(1500, millis(100_000)), millis(500));
    }

    #[test]
    fn odd_amounts() {
        let mut slow = Budget::new(rate(3));
        assert_eq!(slow.take(1, Duration::ZERO), Duration::from_nanos(333_333_334));
        let mut fast = Budget::new(rate(u64::MAX));
        assert_eq!(fast.take(u64::MAX, Duration::ZERO), Duration::from_secs(1));
        let mut never = Budget::new(rate(1));
        for _ in 0..3 {
            assert!(never.take(u64::MAX, Duration::ZERO) > Duration::from_secs(1 << 60));
        }
    }

    /// Milliseconds between two calls: often none, so that what was saved is spent at once.
    fn pause() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 0u64..10_000]
    }

    proptest! {
        /// In every span of time no more goes than allowed; and nobody waits without need.
        #[test]
        fn the_rate_is_kept(
            bytes_per_second in 1_000u64..1 << 30,
            calls in prop::collection::vec((pause(), 0u64..20 << 20), 1..40),
        ) {
            let mut budget = Budget::new(rate(bytes_per_second));
            let mut now = Duration::ZERO;
            let mut gone = Vec::new();
            for (pause, bytes) in calls {
                now += millis(pause);
                gone.push((now + budget.take(bytes, now), bytes));
            }
            let allowed = |span: Duration| {
                span.as_nanos() * u128::from(bytes_per_second) / 1_000_000_000
            };
            for first in 0..gone.len() {
                let mut sum = 0;
                for (at, bytes) in &gone[first..] {
                    sum += bytes;
                    // The first of a span was paid for before it began.
                    let paid = gone[first].1;
                    let span = *at - gone[first].0 + SAVED_MAX;
                    prop_assert!(u128::from(sum - paid) <= allowed(span));
                }
            }
            let sum: u128 = gone.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
            let end = gone.last().unwrap().0;
            // Each price is rounded up to a nanosecond, in which two bytes may go.
            let rounded = 2 * gone.len() as u128;
            prop_assert!(allowed(end.saturating_sub(now)) <= sum + rounded);
        }
    }

    #[test]
    fn a_storage_waits_and_stops_waiting() {
        let hurry = Arc::new(AtomicBool::new(false));
        let limiter = |bytes| Some(Arc::new(Limiter::new(rate(bytes), hurry.clone())));
        let began = Instant::now();
        let memory = Arc::new(MemoryStorage::new());
        let slow = ThrottledStorage::new(memory.clone(), limiter(1000), limiter(1000));
        slow.put("a", &[&[1; 20], &[2; 10]]).unwrap();
        assert!(began.elapsed() >= millis(30));
        slow.get("a", 99).unwrap();
        slow.get("a", 99).unwrap();
        slow.get_range("a", 10, 10).unwrap();
        assert!(began.elapsed() >= millis(70));
        assert!(slow.get_range("a", 0, usize::MAX).is_err(), "what is not there costs nothing");
        // This would take an hour.
        std::thread::scope(|scope| {
            let put = scope.spawn(|| slow.put("b", &[&vec![0; 3_600_000]]));
            assert_eq!(memory.stat("b").unwrap_err().kind, crate::storage::ErrorKind::NotFound);
            hurry.store(true, Ordering::Relaxed);
            put.join().unwrap().unwrap();
        });
        assert_eq!(memory.stat("b").unwrap(), 3_600_000);
    }
}
