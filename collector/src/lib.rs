//! The collector: ingest, history, PromQL over HTTP, rules and alerts.
//!
//! In reading order:
//! - [`config`]: collector.toml, as written and as checked.
//! - [`run`]: everything joined.
//! - [`state`]: agents, certificates, tokens, silences, alert states and the notification queue, on disk.
//! - [`authority`]: the collector's own certificate authority.
//! - [`agents`]: who the agents are: enrolment, renewal, revocation; [`fleet`]: the same for the API.
//! - [`listen`]: the QUIC endpoint and its connections.
//! - [`ingest`]: frames to durable history, and acks; [`background`]: the store's jobs.
//! - [`source`]: history as PromQL sees it.
//! - [`alerts`]: rules, alert states, deliveries.
//! - [`access`]: API tokens and roles; [`api`]: HTTP; [`certificate`]: what it is encrypted with.
//! - [`telemetry`]: the collector on itself.
//! - [`backup`]: backups and their restoring; [`verify`]: every byte read; [`meter`]: their progress.
//! - [`clock`]: the wall clock; [`arguments`]: the command line.

pub mod access;
pub mod agents;
pub mod alerts;
pub mod api;
pub mod arguments;
pub mod authority;
pub mod background;
pub mod backup;
pub mod certificate;
pub mod clock;
pub mod config;
pub mod fleet;
pub mod ingest;
pub mod listen;
pub mod meter;
pub mod remote_write;
pub mod run;
pub mod source;
pub mod state;
pub mod telemetry;
pub mod verify;

pub use pitwatch_shared::error_chain;
