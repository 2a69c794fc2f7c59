//! The evaluator. An expression is evaluated over a grid of times at once and yields its series one by one, so that an
//! aggregation holds its groups and not its input. Owns the walk over the tree, limits and annotations; each kind of
//! expression is evaluated in a module of its own:
//!
//! - `select`: series, windows and subqueries
//! - `parallel`: reading many series, on several threads if that pays
//! - `window`: functions of the samples in a window, on `fold`'s sliding sums and `ranks`' order
//! - `summary`: the same of buckets, where they do in place of samples
//! - `each`: functions of single values
//! - `aggregate`, `topk`: aggregations
//! - `binary`, `vector_match`: operators
//! - `histogram`: classic histograms
//! - `relabel`: functions that change labels

mod aggregate;
mod binary;
mod call;
mod each;
mod fold;
mod histogram;
mod parallel;
mod points;
mod ranks;
mod relabel;
mod select;
mod summary;
mod topk;
mod vector_match;
mod window;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Instant;

use crate::ast::{Expr, Span};
use crate::durations::QueryTimes;
use crate::engine::{Answer, Cancel, EngineOptions, Stats, Value};
use crate::error::{Error, Result};
use crate::functions::{Code, WindowCode};
use crate::labels::Labels;
use crate::source::{SampleBuf, Source};
pub(crate) use points::{ABSENT, Points, is_present};
pub(crate) use relabel::merge_same_labels;

use points::{Meter, Steps};

/// The times of an evaluation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) n: usize,
}

impl Grid {
    #[inline]
    pub(crate) fn time(&self, i: usize) -> i64 {
        self.start + self.step * i as i64
    }

    fn first(&self) -> Grid {
        Grid { n: self.n.min(1), ..*self }
    }
}

/// A series of a result: a value or [`ABSENT`] for each time of the grid.
pub(crate) struct Row {
    pub(crate) labels: Labels,
    /// Whether the name goes at the end. Until then functions may still ask for it.
    pub(crate) drop_name: bool,
    pub(crate) points: Points,
}

/// Numbers without labels over a grid.
pub(crate) enum Scalars {
    Same(f64),
    Each(Points),
}

impl Scalars {
    #[inline]
    pub(crate) fn at(&self, i: usize) -> f64 {
        match self {
            Scalars::Same(value) => *value,
            Scalars::Each(values) => values[i],
        }
    }
}

impl Scalars {
    fn numbers(&self) -> Numbers<'_> {
        match self {
            Scalars::Same(value) => Numbers::Same(*value),
            Scalars::Each(values) => Numbers::Each(values),
        }
    }
}

/// [`Scalars`] for other threads to look at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Numbers<'n> {
    Same(f64),
    Each(&'n [f64]),
}

impl Numbers<'_> {
    #[inline]
    fn at(&self, i: usize) -> f64 {
        match self {
            Numbers::Same(value) => *value,
            Numbers::Each(values) => values[i],
        }
    }
}

/// Takes the series of a result, one by one.
pub(crate) type Sink<'s, 'a, S> = &'s mut dyn FnMut(&mut Evaluator<'a, S>, Row) -> Result<()>;

/// What ends a query before it is done.
#[derive(Clone, Copy)]
pub(crate) struct Halt<'a> {
    cancel: &'a Cancel,
    deadline: Option<Instant>,
}

impl Halt<'_> {
    fn reached(&self) -> bool {
        self.cancel.is_cancelled() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

pub(crate) struct Evaluator<'a, S: Source> {
    source: &'a S,
    options: &'a EngineOptions,
    halt: Halt<'a>,
    times: QueryTimes,
    /// Start and end of the query, for `@ start()` and `@ end()`.
    bounds: (i64, i64),
    meter: Rc<Meter>,
    warnings: Vec<String>,
    infos: Vec<String>,
    tiers: BTreeSet<&'static str>,
    stats: Stats,
    begun: Instant,
    /// Memory for reading that is not in use, for each thread.
    scratches: Vec<parallel::Scratch>,
}

impl<'a, S: Source> Evaluator<'a, S> {
    pub(crate) fn new(
        source: &'a S,
        options: &'a EngineOptions,
        cancel: &'a Cancel,
        deadline: Option<Instant>,
        times: QueryTimes,
        bounds: (i64, i64),
    ) -> Evaluator<'a, S> {
        Evaluator {
            source,
            options,
            halt: Halt { cancel, deadline },
            times,
            bounds,
            meter: Meter::new(options.max_samples),
            warnings: Vec::new(),
            infos: Vec::new(),
            tiers: BTreeSet::new(),
            stats: Stats::default(),
            begun: Instant::now(),
            scratches: Vec::new(),
        }
    }

    pub(crate) fn answer(mut self, value: Value) -> Answer {
        self.warnings.sort();
        self.infos.sort();
        self.stats.peak_samples = self.meter.peak() as u64;
        self.stats.total = self.begun.elapsed();
        let tiers = self.tiers.into_iter().collect();
        Answer { value, warnings: self.warnings, infos: self.infos, tiers, stats: self.stats }
    }

    /// Every series of a vector expression.
    pub(crate) fn rows(&mut self, expr: &Expr, grid: Grid) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.stream(expr, grid, &mut |_, row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// Hands every series of a vector expression to `sink`.
    pub(crate) fn stream(&mut self, expr: &Expr, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        self.check()?;
        if grid.n == 0 {
            return Ok(());
        }
        if grid.n > 1 && is_invariant(expr) {
            return self.stream(expr, grid.first(), &mut |eval, row| {
                let mut points = eval.points(grid.n, row.points[0])?;
                points.native = row.points.native.as_ref().map(|_| Steps::all(grid.n));
                sink(eval, Row { points, ..row })
            });
        }
        match expr {
            Expr::Paren(paren) => self.stream(&paren.expr, grid, sink),
            Expr::Vector(selector) => self.select_latest(selector, grid, select::Latest::Value, sink),
            Expr::Unary(unary) => self.unary(unary, grid, sink),
            Expr::Binary(binary) => self.binary(binary, grid, sink),
            Expr::Call(call) => self.call(call, grid, sink),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate, grid, sink),
            Expr::Number(_) | Expr::String(_) | Expr::Matrix(_) | Expr::Subquery(_) => {
                Err(Error::execution(format!("an instant vector is needed, got {}", expr.value_type().as_str())))
            }
        }
    }

    /// The values of a scalar expression.
    pub(crate) fn scalar(&mut self, expr: &Expr, grid: Grid) -> Result<Scalars> {
        match expr {
            Expr::Number(number) => Ok(Scalars::Same(number.value)),
            Expr::Paren(paren) => self.scalar(&paren.expr, grid),
            Expr::Unary(unary) => {
                let inner = self.scalar(&unary.expr, grid)?;
                let negative = unary.negative;
                self.map_scalar(&inner, grid, |_, v| if negative { -v } else { v })
            }
            Expr::Binary(binary) => {
                let lhs = self.scalar(&binary.lhs, grid)?;
                let rhs = self.scalar(&binary.rhs, grid)?;
                let op = binary.op;
                match rhs {
                    Scalars::Same(b) => self.map_scalar(&lhs, grid, |_, a| binary::scalar(op, a, b)),
                    rhs => self.map_scalar(&rhs, grid, |i, b| binary::scalar(op, lhs.at(i), b)),
                }
            }
            Expr::Call(call) => self.scalar_call(call, grid),
            _ => Err(Error::execution(format!("a scalar is needed, got {}", expr.value_type().as_str()))),
        }
    }

    fn map_scalar(&mut self, inner: &Scalars, grid: Grid, f: impl Fn(usize, f64) -> f64) -> Result<Scalars> {
        Ok(match inner {
            Scalars::Same(value) => Scalars::Same(f(0, *value)),
            Scalars::Each(values) => {
                let mut out = self.points(grid.n, ABSENT)?;
                for (i, value) in values.iter().enumerate() {
                    out[i] = f(i, *value);
                }
                Scalars::Each(out)
            }
        })
    }

    /// Memory for a value a step.
    pub(crate) fn points(&mut self, n: usize, fill: f64) -> Result<Points> {
        self.meter.points(n, fill)
    }

    /// Whether the query may go on.
    fn check(&self) -> Result<()> {
        match self.halt.reached() {
            false => Ok(()),
            true if self.halt.cancel.is_cancelled() => Err(Error::Cancelled),
            true => Err(Error::Timeout { limit_ms: self.options.timeout_ms }),
        }
    }

    fn warn(&mut self, at: Span, text: &str) {
        note(&mut self.warnings, format!("PromQL warning: {text} ({}:{})", at.line, at.column));
    }

    fn inform(&mut self, at: Span, text: &str) {
        note(&mut self.infos, format!("PromQL info: {text} ({}:{})", at.line, at.column));
    }

    /// Warns if a quantile is none.
    fn check_quantile(&mut self, quantile: &Scalars, grid: Grid, at: Span) {
        let steps = if matches!(quantile, Scalars::Same(_)) { 1 } else { grid.n };
        for value in (0..steps).map(|i| quantile.at(i)) {
            if value.is_nan() || !(0.0..=1.0).contains(&value) {
                let got = crate::text::format_short(value);
                self.warn(at, &format!("quantile value should be between 0 and 1, got {got}"));
            }
        }
    }
}

/// Adds an annotation unless it is there already.
fn note(notes: &mut Vec<String>, text: String) {
    /// A query may repeat a note with many values; more than this tell nothing new.
    const MAX_NOTES: usize = 100;
    if notes.len() < MAX_NOTES && !notes.contains(&text) {
        notes.push(text);
    }
}

/// Whether an expression has the same value at every step, because all its selectors are pinned.
fn is_invariant(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Vector(selector) => selector.at.is_some(),
        Expr::Matrix(matrix) => matrix.vector.at.is_some(),
        Expr::Subquery(subquery) => subquery.at.is_some(),
        Expr::Call(call) => {
            let by_time = match call.function.code {
                Code::Time | Code::Timestamp | Code::Window(WindowCode::PredictLinear) => true,
                Code::Calendar(_) => call.args.is_empty(),
                _ => false,
            };
            !by_time && call.args.iter().all(is_invariant)
        }
        other => other.children().into_iter().all(is_invariant),
    }
}
