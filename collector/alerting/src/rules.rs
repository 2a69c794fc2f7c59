//! Prometheus' rule files: what they say, read and checked.
//!
//! A file is generic over `P`, what the caller makes of an expression: checking an expression and preparing it are
//! one step, so that nothing is parsed twice.

mod read;

use std::fmt;
use std::sync::Arc;

use crate::template::Template;

/// A rule file without mistakes.
#[derive(Debug)]
pub struct RuleFile<P> {
    /// The name it was given, a path as a rule.
    pub name: Arc<str>,
    /// Its groups, in order.
    pub groups: Vec<Group<P>>,
}

/// Rules that are evaluated together, in order.
#[derive(Debug)]
pub struct Group<P> {
    /// The group's name, its own within its file.
    pub name: Arc<str>,
    /// Its interval, where the file says one.
    pub interval_ms: Option<i64>,
    /// Most rows that one of its rules may give; 0 is no limit.
    pub limit: usize,
    /// How far back in time its rules look from now.
    pub query_offset_ms: i64,
    /// Its rules, in order.
    pub rules: Vec<Rule<P>>,
}

/// A rule.
#[derive(Debug)]
pub struct Rule<P> {
    /// The alert's name or the recorded metric's.
    pub name: Arc<str>,
    /// The expression as written.
    pub expr: Arc<str>,
    /// What the caller made of the expression.
    pub prepared: P,
    /// The line on which the rule begins.
    pub line: usize,
    /// What it is for.
    pub kind: RuleKind,
}

/// What a rule is for.
#[derive(Debug)]
pub enum RuleKind {
    /// `record`: keeps the expression's value under a name of its own.
    Record {
        /// Labels set on every row, those of the group among them.
        labels: Vec<(Arc<str>, Arc<str>)>,
    },
    /// `alert`.
    Alert(AlertSpec),
}

/// What an alert rule says beside its expression.
#[derive(Debug, Clone)]
pub struct AlertSpec {
    /// How long the expression must hold before the alert fires.
    pub for_ms: i64,
    /// How long the alert goes on firing after the expression last held.
    pub keep_firing_for_ms: i64,
    /// Labels set on every alert, those of the group among them.
    pub labels: Vec<(Arc<str>, Template)>,
    /// Texts for people.
    pub annotations: Vec<(Arc<str>, Template)>,
}

/// A mistake in a rule file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct RuleError {
    /// The file's name as given.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Every mistake of one or more files, one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleErrors(pub Vec<RuleError>);

impl std::error::Error for RuleErrors {}

impl fmt::Display for RuleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl<P> RuleFile<P> {
    /// Reads a rule file. `prepare` checks an expression and makes of it what [`Rule::prepared`] keeps.
    ///
    /// # Errors
    /// Every mistake of the file, up to [`crate::limits::RULE_ERRORS_MAX`].
    pub fn parse(
        name: &str,
        text: &str,
        mut prepare: impl FnMut(&str) -> Result<P, String>,
    ) -> Result<Self, RuleErrors> {
        read::file(name, text, &mut prepare)
    }
}

#[cfg(test)]
mod tests;
