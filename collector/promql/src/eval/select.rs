//! Series selectors: the latest sample at each step, the windows behind each step, and subqueries, whose windows are
//! made of evaluations. A series is read in pieces of bounded time, so that memory does not grow with the time scanned.

use std::sync::{Mutex, PoisonError};

use super::*;
use crate::ast::{At, DurationExpr, MatrixSelector, Subquery, VectorSelector};
use crate::source::{Hints, Selection, is_stale};
use parallel::{Done, Pace, Read, Scratch};
use summary::{BUCKET_SAMPLES, BucketGrid, Buckets, Summary};

/// The time that one read of a series spans, in milliseconds, unless a window is longer: 36 hours, at one sample a
/// second 2 MiB.
const READ_SPAN_MS: i64 = 36 * 3_600_000;
/// A read spans at least this many windows, for neighbouring reads overlap by one.
const READ_MIN_WINDOWS: i64 = 8;
/// With steps this many windows apart, each window is read alone and what lies between is skipped.
const SPARSE_STEPS: i64 = 4;

/// What a selector of the latest sample yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Latest {
    Value,
    /// The sample's time in seconds.
    Time,
}

/// What takes the windows of a range expression.
#[derive(Debug, Clone, Copy)]
pub(super) struct Over {
    function: &'static str,
    /// How to compute it of buckets, if they would do.
    summary: Option<Summary>,
}

impl Over {
    pub(super) fn of(function: &'static str, code: WindowCode) -> Over {
        Over { function, summary: Summary::of(code) }
    }
}

/// Which of the samples that a source gives are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// All, stale markers and native histograms included.
    All,
    /// All but stale markers.
    Samples,
    /// Only numbers.
    Numbers,
}

/// Where the windows of a grid lie: window `i` is `(end + i·step − width, end + i·step]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) end: i64,
    /// 0 if all steps share a window.
    pub(super) step: i64,
    pub(super) width: i64,
    pub(super) n: usize,
}

impl Reach {
    pub(super) fn last_end(&self) -> i64 {
        self.end + self.step * (self.n as i64 - 1)
    }

    pub(super) fn start(&self) -> i64 {
        self.end - self.width
    }

    /// How many steps to read at once.
    pub(super) fn steps_a_read(&self) -> usize {
        if self.step == 0 {
            return self.n;
        }
        if self.step / SPARSE_STEPS >= self.width {
            return 1;
        }
        let span = READ_SPAN_MS.max(self.width.saturating_mul(READ_MIN_WINDOWS));
        ((span / self.step).max(1) as usize).min(self.n)
    }

    /// The windows of the steps `first..first + n`.
    pub(super) fn part(&self, first: usize, n: usize) -> Reach {
        Reach { end: self.end + self.step * first as i64, n, ..*self }
    }
}

/// The samples behind a run of steps.
pub(super) struct Window<'w> {
    pub(super) timestamps: &'w [i64],
    pub(super) values: &'w [f64],
    /// The end of the first window.
    pub(super) end: i64,
    /// How far apart the ends are; 0 if all steps share a window.
    pub(super) step: i64,
    pub(super) width: i64,
    /// Which step of the grid the first window belongs to.
    pub(super) first: usize,
    halt: Halt<'w>,
}

/// A series and its samples as they are: times in milliseconds and values.
pub(crate) type RawSeries = (Labels, Vec<(i64, f64)>);

/// Computes a value for each step of a run. It may be called for several series at once.
pub(super) type Compute<'c> = &'c (dyn Fn(&Window<'_>, &mut [f64]) + Sync);

impl<'a, S: Source> Evaluator<'a, S> {
    /// The latest sample of each series at each step.
    pub(super) fn select_latest(
        &mut self,
        selector: &VectorSelector,
        grid: Grid,
        latest: Latest,
        sink: Sink<'_, 'a, S>,
    ) -> Result<()> {
        let reach = self.reach(selector.at, selector.offset.as_ref(), self.options.lookback_ms, grid)?;
        let compute = |window: &Window<'_>, out: &mut [f64]| pick_latest(window, latest, out);
        self.series(selector, reach, (None, Some(Summary::Latest(latest))), &compute, Keep::All, sink)
    }

    /// Hands the windows of a range expression to `compute`, and each series of results to `sink`.
    pub(super) fn windows(
        &mut self,
        arg: &Expr,
        grid: Grid,
        over: Over,
        compute: Compute<'_>,
        sink: Sink<'_, 'a, S>,
    ) -> Result<()> {
        match arg.unwrapped() {
            Expr::Matrix(matrix) => {
                let reach = self.matrix_reach(matrix, grid)?;
                let keep = match over.function {
                    "absent_over_time" | "count_over_time" | "present_over_time" => Keep::Samples,
                    _ => Keep::Numbers,
                };
                self.series(&matrix.vector, reach, (Some(over.function), over.summary), compute, keep, sink)
            }
            Expr::Subquery(subquery) => self.subquery(subquery, grid, compute, sink),
            other => Err(Error::execution(format!("a range vector is needed, got {}", other.value_type().as_str()))),
        }
    }

    /// The samples of a range expression as they are.
    pub(crate) fn raw_samples(&mut self, expr: &Expr, grid: Grid) -> Result<Vec<RawSeries>> {
        let mut out: Vec<RawSeries> = Vec::new();
        let samples = Mutex::new(Vec::new());
        let held = || samples.lock().unwrap_or_else(PoisonError::into_inner);
        let take = |window: &Window<'_>, out: &mut [f64]| {
            let start = window.end - window.width;
            let pairs = window.timestamps.iter().copied().zip(window.values.iter().copied());
            *held() = pairs.filter(|(t, _)| *t > start && *t <= window.end).collect();
            out[0] = 0.0;
        };
        let mut accounts = Vec::new();
        let over = Over { function: "", summary: None };
        self.windows(expr, grid, over, &take, &mut |eval, row| {
            let labels = if row.drop_name { row.labels.without_name() } else { row.labels };
            let samples = std::mem::take(&mut *held());
            // What has been gathered stays on the account until the answer is complete.
            accounts.push(eval.meter.hold(samples.len())?);
            out.push((labels, samples));
            Ok(())
        })?;
        Ok(out)
    }

    fn matrix_reach(&mut self, matrix: &MatrixSelector, grid: Grid) -> Result<Reach> {
        let width = matrix.range.positive_ms(self.times).map_err(Error::Execution)?;
        self.reach(matrix.vector.at, matrix.vector.offset.as_ref(), width, grid)
    }

    fn reach(&self, at: Option<At>, offset: Option<&DurationExpr>, width: i64, grid: Grid) -> Result<Reach> {
        let offset = offset.map_or(Ok(0), |o| o.ms(self.times)).map_err(Error::Execution)?;
        let (from, step) = match at {
            None => (grid.start, grid.step),
            Some(At::TimeMs(ms)) => (ms, 0),
            Some(At::Start) => (self.bounds.0, 0),
            Some(At::End) => (self.bounds.1, 0),
        };
        Ok(Reach { end: from - offset, step: if grid.n > 1 { step } else { 0 }, width, n: grid.n })
    }

    /// Reads each selected series, computes its row and hands it on.
    fn series(
        &mut self,
        selector: &VectorSelector,
        reach: Reach,
        (function, summary): (Option<&'static str>, Option<Summary>),
        compute: Compute<'_>,
        keep: Keep,
        sink: Sink<'_, 'a, S>,
    ) -> Result<()> {
        let hints = Hints {
            end_ms: reach.end,
            step_ms: reach.step,
            window_ms: reach.width,
            function,
            buckets: summary.map(Summary::fields),
            needs_whole_windows: summary.is_none_or(Summary::needs_whole_windows),
        };
        let Selection { series, resolution_ms, .. } = self.select(selector, reach, &hints)?;
        let _held = self.meter.hold(series.len())?;
        // Without a function what is computed is kept outside of the rows.
        let pace = if function == Some("") { Pace::one_by_one() } else { Pace::new(self.options.threads, reach.n) };
        let (source, halt) = (self.source, self.halt);
        if let (Some(resolution), Some(summary)) = (resolution_ms, summary) {
            let grid = BucketGrid { resolution, is_exact: hints.is_exact_on(resolution) };
            let one = |handle: &S::Series, (part, _): (Reach, usize), scratch: &mut Scratch, out: &mut [f64]| {
                let (start, end) = grid.around(part.start(), part.last_end());
                let Scratch { samples, buckets } = scratch;
                let begun = Instant::now();
                source.buckets(handle, start, end, buckets).map_err(Error::Source)?;
                let reading = begun.elapsed();
                if !buckets.is_empty() {
                    summary.compute(&Buckets { buckets, grid, reach: part, halt }, samples, out);
                }
                Ok(Done { reading, samples: buckets.len() as u64, held: buckets.len() * BUCKET_SAMPLES })
            };
            let read = Read { reach, steps: grid.steps_a_read(reach), one: &one, halt };
            return self.batches(series, &read, pace, false, sink);
        }
        // Of the one window of an instant selector only the last sample counts.
        let is_instant = function.is_none() && reach.n == 1;
        let one = |handle: &S::Series, (part, first): (Reach, usize), scratch: &mut Scratch, out: &mut [f64]| {
            let samples = &mut scratch.samples;
            let begun = Instant::now();
            let read = match is_instant {
                true => source.latest(handle, part.start(), part.last_end(), samples),
                false => source.samples(handle, part.start(), part.last_end(), samples),
            };
            read.map_err(Error::Source)?;
            let done = Done { reading: begun.elapsed(), samples: samples.len() as u64, held: samples.len() };
            match keep {
                Keep::All => {}
                Keep::Samples => samples.drop_stale(true),
                Keep::Numbers => samples.drop_stale(false),
            }
            if !samples.is_empty() {
                compute(&window(samples, part, first, halt), out);
            }
            Ok(done)
        };
        let read = Read { reach, steps: reach.steps_a_read(), one: &one, halt };
        self.batches(series, &read, pace, keep == Keep::All, sink)
    }

    /// Reads series batch by batch and hands their rows on in order.
    fn batches(
        &mut self,
        series: Vec<(Labels, S::Series)>,
        read: &Read<'_, S::Series>,
        mut pace: Pace,
        keep_native: bool,
        sink: Sink<'_, 'a, S>,
    ) -> Result<()> {
        let (mut batch, mut labels) = (Vec::new(), Vec::new());
        let mut series = series.into_iter();
        loop {
            for (label, handle) in series.by_ref().take(pace.batch()) {
                batch.push((handle, self.points(read.reach.n, ABSENT)?));
                labels.push(label);
            }
            if batch.is_empty() {
                return Ok(());
            }
            self.check()?;
            let begun = Instant::now();
            let mut scratches = std::mem::take(&mut self.scratches);
            let done = read.all(&mut batch, pace.threads(), self.meter.room(), &mut scratches)?;
            self.scratches = scratches;
            pace.took(begun.elapsed(), batch.len(), series.len());
            self.stats.read += done.reading;
            self.stats.samples += done.samples;
            self.meter.allow(done.held)?;
            // The windows may have been left undone.
            self.check()?;
            for (labels, (_, mut points)) in labels.drain(..).zip(batch.drain(..)) {
                if keep_native {
                    points.split_native();
                }
                if points.any() {
                    sink(self, Row { labels, drop_name: false, points })?;
                }
            }
        }
    }

    /// Asks the source for the series of a selector, and sorts them.
    fn select(&mut self, selector: &VectorSelector, reach: Reach, hints: &Hints) -> Result<Selection<S::Series>> {
        let begun = Instant::now();
        let found = self.source.select_for(&selector.matchers, reach.start(), reach.last_end(), hints);
        let mut selection = found.map_err(Error::Source)?;
        selection.series.sort_by(|a, b| a.0.cmp(&b.0));
        self.stats.select += begun.elapsed();
        self.stats.series += selection.series.len() as u64;
        self.tiers.extend(selection.tier);
        if let Some(info) = &selection.info {
            self.inform(selector.span, info);
        }
        Ok(selection)
    }

    /// Evaluates the inner expression on the subquery's own grid and takes windows of what comes out.
    fn subquery(&mut self, subquery: &Subquery, grid: Grid, compute: Compute<'_>, sink: Sink<'_, 'a, S>) -> Result<()> {
        let width = subquery.range.positive_ms(self.times).map_err(Error::Execution)?;
        let reach = self.reach(subquery.at, subquery.offset.as_ref(), width, grid)?;
        let step = match &subquery.step {
            Some(step) => step.positive_ms(self.times).map_err(Error::Execution)?,
            None => self.options.default_subquery_step_ms.max(1),
        };
        // The first multiple of the step strictly after the first window's start.
        let start = (reach.start().div_euclid(step) + 1) * step;
        let last = reach.last_end();
        if last < start {
            return Ok(());
        }
        let n = ((last - start) / step) as usize + 1;
        self.meter.allow(n)?;
        let inner = Grid { start, step, n };
        let mut buffer = SampleBuf::default();
        self.stream(&subquery.expr, inner, &mut |eval, row| {
            buffer.clear();
            for (i, value) in row.points.iter().enumerate().filter(|(_, v)| is_present(**v)) {
                buffer.push(inner.time(i), *value);
            }
            let Row { labels, drop_name, .. } = row;
            let mut points = eval.points(reach.n, ABSENT)?;
            compute(&window(&buffer, reach, 0, eval.halt), &mut points);
            // The windows may have been left undone.
            eval.check()?;
            if points.any() {
                sink(eval, Row { labels, drop_name, points })?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

pub(super) fn window<'w>(buffer: &'w SampleBuf, reach: Reach, first: usize, halt: Halt<'w>) -> Window<'w> {
    Window {
        timestamps: &buffer.timestamps,
        values: &buffer.values,
        end: reach.end,
        step: reach.step,
        width: reach.width,
        first,
        halt,
    }
}

impl Window<'_> {
    /// An instant in seconds after the first window's end: small numbers, of which squares lose nothing.
    #[inline]
    pub(super) fn seconds(&self, ms: i64) -> f64 {
        (ms - self.end) as f64 / 1000.0
    }

    /// The first sample later than `at`, at `from` or behind; where it is likely is `advance` further.
    #[inline]
    fn first_after(&self, at: i64, from: usize, advance: usize) -> usize {
        let times = self.timestamps;
        let is_later = |i: usize| times.get(i).is_none_or(|time| *time > at);
        let guess = from + advance;
        if guess <= times.len() && is_later(guess) && (guess == from || times[guess - 1] <= at) {
            return guess;
        }
        let mut bound = 1;
        while !is_later(from + bound - 1) {
            bound *= 2;
        }
        let (low, high) = (from + bound / 2, (from + bound - 1).min(times.len()));
        low + times[low..high].partition_point(|time| *time <= at)
    }

    /// Calls `f` with each step and the bounds of its samples, until the query is to end.
    #[inline]
    pub(super) fn for_each(&self, n: usize, mut f: impl FnMut(usize, usize, usize)) {
        /// How many samples may be looked at between two looks at the clock.
        const SAMPLES_A_LOOK: usize = 1 << 22;
        let (mut low, mut high, mut work) = (0, 0, 0);
        // How far the step before moved them: with regular samples the next one moves them as far.
        let mut advance = (0, 0);
        for i in 0..n {
            let end = self.end + self.step * i as i64;
            let start = end - self.width;
            let before = (low, high);
            high = self.first_after(end, high, advance.1);
            low = self.first_after(start, low, advance.0);
            advance = (low - before.0, high - before.1);
            f(i, low, high);
            work += high - low;
            if work > SAMPLES_A_LOOK {
                if self.halt.reached() {
                    return;
                }
                work = 0;
            }
        }
    }
}

/// The last sample of each window, unless it says that the series has ended.
pub(super) fn pick_latest(window: &Window<'_>, latest: Latest, out: &mut [f64]) {
    window.for_each(out.len(), |i, low, high| {
        if low < high && !is_stale(window.values[high - 1]) {
            out[i] = match latest {
                Latest::Value => window.values[high - 1],
                Latest::Time => window.timestamps[high - 1] as f64 / 1000.0,
            };
        }
    });
}
