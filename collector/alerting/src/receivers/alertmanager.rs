//! Another Alertmanager: `POST /api/v2/alerts`.

use serde_json::{Value, json};

use super::webhook::annotations;
use super::{Alertmanager, BuildError, HttpRequest, Open, expr_url};
use crate::message::{Frame, Message};
use crate::time::rfc3339;

pub(super) fn request(
    other: &Alertmanager,
    message: &Message,
    frame: &Frame,
    reveal: Open<'_>,
) -> Result<HttpRequest, BuildError> {
    let alerts: Vec<Value> = message
        .alerts()
        .map(|alert| {
            let mut one = json!({
                "labels": alert.labels,
                "annotations": annotations(alert, frame),
                "startsAt": rfc3339(alert.fired_at_ms),
                "generatorURL": expr_url(&frame.external_url, &alert.expr),
            });
            // Without an end it would be over there after its resolve_timeout: we say when it is over.
            let far = message.now_ms + FAR_MS;
            one["endsAt"] = json!(rfc3339(alert.resolved_at_ms.unwrap_or(far)));
            one
        })
        .collect();
    let url = format!("{}/api/v2/alerts", reveal(&other.url)?.trim_end_matches('/'));
    Ok(HttpRequest { url, headers: Vec::new(), body: json!(alerts).to_string() })
}

/// An alert that is not heard of for so long is over there.
const FAR_MS: i64 = 24 * 60 * 60 * 1000;
