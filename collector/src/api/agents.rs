//! `/api/v1/pitwatch/agents`: who is enrolled, and taking that away.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::{Value, json};

use super::envelope::{ApiError, Success};
use super::seams::{AgentInfo, FleetError};
use super::{AppState, Shared};
use crate::access::Principal;
use crate::clock::unix_ms;

/// All agents.
#[derive(Serialize)]
pub(super) struct Agents {
    now_ms: i64,
    agents: Vec<Agent>,
}

/// One agent.
#[derive(Serialize)]
struct Agent {
    name: String,
    labels: BTreeMap<String, String>,
    state: &'static str,
    since_ms: Option<i64>,
    last_seen_ms: Option<i64>,
    last_sample_ms: Option<i64>,
    software: String,
    remote_address: Option<String>,
    enrolled_ms: i64,
    certificate_not_after_ms: Option<i64>,
    fingerprint: Option<String>,
    clock_skew_ms: Option<i64>,
    frames: u64,
    lost_frames: u64,
}

impl From<AgentInfo> for Agent {
    fn from(info: AgentInfo) -> Self {
        Self {
            name: info.name,
            labels: info.labels,
            state: info.state.as_str(),
            since_ms: info.since_ms,
            last_seen_ms: info.last_seen_ms,
            last_sample_ms: info.last_sample_ms,
            software: info.software,
            remote_address: info.remote_address,
            enrolled_ms: info.enrolled_ms,
            certificate_not_after_ms: info.certificate_not_after_ms,
            fingerprint: info.fingerprint,
            clock_skew_ms: info.clock_skew_ms,
            frames: info.frames,
            lost_frames: info.lost_frames,
        }
    }
}

impl From<FleetError> for ApiError {
    fn from(error: FleetError) -> Self {
        match error {
            FleetError::NotFound(_) => ApiError::not_found(error.to_string()),
            FleetError::Already(_) => ApiError::conflict(error.to_string()),
            FleetError::Refused(_) => ApiError::bad_data(error.to_string()),
            FleetError::Storage(_) => ApiError::unavailable(error.to_string()),
        }
    }
}

/// Every agent.
pub(super) async fn list(State(shared): AppState) -> Success<Agents> {
    let agents = shared.app.fleet.agents().into_iter().map(Agent::from).collect();
    Success::new(Agents { now_ms: unix_ms(), agents })
}

/// Takes an agent's certificates away.
pub(super) async fn revoke(
    State(shared): AppState,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<Success<Value>, ApiError> {
    let (revoked, by) = (name.clone(), principal.name.clone());
    change(&shared, move |shared| shared.app.fleet.revoke(&revoked, &by).map_err(ApiError::from)).await?;
    tracing::info!(agent = name, by = &*principal.name, "agent revoked");
    Ok(Success::new(json!({ "name": name })))
}

/// Does something that blocks on the disk. It is finished even if the client is gone.
pub(super) async fn change<T, F>(shared: &std::sync::Arc<Shared>, work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&Shared) -> Result<T, ApiError> + Send + 'static,
{
    let shared = shared.clone();
    let done = tokio::task::spawn_blocking(move || work(&shared)).await;
    done.unwrap_or_else(|error| Err(ApiError::internal(format!("the change stopped unexpectedly: {error}"))))
}
