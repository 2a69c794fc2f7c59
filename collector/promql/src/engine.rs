//! The engine: options and limits in, an answer or an error out. Owns what a whole query means (its times, the final
//! dropping of names, the order of the answer); expressions are evaluated in `eval`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::ast::{Expr, ValueType};
use crate::durations::QueryTimes;
use crate::error::{Error, Result};
use crate::eval::{ABSENT, Evaluator, Grid, Row, is_present, merge_same_labels};
use crate::labels::Labels;
use crate::parser::MAX_TIME_MS;
use crate::source::Source;

/// Limits and defaults of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How old the latest sample of a series may be to count, in milliseconds.
    pub lookback_ms: i64,
    /// How many samples a query may hold in memory at once.
    pub max_samples: usize,
    /// How many steps a range query may have.
    pub max_steps: usize,
    /// The step of subqueries that name none, in milliseconds.
    pub default_subquery_step_ms: i64,
    /// How long a query may run, in milliseconds; 0 for ever.
    pub timeout_ms: u64,
    /// How many threads may read one query's series at once.
    pub threads: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            lookback_ms: 300_000,
            max_samples: 50_000_000,
            max_steps: 11_000,
            default_subquery_step_ms: 60_000,
            timeout_ms: 120_000,
            threads: 1,
        }
    }
}

/// Tells a running query that nobody waits for it any more. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not raised.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Raises the flag: the query ends soon with [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is raised.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a query touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series that selectors found, counted once a selector.
    pub series: u64,
    /// Samples and buckets read from the source.
    pub samples: u64,
    /// The most samples held in memory at once.
    pub peak_samples: u64,
    /// How long the source took to find series.
    pub select: Duration,
    /// How long the source took to read samples.
    pub read: Duration,
    /// How long the whole took, both among it.
    pub total: Duration,
}

/// The answer to a query.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// What makes the answer doubtful.
    pub warnings: Vec<String>,
    /// What may be worth knowing.
    pub infos: Vec<String>,
    /// The copies of its history that the source answered from, as it calls them, sorted.
    pub tiers: Vec<&'static str>,
    /// What the query touched.
    pub stats: Stats,
}

/// The value of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number at the time of the query.
    Scalar {
        /// When, in milliseconds.
        ts_ms: i64,
        /// The number.
        value: f64,
    },
    /// A text at the time of the query.
    String {
        /// When, in milliseconds.
        ts_ms: i64,
        /// The text.
        value: String,
    },
    /// One sample a series: labels, time in milliseconds, value.
    Vector(Vec<(Labels, i64, f64)>),
    /// Many samples a series, by labels.
    Matrix(Vec<(Labels, Vec<(i64, f64)>)>),
}

/// Evaluates expressions. Cheap to make, and needed only for its options.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    options: EngineOptions,
}

impl Engine {
    /// An engine with these limits.
    pub fn new(options: EngineOptions) -> Engine {
        Engine { options }
    }

    /// The options it was made with.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Evaluates at one time.
    pub fn instant<S: Source>(&self, source: &S, expr: &Expr, time_ms: i64, cancel: &Cancel) -> Result<Answer> {
        self.check_time(time_ms)?;
        let grid = Grid { start: time_ms, step: 0, n: 1 };
        let mut eval = self.evaluator(source, grid, time_ms, cancel);
        let value = match expr.value_type() {
            ValueType::Scalar => Value::Scalar { ts_ms: time_ms, value: eval.scalar(expr, grid)?.at(0) },
            ValueType::String => match expr.unwrapped() {
                Expr::String(text) => Value::String { ts_ms: time_ms, value: text.value.clone() },
                _ => return Err(Error::execution("this text cannot be evaluated")),
            },
            ValueType::Matrix => {
                let mut series = eval.raw_samples(expr, grid)?;
                series.retain(|(_, samples)| !samples.is_empty());
                series.sort_by(|a, b| a.0.cmp(&b.0));
                if series.windows(2).any(|w| w[0].0 == w[1].0) {
                    return Err(Error::execution("vector cannot contain metrics with the same labelset"));
                }
                Value::Matrix(series)
            }
            ValueType::Vector => {
                let rows = eval.rows(expr, grid)?;
                let present = finish(rows)?.into_iter().filter(|row| is_present(row.points[0]));
                Value::Vector(present.map(|row| (row.labels, time_ms, row.points[0])).collect())
            }
        };
        Ok(eval.answer(value))
    }

    /// Evaluates at `start_ms`, `start_ms + step_ms` and so on up to `end_ms`.
    pub fn range<S: Source>(
        &self,
        source: &S,
        expr: &Expr,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        cancel: &Cancel,
    ) -> Result<Answer> {
        let grid = self.grid(start_ms, end_ms, step_ms)?;
        let mut eval = self.evaluator(source, grid, end_ms, cancel);
        let rows = match expr.value_type() {
            ValueType::Scalar => {
                let values = eval.scalar(expr, grid)?;
                let mut points = eval.points(grid.n, ABSENT)?;
                points.iter_mut().enumerate().for_each(|(i, p)| *p = values.at(i));
                vec![Row { labels: Labels::default(), drop_name: false, points }]
            }
            ValueType::Vector => {
                let rows = eval.rows(expr, grid)?;
                let mut rows = finish(rows)?;
                rows.sort_by(|a, b| a.labels.cmp(&b.labels));
                rows
            }
            other => {
                return Err(Error::BadRequest(format!(
                    "invalid expression type {:?} for range query, must be Scalar or instant Vector",
                    other.as_str()
                )));
            }
        };
        let mut series = Vec::with_capacity(rows.len());
        for row in rows {
            let present = row.points.iter().enumerate().filter(|(_, v)| is_present(**v));
            let samples: Vec<(i64, f64)> = present.map(|(i, v)| (grid.time(i), *v)).collect();
            if !samples.is_empty() {
                series.push((row.labels, samples));
            }
        }
        Ok(eval.answer(Value::Matrix(series)))
    }

    fn check_time(&self, time_ms: i64) -> Result<()> {
        if time_ms.unsigned_abs() > MAX_TIME_MS.unsigned_abs() {
            return Err(Error::BadRequest(format!("time {time_ms} ms is out of bounds")));
        }
        Ok(())
    }

    fn grid(&self, start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Grid> {
        self.check_time(start_ms)?;
        self.check_time(end_ms)?;
        if step_ms <= 0 {
            return Err(Error::BadRequest(
                "zero or negative query resolution step widths are not accepted. Try a positive integer".to_owned(),
            ));
        }
        if end_ms < start_ms {
            return Err(Error::BadRequest("end timestamp must not be before start time".to_owned()));
        }
        let steps = (end_ms - start_ms) / step_ms;
        if steps as u64 > self.options.max_steps as u64 {
            return Err(Error::BadRequest(format!(
                "exceeded maximum resolution of {} points per timeseries. \
                 Try decreasing the query resolution (?step=XX)",
                self.options.max_steps
            )));
        }
        Ok(Grid { start: start_ms, step: step_ms, n: steps as usize + 1 })
    }

    /// An evaluator for a query that ends at `end`, which need not be a step.
    fn evaluator<'a, S: Source>(&'a self, source: &'a S, grid: Grid, end: i64, cancel: &'a Cancel) -> Evaluator<'a, S> {
        let deadline = match self.options.timeout_ms {
            0 => None,
            ms => Instant::now().checked_add(Duration::from_millis(ms)),
        };
        let times = QueryTimes { step_ms: grid.step, range_ms: end - grid.start };
        Evaluator::new(source, &self.options, cancel, deadline, times, (grid.start, end))
    }
}

/// Drops the names that functions said to drop, now that nothing can ask for them any more.
fn finish(mut rows: Vec<Row>) -> Result<Vec<Row>> {
    for row in &mut rows {
        if row.drop_name {
            row.labels = row.labels.without_name();
        }
    }
    merge_same_labels(rows)
}
