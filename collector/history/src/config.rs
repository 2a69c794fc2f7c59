//! The store's options, with what they are when nothing is said.

use std::time::Duration;

use crate::logs::LogConfig;
use crate::rollup::Resolution;
use crate::window::Windows;

const MIB: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What may be chosen about a store. The directory is given to [`crate::History::open`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The span of a window of time: the head is sealed at the end of one, into a block each.
    pub block_span: Duration,
    /// Estimated memory of the head at which it is sealed earlier.
    pub head_max_bytes: u64,
    /// Bytes of the write-ahead log at which the head is sealed earlier: this bounds what a restart replays.
    pub wal_max_bytes: u64,
    /// Bytes that may wait for a commit while the disk refuses; above it appends are refused.
    pub pending_max_bytes: u64,
    /// Age after which samples are deleted; `None` keeps all.
    pub retention_age: Option<Duration>,
    /// Age after which buckets of a minute are deleted; `None` keeps all.
    pub retention_minutes: Option<Duration>,
    /// Age after which buckets of an hour are deleted; `None` keeps all.
    pub retention_hours: Option<Duration>,
    /// Bytes of blocks above which the oldest are deleted; `None` keeps all.
    pub retention_bytes: Option<u64>,
    /// Most series of one source in the head.
    pub series_per_source_max: usize,
    /// Most series of one source that come by rows, as remote write sends them, in the head.
    pub series_by_rows_max: usize,
    /// Most series of all sources in the head.
    pub series_total_max: usize,
    /// What may be chosen about lines.
    pub logs: LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            block_span: Duration::from_secs(2 * 60 * 60),
            head_max_bytes: 1024 * MIB,
            wal_max_bytes: 256 * MIB,
            pending_max_bytes: 64 * MIB,
            retention_age: Some(30 * DAY),
            retention_minutes: Some(365 * DAY),
            retention_hours: Some(5 * 365 * DAY),
            retention_bytes: None,
            series_per_source_max: 50_000,
            series_by_rows_max: 1_000_000,
            series_total_max: 2_000_000,
            logs: LogConfig::default(),
        }
    }
}

impl Config {
    pub(crate) fn windows(&self) -> Windows {
        Windows::new(self.block_span)
    }

    /// Blocks that ended before this instant are past retention at `now_ms`.
    pub(crate) fn horizon_ms(&self, now_ms: i64) -> Option<i64> {
        self.retention_age.map(|age| before(now_ms, age))
    }

    /// Samples that came so late that they are past the retention of every tier.
    pub(crate) fn last_horizon_ms(&self, now_ms: i64) -> Option<i64> {
        Some(before(now_ms, self.retention_age?.max(self.retention_minutes?)))
    }

    /// Age after which buckets of that resolution are deleted.
    pub(crate) fn rollup_retention(&self, resolution: Resolution) -> Option<Duration> {
        match resolution {
            Resolution::Minute => self.retention_minutes,
            Resolution::Hour => self.retention_hours,
        }
    }
}

fn before(now_ms: i64, age: Duration) -> i64 {
    now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}
