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
    /// `pitwatch_clear`: while it fires, the alert is over only where this expression yields a row.
    pub clear: Option<P>,
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
    /// Texts for people, and what Pitwatch adds to rules: names that begin with [`EXTENSION`].
    pub annotations: Vec<(Arc<str>, Template)>,
    /// `pitwatch_no_data`: what missing data means, where the rule says so.
    pub no_data: Option<NoData>,
    /// `pitwatch_depends_on`: as [`crate::depends::parse`] reads it once it is rendered.
    pub depends_on: Option<Template>,
}

/// How the names begin of what Pitwatch adds to alert rules, as annotations or labels: Prometheus takes them for texts.
pub const EXTENSION: &str = "pitwatch_";

/// What it means for an alert that its expression yields nothing because there is no data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoData {
    /// Nobody knows: the alert stays as it is.
    #[default]
    Keep,
    /// It is as bad as what the rule is for: a pending alert fires in its time, a firing one is told again, once.
    Alert,
    /// The alert is over, as in Prometheus.
    Resolve,
}

impl NoData {
    /// The policy of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "keep" => Self::Keep,
            "alert" => Self::Alert,
            "resolve" => Self::Resolve,
            _ => return None,
        })
    }
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
