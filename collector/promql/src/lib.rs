//! PromQL: a parser and an evaluator over a small trait.

pub mod ast;
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
pub use engine::{Answer, Cancel, Engine, EngineOptions, Stats, Value};
pub use error::{Error, ErrorKind, Result, SourceError};
pub use functions::{FUNCTIONS, Function, Variadic};
pub use labels::{Labels, METRIC_NAME};
pub use matcher::{MatchOp, Matcher};
pub use parser::{MAX_DEPTH, MAX_QUERY_BYTES, parse, parse_selector};
pub use source::{Hints, NATIVE_HISTOGRAM, STALE, STALE_BITS, SampleBuf, Source, is_native_histogram, is_stale};
pub use text::{format_duration, format_value, parse_duration};
