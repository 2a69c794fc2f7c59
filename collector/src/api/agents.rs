//! `/api/v1/pitwatch/agents`: who is enrolled, and taking that away.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::envelope::{ApiError, Failure, Success};
use super::params::Segment;
use super::seams::{AgentInfo, FleetError};
use super::{AppState, Shared};
use crate::access::Principal;
use crate::clock::unix_ms;

/// All agents.
#[derive(Serialize, ToSchema)]
pub(super) struct Agents {
    now_ms: i64,
    agents: Vec<Agent>,
}

/// One agent.
#[derive(Serialize, ToSchema)]
struct Agent {
    /// Its name, the `instance` of its series
    name: String,
    labels: BTreeMap<String, String>,
    /// `connected`, `away` or `revoked`
    state: &'static str,
    /// Since when it is in that state
    since_ms: Option<i64>,
    /// When anything came from it
    last_seen_ms: Option<i64>,
    /// The time of its latest sample
    last_sample_ms: Option<i64>,
    /// Its version, as it said
    software: String,
    /// Its address while it is connected
    remote_address: Option<String>,
    enrolled_ms: i64,
    /// The end of its certificate
    certificate_not_after_ms: Option<i64>,
    /// Its certificate's SHA-256
    fingerprint: Option<String>,
    /// Its clock less the collector's
    clock_skew_ms: Option<i64>,
    /// Frames taken from it since the start
    frames: u64,
    /// Frames that it had to drop
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

/// The revoked agent.
#[derive(Serialize, ToSchema)]
pub(super) struct Revoked {
    name: String,
}

/// Every agent, revoked ones among them.
#[utoipa::path(get, path = "/api/v1/pitwatch/agents", tag = "Hosts and agents",
    responses((status = 200, body = Success<Agents>)))]
pub(super) async fn list(State(shared): AppState) -> Success<Agents> {
    let agents = shared.app.fleet.agents().into_iter().map(Agent::from).collect();
    Success::new(Agents { now_ms: unix_ms(), agents })
}

/// Takes an agent's certificates away and cuts its connection.
#[utoipa::path(post, path = "/api/v1/pitwatch/agents/{name}/revoke", tag = "Hosts and agents",
    params(("name" = String, Path, description = "The agent's name")),
    responses(
        (status = 200, body = Success<Revoked>),
        (status = 404, description = "There is no such agent", body = Failure),
        (status = 409, description = "It is revoked already", body = Failure),
    ))]
pub(super) async fn revoke(
    State(shared): AppState,
    Extension(principal): Extension<Principal>,
    Segment(name): Segment,
) -> Result<Success<Revoked>, ApiError> {
    let (revoked, by) = (name.clone(), principal.name.clone());
    change(&shared, move |shared| shared.app.fleet.revoke(&revoked, &by).map_err(ApiError::from)).await?;
    tracing::info!(agent = name, by = &*principal.name, "agent revoked");
    Ok(Success::new(Revoked { name }))
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
