//! Rules over PromQL: joins the query language to alerting, over any store of samples. In reading order:
//!
//! - [`expression`]: a rule's expression, prepared once and run at an instant;
//! - [`mod@unit`]: unit tests of rules, in the files that `promtool test rules` takes;
//! - [`preview`]: what rules would have done over a past span.
//!
//! No network, no files but those of unit tests, no clock.

pub mod expression;
pub mod preview;
pub mod unit;

pub use expression::prepare;
