//! What opening a store found: what was replayed, and every loss by its file.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};

use pitwatch_disk::Disk;

use crate::appender::Appender;
use crate::block::{self, BlockError, Loaded};
use crate::blocks::{BlockDir, TEMPORARY_SUFFIX};
use crate::catalog::{self, Known, Parsed};
use crate::compact::Compaction;
use crate::config::Config;
use crate::error::OpenError;
use crate::history::{History, write};
use crate::ingest::Ingest;
use crate::logs::{LOGS_DIR, LogError, LogStore};
use crate::rollup::{self, Rolling, Rollup, file_number, floor_of};
use crate::source::SourceName;
use crate::stats::Counters;
use crate::wal;

/// Where the log's segments are, under the store's directory.
pub(crate) const WAL_DIR: &str = "wal";
/// Where the blocks are.
pub(crate) const BLOCKS_DIR: &str = "blocks";
/// Where the rollup files are.
pub(crate) const ROLLUPS_DIR: &str = "rollups";
/// All of them, and log lines'. What is linked or copied in this order fits together.
pub(crate) const DIRS: [&str; 4] = [WAL_DIR, BLOCKS_DIR, ROLLUPS_DIR, LOGS_DIR];

/// What [`crate::History::open`] found.
#[derive(Debug, Default)]
pub struct RecoveryReport {
    /// Blocks that were opened.
    pub blocks: usize,
    /// Blocks that did not count beside the ones that replace them, or of a seal that a crash cut short; removed.
    pub left_out: usize,
    /// Rollup files that were opened.
    pub rollups: usize,
    /// Log segments that were replayed.
    pub segments: usize,
    /// Frames that were replayed into the head.
    pub frames: u64,
    /// Samples in them.
    pub samples: u64,
    /// Frames that the log held twice; the second was left out.
    pub duplicates: u64,
    /// What is damaged or missing. Empty after a clean stop, and after most crashes but for a torn tail.
    pub losses: Vec<Loss>,
    /// There is no catalog that says which files there should be, as in a store of an earlier version or after a full
    /// disk: one that is missing as a whole was not noticed.
    pub is_uncatalogued: bool,
}

/// Something that opening did not find whole.
#[derive(Debug)]
#[non_exhaustive]
pub enum Loss {
    /// The last segment ends in the middle of a record: a crash came before its commit, nothing in it was
    /// acknowledged. A record at the very end that was damaged later looks the same.
    TornTail {
        /// The segment.
        path: PathBuf,
        /// Bytes cut off.
        bytes: u64,
    },
    /// A record within a segment is damaged; it and what follows it in the segment is lost.
    Segment {
        /// The segment.
        path: PathBuf,
        /// Where the damaged record begins.
        offset: u64,
        /// Bytes from there to the end of what was durable.
        bytes: u64,
    },
    /// A segment's header is damaged; its records were replayed.
    Header {
        /// The segment.
        path: PathBuf,
    },
    /// A segment that a later one continues is not there.
    MissingSegment {
        /// The segment.
        path: PathBuf,
    },
    /// Frames that did not follow the ones before them, because those are lost.
    Frames {
        /// Whose.
        source: Option<SourceName>,
        /// How many.
        count: u64,
    },
    /// A block or rollup file that cannot be opened; it was left in place, its samples are not to be had from it.
    Block(BlockError),
    /// A file of lines that cannot be opened; it was left in place.
    Lines(LogError),
    /// A block that is not there, though nothing let it go.
    MissingBlock {
        /// The directory of blocks.
        dir: PathBuf,
        /// Its number, with which its name began.
        number: u64,
    },
}

impl Loss {
    /// Whether nothing that was acknowledged is lost by it, as far as can be told.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::TornTail { .. })
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornTail { path, bytes } => {
                write!(f, "{}: torn tail of {bytes} bytes cut off", path.display())
            }
            Self::Segment { path, offset, bytes } => {
                write!(f, "{}: damaged at byte {offset}, {bytes} bytes of the log are lost", path.display())
            }
            Self::Header { path } => write!(f, "{}: damaged header, its records were replayed", path.display()),
            Self::MissingSegment { path } => write!(f, "{}: missing, though it was written", path.display()),
            Self::Frames { source: Some(source), count } => {
                write!(f, "{count} frames of {} follow on lost ones and were left out", source.name)
            }
            Self::Frames { source: None, count } => {
                write!(f, "{count} frames of sources whose names are lost were left out")
            }
            Self::MissingBlock { dir, number } => write!(
                f,
                "{}/{number:08}-*.blk: missing; restore it from a backup, or do without its samples",
                dir.display()
            ),
            Self::Block(error) => write!(f, "{error}"),
            Self::Lines(error) => write!(f, "{error}"),
        }
    }
}

/// Opens a store: blocks first, then what the log holds beyond them.
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    config: Config,
) -> Result<(Arc<History>, Appender, RecoveryReport), OpenError> {
    let wal_dir = dir.join(WAL_DIR);
    for path in DIRS.map(|name| dir.join(name)) {
        let made = disk.create_dir_all(&path);
        made.map_err(|source| OpenError::Io { action: "make the directory", path, source })?;
    }
    let mut report = RecoveryReport::default();
    let history = Arc::new(empty(disk.clone(), dir, config));
    let sealed_through = open_blocks(&history, &mut report)?;
    open_rollups(&history, &dir.join(ROLLUPS_DIR), &mut report)?;
    open_lines(&history, &mut report)?;
    let (ingest, replayed) = replay(&history, sealed_through, &mut report, &mut |_, _| {})?;
    history.counters.corruptions.store(report.losses.len() as u64, Ordering::Relaxed);
    let writer = wal::Writer::new(disk, wal_dir, replayed.previous, replayed.next_number, replayed.bytes);
    let appender = Appender::new(history.clone(), ingest, writer);
    Ok((history, appender, report))
}

/// A store of nothing.
pub(crate) fn empty(disk: Arc<dyn Disk>, dir: &Path, config: Config) -> History {
    History {
        disk: disk.clone(),
        dir: dir.to_owned(),
        index: RwLock::default(),
        view: RwLock::default(),
        compaction: Compaction::default(),
        counters: Counters::default(),
        rolling: Rolling::default(),
        recent: Arc::default(),
        logs: Arc::new(LogStore::empty(disk.clone(), dir, config.logs.clone())),
        blocks: BlockDir::new(disk, dir.join(BLOCKS_DIR)),
        config,
    }
}

/// Takes the log beyond `sealed_through` into heads; `after_each` is called after every record with
/// how many samples there were so far.
pub(crate) fn replay(
    history: &Arc<History>,
    sealed_through: Option<u64>,
    report: &mut RecoveryReport,
    after_each: &mut dyn FnMut(&mut Ingest, u64),
) -> Result<(Ingest, wal::replay::Replayed), OpenError> {
    let mut ingest = Ingest::new(history.clone());
    let dir = history.dir.join(WAL_DIR);
    let noted = history.blocks.catalog.segment();
    let replayed =
        wal::replay::replay(&*history.disk, &dir, sealed_through, noted, report, |segment, record, report| {
            ingest.replay(segment, record, report);
            after_each(&mut ingest, report.samples);
        })?;
    Ok((ingest, replayed))
}

/// Opens the blocks that count; answers up to which segment they hold the log.
pub(crate) fn open_blocks(history: &History, report: &mut RecoveryReport) -> Result<Option<u64>, OpenError> {
    let dir = history.blocks.path();
    let io = |action| move |source| OpenError::Io { action, path: dir.to_owned(), source };
    let names = history.disk.list(dir).map_err(io("list"))?;
    // Of a job that a crash cut short; what it was made from is still there.
    let mut gone: Vec<PathBuf> =
        names.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)).map(|name| dir.join(name)).collect();
    // A block whose name is not durable yet may not make the log, or another block, needless.
    history.disk.sync_dir(dir).map_err(io("sync"))?;
    let segments = history.disk.list(&history.dir.join(WAL_DIR)).map_err(io("list"))?;
    let mut numbered: Vec<_> = names.iter().filter_map(|name| Some((block::number_of(name)?, name))).collect();
    numbered.sort_unstable();
    let present = numbered.iter().map(|(number, _)| *number).collect();
    check_catalog(history, &present, report)?;
    history.blocks.numbers_through(numbered.last().map_or(0, |(last, _)| *last));
    let mut blocks = Vec::with_capacity(numbered.len());
    let (mut replaced, mut sealed_through) = (BTreeSet::<u64>::new(), None);
    // From the last back: what replaces or completes a block has a higher number.
    for (number, name) in numbered.into_iter().rev() {
        let path = dir.join(name);
        let loaded = if replaced.contains(&number) { None } else { Some(Loaded::open(&*history.disk, &path)) };
        let loaded = match loaded.transpose() {
            Ok(loaded) => loaded.filter(|loaded| !is_unfinished(loaded, sealed_through, &segments)),
            Err(BlockError::Newer { path, found, known }) => return Err(OpenError::Newer { path, found, known }),
            Err(error) => {
                report.losses.push(Loss::Block(error));
                continue;
            }
        };
        let Some(loaded) = loaded else {
            gone.push(path);
            report.left_out += 1;
            continue;
        };
        sealed_through = sealed_through.max(Some(loaded.footer().wal_through));
        replaced.extend(loaded.origin().iter().flat_map(|origin| &origin.replaces));
        blocks.push(Arc::new(loaded.enter(&history.index, &history.recent)));
    }
    history.blocks.remove(gone.iter().map(PathBuf::as_path));
    report.blocks = blocks.len();
    blocks.sort_by_key(|block| block.order());
    write(&history.view).blocks = blocks;
    Ok(sealed_through)
}

/// Names the blocks that should be there and are not; from then on what there is should be there.
fn check_catalog(history: &History, present: &BTreeSet<u64>, report: &mut RecoveryReport) -> Result<(), OpenError> {
    let catalog = &history.blocks.catalog;
    let found = catalog.read().map_err(|source| OpenError::Io { action: "read", path: catalog.path(), source })?;
    let known = match found {
        Some(Parsed::Newer(found)) => {
            return Err(OpenError::Newer { path: catalog.path(), found, known: catalog::VERSION });
        }
        Some(Parsed::Known(known)) => known,
        None | Some(Parsed::Damaged) => {
            report.is_uncatalogued = true;
            Known::default()
        }
    };
    for number in known.blocks.difference(present) {
        report.losses.push(Loss::MissingBlock { dir: history.blocks.path().to_owned(), number: *number });
    }
    history.blocks.numbers_through(known.blocks.last().copied().unwrap_or(0));
    catalog.note(|now| *now = Known { blocks: present.clone(), ..known });
    Ok(())
}

/// Opens every rollup file.
pub(crate) fn open_rollups(history: &History, dir: &Path, report: &mut RecoveryReport) -> Result<(), OpenError> {
    let names = match history.disk.list(dir) {
        // A store of a version without them, that is only looked at.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names.map_err(|source| OpenError::Io { action: "list", path: dir.to_owned(), source })?,
    };
    for name in names.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)) {
        let _ = history.disk.remove(&dir.join(name));
    }
    let floor = names.iter().filter_map(|name| floor_of(name)).max();
    history.rolling.floor_ms.store(floor.unwrap_or(i64::MIN), Ordering::Relaxed);
    let numbered = names.iter().filter_map(|name| Some((file_number(name)?, name)));
    let mut known = rollup::Known::default();
    let (mut rollups, mut next) = (Vec::new(), 1);
    for (number, name) in numbered {
        next = next.max(number + 1);
        match Rollup::open(&*history.disk, &dir.join(name), number, &history.index, &mut known) {
            Ok(file) => rollups.push(Arc::new(file)),
            Err(BlockError::Newer { path, found, known }) => return Err(OpenError::Newer { path, found, known }),
            Err(error) => report.losses.push(Loss::Block(error)),
        }
    }
    report.rollups = rollups.len();
    history.rolling.next_number.store(next, Ordering::Relaxed);
    write(&history.view).rollups = rollups;
    Ok(())
}

/// Opens every file of lines.
fn open_lines(history: &History, report: &mut RecoveryReport) -> Result<(), OpenError> {
    let losses = history.logs.open_files().map_err(|error| match error {
        LogError::Io { action, path, source } => OpenError::Io { action, path, source },
        LogError::Damaged { path, .. } => {
            OpenError::Io { action: "read", path, source: io::ErrorKind::InvalidData.into() }
        }
        LogError::Newer { path, found, known } => OpenError::Newer { path, found, known },
    })?;
    report.losses.extend(losses.into_iter().map(|loss| Loss::Lines(loss.error)));
    Ok(())
}

/// Whether a block is a part of a seal that a crash cut short: nothing says that the seal was completed, and the log
/// still has the segment that would be removed first after it.
fn is_unfinished(loaded: &Loaded, sealed_through: Option<u64>, segments: &[String]) -> bool {
    let wal_through = loaded.footer().wal_through;
    loaded.origin().is_some_and(|origin| origin.part)
        && sealed_through < Some(wal_through)
        && segments.iter().any(|name| wal::segment_number(name) == Some(wal_through))
}
