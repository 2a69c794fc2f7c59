//! Turns a head that was taken away into block files, one a window of time.
//!
//! - `spread`: which ticks go to which file; `chunks`: from ticks to chunks; `files`: where those go.
//!
//! The order that makes a crash harmless: the new log segment, with its checkpoint, is durable before the head is
//! taken; the blocks are durable, by bytes and by name, before a segment is removed. Of several blocks of one seal all
//! but the last say that they are parts: they count once the last is there, which says up to which segment the log
//! is in blocks, so that a replay never stores those frames again. A part without the last goes at the next start.

mod chunks;
mod files;
mod spread;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::block::{Block, Loaded};
use crate::blocks::Building;
use crate::error::BuildError;
use crate::head::HeadData;
use crate::history::{History, read, write};
use crate::source::SourceName;
use crate::stats::count;
use chunks::Counts;
use files::Files;
use spread::Spread;

/// A head that is being sealed.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) sources: BTreeMap<u32, (SourceName, HeadData)>,
    /// The last log segment with frames of it.
    wal_through: u64,
    claimed: AtomicBool,
}

/// Writes a frozen head into blocks. Dropped without having run, the head stays and a later maintenance answers the
/// job anew.
#[derive(Debug)]
pub struct SealJob {
    history: Arc<History>,
    frozen: Arc<Frozen>,
    now_ms: i64,
}

/// What a seal came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Blocks, one a window of time; none if the head held nothing that is to be kept.
    pub blocks: usize,
    /// Their samples.
    pub samples: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Samples past retention, which are in no block.
    pub expired_samples: u64,
}

impl Frozen {
    pub(crate) fn new(sources: BTreeMap<u32, (SourceName, HeadData)>, wal_through: u64) -> Self {
        Self { sources, wal_through, claimed: AtomicBool::new(false) }
    }
}

impl SealJob {
    pub(crate) fn claim(history: &Arc<History>, frozen: Arc<Frozen>, now_ms: i64) -> Option<Self> {
        let claimed = frozen.claimed.swap(true, Ordering::AcqRel);
        (!claimed).then(|| Self { history: history.clone(), frozen, now_ms })
    }

    /// Writes the blocks, puts them in the head's place, and removes the log segments that they make needless.
    ///
    /// # Errors
    /// A block cannot be written or does not read back; the head stays, a later maintenance tries again.
    pub fn run(self) -> Result<Sealed, BuildError> {
        let done = self.write_blocks();
        count(if done.is_ok() { &self.history.counters.seals } else { &self.history.counters.seals_failed });
        done
    }

    fn write_blocks(&self) -> Result<Sealed, BuildError> {
        let history = &self.history;
        // Before the blocks, which make the log needless.
        if let Some(job) = history.logs.claim(self.now_ms) {
            job.run()?;
        }
        let mut building = history.blocks.build()?;
        let (blocks, counts) = self.build(&mut building)?;
        let sealed = Sealed {
            blocks: blocks.len(),
            samples: blocks.iter().map(|block| block.footer().samples).sum(),
            bytes: blocks.iter().map(|block| block.bytes()).sum(),
            expired_samples: counts.expired,
        };
        {
            let mut view = write(&history.view);
            view.frozen = None;
            view.blocks.extend(blocks.into_iter().map(Arc::new));
        }
        building.keep();
        history.remove_segments(self.frozen.wal_through);
        let counters = &history.counters;
        counters.samples_expired.fetch_add(counts.expired, Ordering::Relaxed);
        counters.samples_replaced.fetch_add(counts.replaced, Ordering::Relaxed);
        counters.samples_late.fetch_add(counts.late, Ordering::Relaxed);
        counters.samples_future.fetch_add(counts.future, Ordering::Relaxed);
        counters.samples_stray.fetch_add(counts.stray, Ordering::Relaxed);
        Ok(sealed)
    }

    /// Writes the files of the head, and names them: the last one once all others are durable.
    fn build(&self, building: &mut Building<'_>) -> Result<(Vec<Block>, Counts), BuildError> {
        let history = &self.history;
        let heads = self.frozen.sources.values().map(|(_, data)| data);
        let horizon = history.config.last_horizon_ms(self.now_ms);
        let spread = Spread::of(heads, history.config.windows(), horizon, self.now_ms);
        let (mut files, mut counts) = (Files::new(&history.blocks, building), Counts::default());
        for (name, data) in self.frozen.sources.values() {
            let describe = |series| {
                let index = read(&history.index);
                Some((index.labels(series)?.clone(), index.kind(series)))
            };
            chunks::write(name, data, &spread, describe, &mut files, &mut counts)?;
        }
        let mut written = files.finish(self.frozen.wal_through, self.now_ms)?;
        let last = written.pop();
        let mut blocks = Vec::with_capacity(written.len() + 1);
        for files in [written, Vec::from_iter(last)] {
            if files.is_empty() {
                continue;
            }
            let named = files.into_iter().map(|file| building.name(file.number, file.span));
            let paths = named.collect::<Result<Vec<_>, _>>()?;
            history.blocks.sync()?;
            for path in paths {
                blocks.push(Loaded::open(&*history.disk, &path)?.enter(&history.index, &history.recent));
            }
        }
        Ok((blocks, counts))
    }
}

impl Drop for SealJob {
    fn drop(&mut self) {
        self.frozen.claimed.store(false, Ordering::Release);
    }
}
