//! `/api/v1/status/flags`, `config`, `runtimeinfo` and `tsdb`: what Prometheus' tools ask about the server itself.
//! What a Go program has and this one has not is left empty.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::extract::State;
use pitwatch_history::History;
use pitwatch_promql::format_duration;
use pitwatch_shared::model::METRIC_NAME;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::envelope::{ApiError, Success};
use super::openapi::parameters::Rows;
use super::params::{Params, rfc3339};
use super::pool::Client;
use crate::clock::unix_ms;

/// How long counting series may take, its wait included.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Rows of each list of `tsdb`, where the request says nothing, and at most.
const ROWS: usize = 10;
const ROWS_MAX: usize = 10_000;

/// The configuration of a server that scrapes nothing.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerConfig {
    yaml: &'static str,
}

/// What Prometheus says of its process.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RuntimeInfo {
    start_time: String,
    #[serde(rename = "CWD")]
    cwd: &'static str,
    hostname: String,
    server_time: String,
    reload_config_success: bool,
    last_config_time: String,
    corruption_count: u64,
    goroutine_count: usize,
    #[serde(rename = "GOMAXPROCS")]
    gomaxprocs: usize,
    #[serde(rename = "GOMEMLIMIT")]
    gomemlimit: u64,
    #[serde(rename = "GOGC")]
    gogc: &'static str,
    #[serde(rename = "GODEBUG")]
    godebug: &'static str,
    storage_retention: String,
}

/// What there are many of.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tsdb {
    head_stats: HeadStats,
    series_count_by_metric_name: Vec<Count>,
    label_value_count_by_label_name: Vec<Count>,
    memory_in_bytes_by_label_name: Vec<Count>,
    series_count_by_label_value_pair: Vec<Count>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HeadStats {
    num_series: u64,
    num_label_pairs: usize,
    /// Of blocks
    chunk_count: u64,
    /// Not known
    min_time: Option<i64>,
    /// Not known
    max_time: Option<i64>,
}

#[derive(Serialize, ToSchema)]
struct Count {
    name: String,
    value: u64,
}

/// The limits of queries and of history, by the names of Prometheus' flags.
#[utoipa::path(get, path = "/api/v1/status/flags", tag = "Prometheus' server",
    responses((status = 200, body = Success<BTreeMap<String, String>>)))]
pub(super) async fn flags(State(shared): AppState) -> Success<BTreeMap<&'static str, String>> {
    let engine = &shared.app.engine;
    Success::new(BTreeMap::from([
        ("query.lookback-delta", format_duration(engine.lookback_ms)),
        ("query.max-concurrency", shared.app.queries_at_once.to_string()),
        ("query.max-samples", engine.max_samples.to_string()),
        ("query.timeout", format_duration(i64::try_from(engine.timeout_ms).unwrap_or(i64::MAX))),
        ("storage.tsdb.retention.time", retention(&shared.app.history)),
    ]))
}

/// An empty configuration: nothing is scraped.
// Rules are not listed here, and our own configuration is no Prometheus' and has secrets.
#[utoipa::path(get, path = "/api/v1/status/config", tag = "Prometheus' server",
    responses((status = 200, body = Success<ServerConfig>)))]
pub(super) async fn config(State(_): AppState) -> Success<ServerConfig> {
    Success::new(ServerConfig { yaml: "global: {}\n" })
}

/// The process; what only a Go program has is empty.
#[utoipa::path(get, path = "/api/v1/status/runtimeinfo", tag = "Prometheus' server",
    responses((status = 200, body = Success<RuntimeInfo>)))]
pub(super) async fn runtime_info(State(shared): AppState) -> Success<RuntimeInfo> {
    let started = rfc3339(shared.app.started_ms);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Success::new(RuntimeInfo {
        start_time: started.clone(),
        cwd: "",
        hostname: hostname.trim().to_owned(),
        server_time: rfc3339(unix_ms()),
        reload_config_success: true,
        last_config_time: started,
        corruption_count: shared.app.history.stats().corruptions,
        goroutine_count: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        gomaxprocs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        gomemlimit: 0,
        gogc: "",
        godebug: "",
        storage_retention: retention(&shared.app.history),
    })
}

fn retention(history: &History) -> String {
    let age = history.config().retention_age;
    age.map_or_else(String::new, |age| format_duration(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
}

/// What there are many of: metrics, values, pairs.
#[utoipa::path(get, path = "/api/v1/status/tsdb", tag = "Prometheus' server", params(Rows),
    responses((status = 200, body = Success<Tsdb>)))]
pub(super) async fn tsdb(State(shared): AppState, client: Client, params: Params) -> Result<Success<Tsdb>, ApiError> {
    let limit = match params.limit()? {
        None => ROWS,
        Some(limit) if limit <= ROWS_MAX => limit,
        Some(_) => return Err(ApiError::bad_parameter("limit", format!("it must be at most {ROWS_MAX}"))),
    };
    let history = shared.app.history.clone();
    let counted = shared.queries.run(&client, TIMEOUT, move |_, _| Ok(count(&history, limit)?));
    Ok(Success::new(counted.await?))
}

fn count(history: &History, limit: usize) -> Result<Tsdb, pitwatch_history::QueryError> {
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
    let stats = history.stats();
    Ok(Tsdb {
        head_stats: HeadStats {
            num_series: stats.active_series,
            num_label_pairs: pairs.values().map(HashMap::len).sum(),
            chunk_count: stats.blocks,
            min_time: None,
            max_time: None,
        },
        series_count_by_metric_name: top(metrics.iter().map(|(name, n)| ((*name).to_owned(), *n)), limit),
        label_value_count_by_label_name: top(values, limit),
        memory_in_bytes_by_label_name: top(memory, limit),
        series_count_by_label_value_pair: top(by_pair, limit),
    })
}

/// The largest, as Prometheus lists them.
fn top(counts: impl Iterator<Item = (String, u64)>, limit: usize) -> Vec<Count> {
    let mut all: Vec<Count> = counts.map(|(name, value)| Count { name, value }).collect();
    all.sort_unstable_by(|a, b| (Reverse(a.value), &a.name).cmp(&(Reverse(b.value), &b.name)));
    all.truncate(limit);
    all
}
