//! Log lines: streams (labels) of timestamped lines, compressed in chunks, found by labels, time and the words in them.
//!
//! It stands beside the samples in the same store's directory, with files of its own (docs/formats/logs.md), and knows
//! nothing of frames: who appends says up to which log segment a seal holds everything, and appends again after a restart
//! what came later.
//!
//! In reading order:
//! - `store`: lines in, sealed into files, deleted by age and bytes.
//! - `chunk`: some lines of one stream as bytes; `filter`: the words of a chunk.
//! - `format`: the parts of a file; `file`: writing and reading one.
//! - `merge`: many small files become one.
//! - `search`: lines out.

mod chunk;
mod file;
mod filter;
pub mod format;
mod merge;
mod search;
mod store;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use chunk::{Line, try_lines};
pub use file::{Checked, LogLoss, verify};
pub use merge::LogMergeJob;
pub use search::{Answer, Direction, Needle, Query};
pub use store::{LogAppendError, LogSealJob, LogStats, LogStore};

/// The directory of log files, under the store's.
pub const LOGS_DIR: &str = "logs";

/// Longest line, bytes.
pub const LINE_MAX_BYTES: usize = 256 * 1024;
/// A chunk is closed when its text has this many bytes.
pub const CHUNK_TEXT_BYTES: usize = 512 * 1024;
/// Most lines of a chunk.
pub const CHUNK_LINES_MAX: usize = 1 << 16;
/// Largest chunk before compression: its text, and for each line its time and length.
pub(crate) const CHUNK_RAW_MAX_BYTES: usize = CHUNK_TEXT_BYTES + LINE_MAX_BYTES + CHUNK_LINES_MAX * 18;
/// Most streams in memory.
pub const STREAMS_MAX: usize = 100_000;
/// Most lines that a query answers.
pub const ANSWER_LINES_MAX: usize = 10_000;
/// Most bytes of lines that a query answers.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What may be chosen about logs.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Memory of lines at which they are to be sealed; at twice as much appends are refused.
    pub head_max_bytes: u64,
    /// Age after which a file is deleted; `None` keeps all.
    pub retention_age: Option<Duration>,
    /// Bytes of files above which the oldest are deleted; `None` keeps all.
    pub retention_bytes: Option<u64>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            head_max_bytes: 64 * 1024 * 1024,
            retention_age: Some(Duration::from_secs(14 * 24 * 60 * 60)),
            retention_bytes: None,
        }
    }
}

/// Why log lines cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
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
    /// Bytes that are not what was written.
    #[error("{path}: {part} is damaged; restore the file from a backup, or delete it to do without its lines")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which part.
        part: format::Part,
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
