//! The time as people read and write it: now, their time zone, ages, and what `--time` takes.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use crate::units;

/// Now, and the zone in which times are shown.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// Milliseconds since 1970.
    pub(crate) now_ms: i64,
    zone: TimeZone,
}

impl Clock {
    /// The system's.
    pub(crate) fn system() -> Self {
        Self { now_ms: Timestamp::now().as_millisecond(), zone: TimeZone::system() }
    }

    /// A fixed time in UTC.
    #[cfg(test)]
    pub(crate) fn utc(now_ms: i64) -> Self {
        Self { now_ms, zone: TimeZone::UTC }
    }

    /// `2026-03-01 02:14:07`
    pub(crate) fn date_time(&self, ms: i64) -> String {
        self.format("%Y-%m-%d %H:%M:%S", ms)
    }

    /// `02:14` today, `03-01 02:14` on other days, with the year in other years.
    pub(crate) fn short(&self, ms: i64) -> String {
        let same = |format| self.format(format, ms) == self.format(format, self.now_ms);
        let format = match (same("%Y-%m-%d"), same("%Y")) {
            (true, _) => "%H:%M",
            (false, true) => "%m-%d %H:%M",
            _ => "%Y-%m-%d %H:%M",
        };
        self.format(format, ms)
    }

    /// The time by one of strftime's formats; the milliseconds where it cannot be told.
    pub(crate) fn format(&self, format: &str, ms: i64) -> String {
        let text = Timestamp::from_millisecond(ms).ok();
        let text = text.and_then(|at| strtime::format(format, &at.to_zoned(self.zone.clone())).ok());
        text.unwrap_or_else(|| ms.to_string())
    }

    /// How long ago: `8 min`; `now` where a clock differs a little.
    pub(crate) fn age(&self, ms: i64) -> String {
        let age_ms = self.now_ms.saturating_sub(ms);
        if age_ms < 1000 { "now".to_owned() } else { units::seconds((age_ms / 1000) as f64) }
    }

    /// Reads `now`, `-5m`, seconds since 1970, or a date and time: RFC 3339, or without a zone in the local one.
    pub(crate) fn parse(&self, text: &str) -> Option<i64> {
        let text = text.trim();
        if text == "now" {
            return Some(self.now_ms);
        }
        if let Some(ago) = text.strip_prefix('-').and_then(pitwatch_promql::parse_duration) {
            return self.now_ms.checked_sub(ago);
        }
        if let Some(seconds) = text.parse::<f64>().ok().filter(|seconds| seconds.abs() < 1e12) {
            return Some((seconds * 1000.0).round() as i64);
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Some(at.as_millisecond());
        }
        let local = text.parse::<jiff::civil::DateTime>().ok()?;
        Some(local.to_zoned(self.zone.clone()).ok()?.timestamp().as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_772_331_247_000;

    #[test]
    fn times_are_read_in_every_form() {
        let clock = Clock::utc(NOW_MS);
        for (text, expected) in [
            ("now", Some(NOW_MS)),
            ("-5m", Some(NOW_MS - 300_000)),
            ("-1h30m", Some(NOW_MS - 5_400_000)),
            ("1772331247.5", Some(NOW_MS + 500)),
            ("2026-03-01T02:14:07Z", Some(NOW_MS)),
            ("2026-03-01T03:14:07+01:00", Some(NOW_MS)),
            ("2026-03-01 02:14:07", Some(NOW_MS)),
            ("2026-03-01", Some(NOW_MS - 8_047_000)),
            ("yesterday", None),
            ("1e300", None),
            ("NaN", None),
        ] {
            assert_eq!(clock.parse(text), expected, "{text}");
        }
    }

    #[test]
    fn times_are_as_short_as_they_can_be() {
        let clock = Clock::utc(NOW_MS);
        assert_eq!(clock.short(NOW_MS - 60_000), "02:13");
        assert_eq!(clock.short(NOW_MS - 86_400_000), "02-28 02:14");
        assert_eq!(clock.short(0), "1970-01-01 00:00");
        assert_eq!(clock.date_time(NOW_MS), "2026-03-01 02:14:07");
        assert_eq!(clock.date_time(i64::MAX), i64::MAX.to_string());
        assert_eq!(clock.age(NOW_MS - 480_000), "8 min");
        assert_eq!(clock.age(NOW_MS + 500), "now");
    }
}
