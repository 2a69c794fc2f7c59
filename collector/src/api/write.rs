//! `/api/v1/write`: remote write in. Headers, bounds and status codes; the messages are [`crate::remote_write`]'s.
//!
//! A request is answered when its samples are durable, not before. What cannot be taken for a reason that will pass is
//! 503, so that the sender comes again; what will never be taken is 400, with the rest of the request stored.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pitwatch_history::RowsAppended;
use tokio::sync::{Semaphore, oneshot};

use super::envelope::{ApiError, Failure};
use super::openapi::shapes::Bytes;
use super::{AppState, Shared};
use crate::error_chain;
use crate::ingest::{Event, Rows};
use crate::remote_write::{self, DecodeError, Request, Version};

/// Requests that are read, decoded and stored at once; the others wait. With what one may need this bounds memory.
pub const WRITES_AT_ONCE: usize = 8;
/// Largest body in bytes, as it is sent.
pub const WRITE_BODY_MAX_BYTES: usize = remote_write::UNPACKED_MAX_BYTES;
/// How long a request may wait for its turn, and a body may take to come.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long samples may take to be durable before the sender is told to come again.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// When a sender that is told so may come again, seconds.
const RETRY_AFTER_SECS: &str = "1";

const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

/// Turns of requests.
#[derive(Debug)]
pub(super) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(WRITES_AT_ONCE))
    }
}

/// Remote write, 1.0 and 2.0: stores the samples of a request, and answers when they are on disk.
#[utoipa::path(post, path = "/api/v1/write", tag = "Samples in",
    params(("Content-Encoding" = String, Header, description = "`snappy`, the block format")),
    request_body(content = inline(Bytes), content_type = "application/x-protobuf",
        description = "`prometheus.WriteRequest`, or with `;proto=io.prometheus.write.v2.Request` that"),
    responses(
        (status = 200, description = "Every sample is on disk"),
        (status = 400, description = "The body is not what its type says; or some samples are not stored, the others are", body = Failure),
        (status = 413, description = "Over a limit of size: nothing is stored", body = Failure),
        (status = 415, description = "Another content type or encoding", body = Failure),
        (status = 503, description = "Nothing is acknowledged, send it again", body = Failure),
    ))]
pub(super) async fn write(State(shared): AppState, headers: HeaderMap, body: Body) -> Response {
    let stats = shared.app.ingest.stats.clone();
    stats.writes.fetch_add(1, Ordering::Relaxed);
    let mut response = store(shared, &headers, body).await.unwrap_or_else(IntoResponse::into_response);
    if !response.status().is_success() {
        stats.writes_refused.fetch_add(1, Ordering::Relaxed);
    }
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
    }
    response
}

async fn store(shared: Arc<Shared>, headers: &HeaderMap, body: Body) -> Result<Response, ApiError> {
    let version = version(headers)?;
    let turn = tokio::time::timeout(TURN_TIMEOUT, shared.writes.0.acquire()).await;
    let Ok(Ok(_turn)) = turn else { return Err(later("many write at once")) };
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, WRITE_BODY_MAX_BYTES)).await;
    let slow = || ApiError::slow_body(format!("the body took longer than {} s", BODY_TIMEOUT.as_secs()));
    let too_large =
        || ApiError::too_large(format!("the body has more than {WRITE_BODY_MAX_BYTES} bytes, or broke off"));
    let body = body.map_err(|_| slow())?.map_err(|_| too_large())?;
    let fleet = shared.app.fleet.clone();
    let decoding = tokio::task::spawn_blocking(move || {
        let bytes = remote_write::unpack(&body)?;
        remote_write::decode(version, &bytes, &|name| fleet.is_agent(name))
    });
    let decoded = decoding.await.map_err(|_| ApiError::internal("the request could not be read"))?;
    let mut request = decoded.map_err(|error| refusal(&error))?;
    let series = std::mem::take(&mut request.series);
    let (reply, done) = oneshot::channel();
    if !shared.app.ingest.send(Event::Rows(Rows { series, reply })).await {
        return Err(later("the collector is stopping"));
    }
    match tokio::time::timeout(COMMIT_TIMEOUT, done).await {
        Ok(Ok(appended)) => Ok(answer(version, &request, &appended, &shared)),
        _ => Err(later("history cannot be written now")),
    }
}

/// Which message the headers announce.
fn version(headers: &HeaderMap) -> Result<Version, ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let encoding = text(header::CONTENT_ENCODING);
    if !encoding.eq_ignore_ascii_case("snappy") {
        return Err(ApiError::unsupported(format!("Content-Encoding is {encoding:?}: it must be snappy")));
    }
    let kind = text(header::CONTENT_TYPE);
    let mut parts = kind.split(';').map(str::trim);
    let is_protobuf = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-protobuf"));
    let proto = parts.find_map(|part| part.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("proto")));
    match proto.map(|(_, value)| value.trim_matches('"')) {
        None | Some("prometheus.WriteRequest") if is_protobuf => Ok(Version::One),
        Some("io.prometheus.write.v2.Request") if is_protobuf => Ok(Version::Two),
        _ => Err(ApiError::unsupported(format!(
            "Content-Type is {kind:?}: it must be application/x-protobuf, with proto=prometheus.WriteRequest or \
             proto=io.prometheus.write.v2.Request"
        ))),
    }
}

fn refusal(error: &DecodeError) -> ApiError {
    match error {
        DecodeError::TooLarge { .. } => ApiError::too_large(error_chain(error)),
        _ => ApiError::bad_data(error_chain(error)),
    }
}

/// 503 for a reason that will pass.
fn later(reason: &str) -> ApiError {
    ApiError::unavailable(format!("{reason}: nothing is acknowledged, send it again"))
}

fn answer(version: Version, request: &Request, appended: &RowsAppended, shared: &Shared) -> Response {
    let refused = request.refused_samples + appended.refused_samples + appended.conflicting;
    let stats = &shared.app.ingest.stats;
    stats.rows_samples.fetch_add(appended.samples, Ordering::Relaxed);
    stats.rows_refused.fetch_add(refused + request.histograms, Ordering::Relaxed);
    let limit = (appended.refused_series > 0)
        .then(|| format!("{} series are over a limit of the collector", appended.refused_series));
    let conflict =
        (appended.conflicting > 0).then(|| format!("{} samples have another value already", appended.conflicting));
    let reasons: Vec<String> = [request.reason.clone(), limit, conflict].into_iter().flatten().collect();
    let mut response = if reasons.is_empty() {
        StatusCode::OK.into_response()
    } else {
        let samples = appended.samples + refused;
        let histograms = request.histograms;
        let lost = format!("{refused} of {samples} samples and {histograms} histograms are not stored, the others are");
        ApiError::bad_data(format!("{lost}: {}", reasons.join("; "))).into_response()
    };
    if version == Version::Two {
        let headers = response.headers_mut();
        headers.insert(SAMPLES_WRITTEN, appended.samples.into());
        headers.insert(HISTOGRAMS_WRITTEN, 0.into());
        headers.insert(EXEMPLARS_WRITTEN, 0.into());
    }
    response
}
