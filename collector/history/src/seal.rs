//! Turns a head that was taken away into a block file, and deletes blocks that are past their retention.
//!
//! The order that makes a crash harmless: the new log segment, with its checkpoint, is durable before the head is
//! taken; the block is durable, by bytes and by name, before a segment is removed; the block says up to which
//! segment it holds everything, so that a replay never stores those frames again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustc_hash::FxHashSet;

use crate::block::{Block, BlockWriter};
use crate::error::SealError;
use crate::head::HeadData;
use crate::history::{History, read, write};
use crate::index::SeriesId;
use crate::ingest::Ingest;
use crate::recovery::{BLOCKS_DIR, WAL_DIR};
use crate::source::SourceName;
use crate::stats::count;
use crate::wal;

const BLOCK_SUFFIX: &str = ".blk";
/// Ends the name of a block that is not whole yet.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// A head that is being sealed.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) sources: BTreeMap<u32, (SourceName, HeadData)>,
    /// The last log segment with frames of it.
    wal_through: u64,
    claimed: AtomicBool,
}

/// Writes a frozen head into a block. Dropped without having run, the head stays and a later maintenance answers
/// the job anew.
#[derive(Debug)]
pub struct SealJob {
    history: Arc<History>,
    frozen: Arc<Frozen>,
    now_ms: i64,
}

/// What a seal came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Samples of the block.
    pub samples: u64,
    /// Its bytes; none if the head held no sample, so that there is no block.
    pub bytes: u64,
}

impl Frozen {
    pub(crate) fn new(sources: BTreeMap<u32, (SourceName, HeadData)>, wal_through: u64) -> Self {
        Self { sources, wal_through, claimed: AtomicBool::new(false) }
    }

    fn span(&self) -> (i64, i64) {
        let spans = self.sources.values().filter_map(|(_, data)| data.span());
        spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0))
    }
}

impl SealJob {
    pub(crate) fn claim(history: &Arc<History>, frozen: Arc<Frozen>, now_ms: i64) -> Option<Self> {
        let claimed = frozen.claimed.swap(true, Ordering::AcqRel);
        (!claimed).then(|| Self { history: history.clone(), frozen, now_ms })
    }

    /// Writes the block, puts it in the head's place, and removes the log segments that it makes needless.
    ///
    /// # Errors
    /// The block cannot be written or does not read back; the head stays, a later maintenance tries again.
    pub fn run(self) -> Result<Sealed, SealError> {
        let done = self.write_block();
        count(if done.is_ok() { &self.history.counters.seals } else { &self.history.counters.seals_failed });
        done
    }

    fn write_block(&self) -> Result<Sealed, SealError> {
        let history = &self.history;
        let mut sealed = Sealed::default();
        let mut block = None;
        if self.frozen.sources.values().any(|(_, data)| !data.is_empty()) {
            let number = history.next_block.fetch_add(1, Ordering::Relaxed);
            let written = self.write_file(number)?;
            sealed = Sealed { samples: written.footer().samples, bytes: written.bytes() };
            block = Some(Arc::new(written));
        }
        {
            let mut view = write(&history.view);
            view.frozen = None;
            view.blocks.extend(block);
        }
        history.remove_segments(self.frozen.wal_through);
        Ok(sealed)
    }

    fn write_file(&self, number: u64) -> Result<Block, SealError> {
        let history = &self.history;
        let dir = history.dir.join(BLOCKS_DIR);
        let temporary = dir.join(format!("{number:08}{TEMPORARY_SUFFIX}"));
        let (min, max) = self.frozen.span();
        let path = dir.join(block_name(number, min, max));
        let made = self.write_bytes(&temporary).and_then(|()| {
            history.disk.rename(&temporary, &path).map_err(at("rename", &temporary))?;
            history.disk.sync_dir(&dir).map_err(at("make durable the names in", &dir))?;
            Ok(Block::open(&*history.disk, &path, &history.index)?)
        });
        made.inspect_err(|_| {
            // A block that stays all the same is whole: what is sealed again is stored once, by timestamp.
            let _ = history.disk.remove(&temporary);
            let _ = history.disk.remove(&path);
        })
    }

    fn write_bytes(&self, path: &Path) -> Result<(), SealError> {
        let history = &self.history;
        let file = history.disk.create(path).map_err(at("create", path))?;
        let mut writer = BlockWriter::new(&*file);
        for (name, data) in self.frozen.sources.values() {
            let describe = |series| {
                let index = read(&history.index);
                Some((index.labels(series)?.clone(), index.kind(series)))
            };
            writer.source(name, data, describe).map_err(at("write", path))?;
        }
        writer.finish(self.frozen.wal_through, self.now_ms).map_err(at("write", path))?;
        file.sync().map_err(at("sync", path))
    }
}

impl Drop for SealJob {
    fn drop(&mut self) {
        self.frozen.claimed.store(false, Ordering::Release);
    }
}

impl History {
    /// Deletes the blocks that are past retention, the oldest first, and forgets the series that only they had.
    pub(crate) fn retain(&self, now_ms: i64, ingest: &Ingest) {
        // A rollup at work reads blocks and files, and may soon be all that has a series.
        if self.rolling.is_running() {
            return;
        }
        // One after the other, whatever they come to.
        if self.retain_rollups(now_ms) | self.retain_blocks(now_ms) {
            self.forget_series(ingest);
        }
    }

    /// Deletes the blocks that are past retention; whether there were any.
    fn retain_blocks(&self, now_ms: i64) -> bool {
        let past = self.past_retention(now_ms);
        let Some(newest) = past.iter().map(|block| block.footer().wal_through).max() else { return false };
        let floor = past.iter().map(|block| last_ms(block)).max().unwrap_or(i64::MIN);
        // As long as a segment is there, its block keeps a restart from replaying it.
        if !self.remove_segments(newest) || !self.raise_floor(floor) {
            return false;
        }
        let dir = self.dir.join(BLOCKS_DIR);
        let removed: Vec<_> = past.into_iter().filter(|block| self.disk.remove(block.path()).is_ok()).collect();
        let _ = self.disk.sync_dir(&dir);
        let mut view = write(&self.view);
        view.blocks.retain(|block| removed.iter().all(|gone| !Arc::ptr_eq(gone, block)));
        self.counters.blocks_deleted.fetch_add(removed.len() as u64, Ordering::Relaxed);
        true
    }

    /// Forgets the series that nothing has any more.
    fn forget_series(&self, ingest: &Ingest) {
        let view = read(&self.view);
        let mut keep: FxHashSet<SeriesId> = ingest.live_series().collect();
        keep.extend(view.blocks.iter().flat_map(|block| block.series()));
        keep.extend(view.rollups.iter().flat_map(|file| file.series()));
        keep.extend(view.frozen.iter().flat_map(|frozen| frozen.sources.values()).flat_map(|(_, data)| data.series()));
        for head in view.heads.values() {
            keep.extend(read(&head.data).series());
        }
        write(&self.index).retain(&keep);
    }

    fn past_retention(&self, now_ms: i64) -> Vec<Arc<Block>> {
        let view = read(&self.view);
        let horizon = self
            .config
            .retention_age
            .map(|age| now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
        let mut bytes: u64 = view.blocks.iter().map(|block| block.bytes()).sum();
        let mut past = Vec::new();
        for block in &view.blocks {
            let may_go = || !self.rolling.may_wait() || !self.is_to_be_rolled_up(&view, block, now_ms);
            let too_old = horizon.is_some_and(|horizon| last_ms(block) < horizon) && may_go();
            let too_much = self.config.retention_bytes.is_some_and(|limit| bytes > limit);
            if too_old || too_much {
                bytes -= block.bytes();
                past.push(block.clone());
            }
        }
        past
    }

    /// Removes the log segments up to `through`, whose frames are in blocks. Whether none is left, durably.
    fn remove_segments(&self, through: u64) -> bool {
        let dir = self.dir.join(WAL_DIR);
        let Ok(names) = self.disk.list(&dir) else { return false };
        let numbers = names.iter().filter_map(|name| wal::segment_number(name));
        let mut numbers: Vec<u64> = numbers.filter(|number| *number <= through).collect();
        if numbers.is_empty() {
            return true;
        }
        // The last first: what a crash leaves is then a log that lacks its end, not its middle.
        numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
        numbers.iter().all(|number| self.disk.remove(&wal::segment_path(&dir, *number)).is_ok())
            && self.disk.sync_dir(&dir).is_ok()
    }
}

/// The last instant in a block; a host whose clock is ahead must not keep it for ever.
fn last_ms(block: &Block) -> i64 {
    block.footer().max_ts.min(block.footer().sealed_ms)
}

/// What a block's file is called: its number, and the first and last instant in it, for people.
fn block_name(number: u64, min_ts: i64, max_ts: i64) -> String {
    format!("{number:08}-{min_ts}-{max_ts}{BLOCK_SUFFIX}")
}

/// The number of a block's file name.
pub(crate) fn block_number(name: &str) -> Option<u64> {
    name.strip_suffix(BLOCK_SUFFIX)?.split('-').next()?.parse().ok()
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SealError {
    let path = path.to_owned();
    move |source| SealError::Io { action, path, source }
}
