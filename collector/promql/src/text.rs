//! Numbers, durations and quoted strings in the forms that Prometheus reads and writes them in. Owns only text: what a
//! number means is decided elsewhere.

use std::fmt::Write as _;

/// The longest duration, in milliseconds: what fits into 63 bits of nanoseconds, as in Prometheus.
pub(crate) const MAX_DURATION_MS: i64 = i64::MAX / 1_000_000;

/// Number text of the HTTP API: plain digits, an exponent below 1e-6 and from 1e21 on; `NaN`, `+Inf`, `-Inf`.
pub fn format_value(value: f64) -> String {
    let size = value.abs();
    if value.is_finite() && size != 0.0 && !(1e-6..1e21).contains(&size) {
        return format_exponent(value);
    }
    format_plain(value)
}

/// Plain digits without an exponent, however long; `NaN`, `+Inf`, `-Inf`.
pub(crate) fn format_plain(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// The text of numbers in messages: an exponent below 1e-4 and from 1e6 on.
pub(crate) fn format_short(value: f64) -> String {
    let size = value.abs();
    if value.is_finite() && size != 0.0 && !(1e-4..1e6).contains(&size) {
        return format_exponent(value);
    }
    format_plain(value)
}

fn format_exponent(value: f64) -> String {
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(rest) => ('-', rest),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// The text of a duration, largest unit first: `1d2h`, `1m30s500ms`, `0s`. Years and weeks only where they fit exactly.
pub fn format_duration(ms: i64) -> String {
    const UNITS: [(&str, u64, bool); 7] = [
        ("y", 365 * 86_400_000, true),
        ("w", 7 * 86_400_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1000, false),
        ("ms", 1, false),
    ];
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    if ms < 0 {
        out.push('-');
    }
    let mut left = ms.unsigned_abs();
    for (unit, size, exact) in UNITS {
        if exact && !left.is_multiple_of(size) {
            continue;
        }
        if left >= size {
            let _ = write!(out, "{}{unit}", left / size);
            left %= size;
        }
    }
    out
}

/// Reads a duration such as `5m`, `1h30m` or `1d`, in milliseconds. Units must fall in size, each at most once.
pub fn parse_duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text.as_bytes();
    let mut total: i64 = 0;
    let mut last_rank = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let number: i64 = std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let (rank, size) = match &rest[..letters] {
            b"y" => (1, 365 * 86_400_000),
            b"w" => (2, 7 * 86_400_000),
            b"d" => (3, 86_400_000),
            b"h" => (4, 3_600_000),
            b"m" => (5, 60_000),
            b"s" => (6, 1000),
            b"ms" => (7, 1),
            _ => return None,
        };
        if rank <= last_rank {
            return None;
        }
        last_rank = rank;
        rest = &rest[letters..];
        total = number.checked_mul(size).and_then(|ms| total.checked_add(ms)).filter(|t| *t <= MAX_DURATION_MS)?;
    }
    Some(total)
}

/// Reads a number literal: decimal, with exponent, hexadecimal, octal with a leading zero, `Inf`, `NaN`; single
/// underscores may stand between digits. No sign.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    if text.eq_ignore_ascii_case("inf") {
        return Some(f64::INFINITY);
    }
    if text.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    if let Some(hex) = plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok().filter(|n| *n <= i64::MAX as u64).map(|n| n as f64);
    }
    if plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return u64::from_str_radix(&plain, 8).ok().map(|n| n as f64);
    }
    plain.parse::<f64>().ok().filter(|n| n.is_finite())
}

/// A string in double quotes with the escapes that the lexer reads back.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// As [`quote`], for bytes that need not be UTF-8: stray bytes become `\x` escapes.
pub(crate) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let quoted = quote(chunk.valid());
        out.push_str(&quoted[1..quoted.len() - 1]);
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_as_the_http_api_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (9.9e-7, "9.9e-07"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(format_value(value), text);
        }
        assert_eq!(format_short(1e6), "1e+06");
        assert_eq!(format_short(1.1), "1.1");
    }

    #[test]
    fn durations_read_and_print() {
        for (text, ms) in [
            ("0s", 0),
            ("1ms", 1),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1d12h", 129_600_000),
            ("1w", 604_800_000),
            ("1y", 31_536_000_000),
        ] {
            assert_eq!(parse_duration(text), Some(ms), "{text}");
            assert_eq!(format_duration(ms), text);
        }
        assert_eq!(format_duration(-90_000), "-1m30s");
        for bad in ["", "5", "m", "1m1m", "1m1h", "1x", "-1m", "9999999999y", "1.5m", "1m "] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_in_every_base() {
        for (text, value) in
            [("12.34e6", 12_340_000.0), (".5", 0.5), ("0x1f", 31.0), ("0755", 493.0), ("1_000", 1000.0)]
        {
            assert_eq!(parse_number(text), Some(value), "{text}");
        }
        assert_eq!(parse_number("5."), Some(5.0));
        assert_eq!(parse_number("1e400"), None);
        assert_eq!(parse_number("0xg"), None);
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back(ms in 0..MAX_DURATION_MS) {
            prop_assert_eq!(parse_duration(&format_duration(ms)), Some(ms));
        }
    }
}
