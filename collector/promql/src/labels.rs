//! Label sets: sorted, without duplicates or empty values, cheap to clone. Owns the edits that the language makes to
//! them; which edit applies where is the evaluator's matter.
//!
//! What is asked of a label set again and again is worked out once and shared by its clones: its hash, and the same set
//! without the metric's name. A source that hands out the same clones for every query makes series meet for the price
//! of comparing a number.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering as Memory};
use std::sync::{Arc, OnceLock};

use rustc_hash::FxHasher;

use crate::text::quote;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

type Pair = (Arc<str>, Arc<str>);

/// A label set. Clones share it, and edited copies share the strings that stayed.
#[derive(Clone)]
pub struct Labels(Arc<Shared>);

struct Shared {
    pairs: Arc<[Pair]>,
    /// 0 until somebody asks.
    hash: AtomicU64,
    /// The set without what tells of the metric, where it has any of that.
    nameless: OnceLock<Labels>,
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash_once());
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Labels) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.pairs == other.0.pairs
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
        for ((name, value), (other_name, other_value)) in self.0.pairs.iter().zip(other.0.pairs.iter()) {
            let order = text(name, other_name).then_with(|| text(value, other_value));
            if order.is_ne() {
                return order;
            }
        }
        self.len().cmp(&other.len())
    }
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::of(Arc::from([]))
    }
}

impl Labels {
    fn of(pairs: Arc<[Pair]>) -> Labels {
        Labels(Arc::new(Shared { pairs, hash: AtomicU64::new(0), nameless: OnceLock::new() }))
    }

    fn hash_once(&self) -> u64 {
        match self.0.hash.load(Memory::Relaxed) {
            0 => {
                let mut hasher = FxHasher::default();
                self.0.pairs.hash(&mut hasher);
                let hash = hasher.finish().max(1);
                self.0.hash.store(hash, Memory::Relaxed);
                hash
            }
            known => known,
        }
    }

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
        Labels::of(all.into())
    }

    /// The value of a label, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.pairs.iter().find(|(n, _)| &**n == name).map(|(_, v)| &**v)
    }

    /// The metric name, if there is one.
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// The pairs, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.pairs.iter().map(|(n, v)| (&**n, &**v))
    }

    /// The pairs, by name; shared, not copied.
    pub fn shared(&self) -> Arc<[(Arc<str>, Arc<str>)]> {
        self.0.pairs.clone()
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.pairs.len()
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.0.pairs.is_empty()
    }

    /// A copy with one label set; an empty value removes it.
    pub fn with(&self, name: &str, value: &str) -> Labels {
        if value.is_empty() {
            return self.without(|n| n == name);
        }
        let mut pairs: Vec<Pair> = Vec::with_capacity(self.0.pairs.len() + 1);
        pairs.extend(self.0.pairs.iter().filter(|(n, _)| &**n != name).cloned());
        let at = pairs.partition_point(|(n, _)| &**n < name);
        pairs.insert(at, (name.into(), value.into()));
        Labels::of(pairs.into())
    }

    /// A copy without the labels whose name the test accepts.
    pub fn without(&self, drop: impl Fn(&str) -> bool) -> Labels {
        if !self.0.pairs.iter().any(|(n, _)| drop(n)) {
            return self.clone();
        }
        Labels::of(self.0.pairs.iter().filter(|(n, _)| !drop(n)).cloned().collect())
    }

    /// A copy without the metric name, and without the type and unit that belong to it.
    pub fn without_name(&self) -> Labels {
        if !self.0.pairs.iter().any(|(n, _)| is_metadata(n)) {
            return self.clone();
        }
        self.0.nameless.get_or_init(|| self.without(is_metadata)).clone()
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
    fn equal_sets_hash_alike_however_they_came_about() {
        let hash = |labels: &Labels| {
            let mut hasher = FxHasher::default();
            labels.hash(&mut hasher);
            hasher.finish()
        };
        let named = Labels::from_pairs([(METRIC_NAME, "up"), ("a", "1"), ("__unit__", "s")]);
        let bare = Labels::from_pairs([("a", "1")]);
        for _ in 0..2 {
            assert_eq!(named.without_name(), bare);
            assert_eq!(hash(&named.without_name()), hash(&bare));
        }
        assert_eq!(bare.without_name(), bare);
        assert_ne!(hash(&named), hash(&bare));
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
