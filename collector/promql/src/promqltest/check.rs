//! Evaluates an expression as a script says, also in forms that must give the same, and compares the answers.

use super::Outcome;
use super::script::{Eval, Notes, When};
use super::series::Item;
use crate::ast::{At, Expr};
use crate::engine::{Answer, Cancel, Engine, Value};
use crate::functions::{Code, WindowCode};
use crate::labels::Labels;
use crate::source::STALE_BITS;
use crate::testing::MemorySource;

/// What an evaluation must give: for every series its samples.
type Expected = Vec<(Labels, Vec<(i64, f64)>)>;

const MINUTE_MS: i64 = 60_000;

/// Whether an expected failure is the right one.
pub(super) fn failure(eval: &Eval, message: &str) -> Outcome {
    match eval.fail.iter().find(|text| !text.fits(message)) {
        Some(_) => Outcome::Failed(format!("{}: failed otherwise than expected: {message}", eval.expr)),
        None => Outcome::Passed,
    }
}

/// Runs an `eval` in all its forms.
pub(super) fn run(
    engine: &Engine,
    store: &MemorySource,
    eval: &Eval,
    expr: &Expr,
    cancel: &Cancel,
) -> Result<(), String> {
    let answer = match eval.when {
        When::At(at) => engine.instant(store, expr, at, cancel),
        When::Range { start, end, step } => engine.range(store, expr, start, end, step, cancel),
    };
    let answer = match (answer, eval.fails()) {
        (Ok(_), true) => return Err("expected to fail, but has an answer".to_owned()),
        (Err(error), true) => {
            return match failure(eval, &error.to_string()) {
                Outcome::Passed => Ok(()),
                _ => Err(format!("failed otherwise than expected: {error}")),
            };
        }
        (Err(error), false) => return Err(error.to_string()),
        (Ok(answer), false) => answer,
    };
    check_notes("warning", &eval.warn, &answer.warnings)?;
    check_notes("info", &eval.info, &answer.infos)?;
    match eval.when {
        When::Range { start, step, .. } => same_matrix(answer.value, &expected(eval, start, step)?),
        When::At(at) => {
            check_instant(eval, answer.value, at)?;
            let forms = Forms { engine, store, eval, cancel };
            forms.as_range(expr, at)?;
            forms.pinned(expr, at)
        }
    }
}

fn check_notes(kind: &str, expected: &Notes, actual: &[String]) -> Result<(), String> {
    if expected.none && !actual.is_empty() {
        return Err(format!("no {kind} expected, got {actual:?}"));
    }
    if !expected.some.is_empty() {
        if actual.is_empty() {
            return Err(format!("a {kind} is expected, got none"));
        }
        if let Some(stray) = actual.iter().find(|note| !expected.some.iter().any(|text| text.fits(note))) {
            return Err(format!("another {kind} is expected, got {stray:?}"));
        }
        if expected.some.iter().any(|text| !actual.iter().any(|note| text.fits(note))) {
            return Err(format!("a further {kind} is expected, got only {actual:?}"));
        }
    }
    Ok(())
}

/// The other forms of an instant evaluation.
struct Forms<'f> {
    engine: &'f Engine,
    store: &'f MemorySource,
    eval: &'f Eval,
    cancel: &'f Cancel,
}

impl Forms<'_> {
    /// As the middle step of a range.
    fn as_range(&self, expr: &Expr, at: i64) -> Result<(), String> {
        let eval = self.eval;
        let by_query_time = ["start", "end", "range", "step"].iter().any(|f| {
            let text = expr.to_string();
            text.match_indices(f).any(|(i, _)| text[i + f.len()..].starts_with("()"))
        });
        if eval.ordered || eval.string.is_some() || eval.range_vector.is_some() || by_query_time {
            return Ok(());
        }
        let answer = self
            .engine
            .range(self.store, expr, at - MINUTE_MS, at + MINUTE_MS, MINUTE_MS, self.cancel)
            .map_err(|e| format!("as a range at {at} ms: {e}"))?;
        let Value::Matrix(series) = answer.value else { return Err("a range query must give a matrix".to_owned()) };
        let middle = |samples: Vec<(i64, f64)>| samples.into_iter().filter(|(t, _)| *t == at).collect::<Vec<_>>();
        let middle = series.into_iter().map(|(labels, samples)| (labels, middle(samples)));
        let middle: Expected = middle.filter(|(_, samples)| !samples.is_empty()).collect();
        let wanted = match eval.scalar {
            Some(value) => vec![(Labels::default(), vec![(at, value)])],
            None => expected(eval, at, 1)?,
        };
        same(&middle, &wanted).map_err(|e| format!("as a range at {at} ms: {e}"))
    }

    /// With every selector pinned to the time, evaluated at others.
    fn pinned(&self, expr: &Expr, at: i64) -> Result<(), String> {
        if depends_on_time(expr) {
            return Ok(());
        }
        let mut pinned = expr.clone();
        pin(&mut pinned, at);
        let text = pinned.to_string();
        let pinned = crate::parse(&text).map_err(|e| format!("{text}: {e}"))?;
        for time in [-10 * at, 0, at / 5, at, 10 * at] {
            let answer = self
                .engine
                .instant(self.store, &pinned, time, self.cancel)
                .map_err(|e| format!("{text} at {time} ms: {e}"))?;
            check_instant(self.eval, moved(answer, time, at), at).map_err(|e| format!("{text} at {time} ms: {e}"))?;
            self.as_range(&pinned, time).map_err(|e| format!("{text}: {e}"))?;
        }
        Ok(())
    }
}

/// The value as if it were of another time.
fn moved(answer: Answer, from: i64, to: i64) -> Value {
    match answer.value {
        Value::Vector(samples) => {
            let shift = |t| if t == from { to } else { t };
            Value::Vector(samples.into_iter().map(|(labels, t, v)| (labels, shift(t), v)).collect())
        }
        value => value,
    }
}

fn depends_on_time(expr: &Expr) -> bool {
    let itself = match expr {
        Expr::Call(call) => matches!(
            call.function.code,
            Code::Time | Code::Timestamp | Code::Calendar(_) | Code::Window(WindowCode::PredictLinear)
        ),
        _ => false,
    };
    itself || expr.children().into_iter().any(depends_on_time)
}

fn pin(expr: &mut Expr, at: i64) {
    let slot = match expr {
        Expr::Vector(selector) => &mut selector.at,
        Expr::Matrix(matrix) => &mut matrix.vector.at,
        Expr::Subquery(subquery) => &mut subquery.at,
        other => {
            other.children_mut().into_iter().for_each(|child| pin(child, at));
            return;
        }
    };
    // The times of the query itself become this one, too.
    if !matches!(slot, Some(At::TimeMs(_))) {
        *slot = Some(At::TimeMs(at));
    }
}

fn check_instant(eval: &Eval, value: Value, at: i64) -> Result<(), String> {
    match value {
        Value::String { value, .. } => match &eval.string {
            Some(text) if *text == value => Ok(()),
            _ => Err(format!("got the text {value:?}")),
        },
        Value::Scalar { value, .. } => match eval.scalar {
            Some(wanted) if alike(value, wanted) => Ok(()),
            Some(wanted) => Err(format!("expected {wanted}, got {value}")),
            None => Err(format!("a vector is expected, got the scalar {value}")),
        },
        Value::Matrix(series) => match eval.range_vector {
            Some((start, step)) => same_matrix(Value::Matrix(series), &expected(eval, start, step)?),
            None => Err("got a range vector".to_owned()),
        },
        Value::Vector(_) if eval.scalar.is_some() => Err("a scalar is expected, got a vector".to_owned()),
        Value::Vector(samples) => {
            if let Some((_, time, _)) = samples.iter().find(|(_, t, _)| *t != at) {
                return Err(format!("a sample has the time {time}"));
            }
            if eval.ordered {
                let order: Vec<&Labels> = samples.iter().map(|(labels, _, _)| labels).collect();
                let wanted: Vec<&Labels> = eval.results.iter().map(|(labels, _)| labels).collect();
                if order != wanted {
                    return Err(format!("expected the order {wanted:?}, got {order:?}"));
                }
            }
            let samples: Expected = samples.into_iter().map(|(labels, t, v)| (labels, vec![(t, v)])).collect();
            same(&samples, &expected(eval, at, 1)?)
        }
    }
}

/// The expected series, with sample `i` at `start + i · step`.
fn expected(eval: &Eval, start: i64, step: i64) -> Result<Expected, String> {
    let mut out = Vec::new();
    for (labels, items) in &eval.results {
        let mut samples = Vec::new();
        for (i, item) in items.iter().enumerate() {
            match item {
                Item::Value(value) => samples.push((start + step * i as i64, *value)),
                Item::Gap => {}
                Item::Stale => samples.push((start + step * i as i64, f64::from_bits(STALE_BITS))),
                Item::Native => return Err("a native histogram is expected".to_owned()),
            }
        }
        if !samples.is_empty() {
            out.push((labels.clone(), samples));
        }
    }
    Ok(out)
}

fn same_matrix(value: Value, wanted: &Expected) -> Result<(), String> {
    let Value::Matrix(series) = value else { return Err("a matrix is expected".to_owned()) };
    if !series.is_sorted_by(|a, b| a.0 < b.0) {
        return Err("the series are not in the order of their labels".to_owned());
    }
    same(&series, wanted)
}

fn same(actual: &Expected, wanted: &Expected) -> Result<(), String> {
    for (labels, samples) in wanted {
        let Some((_, got)) = actual.iter().find(|(l, _)| l == labels) else {
            return Err(format!("{labels} is missing; got {actual:?}"));
        };
        let alike = |(a, b): (&(i64, f64), &(i64, f64))| a.0 == b.0 && alike(a.1, b.1);
        if got.len() != samples.len() || !got.iter().zip(samples).all(alike) {
            return Err(format!("{labels}: expected {samples:?}, got {got:?}"));
        }
    }
    match actual.iter().find(|(labels, _)| !wanted.iter().any(|(l, _)| l == labels)) {
        Some((labels, samples)) => Err(format!("{labels} is not expected: {samples:?}")),
        None if actual.len() != wanted.len() => Err("a series is there twice".to_owned()),
        None => Ok(()),
    }
}

/// Whether two values differ by no more than rounding.
fn alike(a: f64, b: f64) -> bool {
    const TOLERANCE: f64 = 1e-6;
    if a.to_bits() == STALE_BITS || b.to_bits() == STALE_BITS {
        return a.to_bits() == b.to_bits();
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}
