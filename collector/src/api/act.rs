//! `/act/TOKEN`: the page behind a link in a message, and what its button does. The link is the permission.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pitwatch_alerting::incidents::Act;
use pitwatch_alerting::matchers::MatchOp;
use pitwatch_alerting::silences::Silence;
use pitwatch_alerting::{LabelSet, Matcher};

use super::params::Segment;
use super::seams::AlertInfo;
use super::{AppState, Shared};
use crate::alerts::links::Deed;
use crate::clock::unix_ms;

/// How long such a silence lasts, milliseconds.
const SILENCE_MS: i64 = 2 * 60 * 60 * 1000;
/// Who did it, as far as anybody can tell.
const BY: &str = "a link in a message";

/// The page behind a link in a message.
///
/// It asks; a chat that looks at the link changes nothing.
#[utoipa::path(get, path = "/act/{token}", tag = "Rules and alerts",
    params(("token" = String, Path, description = "As the message has it: the link is the permission")),
    responses(
        (status = 200, description = "The page, with a button", content_type = "text/html", body = String),
        (status = 404, description = "The link is wrong or too old", content_type = "text/html", body = String),
    ))]
pub(super) async fn ask(State(shared): AppState, Segment(token): Segment) -> Response {
    let Some(token) = shared.app.desk.link(&token) else { return gone() };
    let alert = find(&shared, &token.fingerprint);
    let what = alert.map_or_else(|| "This alert is over.".to_owned(), |alert| headline(&alert));
    let button = match token.deed {
        Deed::Ack => "Acknowledge",
        Deed::Silence => "Silence for 2 h",
    };
    page(StatusCode::OK, &what, Some(button))
}

/// Does what a link in a message offers.
#[utoipa::path(post, path = "/act/{token}", tag = "Rules and alerts",
    params(("token" = String, Path, description = "As the message has it: the link is the permission")),
    responses(
        (status = 200, description = "It is done", content_type = "text/html", body = String),
        (status = 404, description = "The link is wrong or too old", content_type = "text/html", body = String),
        (status = 409, description = "The alert is over", content_type = "text/html", body = String),
    ))]
pub(super) async fn act(State(shared): AppState, Segment(token): Segment) -> Response {
    let Some(token) = shared.app.desk.link(&token) else { return gone() };
    let done = tokio::task::spawn_blocking(move || perform(&shared, token.deed, &token.fingerprint)).await;
    match done {
        Ok(Ok(text)) => page(StatusCode::OK, &text, None),
        Ok(Err(text)) => page(StatusCode::CONFLICT, &text, None),
        Err(_) => page(StatusCode::INTERNAL_SERVER_ERROR, "That did not work: see the collector's log.", None),
    }
}

fn perform(shared: &Shared, deed: Deed, fingerprint: &str) -> Result<String, String> {
    let alert = find(shared, fingerprint).ok_or("This alert is over: there is nothing to do.")?;
    let told = |error: crate::alerts::desk::DeskError| crate::error_chain(&error);
    match deed {
        Deed::Ack => {
            shared.app.desk.act_on_alert(fingerprint, &Act::Acknowledge, BY, "").map_err(told)?;
            Ok("Acknowledged. It will not be repeated; its end will be told.".to_owned())
        }
        Deed::Silence => {
            let now_ms = unix_ms();
            let matchers = alert.labels.iter().map(|(name, value)| Matcher::new(name, MatchOp::Equal, value));
            let silence = Silence {
                id: String::new(),
                matchers: matchers.collect::<Result<_, _>>()?,
                starts_ms: now_ms,
                ends_ms: now_ms + SILENCE_MS,
                created_by: BY.to_owned(),
                comment: format!("from the message about {}", alert.name),
                updated_ms: 0,
                recurrence: Vec::new(),
            };
            shared.app.desk.set_silence(silence).map_err(told)?;
            Ok("Silenced for 2 h.".to_owned())
        }
    }
}

fn find(shared: &Shared, fingerprint: &str) -> Option<AlertInfo> {
    shared.app.alarms.alerts().into_iter().find(|alert| {
        let labels = LabelSet::new(alert.labels.iter().map(|(name, value)| (&**name, &**value)));
        format!("{:016x}", labels.fingerprint()) == fingerprint
    })
}

fn headline(alert: &AlertInfo) -> String {
    let summary = alert.annotations.get("summary").unwrap_or(&alert.name);
    let host = alert.labels.get("instance").map(|host| format!("{host}: ")).unwrap_or_default();
    if summary.contains(host.trim_end_matches(": ")) { summary.clone() } else { format!("{host}{summary}") }
}

fn gone() -> Response {
    page(StatusCode::NOT_FOUND, "This link is wrong, or older than a week.", None)
}

fn page(status: StatusCode, text: &str, button: Option<&str>) -> Response {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let form = button.map(|word| format!("<form method=\"post\"><button>{word}</button></form>")).unwrap_or_default();
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Pitwatch</title><style>body{{font:16px system-ui;margin:3em auto;max-width:32em;padding:0 1em;\
         color-scheme:light dark}}button{{font:inherit;padding:.5em 1em}}</style><main><h1>Pitwatch</h1><p>{text}</p>{form}</main></html>"
    );
    let mut response = (status, body).into_response();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}
