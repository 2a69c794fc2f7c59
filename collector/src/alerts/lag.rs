//! How long it takes from samples that are durable to the end of the evaluation that saw them: a histogram.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper ends of its buckets, milliseconds.
pub const BOUNDS_MS: [u64; 10] = [2, 5, 10, 20, 30, 50, 100, 200, 500, 1_000];

/// Counts by bucket, one count an instance whose samples were seen.
#[derive(Debug, Default)]
pub struct Lag {
    /// The last is of what is above every bound.
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Lag {
    /// Notes that samples of so many instances were seen after `lag`.
    pub fn note(&self, lag: Duration, instances: u64) {
        let lag_us = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS_MS.partition_point(|bound_ms| bound_ms * 1_000 < lag_us);
        self.counts[at].fetch_add(instances, Ordering::Relaxed);
        self.sum_us.fetch_add(lag_us.saturating_mul(instances), Ordering::Relaxed);
    }

    /// The upper end of each bucket in seconds, infinity the last, with how many were no later; and the sum in seconds.
    #[must_use]
    pub fn buckets(&self) -> (Vec<(f64, u64)>, f64) {
        let mut all = 0;
        let ends = BOUNDS_MS.iter().map(|bound_ms| *bound_ms as f64 / 1e3).chain([f64::INFINITY]);
        let buckets = ends.zip(&self.counts).map(|(end, count)| {
            all += count.load(Ordering::Relaxed);
            (end, all)
        });
        (buckets.collect(), self.sum_us.load(Ordering::Relaxed) as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let lag = Lag::default();
        lag.note(Duration::from_millis(2), 3);
        lag.note(Duration::from_millis(21), 1);
        lag.note(Duration::from_secs(9), 1);
        let (buckets, sum) = lag.buckets();
        let counts: Vec<u64> = buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 5]);
        assert!((sum - 9.027).abs() < 1e-9 && buckets[10].0.is_infinite());
    }
}
