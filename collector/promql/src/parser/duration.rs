//! What stands in brackets, behind `offset` and behind `@`.

use super::*;
use crate::durations::QueryTimes;
use crate::text::format_plain;

impl Parser<'_> {
    /// Reads `[range]` or `[range:step]` behind `expr`.
    pub(super) fn bracket(&mut self, expr: Expr) -> Result<Expr> {
        let open = self.step();
        let range_start = self.span();
        let range = self.duration_expression(0, "subquery or range selector")?;
        positive(&range, range_start)?;
        if self.eat(&Kind::Colon).is_some() {
            let step = match self.peek() {
                Kind::RightBracket => None,
                _ => {
                    let start = self.span();
                    let step = self.duration_expression(0, "subquery selector")?;
                    positive(&step, start)?;
                    Some(step)
                }
            };
            let close = self.expect(&Kind::RightBracket, "subquery selector", "\"]\"")?;
            if expr.value_type() != ValueType::Vector {
                let found = match expr.value_type() {
                    ValueType::Matrix => "matrix",
                    other => other.as_str(),
                };
                let message = format!("subquery is only allowed on instant vector, got {found} instead");
                return Err(Error::parse(expr.span(), message));
            }
            let span = expr.span().to(close);
            return Ok(Expr::Subquery(Box::new(Subquery { expr, range, step, offset: None, at: None, span })));
        }
        let close = self.expect(&Kind::RightBracket, "subquery or range", "\":\" or \"]\"")?;
        let wrong = |message| Err(Error::parse(open.to(close), message));
        match expr {
            Expr::Vector(vector) if vector.offset.is_some() => wrong("no offset modifiers allowed before range"),
            Expr::Vector(vector) if vector.at.is_some() => wrong("no @ modifiers allowed before range"),
            Expr::Vector(vector) => {
                let span = vector.span.to(close);
                Ok(Expr::Matrix(MatrixSelector { vector, range, span }))
            }
            _ => wrong("ranges only allowed for vector selectors"),
        }
    }

    /// Reads what follows `offset` and sets it.
    pub(super) fn offset(&mut self, expr: &mut Expr) -> Result<()> {
        let start = self.span();
        let negative = match self.peek() {
            Kind::Operator(BinaryOp::Sub) => true,
            Kind::Operator(BinaryOp::Add) => false,
            _ => return self.set_offset(expr, start, false),
        };
        self.step();
        self.set_offset(expr, start, negative)
    }

    fn set_offset(&mut self, expr: &mut Expr, start: Span, negative: bool) -> Result<()> {
        let mut offset = self.duration_primary("offset")?;
        let end = self.tokens[self.at - 1].span;
        if negative {
            offset = DurationExpr::Negative(Box::new(offset));
        }
        if offset.is_constant() {
            offset.ms(QueryTimes::default()).map_err(|m| Error::parse(start.to(end), m))?;
        }
        let (slot, span) = match expr {
            Expr::Vector(e) => (&mut e.offset, &mut e.span),
            Expr::Matrix(e) => (&mut e.vector.offset, &mut e.span),
            Expr::Subquery(e) => {
                let e = &mut **e;
                (&mut e.offset, &mut e.span)
            }
            _ => {
                let message = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return Err(Error::parse(expr.span(), message));
            }
        };
        if slot.is_some() {
            return Err(Error::parse(*span, "offset may not be set multiple times"));
        }
        *slot = Some(offset);
        *span = span.to(end);
        Ok(())
    }

    /// Reads what follows `@` and sets it.
    pub(super) fn at_modifier(&mut self, expr: &mut Expr) -> Result<()> {
        let at = if matches!(self.peek(), Kind::Word(w) if ["start", "end"].iter().any(|k| k.eq_ignore_ascii_case(w))) {
            let at = if self.is_word("start") { At::Start } else { At::End };
            self.step();
            self.expect(&Kind::LeftParen, "@", "timestamp")?;
            self.expect(&Kind::RightParen, "@", "timestamp")?;
            at
        } else {
            let negative = matches!(self.peek(), Kind::Operator(BinaryOp::Sub));
            if matches!(self.peek(), Kind::Operator(BinaryOp::Sub | BinaryOp::Add)) {
                self.step();
            }
            let value = match self.peek() {
                Kind::Number(value) | Kind::Duration(value) => *value,
                Kind::Word(w) if w.eq_ignore_ascii_case("inf") => f64::INFINITY,
                Kind::Word(w) if w.eq_ignore_ascii_case("nan") => f64::NAN,
                _ => return Err(self.unexpected("@", "timestamp")),
            };
            self.step();
            let value = if negative { -value } else { value };
            let ms = (value * 1000.0).round();
            if ms.is_nan() || ms.abs() > MAX_TIME_MS as f64 {
                let shown = if value.is_finite() { format!("{value:.6}") } else { format_plain(value) };
                let message = format!("timestamp out of bounds for @ modifier: {shown}");
                return Err(Error::parse(expr.span(), message));
            }
            At::TimeMs(ms as i64)
        };
        let end = self.tokens[self.at - 1].span;
        let (slot, span) = match expr {
            Expr::Vector(e) => (&mut e.at, &mut e.span),
            Expr::Matrix(e) => (&mut e.vector.at, &mut e.span),
            Expr::Subquery(e) => {
                let e = &mut **e;
                (&mut e.at, &mut e.span)
            }
            _ => {
                let message =
                    "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return Err(Error::parse(expr.span(), message));
            }
        };
        if slot.is_some() {
            return Err(Error::parse(*span, "@ <timestamp> may not be set multiple times"));
        }
        *slot = Some(at);
        *span = span.to(end);
        Ok(())
    }

    /// A duration with operators that bind at least as strongly as `min`.
    fn duration_expression(&mut self, min: u8, context: &str) -> Result<DurationExpr> {
        self.deeper(|p| {
            let mut lhs = if matches!(p.peek(), Kind::Operator(BinaryOp::Add | BinaryOp::Sub)) {
                let negative = p.peek() == &Kind::Operator(BinaryOp::Sub);
                p.step();
                let inner = p.duration_expression(BinaryOp::Mul.precedence() + 1, context)?;
                if negative { DurationExpr::Negative(Box::new(inner)) } else { inner }
            } else {
                p.duration_primary(context)?
            };
            let mut links = 0;
            while let Kind::Operator(op) = *p.peek() {
                if op.is_comparison() || op.precedence() < min {
                    break;
                }
                links += 1;
                p.bounded(p.depth + links)?;
                p.step();
                let next = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
                let rhs = p.duration_expression(next, context)?;
                lhs = DurationExpr::Binary(op, Box::new((lhs, rhs)));
            }
            Ok(lhs)
        })
    }

    /// A literal, a call or something in parentheses.
    fn duration_primary(&mut self, context: &str) -> Result<DurationExpr> {
        let word = match *self.peek() {
            Kind::Number(value) | Kind::Duration(value) => {
                self.step();
                return Ok(DurationExpr::Seconds(value));
            }
            Kind::LeftParen => {
                self.step();
                let inner = self.duration_expression(0, context)?;
                self.expect(&Kind::RightParen, "duration expression", "\")\"")?;
                return Ok(DurationExpr::Paren(Box::new(inner)));
            }
            // A number, and too long for a duration.
            Kind::Word(word) if is_number(word) => {
                self.step();
                let infinite = word.eq_ignore_ascii_case("inf");
                return Ok(DurationExpr::Seconds(if infinite { f64::INFINITY } else { f64::NAN }));
            }
            Kind::Word(word) => word.to_ascii_lowercase(),
            _ => return Err(self.unexpected(context, "number, duration, step(), or range()")),
        };
        if !["step", "range", "min_of", "max_of"].contains(&word.as_str()) {
            return Err(self.unexpected(context, "number, duration, step(), or range()"));
        }
        self.step();
        self.expect(&Kind::LeftParen, "duration expression", "\"(\"")?;
        let expr = match word.as_str() {
            "step" => DurationExpr::Step,
            "range" => DurationExpr::Range,
            _ => {
                let a = self.duration_expression(0, context)?;
                self.expect(&Kind::Comma, "duration expression", "\",\"")?;
                let sides = Box::new((a, self.duration_expression(0, context)?));
                if word == "min_of" { DurationExpr::Min(sides) } else { DurationExpr::Max(sides) }
            }
        };
        self.expect(&Kind::RightParen, "duration expression", "\")\"")?;
        Ok(expr)
    }
}

/// Refuses a length that is known to be zero or less.
fn positive(duration: &DurationExpr, at: Span) -> Result<()> {
    if duration.is_constant() {
        duration.positive_ms(QueryTimes::default()).map_err(|message| Error::parse(at, message))?;
    }
    Ok(())
}
