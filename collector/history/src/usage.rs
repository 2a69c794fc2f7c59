//! What takes the room: bytes and samples by source and by metric.
//!
//! A block is counted once, from its index, when it is opened; an answer only adds up.

use std::collections::BTreeMap;

use pitwatch_shared::model::Labels;
use rustc_hash::FxHashMap;

use crate::block::format::Outline;
use crate::history::{History, read};
use crate::index::SeriesId;
use crate::source::SourceName;

/// Bytes of columns, and their samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes of columns with their checksums; of a source its timestamps too.
    pub bytes: u64,
    /// Samples.
    pub samples: u64,
}

/// What a store's blocks hold of whom, and what is still in memory.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// By source, the largest first.
    pub sources: Vec<SourceUsage>,
    /// By metric name, the largest first.
    pub metrics: Vec<(String, Amount)>,
    /// Bytes of blocks that belong to no column: indexes, headers and footers.
    pub index_bytes: u64,
}

/// One source's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceUsage {
    /// The source.
    pub source: SourceName,
    /// In blocks.
    pub blocks: Amount,
    /// In the head: estimated memory, and samples.
    pub head: Amount,
}

/// One block's part of a [`Usage`].
#[derive(Debug, Default)]
pub(crate) struct BlockUsage {
    sources: Box<[(SourceName, Amount)]>,
    /// By any series of the metric.
    metrics: Box<[(SeriesId, Amount)]>,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.samples += other.samples;
    }
}

impl BlockUsage {
    /// Counts what an index names; `ids` are the numbers of its rosters' series.
    pub(crate) fn of(outline: &Outline, ids: &[Box<[SeriesId]>]) -> Self {
        let mut sources: BTreeMap<&SourceName, Amount> = BTreeMap::new();
        for chunk in &outline.chunks {
            // In bounds: the index was read chunk by chunk.
            let source = &outline.rosters[chunk.roster as usize].source;
            sources.entry(source).or_default().bytes += chunk.timestamps.file_bytes();
        }
        let mut metrics: FxHashMap<&str, (SeriesId, Amount)> = FxHashMap::default();
        for (roster, ids) in outline.rosters.iter().zip(ids) {
            let of_source = sources.entry(&roster.source).or_default();
            for (listed, id) in roster.series.iter().zip(ids) {
                let amount = Amount { bytes: listed.bytes, samples: listed.samples };
                of_source.add(amount);
                metrics.entry(listed.labels.metric()).or_insert((*id, Amount::default())).1.add(amount);
            }
        }
        Self {
            sources: sources.into_iter().map(|(source, amount)| (source.clone(), amount)).collect(),
            metrics: metrics.into_values().collect(),
        }
    }

    fn bytes(&self) -> u64 {
        self.sources.iter().map(|(_, amount)| amount.bytes).sum()
    }
}

impl History {
    /// Who and what takes the room.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut sources: BTreeMap<SourceName, SourceUsage> = BTreeMap::new();
        let mut of = |source: &SourceName, blocks: Amount, head: Amount| {
            let new = || SourceUsage { source: source.clone(), blocks: Amount::default(), head: Amount::default() };
            let usage = sources.entry(source.clone()).or_insert_with(new);
            usage.blocks.add(blocks);
            usage.head.add(head);
        };
        let blocks = {
            let view = read(&self.view);
            for head in view.heads.values() {
                let data = read(&head.data);
                of(&head.name, Amount::default(), Amount { bytes: data.bytes, samples: data.samples });
            }
            for (source, data) in view.frozen.iter().flat_map(|frozen| frozen.sources.values()) {
                of(source, Amount::default(), Amount { bytes: data.bytes, samples: data.samples });
            }
            view.blocks.clone()
        };
        let mut metrics: BTreeMap<String, Amount> = BTreeMap::new();
        let mut index_bytes = 0;
        for block in &blocks {
            let usage = block.usage();
            index_bytes += block.bytes().saturating_sub(usage.bytes());
            for (source, amount) in &usage.sources {
                of(source, *amount, Amount::default());
            }
            let index = read(&self.index);
            for (series, amount) in &usage.metrics {
                // A block that retention took away meanwhile may have taken its series along.
                let Some(name) = index.labels(*series).map(Labels::metric) else { continue };
                match metrics.get_mut(name) {
                    Some(sum) => sum.add(*amount),
                    None => {
                        metrics.insert(name.to_owned(), *amount);
                    }
                }
            }
        }
        let mut usage =
            Usage { sources: sources.into_values().collect(), metrics: metrics.into_iter().collect(), index_bytes };
        usage.sources.sort_by_key(|usage| std::cmp::Reverse(usage.blocks.bytes));
        usage.metrics.sort_by_key(|(_, amount)| std::cmp::Reverse(amount.bytes));
        usage
    }
}
