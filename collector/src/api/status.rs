//! The collector's own health: `/-/healthy`, `/-/ready`, `/metrics`, `/api/v1/pitwatch/status`, and who it says it is.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::AppState;
use super::agents::change;
use super::envelope::{ApiError, Success};
use super::rules::Receiver;
use super::seams::{AgentState, AlertState, RefusedInfo, RoomInfo, StorageInfo};
use crate::access::Principal;
use crate::clock::unix_ms;

/// The release of Prometheus whose API this is; clients choose by it what they may ask.
const PROMETHEUS_VERSION: &str = "3.0.0";
/// Most agents, metrics, losses and refusals that an answer lists, the largest first.
const ROOMS_MAX: usize = 100;
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How the collector is.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    version: &'static str,
    started_ms: i64,
    now_ms: i64,
    ready: bool,
    not_ready_reason: Option<String>,
    /// How many agents are in each state
    agents: BTreeMap<&'static str, usize>,
    /// How many alerts are in each state
    alerts: BTreeMap<&'static str, usize>,
    receivers: Vec<Receiver>,
    storage: Storage,
    /// Figures by section, as the parts of the collector give them: objects in an object
    #[schema(value_type = Object)]
    sections: Value,
}

/// What history lost, holds and refuses: of each list the largest.
#[derive(Serialize, ToSchema)]
struct Storage {
    /// What the start found damaged or missing
    losses: Vec<String>,
    agents: Vec<Room>,
    agents_total: usize,
    metrics: Vec<Room>,
    metrics_total: usize,
    /// Bytes of blocks that are no column's
    index_bytes: u64,
    /// Agents of which a limit refused series
    refused: Vec<Refused>,
}

#[derive(Serialize, ToSchema)]
struct Room {
    name: String,
    block_bytes: u64,
    block_samples: u64,
    head_samples: u64,
}

#[derive(Serialize, ToSchema)]
struct Refused {
    agent: String,
    refused_total: u64,
    limit: &'static str,
    label: Option<String>,
    label_values: Option<usize>,
    series: Option<usize>,
    last: String,
}

impl From<StorageInfo> for Storage {
    fn from(info: StorageInfo) -> Self {
        let (agents_total, metrics_total) = (info.agents.len(), info.metrics.len());
        let rooms = |list: Vec<RoomInfo>| {
            let room = |room: RoomInfo| Room {
                name: room.name,
                block_bytes: room.block_bytes,
                block_samples: room.block_samples,
                head_samples: room.head_samples,
            };
            list.into_iter().take(ROOMS_MAX).map(room).collect()
        };
        let refused = info.refused.into_iter().take(ROOMS_MAX).map(|refused| {
            let (label, label_values, series) = match refused.explosion {
                Some((label, values, series)) => (Some(label), Some(values), Some(series)),
                None => (None, None, None),
            };
            let RefusedInfo { agent, refused_total, limit, last, .. } = refused;
            Refused { agent, refused_total, limit, label, label_values, series, last }
        });
        Self {
            losses: info.losses.into_iter().take(ROOMS_MAX).collect(),
            agents: rooms(info.agents),
            agents_total,
            metrics: rooms(info.metrics),
            metrics_total,
            index_bytes: info.index_bytes,
            refused: refused.collect(),
        }
    }
}

/// Prometheus' description of a build.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BuildInfo {
    version: String,
    revision: &'static str,
    branch: &'static str,
    build_user: &'static str,
    build_date: &'static str,
    go_version: &'static str,
}

/// A snapshot that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct Snapshot {
    /// Where it lies, in the data directory
    directory: &'static str,
    bytes: u64,
}

/// Whether the process lives.
#[utoipa::path(get, path = "/-/healthy", tag = "Collector",
    responses((status = 200, description = "It does", content_type = "text/plain", body = String)))]
pub(super) async fn healthy() -> &'static str {
    "pitwatch-collector is healthy.\n"
}

/// Whether it does its work.
#[utoipa::path(get, path = "/-/ready", tag = "Collector", responses(
    (status = 200, description = "It does", content_type = "text/plain", body = String),
    (status = 503, description = "It does not", content_type = "text/plain", body = String),
))]
pub(super) async fn ready(State(shared): AppState) -> (StatusCode, String) {
    match shared.app.vitals.ready() {
        Ok(()) => (StatusCode::OK, "pitwatch-collector is ready.\n".to_owned()),
        // Why not is for those who have a token: /api/v1/pitwatch/status says it.
        Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "pitwatch-collector is not ready: see `pitwatch status`\n".to_owned())
        }
    }
}

/// The collector's own metrics, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "Collector",
    responses((status = 200, description = "The metrics", content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(shared): AppState) -> impl IntoResponse {
    const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, KIND)], shared.app.vitals.metrics_text())
}

/// How the collector is, at a glance.
#[utoipa::path(get, path = "/api/v1/pitwatch/status", tag = "Collector",
    responses((status = 200, body = Success<Status>)))]
pub(super) async fn status(State(shared): AppState) -> Success<Status> {
    let app = &shared.app;
    let (agents, alerts, ready) = (app.fleet.agents(), app.alarms.alerts(), app.vitals.ready());
    let agents_in = |state: AgentState| (state.as_str(), agents.iter().filter(|agent| agent.state == state).count());
    let alerts_in = |state: AlertState| (state.as_str(), alerts.iter().filter(|alert| alert.state == state).count());
    Success::new(Status {
        version: VERSION,
        started_ms: app.started_ms,
        now_ms: unix_ms(),
        ready: ready.is_ok(),
        not_ready_reason: ready.err(),
        agents: [AgentState::Connected, AgentState::Away, AgentState::Revoked].map(agents_in).into(),
        alerts: [AlertState::Firing, AlertState::Pending].map(alerts_in).into(),
        receivers: app.alarms.deliveries().into_iter().map(Receiver::from).collect(),
        storage: app.vitals.storage().into(),
        sections: app.vitals.status(),
    })
}

/// Makes a snapshot beside the data, for `pitwatch-collector backup`, which copies it.
#[utoipa::path(post, path = "/api/v1/pitwatch/snapshot", tag = "Collector",
    responses((status = 200, body = Success<Snapshot>)))]
pub(super) async fn snapshot(
    State(shared): AppState,
    Extension(principal): Extension<Principal>,
) -> Result<Success<Snapshot>, ApiError> {
    let bytes = change(&shared, move |shared| shared.app.snapshots.take().map_err(ApiError::unavailable)).await?;
    tracing::info!(bytes, by = &*principal.name, "snapshot made");
    Ok(Success::new(Snapshot { directory: crate::backup::snapshot::DIR, bytes }))
}

/// The release of Prometheus whose API this is, with Pitwatch's own behind the `+`.
// Without `features`, or Grafana would take it for something else.
#[utoipa::path(get, path = "/api/v1/status/buildinfo", tag = "Prometheus' server",
    responses((status = 200, body = Success<BuildInfo>)))]
pub(super) async fn build_info() -> Success<BuildInfo> {
    Success::new(BuildInfo {
        version: format!("{PROMETHEUS_VERSION}+pitwatch.{VERSION}"),
        revision: "",
        branch: "",
        build_user: "",
        build_date: "",
        go_version: "",
    })
}
