//! The store from outside.
//!
//! - `common`: sources that play agents, and the plain model.
//! - `model`: random operations against the model.
//! - `compact`: windows and compaction: which value wins, what is left alone.
//! - `crash`: the same with power cuts, failing syncs and a full disk: what was acknowledged is there once.
//! - `damage`: files cut and bits flipped.
//! - `events`: events beside samples, over power cuts.
//! - `faults`: a disk that refuses; files cut or flipped.
//! - `fixtures`: files of every version of the formats.
//! - `rollup`: buckets against the samples they stand for.
//! - `limits`: series limits, backlog, retention, and when a head is sealed.
//! - `logs`: log lines.
//! - `operations`: verification, snapshots, usage.
//! - `rows`: samples by series, against a model, over power cuts.

// The helpers of these tests are not in test functions, where clippy.toml allows it.
#![allow(clippy::unwrap_used)]

#[path = "suite/common.rs"]
mod common;
#[path = "suite/compact.rs"]
mod compact;
#[path = "suite/crash.rs"]
mod crash;
#[path = "suite/damage.rs"]
mod damage;
#[path = "suite/events.rs"]
mod events;
#[path = "suite/faults.rs"]
mod faults;
#[path = "suite/fixtures.rs"]
mod fixtures;
#[path = "suite/limits.rs"]
mod limits;
#[path = "suite/logs.rs"]
mod logs;
#[path = "suite/model.rs"]
mod model;
#[path = "suite/operations.rs"]
mod operations;
#[path = "suite/rollup.rs"]
mod rollup;
#[path = "suite/rows.rs"]
mod rows;
