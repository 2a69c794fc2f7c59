//! Rules over PromQL: joins the query language to alerting, over any store of samples. In reading order:
//!
//! - [`expression`]: a rule's expression, prepared once and run at an instant;
//! - [`instance`]: which expressions can be evaluated an instance at a time;
//! - [`mod@unit`]: unit tests of rules, in the files that `promtool test rules` takes;
//! - [`preview`]: what rules would have done over a past span.
//!
//! No network, no files but those of unit tests, no clock.

pub mod expression;
pub mod instance;
pub mod preview;
pub mod unit;

pub use expression::prepare;
