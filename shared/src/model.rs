//! The model that every part speaks: labels, samples, metric types, lanes and marks.
//!
//! It owns no encoding: bytes are [`crate::codec`]'s and [`crate::wire`]'s matter.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::limits;

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";
/// The label that names the agent a series came from; the collector stamps it.
pub const INSTANCE: &str = "instance";

/// Bits of the NaN that marks the end of a series (Prometheus' stale marker).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker as a value. Compare by bits, never by `==`.
#[must_use]
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the stale marker, by its bits.
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// One value at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub ts_ms: i64,
    /// The value; the stale marker is [`STALE_NAN_BITS`].
    pub value: f64,
}

/// What a metric's values mean, as the exposition format names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MetricType {
    /// Not said.
    #[default]
    Unknown = 0,
    /// Only grows, but for resets.
    Counter = 1,
    /// Goes up and down.
    Gauge = 2,
    /// A classic histogram's bucket, sum or count.
    Histogram = 3,
    /// A summary's quantile, sum or count.
    Summary = 4,
}

impl MetricType {
    /// The type of the wire's byte, or `None` for a byte of a later version.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Unknown,
            1 => Self::Counter,
            2 => Self::Gauge,
            3 => Self::Histogram,
            4 => Self::Summary,
            _ => return None,
        })
    }

    /// The word of the text format's `# TYPE` line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// A stream of an agent's frames with its own numbering; lanes never wait for one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Lane {
    /// Sample and schema frames.
    Metrics = 0,
    /// Log lines.
    Logs = 1,
    /// Events.
    Events = 2,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Events];

    /// The lane of the wire's byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| *lane as u8 == byte)
    }
}

/// The number of a lane's frame. Ordered: a later epoch is after every sequence of an earlier one.
///
/// An epoch begins each time an agent's process starts; its first frame has sequence 1 and begins a chain
/// (see [`crate::codec`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// The agent's epoch, growing with each start.
    pub epoch: u64,
    /// The frame's number within the epoch, from 1.
    pub seq: u64,
}

/// A series' labels: sorted by name, unique, without empty values, within [`limits`].
///
/// Cheap to clone and small: a million series are held at once, so that they are one shared text and not a string each.
/// It is the number of pairs and, pair by pair, the lengths of name and value before them, each a character whose code
/// is the number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

// Codes of characters without a gap reach this far.
const _: () = assert!(limits::LABELS_MAX_BYTES < 0xd800 && limits::LABELS_PER_SERIES_MAX < 0xd800);

/// Why a set of labels was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// A name that is empty or over [`limits::LABEL_NAME_MAX_BYTES`].
    #[error("a label name of {0} bytes: names have 1 to {max} bytes", max = limits::LABEL_NAME_MAX_BYTES)]
    Name(usize),
    /// A value over [`limits::LABEL_VALUE_MAX_BYTES`].
    #[error("label {0:?} has a value of {1} bytes, more than {max}", max = limits::LABEL_VALUE_MAX_BYTES)]
    Value(String, usize),
    /// A name that stands twice.
    #[error("label {0:?} stands twice")]
    Duplicate(String),
    /// More labels than [`limits::LABELS_PER_SERIES_MAX`].
    #[error("{0} labels, more than {max}", max = limits::LABELS_PER_SERIES_MAX)]
    Count(usize),
    /// More text than [`limits::LABELS_MAX_BYTES`].
    #[error("{0} bytes of labels, more than {max}", max = limits::LABELS_MAX_BYTES)]
    Bytes(usize),
}

impl Labels {
    /// Labels from pairs in any order; pairs with an empty value are left out, as Prometheus does.
    ///
    /// # Errors
    /// Any breach of [`limits`], or a name that stands twice.
    pub fn new<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelsError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut list: Vec<(N, V)> = Vec::new();
        let mut bytes = 0;
        for pair in pairs {
            let (name, value) = (pair.0.as_ref(), pair.1.as_ref());
            if value.is_empty() {
                continue;
            }
            if name.is_empty() || name.len() > limits::LABEL_NAME_MAX_BYTES {
                return Err(LabelsError::Name(name.len()));
            }
            if value.len() > limits::LABEL_VALUE_MAX_BYTES {
                return Err(LabelsError::Value(name.to_owned(), value.len()));
            }
            bytes += name.len() + value.len();
            list.push(pair);
        }
        if list.len() > limits::LABELS_PER_SERIES_MAX {
            return Err(LabelsError::Count(list.len()));
        }
        if bytes > limits::LABELS_MAX_BYTES {
            return Err(LabelsError::Bytes(bytes));
        }
        list.sort_unstable_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        if let Some(pair) = list.windows(2).find(|pair| pair[0].0.as_ref() == pair[1].0.as_ref()) {
            return Err(LabelsError::Duplicate(pair[0].0.as_ref().to_owned()));
        }
        Ok(Self::packed(&list, bytes))
    }

    fn packed<N: AsRef<str>, V: AsRef<str>>(list: &[(N, V)], bytes: usize) -> Self {
        let mut text = String::with_capacity(bytes + 4 * list.len() + 1);
        let number = |text: &mut String, number: usize| text.extend(char::from_u32(number as u32));
        number(&mut text, list.len());
        for (name, value) in list {
            let (name, value) = (name.as_ref(), value.as_ref());
            number(&mut text, name.len());
            number(&mut text, value.len());
            text.push_str(name);
            text.push_str(value);
        }
        Self(text.into())
    }

    /// The value of `name`, if the series has it.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The metric name, or the empty string.
    #[must_use]
    pub fn metric(&self) -> &str {
        self.value(METRIC_NAME).unwrap_or("")
    }

    /// Name and value pairs, sorted by name.
    #[must_use]
    pub fn iter(&self) -> Pairs<'_> {
        let mut rest = &*self.0;
        let left = Pairs::number(&mut rest);
        Pairs { rest, left }
    }

    /// The same labels with `name` set to `value` (or removed, if `value` is empty).
    ///
    /// # Errors
    /// As [`Labels::new`].
    pub fn with(&self, name: &str, value: &str) -> Result<Self, LabelsError> {
        let kept = self.iter().filter(|(n, _)| *n != name);
        Self::new(kept.chain([(name, value)]))
    }
}

impl Ord for Labels {
    /// Pair by pair.
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Name and value pairs of [`Labels`].
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    rest: &'a str,
    left: usize,
}

impl<'a> Pairs<'a> {
    fn number(rest: &mut &str) -> usize {
        let mut chars = rest.chars();
        let number = chars.next().map_or(0, |code| code as usize);
        *rest = chars.as_str();
        number
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (name, value) = (Self::number(&mut self.rest), Self::number(&mut self.rest));
        Some((self.take(name), self.take(value)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Pairs<'_> {}

impl fmt::Display for Labels {
    /// `metric{a="b",c="d"}`, escaped as the text format escapes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric())?;
        let mut open = false;
        for (name, value) in self.iter().filter(|(n, _)| *n != METRIC_NAME) {
            f.write_str(if open { "," } else { "{" })?;
            open = true;
            write!(f, "{name}=\"")?;
            for c in value.chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    c => write!(f, "{c}")?,
                }
            }
            f.write_str("\"")?;
        }
        if open { f.write_str("}") } else { Ok(()) }
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_sort_drop_empty_and_refuse_duplicates() {
        let labels = Labels::new([("b", "2"), (METRIC_NAME, "up"), ("a", ""), ("c", "x\"\n")]).unwrap();
        assert_eq!(labels.to_string(), "up{b=\"2\",c=\"x\\\"\\n\"}");
        assert_eq!(labels.value("a"), None);
        assert_eq!(Labels::new([("a", "1"), ("a", "2")]), Err(LabelsError::Duplicate("a".into())));
        assert_eq!(labels.with("b", "").unwrap().to_string(), "up{c=\"x\\\"\\n\"}");
    }

    #[test]
    fn labels_keep_to_their_limits() {
        let long = "x".repeat(limits::LABEL_VALUE_MAX_BYTES + 1);
        assert_eq!(Labels::new([("a", &*long)]), Err(LabelsError::Value("a".into(), long.len())));
        let many = (0..=limits::LABELS_PER_SERIES_MAX).map(|i| (format!("l{i}"), "v"));
        assert_eq!(Labels::new(many), Err(LabelsError::Count(limits::LABELS_PER_SERIES_MAX + 1)));
    }

    #[test]
    fn labels_are_one_text_that_gives_its_pairs_back() {
        let long = "ü".repeat(limits::LABEL_VALUE_MAX_BYTES / 2);
        let pairs = [("a", &*long), ("b\u{0}", "\u{1}"), ("été", "x")];
        let labels = Labels::new(pairs.iter().rev().copied()).unwrap();
        assert!(labels.iter().eq(pairs) && labels.iter().len() == 3);
        assert_eq!((labels.value("été"), labels.value("b")), (Some("x"), None));
        assert_eq!(Labels::new([("", ""); 0]).unwrap().iter().next(), None);
        // A longer name is later than a shorter one that it begins with, whatever the lengths before them.
        let before = Labels::new([("a", "1"), ("b", "1")]).unwrap();
        assert!(
            before < Labels::new([("aa", "1")]).unwrap() && before < Labels::new([("a", "1"), ("b", "2")]).unwrap()
        );
    }

    #[test]
    fn marks_order_by_epoch_first() {
        assert!(Mark { epoch: 2, seq: 1 } > Mark { epoch: 1, seq: 900 });
    }
}
