//! Times as people write and read them, in a time zone that the caller names.

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::{Offset, TimeZone};

use crate::world::Time;

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// Neither of the forms that are understood.
    #[error(
        "{0:?} is not a time such as 2026-11-20, \"2026-11-20 18:30\" or 2026-11-20T18:30:00+01:00"
    )]
    Unknown(String),
    /// A local time that the zone's calendar cannot hold.
    #[error("{0:?} is outside of the years that can be told")]
    Outside(String),
}

/// The same point in time for jiff; what it cannot hold (beyond the year 9999, before -9999)
/// becomes its first or last one.
pub fn to_timestamp(time: Time) -> Timestamp {
    let nanoseconds = i32::try_from(time.nanoseconds).unwrap_or(999_999_999);
    let edge = if time.seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::new(time.seconds, nanoseconds).unwrap_or(edge)
}

/// The same point in time from jiff, which counts nanoseconds backward before 1970.
pub fn from_timestamp(timestamp: Timestamp) -> Time {
    let (seconds, nanoseconds) = (timestamp.as_second(), timestamp.subsec_nanosecond());
    match u32::try_from(nanoseconds) {
        Ok(nanoseconds) => Time { seconds, nanoseconds },
        Err(_) => {
            Time { seconds: seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds.unsigned_abs() }
        }
    }
}

/// The time that a person wrote.
///
/// With an offset (RFC 3339, a space may stand for the `T`) the zone does not matter. Without one
/// it is local: `YYYY-MM-DD` (the first moment of the day), or that and `HH:MM` or `HH:MM:SS`. A local time that
/// happens twice (clocks go back) means the first of the two; one that is skipped (clocks go
/// forward) means as long after the last moment before the gap.
pub fn parse_time(text: &str, zone: &TimeZone) -> Result<Time, CalendarError> {
    let known = || text.chars().take(80).collect::<String>();
    let trimmed = text.trim();
    // jiff takes a zone's name in brackets and would ignore it here.
    if trimmed.contains('[') {
        return Err(CalendarError::Unknown(known()));
    }
    if let Ok(timestamp) = trimmed.parse::<Timestamp>() {
        return Ok(from_timestamp(timestamp));
    }
    // Something with an offset that was no timestamp must not pass as local time.
    let local = trimmed.bytes().all(|b| b.is_ascii_digit() || b"-:. T".contains(&b))
        && trimmed.get(10..).is_none_or(|clock| !clock.contains('-'));
    match trimmed.parse::<civil::DateTime>() {
        Ok(civil) if local => match civil.to_zoned(zone.clone()) {
            Ok(zoned) => Ok(from_timestamp(zoned.timestamp())),
            Err(_) => Err(CalendarError::Outside(known())),
        },
        _ => Err(CalendarError::Unknown(known())),
    }
}

/// A time to the second for people, with its offset, since an hour may happen twice:
/// "2026-11-20 18:30:00+01:00". `parse_time` takes it back.
pub fn show_time(time: Time, zone: &TimeZone) -> String {
    written(Time::from_seconds(time.seconds), zone, ' ')
}

/// A time exactly, as RFC 3339: "2026-11-20T18:30:00.25+01:00".
pub fn rfc3339(time: Time, zone: &TimeZone) -> String {
    written(time, zone, 'T')
}

fn written(time: Time, zone: &TimeZone, between: char) -> String {
    let timestamp = to_timestamp(time);
    let mut offset = zone.to_offset(timestamp);
    // Before zones were agreed upon towns kept their own time, with seconds that RFC 3339 lacks.
    if offset.seconds() % 60 != 0 {
        offset = Offset::UTC;
    }
    let civil = offset.to_datetime(timestamp);
    let minutes = offset.seconds().abs() / 60;
    let sign = if offset.is_negative() { '-' } else { '+' };
    let (date, clock) = (civil.date(), civil.time());
    format!("{date}{between}{clock}{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    #[test]
    fn times_that_people_write() {
        for (name, text, utc) in [
            ("UTC", "2026-11-20", "2026-11-20 00:00:00+00:00"),
            ("Europe/Berlin", "2026-11-20", "2026-11-19 23:00:00+00:00"),
            ("Europe/Berlin", " 2026-11-20 18:30 ", "2026-11-20 17:30:00+00:00"),
            ("Europe/Berlin", "2026-07-20 18:30:15", "2026-07-20 16:30:15+00:00"),
            ("Europe/Berlin", "2026-07-20T18:30:15Z", "2026-07-20 18:30:15+00:00"),
            ("Europe/Berlin", "2026-07-20 18:30:15-05:00", "2026-07-20 23:30:15+00:00"),
            // Skipped, and twice.
            ("Europe/Berlin", "2026-03-29 02:30", "2026-03-29 01:30:00+00:00"),
            ("Europe/Berlin", "2026-10-25 02:30", "2026-10-25 00:30:00+00:00"),
            // Midnight does not exist; the whole day does not exist.
            ("America/Santiago", "2026-09-06", "2026-09-06 04:00:00+00:00"),
            ("Pacific/Apia", "2011-12-30", "2011-12-30 10:00:00+00:00"),
            ("Pacific/Kiritimati", "2026-01-01", "2025-12-31 10:00:00+00:00"),
            ("Etc/GMT+12", "2026-01-01", "2026-01-01 12:00:00+00:00"),
        ] {
            let time = parse_time(text, &zone(name)).unwrap();
            assert_eq!(show_time(time, &TimeZone::UTC), utc, "{text} in {name}");
        }
    }

    #[test]
    fn texts_that_are_no_times() {
        for bad in [
            "",
            "now",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-11-20 25:00",
            "2026-11-20T18:30:00+99:00",
            "2026-11-20 18:30-99:00",
            "2026-11-20 18:30 CET",
            "2026-11-20T18:30:00+01:00[Asia/Tokyo]",
            "2026-11-20 18:30[Asia/Tokyo]",
        ] {
            let found = parse_time(bad, &zone("Europe/Berlin"));
            assert_eq!(found, Err(CalendarError::Unknown(bad.into())), "{bad}");
        }
        let edge = "9999-12-31 23:59";
        let found = parse_time(edge, &zone("Etc/GMT+12"));
        assert_eq!(found, Err(CalendarError::Outside(edge.into())));
    }

    #[test]
    fn times_that_people_read() {
        let berlin = zone("Europe/Berlin");
        let time = Time { seconds: 1_792_888_200, nanoseconds: 250_000_000 };
        assert_eq!(show_time(time, &berlin), "2026-10-25 02:30:00+02:00");
        assert_eq!(rfc3339(time, &berlin), "2026-10-25T02:30:00.25+02:00");
        let later = Time::from_seconds(time.seconds + 3_600);
        assert_eq!(show_time(later, &berlin), "2026-10-25 02:30:00+01:00");
        assert_eq!(show_time(later, &zone("America/St_Johns")), "2026-10-24 23:00:00-02:30");
        // Berlin was 53 minutes and 28 seconds ahead.
        let old = Time { seconds: -2_840_140_801, nanoseconds: 1 };
        assert_eq!(rfc3339(old, &berlin), "1879-12-31T23:59:59.000000001+00:00");
        assert_eq!(to_timestamp(Time::from_seconds(i64::MAX)), Timestamp::MAX);
        assert_eq!(to_timestamp(Time::from_seconds(i64::MIN)), Timestamp::MIN);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_understood(
            seconds in -60_000_000_000i64..250_000_000_000,
            nanoseconds in 0u32..1_000_000_000,
        ) {
            let time = Time { seconds, nanoseconds };
            prop_assert_eq!(from_timestamp(to_timestamp(time)), time);
            for zone in [zone("Europe/Berlin"), zone("Pacific/Apia"), TimeZone::UTC] {
                prop_assert_eq!(parse_time(&rfc3339(time, &zone), &zone), Ok(time));
                let shown = parse_time(&show_time(time, &zone), &zone);
                prop_assert_eq!(shown, Ok(Time::from_seconds(seconds)));
            }
        }
    }
}
