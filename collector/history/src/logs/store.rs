//! The store of log lines: appended in memory, sealed into files, deleted by age and bytes.
//!
//! Lines in memory are not durable: whoever appends has them in a log of its own and appends them again after a restart,
//! from the segment after [`LogStore::sealed_through`] on. What is sealed is durable, by bytes and by name, before the
//! job says so.
//!
//! Locks are taken in this order: the view, the index, a stream.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

use pitwatch_disk::Disk;
use pitwatch_shared::model::{Labels, MetricType};
use rustc_hash::{FxHashMap, FxHashSet};

use super::chunk::{Chunk, Open};
use super::file::{FileWriter, LogFile, LogLoss};
use super::format::Place;
use super::{LINE_MAX_BYTES, LOGS_DIR, LogConfig, LogError, STREAMS_MAX};
use crate::blocks::TEMPORARY_SUFFIX;
use crate::history::{read, write};
use crate::index::{Index, SeriesId};

const SUFFIX: &str = ".log";
/// Estimated memory of a stream without its lines.
const STREAM_BYTES: u64 = 512;

/// The lines of a store. Shared between threads.
#[derive(Debug)]
pub struct LogStore {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    config: LogConfig,
    pub(super) index: RwLock<Index>,
    pub(super) view: RwLock<View>,
    next_file: AtomicU64,
    /// Held while files come under their names and go.
    pub(super) sealing: Mutex<()>,
    /// A merge is at work.
    pub(super) merging: AtomicBool,
    /// Bytes in memory.
    head_bytes: AtomicU64,
    lines_appended: AtomicU64,
}

/// Where lines are.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) head: Head,
    /// What is being sealed.
    pub(super) frozen: Option<Arc<Frozen>>,
    /// By number.
    pub(super) files: Vec<Arc<Indexed>>,
}

/// Lines in memory, by stream.
pub(super) type Head = BTreeMap<SeriesId, Arc<Mutex<Memory>>>;

/// Lines that are being sealed.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) head: Head,
    wal_through: u64,
    claimed: AtomicBool,
}

/// One stream's lines in memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) closed: Vec<Arc<Chunk>>,
    pub(super) open: Open,
}

/// A file and its chunks by stream.
#[derive(Debug)]
pub(super) struct Indexed {
    /// The first and the last of the seals that it holds.
    pub(super) numbers: (u64, u64),
    pub(super) file: LogFile,
    pub(super) chunks: FxHashMap<SeriesId, Vec<Place>>,
    /// A part of it could not be read: it is left as it is.
    pub(super) spoiled: AtomicBool,
}

/// Why a line was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogAppendError {
    /// Over the limit of a line.
    #[error("a line of {0} bytes, more than {LINE_MAX_BYTES}")]
    Line(usize),
    /// More streams than there may be in memory.
    #[error("{STREAMS_MAX} streams are in memory, the most allowed: the label that makes so many should be none")]
    Streams,
    /// Seals do not keep up, or fail.
    #[error("{0} bytes of lines wait to be sealed: seal before appending more")]
    Full(u64),
    /// The lines could not be compressed.
    #[error("cannot compress lines")]
    Compress(#[source] io::Error),
}

/// Figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Streams of memory and files.
    pub streams: u64,
    /// Bytes in memory, lines packed already at their packed size.
    pub head_bytes: u64,
    /// Lines appended since the store was opened.
    pub lines_appended: u64,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub file_bytes: u64,
    /// Lines in them.
    pub file_lines: u64,
    /// Bytes of those lines before compression.
    pub file_raw_bytes: u64,
}

/// Writes the lines in memory into a file. Dropped without having run, or after a failure, they stay in memory and the
/// next call of [`LogStore::seal`] answers the job anew.
#[derive(Debug)]
pub struct LogSealJob {
    store: Arc<LogStore>,
    frozen: Arc<Frozen>,
    now_ms: i64,
}

impl LogStore {
    /// Opens the log files of the store in `dir`. Files that cannot be opened are named, and stay where they are.
    ///
    /// # Errors
    /// The operating system refuses, or a file is of a later version of this program.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, config: LogConfig) -> Result<(Arc<Self>, Vec<LogLoss>), LogError> {
        let store = Self::empty(disk, dir, config);
        let losses = store.open_files()?;
        Ok((Arc::new(store), losses))
    }

    /// A store that has looked at no file.
    pub(crate) fn empty(disk: Arc<dyn Disk>, dir: &Path, config: LogConfig) -> Self {
        Self {
            disk,
            dir: dir.join(LOGS_DIR),
            config,
            index: RwLock::default(),
            view: RwLock::default(),
            next_file: AtomicU64::new(1),
            sealing: Mutex::default(),
            merging: AtomicBool::new(false),
            head_bytes: AtomicU64::new(0),
            lines_appended: AtomicU64::new(0),
        }
    }

    /// Opens the files of the store's directory; gives those that cannot be.
    pub(crate) fn open_files(&self) -> Result<Vec<LogLoss>, LogError> {
        let dir = &self.dir;
        self.disk.create_dir_all(dir).map_err(at("make the directory", dir))?;
        let names = self.disk.list(dir).map_err(at("list", dir))?;
        for name in names.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)) {
            // Of a seal that a crash cut short; its lines come again.
            let _ = self.disk.remove(&dir.join(name));
        }
        // A file whose name is not durable yet may not make a log needless.
        self.disk.sync_dir(dir).map_err(at("sync", dir))?;
        let mut numbered: Vec<_> = names.iter().filter_map(|name| Some((file_numbers(name)?, name))).collect();
        // One that holds others stands before them.
        numbered.sort_unstable_by_key(|((first, last), _)| (*first, Reverse(*last)));
        let last = numbered.iter().map(|((_, last), _)| *last).max();
        self.next_file.store(last.map_or(1, |last| last + 1), Ordering::Relaxed);
        let (mut files, mut losses) = (Vec::<Arc<Indexed>>::new(), Vec::new());
        for (numbers, name) in numbered {
            let path = dir.join(name);
            if files.last().is_some_and(|before| numbers.1 <= before.numbers.1) {
                // A merge that a crash cut short had made it needless.
                let _ = self.disk.remove(&path);
                continue;
            }
            match self.open_file(&path, numbers) {
                Ok(file) => files.push(Arc::new(file)),
                Err(error @ LogError::Newer { .. }) => return Err(error),
                Err(error) => losses.push(LogLoss { error, lines: None }),
            }
        }
        write(&self.view).files = files;
        Ok(losses)
    }

    /// The last log segment whose lines are all in files.
    #[must_use]
    pub fn sealed_through(&self) -> Option<u64> {
        read(&self.view).files.iter().map(|file| file.file.footer().wal_through).max()
    }

    /// Takes one line of a stream. It is found at once.
    ///
    /// # Errors
    /// [`LogAppendError`]; nothing is taken then.
    pub fn append(&self, stream: &Labels, ts_ns: i64, text: &str) -> Result<(), LogAppendError> {
        if text.len() > LINE_MAX_BYTES {
            return Err(LogAppendError::Line(text.len()));
        }
        let bytes = self.head_bytes.load(Ordering::Relaxed);
        if bytes >= self.config.head_max_bytes.saturating_mul(2) {
            return Err(LogAppendError::Full(bytes));
        }
        // Held until the line is in, or a seal would take its stream away under it.
        let mut view = read(&self.view);
        let memory = loop {
            let known = read(&self.index).id(stream);
            if let Some(memory) = known.and_then(|id| view.head.get(&id)) {
                break memory;
            }
            drop(view);
            self.begin(stream)?;
            view = read(&self.view);
        };
        let mut memory = lock(memory);
        if memory.open.is_full() {
            let raw = memory.open.bytes();
            let chunk = memory.open.close().map_err(LogAppendError::Compress)?;
            let packed = chunk.as_ref().map_or(0, Chunk::bytes);
            memory.closed.extend(chunk.map(Arc::new));
            self.head_bytes.fetch_sub(raw.saturating_sub(packed), Ordering::Relaxed);
        }
        let before = memory.open.bytes();
        memory.open.push(ts_ns, text);
        self.head_bytes.fetch_add(memory.open.bytes() - before, Ordering::Relaxed);
        self.lines_appended.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn begin(&self, stream: &Labels) -> Result<(), LogAppendError> {
        let mut view = write(&self.view);
        if view.head.len() >= STREAMS_MAX {
            return Err(LogAppendError::Streams);
        }
        let id = write(&self.index).insert(stream, MetricType::Unknown);
        if view.head.insert(id, Arc::default()).is_none() {
            self.head_bytes.fetch_add(STREAM_BYTES, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether lines take so much memory that they are to be sealed.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.head_bytes.load(Ordering::Relaxed) >= self.config.head_max_bytes
    }

    /// Takes what is in memory away to be written. The caller's log up to segment `wal_through` holds no line that was
    /// not appended before. `None` if there is nothing, or another seal is at work.
    #[must_use]
    pub fn seal(self: &Arc<Self>, wal_through: u64, now_ms: i64) -> Option<LogSealJob> {
        self.freeze(wal_through);
        self.claim(now_ms)
    }

    /// The first half of [`LogStore::seal`]: takes what is in memory away, unless something is frozen already.
    pub(crate) fn freeze(&self, wal_through: u64) {
        let mut view = write(&self.view);
        if view.frozen.is_none() && !view.head.is_empty() {
            let head = std::mem::take(&mut view.head);
            view.frozen = Some(Arc::new(Frozen { head, wal_through, claimed: AtomicBool::new(false) }));
            self.head_bytes.store(0, Ordering::Relaxed);
        }
    }

    /// The second half of [`LogStore::seal`]: the job that writes what is frozen.
    pub(crate) fn claim(self: &Arc<Self>, now_ms: i64) -> Option<LogSealJob> {
        let frozen = read(&self.view).frozen.clone()?;
        let claimed = frozen.claimed.swap(true, Ordering::AcqRel);
        (!claimed).then(|| LogSealJob { store: self.clone(), frozen, now_ms })
    }

    /// Deletes the files that are past retention, the oldest first; not while a seal is at work.
    pub fn retain(&self, now_ms: i64) {
        let _one = match self.sealing.try_lock() {
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Ok(guard) => guard,
        };
        let horizon_ms = self
            .config
            .retention_age
            .map(|age| now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
        let files = read(&self.view).files.clone();
        let mut bytes: u64 = files.iter().map(|file| file.file.bytes()).sum();
        let mut gone = Vec::new();
        // The newest stays: it says up to where the log is sealed.
        for file in files.iter().take(files.len().saturating_sub(1)) {
            let footer = file.file.footer();
            // A host whose clock is ahead must not keep a file for ever.
            let last_ms = (footer.max_ts / 1_000_000).min(footer.sealed_ms);
            let too_old = horizon_ms.is_some_and(|horizon| last_ms < horizon);
            let too_much = self.config.retention_bytes.is_some_and(|limit| bytes > limit);
            if (too_old || too_much) && self.disk.remove(file.file.path()).is_ok() {
                bytes -= file.file.bytes();
                gone.push(file.clone());
            }
        }
        if gone.is_empty() {
            return;
        }
        let _ = self.disk.sync_dir(&self.dir);
        let mut view = write(&self.view);
        view.files.retain(|file| gone.iter().all(|gone| !Arc::ptr_eq(gone, file)));
        let mut keep: FxHashSet<SeriesId> = view.files.iter().flat_map(|file| file.chunks.keys().copied()).collect();
        keep.extend(view.head.keys());
        keep.extend(view.frozen.iter().flat_map(|frozen| frozen.head.keys()));
        write(&self.index).retain(&keep);
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let view = read(&self.view);
        let mut stats = LogStats {
            streams: read(&self.index).len() as u64,
            head_bytes: self.head_bytes.load(Ordering::Relaxed),
            lines_appended: self.lines_appended.load(Ordering::Relaxed),
            files: view.files.len() as u64,
            ..LogStats::default()
        };
        for file in &view.files {
            stats.file_bytes += file.file.bytes();
            stats.file_lines += file.file.footer().lines;
            stats.file_raw_bytes += file.file.footer().raw_bytes;
        }
        stats
    }

    pub(super) fn open_file(&self, path: &Path, numbers: (u64, u64)) -> Result<Indexed, LogError> {
        let (file, streams) = LogFile::open(&*self.disk, path)?;
        let mut index = write(&self.index);
        let chunks =
            streams.into_iter().map(|stream| (index.insert(&stream.labels, MetricType::Unknown), stream.chunks));
        Ok(Indexed { numbers, file, chunks: chunks.collect(), spoiled: AtomicBool::new(false) })
    }
}

impl LogSealJob {
    /// Writes the file and puts it in the place of what was in memory; answers its bytes.
    ///
    /// # Errors
    /// The file cannot be written or does not read back; its lines stay in memory, for the next seal.
    pub fn run(self) -> Result<u64, LogError> {
        let store = &self.store;
        let _one = store.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let number = store.next_file.fetch_add(1, Ordering::Relaxed);
        let temporary = store.dir.join(format!("{number:08}{TEMPORARY_SUFFIX}"));
        let path = store.dir.join(file_name((number, number)));
        let made = self.write(&temporary).and_then(|()| {
            store.disk.rename(&temporary, &path).map_err(at("rename", &temporary))?;
            store.disk.sync_dir(&store.dir).map_err(at("make durable the names in", &store.dir))?;
            store.open_file(&path, (number, number))
        });
        let file = made.inspect_err(|_| {
            let _ = store.disk.remove(&temporary);
            let _ = store.disk.remove(&path);
        })?;
        let bytes = file.file.bytes();
        let mut view = write(&store.view);
        view.frozen = None;
        view.files.push(Arc::new(file));
        Ok(bytes)
    }

    fn write(&self, path: &Path) -> Result<(), LogError> {
        let store = &self.store;
        let file = store.disk.create(path).map_err(at("create", path))?;
        let mut writer = FileWriter::new(&*file);
        for (id, memory) in &self.frozen.head {
            let Some(labels) = read(&store.index).labels(*id).cloned() else { continue };
            let chunks = {
                let mut memory = lock(memory);
                let last = memory.open.close().map_err(at("compress", path))?;
                memory.closed.extend(last.map(Arc::new));
                memory.closed.clone()
            };
            writer.stream(&labels, chunks.iter().map(|chunk| &**chunk)).map_err(at("write", path))?;
        }
        writer.finish(self.frozen.wal_through, self.now_ms).map_err(at("write", path))?;
        file.sync().map_err(at("sync", path))
    }
}

impl Drop for LogSealJob {
    fn drop(&mut self) {
        self.frozen.claimed.store(false, Ordering::Release);
    }
}

pub(super) fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first and the last number of a log file's name: `N.log`, or `FIRST-LAST.log` of one that was made of several.
pub(super) fn file_numbers(name: &str) -> Option<(u64, u64)> {
    let stem = name.strip_suffix(SUFFIX)?;
    match stem.split_once('-') {
        None => stem.parse().ok().map(|number| (number, number)),
        Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)).filter(|(first, last)| first < last),
    }
}

/// The name of the file that holds the seals from the first to the last.
pub(super) fn file_name((first, last): (u64, u64)) -> String {
    if first == last { format!("{first:08}{SUFFIX}") } else { format!("{first:08}-{last:08}{SUFFIX}") }
}

pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Io { action, path, source }
}
