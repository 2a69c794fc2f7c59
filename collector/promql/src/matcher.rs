//! Label matchers and the regular expressions in them. Owns the translation from Go's dialect, which users write, to
//! that of the `regex` crate; leaves it to the source to use matchers well against its index.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::labels::{Labels, is_classic_label};
use crate::text::quote;

/// The largest compiled regular expression, in bytes.
const REGEX_SIZE_LIMIT_BYTES: usize = 2 << 20;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `=~`
    Re,
    /// `!~`
    Nre,
}

impl MatchOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Eq => "=",
            MatchOp::Ne => "!=",
            MatchOp::Re => "=~",
            MatchOp::Nre => "!~",
        }
    }
}

/// A condition on one label. A label that is not set has the empty value.
#[derive(Clone)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// How to compare.
    pub op: MatchOp,
    /// What to compare with; for `=~` and `!~` the pattern as written, which must match the whole value.
    pub value: String,
    test: Test,
}

/// How a value is tested.
#[derive(Clone)]
enum Test {
    /// It is the value.
    Same,
    /// It is one of these: what a pattern such as `a|b|c` stands for.
    OneOf(Vec<String>),
    /// `.*`
    Anything,
    /// `.+`
    Something,
    Regex(Regex),
}

impl Test {
    fn of(pattern: &str) -> std::result::Result<Test, String> {
        Ok(match pattern {
            ".*" => Test::Anything,
            ".+" => Test::Something,
            plain if !plain.contains(|c: char| "\\.+*?()[]{}^$".contains(c)) => {
                Test::OneOf(plain.split('|').map(str::to_owned).collect())
            }
            pattern => Test::Regex(anchored(pattern)?),
        })
    }
}

impl Matcher {
    /// A matcher; fails with the reason if `value` must be a regular expression and is none.
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> std::result::Result<Matcher, String> {
        let value = value.into();
        let test = match op {
            MatchOp::Eq | MatchOp::Ne => Test::Same,
            MatchOp::Re | MatchOp::Nre => Test::of(&value)?,
        };
        Ok(Matcher { name: name.into(), op, value, test })
    }

    /// Whether a label with this value (empty if not set) fulfils the condition.
    pub fn matches(&self, value: &str) -> bool {
        let fits = match &self.test {
            Test::Same => value == self.value,
            Test::OneOf(values) => values.iter().any(|v| v == value),
            Test::Anything => true,
            Test::Something => !value.is_empty(),
            Test::Regex(regex) => regex.is_match(value),
        };
        fits == matches!(self.op, MatchOp::Eq | MatchOp::Re)
    }

    /// Whether the label set fulfils the condition.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }

    /// Whether this holds a compiled regular expression.
    pub(crate) fn is_compiled(&self) -> bool {
        matches!(self.test, Test::Regex(_))
    }

    /// The pattern as written, if this matches by regular expression.
    pub fn pattern(&self) -> Option<&str> {
        matches!(self.op, MatchOp::Re | MatchOp::Nre).then_some(self.value.as_str())
    }

    /// The pattern in the dialect of the `regex` crate, for an index with regular expressions of its own: it must match
    /// the whole value, and `.` also matches a line feed.
    pub fn rust_pattern(&self) -> Option<String> {
        self.pattern().and_then(translate).map(|pattern| format!("(?s:{pattern})"))
    }

    /// The plain values that a pattern such as `a|b|c` stands for, if it is that simple: an index can look them up
    /// one by one instead of trying every value.
    pub fn alternatives(&self) -> Option<Vec<&str>> {
        match &self.test {
            Test::OneOf(values) => Some(values.iter().map(String::as_str).collect()),
            _ => None,
        }
    }
}

/// Equal if written the same.
impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        self.op == other.op && self.name == other.name && self.value == other.value
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_classic_label(&self.name) {
            f.write_str(&self.name)?;
        } else {
            f.write_str(&quote(&self.name))?;
        }
        write!(f, "{}{}", self.op.as_str(), quote(&self.value))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Compiles a pattern so that it must match the whole text; `.` also matches a line feed.
pub(crate) fn anchored(pattern: &str) -> std::result::Result<Regex, String> {
    let wrong = |reason: &str| format!("error parsing regexp: {reason}: `{pattern}`");
    let translated = translate(pattern).ok_or_else(|| wrong("unexpected )"))?;
    let regex = RegexBuilder::new(&format!("^(?s:{translated})$"))
        .size_limit(REGEX_SIZE_LIMIT_BYTES)
        .dfa_size_limit(REGEX_SIZE_LIMIT_BYTES)
        .build();
    regex.map_err(|error| {
        let text = error.to_string();
        wrong(text.lines().last().unwrap_or_default().trim().trim_start_matches("error: "))
    })
}

/// From Go's dialect to the `regex` crate's: ASCII classes, no set operations within brackets, a brace that opens no
/// repetition is a plain character, `\Q…\E` quotes. Nothing if the pattern closes a group that it has not opened: that
/// would be the one it is put into.
fn translate(pattern: &str) -> Option<String> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::with_capacity(pattern.len() + 8);
    let (mut i, mut open) = (0, 0u32);
    while i < chars.len() {
        match chars[i] {
            '(' => open += 1,
            ')' => open = open.checked_sub(1)?,
            _ => {}
        }
        match chars[i] {
            '\\' => i = translate_escape(&chars, i, false, &mut out),
            '[' => i = translate_class(&chars, i, &mut out),
            '{' if !is_repetition(&chars, i) => {
                out.push_str("\\{");
                i += 1;
            }
            c => {
                out.push(c);
                i += 1;
            }
        }
    }
    Some(out)
}

/// Whether the brace at `i` opens `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(chars: &[char], i: usize) -> bool {
    let Some(length) = chars[i..].iter().position(|c| *c == '}') else { return false };
    let inner: String = chars[i + 1..i + length].iter().collect();
    let (low, high) = inner.split_once(',').unwrap_or((&inner, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    !low.is_empty() && digits(low) && digits(high)
}

/// Copies the escape at `i` and returns the index after it.
fn translate_escape(chars: &[char], i: usize, in_class: bool, out: &mut String) -> usize {
    let Some(&escaped) = chars.get(i + 1) else {
        out.push('\\');
        return i + 1;
    };
    let class = |body: &str, negated: bool| match (in_class, negated) {
        (true, false) => body.to_owned(),
        (_, false) => format!("[{body}]"),
        (_, true) => format!("[^{body}]"),
    };
    match escaped {
        'd' | 'D' => out.push_str(&class("0-9", escaped == 'D')),
        'w' | 'W' => out.push_str(&class("0-9A-Za-z_", escaped == 'W')),
        's' | 'S' => out.push_str(&class("\\t\\n\\x0C\\r ", escaped == 'S')),
        'b' | 'B' if !in_class => {
            out.push_str("(?-u:\\");
            out.push(escaped);
            out.push(')');
        }
        'Q' if !in_class => {
            let rest: String = chars[i + 2..].iter().collect();
            let literal = rest.split("\\E").next().unwrap_or_default();
            out.push_str(&regex::escape(literal));
            let quoted = literal.chars().count();
            return (i + 2 + quoted + 2).min(chars.len());
        }
        c => {
            out.push('\\');
            out.push(c);
        }
    }
    i + 2
}

/// Copies the bracket expression at `i` and returns the index after it.
fn translate_class(chars: &[char], mut i: usize, out: &mut String) -> usize {
    out.push('[');
    i += 1;
    if chars.get(i) == Some(&'^') {
        out.push('^');
        i += 1;
    }
    if chars.get(i) == Some(&']') {
        out.push_str("\\]");
        i += 1;
    }
    while let Some(&c) = chars.get(i) {
        match c {
            ']' => {
                out.push(']');
                return i + 1;
            }
            '\\' => {
                i = translate_escape(chars, i, true, out);
                continue;
            }
            '[' if chars.get(i + 1) == Some(&':') => {
                let end = chars[i..].iter().position(|c| *c == ']').map_or(chars.len(), |n| i + n + 1);
                out.extend(&chars[i..end]);
                i = end;
                continue;
            }
            '[' | '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '-' if chars.get(i + 1) == Some(&'-') => out.push_str("\\-"),
            c => out.push(c),
        }
        i += 1;
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, value: &str) -> bool {
        Matcher::new("l", MatchOp::Re, pattern).unwrap().matches(value)
    }

    #[test]
    fn patterns_match_the_whole_value() {
        assert!(matches("a.c", "abc"));
        assert!(matches("a.c", "a\nc"));
        assert!(!matches("b", "abc"));
        assert!(!matches("a|b", "ab"));
        assert!(matches("a|b|", "") && matches("a|b", "b") && matches(".*", "") && !matches(".+", ""));
        assert!(matches("(?i:AB)", "ab"));
        assert!(!Matcher::new("l", MatchOp::Nre, "a.*").unwrap().matches("abc"));
        assert!(Matcher::new("l", MatchOp::Re, "(").is_err());
        assert!(Matcher::new("l", MatchOp::Re, "a)(b").is_err());
    }

    #[test]
    fn the_dialect_is_that_of_go() {
        assert!(!matches("\\d", "\u{0663}"), "digits are ASCII");
        assert!(matches("[\\d_]+", "1_2"));
        assert!(matches("[^\\w]", "é"));
        assert!(matches("{a}", "{a}"));
        assert!(matches("a{2}", "aa"));
        assert!(matches("[a&&b]+", "a&b"));
        assert!(matches("[[:alpha:]]+", "ab"));
        assert!(matches("[[a]+", "[a"));
        assert!(matches("\\Qa.b\\Ec", "a.bc"));
        assert!(matches("[]a]+", "]a"));
    }

    #[test]
    fn simple_alternatives_are_told() {
        let matcher = |p: &str| Matcher::new("l", MatchOp::Re, p).unwrap();
        assert_eq!(matcher("a|b c|").alternatives(), Some(vec!["a", "b c", ""]));
        assert_eq!(matcher("a.*|b").alternatives(), None);
        assert_eq!(matcher("\\d{2}").rust_pattern().as_deref(), Some("(?s:[0-9]{2})"));
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in "[\\[\\]\\\\{}()a-c0-9,^$|&~:QEdwsb.*+?-]{0,24}", value in "[a-c\\[{]{0,4}") {
            if let Ok(matcher) = Matcher::new("l", MatchOp::Re, pattern) {
                let _ = matcher.matches(&value);
            }
        }
    }
}
