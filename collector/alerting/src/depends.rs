//! What an alert depends on: other alerts that would explain it, such as the one of a host that was cut off.
//!
//! A rule says it as `pitwatch_depends_on`, a text with one or more of `AlertName{label="value", …}`. An alert that
//! fires and has all these labels explains this one; who routes alerts holds this one back meanwhile. So a chain of
//! host, service and provider is each rule naming the next.

use std::sync::{Arc, LazyLock};

use crate::labels::{ALERT_NAME, LabelSet};
use crate::limits;

/// The stock rule that fires for a host from which nothing comes any more.
pub const HOST_SILENT: &str = "PitwatchAgentSilent";
/// The label that names a host.
pub const INSTANCE: &str = "instance";

/// What an alert depends on whose rule says nothing: its host.
#[must_use]
pub fn implied(labels: &LabelSet) -> Vec<LabelSet> {
    // The same texts for all: there may be a hundred thousand alerts.
    static NAME: LazyLock<(Arc<str>, Arc<str>)> = LazyLock::new(|| (ALERT_NAME.into(), HOST_SILENT.into()));
    match labels.shared().find(|(name, _)| &**name == INSTANCE) {
        Some(host) if labels.value(ALERT_NAME) != Some(HOST_SILENT) => vec![LabelSet::new([NAME.clone(), host])],
        _ => Vec::new(),
    }
}

/// Reads `AlertName{label="value"}`, any number of them, between commas or blanks; the name or the labels may be
/// missing.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn parse(text: &str) -> Result<Vec<LabelSet>, String> {
    let mut reader = Reader { rest: text };
    let mut all = Vec::new();
    loop {
        reader.skip(&[',', ';']);
        if reader.rest.is_empty() {
            return Ok(all);
        }
        if all.len() == limits::DEPENDENCIES_MAX {
            return Err(format!("more than {} dependencies", limits::DEPENDENCIES_MAX));
        }
        let labels = reader.one().ok_or_else(|| {
            let near: String = reader.rest.chars().take(20).collect();
            format!("cannot read a dependency at {near:?}: write AlertName{{label=\"value\"}}")
        })?;
        all.push(labels);
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, also: &[char]) {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_whitespace() || also.contains(&c));
    }

    fn eat(&mut self, what: char) -> bool {
        self.skip(&[]);
        let rest = self.rest.strip_prefix(what);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self) -> &'a str {
        self.skip(&[]);
        let ends = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/'));
        let (word, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn one(&mut self) -> Option<LabelSet> {
        let name = self.word();
        let mut pairs: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        if !name.is_empty() {
            pairs.push((ALERT_NAME.into(), name.into()));
        }
        // A brace that belongs to it stands right behind the name or alone.
        if self.rest.starts_with('{') {
            self.eat('{');
            while !self.eat('}') {
                let label = self.word();
                if label.is_empty() || !self.eat('=') {
                    return None;
                }
                pairs.push((label.into(), self.quoted()?.into()));
                if !self.eat(',') && !self.rest.starts_with('}') {
                    return None;
                }
            }
        }
        let labels = LabelSet::new(pairs);
        // Nothing, or labels that are all empty, would be explained by any alert.
        let is_some = labels.iter().len() > 0;
        is_some.then_some(labels)
    }

    fn quoted(&mut self) -> Option<String> {
        if !self.eat('"') {
            return None;
        }
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Some(text);
                }
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    c => text.push(c),
                },
                c => text.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Result<Vec<String>, String> {
        Ok(parse(text)?.iter().map(LabelSet::to_string).collect())
    }

    #[test]
    fn dependencies_are_read() {
        let two = texts(r#"HostDown{instance="db-1"}, ProviderDown{provider="a \"b\"", env = "x" ,}"#).unwrap();
        assert_eq!(
            two,
            [
                r#"{alertname="HostDown", instance="db-1"}"#,
                r#"{alertname="ProviderDown", env="x", provider="a \"b\""}"#
            ]
        );
        assert_eq!(texts("A\n B").unwrap(), [r#"{alertname="A"}"#, r#"{alertname="B"}"#]);
        assert_eq!(texts(r#"{site="fra"}"#).unwrap(), [r#"{site="fra"}"#]);
        assert!(texts(" , ").unwrap().is_empty());
        for wrong in ["A{", "A{x}", "A{x=y}", "A{x=\"y}", "{}", "A{x=\"1\" y=\"2\"}", "{x=\"\"}", "!", "A{x=\"\\"] {
            assert!(texts(wrong).unwrap_err().contains("cannot read a dependency"), "{wrong}");
        }
        assert!(texts(&"A ".repeat(17)).unwrap_err().contains("more than 16"));
    }

    #[test]
    fn an_alert_of_a_host_depends_on_it() {
        let of = |pairs: &[(&str, &str)]| implied(&LabelSet::new(pairs.iter().copied()));
        assert_eq!(of(&[("alertname", "A"), ("instance", "h")])[0].value("alertname"), Some(HOST_SILENT));
        assert!(of(&[("alertname", HOST_SILENT), ("instance", "h")]).is_empty());
        assert!(of(&[("alertname", "A")]).is_empty());
    }
}
