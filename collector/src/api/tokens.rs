//! `/api/v1/pitwatch/tokens`: tokens of agents that enrol, and of people and programs that ask.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::agents::change;
use super::envelope::{ApiError, Failure, Success};
use super::params::{Body, Segment};
use crate::access::{AccessError, Principal, Role, TokenRequest};
use crate::clock::unix_ms;
use crate::error_chain;

/// Longest life of an API token that has an end, in seconds.
const API_TTL_MAX_SECS: u64 = 10 * 366 * 24 * 60 * 60;
/// How long an enrolment token lives where nothing is said, in seconds.
const ENROLL_TTL_SECS: u64 = 60 * 60;

/// A wish for a token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
#[schema(as = TokenWish)]
pub(super) enum Create {
    /// For one agent, to enrol once.
    Enroll {
        /// The name that it must take; any free one if left out
        name: Option<String>,
        /// How long it may be used; an hour if left out
        #[schema(minimum = 1)]
        ttl_secs: Option<u64>,
    },
    /// For a person or a program, to ask this API.
    Api {
        /// Whose it is
        #[schema(min_length = 1)]
        name: String,
        /// `writer`, `viewer`, `operator` or `admin`
        role: String,
        /// How long it lives; without end if left out
        #[schema(minimum = 1, maximum = 316224000)]
        ttl_secs: Option<u64>,
    },
}

const _: () = assert!(API_TTL_MAX_SECS == 316_224_000, "the description above says it");

/// Every token, without secrets.
#[derive(Serialize, ToSchema)]
pub(super) struct Tokens {
    now_ms: i64,
    enroll: Vec<Enroll>,
    api: Vec<Api>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EnrolmentToken)]
struct Enroll {
    id: String,
    /// The agent that it is for, if for one
    name: Option<String>,
    expires_ms: i64,
    used: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApiToken)]
struct Api {
    id: String,
    name: String,
    /// `writer`, `viewer`, `operator` or `admin`
    role: &'static str,
    created_ms: i64,
    created_by: String,
    expires_ms: Option<i64>,
    /// To within an hour
    last_used_ms: Option<i64>,
}

/// A new token: the only answer that has its secret.
#[derive(Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[schema(as = NewToken)]
pub(super) enum Created {
    Enroll {
        token: String,
        expires_ms: i64,
        /// Where agents reach this collector, `HOST:PORT`, if its configuration says
        collector: Option<String>,
    },
    Api {
        token: String,
        id: String,
        name: String,
        role: &'static str,
        expires_ms: Option<i64>,
    },
}

/// The deleted token.
#[derive(Serialize, ToSchema)]
#[schema(as = DeletedToken)]
pub(super) struct Deleted {
    id: String,
    name: String,
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

/// Every token, without its secret.
#[utoipa::path(get, path = "/api/v1/pitwatch/tokens", tag = "Tokens and sessions",
    responses((status = 200, body = Success<Tokens>)))]
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

/// Makes a token.
#[utoipa::path(post, path = "/api/v1/pitwatch/tokens", tag = "Tokens and sessions", request_body = Create,
    responses(
        (status = 200, body = Success<Created>),
        (status = 409, description = "There are as many tokens as may be", body = Failure),
    ))]
pub(super) async fn create(
    State(shared): AppState,
    Extension(principal): Extension<Principal>,
    Body(wish): Body<Create>,
) -> Result<Success<Created>, ApiError> {
    match wish {
        Create::Enroll { name, ttl_secs } => {
            let ttl_secs = ttl_secs.unwrap_or(ENROLL_TTL_SECS);
            let made = change(&shared, move |shared| {
                let made = shared.app.fleet.create_enroll_token(name.as_deref(), ttl_secs, &principal.name);
                made.map_err(ApiError::from)
            });
            let made = made.await?;
            let collector = shared.app.agents_address.clone();
            Ok(Success::new(Created::Enroll { token: made.token, expires_ms: made.expires_ms, collector }))
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
            let (id, name, expires_ms) = (info.id, info.name, info.expires_ms);
            Ok(Success::new(Created::Api { token, id, name, role: role.as_str(), expires_ms }))
        }
    }
}

/// Deletes an API token and ends its sessions.
#[utoipa::path(delete, path = "/api/v1/pitwatch/tokens/{id}", tag = "Tokens and sessions",
    params(("id" = String, Path, description = "The token's id, as the list has it")),
    responses(
        (status = 200, body = Success<Deleted>),
        (status = 404, description = "There is no such token", body = Failure),
    ))]
pub(super) async fn delete(State(shared): AppState, Segment(id): Segment) -> Result<Success<Deleted>, ApiError> {
    let gone = change(&shared, move |shared| Ok(shared.app.access.revoke(&id)?)).await?;
    Ok(Success::new(Deleted { id: gone.id, name: gone.name }))
}

fn end_of(ttl_secs: u64, now_ms: i64) -> Result<i64, ApiError> {
    if !(1..=API_TTL_MAX_SECS).contains(&ttl_secs) {
        return Err(ApiError::bad_data(format!("ttl_secs is {ttl_secs}: it may be 1 to {API_TTL_MAX_SECS}")));
    }
    let ttl_ms = i64::try_from(ttl_secs).unwrap_or(i64::MAX).saturating_mul(1000);
    Ok(now_ms.saturating_add(ttl_ms))
}
