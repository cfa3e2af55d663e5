//! Spans of time on the calendar, such as "2y5m7d3h".

use std::fmt;

use jiff::Span;
use jiff::tz::TimeZone;

use super::RetentionError;
use crate::calendar;
use crate::world::Time;

/// More of any unit than this is more than all of time.
const NUMBER_MAX: u32 = 999_999;

/// A span of time on the calendar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Within {
    /// Years of the calendar.
    pub years: u32,
    /// Months of the calendar.
    pub months: u32,
    /// Weeks of seven days.
    pub weeks: u32,
    /// Days of the calendar, of 23 to 25 hours.
    pub days: u32,
    /// Hours of 60 minutes.
    pub hours: u32,
}

impl Within {
    fn parts(&self) -> [(u32, char); 5] {
        let Self { years, months, weeks, days, hours } = *self;
        [(years, 'y'), (months, 'm'), (weeks, 'w'), (days, 'd'), (hours, 'h')]
    }

    /// Whether it is no time at all.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// The time that lies this span before `time`, by the calendar of `zone`: a month before
    /// 31 March is the last day of February, a day before noon is noon, also when clocks have
    /// changed. What lies before all that can be told is the first time of all.
    pub fn before(&self, time: Time, zone: &TimeZone) -> Time {
        let span = || {
            Span::new()
                .try_years(self.years)?
                .try_months(self.months)?
                .try_weeks(self.weeks)?
                .try_days(self.days)?
                .try_hours(self.hours)
        };
        let zoned = calendar::to_timestamp(time).to_zoned(zone.clone());
        match span().and_then(|span| zoned.checked_sub(span)) {
            Ok(start) => calendar::from_timestamp(start.timestamp()),
            Err(_) => Time::from_seconds(i64::MIN),
        }
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, unit) in self.parts().into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{number}{unit}")?;
        }
        if self.is_zero() { f.write_str("0h") } else { Ok(()) }
    }
}

/// The span that a text such as "2y5m7d3h" says: years, months, weeks (w), days and hours, each at
/// most once.
pub fn parse_within(text: &str) -> Result<Within, RetentionError> {
    let bad = |why| RetentionError::Within { text: text.chars().take(80).collect(), why };
    let mut within = Within::default();
    let mut seen: Vec<char> = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad("it is empty"));
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, from) = rest.split_at(end);
        let mut chars = from.chars();
        let part = match (digits.is_empty(), chars.next()) {
            (true, _) => return Err(bad("a number is missing")),
            (false, None) => return Err(bad("a unit is missing")),
            (false, Some('y')) => &mut within.years,
            (false, Some('m')) => &mut within.months,
            (false, Some('w')) => &mut within.weeks,
            (false, Some('d')) => &mut within.days,
            (false, Some('h')) => &mut within.hours,
            (false, Some(_)) => return Err(bad("units are y, m (months), w, d and h")),
        };
        match digits.parse::<u32>() {
            Ok(number) if number <= NUMBER_MAX => *part = number,
            _ => return Err(bad("a number is too large")),
        }
        if from.chars().next().is_some_and(|unit| seen.contains(&unit)) {
            return Err(bad("a unit is given twice"));
        }
        seen.extend(from.chars().next());
        rest = chars.as_str();
    }
    if within.is_zero() {
        return Err(bad("it is no time at all"));
    }
    Ok(within)
}
