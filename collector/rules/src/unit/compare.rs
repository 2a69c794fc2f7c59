//! Expected and got, compared and told as `promtool` tells them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pitwatch_alerting::Row;
use pitwatch_promql::Labels;
use pitwatch_promql::promqltest::series;

use super::read::{AlertTest, ExprTest};

/// Labels and annotations of an alert.
pub(super) type Alert = (BTreeMap<String, String>, BTreeMap<String, String>);

/// What differs between the alerts of a name that fire and those expected, if anything does.
pub(super) fn alerts(name: &str, test: &AlertTest, mut got: Vec<Alert>) -> Option<String> {
    let mut expected = test.expected.clone();
    for (labels, _) in &mut expected {
        labels.insert("alertname".to_owned(), test.alertname.clone());
    }
    expected.sort();
    got.sort();
    (expected != got).then(|| {
        let time = duration(test.eval_time_ms);
        let (expected, got) = (alerts_text(&expected), alerts_text(&got));
        let alertname = &test.alertname;
        format!("{name}    alertname: {alertname}, time: {time}, \n        exp:{expected}, \n        got:{got}")
    })
}

fn alerts_text(alerts: &[Alert]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let mut text = "[".to_owned();
    for (at, (labels, annotations)) in alerts.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        let (labels, annotations) = (pairs(labels), pairs(annotations));
        // Writing to a text cannot fail.
        let _ =
            write!(text, "\n            {at}:\n              Labels:{labels}\n              Annotations:{annotations}");
    }
    text + "\n            ]"
}

fn pairs(pairs: &BTreeMap<String, String>) -> String {
    let texts: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", texts.join(", "))
}

/// What differs between an expression's rows and those expected, if anything does.
pub(super) fn samples(test: &ExprTest, got: Result<Vec<Row>, String>, fuzzy: bool) -> Option<String> {
    let head = format!("    expr: {:?}, time: {},", test.expr, duration(test.eval_time_ms));
    let got = match got {
        Ok(rows) => rows,
        Err(error) => return Some(format!("{head} err: {error}")),
    };
    let mut got: Vec<(Labels, f64)> =
        got.into_iter().map(|row| (Labels::from_pairs(row.labels.shared()), row.value)).collect();
    let mut expected = Vec::with_capacity(test.expected.len());
    for (labels, value) in &test.expected {
        match series::line(&format!("{labels} 0")) {
            Ok((labels, _)) => expected.push((labels, *value)),
            Err(error) => return Some(format!("{head} err: labels {labels:?}: {error}")),
        }
    }
    let order = |a: &(Labels, f64), b: &(Labels, f64)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
    got.sort_by(order);
    expected.sort_by(order);
    let same = |((a, x), (b, y)): (&(Labels, f64), &(Labels, f64))| a == b && same_value(*x, *y, fuzzy);
    let is_same = expected.len() == got.len() && expected.iter().zip(&got).all(same);
    (!is_same).then(|| format!("{head}\n        exp: {}\n        got: {}", samples_text(&expected), samples_text(&got)))
}

/// A NaN is like no other but in a fuzzy comparison, which also takes the next number for the same.
fn same_value(a: f64, b: f64, fuzzy: bool) -> bool {
    a == b || (fuzzy && (a.next_up() == b || a.next_down() == b || (a.is_nan() && b.is_nan())))
}

fn samples_text(samples: &[(Labels, f64)]) -> String {
    if samples.is_empty() {
        return "nil".to_owned();
    }
    let texts: Vec<String> = samples.iter().map(|(labels, value)| format!("{labels} {}", number(*value))).collect();
    texts.join(", ")
}

/// `1.8E+01`.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return pitwatch_promql::format_value(value);
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, exponent)) => {
            let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
            format!("{digits}E{sign}{size:0>2}")
        }
        None => text,
    }
}

/// A time as Prometheus writes durations.
pub(super) fn duration(ms: i64) -> String {
    pitwatch_promql::format_duration(ms)
}

/// A time of whole steps as Go writes durations: `1m0s`.
pub(super) fn go_duration(ms: i64) -> String {
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, (ms % 60_000) as f64 / 1e3);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_gos_exponents() {
        for (value, text) in [(18.0, "1.8E+01"), (0.0, "0E+00"), (0.001, "1E-03"), (f64::NAN, "NaN")] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_fuzzy_comparison_takes_the_next_number_and_nan() {
        assert!(!same_value(0.3, 0.1 + 0.2, false) && same_value(0.3, 0.1 + 0.2, true));
        assert!(!same_value(f64::NAN, f64::NAN, false) && same_value(f64::NAN, f64::NAN, true));
        assert!(!same_value(1.0, 1.000_001, true));
    }
}
