//! Makes one rollup file in the background, and lets go of those that are not needed any more.
//!
//! A file is written under a temporary name, synced, renamed, and the name made durable, before anything that it
//! replaces goes; it says itself which window it covers and what is in it, so that a crash at any point leaves files
//! that are each right. What is deleted of the samples is noted first: how far back they are whole is in the name of an
//! empty file.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::bucket::Fold;
use super::format::Footer;
use super::plan::{Plan, Source};
use super::writer::RollupWriter;
use super::{Bucket, Fields, Known, Resolution, Rollup};
use crate::blocks::TEMPORARY_SUFFIX;
use crate::error::RollupError;
use crate::history::{History, block_samples, read, write};
use crate::index::SeriesId;
use crate::job::Pace;
use crate::recovery::ROLLUPS_DIR;
use crate::stats::count;

const FILE_SUFFIX: &str = ".rol";
const FLOOR_PREFIX: &str = "raw-from-";

/// How the store's rollups stand.
#[derive(Debug)]
pub(crate) struct Rolling {
    pub(crate) next_number: AtomicU64,
    /// Samples up to here may have been deleted.
    pub(crate) floor_ms: AtomicI64,
    is_running: AtomicBool,
    /// The last job failed: deleting samples does not wait for it.
    has_failed: AtomicBool,
}

/// Makes the rollup file that is due. Dropped without having run, a later maintenance hands it out anew.
#[derive(Debug)]
pub struct RollupJob {
    history: Arc<History>,
    plan: Plan,
    now_ms: i64,
}

/// What a rollup came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolledUp {
    /// The resolution of its buckets.
    pub resolution: Resolution,
    /// The end of the window that it covers.
    pub end_ms: i64,
    /// Buckets in the file.
    pub buckets: u64,
    /// Its bytes.
    pub bytes: u64,
}

impl Default for Rolling {
    fn default() -> Self {
        Self {
            next_number: AtomicU64::new(1),
            floor_ms: AtomicI64::new(i64::MIN),
            is_running: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        }
    }
}

impl Rolling {
    /// Whether a job is at work.
    pub(crate) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire)
    }

    /// Whether samples that are to be rolled up may be kept for it.
    pub(crate) fn may_wait(&self) -> bool {
        !self.has_failed.load(Ordering::Relaxed)
    }
}

impl fmt::Display for RolledUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} buckets of {} in {} bytes", self.buckets, self.resolution.name(), self.bytes)
    }
}

impl RollupJob {
    pub(crate) fn claim(history: &Arc<History>, now_ms: i64) -> Option<Self> {
        if history.rolling.is_running() {
            return None;
        }
        let plan = history.rollup_due(now_ms)?;
        let was_running = history.rolling.is_running.swap(true, Ordering::AcqRel);
        (!was_running).then(|| Self { history: history.clone(), plan, now_ms })
    }

    /// Writes the file and puts it into use; `None` if it was told to end early.
    ///
    /// # Errors
    /// The file cannot be written or does not read back, or what it is made of cannot be read.
    pub fn run(self, pace: &mut Pace<'_>) -> Result<Option<RolledUp>, RollupError> {
        let done = self.make(pace);
        let counters = &self.history.counters;
        match &done {
            Ok(Some(_)) => count(&counters.rollups),
            Ok(None) => {}
            Err(_) => count(&counters.rollups_failed),
        }
        self.history.rolling.has_failed.store(done.is_err(), Ordering::Relaxed);
        done
    }

    fn make(&self, pace: &mut Pace<'_>) -> Result<Option<RolledUp>, RollupError> {
        let (history, plan) = (&self.history, &self.plan);
        let number = history.rolling.next_number.fetch_add(1, Ordering::Relaxed);
        let dir = history.dir.join(ROLLUPS_DIR);
        let temporary = dir.join(format!("{number:08}{TEMPORARY_SUFFIX}"));
        let path = dir.join(file_name(number, plan));
        let made = self.write(&temporary, pace).and_then(|is_whole| {
            if !is_whole {
                return Ok(None);
            }
            history.disk.rename(&temporary, &path).map_err(at("rename", &temporary))?;
            history.disk.sync_dir(&dir).map_err(at("make durable the names in", &dir))?;
            Ok(Some(Rollup::open(&*history.disk, &path, number, &history.index, &mut Known::default())?))
        });
        let Ok(Some(file)) = made else {
            let _ = history.disk.remove(&temporary);
            let _ = history.disk.remove(&path);
            return made.map(|_| None);
        };
        let Footer { buckets, .. } = *file.footer();
        let done = RolledUp { resolution: plan.resolution, end_ms: plan.end_ms, buckets, bytes: file.bytes() };
        write(&history.view).rollups.push(Arc::new(file));
        Ok(Some(done))
    }

    /// Writes the file's bytes, series by series; `false` if it was told to end early.
    fn write(&self, path: &Path, pace: &mut Pace<'_>) -> Result<bool, RollupError> {
        let (history, plan) = (&self.history, &self.plan);
        let file = history.disk.create(path).map_err(at("create", path))?;
        let mut writer = RollupWriter::new(&*file);
        let (mut buckets, mut written) = (Vec::new(), 0);
        for series in self.series() {
            buckets.clear();
            self.read(series, &mut buckets)?;
            let (labels, kind) = {
                let index = read(&history.index);
                (index.labels(series).cloned().ok_or(RollupError::Forgotten)?, index.kind(series))
            };
            writer.series(&labels, kind, &buckets).map_err(at("write", path))?;
            let before = std::mem::replace(&mut written, writer.bytes());
            if pace(written - before).is_break() {
                return Ok(false);
            }
        }
        let footer = Footer {
            index_offset: 0,
            index_bytes: 0,
            index_crc: 0,
            resolution: plan.resolution,
            start_ms: plan.start_ms,
            end_ms: plan.end_ms,
            buckets: 0,
            samples: 0,
            wal_through: plan.wal_through,
            built_ms: self.now_ms,
        };
        writer.finish(footer).map_err(at("write", path))?;
        file.sync().map_err(at("sync", path))?;
        Ok(true)
    }

    fn series(&self) -> Vec<SeriesId> {
        let (start, end) = (self.plan.start_ms, self.plan.end_ms);
        let mut series: Vec<SeriesId> = match &self.plan.source {
            Source::Blocks(blocks) => {
                let of = |block: &'_ Arc<crate::block::Block>| block.series().collect::<Vec<_>>();
                blocks.iter().filter(|block| block.overlaps(start, end)).flat_map(of).collect()
            }
            Source::Files(pieces) => {
                pieces.iter().filter_map(|piece| piece.file.as_ref()).flat_map(|file| file.series()).collect()
            }
        };
        series.sort_unstable();
        series.dedup();
        series
    }

    /// The buckets of a series, from samples or from finer buckets.
    fn read(&self, series: SeriesId, buckets: &mut Vec<Bucket>) -> Result<(), RollupError> {
        let Plan { resolution, start_ms, end_ms, .. } = self.plan;
        let mut fold = Fold::new(resolution.ms(), |bucket| buckets.push(bucket));
        match &self.plan.source {
            Source::Blocks(blocks) => {
                let (mut ts, mut values) = (Vec::new(), Vec::new());
                block_samples(blocks, series, (start_ms, end_ms), &mut ts, &mut values)?;
                ts.iter().zip(&values).for_each(|(ts, value)| fold.sample(*ts, *value));
            }
            Source::Files(pieces) => {
                for piece in pieces {
                    let Some(file) = &piece.file else { continue };
                    let span = (piece.start, piece.end);
                    file.buckets(series, span, resolution.ms(), Fields::ALL, |bucket| fold.bucket(&bucket))?;
                }
            }
        }
        fold.finish();
        Ok(())
    }
}

impl Drop for RollupJob {
    fn drop(&mut self) {
        self.history.rolling.is_running.store(false, Ordering::Release);
    }
}

impl History {
    /// Deletes the rollup files that are past retention or that later ones have in them; whether there were any.
    pub(crate) fn retain_rollups(&self, now_ms: i64) -> bool {
        let needless: Vec<Arc<Rollup>> = {
            let rollups = &read(&self.view).rollups;
            let is_past = |file: &Rollup| {
                let age = self.config.rollup_retention(file.footer().resolution);
                let age_ms = age.map_or(i64::MAX, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
                file.footer().end_ms < now_ms.saturating_sub(age_ms)
            };
            let is_needless = |file: &&Arc<Rollup>| is_past(file) || rollups.iter().any(|other| other.replaces(file));
            rollups.iter().filter(is_needless).cloned().collect()
        };
        if needless.is_empty() {
            return false;
        }
        let removed: Vec<_> = needless.iter().filter(|file| self.disk.remove(file.path()).is_ok()).collect();
        let _ = self.disk.sync_dir(&self.dir.join(ROLLUPS_DIR));
        write(&self.view).rollups.retain(|file| !removed.iter().any(|gone| Arc::ptr_eq(gone, file)));
        !removed.is_empty()
    }

    /// Notes durably that samples up to `floor_ms` may be deleted; they may be only if this succeeds.
    pub(crate) fn raise_floor(&self, floor_ms: i64) -> bool {
        let before = self.rolling.floor_ms.load(Ordering::Relaxed);
        if floor_ms <= before {
            return true;
        }
        let dir = self.dir.join(ROLLUPS_DIR);
        let path = |floor_ms: i64| dir.join(format!("{FLOOR_PREFIX}{floor_ms}"));
        let made = match self.disk.create(&path(floor_ms)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => false,
            _ => self.disk.sync_dir(&dir).is_ok(),
        };
        if made {
            self.rolling.floor_ms.store(floor_ms, Ordering::Relaxed);
            // Left behind it is harmless: the highest counts.
            let _ = self.disk.remove(&path(before));
        }
        made
    }
}

fn file_name(number: u64, plan: &Plan) -> String {
    let Plan { resolution, start_ms, end_ms, .. } = plan;
    format!("{number:08}-{}-{start_ms}-{end_ms}{FILE_SUFFIX}", resolution.name())
}

/// The number of a file's name.
pub(crate) fn file_number(name: &str) -> Option<u64> {
    name.strip_suffix(FILE_SUFFIX)?.split('-').next()?.parse().ok()
}

/// The floor that a file's name notes.
pub(crate) fn floor_of(name: &str) -> Option<i64> {
    name.strip_prefix(FLOOR_PREFIX)?.parse().ok()
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RollupError {
    let path = path.to_owned();
    move |source| RollupError::Io { action, path, source }
}
