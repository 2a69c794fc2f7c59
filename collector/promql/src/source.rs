//! What the engine asks of a store. Owns the trait and the buffer that samples come in; a store knows nothing else of
//! the language than matchers.

use crate::bucket::{Bucket, BucketFields};
use crate::error::SourceError;
use crate::labels::Labels;
use crate::matcher::Matcher;

/// The bits of the NaN that marks the end of a series.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The value that marks the end of a series.
pub const STALE: f64 = f64::from_bits(STALE_BITS);

/// Whether a value marks the end of a series. Other NaNs are values like any other.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// The bits of the NaN that stands for a native histogram.
const NATIVE_BITS: u64 = 0x7ff0_0000_0000_0004;

/// The value that stands for a native histogram. This engine computes nothing of them: what can only use numbers
/// passes over them, as in Prometheus, and what only asks whether there is a sample counts them.
pub const NATIVE_HISTOGRAM: f64 = f64::from_bits(NATIVE_BITS);

/// Whether a value stands for a native histogram.
#[inline]
pub fn is_native_histogram(value: f64) -> bool {
    value.to_bits() == NATIVE_BITS
}

/// The samples of one series: times in milliseconds, ascending, and a value for each.
#[derive(Debug, Clone, Default)]
pub struct SampleBuf {
    /// When, in milliseconds.
    pub timestamps: Vec<i64>,
    /// The values, parallel to the times.
    pub values: Vec<f64>,
}

impl SampleBuf {
    /// Forgets the samples and keeps the memory.
    pub fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
    }

    /// Adds a sample; its time must be later than the last.
    #[inline]
    pub fn push(&mut self, timestamp_ms: i64, value: f64) {
        self.timestamps.push(timestamp_ms);
        self.values.push(value);
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Drops the stale markers, and unless `keep_native` what stands for native histograms.
    pub(crate) fn drop_stale(&mut self, keep_native: bool) {
        let drop = |v: &f64| is_stale(*v) || (is_native_histogram(*v) && !keep_native);
        let Some(first) = self.values.iter().position(drop) else { return };
        let mut kept = first;
        for i in first..self.values.len() {
            if !drop(&self.values[i]) {
                self.timestamps[kept] = self.timestamps[i];
                self.values[kept] = self.values[i];
                kept += 1;
            }
        }
        self.timestamps.truncate(kept);
        self.values.truncate(kept);
    }
}

/// What a selection is for. A store that keeps coarser copies of its history can choose among them by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hints {
    /// The time of the first evaluation, its offset taken off.
    pub end_ms: i64,
    /// How far apart the evaluations are, 0 if there is only one.
    pub step_ms: i64,
    /// How far each evaluation looks back.
    pub window_ms: i64,
    /// The function that takes the window, if the selector has one: `rate`, `avg_over_time`.
    pub function: Option<&'static str>,
    /// If buckets would do in place of samples: which of their values.
    pub buckets: Option<BucketFields>,
    /// Whether buckets would have to lie in the window as a whole; else only its last sample counts.
    pub needs_whole_windows: bool,
}

/// What a store answers to a selection.
#[derive(Debug, Clone)]
pub struct Selection<S> {
    /// The series, in any order.
    pub series: Vec<(Labels, S)>,
    /// What the engine is to ask for: with a length in milliseconds [`Source::buckets`], else [`Source::samples`]. Where
    /// that length is not exact ([`Hints::is_exact_on`]), windows are widened to whole buckets.
    pub resolution_ms: Option<i64>,
    /// What the store calls the copy of its history that this is.
    pub tier: Option<&'static str>,
    /// What the user should know of it.
    pub info: Option<String>,
}

/// A store of samples, as the evaluator sees it. Several threads may read series of one query at once.
pub trait Source: Sync {
    /// A handle on one series, valid during the query.
    type Series: Sync;

    /// The series that fulfil every matcher and may have samples with `start_ms < time <= end_ms`, in any order.
    fn select(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> std::result::Result<Vec<(Labels, Self::Series)>, SourceError>;

    /// Replaces `out` with the samples of the series with `start_ms < time <= end_ms`, stale markers included.
    fn samples(
        &self,
        series: &Self::Series,
        start_ms: i64,
        end_ms: i64,
        out: &mut SampleBuf,
    ) -> std::result::Result<(), SourceError>;

    /// Replaces `out` with the last of those samples, if there is one: all that a selector needs at one time.
    fn latest(
        &self,
        series: &Self::Series,
        start_ms: i64,
        end_ms: i64,
        out: &mut SampleBuf,
    ) -> std::result::Result<(), SourceError> {
        self.samples(series, start_ms, end_ms, out)?;
        let rest = out.len().saturating_sub(1);
        out.timestamps.drain(..rest);
        out.values.drain(..rest);
        Ok(())
    }

    /// As [`Source::select`], with a word on what the samples are for, so that a store may answer with buckets. The
    /// engine calls only this one.
    fn select_for(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        hints: &Hints,
    ) -> std::result::Result<Selection<Self::Series>, SourceError> {
        let _ = hints;
        let series = self.select(matchers, start_ms, end_ms)?;
        Ok(Selection { series, resolution_ms: None, tier: None, info: None })
    }

    /// Replaces `out` with the buckets of the series with `start_ms < end of the bucket <= end_ms`, of the length that
    /// [`Source::select_for`] answered; start and end are multiples of it.
    fn buckets(
        &self,
        series: &Self::Series,
        start_ms: i64,
        end_ms: i64,
        out: &mut Vec<Bucket>,
    ) -> std::result::Result<(), SourceError> {
        let _ = (series, start_ms, end_ms, out);
        Err("this store keeps no buckets".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_markers_are_dropped_and_other_nans_stay() {
        let mut buf = SampleBuf::default();
        for (t, v) in [(1, 1.0), (2, STALE), (3, f64::NAN), (4, STALE), (5, 5.0)] {
            buf.push(t, v);
        }
        buf.push(6, NATIVE_HISTOGRAM);
        buf.drop_stale(true);
        assert_eq!(buf.timestamps, [1, 3, 5, 6]);
        assert!(buf.values[1].is_nan());
        buf.drop_stale(false);
        assert_eq!(buf.timestamps, [1, 3, 5]);
    }
}
