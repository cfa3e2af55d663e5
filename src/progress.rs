//! How work tells how far it is, what went wrong on the way, and learns that it shall stop.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is counted while an operation works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Files, directories and other entries dealt with.
    Entries,
    /// Bytes dealt with, as the source or the target has them.
    Bytes,
    /// Bytes that the storage got, or gave.
    StoredBytes,
    /// Objects of the repository dealt with (packs, snapshots).
    Objects,
}

/// Something that went wrong and did not end the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path or the object's key, raw: whoever prints it escapes it.
    pub what: Vec<u8>,
    /// Why, in words that fit after "failed to" or a colon.
    pub why: String,
    /// Damage in the repository, as opposed to trouble with a source or a target.
    pub damage: bool,
}

impl Problem {
    /// Trouble with a path of the source or the target.
    pub fn at(what: impl Into<Vec<u8>>, why: impl fmt::Display) -> Self {
        Self { what: what.into(), why: why.to_string(), damage: false }
    }

    /// Damage to an object of the repository, or to what depends on it.
    pub fn damage(what: impl Into<Vec<u8>>, why: impl fmt::Display) -> Self {
        Self { what: what.into(), why: why.to_string(), damage: true }
    }
}

/// Where an operation reports to. Called from any thread, often: it must be quick.
pub trait Progress: Send + Sync {
    /// A part of the work begins ("reading", "checking packs"); `total` in the unit of `counter`.
    fn phase(&self, name: &str, counter: Counter, total: Option<u64>);
    /// Some more is done.
    fn add(&self, counter: Counter, amount: u64);
    /// What is being worked on, raw.
    fn at(&self, path: &[u8]);
    /// Something went wrong; the run goes on.
    fn problem(&self, problem: &Problem);
    /// Worth saying once, not wrong (a file system skipped, which snapshot `latest` means).
    fn note(&self, text: &str);
    /// Whether the work shall end as soon as it safely can.
    fn cancelled(&self) -> bool;
}

/// Says nothing, remembers everything: for tests and for callers that want only the report.
#[derive(Debug, Default)]
pub struct Silent {
    /// Entries, bytes, stored bytes, objects.
    pub counts: [AtomicU64; 4],
    /// Every problem, in the order of coming.
    pub problems: Mutex<Vec<Problem>>,
    /// Every note.
    pub notes: Mutex<Vec<String>>,
    /// Set to end the work.
    pub cancel: AtomicBool,
}

impl Silent {
    /// How much was counted.
    pub fn count(&self, counter: Counter) -> u64 {
        self.counts[counter as usize].load(Ordering::Relaxed)
    }

    /// The problems so far.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Progress for Silent {
    fn phase(&self, _: &str, _: Counter, _: Option<u64>) {}

    fn add(&self, counter: Counter, amount: u64) {
        self.counts[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    fn at(&self, _: &[u8]) {}

    fn problem(&self, problem: &Problem) {
        let mut problems = self.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        problems.push(problem.clone());
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(text.into());
    }

    fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}
