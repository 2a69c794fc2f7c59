//! Rules, alerts and deliveries as the API shows them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use pitwatch_alerting::engine::{Alert, Phase, RuleState};
use pitwatch_alerting::rules::RuleKind as Kind;
use pitwatch_promql::Expr;

use super::{Alerts, Inner};
use crate::api::{Alarms, AlertInfo, AlertState, ReceiverStatus, RuleGroupInfo, RuleHealth, RuleInfo, RuleKind};
use crate::clock::unix_ms;

const MS_PER_SEC: f64 = 1000.0;
const US_PER_SEC: f64 = 1_000_000.0;
/// Interval of groups that name none, seconds.
const DEFAULT_INTERVAL_SECS: f64 = 1.0;

impl Alarms for Alerts {
    fn alerts(&self) -> Vec<AlertInfo> {
        let inner = self.lock();
        inner.engine.rules().flat_map(|rule| alerts(&inner, rule)).collect()
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
        let inner = self.lock();
        let counts: BTreeMap<&str, _> = inner.queue.counts().collect();
        let status = |name: &String| {
            let counts = counts.get(&**name).cloned().unwrap_or_default();
            ReceiverStatus {
                name: name.clone(),
                pending: counts.waiting as u64,
                delivered: counts.delivered,
                failed: counts.retried + counts.refused + counts.expired + counts.dropped,
                last_error: counts.last_error,
                last_success_ms: inner.last_success_ms.get(name).copied(),
            }
        };
        self.config.receivers.iter().map(|receiver| status(&receiver.name)).collect()
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

fn alerts(inner: &Inner, rule: &RuleState<Expr>) -> Vec<AlertInfo> {
    let now_ms = unix_ms();
    let info = |alert: &Alert| AlertInfo {
        name: rule.rule().name.to_string(),
        state: if alert.phase() == Phase::Firing { AlertState::Firing } else { AlertState::Pending },
        labels: map(alert.labels().iter()),
        annotations: map(inner.engine.annotations(rule, alert, now_ms, &inner.source).iter()),
        active_at_ms: alert.active_at_ms(),
        fired_at_ms: alert.fired_at_ms(),
        value: Some(alert.value()),
        no_data: alert.no_data_since_ms().is_some(),
    };
    rule.alerts().map(info).collect()
}

fn info(inner: &Inner, rule: &RuleState<Expr>) -> RuleInfo {
    let status = rule.status();
    let (kind, labels) = match &rule.rule().kind {
        Kind::Record { labels } => (RuleKind::Recording, map(labels.iter().map(|(n, v)| (&**n, &**v)))),
        Kind::Alert(spec) => {
            let alerts = alerts(inner, rule);
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
