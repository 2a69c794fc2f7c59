//! The part of Go's text/template that rule files use: parsing here, and the functions of Prometheus.
//!
//! Actions, pipes, variables, `if`, `with`, `range`, `define` and `template`, and Prometheus' functions over labels,
//! values and queries. Output, steps and nesting are bounded; text prints as Go prints it, so that messages read as they
//! did before.

mod exec;
mod functions;
mod gofmt;
mod parse;

pub(crate) use functions::url_query_escape;

use std::sync::Arc;

use crate::engine::Row;
use crate::labels::LabelSet;

/// Why a template was refused or gave no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It cannot be read.
    #[error("template: {message} (in {near:?})")]
    Syntax {
        /// What is wrong, and what would be right.
        message: String,
        /// The text where it was noticed.
        near: String,
    },
    /// It was read, but failed on these labels and this value.
    #[error("template {template:?}: {message}")]
    Failed {
        /// The template.
        template: String,
        /// What failed.
        message: String,
    },
}

/// A template, read and ready.
#[derive(Clone, Debug)]
pub struct Template {
    source: Arc<str>,
    parsed: Arc<parse::Parsed>,
}

/// What a template speaks of.
pub struct Context<'a> {
    /// `$labels`: the labels of the row, its metric name among them.
    pub labels: &'a LabelSet,
    /// `$value`.
    pub value: f64,
    /// The time of the evaluation, Unix milliseconds.
    pub now_ms: i64,
    /// `$externalLabels`.
    pub external_labels: &'a LabelSet,
    /// `$externalURL`: where people reach this collector.
    pub external_url: &'a str,
    /// Answers `query`.
    pub query: &'a dyn Fn(&str) -> Result<Vec<Row>, String>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`], also for functions and variables that do not exist.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let parsed = parse::parse(text)?;
        Ok(Self { source: text.into(), parsed: parsed.into() })
    }

    /// The text as written.
    #[must_use]
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// The text, if the template has no actions and so always yields the same.
    #[must_use]
    pub fn literal(&self) -> Option<&Arc<str>> {
        match &*self.parsed.0 {
            [] | [parse::Node::Text(_)] if !self.source.contains("{{") => Some(&self.source),
            _ => None,
        }
    }

    /// The text for one row.
    ///
    /// # Errors
    /// [`TemplateError::Failed`].
    pub fn render(&self, context: &Context<'_>) -> Result<String, TemplateError> {
        exec::render(&self.parsed, context)
            .map_err(|message| TemplateError::Failed { template: self.source.to_string(), message })
    }
}

#[cfg(test)]
mod tests;
