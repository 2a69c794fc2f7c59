//! Functions of the samples in a window, computed of buckets. Most are a function of the same kind over one value of each
//! bucket. Windows that are not whole buckets are widened to such, and what grows with a window is scaled back.

use super::points::{ABSENT, is_present};
use super::select::{self, Latest, Reach, Window};
use super::window::{self, Change};
use super::{Grid, Halt, Numbers};
use crate::bucket::{Bucket, BucketFields};
use crate::functions::WindowCode;
use crate::source::{STALE, SampleBuf};

/// How many samples a bucket counts for in a query's account: so much larger is it.
pub(super) const BUCKET_SAMPLES: usize = 6;
/// Buckets that one read spans, unless a window has more: 6 MiB.
const READ_BUCKETS: i64 = 1 << 16;

/// What buckets do for in place of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Summary {
    Latest(Latest),
    Window(WindowCode),
}

/// How buckets lie to the windows.
#[derive(Debug, Clone, Copy)]
pub(super) struct BucketGrid {
    /// Their length in milliseconds.
    pub(super) resolution: i64,
    /// Whether the answer is that of the samples.
    pub(super) is_exact: bool,
}

/// The buckets behind a run of steps.
pub(super) struct Buckets<'w> {
    pub(super) buckets: &'w [Bucket],
    pub(super) grid: BucketGrid,
    pub(super) reach: Reach,
    pub(super) halt: Halt<'w>,
}

impl BucketGrid {
    /// The span of whole buckets around a span.
    pub(super) fn around(self, start: i64, end: i64) -> (i64, i64) {
        let resolution = self.resolution;
        (start.div_euclid(resolution) * resolution, -(-end).div_euclid(resolution) * resolution)
    }

    /// How many steps to read at once. Steps far apart are read together too: a store reads buckets by the thousand.
    pub(super) fn steps_a_read(self, reach: Reach) -> usize {
        if reach.step == 0 {
            return reach.n;
        }
        let span = READ_BUCKETS.saturating_mul(self.resolution).max(reach.width.saturating_mul(2)) - reach.width;
        ((span / reach.step).max(1) as usize).min(reach.n)
    }
}

impl Summary {
    /// The function, if buckets would do.
    pub(super) fn of(code: WindowCode) -> Option<Summary> {
        use WindowCode::*;
        match code {
            Avg | Count | Delta | First | Increase | Last | Max | Min | Present | Rate | Sum => {
                Some(Summary::Window(code))
            }
            Changes | Deriv | Idelta | Irate | PredictLinear | Quantile | Resets | Stddev | Stdvar => None,
        }
    }

    /// What it looks at.
    pub(super) fn fields(self) -> BucketFields {
        let none = BucketFields::default();
        match self {
            Summary::Latest(Latest::Value) | Summary::Window(WindowCode::Last) => BucketFields { last: true, ..none },
            Summary::Latest(Latest::Time) => none,
            Summary::Window(code) => match code {
                WindowCode::Avg | WindowCode::Sum => BucketFields { sum: true, ..none },
                WindowCode::First => BucketFields { first: true, ..none },
                WindowCode::Max => BucketFields { max: true, ..none },
                WindowCode::Min => BucketFields { min: true, ..none },
                WindowCode::Delta => BucketFields { first: true, last: true, ..none },
                WindowCode::Rate | WindowCode::Increase => {
                    BucketFields { first: true, last: true, resets: true, ..none }
                }
                _ => none,
            },
        }
    }

    /// Whether it is more than the last sample of a window.
    pub(super) fn needs_whole_windows(self) -> bool {
        !matches!(self, Summary::Latest(_) | Summary::Window(WindowCode::Last))
    }

    /// Whether twice the window is twice the value.
    fn grows_with_the_window(self) -> bool {
        use WindowCode::{Count, Delta, Increase, Sum};
        matches!(self, Summary::Window(Count | Sum | Increase | Delta))
    }

    /// Computes a value for each step of a run. What is in `scratch` does not matter.
    pub(super) fn compute(self, of: &Buckets<'_>, scratch: &mut SampleBuf, out: &mut [f64]) {
        if of.grid.is_exact {
            return self.compute_exact(of, scratch, out);
        }
        let Reach { end, step, width, .. } = of.reach;
        for (i, out) in out.iter_mut().enumerate() {
            let end = end + step * i as i64;
            let (from, to) = of.grid.around(end - width, end);
            let low = of.buckets.partition_point(|bucket| bucket.end_ms <= from);
            let high = of.buckets.partition_point(|bucket| bucket.end_ms <= to);
            let reach = Reach { end: to, step: 0, width: to - from, n: 1 };
            let window = Buckets { buckets: &of.buckets[low..high], reach, ..*of };
            self.compute_exact(&window, scratch, std::slice::from_mut(out));
            if is_present(*out) && self.grows_with_the_window() {
                *out *= width as f64 / (to - from) as f64;
            }
        }
    }

    fn compute_exact(self, of: &Buckets<'_>, scratch: &mut SampleBuf, out: &mut [f64]) {
        match self {
            Summary::Latest(latest) => {
                scratch.clear();
                for bucket in of.buckets {
                    if bucket.count > 0 {
                        scratch.push(bucket.last_ms, bucket.last);
                    }
                    if bucket.stale {
                        scratch.push(bucket.end_ms, STALE);
                    }
                }
                select::pick_latest(&of.window(scratch), latest, out);
            }
            Summary::Window(code) => match code {
                WindowCode::Rate | WindowCode::Increase | WindowCode::Delta => extrapolated(code, of, scratch, out),
                WindowCode::Avg => {
                    of.fold(WindowCode::Sum, scratch, |bucket| bucket.sum, out);
                    let mut counts = vec![ABSENT; out.len()];
                    of.fold(WindowCode::Sum, scratch, |bucket| f64::from(bucket.count), &mut counts);
                    let sums = out.iter_mut().zip(counts).filter(|(sum, _)| is_present(**sum));
                    sums.for_each(|(sum, count)| *sum /= count);
                }
                WindowCode::Count => of.fold(WindowCode::Sum, scratch, |bucket| f64::from(bucket.count), out),
                WindowCode::Sum => of.fold(code, scratch, |bucket| bucket.sum, out),
                WindowCode::Min => of.fold(code, scratch, |bucket| bucket.min, out),
                WindowCode::Max => of.fold(code, scratch, |bucket| bucket.max, out),
                WindowCode::First => of.fold(code, scratch, |bucket| bucket.first, out),
                WindowCode::Last => {
                    of.fill(scratch, |bucket| (bucket.last_ms, bucket.last));
                    of.run(code, scratch, out);
                }
                _ => of.fold(code, scratch, |bucket| bucket.last, out),
            },
        }
    }
}

impl Buckets<'_> {
    fn window<'s>(&'s self, samples: &'s SampleBuf) -> Window<'s> {
        select::window(samples, self.reach, 0, self.halt)
    }

    /// One pair for each bucket that has a sample.
    fn fill(&self, scratch: &mut SampleBuf, pair: impl Fn(&Bucket) -> (i64, f64)) {
        scratch.clear();
        for (time, value) in self.buckets.iter().filter(|bucket| bucket.count > 0).map(pair) {
            scratch.push(time, value);
        }
    }

    /// The function over samples that stand for the buckets.
    fn run(&self, code: WindowCode, samples: &SampleBuf, out: &mut [f64]) {
        let grid = Grid { start: self.reach.end, step: self.reach.step, n: self.reach.n };
        window::compute(code, &self.window(samples), grid, Numbers::Same(0.0), out);
    }

    /// The function over one value of each bucket.
    fn fold(&self, code: WindowCode, scratch: &mut SampleBuf, value: impl Fn(&Bucket) -> f64, out: &mut [f64]) {
        self.fill(scratch, |bucket| (bucket.end_ms, value(bucket)));
        self.run(code, scratch, out);
    }
}

/// `rate`, `increase` and `delta`.
fn extrapolated(code: WindowCode, of: &Buckets<'_>, scratch: &mut SampleBuf, out: &mut [f64]) {
    let buckets: Vec<&Bucket> = of.buckets.iter().filter(|bucket| bucket.count > 0).collect();
    of.fill(scratch, |bucket| (bucket.end_ms, 0.0));
    let counter = code != WindowCode::Delta;
    // By bucket, between it and the one before or within it, what the counter came to before it was reset. Those before
    // `stale` have left the window.
    let mut resets: Vec<(usize, bool, f64)> = Vec::new();
    let (mut stale, mut seen) = (0, 0);
    // The samples in the buckets `from..to`.
    let (mut from, mut to, mut count) = (0, 0, 0_u64);
    let Reach { end, step, width, .. } = of.reach;
    of.window(scratch).for_each(out.len(), |i, low, high| {
        count += buckets[to..high].iter().map(|bucket| u64::from(bucket.count)).sum::<u64>();
        count -= buckets[from..low].iter().map(|bucket| u64::from(bucket.count)).sum::<u64>();
        (from, to) = (low, high);
        if count < 2 {
            return;
        }
        let (first, last) = (buckets[low], buckets[high - 1]);
        let mut change = last.last - first.first;
        if counter {
            for k in seen..high {
                if k > 0 && buckets[k].first < buckets[k - 1].last {
                    resets.push((k, false, buckets[k - 1].last));
                }
                if buckets[k].resets != 0.0 {
                    resets.push((k, true, buckets[k].resets));
                }
            }
            seen = high;
            while resets.get(stale).is_some_and(|(k, within, _)| *k < low || *k == low && !within) {
                stale += 1;
            }
            resets[stale..].iter().for_each(|(.., before)| change += before);
        }
        let times = (first.first_ms, last.last_ms);
        let change = Change { change, first: first.first, times, count: count as f64 };
        out[i] = window::extrapolate(code, &change, end + step * i as i64, width);
    });
}
