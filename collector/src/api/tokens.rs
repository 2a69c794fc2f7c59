//! `/api/v1/pitwatch/tokens`: tokens of agents that enrol, and of people and programs that ask.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::AppState;
use super::agents::change;
use super::envelope::{ApiError, Success};
use crate::access::{AccessError, Principal, Role, TokenRequest};
use crate::clock::unix_ms;
use crate::error_chain;

/// Longest life of an API token that has an end, in seconds.
const API_TTL_MAX_SECS: u64 = 10 * 366 * 24 * 60 * 60;
/// How long an enrolment token lives where nothing is said, in seconds.
const ENROLL_TTL_SECS: u64 = 60 * 60;

/// A wish for a token.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Create {
    Enroll { name: Option<String>, ttl_secs: Option<u64> },
    Api { name: String, role: String, ttl_secs: Option<u64> },
}

/// Every token, without secrets.
#[derive(Serialize)]
pub(super) struct Tokens {
    now_ms: i64,
    enroll: Vec<Enroll>,
    api: Vec<Api>,
}

#[derive(Serialize)]
struct Enroll {
    id: String,
    name: Option<String>,
    expires_ms: i64,
    used: bool,
}

#[derive(Serialize)]
struct Api {
    id: String,
    name: String,
    role: &'static str,
    created_ms: i64,
    created_by: String,
    expires_ms: Option<i64>,
    last_used_ms: Option<i64>,
}

impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> Self {
        let message = error_chain(&error);
        match error {
            AccessError::Name => ApiError::bad_data(message),
            AccessError::TooMany => ApiError::conflict(message),
            AccessError::NotFound(_) => ApiError::not_found(message),
            AccessError::State(_) => ApiError::unavailable(message),
            AccessError::Random | AccessError::Record { .. } | AccessError::LocalFile { .. } => {
                ApiError::internal(message)
            }
        }
    }
}

/// Lists them.
pub(super) async fn list(State(shared): AppState) -> Success<Tokens> {
    let enroll = shared.app.fleet.enroll_tokens().into_iter();
    let enroll = enroll.map(|t| Enroll { id: t.id, name: t.name, expires_ms: t.expires_ms, used: t.used });
    let api = shared.app.access.list().into_iter().map(|token| Api {
        id: token.id,
        name: token.name,
        role: token.role.as_str(),
        created_ms: token.created_ms,
        created_by: token.created_by,
        expires_ms: token.expires_ms,
        last_used_ms: token.last_used_ms,
    });
    Success::new(Tokens { now_ms: unix_ms(), enroll: enroll.collect(), api: api.collect() })
}

/// Makes one.
pub(super) async fn create(
    State(shared): AppState,
    Extension(principal): Extension<Principal>,
    body: Result<Json<Create>, JsonRejection>,
) -> Result<Success<Value>, ApiError> {
    let Json(wish) =
        body.map_err(|error| ApiError::bad_data(format!("cannot read the request: {}", error.body_text())))?;
    match wish {
        Create::Enroll { name, ttl_secs } => {
            let ttl_secs = ttl_secs.unwrap_or(ENROLL_TTL_SECS);
            let made = change(&shared, move |shared| {
                let made = shared.app.fleet.create_enroll_token(name.as_deref(), ttl_secs, &principal.name);
                made.map_err(ApiError::from)
            });
            let made = made.await?;
            Ok(Success::new(json!({
                "kind": "enroll",
                "token": made.token,
                "expires_ms": made.expires_ms,
                "collector": shared.app.agents_address,
            })))
        }
        Create::Api { name, role, ttl_secs } => {
            let role: Role = role.parse().map_err(|error| ApiError::bad_data(format!("{error}")))?;
            let now_ms = unix_ms();
            let expires_ms = ttl_secs.map(|secs| end_of(secs, now_ms)).transpose()?;
            let made = change(&shared, move |shared| {
                let request = TokenRequest { name: &name, role, expires_ms, created_by: &principal.name };
                Ok(shared.app.access.create(&request, now_ms)?)
            });
            let (token, info) = made.await?;
            Ok(Success::new(json!({
                "kind": "api",
                "token": token,
                "id": info.id,
                "name": info.name,
                "role": role.as_str(),
                "expires_ms": info.expires_ms,
            })))
        }
    }
}

/// Deletes an API token.
pub(super) async fn delete(State(shared): AppState, Path(id): Path<String>) -> Result<Success<Value>, ApiError> {
    let gone = change(&shared, move |shared| Ok(shared.app.access.revoke(&id)?)).await?;
    Ok(Success::new(json!({ "id": gone.id, "name": gone.name })))
}

fn end_of(ttl_secs: u64, now_ms: i64) -> Result<i64, ApiError> {
    if !(1..=API_TTL_MAX_SECS).contains(&ttl_secs) {
        return Err(ApiError::bad_data(format!("ttl_secs is {ttl_secs}: it may be 1 to {API_TTL_MAX_SECS}")));
    }
    let ttl_ms = i64::try_from(ttl_secs).unwrap_or(i64::MAX).saturating_mul(1000);
    Ok(now_ms.saturating_add(ttl_ms))
}
