//! A page of one series' buckets as columns: how runs of them are joined. Where they are read from is `file`'s matter.

use std::ops::Range;

use super::bucket::{Fold, end_of};
use super::format::{COLUMNS, Times};
use super::{Bucket, Fields};

/// The columns of a series' record, in their order.
pub(super) const ORDER: [Fields; COLUMNS] =
    [Fields::FIRST, Fields::LAST, Fields::MIN, Fields::MAX, Fields::SUM, Fields::RESETS];
pub(super) const FIRST: usize = 0;
pub(super) const LAST: usize = 1;
pub(super) const MIN: usize = 2;
pub(super) const MAX: usize = 3;
pub(super) const SUM: usize = 4;
pub(super) const RESETS: usize = 5;

/// The columns of a page that are asked for.
pub(super) struct Page<'a> {
    pub(super) times: &'a Times,
    pub(super) fields: Fields,
    pub(super) values: &'a [Vec<f64>; COLUMNS],
    /// Which of the columns each one's values are in: some are told from others. Where there are none they are 0.
    pub(super) told: [usize; COLUMNS],
}

impl Page<'_> {
    /// Calls `each` with the buckets of a range, those that are within one span of `grid_ms` joined.
    pub(super) fn each(
        &self,
        mut range: Range<usize>,
        grid_ms: i64,
        resolution_ms: i64,
        each: &mut impl FnMut(Bucket),
    ) {
        if grid_ms == resolution_ms {
            return range.for_each(|at| each(self.bucket(at)));
        }
        let ends = &self.times.ends;
        while !range.is_empty() {
            let begin = range.start;
            let end_ms = end_of(ends.at(begin), grid_ms);
            // Most spans are full, and then it is there.
            let guess = begin.saturating_add(((end_ms - ends.at(begin)) / resolution_ms) as usize);
            range.start = match guess < range.end && ends.at(guess) == end_ms {
                true => guess + 1,
                false => self.times.after(end_ms).min(range.end),
            };
            each(self.joined(begin..range.start, grid_ms));
        }
    }

    fn bucket(&self, at: usize) -> Bucket {
        let times = self.times;
        let (end_ms, count, stale) = (times.ends.at(at), times.counts.at(at) as u32, times.stale.at(at) == 1);
        if count == 0 {
            return Bucket { end_ms, first_ms: end_ms, last_ms: end_ms, stale, ..Bucket::default() };
        }
        let value = |nth: usize| self.column(nth).get(at).copied().unwrap_or(0.0);
        let [first, last, min, max, sum, resets] = std::array::from_fn(value);
        let (first_ms, last_ms) = (end_ms - times.firsts.at(at), end_ms - times.lasts.at(at));
        Bucket { end_ms, count, stale, first_ms, last_ms, first, last, min, max, sum, resets }
    }

    /// The buckets of a run, which is not empty and within one span of `grid_ms`, as one. Column by column and only what is
    /// asked for: a year of one series is half a million minutes.
    fn joined(&self, run: Range<usize>, grid_ms: i64) -> Bucket {
        let (begin, last) = (run.start, run.end - 1);
        if begin == last || !self.times.are_full {
            return self.folded(run, grid_ms);
        }
        let mut joined = self.bucket(begin);
        let end = self.bucket(last);
        (joined.end_ms, joined.last_ms, joined.last, joined.stale) = (end.end_ms, end.last_ms, end.last, end.stale);
        joined.count = u32::try_from(self.times.counts.sum(run.clone())).unwrap_or(u32::MAX);
        let column = |nth: usize| self.fields.has(ORDER[nth]).then(|| self.column(nth).get(run.clone())).flatten();
        for value in column(MIN).unwrap_or_default() {
            if *value < joined.min || joined.min.is_nan() {
                joined.min = *value;
            }
        }
        for value in column(MAX).unwrap_or_default() {
            if *value > joined.max || joined.max.is_nan() {
                joined.max = *value;
            }
        }
        if let Some([first, others @ ..]) = column(SUM) {
            joined.sum = sum(*first, others);
        }
        if self.fields.has(Fields::RESETS) {
            joined.resets = column(RESETS).unwrap_or_default().iter().fold(0.0, |sum, resets| sum + resets);
            if let (Some(firsts), Some(lasts)) = (column(FIRST), column(LAST)) {
                for (first, before) in firsts[1..].iter().zip(lasts) {
                    if first < before {
                        joined.resets += before;
                    }
                }
            }
        }
        joined
    }

    /// As [`Page::joined`], bucket by bucket.
    fn folded(&self, run: Range<usize>, grid_ms: i64) -> Bucket {
        let last_end = self.times.ends.at(run.end - 1);
        let mut joined = Bucket::default();
        let mut fold = Fold::new(grid_ms, |bucket| joined = bucket);
        run.for_each(|at| fold.bucket(&self.bucket(at)));
        fold.finish();
        Bucket { end_ms: last_end, ..joined }
    }

    fn column(&self, nth: usize) -> &[f64] {
        &self.values[self.told[nth]]
    }
}

/// The sum with the low bits that adding loses (Neumaier).
fn sum(first: f64, others: &[f64]) -> f64 {
    let (mut sum, mut lost) = (first, 0.0);
    for value in others {
        let total = sum + value;
        lost += if sum.abs() >= value.abs() { (sum - total) + value } else { (value - total) + sum };
        sum = total;
    }
    if sum.is_finite() { sum + lost } else { sum }
}
