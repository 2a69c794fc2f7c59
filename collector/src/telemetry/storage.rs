//! What history lost, holds and refuses, for `status` and the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pitwatch_history::{Explosion, History, Refused, SeriesLimit, SourceKind, SourceName, Usage};
use tracing::warn;

use crate::api::{RefusedInfo, RoomInfo, StorageInfo};

/// The same agent's refusals are told again after this at the earliest, milliseconds.
const TELL_AGAIN_MS: i64 = 60_000;

/// What was told of refusals.
#[derive(Debug, Default)]
pub struct Told(Mutex<BTreeMap<SourceName, Last>>);

#[derive(Debug)]
struct Last {
    count: u64,
    told_ms: i64,
    explosion: Option<Explosion>,
}

impl Told {
    /// Logs refusals that are new, and remembers which label exploded. Looks at every label of the series of agents
    /// with refusals, so that it belongs on a thread that may take a while.
    pub(super) fn tell(&self, history: &History, now_ms: i64) {
        for refused in history.refused() {
            let is_told =
                |last: &Last| refused.count == last.count || now_ms.saturating_sub(last.told_ms) < TELL_AGAIN_MS;
            if self.lock().get(&refused.source).is_some_and(is_told) {
                continue;
            }
            let explosion = history.explosion(&refused.source);
            let why = match &explosion {
                Some(Explosion { label, values, series }) => {
                    format!("its label {label} has {values} values in {series} series")
                }
                None => "it has no series yet".to_owned(),
            };
            warn!(
                agent = &*refused.source.name,
                refused = refused.count,
                "series refused: {}; {why}; the last one refused is {}",
                words(refused.limit),
                refused.last
            );
            let last = Last { count: refused.count, told_ms: now_ms, explosion };
            self.lock().insert(refused.source, last);
        }
    }

    fn explosion(&self, source: &SourceName) -> Option<(String, usize, usize)> {
        let told = self.lock();
        let found = told.get(source)?.explosion.as_ref()?;
        Some((found.label.clone(), found.values, found.series))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SourceName, Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything for `status`.
pub(super) fn info(history: &History, losses: &[String], told: &Told) -> StorageInfo {
    let Usage { sources, metrics, index_bytes } = history.usage();
    let agents = sources.into_iter().map(|usage| RoomInfo {
        name: name(&usage.source),
        block_bytes: usage.blocks.bytes,
        block_samples: usage.blocks.samples,
        head_samples: usage.head.samples,
    });
    let metrics = metrics.into_iter().map(|(name, amount)| RoomInfo {
        name,
        block_bytes: amount.bytes,
        block_samples: amount.samples,
        head_samples: 0,
    });
    let mut refused: Vec<Refused> = history.refused();
    refused.sort_by_key(|refused| std::cmp::Reverse(refused.count));
    let refused = refused.into_iter().map(|refused| RefusedInfo {
        agent: name(&refused.source),
        refused_total: refused.count,
        limit: words(refused.limit),
        explosion: told.explosion(&refused.source),
        last: refused.last.to_string(),
    });
    StorageInfo {
        losses: losses.to_vec(),
        agents: agents.collect(),
        metrics: metrics.collect(),
        index_bytes,
        refused: refused.collect(),
    }
}

fn name(source: &SourceName) -> String {
    match source.kind {
        SourceKind::Agent => source.name.to_string(),
        SourceKind::Internal => format!("[{}]", source.name),
    }
}

fn words(limit: SeriesLimit) -> &'static str {
    match limit {
        SeriesLimit::PerSource => "the limit of series of one agent is reached",
        SeriesLimit::Total => "the limit of series of all agents is reached",
        SeriesLimit::Labels => "the labels are over their limits of size",
    }
}
