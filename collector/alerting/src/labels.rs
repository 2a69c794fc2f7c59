//! The label set: sorted names with values, cheap to clone and to compare, the identity of a series and of an alert.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";
/// The label that holds an alert's name.
pub const ALERT_NAME: &str = "alertname";

/// Labels sorted by name, each name once, no empty values. Clones share the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelSet(Arc<[(Arc<str>, Arc<str>)]>);

impl LabelSet {
    /// Labels from pairs in any order. Of a name given twice the last value holds, and an empty value removes the
    /// name, so that overriding labels are simply chained behind the ones they override.
    pub fn new<N: Into<Arc<str>>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut list: Vec<(Arc<str>, Arc<str>)> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        // A stable sort, reversed: the last of equal names comes first, and dedup keeps it.
        list.reverse();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list.dedup_by(|later, kept| later.0 == kept.0);
        list.retain(|(_, value)| !value.is_empty());
        Self(list.into())
    }

    /// Pairs that are sorted by name already, each name once and no value empty, as the query language has them.
    #[must_use]
    pub fn from_sorted(pairs: Arc<[(Arc<str>, Arc<str>)]>) -> Self {
        debug_assert!(pairs.is_sorted_by(|a, b| a.0 < b.0) && pairs.iter().all(|(_, value)| !value.is_empty()));
        Self(pairs)
    }

    /// No labels.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// The value of `name`, if it is set.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Names and values whose text can be shared.
    pub fn shared(&self) -> impl ExactSizeIterator<Item = (Arc<str>, Arc<str>)> {
        self.0.iter().cloned()
    }

    /// The same labels without `name`.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        if self.value(name).is_none() {
            return self.clone();
        }
        Self(self.0.iter().filter(|(n, _)| &**n != name).cloned().collect())
    }

    /// The same labels with the pairs set over them; an empty value removes.
    #[must_use]
    pub fn with<N: Into<Arc<str>>, V: Into<Arc<str>>>(&self, pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self::new(self.shared().chain(pairs.into_iter().map(|(name, value)| (name.into(), value.into()))))
    }

    /// Whether every label of `self` stands in `other` with the same value.
    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.iter().all(|(name, value)| other.value(name) == Some(value))
    }

    /// The 64-bit FNV-1a hash that Prometheus and Alertmanager show as an alert's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        for (name, value) in self.iter() {
            hash.add(name.as_bytes());
            hash.add(&[0xff]);
            hash.add(value.as_bytes());
            hash.add(&[0xff]);
        }
        hash.0
    }
}

/// FNV-1a, 64 bits: stable over versions and machines, so that it may be stored.
pub(crate) struct Fnv(pub(crate) u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl fmt::Display for LabelSet {
    /// `{a="b", c="d"}`, as Prometheus prints label sets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if at == 0 { "" } else { ", " })?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for LabelSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for LabelSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(BTreeMap::<String, String>::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_name_holds_and_empty_removes() {
        let labels = LabelSet::new([("b", "1"), ("a", "x"), ("b", "2"), ("c", "3"), ("c", "")]);
        assert_eq!(labels.to_string(), r#"{a="x", b="2"}"#);
        assert_eq!(labels.with([("a", "")]).to_string(), r#"{b="2"}"#);
        assert_eq!(labels.without("b").to_string(), r#"{a="x"}"#);
        assert!(labels.without("b").is_subset_of(&labels));
        assert!(!labels.is_subset_of(&labels.without("b")));
    }

    #[test]
    fn fingerprints_are_prometheus_own() {
        // FNV-1a's offset basis: the fingerprint of no labels.
        assert_eq!(LabelSet::empty().fingerprint(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(
            LabelSet::new([("alertname", "a")]).fingerprint(),
            LabelSet::new([("alertname", "b"), ("alertname", "a")]).fingerprint()
        );
        assert_ne!(LabelSet::new([("a", "bc")]).fingerprint(), LabelSet::new([("ab", "c")]).fingerprint());
    }

    #[test]
    fn json_is_a_map() {
        let labels = LabelSet::new([("b", "1"), ("a", "x")]);
        let json = serde_json::to_string(&labels).unwrap();
        assert_eq!(json, r#"{"a":"x","b":"1"}"#);
        assert_eq!(serde_json::from_str::<LabelSet>(&json).unwrap(), labels);
    }
}
