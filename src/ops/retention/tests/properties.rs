//! What holds for every policy and all snapshots.

use proptest::prelude::*;

use super::*;

fn any_count() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![3 => Just(None), 3 => (0u32..6).prop_map(Some), 1 => Just(Some(ALL))]
}

fn any_span() -> impl Strategy<Value = Option<Within>> {
    let parts = (0u32..2, 0u32..3, 0u32..3, 0u32..9, 0u32..30);
    let span = parts.prop_map(|(years, months, weeks, days, hours)| {
        Some(Within { years, months, weeks, days, hours })
    });
    prop_oneof![Just(None), span]
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let counts = proptest::array::uniform6(any_count());
    let spans = proptest::array::uniform6(any_span());
    (counts, spans, any::<bool>()).prop_map(|(counts, spans, tags)| Policy {
        keep_last: counts[0],
        keep_hourly: counts[1],
        keep_daily: counts[2],
        keep_weekly: counts[3],
        keep_monthly: counts[4],
        keep_yearly: counts[5],
        keep_within: spans[0],
        keep_within_hourly: spans[1],
        keep_within_daily: spans[2],
        keep_within_weekly: spans[3],
        keep_within_monthly: spans[4],
        keep_within_yearly: spans[5],
        keep_tags: if tags { vec![vec!["keep".into()]] } else { Vec::new() },
    })
}

/// Of each rule the larger of two.
fn larger(a: &Policy, b: &Policy) -> Policy {
    let span = |a: Option<Within>, b: Option<Within>| {
        let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
        Some(Within {
            years: a.years.max(b.years),
            months: a.months.max(b.months),
            weeks: a.weeks.max(b.weeks),
            days: a.days.max(b.days),
            hours: a.hours.max(b.hours),
        })
    };
    Policy {
        keep_last: a.keep_last.max(b.keep_last),
        keep_hourly: a.keep_hourly.max(b.keep_hourly),
        keep_daily: a.keep_daily.max(b.keep_daily),
        keep_weekly: a.keep_weekly.max(b.keep_weekly),
        keep_monthly: a.keep_monthly.max(b.keep_monthly),
        keep_yearly: a.keep_yearly.max(b.keep_yearly),
        keep_within: span(a.keep_within, b.keep_within),
        keep_within_hourly: span(a.keep_within_hourly, b.keep_within_hourly),
        keep_within_daily: span(a.keep_within_daily, b.keep_within_daily),
        keep_within_weekly: span(a.keep_within_weekly, b.keep_within_weekly),
        keep_within_monthly: span(a.keep_within_monthly, b.keep_within_monthly),
        keep_within_yearly: span(a.keep_within_yearly, b.keep_within_yearly),
        keep_tags: a.keep_tags.iter().chain(&b.keep_tags).cloned().collect(),
    }
}

/// Around a change of clocks, with some years before and after; equal times happen.
fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let hour = prop_oneof![-40i64..40, -2_000i64..2_000, -30_000i64..30_000];
    let flags = (any::<bool>(), proptest::bool::weighted(0.1), proptest::bool::weighted(0.1));
    let one = (hour, 0i64..4, flags, proptest::option::weighted(0.2, -50i64..50), 0u8..2);
    proptest::collection::vec(one, 0..40).prop_map(|all| {
        let around = at("2026-10-25", "Europe/Berlin").seconds;
        let candidate = |(number, item)| {
            let (hour, quarter, (complete, pinned, tagged), expires, host) = item;
            let expires: Option<i64> = expires;
            let time = Time::from_seconds(around + hour * 3_600 + quarter * 900);
            Candidate {
                outcome: if complete { Outcome::Complete } else { Outcome::Partial },
                pinned,
                tags: if tagged { vec!["keep".into()] } else { Vec::new() },
                expires: expires.map(|hours| Time::from_seconds(around + hours * 3_600)),
                host: format!("host {host}"),
                ..snapshot(number, time)
            }
        };
        (0..).zip(all).map(candidate).collect()
    })
}

proptest! {
    #[test]
    fn what_holds_for_every_policy(
        candidates in any_candidates().prop_shuffle(),
        policy in any_policy(),
        other in any_policy(),
        zone_name in proptest::sample::select(vec!["Europe/Berlin", "Pacific/Apia", "America/St_Johns"]),
    ) {
        let now = at("2026-10-26", "Europe/Berlin");
        let run = |policy: &Policy, candidates: &[Candidate]| {
            decide(policy, GroupBy::default(), now, &zone(zone_name), candidates)
        };
        prop_assume!(!policy.is_empty());
        let groups = run(&policy, &candidates).unwrap();

        // Every candidate is judged once, and none of the groups loses its last good snapshot.
        prop_assert_eq!(groups.iter().map(|g| g.decisions.len()).sum::<usize>(), candidates.len());
        for group in &groups {
            let is_kept = |c: &&Candidate| {
                group.decisions.iter().any(|d| d.id == c.id && d.verdict.keeps())
            };
            let members = || candidates.iter().filter(|c| Some(&c.host) == group.key.host.as_ref());
            prop_assert!(members().any(|c| is_kept(&c)));
            prop_assert!(!members().any(|c| c.is_complete()) || members().any(|c| c.is_complete() && is_kept(&c)));
            let horizon = Time::from_seconds(now.seconds + CLOCK_SKEW_SECONDS);
            prop_assert!(members().filter(|c| c.pinned || c.time > horizon).all(|c| is_kept(&c)));
        }

        // The order of the input does not matter.
        let mut turned = candidates.clone();
        turned.reverse();
        prop_assert_eq!(&run(&policy, &turned).unwrap(), &groups);

        // A larger policy keeps no less.
        let more = kept(&run(&larger(&policy, &other), &candidates).unwrap());
        prop_assert!(kept(&groups).iter().all(|id| more.contains(id)));
    }
}
