//! Label sets: sorted, without duplicates or empty values, cheap to clone. Owns the edits that the language makes to
//! them; which edit applies where is the evaluator's matter.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::text::quote;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

type Pair = (Arc<str>, Arc<str>);

/// A label set. Clones share it, and edited copies share the strings that stayed.
#[derive(Clone)]
pub struct Labels(Arc<[Pair]>);

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Labels) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Labels {}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By the pairs, from the first name on.
impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> Ordering {
        // Sources share their strings, so that most of a comparison is of pointers.
        let text = |a: &Arc<str>, b: &Arc<str>| if Arc::ptr_eq(a, b) { Ordering::Equal } else { a.cmp(b) };
        for ((name, value), (other_name, other_value)) in self.0.iter().zip(other.0.iter()) {
            let order = text(name, other_name).then_with(|| text(value, other_value));
            if order.is_ne() {
                return order;
            }
        }
        self.0.len().cmp(&other.0.len())
    }
}

impl Default for Labels {
    fn default() -> Labels {
        Labels(Arc::from([]))
    }
}

impl Labels {
    /// The label set of these pairs in any order. Empty values are left out; of a repeated name the last pair counts.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let mut all: Vec<Pair> = pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        if !all.is_sorted_by(|a, b| a.0 < b.0) {
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all.reverse();
            all.dedup_by(|later, kept| later.0 == kept.0);
            all.reverse();
        }
        all.retain(|(_, value)| !value.is_empty());
        Labels(all.into())
    }

    /// The value of a label, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| &**n == name).map(|(_, v)| &**v)
    }

    /// The metric name, if there is one.
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// The pairs, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    /// The pairs, by name; shared, not copied.
    pub fn shared(&self) -> Arc<[(Arc<str>, Arc<str>)]> {
        self.0.clone()
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A copy with one label set; an empty value removes it.
    pub fn with(&self, name: &str, value: &str) -> Labels {
        if value.is_empty() {
            return self.without(|n| n == name);
        }
        let mut pairs: Vec<Pair> = Vec::with_capacity(self.0.len() + 1);
        pairs.extend(self.0.iter().filter(|(n, _)| &**n != name).cloned());
        let at = pairs.partition_point(|(n, _)| &**n < name);
        pairs.insert(at, (name.into(), value.into()));
        Labels(pairs.into())
    }

    /// A copy without the labels whose name the test accepts.
    pub fn without(&self, drop: impl Fn(&str) -> bool) -> Labels {
        if !self.0.iter().any(|(n, _)| drop(n)) {
            return self.clone();
        }
        Labels(self.0.iter().filter(|(n, _)| !drop(n)).cloned().collect())
    }

    /// A copy without the metric name, and without the type and unit that belong to it.
    pub fn without_name(&self) -> Labels {
        self.without(is_metadata)
    }

    /// A copy with only the labels whose name the test accepts.
    pub fn keep(&self, keep: impl Fn(&str) -> bool) -> Labels {
        self.without(|n| !keep(n))
    }
}

impl<N: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Labels {
        Labels::from_pairs(pairs)
    }
}

/// As Prometheus prints a label set: `{__name__="up", job="api"}`; names outside the classic alphabet are quoted.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_classic_label(name) {
                f.write_str(name)?;
            } else {
                f.write_str(&quote(name))?;
            }
            write!(f, "={}", quote(value))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a label tells of the metric and not of what is measured: its name, type and unit.
pub(crate) fn is_metadata(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// Whether a name can stand unquoted as a label: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub(crate) fn is_classic_label(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether a name can stand unquoted as a metric: as a label's, and with `:`.
pub(crate) fn is_classic_metric(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_the_last_of_a_name_counts() {
        let labels = Labels::from_pairs([("b", "1"), ("a", "2"), ("b", "3"), ("c", "")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
        assert_eq!(labels.get("b"), Some("3"));
        assert_eq!(labels.get("c"), None);
    }

    #[test]
    fn edits_keep_the_order() {
        let labels = Labels::from_pairs([("a", "1"), ("c", "3")]);
        assert_eq!(labels.with("b", "2").to_string(), r#"{a="1", b="2", c="3"}"#);
        assert_eq!(labels.with("a", "").to_string(), r#"{c="3"}"#);
        assert_eq!(labels.keep(|n| n == "a").to_string(), r#"{a="1"}"#);
        assert_eq!(labels.with("x.y", "q\"").to_string(), r#"{a="1", c="3", "x.y"="q\""}"#);
    }
}
