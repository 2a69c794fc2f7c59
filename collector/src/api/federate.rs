//! `/federate`: the latest samples in the text format, for another Prometheus to scrape.

use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use pitwatch_promql::format_value;
use pitwatch_shared::model::{INSTANCE, Labels, METRIC_NAME, MetricType, is_stale};

use super::AppState;
use super::envelope::ApiError;
use super::openapi::parameters::Matches;
use super::params::Params;
use super::pool::Client;
use crate::clock::unix_ms;

/// The type of the text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long it may take, its wait included.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The latest samples, of five minutes, with their times in the text format.
#[utoipa::path(get, path = "/federate", tag = "Series", params(Matches),
    responses((status = 200, description = "The samples", content_type = "text/plain", body = String)))]
pub(super) async fn federate(State(shared): AppState, client: Client, params: Params) -> Result<Response, ApiError> {
    let selectors = params.selectors()?;
    let (source, history) = (shared.source.clone(), shared.app.history.clone());
    let (end, lookback) = (unix_ms(), shared.app.engine.lookback_ms);
    let answer = shared.queries.stream(&client, TEXT, TIMEOUT, move |_, cancel, out| {
        let mut found = Vec::new();
        for matchers in &selectors {
            found.extend(source.series(matchers, end - lookback, end)?);
        }
        found.sort_unstable_by(|a, b| (a.labels.metric(), &a.labels).cmp(&(b.labels.metric(), &b.labels)));
        found.dedup_by(|a, b| a.labels == b.labels);
        let types: std::collections::HashMap<String, MetricType> = history.metric_types().into_iter().collect();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        let mut last = None;
        for series in &found {
            if cancel.is_cancelled() {
                return Err(pitwatch_promql::Error::Cancelled.into());
            }
            history.samples(series, end - lookback, end, &mut times, &mut values)?;
            let (Some(ts_ms), Some(value)) = (times.last(), values.last().filter(|value| !is_stale(**value))) else {
                continue;
            };
            let metric = series.labels.metric();
            if last != Some(metric) {
                let _ = writeln!(out.text, "# TYPE {} {}", name_text(metric), type_word(types.get(metric)));
                last = Some(metric);
            }
            push_series(&mut out.text, &series.labels);
            let _ = writeln!(out.text, " {} {ts_ms}", format_value(*value));
            out.spill()?;
        }
        Ok(())
    });
    answer.await
}

/// The types that a single series can have by itself; buckets and the like are told apart from their family.
fn type_word(kind: Option<&MetricType>) -> &'static str {
    match kind {
        Some(MetricType::Counter) => "counter",
        Some(MetricType::Gauge) => "gauge",
        _ => "untyped",
    }
}

fn push_series(out: &mut String, labels: &Labels) {
    let metric = labels.metric();
    let plain = is_plain(metric, true);
    if plain {
        out.push_str(metric);
    }
    out.push('{');
    if !plain {
        let _ = write!(out, "{}", quoted(metric));
    }
    let pairs = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    // Who scrapes with `honor_labels` would otherwise put its own there.
    let missing = labels.value(INSTANCE).is_none().then_some((INSTANCE, ""));
    for (at, (name, value)) in pairs.chain(missing).enumerate() {
        if at > 0 || !plain {
            out.push(',');
        }
        let name = if is_plain(name, false) { name.to_owned() } else { quoted(name) };
        let _ = write!(out, "{name}={}", quoted(value));
    }
    out.push('}');
}

fn name_text(metric: &str) -> String {
    if is_plain(metric, true) { metric.to_owned() } else { quoted(metric) }
}

/// Whether a name needs no quotes; a colon is for metrics alone.
fn is_plain(name: &str, colon: bool) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (colon && b == b':');
    !name.is_empty() && name.bytes().all(inside) && !name.as_bytes()[0].is_ascii_digit()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_written_in_the_text_format() {
        let text = |pairs: &[(&'static str, &'static str)]| {
            let mut out = String::new();
            push_series(&mut out, &Labels::new(pairs.iter().copied()).unwrap());
            out
        };
        assert_eq!(text(&[("__name__", "up"), ("instance", "a"), ("x", "q\"\\\n")]), r#"up{instance="a",x="q\"\\\n"}"#);
        assert_eq!(text(&[("__name__", "a:b")]), r#"a:b{instance=""}"#);
        assert_eq!(text(&[("__name__", "a.b"), ("x.y", "1")]), r#"{"a.b","x.y"="1",instance=""}"#);
    }
}
