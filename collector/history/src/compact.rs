//! Makes one block of several, in the background: of one window (late data), and of a day's windows once it is over.
//!
//! - `plan`: which blocks; `merge`: their samples as one file.
//!
//! The new block names those that it replaces. It is durable, by bytes and by name, before one of them is removed; a
//! crash in between leaves both, and opening does without the replaced ones.

mod merge;
mod plan;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::block::format::Origin;
use crate::block::{Block, BlockWriter, Loaded};
use crate::error::BuildError;
use crate::history::{History, read, write};
use crate::job::Pace;
use crate::stats::count;
use merge::MergeError;
use plan::{Candidate, Rules};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1024 * 1024;
/// Room that must be free for each byte that is to be compacted: the log needs some meanwhile.
const FREE_RATIO: u64 = 2;

/// Whether a compaction is under way, and whether another is worth a look at once.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    claimed: AtomicBool,
    again: AtomicBool,
}

/// Makes one block of several, if some are worth it. Patient: give it a share of processor and disk only.
#[derive(Debug)]
pub struct CompactJob {
    history: Arc<History>,
    now_ms: i64,
}

/// What a compaction came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Blocks that became one; none if there was nothing to do, or the job was ended early.
    pub blocks: usize,
    /// Their bytes.
    pub bytes_before: u64,
    /// Bytes of the one.
    pub bytes: u64,
    /// Its samples.
    pub samples: u64,
}

impl Compaction {
    /// Whether the last compaction did something, so that more may be to do.
    pub(crate) fn take_again(&self) -> bool {
        self.again.swap(false, Ordering::Relaxed)
    }
}

impl CompactJob {
    pub(crate) fn claim(history: &Arc<History>, now_ms: i64) -> Option<Self> {
        let claimed = history.compaction.claimed.swap(true, Ordering::AcqRel);
        (!claimed).then(|| Self { history: history.clone(), now_ms })
    }

    /// Chooses blocks, merges them, and puts the one in their place. Ended early by `pace`, it leaves all as it was.
    ///
    /// # Errors
    /// A block cannot be read: it is left alone until the store is opened again. The new one cannot be written, or
    /// there is no room: all stays as it was, a later maintenance tries again.
    pub fn run(self, pace: &mut Pace<'_>) -> Result<Compacted, BuildError> {
        let Some(inputs) = self.choose() else { return Ok(Compacted::default()) };
        let done = self.compact(&inputs, pace);
        write(&self.history.view).compacting.clear();
        let counters = &self.history.counters;
        match &done {
            Ok(compacted) if compacted.blocks > 0 => {
                count(&counters.compactions);
                counters.compacted_samples.fetch_add(compacted.samples, Ordering::Relaxed);
                counters.compacted_bytes.fetch_add(compacted.bytes, Ordering::Relaxed);
                self.history.compaction.again.store(true, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(_) => count(&counters.compactions_failed),
        }
        done
    }

    /// The blocks to compact, ascending by order; retention leaves them alone from here on.
    fn choose(&self) -> Option<Vec<Arc<Block>>> {
        let config = &self.history.config;
        let rules = Rules { windows: config.windows(), retention_bytes: config.retention_bytes, now_ms: self.now_ms };
        let blocks = read(&self.history.view).blocks.clone();
        let candidates = blocks.iter().map(|block| Candidate {
            min_ts: block.footer().min_ts,
            max_ts: block.footer().max_ts,
            bytes: block.bytes(),
            index_bytes: block.footer().index_bytes,
            spoiled: block.is_spoiled(),
        });
        let candidates: Vec<_> = candidates.collect();
        let chosen = plan::plan(&candidates, &rules, |lower, between| blocks[lower].shares(&blocks[between]))?;
        let inputs: Vec<_> = chosen.into_iter().map(|nth| blocks[nth].clone()).collect();
        let mut view = write(&self.history.view);
        let there = inputs.iter().all(|input| view.blocks.iter().any(|block| Arc::ptr_eq(block, input)));
        there.then(|| {
            view.compacting = inputs.iter().map(|block| block.number()).collect();
            inputs
        })
    }

    fn compact(&self, inputs: &[Arc<Block>], pace: &mut Pace<'_>) -> Result<Compacted, BuildError> {
        let history = &self.history;
        let bytes_before: u64 = inputs.iter().map(|block| block.bytes()).sum();
        let mut building = history.blocks.build()?;
        history.blocks.need_room(bytes_before.saturating_mul(FREE_RATIO))?;
        let number = history.blocks.take_number();
        let mut writer = BlockWriter::new(building.create(number)?, BUFFER_BYTES);
        let merged = merge::merge(inputs, &history.index, &mut writer, pace);
        let (replaced, span) = match (merged, writer.span()) {
            (Ok(replaced), Some(span)) => (replaced, span),
            (Ok(_), None) | (Err(MergeError::Stopped), _) => return Ok(Compacted::default()),
            (Err(MergeError::Output(error)), _) => return Err(building.at("write", number)(error)),
            (Err(MergeError::Input(nth, error)), _) => {
                inputs[nth].spoil();
                count(&history.counters.corruptions);
                return Err(BuildError::Block(error));
            }
        };
        let mut replaces: Vec<u64> = inputs.iter().map(|block| block.number()).collect();
        replaces.sort_unstable();
        let most = |figure: fn(&Block) -> i64| inputs.iter().map(|block| figure(block)).max().unwrap_or(0);
        let wal_through = inputs.iter().map(|block| block.footer().wal_through).max().unwrap_or(0);
        let order = inputs.iter().map(|block| block.order()).max().unwrap_or(0);
        let origin = Origin { order, part: false, replaces };
        let finished = writer.finish(&origin, wal_through, most(|block| block.footer().sealed_ms));
        finished.map_err(building.at("write", number))?;
        let path = building.name(number, span)?;
        history.blocks.sync()?;
        let block = Arc::new(Loaded::open(&*history.disk, &path)?.enter(&history.index, &history.recent));
        let (bytes, samples) = (block.bytes(), block.footer().samples);
        {
            let mut view = write(&history.view);
            view.blocks.retain(|block| !inputs.iter().any(|input| Arc::ptr_eq(input, block)));
            view.blocks.push(block);
            view.blocks.sort_by_key(|block| block.order());
        }
        building.keep();
        history.blocks.remove(inputs.iter().map(|block| block.path()));
        history.counters.samples_replaced.fetch_add(replaced, Ordering::Relaxed);
        Ok(Compacted { blocks: inputs.len(), bytes_before, bytes, samples })
    }
}

impl Drop for CompactJob {
    fn drop(&mut self) {
        self.history.compaction.claimed.store(false, Ordering::Release);
    }
}
