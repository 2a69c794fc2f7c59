//! Sums that do not lose small terms, and folds over sliding windows: each step adds the new samples and drops the old
//! ones without ever subtracting, so that a large value leaves no trace behind it.

use std::ops::Range;

use super::points::ABSENT;
use super::select::Window;

/// Neumaier's variant of Kahan's sum: `sum` plus its lost low bits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) sum: f64,
    pub(super) lost: f64,
}

impl Sum {
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    #[inline]
    pub(super) fn value(&self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }
}

/// What can be told of a run of samples from what can be told of its two parts.
pub(super) trait Fold: Copy {
    /// Of one sample, `at` seconds after some instant that is the same for all.
    fn one(at: f64, value: f64) -> Self;
    fn then(self, later: Self) -> Self;
}

impl Fold for Sum {
    fn one(_at: f64, value: f64) -> Sum {
        Sum { sum: value, lost: 0.0 }
    }

    #[inline]
    fn then(mut self, later: Sum) -> Sum {
        self.add(later.sum);
        if !self.sum.is_infinite() {
            self.lost += later.lost;
        }
        self
    }
}

/// The smallest value; NaN only if there is nothing else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Least(pub(super) f64);

impl Fold for Least {
    fn one(_at: f64, value: f64) -> Least {
        Least(value)
    }

    #[inline]
    fn then(self, later: Least) -> Least {
        if later.0 < self.0 || self.0.is_nan() { later } else { self }
    }
}

/// The largest value; NaN only if there is nothing else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Greatest(pub(super) f64);

impl Fold for Greatest {
    fn one(_at: f64, value: f64) -> Greatest {
        Greatest(value)
    }

    #[inline]
    fn then(self, later: Greatest) -> Greatest {
        if later.0 > self.0 || self.0.is_nan() { later } else { self }
    }
}

/// Count, mean and sum of squared deviations (Welford; joined as by Chan, Golub and LeVeque, 1979).
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    pub(super) fn variance(&self) -> f64 {
        self.squares / self.count
    }
}

impl Fold for Spread {
    fn one(_at: f64, value: f64) -> Spread {
        Spread { count: 1.0, mean: value, squares: if value.is_finite() { 0.0 } else { f64::NAN } }
    }

    #[inline]
    fn then(self, later: Spread) -> Spread {
        let count = self.count + later.count;
        let delta = later.mean - self.mean;
        Spread {
            count,
            mean: self.mean + delta * (later.count / count),
            squares: self.squares + later.squares + delta * delta * (self.count * later.count / count),
        }
    }
}

/// The least-squares line: means and sums of products of deviations (joined as [`Spread`]'s).
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    count: f64,
    at: f64,
    value: f64,
    at_squares: f64,
    products: f64,
    least: f64,
    greatest: f64,
}

impl Line {
    /// Slope a second and the value at `origin`; none of values that are not finite.
    pub(super) fn slope_and_value(&self, origin: f64) -> Option<(f64, f64)> {
        if !(self.value.is_finite() && self.products.is_finite()) {
            return None;
        }
        if self.least == self.greatest {
            return Some((0.0, self.least));
        }
        let slope = self.products / self.at_squares;
        Some((slope, self.value + slope * (origin - self.at)))
    }
}

impl Fold for Line {
    fn one(at: f64, value: f64) -> Line {
        Line { count: 1.0, at, value, at_squares: 0.0, products: 0.0, least: value, greatest: value }
    }

    #[inline]
    fn then(self, later: Line) -> Line {
        let count = self.count + later.count;
        let (at, value) = (later.at - self.at, later.value - self.value);
        let weight = self.count * later.count / count;
        Line {
            count,
            at: self.at + at * (later.count / count),
            value: self.value + value * (later.count / count),
            at_squares: self.at_squares + later.at_squares + at * at * weight,
            products: self.products + later.products + at * value * weight,
            least: self.least.min(later.least),
            greatest: self.greatest.max(later.greatest),
        }
    }
}

/// Windows must overlap this many times before a sliding fold costs less than folding each anew.
const MIN_OVERLAP: i64 = 4;

/// Whether the windows of `steps` steps are better slid over than looked at one by one. One by one is exact to the bit.
pub(super) fn slides(window: &Window<'_>, steps: usize) -> bool {
    steps >= 3 && window.step > 0 && window.width / window.step >= MIN_OVERLAP
}

/// Folds every window of a run and stores `finish(step, fold, samples)`; without samples the step stays absent.
pub(super) fn slide<F: Fold>(window: &Window<'_>, out: &mut [f64], finish: impl Fn(usize, F, Range<usize>) -> f64) {
    let one = |k: usize| F::one(window.seconds(window.timestamps[k]), window.values[k]);
    if !slides(window, out.len()) {
        window.for_each(out.len(), |i, low, high| {
            out[i] = (low..high).map(one).reduce(F::then).map_or(ABSENT, |f| finish(i, f, low..high));
        });
        return;
    }
    // Two stacks: `front[k]` folds the samples from `front_start + k` up to `middle`, `back` those from there on.
    let (mut front, mut front_start, mut middle): (Vec<F>, usize, usize) = (Vec::new(), 0, 0);
    let mut back: Option<F> = None;
    let mut end = 0;
    window.for_each(out.len(), |i, low, high| {
        if low >= middle {
            // The front is used up: turn the back over.
            front.clear();
            for k in (low..high).rev() {
                front.push(front.last().map_or(one(k), |later| one(k).then(*later)));
            }
            front.reverse();
            (front_start, middle, back, end) = (low, high, None, high);
        } else {
            for k in end..high {
                back = Some(back.map_or(one(k), |earlier| earlier.then(one(k))));
            }
            end = high;
        }
        if low < high {
            let early = (low < middle).then(|| front[low - front_start]);
            let whole = match (early, back) {
                (Some(a), Some(b)) => Some(a.then(b)),
                (a, b) => a.or(b),
            };
            out[i] = whole.map_or(ABSENT, |f| finish(i, f, low..high));
        }
    });
}

/// The mean, by sum unless that overflows.
pub(super) fn mean(values: &[f64]) -> f64 {
    let mut mean = Mean::default();
    values.iter().for_each(|v| mean.add(*v));
    mean.value()
}

/// A mean that is built value by value.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    count: f64,
    /// The sum, or the mean itself once the sum would overflow.
    sum: Sum,
    incremental: bool,
}

impl Mean {
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.sum = Sum { sum: value, lost: 0.0 };
            return;
        }
        if !self.incremental {
            let mut sum = self.sum;
            sum.add(value);
            if !sum.sum.is_infinite() {
                self.sum = sum;
                return;
            }
            self.incremental = true;
            self.sum.sum /= self.count - 1.0;
            self.sum.lost /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        self.sum.sum *= share;
        self.sum.lost *= share;
        self.sum.add(value / self.count);
    }

    pub(super) fn count(&self) -> f64 {
        self.count
    }

    pub(super) fn value(&self) -> f64 {
        if self.incremental {
            self.sum.sum + self.sum.lost
        } else {
            self.sum.sum / self.count + self.sum.lost / self.count
        }
    }
}
