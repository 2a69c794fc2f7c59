//! Splits a query into tokens. Words stay words: whether `sum` is an operator or a metric is for the parser to see.

use crate::ast::{AggregateOp, BinaryOp, Span};
use crate::text::{parse_duration, parse_number};

/// A token and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Token<'q> {
    pub(super) kind: Kind<'q>,
    pub(super) span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind<'q> {
    Word(&'q str),
    Number(f64),
    /// In seconds.
    Duration(f64),
    /// The bytes that the literal stands for.
    Text(Vec<u8>),
    /// `+ - * / % ^ == != > < >= <=`
    Operator(BinaryOp),
    /// `=`
    Equal,
    /// `=~`
    Match,
    /// `!~`
    NotMatch,
    At,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    End,
    /// Text that is no token, with the reason.
    Bad(String),
}

/// Every token of the query; the last is [`Kind::End`] or [`Kind::Bad`].
pub(super) fn tokens(query: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { query, at: 0, line: 1, line_start: 0, parens: 0, brackets: 0, braces: 0 };
    let mut out = Vec::with_capacity(query.len() / 4 + 2);
    loop {
        lexer.skip_blank();
        let (start, line, line_start) = (lexer.at, lexer.line, lexer.line_start);
        let kind = lexer.next();
        let span = Span { start: start as u32, end: lexer.at as u32, line, column: (start - line_start) as u32 + 1 };
        let last = matches!(kind, Kind::End | Kind::Bad(_));
        out.push(Token { kind, span });
        if last {
            return out;
        }
    }
}

struct Lexer<'q> {
    query: &'q str,
    at: usize,
    line: u32,
    line_start: usize,
    /// Open `(`.
    parens: u32,
    /// Open `[`: a colon in them separates.
    brackets: u32,
    /// Open `{`: a colon in them is no part of a name.
    braces: u32,
}

impl<'q> Lexer<'q> {
    fn rest(&self) -> &'q str {
        &self.query[self.at..]
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.query.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Steps over `len` bytes and returns them.
    fn take(&mut self, len: usize) -> &'q str {
        let taken = &self.rest()[..len];
        self.at += len;
        taken
    }

    fn skip_blank(&mut self) {
        loop {
            match self.peek(0) {
                b'\n' => {
                    self.at += 1;
                    self.line += 1;
                    self.line_start = self.at;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'#' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                _ => return,
            }
        }
    }

    fn next(&mut self) -> Kind<'q> {
        let first = self.peek(0);
        match first {
            0 if self.rest().is_empty() => return self.end(),
            b'"' | b'\'' | b'`' => return self.text(first),
            b'0'..=b'9' => return self.number(),
            b'.' if self.peek(1).is_ascii_digit() => return self.number(),
            b':' if self.brackets > 0 || self.braces > 0 => {
                self.at += 1;
                return Kind::Colon;
            }
            b if b.is_ascii_alphabetic() || b == b'_' || b == b':' => return self.word(),
            _ => {}
        }
        let two = self.peek(1);
        let (len, kind) = match (first, two) {
            (b'=', b'=') => (2, Kind::Operator(BinaryOp::Eq)),
            (b'=', b'~') => (2, Kind::Match),
            (b'=', _) => (1, Kind::Equal),
            (b'!', b'=') => (2, Kind::Operator(BinaryOp::Ne)),
            (b'!', b'~') => (2, Kind::NotMatch),
            (b'>', b'=') => (2, Kind::Operator(BinaryOp::Ge)),
            (b'>', _) => (1, Kind::Operator(BinaryOp::Gt)),
            (b'<', b'=') => (2, Kind::Operator(BinaryOp::Le)),
            (b'<', _) => (1, Kind::Operator(BinaryOp::Lt)),
            (b'+', _) => (1, Kind::Operator(BinaryOp::Add)),
            (b'-', _) => (1, Kind::Operator(BinaryOp::Sub)),
            (b'*', _) => (1, Kind::Operator(BinaryOp::Mul)),
            (b'/', _) => (1, Kind::Operator(BinaryOp::Div)),
            (b'%', _) => (1, Kind::Operator(BinaryOp::Mod)),
            (b'^', _) => (1, Kind::Operator(BinaryOp::Pow)),
            (b'@', _) => (1, Kind::At),
            (b',', _) => (1, Kind::Comma),
            (b'(', _) => (1, Kind::LeftParen),
            (b')', _) => (1, Kind::RightParen),
            (b'{', _) => (1, Kind::LeftBrace),
            (b'}', _) => (1, Kind::RightBrace),
            (b'[', _) => (1, Kind::LeftBracket),
            (b']', _) => (1, Kind::RightBracket),
            _ => return self.bad_character(),
        };
        match kind {
            Kind::LeftParen => self.parens += 1,
            Kind::RightParen => match self.parens.checked_sub(1) {
                Some(parens) => self.parens = parens,
                None => {
                    self.at += 1;
                    return Kind::Bad("unexpected right parenthesis ')'".to_owned());
                }
            },
            Kind::LeftBracket => self.brackets += 1,
            Kind::RightBracket => self.brackets = self.brackets.saturating_sub(1),
            Kind::LeftBrace => self.braces += 1,
            Kind::RightBrace => self.braces = self.braces.saturating_sub(1),
            _ => {}
        }
        self.at += len;
        kind
    }

    fn end(&self) -> Kind<'q> {
        if self.braces > 0 {
            return Kind::Bad("unexpected end of input inside braces".to_owned());
        }
        if self.brackets > 0 {
            return Kind::Bad("unclosed left bracket".to_owned());
        }
        if self.parens > 0 {
            return Kind::Bad("unclosed left parenthesis".to_owned());
        }
        Kind::End
    }

    fn bad_character(&self) -> Kind<'q> {
        let c = self.rest().chars().next().unwrap_or_default();
        let place = if self.braces > 0 { " inside braces" } else { "" };
        let next = self.rest().chars().nth(1);
        Kind::Bad(match (c, next) {
            ('!', Some(after)) => format!("unexpected character after '!'{place}: {after:?}"),
            _ => format!("unexpected character{place}: {c:?}"),
        })
    }

    fn word(&mut self) -> Kind<'q> {
        let colon = self.brackets == 0 && self.braces == 0;
        let inside = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || (colon && *b == b':');
        let len = self.rest().bytes().take_while(inside).count();
        Kind::Word(self.take(len))
    }

    fn number(&mut self) -> Kind<'q> {
        let run = |s: &str, test: fn(u8) -> bool| s.bytes().take_while(|b| test(*b)).count();
        let digit = |b: u8| b.is_ascii_digit() || b == b'_';
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut len;
        if bytes[0] == b'0' && matches!(self.peek(1), b'x' | b'X') {
            len = 2 + run(&rest[2..], |b| b.is_ascii_hexdigit() || b == b'_');
        } else {
            len = run(rest, digit);
            if bytes.get(len) == Some(&b'.') {
                len += 1 + run(&rest[len + 1..], digit);
            }
            if matches!(bytes.get(len), Some(b'e' | b'E')) {
                let sign = usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
                let exponent = run(&rest[len + 1 + sign..], digit);
                if exponent > 0 {
                    len += 1 + sign + exponent;
                }
            }
        }
        let whole = len + run(&rest[len..], |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
        let text = self.take(whole);
        if whole > len {
            return match parse_duration(text) {
                Some(ms) => Kind::Duration(ms as f64 / 1000.0),
                None => Kind::Bad(format!("bad number or duration syntax: {text:?}")),
            };
        }
        let lonely = text.as_bytes().windows(2).any(|w| {
            w[1] == b'_' && !w[0].is_ascii_hexdigit() && !matches!(w[0], b'x' | b'X')
                || w[0] == b'_' && !w[1].is_ascii_hexdigit()
        });
        match parse_number(text) {
            Some(value) if !lonely && !text.ends_with('_') => Kind::Number(value),
            _ => Kind::Bad(format!("bad number or duration syntax: {text:?}")),
        }
    }

    fn text(&mut self, quote: u8) -> Kind<'q> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let byte = self.peek(0);
            match byte {
                0 if self.rest().is_empty() => {
                    let kind = if quote == b'`' { "unterminated raw string" } else { "unterminated quoted string" };
                    return Kind::Bad(kind.to_owned());
                }
                b if b == quote => {
                    self.at += 1;
                    return Kind::Text(out);
                }
                b'\n' if quote != b'`' => return Kind::Bad("unterminated quoted string".to_owned()),
                b'\\' if quote != b'`' => match self.escape(quote) {
                    Ok(Escaped::Byte(b)) => out.push(b),
                    Ok(Escaped::Char(c)) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    Err(reason) => return Kind::Bad(reason),
                },
                _ => {
                    if byte == b'\n' {
                        self.line += 1;
                        self.line_start = self.at + 1;
                    }
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    /// Reads the escape at the cursor: those of Go's strings.
    fn escape(&mut self, quote: u8) -> std::result::Result<Escaped, String> {
        let simple = match self.peek(1) {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'\\' => b'\\',
            b if b == quote => quote,
            b'0'..=b'7' => return self.numbered(1, 3, 8),
            b'x' => return self.numbered(2, 2, 16),
            b'u' => return self.numbered(2, 4, 16),
            b'U' => return self.numbered(2, 8, 16),
            0 if self.at + 1 >= self.query.len() => return Err("escape sequence not terminated".to_owned()),
            _ => {
                let c = self.rest().chars().nth(1).unwrap_or_default();
                return Err(format!("unknown escape sequence U+{:04X} {c:?}", c as u32));
            }
        };
        self.at += 2;
        Ok(Escaped::Byte(simple))
    }

    /// Reads an escape whose `len` digits follow `skip` bytes.
    fn numbered(&mut self, skip: usize, len: usize, base: u32) -> std::result::Result<Escaped, String> {
        let digits = self.rest().get(skip..skip + len).ok_or("escape sequence not terminated")?;
        let value = u32::from_str_radix(digits, base)
            .ok()
            .filter(|_| digits.bytes().all(|b| b.is_ascii_alphanumeric()))
            .ok_or("illegal character in escape sequence")?;
        self.at += skip + len;
        if len <= 3 {
            return u8::try_from(value).map(Escaped::Byte).map_err(|_| "escape sequence out of range".to_owned());
        }
        char::from_u32(value)
            .map(Escaped::Char)
            .ok_or_else(|| "escape sequence is an invalid Unicode code point".to_owned())
    }
}

enum Escaped {
    Byte(u8),
    Char(char),
}

impl Kind<'_> {
    /// How errors name the token, which reads `text` in the query.
    pub(super) fn describe(&self, text: &str) -> String {
        match self {
            Kind::Word(word) => describe_word(word),
            Kind::Number(_) => format!("number {text:?}"),
            Kind::Duration(_) => format!("duration {text:?}"),
            Kind::Text(bytes) => format!("string {}", crate::text::quote_bytes(bytes)),
            Kind::Operator(op) => format!("<op:{}>", op.as_str()),
            Kind::Equal => "\"=\"".to_owned(),
            Kind::Match => "<op:=~>".to_owned(),
            Kind::NotMatch => "<op:!~>".to_owned(),
            Kind::At => "<op:@>".to_owned(),
            Kind::LeftParen => "\"(\"".to_owned(),
            Kind::RightParen => "\")\"".to_owned(),
            Kind::LeftBrace => "\"{\"".to_owned(),
            Kind::RightBrace => "\"}\"".to_owned(),
            Kind::LeftBracket => "\"[\"".to_owned(),
            Kind::RightBracket => "\"]\"".to_owned(),
            Kind::Comma => "\",\"".to_owned(),
            Kind::Colon => "\":\"".to_owned(),
            Kind::End => "end of input".to_owned(),
            Kind::Bad(reason) => reason.clone(),
        }
    }
}

/// The words that mean something other than a name wherever an operand may stand.
pub(super) const RESERVED: [&str; 6] = ["bool", "on", "ignoring", "group_left", "group_right", "atan2"];

/// The words that may name a metric but no function.
pub(super) const NO_FUNCTIONS: [&str; 8] = ["and", "or", "unless", "by", "without", "offset", "start", "end"];

fn describe_word(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    match lower.as_str() {
        "by" | "without" | "offset" => format!("<{lower}>"),
        "and" | "or" | "unless" | "atan2" => format!("<op:{lower}>"),
        "inf" | "nan" => format!("number {word:?}"),
        reserved if RESERVED.contains(&reserved) => format!("<{lower}>"),
        aggregator if AggregateOp::named(aggregator).is_some() => format!("<aggr:{lower}>"),
        _ => format!("identifier {word:?}"),
    }
}
