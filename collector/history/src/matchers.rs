//! Label matchers: what they match, and which values a regular expression can match at all, so that a selector need
//! not try every value of a label. Which series have a value is [`crate::index`]'s matter.

use regex::Regex;
use regex_syntax::hir::Hir;
use regex_syntax::hir::literal::{ExtractKind, Extractor};

/// Most literals that a regular expression is taken apart into; one with more tries every value.
const LITERALS_MAX: usize = 256;
/// Largest compiled regular expression in bytes.
const REGEX_MAX_BYTES: usize = 1024 * 1024;

/// How a [`Matcher`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`: the value is the text.
    Eq,
    /// `!=`: the value is not the text.
    Ne,
    /// `=~`: the regular expression matches the whole value.
    Re,
    /// `!~`: the regular expression does not match the whole value.
    Nre,
}

/// A condition on one label. A label that a series lacks has the empty value.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: Box<str>,
    op: MatchOp,
    value: Box<str>,
    regex: Option<Regex>,
    candidates: Candidates,
}

/// A regular expression that is none, or too large.
#[derive(Debug, thiserror::Error)]
#[error("the regular expression {pattern:?} of label {name:?} cannot be used")]
pub struct MatcherError {
    name: String,
    pattern: String,
    #[source]
    source: Box<regex::Error>,
}

/// The values that a positive matcher may match; a superset, each to be tried with [`Matcher::matches`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Candidates {
    /// Only these.
    Exact(Vec<String>),
    /// Only values that begin with one of these.
    Prefixes(Vec<String>),
    /// Any.
    All,
}

impl Matcher {
    /// A matcher; regular expressions are anchored at both ends and `.` matches a line feed, as in Prometheus.
    ///
    /// # Errors
    /// A regular expression that does not parse or is too large.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, MatcherError> {
        let (regex, candidates) = match op {
            MatchOp::Eq | MatchOp::Ne => (None, Candidates::Exact(vec![value.to_owned()])),
            MatchOp::Re | MatchOp::Nre => {
                let pattern = format!("^(?s:{value})$");
                let regex =
                    regex::RegexBuilder::new(&pattern).size_limit(REGEX_MAX_BYTES).build().map_err(|source| {
                        MatcherError { name: name.to_owned(), pattern: value.to_owned(), source: Box::new(source) }
                    })?;
                (Some(regex), candidates_of(value))
            }
        };
        Ok(Self { name: name.into(), op, value: value.into(), regex, candidates })
    }

    /// The label's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    #[must_use]
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The text or pattern, as given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a series with this value of the label (empty if it lacks it) is meant.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        let equal = match &self.regex {
            None => *self.value == *value,
            Some(regex) => regex.is_match(value),
        };
        equal != self.is_negative()
    }

    /// Whether it says what a value is not.
    pub(crate) fn is_negative(&self) -> bool {
        matches!(self.op, MatchOp::Ne | MatchOp::Nre)
    }

    /// The values worth trying before negation.
    pub(crate) fn candidates(&self) -> &Candidates {
        &self.candidates
    }
}

fn candidates_of(pattern: &str) -> Candidates {
    let parsed = regex_syntax::ParserBuilder::new().dot_matches_new_line(true).build().parse(pattern);
    let Ok(hir) = parsed else { return Candidates::All };
    literals(&hir).unwrap_or(Candidates::All)
}

fn literals(hir: &Hir) -> Option<Candidates> {
    // With an anchor or a word boundary inside, what the extractor calls a whole match need not be one.
    if !hir.properties().look_set().is_empty() {
        return None;
    }
    let mut extractor = Extractor::new();
    extractor.kind(ExtractKind::Prefix).limit_total(LITERALS_MAX);
    let found = extractor.extract(hir);
    let literals = found.literals()?;
    let texts = literals.iter().map(|literal| String::from_utf8(literal.as_bytes().to_vec()).ok());
    let texts: Vec<String> = texts.collect::<Option<_>>()?;
    if texts.iter().any(String::is_empty) && !found.is_exact() {
        return None;
    }
    let mut texts = texts;
    texts.sort_unstable();
    texts.dedup();
    Some(if found.is_exact() { Candidates::Exact(texts) } else { Candidates::Prefixes(texts) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str) -> Candidates {
        Matcher::new("a", MatchOp::Re, pattern).unwrap().candidates().clone()
    }

    #[test]
    fn regexes_are_anchored_and_dots_match_line_feeds() {
        let re = |pattern| Matcher::new("a", MatchOp::Re, pattern).unwrap();
        assert!(!re("b").matches("abc"));
        assert!(re("a.c").matches("a\nc"));
        assert!(re("a|bc").matches("bc"));
        assert!(!re("a|bc").matches("abc"));
        assert!(re(".*").matches(""));
        assert!(!Matcher::new("a", MatchOp::Nre, ".*").unwrap().matches("x"));
        assert!(Matcher::new("a", MatchOp::Ne, "x").unwrap().matches(""));
        assert!(Matcher::new("a", MatchOp::Re, "(").is_err());
    }

    #[test]
    fn literals_and_prefixes_are_found() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(of("eth0|eth1"), Candidates::Exact(texts(&["eth0", "eth1"])));
        assert_eq!(of("web-(a|b)"), Candidates::Exact(texts(&["web-a", "web-b"])));
        assert_eq!(of("node_.+"), Candidates::Prefixes(texts(&["node_"])));
        assert_eq!(of("|x"), Candidates::Exact(texts(&["", "x"])));
        assert_eq!(of(".*"), Candidates::All);
        assert_eq!(of(".*x"), Candidates::All);
        assert_eq!(of("(?i)straße.*").clone(), of("(?i)straße.*"));
        assert_eq!(of("a$|b"), Candidates::All);
    }

    #[test]
    fn candidates_never_leave_out_a_match() {
        let values = ["", "a", "ab", "abc", "b", "eth0", "eth10", "K", "k", "\u{212a}", "x\ny", "node_cpu", "node_"];
        let patterns =
            ["a*", "a+b?", "(?i)k", "eth[0-9]+", "eth(0|1).*", "(a|b)?", "[a-c]{1,2}", "x.y", "node_.*|b", "a|"];
        for pattern in patterns {
            let matcher = Matcher::new("l", MatchOp::Re, pattern).unwrap();
            for value in values.into_iter().filter(|value| matcher.matches(value)) {
                let kept = match matcher.candidates() {
                    Candidates::All => true,
                    Candidates::Exact(list) => list.iter().any(|one| one == value),
                    Candidates::Prefixes(list) => list.iter().any(|one| value.starts_with(&**one)),
                };
                assert!(kept, "{pattern} matches {value:?}, which is no candidate");
            }
        }
    }
}
