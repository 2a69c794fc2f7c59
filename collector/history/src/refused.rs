//! Series that a limit refused, by source, and which of a source's labels has exploded.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use pitwatch_shared::model::Labels;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use crate::history::{History, read};
use crate::index::SeriesId;
use crate::source::SourceName;

/// Series whose labels are counted under one hold of the index, which ingest wants too.
const SERIES_AT_ONCE: usize = 4096;

/// What the limits refused of one source since the store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Who declared them.
    pub source: SourceName,
    /// Declarations refused; a series counts again when it is declared again.
    pub count: u64,
    /// The limit that refused the last of them.
    pub limit: SeriesLimit,
    /// The last of them, as declared.
    pub last: Labels,
}

/// A limit that refuses series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesLimit {
    /// [`crate::Config::series_per_source_max`], or [`crate::Config::series_by_rows_max`] for series that come by rows.
    PerSource,
    /// [`crate::Config::series_total_max`].
    Total,
    /// With `instance` the labels are over the model's limits.
    Labels,
}

/// The label of a source that has the most values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explosion {
    /// Its name.
    pub label: String,
    /// How many values it has among the source's series.
    pub values: usize,
    /// How many series the source has in memory.
    pub series: usize,
}

/// All that was refused. Sources that enrol are few: one entry each.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<SourceName, Refused>>);

impl Refusals {
    pub(crate) fn note(&self, source: &SourceName, series: &Labels, limit: SeriesLimit) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(source) {
            Some(refused) => {
                refused.count += 1;
                refused.limit = limit;
                refused.last = series.clone();
            }
            None => {
                let refused = Refused { source: source.clone(), count: 1, limit, last: series.clone() };
                all.insert(source.clone(), refused);
            }
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().map(|refused| refused.count).sum()
    }
}

impl History {
    /// What the limits refused since the store was opened, by source.
    #[must_use]
    pub fn refused(&self) -> Vec<Refused> {
        self.counters.refusals.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The label with the most values among the series that a source has in memory; of several the first by name.
    /// Costs a look at every label of them.
    #[must_use]
    pub fn explosion(&self, source: &SourceName) -> Option<Explosion> {
        let series = self.series_in_memory(source);
        let mut values: FxHashMap<String, FxHashSet<u64>> = FxHashMap::default();
        for some in series.chunks(SERIES_AT_ONCE) {
            let index = read(&self.index);
            for labels in some.iter().filter_map(|id| index.labels(*id)) {
                for (name, value) in labels.iter() {
                    let mut hasher = FxHasher::default();
                    value.hash(&mut hasher);
                    match values.get_mut(name) {
                        Some(seen) => seen.insert(hasher.finish()),
                        None => values.entry(name.to_owned()).or_default().insert(hasher.finish()),
                    };
                }
            }
        }
        let counts = values.into_iter().map(|(label, seen)| (seen.len(), std::cmp::Reverse(label)));
        let (values, std::cmp::Reverse(label)) = counts.max()?;
        Some(Explosion { label, values, series: series.len() })
    }

    fn series_in_memory(&self, source: &SourceName) -> Vec<SeriesId> {
        let view = read(&self.view);
        let mut series: FxHashSet<SeriesId> = FxHashSet::default();
        for head in view.heads.values().filter(|head| head.name == *source) {
            series.extend(read(&head.data).series());
        }
        let frozen = view.frozen.iter().flat_map(|frozen| frozen.sources.values());
        for (_, data) in frozen.filter(|(name, _)| name == source) {
            series.extend(data.series());
        }
        series.into_iter().collect()
    }
}
