//! Times of the day, the week, the month and the year, in a place's own clock: when a route is mute, and when a silence
//! that comes again holds.

use serde::{Deserialize, Serialize};

/// A time of which every part that is given holds; a part holds if one of its ranges does.
///
/// Its serde form is Alertmanager's, and is kept in the state store with silences that come again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct TimeInterval {
    /// Minutes of the day, from and to; the end does not belong to it.
    times: Vec<(u16, u16)>,
    /// Days of the week from Sunday, 0 to 6.
    weekdays: Vec<(u8, u8)>,
    /// Days of the month, from 1; negative ones count from its end.
    days: Vec<(i8, i8)>,
    /// Months, 1 to 12.
    months: Vec<(u8, u8)>,
    /// Years.
    years: Vec<(i16, i16)>,
    /// The place, such as `Europe/Berlin`; UTC if none.
    location: Option<String>,
    zone: Option<jiff::tz::TimeZone>,
}

/// Alertmanager's notation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// From and to, `HH:MM`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<WrittenTimes>,
    /// `monday`, `monday:friday`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weekdays: Vec<String>,
    /// `1`, `1:7`, `-3:-1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days_of_month: Vec<String>,
    /// `january`, `1:3`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub months: Vec<String>,
    /// `2026`, `2026:2028`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub years: Vec<String>,
    /// A time zone by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// A range of the day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenTimes {
    /// `HH:MM`
    pub start_time: String,
    /// `HH:MM`, up to `24:00`.
    pub end_time: String,
}

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

impl TryFrom<Written> for TimeInterval {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let mut times = Vec::new();
        for WrittenTimes { start_time, end_time } in &written.times {
            let range = (minutes(start_time)?, minutes(end_time)?);
            if range.0 >= range.1 {
                return Err(format!("{start_time} to {end_time}: the end must be later on the same day"));
            }
            times.push(range);
        }
        let list = |texts: &[String], names: &[&str], base: i32, allowed: (i32, i32)| {
            texts.iter().map(|text| range(text, names, base, allowed)).collect::<Result<Vec<_>, _>>()
        };
        let weekdays = list(&written.weekdays, &WEEKDAYS, 0, (0, 6))?;
        let days = list(&written.days_of_month, &[], 0, (-31, 31))?;
        if days.iter().any(|(from, to)| *from == 0 || *to == 0 || (*from < 0 && *to > 0)) {
            return Err("days of the month are 1 to 31, or -31 to -1 from its end".to_owned());
        }
        let months = list(&written.months, &MONTHS, 1, (1, 12))?;
        let years = list(&written.years, &[], 0, (1970, 9999))?;
        let zone = match written.location.as_deref() {
            None | Some("UTC" | "") => None,
            Some("Local") => Some(jiff::tz::TimeZone::system()),
            Some(name) => Some(jiff::tz::TimeZone::get(name).map_err(|_| {
                format!(
                    "there is no time zone {name:?}, such as Europe/Berlin (does this host have its package tzdata?)"
                )
            })?),
        };
        // Bounded by `allowed` above.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(Self {
            times,
            weekdays: weekdays.into_iter().map(|(a, b)| (a as u8, b as u8)).collect(),
            days: days.into_iter().map(|(a, b)| (a as i8, b as i8)).collect(),
            months: months.into_iter().map(|(a, b)| (a as u8, b as u8)).collect(),
            years: years.into_iter().map(|(a, b)| (a as i16, b as i16)).collect(),
            location: written.location,
            zone,
        })
    }
}

impl From<TimeInterval> for Written {
    fn from(interval: TimeInterval) -> Self {
        let text = |from: i32, to: i32, names: &[&str], base: i32| {
            let word = |n: i32| {
                let name = usize::try_from(n - base).ok().and_then(|at| names.get(at));
                name.map_or_else(|| n.to_string(), |name| (*name).to_owned())
            };
            if from == to { word(from) } else { format!("{}:{}", word(from), word(to)) }
        };
        let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let times = interval.times.iter();
        Self {
            times: times.map(|(a, b)| WrittenTimes { start_time: clock(*a), end_time: clock(*b) }).collect(),
            weekdays: interval.weekdays.iter().map(|(a, b)| text((*a).into(), (*b).into(), &WEEKDAYS, 0)).collect(),
            days_of_month: interval.days.iter().map(|(a, b)| text((*a).into(), (*b).into(), &[], 0)).collect(),
            months: interval.months.iter().map(|(a, b)| text((*a).into(), (*b).into(), &MONTHS, 1)).collect(),
            years: interval.years.iter().map(|(a, b)| text((*a).into(), (*b).into(), &[], 0)).collect(),
            location: interval.location,
        }
    }
}

impl TimeInterval {
    /// Whether an instant belongs to it.
    #[must_use]
    pub fn contains(&self, now_ms: i64) -> bool {
        let Ok(instant) = jiff::Timestamp::from_millisecond(now_ms) else { return false };
        let there = instant.to_zoned(self.zone.clone().unwrap_or(jiff::tz::TimeZone::UTC));
        let minute = u16::from(there.hour().unsigned_abs()) * 60 + u16::from(there.minute().unsigned_abs());
        let weekday = there.weekday().to_sunday_zero_offset().unsigned_abs();
        let month = there.month().unsigned_abs();
        let last = there.days_in_month();
        let of_month = |day: i8| if day < 0 { last + 1 + day } else { day };
        let days = |(from, to): &(i8, i8)| (of_month(*from).max(1)..=of_month(*to).min(last)).contains(&there.day());
        holds(&self.times, |(from, to)| (*from..*to).contains(&minute))
            && holds(&self.weekdays, |(from, to)| (*from..=*to).contains(&weekday))
            && holds(&self.days, days)
            && holds(&self.months, |(from, to)| (*from..=*to).contains(&month))
            && holds(&self.years, |(from, to)| (*from..=*to).contains(&there.year()))
    }
}

fn holds<T>(ranges: &[T], contains: impl Fn(&T) -> bool) -> bool {
    ranges.is_empty() || ranges.iter().any(contains)
}

fn minutes(text: &str) -> Result<u16, String> {
    let wrong = || format!("{text:?} is not a time of the day such as 09:30");
    let (hours, minutes) = text.split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2).ok_or_else(wrong)?;
    let (hours, minutes) = (hours.parse::<u16>().map_err(|_| wrong())?, minutes.parse::<u16>().map_err(|_| wrong())?);
    if minutes > 59 || hours * 60 + minutes > 24 * 60 { Err(wrong()) } else { Ok(hours * 60 + minutes) }
}

/// `a`, or `a:b` with both ends in it; each a name or a number within `allowed`.
fn range(text: &str, names: &[&str], base: i32, allowed: (i32, i32)) -> Result<(i32, i32), String> {
    let lower = text.to_lowercase();
    let one = |word: &str| {
        let word = word.trim();
        let named = names.iter().position(|name| *name == word).and_then(|at| i32::try_from(at).ok());
        // Days of the week have names only, as in Alertmanager.
        let number = || if names.len() == WEEKDAYS.len() { None } else { word.parse::<i32>().ok() };
        let value = named.map(|at| at + base).or_else(number);
        value.filter(|n| (allowed.0..=allowed.1).contains(n)).ok_or_else(|| match names.first() {
            Some(first) => format!("{word:?} is not known: write it like {first}, or {first}:{}", names[1]),
            None => format!("{word:?} is not a number from {} to {}", allowed.0, allowed.1),
        })
    };
    let (from, to) = match lower.split_once(':') {
        Some((from, to)) => (one(from)?, one(to)?),
        None => (one(&lower)?, one(&lower)?),
    };
    // Negative days count from the end of the month: which comes first is known only then.
    if from > to && (from < 0) == (to < 0) {
        return Err(format!("{text:?}: the end comes before the beginning"));
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(json: &str) -> Result<TimeInterval, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    fn at(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn every_part_must_hold() {
        let json = r#"{"times":[{"start_time":"09:00","end_time":"17:00"}],"weekdays":["monday:friday"],
            "days_of_month":["1:7","-3:-1"],"months":["january:march","12"],"years":["2026:2027"]}"#;
        let office = interval(json).unwrap();
        assert!(office.contains(at("2026-01-02T09:00:00Z")), "a Friday");
        assert!(!office.contains(at("2026-01-02T17:00:00Z")), "the end is out");
        assert!(!office.contains(at("2026-01-03T10:00:00Z")), "a Saturday");
        assert!(!office.contains(at("2026-01-15T10:00:00Z")), "mid-month");
        assert!(office.contains(at("2026-12-30T10:00:00Z")), "the last days");
        assert!(!office.contains(at("2026-04-01T10:00:00Z")) && !office.contains(at("2028-01-03T10:00:00Z")));
        assert!(interval("{}").unwrap().contains(0), "no part, always");
    }

    #[test]
    fn places_have_clocks_of_their_own() {
        let night = r#"{"times":[{"start_time":"02:00","end_time":"04:00"}],"location":"Europe/Berlin"}"#;
        let night = interval(night).unwrap();
        assert!(night.contains(at("2026-07-01T00:30:00Z")) && night.contains(at("2026-01-01T01:30:00Z")));
        assert!(!night.contains(at("2026-01-01T00:30:00Z")));
        assert!(interval(r#"{"location":"Mars/Olympus"}"#).unwrap_err().contains("Mars/Olympus"));
    }

    #[test]
    fn what_is_written_reads_back_and_mistakes_are_named() {
        let json = r#"{"times":[{"start_time":"00:00","end_time":"24:00"}],"weekdays":["saturday"],"days_of_month":["-1"],"months":["january:march"],"years":["2026"],"location":"Europe/Berlin"}"#;
        assert_eq!(serde_json::to_string(&interval(json).unwrap()).unwrap(), json);
        for (wrong, said) in [
            (r#"{"times":[{"start_time":"9:00","end_time":"17:00"}]}"#, "time of the day"),
            (r#"{"times":[{"start_time":"17:00","end_time":"09:00"}]}"#, "later on the same day"),
            (r#"{"weekdays":["funday"]}"#, "funday"),
            (r#"{"weekdays":["friday:monday"]}"#, "before the beginning"),
            (r#"{"days_of_month":["0"]}"#, "1 to 31"),
            (r#"{"months":["13"]}"#, "13"),
            (r#"{"moons":[]}"#, "moons"),
        ] {
            let told = interval(wrong).unwrap_err();
            assert!(told.contains(said), "{wrong}: {told}");
        }
    }
}
