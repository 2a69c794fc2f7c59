//! What every answer has in common: Prometheus' envelope, error types and status codes, and a few headers.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pitwatch_promql::ErrorKind;
use serde::Serialize;
use utoipa::ToSchema;

use super::serve::Encrypted;
use crate::access::Role;
use crate::error_chain;

/// The type of a body of JSON.
pub(super) const JSON: &str = "application/json";

/// An error in Prometheus' envelope.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

/// What an [`ApiError`] says.
#[derive(Serialize, ToSchema)]
#[schema(as = Failure)]
pub(super) struct Failure {
    status: Failed,
    /// What kind of error it is: `bad_data`, `unauthorized`, `forbidden`, `not_found`, `conflict`, `execution`,
    /// `internal`, `timeout`, `canceled` or `unavailable`
    #[serde(rename = "errorType")]
    error_type: &'static str,
    /// What is wrong, in a sentence for people
    error: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Failed {
    Error,
}

/// An answer in Prometheus' envelope.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Success<T> {
    status: Succeeded,
    pub(super) data: T,
    /// What may make the answer wrong, such as that it is not whole
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
    /// What is worth to know about the answer
    #[serde(skip_serializing_if = "Vec::is_empty")]
    infos: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Succeeded {
    Success,
}

impl<T> Success<T> {
    pub(super) fn new(data: T) -> Self {
        Self::with_warnings(data, Vec::new())
    }

    pub(super) fn with_warnings(data: T, warnings: Vec<String>) -> Self {
        Self { status: Succeeded::Success, data, warnings, infos: Vec::new() }
    }
}

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        json_response(StatusCode::OK, &self)
    }
}

impl ApiError {
    /// Its status code.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    /// 400: the request is wrong.
    pub(super) fn bad_data(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_data", message)
    }

    /// 400 for one parameter.
    pub(super) fn bad_parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {reason}"))
    }

    /// 401: no token, or one that is not valid.
    pub(super) fn no_token(message: &str) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            format!(
                "{message}: send `Authorization: Bearer TOKEN`; `pitwatch token create --role viewer --for NAME` on the collector makes one"
            ),
        )
    }

    /// 403: the role is not enough.
    pub(super) fn role_needed(needed: Role, has: Role) -> Self {
        Self::forbidden(format!("the role {needed} is needed, this token has the role {has}"))
    }

    /// 403.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 405.
    pub(super) fn wrong_method(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "bad_data", message)
    }

    /// 408: the body did not come in time.
    pub(super) fn slow_body(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "bad_data", message)
    }

    /// 409: it is so already.
    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 413: over a limit of size.
    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "bad_data", message)
    }

    /// 415.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_data", message)
    }

    /// 429: it comes too often.
    pub(super) fn too_often(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "unavailable", message)
    }

    /// 500.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// 503: not now.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// 503: it took too long.
    pub(super) fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", message)
    }
}

impl From<pitwatch_promql::Error> for ApiError {
    fn from(error: pitwatch_promql::Error) -> Self {
        let kind = error.kind();
        let status = match kind {
            ErrorKind::BadData => StatusCode::BAD_REQUEST,
            ErrorKind::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Timeout | ErrorKind::Canceled => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, kind.as_str(), error_chain(&error))
    }
}

impl From<pitwatch_history::QueryError> for ApiError {
    fn from(error: pitwatch_history::QueryError) -> Self {
        Self::internal(error_chain(&error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Failure { status: Failed::Error, error_type: self.kind, error: self.message };
        let mut response = json_response(self.status, &body);
        if self.status == StatusCode::UNAUTHORIZED {
            // Not Basic, although it is taken: a browser would open its own dialogue.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A body of JSON.
pub(super) fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    // What is written here has text for keys and is no foreign type: it can always be written.
    let mut response = Response::new(Body::from(serde_json::to_vec(body).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// Headers that every answer has.
pub(super) async fn add_headers(request: Request, next: Next) -> Response {
    const ALWAYS: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    let is_strict = request.extensions().get::<Encrypted>().is_some_and(|encrypted| encrypted.is_strict);
    let mut response = next.run(request).await;
    if is_strict {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    for (name, value) in ALWAYS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
