//! What an alert says: its texts, and the notification of a transition.

use std::sync::Arc;

use super::{Alert, AlertChange, Output, Row, Scope, Source, StoredAlert, alert};
use crate::notification::{Notification, Transition};
use crate::template::{Context, Template};

pub(super) fn query<S: Source>(source: &S, expr: &str, ts_ms: i64) -> Result<Vec<Row>, String> {
    source.run(&source.prepare(expr)?.expr, Scope::All, ts_ms)
}

/// Templates to texts. One that fails says so in its place, as Prometheus does: an alert with a bad text is better
/// than none. The first failure is noted.
pub(super) fn texts<'a>(
    templates: impl IntoIterator<Item = &'a (Arc<str>, Template)>,
    context: &Context<'_>,
    error: &mut Option<String>,
) -> Vec<(Arc<str>, Arc<str>)> {
    let text = |(name, template): &(Arc<str>, Template)| {
        let text = match template.literal() {
            Some(text) => text.clone(),
            None => template.render(context).map(Arc::from).unwrap_or_else(|failed| {
                let text = format!("<error expanding template: {failed}>").into();
                error.get_or_insert_with(|| format!("{name}: {failed}"));
                text
            }),
        };
        (name.clone(), text)
    };
    templates.into_iter().map(text).collect()
}

pub(super) fn withdraw(alert: &Alert, rule_key: &str, expr: &str, now_ms: i64, output: &mut Output) {
    output.changes.push(AlertChange::Remove(alert::key(rule_key, &alert.labels)));
    if alert.sent > 0 {
        output.notifications.push(notification(alert, Transition::Withdrawn, rule_key, expr, now_ms));
    }
}

/// What is told of an alert as it is stored.
#[must_use]
pub fn told(alert: &StoredAlert, transition: Transition, now_ms: i64) -> Notification {
    notification(&Alert::from_stored(alert.clone()), transition, &alert.rule, &alert.expr, now_ms)
}

pub(super) fn notification(
    alert: &Alert,
    transition: Transition,
    rule_key: &str,
    expr: &str,
    now_ms: i64,
) -> Notification {
    let alert_key = alert::key(rule_key, &alert.labels);
    let nth = if transition == Transition::NoData { alert.sent.to_string() } else { String::new() };
    let over = matches!(transition, Transition::Resolved | Transition::Withdrawn);
    Notification {
        id: format!("{alert_key}-{}-{}{nth}", alert.fired_at_ms, transition.as_str()),
        alert_key,
        transition,
        at_ms: now_ms,
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        value: alert.value,
        active_at_ms: alert.active_at_ms,
        fired_at_ms: alert.fired_at_ms,
        resolved_at_ms: over.then_some(now_ms),
        no_data_since_ms: alert.no_data_since_ms,
        expr: expr.to_owned(),
        depends_on: alert.depends_on.clone(),
    }
}
