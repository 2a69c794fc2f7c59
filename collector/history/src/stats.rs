//! What a store counts of itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::refused::Refusals;

/// A store's figures at one moment.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Series of the head and of all blocks.
    pub series: u64,
    /// Series that count towards the limits: live ones and those of the head.
    pub active_series: u64,
    /// Sources that have a head.
    pub sources: u64,
    /// Samples appended since the start, replayed ones left out.
    pub samples_appended: u64,
    /// Frames appended since the start.
    pub frames_appended: u64,
    /// Frames that were taken before and came again.
    pub frames_duplicate: u64,
    /// Frames refused as malformed or out of sequence.
    pub frames_rejected: u64,
    /// Samples in the head, one being sealed among them.
    pub head_samples: u64,
    /// Estimated memory of the head.
    pub head_bytes: u64,
    /// Bytes of the write-ahead log that a restart would replay.
    pub wal_bytes: u64,
    /// Bytes that wait for a commit.
    pub wal_pending_bytes: u64,
    /// Commits that succeeded.
    pub commits: u64,
    /// Commits that failed.
    pub commits_failed: u64,
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// Samples in them.
    pub block_samples: u64,
    /// Rollup files.
    pub rollup_files: u64,
    /// Their bytes.
    pub rollup_bytes: u64,
    /// Rollup files made since the start.
    pub rollups: u64,
    /// Rollup files that could not be made.
    pub rollups_failed: u64,
    /// Heads sealed since the start.
    pub seals: u64,
    /// Seals that failed.
    pub seals_failed: u64,
    /// Samples that were past retention when their head was sealed, and are in no block.
    pub samples_expired: u64,
    /// Samples that a later one of the same series and timestamp replaced, in a seal or a compaction.
    pub samples_replaced: u64,
    /// Samples sealed into a window that had ended more than a window before.
    pub samples_late: u64,
    /// Samples sealed into a window that had not begun.
    pub samples_future: u64,
    /// Samples sealed into the file of a seal that several windows share, as there were too many.
    pub samples_stray: u64,
    /// Compactions since the start.
    pub compactions: u64,
    /// Compactions that failed.
    pub compactions_failed: u64,
    /// Samples that they wrote.
    pub compacted_samples: u64,
    /// Bytes that they wrote.
    pub compacted_bytes: u64,
    /// Blocks deleted by age or size since the start.
    pub blocks_deleted: u64,
    /// Damaged places found since the start, those of the recovery among them.
    pub corruptions: u64,
    /// Series declarations refused since the start.
    pub refused_series: u64,
    /// Events taken since the start, replayed ones left out.
    pub events_appended: u64,
    /// Events of them that are not kept: malformed, or over the bounds of lines in memory.
    pub events_refused: u64,
    /// Files of lines.
    pub log_files: u64,
    /// Their bytes.
    pub log_bytes: u64,
    /// Lines in memory, bytes.
    pub log_head_bytes: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) active_series: AtomicU64,
    pub(crate) samples_appended: AtomicU64,
    pub(crate) frames_appended: AtomicU64,
    pub(crate) frames_duplicate: AtomicU64,
    pub(crate) frames_rejected: AtomicU64,
    pub(crate) wal_bytes: AtomicU64,
    pub(crate) wal_pending_bytes: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) commits_failed: AtomicU64,
    pub(crate) seals: AtomicU64,
    pub(crate) seals_failed: AtomicU64,
    pub(crate) samples_expired: AtomicU64,
    pub(crate) samples_replaced: AtomicU64,
    pub(crate) samples_late: AtomicU64,
    pub(crate) samples_future: AtomicU64,
    pub(crate) samples_stray: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compactions_failed: AtomicU64,
    pub(crate) compacted_samples: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) blocks_deleted: AtomicU64,
    pub(crate) rollups: AtomicU64,
    pub(crate) rollups_failed: AtomicU64,
    pub(crate) corruptions: AtomicU64,
    pub(crate) events_appended: AtomicU64,
    pub(crate) events_refused: AtomicU64,
    pub(crate) refusals: Refusals,
}

impl Counters {
    /// The counted part of the figures.
    pub(crate) fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            active_series: get(&self.active_series),
            samples_appended: get(&self.samples_appended),
            frames_appended: get(&self.frames_appended),
            frames_duplicate: get(&self.frames_duplicate),
            frames_rejected: get(&self.frames_rejected),
            wal_bytes: get(&self.wal_bytes),
            wal_pending_bytes: get(&self.wal_pending_bytes),
            commits: get(&self.commits),
            commits_failed: get(&self.commits_failed),
            seals: get(&self.seals),
            seals_failed: get(&self.seals_failed),
            samples_expired: get(&self.samples_expired),
            samples_replaced: get(&self.samples_replaced),
            samples_late: get(&self.samples_late),
            samples_future: get(&self.samples_future),
            samples_stray: get(&self.samples_stray),
            compactions: get(&self.compactions),
            compactions_failed: get(&self.compactions_failed),
            compacted_samples: get(&self.compacted_samples),
            compacted_bytes: get(&self.compacted_bytes),
            blocks_deleted: get(&self.blocks_deleted),
            rollups: get(&self.rollups),
            rollups_failed: get(&self.rollups_failed),
            corruptions: get(&self.corruptions),
            events_appended: get(&self.events_appended),
            events_refused: get(&self.events_refused),
            refused_series: self.refusals.count(),
            ..Stats::default()
        }
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
