//! The collector's own health: `/-/healthy`, `/-/ready`, `/metrics`, `/api/v1/pitwatch/status`, and who it says it is.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::{Value, json};

use super::AppState;
use super::agents::change;
use super::envelope::{ApiError, Success};
use super::rules::Receiver;
use super::seams::{AgentState, AlertState};
use crate::access::Principal;
use crate::clock::unix_ms;

/// The release of Prometheus whose API this is; clients choose by it what they may ask.
const PROMETHEUS_VERSION: &str = "3.0.0";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How the collector is.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    started_ms: i64,
    now_ms: i64,
    ready: bool,
    not_ready_reason: Option<String>,
    agents: BTreeMap<&'static str, usize>,
    alerts: BTreeMap<&'static str, usize>,
    receivers: Vec<Receiver>,
    /// Figures by section, as the parts of the collector give them.
    sections: Value,
}

/// Whether the process lives.
pub(super) async fn healthy() -> &'static str {
    "pitwatch-collector is healthy.\n"
}

/// Whether it does its work.
pub(super) async fn ready(State(shared): AppState) -> (StatusCode, String) {
    match shared.app.vitals.ready() {
        Ok(()) => (StatusCode::OK, "pitwatch-collector is ready.\n".to_owned()),
        // Why not is for those who have a token: /api/v1/pitwatch/status says it.
        Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "pitwatch-collector is not ready: see `pitwatch status`\n".to_owned())
        }
    }
}

/// The collector's own metrics.
pub(super) async fn metrics(State(shared): AppState) -> impl IntoResponse {
    const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, KIND)], shared.app.vitals.metrics_text())
}

/// Everything at a glance.
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
        sections: app.vitals.status(),
    })
}

/// Makes a snapshot for `pitwatch-collector backup`, which copies it.
pub(super) async fn snapshot(
    State(shared): AppState,
    Extension(principal): Extension<Principal>,
) -> Result<Success<Value>, ApiError> {
    let bytes = change(&shared, move |shared| shared.app.snapshots.take().map_err(ApiError::unavailable)).await?;
    tracing::info!(bytes, by = &*principal.name, "snapshot made");
    Ok(Success::new(json!({ "directory": crate::backup::snapshot::DIR, "bytes": bytes })))
}

/// Prometheus' `/api/v1/status/buildinfo`. Without `features`, or Grafana would take it for something else.
pub(super) async fn build_info() -> Success<Value> {
    Success::new(json!({
        "version": format!("{PROMETHEUS_VERSION}+pitwatch.{VERSION}"),
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}
