//! Why a snapshot is kept or forgotten, in plain words.

use std::fmt;

use jiff::civil::{Date, DateTime};

use super::Within;
use crate::text;

/// How long a bucket of the calendar is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// From minute 0.
    Hour,
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first day.
    Month,
    /// From 1 January.
    Year,
}

/// One hour, day, week, month or year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// Which of them.
    pub unit: Unit,
    /// Its first moment, local.
    pub start: DateTime,
    /// How far local time is ahead of UTC, seconds; told for hours only, of which two may have
    /// the same name.
    pub offset: i32,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.start.date();
        match self.unit {
            Unit::Hour => write!(f, "hour {date} {:02}:00", self.start.hour()),
            Unit::Day => write!(f, "day {date}"),
            Unit::Week => {
                let week = date.iso_week_date();
                write!(f, "week {}-W{:02}", week.year(), week.week())
            }
            Unit::Month => write!(f, "month {}-{:02}", date.year(), date.month()),
            Unit::Year => write!(f, "year {}", date.year()),
        }
    }
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Its time has not come yet, so no rule can be trusted with it.
    Future,
    /// A person pinned it.
    Pinned,
    /// One of the newest; `rank` counts from 1.
    Last {
        /// 1 for the newest.
        rank: u32,
    },
    /// It lies within a span before the newest.
    Within {
        /// The span.
        span: Within,
    },
    /// It has all of these tags.
    Tagged {
        /// The tags.
        tags: Vec<String>,
    },
    /// It stands for an hour, day, week, month or year.
    Bucket {
        /// For which.
        bucket: Bucket,
        /// A newer one is there, but partial.
        complete_only: bool,
        /// The span that the bucket is in, if only that keeps it.
        span: Option<Within>,
    },
    /// Without it the group would have no good snapshot, or only older ones.
    LastGood {
        /// Otherwise it is partial, and no complete one is there.
        complete: bool,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Future => f.write_str("its time lies in the future"),
            Self::Pinned => f.write_str("pinned"),
            Self::Last { rank: 1 } => f.write_str("the newest"),
            Self::Last { rank } => write!(f, "number {rank} of the newest"),
            Self::Within { span } => write!(f, "within {span} before the newest"),
            Self::Tagged { tags } => {
                write!(f, "tagged {}", text::escape(tags.join(", ").as_bytes()))
            }
            Self::Bucket { bucket, complete_only, span } => {
                let which = if *complete_only { "newest complete" } else { "newest" };
                write!(f, "{which} of the {bucket}")?;
                match span {
                    Some(span) => write!(f, ", within {span} before the newest"),
                    None => Ok(()),
                }
            }
            Self::LastGood { complete: true } => f.write_str("newest complete one of its group"),
            Self::LastGood { complete: false } => {
                f.write_str("newest of its group, where none is complete")
            }
        }
    }
}

/// Why a snapshot is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgetReason {
    /// No rule of the policy keeps it.
    NoRule,
    /// It was to be kept until a time that has passed.
    Expired {
        /// The day, local.
        day: Date,
    },
}

impl fmt::Display for ForgetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no rule keeps it"),
            Self::Expired { day } => write!(f, "expired on {day}"),
        }
    }
}
