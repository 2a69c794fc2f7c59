//! `/api/v1/pitwatch/session`: a browser signs in with a token and gets a cookie.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequest, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::agents::change;
use super::auth::{self, SESSION_COOKIE};
use super::envelope::{ApiError, Failure, Success};
use super::params::{Body, Params};
use super::serve::{Encrypted, Peer};
use super::{AppState, Shared};
use crate::access::{Principal, SESSION_TTL_MS};
use crate::clock::unix_ms;

/// What a program sends to sign in; the page's form sends the same as a form.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignIn {
    /// A token of this API
    token: String,
}

/// Who is signed in.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    name: String,
    /// `writer`, `viewer`, `operator` or `admin`
    role: &'static str,
}

/// Nothing more is to be said.
#[derive(Serialize, ToSchema)]
pub(super) struct SignedOut {}

/// Signs in: sets the cookie of a session.
#[utoipa::path(post, path = "/api/v1/pitwatch/session", tag = "Tokens and sessions",
    request_body(content((SignIn = "application/json"), (SignIn = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "To JSON: who it is", body = Success<Session>),
        (status = 303, description = "To a form: back to the first page"),
        (status = 401, description = "The token is wrong, deleted or past its end", body = Failure),
    ))]
pub(super) async fn begin(State(shared): AppState, request: Request) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    let is_encrypted = is_encrypted(&headers, request.extensions());
    if !auth::is_same_origin(&headers) {
        return Err(ApiError::forbidden("another site may not sign you in: open the collector's own address"));
    }
    count(&shared, request.extensions())?;
    let is_json =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let token = if is_json {
        Body::<SignIn>::from_request(request, &()).await?.0.token
    } else {
        let params = Params::from_request(request, &()).await?;
        params.get("token").unwrap_or_default().trim().to_owned()
    };
    let (text, principal) = open(&shared, token, &headers).await?;
    let answer = if is_json { describe(&principal).into_response() } else { Redirect::to("/").into_response() };
    Ok(with_cookie(answer, &cookie(&text, is_encrypted, SESSION_TTL_MS / 1000)))
}

/// Who asks: of a session or of a token.
#[utoipa::path(get, path = "/api/v1/pitwatch/session", tag = "Tokens and sessions",
    responses((status = 200, body = Success<Session>), (status = 401, description = "Nobody", body = Failure)))]
pub(super) async fn show(State(shared): AppState, headers: HeaderMap) -> Result<Success<Session>, ApiError> {
    Ok(describe(&auth::identify(&shared.app.access, &headers, &Method::GET)?))
}

/// Signs out: ends the session and takes its cookie away.
#[utoipa::path(delete, path = "/api/v1/pitwatch/session", tag = "Tokens and sessions",
    responses((status = 200, body = Success<SignedOut>), (status = 401, description = "Nobody is signed in", body = Failure)))]
pub(super) async fn end(State(shared): AppState, request: Request) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    let is_encrypted = is_encrypted(&headers, request.extensions());
    auth::identify(&shared.app.access, &headers, &Method::DELETE)?;
    if let Some(text) = auth::session_cookie(&headers).map(str::to_owned) {
        change(&shared, move |shared| Ok(shared.app.access.end_session(&text)?)).await?;
    }
    let answer = Success::new(SignedOut {}).into_response();
    Ok(with_cookie(answer, &cookie("", is_encrypted, 0)))
}

/// The answer to a link with a token in it: a cookie, and the same page without the token.
pub(super) async fn begin_by_link(
    State(shared): AppState,
    token: String,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Response, ApiError> {
    // A link on somebody's page would make a visitor work under a token of theirs.
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if site.is_some_and(|site| !matches!(site, "none" | "same-origin")) {
        return Err(ApiError::forbidden("another site's link may not sign you in: copy it into the address bar"));
    }
    count(&shared, extensions)?;
    let (text, _) = open(&shared, token, headers).await?;
    let cookie = cookie(&text, is_encrypted(headers, extensions), SESSION_TTL_MS / 1000);
    Ok(with_cookie(Redirect::to("/").into_response(), &cookie))
}

/// Counts one try of the address that a request came from.
fn count(shared: &Shared, extensions: &Extensions) -> Result<(), ApiError> {
    let Some(Peer(peer)) = extensions.get::<Peer>() else { return Ok(()) };
    shared.attempts.take(peer.ip(), Instant::now()).map_err(|wait| {
        ApiError::too_often(format!("too many tries to sign in: the next may be in {} s", wait.as_secs() + 1))
    })
}

/// A new session, which takes the place of the one that the browser had.
async fn open(shared: &Arc<Shared>, token: String, headers: &HeaderMap) -> Result<(String, Principal), ApiError> {
    let before = auth::session_cookie(headers).map(str::to_owned);
    let opened = change(shared, move |shared| {
        let opened = shared.app.access.begin_session(&token, unix_ms())?;
        if let (Some(_), Some(before)) = (&opened, before) {
            shared.app.access.end_session(&before)?;
        }
        Ok(opened)
    });
    let opened = opened.await?;
    opened.ok_or_else(|| ApiError::no_token("the token is wrong, deleted or past its end"))
}

fn describe(principal: &Principal) -> Success<Session> {
    Success::new(Session { name: principal.name.to_string(), role: principal.role.as_str() })
}

/// Whether the browser's own connection is encrypted: a proxy that does TLS says so.
fn is_encrypted(headers: &HeaderMap, extensions: &Extensions) -> bool {
    let forwarded = headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https");
    forwarded || extensions.get::<Encrypted>().is_some()
}

/// Without TLS a browser would drop a cookie that is marked as for TLS alone.
fn cookie(text: &str, is_encrypted: bool, max_age_secs: i64) -> String {
    let secure = if is_encrypted { "; Secure" } else { "" };
    format!("{SESSION_COOKIE}={text}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_secs}{secure}")
}

fn with_cookie(mut answer: Response, cookie: &str) -> Response {
    match HeaderValue::from_str(cookie) {
        Ok(value) => {
            answer.headers_mut().insert(header::SET_COOKIE, value);
            answer
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
