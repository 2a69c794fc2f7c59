//! Inhibition: while an alert of one kind fires, those of another that agree with it in some labels are not told; nor
//! are those that say themselves that they depend on it ([`crate::depends`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::labels::{ALERT_NAME, LabelSet};
use crate::matchers::{Matcher, all_match};

/// Who keeps whom quiet.
#[derive(Clone, Debug)]
pub struct InhibitRule {
    /// The alerts that keep others quiet.
    pub source: Vec<Matcher>,
    /// The alerts that are kept quiet.
    pub target: Vec<Matcher>,
    /// Labels in which both agree; two that are not there agree.
    pub equal: Vec<String>,
}

/// Alerts by number.
type Alerts = BTreeMap<u64, LabelSet>;

/// The alerts that fire and may keep others quiet, by rule and by the values of its equal labels.
#[derive(Debug, Default)]
pub struct Inhibitor {
    rules: Vec<InhibitRule>,
    sources: Vec<HashMap<Vec<Arc<str>>, Alerts>>,
    /// Every alert that fires, by its name: what others may depend on.
    firing: HashMap<Arc<str>, Alerts>,
}

impl Inhibitor {
    /// Without alerts.
    #[must_use]
    pub fn new(rules: Vec<InhibitRule>) -> Self {
        let sources = rules.iter().map(|_| HashMap::new()).collect();
        Self { rules, sources, firing: HashMap::new() }
    }

    /// Whether any alert may keep another quiet now.
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.firing.is_empty()
    }

    /// Takes what is known of an alert.
    pub fn update(&mut self, labels: &LabelSet, fires: bool) {
        let fingerprint = labels.fingerprint();
        let name = labels.value(ALERT_NAME).unwrap_or("");
        if fires {
            self.firing.entry(name.into()).or_default().insert(fingerprint, labels.clone());
        } else if let Some(alerts) = self.firing.get_mut(name) {
            alerts.remove(&fingerprint);
            if alerts.is_empty() {
                self.firing.remove(name);
            }
        }
        for (rule, sources) in self.rules.iter().zip(&mut self.sources) {
            if !all_match(&rule.source, labels) {
                continue;
            }
            let key = key(&rule.equal, labels);
            if fires {
                sources.entry(key).or_default().insert(fingerprint, labels.clone());
            } else if let Some(alerts) = sources.get_mut(&key) {
                alerts.remove(&fingerprint);
                if alerts.is_empty() {
                    sources.remove(&key);
                }
            }
        }
    }

    /// The fingerprint of an alert that keeps this one quiet: by a rule, or because this one depends on it.
    #[must_use]
    pub fn inhibited_by(&self, labels: &LabelSet, depends_on: &[LabelSet]) -> Option<u64> {
        self.by_rule(labels).or_else(|| depends_on.iter().find_map(|wanted| self.explained_by(wanted, labels)))
    }

    /// A firing alert that has all these labels.
    fn explained_by(&self, wanted: &LabelSet, labels: &LabelSet) -> Option<u64> {
        let fits = |(_, source): &(&u64, &LabelSet)| wanted.is_subset_of(source) && *source != labels;
        match wanted.value(ALERT_NAME) {
            Some(name) => self.firing.get(name)?.iter().find(fits),
            None => self.firing.values().flatten().find(fits),
        }
        .map(|(print, _)| *print)
    }

    /// An alert that matches both sides of a rule is not kept quiet by another that does.
    fn by_rule(&self, labels: &LabelSet) -> Option<u64> {
        let fingerprint = labels.fingerprint();
        self.rules.iter().zip(&self.sources).find_map(|(rule, sources)| {
            if sources.is_empty() || !all_match(&rule.target, labels) {
                return None;
            }
            let both = all_match(&rule.source, labels);
            let alerts = sources.get(&key(&rule.equal, labels))?;
            let mut others = alerts.iter().filter(|(print, _)| **print != fingerprint);
            others.find(|(_, source)| !(both && all_match(&rule.target, source))).map(|(print, _)| *print)
        })
    }
}

fn key(equal: &[String], labels: &LabelSet) -> Vec<Arc<str>> {
    equal.iter().map(|name| labels.value(name).unwrap_or("").into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matchers::parse_matchers;

    #[test]
    fn an_alert_is_kept_quiet_by_what_it_depends_on() {
        let mut inhibitor = Inhibitor::new(Vec::new());
        let down = LabelSet::new([("alertname", "Down"), ("instance", "db"), ("severity", "page")]);
        let slow = LabelSet::new([("alertname", "Slow"), ("instance", "web")]);
        let on = [LabelSet::new([("alertname", "Down"), ("instance", "db")])];
        assert_eq!(inhibitor.inhibited_by(&slow, &on), None);
        inhibitor.update(&down, true);
        assert_eq!(inhibitor.inhibited_by(&slow, &on), Some(down.fingerprint()));
        assert_eq!(inhibitor.inhibited_by(&down, &on), None, "nothing depends on itself");
        assert_eq!(inhibitor.inhibited_by(&slow, &[LabelSet::new([("instance", "db")])]), Some(down.fingerprint()));
        inhibitor.update(&down, false);
        assert_eq!(inhibitor.inhibited_by(&slow, &on), None);
    }

    #[test]
    fn sources_keep_targets_quiet_while_they_fire() {
        let rule = InhibitRule {
            source: parse_matchers("severity=critical").unwrap(),
            target: parse_matchers("severity=~warning|critical").unwrap(),
            equal: vec!["instance".to_owned()],
        };
        let mut inhibitor = Inhibitor::new(vec![rule]);
        let alert = |severity, instance| LabelSet::new([("severity", severity), ("instance", instance)]);
        inhibitor.update(&alert("critical", "a"), true);
        assert_eq!(inhibitor.inhibited_by(&alert("warning", "a"), &[]), Some(alert("critical", "a").fingerprint()));
        assert_eq!(inhibitor.inhibited_by(&alert("warning", "b"), &[]), None);
        // Both are sources and targets: they do not keep each other quiet.
        let other = alert("critical", "a").with([("x", "1")]);
        assert_eq!(inhibitor.inhibited_by(&other, &[]), None);
        inhibitor.update(&alert("critical", "a"), false);
        assert_eq!(inhibitor.inhibited_by(&alert("warning", "a"), &[]), None);
    }
}
