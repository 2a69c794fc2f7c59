//! Parameters of a request, from its address and its form, and the values in them: times, durations, selectors.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{FormRejection, JsonRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::{Form, Json};
use pitwatch_promql::Matcher;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::BODY_MAX_BYTES;
use super::envelope::ApiError;

/// Most parameters of one request.
const PARAMETERS_MAX: usize = 1000;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// What Prometheus' clients send for the earliest and the latest time.
const EARLIEST: &str = "-292273086-05-16T16:47:06Z";
const LATEST: &str = "+292277025-08-18T07:12:54.999999999Z";
/// The earliest and latest time that the engine takes, in milliseconds.
const TIME_MAX_MS: i64 = 1 << 53;

/// The parameters: those of the form before those of the address, each in order.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let wrong = |error: &dyn std::fmt::Display| ApiError::bad_data(format!("cannot read the parameters: {error}"));
        let Query(in_address) =
            Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map_err(|error| wrong(&error))?;
        let mut all = if request.method() == Method::POST && is_form(&request) {
            let form = Form::<Vec<(String, String)>>::from_request(request, state);
            let form = tokio::time::timeout(BODY_TIMEOUT, form).await;
            let slow = || ApiError::slow_body(format!("the form took longer than {} s", BODY_TIMEOUT.as_secs()));
            form.map_err(|_| slow())?.map_err(|rejection| form_error(&rejection))?.0
        } else {
            Vec::new()
        };
        all.extend(in_address);
        if all.len() > PARAMETERS_MAX {
            return Err(ApiError::bad_data(format!("{} parameters, more than {PARAMETERS_MAX}", all.len())));
        }
        Ok(Self(all))
    }
}

fn is_form(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
}

fn form_error(rejection: &FormRejection) -> ApiError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(format!("the form has more than {BODY_MAX_BYTES} bytes")),
        _ => ApiError::bad_data(format!("cannot read the form: {rejection}")),
    }
}

/// The one part of a path that has a name in it; of several, a tuple.
#[derive(Debug)]
pub(super) struct Segment<T = String>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segment<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let part = Path::<T>::from_request_parts(parts, state).await;
        part.map(|Path(text)| Self(text)).map_err(|error| ApiError::bad_data(format!("cannot read the path: {error}")))
    }
}

/// A body of JSON.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = tokio::time::timeout(BODY_TIMEOUT, Json::<T>::from_request(request, state)).await;
        let slow = || ApiError::slow_body(format!("the body took longer than {} s", BODY_TIMEOUT.as_secs()));
        body.map_err(|_| slow())?.map(|Json(value)| Self(value)).map_err(|rejection| json_error(&rejection))
    }
}

/// A body as it is.
#[derive(Debug)]
pub(super) struct Raw(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await;
        let slow = || ApiError::slow_body(format!("the body took longer than {} s", BODY_TIMEOUT.as_secs()));
        let large = |_| ApiError::too_large(format!("the body has more than {BODY_MAX_BYTES} bytes, or broke off"));
        body.map_err(|_| slow())?.map(Self).map_err(large)
    }
}

fn json_error(rejection: &JsonRejection) -> ApiError {
    let text = rejection.body_text();
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(format!("the body has more than {BODY_MAX_BYTES} bytes")),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::unsupported("the body must be JSON, with that Content-Type"),
        _ => ApiError::bad_data(format!("cannot read the request: {text}")),
    }
}

impl Params {
    /// The first value of that name that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, value)| n == name && !value.is_empty()).map(|(_, value)| &**value)
    }

    /// Every value of that name that is not empty.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, value)| n == name && !value.is_empty()).map(|(_, value)| &**value)
    }

    /// Whether something of that name is asked for.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A time, if it is given.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let read = |text| parse_time(text).ok_or_else(|| format!("cannot parse {text:?} to a valid timestamp"));
        self.get(name).map(read).transpose().map_err(|reason| ApiError::bad_parameter(name, reason))
    }

    /// A length of time in milliseconds, if it is given.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let read = |text| parse_duration(text).ok_or_else(|| format!("cannot parse {text:?} to a valid duration"));
        self.get(name).map(read).transpose().map_err(|reason| ApiError::bad_parameter(name, reason))
    }

    /// A length of time that is needed.
    pub(super) fn needed_duration(&self, name: &str) -> Result<i64, ApiError> {
        self.duration(name)?.ok_or_else(|| ApiError::bad_parameter(name, "cannot parse \"\" to a valid duration"))
    }

    /// A time that is needed.
    pub(super) fn needed_time(&self, name: &str) -> Result<i64, ApiError> {
        self.time(name)?.ok_or_else(|| ApiError::bad_parameter(name, "cannot parse \"\" to a valid timestamp"))
    }

    /// `limit`: how many results; `None` for all, as is 0.
    pub(super) fn limit(&self) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(None) };
        match text.parse::<i64>() {
            Ok(limit) if limit >= 0 => Ok(usize::try_from(limit).ok().filter(|limit| *limit > 0)),
            Ok(_) => Err(ApiError::bad_parameter("limit", "limit must be non-negative")),
            Err(_) => Err(ApiError::bad_parameter("limit", format!("cannot parse {text:?} to a number"))),
        }
    }

    /// A limit of `/api/v1/metadata`: there anything below 0 is none, and 0 is nothing.
    pub(super) fn metadata_limit(&self, name: &str) -> Result<usize, ApiError> {
        let Some(text) = self.get(name) else { return Ok(usize::MAX) };
        let limit = text.parse::<i64>().map_err(|_| ApiError::bad_data(format!("{name} must be a number")))?;
        Ok(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// `match[]`: each a selector.
    pub(super) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        let read = |text| pitwatch_promql::parse_selector(text).map_err(|e| ApiError::bad_parameter("match[]", e));
        self.all("match[]").map(read).collect()
    }

    /// `start` and `end`, all of time where they are not given, as history has them: the start is not within.
    pub(super) fn span(&self) -> Result<(i64, i64), ApiError> {
        let start = self.time("start")?.unwrap_or(-TIME_MAX_MS);
        let end = self.time("end")?.unwrap_or(TIME_MAX_MS);
        if end < start {
            return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
        }
        Ok((start.saturating_sub(1), end))
    }
}

/// Milliseconds of a time in seconds since 1970 or by RFC 3339.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    match text {
        EARLIEST => return Some(-TIME_MAX_MS),
        LATEST => return Some(TIME_MAX_MS),
        _ => {}
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return milliseconds(seconds);
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

/// Milliseconds of a length of time in seconds or such as `5m`.
pub(super) fn parse_duration(text: &str) -> Option<i64> {
    match text.parse::<f64>() {
        Ok(seconds) => milliseconds(seconds),
        Err(_) => pitwatch_promql::parse_duration(text),
    }
}

fn milliseconds(seconds: f64) -> Option<i64> {
    let ms = (seconds * 1000.0).round();
    (ms.abs() <= TIME_MAX_MS as f64).then_some(ms as i64)
}

/// A time as Prometheus' API writes it where it does not write seconds.
pub(super) fn rfc3339(ms: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| "0001-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_three_forms() {
        for (text, ms) in [
            ("1772331247", Some(1_772_331_247_000)),
            ("1772331247.1235", Some(1_772_331_247_124)),
            ("-1.5", Some(-1500)),
            ("1.5e3", Some(1_500_000)),
            ("2026-03-01T02:14:07Z", Some(1_772_331_247_000)),
            ("2026-03-01T02:14:07.25+01:00", Some(1_772_327_647_250)),
            (EARLIEST, Some(-TIME_MAX_MS)),
            (LATEST, Some(TIME_MAX_MS)),
            ("NaN", None),
            ("inf", None),
            ("1e300", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_time(text), ms, "{text}");
        }
        assert_eq!(rfc3339(1_772_331_247_250), "2026-03-01T02:14:07.25Z");
    }

    #[test]
    fn durations_come_in_two_forms() {
        for (text, ms) in [
            ("15", Some(15_000)),
            ("0.5", Some(500)),
            ("1m30s", Some(90_000)),
            ("-1", Some(-1000)),
            ("5 m", None),
            ("NaN", None),
        ] {
            assert_eq!(parse_duration(text), ms, "{text}");
        }
    }

    #[test]
    fn empty_parameters_are_none() {
        let params = Params(vec![("a".into(), String::new()), ("a".into(), "1".into()), ("limit".into(), "-1".into())]);
        assert_eq!(params.get("a"), Some("1"));
        assert!(!params.has("b"));
        assert!(params.limit().is_err());
        assert_eq!(params.span().unwrap(), (-TIME_MAX_MS - 1, TIME_MAX_MS));
    }
}
