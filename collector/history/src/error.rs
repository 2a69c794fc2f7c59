//! What can go wrong at the store's edge, one enum an operation.

use std::io;
use std::path::PathBuf;

use pitwatch_shared::codec::DecodeError;
use pitwatch_shared::model::{Lane, Mark};

use crate::block::BlockError;
use crate::logs::LogError;

/// Why a store could not be opened. Damage to single files is no such reason: see [`crate::RecoveryReport`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The disk does not give a log segment back. Nothing was changed.
    #[error(
        "cannot read {path}, which holds what was acknowledged last; if it stays so, restore from a backup, or move the \
         file away to go on without it"
    )]
    Log {
        /// The segment.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file of a later version of this program.
    #[error(
        "{path} has format version {found}, this program knows up to {known}: run the version that wrote it, or newer"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest version known.
        known: u32,
    },
}

/// Why a frame was not taken. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The frame itself is at fault; the store is as before.
    #[error(transparent)]
    Reject(#[from] Reject),
    /// The disk refuses and what waits for it has reached its limit: commit until it succeeds, then append again.
    #[error("{pending_bytes} bytes wait for a commit, the limit is {limit_bytes}: commit before appending more")]
    Backlog {
        /// Bytes that wait.
        pending_bytes: u64,
        /// [`crate::Config::pending_max_bytes`].
        limit_bytes: u64,
    },
}

/// What is wrong with a frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// Over the limit of a frame.
    #[error("a frame of {0} bytes, more than {max}", max = pitwatch_shared::limits::FRAME_PAYLOAD_MAX_BYTES)]
    TooLarge(usize),
    /// A lane that this store does not keep.
    #[error("the store keeps no frames of the {0:?} lane")]
    Lane(Lane),
    /// Not the frame after the last one, and it begins no chain.
    #[error("frame {got:?} does not follow {last:?}: begin a new chain")]
    Gap {
        /// The last frame taken, if any.
        last: Option<Mark>,
        /// The frame's mark.
        got: Mark,
    },
    /// Not a frame, or one that the chain so far makes no sense of.
    #[error("malformed frame")]
    Malformed(#[from] DecodeError),
}

/// Why appended frames are not durable yet. They wait in memory; the commit may be repeated until it succeeds.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} write-ahead log {path}; {pending_bytes} bytes wait in memory")]
pub struct CommitError {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Bytes that wait.
    pub pending_bytes: u64,
    /// The reason.
    #[source]
    pub source: io::Error,
}

/// Why blocks were not made. What they were to be made from stays; a later maintenance tries again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A file could not be written, named or removed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Too little room on the disk.
    #[error("{needs_bytes} bytes of the disk are to be free, {free_bytes} are")]
    Room {
        /// What must be free before the work begins.
        needs_bytes: u64,
        /// What is.
        free_bytes: u64,
    },
    /// A block that is to be read, or the one just written, is not readable.
    #[error("a block is not readable")]
    Block(#[from] BlockError),
    /// The lines beside the samples could not be sealed.
    #[error("cannot seal the lines of events")]
    Lines(#[from] LogError),
}

/// Why a rollup file was not made. What it is made of stays; a later maintenance tries again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RollupError {
    /// The file could not be written.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// What it is made of cannot be read, or it does not read back.
    #[error("a file of the store is not readable")]
    Block(#[from] BlockError),
    /// A series was forgotten meanwhile, as what it is made of was deleted.
    #[error("what it is made of was deleted meanwhile")]
    Forgotten,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// What was appended cannot be made durable.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Files were removed under it every time.
    #[error("files of the store went away under each of {tries} tries: try again")]
    Unsteady {
        /// How often it was tried.
        tries: usize,
    },
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A block is damaged or cannot be read.
    #[error("a block cannot be read")]
    Block(#[from] BlockError),
}
