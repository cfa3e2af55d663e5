//! What is missing from a repository, as people and programs are told.

use serde::Serialize;

use super::context::Context;
use crate::ops::lines::Alarm;
use crate::text;

/// So many are told one by one.
const TOLD_MAX: usize = 20;

/// Warns of what is missing, and says what to do about it.
pub fn warn_of(alarms: &[Alarm], context: &Context) {
    let output = &context.output;
    for alarm in alarms.iter().take(TOLD_MAX) {
        output.warn(&text::escape(alarm.to_string().as_bytes()));
    }
    if let Some(more) = alarms.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
        output.warn(&format!("and {more} more; `holdall check` names all of them"));
    }
    if let Some(first) = alarms.first() {
        output.warn(&format!(
            "the storage has lost that, or shows an older state of the repository; \
             `holdall forget {}` says that you know of it",
            first.name()
        ));
    }
}

/// A snapshot that should be there, and is not.
#[derive(Debug, Serialize)]
pub struct JsonAlarm {
    name: String,
    snapshot: Option<String>,
    why: String,
}

impl JsonAlarm {
    /// One as it is told to programs.
    pub fn new(alarm: &Alarm) -> Self {
        let snapshot = alarm.snapshot().map(|id| id.to_hex());
        Self { name: alarm.name(), snapshot, why: alarm.to_string() }
    }
}
