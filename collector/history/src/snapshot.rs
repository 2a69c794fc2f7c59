//! A second name for every file of a store at one moment, from which a backup can be copied at leisure.
//!
//! The log is linked before the blocks, by the thread that writes the log: a seal that ends meanwhile adds a block and
//! takes away segments that are linked already, so that the two together are what a crash at this moment would leave.
//! Files are immutable but for the last segment, which goes on growing: of it only its length at this moment counts.

use std::io;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashSet;

use crate::appender::Appender;
use crate::blocks::TEMPORARY_SUFFIX;
use crate::catalog;
use crate::error::SnapshotError;
use crate::history::read;
use crate::logs::LOGS_DIR;
use crate::recovery::{DIRS, WAL_DIR};
use crate::rollup::floor_of;

/// How often a snapshot begins anew because a background job removed a file under it.
const TRIES: usize = 10;

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Where it is under the store's directory and under the snapshot's.
    pub path: PathBuf,
    /// How many of its bytes count.
    pub bytes: u64,
    /// What may be thought of its bytes.
    pub kind: FileKind,
}

/// What may be thought of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Written once; its name is never given to other bytes as long as the store lives.
    Immutable,
    /// As immutable, but the store could not open it, or has not opened it yet.
    Unopened,
    /// It grows.
    Log,
}

impl Appender {
    /// Commits, then gives every file of the store a second name under `to`, which must be empty or not there.
    ///
    /// # Errors
    /// The log cannot be written, or the operating system refuses, as it does where `to` is on another file system.
    pub fn snapshot(&mut self, to: &Path) -> Result<Vec<SnapshotFile>, SnapshotError> {
        self.commit()?;
        for dir in DIRS {
            let dir = to.join(dir);
            self.history.disk.create_dir_all(&dir).map_err(at("make the directory", &dir))?;
        }
        for _ in 0..TRIES {
            let mut files = Vec::new();
            match self.link(to, &mut files) {
                Err(SnapshotError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                linked => return linked.map(|()| files),
            }
            for file in files {
                let path = to.join(file.path);
                self.history.disk.remove(&path).map_err(at("remove", &path))?;
            }
        }
        Err(SnapshotError::Unsteady { tries: TRIES })
    }

    fn link(&self, to: &Path, files: &mut Vec<SnapshotFile>) -> Result<(), SnapshotError> {
        let history = &self.history;
        let opened: FxHashSet<PathBuf> = {
            let view = read(&history.view);
            let blocks = view.blocks.iter().map(|block| block.path());
            blocks.chain(view.rollups.iter().map(|file| file.path())).map(Path::to_owned).collect()
        };
        for dir in DIRS {
            let from = history.dir.join(dir);
            let names = history.disk.list(&from).map_err(at("list", &from))?;
            // A background job may change the catalog meanwhile; a store without one makes it anew.
            let is_wanted = |name: &&String| !name.ends_with(TEMPORARY_SUFFIX) && **name != catalog::FILE;
            for name in names.iter().filter(is_wanted) {
                let path = from.join(name);
                let (kind, counts) = match dir {
                    WAL_DIR => (FileKind::Log, self.wal.durable_len(name)),
                    // Log lines are opened by a store of their own, and a floor is all in its name.
                    LOGS_DIR => (FileKind::Immutable, None),
                    _ if opened.contains(&path) || floor_of(name).is_some() => (FileKind::Immutable, None),
                    _ => (FileKind::Unopened, None),
                };
                let linked = to.join(dir).join(name);
                history.disk.link(&path, &linked).map_err(at("link", &path))?;
                files.push(SnapshotFile { path: Path::new(dir).join(name), bytes: counts.unwrap_or(0), kind });
                if let (None, Some(file)) = (counts, files.last_mut()) {
                    let len = history.disk.open(&linked).and_then(|file| file.len());
                    file.bytes = len.map_err(at("open", &linked))?;
                }
            }
        }
        // One block may have taken the place of others while the directory was listed: then what is linked lacks some.
        let linked: FxHashSet<PathBuf> = files.iter().map(|file| history.dir.join(&file.path)).collect();
        match opened.difference(&linked).next() {
            Some(path) => Err(at("find", path)(io::ErrorKind::NotFound.into())),
            None => Ok(()),
        }
    }
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { action, path, source }
}
