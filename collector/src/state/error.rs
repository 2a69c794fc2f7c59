//! What can go wrong with the state store, for its callers ([`StateError`]) and inside ([`Fault`]).

use std::io;
use std::path::{Path, PathBuf};

use super::{BATCH_MAX_BYTES, BATCH_MAX_KEYS, Engine, KEY_MAX_BYTES, Table, VALUE_MAX_BYTES};

/// What went wrong with the state store.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A key above [`KEY_MAX_BYTES`].
    #[error("a key of {key_bytes} bytes for the state table {table}: at most {KEY_MAX_BYTES} are allowed")]
    KeyTooLong {
        /// The table it was for.
        table: Table,
        /// Its length.
        key_bytes: usize,
    },
    /// A value above [`VALUE_MAX_BYTES`].
    #[error("a value of {value_bytes} bytes for the state table {table}: at most {VALUE_MAX_BYTES} are allowed")]
    ValueTooLong {
        /// The table it was for.
        table: Table,
        /// Its length.
        value_bytes: usize,
    },
    /// A batch above [`BATCH_MAX_KEYS`].
    #[error("a state batch of {keys} keys: at most {BATCH_MAX_KEYS} are allowed, split it")]
    BatchTooManyKeys {
        /// How many keys it had.
        keys: usize,
    },
    /// A batch above [`BATCH_MAX_BYTES`].
    #[error("a state batch of {batch_bytes} bytes: at most {BATCH_MAX_BYTES} are allowed, split it")]
    BatchTooLarge {
        /// The sum of its keys and values.
        batch_bytes: usize,
    },
    /// The directory holds the other engine's store.
    #[error(
        "{} was written by {found}, but [state] engine is \"{wanted}\": set it to \"{found}\", or move that away to \
         start with an empty state",
        path.display()
    )]
    OtherEngine {
        /// The other engine's file.
        path: PathBuf,
        /// Who wrote it.
        found: Engine,
        /// Who was to open it.
        wanted: Engine,
    },
    /// Somebody else has the store open.
    #[error("the state in {} is in use by another process: is another collector running on it?", dir.display())]
    InUse {
        /// The state's directory.
        dir: PathBuf,
    },
    /// The program was built without the engine.
    #[error("this program was built without the state engine {engine}: build it with --features {engine}, or use redb")]
    EngineAbsent {
        /// The engine asked for.
        engine: Engine,
    },
    /// The store was written by a later version of this program.
    #[error("{} has state format {found}, this program knows up to {known}: use a newer one", path.display())]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The store's bytes are not what its engine wrote.
    #[error("{} is damaged ({reason}): restore it from a backup, or move it away to start with an empty state",
        path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What the engine says.
        reason: String,
    },
    /// There is no room on the disk. What was committed before stays, and reads go on.
    #[error("no room on the disk to {doing} {}: the state goes on by itself when there is", path.display())]
    DiskFull {
        /// What was being done.
        doing: &'static str,
        /// The store.
        path: PathBuf,
        /// The disk's own words.
        source: io::Error,
    },
    /// The disk failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The store.
        path: PathBuf,
        /// The disk's own words.
        source: io::Error,
    },
    /// The engine failed for a reason of its own, a caught panic among them.
    #[error("{engine} failed to {doing} {}: {reason}", path.display())]
    Engine {
        /// The engine.
        engine: Engine,
        /// What was being done.
        doing: &'static str,
        /// The store.
        path: PathBuf,
        /// What the engine says.
        reason: String,
    },
}

/// An engine's failure, before it is known which store it is and what was being done.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    InUse,
    Damaged(String),
    Newer(u32),
    Other(String),
}

impl Fault {
    pub(super) fn is_disk_full(&self) -> bool {
        matches!(self, Fault::Io(error) if is_disk_full(error))
    }

    pub(super) fn into_error(self, engine: Engine, doing: &'static str, path: &Path) -> StateError {
        let path = path.to_owned();
        match self {
            Fault::Io(source) if is_disk_full(&source) => StateError::DiskFull { doing, path, source },
            Fault::Io(source) => StateError::Io { doing, path, source },
            Fault::InUse => StateError::InUse { dir: path.parent().unwrap_or(&path).to_owned() },
            Fault::Damaged(reason) => StateError::Damaged { path, reason },
            Fault::Newer(found) => StateError::Newer { path, found, known: FORMAT },
            Fault::Other(reason) => StateError::Engine { engine, doing, path, reason },
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

/// The format that this program writes: docs/formats/state.md.
pub(super) const FORMAT: u32 = 1;

/// Reads the format number that every store carries.
pub(super) fn check_format(stored: Option<&[u8]>) -> Result<(), Fault> {
    let Some(stored) = stored else { return Err(Fault::Damaged("it has no format number".to_owned())) };
    let Ok(bytes) = <[u8; 4]>::try_from(stored) else {
        return Err(Fault::Damaged(format!("its format number has {} bytes", stored.len())));
    };
    match u32::from_le_bytes(bytes) {
        FORMAT => Ok(()),
        newer @ FORMAT.. => Err(Fault::Newer(newer)),
        0 => Err(Fault::Damaged("its format number is 0".to_owned())),
    }
}

fn is_disk_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
