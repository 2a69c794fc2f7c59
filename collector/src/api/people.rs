//! What people do: acknowledging, assigning, commenting; incidents; what a silence would hold back.

use axum::Extension;
use axum::extract::State;
use pitwatch_alerting::incidents::{Acknowledgement, Act, Entry, Incident, What};
use pitwatch_alerting::matchers::{all_match, parse_matchers};
use pitwatch_alerting::{LabelSet, Matcher};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AppState;
use super::agents::change;
use super::envelope::{ApiError, Failure, Success};
use super::openapi::parameters::Span;
use super::openapi::shapes;
use super::params::{Params, Raw, Segment};
use super::rules::own_alert;
use crate::access::Principal;
use crate::alerts::desk::DeskError;

/// Most incidents of one answer, where the request says nothing, and at all.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Longest comment and name in bytes.
const TEXT_MAX_BYTES: usize = 2_000;

impl From<DeskError> for ApiError {
    fn from(error: DeskError) -> Self {
        let message = crate::error_chain(&error);
        match error {
            DeskError::NoAlert(_) | DeskError::NoIncident(_) => ApiError::not_found(message),
            DeskError::Silence(_) => ApiError::bad_data(message),
            DeskError::State(_) => ApiError::unavailable(message),
            DeskError::Random => ApiError::internal(message),
        }
    }
}

/// What somebody says beside what they do.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    comment: String,
    /// Who shall have it.
    to: Option<String>,
}

fn read(what: &str, body: &[u8]) -> Result<(Act, String), ApiError> {
    let said: Said = match body {
        [] => Said::default(),
        body => serde_json::from_slice(body).map_err(|error| ApiError::bad_data(format!("cannot read it: {error}")))?,
    };
    if said.comment.len() > TEXT_MAX_BYTES || said.to.as_ref().is_some_and(|to| to.len() > TEXT_MAX_BYTES) {
        return Err(ApiError::bad_data(format!("a comment or name of more than {TEXT_MAX_BYTES} bytes")));
    }
    let act = match what {
        "ack" => Act::Acknowledge,
        "unack" => Act::Unacknowledge,
        "assign" => Act::Assign(said.to.ok_or_else(|| ApiError::bad_data("\"to\" says who shall have it"))?),
        "comment" if said.comment.trim().is_empty() => return Err(ApiError::bad_data("\"comment\" is empty")),
        "comment" => Act::Comment,
        "close" => Act::Close,
        other => {
            return Err(ApiError::not_found(format!("{other:?} is none of ack, unack, assign, comment, close")));
        }
    };
    Ok((act, said.comment))
}

pub(super) fn acknowledged_json(acknowledged: Option<&Acknowledgement>) -> Value {
    acknowledged.map_or(Value::Null, |it| json!({ "by": it.by, "at_ms": it.at_ms, "comment": it.comment }))
}

/// Somebody does something about an alert.
#[utoipa::path(post, path = "/api/v1/pitwatch/alerts/{fingerprint}/{what}", tag = "Rules and alerts",
    params(("fingerprint" = String, Path, description = "The alert's"), ("what" = String, Path, pattern = "^(ack|unack|assign|comment|close)$", description = "What is done; `close` is for incidents")),
    request_body = Option<shapes::Remark>,
    responses(
        (status = 200, body = Success<shapes::AlertMarks>),
        (status = 404, description = "There is no such alert, or nothing of that name to do", body = Failure),
    ))]
pub(super) async fn act_on_alert(
    State(shared): AppState,
    Extension(principal): Extension<Principal>,
    Segment((fingerprint, what)): Segment<(String, String)>,
    Raw(body): Raw,
) -> Result<Success<Value>, ApiError> {
    let (act, comment) = read(&what, &body)?;
    let marks = change(&shared, move |shared| {
        let by = &*principal.name;
        shared.app.desk.act_on_alert(&fingerprint, &act, by, &comment).map_err(ApiError::from)
    });
    let marks = marks.await?;
    Ok(Success::new(json!({
        "acknowledged": acknowledged_json(marks.acknowledged.as_ref()),
        "assigned_to": marks.assigned_to,
        "incident": marks.incident,
    })))
}

fn incident_json(incident: &Incident) -> Value {
    json!({
        "id": incident.id,
        "cause": incident.cause,
        "title": incident.title,
        "severity": incident.severity,
        "state": if incident.closed_ms.is_some() { "closed" } else { "open" },
        "opened_ms": incident.opened_ms,
        "closed_ms": incident.closed_ms,
        "acknowledged": acknowledged_json(incident.acknowledged.as_ref()),
        "assigned_to": incident.assigned_to,
        "alerts": incident.alerts,
        "firing": incident.firing.len() + incident.firing_more as usize,
        "entries": incident.entries,
    })
}

fn entry_json(entry: &Entry) -> Value {
    json!({
        "at_ms": entry.at_ms,
        "what": word(entry.what),
        "fingerprint": entry.fingerprint,
        "fired_at_ms": entry.fired_at_ms,
        "by": entry.by,
        "text": entry.text,
    })
}

fn word(what: What) -> &'static str {
    match what {
        What::Fired => "fired",
        What::NoData => "no_data",
        What::Resolved => "resolved",
        What::Withdrawn => "withdrawn",
        What::Acknowledged => "acknowledged",
        What::Unacknowledged => "unacknowledged",
        What::Assigned => "assigned",
        What::Commented => "commented",
        What::Closed => "closed",
    }
}

/// Incidents, the latest first.
#[utoipa::path(get, path = "/api/v1/pitwatch/incidents", tag = "Rules and alerts",
    params(Span, ("state" = Option<String>, Query, pattern = "^(open|all)$", description = "`open`: only those"),
        ("limit" = Option<u32>, Query, description = "Most incidents, the latest first")),
    responses((status = 200, body = Success<shapes::Incidents>)))]
pub(super) async fn incidents(State(shared): AppState, params: Params) -> Result<Success<Value>, ApiError> {
    let open_only = match params.get("state") {
        Some("open") => true,
        None | Some("all") => false,
        Some(other) => return Err(ApiError::bad_parameter("state", format!("{other:?} is neither open nor all"))),
    };
    let (start, end) = (params.time("start")?, params.time("end")?);
    let limit = match params.get("limit") {
        None => LIMIT,
        Some(text) => text.parse().map_err(|_| ApiError::bad_parameter("limit", format!("{text:?} is no number")))?,
    };
    let fits = |incident: &Incident| {
        (!open_only || incident.closed_ms.is_none())
            && start.is_none_or(|start| incident.closed_ms.is_none_or(|closed| closed >= start))
            && end.is_none_or(|end| incident.opened_ms <= end)
    };
    let all: Vec<Incident> = shared.app.desk.incidents().into_iter().filter(fits).collect();
    let shown: Vec<Value> = all.iter().take(limit.min(LIMIT_MAX)).map(incident_json).collect();
    Ok(Success::new(json!({ "more": all.len() > shown.len(), "incidents": shown })))
}

/// An incident with its timeline.
#[utoipa::path(get, path = "/api/v1/pitwatch/incidents/{id}", tag = "Rules and alerts",
    params(("id" = u64, Path, description = "The incident's")),
    responses(
        (status = 200, body = Success<shapes::IncidentTold>),
        (status = 404, description = "There is no such incident", body = Failure),
    ))]
pub(super) async fn incident(State(shared): AppState, Segment(id): Segment<u64>) -> Result<Success<Value>, ApiError> {
    let found = change(&shared, move |shared| shared.app.desk.incident(id).map_err(ApiError::from)).await?;
    let mut json = incident_json(&found.0);
    json["timeline"] = found.1.iter().map(entry_json).collect();
    Ok(Success::new(json))
}

/// Somebody does something about an incident.
#[utoipa::path(post, path = "/api/v1/pitwatch/incidents/{id}/{what}", tag = "Rules and alerts",
    params(("id" = u64, Path, description = "The incident's"), ("what" = String, Path, pattern = "^(ack|unack|assign|comment|close)$", description = "What is done; `close` is for incidents")),
    request_body = Option<shapes::Remark>,
    responses(
        (status = 200, body = Success<shapes::Incident>),
        (status = 404, description = "There is no such incident, or nothing of that name to do", body = Failure),
    ))]
pub(super) async fn act_on_incident(
    State(shared): AppState,
    Extension(principal): Extension<Principal>,
    Segment((id, what)): Segment<(u64, String)>,
    Raw(body): Raw,
) -> Result<Success<Value>, ApiError> {
    let (act, comment) = read(&what, &body)?;
    let incident = change(&shared, move |shared| {
        shared.app.desk.act_on_incident(id, &act, &principal.name, &comment).map_err(ApiError::from)
    });
    Ok(Success::new(incident_json(&incident.await?)))
}

/// Matchers as objects or as one text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Matchers {
    Text(String),
    List(Vec<Matcher>),
}

#[derive(Deserialize)]
struct Preview {
    matchers: Matchers,
}

/// The alerts that a silence would hold back now.
#[utoipa::path(post, path = "/api/v1/pitwatch/silences/preview", tag = "Rules and alerts",
    request_body = shapes::SilencePreview,
    responses((status = 200, body = Success<shapes::SilencePreviewed>)))]
pub(super) async fn preview(State(shared): AppState, Raw(body): Raw) -> Result<Success<Value>, ApiError> {
    let wrong = |error: serde_json::Error| ApiError::bad_data(format!("cannot read the matchers: {error}"));
    let preview: Preview = serde_json::from_slice(&body).map_err(wrong)?;
    let matchers = match preview.matchers {
        Matchers::List(list) => list,
        Matchers::Text(text) => parse_matchers(&text).map_err(ApiError::bad_data)?,
    };
    if matchers.iter().all(|matcher| matcher.matches_value("")) {
        return Err(ApiError::bad_data("these matchers match everything: at least one must not match the empty text"));
    }
    let fits = |labels: &std::collections::BTreeMap<String, String>| {
        all_match(&matchers, &LabelSet::new(labels.iter().map(|(name, value)| (&**name, &**value))))
    };
    let all = shared.app.alarms.alerts();
    let total = all.len();
    let alerts: Vec<Value> =
        all.into_iter().filter(|alert| fits(&alert.labels)).map(|alert| json!(own_alert(alert))).collect();
    Ok(Success::new(json!({ "of": total, "alerts": alerts })))
}
