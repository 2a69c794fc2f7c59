//! Which series there are: labels to number, and label → value → the series that have it. One index covers the head
//! and every block. When a series has samples is not known here.

mod entries;

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::ops::Bound;

use hashbrown::HashTable;
use pitwatch_shared::model::{Labels, METRIC_NAME, MetricType};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use self::entries::Entries;
use crate::matchers::{Candidates, Matcher};

/// A series' number while the store is open; never given twice.
pub(crate) type SeriesId = u32;

/// All series of the store.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By the labels that the entry has: they are not held here too.
    ids: HashTable<SeriesId>,
    entries: Entries,
    /// Sources of a series after its first: nearly every series has but one.
    more_sources: FxHashMap<SeriesId, Vec<u32>>,
    next: SeriesId,
    postings: BTreeMap<Box<str>, BTreeMap<Box<str>, Vec<SeriesId>>>,
    /// How often series came to have samples that had none in any head, and by metric name the count then.
    arrivals: u64,
    arrivals_of: FxHashMap<Box<str>, u64>,
}

#[derive(Debug)]
struct Entry {
    labels: Labels,
    kind: MetricType,
    /// A source whose head may hold it, or [`NO_SOURCE`].
    source: u32,
}

const NO_SOURCE: u32 = u32::MAX;

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn id(&self, labels: &Labels) -> Option<SeriesId> {
        self.ids.find(hash(labels), |id| self.labels(*id) == Some(labels)).copied()
    }

    pub(crate) fn labels(&self, id: SeriesId) -> Option<&Labels> {
        self.entries.get(id).map(|entry| &entry.labels)
    }

    pub(crate) fn kind(&self, id: SeriesId) -> MetricType {
        self.entries.get(id).map_or(MetricType::Unknown, |entry| entry.kind)
    }

    /// The sources whose heads may hold the series.
    pub(crate) fn sources(&self, id: SeriesId) -> impl Iterator<Item = u32> {
        let first = self.entries.get(id).map(|entry| entry.source).filter(|source| *source != NO_SOURCE);
        first.into_iter().chain(self.more_sources.get(&id).into_iter().flatten().copied())
    }

    /// Notes that a source's head may hold the series.
    pub(crate) fn add_source(&mut self, id: SeriesId, source: u32) {
        if self.sources(id).any(|known| known == source) {
            return;
        }
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.source == NO_SOURCE {
            entry.source = source;
        } else {
            self.more_sources.entry(id).or_default().push(source);
        }
    }

    /// Notes that series came to stand in a head.
    pub(crate) fn arrived(&mut self, ids: &[SeriesId]) {
        self.arrivals += 1;
        for id in ids {
            let name = self.entries.get(*id).and_then(|entry| entry.labels.value(METRIC_NAME)).unwrap_or("");
            match self.arrivals_of.get_mut(name) {
                Some(known) => *known = self.arrivals,
                None => {
                    self.arrivals_of.insert(name.into(), self.arrivals);
                }
            }
        }
    }

    /// What changes when a series of that name, or any at all, comes to stand in a head.
    pub(crate) fn arrivals(&self, name: Option<&str>) -> u64 {
        name.map_or(self.arrivals, |name| self.arrivals_of.get(name).copied().unwrap_or(0))
    }

    /// The series' number, a new one if it is new. A type said later replaces an unknown one.
    pub(crate) fn insert(&mut self, labels: &Labels, kind: MetricType) -> SeriesId {
        if let Some(id) = self.id(labels) {
            if kind != MetricType::Unknown
                && let Some(entry) = self.entries.get_mut(id)
            {
                entry.kind = kind;
            }
            return id;
        }
        let id = self.next;
        self.next += 1;
        for (name, value) in labels.iter() {
            if !self.postings.contains_key(name) {
                self.postings.insert(name.into(), BTreeMap::new());
            }
            let Some(values) = self.postings.get_mut(name) else { continue };
            match values.get_mut(value) {
                Some(list) => list.push(id),
                None => {
                    values.insert(value.into(), vec![id]);
                }
            }
        }
        self.entries.insert(id, Entry { labels: labels.clone(), kind, source: NO_SOURCE });
        self.ids.insert_unique(hash(labels), id, |id| self.entries.get(*id).map_or(0, |entry| hash(&entry.labels)));
        id
    }

    /// Forgets every series but those of `keep`.
    pub(crate) fn retain(&mut self, keep: &FxHashSet<SeriesId>) {
        if self.entries.ids().all(|id| keep.contains(&id)) {
            return;
        }
        self.entries.retain(|id| keep.contains(&id));
        self.ids.retain(|id| keep.contains(id));
        self.more_sources.retain(|id, _| keep.contains(id));
        for values in self.postings.values_mut() {
            for list in values.values_mut() {
                list.retain(|id| keep.contains(id));
            }
            values.retain(|_, list| !list.is_empty());
        }
        self.postings.retain(|_, values| !values.is_empty());
        let names = self.postings.get(METRIC_NAME);
        self.arrivals_of.retain(|name, _| names.is_some_and(|names| names.contains_key(name)));
    }

    /// The series that all matchers mean, ascending by number.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Vec<SeriesId> {
        let mut narrowing = Vec::new();
        let mut filters = Vec::new();
        for matcher in matchers {
            // Only a matcher that refuses the empty value can be answered by the series that have the label.
            if matcher.is_negative() || matcher.matches("") {
                filters.push(matcher);
            } else {
                narrowing.push(self.positive(matcher));
            }
        }
        narrowing.sort_unstable_by_key(Vec::len);
        let mut lists = narrowing.into_iter();
        let mut ids = lists.next().unwrap_or_else(|| self.entries.ids().collect());
        for list in lists {
            ids.retain(|id| list.binary_search(id).is_ok());
        }
        for matcher in filters {
            self.filter(matcher, &mut ids);
        }
        ids
    }

    /// Every label name and, under it, every value with its series.
    pub(crate) fn postings(&self) -> impl Iterator<Item = (&str, &BTreeMap<Box<str>, Vec<SeriesId>>)> {
        self.postings.iter().map(|(name, values)| (&**name, values))
    }

    /// The values of a label with their series.
    pub(crate) fn values(&self, name: &str) -> Option<&BTreeMap<Box<str>, Vec<SeriesId>>> {
        self.postings.get(name)
    }

    /// Every metric name with the type of one of its series.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = (&str, MetricType)> {
        let names = self.postings.get(METRIC_NAME).into_iter().flatten();
        names.map(|(name, ids)| (&**name, ids.last().map_or(MetricType::Unknown, |id| self.kind(*id))))
    }

    fn positive(&self, matcher: &Matcher) -> Vec<SeriesId> {
        let Some(values) = self.postings.get(matcher.name()) else { return Vec::new() };
        let mut ids = Vec::new();
        match matcher.candidates() {
            Candidates::Exact(list) => {
                let found = list.iter().filter_map(|value| values.get_key_value(&**value));
                for (_, list) in found.filter(|(value, _)| matcher.matches(value)) {
                    ids.extend_from_slice(list);
                }
            }
            Candidates::Prefixes(prefixes) => {
                for prefix in prefixes {
                    let from = (Bound::Included(&**prefix), Bound::Unbounded);
                    let range = values.range::<str, _>(from).take_while(|(value, _)| value.starts_with(&**prefix));
                    for (_, list) in range.filter(|(value, _)| matcher.matches(value)) {
                        ids.extend_from_slice(list);
                    }
                }
            }
            Candidates::All => {
                for (_, list) in values.iter().filter(|(value, _)| matcher.matches(value)) {
                    ids.extend_from_slice(list);
                }
            }
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn filter(&self, matcher: &Matcher, ids: &mut Vec<SeriesId>) {
        // Each value is tried once, not once a series.
        let mut seen: FxHashMap<&str, bool> = FxHashMap::default();
        ids.retain(|id| {
            let value = self.labels(*id).and_then(|labels| labels.value(matcher.name())).unwrap_or("");
            *seen.entry(value).or_insert_with(|| matcher.matches(value))
        });
    }
}

fn hash(labels: &Labels) -> u64 {
    FxBuildHasher.hash_one(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matchers::MatchOp;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn series_are_numbered_once_and_forgotten_whole() {
        let mut index = Index::default();
        let a = index.insert(&labels(&[("__name__", "up"), ("i", "a")]), MetricType::Unknown);
        let b = index.insert(&labels(&[("__name__", "up"), ("i", "b")]), MetricType::Gauge);
        assert_eq!(index.insert(&labels(&[("__name__", "up"), ("i", "a")]), MetricType::Gauge), a);
        assert_eq!(index.kind(a), MetricType::Gauge);
        assert_eq!((index.arrivals(Some("up")), index.arrivals(None)), (0, 0));
        index.arrived(&[a, b]);
        assert_eq!((index.arrivals(Some("up")), index.arrivals(None), index.arrivals(Some("x"))), (1, 1, 0));
        index.retain(&FxHashSet::from_iter([b]));
        assert_eq!(index.len(), 1);
        assert!(index.values("i").unwrap().get("a").is_none());
        assert_eq!(index.select(&[]), vec![b]);
        assert_eq!(index.insert(&labels(&[("__name__", "up"), ("i", "a")]), MetricType::Gauge), 2);
    }

    proptest! {
        #[test]
        fn selecting_is_trying_every_series(
            series in proptest::collection::vec(("[ab]{0,2}", "[ab]{0,2}", "[xy]"), 0..20),
            picks in proptest::collection::vec((0usize..3, 0usize..4, 0usize..8), 0..4),
        ) {
            let mut index = Index::default();
            let mut all = Vec::new();
            for (l, m, n) in &series {
                let one = labels(&[("l", l), ("m", m), ("n", n)]);
                all.push((index.insert(&one, MetricType::Gauge), one));
            }
            all.sort_unstable_by_key(|(id, _)| *id);
            all.dedup_by_key(|(id, _)| *id);
            let ops = [MatchOp::Eq, MatchOp::Ne, MatchOp::Re, MatchOp::Nre];
            let texts = ["", "a", "ab", "a.*", "a|b", ".+", "(a|b)b?", "b.*|x"];
            let matchers: Vec<_> = picks
                .iter()
                .map(|(name, op, text)| Matcher::new(["l", "m", "n"][*name], ops[*op], texts[*text]).unwrap())
                .collect();
            let expected: Vec<_> = all
                .iter()
                .filter(|(_, one)| matchers.iter().all(|m| m.matches(one.value(m.name()).unwrap_or(""))))
                .map(|(id, _)| *id)
                .collect();
            prop_assert_eq!(index.select(&matchers), expected);
        }
    }
}
