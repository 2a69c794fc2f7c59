//! The part of Go's text/template that rule files and messages use, with the functions of Prometheus and Alertmanager.
//!
//! Actions, pipes, variables, `if`, `with`, `range`, `define` and `template`, and Prometheus' functions over labels,
//! values and queries. Output, steps and nesting are bounded; text prints as Go prints it, so that messages read as they
//! did before.

mod exec;
mod functions;
mod gofmt;
mod message;
mod parse;

pub use message::Library;

pub(crate) use functions::url_query_escape;

use std::sync::Arc;

use crate::engine::Row;
use crate::labels::LabelSet;
use crate::message::{Frame, Message};

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

    /// Reads a template of a message.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`], also for functions and variables that do not exist.
    pub fn parse_message(text: &str) -> Result<Self, TemplateError> {
        let parsed = parse::parse_message(text)?;
        Ok(Self { source: text.into(), parsed: parsed.into() })
    }

    /// The text for one message.
    ///
    /// # Errors
    /// [`TemplateError::Failed`].
    pub fn render_message(&self, library: &Library, message: &Message, frame: &Frame) -> Result<String, TemplateError> {
        let data = message::data(message, frame);
        let no_queries = |_: &str| Err("messages ask no queries: rules do".to_owned());
        let context = Context {
            labels: &LabelSet::empty(),
            value: f64::NAN,
            now_ms: message.now_ms,
            external_labels: &LabelSet::empty(),
            external_url: &frame.external_url,
            query: &no_queries,
        };
        exec::render_message(&self.parsed, library, &data, &context)
            .map_err(|message| TemplateError::Failed { template: self.source.to_string(), message })
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
