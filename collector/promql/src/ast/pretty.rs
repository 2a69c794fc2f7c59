//! An expression over several lines, as Prometheus' `format_query` writes it: what fits into a line stays on one, what
//! does not is split at its outermost operator, call or parenthesis and indented.

use super::*;

/// What is longer than this is split.
const LINE_MAX_BYTES: usize = 100;
const INDENT: &str = "  ";

impl Expr {
    /// The canonical text, over several lines where it is long. It parses back to the same tree.
    pub fn pretty(&self) -> String {
        self.at_level(0)
    }

    fn at_level(&self, level: usize) -> String {
        let indent = INDENT.repeat(level);
        let whole = self.to_string();
        if whole.len() <= LINE_MAX_BYTES && !matches!(self, Expr::Unary(_)) {
            return format!("{indent}{whole}");
        }
        match self {
            Expr::Aggregate(e) => {
                let param = e.param.as_ref().map_or(String::new(), |p| format!("{},\n", p.at_level(level + 1)));
                format!("{indent}{}(\n{param}{}\n{indent})", e.head(), e.expr.at_level(level + 1))
            }
            Expr::Binary(e) => {
                let (lhs, rhs) = (e.lhs.at_level(level + 1), e.rhs.at_level(level + 1));
                format!("{lhs}\n{indent}{}\n{rhs}", e.head())
            }
            Expr::Call(e) => {
                let args: Vec<String> = e.args.iter().map(|arg| arg.at_level(level + 1)).collect();
                format!("{indent}{}(\n{}\n{indent})", e.function.name, args.join(",\n"))
            }
            Expr::Paren(e) => format!("{indent}(\n{}\n{indent})", e.expr.at_level(level + 1)),
            Expr::Subquery(e) => format!("{}{}", e.expr.at_level(level), e.tail()),
            Expr::Unary(e) => {
                let sign = if e.negative { '-' } else { '+' };
                format!("{indent}{sign}{}", e.expr.at_level(level).trim_start())
            }
            Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => format!("{indent}{whole}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::parse;

    #[test]
    fn what_is_long_is_split_at_its_outermost_joint() {
        for short in ["sum by (job) (up)", "-a", "a / on (b) group_left (c) d", "max_over_time(rate(a[5m])[1h:1m])"] {
            assert_eq!(parse(short).unwrap().pretty(), short);
        }
        let long = "100 * (1 - avg by (instance, region) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m]))) > bool on \
            (instance) group_left (team) -topk(3, label_replace(owner, \"a\", \"$1\", \"b\", \"(.*)\"))";
        assert_eq!(
            parse(long).unwrap().pretty(),
            "  100 * (1 - avg by (instance, region) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m])))\n> bool on \
             (instance) group_left (team)\n  -topk(3, label_replace(owner, \"a\", \"$1\", \"b\", \"(.*)\"))"
        );
    }
}
