//! Alerting: rule files in, alert states kept, messages out. In reading order:
//!
//! - [`labels`]: the label set that identifies an alert, and its fingerprint;
//! - [`rules`]: Prometheus' rule files, read and checked, every mistake with its line;
//! - [`time`]: durations and instants as text;
//! - [`template`]: the part of Go's text/template that rule files use;
//! - [`depends`]: what an alert depends on;
//! - [`yaml`]: YAML as a tree with lines;
//! - [`engine`]: groups and their clocks, the states of alerts, what each evaluation changes;
//! - [`notification`]: one transition of one alert, as receivers and the state store see it;
//! - [`payload`]: the bodies that chat webhooks take;
//! - [`queue`]: deliveries until a receiver has taken them;
//! - [`limits`]: every bound of the above.
//!
//! Everything here is a function of its inputs and of the time handed in. The crate knows no query language, no
//! storage and no network: the collector hands in a [`engine::Source`] and carries out what comes back.

pub mod depends;
pub mod engine;
pub mod labels;
pub mod limits;
pub mod notification;
pub mod payload;
pub mod queue;
pub mod rules;
pub mod template;
pub mod time;
pub mod yaml;

pub use engine::{Engine, Output, Prepared, Row, RuleSample, Semantics, Source, StoredAlert};
pub use labels::LabelSet;
pub use notification::{Notification, Transition};
pub use queue::{Outcome, Queue};
pub use rules::{NoData, RuleError, RuleFile};
