//! A source of samples in memory, for tests and examples.

use std::collections::BTreeMap;

use crate::error::SourceError;
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::source::{SampleBuf, Source};

/// Series in memory.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    series: BTreeMap<Labels, BTreeMap<i64, u64>>,
}

impl MemorySource {
    /// A source without series.
    pub fn new() -> MemorySource {
        MemorySource::default()
    }

    /// Stores a sample; one of the same series and time is replaced.
    pub fn push(&mut self, labels: &Labels, timestamp_ms: i64, value: f64) {
        // Values as bits, so that stale markers survive any copying.
        match self.series.get_mut(labels) {
            Some(samples) => samples.insert(timestamp_ms, value.to_bits()),
            None => self.series.entry(labels.clone()).or_default().insert(timestamp_ms, value.to_bits()),
        };
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.series.clear();
    }
}

impl Source for MemorySource {
    type Series = Labels;

    fn select(
        &self,
        matchers: &[Matcher],
        _start_ms: i64,
        _end_ms: i64,
    ) -> std::result::Result<Vec<(Labels, Labels)>, SourceError> {
        let fits = |labels: &&Labels| matchers.iter().all(|m| m.matches_labels(labels));
        Ok(self.series.keys().filter(fits).map(|labels| (labels.clone(), labels.clone())).collect())
    }

    fn samples(
        &self,
        series: &Labels,
        start_ms: i64,
        end_ms: i64,
        out: &mut SampleBuf,
    ) -> std::result::Result<(), SourceError> {
        out.clear();
        let samples = self.series.get(series).ok_or("series is gone")?;
        if start_ms < end_ms {
            for (time, bits) in samples.range(start_ms + 1..=end_ms) {
                out.push(*time, f64::from_bits(*bits));
            }
        }
        Ok(())
    }
}
