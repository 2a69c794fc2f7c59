//! Answers to queries as JSON, written straight into the output: an answer may have millions of numbers.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use pitwatch_promql::{Answer, Labels, Stats, Value, format_value};
use serde_json::json;

use super::envelope::ApiError;
use super::output::Output;

/// What a request wants of an answer beside its value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// Most series.
    pub(super) limit: Option<usize>,
    /// Figures about the query itself.
    pub(super) stats: bool,
}

/// How long a query was in each of its stages before its answer was written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub(super) parse: Duration,
    /// In the queue.
    pub(super) wait: Duration,
}

/// Points of one series between two looks at how long the text is.
const POINTS_A_LOOK: usize = 1024;

/// Writes the whole body of an answer, and lets go of what is written.
pub(super) fn write(answer: Answer, wanted: Wanted, spent: Spent, out: &mut Output) -> Result<(), ApiError> {
    let begun = Instant::now();
    let Answer { value, mut warnings, infos, tiers, stats } = answer;
    out.text.push_str("{\"status\":\"success\",\"data\":{\"resultType\":\"");
    let limit = wanted.limit.unwrap_or(usize::MAX);
    let found = match value {
        Value::Scalar { ts_ms, value } => {
            out.text.push_str("scalar\",\"result\":");
            push_point(&mut out.text, ts_ms, value);
            0
        }
        Value::String { ts_ms, value } => {
            out.text.push_str("string\",\"result\":[");
            push_seconds(&mut out.text, ts_ms);
            out.text.push(',');
            push_text(&mut out.text, &value);
            out.text.push(']');
            0
        }
        Value::Vector(series) => {
            out.text.push_str("vector\",\"result\":[");
            let found = series.len();
            for (at, (labels, ts_ms, value)) in series.into_iter().take(limit).enumerate() {
                begin_series(&mut out.text, at, &labels);
                out.text.push_str(",\"value\":");
                push_point(&mut out.text, ts_ms, value);
                out.text.push('}');
                out.spill()?;
            }
            out.text.push(']');
            found
        }
        Value::Matrix(series) => {
            out.text.push_str("matrix\",\"result\":[");
            let found = series.len();
            for (at, (labels, points)) in series.into_iter().take(limit).enumerate() {
                begin_series(&mut out.text, at, &labels);
                out.text.push_str(",\"values\":");
                push_points(out, &points)?;
                out.text.push('}');
                out.spill()?;
            }
            out.text.push(']');
            found
        }
    };
    if found > limit {
        warnings.push("results truncated due to limit".to_owned());
    }
    if wanted.stats {
        let _ = write!(out.text, ",\"stats\":{}", stats_json(&stats, &tiers, spent, begun.elapsed()));
    }
    out.text.push('}');
    push_remarks(&mut out.text, "warnings", &warnings);
    push_remarks(&mut out.text, "infos", &infos);
    out.text.push('}');
    Ok(())
}

/// Prometheus' figures, and under `pitwatch` ours.
fn stats_json(stats: &Stats, tiers: &[&str], spent: Spent, write: Duration) -> serde_json::Value {
    let secs = |time: Duration| time.as_secs_f64();
    let evaluate = stats.total.saturating_sub(stats.select + stats.read);
    json!({
        "timings": {
            "evalTotalTime": secs(stats.total),
            "resultSortTime": 0,
            "queryPreparationTime": secs(stats.select),
            "innerEvalTime": secs(stats.read + evaluate),
            "execQueueTime": secs(spent.wait),
            "execTotalTime": secs(spent.wait + stats.total),
        },
        "samples": { "totalQueryableSamples": stats.samples, "peakSamples": stats.peak_samples },
        "pitwatch": {
            "series": stats.series,
            "samples": stats.samples,
            "peak_samples": stats.peak_samples,
            "tiers": tiers.join(", "),
            "parse_secs": secs(spent.parse),
            "wait_secs": secs(spent.wait),
            "select_secs": secs(stats.select),
            "read_secs": secs(stats.read),
            "evaluate_secs": secs(evaluate),
            "write_secs": secs(write),
        },
    })
}

fn push_remarks(out: &mut String, name: &str, remarks: &[String]) {
    if !remarks.is_empty() {
        let _ = write!(out, ",\"{name}\":{}", json!(remarks));
    }
}

fn push_points(out: &mut Output, points: &[(i64, f64)]) -> Result<(), ApiError> {
    out.text.push('[');
    for (part, points) in points.chunks(POINTS_A_LOOK).enumerate() {
        for (at, (ts_ms, value)) in points.iter().enumerate() {
            if part + at > 0 {
                out.text.push(',');
            }
            push_point(&mut out.text, *ts_ms, *value);
        }
        out.spill()?;
    }
    out.text.push(']');
    Ok(())
}

/// Begins the object of the series at that place in the list.
fn begin_series(out: &mut String, at: usize, labels: &Labels) {
    out.push_str(if at > 0 { ",{\"metric\":" } else { "{\"metric\":" });
    push_labels(out, labels.iter());
}

/// An object of labels.
pub(super) fn push_labels<'l>(out: &mut String, labels: impl Iterator<Item = (&'l str, &'l str)>) {
    out.push('{');
    for (at, (name, value)) in labels.enumerate() {
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
    use proptest::prelude::*;

    fn body(answer: Answer, wanted: Wanted) -> String {
        let (mut out, _pieces) = super::super::output::channel();
        write(answer, wanted, Spent::default(), &mut out).unwrap();
        out.text
    }

    fn answer(value: Value) -> Answer {
        Answer { value, warnings: Vec::new(), infos: Vec::new(), tiers: vec!["raw"], stats: Stats::default() }
    }

    #[test]
    fn values_are_written_as_prometheus_does() {
        let labels = Labels::from_pairs([("__name__", "up"), ("a", "x\"\\\n\u{7f}é")]);
        let series = vec![(labels, vec![(1000, 1.0), (2500, f64::NAN), (-1, 1e21), (0, -1e-7), (1, f64::INFINITY)])];
        assert_eq!(
            body(answer(Value::Matrix(series)), Wanted::default()),
            "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"__name__\":\"up\",\
             \"a\":\"x\\\"\\\\\\u000a\u{7f}é\"},\"values\":[[1,\"1\"],[2.500,\"NaN\"],[-0.001,\"1e+21\"],[0,\"-1e-07\"],\
             [0.001,\"+Inf\"]]}]}}"
        );
        let text = Value::String { ts_ms: 4000, value: "a".to_owned() };
        assert_eq!(
            body(answer(text), Wanted::default()),
            r#"{"status":"success","data":{"resultType":"string","result":[4,"a"]}}"#
        );
    }

    #[test]
    fn a_limit_cuts_and_says_so() {
        let series = ["a", "b"].map(|name| (Labels::from_pairs([("n", name)]), 0, 0.5));
        let text = body(answer(Value::Vector(series.into())), Wanted { limit: Some(1), stats: true });
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["data"]["result"], json!([{ "metric": { "n": "a" }, "value": [0, "0.5"] }]));
        assert_eq!(json["warnings"], json!(["results truncated due to limit"]));
        assert_eq!(json["data"]["stats"]["samples"]["peakSamples"], 0);
        assert_eq!(json["data"]["stats"]["pitwatch"]["tiers"], "raw");
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
