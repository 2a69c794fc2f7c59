//! PromQL, the query language of Prometheus 3: a parser and an evaluator over a small trait, for programs that have
//! samples of their own. Classic histograms, `@`, offsets, subqueries, duration expressions, UTF-8 names and all ways of
//! matching are there; native histograms are passed over, and functions that Prometheus keeps behind a feature flag are
//! not there. Names are dropped at the end of a query, as with Prometheus' `promql-delayed-name-removal`.
//!
//! ```
//! use pitwatch_promql::testing::MemorySource;
//! use pitwatch_promql::{Cancel, Engine, EngineOptions, Labels, Value, parse};
//!
//! let mut source = MemorySource::new();
//! let labels = Labels::from_pairs([("__name__", "requests_total"), ("job", "api")]);
//! for i in 0..10 {
//!     source.push(&labels, i * 10_000, i as f64 * 5.0);
//! }
//!
//! let expr = parse("sum by (job) (rate(requests_total[1m]))")?;
//! let answer = Engine::new(EngineOptions::default()).instant(&source, &expr, 90_000, &Cancel::new())?;
//! assert_eq!(answer.value, Value::Vector(vec![(Labels::from_pairs([("job", "api")]), 90_000, 0.5)]));
//!
//! let error = parse("rate(requests_total)").unwrap_err();
//! assert!(error.to_string().starts_with("1:6: parse error: expected type range vector"));
//! # Ok::<(), pitwatch_promql::Error>(())
//! ```
//!
//! A query goes through [`parse`], which gives an [`Expr`] ([`mod@ast`]) or an error with its place, and through an
//! [`Engine`], which asks a [`Source`] for series and samples and gives an [`Answer`]. An expression is evaluated over
//! all steps of a query at once and series by series: a function of a window costs what enters and leaves the window,
//! an aggregation holds its groups and not its input, and a long series is read in pieces. So memory grows with the
//! answer and not with the history that it is made of, and [`EngineOptions::max_samples`] bounds it.
//!
//! In the order of reading: [`mod@ast`] and `parser` (text to tree), `functions` (the table), [`Source`] (`source`, what
//! a store must do; `bucket`, what it may give in place of samples), `engine` (a whole query), `eval` (expressions). [`testing`] has a store in memory, [`promqltest`]
//! runs the scripts in which Prometheus keeps its engine's behaviour.

pub mod ast;
mod bucket;
mod durations;
mod engine;
mod error;
mod eval;
mod functions;
mod labels;
mod matcher;
mod parser;
pub mod promqltest;
mod source;
pub mod testing;
mod text;

pub use ast::Expr;
pub use bucket::{Bucket, BucketFields};
pub use engine::{Answer, Cancel, Engine, EngineOptions, Stats, Value};
pub use error::{Error, ErrorKind, Result, SourceError};
pub use functions::{FUNCTIONS, Function, Variadic};
pub use labels::{Labels, METRIC_NAME};
pub use matcher::{MatchOp, Matcher};
pub use parser::{MAX_DEPTH, MAX_QUERY_BYTES, parse, parse_selector};
pub use source::{
    Hints, NATIVE_HISTOGRAM, STALE, STALE_BITS, SampleBuf, Selection, Source, is_native_histogram, is_stale,
};
pub use text::{format_duration, format_value, parse_duration};
