//! What a number is a number of: told from metric names and from what a query does to them, and written for people.
//!
//! Owns units and their text. Leaves exact values to JSON and CSV, which never pass here.

mod infer;

use crate::clock::Clock;

pub(crate) use infer::of_query;

/// A unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Of what.
    pub(crate) base: Base,
    /// Whether per second.
    pub(crate) per_second: bool,
}

/// What is counted or measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// Not known, or a plain count.
    Number,
    /// Bytes in memory and on disks: KiB, MiB.
    Bytes,
    /// Bytes on networks: kB, MB.
    NetworkBytes,
    /// A length of time.
    Seconds,
    /// A moment, in seconds since 1970.
    Moment,
    /// A part of one, written in percent.
    Ratio,
    /// Already in percent.
    Percent,
    /// Degrees Celsius.
    Celsius,
    /// Hertz.
    Hertz,
    /// Volts.
    Volts,
}

impl Unit {
    /// No unit.
    pub(crate) const NUMBER: Unit = Unit::of(Base::Number);

    /// The unit of that base, not per second.
    pub(crate) const fn of(base: Base) -> Unit {
        Unit { base, per_second: false }
    }

    /// The unit of a metric, by the endings that exporters agree on.
    pub(crate) fn of_metric(name: &str) -> Unit {
        let stem = ["_total", "_sum", "_bucket"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let is = |end: &str| stem.ends_with(end);
        Unit::of(if name.ends_with("_count") {
            Base::Number
        } else if is("_bytes") {
            if stem.contains("_network_") || stem.contains("_netstat_") { Base::NetworkBytes } else { Base::Bytes }
        } else if is("_timestamp_seconds") || is("_time_seconds") && !name.ends_with("_total") {
            Base::Moment
        } else if is("_seconds") {
            Base::Seconds
        } else if is("_ratio") {
            Base::Ratio
        } else if is("_percent") {
            Base::Percent
        } else if is("_celsius") {
            Base::Celsius
        } else if is("_hertz") {
            Base::Hertz
        } else if is("_volts") {
            Base::Volts
        } else {
            Base::Number
        })
    }

    /// The value for people: three significant figures and the unit; a plain number keeps six.
    pub(crate) fn text(self, value: f64, clock: &Clock) -> String {
        if !value.is_finite() {
            return pitwatch_promql::format_value(value);
        }
        match (self.base, self.per_second) {
            (Base::Number, false) => plain(value),
            (Base::Moment, _) => clock.date_time((value * 1000.0) as i64),
            (Base::Seconds, false) => seconds(value),
            // A second of work per second is a share of one core or one disk.
            (Base::Ratio, false) | (Base::Seconds, true) => format!("{}%", figures(value * 100.0)),
            (Base::Percent, false) => format!("{}%", figures(value)),
            (Base::Number, true) => format!("{}/s", scaled(value, 1000.0, &["", "k", "M", "G", "T"], "")),
            (base, per_second) => {
                let text = with_base(base, value);
                if per_second { text + "/s" } else { text }
            }
        }
    }
}

fn with_base(base: Base, value: f64) -> String {
    match base {
        Base::Bytes => scaled(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"], ""),
        Base::NetworkBytes => scaled(value, 1000.0, &[" ", " k", " M", " G", " T", " P"], "B"),
        Base::Hertz => scaled(value, 1000.0, &[" ", " k", " M", " G"], "Hz"),
        Base::Celsius => format!("{} °C", figures(value)),
        Base::Volts => format!("{} V", figures(value)),
        _ => format!("{}%", figures(value)),
    }
}

/// A ratio as percent.
pub(crate) fn percent(ratio: f64) -> String {
    format!("{}%", (ratio * 100.0).round())
}

/// A length of time in its two largest units: `8 min`, `3 h 5 min`, `250 ms`.
pub(crate) fn seconds(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0 s".to_owned();
    }
    if size < 119.5 {
        return match size {
            s if s < 0.000_999_5 => format!("{} µs", figures(value * 1e6)),
            s if s < 0.999_5 => format!("{} ms", figures(value * 1e3)),
            _ => format!("{} s", figures(value)),
        };
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let whole = size.round() as u64;
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")];
    let from = parts.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    let shown = parts[from..].iter().take(2).filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n} {unit}"));
    format!("{sign}{}", shown.collect::<Vec<_>>().join(" "))
}

/// Integers whole, others to six significant figures.
fn plain(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value == value.trunc() && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    if !(1e-6..1e15).contains(&value.abs()) {
        return pitwatch_promql::format_value(value);
    }
    rounded(value, 6)
}

/// Three significant figures, more only before the point.
pub(crate) fn figures(value: f64) -> String {
    rounded(value, 3)
}

fn rounded(value: f64, significant: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let before = value.abs().log10().floor() as i32 + 1;
    let decimals = usize::try_from(significant - before).unwrap_or(0).min(12);
    let text = format!("{value:.decimals$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn scaled(value: f64, step: f64, prefixes: &[&str], unit: &str) -> String {
    let mut at = 0;
    let mut shown = value;
    // What would round to a full step goes to the next prefix: 1 MB, never 1000 kB.
    while shown.abs() >= step - 0.5 && at + 1 < prefixes.len() {
        shown /= step;
        at += 1;
    }
    let text = if at == 0 && shown == shown.trunc() { format!("{shown:.0}") } else { figures(shown) };
    format!("{text}{}{unit}", prefixes[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, value: f64) -> String {
        Unit::of_metric(name).text(value, &Clock::utc(0))
    }

    #[test]
    fn metric_names_give_units() {
        let cases = [
            ("node_memory_MemAvailable_bytes", 8_003_133_440.0, "7.45 GiB"),
            ("node_memory_MemAvailable_bytes", 512.0, "512 B"),
            ("node_memory_MemAvailable_bytes", 1023.7, "1 KiB"),
            ("node_network_receive_bytes_total", 41_234_567.0, "41.2 MB"),
            ("node_network_receive_bytes_total", 999_700.0, "1 MB"),
            ("process_start_time_seconds", 1_700_000_000.0, "2023-11-14 22:13:20"),
            ("node_cpu_seconds_total", 8523.5, "2 h 22 min"),
            ("node_disk_io_time_seconds_total", 90.0, "90 s"),
            ("rpc_duration_seconds_sum", 0.0042, "4.2 ms"),
            ("rpc_duration_seconds_count", 42.0, "42"),
            ("pool_usage_ratio", 0.1234, "12.3%"),
            ("node_hwmon_temp_celsius", 45.0, "45 °C"),
            ("node_cpu_scaling_frequency_hertz", 2.4e9, "2.4 GHz"),
            ("node_load1", 0.07, "0.07"),
            ("node_load1", 1234.5678, "1234.57"),
            ("node_context_switches_total", 123_456_789.0, "123456789"),
            ("up", f64::NAN, "NaN"),
            ("up", f64::INFINITY, "+Inf"),
            ("up", -0.0, "0"),
            ("up", -0.5, "-0.5"),
            ("up", 1e-9, "1e-09"),
        ];
        for (name, value, expected) in cases {
            assert_eq!(text(name, value), expected, "{name} {value}");
        }
    }

    #[test]
    fn rates_are_per_second() {
        let clock = Clock::utc(0);
        let per_second = |base, value| Unit { base, per_second: true }.text(value, &clock);
        assert_eq!(per_second(Base::NetworkBytes, 41_234_567.0), "41.2 MB/s");
        assert_eq!(per_second(Base::Seconds, 0.984), "98.4%");
        assert_eq!(per_second(Base::Number, 1520.0), "1.52k/s");
        assert_eq!(per_second(Base::Number, 0.0), "0/s");
    }

    #[test]
    fn times_have_two_units() {
        for (value, expected) in [
            (0.0, "0 s"),
            (1e-5, "10 µs"),
            (0.25, "250 ms"),
            (0.9999, "1 s"),
            (61.0, "61 s"),
            (480.0, "8 min"),
            (-11_100.0, "-3 h 5 min"),
            (86_400.0 * 40.0 + 7200.0, "40 d 2 h"),
        ] {
            assert_eq!(seconds(value), expected);
        }
    }
}
