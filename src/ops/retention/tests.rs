//! The rules one by one.

use super::*;
use crate::calendar::parse_time;

mod properties;

const ALL: u32 = u32::MAX;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(text: &str, zone_name: &str) -> Time {
    parse_time(text, &zone(zone_name)).unwrap()
}

fn snapshot(number: u8, time: Time) -> Candidate {
    Candidate {
        id: SnapshotId([number; 32]),
        time,
        outcome: Outcome::Complete,
        tags: Vec::new(),
        pinned: false,
        expires: None,
        host: "web".into(),
        paths: vec![b"/etc".to_vec()],
        job: String::new(),
    }
}

/// Snapshots numbered from 0 in the order of `times`, which are local unless they have an offset.
fn snapshots(zone_name: &str, times: &[&str]) -> Vec<Candidate> {
    (0..).zip(times).map(|(number, text)| snapshot(number, at(text, zone_name))).collect()
}

fn span(text: &str) -> Option<Within> {
    Some(parse_within(text).unwrap())
}

/// Decides at the end of 2026 in the default groups.
fn decide_late(policy: &Policy, zone_name: &str, candidates: &[Candidate]) -> Vec<Group> {
    let now = at("2026-12-31 23:59", "UTC");
    decide(policy, GroupBy::default(), now, &zone(zone_name), candidates).unwrap()
}

/// The numbers of the snapshots that are kept, ascending.
fn kept(groups: &[Group]) -> Vec<u8> {
    let decisions = groups.iter().flat_map(|group| &group.decisions);
    let mut ids: Vec<u8> =
        decisions.filter(|d| d.verdict.keeps()).map(|d| d.id.as_bytes()[0]).collect();
    ids.sort();
    ids
}

/// Why a snapshot is kept or forgotten, as people read it.
fn why(groups: &[Group], number: u8) -> String {
    let mut decisions = groups.iter().flat_map(|group| &group.decisions);
    let decision = decisions.find(|d| d.id.as_bytes()[0] == number).unwrap();
    match &decision.verdict {
        Verdict::Forget { reason } => format!("forget: {reason}"),
        Verdict::Keep { reasons } => {
            reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
        }
    }
}

const YEARS: [&str; 10] = [
    "2024-05-05 05:00", // 0
    "2025-12-28 10:00", // 1: Sunday of the week 2025-W52
    "2025-12-29 10:00", // 2: Monday of the week 2026-W01
    "2026-01-01 10:00", // 3: Thursday of that week
    "2026-11-01 00:00", // 4
    "2026-11-19 23:59", // 5
    "2026-11-20 00:00", // 6
    "2026-11-20 14:01", // 7
    "2026-11-20 14:59", // 8
    "2026-11-20 15:00", // 9
];

#[test]
fn each_rule_keeps_what_it_says() {
    let none = Policy::default;
    for (policy, expected) in [
        (Policy { keep_last: Some(1), ..none() }, vec![9]),
        (Policy { keep_last: Some(3), ..none() }, vec![7, 8, 9]),
        (Policy { keep_last: Some(ALL), ..none() }, (0..10).collect()),
        (Policy { keep_hourly: Some(3), ..none() }, vec![6, 8, 9]),
        (Policy { keep_hourly: Some(ALL), ..none() }, vec![0, 1, 2, 3, 4, 5, 6, 8, 9]),
        (Policy { keep_daily: Some(2), ..none() }, vec![5, 9]),
        (Policy { keep_weekly: Some(ALL), ..none() }, vec![0, 1, 3, 4, 9]),
        (Policy { keep_monthly: Some(2), ..none() }, vec![3, 9]),
        (Policy { keep_monthly: Some(3), ..none() }, vec![2, 3, 9]),
        (Policy { keep_yearly: Some(2), ..none() }, vec![2, 9]),
        (Policy { keep_yearly: Some(ALL), ..none() }, vec![0, 2, 9]),
        (Policy { keep_within: span("15h"), ..none() }, vec![6, 7, 8, 9]),
        (Policy { keep_within: span("1h"), ..none() }, vec![7, 8, 9]),
        (Policy { keep_within_hourly: span("1h"), ..none() }, vec![8, 9]),
        (Policy { keep_within_daily: span("1d"), ..none() }, vec![5, 9]),
        (Policy { keep_within_weekly: span("3w"), ..none() }, vec![4, 9]),
        (Policy { keep_within_monthly: span("11m"), ..none() }, vec![2, 3, 9]),
        (Policy { keep_within_yearly: span("2y"), ..none() }, vec![2, 9]),
        (Policy { keep_daily: Some(1), keep_yearly: Some(3), ..none() }, vec![0, 2, 9]),
    ] {
        let groups = decide_late(&policy, "UTC", &snapshots("UTC", &YEARS));
        assert_eq!(kept(&groups), expected, "{policy:?}");
    }
}

#[test]
fn reasons_are_plain_words() {
    let mut candidates = snapshots("UTC", &YEARS);
    candidates[0].pinned = true;
    candidates[1].tags = vec!["a\x1b".into(), "b".into()];
    candidates[8].outcome = Outcome::Partial;
    candidates[7].expires = Some(at("2026-12-01", "UTC"));
    candidates[6].outcome = Outcome::Partial;
    candidates.push(snapshot(10, at("2027-01-05", "UTC")));
    let policy = Policy {
        keep_last: Some(2),
        keep_hourly: Some(1),
        keep_daily: Some(1),
        keep_weekly: Some(1),
        keep_monthly: Some(1),
        keep_yearly: Some(1),
        keep_within_daily: span("1d"),
        keep_within: span("1h"),
        keep_tags: vec![vec!["b".into(), "a\x1b".into()]],
        ..Policy::default()
    };
    let groups = decide_late(&policy, "UTC", &candidates);
    assert_eq!(groups[0].key.to_string(), "host web; paths /etc");
    for (number, expected) in [
        (0, "pinned"),
        (1, r"tagged b, a\e"),
        (2, "forget: no rule keeps it"),
        (5, "newest of the day 2026-11-19, within 1d before the newest"),
        (6, "forget: no rule keeps it"),
        (7, "forget: expired on 2026-12-01"),
        (8, "number 2 of the newest | within 1h before the newest"),
        (
            9,
            "the newest | within 1h before the newest | newest of the hour 2026-11-20 15:00 | \
             newest of the day 2026-11-20 | newest of the week 2026-W47 | \
             newest of the month 2026-11 | newest of the year 2026 | \
             newest complete one of its group",
        ),
        (10, "its time lies in the future"),
    ] {
        assert_eq!(why(&groups, number), expected, "{number}");
    }
}

#[test]
fn a_policy_without_a_rule_is_refused() {
    let zeros = Policy {
        keep_last: Some(0),
        keep_daily: Some(0),
        keep_within: Some(Within::default()),
        keep_within_daily: Some(Within::default()),
        keep_tags: vec![Vec::new()],
        ..Policy::default()
    };
    for policy in [Policy::default(), zeros] {
        for candidates in [Vec::new(), snapshots("UTC", &YEARS)] {
            let found =
                decide(&policy, GroupBy::default(), Time::default(), &TimeZone::UTC, &candidates);
            assert_eq!(found, Err(RetentionError::EmptyPolicy));
        }
    }
}

#[test]
fn a_partial_snapshot_displaces_no_complete_one_of_its_bucket() {
    let mut candidates = snapshots(
        "UTC",
        &["2026-11-18 10:00", "2026-11-18 20:00", "2026-11-19 10:00", "2026-11-19 20:00"],
    );
    candidates[1].outcome = Outcome::Partial;
    candidates[2].outcome = Outcome::Partial;
    candidates[3].outcome = Outcome::Partial;
    let policy = Policy { keep_daily: Some(2), ..Policy::default() };
    let groups = decide_late(&policy, "UTC", &candidates);
    assert_eq!(kept(&groups), [0, 3]);
    assert_eq!(
        why(&groups, 0),
        "newest complete of the day 2026-11-18 | newest complete one of its group"
    );
    assert_eq!(why(&groups, 3), "newest of the day 2026-11-19");
    // The bucket counts while any of its snapshots is within the span.
    candidates[3].outcome = Outcome::Complete;
    let policy = Policy { keep_within_daily: span("25h"), ..Policy::default() };
    assert_eq!(kept(&decide_late(&policy, "UTC", &candidates)), [0, 3]);
}

#[test]
fn the_last_good_snapshot_is_never_forgotten() {
    let policy = Policy { keep_tags: vec![vec!["never".into()]], ..Policy::default() };
    let mut candidates = snapshots("UTC", &YEARS);
    assert_eq!(kept(&decide_late(&policy, "UTC", &candidates)), [9]);
    candidates[9].outcome = Outcome::Partial;
    candidates[8].outcome = Outcome::Partial;
    assert_eq!(kept(&decide_late(&policy, "UTC", &candidates)), [7]);
    candidates[7].expires = Some(Time::default());
    assert_eq!(kept(&decide_late(&policy, "UTC", &candidates)), [7]);
    candidates.iter_mut().for_each(|c| c.outcome = Outcome::Partial);
    let groups = decide_late(&policy, "UTC", &candidates);
    assert_eq!(kept(&groups), [9]);
    assert_eq!(why(&groups, 9), "newest of its group, where none is complete");
}

#[test]
fn pinned_and_expired() {
    let mut candidates = snapshots("UTC", &YEARS);
    let now = at("2026-12-31 23:59", "UTC");
    candidates[0].pinned = true;
    candidates[1].pinned = true;
    candidates[1].expires = Some(Time::default());
    // It expires this very moment: not yet.
    candidates[9].expires = Some(now);
    candidates[8].expires = Some(Time { seconds: now.seconds - 1, nanoseconds: 999_999_999 });
    let policy = Policy { keep_hourly: Some(2), ..Policy::default() };
    // An expired snapshot leaves its hour to an older one.
    assert_eq!(kept(&decide_late(&policy, "UTC", &candidates)), [0, 1, 7, 9]);
}

#[test]
fn clocks_that_lie() {
    let now = at("2026-11-20 12:00", "UTC");
    let plus = |seconds, nanoseconds| Time { seconds: now.seconds + seconds, nanoseconds };
    let times = [
        Time::default(), // 0: a machine without a clock
        Time::from_seconds(i64::MIN),
        plus(-86_400, 0),
        plus(-1, 0),
        plus(CLOCK_SKEW_SECONDS, 0), // 4: believed
        plus(CLOCK_SKEW_SECONDS, 1), // 5: not believed
        plus(86_400, 0),
        Time::from_seconds(i64::MAX),
    ];
    let candidates: Vec<Candidate> =
        (0..).zip(times).map(|(number, time)| snapshot(number, time)).collect();
    let run = |policy: &Policy, now| {
        decide(policy, GroupBy::default(), now, &TimeZone::UTC, &candidates).unwrap()
    };
    // Three from the future take no place of those that are true.
    let last = Policy { keep_last: Some(2), ..Policy::default() };
    assert_eq!(kept(&run(&last, now)), [3, 4, 5, 6, 7]);
    let daily = Policy { keep_daily: Some(2), ..Policy::default() };
    assert_eq!(kept(&run(&daily, now)), [2, 4, 5, 6, 7]);
    let all = Policy { keep_yearly: Some(ALL), keep_weekly: Some(ALL), ..Policy::default() };
    assert_eq!(kept(&run(&all, now)), [0, 1, 4, 5, 6, 7]);
    // Where the clock of this machine says 1970, everything else is from the future.
    assert_eq!(kept(&run(&last, Time::default())), [0, 1, 2, 3, 4, 5, 6, 7]);
    // Where it is far ahead, the last are still kept: spans do not reach back from now.
    let within = Policy { keep_within: span("2d"), ..Policy::default() };
    assert_eq!(kept(&run(&within, Time::from_seconds(i64::MAX))), [7]);
    assert_eq!(kept(&run(&within, plus(86_400 * 365, 0))), [2, 3, 4, 5, 6, 7]);
}

#[test]
fn the_only_complete_snapshot_being_from_the_future_saves_no_place() {
    let mut candidates = snapshots("UTC", &["2026-11-18", "2026-11-19", "2027-11-20"]);
    candidates[0].outcome = Outcome::Partial;
    candidates[1].outcome = Outcome::Partial;
    let policy = Policy { keep_tags: vec![vec!["never".into()]], ..Policy::default() };
    assert_eq!(kept(&decide_late(&policy, "UTC", &candidates)), [1, 2]);
}

#[test]
fn groups_are_judged_apart() {
    let mut candidates = snapshots("UTC", &YEARS[..6]);
    candidates[0].host = "mail".into();
    candidates[1].paths = vec![b"/b".to_vec(), b"/a\xff".to_vec()];
    candidates[2].paths = vec![b"/a\xff".to_vec(), b"/b".to_vec(), b"/b".to_vec()];
    candidates[3].tags = vec!["y".into(), "x".into()];
    candidates[4].job = "nightly".into();
    let policy = Policy { keep_last: Some(1), ..Policy::default() };
    for (text, expected, keys) in [
        ("", vec![5], "all snapshots"),
        ("host", vec![0, 5], "host mail / host web"),
        (
            "host,paths",
            vec![0, 2, 5],
            r"host mail; paths /etc / host web; paths /a\xff, /b / host web; paths /etc",
        ),
        ("tags", vec![3, 5], "no tags / tags x, y"),
        (
            "jobs, hosts",
            vec![0, 4, 5],
            "host mail; no job / host web; no job / host web; job nightly",
        ),
    ] {
        let group_by = GroupBy::parse(text).unwrap();
        let now = at("2027-01-01", "UTC");
        let groups = decide(&policy, group_by, now, &TimeZone::UTC, &candidates).unwrap();
        assert_eq!(kept(&groups), expected, "{text}");
        let found: Vec<String> = groups.iter().map(|group| group.key.to_string()).collect();
        assert_eq!(found.join(" / "), keys);
    }
    assert_eq!(GroupBy::parse("host,paths"), Ok(GroupBy::default()));
    assert_eq!(GroupBy::parse("host,user"), Err(RetentionError::GroupBy("user".into())));
    assert_eq!(GroupBy::parse("host,"), Err(RetentionError::GroupBy("".into())));
}

#[test]
fn days_begin_where_the_zone_says() {
    let times = ["2026-11-19T10:30:00Z", "2026-11-19T11:30:00Z", "2026-11-20T09:59:00Z"];
    let policy = Policy { keep_daily: Some(ALL), ..Policy::default() };
    for (zone_name, expected) in [
        ("UTC", vec![1, 2]),
        // 00:30, 01:30 and 23:59 of the 20th.
        ("Pacific/Kiritimati", vec![2]),
        // 22:30 and 23:30 of the 18th, 21:59 of the 19th.
        ("Etc/GMT+12", vec![1, 2]),
        // 23:30 of the 19th, 00:30 and 22:59 of the 20th.
        ("Pacific/Tongatapu", vec![0, 2]),
    ] {
        let groups = decide_late(&policy, zone_name, &snapshots("UTC", &times));
        assert_eq!(kept(&groups), expected, "{zone_name}");
    }
}

#[test]
fn hours_and_days_when_clocks_change() {
    // Back: 02:30 happens twice, and is two hours of one day that has 25.
    let back = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T22:59:00Z"];
    let hourly = Policy { keep_hourly: Some(ALL), ..Policy::default() };
    let daily = Policy { keep_daily: Some(ALL), ..Policy::default() };
    let candidates = snapshots("UTC", &back);
    assert_eq!(kept(&decide_late(&hourly, "Europe/Berlin", &candidates)), [0, 1, 2]);
    assert_eq!(kept(&decide_late(&daily, "Europe/Berlin", &candidates)), [2]);
    // Forward: the day of 23 hours. A day before noon is noon, 23 hours earlier.
    let forward = ["2026-03-28 11:59", "2026-03-28 12:00", "2026-03-28 12:01", "2026-03-29 12:00"];
    let candidates = snapshots("Europe/Berlin", &forward);
    let day = Policy { keep_within: span("1d"), ..Policy::default() };
    let hours = Policy { keep_within: span("24h"), ..Policy::default() };
    assert_eq!(kept(&decide_late(&day, "Europe/Berlin", &candidates)), [1, 2, 3]);
    assert_eq!(kept(&decide_late(&hours, "Europe/Berlin", &candidates)), [0, 1, 2, 3]);
    assert_eq!(kept(&decide_late(&hours, "UTC", &candidates)), [0, 1, 2, 3]);
    // Over midnight: 23:30 of the 6th, 00:00 of the 7th, 23:30 of the 6th again, 01:00 of the 7th.
    let midnight = [
        "2010-11-07T02:00:00Z",
        "2010-11-07T02:30:30Z",
        "2010-11-07T03:00:00Z",
        "2010-11-07T04:30:00Z",
    ];
    let candidates = snapshots("UTC", &midnight);
    assert_eq!(kept(&decide_late(&daily, "America/St_Johns", &candidates)), [2, 3]);
}

#[test]
fn a_day_that_never_was() {
    // Samoa went from 29 to 31 December 2011.
    let times = ["2011-12-29T12:00:00Z", "2011-12-30T09:59:00Z", "2011-12-30T10:00:00Z"];
    let candidates = snapshots("UTC", &times);
    let policy = Policy { keep_daily: Some(ALL), ..Policy::default() };
    let groups = decide_late(&policy, "Pacific/Apia", &candidates);
    assert_eq!(kept(&groups), [1, 2]);
    assert_eq!(why(&groups, 1), "newest of the day 2011-12-29");
    assert!(why(&groups, 2).starts_with("newest of the day 2011-12-31"));
    // A day before the 31st is the day that was skipped, which means as long after it began.
    let before = parse_within("1d").unwrap().before(candidates[2].time, &zone("Pacific/Apia"));
    assert_eq!(before, candidates[2].time);
}

#[test]
fn months_end_where_they_end() {
    for (text, from, expected) in [
        ("1m", "2026-03-31 12:00", "2026-02-28 12:00"),
        ("1m", "2028-03-31 12:00", "2028-02-29 12:00"),
        ("1y", "2028-02-29 12:00", "2027-02-28 12:00"),
        ("1m1d", "2026-03-31 12:00", "2026-02-27 12:00"),
        ("13m", "2026-12-31 12:00", "2025-11-30 12:00"),
        ("2w", "2026-03-31 12:00", "2026-03-17 12:00"),
        ("1d", "2026-10-26 12:00", "2026-10-25 12:00"),
        ("24h", "2026-10-25 12:00", "2026-10-24 13:00"),
    ] {
        let berlin = zone("Europe/Berlin");
        let before = parse_within(text).unwrap().before(at(from, "Europe/Berlin"), &berlin);
        assert_eq!(before, at(expected, "Europe/Berlin"), "{text} before {from}");
    }
    let ages = parse_within("999999y").unwrap().before(Time::default(), &TimeZone::UTC);
    assert_eq!(ages, Time::from_seconds(i64::MIN));
}

#[test]
fn spans_that_people_give() {
    let whole = Within { years: 2, months: 5, weeks: 1, days: 7, hours: 3 };
    for (text, expected) in [
        ("2y5m1w7d3h", whole),
        (" 3h7d1w5m2y ", whole),
        ("30d", Within { days: 30, ..Within::default() }),
        ("0y6m", Within { months: 6, ..Within::default() }),
    ] {
        let within = parse_within(text).unwrap();
        assert_eq!(within, expected);
        assert_eq!(parse_within(&within.to_string()), Ok(expected));
    }
    for (text, expected) in [
        ("", "it is empty"),
        ("d", "a number is missing"),
        ("-1d", "a number is missing"),
        ("1.5d", "units are y, m (months), w, d and h"),
        ("7", "a unit is missing"),
        ("7d3", "a unit is missing"),
        ("7 d", "units are y, m (months), w, d and h"),
        ("7D", "units are y, m (months), w, d and h"),
        ("30min", "a number is missing"),
        ("3s", "units are y, m (months), w, d and h"),
        ("1d2d", "a unit is given twice"),
        ("0d1h0d", "a unit is given twice"),
        ("0d", "it is no time at all"),
        ("1000000d", "a number is too large"),
        ("99999999999d", "a number is too large"),
    ] {
        match parse_within(text) {
            Err(RetentionError::Within { text: given, why }) => {
                assert_eq!((given.as_str(), why), (text, expected));
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    assert_eq!(
        parse_within("7").unwrap_err().to_string(),
        "\"7\" is not a span of time such as 2y5m7d3h: a unit is missing"
    );
}
