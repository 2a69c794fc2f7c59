//! Which rollup files are due. A window is rolled up when it is closed and what it is made of is in blocks; late
//! samples make it due again. Files of days are put together into larger ones, so that a year is few files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bucket::end_of;
use super::cover::{self, Piece};
use super::{DAY_MS, Resolution, Rollup};
use crate::block::Block;
use crate::history::{History, View, read};

/// After a window's end and the time that a head collects, what came in time is in blocks; later is late, milliseconds.
const CLOSED_AFTER_MS: i64 = 60 * 60 * 1000;

/// A file to be made.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) resolution: Resolution,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) source: Source,
    /// Frames up to this log segment are in the source.
    pub(super) wal_through: u64,
}

/// What a file is made of.
#[derive(Debug)]
pub(super) enum Source {
    Blocks(Vec<Arc<Block>>),
    Files(Vec<Piece>),
}

impl History {
    /// The file that is due first, days before what is made of them.
    pub(super) fn rollup_due(&self, now_ms: i64) -> Option<Plan> {
        let view = read(&self.view);
        for resolution in Resolution::ALL {
            for (nth, span) in resolution.spans().iter().enumerate() {
                let windows = self.closed_windows(&view, resolution, *span, now_ms);
                let due = windows.into_iter().find_map(|start| match nth {
                    0 => self.day(&view, resolution, start),
                    _ => larger(&view, resolution, start, start + span),
                });
                if due.is_some() {
                    return due;
                }
            }
        }
        None
    }

    /// Whether a block has samples that are still to be rolled up.
    pub(crate) fn is_to_be_rolled_up(&self, view: &View, block: &Block, now_ms: i64) -> bool {
        let footer = block.footer();
        let days = windows(DAY_MS, [(footer.min_ts.saturating_sub(1), footer.max_ts)], self.closed(now_ms));
        days.into_iter().any(|start| self.day(view, Resolution::Minute, start).is_some())
    }

    /// The begins of the closed windows that hold what files of a resolution are made of, ascending.
    fn closed_windows(&self, view: &View, resolution: Resolution, span: i64, now_ms: i64) -> BTreeSet<i64> {
        let (begin, end) = self.closed(now_ms);
        let begin = begin.max(match self.config.rollup_retention(resolution) {
            Some(age) => now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
            None => i64::MIN,
        });
        if resolution == Resolution::Minute && span == DAY_MS {
            let blocks = view.blocks.iter().map(|block| block.footer());
            return windows(span, blocks.map(|footer| (footer.min_ts.saturating_sub(1), footer.max_ts)), (begin, end));
        }
        let made_of = if span == DAY_MS { Resolution::Minute } else { resolution };
        let files = view.rollups.iter().map(|file| file.footer()).filter(|footer| footer.resolution == made_of);
        windows(span, files.map(|footer| (footer.start_ms, footer.end_ms)), (begin, end))
    }

    /// The span that is closed.
    fn closed(&self, now_ms: i64) -> (i64, i64) {
        let head_ms = i64::try_from(self.config.block_span.as_millis()).unwrap_or(i64::MAX);
        (i64::MIN, now_ms.saturating_sub(head_ms).saturating_sub(CLOSED_AFTER_MS))
    }

    /// The file of a day, if it is not there or not as late as the blocks.
    fn day(&self, view: &View, resolution: Resolution, start: i64) -> Option<Plan> {
        let end = start + DAY_MS;
        let blocks: Vec<_> = view.blocks.iter().filter(|block| block.overlaps(start, end)).cloned().collect();
        let sealed_through = blocks.iter().map(|block| block.footer().wal_through).max();
        if let Some(there) = newest_over(view, resolution, start, end) {
            // What is no longer whole in blocks cannot be made anew.
            let is_fixed = start < self.rolling.floor_ms.load(Ordering::Relaxed);
            if is_fixed || sealed_through.is_none_or(|through| through <= there.footer().wal_through) {
                return None;
            }
        }
        let (source, wal_through) = match resolution {
            Resolution::Minute => (Source::Blocks(blocks), sealed_through?),
            Resolution::Hour => {
                let (pieces, through) = files_over(view, Resolution::Minute, start, end);
                (Source::Files(pieces), through?)
            }
        };
        Some(Plan { resolution, start_ms: start, end_ms: end, source, wal_through })
    }
}

/// The file of a larger window, if smaller ones are newer than it.
fn larger(view: &View, resolution: Resolution, start: i64, end: i64) -> Option<Plan> {
    let there = newest_over(view, resolution, start, end).map_or(0, |file| file.number());
    let within = view.rollups.iter().filter(|file| file.footer().resolution == resolution);
    let mut newer = within.filter(|file| file.overlaps(start, end) && file.number() > there);
    newer.next()?;
    let (pieces, through) = files_over(view, resolution, start, end);
    Some(Plan { resolution, start_ms: start, end_ms: end, source: Source::Files(pieces), wal_through: through? })
}

/// The latest file that covers the whole window.
fn newest_over(view: &View, resolution: Resolution, start: i64, end: i64) -> Option<&Arc<Rollup>> {
    let over = view.rollups.iter().filter(|file| {
        let footer = file.footer();
        footer.resolution == resolution && footer.start_ms <= start && footer.end_ms >= end
    });
    over.max_by_key(|file| file.number())
}

/// What files of a resolution have of a window, the latest first, and through which log segment.
fn files_over(view: &View, resolution: Resolution, start: i64, end: i64) -> (Vec<Piece>, Option<u64>) {
    let files = view.rollups.iter().filter(|file| file.footer().resolution == resolution && file.overlaps(start, end));
    let (mut pieces, _) = cover::pieces(files.collect(), (start, end), |_, _| {}, |_| ());
    pieces.retain(|piece| piece.file.is_some());
    let through = pieces.iter().filter_map(|piece| Some(piece.file.as_ref()?.footer().wal_through)).max();
    (pieces, through)
}

/// The begins of the windows of `span` that have a part of one of the spans `(start, end]` and end within the bounds.
fn windows(span: i64, spans: impl IntoIterator<Item = (i64, i64)>, (begin, end): (i64, i64)) -> BTreeSet<i64> {
    /// A broken clock must not make more windows than a store has.
    const WINDOWS_A_SPAN_MAX: usize = 4000;
    let mut windows = BTreeSet::new();
    for (from, to) in spans {
        let last_end = end_of(to, span).min(end.div_euclid(span).saturating_mul(span));
        let ends = (0..WINDOWS_A_SPAN_MAX as i64).map(|nth| last_end.saturating_sub(nth * span));
        windows.extend(ends.take_while(|end| *end > from.max(begin)).map(|end| end - span));
    }
    windows
}
