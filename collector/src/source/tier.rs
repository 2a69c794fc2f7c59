//! Which tier of history answers a selection: the coarsest that gives the answer of the samples, else samples; and where
//! these are past their retention, the finest tier that there is, which the answer then says.

use std::str::FromStr;
use std::sync::Arc;

use pitwatch_history::History;
use pitwatch_history::rollup::{Cover, Fields, Resolution};
use pitwatch_promql::{BucketFields, Hints};

/// A copy of history: samples, or buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Samples as they came.
    Raw,
    /// Buckets of a minute or an hour.
    Rollup(Resolution),
}

/// A word that names no tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be raw, 1m or 1h")]
pub struct NoTier;

/// What answers.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) tier: Tier,
    /// Where its buckets come from, or its samples where some are gone.
    pub(super) cover: Option<Arc<Cover>>,
    /// Whether samples are asked for, whatever the tier.
    by_samples: bool,
    pub(super) info: Option<String>,
}

impl Tier {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Rollup(resolution) => resolution.name(),
        }
    }
}

impl FromStr for Tier {
    type Err = NoTier;

    fn from_str(text: &str) -> Result<Self, NoTier> {
        let rollups = Resolution::ALL.map(Self::Rollup);
        [Self::Raw].into_iter().chain(rollups).find(|tier| tier.name() == text).ok_or(NoTier)
    }
}

impl Choice {
    fn raw() -> Self {
        Self { tier: Tier::Raw, cover: None, by_samples: true, info: None }
    }

    fn buckets(cover: Cover, info: Option<String>) -> Self {
        let tier = Tier::Rollup(cover.resolution());
        Self { tier, cover: Some(Arc::new(cover)), by_samples: false, info }
    }

    /// Buckets as long as the query's windows allow: history joins them faster than the engine could.
    fn exact(cover: Cover, hints: &Hints) -> Self {
        let grid_ms = match hints.grid_ms() {
            // A single window of which the last sample counts says nothing of how much before it is meant.
            Some(grid_ms) if grid_ms > 0 && (hints.step_ms > 0 || hints.needs_whole_windows) => grid_ms,
            _ => cover.resolution().ms(),
        };
        Self::buckets(cover.on_grid(grid_ms), None)
    }

    /// The length of the buckets that the engine is to ask for.
    pub(super) fn resolution_ms(&self) -> Option<i64> {
        self.cover.as_ref().filter(|_| !self.by_samples).map(|cover| cover.grid_ms())
    }

    /// The span whose series are meant: that of whole buckets.
    pub(super) fn span(&self, span: (i64, i64)) -> (i64, i64) {
        self.resolution_ms().map_or(span, |ms| around(span, ms))
    }
}

/// Decides for a selection over the span.
pub(super) fn choose(history: &History, forced: Option<Tier>, span: (i64, i64), hints: &Hints) -> Choice {
    let cover = |resolution: Resolution| {
        let (start, end) = around(span, resolution.ms());
        history.cover(resolution, start, end)
    };
    match forced {
        Some(Tier::Raw) => return Choice::raw(),
        Some(Tier::Rollup(resolution)) => return bound(cover(resolution), resolution, hints),
        None => {}
    }
    for resolution in Resolution::ALL.into_iter().rev().filter(|resolution| hints.is_exact_on(resolution.ms())) {
        let cover = cover(resolution);
        if cover.has_files() && cover.is_complete() {
            return Choice::exact(cover, hints);
        }
    }
    let remains = history.remains(span.0, span.1);
    if !remains.has_files() {
        return Choice::raw();
    }
    let finest = Resolution::ALL.into_iter().map(cover).find(Cover::is_complete);
    match (hints.buckets, finest) {
        (Some(_), Some(cover)) => {
            let name = cover.resolution().name();
            let info = format!(
                "samples are past their retention; windows are widened to whole buckets of {name}, \
                 for an exact answer start, step and window are to be multiples of it"
            );
            Choice::buckets(cover, Some(info))
        }
        _ => by_last(remains),
    }
}

/// What a tier that must answer does.
fn bound(cover: Cover, resolution: Resolution, hints: &Hints) -> Choice {
    if hints.buckets.is_none() {
        return by_last(cover);
    }
    if hints.is_exact_on(resolution.ms()) {
        return Choice::exact(cover, hints);
    }
    let name = resolution.name();
    Choice::buckets(cover, Some(format!("windows are widened to whole buckets of {name}, as that tier is asked for")))
}

/// Samples for what needs them, the last of each bucket where the cover has files.
fn by_last(cover: Cover) -> Choice {
    let tier = Tier::Rollup(cover.resolution());
    let text = "what is asked needs samples; where buckets answer for them, it has the last one of each";
    let info = cover.has_files().then(|| text.to_owned());
    Choice { tier, cover: Some(Arc::new(cover)), by_samples: true, info }
}

/// Which of a bucket's values the engine looks at, in history's words.
pub(super) fn fields(of: BucketFields) -> Fields {
    let BucketFields { first, last, min, max, sum, resets } = of;
    let all = [
        (first, Fields::FIRST),
        (last, Fields::LAST),
        (min, Fields::MIN),
        (max, Fields::MAX),
        (sum, Fields::SUM),
        (resets, Fields::RESETS),
    ];
    all.into_iter().filter(|(is_meant, _)| *is_meant).fold(Fields::NONE, |fields, (_, field)| fields.and(field))
}

/// The span of whole buckets around a span.
fn around((start, end): (i64, i64), resolution_ms: i64) -> (i64, i64) {
    let start = start.div_euclid(resolution_ms).saturating_mul(resolution_ms);
    (start, end.saturating_add(resolution_ms - 1).div_euclid(resolution_ms).saturating_mul(resolution_ms))
}

#[cfg(test)]
mod tests;
