//! Which expressions can be evaluated an instance at a time.
//!
//! Of such an expression each row carries the `instance` of the series that it is made of, and is made of no other
//! instance's: what it gives for one host follows from that host's series alone. Thresholds, rates, ratios, `and` and
//! `or` of one host's series are such, and aggregations that keep the host apart.

use pitwatch_alerting::depends::INSTANCE;
use pitwatch_promql::Expr;
use pitwatch_promql::ast::{Aggregate, AggregateOp, Binary, Call, Matching, ValueType};

/// What an expression's value is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// No series at all.
    Constant,
    /// One instance's series a row.
    Instance,
    /// Anything.
    Whole,
}

/// Whether an expression can be evaluated an instance at a time.
#[must_use]
pub fn is_by_instance(expr: &Expr) -> bool {
    reach(expr) == Reach::Instance
}

fn reach(expr: &Expr) -> Reach {
    match expr {
        Expr::Number(_) | Expr::String(_) => Reach::Constant,
        Expr::Vector(_) | Expr::Matrix(_) => Reach::Instance,
        Expr::Subquery(e) => reach(&e.expr),
        Expr::Unary(e) => reach(&e.expr),
        Expr::Paren(e) => reach(&e.expr),
        Expr::Call(e) => of_call(e),
        Expr::Aggregate(e) => of_aggregate(e),
        Expr::Binary(e) => of_binary(e),
    }
}

/// What is made of all of these.
fn joined(parts: impl IntoIterator<Item = Reach>) -> Reach {
    parts.into_iter().fold(Reach::Constant, |all, one| match (all, one) {
        (Reach::Whole, _) | (_, Reach::Whole) => Reach::Whole,
        (Reach::Instance, _) | (_, Reach::Instance) => Reach::Instance,
        _ => Reach::Constant,
    })
}

fn of_call(call: &Call) -> Reach {
    let makes_instance = || matches!(call.args.get(1), Some(Expr::String(name)) if name.value == INSTANCE);
    match call.function.name {
        // Of all series they make one value, or say that there is none.
        "absent" | "absent_over_time" | "scalar" => Reach::Whole,
        "label_replace" | "label_join" if makes_instance() => Reach::Whole,
        _ => match joined(call.args.iter().map(reach)) {
            // A row that no series stands behind: `vector(1)`, `hour()`.
            Reach::Constant if call.function.returns == ValueType::Vector => Reach::Whole,
            reach => reach,
        },
    }
}

fn of_aggregate(aggregate: &Aggregate) -> Reach {
    let names_it = aggregate.grouping.iter().any(|name| name == INSTANCE);
    let keeps_it = names_it != aggregate.without;
    let makes_it = aggregate.op == AggregateOp::CountValues
        && matches!(&aggregate.param, Some(Expr::String(name)) if name.value == INSTANCE);
    if !keeps_it || makes_it {
        return Reach::Whole;
    }
    joined(aggregate.param.iter().chain([&aggregate.expr]).map(reach))
}

fn of_binary(binary: &Binary) -> Reach {
    let reach = joined([reach(&binary.lhs), reach(&binary.rhs)]);
    let is_vector = |expr: &Expr| expr.value_type() == ValueType::Vector;
    let between_vectors = is_vector(&binary.lhs) && is_vector(&binary.rhs);
    if between_vectors && !binary.matching.as_ref().is_none_or(within_instance) { Reach::Whole } else { reach }
}

/// Whether only series of one instance find each other.
fn within_instance(matching: &Matching) -> bool {
    let names_it = matching.labels.iter().any(|name| name == INSTANCE);
    names_it == matching.on && matching.include.iter().all(|name| name != INSTANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(text: &str) -> bool {
        is_by_instance(&pitwatch_promql::parse(text).unwrap())
    }

    #[test]
    fn what_one_host_decides() {
        for text in [
            "a > 1",
            "100 * a / b < 5",
            "rate(a[5m]) > 0.5 and on(instance, device) b > time() - 60",
            "a / ignoring(mode) group_left b > 1",
            "sum by (instance, job) (rate(a[1m])) > 1",
            "avg without (cpu) (a) > 1 unless b == 1",
            "max_over_time((a - b)[1h:1m]) > 1",
            "predict_linear(a[6h], 86400) < 0 and a / b < 0.1",
            "histogram_quantile(0.9, sum by (instance, le) (rate(a[5m]))) > 1",
            "label_replace(a, \"disk\", \"$1\", \"device\", \"(.*)\") > 1",
            "topk by (instance) (3, a) > -1",
            "-a < 1 or (b) > 2",
        ] {
            assert!(is(text), "{text}");
        }
    }

    #[test]
    fn what_it_takes_all_of_them_to_decide() {
        for text in [
            "1 > bool 0",
            "vector(1)",
            "hour() > 8",
            "absent(a)",
            "a > scalar(b)",
            "sum(a) > 1",
            "sum by (job) (a) > 1",
            "max without (instance) (a)",
            "a > on(job) b",
            "a > ignoring(instance) b",
            "a * ignoring(job) group_left(instance) b",
            "a and on() vector(1)",
            "a or vector(0)",
            "count_values by (instance) (\"instance\", a)",
            "label_replace(a, \"instance\", \"$1\", \"node\", \"(.*)\") > 1",
            "label_join(a, \"instance\", \"-\", \"x\", \"y\") > 1",
            "topk(3, a) > 1",
            "sum by (instance) (a / on(job) group_left b) > 1",
        ] {
            assert!(!is(text), "{text}");
        }
    }
}
