//! Alerting: rule files in, alert states kept, messages out. In reading order:
//!
//! - [`labels`]: the label set that identifies an alert, and its fingerprint;
//! - [`rules`]: Prometheus' rule files, read and checked, every mistake with its line;
//! - [`time`]: durations and instants as text;
//! - [`template`]: the part of Go's text/template that rule files use;
//! - [`depends`]: what an alert depends on;
//! - [`yaml`]: YAML as a tree with lines;
//! - [`engine`]: groups and their clocks, the states of alerts, what each evaluation changes;
//! - [`outside`]: alerts that others evaluate and hand in;
//! - [`notification`]: one transition of one alert, as receivers and the state store see it;
//! - [`matchers`], [`routing`], [`silences`]: who hears of what, and when not;
//! - [`dispatch`]: groups, what each line was told, and what it is to be told now;
//! - [`message`], [`receivers`]: one message, and the bytes that each platform takes;
//! - [`incidents`]: alerts of one cause, what people did about them, and how it went;
//! - [`limits`]: every bound of the above.
//!
//! Everything here is a function of its inputs and of the time handed in. The crate knows no query language, no
//! storage and no network: the collector hands in a [`engine::Source`] and carries out what comes back.

pub mod depends;
pub mod dispatch;
pub mod engine;
pub mod incidents;
pub mod labels;
pub mod limits;
pub mod matchers;
pub mod message;
pub mod notification;
pub mod outside;
pub mod receivers;
pub mod routing;
pub mod rules;
pub mod silences;
pub mod template;
pub mod time;
pub mod yaml;

pub use dispatch::{Dispatcher, Outcome};
pub use engine::{Engine, Output, Prepared, Row, RuleSample, Semantics, Source, StoredAlert};
pub use labels::LabelSet;
pub use matchers::Matcher;
pub use message::{Frame, Message};
pub use notification::{Notification, Transition};
pub use outside::Outside;
pub use routing::Routing;
pub use rules::{NoData, RuleError, RuleFile};
pub use silences::{Silence, Silences};
