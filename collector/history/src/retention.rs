//! What goes: blocks past their age or over the bytes that the store may have, the oldest first; series that nothing
//! has any more; log segments that are in blocks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustc_hash::FxHashSet;

use crate::block::Block;
use crate::history::{History, read, write};
use crate::index::SeriesId;
use crate::ingest::Ingest;
use crate::recovery::WAL_DIR;
use crate::wal;

impl History {
    /// Deletes what is past retention and forgets the series that only that had.
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
        self.blocks.remove(past.iter().map(|block| block.path()));
        let mut view = write(&self.view);
        view.blocks.retain(|block| past.iter().all(|gone| !Arc::ptr_eq(gone, block)));
        self.counters.blocks_deleted.fetch_add(past.len() as u64, Ordering::Relaxed);
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
        let horizon = self.config.horizon_ms(now_ms);
        let mut oldest_first = view.blocks.clone();
        oldest_first.sort_by_key(|block| last_ms(block));
        let mut bytes: u64 = view.blocks.iter().map(|block| block.bytes()).sum();
        let mut past = Vec::new();
        for block in oldest_first {
            let may_go = || !self.rolling.may_wait() || !self.is_to_be_rolled_up(&view, &block, now_ms);
            let too_old = horizon.is_some_and(|horizon| last_ms(&block) < horizon) && may_go();
            let too_much = self.config.retention_bytes.is_some_and(|limit| bytes > limit);
            // What is being compacted goes later, with what comes of it.
            if (too_old || too_much) && !view.compacting.contains(&block.number()) {
                bytes -= block.bytes();
                past.push(block);
            }
        }
        past
    }

    /// Removes the log segments up to `through`, whose frames are in blocks. Whether none is left, durably.
    pub(crate) fn remove_segments(&self, through: u64) -> bool {
        let dir = self.dir.join(WAL_DIR);
        let Ok(names) = self.disk.list(&dir) else { return false };
        let numbers = names.iter().filter_map(|name| wal::segment_number(name));
        let mut numbers: Vec<u64> = numbers.filter(|number| *number <= through).collect();
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
