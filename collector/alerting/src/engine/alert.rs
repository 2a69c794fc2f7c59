//! The states of one alert, as a function of what was seen and when.

use serde::{Deserialize, Serialize};

use crate::labels::{ALERT_NAME, LabelSet, METRIC_NAME};
use crate::limits;
use crate::notification::float_as_text;
use crate::rules::NoData;

/// Where an alert stands. Inactive ones are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The expression holds, but not yet for long enough.
    Pending,
    /// It fires.
    Firing,
}

impl Phase {
    /// Prometheus' word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// What an evaluation saw of an alert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Seen {
    /// The expression holds, with this value.
    Match(f64),
    /// The expression does not hold, and there is a value that says so.
    Good,
    /// The expression does not hold, but what says "good again" does not hold either.
    Between,
    /// The expression does not hold, and there is no value: nobody knows.
    Missing,
}

/// The rule's times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) for_ms: i64,
    pub(super) keep_firing_for_ms: i64,
    pub(super) no_data: NoData,
}

/// What an observation changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing worth keeping.
    Same,
    /// Something that must survive a restart.
    Changed,
    /// The alert began to fire.
    Fired,
    /// It fires on, without data from now on, and that is to be told.
    NoData,
    /// It is over.
    Resolved,
    /// It never fired and is no longer pending.
    Dropped,
}

/// An alert that is pending or fires.
#[derive(Clone, Debug)]
pub struct Alert {
    /// The row of the expression that it stands for, its metric name among the labels.
    pub(super) row: LabelSet,
    pub(super) labels: LabelSet,
    /// The annotations as last sent.
    pub(super) annotations: LabelSet,
    pub(super) value: f64,
    pub(super) phase: Phase,
    pub(super) active_at_ms: i64,
    pub(super) fired_at_ms: i64,
    pub(super) keep_firing_since_ms: Option<i64>,
    pub(super) no_data_since_ms: Option<i64>,
    /// How often it was told, the first time included.
    pub(super) sent: u32,
    /// What would explain it, see [`crate::depends`].
    pub(super) depends_on: Vec<LabelSet>,
    /// The evaluation of its rule that saw its row last.
    pub(super) seen_in: u64,
    /// Whether its series were recorded since the start.
    pub(super) recorded: bool,
}

impl Alert {
    pub(super) fn new(row: LabelSet, labels: LabelSet, now_ms: i64) -> Self {
        Self {
            row,
            labels,
            annotations: LabelSet::empty(),
            value: f64::NAN,
            phase: Phase::Pending,
            active_at_ms: now_ms,
            fired_at_ms: 0,
            keep_firing_since_ms: None,
            no_data_since_ms: None,
            sent: 0,
            depends_on: Vec::new(),
            seen_in: 0,
            recorded: false,
        }
    }

    /// Takes what an evaluation at `now_ms` saw. The only place that decides on transitions.
    pub(super) fn observe(&mut self, seen: Seen, timing: Timing, now_ms: i64) -> Step {
        match (self.phase, seen) {
            (Phase::Pending, Seen::Match(value)) => {
                self.value = value;
                let cleared = self.no_data_since_ms.take().is_some();
                if now_ms - self.active_at_ms < timing.for_ms { changed(cleared) } else { self.fire(now_ms) }
            }
            (Phase::Pending, Seen::Good | Seen::Between) => Step::Dropped,
            (Phase::Pending, Seen::Missing) => {
                let first = self.no_data_since_ms.is_none();
                let since = *self.no_data_since_ms.get_or_insert(now_ms);
                if timing.no_data == NoData::Alert {
                    return if now_ms - self.active_at_ms < timing.for_ms { changed(first) } else { self.fire(now_ms) };
                }
                if now_ms - since >= limits::PENDING_NO_DATA_MAX_MS { Step::Dropped } else { changed(first) }
            }
            (Phase::Firing, Seen::Match(value)) => {
                self.value = value;
                changed(self.no_data_since_ms.take().is_some() | self.keep_firing_since_ms.take().is_some())
            }
            (Phase::Firing, Seen::Between) => {
                changed(self.no_data_since_ms.take().is_some() | self.keep_firing_since_ms.take().is_some())
            }
            (Phase::Firing, Seen::Good) => {
                let cleared = self.no_data_since_ms.take().is_some();
                let first = timing.keep_firing_for_ms > 0 && self.keep_firing_since_ms.is_none();
                let since = *self.keep_firing_since_ms.get_or_insert(now_ms);
                if now_ms - since < timing.keep_firing_for_ms { changed(cleared || first) } else { Step::Resolved }
            }
            (Phase::Firing, Seen::Missing) => {
                let first = self.no_data_since_ms.is_none();
                self.no_data_since_ms.get_or_insert(now_ms);
                if first && timing.no_data == NoData::Alert { Step::NoData } else { changed(first) }
            }
        }
    }

    fn fire(&mut self, now_ms: i64) -> Step {
        self.phase = Phase::Firing;
        self.fired_at_ms = now_ms;
        Step::Fired
    }

    /// The labels of its `ALERTS` and `ALERTS_FOR_STATE` series in a phase.
    pub(super) fn series(&self, phase: Phase) -> [LabelSet; 2] {
        debug_assert!(self.labels.value(ALERT_NAME).is_some(), "alerts carry their name");
        [
            self.labels.with([(METRIC_NAME, "ALERTS"), ("alertstate", phase.as_str())]),
            self.labels.with([(METRIC_NAME, "ALERTS_FOR_STATE")]),
        ]
    }

    /// The alert's labels, its name among them.
    #[must_use]
    pub fn labels(&self) -> &LabelSet {
        &self.labels
    }

    /// The last value that matched.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Pending or firing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When the expression began to hold, Unix milliseconds.
    #[must_use]
    pub fn active_at_ms(&self) -> i64 {
        self.active_at_ms
    }

    /// When it began to fire, if it does.
    #[must_use]
    pub fn fired_at_ms(&self) -> Option<i64> {
        (self.phase == Phase::Firing).then_some(self.fired_at_ms)
    }

    /// Since when the expression no longer holds while `keep_firing_for` keeps the alert firing.
    #[must_use]
    pub fn keep_firing_since_ms(&self) -> Option<i64> {
        self.keep_firing_since_ms
    }

    /// Since when there is no data to judge the alert by.
    #[must_use]
    pub fn no_data_since_ms(&self) -> Option<i64> {
        self.no_data_since_ms
    }

    /// Labels of alerts that would explain this one; see [`crate::depends`].
    #[must_use]
    pub fn depends_on(&self) -> &[LabelSet] {
        &self.depends_on
    }

    pub(super) fn to_stored(&self, rule_key: &str, expr: &str) -> StoredAlert {
        StoredAlert {
            key: key(rule_key, &self.labels),
            rule: rule_key.to_owned(),
            expr: expr.to_owned(),
            row: self.row.clone(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            value: self.value,
            phase: self.phase,
            active_at_ms: self.active_at_ms,
            fired_at_ms: self.fired_at_ms,
            keep_firing_since_ms: self.keep_firing_since_ms,
            no_data_since_ms: self.no_data_since_ms,
            sent: self.sent,
            depends_on: self.depends_on.clone(),
            ends_at_ms: None,
        }
    }

    pub(super) fn from_stored(stored: StoredAlert) -> Self {
        Self {
            row: stored.row,
            labels: stored.labels,
            annotations: stored.annotations,
            value: stored.value,
            phase: stored.phase,
            active_at_ms: stored.active_at_ms,
            fired_at_ms: stored.fired_at_ms,
            keep_firing_since_ms: stored.keep_firing_since_ms,
            no_data_since_ms: stored.no_data_since_ms,
            sent: stored.sent,
            depends_on: stored.depends_on,
            seen_in: 0,
            recorded: false,
        }
    }
}

/// An alert as the state store keeps it. New fields need a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredAlert {
    /// The key to store it under: rule and label set.
    pub key: String,
    /// The rule's own key; stable over restarts, reloads, and changes of the expression and its times.
    pub rule: String,
    /// The rule's expression when the alert was stored.
    pub expr: String,
    /// The row of the expression.
    pub row: LabelSet,
    /// The alert's labels.
    pub labels: LabelSet,
    /// The annotations as last sent.
    pub annotations: LabelSet,
    /// The last value that matched when the alert was stored.
    #[serde(with = "float_as_text")]
    pub value: f64,
    /// Pending or firing.
    pub phase: Phase,
    /// When the expression began to hold.
    pub active_at_ms: i64,
    /// When it began to fire; 0 while pending.
    pub fired_at_ms: i64,
    /// Since when `keep_firing_for` alone keeps it firing.
    pub keep_firing_since_ms: Option<i64>,
    /// Since when there is no data.
    pub no_data_since_ms: Option<i64>,
    /// How often it was told.
    pub sent: u32,
    /// What would explain it.
    #[serde(default)]
    pub depends_on: Vec<LabelSet>,
    /// When it is over by itself: only of alerts that others evaluate.
    #[serde(default)]
    pub ends_at_ms: Option<i64>,
}

/// The key of an alert in the state store.
pub(crate) fn key(rule_key: &str, labels: &LabelSet) -> String {
    format!("{rule_key}-{:016x}", labels.fingerprint())
}

fn changed(yes: bool) -> Step {
    if yes { Step::Changed } else { Step::Same }
}
