//! Alertmanager's webhook JSON, version 4: the fields, their order and their forms are Alertmanager's.

use serde::Serialize;

use super::Frame;
use crate::labels::{ALERT_NAME, LabelSet};
use crate::notification::Notification;
use crate::time::rfc3339;

/// Go's zero time: the end of an alert that still fires.
const NO_END: &str = "0001-01-01T00:00:00Z";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    receiver: &'a str,
    status: &'static str,
    alerts: [Alert<'a>; 1],
    group_labels: LabelSet,
    common_labels: &'a LabelSet,
    common_annotations: &'a LabelSet,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'static str,
    group_key: String,
    truncated_alerts: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert<'a> {
    status: &'static str,
    labels: &'a LabelSet,
    annotations: &'a LabelSet,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

/// The body for one notification: a group of one alert, grouped by its name.
///
/// # Errors
/// None that happen: the body has no keys but texts.
pub fn body(notification: &Notification, frame: &Frame<'_>) -> Result<String, serde_json::Error> {
    let status = if notification.is_over() { "resolved" } else { "firing" };
    let group_labels = LabelSet::new([(ALERT_NAME, notification.name())]);
    // The body has no field for it; receivers show annotations as they are.
    let annotations = match notification.who.as_deref().filter(|_| !notification.is_over()) {
        Some(who) => notification.annotations.with([("who", who)]),
        None => notification.annotations.clone(),
    };
    let alert = Alert {
        status,
        labels: &notification.labels,
        annotations: &annotations,
        starts_at: rfc3339(notification.fired_at_ms),
        ends_at: notification.resolved_at_ms.map_or_else(|| NO_END.to_owned(), rfc3339),
        generator_url: frame.expr_url(notification),
        fingerprint: notification.fingerprint(),
    };
    let json = serde_json::to_string(&Message {
        receiver: frame.receiver,
        status,
        alerts: [alert],
        group_key: format!("{{}}:{group_labels}"),
        group_labels,
        common_labels: &notification.labels,
        common_annotations: &annotations,
        external_url: frame.external_url,
        version: "4",
        truncated_alerts: 0,
    })?;
    Ok(as_go_writes(&json))
}

/// Go's encoder escapes what HTML would mind, and ends with a line break. These characters stand only within texts.
fn as_go_writes(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        match c {
            '&' => out.push_str("\\u0026"),
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out.push('\n');
    out
}
