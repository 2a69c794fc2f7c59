//! Alertmanager's webhook JSON, version 4: the fields, their order and their forms are Alertmanager's.

use serde::Serialize;

use super::{BuildError, HttpRequest, Open, Webhook, expr_url};
use crate::labels::LabelSet;
use crate::message::{Frame, Message};
use crate::notification::Notification;
use crate::time::rfc3339;

/// Go's zero time: the end of an alert that still fires.
const NO_END: &str = "0001-01-01T00:00:00Z";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    receiver: &'a str,
    status: &'static str,
    alerts: Vec<Alert<'a>>,
    group_labels: &'a LabelSet,
    common_labels: LabelSet,
    common_annotations: LabelSet,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'static str,
    group_key: String,
    truncated_alerts: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert<'a> {
    status: &'static str,
    labels: &'a LabelSet,
    annotations: LabelSet,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

pub(super) fn request(
    hook: &Webhook,
    message: &Message,
    frame: &Frame,
    reveal: Open<'_>,
) -> Result<HttpRequest, BuildError> {
    Ok(HttpRequest { url: reveal(&hook.url)?, headers: Vec::new(), body: body(hook, message, frame)? })
}

pub(super) fn body(hook: &Webhook, message: &Message, frame: &Frame) -> Result<String, BuildError> {
    let mut alerts: Vec<Alert<'_>> = message.alerts().map(|one| alert(one, frame)).collect();
    let all = alerts.len();
    alerts.truncate(hook.max_alerts.unwrap_or(all));
    let common_annotations = match alerts.as_slice() {
        [only] => only.annotations.clone(),
        _ => message.common_annotations(),
    };
    let json = serde_json::to_string(&Body {
        receiver: &message.receiver,
        status: message.status(),
        truncated_alerts: all - alerts.len(),
        alerts,
        group_labels: &message.group_labels,
        common_labels: message.common_labels(),
        common_annotations,
        external_url: &frame.external_url,
        version: "4",
        group_key: message.group_key(),
    });
    json.map(|json| as_go_writes(&json)).map_err(|error| BuildError::Template(error.to_string()))
}

fn alert<'a>(one: &'a Notification, frame: &Frame) -> Alert<'a> {
    Alert {
        status: if one.is_over() { "resolved" } else { "firing" },
        labels: &one.labels,
        annotations: annotations(one, frame),
        starts_at: rfc3339(one.fired_at_ms),
        ends_at: one.resolved_at_ms.map_or_else(|| NO_END.to_owned(), rfc3339),
        generator_url: expr_url(&frame.external_url, &one.expr),
        fingerprint: one.fingerprint(),
    }
}

/// The alert's, and which processes were at work: the format has no field for it.
pub(crate) fn annotations(alert: &Notification, frame: &Frame) -> LabelSet {
    let who = frame.moments.get(&alert.alert_key).and_then(|moment| moment.who.as_deref());
    match who.filter(|_| !alert.is_over()) {
        Some(who) => alert.annotations.with([("who", who)]),
        None => alert.annotations.clone(),
    }
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
