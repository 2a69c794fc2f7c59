//! One message: what a receiver is to be told of a group of alerts now, and what surrounds it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::labels::LabelSet;
use crate::notification::{Notification, Transition};

/// What a receiver is told.
#[derive(Clone, Debug)]
pub struct Message {
    /// The receiver's name.
    pub receiver: Arc<str>,
    /// Alertmanager's name of the route.
    pub route_key: String,
    /// What the alerts have in common by the route's `group_by`; nothing if several groups were put together.
    pub group_labels: LabelSet,
    /// How many groups it tells of.
    pub groups: usize,
    /// Alerts that fire, the oldest first.
    pub firing: Vec<Arc<Notification>>,
    /// Alerts that are over.
    pub over: Vec<Arc<Notification>>,
    /// Alerts that those which fire keep quiet.
    pub also: Vec<Arc<Notification>>,
    /// Why this receiver is told what is another's.
    pub note: Option<String>,
    /// Nothing is new: it is said again.
    pub is_repeat: bool,
    /// How much is said.
    pub detail: Detail,
    /// When.
    pub now_ms: i64,
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Everything that there is room for.
    Full,
    /// The receiver refused the full message: a title and a link.
    Short,
}

/// What surrounds a message: addresses, and what was found out about its first alerts.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Where people reach this collector, without a slash at the end; empty if nowhere.
    pub external_url: String,
    /// By the alert's key.
    pub moments: BTreeMap<String, Moment>,
}

/// What was found out about an alert when its message was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moment {
    /// The value now, if the alert still fires and there is one.
    pub value: Option<f64>,
    /// Since when there is no data.
    pub no_data_since_ms: Option<i64>,
    /// The value's last hour, as a line of bars.
    pub spark: Option<String>,
    /// Which processes were at work when it began to fire.
    pub who: Option<String>,
    /// Links that act, with their words: acknowledge, silence.
    pub actions: Vec<(&'static str, String)>,
}

impl Message {
    /// Whether any alert fires.
    #[must_use]
    pub fn fires(&self) -> bool {
        !self.firing.is_empty()
    }

    /// Alertmanager's word for the group.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if self.fires() { "firing" } else { "resolved" }
    }

    /// Every alert, those that fire first.
    pub fn alerts(&self) -> impl Iterator<Item = &Arc<Notification>> {
        self.firing.iter().chain(&self.over)
    }

    /// The only alert, if it is one.
    #[must_use]
    pub fn single(&self) -> Option<&Arc<Notification>> {
        let mut alerts = self.alerts();
        alerts.next().filter(|_| alerts.next().is_none())
    }

    /// Alertmanager's name of the group.
    #[must_use]
    pub fn group_key(&self) -> String {
        format!("{}:{}", self.route_key, self.group_labels)
    }

    /// The labels that every alert has with the same value.
    #[must_use]
    pub fn common_labels(&self) -> LabelSet {
        common(self.alerts().map(|alert| &alert.labels))
    }

    /// The annotations that every alert has with the same text.
    #[must_use]
    pub fn common_annotations(&self) -> LabelSet {
        common(self.alerts().map(|alert| &alert.annotations))
    }

    /// Whether nothing is left but alerts that are no longer watched.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        !self.fires() && self.over.iter().all(|alert| alert.transition == Transition::Withdrawn)
    }
}

fn common<'a>(mut sets: impl Iterator<Item = &'a LabelSet>) -> LabelSet {
    let Some(first) = sets.next() else { return LabelSet::empty() };
    let mut kept: Vec<(&str, &str)> = first.iter().collect();
    for set in sets {
        kept.retain(|(name, value)| set.value(name) == Some(value));
    }
    LabelSet::new(kept)
}
