//! Reads every byte of a store and says what is damaged, what that loses, and what to do.
//!
//! It goes the way of an opening, on a disk that takes no changes: what it finds is what a start would report. Then it
//! reads every column of every block, as queries would one day. It may run beside a collector at work: files that
//! are replaced meanwhile are left out.

mod read_only;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pitwatch_disk::Disk;

use crate::block::{Block, BlockError, ColumnDamage};
use crate::config::Config;
use crate::error::OpenError;
use crate::history::{History, read, write};
use crate::logs::{self, LOGS_DIR, LogError, LogLoss};
use crate::recovery::{self, BLOCKS_DIR, DIRS, Loss, ROLLUPS_DIR, RecoveryReport, WAL_DIR};
use crate::rollup::Rollup;
use read_only::ReadOnly;

/// Most damaged columns of one block that are listed; the rest are counted.
pub const COLUMNS_LISTED_MAX: usize = 100;
/// Samples of the log that are kept in memory at once.
const LOG_SAMPLES_MAX: u64 = 4_000_000;
/// How often a verification beside a running collector begins anew because a file went away under it.
const TRIES: usize = 5;

const RESTORE_OR_DELETE: &str = "restore the file from a backup, or delete it to do without its samples";
const RESTORE_BLOCK: &str = "restore the file from a backup; until then queries that need this part fail";
const RESTORE_ROLLUP: &str =
    "restore the file from a backup, or delete it: it is made anew as far as what it was made of is still there";
const RESTORE_STORE: &str = "restore from a backup, or start the collector: it goes on with what is whole";
const START: &str = "nothing: the next start cuts it off";
const MADE_ANEW: &str = "nothing: the next start makes it anew";
const UPGRADE: &str = "run the version that wrote it, or a newer one";

/// What a verification found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Samples that were decoded, those of the log among them.
    pub samples: u64,
    /// Log lines that were unpacked.
    pub lines: u64,
    /// What is not as it was written. Empty if the store is sound.
    pub damage: Vec<Damage>,
    /// What a crash leaves and a start mends; nothing acknowledged is lost by it.
    pub notes: Vec<Damage>,
}

/// One damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, if it is one's.
    pub path: Option<PathBuf>,
    /// The part of it.
    pub part: String,
    /// What cannot be had any more.
    pub lost: String,
    /// What to do.
    pub advice: &'static str,
}

/// How far a verification has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of files that were read.
    pub bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
}

/// Verifies the store in `dir`. `progress` is called after each file and now and then within one.
///
/// # Errors
/// The operating system refuses, or the directory is not there.
pub fn verify(disk: &Arc<dyn Disk>, dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Verified, OpenError> {
    let mut tries = 1;
    loop {
        match try_verify(disk, dir, tries == TRIES, progress) {
            Err(OpenError::Io { source, .. } | OpenError::Log { source, .. })
                if source.kind() == io::ErrorKind::NotFound && tries < TRIES =>
            {
                tries += 1;
            }
            done => return done,
        }
    }
}

/// Unless it `is_last`, a try ends where files seem to be missing: a collector at work may have replaced them.
fn try_verify(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    is_last: bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verified, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(ReadOnly(disk.clone()));
    let mut verified = Verified::default();
    let mut at = Progress::default();
    for part in DIRS {
        let (files, bytes) = size(&*disk, &dir.join(part))?;
        verified.files += files;
        at.total_bytes += bytes;
    }
    let wal_bytes = size(&*disk, &dir.join(WAL_DIR))?.1;
    verified.bytes = at.total_bytes;
    let history = Arc::new(recovery::empty(disk, dir, Config { head_max_bytes: u64::MAX, ..Config::default() }));
    let mut report = RecoveryReport::default();
    let opened = recovery::open_blocks(&history, &mut report);
    let sealed_through = match opened {
        Err(OpenError::Newer { path, found, known }) => {
            verified.damage.push(newer(path, found, known));
            return Ok(verified);
        }
        opened => opened?,
    };
    if let Err(error) = recovery::open_rollups(&history, &dir.join(ROLLUPS_DIR), &mut report) {
        let OpenError::Newer { path, found, known } = error else { return Err(error) };
        verified.damage.push(newer(path, found, known));
        return Ok(verified);
    }
    let gone = |loss: &Loss| match loss {
        Loss::Block(BlockError::Io { source, .. }) => source.kind() == io::ErrorKind::NotFound,
        Loss::MissingBlock { .. } => true,
        _ => false,
    };
    if !is_last && report.losses.iter().any(gone) {
        return Err(OpenError::Io {
            action: "open the blocks in",
            path: dir.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        });
    }
    let mut dropped = 0;
    let replayed = recovery::replay(&history, sealed_through, &mut report, &mut |ingest, samples| {
        // Only whether frames fit one another is asked: their samples need not stay.
        if samples - dropped > LOG_SAMPLES_MAX {
            dropped = samples;
            for head in read(&history.view).heads.values() {
                std::mem::take(&mut *write(&head.data));
            }
            ingest.heads_taken();
        }
    });
    match replayed {
        Err(OpenError::Newer { path, found, known }) => verified.damage.push(newer(path, found, known)),
        Err(error) => return Err(error),
        Ok(_) => verified.samples += report.samples,
    }
    if report.is_uncatalogued && verified.files > 0 {
        verified.notes.push(Damage {
            path: Some(history.blocks.catalog.path()),
            part: "missing or damaged".to_owned(),
            lost: "nothing; but files that are missing as a whole cannot be told".to_owned(),
            advice: MADE_ANEW,
        });
    }
    for loss in &report.losses {
        let damage = of_loss(loss);
        if loss.is_harmless() { &mut verified.notes } else { &mut verified.damage }.push(damage);
    }
    at.bytes = wal_bytes;
    progress(at);
    let blocks = read(&history.view).blocks.clone();
    for block in blocks {
        let begun = at.bytes;
        let mut columns = |bytes: u64| {
            at.bytes += bytes;
            progress(at);
        };
        check_block(&history, &block, &mut verified, &mut columns);
        at.bytes = begun + block.bytes();
        progress(at);
    }
    let rollups = read(&history.view).rollups.clone();
    for file in rollups {
        let begun = at.bytes;
        let mut records = |bytes: u64| {
            at.bytes += bytes;
            progress(at);
        };
        check_rollup(&history, &file, &mut verified, &mut records);
        at.bytes = begun + file.bytes();
        progress(at);
    }
    let mut lines = |bytes: u64| {
        at.bytes += bytes;
        progress(at);
    };
    let logs = logs::verify(&*history.disk, dir, &mut lines);
    let logs = logs.map_err(|source| OpenError::Io { action: "list", path: dir.join(LOGS_DIR), source })?;
    verified.lines = logs.lines;
    verified.damage.extend(logs.losses.iter().map(of_lines));
    at.bytes = at.total_bytes;
    progress(at);
    Ok(verified)
}

/// Files of a directory and their bytes; a file that goes away meanwhile is left out, and a directory that an earlier
/// version did not make.
fn size(disk: &dyn Disk, dir: &Path) -> Result<(u64, u64), OpenError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { action, path, source }
    };
    let (mut files, mut bytes) = (0, 0);
    let needed = dir.ends_with(WAL_DIR) || dir.ends_with(BLOCKS_DIR);
    let names = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !needed => Vec::new(),
        names => names.map_err(io("list", dir))?,
    };
    for name in names {
        let path = dir.join(name);
        match disk.open(&path).and_then(|file| file.len()) {
            Ok(len) => {
                files += 1;
                bytes += len;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io("open", &path)(error)),
        }
    }
    Ok((files, bytes))
}

fn check_block(history: &History, block: &Block, verified: &mut Verified, progress: &mut dyn FnMut(u64)) {
    let (mut listed, mut unlisted, mut unlisted_samples) = (0, 0_u64, 0);
    let mut decoded = 0;
    block.check(progress, &mut |column: Result<u64, ColumnDamage>| match column {
        Ok(samples) => decoded += samples,
        Err(damage) if listed < COLUMNS_LISTED_MAX => {
            listed += 1;
            verified.damage.push(of_column(history, block, &damage));
        }
        Err(damage) => {
            unlisted += 1;
            unlisted_samples += damage.samples;
        }
    });
    verified.samples += decoded;
    if unlisted > 0 {
        verified.damage.push(Damage {
            path: Some(block.path().to_owned()),
            part: format!("{unlisted} more columns"),
            lost: format!("{unlisted_samples} samples"),
            advice: RESTORE_BLOCK,
        });
    }
}

fn check_rollup(history: &History, file: &Rollup, verified: &mut Verified, progress: &mut dyn FnMut(u64)) {
    let (mut listed, mut unlisted) = (0, 0_u64);
    file.check(progress, &mut |series, error| {
        if listed == COLUMNS_LISTED_MAX {
            unlisted += 1;
            return;
        }
        listed += 1;
        let whose = read(&history.index).labels(series).map(ToString::to_string).unwrap_or_default();
        let lost = format!("buckets of {whose}");
        verified.damage.push(Damage { lost, advice: RESTORE_ROLLUP, ..of_block_error(&error) });
    });
    if unlisted > 0 {
        verified.damage.push(Damage {
            path: Some(file.path().to_owned()),
            part: format!("{unlisted} more series"),
            lost: "their buckets".to_owned(),
            advice: RESTORE_ROLLUP,
        });
    }
}

fn of_column(history: &History, block: &Block, damage: &ColumnDamage) -> Damage {
    let (min, max) = damage.span;
    let whose = match damage.series {
        Some(series) => read(&history.index).labels(series).map(ToString::to_string).unwrap_or_default(),
        None => format!("all series of a group of {}", damage.source.name),
    };
    Damage {
        path: Some(block.path().to_owned()),
        part: damage.part.to_string(),
        lost: format!("{} samples of {whose} from {min} to {max} ms", damage.samples),
        advice: RESTORE_BLOCK,
    }
}

fn of_lines(loss: &LogLoss) -> Damage {
    of_line_error(&loss.error, loss.lines)
}

fn of_line_error(error: &LogError, lines: Option<u64>) -> Damage {
    let (path, part) = match error {
        LogError::Io { path, source, .. } => (path, source.to_string()),
        LogError::Damaged { path, part } => (path, part.to_string()),
        LogError::Newer { path, found, known } => return newer(path.clone(), *found, *known),
    };
    let lost = lines.map_or("all its lines".to_owned(), |lines| format!("{lines} lines"));
    Damage { path: Some(path.clone()), part, lost, advice: RESTORE_OR_DELETE }
}

fn newer(path: PathBuf, found: u32, known: u32) -> Damage {
    Damage {
        path: Some(path),
        part: format!("format version {found}; this program knows up to {known}"),
        lost: "nothing: it is whole as far as can be told".to_owned(),
        advice: UPGRADE,
    }
}

fn of_loss(loss: &Loss) -> Damage {
    let (path, part, lost, advice) = match loss {
        Loss::TornTail { path, bytes } => {
            (Some(path), format!("the last {bytes} bytes"), "nothing that was acknowledged".to_owned(), START)
        }
        Loss::Segment { path, offset, bytes } => {
            (Some(path), format!("byte {offset} and after"), format!("{bytes} bytes of frames"), RESTORE_STORE)
        }
        Loss::Header { path } => (Some(path), "the header".to_owned(), "nothing".to_owned(), RESTORE_STORE),
        Loss::MissingSegment { path } => {
            (Some(path), "the whole file".to_owned(), "its frames".to_owned(), RESTORE_STORE)
        }
        Loss::Frames { source, count } => {
            let whose = source.as_ref().map_or("sources whose names are lost".to_owned(), |s| s.name.to_string());
            (None, "the log".to_owned(), format!("{count} frames of {whose}"), RESTORE_STORE)
        }
        Loss::MissingBlock { dir, number } => {
            let path = dir.join(format!("{number:08}-*.blk"));
            let (part, lost) = ("the whole file".to_owned(), "its samples".to_owned());
            return Damage { path: Some(path), part, lost, advice: RESTORE_STORE };
        }
        Loss::Block(error) => return of_block_error(error),
        Loss::Lines(error) => return of_line_error(error, None),
    };
    Damage { path: path.cloned(), part, lost, advice }
}

fn of_block_error(error: &BlockError) -> Damage {
    let (path, part) = match error {
        BlockError::Io { path, part, source } => (path, format!("{part}: {source}")),
        BlockError::Damaged { path, part } => (path, part.to_string()),
        BlockError::Newer { path, found, known } => return newer(path.clone(), *found, *known),
    };
    let lost = "all its samples; its name says from when to when".to_owned();
    Damage { path: Some(path.clone()), part, lost, advice: RESTORE_OR_DELETE }
}
