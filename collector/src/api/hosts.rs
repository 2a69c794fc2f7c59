//! `/api/v1/pitwatch/hosts`: every agent's host, the worst first, with the few numbers that tell how it is.
//!
//! Which numbers those are, and how they are computed from node_exporter's metrics, is decided here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use pitwatch_promql::{Cancel, Engine, EngineOptions, Labels, Value};
use pitwatch_shared::model::INSTANCE;
use serde::Serialize;
use utoipa::ToSchema;

use super::envelope::{ApiError, Success};
use super::pool::Client;
use super::seams::{AgentInfo, AgentState, AlertInfo, AlertState};
use super::{AppState, Shared};
use crate::clock::unix_ms;
use crate::source::HistorySource;

/// A host of which nothing came for this long is silent.
pub(super) const SILENT_AFTER_MS: i64 = 60_000;
/// How long the numbers may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How old they may be: many screens ask, and agents send once a second.
const NUMBERS_AGE_MAX: Duration = Duration::from_secs(1);

/// The share of all cores that worked.
const CPU: &str = r#"1 - sum by (instance) (rate(node_cpu_seconds_total{mode=~"idle|iowait"}[1m]))
  / count by (instance) (node_cpu_seconds_total{mode="idle"})"#;
/// The share of memory that programs cannot have.
const MEMORY: &str = "1 - max by (instance) (node_memory_MemAvailable_bytes)
  / max by (instance) (node_memory_MemTotal_bytes)";
/// The share of each real filesystem that is taken: those of the stock rules.
const DISKS: &str = r#"max by (instance, mountpoint) (1 -
  node_filesystem_avail_bytes{fstype!~"tmpfs|devtmpfs|ramfs|squashfs|iso9660|erofs|efivarfs|nsfs|fuse.*"}
  / (node_filesystem_size_bytes > 0))"#;
/// Bytes a second, both ways, over real interfaces.
const NETWORK: &str = r#"sum by (instance) (rate(node_network_receive_bytes_total{device!="lo"}[1m]))
  + sum by (instance) (rate(node_network_transmit_bytes_total{device!="lo"}[1m]))"#;

/// All hosts.
#[derive(Serialize, ToSchema)]
pub(super) struct Hosts {
    pub(super) now_ms: i64,
    pub(super) hosts: Vec<Host>,
    /// How many are in each state
    pub(super) counts: BTreeMap<&'static str, usize>,
}

/// One host. Numbers that are not known now are left empty.
#[derive(Serialize, ToSchema)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) state: HostState,
    /// Firing alerts, the oldest first.
    pub(super) alerts: Vec<HostAlert>,
    /// Since when it is not well.
    pub(super) since_ms: Option<i64>,
    pub(super) connected: bool,
    pub(super) last_sample_ms: Option<i64>,
    pub(super) software: String,
    pub(super) cpu_ratio: Option<f64>,
    pub(super) memory_ratio: Option<f64>,
    /// Of the fullest filesystem.
    pub(super) disk_ratio: Option<f64>,
    pub(super) disk_mountpoint: Option<String>,
    pub(super) network_bytes_per_second: Option<f64>,
}

/// A firing alert of a host.
#[derive(Serialize, ToSchema)]
pub(super) struct HostAlert {
    pub(super) name: String,
    /// The fault in a sentence, where its rule has one.
    summary: Option<String>,
    severity: Option<String>,
    fired_at_ms: Option<i64>,
}

/// How a host is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum HostState {
    Alerting,
    Silent,
    Well,
}

/// The numbers by host.
#[derive(Default)]
pub(super) struct Numbers {
    cpu: HashMap<String, f64>,
    memory: HashMap<String, f64>,
    disk: HashMap<String, (f64, String)>,
    network: HashMap<String, f64>,
}

/// The latest numbers. Who finds them too old computes them, the others wait for that.
#[derive(Default)]
pub(super) struct Cache(tokio::sync::Mutex<Option<(Instant, Arc<Numbers>)>>);

impl Cache {
    async fn get(&self, shared: &Shared, now_ms: i64) -> Result<Arc<Numbers>, ApiError> {
        let mut cached = self.0.lock().await;
        if let Some((_, numbers)) = cached.as_ref().filter(|(at, _)| at.elapsed() < NUMBERS_AGE_MAX) {
            return Ok(numbers.clone());
        }
        let (source, options) = (shared.source.clone(), shared.app.engine.clone());
        // Computed once for all who look: it counts for none of them.
        let client = Client::named("the list of hosts");
        let fresh = shared.queries.run(&client, TIMEOUT, move |left, cancel| {
            let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            Ok(numbers(&source, EngineOptions { timeout_ms, ..options }, now_ms, cancel)?)
        });
        let fresh = Arc::new(fresh.await?);
        *cached = Some((Instant::now(), fresh.clone()));
        Ok(fresh)
    }
}

/// Every host, the worst first, with the few numbers that tell how it is.
#[utoipa::path(get, path = "/api/v1/pitwatch/hosts", tag = "Hosts and agents",
    responses((status = 200, body = Success<Hosts>)))]
pub(super) async fn list(State(shared): AppState) -> Result<Success<Hosts>, ApiError> {
    Ok(Success::new(hosts(&shared).await?))
}

/// All hosts, the worst first.
pub(super) async fn hosts(shared: &Shared) -> Result<Hosts, ApiError> {
    let now_ms = unix_ms();
    let numbers = shared.numbers.get(shared, now_ms).await?;
    let mut alerts = alerts_by_host(shared.app.alarms.alerts());
    let agents = shared.app.fleet.agents().into_iter().filter(|agent| agent.state != AgentState::Revoked);
    let mut hosts: Vec<Host> = agents
        .map(|agent| {
            let alerts = alerts.remove(&agent.name).unwrap_or_default();
            host(agent, alerts, &numbers, now_ms)
        })
        .collect();
    hosts.sort_by(|a, b| (a.state, &a.name).cmp(&(b.state, &b.name)));
    let count = |state| hosts.iter().filter(|host| host.state == state).count();
    let counts = [
        ("well", count(HostState::Well)),
        ("alerting", count(HostState::Alerting)),
        ("silent", count(HostState::Silent)),
    ];
    Ok(Hosts { now_ms, counts: counts.into(), hosts })
}

fn host(agent: AgentInfo, alerts: Vec<HostAlert>, numbers: &Numbers, now_ms: i64) -> Host {
    let connected = agent.state == AgentState::Connected;
    // A connection that has just begun has a moment for its first sample.
    let last_sign = agent.last_sample_ms.max(agent.since_ms.filter(|_| connected));
    let is_silent = !connected || last_sign.is_none_or(|last| now_ms - last > SILENT_AFTER_MS);
    let (state, since_ms) = if !alerts.is_empty() {
        (HostState::Alerting, alerts.iter().filter_map(|alert| alert.fired_at_ms).min())
    } else if is_silent {
        (HostState::Silent, agent.last_sample_ms.or(agent.since_ms))
    } else {
        (HostState::Well, None)
    };
    let (disk_ratio, disk_mountpoint) = numbers.disk.get(&agent.name).cloned().unzip();
    Host {
        state,
        alerts,
        since_ms,
        connected,
        cpu_ratio: numbers.cpu.get(&agent.name).copied(),
        memory_ratio: numbers.memory.get(&agent.name).copied(),
        disk_ratio,
        disk_mountpoint,
        network_bytes_per_second: numbers.network.get(&agent.name).copied(),
        name: agent.name,
        labels: agent.labels,
        last_sample_ms: agent.last_sample_ms,
        software: agent.software,
    }
}

fn alerts_by_host(alerts: Vec<AlertInfo>) -> HashMap<String, Vec<HostAlert>> {
    let mut by_host: HashMap<String, Vec<HostAlert>> = HashMap::new();
    for mut alert in alerts.into_iter().filter(|alert| alert.state == AlertState::Firing) {
        let Some(host) = alert.labels.remove(INSTANCE) else { continue };
        let severity = alert.labels.remove("severity");
        let summary = alert.annotations.remove("summary");
        let alert = HostAlert { name: alert.name, summary, severity, fired_at_ms: alert.fired_at_ms };
        by_host.entry(host).or_default().push(alert);
    }
    by_host.values_mut().for_each(|alerts| alerts.sort_by_key(|alert| alert.fired_at_ms));
    by_host
}

fn numbers(
    source: &HistorySource,
    options: EngineOptions,
    now_ms: i64,
    cancel: &Cancel,
) -> pitwatch_promql::Result<Numbers> {
    let engine = Engine::new(options);
    let ask = |query| match engine.instant(source, &pitwatch_promql::parse(query)?, now_ms, cancel)?.value {
        Value::Vector(series) => Ok::<_, pitwatch_promql::Error>(series),
        _ => Ok(Vec::new()),
    };
    let by_host = |series: Vec<(Labels, i64, f64)>| -> HashMap<String, f64> {
        let finite = series.into_iter().filter(|(_, _, value)| value.is_finite());
        finite.filter_map(|(labels, _, value)| Some((labels.get(INSTANCE)?.to_owned(), value))).collect()
    };
    let share = |mut by_host: HashMap<String, f64>| {
        by_host.values_mut().for_each(|ratio| *ratio = ratio.clamp(0.0, 1.0));
        by_host
    };
    let mut disk: HashMap<String, (f64, String)> = HashMap::new();
    for (labels, _, ratio) in ask(DISKS)?.into_iter().filter(|(_, _, ratio)| ratio.is_finite()) {
        let (Some(host), mount) = (labels.get(INSTANCE), labels.get("mountpoint").unwrap_or_default()) else {
            continue;
        };
        let fullest = disk.entry(host.to_owned()).or_insert_with(|| (f64::NEG_INFINITY, String::new()));
        if ratio > fullest.0 {
            *fullest = (ratio.clamp(0.0, 1.0), mount.to_owned());
        }
    }
    Ok(Numbers {
        cpu: share(by_host(ask(CPU)?)),
        memory: share(by_host(ask(MEMORY)?)),
        disk,
        network: by_host(ask(NETWORK)?),
    })
}
