//! A Slack-compatible message: what is wrong, since when, who did it, what to do, where to look.
//!
//! Too long parts are shortened by meaning: each part has its own room, the title and the links always fit, and a
//! link is never cut. Annotations that are read: `summary`, `description`, `impact`, `action`, `runbook_url`.

use serde_json::json;

use super::{Frame, figure};
use crate::labels::{ALERT_NAME, METRIC_NAME};
use crate::limits;
use crate::notification::{Notification, Transition};
use crate::time::{clock, span};

/// Characters of each part, once escaped.
const TITLE_MAX_CHARS: usize = 300;
const DESCRIPTION_MAX_CHARS: usize = 2_000;
const WHO_MAX_CHARS: usize = 1_000;
const IMPACT_MAX_CHARS: usize = 800;
const ACTION_MAX_CHARS: usize = 1_500;
const LABELS_MAX_CHARS: usize = 1_000;

const _: () = assert!(TITLE_MAX_CHARS + DESCRIPTION_MAX_CHARS + 200 <= limits::SLACK_SECTION_MAX_CHARS);
const _: () = assert!(WHO_MAX_CHARS + IMPACT_MAX_CHARS + LABELS_MAX_CHARS + 100 <= limits::SLACK_SECTION_MAX_CHARS);
const _: () = assert!(ACTION_MAX_CHARS + limits::LINK_MAX_CHARS + 100 <= limits::SLACK_SECTION_MAX_CHARS);
const _: () =
    assert!(3 * limits::SLACK_SECTION_MAX_CHARS + 2 * limits::LINK_MAX_CHARS <= limits::SLACK_MESSAGE_MAX_CHARS);
const _: () = assert!(SECTIONS <= limits::SLACK_BLOCKS_MAX);

/// Most sections that a message has.
const SECTIONS: usize = 4;

/// The body for one notification.
#[must_use]
pub fn body(notification: &Notification, frame: &Frame<'_>) -> String {
    let title = title(notification);
    let sections = [
        [format!("*{title}*"), description(notification), state(notification)],
        [who(notification), annotation(notification, "impact", "Impact: ", IMPACT_MAX_CHARS), labels(notification)],
        [action(notification), String::new(), String::new()],
        [links(notification, frame), String::new(), String::new()],
    ];
    let blocks: Vec<_> = sections
        .iter()
        .map(|lines| lines.iter().filter(|line| !line.is_empty()).map(String::as_str).collect::<Vec<_>>().join("\n"))
        .filter(|text| !text.is_empty())
        .map(|text| json!({"type": "section", "text": {"type": "mrkdwn", "text": text}}))
        .collect();
    // What the notification of the phone shows; Slack shows the blocks instead where it can.
    json!({"text": title, "blocks": blocks}).to_string()
}

fn title(notification: &Notification) -> String {
    let firing_ms = notification.at_ms - notification.fired_at_ms;
    let (mark, word) = match notification.transition {
        Transition::Fired => (severity_mark(notification), String::new()),
        Transition::Repeated => (severity_mark(notification), format!(" – still, after {}", span(firing_ms))),
        Transition::NoData => (severity_mark(notification), " – no data any more".to_owned()),
        Transition::Resolved => ("🟢", format!(" – resolved after {}", span(firing_ms))),
        Transition::Withdrawn => ("⚪", " – no longer watched".to_owned()),
    };
    let instance = notification.labels.value("instance");
    let summary = notification.annotations.value("summary").unwrap_or("");
    let what = match (summary, instance) {
        ("", Some(instance)) => format!("{} on {instance}", notification.name()),
        ("", None) => notification.name().to_owned(),
        (summary, Some(instance)) if !summary.contains(instance) => format!("{instance}: {summary}"),
        (summary, _) => summary.to_owned(),
    };
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{mark} {}{word}", escaped(&what, TITLE_MAX_CHARS))
}

/// Colour says how urgent; the word beside it is in the labels' line.
fn severity_mark(notification: &Notification) -> &'static str {
    match notification.labels.value("severity") {
        Some("warning") => "🟠",
        Some("info" | "none") => "🔵",
        _ => "🔴",
    }
}

/// Now, since when, and what is not known.
fn state(notification: &Notification) -> String {
    let since = format!("since {}", clock(notification.active_at_ms));
    let lasted = span(notification.at_ms - notification.active_at_ms);
    match notification.transition {
        Transition::Fired | Transition::Repeated | Transition::NoData => {
            // A description says the value in its own words and unit.
            let described = notification.annotations.value("description").is_some();
            let value = if described { String::new() } else { format!("{} now, ", figure(notification.value)) };
            let unknown = notification.no_data_since_ms.map(|since| format!(" · no data since {}", clock(since)));
            format!("{value}{since} ({lasted}){}", unknown.unwrap_or_default())
        }
        Transition::Resolved => {
            format!("last bad value {}, {since} until {}", figure(notification.value), clock(notification.at_ms))
        }
        Transition::Withdrawn => {
            let cause = "its rule or its host was taken out of the configuration; the fault may remain";
            format!("{cause} · fired {}", clock(notification.fired_at_ms))
        }
    }
}

fn description(notification: &Notification) -> String {
    match notification.transition {
        Transition::Fired | Transition::Repeated | Transition::NoData => {
            annotation(notification, "description", "", DESCRIPTION_MAX_CHARS)
        }
        Transition::Resolved | Transition::Withdrawn => String::new(),
    }
}

fn who(notification: &Notification) -> String {
    let who = notification.who.as_deref().filter(|_| !notification.is_over());
    who.map_or_else(String::new, |who| escaped(who.trim(), WHO_MAX_CHARS))
}

fn annotation(notification: &Notification, name: &str, before: &str, max_chars: usize) -> String {
    match notification.annotations.value(name).map(str::trim) {
        Some(text) if !text.is_empty() && !notification.is_over() => {
            let text = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
            format!("{before}{}", escaped(&text, max_chars))
        }
        _ => String::new(),
    }
}

/// What identifies the alert beyond its title: first what people sort by, then the rest.
fn labels(notification: &Notification) -> String {
    const FIRST: [&str; 5] = ["severity", "env", "region", "role", "provider"];
    let known = |name: &str| FIRST.contains(&name) || matches!(name, "instance" | ALERT_NAME | METRIC_NAME);
    let first = FIRST.iter().filter_map(|name| Some((*name, notification.labels.value(name)?)));
    let rest = notification.labels.iter().filter(|(name, _)| !known(name));
    let words: Vec<String> = first.chain(rest).map(|(name, value)| format!("{name} {value}")).collect();
    escaped(&words.join(" · "), LABELS_MAX_CHARS)
}

fn action(notification: &Notification) -> String {
    if notification.is_over() {
        return String::new();
    }
    let action = annotation(notification, "action", "Do: ", ACTION_MAX_CHARS);
    let runbook = notification.annotations.value("runbook_url").unwrap_or("");
    let runbook = link(runbook, "runbook").unwrap_or_default();
    match (action.is_empty(), runbook.is_empty()) {
        (false, false) => format!("{action} → {runbook}"),
        _ => action + &runbook,
    }
}

fn links(notification: &Notification, frame: &Frame<'_>) -> String {
    let open = frame.alert_url(notification).and_then(|url| link(&url, "Open"));
    open.unwrap_or_default()
}

/// A link, whole or not at all; one that is too long is named, so that it can be looked up.
fn link(url: &str, word: &str) -> Option<String> {
    if !(url.starts_with("https://") || url.starts_with("http://")) || url.contains(['|', '>', '<']) {
        return None;
    }
    match url.chars().count() {
        0..=limits::LINK_MAX_CHARS => Some(format!("<{}|{word}>", url.replace('&', "&amp;"))),
        _ => Some(format!("{word} (its link is too long to send)")),
    }
}

/// Slack's three escapes, cut to `max_chars` where needed, with an ellipsis, never within an escape.
fn escaped(text: &str, max_chars: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = 0;
    for c in text.chars() {
        let mut buffer = [0; 4];
        let piece = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            c => c.encode_utf8(&mut buffer),
        };
        // Escapes are ASCII, all else one character.
        let length = if piece.len() > 1 && piece.is_ascii() { piece.len() } else { 1 };
        if chars + length >= max_chars {
            out.push('…');
            break;
        }
        chars += length;
        out.push_str(piece);
    }
    out
}
