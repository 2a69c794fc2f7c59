//! What was going on around an alert: its value's last hour, and the processes that were at work when it began.
//!
//! Asked of history when a message is made, not when rules are evaluated: a storm of alerts must not slow them.

use std::collections::BTreeMap;

use pitwatch_alerting::message::{Message, Moment};
use pitwatch_alerting::receivers::story::spark;
use pitwatch_alerting::{LabelSet, Notification};
use pitwatch_promql::ast::VectorSelector;
use pitwatch_promql::{Cancel, Engine, EngineOptions, Expr, MatchOp, Matcher, Value, parse};
use pitwatch_rules::{expression, prepare};
use pitwatch_shared::model;

use super::links::Links;
use crate::source::HistorySource;

/// Alerts of one message that are looked at.
const ALERTS_MAX: usize = 3;
/// Bars of a value's last hour, and the time that each stands for, milliseconds.
const BARS: i64 = 12;
const BAR_MS: i64 = 5 * 60 * 1000;
/// Samples that one look may touch, and how long it may take, milliseconds.
const SAMPLES_MAX: usize = 2_000_000;
const TIMEOUT_MS: u64 = 500;
/// Processes named in a message.
const PROCESSES: usize = 3;

/// Looks into history for messages.
#[derive(Debug)]
pub struct Moments {
    source: HistorySource,
    engine: Engine,
}

impl Moments {
    /// Over a history.
    #[must_use]
    pub fn new(source: HistorySource) -> Self {
        let options = EngineOptions { max_samples: SAMPLES_MAX, timeout_ms: TIMEOUT_MS, ..EngineOptions::default() };
        Self { source, engine: Engine::new(options) }
    }

    /// What surrounds the first alerts of a message; the last hour and links only for people. What cannot be found out
    /// is left out.
    #[must_use]
    pub fn look(&self, message: &Message, links: &Links, for_people: bool) -> BTreeMap<String, Moment> {
        let firing = message.firing.iter().take(ALERTS_MAX);
        let about = firing.map(|alert| {
            let last_hour = || self.last_hour(alert, message.now_ms);
            let (spark, value) = if for_people { last_hour() } else { (None, None) };
            let who = self.who(alert, alert.fired_at_ms);
            let actions = if for_people { links.of(alert, message.now_ms) } else { Vec::new() };
            let no_data_since_ms = alert.no_data_since_ms;
            (alert.alert_key.clone(), Moment { value, no_data_since_ms, spark, who, actions })
        });
        about.collect()
    }

    fn last_hour(&self, alert: &Notification, now_ms: i64) -> (Option<String>, Option<f64>) {
        let Ok(prepared) = prepare(&alert.expr) else { return (None, None) };
        let Some(mut probe) = prepared.probe else { return (None, None) };
        if let Some(instance) = alert.labels.value(model::INSTANCE) {
            restrict(&mut probe, instance);
        }
        let start_ms = now_ms - (BARS - 1) * BAR_MS;
        let answer = self.engine.range(&self.source, &probe, start_ms, now_ms, BAR_MS, &Cancel::new());
        let Ok(Value::Matrix(series)) = answer.map(|answer| answer.value) else { return (None, None) };
        let fits = |labels: &LabelSet| labels.without(model::METRIC_NAME).is_subset_of(&alert.labels);
        let series = series.into_iter().find(|(labels, _)| fits(&expression::label_set(labels)));
        let Some((_, points)) = series else { return (None, None) };
        let at = |bar: i64| points.iter().find(|(ts_ms, _)| *ts_ms == start_ms + bar * BAR_MS).map(|(_, value)| *value);
        let values: Vec<Option<f64>> = (0..BARS).map(at).collect();
        (spark(&values), values.last().copied().flatten())
    }

    /// The processes that were at work on the alert's host: by memory if the rule is about memory, else by CPU.
    fn who(&self, alert: &Notification, at_ms: i64) -> Option<String> {
        let instance = alert.labels.value(model::INSTANCE)?;
        let memory = alert.expr.contains("emory") || alert.expr.contains("wap");
        let metric = if memory { "pitwatch_process_resident_memory_bytes" } else { "pitwatch_process_cpu_ratio" };
        let expr = parse(&format!("topk({PROCESSES}, {metric}{{instance={instance:?}}})")).ok()?;
        let mut rows = expression::rows(&self.engine, &self.source, &expr, at_ms, &Cancel::new()).ok()?;
        rows.retain(|row| row.value > 0.0);
        rows.sort_by(|a, b| b.value.total_cmp(&a.value));
        let texts = rows.iter().map(|row| {
            let (name, pid) = (row.labels.value("name").unwrap_or("?"), row.labels.value("pid").unwrap_or("?"));
            let amount = if memory {
                format!("{:.0} MiB", row.value / f64::from(1 << 20))
            } else {
                format!("{:.0}%", row.value * 100.0)
            };
            format!("{name} (pid {pid}) {amount}")
        });
        let texts: Vec<String> = texts.collect();
        let what = if memory { "most memory" } else { "most CPU" };
        (!texts.is_empty()).then(|| format!("{what}: {}", texts.join(", ")))
    }
}

/// Asks only for series of one host where an expression asks for all, so that a look costs little on a large fleet.
fn restrict(expr: &mut Expr, instance: &str) {
    let narrow = |selector: &mut VectorSelector| {
        let named = selector.matchers.iter().any(|matcher| matcher.name == model::INSTANCE);
        if let Ok(matcher) = Matcher::new(model::INSTANCE, MatchOp::Eq, instance)
            && !named
        {
            selector.matchers.insert(0, matcher);
        }
    };
    match expr {
        Expr::Vector(selector) => narrow(selector),
        Expr::Matrix(matrix) => narrow(&mut matrix.vector),
        other => other.children_mut().into_iter().for_each(|child| restrict(child, instance)),
    }
}
