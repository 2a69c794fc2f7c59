//! `/api/v1/status/flags`, `config`, `runtimeinfo` and `tsdb`: what Prometheus' tools ask about the server itself.
//! What a Go program has and this one has not is left empty.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use axum::extract::State;
use pitwatch_history::History;
use pitwatch_promql::format_duration;
use pitwatch_shared::model::METRIC_NAME;
use serde_json::{Value, json};

use super::AppState;
use super::envelope::{ApiError, Success};
use super::params::{Params, rfc3339};
use super::pool::Client;
use crate::clock::unix_ms;

/// How long counting series may take, its wait included.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Rows of each list of `tsdb`, where the request says nothing, and at most.
const ROWS: usize = 10;
const ROWS_MAX: usize = 10_000;

/// The limits of queries, by the names of Prometheus' flags.
pub(super) async fn flags(State(shared): AppState) -> Success<Value> {
    let engine = &shared.app.engine;
    Success::new(json!({
        "query.lookback-delta": format_duration(engine.lookback_ms),
        "query.max-concurrency": shared.app.queries_at_once.to_string(),
        "query.max-samples": engine.max_samples.to_string(),
        "query.timeout": format_duration(i64::try_from(engine.timeout_ms).unwrap_or(i64::MAX)),
        "storage.tsdb.retention.time": retention(&shared.app.history),
    }))
}

/// Nothing is scraped and rules are not listed here: our configuration is no Prometheus' and has secrets.
pub(super) async fn config(State(_): AppState) -> Success<Value> {
    Success::new(json!({ "yaml": "global: {}\n" }))
}

/// The process.
pub(super) async fn runtime_info(State(shared): AppState) -> Success<Value> {
    let started = rfc3339(shared.app.started_ms);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Success::new(json!({
        "startTime": started,
        "CWD": "",
        "hostname": std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim(),
        "serverTime": rfc3339(unix_ms()),
        "reloadConfigSuccess": true,
        "lastConfigTime": started,
        "corruptionCount": shared.app.history.stats().corruptions,
        "goroutineCount": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        "GOMAXPROCS": threads,
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": retention(&shared.app.history),
    }))
}

fn retention(history: &History) -> String {
    let age = history.config().retention_age;
    age.map_or_else(String::new, |age| format_duration(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
}

/// What there are many of: metrics, values, pairs.
pub(super) async fn tsdb(State(shared): AppState, client: Client, params: Params) -> Result<Success<Value>, ApiError> {
    let limit = match params.limit()? {
        None => ROWS,
        Some(limit) if limit <= ROWS_MAX => limit,
        Some(_) => return Err(ApiError::bad_parameter("limit", format!("it must be at most {ROWS_MAX}"))),
    };
    let history = shared.app.history.clone();
    let counted = shared.queries.run(&client, TIMEOUT, move |_, _| Ok(count(&history, limit)?));
    Ok(Success::new(counted.await?))
}

fn count(history: &History, limit: usize) -> Result<Value, pitwatch_history::QueryError> {
    let all = history.select(&[], i64::MIN, i64::MAX)?;
    let mut metrics: HashMap<&str, u64> = HashMap::new();
    // By name and value: how many series.
    let mut pairs: HashMap<&str, HashMap<&str, u64>> = HashMap::new();
    for (name, value) in all.iter().flat_map(|series| series.labels.iter()) {
        *pairs.entry(name).or_default().entry(value).or_default() += 1;
        if name == METRIC_NAME {
            *metrics.entry(value).or_default() += 1;
        }
    }
    let values = pairs.iter().map(|(name, values)| ((*name).to_owned(), values.len() as u64));
    let bytes = |values: &HashMap<&str, u64>| values.keys().map(|value| value.len() as u64).sum::<u64>();
    let memory = pairs.iter().map(|(name, values)| ((*name).to_owned(), bytes(values)));
    let by_pair = pairs
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |(value, series)| (format!("{name}={value}"), *series)));
    Ok(json!({
        "headStats": {
            "numSeries": history.stats().active_series,
            "numLabelPairs": pairs.values().map(HashMap::len).sum::<usize>(),
            "chunkCount": history.stats().blocks,
            "minTime": Value::Null,
            "maxTime": Value::Null,
        },
        "seriesCountByMetricName": top(metrics.iter().map(|(name, n)| ((*name).to_owned(), *n)), limit),
        "labelValueCountByLabelName": top(values, limit),
        "memoryInBytesByLabelName": top(memory, limit),
        "seriesCountByLabelValuePair": top(by_pair, limit),
    }))
}

/// The largest, as Prometheus lists them.
fn top(counts: impl Iterator<Item = (String, u64)>, limit: usize) -> Vec<Value> {
    let mut all: Vec<(String, u64)> = counts.collect();
    all.sort_unstable_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
    all.into_iter().take(limit).map(|(name, value)| json!({ "name": name, "value": value })).collect()
}
