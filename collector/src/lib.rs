//! The collector: ingest, history, PromQL over HTTP, rules and alerts.
//!
//! In reading order:
//! - [`state`]: agents, certificates, tokens, silences, alert states and the notification queue, on disk.
//! - [`authority`]: the collector's own certificate authority.
//! - [`agents`]: who the agents are: enrolment, renewal, revocation.
//! - [`listen`]: the QUIC endpoint and its connections.
//! - [`ingest`]: frames to durable history, and acks.
//! - [`clock`]: the wall clock.

pub mod agents;
pub mod authority;
pub mod clock;
pub mod ingest;
pub mod listen;
pub mod state;

/// An error and its sources in one line.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
