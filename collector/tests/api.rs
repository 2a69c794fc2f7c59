//! The HTTP API: a real server on a free port over a real store, asked by real clients.
//!
//! - `server`: the server under test, two hosts in its store, and stand-ins for agents and alerts.
//! - `prometheus`: Prometheus' endpoints; `promtool`: the same as Prometheus' own programs see them; `grafana`: the
//!   requests of Grafana's data source.
//! - `access`: tokens, roles, sessions; `own`: the collector's endpoints; `people`: silences, acknowledgements, incidents;
//!   `live`: values as they change; `page`: what a browser sees; `write`: remote write in; `openapi`: the description of
//!   all of it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy.toml knows only functions marked #[test]"
)]

#[path = "api/access.rs"]
mod access;
#[path = "api/grafana.rs"]
mod grafana;
#[path = "api/live.rs"]
mod live;
#[path = "api/openapi.rs"]
mod openapi;
#[path = "api/own.rs"]
mod own;
#[path = "api/page.rs"]
mod page;
#[path = "api/people.rs"]
mod people;
#[path = "api/prometheus.rs"]
mod prometheus;
#[path = "api/promtool.rs"]
mod promtool;
#[path = "api/server.rs"]
mod server;
#[path = "api/write.rs"]
mod write;
