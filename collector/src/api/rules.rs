//! `/api/v1/rules` and `/api/v1/alerts` as Prometheus has them, and the collector's own view of alerts.

use std::collections::BTreeMap;

use axum::extract::State;
use pitwatch_alerting::LabelSet;
use pitwatch_promql::Matcher;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::envelope::{ApiError, Success};
use super::openapi::parameters::Rules as RulesParameters;
use super::params::{Params, rfc3339};
use super::people::acknowledged_json;
use super::seams::{AlertInfo, AlertState, RuleGroupInfo, RuleInfo, RuleKind};
use super::{AppState, ReceiverStatus};
use crate::clock::unix_ms;

/// The label that holds an alert's name.
const ALERT_NAME: &str = "alertname";

/// The collector's own view: what Prometheus' lacks, and how the receivers fare.
#[derive(Serialize, ToSchema)]
pub(super) struct OwnAlerts {
    now_ms: i64,
    alerts: Vec<OwnAlert>,
    /// Alerts that a silence holds back.
    silenced: usize,
    receivers: Vec<Receiver>,
}

/// An alert with what is done about it.
#[derive(Serialize, ToSchema)]
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
    /// By whom, when (`at_ms`) and with what comment; null where nobody did
    #[schema(value_type = Option<Object>)]
    acknowledged: Value,
    assigned_to: Option<String>,
    incident: Option<u64>,
}

/// How a receiver fares.
#[derive(Serialize, ToSchema)]
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

/// Prometheus' list of alerts.
#[derive(Serialize, ToSchema)]
pub(super) struct Alerts {
    alerts: Vec<Alert>,
}

/// An alert as Prometheus has it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// `pending` or `firing`
    state: &'static str,
    active_at: String,
    /// A number in scientific notation, such as `9.1e-01`
    value: String,
}

/// Prometheus' list of groups of rules.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Groups {
    groups: Vec<Group>,
    /// What asks for the next page, where there is one
    #[serde(skip_serializing_if = "Option::is_none")]
    group_next_token: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RuleGroup)]
struct Group {
    name: String,
    file: String,
    /// Seconds
    interval: f64,
    /// Most alerts or series of a rule; 0 for no limit
    limit: u64,
    rules: Vec<Rule>,
    /// Seconds
    evaluation_time: f64,
    last_evaluation: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: String,
    query: String,
    labels: BTreeMap<String, String>,
    /// `unknown`, `ok` or `err`
    health: &'static str,
    /// Seconds
    evaluation_time: f64,
    last_evaluation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
#[schema(as = RuleKind)]
enum Kind {
    Recording,
    Alerting {
        /// `inactive`, `pending` or `firing`
        state: &'static str,
        /// How long the condition must hold, in seconds
        duration: f64,
        /// How long it fires on when the condition ends, in seconds
        #[serde(rename = "keepFiringFor")]
        keep_firing_for: f64,
        annotations: BTreeMap<String, String>,
        alerts: Vec<Alert>,
    },
}

/// Pending and firing alerts, as Prometheus has them.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "Rules and alerts", responses((status = 200, body = Success<Alerts>)))]
pub(super) async fn alerts(State(shared): AppState) -> Success<Alerts> {
    Success::new(Alerts { alerts: shared.app.alarms.alerts().iter().map(Alert::from).collect() })
}

/// Pending and firing alerts with what Prometheus does not say, and how the receivers fare.
#[utoipa::path(get, path = "/api/v1/pitwatch/alerts", tag = "Rules and alerts",
    responses((status = 200, body = Success<OwnAlerts>)))]
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

/// The groups of rules, as Prometheus has them.
#[utoipa::path(get, path = "/api/v1/rules", tag = "Rules and alerts", params(RulesParameters),
    responses((status = 200, body = Success<Groups>)))]
pub(super) async fn rules(State(shared): AppState, params: Params) -> Result<Success<Groups>, ApiError> {
    let filter = Filter::read(&params)?;
    let groups = shared.app.alarms.rules();
    let mut shown: Vec<(&RuleGroupInfo, Group)> = Vec::new();
    for info in groups.iter().filter(|group| filter.wants_group(group)) {
        let rules = info.rules.iter().filter(|rule| filter.wants_rule(rule));
        let rules: Vec<Rule> = rules.map(|rule| Rule::new(rule, filter.without_alerts)).collect();
        // A group of which nothing is wanted is left out; one that is empty by itself is shown.
        if !rules.is_empty() || info.rules.is_empty() {
            shown.push((info, Group::new(info, rules)));
        }
    }
    let mut group_next_token = None;
    if let Some(page) = &filter.page {
        if let Some(token) = page.token {
            let first = shown.iter().position(|(group, _)| token_of(group) == token);
            let gone = || format!("{token:?} names no group. Were rule groups changed?");
            let first = first.ok_or_else(|| ApiError::bad_parameter("group_next_token", gone()))?;
            shown.drain(..first);
        }
        group_next_token = shown.get(page.groups).map(|(group, _)| token_of(group));
        shown.truncate(page.groups);
    }
    Ok(Success::new(Groups { groups: shown.into_iter().map(|(_, group)| group).collect(), group_next_token }))
}

impl Group {
    fn new(info: &RuleGroupInfo, rules: Vec<Rule>) -> Self {
        Self {
            name: info.name.clone(),
            file: info.file.clone(),
            interval: info.interval_secs,
            limit: info.limit,
            rules,
            evaluation_time: info.evaluation_secs,
            last_evaluation: evaluated_at(info.last_evaluation_ms),
        }
    }
}

impl Rule {
    fn new(info: &RuleInfo, without_alerts: bool) -> Self {
        let kind = match &info.kind {
            RuleKind::Recording => Kind::Recording,
            RuleKind::Alerting { state, duration_secs, keep_firing_for_secs, annotations, alerts } => Kind::Alerting {
                state: state.as_str(),
                duration: *duration_secs,
                keep_firing_for: *keep_firing_for_secs,
                annotations: annotations.clone(),
                alerts: if without_alerts { Vec::new() } else { alerts.iter().map(Alert::from).collect() },
            },
        };
        Self {
            name: info.name.clone(),
            query: info.query.clone(),
            labels: info.labels.clone(),
            health: info.health.as_str(),
            evaluation_time: info.evaluation_secs,
            last_evaluation: evaluated_at(info.last_evaluation_ms),
            last_error: info.last_error.clone(),
            kind,
        }
    }
}

impl From<&AlertInfo> for Alert {
    fn from(info: &AlertInfo) -> Self {
        let mut labels = info.labels.clone();
        labels.entry(ALERT_NAME.to_owned()).or_insert_with(|| info.name.clone());
        Self {
            labels,
            annotations: info.annotations.clone(),
            state: info.state.as_str(),
            active_at: rfc3339(info.active_at_ms),
            value: exponent_text(info.value.unwrap_or(f64::NAN)),
        }
    }
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
