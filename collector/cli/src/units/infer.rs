//! The unit of a query's values, from the units of the metrics in it and from what is done to them.

use pitwatch_promql::Expr;
use pitwatch_promql::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Call, ValueType};

use super::{Base, Unit};

/// The unit of the values of a query; none if it cannot be told, or if the text is no query.
pub(crate) fn of_query(text: &str) -> Unit {
    pitwatch_promql::parse(text).map_or(Unit::NUMBER, |expr| of(&expr).unwrap_or(Unit::NUMBER))
}

/// The unit; `None` where numbers may have any, as a literal has.
fn of(expr: &Expr) -> Option<Unit> {
    match expr {
        Expr::Number(_) | Expr::String(_) => None,
        Expr::Vector(selector) => selector.name.as_deref().map(Unit::of_metric),
        Expr::Matrix(selector) => selector.vector.name.as_deref().map(Unit::of_metric),
        Expr::Subquery(subquery) => of(&subquery.expr),
        Expr::Call(call) => of_call(call),
        Expr::Aggregate(aggregate) => of_aggregate(aggregate),
        Expr::Binary(binary) => of_binary(binary),
        Expr::Unary(unary) => of(&unary.expr),
        Expr::Paren(paren) => of(&paren.expr),
    }
}

fn of_aggregate(aggregate: &Aggregate) -> Option<Unit> {
    match aggregate.op {
        AggregateOp::Count | AggregateOp::Group | AggregateOp::Stdvar | AggregateOp::CountValues => Some(Unit::NUMBER),
        _ => of(&aggregate.expr),
    }
}

fn of_call(call: &Call) -> Option<Unit> {
    // The argument that carries the values is the one that is no scalar.
    let inner = || call.args.iter().find(|arg| arg.value_type() != ValueType::Scalar).and_then(of);
    match call.function.name {
        "rate" | "irate" | "deriv" => inner().map(per_second),
        "time" | "timestamp" => Some(Unit::of(Base::Moment)),
        // A bucket's bound, whatever happened to the counts.
        "histogram_quantile" => inner().map(|unit| Unit::of(unit.base)),
        "vector" | "scalar" => call.args.first().and_then(of),
        "increase"
        | "delta"
        | "idelta"
        | "predict_linear"
        | "abs"
        | "ceil"
        | "floor"
        | "round"
        | "clamp"
        | "clamp_min"
        | "clamp_max"
        | "sort"
        | "sort_desc"
        | "sort_by_label"
        | "sort_by_label_desc"
        | "label_replace"
        | "label_join"
        | "avg_over_time"
        | "min_over_time"
        | "max_over_time"
        | "sum_over_time"
        | "last_over_time"
        | "first_over_time"
        | "quantile_over_time"
        | "stddev_over_time"
        | "mad_over_time"
        | "double_exponential_smoothing" => inner(),
        _ => Some(Unit::NUMBER),
    }
}

fn of_binary(binary: &Binary) -> Option<Unit> {
    let (left, right) = (of(&binary.lhs), of(&binary.rhs));
    let is = |unit: Option<Unit>, base| unit.is_some_and(|unit| unit.base == base);
    match binary.op {
        op if op.is_comparison() && binary.return_bool => Some(Unit::NUMBER),
        // What remains are the left side's values, or where that is a plain number the right one's.
        op if op.is_comparison() || op.is_set() => left.or(right),
        BinaryOp::Sub if is(left, Base::Moment) && is(right, Base::Moment) => Some(Unit::of(Base::Seconds)),
        BinaryOp::Add | BinaryOp::Sub => match (left, right) {
            (Some(a), Some(b)) if a == b => Some(a),
            (Some(a), None) | (None, Some(a)) => Some(a),
            (None, None) => None,
            _ => Some(Unit::NUMBER),
        },
        BinaryOp::Mul => times(left, right, number(&binary.lhs), number(&binary.rhs)),
        BinaryOp::Div => match (left, right) {
            (Some(a), Some(b)) => Some(quotient(a, b)),
            // A unit over a number is that unit in another measure: bits, pages, millions.
            (_, None) if number(&binary.rhs).is_some() => Some(Unit::NUMBER),
            (a, None) => a,
            (None, Some(_)) => Some(Unit::NUMBER),
        },
        _ => Some(Unit::NUMBER),
    }
}

fn times(left: Option<Unit>, right: Option<Unit>, lhs: Option<f64>, rhs: Option<f64>) -> Option<Unit> {
    let (unit, factor) = match (left, right) {
        (Some(unit), None) => (unit, rhs),
        (None, Some(unit)) => (unit, lhs),
        (None, None) => return None,
        (Some(_), Some(_)) => return Some(Unit::NUMBER),
    };
    let is_share = unit == Unit::of(Base::Ratio) || unit == Unit { base: Base::Seconds, per_second: true };
    Some(if factor == Some(100.0) && is_share { Unit::of(Base::Percent) } else { Unit::NUMBER })
}

fn quotient(a: Unit, b: Unit) -> Unit {
    let bytes = |unit: Unit| matches!(unit.base, Base::Bytes | Base::NetworkBytes);
    match (a, b) {
        // How many of how many: a share, whatever is counted.
        (a, b) if a == b || bytes(a) && bytes(b) && a.per_second == b.per_second => {
            if a == Unit::NUMBER {
                Unit::NUMBER
            } else {
                Unit::of(Base::Ratio)
            }
        }
        // A mean of that measure: seconds over requests.
        (a, b) if b.base == Base::Number && a.base != Base::Number => {
            Unit { base: a.base, per_second: a.per_second && !b.per_second }
        }
        _ => Unit::NUMBER,
    }
}

fn number(expr: &Expr) -> Option<f64> {
    match expr.unwrapped() {
        Expr::Number(literal) => Some(literal.value),
        _ => None,
    }
}

fn per_second(unit: Unit) -> Unit {
    Unit { base: unit.base, per_second: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_give_units() {
        let unit = |base| Unit::of(base);
        let rate = |base| Unit { base, per_second: true };
        let cases = [
            ("node_memory_MemFree_bytes", unit(Base::Bytes)),
            ("topk(3, rate(node_network_receive_bytes_total[1m]))", rate(Base::NetworkBytes)),
            ("sum by (instance) (rate(node_cpu_seconds_total{mode!=\"idle\"}[1m]))", rate(Base::Seconds)),
            ("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", unit(Base::Ratio)),
            ("100 * (1 - node_filesystem_avail_bytes / node_filesystem_size_bytes)", unit(Base::Percent)),
            ("(1 - avg(rate(node_cpu_seconds_total{mode=\"idle\"}[1m]))) * 100", unit(Base::Percent)),
            ("time() - node_boot_time_seconds", unit(Base::Seconds)),
            ("rate(http_seconds_sum[5m]) / rate(http_seconds_count[5m])", unit(Base::Seconds)),
            ("histogram_quantile(0.9, rate(http_seconds_bucket[5m]))", unit(Base::Seconds)),
            ("count(node_memory_MemFree_bytes)", Unit::NUMBER),
            ("node_memory_MemFree_bytes > 1e9", unit(Base::Bytes)),
            ("node_memory_MemFree_bytes > bool 1e9", Unit::NUMBER),
            ("node_memory_MemFree_bytes / 1024", Unit::NUMBER),
            ("rate(node_context_switches_total[1m])", rate(Base::Number)),
            ("changes(node_boot_time_seconds[1h])", Unit::NUMBER),
            ("{__name__=\"a_bytes\"}", Unit::NUMBER),
            ("1 + 1", Unit::NUMBER),
            ("not a query (", Unit::NUMBER),
        ];
        for (query, expected) in cases {
            assert_eq!(of_query(query), expected, "{query}");
        }
    }
}
