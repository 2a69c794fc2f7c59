//! Backups: what a collector needs to be itself again, copied while it runs (docs/formats/backup.md).
//!
//! In reading order:
//! - [`snapshot`]: the collector's part: all files at one moment under second names, in no time.
//! - `dump`: the state store as a file that either engine can take.
//! - `manifest`: what a backup consists of.
//! - `copy`: from a snapshot to a backup, only what is new; `restore`: the way back; [`check`]: every byte read.
//!
//! The collector itself writes to no directory that somebody names: it makes the snapshot beside its data, and the
//! command, which runs with the rights of whoever started it, copies. So a token gives no way to write elsewhere, a slow
//! disk or a slow network mount holds up nobody, and the unit's sandbox stays shut.

mod copy;
mod dump;
mod manifest;
mod restore;
pub mod snapshot;

use std::io;
use std::path::{Path, PathBuf};

use crate::state::StateError;

pub use copy::{Copied, backup};
pub use dump::{DumpError, parse as parse_dump};
pub use manifest::{Checked, Manifest, ManifestError, check, parse as parse_manifest};
pub use restore::{Restored, UNFINISHED, restore};

/// Under which name the store's files are in a snapshot, a backup and the data directory.
const HISTORY: &str = "history";
/// The dump of the state store.
const STATE_DUMP: &str = "state.dump";
/// Bytes read and written at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another backup is being written to the same directory.
    #[error("another backup is being written to {0}: wait for it")]
    Busy(PathBuf),
    /// The running collector made no snapshot.
    #[error("the running collector made no snapshot: {0}")]
    Snapshot(String),
    /// The list of a backup's files cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The dump of the state cannot be used.
    #[error("the state in the backup cannot be used")]
    Dump(#[from] DumpError),
    /// The state store refused.
    #[error(transparent)]
    State(#[from] StateError),
    /// History could not be opened to make a snapshot of it.
    #[error("history cannot be opened")]
    History(#[from] pitwatch_history::OpenError),
    /// The directory to restore into holds something.
    #[error("{0} is not empty: give a data directory that is, or move this one away")]
    NotEmpty(PathBuf),
    /// Files of the backup are not what was written.
    #[error("{}", damaged(.0))]
    Damaged(Vec<PathBuf>),
}

/// Most damaged files that an error names.
const DAMAGED_NAMED_MAX: usize = 10;

fn damaged(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().take(DAMAGED_NAMED_MAX).map(|path| path.display().to_string()).collect();
    let more = paths.len().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "the backup is damaged, nothing was restored: {}{more}; use another backup, or --leave-out-damaged to do without \
         these files of history",
        names.join(", ")
    )
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { action, path, source }
}
