//! The readers' side: series by matchers, their samples over heads and blocks, names, values, figures.
//!
//! Locks are taken in this order: the view, the index, a source's data; a thread may leave some out. A reader holds the view while
//! it copies from a head, so that a rotation cannot hide samples from it; blocks are read without any lock.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pitwatch_disk::Disk;
use pitwatch_shared::model::{Labels, MetricType};
use rustc_hash::FxHashSet;

use crate::block::recent::Recent;
use crate::block::{Block, BlockError};
use crate::blocks::BlockDir;
use crate::compact::Compaction;
use crate::config::Config;
use crate::error::QueryError;
use crate::head::HeadData;
use crate::index::{Index, SeriesId};
use crate::logs::LogStore;
use crate::matchers::Matcher;
use crate::rollup::{Rolling, Rollup};
use crate::seal::Frozen;
use crate::source::SourceName;
use crate::stats::{Counters, Stats, count};

/// The store, for readers. Shared between threads; what is appended is seen at once, before it is durable.
#[derive(Debug)]
pub struct History {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) config: Config,
    pub(crate) index: RwLock<Index>,
    pub(crate) view: RwLock<View>,
    pub(crate) compaction: Compaction,
    pub(crate) counters: Counters,
    pub(crate) rolling: Rolling,
    pub(crate) blocks: BlockDir,
    pub(crate) recent: Arc<Recent>,
    pub(crate) logs: Arc<LogStore>,
}

/// Where samples are.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) heads: BTreeMap<u32, Arc<SourceHead>>,
    /// A head that is being sealed.
    pub(crate) frozen: Option<Arc<Frozen>>,
    /// By order: later ones win over earlier ones.
    pub(crate) blocks: Vec<Arc<Block>>,
    /// Numbers of those that a compaction reads.
    pub(crate) compacting: Vec<u64>,
    /// Rollup files of all resolutions, in no order.
    pub(crate) rollups: Vec<Arc<Rollup>>,
}

/// What a source sent since the last seal.
#[derive(Debug)]
pub(crate) struct SourceHead {
    pub(crate) name: SourceName,
    pub(crate) data: RwLock<HeadData>,
    /// The latest timestamp that it ever sent, or `i64::MIN`.
    pub(crate) last_ms: AtomicI64,
}

/// A series of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesRef {
    id: SeriesId,
    /// Its labels.
    pub labels: Labels,
}

impl SeriesRef {
    /// Its number: the same as long as the store is open, never given to another series.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl SourceHead {
    pub(crate) fn new(name: SourceName) -> Self {
        Self { name, data: RwLock::default(), last_ms: AtomicI64::new(i64::MIN) }
    }
}

impl History {
    /// The series that all matchers mean and that may have samples, or buckets of samples that are gone, after `start_ms`
    /// and not after `end_ms`, ascending by number.
    ///
    /// # Errors
    /// None at present: what is asked here is in memory.
    pub fn select(&self, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Result<Vec<SeriesRef>, QueryError> {
        let (ids, index) = self.matching(matchers, start_ms, end_ms);
        let found = ids.into_iter().filter_map(|id| Some(SeriesRef { id, labels: index.labels(id)?.clone() }));
        Ok(found.collect())
    }

    /// The series that all matchers mean and that may have samples after `start_ms`, ascending by number: no others get
    /// any as long as [`History::arrivals`] stays what it was before this was asked.
    ///
    /// # Errors
    /// As [`History::select`].
    pub fn select_from(&self, matchers: &[Matcher], start_ms: i64) -> Result<Vec<SeriesRef>, QueryError> {
        let view = read(&self.view);
        let index = read(&self.index);
        let mut ids = index.select(matchers);
        ids.retain(|id| {
            let mut frozen = index.sources(*id).filter_map(|source| view.frozen.as_ref()?.sources.get(&source));
            let mut heads = index.sources(*id).filter_map(|source| view.heads.get(&source));
            heads.any(|head| read(&head.data).holds(*id))
                || frozen.any(|(_, data)| data.holds(*id))
                || view.blocks.iter().any(|block| block.has(*id, start_ms, i64::MAX))
                || view.rollups.iter().any(|file| file.overlaps(start_ms, i64::MAX) && file.has(*id))
        });
        Ok(ids.into_iter().filter_map(|id| Some(SeriesRef { id, labels: index.labels(id)?.clone() })).collect())
    }

    /// A number that changes when a series of that metric name, or any series at all, comes to have samples in memory
    /// that had none there.
    #[must_use]
    pub fn arrivals(&self, metric: Option<&str>) -> u64 {
        read(&self.index).arrivals(metric)
    }

    /// Notes that series were given columns in a head. The head's own lock must not be held.
    pub(crate) fn arrived(&self, series: &[SeriesId]) {
        if !series.is_empty() {
            write(&self.index).arrived(series);
        }
    }

    /// Replaces `ts` and `values` by the series' samples after `start_ms` and not after `end_ms`, ascending, one a
    /// timestamp (the last written), stale markers among them.
    ///
    /// # Errors
    /// A block that is damaged or cannot be read; it names the file and the part.
    pub fn samples(
        &self,
        series: &SeriesRef,
        start_ms: i64,
        end_ms: i64,
        ts: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), QueryError> {
        ts.clear();
        values.clear();
        // What only the head has, as a rule the last hours, goes straight into the answer.
        let (mut head_ts, mut head_values) = (Vec::new(), Vec::new());
        let blocks: Vec<Arc<Block>>;
        {
            let view = read(&self.view);
            blocks = view.blocks.iter().filter(|block| block.has(series.id, start_ms, end_ms)).cloned().collect();
            let (ts, values) =
                if blocks.is_empty() { (&mut *ts, &mut *values) } else { (&mut head_ts, &mut head_values) };
            let index = read(&self.index);
            let sources = || index.sources(series.id);
            for (_, data) in sources().filter_map(|source| view.frozen.as_ref()?.sources.get(&source)) {
                data.samples(series.id, start_ms, end_ms, ts, values);
            }
            for head in sources().filter_map(|source| view.heads.get(&source)) {
                read(&head.data).samples(series.id, start_ms, end_ms, ts, values);
            }
        }
        if blocks.is_empty() {
            sort_last_wins(ts, values);
            return Ok(());
        }
        block_samples(&blocks, series.id, (start_ms, end_ms), ts, values)
            .inspect_err(|_| count(&self.counters.corruptions))?;
        if !head_ts.is_empty() {
            ts.append(&mut head_ts);
            values.append(&mut head_values);
            sort_last_wins(ts, values);
        }
        Ok(())
    }

    /// The last of the samples that [`History::samples`] gives, without reading the others.
    ///
    /// # Errors
    /// As [`History::samples`].
    pub fn latest(&self, series: &SeriesRef, start_ms: i64, end_ms: i64) -> Result<Option<(i64, f64)>, QueryError> {
        {
            let view = read(&self.view);
            let index = read(&self.index);
            let sources = || index.sources(series.id);
            let mut found: Option<(i64, u64)> = None;
            let frozen = sources().filter_map(|source| view.frozen.as_ref()?.sources.get(&source));
            let frozen = frozen.filter_map(|(_, data)| data.latest(series.id, start_ms, end_ms));
            let heads = sources().filter_map(|source| view.heads.get(&source));
            let heads = heads.filter_map(|head| read(&head.data).latest(series.id, start_ms, end_ms));
            for one in frozen.chain(heads) {
                if found.is_none_or(|(before, _)| one.0 >= before) {
                    found = Some(one);
                }
            }
            let from_ms = found.map_or(start_ms, |(ts_ms, _)| ts_ms);
            if !view.blocks.iter().any(|block| block.has(series.id, from_ms, end_ms)) {
                return Ok(found.map(|(ts_ms, bits)| (ts_ms, f64::from_bits(bits))));
            }
        }
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        self.samples(series, start_ms, end_ms, &mut ts, &mut values)?;
        Ok(ts.last().copied().zip(values.last().copied()))
    }

    /// The names of the labels of the series that all matchers mean, sorted.
    ///
    /// # Errors
    /// As [`History::select`].
    pub fn label_names(&self, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Result<Vec<String>, QueryError> {
        let (ids, index) = self.matching(matchers, start_ms, end_ms);
        let ids = FxHashSet::from_iter(ids);
        let has = |values: &BTreeMap<Box<str>, Vec<SeriesId>>| values.values().flatten().any(|id| ids.contains(id));
        Ok(index.postings().filter(|(_, values)| has(values)).map(|(name, _)| name.to_owned()).collect())
    }

    /// The values of a label over the series that all matchers mean, sorted.
    ///
    /// # Errors
    /// As [`History::select`].
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<String>, QueryError> {
        let (ids, index) = self.matching(matchers, start_ms, end_ms);
        let ids = FxHashSet::from_iter(ids);
        let values = index.values(name).into_iter().flatten();
        let found = values.filter(|(_, list)| list.iter().any(|id| ids.contains(id)));
        Ok(found.map(|(value, _)| value.to_string()).collect())
    }

    /// Every metric name with its type, sorted by name.
    #[must_use]
    pub fn metric_types(&self) -> Vec<(String, MetricType)> {
        read(&self.index).metrics().map(|(name, kind)| (name.to_owned(), kind)).collect()
    }

    /// The latest timestamp that a source sent since the store was opened (replayed frames among them).
    #[must_use]
    pub fn last_sample_ms(&self, source: &SourceName) -> Option<i64> {
        let view = read(&self.view);
        let heads = view.heads.values().filter(|head| head.name == *source);
        heads.map(|head| head.last_ms.load(Ordering::Relaxed)).max().filter(|last| *last != i64::MIN)
    }

    /// The lines: events of agents are among them.
    #[must_use]
    pub fn logs(&self) -> &LogStore {
        &self.logs
    }

    /// How the store was opened.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The store's figures.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.counters.stats();
        stats.series = read(&self.index).len() as u64;
        let view = read(&self.view);
        stats.sources = view.heads.len() as u64;
        for head in view.heads.values() {
            let data = read(&head.data);
            stats.head_samples += data.samples;
            stats.head_bytes += data.bytes;
        }
        for (_, data) in view.frozen.iter().flat_map(|frozen| frozen.sources.values()) {
            stats.head_samples += data.samples;
            stats.head_bytes += data.bytes;
        }
        stats.blocks = view.blocks.len() as u64;
        stats.block_bytes = view.blocks.iter().map(|block| block.bytes()).sum();
        stats.block_samples = view.blocks.iter().map(|block| block.footer().samples).sum();
        stats.rollup_files = view.rollups.len() as u64;
        stats.rollup_bytes = view.rollups.iter().map(|file| file.bytes()).sum();
        let lines = self.logs.stats();
        stats.log_files = lines.files;
        stats.log_bytes = lines.file_bytes;
        stats.log_head_bytes = lines.head_bytes;
        stats
    }

    /// The matching series that have samples in the range, and the index that says so.
    fn matching(&self, matchers: &[Matcher], start: i64, end: i64) -> (Vec<SeriesId>, RwLockReadGuard<'_, Index>) {
        let view = read(&self.view);
        let index = read(&self.index);
        let mut ids = index.select(matchers);
        let blocks: Vec<_> = view.blocks.iter().filter(|block| block.overlaps(start, end)).collect();
        let rollups: Vec<_> = view.rollups.iter().filter(|file| file.overlaps(start, end)).collect();
        ids.retain(|id| {
            let sources = || index.sources(*id);
            let mut frozen = sources().filter_map(|source| view.frozen.as_ref()?.sources.get(&source));
            let mut heads = sources().filter_map(|source| view.heads.get(&source));
            heads.any(|head| read(&head.data).has(*id, start, end))
                || frozen.any(|(_, data)| data.has(*id, start, end))
                || blocks.iter().any(|block| block.has(*id, start, end))
                || rollups.iter().any(|file| file.has(*id))
        });
        (ids, index)
    }
}

/// Replaces `ts` and `values` by the series' samples in some blocks within `(start, end]`, in order, one a timestamp; on
/// an error there are none.
pub(crate) fn block_samples(
    blocks: &[Arc<Block>],
    series: SeriesId,
    (start, end): (i64, i64),
    ts: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<(), BlockError> {
    ts.clear();
    values.clear();
    let mut in_order = true;
    for block in blocks {
        in_order &= block.samples(series, start, end, ts, values).inspect_err(|_| {
            ts.clear();
            values.clear();
        })?;
    }
    if !in_order {
        sort_last_wins(ts, values);
    }
    Ok(())
}

/// Locks for reading. What a panicking writer left behind is used: each change is whole or harmless.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing; see [`read`].
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Sorts samples by time; of several at one timestamp the last stays.
pub(crate) fn sort_last_wins(ts: &mut Vec<i64>, values: &mut Vec<f64>) {
    if ts.windows(2).all(|pair| pair[0] < pair[1]) {
        return;
    }
    if let Some(runs) = disjoint_runs(ts) {
        let (run_ts, run_values) = (std::mem::take(ts), std::mem::take(values));
        ts.reserve_exact(run_ts.len());
        values.reserve_exact(run_values.len());
        for run in runs {
            ts.extend_from_slice(&run_ts[run.clone()]);
            values.extend_from_slice(&run_values[run]);
        }
        return;
    }
    let mut samples: Vec<(i64, f64)> = ts.drain(..).zip(values.drain(..)).collect();
    samples.sort_by_key(|(ts, _)| *ts);
    for (at, value) in samples {
        if ts.last() == Some(&at) {
            values.pop();
            values.push(value);
        } else {
            ts.push(at);
            values.push(value);
        }
    }
}

/// The ascending runs that samples are made of, in the order of their times, if no two of them overlap: as with chunks
/// of a series that were not written in order.
fn disjoint_runs(ts: &[i64]) -> Option<Vec<Range<usize>>> {
    /// Samples that come one by one out of order are better sorted one by one.
    const RUNS_MAX: usize = 1024;
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut begin = 0;
    for run in ts.chunk_by(|a, b| a < b) {
        if runs.len() == RUNS_MAX {
            return None;
        }
        runs.push(begin..begin + run.len());
        begin += run.len();
    }
    runs.sort_unstable_by_key(|run| ts[run.start]);
    runs.windows(2).all(|pair| ts[pair[0].end - 1] < ts[pair[1].start]).then_some(runs)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Runs of whatever order, overlap and repetition come out as a map that keeps the last of each instant.
        #[test]
        fn samples_are_sorted_and_the_last_wins(runs in prop::collection::vec((0_i64..60, 0_usize..20, 1_i64..3), 0..8)) {
            let mut ts = Vec::new();
            for (start, len, step) in runs {
                ts.extend((0..len as i64).map(|i| start + i * step));
            }
            let mut values: Vec<f64> = (0..ts.len()).map(|nth| nth as f64).collect();
            let expected: BTreeMap<i64, f64> = ts.iter().copied().zip(values.iter().copied()).collect();
            sort_last_wins(&mut ts, &mut values);
            prop_assert_eq!(ts.into_iter().zip(values).collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn runs_that_do_not_overlap_are_put_in_order_whole() {
        assert_eq!(disjoint_runs(&[7, 8, 9, 1, 2, 5]), Some(vec![3..6, 0..3]));
        assert_eq!(disjoint_runs(&[7, 8, 9, 1, 2, 7]), None);
    }
}
