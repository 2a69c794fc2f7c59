//! Real programs on loopback, each test with its own in a directory of its own.
//!
//! - `support`: waiting, gaps, a client that speaks the protocol by hand, a sender whose values a test chooses.
//! - `vitals`: what is queried is what /proc says.
//! - `host`: real changes to this host, and an agent without root.
//! - `storage`: XFS and Btrfs on loop devices, beside node_exporter.
//! - `identity`: enrolment, revocation, renewal, versions.
//! - `wire`: bad input costs its own connection and nothing else.
//! - `kills`: kill -9 of either side, over and over.
//! - `disk`: a full disk.
//! - `apps`: endpoints, text files, StatsD, and a configuration that changes.
//! - `away`: the collector is not there for a while.
//! - `backup`: backup, restore, verify.
//! - `damage`: torn and flipped bytes.
//! - `events`: what happened on a host, told once.
//! - `loss`: packets lost, doubled and out of order.
//! - `alerts`: webhooks, restarts, agents that fall silent.
//! - `dashboards`: other people's dashboards and rule packs over a real agent's series.
//! - `pages`: manual pages and completions of every program.
//! - `receivers`: every receiver against a platform in trouble; mail over TLS.
//! - `remote_write`: a real Prometheus and a real vmagent write into a collector.
//! - `http`: slow, large and many clients of the HTTP port.
//! - `openapi`: Schemathesis over the whole HTTP API.
//! - `rules`: rule files that change, previews.
//! - `routing`: Alertmanager's own programs, a platform that misbehaves, a host cut off.
//! - `outside`: alerts that others hand in; an alertmanager.yml that changes.
//! - `storm`: kill -9 at 200 moments of a storm of alerts.
//! - `tls`: HTTP over TLS: certificates, who is trusted, handshakes that do not come to an end.
//! - `versions`: an older agent at a newer collector, and the reverse.
//! - `settings`: mistakes in configurations, roles of tokens, stock rules.

// The helpers of these tests are not in test functions, where clippy.toml allows it.
#![allow(clippy::unwrap_used)]

#[path = "blackbox/support.rs"]
mod support;

#[path = "blackbox/alerts.rs"]
mod alerts;
#[path = "blackbox/apps.rs"]
mod apps;
#[path = "blackbox/away.rs"]
mod away;
#[path = "blackbox/backup.rs"]
mod backup;
#[path = "blackbox/damage.rs"]
mod damage;
#[path = "blackbox/dashboards.rs"]
mod dashboards;
#[path = "blackbox/disk.rs"]
mod disk;
#[path = "blackbox/events.rs"]
mod events;
#[path = "blackbox/host.rs"]
mod host;
#[path = "blackbox/http.rs"]
mod http;
#[path = "blackbox/identity.rs"]
mod identity;
#[path = "blackbox/kills.rs"]
mod kills;
#[path = "blackbox/loss.rs"]
mod loss;
#[path = "blackbox/openapi.rs"]
mod openapi;
#[path = "blackbox/outside.rs"]
mod outside;
#[path = "blackbox/pages.rs"]
mod pages;
#[path = "blackbox/receivers.rs"]
mod receivers;
#[path = "blackbox/remote_write.rs"]
mod remote_write;
#[path = "blackbox/routing.rs"]
mod routing;
#[path = "blackbox/rules.rs"]
mod rules;
#[path = "blackbox/settings.rs"]
mod settings;
#[path = "blackbox/storage.rs"]
mod storage;
#[path = "blackbox/storm.rs"]
mod storm;
#[path = "blackbox/tls.rs"]
mod tls;
#[path = "blackbox/versions.rs"]
mod versions;
#[path = "blackbox/vitals.rs"]
mod vitals;
#[path = "blackbox/wire.rs"]
mod wire;
