//! The directory of blocks: a file is written under a temporary name and gets its own once its bytes are durable;
//! what is to go is removed or, while the disk refuses, remembered.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pitwatch_disk::{Disk, DiskFile};

use crate::block;
use crate::catalog::Catalog;
use crate::error::BuildError;

/// Ends the name of a block that is not whole yet.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// Where the blocks are.
#[derive(Debug)]
pub(crate) struct BlockDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    next_number: AtomicU64,
    pub(crate) catalog: Catalog,
    /// Files that should be gone: nothing new is written before they are, as a restart would take them for blocks.
    leftovers: Mutex<Vec<PathBuf>>,
}

/// Files of blocks that are being written. What is not kept goes.
#[derive(Debug)]
pub(crate) struct Building<'a> {
    dir: &'a BlockDir,
    /// Files that have no name yet, by number.
    unnamed: Vec<u64>,
    named: Vec<PathBuf>,
}

impl BlockDir {
    pub(crate) fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        let catalog = Catalog::new(disk.clone(), &path);
        Self { disk, path, next_number: AtomicU64::new(1), catalog, leftovers: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Numbers up to `last` are taken.
    pub(crate) fn numbers_through(&self, last: u64) {
        self.next_number.fetch_max(last.saturating_add(1), Ordering::Relaxed);
    }

    pub(crate) fn take_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes names durable.
    pub(crate) fn sync(&self) -> Result<(), BuildError> {
        self.disk.sync_dir(&self.path).map_err(at("make durable the names in", &self.path))
    }

    /// Removes files, durably; if that fails, nothing is built before it is done.
    pub(crate) fn remove<'a>(&self, paths: impl Iterator<Item = &'a Path>) {
        let paths: Vec<_> = paths.collect();
        if paths.is_empty() {
            return;
        }
        // Before they go: nobody is to miss them.
        self.catalog.note(|known| {
            for number in paths.iter().filter_map(|path| number_at(path)) {
                known.blocks.remove(&number);
            }
        });
        let is_gone = |path: &Path| match self.disk.remove(path) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        let mut left: Vec<PathBuf> =
            paths.iter().filter(|path| !is_gone(path)).map(|path| path.to_path_buf()).collect();
        if left.is_empty() && self.disk.sync_dir(&self.path).is_err() {
            left = paths.iter().map(|path| path.to_path_buf()).collect();
        }
        self.leftovers().append(&mut left);
    }

    /// Fails if less than `needs_bytes` may still be written.
    pub(crate) fn need_room(&self, needs_bytes: u64) -> Result<(), BuildError> {
        let free_bytes = self.disk.free_bytes(&self.path).map_err(at("ask for the free room of", &self.path))?;
        if free_bytes < needs_bytes { Err(BuildError::Room { needs_bytes, free_bytes }) } else { Ok(()) }
    }

    /// Begins to write blocks, once what should be gone is.
    pub(crate) fn build(&self) -> Result<Building<'_>, BuildError> {
        let leftovers = std::mem::take(&mut *self.leftovers());
        self.remove(leftovers.iter().map(PathBuf::as_path));
        if let Some(path) = self.leftovers().first() {
            let source = io::Error::other("it is left of an earlier job and does not go");
            return Err(BuildError::Io { action: "remove", path: path.clone(), source });
        }
        Ok(Building { dir: self, unnamed: Vec::new(), named: Vec::new() })
    }

    fn leftovers(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Building<'_> {
    /// Makes the file of the block of that number.
    pub(crate) fn create(&mut self, number: u64) -> Result<Box<dyn DiskFile>, BuildError> {
        let path = self.temporary(number);
        let file = self.dir.disk.create(&path).map_err(at("create", &path))?;
        self.unnamed.push(number);
        Ok(file)
    }

    /// Gives a file, which is durable, its name as a block.
    pub(crate) fn name(&mut self, number: u64, (min_ts, max_ts): (i64, i64)) -> Result<PathBuf, BuildError> {
        let temporary = self.temporary(number);
        let path = self.dir.path.join(block::file_name(number, min_ts, max_ts));
        self.dir.disk.rename(&temporary, &path).map_err(at("rename", &temporary))?;
        self.unnamed.retain(|unnamed| *unnamed != number);
        self.named.push(path.clone());
        Ok(path)
    }

    /// Says what could not be done to a file.
    pub(crate) fn at(&self, action: &'static str, number: u64) -> impl FnOnce(io::Error) -> BuildError + use<> {
        at(action, &self.temporary(number))
    }

    /// The files that have a name stay.
    pub(crate) fn keep(mut self) {
        let named = std::mem::take(&mut self.named);
        let numbers = named.iter().filter_map(|path| number_at(path));
        self.dir.catalog.note(|known| known.blocks.extend(numbers));
    }

    fn temporary(&self, number: u64) -> PathBuf {
        self.dir.path.join(format!("{number:08}{TEMPORARY_SUFFIX}"))
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        let unnamed: Vec<_> = self.unnamed.iter().map(|number| self.temporary(*number)).collect();
        // The last first: the block that completes a seal may not outlive the others.
        self.dir.remove(self.named.iter().rev().chain(&unnamed).map(PathBuf::as_path));
    }
}

/// The number of the block at a path.
fn number_at(path: &Path) -> Option<u64> {
    block::number_of(path.file_name()?.to_str()?)
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError + use<> {
    let path = path.to_owned();
    move |source| BuildError::Io { action, path, source }
}
