//! The peers' benchmark: Pitwatch, VictoriaMetrics and Prometheus side by side on loopback, fed the same samples.
//!
//! - [`data`]: the samples: a recording of a real host played as many hosts, or made-up series.
//! - [`server`]: the three programs, each in a fresh directory: start, flush, sizes, memory.
//! - [`feed`]: Pitwatch by its own wire over real QUIC, the others by remote write.
//! - [`store`]: disk, ingest, memory, recovery and scan.
//! - [`alerts`]: the same rules beside Prometheus with Alertmanager: cost, and breach to webhook.
//! - [`queries`]: the same queries to all three: answers compared, latencies.
//! - [`report`]: the one table.

pub mod alerts;
pub mod data;
pub mod feed;
pub mod queries;
pub mod report;
pub mod server;
pub mod store;
