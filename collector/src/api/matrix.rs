//! Answers to queries as JSON, written straight into one buffer: an answer may have millions of numbers.

use std::fmt::Write as _;

use pitwatch_promql::{Answer, Labels, Value, format_value};
use serde_json::json;

/// What a request wants of an answer beside its value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// Most series.
    pub(super) limit: Option<usize>,
    /// Figures about the query itself.
    pub(super) stats: bool,
}

/// The whole body of an answer.
pub(super) fn body(answer: &Answer, wanted: Wanted) -> String {
    let mut warnings = answer.warnings.clone();
    let mut out = String::with_capacity(256);
    out.push_str("{\"status\":\"success\",\"data\":{\"resultType\":\"");
    let limit = wanted.limit.unwrap_or(usize::MAX);
    let found = match &answer.value {
        Value::Scalar { ts_ms, value } => {
            out.push_str("scalar\",\"result\":");
            push_point(&mut out, *ts_ms, *value);
            0
        }
        Value::String { ts_ms, value } => {
            out.push_str("string\",\"result\":[");
            push_seconds(&mut out, *ts_ms);
            out.push(',');
            push_text(&mut out, value);
            out.push(']');
            0
        }
        Value::Vector(series) => {
            out.push_str("vector\",\"result\":");
            push_list(&mut out, series.iter().take(limit), |out, (labels, ts_ms, value)| {
                push_metric(out, labels);
                out.push_str(",\"value\":");
                push_point(out, *ts_ms, *value);
                out.push('}');
            });
            series.len()
        }
        Value::Matrix(series) => {
            out.push_str("matrix\",\"result\":");
            push_list(&mut out, series.iter().take(limit), |out, (labels, points)| {
                push_metric(out, labels);
                out.push_str(",\"values\":");
                push_list(out, points.iter(), |out, (ts_ms, value)| push_point(out, *ts_ms, *value));
                out.push('}');
            });
            series.len()
        }
    };
    if found > limit {
        warnings.push("results truncated due to limit".to_owned());
    }
    if wanted.stats {
        let stats = &answer.stats;
        let samples = json!({ "totalQueryableSamples": stats.samples, "peakSamples": stats.peak_samples });
        let _ = write!(out, ",\"stats\":{}", json!({ "samples": samples, "series": stats.series }));
    }
    out.push('}');
    push_remarks(&mut out, "warnings", &warnings);
    push_remarks(&mut out, "infos", &answer.infos);
    out.push('}');
    out
}

fn push_remarks(out: &mut String, name: &str, remarks: &[String]) {
    if !remarks.is_empty() {
        let _ = write!(out, ",\"{name}\":{}", json!(remarks));
    }
}

fn push_list<T>(out: &mut String, items: impl Iterator<Item = T>, mut push: impl FnMut(&mut String, T)) {
    out.push('[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(']');
}

fn push_metric(out: &mut String, labels: &Labels) {
    out.push_str("{\"metric\":{");
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_text(out, name);
        out.push(':');
        push_text(out, value);
    }
    out.push('}');
}

fn push_point(out: &mut String, ts_ms: i64, value: f64) {
    out.push('[');
    push_seconds(out, ts_ms);
    out.push_str(",\"");
    push_value(out, value);
    out.push_str("\"]");
}

/// As [`format_value`], without a text of its own in the usual case.
fn push_value(out: &mut String, value: f64) {
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        let _ = write!(out, "{value}");
    } else {
        out.push_str(&format_value(value));
    }
}

/// Seconds with three digits after the point, or none.
fn push_seconds(out: &mut String, ms: i64) {
    if ms < 0 {
        out.push('-');
    }
    let ms = ms.unsigned_abs();
    let _ = write!(out, "{}", ms / 1000);
    if !ms.is_multiple_of(1000) {
        let _ = write!(out, ".{:03}", ms % 1000);
    }
}

/// A JSON string.
fn push_text(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            control => {
                let _ = write!(out, "\\u{control:04x}");
            }
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitwatch_promql::Stats;
    use proptest::prelude::*;

    fn answer(value: Value) -> Answer {
        Answer { value, warnings: Vec::new(), infos: Vec::new(), stats: Stats::default() }
    }

    #[test]
    fn values_are_written_as_prometheus_does() {
        let labels = Labels::from_pairs([("__name__", "up"), ("a", "x\"\\\n\u{7f}é")]);
        let series = vec![(labels, vec![(1000, 1.0), (2500, f64::NAN), (-1, 1e21), (0, -1e-7), (1, f64::INFINITY)])];
        assert_eq!(
            body(&answer(Value::Matrix(series)), Wanted::default()),
            "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"__name__\":\"up\",\
             \"a\":\"x\\\"\\\\\\u000a\u{7f}é\"},\"values\":[[1,\"1\"],[2.500,\"NaN\"],[-0.001,\"1e+21\"],[0,\"-1e-07\"],\
             [0.001,\"+Inf\"]]}]}}"
        );
        let text = Value::String { ts_ms: 4000, value: "a".to_owned() };
        assert_eq!(
            body(&answer(text), Wanted::default()),
            r#"{"status":"success","data":{"resultType":"string","result":[4,"a"]}}"#
        );
    }

    #[test]
    fn a_limit_cuts_and_says_so() {
        let series = ["a", "b"].map(|name| (Labels::from_pairs([("n", name)]), 0, 0.5));
        let text = body(&answer(Value::Vector(series.into())), Wanted { limit: Some(1), stats: true });
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["data"]["result"], json!([{ "metric": { "n": "a" }, "value": [0, "0.5"] }]));
        assert_eq!(json["warnings"], json!(["results truncated due to limit"]));
        assert_eq!(json["data"]["stats"]["samples"]["peakSamples"], 0);
    }

    proptest! {
        #[test]
        fn texts_and_values_read_back(text in ".*", value: f64) {
            let mut out = String::new();
            push_text(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
            out.clear();
            push_value(&mut out, value);
            prop_assert_eq!(&out, &format_value(value));
            prop_assert!(out.parse::<f64>().unwrap() == value || value.is_nan());
        }
    }
}
