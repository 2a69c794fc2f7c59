//! History for those who ask the same again and again, as rules do: which series a selector means is found out once and
//! kept until a series of that metric arrives, so that an evaluation only reads values.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pitwatch_alerting::engine::Scope;
use pitwatch_history::rollup;
use pitwatch_promql::{Bucket, Hints, Labels, MatchOp, Matcher, SampleBuf, Selection, Source, SourceError};
use pitwatch_shared::model::{INSTANCE, METRIC_NAME};
use rustc_hash::{FxHashMap, FxHasher};

use super::{Handle, HistorySource, Tier, tier};

/// Selections are found out anew after this, so that series which ended are left behind.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// Most series of all selections that are kept, about 60 bytes each; what is beyond is found out each time.
const SERIES_MAX: usize = 1_000_000;

/// A store of samples whose selections are kept.
#[derive(Debug)]
pub struct KeptSource {
    source: HistorySource,
    kept: Mutex<Kept>,
}

/// Some instances' series of it.
#[derive(Debug)]
pub struct Scoped<'a> {
    kept: &'a KeptSource,
    scope: Scope<'a>,
}

/// Selections by the hash of their matchers.
#[derive(Debug, Default)]
struct Kept {
    selections: HashMap<u64, Meant, BuildHasherDefault<FxHasher>>,
    series: usize,
}

/// What one selector means.
#[derive(Debug)]
struct Meant {
    matchers: Vec<Matcher>,
    /// In the order of their labels.
    series: Vec<(Labels, Handle)>,
    /// Where in that order each instance's are.
    by_instance: FxHashMap<Arc<str>, Vec<u32>>,
    /// Series that have samples after this are among them.
    start_ms: i64,
    arrivals: u64,
    found: Instant,
}

impl Meant {
    fn within(&self, scope: Scope<'_>) -> Vec<(Labels, Handle)> {
        let mut places: Vec<u32> = match scope {
            Scope::All => return self.series.clone(),
            Scope::Only(these) => these.iter().filter_map(|one| self.by_instance.get(one)).flatten().copied().collect(),
            Scope::Except(those) => {
                let others = self.by_instance.iter().filter(|(one, _)| !those.contains(*one));
                others.flat_map(|(_, places)| places).copied().collect()
            }
        };
        places.sort_unstable();
        places.into_iter().map(|at| self.series[at as usize].clone()).collect()
    }

    fn is_good(&self, start_ms: i64, arrivals: u64) -> bool {
        self.start_ms <= start_ms && self.arrivals == arrivals && self.found.elapsed() < KEPT_FOR
    }
}

impl KeptSource {
    /// Over a history.
    #[must_use]
    pub fn new(source: HistorySource) -> Self {
        Self { source, kept: Mutex::default() }
    }

    /// The same, but only series of these instances.
    #[must_use]
    pub fn scoped<'a>(&'a self, scope: Scope<'a>) -> Scoped<'a> {
        Scoped { kept: self, scope }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The series of a selector that may have samples after `start_ms`, and others that had; in the order of labels.
    fn series(
        &self,
        matchers: &[Matcher],
        scope: Scope<'_>,
        start_ms: i64,
    ) -> Result<Vec<(Labels, Handle)>, SourceError> {
        let name = matchers.iter().find(|matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Eq);
        // Asked before the series: one that arrives meanwhile makes the answer old, not incomplete.
        let arrivals = self.source.history.arrivals(name.map(|matcher| &*matcher.value));
        let key = key(matchers);
        let before = match self.kept().selections.get(&key) {
            Some(kept) if kept.matchers == matchers && kept.is_good(start_ms, arrivals) => {
                return Ok(kept.within(scope));
            }
            Some(kept) if kept.found.elapsed() < KEPT_FOR => kept.start_ms,
            _ => start_ms,
        };
        // The same selector may be asked with an offset and without: the longer look back serves both.
        let start_ms = start_ms.min(before);
        let series = self.source.series_from(matchers, start_ms)?;
        let by_instance = by_instance(&series);
        let matchers = matchers.to_vec();
        let fresh = Meant { matchers, series, by_instance, start_ms, arrivals, found: Instant::now() };
        let within = fresh.within(scope);
        self.kept().keep(key, fresh);
        Ok(within)
    }
}

impl Kept {
    fn keep(&mut self, key: u64, fresh: Meant) {
        // Of rules that are gone.
        self.selections.retain(|at, old| *at != key && old.found.elapsed() < KEPT_FOR);
        self.series = self.selections.values().map(|kept| kept.series.len()).sum();
        if self.series + fresh.series.len() <= SERIES_MAX {
            self.selections.insert(key, fresh);
        }
    }
}

fn key(matchers: &[Matcher]) -> u64 {
    let parts: Vec<_> = matchers.iter().map(|matcher| (&matcher.name, matcher.op, &matcher.value)).collect();
    BuildHasherDefault::<FxHasher>::default().hash_one(parts)
}

fn by_instance(series: &[(Labels, Handle)]) -> FxHashMap<Arc<str>, Vec<u32>> {
    let mut places: FxHashMap<Arc<str>, Vec<u32>> = FxHashMap::default();
    for (at, (labels, _)) in (0..).zip(series) {
        let pairs = labels.shared();
        let instance =
            pairs.iter().find(|(name, _)| **name == *INSTANCE).map_or_else(|| "".into(), |(_, it)| it.clone());
        places.entry(instance).or_default().push(at);
    }
    places
}

impl Source for Scoped<'_> {
    type Series = Handle;

    fn select(&self, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Result<Vec<(Labels, Handle)>, SourceError> {
        self.kept.source.select(matchers, start_ms, end_ms)
    }

    fn select_for(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        hints: &Hints,
    ) -> Result<Selection<Handle>, SourceError> {
        let source = &self.kept.source;
        let choice = tier::choose(&source.history, source.forced, (start_ms, end_ms), hints);
        if choice.tier != Tier::Raw {
            return source.chosen(&choice, matchers, (start_ms, end_ms), hints);
        }
        let series = self.kept.series(matchers, self.scope, start_ms)?;
        Ok(Selection { series, resolution_ms: None, tier: Some(choice.tier.name()), info: choice.info })
    }

    fn samples(&self, handle: &Handle, start_ms: i64, end_ms: i64, out: &mut SampleBuf) -> Result<(), SourceError> {
        self.kept.source.samples(handle, start_ms, end_ms, out)
    }

    fn latest(&self, handle: &Handle, start_ms: i64, end_ms: i64, out: &mut SampleBuf) -> Result<(), SourceError> {
        self.kept.source.latest(handle, start_ms, end_ms, out)
    }

    fn buckets(&self, handle: &Handle, start_ms: i64, end_ms: i64, out: &mut Vec<Bucket>) -> Result<(), SourceError> {
        self.kept.source.buckets(handle, start_ms, end_ms, out)
    }
}

impl HistorySource {
    /// The series that fulfil every matcher and may have samples after `start_ms`, in the order of their labels.
    fn series_from(&self, matchers: &[Matcher], start_ms: i64) -> Result<Vec<(Labels, Handle)>, SourceError> {
        let (indexed, is_all) = super::indexed(matchers);
        let mut found = self.history.select_from(&indexed, start_ms)?;
        if !is_all {
            found.retain(|one| super::fulfils(one, matchers));
        }
        let handle = |series| Handle { series, cover: None, fields: rollup::Fields::NONE };
        let mut series = self.converted(found, handle);
        series.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(series)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pitwatch_disk::RealDisk;
    use pitwatch_history::{Config, History};
    use pitwatch_shared::model::{self, MetricType};

    use super::*;
    use crate::ingest::{Event, Ingest, Tick};

    const NOW_MS: i64 = 1_772_331_240_000;

    fn send(ingest: &Ingest, metric: &str, host: &str, ts_ms: i64) {
        let labels = model::Labels::new([(METRIC_NAME, metric), ("instance", host)]).unwrap();
        let table = format!("{metric}/{host}").into();
        let samples = vec![(labels, MetricType::Gauge, 1.0)];
        assert!(ingest.blocking_send(Event::Internal(Tick { table, ts_ms, samples })));
        let (reply, done) = tokio::sync::oneshot::channel();
        let (progress, _) = tokio::sync::watch::channel(Default::default());
        let source = pitwatch_history::SourceName::agent("settles");
        assert!(ingest.blocking_send(Event::Open { source, session: 1, progress, reply }));
        done.blocking_recv().unwrap();
    }

    #[test]
    fn a_selection_is_kept_until_a_series_of_its_metric_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let (history, appender, _) = History::open(Arc::new(RealDisk), dir.path(), Config::default()).unwrap();
        let (ingest, _thread) = Ingest::start(appender).unwrap();
        let kept = KeptSource::new(HistorySource::new(history));
        let up = [Matcher::new(METRIC_NAME, MatchOp::Eq, "up").unwrap()];
        let hosts = |start_ms: i64| -> Vec<String> {
            let series = kept.series(&up, Scope::All, start_ms).unwrap();
            series.iter().map(|(labels, _)| labels.get("instance").unwrap_or("").to_owned()).collect()
        };
        let found = || kept.kept().selections.get(&key(&up)).map(|kept| kept.found);
        send(&ingest, "up", "b", NOW_MS);
        assert_eq!(hosts(NOW_MS - 1_000), ["b"]);
        let first = found();
        // Neither another sample nor a series of another metric makes it old.
        send(&ingest, "up", "b", NOW_MS + 1_000);
        send(&ingest, "down", "a", NOW_MS + 1_000);
        assert_eq!((hosts(NOW_MS), found()), (vec!["b".to_owned()], first));
        send(&ingest, "up", "a", NOW_MS + 2_000);
        assert_eq!(hosts(NOW_MS), ["a", "b"]);
        assert_ne!(found(), first);
        let a: pitwatch_alerting::engine::Instances = ["a".into()].into_iter().collect();
        let only = |scope| -> Vec<String> {
            let series = kept.series(&up, scope, NOW_MS).unwrap();
            series.iter().map(|(labels, _)| labels.get("instance").unwrap_or("").to_owned()).collect()
        };
        assert_eq!((only(Scope::Only(&a)), only(Scope::Except(&a))), (vec!["a".to_owned()], vec!["b".to_owned()]));
        let (reply, done) = tokio::sync::oneshot::channel();
        assert!(ingest.blocking_send(Event::Stop(reply)));
        done.blocking_recv().unwrap();
    }
}
