//! `--explain`: what a query touched and where its time went, from the figures in the collector's answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::super::counted;

/// The figures, wherever they are in the answer; the values themselves are passed over.
#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    stats: Stats,
}

#[derive(Deserialize)]
struct Stats {
    pitwatch: Figures,
}

#[derive(Deserialize)]
struct Figures {
    series: u64,
    samples: u64,
    peak_samples: u64,
    /// Seconds by stage, and whatever else the collector tells.
    #[serde(flatten)]
    more: BTreeMap<String, Value>,
}

/// Stages in their order.
const STAGES: [&str; 6] = ["parse", "wait", "select", "read", "evaluate", "write"];

/// The figures as text.
pub(super) fn text(body: &str) -> Option<String> {
    let Figures { series, samples, peak_samples, mut more } =
        serde_json::from_str::<Answer>(body).ok()?.data.stats.pitwatch;
    let count = |n: u64, one, many| counted(usize::try_from(n).unwrap_or(usize::MAX), one, many);
    let mut out = format!(
        "touched   {}, {}; {peak_samples} held at once\n",
        count(series, "series", "series"),
        count(samples, "sample", "samples")
    );
    let mut total = 0.0;
    for stage in STAGES {
        let Some(secs) = more.remove(&format!("{stage}_secs")).and_then(|secs| secs.as_f64()) else { continue };
        total += secs;
        let _ = writeln!(out, "{stage:<8} {:>9.3} ms", secs * 1e3);
    }
    let _ = writeln!(out, "{:<8} {:>9.3} ms", "total", total * 1e3);
    for (name, value) in more {
        let _ = writeln!(out, "{name:<9} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_by_stage() {
        let body = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]}],
            "stats":{"timings":{},"pitwatch":{"series":1,"samples":122,"peak_samples":61,"parse_secs":0.00002,
            "wait_secs":0,"select_secs":0.001,"read_secs":0.0125,"evaluate_secs":0.002,"write_secs":0.0001,
            "other":"raw"}}}}"#;
        insta::assert_snapshot!(text(body).unwrap(), @"
        touched   1 series, 122 samples; 61 held at once
        parse        0.020 ms
        wait         0.000 ms
        select       1.000 ms
        read        12.500 ms
        evaluate     2.000 ms
        write        0.100 ms
        total       15.620 ms
        other     raw
        ");
        assert_eq!(text(r#"{"data":{}}"#), None);
    }
}
