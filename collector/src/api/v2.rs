//! `/api/v2`: Alertmanager's API for silences, alerts, groups, receivers and status, so that `amtool` and its user
//! interfaces work. Answers and errors have Alertmanager's forms, not Prometheus' envelope.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pitwatch_alerting::matchers::{self, all_match};
use pitwatch_alerting::outside::Given;
use pitwatch_alerting::routing::interval::TimeInterval;
use pitwatch_alerting::silences::{Silence, SilenceError};
use pitwatch_alerting::time::rfc3339;
use pitwatch_alerting::{LabelSet, Matcher};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AppState;
use super::envelope::{ApiError, json_response};
use super::openapi::parameters::Wanted;
use super::openapi::shapes;
use super::params::{Params, Raw, Segment, parse_time};
use super::seams::{AlertInfo, AlertState};
use crate::alerts::desk::DeskError;
use crate::clock::unix_ms;

/// An error as Alertmanager writes it: a JSON text.
pub(super) struct V2Error(StatusCode, String);

impl V2Error {
    fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }
}

impl IntoResponse for V2Error {
    fn into_response(self) -> Response {
        json_response(self.0, &self.1)
    }
}

impl From<ApiError> for V2Error {
    fn from(error: ApiError) -> Self {
        Self(error.status(), error.to_string())
    }
}

impl From<DeskError> for V2Error {
    fn from(error: DeskError) -> Self {
        let status = match &error {
            DeskError::Silence(SilenceError::NotFound(_)) => StatusCode::NOT_FOUND,
            DeskError::Silence(_) => StatusCode::BAD_REQUEST,
            DeskError::NoAlert(_) | DeskError::NoIncident(_) => StatusCode::NOT_FOUND,
            DeskError::State(_) | DeskError::Random => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, crate::error_chain(&error))
    }
}

type Answer = Result<Response, V2Error>;
/// A refusal of what all endpoints read alike has these endpoints' form, too.
type Pairs = Result<Params, ApiError>;
type Id = Result<Segment, ApiError>;

fn ok(body: &Value) -> Answer {
    Ok(json_response(StatusCode::OK, body))
}

fn filter(pairs: &Params) -> Result<Vec<Matcher>, V2Error> {
    let mut all = Vec::new();
    for text in pairs.all("filter") {
        all.extend(
            matchers::parse_matchers(text).map_err(|wrong| V2Error::bad(format!("bad matcher format: {wrong}")))?,
        );
    }
    Ok(all)
}

fn flag(pairs: &Params, name: &str) -> bool {
    pairs.get(name) != Some("false")
}

/// A silence as it is written and answered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    id: Option<String>,
    matchers: Vec<Matcher>,
    starts_at: String,
    ends_at: String,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    comment: String,
    /// Ours: between its start and its end it holds only then.
    #[serde(default)]
    recurrence: Vec<TimeInterval>,
}

pub(super) fn silence_json(silence: &Silence, now_ms: i64) -> Value {
    let mut json = json!({
        "id": silence.id,
        "status": { "state": silence.state(now_ms).as_str() },
        "updatedAt": rfc3339(silence.updated_ms),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "endsAt": rfc3339(silence.ends_ms),
        "matchers": silence.matchers,
        "startsAt": rfc3339(silence.starts_ms),
    });
    if !silence.recurrence.is_empty() {
        json["recurrence"] = json!(silence.recurrence);
    }
    json
}

/// Every silence, those that end first before the others, active ones first.
#[utoipa::path(get, path = "/api/v2/silences", tag = "Alertmanager",
    params(("filter" = Option<Vec<String>>, Query, description = "Matchers: silences that have all of them")),
    responses((status = 200, body = Vec<shapes::Silence>), (status = 400, description = "A parameter or the body is wrong", content_type = "application/json", body = String)))]
pub(super) async fn silences(State(shared): AppState, pairs: Pairs) -> Answer {
    let pairs = pairs?;
    let (wanted, now_ms) = (filter(&pairs)?, unix_ms());
    let fits = |silence: &Silence| {
        wanted.iter().all(|matcher| {
            silence.matchers.iter().any(|one| one.name() == matcher.name() && matcher.matches_value(one.value()))
        })
    };
    let mut all: Vec<Silence> = shared.app.desk.silences().into_iter().filter(fits).collect();
    all.sort_by_key(|silence| (silence.state(now_ms), silence.ends_ms));
    ok(&all.iter().map(|silence| silence_json(silence, now_ms)).collect())
}

/// One silence.
#[utoipa::path(get, path = "/api/v2/silence/{id}", tag = "Alertmanager",
    params(("id" = String, Path, description = "The silence's")),
    responses((status = 200, body = shapes::Silence), (status = 400, description = "A parameter or the body is wrong", content_type = "application/json", body = String), (status = 404, description = "There is no such silence", content_type = "application/json", body = String)))]
pub(super) async fn silence(State(shared): AppState, id: Id) -> Answer {
    let Segment(id) = id?;
    let silence = shared.app.desk.silences().into_iter().find(|silence| silence.id == id);
    let silence = silence.ok_or(V2Error(StatusCode::NOT_FOUND, format!("silence {id} not found")))?;
    ok(&silence_json(&silence, unix_ms()))
}

/// Makes or changes a silence.
#[utoipa::path(post, path = "/api/v2/silences", tag = "Alertmanager",
    request_body = shapes::NewSilence,
    responses((status = 200, body = shapes::SilenceSet), (status = 400, description = "A parameter or the body is wrong", content_type = "application/json", body = String), (status = 404, description = "There is no silence with that id", content_type = "application/json", body = String)))]
pub(super) async fn set_silence(State(shared): AppState, body: Result<Raw, ApiError>) -> Answer {
    let Raw(body) = body?;
    let written: Written =
        serde_json::from_slice(&body).map_err(|error| V2Error::bad(format!("cannot read the silence: {error}")))?;
    let time = |text: &str| parse_time(text).ok_or_else(|| V2Error::bad(format!("{text:?} is no time")));
    let silence = Silence {
        id: written.id.unwrap_or_default(),
        starts_ms: time(&written.starts_at)?,
        ends_ms: time(&written.ends_at)?,
        matchers: written.matchers,
        created_by: written.created_by,
        comment: written.comment,
        updated_ms: 0,
        recurrence: written.recurrence,
    };
    let id = blocking(move || shared.app.desk.set_silence(silence)).await?;
    ok(&json!({ "silenceID": id }))
}

/// Ends a silence.
#[utoipa::path(delete, path = "/api/v2/silence/{id}", tag = "Alertmanager",
    params(("id" = String, Path, description = "The silence's")),
    responses((status = 200, description = "It is over"), (status = 400, description = "A parameter or the body is wrong", content_type = "application/json", body = String), (status = 404, description = "There is no such silence", content_type = "application/json", body = String)))]
pub(super) async fn expire_silence(State(shared): AppState, id: Id) -> Answer {
    let Segment(id) = id?;
    blocking(move || shared.app.desk.expire_silence(&id)).await?;
    Ok(StatusCode::OK.into_response())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DeskError> + Send + 'static,
) -> Result<T, V2Error> {
    let done = tokio::task::spawn_blocking(work).await;
    let broken = |error: tokio::task::JoinError| V2Error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    done.map_err(broken)?.map_err(V2Error::from)
}

fn label_set(labels: &BTreeMap<String, String>) -> LabelSet {
    LabelSet::new(labels.iter().map(|(name, value)| (&**name, &**value)))
}

fn is_held_back(alert: &AlertInfo) -> bool {
    !alert.care.silenced_by.is_empty() || !alert.care.inhibited_by.is_empty()
}

/// The alerts that fire and that a request wants.
fn wanted(shared: &super::Shared, pairs: &Params) -> Result<Vec<(LabelSet, AlertInfo)>, V2Error> {
    let wanted = filter(pairs)?;
    let (active, silenced, inhibited) = (flag(pairs, "active"), flag(pairs, "silenced"), flag(pairs, "inhibited"));
    let receiver = pairs.get("receiver").map(regex_of).transpose()?;
    let fits = |labels: &LabelSet, alert: &AlertInfo| {
        alert.state == AlertState::Firing
            && all_match(&wanted, labels)
            && (active || is_held_back(alert))
            && (silenced || alert.care.silenced_by.is_empty())
            && (inhibited || alert.care.inhibited_by.is_empty())
            && receiver.as_ref().is_none_or(|matcher| {
                shared.app.desk.receivers_of(labels).iter().any(|name| matcher.matches_value(name))
            })
    };
    let alerts = shared.app.alarms.alerts().into_iter().map(|alert| (label_set(&alert.labels), alert));
    Ok(alerts.filter(|(labels, alert)| fits(labels, alert)).collect())
}

fn regex_of(text: &str) -> Result<Matcher, V2Error> {
    Matcher::new("receiver", pitwatch_alerting::matchers::MatchOp::Regex, text).map_err(V2Error::bad)
}

fn alert_json(shared: &super::Shared, labels: &LabelSet, alert: &AlertInfo) -> Value {
    let receivers: Vec<Value> =
        shared.app.desk.receivers_of(labels).into_iter().map(|name| json!({ "name": name })).collect();
    // Clients take an alert that ends in the past for over: it fires until we say otherwise.
    let ends_ms = alert.care.ends_at_ms.unwrap_or(unix_ms() + 3 * 60_000);
    json!({
        "annotations": alert.annotations,
        "endsAt": rfc3339(ends_ms),
        "fingerprint": format!("{:016x}", labels.fingerprint()),
        "receivers": receivers,
        "startsAt": rfc3339(alert.fired_at_ms.unwrap_or(alert.active_at_ms)),
        "status": {
            "inhibitedBy": alert.care.inhibited_by,
            "silencedBy": alert.care.silenced_by,
            "state": if is_held_back(alert) { "suppressed" } else { "active" },
        },
        "updatedAt": rfc3339(unix_ms()),
        "generatorURL": "",
        "labels": alert.labels,
    })
}

/// Every alert that fires.
#[utoipa::path(get, path = "/api/v2/alerts", tag = "Alertmanager",
    params(Wanted),
    responses((status = 200, body = Vec<shapes::Firing>), (status = 400, description = "A parameter or the body is wrong", content_type = "application/json", body = String)))]
pub(super) async fn alerts(State(shared): AppState, pairs: Pairs) -> Answer {
    let pairs = pairs?;
    let mut all = wanted(&shared, &pairs)?;
    all.sort_by_key(|(labels, _)| labels.fingerprint());
    ok(&all.iter().map(|(labels, alert)| alert_json(&shared, labels, alert)).collect())
}

/// An alert as it is handed in. What else Alertmanager's form has says nothing here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    starts_at: Option<String>,
    #[serde(default)]
    ends_at: Option<String>,
}

impl Posted {
    fn check(self) -> Result<Given, String> {
        // Go writes the year 1 for "not said".
        let time = |text: &Option<String>| match text.as_deref().filter(|text| !text.starts_with("0001-01-01T")) {
            None | Some("") => Ok(None),
            Some(text) => parse_time(text).map(Some).ok_or_else(|| format!("{text:?} is no time")),
        };
        let (starts_ms, ends_ms) = (time(&self.starts_at)?, time(&self.ends_at)?);
        if let Some(name) = self.labels.keys().find(|name| name.is_empty()) {
            return Err(format!("{name:?} is no name of a label"));
        }
        Ok(Given { labels: label_set(&self.labels), annotations: label_set(&self.annotations), starts_ms, ends_ms })
    }
}

/// The alerts of a body, and what is wrong with those that are none.
fn given(body: &[u8]) -> Result<(Vec<Given>, Vec<String>), serde_json::Error> {
    let posted: Vec<Posted> = serde_json::from_slice(body)?;
    let (mut given, mut wrong) = (Vec::new(), Vec::new());
    for one in posted.into_iter().map(Posted::check) {
        match one {
            Ok(one) => given.push(one),
            Err(why) => wrong.push(why),
        }
    }
    Ok((given, wrong))
}

/// Takes alerts that others evaluate: of another Prometheus, or of `amtool alert add`.
#[utoipa::path(post, path = "/api/v2/alerts", tag = "Alertmanager",
    request_body = Vec<shapes::NewAlert>,
    responses((status = 200, description = "They are taken"), (status = 400, description = "The body is wrong, or some of the alerts, which are not taken", content_type = "application/json", body = String)))]
pub(super) async fn give_alerts(State(shared): AppState, body: Result<Raw, ApiError>) -> Answer {
    let Raw(body) = body?;
    let (given, mut wrong) = given(&body).map_err(|error| V2Error::bad(format!("cannot read the alerts: {error}")))?;
    let refused = blocking(move || Ok(shared.app.desk.give_alerts(given))).await?;
    wrong.extend(refused.iter().map(ToString::to_string));
    // Those that are good are taken all the same, as Alertmanager does.
    if wrong.is_empty() { Ok(StatusCode::OK.into_response()) } else { Err(V2Error::bad(wrong.join("; "))) }
}

/// Alerts that fire, by the groups in which they are told.
#[utoipa::path(get, path = "/api/v2/alerts/groups", tag = "Alertmanager",
    params(Wanted),
    responses((status = 200, body = Vec<shapes::FiringGroup>), (status = 400, description = "A parameter or the body is wrong", content_type = "application/json", body = String)))]
pub(super) async fn groups(State(shared): AppState, pairs: Pairs) -> Answer {
    let pairs = pairs?;
    let alerts: BTreeMap<String, (LabelSet, AlertInfo)> = wanted(&shared, &pairs)?
        .into_iter()
        .map(|(labels, alert)| (format!("{:016x}", labels.fingerprint()), (labels, alert)))
        .collect();
    let mut groups = shared.app.desk.groups();
    groups.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
    let groups = groups.into_iter().filter_map(|(receiver, labels, prints)| {
        let members = prints.iter().filter_map(|print| alerts.get(print));
        let members: Vec<Value> = members.map(|(labels, alert)| alert_json(&shared, labels, alert)).collect();
        let group = || json!({ "alerts": members, "labels": labels, "receiver": { "name": receiver } });
        (!members.is_empty()).then(group)
    });
    ok(&groups.collect())
}

/// The receivers.
#[utoipa::path(get, path = "/api/v2/receivers", tag = "Alertmanager",
    responses((status = 200, body = Vec<shapes::ReceiverName>)))]
pub(super) async fn receivers(State(shared): AppState) -> Answer {
    ok(&shared.app.desk.receivers().into_iter().map(|name| json!({ "name": name })).collect())
}

/// Who answers. Of the configuration only the routes are shown: the file may hold secrets.
#[utoipa::path(get, path = "/api/v2/status", tag = "Alertmanager",
    responses((status = 200, body = shapes::Alertmanager)))]
pub(super) async fn status(State(shared): AppState) -> Answer {
    let version = json!({
        "branch": "", "buildDate": "", "buildUser": "", "goVersion": "", "revision": "",
        "version": format!("0.25.0+pitwatch.{}", env!("CARGO_PKG_VERSION")),
    });
    ok(&json!({
        "cluster": { "peers": [], "status": "disabled" },
        "config": { "original": shared.app.desk.routes() },
        "uptime": rfc3339(shared.app.started_ms),
        "versionInfo": version,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts that could be times, labels, or nothing of the kind.
    fn text() -> impl Strategy<Value = Value> {
        prop_oneof![
            "[0-9]{1,5}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
                .prop_map(Value::from),
            "-?[0-9]{1,30}(\\.[0-9]+)?(e[0-9]{1,3})?".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(Value::Null),
        ]
    }

    fn posted() -> impl Strategy<Value = Value> {
        let labels = prop::collection::btree_map("[a-z ]{0,3}", text(), 0..4);
        let fields = prop::collection::btree_map("labels|annotations|startsAt|endsAt|generatorURL", text(), 0..4);
        (labels, fields).prop_map(|(labels, fields)| {
            let mut one = json!({ "labels": labels });
            for (name, value) in fields {
                one[name] = value;
            }
            one
        })
    }

    proptest! {
        /// Whatever is handed in is taken or refused, and times are such that a thousand years can be added to them.
        #[test]
        fn what_is_handed_in_is_taken_or_refused(bodies in prop::collection::vec(posted(), 0..4), cut in any::<prop::sample::Index>()) {
            let text = json!(bodies).to_string();
            let _ = given(&text.as_bytes()[..cut.index(text.len())]);
            if let Ok((taken, wrong)) = given(text.as_bytes()) {
                prop_assert_eq!(taken.len() + wrong.len(), bodies.len());
                for ms in taken.iter().flat_map(|one| [one.starts_ms, one.ends_ms]).flatten() {
                    prop_assert!(ms.unsigned_abs() < u64::MAX >> 8, "{ms}");
                    let _ = rfc3339(ms);
                }
            }
        }
    }
}
