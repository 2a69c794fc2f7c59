//! The parser: text in, checked expression or one positioned error out. Owns the grammar; tokens are made by `lexer`,
//! types are checked by `check`, durations are read by `duration`. Nesting and length are bounded, so that no text can
//! exhaust the stack.

mod check;
mod duration;
mod lexer;

use crate::ast::*;
use crate::error::{Error, Result};
use crate::functions::Function;
use crate::labels::METRIC_NAME;
use crate::matcher::{MatchOp, Matcher};
use lexer::{Kind, Token};

/// The longest query, in bytes.
pub const MAX_QUERY_BYTES: usize = 256 << 10;
/// The deepest tree of expressions.
pub const MAX_DEPTH: u32 = 200;
/// How many regular expressions a query may have; each can take a few MiB.
pub(crate) const MAX_REGEXES: usize = 100;
/// The latest and, negated, the earliest time that `@` may name, in milliseconds.
pub(crate) const MAX_TIME_MS: i64 = 1 << 53;

/// Reads a query.
pub fn parse(input: &str) -> Result<Expr> {
    if input.len() > MAX_QUERY_BYTES {
        let message = format!("query is {} bytes long, at most {MAX_QUERY_BYTES} are allowed", input.len());
        return Err(Error::parse(Span { line: 1, column: 1, ..Span::default() }, message));
    }
    let mut parser = Parser { query: input, tokens: lexer::tokens(input), at: 0, depth: 0, regexes: 0 };
    if parser.peek() == &Kind::End {
        return Err(Error::parse(parser.span(), "no expression found in input"));
    }
    let (expr, _) = parser.expression(0)?;
    match parser.peek() {
        Kind::End => Ok(expr),
        _ => Err(parser.unexpected("", "")),
    }
}

/// Reads a series selector such as `up{job="x"}`, as `match[]` of the HTTP API takes it.
pub fn parse_selector(input: &str) -> Result<Vec<Matcher>> {
    match parse(input)? {
        Expr::Vector(VectorSelector { matchers, offset: None, at: None, .. }) => Ok(matchers),
        other => Err(Error::parse(other.span(), "a plain series selector is needed")),
    }
}

/// An expression and how deep it is.
type Deep = (Expr, u32);

struct Parser<'q> {
    query: &'q str,
    tokens: Vec<Token<'q>>,
    at: usize,
    /// How deep the recursion is.
    depth: u32,
    regexes: usize,
}

impl<'q> Parser<'q> {
    fn token(&self) -> &Token<'q> {
        // The last token ends the query and is never stepped over.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &Kind<'q> {
        &self.token().kind
    }

    fn peek_second(&self) -> &Kind<'q> {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    fn span(&self) -> Span {
        self.token().span
    }

    fn step(&mut self) -> Span {
        let span = self.span();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        span
    }

    /// Steps over the token if it is of this kind.
    fn eat(&mut self, kind: &Kind<'_>) -> Option<Span> {
        (self.peek() == kind).then(|| self.step())
    }

    /// Steps over the token if it is this word, in any case.
    fn eat_word(&mut self, word: &str) -> Option<Span> {
        self.is_word(word).then(|| self.step())
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Word(w) if w.eq_ignore_ascii_case(word))
    }

    fn expect(&mut self, kind: &Kind<'_>, context: &str, expected: &str) -> Result<Span> {
        self.eat(kind).ok_or_else(|| self.unexpected(context, expected))
    }

    /// The error that the token here does not belong here.
    fn unexpected(&self, context: &str, expected: &str) -> Error {
        if let Kind::Bad(reason) = self.peek() {
            return Error::parse(self.span(), reason.clone());
        }
        let span = self.span();
        let text = self.query.get(span.start as usize..span.end as usize).unwrap_or_default();
        let mut message = format!("unexpected {}", self.peek().describe(text));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        Error::parse(self.span(), message)
    }

    /// Runs `inner` one level deeper.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        self.bounded(self.depth)?;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn bounded(&self, depth: u32) -> Result<u32> {
        if depth > MAX_DEPTH {
            return Err(Error::parse(self.span(), format!("expression is nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(depth)
    }

    /// Reads operands joined by operators that bind at least as strongly as `min`.
    fn expression(&mut self, min: u8) -> Result<Deep> {
        self.deeper(|p| {
            let mut lhs = p.operand()?;
            while let Some(op) = p.binary_operator().filter(|op| op.precedence() >= min) {
                let at = p.step();
                let (return_bool, matching, grouped) = p.binary_modifiers()?;
                // Only `^` groups to the right.
                let next = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
                let rhs = p.expression(next)?;
                let depth = p.bounded(lhs.1.max(rhs.1) + 1)?;
                let binary = Binary { op, lhs: lhs.0, rhs: rhs.0, return_bool, matching: Some(matching) };
                lhs = (Expr::Binary(Box::new(check::binary(binary, at, grouped)?)), depth);
            }
            Ok(lhs)
        })
    }

    fn binary_operator(&self) -> Option<BinaryOp> {
        match self.peek() {
            Kind::Operator(op) => Some(*op),
            Kind::Word(word) => [BinaryOp::And, BinaryOp::Or, BinaryOp::Unless, BinaryOp::Atan2]
                .into_iter()
                .find(|op| op.as_str().eq_ignore_ascii_case(word)),
            _ => None,
        }
    }

    /// `bool`, `on (…) group_left (…)` and the like. The last result is whether labels were named at all.
    fn binary_modifiers(&mut self) -> Result<(bool, Matching, bool)> {
        let return_bool = self.is_word("bool") && self.eat_word("bool").is_some();
        let mut matching = Matching::default();
        let on = self.is_word("on");
        if !(on || self.is_word("ignoring")) {
            return Ok((return_bool, matching, false));
        }
        self.step();
        matching.on = on;
        matching.labels = self.names()?;
        for (word, cardinality) in [("group_left", Cardinality::ManyToOne), ("group_right", Cardinality::OneToMany)] {
            if self.eat_word(word).is_some() {
                matching.cardinality = cardinality;
                if self.peek() == &Kind::LeftParen {
                    matching.include = self.names()?;
                }
                break;
            }
        }
        Ok((return_bool, matching, true))
    }

    /// `(a, b)`
    fn names(&mut self) -> Result<Vec<String>> {
        const CONTEXT: &str = "grouping opts";
        self.expect(&Kind::LeftParen, CONTEXT, "\"(\"")?;
        let mut names = Vec::new();
        loop {
            if self.eat(&Kind::RightParen).is_some() {
                return Ok(names);
            }
            match self.peek() {
                Kind::Word(word) if !word.contains(':') && !is_number(word) => names.push((*word).to_owned()),
                Kind::Text(bytes) => match std::str::from_utf8(bytes) {
                    Ok(name) if !name.is_empty() => names.push(name.to_owned()),
                    _ => return Err(self.unexpected(CONTEXT, "label")),
                },
                _ => return Err(self.unexpected(CONTEXT, "label")),
            }
            self.step();
            if self.eat(&Kind::Comma).is_none() && self.peek() != &Kind::RightParen {
                return Err(self.unexpected(CONTEXT, "\",\" or \")\""));
            }
        }
    }

    /// An operand with its sign, or with the ranges, offsets and times behind it.
    fn operand(&mut self) -> Result<Deep> {
        let negative = match self.peek() {
            Kind::Operator(BinaryOp::Sub) => true,
            Kind::Operator(BinaryOp::Add) => false,
            _ => {
                let primary = self.primary()?;
                return self.postfix(primary);
            }
        };
        let sign = self.step();
        let (expr, depth) = self.expression(BinaryOp::Pow.precedence())?;
        if let Expr::Number(mut number) = expr {
            number.value = if negative { -number.value } else { number.value };
            number.span = sign.to(number.span);
            return Ok((Expr::Number(number), depth));
        }
        check::unary(&expr, sign)?;
        let span = sign.to(expr.span());
        Ok((Expr::Unary(Box::new(Unary { negative, expr, span })), self.bounded(depth + 1)?))
    }

    fn primary(&mut self) -> Result<Deep> {
        let span = self.span();
        match self.peek().clone() {
            Kind::Number(value) => {
                self.step();
                Ok((Expr::Number(NumberLiteral { value, duration: false, span }), 1))
            }
            Kind::Duration(value) => {
                self.step();
                Ok((Expr::Number(NumberLiteral { value, duration: true, span }), 1))
            }
            Kind::Text(bytes) => {
                self.step();
                let (value, bytes) = match String::from_utf8(bytes) {
                    Ok(value) => (value, None),
                    Err(e) => (String::from_utf8_lossy(e.as_bytes()).into_owned(), Some(e.into_bytes())),
                };
                Ok((Expr::String(StringLiteral { value, bytes, span }), 1))
            }
            Kind::LeftParen => {
                self.step();
                let (expr, depth) = self.expression(0)?;
                let close = self.expect(&Kind::RightParen, "", "")?;
                Ok((Expr::Paren(Box::new(Paren { expr, span: span.to(close) })), self.bounded(depth + 1)?))
            }
            Kind::LeftBrace => Ok((self.selector(None, span)?, 1)),
            Kind::Word(word) => self.word(word, span),
            _ => Err(self.unexpected("", "")),
        }
    }

    /// A number, aggregation, function call or metric.
    fn word(&mut self, word: &str, span: Span) -> Result<Deep> {
        if is_number(word) {
            self.step();
            let value = if word.eq_ignore_ascii_case("inf") { f64::INFINITY } else { f64::NAN };
            return Ok((Expr::Number(NumberLiteral { value, duration: false, span }), 1));
        }
        let next_groups =
            matches!(self.peek_second(), Kind::Word(w) if ["by", "without"].iter().any(|k| k.eq_ignore_ascii_case(w)));
        let next_calls = self.peek_second() == &Kind::LeftParen;
        if let Some(op) = AggregateOp::named(word).filter(|_| next_calls || next_groups) {
            self.step();
            return self.aggregate(op, span);
        }
        if lexer::RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(word)) {
            return Err(self.unexpected("", ""));
        }
        self.step();
        if !next_calls || lexer::NO_FUNCTIONS.iter().any(|other| other.eq_ignore_ascii_case(word)) {
            return Ok((self.selector(Some(word.to_owned()), span)?, 1));
        }
        let (args, depth, close) = self.arguments()?;
        let Some(function) = Function::named(word) else {
            return Err(Error::parse(span, format!("unknown function with name {word:?}")));
        };
        let call = Call { function, args, span: span.to(close) };
        check::call(&call)?;
        Ok((Expr::Call(call), self.bounded(depth + 1)?))
    }

    /// `(a, b)`; also tells how deep the deepest argument is.
    fn arguments(&mut self) -> Result<(Vec<Expr>, u32, Span)> {
        self.expect(&Kind::LeftParen, "aggregation", "")?;
        let (mut args, mut depth) = (Vec::new(), 0);
        if let Some(close) = self.eat(&Kind::RightParen) {
            return Ok((args, depth, close));
        }
        loop {
            let (arg, deep) = self.expression(0)?;
            args.push(arg);
            depth = depth.max(deep);
            if let Some(close) = self.eat(&Kind::RightParen) {
                return Ok((args, depth, close));
            }
            let comma = self.expect(&Kind::Comma, "", "")?;
            if self.peek() == &Kind::RightParen {
                return Err(Error::parse(comma, "trailing commas not allowed in function call args"));
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp, start: Span) -> Result<Deep> {
        let mut grouping = self.grouping()?;
        let (mut args, depth, mut end) = self.arguments()?;
        if grouping.is_none() {
            grouping = self.grouping()?;
            if grouping.is_some() {
                end = self.tokens[self.at - 1].span;
            }
        }
        let (grouping, without) = grouping.unwrap_or_default();
        let span = start.to(end);
        let wanted = if op.param().is_some() { 2 } else { 1 };
        if args.is_empty() {
            return Err(Error::parse(span, "no arguments for aggregate expression provided"));
        }
        if args.len() != wanted {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            return Err(Error::parse(span, message));
        }
        let expr = args.remove(wanted - 1);
        let aggregate = Aggregate { op, expr, param: args.pop(), grouping, without, span };
        check::aggregate(&aggregate)?;
        Ok((Expr::Aggregate(Box::new(aggregate)), self.bounded(depth + 1)?))
    }

    /// `by (…)` or `without (…)`, and whether it is the latter.
    fn grouping(&mut self) -> Result<Option<(Vec<String>, bool)>> {
        for (word, without) in [("by", false), ("without", true)] {
            if self.eat_word(word).is_some() {
                return Ok(Some((self.names()?, without)));
            }
        }
        Ok(None)
    }

    /// The braces of a selector, if there are any.
    fn selector(&mut self, name: Option<String>, start: Span) -> Result<Expr> {
        let mut selector = VectorSelector { name: None, matchers: Vec::new(), offset: None, at: None, span: start };
        let mut quoted_name = None;
        if self.eat(&Kind::LeftBrace).is_some() {
            loop {
                if let Some(close) = self.eat(&Kind::RightBrace) {
                    selector.span = start.to(close);
                    break;
                }
                self.condition(&mut selector, &mut quoted_name)?;
                if self.eat(&Kind::Comma).is_none() && self.peek() != &Kind::RightBrace {
                    return Err(self.unexpected("label matching", "\",\" or \"}\""));
                }
            }
        }
        let twice = |a: &str, b: &str| {
            Err(Error::parse(selector.span, format!("metric name must not be set twice: {a:?} or {b:?}")))
        };
        selector.name = match (name, quoted_name) {
            (Some(a), Some(b)) => return twice(&a, &b),
            (a, b) => a.or(b),
        };
        if let Some(name) = &selector.name {
            if let Some(other) = selector.matchers.iter().find(|m| m.name == METRIC_NAME) {
                return twice(name, &other.value);
            }
            let matcher = Matcher::new(METRIC_NAME, MatchOp::Eq, name.as_str());
            selector.matchers.extend(matcher.ok());
        }
        if selector.matchers.iter().all(|m| m.matches("")) {
            let message = "vector selector must contain at least one non-empty matcher";
            return Err(Error::parse(selector.span, message));
        }
        Ok(Expr::Vector(selector))
    }

    /// `name="value"`, or a metric name in quotes.
    fn condition(&mut self, selector: &mut VectorSelector, quoted_name: &mut Option<String>) -> Result<()> {
        const CONTEXT: &str = "label matching";
        let (name, quoted) = match self.peek() {
            Kind::Word(word) => ((*word).to_owned(), false),
            Kind::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !text.is_empty() => (text.to_owned(), true),
                _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
            },
            _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
        };
        let start = self.step();
        let op = match self.peek() {
            Kind::Equal => MatchOp::Eq,
            Kind::Operator(BinaryOp::Ne) => MatchOp::Ne,
            Kind::Match => MatchOp::Re,
            Kind::NotMatch => MatchOp::Nre,
            Kind::Comma | Kind::RightBrace if quoted => {
                if let Some(first) = quoted_name {
                    let message = format!("metric name must not be set twice: {first:?} or {name:?}");
                    return Err(Error::parse(start, message));
                }
                *quoted_name = Some(name);
                return Ok(());
            }
            _ => return Err(self.unexpected(CONTEXT, "label matching operator")),
        };
        self.step();
        let value = match self.peek() {
            Kind::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => return Err(self.unexpected(CONTEXT, "string")),
        };
        let end = self.step();
        let matcher = Matcher::new(name, op, value).map_err(|reason| Error::parse(start.to(end), reason))?;
        self.regexes += usize::from(matcher.is_compiled());
        if self.regexes > MAX_REGEXES {
            let message = format!("more than {MAX_REGEXES} regular expressions in a query are not allowed");
            return Err(Error::parse(start.to(end), message));
        }
        selector.matchers.push(matcher);
        Ok(())
    }

    /// `[…]`, `offset …` and `@ …` behind an operand, in any number.
    fn postfix(&mut self, (mut expr, mut depth): Deep) -> Result<Deep> {
        loop {
            if self.peek() == &Kind::LeftBracket {
                let before = depth;
                expr = self.bracket(expr)?;
                depth = self.bounded(before + u32::from(matches!(expr, Expr::Subquery(_))))?;
            } else if self.eat_word("offset").is_some() {
                self.offset(&mut expr)?;
            } else if self.eat(&Kind::At).is_some() {
                self.at_modifier(&mut expr)?;
            } else {
                return Ok((expr, depth));
            }
        }
    }
}

/// Whether a word is a number outside of braces.
fn is_number(word: &str) -> bool {
    word.eq_ignore_ascii_case("inf") || word.eq_ignore_ascii_case("nan")
}

#[cfg(test)]
mod tests;
