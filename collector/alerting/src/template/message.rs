//! What templates of messages speak of: Alertmanager's data and functions, and named templates.
//!
//! The dot is the message: `.Receiver`, `.Status`, `.Alerts` (`.Firing`, `.Resolved`), `.GroupLabels`, `.CommonLabels`,
//! `.CommonAnnotations`, `.ExternalURL`. An alert has `.Status`, `.Labels`, `.Annotations`, `.StartsAt`, `.EndsAt`,
//! `.GeneratorURL`, `.Fingerprint`; labels have `.SortedPairs`, `.Names`, `.Values`, `.Remove`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::TemplateError;
use super::functions::Value;
use super::parse::{self, Node};
use crate::labels::LabelSet;
use crate::message::{Frame, Message};
use crate::notification::Notification;
use crate::receivers::expr_url;
use crate::time;

/// Templates that others call by name. Alertmanager's default names are there, in our own words.
#[derive(Debug)]
pub struct Library {
    named: BTreeMap<Box<str>, Vec<Node>>,
}

impl Default for Library {
    fn default() -> Self {
        let mut library = Self { named: BTreeMap::new() };
        // They are ours and are tested: they parse.
        let _ = library.add(DEFAULTS);
        library
    }
}

impl Library {
    /// Adds the named templates of a file; a name that is there already gets the new body.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`]
    pub fn add(&mut self, text: &str) -> Result<(), TemplateError> {
        let (_, defines) = parse::parse_message(text)?;
        self.named.extend(defines);
        Ok(())
    }

    pub(super) fn find(&self, name: &str) -> Option<&Vec<Node>> {
        self.named.get(name)
    }
}

/// What files that were written for Alertmanager call by name.
const DEFAULTS: &str = r##"
{{ define "__subject" }}[{{ .Status | toUpper }}{{ if eq .Status "firing" }}:{{ .Alerts.Firing | len }}{{ end }}] {{ .GroupLabels.SortedPairs.Values | join " " }}{{ end }}
{{ define "__description" }}{{ .CommonAnnotations.summary }}{{ end }}
{{ define "__alertmanager" }}Pitwatch{{ end }}
{{ define "__alertmanagerURL" }}{{ .ExternalURL }}/alerts{{ end }}
{{ define "__text_alert_list" }}{{ range . }}Labels:
{{ range .Labels.SortedPairs }} - {{ .Name }} = {{ .Value }}
{{ end }}Annotations:
{{ range .Annotations.SortedPairs }} - {{ .Name }} = {{ .Value }}
{{ end }}Source: {{ .GeneratorURL }}
{{ end }}{{ end }}
{{ define "__text_alert_list_markdown" }}{{ template "__text_alert_list" . }}{{ end }}
{{ define "__both" }}{{ if gt (len .Alerts.Firing) 0 }}Alerts firing:
{{ template "__text_alert_list" .Alerts.Firing }}{{ end }}{{ if gt (len .Alerts.Resolved) 0 }}Alerts resolved:
{{ template "__text_alert_list" .Alerts.Resolved }}{{ end }}{{ end }}
{{ define "slack.default.title" }}{{ template "__subject" . }}{{ end }}
{{ define "slack.default.text" }}{{ template "__both" . }}{{ end }}
{{ define "slack.default.username" }}Pitwatch{{ end }}
{{ define "slack.default.fallback" }}{{ template "__subject" . }}{{ end }}
{{ define "slack.default.pretext" }}{{ end }}
{{ define "slack.default.titlelink" }}{{ template "__alertmanagerURL" . }}{{ end }}
{{ define "slack.default.iconemoji" }}{{ end }}
{{ define "slack.default.footer" }}{{ end }}
{{ define "discord.default.title" }}{{ template "__subject" . }}{{ end }}
{{ define "discord.default.message" }}{{ template "__both" . }}{{ end }}
{{ define "telegram.default.message" }}{{ template "__both" . }}{{ end }}
{{ define "msteams.default.title" }}{{ template "__subject" . }}{{ end }}
{{ define "msteams.default.summary" }}{{ template "__subject" . }}{{ end }}
{{ define "msteams.default.text" }}{{ template "__both" . }}{{ end }}
{{ define "pagerduty.default.description" }}{{ template "__subject" . }}{{ end }}
{{ define "pagerduty.default.instances" }}{{ template "__text_alert_list" . }}{{ end }}
{{ define "email.default.subject" }}{{ template "__subject" . }}{{ end }}
{{ define "email.default.html" }}<pre>{{ template "__both" . }}</pre>{{ end }}
"##;

/// A message as its templates see it.
pub(super) fn data(message: &Message, frame: &Frame) -> Value {
    let alerts: Vec<Value> = message.alerts().map(|one| alert(one, frame)).collect();
    record([
        ("Receiver", Value::Text(message.receiver.clone())),
        ("Status", Value::from_text(message.status())),
        ("Alerts", Value::List(alerts.into())),
        ("GroupLabels", Value::Labels(message.group_labels.clone())),
        ("CommonLabels", Value::Labels(message.common_labels())),
        ("CommonAnnotations", Value::Labels(message.common_annotations())),
        ("ExternalURL", Value::from_text(&*frame.external_url)),
    ])
}

fn alert(one: &Notification, frame: &Frame) -> Value {
    record([
        ("Status", Value::from_text(if one.is_over() { "resolved" } else { "firing" })),
        ("Labels", Value::Labels(one.labels.clone())),
        ("Annotations", Value::Labels(crate::receivers::annotations(one, frame))),
        ("StartsAt", Value::Time(one.fired_at_ms)),
        // Go's zero time stands for an end that is not there.
        ("EndsAt", Value::Time(one.resolved_at_ms.unwrap_or(GO_ZERO_MS))),
        ("GeneratorURL", Value::from_text(expr_url(&frame.external_url, &one.expr))),
        ("Fingerprint", Value::from_text(one.fingerprint())),
    ])
}

/// 0001-01-01T00:00:00Z.
const GO_ZERO_MS: i64 = -62_135_596_800_000;

fn record<const N: usize>(fields: [(&'static str, Value); N]) -> Value {
    Value::Record(Arc::new(fields.into()))
}

fn pair(name: &str, value: &str) -> Value {
    record([("Name", Value::from_text(name)), ("Value", Value::from_text(value))])
}

/// A field or a method of a value.
pub(super) fn method(base: &Value, name: &str, arguments: &[Value]) -> Result<Value, String> {
    let list = |values: Vec<Value>| Ok(Value::List(values.into()));
    match (base, name, arguments) {
        (Value::Record(fields), name, []) => {
            fields.get(name).cloned().ok_or_else(|| format!("there is no field .{name}"))
        }
        (Value::List(items), "Firing" | "Resolved", []) => {
            let wanted = name.to_lowercase();
            list(items.iter().filter(|item| text_field(item, "Status") == wanted).cloned().collect())
        }
        (Value::List(items), "Names" | "Values", []) => {
            let part = name.trim_end_matches('s');
            list(items.iter().map(|item| Value::from_text(text_field(item, part))).collect())
        }
        (Value::Labels(labels), "SortedPairs", []) => {
            // The alert's name comes first, as in Alertmanager.
            let (first, rest): (Vec<_>, Vec<_>) =
                labels.iter().partition(|(name, _)| *name == crate::labels::ALERT_NAME);
            list(first.into_iter().chain(rest).map(|(name, value)| pair(name, value)).collect())
        }
        (Value::Labels(labels), "Names", []) => list(labels.iter().map(|(name, _)| Value::from_text(name)).collect()),
        (Value::Labels(labels), "Values", []) => {
            list(labels.iter().map(|(_, value)| Value::from_text(value)).collect())
        }
        (Value::Labels(labels), "Remove", [Value::List(names)]) => {
            let gone: Vec<String> = names.iter().map(Value::to_string).collect();
            Ok(Value::Labels(LabelSet::new(labels.iter().filter(|(name, _)| !gone.iter().any(|one| one == name)))))
        }
        (Value::Time(ms), "Format", [Value::Text(layout)]) => Ok(Value::from_text(go_format(*ms, layout, None)?)),
        (Value::Time(ms), "UTC" | "Local", []) => Ok(Value::Time(*ms)),
        (Value::Time(ms), "Unix", []) => Ok(Value::Int(ms.div_euclid(1000))),
        (Value::Time(ms), "UnixMilli", []) => Ok(Value::Int(*ms)),
        (Value::Time(ms), "IsZero", []) => Ok(Value::Bool(*ms == GO_ZERO_MS)),
        (Value::Time(ms), "Sub", [Value::Time(other)]) => Ok(Value::Duration((ms - other).saturating_mul(1_000_000))),
        (base, name, _) => Err(format!("{} has no .{name} that takes these", base.kind())),
    }
}

fn text_field(value: &Value, name: &str) -> String {
    match value {
        Value::Record(fields) => fields.get(name).map(Value::to_string).unwrap_or_default(),
        _ => String::new(),
    }
}

/// Alertmanager's functions that Prometheus does not have.
pub(super) fn call(name: &str, arguments: &[Value], now_ms: i64) -> Result<Value, String> {
    match (name, arguments) {
        ("join", [Value::Text(between), Value::List(items)]) => {
            Ok(Value::from_text(items.iter().map(Value::to_string).collect::<Vec<_>>().join(between)))
        }
        ("stringSlice", texts) => Ok(Value::List(texts.to_vec().into())),
        ("trimSpace", [text]) => Ok(Value::from_text(text.text()?.trim())),
        ("safeUrl", [text]) => Ok(Value::from_text(text.text()?)),
        ("urlUnescape", [text]) => Ok(Value::from_text(unescape(text.text()?))),
        ("since", [Value::Time(ms)]) => Ok(Value::Duration((now_ms - ms).saturating_mul(1_000_000))),
        ("date", [Value::Text(layout), Value::Time(ms)]) => Ok(Value::from_text(go_format(*ms, layout, None)?)),
        // An instant in a place's clock prints as such only through `date`: the place goes along as text.
        ("tz", [Value::Text(place), Value::Time(ms)]) => {
            Ok(Value::from_text(go_format(*ms, "2006-01-02 15:04:05 -0700 MST", Some(place))?))
        }
        ("toJson", [value]) => Ok(Value::from_text(json(value).to_string())),
        _ => Err("does not take these, or is not known here".to_owned()),
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil | Value::Root => serde_json::Value::Null,
        Value::Bool(v) => (*v).into(),
        Value::Int(v) => (*v).into(),
        Value::Float(v) => (*v).into(),
        Value::Text(text) => (**text).into(),
        Value::Labels(labels) => serde_json::json!(labels),
        Value::List(items) | Value::Args(items) => items.iter().map(json).collect(),
        Value::Record(fields) => fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Time(ms) => time::rfc3339(*ms).into(),
        Value::Duration(ns) => (*ns).into(),
        Value::Sample(_) | Value::Samples(_) => value.to_string().into(),
    }
}

fn unescape(text: &str) -> String {
    let (mut out, bytes) = (Vec::new(), text.as_bytes());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An instant in a layout of Go's time package: parts of `Mon Jan 2 15:04:05 MST 2006`.
fn go_format(ms: i64, layout: &str, place: Option<&str>) -> Result<String, String> {
    const PARTS: [(&str, &str); 23] = [
        ("2006", "%Y"),
        ("January", "%B"),
        ("Jan", "%b"),
        ("Monday", "%A"),
        ("Mon", "%a"),
        ("MST", "%Z"),
        ("Z07:00", "%:z"),
        ("-07:00", "%:z"),
        ("-0700", "%z"),
        (".000000", ".%6f"),
        (".000", ".%3f"),
        ("01", "%m"),
        ("02", "%d"),
        ("03", "%I"),
        ("04", "%M"),
        ("05", "%S"),
        ("06", "%y"),
        ("15", "%H"),
        ("_2", "%e"),
        ("PM", "%p"),
        ("1", "%-m"),
        ("2", "%-d"),
        ("3", "%-I"),
    ];
    let zone = match place {
        None => jiff::tz::TimeZone::UTC,
        Some(place) => jiff::tz::TimeZone::get(place).map_err(|_| format!("there is no time zone {place:?}"))?,
    };
    let instant = jiff::Timestamp::from_millisecond(ms).map_err(|_| format!("{ms} is no instant"))?.to_zoned(zone);
    let (mut rest, mut format) = (layout, String::new());
    while let Some(c) = rest.chars().next() {
        match PARTS.iter().find(|(part, _)| rest.starts_with(part)) {
            Some(("Z07:00", _)) if place.is_none() => {
                format.push('Z');
                rest = &rest["Z07:00".len()..];
            }
            Some((part, by)) => {
                format.push_str(by);
                rest = &rest[part.len()..];
            }
            None => {
                format.push(c);
                if c == '%' {
                    format.push('%');
                }
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    let text = jiff::fmt::strtime::format(&format, &instant);
    text.map_err(|_| format!("{layout:?} is no layout of a time, such as \"2006-01-02 15:04\""))
}
