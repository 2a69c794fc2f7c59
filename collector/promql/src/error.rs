//! What can go wrong with a query, and which error type of the HTTP API it is. Owns no text of the callers' errors: a
//! source's own failure is kept whole and printed by whoever prints the chain.

use crate::ast::Span;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// A source of samples failed; the engine passes its error on untouched.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a valid query. `line` and `column` count from one.
    #[error("{line}:{column}: parse error: {message}")]
    Parse {
        /// Line of the first byte that is at fault.
        line: u32,
        /// Column of that byte in its line, in bytes.
        column: u32,
        /// What was found, and often what was expected.
        message: String,
    },
    /// The request makes no sense before anything is evaluated: an impossible time, too many steps.
    #[error("{0}")]
    BadRequest(String),
    /// The query is valid but this data cannot be combined as it says.
    #[error("{0}")]
    Execution(String),
    /// The query would hold more samples in memory at once than the limit allows.
    #[error(
        "query processing would load too many samples into memory: at least {needed} at once, {limit} are allowed; \
         select fewer series, a shorter time or a larger step"
    )]
    TooManySamples {
        /// How many samples it would hold, as far as it got.
        needed: usize,
        /// How many it may.
        limit: usize,
    },
    /// The query ran longer than it may.
    #[error("query timed out after {limit_ms} ms; select fewer series or a shorter time")]
    Timeout {
        /// The limit that was reached, in milliseconds.
        limit_ms: u64,
    },
    /// Whoever asked has gone.
    #[error("query was canceled")]
    Cancelled,
    /// The source of samples failed.
    #[error("samples could not be read")]
    Source(#[source] SourceError),
}

/// The `errorType` of Prometheus' HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// `bad_data`, status 400.
    BadData,
    /// `execution`, status 422.
    Execution,
    /// `timeout`, status 503.
    Timeout,
    /// `canceled`, status 503.
    Canceled,
    /// `internal`, status 500.
    Internal,
}

impl ErrorKind {
    /// The word that the HTTP API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::BadData => "bad_data",
            ErrorKind::Execution => "execution",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Canceled => "canceled",
            ErrorKind::Internal => "internal",
        }
    }
}

impl Error {
    /// The class of the error, as the HTTP API tells them apart.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Parse { .. } | Error::BadRequest(_) => ErrorKind::BadData,
            Error::Execution(_) | Error::TooManySamples { .. } => ErrorKind::Execution,
            Error::Timeout { .. } => ErrorKind::Timeout,
            Error::Cancelled => ErrorKind::Canceled,
            Error::Source(_) => ErrorKind::Internal,
        }
    }

    pub(crate) fn parse(at: Span, message: impl Into<String>) -> Error {
        Error::Parse { line: at.line, column: at.column, message: message.into() }
    }

    pub(crate) fn execution(message: impl Into<String>) -> Error {
        Error::Execution(message.into())
    }
}
