//! Of which instances samples became durable since rules last asked, and when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pitwatch_shared::model::{INSTANCE, Labels};
use rustc_hash::FxHashSet;

/// Most instances that are noted; of others rules hear by their clock.
const INSTANCES_MAX: usize = 100_000;
/// Most commits that are told apart.
const COMMITS_MAX: usize = 1_024;

/// What arrived, for the one who asks.
#[derive(Debug, Default)]
pub struct Arrivals(Mutex<Arrived>);

/// What arrived.
#[derive(Debug, Default)]
pub struct Arrived {
    /// The values of the label `instance`; `""` of series without one.
    pub instances: FxHashSet<Arc<str>>,
    /// When each commit was done, and samples of how many instances it made durable.
    pub commits: Vec<(Instant, usize)>,
}

impl Arrivals {
    /// What arrived since the last call.
    #[must_use]
    pub fn take(&self) -> Arrived {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Samples of these became durable now.
    pub(super) fn add(&self, instances: &mut FxHashSet<Arc<str>>) {
        if instances.is_empty() {
            return;
        }
        let mut arrived = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Arrived { instances: all, commits } = &mut *arrived;
        let is_full = commits.len() >= COMMITS_MAX;
        match commits.last_mut().filter(|_| is_full) {
            Some((_, count)) => *count += instances.len(),
            None => commits.push((Instant::now(), instances.len())),
        }
        for instance in instances.drain() {
            note(all, instance);
        }
    }
}

/// Notes an instance if there is room.
pub(super) fn note(instances: &mut FxHashSet<Arc<str>>, instance: Arc<str>) {
    if instances.len() < INSTANCES_MAX {
        instances.insert(instance);
    }
}

/// Notes whose series that is.
pub(super) fn note_series(instances: &mut FxHashSet<Arc<str>>, labels: &Labels) {
    let instance = labels.value(INSTANCE).unwrap_or("");
    if !instances.contains(instance) {
        note(instances, instance.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_is_told_once_and_bounded() {
        let arrivals = Arrivals::default();
        arrivals.add(&mut FxHashSet::default());
        assert!(arrivals.take().commits.is_empty());
        for nth in 0..2 * COMMITS_MAX {
            let mut instances: FxHashSet<Arc<str>> = ["a".into(), format!("b{nth}").into()].into_iter().collect();
            arrivals.add(&mut instances);
        }
        let arrived = arrivals.take();
        assert_eq!(arrived.instances.len(), 2 * COMMITS_MAX + 1);
        assert_eq!(arrived.commits.len(), COMMITS_MAX);
        assert_eq!(arrived.commits.iter().map(|(_, count)| count).sum::<usize>(), 4 * COMMITS_MAX);
        assert!(arrivals.take().instances.is_empty());
    }
}
