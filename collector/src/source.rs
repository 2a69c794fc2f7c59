//! History as PromQL sees it: matchers, labels and buckets of one crate to those of the other.
//!
//! Owns the conversion, which tier answers a selection (`tier`), and selections that are kept for rules ([`kept`]): what
//! a selector means is the engine's matter, where samples are is history's.

pub mod kept;
mod tier;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use pitwatch_history::rollup::{self, Cover};
use pitwatch_history::{History, QueryError, SeriesRef};
use pitwatch_promql::{Bucket, Hints, Labels, MatchOp, Matcher, SampleBuf, Selection, Source, SourceError};
use pitwatch_shared::model;
use rustc_hash::FxHashMap;

pub use tier::Tier;

/// Most label sets that are kept converted; about 1 KiB each.
const LABELS_KEPT_MAX: usize = 200_000;

/// A store of samples for the engine. Clones share what they have converted.
#[derive(Clone, Debug)]
pub struct HistorySource {
    history: Arc<History>,
    converted: Arc<Mutex<Converted>>,
    /// The tier that must answer, if one must.
    forced: Option<Tier>,
}

/// Label sets as the engine has them. Converting costs more than most queries do with the labels afterwards.
#[derive(Debug, Default)]
struct Converted {
    /// By the number of the series.
    labels: FxHashMap<u32, Labels>,
    /// Names and values, each once: comparing label sets is then comparing pointers, for the most part.
    texts: HashSet<Arc<str>>,
}

impl Converted {
    fn labels(&mut self, one: &SeriesRef) -> Labels {
        if let Some(known) = self.labels.get(&one.id()) {
            return known.clone();
        }
        if self.labels.len() >= LABELS_KEPT_MAX {
            return Labels::from_pairs(one.labels.iter());
        }
        let pairs: Vec<(Arc<str>, Arc<str>)> =
            one.labels.iter().map(|(name, value)| (self.text(name), self.text(value))).collect();
        let fresh = Labels::from_pairs(pairs);
        self.labels.insert(one.id(), fresh.clone());
        fresh
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let fresh: Arc<str> = text.into();
        self.texts.insert(fresh.clone());
        fresh
    }
}

/// A series of a query, and where its samples or buckets come from.
#[derive(Clone, Debug)]
pub struct Handle {
    series: SeriesRef,
    /// None if only samples that there are count.
    cover: Option<Arc<Cover>>,
    fields: rollup::Fields,
}

impl HistorySource {
    /// The source over that history.
    #[must_use]
    pub fn new(history: Arc<History>) -> Self {
        Self { history, converted: Arc::default(), forced: None }
    }

    /// The same source, answering from one tier only.
    #[must_use]
    pub fn forced(self, tier: Option<Tier>) -> Self {
        Self { forced: tier, ..self }
    }

    /// The series that fulfil every matcher and may have samples after `start_ms` and not after `end_ms`.
    ///
    /// # Errors
    /// History's.
    pub fn series(&self, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Result<Vec<SeriesRef>, QueryError> {
        let (indexed, is_all) = indexed(matchers);
        let mut series = self.history.select(&indexed, start_ms, end_ms)?;
        if !is_all {
            series.retain(|one| fulfils(one, matchers));
        }
        Ok(series)
    }

    /// The names of labels over the series that any of the selectors means, sorted; of all series without a selector.
    ///
    /// # Errors
    /// History's.
    pub fn label_names(
        &self,
        selectors: &[Vec<Matcher>],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<String>, QueryError> {
        if selectors.is_empty() {
            return self.history.label_names(&[], start_ms, end_ms);
        }
        let mut names = BTreeSet::new();
        for one in self.union(selectors, start_ms, end_ms)? {
            names.extend(one.iter().map(|(name, _)| name.to_owned()));
        }
        Ok(names.into_iter().collect())
    }

    /// The values of a label over the series that any of the selectors means, sorted; of all series without a selector.
    ///
    /// # Errors
    /// History's.
    pub fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<String>, QueryError> {
        if selectors.is_empty() {
            return self.history.label_values(name, &[], start_ms, end_ms);
        }
        let found = self.union(selectors, start_ms, end_ms)?;
        let values: BTreeSet<&str> = found.iter().filter_map(|labels| labels.value(name)).collect();
        Ok(values.into_iter().map(str::to_owned).collect())
    }

    /// The label sets that any of the selectors means, sorted, each once.
    ///
    /// # Errors
    /// History's.
    pub fn union(
        &self,
        selectors: &[Vec<Matcher>],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<model::Labels>, QueryError> {
        let mut found = Vec::new();
        for matchers in selectors {
            found.extend(self.series(matchers, start_ms, end_ms)?.into_iter().map(|one| one.labels));
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

impl Source for HistorySource {
    type Series = Handle;

    fn select(&self, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Result<Vec<(Labels, Handle)>, SourceError> {
        let (cover, fields) = (None, rollup::Fields::NONE);
        self.handles(matchers, (start_ms, end_ms), |series| Handle { series, cover: cover.clone(), fields })
    }

    fn select_for(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        hints: &Hints,
    ) -> Result<Selection<Handle>, SourceError> {
        let choice = tier::choose(&self.history, self.forced, (start_ms, end_ms), hints);
        self.chosen(&choice, matchers, (start_ms, end_ms), hints)
    }

    fn samples(&self, handle: &Handle, start_ms: i64, end_ms: i64, out: &mut SampleBuf) -> Result<(), SourceError> {
        let (ts, values) = (&mut out.timestamps, &mut out.values);
        match &handle.cover {
            None => self.history.samples(&handle.series, start_ms, end_ms, ts, values)?,
            Some(cover) => self.history.samples_of(&handle.series, cover, (start_ms, end_ms), ts, values)?,
        }
        Ok(())
    }

    fn latest(&self, handle: &Handle, start_ms: i64, end_ms: i64, out: &mut SampleBuf) -> Result<(), SourceError> {
        out.clear();
        let found = match &handle.cover {
            None => self.history.latest(&handle.series, start_ms, end_ms)?,
            Some(_) => {
                self.samples(handle, start_ms, end_ms, out)?;
                let last = out.timestamps.last().copied().zip(out.values.last().copied());
                out.clear();
                last
            }
        };
        if let Some((ts_ms, value)) = found {
            out.push(ts_ms, value);
        }
        Ok(())
    }

    fn buckets(&self, handle: &Handle, start_ms: i64, end_ms: i64, out: &mut Vec<Bucket>) -> Result<(), SourceError> {
        out.clear();
        let Some(cover) = &handle.cover else { return Ok(()) };
        self.history.buckets(&handle.series, cover, (start_ms, end_ms), handle.fields, |bucket| {
            let rollup::Bucket { end_ms, count, stale, first_ms, last_ms, first, last, min, max, sum, resets } = bucket;
            out.push(Bucket { end_ms, count, stale, first_ms, last_ms, first, last, min, max, sum, resets });
        })?;
        Ok(())
    }
}

impl HistorySource {
    /// The answer to a selection from the tier that was chosen for it.
    fn chosen(
        &self,
        choice: &tier::Choice,
        matchers: &[Matcher],
        span: (i64, i64),
        hints: &Hints,
    ) -> Result<Selection<Handle>, SourceError> {
        let fields = hints.buckets.map_or(rollup::Fields::NONE, tier::fields);
        let handle = |series| Handle { series, cover: choice.cover.clone(), fields };
        // A bucket that is partly within counts.
        let series = self.handles(matchers, choice.span(span), handle)?;
        let (resolution_ms, tier) = (choice.resolution_ms(), Some(choice.tier.name()));
        Ok(Selection { series, resolution_ms, tier, info: choice.info.clone() })
    }

    /// The series of a selection with their labels converted.
    fn handles(
        &self,
        matchers: &[Matcher],
        (start_ms, end_ms): (i64, i64),
        handle: impl Fn(SeriesRef) -> Handle,
    ) -> Result<Vec<(Labels, Handle)>, SourceError> {
        Ok(self.converted(self.series(matchers, start_ms, end_ms)?, handle))
    }

    fn converted(&self, series: Vec<SeriesRef>, handle: impl Fn(SeriesRef) -> Handle) -> Vec<(Labels, Handle)> {
        let mut converted = self.converted.lock().unwrap_or_else(PoisonError::into_inner);
        if converted.labels.len() >= LABELS_KEPT_MAX {
            *converted = Converted::default();
        }
        series.into_iter().map(|one| (converted.labels(&one), handle(one))).collect()
    }
}

/// The matchers that history's index knows how to answer, and whether those are all.
fn indexed(matchers: &[Matcher]) -> (Vec<pitwatch_history::Matcher>, bool) {
    let indexed: Vec<_> = matchers.iter().filter_map(to_history).collect();
    let is_all = indexed.len() == matchers.len();
    (indexed, is_all)
}

fn fulfils(series: &SeriesRef, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| matcher.matches(series.labels.value(&matcher.name).unwrap_or("")))
}

/// The matcher for history's index; `None` where its dialect of regular expressions would mean something else.
fn to_history(matcher: &Matcher) -> Option<pitwatch_history::Matcher> {
    use pitwatch_history::MatchOp as Op;
    let op = match matcher.op {
        MatchOp::Eq => Op::Eq,
        MatchOp::Ne => Op::Ne,
        MatchOp::Re => Op::Re,
        MatchOp::Nre => Op::Nre,
    };
    if matches!(op, Op::Re | Op::Nre) && !is_same_in_both_dialects(&matcher.value) {
        return None;
    }
    pitwatch_history::Matcher::new(&matcher.name, op, &matcher.value).ok()
}

/// Whether a pattern means the same to Go, whose dialect users write, and to the `regex` crate: no classes by letter,
/// no brace that is no repetition, nothing in brackets that could be an operation on sets. May err to "no".
fn is_same_in_both_dialects(pattern: &str) -> bool {
    let bytes = pattern.as_bytes();
    let mut in_class = false;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied().unwrap_or(0);
        match byte {
            b'\\' if !next.is_ascii_punctuation() => return false,
            b'\\' => at += 1,
            b'[' if in_class || next == b']' || next == b'^' && bytes.get(at + 2) == Some(&b']') => return false,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'{' if !in_class && !next.is_ascii_digit() => return false,
            b'&' | b'~' | b'-' if in_class && next == byte => return false,
            _ => {}
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_patterns_of_one_meaning_reach_the_index() {
        for same in ["eth0|eth1", "node_.+", "[a-z0-9_]+", "a\\.b", "a{2,3}", "(?i)x", "", "[^a-c]", "[{]"] {
            assert!(is_same_in_both_dialects(same), "{same}");
        }
        for other in ["\\d+", "\\w", "{a}", "[a&&b]", "[[a]", "[]a]", "[^]a]", "[a--b]", "\\Qa\\E", "a\\"] {
            assert!(!is_same_in_both_dialects(other), "{other}");
        }
    }
}
