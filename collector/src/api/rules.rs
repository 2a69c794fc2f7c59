//! `/api/v1/rules` and `/api/v1/alerts` as Prometheus has them, and the collector's own view of alerts.

use std::collections::BTreeMap;

use axum::extract::State;
use pitwatch_alerting::LabelSet;
use pitwatch_promql::Matcher;
use serde::Serialize;
use serde_json::{Value, json};

use super::envelope::{ApiError, Success};
use super::params::{Params, rfc3339};
use super::people::acknowledged_json;
use super::seams::{AlertInfo, AlertState, RuleGroupInfo, RuleInfo, RuleKind};
use super::{AppState, ReceiverStatus};
use crate::clock::unix_ms;

/// The label that holds an alert's name.
const ALERT_NAME: &str = "alertname";

/// The collector's own view: what Prometheus' lacks, and how the receivers fare.
#[derive(Serialize)]
pub(super) struct OwnAlerts {
    now_ms: i64,
    alerts: Vec<OwnAlert>,
    /// Alerts that a silence holds back.
    silenced: usize,
    receivers: Vec<Receiver>,
}

/// An alert with what is done about it.
#[derive(Serialize)]
pub(super) struct OwnAlert {
    fingerprint: String,
    name: String,
    /// `pending`, `firing`, or `no_data` where it fires and there is nothing to judge it by.
    state: &'static str,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    active_at_ms: i64,
    fired_at_ms: Option<i64>,
    active_since_ms: i64,
    value: Option<f64>,
    no_data: bool,
    rule: String,
    expression: String,
    silenced_by: Vec<String>,
    inhibited_by: Vec<String>,
    acknowledged: Value,
    assigned_to: Option<String>,
    incident: Option<u64>,
}

/// How a receiver fares.
#[derive(Serialize)]
pub(super) struct Receiver {
    name: String,
    kind: &'static str,
    /// The same as `pending`.
    queued: u64,
    pending: u64,
    delivered: u64,
    failed: u64,
    last_error: Option<String>,
    last_success_ms: Option<i64>,
    /// Since when the oldest waits.
    oldest_ms: Option<i64>,
}

impl From<ReceiverStatus> for Receiver {
    fn from(status: ReceiverStatus) -> Self {
        let ReceiverStatus { name, kind, pending, delivered, failed, last_error, last_success_ms, oldest_ms } = status;
        Self { name, kind, queued: pending, pending, delivered, failed, last_error, last_success_ms, oldest_ms }
    }
}

/// Prometheus' `/api/v1/alerts`.
pub(super) async fn alerts(State(shared): AppState) -> Success<Value> {
    let alerts: Vec<Value> = shared.app.alarms.alerts().iter().map(alert_json).collect();
    Success::new(json!({ "alerts": alerts }))
}

/// The collector's own `/api/v1/pitwatch/alerts`.
pub(super) async fn own_alerts(State(shared): AppState) -> Success<OwnAlerts> {
    let mut alerts: Vec<AlertInfo> = shared.app.alarms.alerts();
    alerts.sort_by_key(|alert| (std::cmp::Reverse(alert.state), alert.active_at_ms));
    Success::new(OwnAlerts {
        now_ms: unix_ms(),
        silenced: alerts.iter().filter(|alert| !alert.care.silenced_by.is_empty()).count(),
        alerts: alerts.into_iter().map(own_alert).collect(),
        receivers: shared.app.alarms.deliveries().into_iter().map(Receiver::from).collect(),
    })
}

/// An alert as the collector's own endpoints show it.
pub(super) fn own_alert(alert: AlertInfo) -> OwnAlert {
    let labels = LabelSet::new(alert.labels.iter().map(|(name, value)| (&**name, &**value)));
    let state = match alert.state {
        AlertState::Firing if alert.no_data => "no_data",
        state => state.as_str(),
    };
    OwnAlert {
        fingerprint: format!("{:016x}", labels.fingerprint()),
        rule: alert.name.clone(),
        name: alert.name,
        state,
        labels: alert.labels,
        annotations: alert.annotations,
        active_at_ms: alert.active_at_ms,
        fired_at_ms: alert.fired_at_ms,
        active_since_ms: alert.active_at_ms,
        // JSON has no infinities.
        value: alert.value.filter(|value| value.is_finite()),
        no_data: alert.no_data,
        expression: alert.care.expression,
        silenced_by: alert.care.silenced_by,
        inhibited_by: alert.care.inhibited_by,
        acknowledged: acknowledged_json(alert.care.acknowledged.as_ref()),
        assigned_to: alert.care.assigned_to,
        incident: alert.care.incident,
    }
}

/// Which groups and rules a request wants.
struct Filter<'p> {
    kind: Option<&'p str>,
    names: Vec<&'p str>,
    groups: Vec<&'p str>,
    files: Vec<&'p str>,
    selectors: Vec<Vec<Matcher>>,
    without_alerts: bool,
    page: Option<Page<'p>>,
}

/// A part of the groups.
struct Page<'p> {
    groups: usize,
    /// The group that it begins with; the first if there is none.
    token: Option<&'p str>,
}

impl<'p> Page<'p> {
    fn read(params: &'p Params) -> Result<Option<Self>, ApiError> {
        let token = params.get("group_next_token");
        match (params.get("group_limit"), token) {
            (None, None) => Ok(None),
            (None, Some(_)) => {
                let reason = "group_limit needs to be set in order to paginate over the groups";
                Err(ApiError::bad_parameter("group_limit", reason))
            }
            (Some(text), token) => match text.parse::<usize>() {
                Ok(groups) if groups > 0 => Ok(Some(Self { groups, token })),
                _ => Err(ApiError::bad_parameter("group_limit", format!("{text:?} is no number greater than 0"))),
            },
        }
    }
}

/// What names a group in the token of the next page.
fn token_of(group: &RuleGroupInfo) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, format!("{};{}", group.file, group.name).as_bytes());
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

impl<'p> Filter<'p> {
    fn read(params: &'p Params) -> Result<Self, ApiError> {
        let kind = params.get("type");
        if let Some(other) = kind.filter(|kind| !matches!(*kind, "alert" | "record")) {
            return Err(ApiError::bad_parameter("type", format!("{other:?} is neither \"alert\" nor \"record\"")));
        }
        let without_alerts = match params.get("exclude_alerts") {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(other) => {
                return Err(ApiError::bad_parameter("exclude_alerts", format!("{other:?} is neither true nor false")));
            }
        };
        Ok(Self {
            kind,
            names: params.all("rule_name[]").collect(),
            groups: params.all("rule_group[]").collect(),
            files: params.all("file[]").collect(),
            selectors: params.selectors()?,
            without_alerts,
            page: Page::read(params)?,
        })
    }

    fn wants_group(&self, group: &RuleGroupInfo) -> bool {
        let wants = |list: &[&str], text: &str| list.is_empty() || list.contains(&text);
        wants(&self.groups, &group.name) && wants(&self.files, &group.file)
    }

    fn wants_rule(&self, rule: &RuleInfo) -> bool {
        let kind = match rule.kind {
            RuleKind::Alerting { .. } => "alert",
            RuleKind::Recording => "record",
        };
        let value = |name: &str| rule.labels.get(name).map_or("", String::as_str);
        let fits = |matchers: &Vec<Matcher>| matchers.iter().all(|matcher| matcher.matches(value(&matcher.name)));
        self.kind.is_none_or(|wanted| wanted == kind)
            && (self.names.is_empty() || self.names.contains(&&*rule.name))
            && (self.selectors.is_empty() || self.selectors.iter().any(fits))
    }
}

/// Prometheus' `/api/v1/rules`.
pub(super) async fn rules(State(shared): AppState, params: Params) -> Result<Success<Value>, ApiError> {
    let filter = Filter::read(&params)?;
    let groups = shared.app.alarms.rules();
    let mut shown: Vec<(&RuleGroupInfo, Value)> = Vec::new();
    for group in groups.iter().filter(|group| filter.wants_group(group)) {
        let rules = group.rules.iter().filter(|rule| filter.wants_rule(rule));
        let rules: Vec<Value> = rules.map(|rule| rule_json(rule, filter.without_alerts)).collect();
        // A group of which nothing is wanted is left out; one that is empty by itself is shown.
        if !rules.is_empty() || group.rules.is_empty() {
            shown.push((group, group_json(group, &rules)));
        }
    }
    let mut next = None;
    if let Some(page) = &filter.page {
        if let Some(token) = page.token {
            let first = shown.iter().position(|(group, _)| token_of(group) == token);
            let gone = || format!("{token:?} names no group. Were rule groups changed?");
            let first = first.ok_or_else(|| ApiError::bad_parameter("group_next_token", gone()))?;
            shown.drain(..first);
        }
        next = shown.get(page.groups).map(|(group, _)| token_of(group));
        shown.truncate(page.groups);
    }
    let mut data = json!({ "groups": shown.into_iter().map(|(_, json)| json).collect::<Vec<_>>() });
    if let Some(next) = next {
        data["groupNextToken"] = json!(next);
    }
    Ok(Success::new(data))
}

fn group_json(group: &RuleGroupInfo, rules: &[Value]) -> Value {
    json!({
        "name": group.name,
        "file": group.file,
        "interval": group.interval_secs,
        "limit": group.limit,
        "rules": rules,
        "evaluationTime": group.evaluation_secs,
        "lastEvaluation": evaluated_at(group.last_evaluation_ms),
    })
}

fn rule_json(rule: &RuleInfo, without_alerts: bool) -> Value {
    let mut json = json!({
        "name": rule.name,
        "query": rule.query,
        "labels": rule.labels,
        "health": rule.health.as_str(),
        "evaluationTime": rule.evaluation_secs,
        "lastEvaluation": evaluated_at(rule.last_evaluation_ms),
    });
    if let Some(error) = &rule.last_error {
        json["lastError"] = json!(error);
    }
    match &rule.kind {
        RuleKind::Recording => json["type"] = json!("recording"),
        RuleKind::Alerting { state, duration_secs, keep_firing_for_secs, annotations, alerts } => {
            let alerts = if without_alerts { &[] } else { alerts.as_slice() };
            json["type"] = json!("alerting");
            json["state"] = json!(state.as_str());
            json["duration"] = json!(duration_secs);
            json["keepFiringFor"] = json!(keep_firing_for_secs);
            json["annotations"] = json!(annotations);
            json["alerts"] = alerts.iter().map(alert_json).collect();
        }
    }
    json
}

fn alert_json(alert: &AlertInfo) -> Value {
    let mut labels = alert.labels.clone();
    labels.entry(ALERT_NAME.to_owned()).or_insert_with(|| alert.name.clone());
    json!({
        "labels": labels,
        "annotations": alert.annotations,
        "state": alert.state.as_str(),
        "activeAt": rfc3339(alert.active_at_ms),
        "value": exponent_text(alert.value.unwrap_or(f64::NAN)),
    })
}

/// What was never evaluated has Go's zero time, as in Prometheus.
fn evaluated_at(ms: Option<i64>) -> String {
    ms.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), rfc3339)
}

/// A number in Go's 'e' format: `1e+00`, `9.1e-01`.
fn exponent_text(value: f64) -> String {
    if !value.is_finite() {
        return pitwatch_promql::format_value(value);
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
            format!("{digits}e{sign}{size:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_gos_exponents() {
        for (value, text) in [
            (1.0, "1e+00"),
            (0.0, "0e+00"),
            (0.91, "9.1e-01"),
            (-12345.0, "-1.2345e+04"),
            (1e300, "1e+300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(exponent_text(value), text);
        }
    }
}
