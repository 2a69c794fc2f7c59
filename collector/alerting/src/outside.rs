//! Alerts that others evaluate and hand in, as they would to Alertmanager: until when each holds, and what ends it.
//!
//! Sans-IO, as the engine: what changes comes out as its [`Output`], and from there on such an alert is one like any other.
//! It is over when whoever handed it in says so (its end is not in the future). When its end passes and nobody said
//! anything, it is withdrawn: nothing says that the fault is gone.

use std::collections::HashMap;

use crate::engine::{AlertChange, Output, Phase, StoredAlert, key, told};
use crate::labels::{ALERT_NAME, LabelSet};
use crate::limits;
use crate::notification::Transition;

/// What [`StoredAlert::rule`] says of these alerts: the key of no rule.
pub const RULE: &str = "outside";

/// An alert as it is handed in.
#[derive(Clone, Debug)]
pub struct Given {
    /// Its labels.
    pub labels: LabelSet,
    /// Its annotations.
    pub annotations: LabelSet,
    /// Since when it fires; now, if it is not said.
    pub starts_ms: Option<i64>,
    /// Until when it holds unless it is handed in again; if it is not said, for the resolve timeout.
    pub ends_ms: Option<i64>,
}

/// Why an alert is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing tells it from others.
    #[error("an alert without labels")]
    NoLabels,
    /// It ends before it starts.
    #[error("{0}: it ends before it starts")]
    EndsFirst(LabelSet),
    /// Labels and annotations are too long.
    #[error("an alert with more than {max} bytes of labels and annotations", max = limits::OUTSIDE_ALERT_MAX_BYTES)]
    TooLarge,
    /// There are too many.
    #[error("{0}: there are {max} alerts from outside already", max = limits::OUTSIDE_ALERTS_MAX)]
    TooMany(LabelSet),
}

/// The alerts that fire.
#[derive(Debug, Default)]
pub struct Outside {
    alerts: HashMap<u64, StoredAlert>,
}

impl Outside {
    /// Takes back what was stored, and gives back what is of rules.
    #[must_use]
    pub fn restore(stored: Vec<StoredAlert>) -> (Self, Vec<StoredAlert>) {
        let (outside, of_rules): (Vec<_>, Vec<_>) = stored.into_iter().partition(|alert| alert.rule == RULE);
        let alerts = outside.into_iter().map(|alert| (alert.labels.fingerprint(), alert)).collect();
        (Self { alerts }, of_rules)
    }

    /// Takes an alert that is handed in, for the first time, again, or as one that is over.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn take(
        &mut self,
        given: Given,
        resolve_timeout_ms: i64,
        now_ms: i64,
        output: &mut Output,
    ) -> Result<(), Refused> {
        let Given { labels, annotations, starts_ms, ends_ms } = given;
        if labels.iter().len() == 0 {
            return Err(Refused::NoLabels);
        }
        let bytes = |set: &LabelSet| set.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if bytes(&labels) + bytes(&annotations) > limits::OUTSIDE_ALERT_MAX_BYTES {
            return Err(Refused::TooLarge);
        }
        let starts_ms = starts_ms.unwrap_or(ends_ms.unwrap_or(now_ms).min(now_ms));
        let ends_ms = ends_ms.unwrap_or(now_ms.saturating_add(resolve_timeout_ms));
        if ends_ms < starts_ms {
            return Err(Refused::EndsFirst(labels));
        }
        let print = labels.fingerprint();
        if ends_ms <= now_ms {
            if let Some(alert) = self.alerts.remove(&print) {
                end(&alert, Transition::Resolved, now_ms, output);
            }
            return Ok(());
        }
        if let Some(known) = self.alerts.get_mut(&print) {
            known.annotations = annotations;
            known.ends_at_ms = Some(ends_ms);
            output.changes.push(AlertChange::Put(Box::new(known.clone())));
            return Ok(());
        }
        if self.alerts.len() >= limits::OUTSIDE_ALERTS_MAX {
            return Err(Refused::TooMany(labels));
        }
        let fresh = StoredAlert {
            key: key(RULE, &labels),
            rule: RULE.to_owned(),
            expr: String::new(),
            row: labels.without(ALERT_NAME),
            depends_on: crate::depends::implied(&labels),
            labels,
            annotations,
            value: f64::NAN,
            phase: Phase::Firing,
            active_at_ms: starts_ms,
            fired_at_ms: starts_ms,
            keep_firing_since_ms: None,
            no_data_since_ms: None,
            sent: 1,
            ends_at_ms: Some(ends_ms),
        };
        output.notifications.push(told(&fresh, Transition::Fired, now_ms));
        output.changes.push(AlertChange::Put(Box::new(fresh.clone())));
        self.alerts.insert(print, fresh);
        Ok(())
    }

    /// Withdraws the alerts whose end has passed.
    pub fn tick(&mut self, now_ms: i64, output: &mut Output) {
        let gone = self.alerts.extract_if(|_, alert| alert.ends_at_ms.is_some_and(|ends_ms| ends_ms <= now_ms));
        let mut gone: Vec<StoredAlert> = gone.map(|(_, alert)| alert).collect();
        gone.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        gone.iter().for_each(|alert| end(alert, Transition::Withdrawn, now_ms, output));
    }

    /// The alerts, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &StoredAlert> {
        self.alerts.values()
    }
}

fn end(alert: &StoredAlert, transition: Transition, now_ms: i64, output: &mut Output) {
    output.notifications.push(told(alert, transition, now_ms));
    output.changes.push(AlertChange::Remove(alert.key.clone()));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;

    fn given(starts_ms: Option<i64>, ends_ms: Option<i64>) -> Given {
        let labels = LabelSet::new([("alertname", "Backup"), ("instance", "db-1")]);
        Given { labels, annotations: LabelSet::new([("summary", "late")]), starts_ms, ends_ms }
    }

    fn told_of(output: &Output) -> Vec<Transition> {
        output.notifications.iter().map(|one| one.transition).collect()
    }

    #[test]
    fn it_fires_once_holds_as_long_as_it_is_handed_in_and_ends_as_it_is_said() {
        let (mut outside, mut output) = (Outside::default(), Output::default());
        for now_ms in [0, MINUTE, 4 * MINUTE] {
            outside.take(given(None, None), 5 * MINUTE, now_ms, &mut output).unwrap();
            outside.tick(now_ms + MINUTE, &mut output);
        }
        assert_eq!(told_of(&output), [Transition::Fired]);
        outside.tick(8 * MINUTE, &mut output);
        assert_eq!(outside.iter().count(), 1);
        let (mut outside, of_rules) = Outside::restore(outside.iter().cloned().collect());
        assert!(of_rules.is_empty());
        outside.take(given(Some(0), Some(8 * MINUTE)), 5 * MINUTE, 8 * MINUTE, &mut output).unwrap();
        assert_eq!(told_of(&output), [Transition::Fired, Transition::Resolved]);
        assert!(outside.iter().next().is_none());
        assert!(matches!(output.changes.last(), Some(AlertChange::Remove(_))));
        // Prometheus says for a while that it is over.
        outside.take(given(Some(0), Some(8 * MINUTE)), 5 * MINUTE, 9 * MINUTE, &mut output).unwrap();
        assert_eq!(output.notifications.len(), 2);
    }

    #[test]
    fn silence_of_whoever_handed_it_in_is_no_good_news() {
        let (mut outside, mut output) = (Outside::default(), Output::default());
        outside.take(given(None, Some(2 * MINUTE)), 5 * MINUTE, 0, &mut output).unwrap();
        outside.tick(2 * MINUTE, &mut output);
        assert_eq!(told_of(&output), [Transition::Fired, Transition::Withdrawn]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (mut outside, mut output) = (Outside::default(), Output::default());
        let empty = Given { labels: LabelSet::empty(), ..given(None, None) };
        assert_eq!(outside.take(empty, MINUTE, 0, &mut output), Err(Refused::NoLabels));
        let backwards = outside.take(given(Some(10), Some(5)), MINUTE, 0, &mut output);
        assert!(matches!(backwards, Err(Refused::EndsFirst(_))));
        let long = LabelSet::new([("a", "x".repeat(limits::OUTSIDE_ALERT_MAX_BYTES))]);
        let large = Given { annotations: long, ..given(None, None) };
        assert_eq!(outside.take(large, MINUTE, 0, &mut output), Err(Refused::TooLarge));
        assert!(output.notifications.is_empty() && output.changes.is_empty());
    }

    /// Any time that a client may say.
    fn time() -> impl Strategy<Value = Option<i64>> {
        prop_oneof![Just(None), (-60 * MINUTE..60 * MINUTE).prop_map(Some), (-1_i64 << 52..1_i64 << 52).prop_map(Some)]
    }

    proptest! {
        /// Whatever is handed in: of each alert beginnings and ends take turns, and what is stored is what there is.
        #[test]
        fn of_each_alert_beginnings_and_ends_take_turns(
            acts in prop::collection::vec((0..4_usize, time(), time(), 0..10 * MINUTE, any::<bool>()), 1..60),
        ) {
            let mut outside = Outside::default();
            let (mut now_ms, mut stored) = (0, BTreeMap::new());
            let mut firing: BTreeMap<String, bool> = BTreeMap::new();
            for (host, starts_ms, ends_ms, step_ms, is_tick) in acts {
                let mut output = Output::default();
                now_ms += step_ms;
                if is_tick {
                    outside.tick(now_ms, &mut output);
                } else {
                    let labels = LabelSet::new([("alertname", "Backup".to_owned()), ("instance", format!("db-{host}"))]);
                    let given = Given { labels, annotations: LabelSet::empty(), starts_ms, ends_ms };
                    let _ = outside.take(given, 5 * MINUTE, now_ms, &mut output);
                }
                for told in output.notifications {
                    let begins = told.transition == Transition::Fired;
                    let was = firing.insert(told.alert_key, begins).unwrap_or(false);
                    prop_assert_ne!(was, begins, "{:?}", told.transition);
                }
                for change in output.changes {
                    match change {
                        AlertChange::Put(alert) => drop(stored.insert(alert.key.clone(), alert.ends_at_ms)),
                        AlertChange::Remove(key) => drop(stored.remove(&key)),
                    }
                }
                let there: BTreeMap<_, _> = outside.iter().map(|one| (one.key.clone(), one.ends_at_ms)).collect();
                prop_assert_eq!(&there, &stored);
            }
        }
    }
}
