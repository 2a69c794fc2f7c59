//! Functions of the samples in a window. A step costs as much as the samples that enter and leave its window, not as
//! those in it, wherever the function allows it.

use std::ops::Range;

use super::fold::{Greatest, Least, Line, Mean, Spread, Sum, mean, slide, slides};
use super::points::ABSENT;
use super::ranks::{self, Ranks};
use super::select::Window;
use super::{Grid, Numbers};
use crate::functions::WindowCode;

/// Computes `code` for a run of steps. `param` is the scalar argument of those functions that have one.
pub(super) fn compute(code: WindowCode, window: &Window<'_>, grid: Grid, param: Numbers<'_>, out: &mut [f64]) {
    let (times, values) = (window.timestamps, window.values);
    match code {
        WindowCode::Rate | WindowCode::Increase | WindowCode::Delta => extrapolated(code, window, out),
        WindowCode::Irate | WindowCode::Idelta => each_of(window, 2, out, |low, high| {
            let _ = low;
            last_change(code == WindowCode::Irate, &times[high - 2..high], &values[high - 2..high])
        }),
        WindowCode::Count => each_of(window, 1, out, |low, high| (high - low) as f64),
        WindowCode::Present => each_of(window, 1, out, |_, _| 1.0),
        WindowCode::First => each_of(window, 1, out, |low, _| values[low]),
        WindowCode::Last => each_of(window, 1, out, |_, high| values[high - 1]),
        WindowCode::Changes => count_pairs(window, out, |a, b| a != b && !(a.is_nan() && b.is_nan())),
        WindowCode::Resets => count_pairs(window, out, |a, b| b < a),
        WindowCode::Sum => slide::<Sum>(window, out, |_, f, _| f.value()),
        WindowCode::Avg => slide::<Sum>(window, out, |_, f, run| {
            // The slow way copes with an overflow, and is exact to the bit for what is evaluated but once.
            if f.sum.is_infinite() || run.len() < 64 {
                return mean(&values[run]);
            }
            f.sum / run.len() as f64 + f.lost / run.len() as f64
        }),
        WindowCode::Min => slide::<Least>(window, out, |_, f, _| f.0),
        WindowCode::Max => slide::<Greatest>(window, out, |_, f, _| f.0),
        WindowCode::Stdvar => slide::<Spread>(window, out, |_, f, _| f.variance()),
        WindowCode::Stddev => slide::<Spread>(window, out, |_, f, _| f.variance().sqrt()),
        WindowCode::Deriv => lines(window, out, |low, _| times[low], |_, slope, _| slope),
        WindowCode::PredictLinear => {
            let first = window.first;
            let ahead = |i: usize, slope: f64, now: f64| slope * param.at(first + i) + now;
            lines(window, out, |_, i| grid.time(first + i), ahead);
        }
        WindowCode::Quantile => quantiles(window, param, out),
    }
}

/// Stores `finish(step, slope a second, value at the origin)` of the line through each window of two samples and more;
/// `origin(first sample, step)` is an instant.
fn lines(
    window: &Window<'_>,
    out: &mut [f64],
    origin: impl Fn(usize, usize) -> i64,
    finish: impl Fn(usize, f64, f64) -> f64,
) {
    let anew = |i: usize, run: Range<usize>| {
        let origin = origin(run.start, i);
        let (slope, value) = regression(&window.timestamps[run.clone()], &window.values[run], origin);
        finish(i, slope, value)
    };
    if !slides(window, out.len()) {
        return window.for_each(out.len(), |i, low, high| {
            if high - low >= 2 {
                out[i] = anew(i, low..high);
            }
        });
    }
    slide::<Line>(window, out, |i, line, run| {
        if run.len() < 2 {
            return ABSENT;
        }
        match line.slope_and_value(window.seconds(origin(run.start, i))) {
            Some((slope, value)) => finish(i, slope, value),
            None => anew(i, run),
        }
    });
}

/// `quantile_over_time`.
fn quantiles(window: &Window<'_>, phi: Numbers<'_>, out: &mut [f64]) {
    let (values, first) = (window.values, window.first);
    if slides(window, out.len()) {
        let mut ranks = Ranks::new(values);
        return window.for_each(out.len(), |i, low, high| {
            ranks.move_to(low, high);
            if low < high {
                out[i] = quantile_of(phi.at(first + i), high - low, |nth| ranks.nth(nth));
            }
        });
    }
    let mut sorted = Vec::new();
    window.for_each(out.len(), |i, low, high| {
        if low < high {
            sorted.clear();
            sorted.extend_from_slice(&values[low..high]);
            out[i] = quantile(phi.at(first + i), &mut sorted);
        }
    });
}

/// Stores `f(first, end)` for each window of at least `least` samples.
fn each_of(window: &Window<'_>, least: usize, out: &mut [f64], f: impl Fn(usize, usize) -> f64) {
    window.for_each(out.len(), |i, low, high| {
        if high - low >= least {
            out[i] = f(low, high);
        }
    });
}

/// Counts the neighbours in each window for which `test` holds.
fn count_pairs(window: &Window<'_>, out: &mut [f64], test: impl Fn(f64, f64) -> bool) {
    let values = window.values;
    let holds = |k: usize| i64::from(test(values[k - 1], values[k]));
    // The count is over the pairs that end in `low + 1..high`.
    let (mut from, mut to, mut count) = (1, 1, 0);
    window.for_each(out.len(), |i, low, high| {
        while to < high {
            count += holds(to);
            to += 1;
        }
        while from < to && from <= low {
            count -= holds(from);
            from += 1;
        }
        if low < high {
            out[i] = count as f64;
        }
    });
}

/// `rate`, `increase` and `delta`: the change between the first and the last sample, extrapolated to the window's edges
/// where the series seems to reach them.
fn extrapolated(code: WindowCode, window: &Window<'_>, out: &mut [f64]) {
    let (times, values) = (window.timestamps, window.values);
    let resets = if code == WindowCode::Delta { Vec::new() } else { resets(values) };
    // The resets inside of the window are those from `stale` to `fresh`.
    let (mut stale, mut fresh) = (0, 0);
    window.for_each(out.len(), |i, low, high| {
        if high < low + 2 {
            return;
        }
        let mut change = values[high - 1] - values[low];
        while resets.get(fresh).is_some_and(|k| *k < high) {
            fresh += 1;
        }
        while stale < fresh && resets[stale] <= low {
            stale += 1;
        }
        for k in &resets[stale..fresh] {
            change += values[k - 1];
        }
        let times = (times[low], times[high - 1]);
        let change = Change { change, first: values[low], times, count: (high - low) as f64 };
        out[i] = extrapolate(code, &change, window.end + window.step * i as i64, window.width);
    });
}

/// Where a counter is smaller than the sample before, by index, ascending.
fn resets(values: &[f64]) -> Vec<usize> {
    /// Samples that are first only counted, which the processor does several at once.
    const RUN: usize = 256;
    let mut found = Vec::new();
    for (nth, later) in values.get(1..).unwrap_or_default().chunks(RUN).enumerate() {
        let first = nth * RUN;
        let pairs = || values[first..].iter().zip(later);
        if pairs().map(|(a, b)| u32::from(b < a)).sum::<u32>() > 0 {
            found.extend(pairs().enumerate().filter(|(_, (a, b))| b < a).map(|(k, _)| first + k + 1));
        }
    }
    found
}

/// The change between the first and the last sample of a window.
pub(super) struct Change {
    /// By how much, resets accounted for.
    pub(super) change: f64,
    /// The first sample's value.
    pub(super) first: f64,
    /// When the two were taken.
    pub(super) times: (i64, i64),
    /// How many samples there are, at least two.
    pub(super) count: f64,
}

/// The change over the whole window that ends at `end`.
pub(super) fn extrapolate(code: WindowCode, of: &Change, end: i64, width: i64) -> f64 {
    let counter = code != WindowCode::Delta;
    let edges = ((of.times.0 - (end - width)) as f64 / 1000.0, (end - of.times.1) as f64 / 1000.0);
    let sampled = (of.times.1 - of.times.0) as f64 / 1000.0;
    let zero = (counter && of.change > 0.0 && of.first >= 0.0).then(|| sampled * (of.first / of.change));
    let mut factor = (sampled + reach_out(edges, sampled, of.count, zero)) / sampled;
    if code == WindowCode::Rate {
        factor /= width as f64 / 1000.0;
    }
    of.change * factor
}

/// How far to extrapolate beyond both edges, in seconds. `zero` is how long before the first sample a counter was zero.
fn reach_out((mut to_start, mut to_end): (f64, f64), sampled: f64, count: f64, zero: Option<f64>) -> f64 {
    let gap = sampled / (count - 1.0);
    let threshold = gap * 1.1;
    if to_start >= threshold {
        to_start = gap / 2.0;
    }
    if let Some(zero) = zero
        && zero < to_start
    {
        to_start = zero;
    }
    if to_end >= threshold {
        to_end = gap / 2.0;
    }
    to_start + to_end
}

/// `irate` and `idelta`, of two samples.
fn last_change(rate: bool, times: &[i64], values: &[f64]) -> f64 {
    let change = if rate && values[1] < values[0] { values[1] } else { values[1] - values[0] };
    if rate { change / ((times[1] - times[0]) as f64 / 1000.0) } else { change }
}

/// The least-squares line through the samples: slope a second and value at `origin`.
fn regression(times: &[i64], values: &[f64], origin: i64) -> (f64, f64) {
    if values.iter().all(|v| *v == values[0]) {
        return if values[0].is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, values[0]) };
    }
    let n = values.len() as f64;
    let (mut x, mut y, mut xy, mut xx) = (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    for (time, value) in times.iter().zip(values) {
        let offset = (time - origin) as f64 / 1000.0;
        x.add(offset);
        y.add(*value);
        xy.add(offset * value);
        xx.add(offset * offset);
    }
    let [x, y, xy, xx] = [x, y, xy, xx].map(|s| s.sum + s.lost);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// The φ-quantile, interpolated; NaN counts as the smallest value. Reorders the values.
pub(super) fn quantile(phi: f64, values: &mut [f64]) -> f64 {
    quantile_of(phi, values.len(), |nth| *values.select_nth_unstable_by(nth, ranks::order).1)
}

/// The φ-quantile of `count` values, of which `nth` gives one by its place in their order.
fn quantile_of(phi: f64, count: usize, mut nth: impl FnMut(usize) -> f64) -> f64 {
    if count == 0 || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    let rank = phi * (count - 1) as f64;
    let lower = rank.floor() as usize;
    let weight = rank - rank.floor();
    let low = nth(lower);
    let high = if lower + 1 < count { nth(lower + 1) } else { low };
    low * (1.0 - weight) + high * weight
}

/// The mean of what is pushed, or [`ABSENT`].
pub(super) fn mean_or_absent(mean: &Mean) -> f64 {
    if mean.count() > 0.0 { mean.value() } else { ABSENT }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Halt;
    use super::super::select::{Reach, window};
    use super::resets;
    use crate::engine::Cancel;
    use crate::source::SampleBuf;

    proptest! {
        /// Whatever the gaps between samples, a window is what is in its bounds.
        #[test]
        fn windows_hold_what_is_in_their_bounds(
            gaps in prop::collection::vec(prop_oneof![9 => Just(10_i64), 1 => 1_i64..400], 0..200),
            (end, step, width, n) in (-100_i64..500, prop_oneof![Just(0_i64), 1_i64..200], 1_i64..300, 1_usize..40),
        ) {
            let mut buffer = SampleBuf::default();
            let mut at = 0;
            for gap in gaps {
                at += gap;
                buffer.push(at, 0.0);
            }
            let (cancel, reach) = (Cancel::new(), Reach { end, step, width, n });
            let mut found = Vec::new();
            let halt = Halt { cancel: &cancel, deadline: None };
            window(&buffer, reach, 0, halt).for_each(n, |i, low, high| found.push((i, low, high)));
            let first_after = |at: i64| buffer.timestamps.iter().filter(|time| **time <= at).count();
            let bounds = |i: usize| end + step * i as i64;
            let expected: Vec<_> = (0..n).map(|i| (i, first_after(bounds(i) - width), first_after(bounds(i)))).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn resets_are_where_a_value_is_smaller_than_the_one_before(
            values in prop::collection::vec(prop_oneof![20 => Just(5.0), 1 => Just(4.0), 1 => Just(f64::NAN)], 0..900),
        ) {
            let expected: Vec<_> = (1..values.len()).filter(|k| values[*k] < values[k - 1]).collect();
            prop_assert_eq!(resets(&values), expected);
        }
    }
}
