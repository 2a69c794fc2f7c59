//! The Pitwatch agent: one host's signals, delivered to a collector.
//!
//! In reading order:
//! - [`spool`]: frames on disk while the collector is away.
//! - [`lane`]: ticks in, numbered frames out; [`events`]: what happened once, on a lane of its own.
//! - [`identity`]: the key and the certificate on disk.
//! - [`link`]: enrolment and the connection to the collector.
//! - [`run`]: all of it at work; [`notify`]: what systemd is told.
//! - [`apps`]: signals of applications: endpoints, text files, StatsD.
//! - [`config`]: agent.toml, as written and as checked; [`reload`]: when it changes.
//! - [`signals`]: what is read of this host, how often, and the series that come of it.
//! - [`limits`]: what the agent itself may use.
//! - [`exposition`]: the text format, for `once`.
//! - [`doctor`]: what cannot be read here, and how to allow it.
//! - [`arguments`]: the command line.

pub mod apps;
pub mod arguments;
pub mod config;
pub mod doctor;
pub mod events;
pub mod exposition;
pub mod identity;
pub mod lane;
pub mod limits;
pub mod link;
pub mod notify;
pub mod reload;
pub mod run;
pub mod signals;
pub mod spool;
