//! The collector: ingest, history, PromQL over HTTP, rules and alerts.
//!
//! - [`state`]: agents, certificates, tokens, silences, alert states and the notification queue, on disk.

pub mod state;
