//! What both engines need around them: one process a directory, creation that a power cut cannot leave half done,
//! panics turned into errors, and a reopening, on bytes that are surely on the disk, after a write failed.

use std::any::Any;
use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pitwatch_disk::{Disk, RealDisk};

use super::error::Fault;
use super::{Batch, Each, Engine, Record, State, StateError, Table, check_key};

/// An engine's open store.
pub(super) trait Store: Send + Sync + Sized {
    const ENGINE: Engine;

    /// Makes an empty store with its format number, its bytes durable but for the name `path`, and closes it.
    fn create(path: &Path) -> Result<(), Fault>;
    /// Opens what `create` made.
    fn open(path: &Path) -> Result<Self, Fault>;
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;
    fn scan(&self, table: Table, prefix: &[u8], each: &mut Each<'_>) -> Result<(), Fault>;
    /// Every record at one moment, in the order of tables and keys.
    fn records(&self) -> Result<Vec<Record>, Fault>;
    /// Atomic and durable when `Ok`. Never called twice at once.
    fn commit(&self, batch: &Batch) -> Result<(), Fault>;
}

/// The file whose lock says that the directory is in use.
const LOCK_FILE_NAME: &str = "state.lock";
/// What is added to the name of a store that is being made.
const NEW_SUFFIX: &str = "new";
/// How much of a store is written again at once.
const WRITE_AGAIN_CHUNK_BYTES: usize = 256 * 1024;
/// How long an opening waits for the readers and threads of a closed store to let go of its files.
const CLOSING_WAIT: Duration = Duration::from_secs(5);
/// How long an opening waits for another holder of the directory's lock: a process that is just ending, or a child
/// between fork and exec, which has copies of every descriptor.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const CLOSING_POLL: Duration = Duration::from_millis(10);
/// After a full disk the old store goes on answering reads until so much is free: to reopen it takes room.
const REOPEN_MIN_FREE_BYTES: u64 = 16 * 1024 * 1024;

/// A [`Store`] as a [`State`].
#[derive(Debug)]
pub(super) struct Guard<S> {
    dir: PathBuf,
    path: PathBuf,
    slot: Mutex<Slot<S>>,
    /// Held over a commit, so that there is one at a time.
    committing: Mutex<()>,
    /// Its lock is let go when the file is closed.
    _lock: File,
}

#[derive(Debug)]
struct Slot<S> {
    store: Option<Arc<S>>,
    /// Set by a failed commit: what the store holds in memory may not be what is on disk.
    stale: Option<Stale>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stale {
    DiskFull,
    Failed,
}

impl<S: Store> Guard<S> {
    pub(super) fn open(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(S::ENGINE.file_name());
        let error = |doing| {
            let path = path.clone();
            move |fault: Fault| fault.into_error(S::ENGINE, doing, &path)
        };
        RealDisk.create_dir_all(dir).map_err(Fault::Io).map_err(error("make the directory of"))?;
        let lock = patiently(LOCK_WAIT, || lock(dir)).map_err(error("lock"))?;
        for other in Engine::ALL.into_iter().filter(|other| *other != S::ENGINE) {
            let other_path = dir.join(other.file_name());
            if other_path.exists() {
                return Err(StateError::OtherEngine { path: other_path, found: other, wanted: S::ENGINE });
            }
        }
        if !path.exists() {
            create::<S>(dir, &path).map_err(error("create"))?;
        }
        let store = patiently(CLOSING_WAIT, || S::open(&path)).map_err(error("open"))?;
        let slot = Mutex::new(Slot { store: Some(Arc::new(store)), stale: None });
        Ok(Self { dir: dir.to_owned(), path, slot, committing: Mutex::new(()), _lock: lock })
    }

    fn slot(&self) -> MutexGuard<'_, Slot<S>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store for a read: a stale one will do, since it lacks nothing that was committed. (It may have what was not:
    /// the batch that failed.)
    fn store_to_read(&self) -> Result<Arc<S>, Fault> {
        let mut slot = self.slot();
        match &slot.store {
            Some(store) => Ok(Arc::clone(store)),
            None => self.reopen(&mut slot),
        }
    }

    fn store_to_write(&self) -> Result<Arc<S>, Fault> {
        let mut slot = self.slot();
        match (&slot.store, slot.stale) {
            (Some(store), None) => Ok(Arc::clone(store)),
            (Some(_), Some(Stale::DiskFull)) if RealDisk.free_bytes(&self.dir)? < REOPEN_MIN_FREE_BYTES => {
                Err(Fault::Io(io::Error::from(io::ErrorKind::StorageFull)))
            }
            _ => self.reopen(&mut slot),
        }
    }

    fn reopen(&self, slot: &mut Slot<S>) -> Result<Arc<S>, Fault> {
        // Dropping a broken store may panic as well.
        let _ = no_panic(|| {
            drop(slot.store.take());
            Ok(())
        });
        let store: Arc<S> = Arc::new(patiently(CLOSING_WAIT, || {
            if slot.stale.is_some() {
                write_again(&self.path)?;
            }
            S::open(&self.path)
        })?);
        tracing::info!(engine = S::ENGINE.name(), path = %self.path.display(), "state reopened");
        *slot = Slot { store: Some(Arc::clone(&store)), stale: None };
        Ok(store)
    }

    fn read<T>(&self, what: impl FnOnce(&S) -> Result<T, Fault>) -> Result<T, StateError> {
        let read = self.store_to_read().and_then(|store| {
            no_panic(|| what(&store)).inspect_err(|_| {
                let mut slot = self.slot();
                if slot.store.as_ref().is_some_and(|current| Arc::ptr_eq(current, &store)) {
                    slot.store = None;
                }
            })
        });
        read.map_err(|fault| fault.into_error(S::ENGINE, "read", &self.path))
    }
}

impl<S: Store + std::fmt::Debug> State for Guard<S> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        check_key(table, key)?;
        self.read(|store| store.get(table, key))
    }

    fn scan(&self, table: Table, prefix: &[u8], each: &mut Each<'_>) -> Result<(), StateError> {
        // The caller's panic is no fault of the engine: it is carried round it.
        let mut callers_panic = None;
        let mut carried = |key: &[u8], value: &[u8]| match catch_unwind(AssertUnwindSafe(|| each(key, value))) {
            Ok(flow) => flow,
            Err(panic) => {
                callers_panic = Some(panic);
                ControlFlow::Break(())
            }
        };
        let scanned = self.read(|store| store.scan(table, prefix, &mut carried));
        if let Some(panic) = callers_panic {
            resume_unwind(panic);
        }
        scanned
    }

    fn records(&self) -> Result<Vec<Record>, StateError> {
        self.read(Store::records)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StateError> {
        batch.check_limits()?;
        if batch.is_empty() {
            return Ok(());
        }
        let _one_at_a_time = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let committed = self.store_to_write().and_then(|store| {
            no_panic(|| store.commit(batch)).inspect_err(|fault| {
                let stale = if fault.is_disk_full() { Stale::DiskFull } else { Stale::Failed };
                self.slot().stale = Some(stale);
            })
        });
        committed.map_err(|fault| fault.into_error(S::ENGINE, "write", &self.path))
    }

    fn size_bytes(&self) -> Result<u64, StateError> {
        size_bytes(&self.path).map_err(|source| StateError::Io { doing: "measure", path: self.path.clone(), source })
    }
}

/// Makes the store under another name first: under its own it is whole or not there.
fn create<S: Store>(dir: &Path, path: &Path) -> Result<(), Fault> {
    let new = path.with_added_extension(NEW_SUFFIX);
    if new.is_dir() {
        fs::remove_dir_all(&new)?;
    } else if new.exists() {
        fs::remove_file(&new)?;
    }
    no_panic(|| S::create(&new))?;
    fs::rename(&new, path)?;
    RealDisk.sync_dir(dir)?;
    Ok(())
}

/// Does what needs the directory or its files to itself, again and again for that long if somebody has them. In a
/// directory whose lock is ours that is a store that was closed a moment ago: sled's threads and redb's readers let go a
/// little later.
fn patiently<T>(wait: Duration, mut what: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    let deadline = Instant::now() + wait;
    loop {
        match no_panic(&mut what) {
            Err(Fault::InUse) if Instant::now() < deadline => thread::sleep(CLOSING_POLL),
            done => return done,
        }
    }
}

/// Writes the bytes of a closed store over themselves. After a failed fsync the system may show bytes that are not on
/// the disk and that no later fsync would bring there; the engine would read them, and build on them.
fn write_again(path: &Path) -> Result<(), Fault> {
    if fs::metadata(path)?.is_dir() {
        return fs::read_dir(path)?.try_for_each(|entry| write_again(&entry?.path()));
    }
    let file = File::options().read(true).write(true).open(path)?;
    try_lock(&file)?;
    let mut chunk = vec![0; WRITE_AGAIN_CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let read_bytes = file.read_at(&mut chunk, offset)?;
        if read_bytes == 0 {
            break;
        }
        file.write_all_at(&chunk[..read_bytes], offset)?;
        offset += read_bytes as u64;
    }
    Ok(file.sync_all()?)
}

fn lock(dir: &Path) -> Result<File, Fault> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(dir.join(LOCK_FILE_NAME))?;
    try_lock(&file)?;
    Ok(file)
}

fn try_lock(file: &File) -> Result<(), Fault> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Fault::InUse),
        Err(TryLockError::Error(error)) => Err(Fault::Io(error)),
    }
}

fn size_bytes(path: &Path) -> io::Result<u64> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.map(|entry| size_bytes(&entry?.path())).sum()
}

fn no_panic<T>(what: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|panic| Err(Fault::Other(panic_message(&*panic))))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", words.unwrap_or("no message"))
}
