//! A rule's expression: parsed once with its probe, run at an instant, rows without a copy of their labels.

use pitwatch_alerting::{LabelSet, Prepared, Row};
use pitwatch_promql::ast::{Binary, BinaryOp, ValueType};
use pitwatch_promql::{Cancel, Engine, Expr, Labels, Source, Value, parse};

use crate::instance::is_by_instance;

/// Parses an expression and its probe.
///
/// # Errors
/// What is wrong with it, for the person who wrote it.
pub fn prepare(expr: &str) -> Result<Prepared<Expr>, String> {
    let expr = parse(expr).map_err(|error| error.to_string())?;
    if !matches!(expr.value_type(), ValueType::Vector | ValueType::Scalar) {
        return Err(format!("a rule's expression gives a vector or a scalar, not a {}", expr.value_type().as_str()));
    }
    Ok(Prepared { probe: without_comparison(&expr), by_instance: is_by_instance(&expr), expr })
}

/// The rows of an expression at an instant; a scalar is one row without labels.
///
/// # Errors
/// What failed.
pub fn rows<S: Source>(
    engine: &Engine,
    source: &S,
    expr: &Expr,
    ts_ms: i64,
    cancel: &Cancel,
) -> Result<Vec<Row>, String> {
    match engine.instant(source, expr, ts_ms, cancel).map_err(|error| error.to_string())?.value {
        Value::Vector(rows) => {
            Ok(rows.into_iter().map(|(labels, _, value)| Row { labels: label_set(&labels), value }).collect())
        }
        Value::Scalar { value, .. } => Ok(vec![Row { labels: LabelSet::empty(), value }]),
        _ => Err("neither a vector nor a scalar".to_owned()),
    }
}

/// The labels as alerting has them; the text is shared.
#[must_use]
pub fn label_set(labels: &Labels) -> LabelSet {
    LabelSet::from_sorted(labels.shared())
}

/// The expression without its outermost comparison, as [`Prepared::probe`] describes it; `None` if there is none.
fn without_comparison(expr: &Expr) -> Option<Expr> {
    let Expr::Binary(binary) = expr.unwrapped() else { return None };
    if binary.op.is_comparison() && !binary.return_bool {
        let scalar_left = binary.lhs.value_type() == ValueType::Scalar;
        return Some(if scalar_left { binary.rhs.clone() } else { binary.lhs.clone() });
    }
    let (left, right) = (without_comparison(&binary.lhs), without_comparison(&binary.rhs));
    match binary.op {
        BinaryOp::Unless => left,
        BinaryOp::And | BinaryOp::Or if left.is_some() || right.is_some() => {
            let lhs = left.unwrap_or_else(|| binary.lhs.clone());
            let rhs = right.unwrap_or_else(|| binary.rhs.clone());
            Some(Expr::Binary(Box::new(Binary { lhs, rhs, ..(**binary).clone() })))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_the_expression_without_its_outermost_comparison() {
        let probe = |text: &str| without_comparison(&parse(text).unwrap()).map(|expr| expr.to_string());
        let same = |text: &str| Some(parse(text).unwrap().to_string());
        assert_eq!(probe("rate(a[1m]) > 0.5"), same("rate(a[1m])"));
        assert_eq!(probe("(1 < a)"), same("a"));
        assert_eq!(probe("a > 1 and b < 2"), same("a and b"));
        assert_eq!(probe("a > 1 or b"), same("a or b"));
        assert_eq!(probe("a > 1 unless b > 2"), same("a"));
        assert_eq!(probe("a > bool 1"), None);
        assert_eq!(probe("absent(a)"), None);
        assert_eq!(probe("a and b"), None);
    }

    #[test]
    fn an_expression_that_is_no_rule_is_refused() {
        assert!(prepare("a[5m]").unwrap_err().contains("not a range vector"));
        assert!(prepare("\"x\"").unwrap_err().contains("not a string"));
        assert!(prepare("sum(").is_err());
    }
}
