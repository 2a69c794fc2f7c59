//! A query's tree as JSON, in the shape that Prometheus' `/api/v1/parse_query` gives and its interface's tree view takes.

use pitwatch_promql::ast::{AggregateOp, At, Binary, Cardinality, DurationExpr, Expr, ValueType, VectorSelector};
use pitwatch_promql::{Function, Matcher, Variadic, format_value};
use serde_json::{Value, json};

/// The tree. Its depth is bounded by the parser's.
pub(super) fn json(expr: &Expr) -> Value {
    match expr {
        Expr::Number(number) => json!({ "type": "numberLiteral", "val": number_text(number.value) }),
        Expr::String(text) => json!({ "type": "stringLiteral", "val": text.value }),
        Expr::Paren(paren) => json!({ "type": "parenExpr", "expr": json(&paren.expr) }),
        Expr::Unary(unary) => {
            json!({ "type": "unaryExpr", "op": if unary.negative { "-" } else { "+" }, "expr": json(&unary.expr) })
        }
        Expr::Vector(selector) => selector_json("vectorSelector", selector),
        Expr::Matrix(matrix) => {
            let mut tree = selector_json("matrixSelector", &matrix.vector);
            tree["range"] = json!(literal_ms(Some(&matrix.range)));
            tree
        }
        Expr::Subquery(subquery) => {
            let (timestamp, start_or_end) = at_json(subquery.at);
            json!({
                "type": "subquery",
                "expr": json(&subquery.expr),
                "range": literal_ms(Some(&subquery.range)),
                "step": literal_ms(subquery.step.as_ref()),
                "offset": literal_ms(subquery.offset.as_ref()),
                "timestamp": timestamp,
                "startOrEnd": start_or_end,
            })
        }
        Expr::Call(call) => json!({
            "type": "call",
            "func": function_json(call.function),
            "args": call.args.iter().map(json).collect::<Vec<_>>(),
        }),
        Expr::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": AggregateOp::as_str(aggregate.op),
            "expr": json(&aggregate.expr),
            "param": aggregate.param.as_ref().map(json),
            "grouping": aggregate.grouping,
            "without": aggregate.without,
        }),
        Expr::Binary(binary) => binary_json(binary),
    }
}

fn binary_json(binary: &Binary) -> Value {
    let matching = binary.matching.as_ref().map(|matching| {
        let cardinality = match matching.cardinality {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        };
        json!({
            "card": cardinality,
            "labels": matching.labels,
            "on": matching.on,
            "include": matching.include,
            "fillValues": { "lhs": null, "rhs": null },
        })
    });
    json!({
        "type": "binaryExpr",
        "op": binary.op.as_str(),
        "lhs": json(&binary.lhs),
        "rhs": json(&binary.rhs),
        "matching": matching,
        "bool": binary.return_bool,
    })
}

fn selector_json(kind: &str, selector: &VectorSelector) -> Value {
    let matcher = |m: &Matcher| json!({ "name": m.name, "value": m.value, "type": m.op.as_str() });
    let (timestamp, start_or_end) = at_json(selector.at);
    json!({
        "type": kind,
        "name": selector.name.as_deref().unwrap_or_default(),
        "offset": literal_ms(selector.offset.as_ref()),
        "matchers": selector.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "timestamp": timestamp,
        "startOrEnd": start_or_end,
        "anchored": false,
        "smoothed": false,
    })
}

fn at_json(at: Option<At>) -> (Option<i64>, Option<&'static str>) {
    match at {
        None => (None, None),
        Some(At::TimeMs(ms)) => (Some(ms), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
    }
}

/// The milliseconds of a duration that is written out; what must be computed is 0 until it is evaluated.
fn literal_ms(duration: Option<&DurationExpr>) -> i64 {
    match duration {
        Some(DurationExpr::Seconds(seconds)) => (seconds * 1000.0).round() as i64,
        Some(DurationExpr::Negative(inner)) if matches!(**inner, DurationExpr::Seconds(_)) => -literal_ms(Some(inner)),
        _ => 0,
    }
}

fn function_json(function: &Function) -> Value {
    let variadic = match function.variadic {
        Variadic::No => 0,
        Variadic::Optional => 1,
        Variadic::Repeated => -1,
    };
    json!({
        "name": function.name,
        "argTypes": function.args.iter().copied().map(type_name).collect::<Vec<_>>(),
        "variadic": variadic,
        "returnType": type_name(function.returns),
    })
}

fn type_name(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
    }
}

/// Plain digits, however many.
fn number_text(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { format_value(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(query: &str) -> Value {
        json(&pitwatch_promql::parse(query).unwrap())
    }

    fn matcher(name: &str, kind: &str, value: &str) -> Value {
        json!({ "name": name, "type": kind, "value": value })
    }

    #[test]
    fn selectors_have_prometheus_shape() {
        assert_eq!(
            tree("foo{bar=~\"x|y\"} @ 1.5 offset -5m"),
            json!({
                "type": "vectorSelector", "name": "foo", "offset": -300_000, "timestamp": 1500, "startOrEnd": null,
                "matchers": [matcher("bar", "=~", "x|y"), matcher("__name__", "=", "foo")],
                "anchored": false, "smoothed": false,
            })
        );
        let window = tree("foo[5m] @ end()");
        assert_eq!(
            (&window["type"], &window["range"], &window["startOrEnd"]),
            (&json!("matrixSelector"), &json!(300_000), &json!("end"))
        );
        let sub = tree("max_over_time(foo[1h:30s] offset 1m)")["args"][0].clone();
        assert_eq!((&sub["range"], &sub["step"], &sub["offset"]), (&json!(3_600_000), &json!(30_000), &json!(60_000)));
        assert_eq!(sub["expr"]["name"], "foo");
    }

    #[test]
    fn operators_and_calls_have_prometheus_shape() {
        let binary = tree("a * on (x) group_left (y) -b");
        assert_eq!(
            binary["matching"],
            json!({ "card": "many-to-one", "labels": ["x"], "on": true, "include": ["y"],
                "fillValues": { "lhs": null, "rhs": null } })
        );
        assert_eq!((&binary["op"], &binary["rhs"]["type"]), (&json!("*"), &json!("unaryExpr")));
        assert_eq!(tree("1 > bool 2")["matching"], Value::Null);
        assert_eq!(tree("1 > bool 2")["bool"], true);
        let top = tree("topk by (a) (3, b)");
        assert_eq!((&top["op"], &top["param"]["val"], &top["grouping"]), (&json!("topk"), &json!("3"), &json!(["a"])));
        assert_eq!(
            tree("round(a, 5)")["func"],
            json!({ "name": "round", "argTypes": ["vector", "scalar"], "variadic": 1, "returnType": "vector" })
        );
        assert_eq!(tree("label_join(a, \"b\", \"c\")")["func"]["variadic"], -1);
        assert_eq!(tree("(-Inf)")["expr"], json!({ "type": "numberLiteral", "val": "-Inf" }));
    }
}
