//! The type rules: what may be an argument or operand of what.

use super::*;
use crate::functions::Variadic;

/// Checks an operator and its operands. `at` is where the operator stands, `named` whether labels to match on were
/// named.
pub(super) fn binary(mut binary: Binary, at: Span, named: bool) -> Result<Binary> {
    let (left, right) = (binary.lhs.value_type(), binary.rhs.value_type());
    let whole = binary.lhs.span().to(binary.rhs.span());
    let op = binary.op;
    if binary.return_bool && !op.is_comparison() {
        return Err(Error::parse(at, "bool modifier can only be used on comparison operators"));
    }
    for (side, found) in [(&binary.lhs, left), (&binary.rhs, right)] {
        if !matches!(found, ValueType::Scalar | ValueType::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(Error::parse(side.span(), message));
        }
    }
    if op.is_comparison() && !binary.return_bool && left == ValueType::Scalar && right == ValueType::Scalar {
        return Err(Error::parse(at, "comparisons between scalars must use BOOL modifier"));
    }
    if left != ValueType::Vector || right != ValueType::Vector {
        if op.is_set() {
            let message = format!("set operator {:?} not allowed in binary scalar expression", op.as_str());
            return Err(Error::parse(whole, message));
        }
        if named && binary.matching.as_ref().is_some_and(|m| !m.labels.is_empty()) {
            return Err(Error::parse(whole, "vector matching only allowed between instant vectors"));
        }
        binary.matching = None;
        return Ok(binary);
    }
    let Some(matching) = &mut binary.matching else { return Ok(binary) };
    if matching.on
        && let Some(both) = matching.labels.iter().find(|l| matching.include.contains(l))
    {
        return Err(Error::parse(at, format!("label {both:?} must not occur in ON and GROUP clause at once")));
    }
    if op.is_set() {
        if matching.cardinality != Cardinality::OneToOne {
            return Err(Error::parse(whole, format!("no grouping allowed for {:?} operation", op.as_str())));
        }
        matching.cardinality = Cardinality::ManyToMany;
    }
    Ok(binary)
}

/// Checks the operand of a sign.
pub(super) fn unary(expr: &Expr, sign: Span) -> Result<()> {
    match expr.value_type() {
        ValueType::Scalar | ValueType::Vector => Ok(()),
        other => {
            let message = format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                other.as_str()
            );
            Err(Error::parse(sign, message))
        }
    }
}

/// Checks the number and types of a call's arguments.
pub(super) fn call(call: &Call) -> Result<()> {
    let (function, given) = (call.function, call.args.len());
    let wanted = function.args.len();
    let name = function.name;
    let wrong = match function.variadic {
        Variadic::No if given != wanted => format!("expected {wanted} argument(s)"),
        Variadic::Optional | Variadic::Repeated if given + 1 < wanted => {
            format!("expected at least {} argument(s)", wanted - 1)
        }
        Variadic::Optional if given > wanted => format!("expected at most {wanted} argument(s)"),
        _ => String::new(),
    };
    if !wrong.is_empty() {
        return Err(Error::parse(call.span, format!("{wrong} in call to {name:?}, got {given}")));
    }
    for (i, arg) in call.args.iter().enumerate() {
        let Some(want) = function.args.get(i).or(function.args.last()) else { break };
        expect(arg, *want, &format!("call to function {name:?}"))?;
    }
    Ok(())
}

/// Checks the operand and parameter of an aggregation.
pub(super) fn aggregate(aggregate: &Aggregate) -> Result<()> {
    expect(&aggregate.expr, ValueType::Vector, "aggregation expression")?;
    match (aggregate.op.param(), &aggregate.param) {
        (Some(want), Some(param)) => expect(param, want, "aggregation parameter"),
        _ => Ok(()),
    }
}

fn expect(expr: &Expr, want: ValueType, context: &str) -> Result<()> {
    let found = expr.value_type();
    if found == want {
        return Ok(());
    }
    let message = format!("expected type {} in {context}, got {}", want.as_str(), found.as_str());
    Err(Error::parse(expr.span(), message))
}
