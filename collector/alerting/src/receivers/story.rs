//! A message as people read it: what is wrong, since when, who did it, what to do, where to look.
//!
//! One alert is told in full; of several each has a line, the worst first. Annotations that are read: `summary`,
//! `description`, `impact`, `action`, `runbook_url`.

use std::collections::BTreeMap;

use crate::labels::{ALERT_NAME, METRIC_NAME};
use crate::limits;
use crate::message::{Detail, Frame, Message, Moment};
use crate::notification::{Notification, Transition};
use crate::time::{clock, span};

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Over.
    Good,
    /// Nobody knows any more.
    Gone,
    /// To be known.
    Info,
    /// Today.
    Warning,
    /// Now.
    Bad,
}

impl Tone {
    /// Its mark.
    #[must_use]
    pub fn mark(self) -> &'static str {
        match self {
            Self::Good => "🟢",
            Self::Gone => "⚪",
            Self::Info => "🔵",
            Self::Warning => "🟠",
            Self::Bad => "🔴",
        }
    }

    /// Its colour.
    #[must_use]
    pub fn rgb(self) -> u32 {
        match self {
            Self::Good => 0x2e_a0_43,
            Self::Gone => 0x8b_94_9e,
            Self::Info => 0x1f_6f_eb,
            Self::Warning => 0xd2_99_22,
            Self::Bad => 0xda_36_33,
        }
    }

    fn of(alert: &Notification) -> Self {
        match (alert.transition, alert.labels.value("severity")) {
            (Transition::Resolved, _) => Self::Good,
            (Transition::Withdrawn, _) => Self::Gone,
            (_, Some("warning")) => Self::Warning,
            (_, Some("info" | "none")) => Self::Info,
            _ => Self::Bad,
        }
    }
}

/// A message before any platform's markup.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// How it stands.
    pub tone: Tone,
    /// One line, its mark in front.
    pub title: String,
    /// What follows, the most important first.
    pub paragraphs: Vec<Paragraph>,
    /// Paragraphs of alerts among them: where there is not room for all, how many are left out is said.
    pub alerts: usize,
    /// Where to look and what to do; never left out.
    pub links: Vec<Link>,
}

/// Lines that belong together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Paragraph {
    /// Its lines.
    pub lines: Vec<String>,
    /// A link at its end.
    pub link: Option<Link>,
    /// Whether it is one of many alerts.
    pub is_alert: bool,
}

/// A link, whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it says.
    pub word: String,
    /// Where it leads; empty if it is too long to be sent.
    pub url: String,
}

impl Link {
    fn new(word: &str, url: &str) -> Option<Self> {
        if !(url.starts_with("https://") || url.starts_with("http://")) || url.contains(['|', '>', '<', ' ', '\n']) {
            return None;
        }
        if url.chars().count() > limits::LINK_MAX_CHARS {
            return Some(Self { word: format!("{word} (its link is too long to send)"), url: String::new() });
        }
        Some(Self { word: word.to_owned(), url: url.to_owned() })
    }
}

/// The story of a message.
#[must_use]
pub fn story(message: &Message, frame: &Frame) -> Story {
    let mut story = match message.single() {
        Some(alert) => single(alert, message, frame),
        None => many(message, frame),
    };
    if message.detail == Detail::Short {
        story.paragraphs = vec![lines(["The full message was refused as it was: see the link.".to_owned()])];
        story.alerts = 0;
    }
    if let Some(note) = &message.note {
        story.paragraphs.insert(0, lines([note.clone()]));
    }
    story
}

fn single(alert: &Notification, message: &Message, frame: &Frame) -> Story {
    let moment = frame.moments.get(&alert.alert_key).cloned().unwrap_or_default();
    let fires = !alert.is_over();
    let tone = Tone::of(alert);
    let mut paragraphs = vec![lines([annotation(alert, "description"), state(alert, &moment, message.now_ms)])];
    if fires {
        let who = moment.who.clone().unwrap_or_default();
        let impact = Some(annotation(alert, "impact")).filter(|text| !text.is_empty());
        let impact = impact.map_or_else(String::new, |text| format!("Impact: {text}"));
        paragraphs.push(lines([who, impact, also(message), labels(alert)]));
        let action = annotation(alert, "action");
        let runbook = alert.annotations.value("runbook_url").and_then(|url| Link::new("runbook", url));
        let action = if action.is_empty() { action } else { format!("Do: {action}") };
        paragraphs.push(Paragraph { link: runbook, ..lines([action]) });
    } else {
        paragraphs.push(lines([labels(alert)]));
    }
    paragraphs.retain(|paragraph| !paragraph.lines.is_empty() || paragraph.link.is_some());
    let mut links = Vec::new();
    if fires {
        links.extend(moment.actions.iter().filter_map(|(word, url)| Link::new(word, url)));
    }
    links.extend(host_link(alert, frame));
    links.extend(page(frame, &format!("/alerts/{}", alert.fingerprint())));
    let title = format!("{} {}{}", tone.mark(), headline(alert), ending(alert, message));
    Story { tone, title, paragraphs, alerts: 0, links }
}

fn many(message: &Message, frame: &Frame) -> Story {
    let tone = message.firing.iter().map(|alert| Tone::of(alert)).max();
    let tone = tone.unwrap_or(if message.is_withdrawn() { Tone::Gone } else { Tone::Good });
    let mut alerts: Vec<&Notification> = message.alerts().map(|alert| &**alert).collect();
    // The worst first; among equals in the order of the message.
    alerts.sort_by_key(|alert| std::cmp::Reverse(Tone::of(alert)));
    let mut paragraphs: Vec<Paragraph> = Vec::new();
    let also = also(message);
    if !also.is_empty() {
        paragraphs.push(lines([also]));
    }
    paragraphs.extend(alerts.iter().take(limits::STORY_ALERTS_MAX).map(|alert| {
        let moment = frame.moments.get(&alert.alert_key).cloned().unwrap_or_default();
        let first = format!("{} {}", Tone::of(alert).mark(), headline(alert));
        Paragraph { is_alert: true, ..lines([first, state(alert, &moment, message.now_ms)]) }
    }));
    let title = format!("{} {}", tone.mark(), summary(message));
    Story { tone, title, paragraphs, alerts: alerts.len(), links: page(frame, "/alerts").into_iter().collect() }
}

/// What many alerts are: their kinds with how many, or what they have in common.
fn summary(message: &Message) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for alert in message.alerts() {
        *kinds.entry(alert.name()).or_default() += 1;
    }
    let mut kinds: Vec<(&str, usize)> = kinds.into_iter().collect();
    kinds.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let (firing, over) = (message.firing.len(), message.over.len());
    let counts = match (firing, over) {
        (0, over) => format!("{over} resolved"),
        (firing, 0) => format!("{firing} firing"),
        (firing, over) => format!("{firing} firing, {over} resolved"),
    };
    let again = if message.is_repeat { ", still" } else { "" };
    let shown = kinds.iter().take(3).map(|(name, count)| match (*count, kinds.len()) {
        (1, _) | (_, 1) => (*name).to_owned(),
        (count, _) => format!("{name} ({count})"),
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    let more = kinds.len().saturating_sub(3);
    let more = if more > 0 { format!(" and {more} other kinds") } else { String::new() };
    let common = message.common_labels();
    let place = ["instance", "provider", "region", "env"].iter().find_map(|name| common.value(name));
    let place = place.map(|place| format!(" on {place}")).unwrap_or_default();
    format!("{shown}{more}{place}: {counts}{again}")
}

/// What is wrong in one line.
fn headline(alert: &Notification) -> String {
    let instance = alert.labels.value("instance");
    let summary = alert.annotations.value("summary").unwrap_or("");
    let what = match (summary, instance) {
        ("", Some(instance)) => format!("{} on {instance}", alert.name()),
        ("", None) => alert.name().to_owned(),
        (summary, Some(instance)) if !summary.contains(instance) => format!("{instance}: {summary}"),
        (summary, _) => summary.to_owned(),
    };
    what.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn ending(alert: &Notification, message: &Message) -> String {
    match alert.transition {
        Transition::Fired | Transition::NoData if message.is_repeat => {
            format!(" – still, after {}", span(message.now_ms - alert.fired_at_ms))
        }
        Transition::Fired => String::new(),
        Transition::NoData => " – no data any more".to_owned(),
        Transition::Resolved => {
            format!(" – resolved after {}", span(alert.resolved_at_ms.unwrap_or(alert.at_ms) - alert.fired_at_ms))
        }
        Transition::Withdrawn => " – no longer watched".to_owned(),
    }
}

/// Now, since when, and what is not known.
fn state(alert: &Notification, moment: &Moment, now_ms: i64) -> String {
    let since = format!("since {}", clock(alert.active_at_ms));
    match alert.transition {
        Transition::Fired | Transition::NoData => {
            // A description says the value in its own words and unit.
            let described = alert.annotations.value("description").is_some();
            let value = moment.value.unwrap_or(alert.value);
            let value = if described { String::new() } else { format!("{} now, ", figure(value)) };
            let spark = moment.spark.as_ref().map(|bars| format!("{bars} ")).unwrap_or_default();
            let missing = moment.no_data_since_ms.or(alert.no_data_since_ms);
            let unknown = missing.map(|since| format!(" · no data since {}", clock(since))).unwrap_or_default();
            format!("{spark}{value}{since} ({}){unknown}", span((now_ms - alert.active_at_ms).max(0)))
        }
        Transition::Resolved => {
            let ended = clock(alert.resolved_at_ms.unwrap_or(alert.at_ms));
            format!("last bad value {}, {since} until {ended}", figure(alert.value))
        }
        Transition::Withdrawn => {
            let cause = "its rule or its host was taken out of the configuration; the fault may remain";
            format!("{cause} · fired {}", clock(alert.fired_at_ms))
        }
    }
}

fn annotation(alert: &Notification, name: &str) -> String {
    match alert.annotations.value(name) {
        Some(text) if !alert.is_over() => {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// What the alerts keep quiet.
fn also(message: &Message) -> String {
    if message.also.is_empty() {
        return String::new();
    }
    let shown = message.also.iter().take(limits::STORY_ALSO_MAX).map(|alert| {
        let place = ["instance", "service", "provider", "target"].iter().find_map(|name| alert.labels.value(name));
        place.map_or_else(|| alert.name().to_owned(), |place| format!("{} ({place})", alert.name()))
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    let more = message.also.len().saturating_sub(limits::STORY_ALSO_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let alerts = if message.also.len() == 1 { "1 alert".to_owned() } else { format!("{} alerts", message.also.len()) };
    format!("Also affected, {alerts} kept quiet: {shown}{more}")
}

/// What identifies the alert beyond its title: first what people sort by, then the rest.
fn labels(alert: &Notification) -> String {
    const FIRST: [&str; 5] = ["severity", "env", "region", "role", "provider"];
    let known = |name: &str| FIRST.contains(&name) || matches!(name, "instance" | ALERT_NAME | METRIC_NAME);
    let first = FIRST.iter().filter_map(|name| Some((*name, alert.labels.value(name)?)));
    let rest = alert.labels.iter().filter(|(name, _)| !known(name));
    first.chain(rest).map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(" · ")
}

fn host_link(alert: &Notification, frame: &Frame) -> Option<Link> {
    let host = alert.labels.value("instance")?;
    let url = format!("{}/hosts/{}", frame.external_url, crate::template::url_query_escape(host));
    Link::new("Host", &url)
}

fn page(frame: &Frame, path: &str) -> Option<Link> {
    Link::new("Open", &format!("{}{path}", frame.external_url))
}

fn lines<const N: usize>(lines: [String; N]) -> Paragraph {
    let lines = lines.into_iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    Paragraph { lines, ..Paragraph::default() }
}

/// A value for people: three significant figures, large and small ones in powers of ten.
pub(crate) fn figure(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    if !(1e-3..1e9).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    let decimals = match magnitude {
        m if m >= 99.95 => 0,
        m if m >= 9.995 => 1,
        m if m >= 0.9995 => 2,
        m if m >= 0.09995 => 3,
        m if m >= 0.009_995 => 4,
        _ => 5,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Values as bars from low to high, one a value; what is missing is a gap.
#[must_use]
pub fn spark(values: &[Option<f64>]) -> Option<String> {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let known: Vec<f64> = values.iter().flatten().copied().filter(|value| value.is_finite()).collect();
    let (low, high) = known.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
    if known.len() < 3 {
        return None;
    }
    let bar = |value: f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 1 becomes 0 to 7")]
        BARS[((share * 7.0).round() as usize).min(7)]
    };
    Some(values.iter().map(|value| value.filter(|v| v.is_finite()).map_or(' ', bar)).collect())
}
