//! Function calls: evaluates the arguments and applies the function, row by row where that is possible.

use super::select::{Latest, Over};
use super::*;
use crate::ast::{Call, StringLiteral, Unary, ValueType};
use crate::labels::METRIC_NAME;
use crate::matcher::MatchOp;

impl<'a, S: Source> Evaluator<'a, S> {
    pub(super) fn call(&mut self, call: &Call, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let args = &call.args;
        match call.function.code {
            Code::Window(code) => self.window_call(call, code, grid, sink),
            Code::Each(code) => {
                let limit = match args.get(1) {
                    Some(limit) => self.scalar(limit, grid)?,
                    None => Scalars::Same(0.0),
                };
                self.map(&args[0], grid, sink, |i, v| each::each(code, v, limit.at(i)))
            }
            Code::Round => {
                let nearest = match args.get(1) {
                    Some(nearest) => self.scalar(nearest, grid)?,
                    None => Scalars::Same(1.0),
                };
                self.map(&args[0], grid, sink, |i, v| each::round(v, nearest.at(i)))
            }
            Code::Clamp => {
                let low = self.scalar(&args[1], grid)?;
                let high = self.scalar(&args[2], grid)?;
                self.map(&args[0], grid, sink, |i, v| match (low.at(i), high.at(i)) {
                    (low, high) if low > high => ABSENT,
                    (low, high) => each::larger(low, each::smaller(high, v)),
                })
            }
            Code::Calendar(code) => match args.first() {
                Some(arg) => self.map(arg, grid, sink, |_, v| each::calendar(code, v)),
                None => {
                    let mut points = self.points(grid.n, ABSENT)?;
                    for (i, point) in points.iter_mut().enumerate() {
                        *point = each::calendar(code, grid.time(i) as f64 / 1000.0);
                    }
                    sink(self, Row { labels: Labels::default(), drop_name: false, points })
                }
            },
            Code::VectorOf => {
                let values = self.scalar(&args[0], grid)?;
                let mut points = self.points(grid.n, ABSENT)?;
                points.iter_mut().enumerate().for_each(|(i, p)| *p = values.at(i));
                sink(self, Row { labels: Labels::default(), drop_name: false, points })
            }
            Code::Timestamp => self.timestamp(&args[0], grid, sink),
            Code::Absent => self.absent(&args[0], grid, sink),
            Code::AbsentOverTime => self.absent_over_time(&args[0], grid, sink),
            Code::Sort { descending } => self.sort(call, descending, grid, sink),
            Code::HistogramQuantile => self.histogram_quantile(call, grid, sink),
            Code::HistogramFraction => self.histogram_fraction(call, grid, sink),
            Code::NativeHistogram => self.stream(&args[0], grid, &mut |_, _| Ok(())),
            Code::LabelReplace => self.label_replace(call, grid, sink),
            Code::LabelJoin => self.label_join(call, grid, sink),
            Code::Pi | Code::Time | Code::ScalarOf => Err(Error::execution("an instant vector is needed, got scalar")),
        }
    }

    /// A call whose value is a scalar.
    pub(super) fn scalar_call(&mut self, call: &Call, grid: Grid) -> Result<Scalars> {
        match call.function.code {
            Code::Pi => Ok(Scalars::Same(std::f64::consts::PI)),
            Code::Time => {
                let mut points = self.points(grid.n, ABSENT)?;
                points.iter_mut().enumerate().for_each(|(i, p)| *p = grid.time(i) as f64 / 1000.0);
                Ok(Scalars::Each(points))
            }
            Code::ScalarOf => {
                // Nothing and more than one value are both NaN.
                let mut points = self.points(grid.n, ABSENT)?;
                self.stream(&call.args[0], grid, &mut |_, row| {
                    for (point, value) in points.iter_mut().zip(row.points.iter()).filter(|(_, v)| is_present(**v)) {
                        *point = if is_present(*point) { f64::NAN } else { *value };
                    }
                    Ok(())
                })?;
                points.iter_mut().filter(|p| !is_present(**p)).for_each(|p| *p = f64::NAN);
                Ok(Scalars::Each(points))
            }
            _ => Err(Error::execution(format!("{} does not give a scalar", call.function.name))),
        }
    }

    /// Applies `f` to every value and drops the name.
    fn map(&mut self, arg: &Expr, grid: Grid, sink: Sink<'_, 'a, S>, f: impl Fn(usize, f64) -> f64) -> Result<()> {
        self.stream(arg, grid, &mut |eval, mut row| {
            for (i, point) in row.points.iter_mut().enumerate().filter(|(_, p)| is_present(**p)) {
                *point = f(i, *point);
            }
            row.points.native = None;
            row.drop_name = true;
            sink(eval, row)
        })
    }

    pub(super) fn unary(&mut self, unary: &Unary, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        if !unary.negative {
            return self.stream(&unary.expr, grid, sink);
        }
        self.map(&unary.expr, grid, sink, |_, v| -v)
    }

    fn window_call(&mut self, call: &Call, code: WindowCode, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let args = &call.args;
        let (range, param) = match code {
            WindowCode::Quantile => (&args[1], Some(&args[0])),
            WindowCode::PredictLinear => (&args[0], Some(&args[1])),
            _ => (&args[0], None),
        };
        let param = match param {
            Some(param) => self.scalar(param, grid)?,
            None => Scalars::Same(0.0),
        };
        if code == WindowCode::Quantile {
            self.check_quantile(&param, grid, args[0].unwrapped().span());
        }
        let keeps_name = matches!(code, WindowCode::Last | WindowCode::First);
        let counter = matches!(code, WindowCode::Rate | WindowCode::Increase);
        let at = range.unwrapped().span();
        let param = param.numbers();
        let compute = |window: &select::Window<'_>, out: &mut [f64]| {
            window::compute(code, window, grid, param, out);
        };
        self.windows(range, grid, Over::of(call.function.name, code), &compute, &mut |eval, mut row| {
            if counter {
                eval.doubt_counter(&row.labels, at);
            }
            row.drop_name |= !keeps_name;
            sink(eval, row)
        })
    }

    /// Notes that a metric which is taken for a counter is not named like one.
    fn doubt_counter(&mut self, labels: &Labels, at: Span) {
        const SUFFIXES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];
        let Some(name) = labels.metric_name() else { return };
        if !SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket";
            self.inform(at, &format!("{text}: {}", crate::text::quote(name)));
        }
    }

    fn timestamp(&mut self, arg: &Expr, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        if let Expr::Vector(selector) = arg.unwrapped() {
            return self.select_latest(selector, grid, Latest::Time, &mut |eval, mut row| {
                row.drop_name = true;
                sink(eval, row)
            });
        }
        self.map(arg, grid, sink, |i, _| grid.time(i) as f64 / 1000.0)
    }

    fn absent(&mut self, arg: &Expr, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let mut points = self.points(grid.n, 1.0)?;
        self.stream(arg, grid, &mut |_, row| {
            hide_present(&mut points, &row.points);
            Ok(())
        })?;
        sink(self, Row { labels: absent_labels(arg), drop_name: false, points })
    }

    fn absent_over_time(&mut self, arg: &Expr, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let mut points = self.points(grid.n, 1.0)?;
        let compute = |window: &select::Window<'_>, out: &mut [f64]| {
            window::compute(WindowCode::Present, window, grid, Numbers::Same(0.0), out);
        };
        let over = Over::of("absent_over_time", WindowCode::Present);
        self.windows(arg, grid, over, &compute, &mut |_, row| {
            hide_present(&mut points, &row.points);
            Ok(())
        })?;
        sink(self, Row { labels: absent_labels(arg), drop_name: false, points })
    }

    fn sort(&mut self, call: &Call, descending: bool, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        if grid.n > 1 || self.times.step_ms > 0 {
            let text = "sort is ineffective for range queries since results are always ordered by labels";
            self.warn(call.span, text);
            return self.stream(&call.args[0], grid, sink);
        }
        let mut rows = self.rows(&call.args[0], grid)?;
        rows.retain(|row| is_present(row.points[0]));
        rows.sort_by(|a, b| {
            let (a, b) = (a.points[0], b.points[0]);
            let order = if descending { b.partial_cmp(&a) } else { a.partial_cmp(&b) };
            // NaN comes last either way.
            order.unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        });
        rows.into_iter().try_for_each(|row| sink(self, row))
    }
}

/// Marks the steps at which `present` has a value as absent.
fn hide_present(points: &mut [f64], present: &Points) {
    let native = |i| present.native.as_ref().is_some_and(|steps| steps.has(i));
    for (_, point) in points.iter_mut().enumerate().filter(|(i, _)| is_present(present[*i]) || native(*i)) {
        *point = ABSENT;
    }
}

/// The labels that something absent would have had: those that a selector fixes with exactly one `=`.
fn absent_labels(arg: &Expr) -> Labels {
    let selector = match arg.unwrapped() {
        Expr::Vector(selector) => selector,
        Expr::Matrix(matrix) => &matrix.vector,
        _ => return Labels::default(),
    };
    let matchers = &selector.matchers;
    let unique = |name: &str| matchers.iter().filter(|m| m.name == name).count() == 1;
    let fixed = matchers.iter().filter(|m| m.op == MatchOp::Eq && m.name != METRIC_NAME && unique(&m.name));
    Labels::from_pairs(fixed.map(|m| (m.name.as_str(), m.value.as_str())))
}

/// The text of an argument that the parser made sure is one.
pub(super) fn text_of(expr: &Expr) -> Result<&StringLiteral> {
    match expr.unwrapped() {
        Expr::String(text) => Ok(text),
        other => Err(Error::execution(format!(
            "a {} is needed, got {}",
            ValueType::String.as_str(),
            other.value_type().as_str()
        ))),
    }
}
