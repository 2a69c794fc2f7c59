//! Pitwatch's embedded time-series store.
//!
//! One [`Appender`] takes frames of sources and makes them durable; many readers query the [`History`] meanwhile.
//! Everything on disk goes through [`pitwatch_disk::Disk`], time is passed in, and no thread is started here: what
//! takes long is handed out as a [`Job`].
//!
//! In reading order:
//! - [`source`](SourceName): who sends frames.
//! - [`config`](Config): limits and retention.
//! - `appender`: frames in, commit, upkeep; `ingest`: what a frame does to a source's state.
//! - `rows`: samples by series instead of by frame.
//! - `head`: samples in memory; `index`: labels to series; `matchers`: what a selector means.
//! - [`wal`]: the write-ahead log; `recovery`: opening a store.
//! - [`job`](Job): work for a thread of its own.
//! - [`block`]: immutable files; `blocks`: their directory; `catalog`: which there should be; `window`: aligned spans of time.
//! - `seal`: from head to blocks; `compact`: from several blocks to one; `retention`: what goes.
//! - [`rollup`]: what remains of samples by the minute and by the hour.
//! - [`logs`]: log lines, in files of their own.
//! - [`verify`](verify()): every byte read, without a change; `snapshot`: all files at one moment, for backups.
//! - `history`: queries; `stats`: figures; `usage`: who and what takes the room; `refused`: what the limits
//!   refused.

mod appender;
pub mod block;
mod blocks;
mod bytes;
mod catalog;
mod compact;
mod config;
mod error;
mod head;
mod history;
mod index;
mod ingest;
mod job;
pub mod logs;
mod matchers;
mod recovery;
mod refused;
mod retention;
pub mod rollup;
mod rows;
mod seal;
mod snapshot;
mod source;
mod stats;
mod usage;
mod verify;
pub mod wal;
mod window;

pub use appender::Appender;
pub use compact::{CompactJob, Compacted};
pub use config::Config;
pub use error::{AppendError, BuildError, CommitError, OpenError, QueryError, Reject, RollupError, SnapshotError};
pub use history::{History, SeriesRef};
pub use ingest::Appended;
pub use job::{Done, Job, JobError, Pace};
pub use matchers::{MatchOp, Matcher, MatcherError};
pub use recovery::{Loss, RecoveryReport};
pub use refused::{Explosion, Refused, SeriesLimit};
pub use rows::{RowsAppended, SeriesRows};
pub use seal::{SealJob, Sealed};
pub use snapshot::{FileKind, SnapshotFile};
pub use source::{SourceKind, SourceName};
pub use stats::Stats;
pub use usage::{Amount, SourceUsage, Usage};
pub use verify::{COLUMNS_LISTED_MAX, Damage, Progress, Verified, verify};
