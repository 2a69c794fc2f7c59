//! Matchers over labels, in Alertmanager's notation: `severity="critical"`, `instance=~"db-.+"`, `!=`, `!~`.
//!
//! Patterns are anchored at both ends; a label that is not there has the empty value.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::labels::LabelSet;
use crate::limits;

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }

    /// From Alertmanager's two flags.
    #[must_use]
    pub fn from_flags(is_regex: bool, is_equal: bool) -> Self {
        match (is_regex, is_equal) {
            (false, true) => Self::Equal,
            (false, false) => Self::NotEqual,
            (true, true) => Self::Regex,
            (true, false) => Self::NotRegex,
        }
    }

    /// Whether it compares by a pattern.
    #[must_use]
    pub fn is_regex(self) -> bool {
        matches!(self, Self::Regex | Self::NotRegex)
    }

    /// Whether it wants what it names.
    #[must_use]
    pub fn is_equal(self) -> bool {
        matches!(self, Self::Equal | Self::Regex)
    }
}

/// One condition on one label.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    regex: Option<regex::Regex>,
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Matcher {
    /// A matcher.
    ///
    /// # Errors
    /// The name is empty, the value too long, or the pattern cannot be read.
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, String> {
        let (name, value) = (name.into(), value.into());
        if name.is_empty() {
            return Err("a matcher needs a label's name".to_owned());
        }
        if name.len() + value.len() > limits::MATCHER_MAX_BYTES {
            return Err(format!("a matcher of more than {} bytes", limits::MATCHER_MAX_BYTES));
        }
        let regex = op.is_regex().then(|| {
            regex::RegexBuilder::new(&format!("^(?:{value})$"))
                .size_limit(limits::TEMPLATE_REGEX_MAX_BYTES)
                .build()
                .map_err(|_| format!("{value:?} is not a pattern that can be read"))
        });
        Ok(Self { name, op, value, regex: regex.transpose()? })
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

    /// What it compares with.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label's value passes.
    #[must_use]
    pub fn matches_value(&self, value: &str) -> bool {
        let is_it = self.regex.as_ref().map_or_else(|| value == self.value, |regex| regex.is_match(value));
        is_it == self.op.is_equal()
    }

    /// Whether labels pass.
    #[must_use]
    pub fn matches(&self, labels: &LabelSet) -> bool {
        self.matches_value(labels.value(&self.name).unwrap_or(""))
    }

    /// Reads `name="value"`, with or without quotes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text.trim() };
        let matcher = reader.matcher(false)?;
        match reader.rest.trim() {
            "" => Ok(matcher),
            rest => Err(format!("{rest:?} is too much in {text:?}")),
        }
    }
}

/// Reads one or more matchers, separated by commas, with braces around them or not.
///
/// # Errors
/// What is wrong with them.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, String> {
    let trimmed = text.trim();
    let inner = match trimmed.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(|| format!("{text:?} opens a brace and does not close it"))?,
        None => trimmed,
    };
    let mut reader = Reader { rest: inner };
    let mut matchers = Vec::new();
    loop {
        reader.rest = reader.rest.trim_start();
        if reader.rest.is_empty() {
            return Ok(matchers);
        }
        if matchers.len() >= limits::MATCHERS_MAX {
            return Err(format!("more than {} matchers", limits::MATCHERS_MAX));
        }
        matchers.push(reader.matcher(true)?);
        reader.rest = reader.rest.trim_start();
        match reader.rest.strip_prefix(',') {
            Some(rest) => reader.rest = rest,
            None if reader.rest.is_empty() => {}
            None => return Err(format!("expected a comma before {:?}", reader.rest)),
        }
    }
}

/// Whether every matcher passes.
#[must_use]
pub fn all_match(matchers: &[Matcher], labels: &LabelSet) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels))
}

/// `{a="b",c=~"d"}`, as Alertmanager prints them.
#[must_use]
pub fn to_text(matchers: &[Matcher]) -> String {
    let list: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
    format!("{{{}}}", list.join(","))
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// `listed`: an unquoted value ends at a comma.
    fn matcher(&mut self, listed: bool) -> Result<Matcher, String> {
        let whole = self.rest;
        let wrong =
            |what: &str| format!("{what} in {whole:?}: write it like severity=\"critical\" or instance=~\"db-.+\"");
        let name = if self.rest.starts_with('"') {
            self.quoted()?
        } else {
            let end = self.rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':' | '.' | '-' | '/')));
            let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
            self.rest = rest;
            name.to_owned()
        };
        self.rest = self.rest.trim_start();
        let ops = [MatchOp::Regex, MatchOp::NotRegex, MatchOp::NotEqual, MatchOp::Equal];
        let op = ops.into_iter().find(|op| self.rest.starts_with(op.as_str()));
        let op = op.filter(|_| !name.is_empty()).ok_or_else(|| wrong("no label or no =, !=, =~ or !~"))?;
        self.rest = self.rest[op.as_str().len()..].trim_start();
        let value = if self.rest.starts_with('"') {
            self.quoted()?
        } else {
            let end = if listed { self.rest.find(',') } else { None };
            let (value, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
            if value.contains('"') {
                return Err(wrong("a quote that does not begin the value"));
            }
            self.rest = rest;
            value.trim_end().to_owned()
        };
        Matcher::new(name, op, value)
    }

    /// A text in double quotes. Only `\"`, `\\` and `\n` are escapes; another backslash stands for itself, as patterns
    /// are full of them.
    fn quoted(&mut self) -> Result<String, String> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, c @ ('"' | '\\'))) => out.push(c),
                    Some((_, c)) => out.extend(['\\', c]),
                    None => break,
                },
                c => out.push(c),
            }
        }
        Err(format!("a quote is not closed in {:?}", self.rest))
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As the reader takes them back: it knows no other escapes.
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let (op, value) = (self.op.as_str(), quoted(&self.value));
        let plain = self.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
        match plain {
            true => write!(f, "{}{op}\"{value}\"", self.name),
            false => write!(f, "\"{}\"{op}\"{value}\"", quoted(&self.name)),
        }
    }
}

/// Alertmanager's form: name, value and two flags.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default = "yes")]
    is_equal: bool,
    #[serde(default)]
    is_regex: bool,
    name: String,
    value: String,
}

fn yes() -> bool {
    true
}

impl Serialize for Matcher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (is_equal, is_regex) = (self.op.is_equal(), self.op.is_regex());
        Wire { is_equal, is_regex, name: self.name.clone(), value: self.value.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        Self::new(wire.name, MatchOp::from_flags(wire.is_regex, wire.is_equal), wire.value)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(text: &str) -> Result<String, String> {
        parse_matchers(text).map(|matchers| to_text(&matchers))
    }

    #[test]
    fn matchers_are_read_as_alertmanager_reads_them() {
        for (text, read) in [
            ("a=b", r#"{a="b"}"#),
            (r#"a="b""#, r#"{a="b"}"#),
            (r#" { a != "b" , c=~"d,e|f", } "#, r#"{a!="b",c=~"d,e|f"}"#),
            (r#"a=~"x\.y""#, r#"{a=~"x\\.y"}"#),
            (r#"a="say \"hi\"\n""#, r#"{a="say \"hi\"\n"}"#),
            ("a!~b c", r#"{a!~"b c"}"#),
            (r#""odd name"="x""#, r#"{"odd name"="x"}"#),
            ("a=", r#"{a=""}"#),
            ("{}", "{}"),
        ] {
            assert_eq!(texts(text).as_deref(), Ok(read), "{text}");
        }
        for text in ["a", "=b", "{a=b", "a=\"b", "a=~\"(\"", "a=\"b\" c=\"d\"", "a==\"b\"x"] {
            assert!(texts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_are_anchored_and_a_missing_label_is_empty() {
        let labels = LabelSet::new([("a", "xyz")]);
        let matches = |text: &str| all_match(&parse_matchers(text).unwrap(), &labels);
        assert!(matches(r#"a=~"x.z""#) && !matches(r#"a=~"x""#) && matches(r#"a!~"x""#));
        assert!(matches(r#"b="""#) && matches(r#"b!="1""#) && !matches(r#"b=~".+""#));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(name in "(?s).{1,8}", value in "(?s).{0,12}", op in 0..2_usize) {
            let op = [MatchOp::Equal, MatchOp::NotEqual][op];
            let matcher = Matcher::new(name, op, value).unwrap();
            prop_assert_eq!(&Matcher::parse(&matcher.to_string()).unwrap(), &matcher);
            let json = serde_json::to_string(&matcher).unwrap();
            prop_assert_eq!(serde_json::from_str::<Matcher>(&json).unwrap(), matcher);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = parse_matchers(&text);
        }
    }
}
