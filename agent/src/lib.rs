//! The Pitwatch agent: one host's signals, delivered to a collector.
//!
//! In reading order:
//! - [`spool`]: frames on disk while the collector is away.
//! - [`lane`]: ticks in, numbered frames out.
//! - [`identity`]: the key and the certificate on disk.
//! - [`link`]: enrolment and the connection to the collector.

pub mod identity;
pub mod lane;
pub mod link;
pub mod spool;
pub mod exposition;
pub mod signals;
