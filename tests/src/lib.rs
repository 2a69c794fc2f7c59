//! What the suites, the demo and the benchmarks share: real programs started, asked and ended.
//!
//! - [`programs`]: the collector and agents as child processes on loopback, in directories of their own.
//! - [`http`]: asking the collector's API.
//! - [`webhook`]: a receiver of alerts that remembers what it was sent; [`mail`]: a mail server that does.
//! - [`host`]: what /proc says, to compare with.
//! - [`fleet`]: many simulated agents over real QUIC.
//! - [`peers`]: VictoriaMetrics and Prometheus side by side with Pitwatch.

pub mod fleet;
pub mod host;
pub mod http;
pub mod mail;
pub mod peers;
pub mod programs;
pub mod webhook;
