//! Rollups: what remains of samples by the minute and by the hour, for queries over months and years.
//!
//! In reading order:
//! - `bucket`: what is kept of a span, and how spans are joined.
//! - [`mod@format`]: a file as bytes (docs/formats/rollup.md); `writer`: from buckets to a file; `file`: an open file; `page`: a page of it;
//!   `known`: which series a file's labels are.
//! - `cover`: which files, and which samples, the buckets of a query come from.
//! - `plan`: which files are due; `job`: makes one.

mod bucket;
mod cover;
mod file;
pub mod format;
mod job;
mod known;
mod page;
mod plan;
mod writer;

use crate::block::column::COLUMN_VALUES_MAX;
pub use bucket::{Bucket, Fields};
pub use cover::Cover;
pub(crate) use file::Rollup;
pub use job::{RolledUp, RollupJob};
pub(crate) use job::{Rolling, file_number, floor_of};
pub(crate) use known::Known;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const MINUTE_SPANS: [i64; 3] = [DAY_MS, 8 * DAY_MS, 32 * DAY_MS];
const HOUR_SPANS: [i64; 3] = [DAY_MS, 16 * DAY_MS, 256 * DAY_MS];

const _: () = assert!(MINUTE_SPANS[2] / Resolution::Minute.ms() <= COLUMN_VALUES_MAX as i64);
const _: () = assert!(HOUR_SPANS[2] / Resolution::Hour.ms() <= COLUMN_VALUES_MAX as i64);

/// How long a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    /// One minute, made from samples.
    Minute,
    /// One hour, made from minutes.
    Hour,
}

impl Resolution {
    /// Every resolution, the finest first.
    pub const ALL: [Self; 2] = [Self::Minute, Self::Hour];

    /// A bucket's length in milliseconds.
    #[must_use]
    pub const fn ms(self) -> i64 {
        match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
        }
    }

    /// What its tier is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::Hour => "1h",
        }
    }

    /// The resolution of that length.
    #[must_use]
    pub fn from_ms(ms: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|resolution| resolution.ms() == ms)
    }

    /// What files of this resolution cover, in milliseconds: windows of a day first, which are then put together.
    const fn spans(self) -> &'static [i64] {
        match self {
            Self::Minute => &MINUTE_SPANS,
            Self::Hour => &HOUR_SPANS,
        }
    }
}
