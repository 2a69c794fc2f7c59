//! Events: what happened once on a host, as a frame of the events lane and as a line of history.
//!
//! A frame of the lane is one byte, [`FRAME_VERSION`], and one event in [`crate::wire`]'s format, so that a frame that was
//! lost is an event that was lost. Every frame stands alone: it begins a chain. Kinds and severities travel as words:
//! a collector keeps those that it does not know.
//!
//! In history an event is a line in the form of logfmt ([`Event::to_line`]) of the stream that [`Event::stream`] names.

use wincode::{SchemaRead, SchemaWrite};

use crate::limits;
use crate::model::{INSTANCE, Labels};
use crate::wire;

/// The first byte of a frame.
pub const FRAME_VERSION: u8 = 1;
/// Longest word of a kind, bytes.
pub const KIND_MAX_BYTES: usize = 64;
/// Longest summary, bytes.
pub const SUMMARY_MAX_BYTES: usize = 1024;
/// Most labels of an event.
pub const EVENT_LABELS_MAX: usize = 16;
/// Longest value of an event's label, bytes.
pub const EVENT_LABEL_VALUE_MAX_BYTES: usize = 512;
/// The label of history that tells events from other lines, and its value.
pub const LANE_LABEL: (&str, &str) = ("lane", "events");
/// The label with the event's kind.
pub const KIND_LABEL: &str = "kind";
/// The label with the event's severity.
pub const SEVERITY_LABEL: &str = "severity";

const _: () = assert!(
    KIND_MAX_BYTES
        + SUMMARY_MAX_BYTES
        + EVENT_LABELS_MAX * (limits::LABEL_NAME_MAX_BYTES + EVENT_LABEL_VALUE_MAX_BYTES + 16)
        + 64
        < limits::CONTROL_MESSAGE_MAX_BYTES
);

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Something is broken.
    Critical,
}

impl Severity {
    /// Every severity, the least first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The severity of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == word)
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Event {
    /// When, by the host's clock, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// What: lower-case letters, digits and `_`.
    pub kind: String,
    /// A severity's word.
    pub severity: String,
    /// A sentence for people.
    pub summary: String,
    /// Details, by names that PromQL takes.
    pub labels: Vec<(String, String)>,
}

/// Why a frame of the events lane holds no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not the bytes of an event.
    #[error("malformed event: {0}")]
    Malformed(String),
    /// A frame of a later version.
    #[error("an event's frame of version {0}; this program knows version {FRAME_VERSION}")]
    Newer(u8),
    /// Something in it is over its limit, or a word is none.
    #[error("an event whose {0} is not within its limits")]
    Limit(&'static str),
}

impl Event {
    /// An event within its limits: texts are cut at them, labels beyond them left out.
    #[must_use]
    pub fn new(time_ms: i64, kind: &str, severity: Severity, summary: &str, labels: &[(&str, &str)]) -> Self {
        let labels = labels.iter().filter(|(name, value)| is_label(name) && !value.is_empty());
        let labels = labels.take(EVENT_LABELS_MAX).map(|(name, value)| {
            ((*name).to_owned(), value[..value.floor_char_boundary(EVENT_LABEL_VALUE_MAX_BYTES)].to_owned())
        });
        Self {
            time_ms,
            kind: kind[..kind.floor_char_boundary(KIND_MAX_BYTES)].to_owned(),
            severity: severity.as_str().to_owned(),
            summary: summary[..summary.floor_char_boundary(SUMMARY_MAX_BYTES)].to_owned(),
            labels: labels.collect(),
        }
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// Over the limit of a message, which [`Event::new`] keeps to.
    pub fn encode(&self) -> Result<Vec<u8>, wire::WireError> {
        let mut bytes = vec![FRAME_VERSION];
        bytes.extend_from_slice(&wire::encode(self)?);
        Ok(bytes)
    }

    /// The event of a frame, checked against every limit.
    ///
    /// # Errors
    /// Anything that is not one.
    pub fn decode(frame: &[u8]) -> Result<Self, EventError> {
        let event: Self = match frame.split_first() {
            Some((&FRAME_VERSION, bytes)) => {
                wire::decode(bytes).map_err(|error| EventError::Malformed(error.to_string()))?
            }
            Some((version, _)) => return Err(EventError::Newer(*version)),
            None => return Err(EventError::Malformed("nothing".into())),
        };
        let is_word = |text: &str| {
            let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            letters && !text.is_empty() && text.len() <= KIND_MAX_BYTES
        };
        let checks = [
            ("kind", is_word(&event.kind)),
            ("severity", is_word(&event.severity)),
            ("summary", event.summary.len() <= SUMMARY_MAX_BYTES),
            ("labels", event.labels.len() <= EVENT_LABELS_MAX),
            ("label names", event.labels.iter().all(|(name, _)| is_label(name))),
            ("label values", event.labels.iter().all(|(_, value)| value.len() <= EVENT_LABEL_VALUE_MAX_BYTES)),
        ];
        match checks.iter().find(|(_, good)| !good) {
            Some((what, _)) => Err(EventError::Limit(what)),
            None => Ok(event),
        }
    }

    /// The labels of the stream of history that the event of the host `instance` belongs to.
    #[must_use]
    pub fn stream(&self, instance: &str) -> Option<Labels> {
        let (name, value) = LANE_LABEL;
        let pairs = [(name, value), (INSTANCE, instance), (KIND_LABEL, &self.kind), (SEVERITY_LABEL, &self.severity)];
        Labels::new(pairs).ok()
    }

    /// The event's line, without what its stream says: `id=… summary="…" name="value" …`.
    #[must_use]
    pub fn to_line(&self, id: &str) -> String {
        let mut line = format!("id={id} summary={:?}", Quoted(&self.summary));
        for (name, value) in &self.labels {
            line.push_str(&format!(" {name}={:?}", Quoted(value)));
        }
        line
    }
}

/// What a line of history says of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventLine {
    /// Tells it from every other event of its host.
    pub id: String,
    /// A sentence for people.
    pub summary: String,
    /// Details.
    pub labels: Vec<(String, String)>,
}

impl EventLine {
    /// Reads a line that [`Event::to_line`] wrote.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("id=")?;
        let (id, mut rest) = rest.split_once(' ')?;
        let mut fields = Vec::new();
        loop {
            let (name, after) = rest.split_once("=\"")?;
            let (value, after) = unquote(after)?;
            fields.push((name.to_owned(), value));
            match after.strip_prefix(' ') {
                Some(more) => rest = more,
                None if after.is_empty() => break,
                None => return None,
            }
        }
        let mut fields = fields.into_iter();
        let (name, summary) = fields.next()?;
        (name == "summary").then(|| Self { id: id.to_owned(), summary, labels: fields.collect() })
    }
}

/// Writes a text in quotes on one line.
struct Quoted<'a>(&'a str);

impl std::fmt::Debug for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                c => c,
            }),
            c => value.push(c),
        }
    }
    None
}

fn is_label(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain && !name.is_empty() && name.len() <= limits::LABEL_NAME_MAX_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event() -> Event {
        let labels = [("pid", "4711"), ("name", "mysqld"), ("bad name", "x"), ("empty", "")];
        Event::new(1_795_337_611_000, "oom_kill", Severity::Critical, "the kernel killed mysqld", &labels)
    }

    #[test]
    fn an_event_travels_and_is_a_line() {
        let event = event();
        assert_eq!(event.labels.len(), 2);
        assert_eq!(Event::decode(&event.encode().unwrap()), Ok(event.clone()));
        assert_eq!(event.to_line("1.2"), r#"id=1.2 summary="the kernel killed mysqld" pid="4711" name="mysqld""#);
        let stream = event.stream("db-1").unwrap();
        let text = r#"{instance="db-1",kind="oom_kill",lane="events",severity="critical"}"#;
        assert_eq!(stream.to_string(), text);
    }

    #[test]
    fn what_is_over_a_limit_is_refused() {
        let refused = |change: fn(&mut Event)| {
            let mut event = event();
            change(&mut event);
            Event::decode(&event.encode().unwrap()).unwrap_err()
        };
        assert_eq!(refused(|e| e.kind = "No".into()), EventError::Limit("kind"));
        assert_eq!(refused(|e| e.severity = String::new()), EventError::Limit("severity"));
        assert_eq!(refused(|e| e.summary = "x".repeat(SUMMARY_MAX_BYTES + 1)), EventError::Limit("summary"));
        assert_eq!(refused(|e| e.labels = vec![("a".into(), "b".into()); 17]), EventError::Limit("labels"));
        assert_eq!(refused(|e| e.labels[0].0 = "a b".into()), EventError::Limit("label names"));
        assert_eq!(Event::decode(&[9, 0]), Err(EventError::Newer(9)));
    }

    /// Bytes of a frame, frozen: a change of them breaks agents in the field.
    #[test]
    fn version_1_keeps_its_bytes() {
        let hex = crate::identity::to_hex(&event().encode().unwrap());
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "01fdf0cdeb0444030000086f6f6d5f6b696c6c08637269746963616c18746865206b65726e656c206b696c6c6564206d7973716c6402\
                          037069640434373131046e616d65066d7973716c64";

    proptest! {
        #[test]
        fn any_event_survives_as_frame_and_line(
            time_ms: i64, summary in "\\PC{0,40}|[\"\\\\\n ]{0,9}",
            labels in prop::collection::vec(("[a-z_]{1,5}", "\\PC{1,20}|[\"\\\\\n =]{1,9}"), 0..5),
        ) {
            let labels: Vec<_> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
            let event = Event::new(time_ms, "kind", Severity::Info, &summary, &labels);
            prop_assert_eq!(Event::decode(&event.encode().unwrap()).unwrap(), event.clone());
            let line = event.to_line("7.9");
            prop_assert!(!line.contains('\n'));
            let back = EventLine::parse(&line).unwrap();
            prop_assert_eq!(back, EventLine { id: "7.9".into(), summary: event.summary, labels: event.labels });
        }

        #[test]
        fn any_bytes_decode_or_fail_cleanly(bytes in prop::collection::vec(any::<u8>(), 0..300), line in "\\PC*") {
            let _ = Event::decode(&bytes);
            let _ = EventLine::parse(&line);
        }
    }
}
