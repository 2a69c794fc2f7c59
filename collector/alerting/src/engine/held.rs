//! The alerts of one rule: by their labels and, where the rule is evaluated by instance, those of an instance.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Alert, Scope};
use crate::depends::INSTANCE;
use crate::labels::LabelSet;

#[derive(Debug)]
pub(super) struct Held {
    alerts: FxHashMap<LabelSet, Alert>,
    /// Only of rules that are evaluated by instance: an evaluation of a few then looks at their alerts only.
    by_instance: Option<FxHashMap<Arc<str>, FxHashSet<LabelSet>>>,
}

impl Held {
    pub(super) fn new(by_instance: bool) -> Self {
        Self { alerts: FxHashMap::default(), by_instance: by_instance.then(FxHashMap::default) }
    }

    /// Whether a few instances' alerts can be had.
    pub(super) fn is_by_instance(&self) -> bool {
        self.by_instance.is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.alerts.len()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    pub(super) fn get_mut(&mut self, labels: &LabelSet) -> Option<&mut Alert> {
        self.alerts.get_mut(labels)
    }

    /// Takes an alert under its labels, in place of one that was there.
    pub(super) fn insert(&mut self, alert: Alert) {
        let labels = alert.labels.clone();
        if let Some(by_instance) = &mut self.by_instance {
            by_instance.entry(instance(&labels)).or_default().insert(labels.clone());
        }
        self.alerts.insert(labels, alert);
    }

    pub(super) fn remove(&mut self, labels: &LabelSet) -> Option<Alert> {
        if let Some(by_instance) = &mut self.by_instance {
            let instance = instance(labels);
            if let Some(of_it) = by_instance.get_mut(&instance) {
                of_it.remove(labels);
                if of_it.is_empty() {
                    by_instance.remove(&instance);
                }
            }
        }
        self.alerts.remove(labels)
    }

    /// The alerts of the instances, in no order.
    pub(super) fn within(&self, scope: Scope<'_>) -> Vec<&Alert> {
        let Some(by_instance) = &self.by_instance else { return self.values().collect() };
        let alerts = |of_it: &FxHashSet<LabelSet>| of_it.iter().filter_map(|labels| self.alerts.get(labels)).collect();
        let found: Vec<Vec<&Alert>> = match scope {
            Scope::All => return self.values().collect(),
            Scope::Only(these) => these.iter().filter_map(|one| by_instance.get(one)).map(alerts).collect(),
            Scope::Except(those) => {
                by_instance.iter().filter(|(one, _)| !those.contains(*one)).map(|(_, of_it)| alerts(of_it)).collect()
            }
        };
        found.into_iter().flatten().collect()
    }
}

fn instance(labels: &LabelSet) -> Arc<str> {
    labels.shared().find(|(name, _)| &**name == INSTANCE).map_or_else(|| "".into(), |(_, value)| value)
}
