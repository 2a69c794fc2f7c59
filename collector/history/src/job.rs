//! Work that takes long: [`crate::Appender::maintain`] hands it out, its caller gives it a thread.
//!
//! A job holds what it needs, works beside appends and queries, and claims its kind: while it is not done, no other of
//! its kind is handed out. Dropped without having run, or after a failure, it is handed out anew by a later maintenance.

use std::ops::ControlFlow;

use crate::compact::{CompactJob, Compacted};
use crate::error::{BuildError, RollupError};
use crate::logs::{LogError, LogMergeJob};
use crate::rollup::{RolledUp, RollupJob};
use crate::seal::{SealJob, Sealed};

/// A job. Jobs of different kinds may run at the same time.
#[derive(Debug)]
#[non_exhaustive]
pub enum Job {
    /// Writes the head into a block. Ingest waits for its memory: run it at once and at full speed.
    Seal(SealJob),
    /// Makes one block of several.
    Compact(CompactJob),
    /// Makes a rollup file.
    Rollup(RollupJob),
    /// Makes one file of log lines of several.
    MergeLogs(LogMergeJob),
}

/// What a job came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Done {
    /// A head is in a block.
    Sealed(Sealed),
    /// Blocks became one, or nothing was to do.
    Compacted(Compacted),
    /// A rollup file is there.
    RolledUp(RolledUp),
    /// So many files of log lines became one.
    LogsMerged(usize),
    /// The job was told to end early.
    Stopped,
}

/// Why a job failed. Nothing is lost; it is handed out again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// A head stays in memory and in the log.
    #[error("cannot seal the head")]
    Seal(#[source] BuildError),
    /// The blocks stay as they are.
    #[error("cannot compact blocks")]
    Compact(#[source] BuildError),
    /// Queries go on with what there is.
    #[error("cannot make a rollup file")]
    Rollup(#[from] RollupError),
    /// The files of log lines stay as they are.
    #[error("cannot merge files of log lines")]
    MergeLogs(#[source] LogError),
}

/// Called by a patient job between small pieces of work with the bytes that it wrote since: may sleep, so that the
/// job takes its share and no more, or say that the job is to end early, as at a stop.
pub type Pace<'a> = dyn FnMut(u64) -> ControlFlow<()> + 'a;

impl Job {
    /// What it is called in logs and as a thread.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Seal(_) => "seal",
            Self::Compact(_) => "compact",
            Self::Rollup(_) => "rollup",
            Self::MergeLogs(_) => "merge-logs",
        }
    }

    /// Does the work.
    ///
    /// # Errors
    /// As its kind has it.
    pub fn run(self, pace: &mut Pace<'_>) -> Result<Done, JobError> {
        match self {
            Self::Seal(job) => job.run().map(Done::Sealed).map_err(JobError::Seal),
            Self::Compact(job) => job.run(pace).map(Done::Compacted).map_err(JobError::Compact),
            Self::MergeLogs(job) => {
                let merged = job.run(pace).map_err(JobError::MergeLogs)?;
                Ok(if merged == 0 { Done::Stopped } else { Done::LogsMerged(merged) })
            }
            Self::Rollup(job) => Ok(job.run(pace)?.map_or(Done::Stopped, Done::RolledUp)),
        }
    }
}
