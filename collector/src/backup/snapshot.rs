//! All files of a collector at one moment, under second names beside its data.
//!
//! There is one snapshot at a time: a new one takes the place of one that a killed command left. Hard links cost no room
//! until history removes a block that the snapshot still has; what is left over goes at the next start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pitwatch_history::{FileKind, SnapshotFile};
use serde::{Deserialize, Serialize};

use super::{BackupError, HISTORY, STATE_DUMP, at, dump};
use crate::api::Snapshots;
use crate::authority::{self, save_private};
use crate::ingest::{Event, Ingest};
use crate::listen::keys;
use crate::state::State;

/// The snapshot's directory in the data directory.
pub const DIR: &str = "snapshot";
/// The list of its files, written last: a directory without it is no snapshot.
const LIST: &str = "snapshot.json";

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) path: PathBuf,
    /// How many of its bytes count.
    pub(super) bytes: u64,
    pub(super) kind: Kind,
}

/// What a backup may make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// If the backup has the file, it has it as it is.
    Immutable,
    /// As immutable, but the collector could not open it: a copy that the backup has is the better one.
    Unopened,
    /// It is another one each time.
    Changing,
}

/// What a running collector snapshots.
#[derive(Debug)]
pub struct Live {
    ingest: Ingest,
    state: Arc<dyn State>,
    data_dir: PathBuf,
    one_at_a_time: Mutex<()>,
}

impl Live {
    /// The snapshots of a running collector.
    #[must_use]
    pub fn new(ingest: Ingest, state: Arc<dyn State>, data_dir: PathBuf) -> Self {
        Self { ingest, state, data_dir, one_at_a_time: Mutex::new(()) }
    }
}

impl Snapshots for Live {
    fn take(&self) -> Result<u64, String> {
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let history = |to: &Path| {
            let (reply, answer) = std::sync::mpsc::channel();
            let asked = self.ingest.blocking_send(Event::Snapshot { to: to.to_owned(), reply });
            let gone = || BackupError::Snapshot("the collector is stopping".to_owned());
            let answer = if asked { answer.recv().map_err(|_| gone())? } else { return Err(gone()) };
            answer.map_err(BackupError::Snapshot)
        };
        make(&self.data_dir, &*self.state, history).map_err(|error| crate::error_chain(&error))
    }
}

/// Makes the snapshot; `history` links the store's files into a directory. Answers how many bytes it names.
pub(super) fn make(
    data_dir: &Path,
    state: &dyn State,
    history: impl FnOnce(&Path) -> Result<Vec<SnapshotFile>, BackupError>,
) -> Result<u64, BackupError> {
    remove(data_dir).map_err(at("remove", &data_dir.join(DIR)))?;
    let dir = data_dir.join(DIR);
    let mut files: Vec<Listed> = history(&dir.join(HISTORY))?.into_iter().map(Listed::from).collect();
    // The state after history: an agent of whom there are samples is known.
    let records = state.records()?;
    let private = [
        (STATE_DUMP, dump::encode(&records)),
        (authority::FILE, read(&data_dir.join(authority::FILE))?),
        (keys::FILE, read(&data_dir.join(keys::FILE))?),
    ];
    for (name, bytes) in private {
        save_private(&dir, name, &bytes).map_err(at("write", &dir.join(name)))?;
        files.push(Listed { path: name.into(), bytes: bytes.len() as u64, kind: Kind::Changing });
    }
    let list = serde_json::to_vec(&files).map_err(io::Error::other).map_err(at("write", &dir.join(LIST)))?;
    save_private(&dir, LIST, &list).map_err(at("write", &dir.join(LIST)))?;
    Ok(files.iter().map(|file| file.bytes).sum())
}

/// The files of the snapshot beside the data.
pub(super) fn list(data_dir: &Path) -> Result<Vec<Listed>, BackupError> {
    let path = data_dir.join(DIR).join(LIST);
    let text = read(&path)?;
    serde_json::from_slice(&text).map_err(io::Error::other).map_err(at("read", &path))
}

/// Removes the snapshot, if there is one.
///
/// # Errors
/// The system's.
pub fn remove(data_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(data_dir.join(DIR)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl From<SnapshotFile> for Listed {
    fn from(file: SnapshotFile) -> Self {
        let kind = match file.kind {
            FileKind::Immutable => Kind::Immutable,
            FileKind::Unopened => Kind::Unopened,
            FileKind::Log => Kind::Changing,
        };
        Self { path: Path::new(HISTORY).join(file.path), bytes: file.bytes, kind }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BackupError> {
    fs::read(path).map_err(at("read", path))
}
