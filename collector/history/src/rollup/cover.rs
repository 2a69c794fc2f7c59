//! Where the buckets of a span come from: rollup files as far as they hold all that is known, samples for the rest.
//!
//! A file is made of what was in blocks when it was made. Samples of its window that came later, in the head or in a
//! later block, make it wrong for their days; those days are answered from samples until the file is made anew. Where
//! samples are past their retention, the files are all there is.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pitwatch_shared::model::stale_nan;

use super::bucket::Fold;
use super::{Bucket, DAY_MS, Fields, Resolution, Rollup};
use crate::error::QueryError;
use crate::history::{History, SeriesRef, View, read};
use crate::stats::count;

/// Which files, and which samples, answer for a span. As of one moment: what comes later is not seen in the files' part.
#[derive(Clone, Debug)]
pub struct Cover {
    /// Of the files, unless they are finer, and of what is made of samples.
    resolution: Resolution,
    /// How long the buckets are that it gives: a multiple of the resolution.
    grid_ms: i64,
    /// Ascending and disjoint.
    pieces: Vec<Piece>,
    is_complete: bool,
}

/// A part of a span, `(start, end]`.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) start: i64,
    pub(super) end: i64,
    /// What answers for it; samples do where there is none.
    pub(super) file: Option<Arc<Rollup>>,
}

/// Disjoint spans `(start, end]`.
#[derive(Debug)]
pub(super) struct Spans(Vec<(i64, i64)>);

impl Spans {
    pub(super) fn new(start: i64, end: i64) -> Self {
        Self(if start < end { vec![(start, end)] } else { Vec::new() })
    }

    /// Takes out what lies within `(start, end]`.
    pub(super) fn take(&mut self, start: i64, end: i64) -> Vec<(i64, i64)> {
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for (from, to) in self.0.drain(..) {
            let (begin, stop) = (from.max(start), to.min(end));
            if begin >= stop {
                left.push((from, to));
                continue;
            }
            taken.push((begin, stop));
            left.extend([(from, begin), (stop, to)].into_iter().filter(|(from, to)| from < to));
        }
        self.0 = left;
        taken
    }
}

impl Cover {
    /// The resolution of the buckets.
    #[must_use]
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// The length of the buckets in milliseconds.
    #[must_use]
    pub fn grid_ms(&self) -> i64 {
        self.grid_ms
    }

    /// The same with buckets of `grid_ms`, which is to be a multiple of the resolution: joined here, they need not be looked
    /// at one by one.
    #[must_use]
    pub fn on_grid(self, grid_ms: i64) -> Self {
        Self { grid_ms, ..self }
    }

    /// Whether any of it comes from files.
    #[must_use]
    pub fn has_files(&self) -> bool {
        self.pieces.iter().any(|piece| piece.file.is_some())
    }

    /// Whether nothing is left out that a coarser resolution would have.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    fn within(&self, start: i64, end: i64) -> impl Iterator<Item = Piece> {
        let clipped = self.pieces.iter().map(move |piece| Piece {
            start: piece.start.max(start),
            end: piece.end.min(end),
            file: piece.file.clone(),
        });
        clipped.filter(|piece| piece.start < piece.end)
    }
}

impl History {
    /// What answers with buckets of a resolution for the span after `start_ms` and not after `end_ms`.
    #[must_use]
    pub fn cover(&self, resolution: Resolution, start_ms: i64, end_ms: i64) -> Cover {
        let view = read(&self.view);
        let floor = self.rolling.floor_ms.load(Ordering::Relaxed);
        let overlapping = view.rollups.iter().filter(|file| file.overlaps(start_ms, end_ms));
        let (files, coarser): (Vec<_>, Vec<_>) = overlapping.partition(|file| file.footer().resolution <= resolution);
        let changes = if files.is_empty() { Vec::new() } else { view.changes() };
        let usable = |file: &Rollup, spans: &mut Spans| {
            let footer = file.footer();
            for (first, last, _) in changes.iter().filter(|(.., through)| *through > footer.wal_through) {
                let from = super::bucket::end_of(*first, DAY_MS).saturating_sub(DAY_MS);
                spans.take(from.max(day_after(floor)), super::bucket::end_of(*last, DAY_MS));
            }
        };
        let (pieces, rest) = pieces(files, (start_ms, end_ms), usable, |file| Reverse(file.footer().resolution));
        let is_lost = |(start, end): (i64, i64)| start < floor && coarser.iter().any(|file| file.overlaps(start, end));
        let is_complete = !rest.into_iter().any(is_lost);
        Cover { resolution, grid_ms: resolution.ms(), pieces, is_complete }
    }

    /// What answers with samples for the span: those that there are, and the finest files where there may be none.
    #[must_use]
    pub fn remains(&self, start_ms: i64, end_ms: i64) -> Cover {
        let view = read(&self.view);
        let floor = self.rolling.floor_ms.load(Ordering::Relaxed);
        let files = view.rollups.iter().filter(|file| file.overlaps(start_ms, end_ms.min(floor))).collect();
        let above_floor = |_: &Rollup, spans: &mut Spans| {
            spans.take(floor, i64::MAX);
        };
        let (pieces, _) = pieces(files, (start_ms, end_ms), above_floor, |file| file.footer().resolution);
        let resolution = Resolution::Minute;
        Cover { resolution, grid_ms: resolution.ms(), pieces, is_complete: true }
    }

    /// Calls `each` with the series' buckets that end after `start_ms` and not after `end_ms`, ascending. Both are to be
    /// multiples of the buckets' length, within the span that the cover is for.
    ///
    /// # Errors
    /// A file that is damaged or cannot be read; it names the file and the part.
    pub fn buckets(
        &self,
        series: &SeriesRef,
        cover: &Cover,
        (start_ms, end_ms): (i64, i64),
        fields: Fields,
        each: impl FnMut(Bucket),
    ) -> Result<(), QueryError> {
        let mut fold = Fold::new(cover.grid_ms, each);
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        for piece in cover.within(start_ms, end_ms) {
            if let Some(file) = &piece.file {
                let span = (piece.start, piece.end);
                let read = file.buckets(series.id(), span, cover.grid_ms, fields, |bucket| fold.bucket(&bucket));
                read.inspect_err(|_| count(&self.counters.corruptions))?;
                continue;
            }
            // A day at a time, so that memory does not grow with the span.
            let mut from = piece.start;
            while from < piece.end {
                let to = from.saturating_add(DAY_MS).min(piece.end);
                self.samples(series, from, to, &mut ts, &mut values)?;
                ts.iter().zip(&values).for_each(|(ts, value)| fold.sample(*ts, *value));
                from = to;
            }
        }
        fold.finish();
        Ok(())
    }

    /// As [`History::samples`], with the last sample of each bucket where the cover has files.
    ///
    /// # Errors
    /// As [`History::buckets`].
    pub fn samples_of(
        &self,
        series: &SeriesRef,
        cover: &Cover,
        (start_ms, end_ms): (i64, i64),
        ts: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), QueryError> {
        if !cover.has_files() {
            return self.samples(series, start_ms, end_ms, ts, values);
        }
        let (mut all_ts, mut all_values) = (Vec::new(), Vec::new());
        for piece in cover.within(start_ms, end_ms) {
            let Some(file) = &piece.file else {
                self.samples(series, piece.start, piece.end, ts, values)?;
                all_ts.append(ts);
                all_values.append(values);
                continue;
            };
            let mut push = |at: i64, value: f64| {
                if at > start_ms && at <= end_ms {
                    all_ts.push(at);
                    all_values.push(value);
                }
            };
            let span = (piece.start, piece.end);
            let read = file.buckets(series.id(), span, cover.grid_ms, Fields::LAST, |bucket| {
                if bucket.count > 0 {
                    push(bucket.last_ms, bucket.last);
                }
                if bucket.stale {
                    push(bucket.end_ms, stale_nan());
                }
            });
            read.inspect_err(|_| count(&self.counters.corruptions))?;
        }
        (*ts, *values) = (all_ts, all_values);
        Ok(())
    }
}

impl View {
    /// First and last instant of what blocks and heads hold, with the log segment that their frames are in.
    fn changes(&self) -> Vec<(i64, i64, u64)> {
        let blocks = self.blocks.iter().map(|block| block.footer());
        let mut changes: Vec<_> = blocks.map(|footer| (footer.min_ts, footer.max_ts, footer.wal_through)).collect();
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.sources.values()).filter_map(|(_, data)| data.span());
        let heads = self.heads.values().filter_map(|head| read(&head.data).span());
        changes.extend(frozen.chain(heads).map(|(first, last)| (first, last, u64::MAX)));
        changes
    }
}

/// The begin of the first day that is wholly above the floor.
fn day_after(floor: i64) -> i64 {
    super::bucket::end_of(floor, DAY_MS)
}

/// Lays files over a span, each as far as `usable` leaves of its window, those of the least `rank` first and of these
/// the latest; answers the parts and what no file answers for.
pub(super) fn pieces<R: Ord>(
    mut files: Vec<&Arc<Rollup>>,
    (start, end): (i64, i64),
    usable: impl Fn(&Rollup, &mut Spans),
    rank: impl Fn(&Rollup) -> R,
) -> (Vec<Piece>, Vec<(i64, i64)>) {
    files.sort_by_key(|file| (rank(file), Reverse(file.number())));
    let mut rest = Spans::new(start, end);
    let mut pieces = Vec::new();
    for file in files {
        let mut spans = Spans::new(file.footer().start_ms.max(start), file.footer().end_ms.min(end));
        usable(file, &mut spans);
        for (from, to) in spans.0 {
            let taken = rest.take(from, to);
            pieces.extend(taken.into_iter().map(|(start, end)| Piece { start, end, file: Some(file.clone()) }));
        }
    }
    let by_samples = rest.0.iter().map(|(start, end)| Piece { start: *start, end: *end, file: None });
    pieces.extend(by_samples);
    pieces.sort_by_key(|piece| piece.start);
    (pieces, rest.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_taken_once() {
        let mut spans = Spans::new(0, 100);
        assert_eq!(spans.take(20, 30), [(20, 30)]);
        assert_eq!(spans.take(10, 40), [(10, 20), (30, 40)]);
        assert_eq!(spans.take(90, 200), [(90, 100)]);
        assert_eq!(spans.0, [(0, 10), (40, 90)]);
        assert!(Spans::new(5, 5).take(0, 10).is_empty());
    }
}
