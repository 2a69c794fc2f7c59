//! Durations and instants as text: Prometheus' durations, RFC 3339, clock times for people. UTC only.

/// Milliseconds of a Prometheus duration such as `1h30m`, `90s`, `500ms`, or `0`.
///
/// # Errors
/// What would be right.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let wrong =
        || format!("{text:?} is not a duration: write it like 30s, 5m, 1h30m, 1d (y w d h m s ms, largest first)");
    if text == "0" {
        return Ok(0);
    }
    let (mut rest, mut total, mut first_unit) = (text, 0_i64, 0);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: i64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = UNITS.iter().position(|(name, _)| *name == &rest[..letters]).ok_or_else(wrong)?;
        if unit < first_unit {
            return Err(wrong());
        }
        first_unit = unit + 1;
        rest = &rest[letters..];
        total = count.checked_mul(UNITS[unit].1).and_then(|ms| total.checked_add(ms)).ok_or_else(wrong)?;
    }
    Ok(total)
}

/// A calendar instant in UTC.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    millis: i64,
}

/// The calendar of milliseconds since the epoch (days to date after Howard Hinnant's `civil_from_days`).
fn civil(ms: i64) -> Civil {
    let days = ms.div_euclid(86_400_000);
    let in_day = ms.rem_euclid(86_400_000);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: of_year - (153 * shifted_month + 2) / 5 + 1,
        hour: in_day / 3_600_000,
        minute: in_day / 60_000 % 60,
        second: in_day / 1_000 % 60,
        millis: in_day % 1_000,
    }
}

/// RFC 3339 as Go's `time.Time` marshals it: no trailing zeros in the fraction.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    let c = civil(ms);
    let head = format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second);
    format!("{head}{}Z", fraction(c.millis))
}

/// An instant as Go's `time.Time` prints itself in UTC.
pub(crate) fn go_time(ms: i64) -> String {
    let c = civil(ms);
    let head = format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second);
    format!("{head}{} +0000 UTC", fraction(c.millis))
}

/// `02:14 UTC`.
pub(crate) fn clock(ms: i64) -> String {
    let c = civil(ms);
    format!("{:02}:{:02} UTC", c.hour, c.minute)
}

/// A span for people, its two largest units: `8 s`, `41 min`, `3 h 5 min`, `2 d 4 h`.
#[must_use]
pub fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match () {
        () if seconds < 60 => format!("{seconds} s"),
        () if minutes < 10 && seconds % 60 != 0 => format!("{minutes} min {} s", seconds % 60),
        () if minutes < 60 => format!("{minutes} min"),
        () if hours < 24 && minutes % 60 != 0 => format!("{hours} h {} min", minutes % 60),
        () if hours < 24 => format!("{hours} h"),
        () if hours % 24 != 0 => format!("{days} d {} h", hours % 24),
        () => format!("{days} d"),
    }
}

fn fraction(millis: i64) -> String {
    if millis == 0 {
        return String::new();
    }
    let text = format!(".{millis:03}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_prometheus_reads_them() {
        for (text, ms) in
            [("0", 0), ("0m", 0), ("5m", 300_000), ("1h30m", 5_400_000), ("1d", 86_400_000), ("1s500ms", 1_500)]
        {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "5", "m", "5m1h", "1m1m", "1.5h", "-1m", "5 m", "99999999999999999y", "1µs"] {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn instants_as_go_prints_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_709_210_096_120), "2024-02-29T12:34:56.12Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(go_time(1_435_065_584_128), "2015-06-23 13:19:44.128 +0000 UTC");
        assert_eq!(clock(1_709_210_096_120), "12:34 UTC");
    }

    #[test]
    fn spans_for_people() {
        let cases = [
            (9_400, "9 s"),
            (95_000, "1 min 35 s"),
            (2_460_000, "41 min"),
            (11_100_000, "3 h 5 min"),
            (187_200_000, "2 d 4 h"),
        ];
        for (ms, text) in cases {
            assert_eq!(span(ms), text);
        }
    }
}
