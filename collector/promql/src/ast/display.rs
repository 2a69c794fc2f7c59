//! The canonical text of an expression: one line, parses back to the same tree.

use std::fmt::{self, Display, Formatter, Write as _};

use super::*;
use crate::labels::{METRIC_NAME, is_classic_label, is_classic_metric};
use crate::matcher::MatchOp;
use crate::text::{format_duration, format_plain, quote, quote_bytes};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Number(e) => e.fmt(f),
            Expr::String(e) => e.fmt(f),
            Expr::Vector(e) => e.fmt(f),
            Expr::Matrix(e) => e.fmt(f),
            Expr::Subquery(e) => e.fmt(f),
            Expr::Call(e) => {
                write!(f, "{}(", e.function.name)?;
                separated(f, &e.args)?;
                f.write_char(')')
            }
            Expr::Aggregate(e) => e.fmt(f),
            Expr::Binary(e) => e.fmt(f),
            Expr::Unary(e) => write!(f, "{}{}", if e.negative { '-' } else { '+' }, e.expr),
            Expr::Paren(e) => write!(f, "({})", e.expr),
        }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.duration {
            return f.write_str(&seconds(self.value).unwrap_or_else(|| format_plain(self.value)));
        }
        if self.value == f64::INFINITY {
            // Without the sign, which would be an operator of its own before `^`.
            return f.write_str("Inf");
        }
        f.write_str(&format_plain(self.value))
    }
}

impl Display for StringLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.bytes {
            Some(bytes) => f.write_str(&quote_bytes(bytes)),
            None => f.write_str(&quote(&self.value)),
        }
    }
}

impl VectorSelector {
    /// The selector without offset and `@`.
    fn write_series(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match &self.name {
            Some(name) if is_classic_metric(name) && !is_taken(name) => f.write_str(name)?,
            Some(name) => parts.push(quote(name)),
            None => {}
        }
        let named = |m: &Matcher| m.name == METRIC_NAME && m.op == MatchOp::Eq && Some(&m.value) == self.name.as_ref();
        let mut matchers: Vec<String> = self.matchers.iter().filter(|m| !named(m)).map(Matcher::to_string).collect();
        matchers.sort();
        parts.append(&mut matchers);
        if !parts.is_empty() || self.name.is_none() {
            write!(f, "{{{}}}", parts.join(","))?;
        }
        Ok(())
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write_series(f)?;
        write_when(f, self.at, self.offset.as_ref())
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.vector.write_series(f)?;
        write!(f, "[{}]", self.range)?;
        write_when(f, self.vector.at, self.vector.offset.as_ref())
    }
}

impl Display for Subquery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.expr, self.tail())
    }
}

impl Subquery {
    /// What stands behind the inner expression.
    pub(super) fn tail(&self) -> impl Display {
        fmt::from_fn(|f| {
            write!(f, "[{}:", self.range)?;
            if let Some(step) = &self.step {
                write!(f, "{step}")?;
            }
            f.write_char(']')?;
            write_when(f, self.at, self.offset.as_ref())
        })
    }
}

impl Aggregate {
    /// The operator and its labels, up to the parenthesis.
    pub(super) fn head(&self) -> impl Display {
        fmt::from_fn(|f| {
            f.write_str(self.op.as_str())?;
            if self.without {
                write!(f, " without {} ", Names(&self.grouping))?;
            } else if !self.grouping.is_empty() {
                write!(f, " by {} ", Names(&self.grouping))?;
            }
            Ok(())
        })
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.head())?;
        if let Some(param) = &self.param {
            write!(f, "{param}, ")?;
        }
        write!(f, "{})", self.expr)
    }
}

impl Binary {
    /// The operator with all that modifies it.
    pub(super) fn head(&self) -> impl Display {
        fmt::from_fn(|f| self.write_head(f))
    }

    fn write_head(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        if self.return_bool {
            f.write_str(" bool")?;
        }
        if let Some(matching) = &self.matching {
            let grouped = matches!(matching.cardinality, Cardinality::ManyToOne | Cardinality::OneToMany);
            if matching.on {
                write!(f, " on {}", Names(&matching.labels))?;
            } else if !matching.labels.is_empty() || grouped {
                write!(f, " ignoring {}", Names(&matching.labels))?;
            }
            match matching.cardinality {
                Cardinality::ManyToOne => write!(f, " group_left {}", Names(&matching.include))?,
                Cardinality::OneToMany => write!(f, " group_right {}", Names(&matching.include))?,
                Cardinality::OneToOne | Cardinality::ManyToMany => {}
            }
        }
        Ok(())
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.lhs, self.head(), self.rhs)
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            DurationExpr::Seconds(value) => match seconds(*value) {
                Some(text) => f.write_str(&text),
                None => f.write_str(&format_plain(*value)),
            },
            DurationExpr::Step => f.write_str("step()"),
            DurationExpr::Range => f.write_str("range()"),
            DurationExpr::Negative(inner) => write!(f, "-{inner}"),
            DurationExpr::Binary(op, sides) => write!(f, "{} {} {}", sides.0, op.as_str(), sides.1),
            DurationExpr::Min(sides) => write!(f, "min_of({}, {})", sides.0, sides.1),
            DurationExpr::Max(sides) => write!(f, "max_of({}, {})", sides.0, sides.1),
            DurationExpr::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

/// Whether a name means something else where a metric may stand.
fn is_taken(name: &str) -> bool {
    const TAKEN: [&str; 7] = ["bool", "group_left", "group_right", "ignoring", "inf", "nan", "on"];
    TAKEN.iter().any(|word| word.eq_ignore_ascii_case(name))
}

/// The duration text of a number of seconds, if it is a whole number of milliseconds.
fn seconds(value: f64) -> Option<String> {
    let ms = (value * 1000.0).round();
    (ms.abs() < 9e15 && ms / 1000.0 == value).then(|| format_duration(ms as i64))
}

fn write_when(f: &mut Formatter<'_>, at: Option<At>, offset: Option<&DurationExpr>) -> fmt::Result {
    match at {
        Some(At::TimeMs(ms)) => {
            let sign = if ms < 0 { "-" } else { "" };
            let ms = ms.unsigned_abs();
            write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)?;
        }
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
        None => {}
    }
    match offset {
        Some(offset) => write!(f, " offset {offset}"),
        None => Ok(()),
    }
}

fn separated(f: &mut Formatter<'_>, items: &[Expr]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

/// Label names in parentheses.
struct Names<'a>(&'a [String]);

impl Display for Names<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let quoted = |n: &String| if is_classic_label(n) { n.clone() } else { quote(n) };
        write!(f, "({})", self.0.iter().map(quoted).collect::<Vec<_>>().join(", "))
    }
}
