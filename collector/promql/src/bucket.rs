//! What a store may give in place of samples: what is known of each span of time. Owns the types and when an answer from
//! them is that from the samples; what is computed of them is in the evaluator.

use crate::source::Hints;

/// One series' samples of the span `(end_ms - resolution, end_ms]`. Spans end at multiples of their length; one without
/// a sample or marker is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bucket {
    /// The span's end, which belongs to it.
    pub end_ms: i64,
    /// Samples, stale markers left out. With none, what follows but `stale` is not looked at.
    pub count: u32,
    /// Whether the last of all, markers among them, is a stale marker.
    pub stale: bool,
    /// When the first sample was taken.
    pub first_ms: i64,
    /// When the last one was.
    pub last_ms: i64,
    /// The first sample's value.
    pub first: f64,
    /// The last one's.
    pub last: f64,
    /// The least value; NaN only if there is nothing else.
    pub min: f64,
    /// The greatest value; NaN only if there is nothing else.
    pub max: f64,
    /// The sum of the values.
    pub sum: f64,
    /// The sum of the values that each were followed by a smaller one: `last - first + resets` is a counter's increase.
    pub resets: f64,
}

/// Which of a bucket's values are looked at. Counts, times and stale markers always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BucketFields {
    /// [`Bucket::first`].
    pub first: bool,
    /// [`Bucket::last`].
    pub last: bool,
    /// [`Bucket::min`].
    pub min: bool,
    /// [`Bucket::max`].
    pub max: bool,
    /// [`Bucket::sum`].
    pub sum: bool,
    /// [`Bucket::resets`].
    pub resets: bool,
}

impl Hints {
    /// Whether buckets of that length give the answer that the samples give (a sum but for rounding): every window is whole
    /// buckets, or ends with one where only its last sample counts.
    pub fn is_exact_on(&self, resolution_ms: i64) -> bool {
        self.grid_ms().is_some_and(|grid_ms| grid_ms % resolution_ms == 0)
    }

    /// The length of the longest buckets that give the answer that the samples give; those of every divisor of it do.
    /// `None` if none do, 0 if all.
    pub fn grid_ms(&self) -> Option<i64> {
        let window_ms = if self.needs_whole_windows { self.window_ms } else { 0 };
        self.buckets
            .is_some()
            .then(|| [self.step_ms, window_ms].into_iter().fold(self.end_ms.saturating_abs(), divisor))
    }
}

/// The greatest common divisor of two numbers, neither below 0.
fn divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
