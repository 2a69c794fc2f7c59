//! What is kept of the samples of a span of time, and how spans are joined.
//!
//! A bucket of resolution R is `(k·R, (k+1)·R]`, open to the left as PromQL's windows are, so that windows on the grid of
//! R are whole buckets and their answers are those over the samples.

use pitwatch_shared::model::is_stale;

/// One series' samples of one span.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    /// The span's end, which belongs to it, in milliseconds.
    pub end_ms: i64,
    /// Samples, stale markers left out. With none, what follows but `stale` means nothing.
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
    /// What a counter's values came to before each of its resets: `last - first + resets` is the increase.
    pub resets: f64,
}

/// Which of a bucket's values are asked for; the others may hold anything. Counts, times and stale markers always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(u8);

impl Fields {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// [`Bucket::first`].
    pub const FIRST: Self = Self(1);
    /// [`Bucket::last`].
    pub const LAST: Self = Self(2);
    /// [`Bucket::min`].
    pub const MIN: Self = Self(4);
    /// [`Bucket::max`].
    pub const MAX: Self = Self(8);
    /// [`Bucket::sum`].
    pub const SUM: Self = Self(16);
    /// [`Bucket::resets`].
    pub const RESETS: Self = Self(32);
    /// All of them.
    pub const ALL: Self = Self(63);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among them.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Bucket {
    fn of(ts_ms: i64, value: f64) -> Self {
        let times = Self { end_ms: ts_ms, first_ms: ts_ms, last_ms: ts_ms, ..Self::default() };
        if is_stale(value) {
            return Self { stale: true, ..times };
        }
        Self { count: 1, first: value, last: value, min: value, max: value, sum: value, ..times }
    }
}

/// Joins samples or finer buckets, in order of time, into buckets of one resolution and hands each on when it is whole.
pub(crate) struct Fold<E> {
    resolution_ms: i64,
    open: Option<Open>,
    each: E,
}

struct Open {
    bucket: Bucket,
    /// Low bits that the sum lost (Neumaier).
    lost: f64,
}

impl<E: FnMut(Bucket)> Fold<E> {
    pub(crate) fn new(resolution_ms: i64, each: E) -> Self {
        Self { resolution_ms, open: None, each }
    }

    pub(crate) fn sample(&mut self, ts_ms: i64, value: f64) {
        self.bucket(&Bucket::of(ts_ms, value));
    }

    pub(crate) fn bucket(&mut self, part: &Bucket) {
        match &mut self.open {
            // Cheaper than its end anew, and most parts are such.
            Some(open) if part.end_ms <= open.bucket.end_ms => open.join(part),
            _ => {
                self.close();
                let end_ms = end_of(part.end_ms, self.resolution_ms);
                self.open = Some(Open { bucket: Bucket { end_ms, ..*part }, lost: 0.0 });
            }
        }
    }

    pub(crate) fn finish(mut self) {
        self.close();
    }

    fn close(&mut self) {
        if let Some(Open { mut bucket, lost }) = self.open.take() {
            if bucket.sum.is_finite() {
                bucket.sum += lost;
            }
            (self.each)(bucket);
        }
    }
}

impl Open {
    fn join(&mut self, later: &Bucket) {
        let bucket = &mut self.bucket;
        bucket.stale = later.stale;
        if later.count == 0 {
            return;
        }
        if bucket.count == 0 {
            *bucket = Bucket { end_ms: bucket.end_ms, ..*later };
            return;
        }
        if later.first < bucket.last {
            bucket.resets += bucket.last;
        }
        bucket.resets += later.resets;
        if later.min < bucket.min || bucket.min.is_nan() {
            bucket.min = later.min;
        }
        if later.max > bucket.max || bucket.max.is_nan() {
            bucket.max = later.max;
        }
        bucket.count = bucket.count.saturating_add(later.count);
        (bucket.last_ms, bucket.last) = (later.last_ms, later.last);
        let total = bucket.sum + later.sum;
        if bucket.sum.abs() >= later.sum.abs() {
            self.lost += (bucket.sum - total) + later.sum;
        } else {
            self.lost += (later.sum - total) + bucket.sum;
        }
        bucket.sum = total;
    }
}

/// The end of the span that an instant falls into.
pub(crate) fn end_of(ts_ms: i64, resolution_ms: i64) -> i64 {
    match ts_ms.rem_euclid(resolution_ms) {
        0 => ts_ms,
        past => ts_ms.saturating_add(resolution_ms - past),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitwatch_shared::model::stale_nan;
    use proptest::prelude::*;

    fn fold(resolution_ms: i64, samples: &[(i64, f64)]) -> Vec<Bucket> {
        let mut buckets = Vec::new();
        let mut fold = Fold::new(resolution_ms, |bucket| buckets.push(bucket));
        samples.iter().for_each(|(ts, value)| fold.sample(*ts, *value));
        fold.finish();
        buckets
    }

    #[test]
    fn a_bucket_is_open_to_the_left() {
        let buckets = fold(10, &[(10, 4.0), (11, 7.0), (15, 2.0), (20, 3.0), (21, stale_nan())]);
        let ends: Vec<_> = buckets.iter().map(|bucket| (bucket.end_ms, bucket.count, bucket.stale)).collect();
        assert_eq!(ends, [(10, 1, false), (20, 3, false), (30, 0, true)]);
        let whole = &buckets[1];
        assert_eq!((whole.first_ms, whole.first, whole.last_ms, whole.last), (11, 7.0, 20, 3.0));
        assert_eq!((whole.min, whole.max, whole.sum, whole.resets), (2.0, 7.0, 12.0, 7.0));
        assert_eq!(end_of(i64::MAX, 60_000), i64::MAX);
        assert_eq!((end_of(-1, 10), end_of(0, 10), end_of(1, 10)), (0, 0, 10));
    }

    #[test]
    fn nan_counts_but_neither_least_nor_greatest() {
        let buckets = fold(10, &[(1, f64::NAN), (2, 5.0), (3, f64::NAN), (4, stale_nan()), (5, 1.0)]);
        let [bucket] = &buckets[..] else { panic!("{buckets:?}") };
        assert_eq!((bucket.count, bucket.min, bucket.max, bucket.stale), (4, 1.0, 5.0, false));
        assert!(bucket.sum.is_nan() && bucket.first.is_nan());
    }

    fn sample() -> impl Strategy<Value = (i64, f64)> {
        let value = prop_oneof![
            6 => (0..1000_i32).prop_map(f64::from),
            1 => Just(stale_nan()),
            1 => Just(f64::NAN),
            1 => Just(-0.0),
        ];
        (1..40_i64, value)
    }

    proptest! {
        #[test]
        fn buckets_of_buckets_are_buckets_of_samples(steps in proptest::collection::vec(sample(), 0..200)) {
            let mut now = -777;
            let samples: Vec<_> = steps.into_iter().map(|(step, value)| { now += step; (now, value) }).collect();
            let direct = fold(240, &samples);
            let mut joined = Vec::new();
            let mut by_two = Fold::new(240, |bucket| joined.push(bucket));
            fold(60, &samples).iter().for_each(|bucket| by_two.bucket(bucket));
            by_two.finish();
            prop_assert_eq!(joined.len(), direct.len());
            for (a, b) in joined.iter().zip(&direct) {
                let times = |bucket: &Bucket| (bucket.end_ms, bucket.count, bucket.stale);
                prop_assert_eq!(times(a), times(b));
                if a.count > 0 {
                    let bits = |b: &Bucket| [b.first, b.last, b.min, b.max, b.resets].map(f64::to_bits);
                    prop_assert_eq!((bits(a), a.first_ms, a.last_ms), (bits(b), b.first_ms, b.last_ms));
                    prop_assert!(a.sum == b.sum || a.sum.is_nan() && b.sum.is_nan());
                }
            }
        }
    }
}
