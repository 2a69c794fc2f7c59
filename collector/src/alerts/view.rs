//! Rules, alerts and deliveries as the API shows them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use pitwatch_alerting::dispatch::LineCounts;
use pitwatch_alerting::engine::{Alert, Phase, RuleState};
use pitwatch_alerting::labels::ALERT_NAME;
use pitwatch_alerting::rules::RuleKind as Kind;
use pitwatch_alerting::{LabelSet, StoredAlert};
use pitwatch_promql::Expr;

use super::desk::Desk;
use super::{Alerts, Inner};
use crate::api::{
    Alarms, AlertCare, AlertInfo, AlertState, ReceiverStatus, RuleGroupInfo, RuleHealth, RuleInfo, RuleKind,
};
use crate::clock::unix_ms;

const MS_PER_SEC: f64 = 1000.0;
const US_PER_SEC: f64 = 1_000_000.0;
/// Interval of groups that name none, seconds.
const DEFAULT_INTERVAL_SECS: f64 = 1.0;

impl Alarms for Alerts {
    fn alerts(&self) -> Vec<AlertInfo> {
        let inner = self.lock();
        let mut all: Vec<(String, AlertInfo)> = inner.engine.rules().flat_map(|rule| alerts(&inner, rule)).collect();
        all.extend(inner.outside.iter().map(|alert| (alert.key.clone(), outside(alert))));
        drop(inner);
        let (desk, now_ms) = (self.desk(), unix_ms());
        for (key, alert) in &mut all {
            care(&desk, key, alert, now_ms);
        }
        all.into_iter().map(|(_, alert)| alert).collect()
    }

    fn rules(&self) -> Vec<RuleGroupInfo> {
        let inner = self.lock();
        let group = |group: &pitwatch_alerting::engine::GroupState<Expr>| RuleGroupInfo {
            name: group.name().to_owned(),
            file: group.file().to_owned(),
            interval_secs: group.interval_ms().map_or(DEFAULT_INTERVAL_SECS, |ms| ms as f64 / MS_PER_SEC),
            limit: group.limit() as u64,
            evaluation_secs: group.rules().iter().map(|rule| rule.status().duration_us as f64 / US_PER_SEC).sum(),
            last_evaluation_ms: group.evaluated_at_ms(),
            rules: group.rules().iter().map(|rule| info(&inner, rule)).collect(),
        };
        inner.engine.groups().iter().map(group).collect()
    }

    fn reload(&self) -> Result<usize, String> {
        self.reload_now().map_err(|error| format!("{error:#}"))
    }

    fn deliveries(&self) -> Vec<ReceiverStatus> {
        let desk = self.desk();
        let status = |(name, kind, counts): (&str, &'static str, LineCounts)| ReceiverStatus {
            name: name.to_owned(),
            kind,
            pending: counts.waiting as u64,
            delivered: counts.delivered,
            failed: counts.retried + counts.refused,
            last_error: counts.last_error,
            last_success_ms: counts.last_success_ms,
            oldest_ms: counts.oldest_ms,
        };
        let mut all: Vec<ReceiverStatus> = desk.dispatcher.counts().map(status).collect();
        drop(desk);
        all.extend(self.heartbeat_status());
        all
    }
}

impl Alerts {
    /// Figures of the rules, for `status`: how many, how many fail, how long they take.
    pub fn rule_figures(&self) -> serde_json::Value {
        let evaluations = self.stats.evaluations.load(Ordering::Relaxed);
        let spent_us = self.stats.evaluation_us.load(Ordering::Relaxed);
        let inner = self.lock();
        let failing = inner.engine.rules().filter(|rule| rule.status().error.is_some()).count();
        let slowest = inner.engine.rules().max_by_key(|rule| rule.status().duration_us);
        serde_json::json!({
            "rules": inner.engine.rules().count(),
            "failing": failing,
            "evaluations_total": evaluations,
            "evaluation_average_ms": (evaluations > 0).then(|| spent_us as f64 / evaluations as f64 / 1e3),
            "slowest_rule": slowest.map(|rule| rule.rule().name.to_string()),
            "slowest_rule_ms": slowest.map(|rule| rule.status().duration_us as f64 / 1e3),
            "reloads_total": self.stats.reloads.load(Ordering::Relaxed),
            "files_refused": self.stats.rules_refused.load(Ordering::Relaxed),
        })
    }
}

/// What is done about an alert.
fn care(desk: &Desk, key: &str, alert: &mut AlertInfo, now_ms: i64) {
    let labels = LabelSet::new(alert.labels.iter().map(|(name, value)| (&**name, &**value)));
    let depends_on = std::mem::take(&mut alert.care.depends_on);
    let silenced_by = desk.dispatcher.silences.silenced_by(&labels, now_ms);
    let inhibited_by = desk.dispatcher.inhibited_by(&labels, &depends_on);
    let marks = desk.incidents.marks(key).cloned().unwrap_or_default();
    alert.care = AlertCare {
        silenced_by,
        inhibited_by: inhibited_by.map(|print| format!("{print:016x}")).into_iter().collect(),
        acknowledged: marks.acknowledged,
        assigned_to: marks.assigned_to,
        incident: marks.incident,
        expression: std::mem::take(&mut alert.care.expression),
        ends_at_ms: alert.care.ends_at_ms,
        depends_on,
    };
}

/// An alert that others evaluate.
fn outside(alert: &StoredAlert) -> AlertInfo {
    AlertInfo {
        name: alert.labels.value(ALERT_NAME).unwrap_or_default().to_owned(),
        state: AlertState::Firing,
        labels: map(alert.labels.iter()),
        annotations: map(alert.annotations.iter()),
        active_at_ms: alert.active_at_ms,
        fired_at_ms: Some(alert.fired_at_ms),
        value: None,
        no_data: false,
        care: AlertCare { depends_on: alert.depends_on.clone(), ends_at_ms: alert.ends_at_ms, ..AlertCare::default() },
    }
}

/// The alerts of a rule, each with its key.
fn alerts(inner: &Inner, rule: &RuleState<Expr>) -> Vec<(String, AlertInfo)> {
    let now_ms = unix_ms();
    let info = |alert: &Alert| {
        let care = AlertCare {
            expression: rule.rule().expr.to_string(),
            depends_on: alert.depends_on().to_vec(),
            ..AlertCare::default()
        };
        let info = AlertInfo {
            name: rule.rule().name.to_string(),
            state: if alert.phase() == Phase::Firing { AlertState::Firing } else { AlertState::Pending },
            labels: map(alert.labels().iter()),
            annotations: map(inner.engine.annotations(rule, alert, now_ms, &inner.source).iter()),
            active_at_ms: alert.active_at_ms(),
            fired_at_ms: alert.fired_at_ms(),
            value: Some(alert.value()),
            no_data: alert.no_data_since_ms().is_some(),
            care,
        };
        (rule.alert_key(alert), info)
    };
    rule.alerts().map(info).collect()
}

fn info(inner: &Inner, rule: &RuleState<Expr>) -> RuleInfo {
    let status = rule.status();
    let (kind, labels) = match &rule.rule().kind {
        Kind::Record { labels } => (RuleKind::Recording, map(labels.iter().map(|(n, v)| (&**n, &**v)))),
        Kind::Alert(spec) => {
            let alerts: Vec<AlertInfo> = alerts(inner, rule).into_iter().map(|(_, alert)| alert).collect();
            let kind = RuleKind::Alerting {
                state: alerts.iter().map(|alert| alert.state).max().unwrap_or(AlertState::Inactive),
                duration_secs: spec.for_ms as f64 / MS_PER_SEC,
                keep_firing_for_secs: spec.keep_firing_for_ms as f64 / MS_PER_SEC,
                annotations: map(spec.annotations.iter().map(|(n, v)| (&**n, &**v.source()))),
                alerts,
            };
            (kind, map(spec.labels.iter().map(|(n, v)| (&**n, &**v.source()))))
        }
    };
    RuleInfo {
        name: rule.rule().name.to_string(),
        query: rule.rule().expr.to_string(),
        labels,
        health: match (&status.error, status.evaluated_at_ms) {
            (Some(_), _) => RuleHealth::Err,
            (None, Some(_)) => RuleHealth::Ok,
            (None, None) => RuleHealth::Unknown,
        },
        last_error: status.error.clone(),
        evaluation_secs: status.duration_us as f64 / US_PER_SEC,
        last_evaluation_ms: status.evaluated_at_ms,
        kind,
    }
}

fn map<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
