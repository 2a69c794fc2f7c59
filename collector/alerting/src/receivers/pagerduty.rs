//! PagerDuty's Events API, version 2: an event an alert, keyed by it, so that its end closes what its beginning opened.

use serde_json::{Value, json};

use super::markup::Markup;
use super::story::story;
use super::{BuildError, HttpRequest, Open, PagerDuty, Templates};
use crate::limits;
use crate::message::Detail;
use crate::time::rfc3339;

pub(super) fn request(
    duty: &PagerDuty,
    templates: &Templates<'_>,
    reveal: Open<'_>,
) -> Result<HttpRequest, BuildError> {
    let message = templates.message;
    let alert = message.alerts().next().ok_or_else(|| BuildError::Template("a message without alerts".to_owned()))?;
    // A key has room for 255 characters: the fingerprint is enough.
    let mut body = json!({
        "routing_key": reveal(&duty.routing_key)?,
        "dedup_key": format!("pitwatch-{}", alert.fingerprint()),
        "event_action": if alert.is_over() { "resolve" } else { "trigger" },
        "client": "Pitwatch",
    });
    if !alert.is_over() {
        let story = story(message, templates.frame);
        let summary = templates.maybe(duty.description.as_ref())?.unwrap_or_else(|| story.title.clone());
        let severity = templates.maybe(duty.severity.as_ref())?;
        let mut payload = json!({
            "summary": Markup::PLAIN.shortened(&summary, limits::PAGERDUTY_SUMMARY_MAX_CHARS),
            "source": alert.labels.value("instance").unwrap_or("pitwatch"),
            "severity": severity.as_deref().unwrap_or_else(|| severity_of(alert.labels.value("severity"))),
            "timestamp": rfc3339(alert.fired_at_ms),
        });
        for (name, template) in [("component", &duty.component), ("group", &duty.group), ("class", &duty.class)] {
            if let Some(text) = templates.maybe(template.as_ref())? {
                payload[name] = json!(text);
            }
        }
        if message.detail == Detail::Full {
            let text = Markup::PLAIN.body(&story, limits::PAGERDUTY_DETAILS_MAX_CHARS);
            payload["custom_details"] = json!({ "text": text, "labels": alert.labels });
        }
        body["payload"] = payload;
        let links: Vec<Value> = story
            .links
            .iter()
            .filter(|link| !link.url.is_empty())
            .map(|link| json!({"href": link.url, "text": link.word}))
            .collect();
        body["links"] = json!(links);
        if !templates.frame.external_url.is_empty() {
            body["client_url"] = json!(templates.frame.external_url);
        }
    }
    Ok(HttpRequest { url: duty.url.clone(), headers: Vec::new(), body: body.to_string() })
}

fn severity_of(word: Option<&str>) -> &'static str {
    match word {
        Some("warning") => "warning",
        Some("info" | "none") => "info",
        Some("error") => "error",
        _ => "critical",
    }
}
