//! Which snapshots a policy keeps: a pure function of the policy, the time and the snapshots.
//!
//! The rules, each of which can only keep more:
//! - Snapshots are ordered by recorded time, then id, and judged group by group.
//! - A snapshot from the future (more than `CLOCK_SKEW_SECONDS` after now) is kept and stands for
//!   no hour, day or other bucket: its time is a lie, and must not push out those that are true.
//! - An expired snapshot stands for no bucket either, and is forgotten unless it is pinned or last.
//! - Every other one may stand for its bucket. Of each bucket of the calendar the newest complete
//!   one is kept, or the newest partial one if none is complete. Pinned ones take part as others do.
//! - `keep_last` counts snapshots of either outcome. If it counted complete ones only, a file that
//!   can never be read would make every snapshot partial and none would ever be forgotten.
//! - Spans of `keep_within` reach back from the newest snapshot of the group, not from now: when
//!   backups have stopped, what is there must not melt away. A bucket that lies partly within the
//!   span counts whole.
//! - The last good snapshot of a group, the newest complete one or else the newest partial one,
//!   is never forgotten; those from the future do not count as such.

use std::collections::{BTreeMap, HashMap};

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::calendar;
use crate::format::snapshot::Outcome;
use crate::id::SnapshotId;
use crate::world::Time;

mod group;
mod reason;
#[cfg(test)]
mod tests;
mod within;

pub use group::{GroupBy, GroupKey};
pub use reason::{Bucket, ForgetReason, Reason, Unit};
pub use within::{Within, parse_within};

/// How far a snapshot's time may lie after now and still be believed: clocks of machines that set
/// them over the network differ by less.
pub const CLOCK_SKEW_SECONDS: i64 = 300;

/// Why nothing was planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// A policy without a rule would forget nearly everything: surely not what is meant.
    #[error("the retention policy keeps nothing; give at least one rule")]
    EmptyPolicy,
    /// A text that is no span.
    #[error("{text:?} is not a span of time such as 2y5m7d3h: {why}")]
    Within {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A text that names no property to group by.
    #[error("cannot group by {0:?}; host, paths, tags and job are possible")]
    GroupBy(String),
}

/// What to keep. `None` and 0 keep nothing, `u32::MAX` keeps all of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many snapshots.
    pub keep_last: Option<u32>,
    /// One of each of the newest so many hours that have one.
    pub keep_hourly: Option<u32>,
    /// One of each of the newest so many days that have one.
    pub keep_daily: Option<u32>,
    /// One of each of the newest so many ISO weeks, from Monday, that have one.
    pub keep_weekly: Option<u32>,
    /// One of each of the newest so many months that have one.
    pub keep_monthly: Option<u32>,
    /// One of each of the newest so many years that have one.
    pub keep_yearly: Option<u32>,
    /// All within this span before the newest.
    pub keep_within: Option<Within>,
    /// One of each hour within this span before the newest.
    pub keep_within_hourly: Option<Within>,
    /// One of each day within this span before the newest.
    pub keep_within_daily: Option<Within>,
    /// One of each ISO week within this span before the newest.
    pub keep_within_weekly: Option<Within>,
    /// One of each month within this span before the newest.
    pub keep_within_monthly: Option<Within>,
    /// One of each year within this span before the newest.
    pub keep_within_yearly: Option<Within>,
    /// All that have every tag of one of these lists.
    pub keep_tags: Vec<Vec<String>>,
}

impl Policy {
    /// Whether no rule keeps anything.
    pub fn is_empty(&self) -> bool {
        let counts = self.counts().into_iter().any(|(_, count)| count > 0);
        let spans = self.spans().into_iter().any(|(_, span)| span.is_some_and(|s| !s.is_zero()));
        let last = self.keep_last.is_some_and(|count| count > 0);
        let within = self.keep_within.is_some_and(|span| !span.is_zero());
        let tags = self.keep_tags.iter().any(|tags| !tags.is_empty());
        !(counts || spans || last || within || tags)
    }

    fn counts(&self) -> [(Unit, u32); 5] {
        [
            (Unit::Hour, self.keep_hourly.unwrap_or(0)),
            (Unit::Day, self.keep_daily.unwrap_or(0)),
            (Unit::Week, self.keep_weekly.unwrap_or(0)),
            (Unit::Month, self.keep_monthly.unwrap_or(0)),
            (Unit::Year, self.keep_yearly.unwrap_or(0)),
        ]
    }

    fn spans(&self) -> [(Unit, Option<Within>); 5] {
        [
            (Unit::Hour, self.keep_within_hourly),
            (Unit::Day, self.keep_within_daily),
            (Unit::Week, self.keep_within_weekly),
            (Unit::Month, self.keep_within_monthly),
            (Unit::Year, self.keep_within_yearly),
        ]
    }
}

/// A snapshot that may be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its recorded time.
    pub time: Time,
    /// Whether everything was read.
    pub outcome: Outcome,
    /// In any order.
    pub tags: Vec<String>,
    /// To be kept until a person says otherwise.
    pub pinned: bool,
    /// When it need not be kept any longer.
    pub expires: Option<Time>,
    /// The machine that it is of.
    pub host: String,
    /// What was backed up, raw, in any order.
    pub paths: Vec<Vec<u8>>,
    /// The job that made it; empty if none did.
    pub job: String,
}

impl Candidate {
    fn is_complete(&self) -> bool {
        self.outcome == Outcome::Complete
    }
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep {
        /// Every rule that wants it, at least one.
        reasons: Vec<Reason>,
    },
    /// It goes.
    Forget {
        /// Why.
        reason: ForgetReason,
    },
}

impl Verdict {
    /// Whether the snapshot stays.
    pub fn keeps(&self) -> bool {
        matches!(self, Self::Keep { .. })
    }
}

/// A snapshot and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its recorded time.
    pub time: Time,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// The snapshots that were judged together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub key: GroupKey,
    /// Newest first; at least one is kept.
    pub decisions: Vec<Decision>,
}

/// Decides for every candidate whether `policy` keeps it. Borders of days lie in `zone`.
///
/// The order of the candidates does not matter. Groups come in the order of their keys.
pub fn decide(
    policy: &Policy,
    group_by: GroupBy,
    now: Time,
    zone: &TimeZone,
    candidates: &[Candidate],
) -> Result<Vec<Group>, RetentionError> {
    if policy.is_empty() {
        return Err(RetentionError::EmptyPolicy);
    }
    let mut groups: BTreeMap<GroupKey, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        groups.entry(group_by.key(candidate)).or_default().push(candidate);
    }
    let groups = groups.into_iter().map(|(key, mut members)| {
        members.sort_by_key(|c| std::cmp::Reverse((c.time, c.id)));
        Group { key, decisions: decide_group(policy, now, zone, &members) }
    });
    Ok(groups.collect())
}

/// `members` are the group, newest first.
fn decide_group(
    policy: &Policy,
    now: Time,
    zone: &TimeZone,
    members: &[&Candidate],
) -> Vec<Decision> {
    let mut reasons: Vec<Vec<Reason>> = vec![Vec::new(); members.len()];
    let horizon = Time { seconds: now.seconds.saturating_add(CLOCK_SKEW_SECONDS), ..now };
    let is_future = |c: &Candidate| c.time > horizon;
    let is_expired = |c: &Candidate| c.expires.is_some_and(|expires| expires < now);

    for (candidate, reasons) in members.iter().zip(&mut reasons) {
        if is_future(candidate) {
            reasons.push(Reason::Future);
        }
        if candidate.pinned {
            reasons.push(Reason::Pinned);
        }
    }

    let believed = || members.iter().enumerate().filter(|(_, c)| !is_future(c));
    let ruled: Vec<Ruled<'_>> = believed()
        .filter(|(_, c)| !is_expired(c))
        .map(|(position, candidate)| Ruled { position, candidate, local: local(candidate, zone) })
        .collect();
    keep_plain(policy, zone, &ruled, &mut reasons);
    keep_buckets(policy, zone, &ruled, &mut reasons);

    let last_good = believed().find(|(_, c)| c.is_complete()).or_else(|| believed().next());
    if let Some((position, candidate)) = last_good {
        let complete = candidate.is_complete();
        reasons[position].push(Reason::LastGood { complete });
    }

    let decisions = members.iter().zip(reasons).map(|(candidate, reasons)| {
        let verdict = match (reasons.is_empty(), candidate.expires) {
            (false, _) => Verdict::Keep { reasons },
            (true, Some(at)) if at < now => {
                let day = calendar::to_timestamp(at).to_zoned(zone.clone()).date();
                Verdict::Forget { reason: ForgetReason::Expired { day } }
            }
            (true, _) => Verdict::Forget { reason: ForgetReason::NoRule },
        };
        Decision { id: candidate.id, time: candidate.time, verdict }
    });
    decisions.collect()
}

/// A snapshot that the policy's rules apply to.
struct Ruled<'a> {
    /// Its place in the group, newest first.
    position: usize,
    candidate: &'a Candidate,
    /// Its time on the zone's calendar, and how far that is ahead of UTC, seconds.
    local: (DateTime, i32),
}

fn local(candidate: &Candidate, zone: &TimeZone) -> (DateTime, i32) {
    let timestamp = calendar::to_timestamp(candidate.time);
    let offset = zone.to_offset(timestamp);
    (offset.to_datetime(timestamp), offset.seconds())
}

/// The rules that look at each snapshot by itself: last, within, tags.
fn keep_plain(policy: &Policy, zone: &TimeZone, ruled: &[Ruled<'_>], reasons: &mut [Vec<Reason>]) {
    for (rank, item) in (1..=policy.keep_last.unwrap_or(0)).zip(ruled) {
        reasons[item.position].push(Reason::Last { rank });
    }
    let span = policy.keep_within.filter(|span| !span.is_zero());
    if let (Some(span), Some(newest)) = (span, ruled.first()) {
        let start = span.before(newest.candidate.time, zone);
        for item in ruled.iter().take_while(|item| item.candidate.time >= start) {
            reasons[item.position].push(Reason::Within { span });
        }
    }
    for tags in policy.keep_tags.iter().filter(|tags| !tags.is_empty()) {
        let wanted = |item: &&Ruled<'_>| tags.iter().all(|tag| item.candidate.tags.contains(tag));
        for item in ruled.iter().filter(wanted) {
            reasons[item.position].push(Reason::Tagged { tags: tags.clone() });
        }
    }
}

/// The rules that keep one snapshot of each bucket of the calendar.
fn keep_buckets(
    policy: &Policy,
    zone: &TimeZone,
    ruled: &[Ruled<'_>],
    reasons: &mut [Vec<Reason>],
) {
    let Some(newest) = ruled.first() else { return };
    for ((unit, count), (_, span)) in policy.counts().into_iter().zip(policy.spans()) {
        let span = span.filter(|span| !span.is_zero());
        if count == 0 && span.is_none() {
            continue;
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let start = span.map(|span| span.before(newest.candidate.time, zone));
        for (rank, filled) in fill_buckets(unit, ruled).into_iter().enumerate() {
            let counted = rank < count;
            let within = span.filter(|_| start.is_some_and(|start| filled.newest.time >= start));
            if counted || within.is_some() {
                // Counted ones need no span to be kept, so the span is not part of the reason.
                let span = within.filter(|_| !counted);
                let complete_only = filled.standing.candidate.id != filled.newest.id;
                let bucket = filled.bucket;
                let reason = Reason::Bucket { bucket, complete_only, span };
                reasons[filled.standing.position].push(reason);
            }
        }
    }
}

/// A bucket of the calendar that has a snapshot.
struct Filled<'a> {
    bucket: Bucket,
    newest: &'a Candidate,
    /// Which one stands for it: the newest complete one, else the newest.
    standing: &'a Ruled<'a>,
}

/// The buckets of one unit, in the order of their newest snapshots, newest first.
///
/// They are found by key and not by comparing neighbours: where clocks go back over midnight, the
/// days before and after alternate.
fn fill_buckets<'a>(unit: Unit, ruled: &'a [Ruled<'a>]) -> Vec<Filled<'a>> {
    let mut buckets: Vec<Filled<'a>> = Vec::new();
    let mut places: HashMap<Bucket, usize> = HashMap::new();
    for item in ruled {
        let bucket = Bucket { unit, start: start(unit, item.local.0), offset: offset(unit, item) };
        let place = *places.entry(bucket).or_insert(buckets.len());
        match buckets.get_mut(place) {
            None => buckets.push(Filled { bucket, newest: item.candidate, standing: item }),
            Some(filled)
                if item.candidate.is_complete() && !filled.standing.candidate.is_complete() =>
            {
                filled.standing = item;
            }
            Some(_) => {}
        }
    }
    buckets
}

/// The hour that comes twice when clocks go back is two hours; a longer bucket stays one.
fn offset(unit: Unit, item: &Ruled<'_>) -> i32 {
    if unit == Unit::Hour { item.local.1 } else { 0 }
}

/// The first moment of the bucket that a local time is in.
fn start(unit: Unit, local: DateTime) -> DateTime {
    let date = local.date();
    let midnight = |date: Date| date.at(0, 0, 0, 0);
    match unit {
        Unit::Hour => date.at(local.hour(), 0, 0, 0),
        Unit::Day => midnight(date),
        // Before the first Monday that can be told there is only the first day itself.
        Unit::Week => {
            midnight(date.iso_week_date().first_of_week().map_or(Date::MIN, |week| week.date()))
        }
        Unit::Month => midnight(date.first_of_month()),
        Unit::Year => midnight(date.first_of_year()),
    }
}
