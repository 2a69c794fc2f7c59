//! Incidents: alerts of one cause become one case with a timeline, kept when it is over.
//!
//! One cause: the same host, else the same provider, else the same alert name; and close in time. An incident is open
//! while one of its alerts fires, and takes further alerts of its cause for [`limits::INCIDENT_GAP_MS`] after the last was
//! over. Sans-IO: what changes is handed back to be stored; entries of timelines are records of their own, so that one
//! more is one small write.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::labels::LabelSet;
use crate::limits;
use crate::notification::{Notification, Transition};

/// An incident. Its serde form is kept in the state store: new fields need a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number.
    pub id: u64,
    /// What its alerts have in common, such as `instance=db-1`.
    pub cause: String,
    /// The first alert in a line.
    pub title: String,
    /// The worst severity.
    pub severity: String,
    /// When it began.
    pub opened_ms: i64,
    /// When its last alert was over.
    pub closed_ms: Option<i64>,
    /// Who took notice.
    pub acknowledged: Option<Acknowledgement>,
    /// Whose it is.
    pub assigned_to: Option<String>,
    /// Alerts that it had.
    pub alerts: u32,
    /// The keys of those that still fire; further ones are only counted.
    pub firing: Vec<String>,
    /// How many more fire.
    pub firing_more: u32,
    /// Entries of its timeline.
    pub entries: u32,
}

/// Somebody took notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// When.
    pub at_ms: i64,
    /// What they said.
    pub comment: String,
}

/// What people did about one alert. Its serde form is kept in the state store: new fields need a default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Marks {
    /// Who took notice.
    pub acknowledged: Option<Acknowledgement>,
    /// Whose it is.
    pub assigned_to: Option<String>,
    /// The incident that it belongs to.
    pub incident: Option<u64>,
}

/// Something that happened. Its serde form is kept in the state store: new fields need a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at_ms: i64,
    /// What.
    pub what: What,
    /// Which alert, if it is about one.
    pub alert: Option<String>,
    /// The alert's fingerprint.
    pub fingerprint: Option<String>,
    /// When that alert began to fire.
    pub fired_at_ms: Option<i64>,
    /// Who did it, if somebody did.
    pub by: Option<String>,
    /// In words.
    pub text: String,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// An alert began to fire.
    Fired,
    /// There is no data to judge it by.
    NoData,
    /// An alert is over.
    Resolved,
    /// An alert is no longer watched.
    Withdrawn,
    /// Somebody took notice.
    Acknowledged,
    /// Somebody took that back.
    Unacknowledged,
    /// It was given to somebody.
    Assigned,
    /// Somebody said something.
    Commented,
    /// Somebody closed it.
    Closed,
}

/// What somebody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Takes notice.
    Acknowledge,
    /// Takes that back.
    Unacknowledge,
    /// Gives it to somebody.
    Assign(String),
    /// Says something.
    Comment,
    /// Closes it.
    Close,
}

/// What must be stored.
#[derive(Clone, Debug, PartialEq)]
pub enum IncidentChange {
    /// Keep this incident.
    Put(Incident),
    /// Keep this entry of an incident's timeline, by its place.
    PutEntry(u64, u32, Entry),
    /// Keep what people did about the alert of this key.
    PutMarks(String, Marks),
    /// Forget what people did about it.
    RemoveMarks(String),
    /// Forget an incident with so many entries.
    Remove(u64, u32),
}

/// Open incidents and those of late, and what people did about alerts.
#[derive(Debug, Default)]
pub struct Incidents {
    all: BTreeMap<u64, Incident>,
    /// The latest incident of each cause.
    by_cause: HashMap<String, u64>,
    marks: HashMap<String, Marks>,
    next: u64,
}

/// What alerts of one cause have in common.
fn cause(labels: &LabelSet, name: &str) -> String {
    let label = ["instance", "provider", "gateway"].iter().find_map(|key| Some((*key, labels.value(key)?)));
    label.map_or_else(|| format!("alertname={name}"), |(key, value)| format!("{key}={value}"))
}

impl Incidents {
    /// Takes back what was stored.
    #[must_use]
    pub fn restore(incidents: Vec<Incident>, marks: Vec<(String, Marks)>) -> Self {
        let next = incidents.iter().map(|incident| incident.id + 1).max().unwrap_or(1);
        let by_cause = incidents.iter().map(|incident| (incident.cause.clone(), incident.id)).collect();
        let all = incidents.into_iter().map(|incident| (incident.id, incident)).collect();
        Self { all, by_cause, marks: marks.into_iter().collect(), next }
    }

    /// Takes a transition.
    pub fn take(&mut self, alert: &Notification) -> Vec<IncidentChange> {
        let what = match alert.transition {
            Transition::Fired => What::Fired,
            Transition::NoData => What::NoData,
            Transition::Resolved => What::Resolved,
            Transition::Withdrawn => What::Withdrawn,
        };
        let mut changes = Vec::new();
        // What an alert depends on is its cause.
        let labels = alert.depends_on.first().filter(|on| on.value("instance").is_some()).unwrap_or(&alert.labels);
        let cause = cause(labels, alert.name());
        let known = self.marks.get(&alert.alert_key).and_then(|marks| marks.incident);
        let id = match known.or_else(|| self.open_of(&cause, alert.at_ms)) {
            Some(id) => id,
            None if what == What::Fired => self.begin(cause, alert),
            None => return changes,
        };
        let Some(incident) = self.all.get_mut(&id) else { return changes };
        match what {
            What::Fired => incident.joined(alert),
            What::Resolved | What::Withdrawn => incident.left(alert),
            _ => {}
        }
        changes.extend(incident.note(Entry {
            at_ms: alert.at_ms,
            what,
            alert: Some(alert.alert_key.clone()),
            fingerprint: Some(alert.fingerprint()),
            fired_at_ms: Some(alert.fired_at_ms),
            by: None,
            text: summary(alert),
        }));
        changes.push(IncidentChange::Put(incident.clone()));
        if what == What::Fired {
            // A new beginning is nobody's yet, unless the whole incident is somebody's.
            let acknowledged = incident.acknowledged.clone();
            let marks = Marks { acknowledged, assigned_to: incident.assigned_to.clone(), incident: Some(id) };
            self.marks.insert(alert.alert_key.clone(), marks.clone());
            changes.push(IncidentChange::PutMarks(alert.alert_key.clone(), marks));
        } else if alert.is_over() && self.marks.remove(&alert.alert_key).is_some() {
            changes.push(IncidentChange::RemoveMarks(alert.alert_key.clone()));
        }
        self.forget(alert.at_ms, &mut changes);
        changes
    }

    fn open_of(&self, cause: &str, now_ms: i64) -> Option<u64> {
        let incident = self.all.get(self.by_cause.get(cause)?)?;
        let near = incident.closed_ms.is_none_or(|closed_ms| now_ms - closed_ms < limits::INCIDENT_GAP_MS);
        near.then_some(incident.id)
    }

    fn begin(&mut self, cause: String, alert: &Notification) -> u64 {
        let id = self.next.max(1);
        self.next = id + 1;
        self.by_cause.insert(cause.clone(), id);
        let incident = Incident {
            id,
            cause,
            title: summary(alert),
            severity: String::new(),
            opened_ms: alert.fired_at_ms,
            closed_ms: None,
            acknowledged: None,
            assigned_to: None,
            alerts: 0,
            firing: Vec::new(),
            firing_more: 0,
            entries: 0,
        };
        self.all.insert(id, incident);
        id
    }

    /// Somebody does something about an alert. `None` if it does not fire.
    pub fn act_on_alert(
        &mut self,
        alert_key: &str,
        fingerprint: &str,
        act: &Act,
        by: &str,
        comment: &str,
        now_ms: i64,
    ) -> Vec<IncidentChange> {
        let marks = self.marks.entry(alert_key.to_owned()).or_default();
        marks.apply(act, by, comment, now_ms);
        let marks = marks.clone();
        let mut changes = vec![IncidentChange::PutMarks(alert_key.to_owned(), marks.clone())];
        if let Some(incident) = marks.incident.and_then(|id| self.all.get_mut(&id)) {
            let alert = Some(alert_key.to_owned());
            let entry = Entry { alert, fingerprint: Some(fingerprint.to_owned()), ..entry(act, by, comment, now_ms) };
            changes.extend(incident.note(entry));
            changes.push(IncidentChange::Put(incident.clone()));
        }
        changes
    }

    /// Somebody does something about an incident and all its alerts; gives the alerts too. `None` if there is none of
    /// that number.
    pub fn act(
        &mut self,
        id: u64,
        act: &Act,
        by: &str,
        comment: &str,
        now_ms: i64,
    ) -> Option<(Vec<IncidentChange>, Vec<String>)> {
        let incident = self.all.get_mut(&id)?;
        match act {
            Act::Acknowledge => incident.acknowledged = Some(acknowledgement(by, comment, now_ms)),
            Act::Unacknowledge => incident.acknowledged = None,
            Act::Assign(to) => incident.assigned_to = Some(to.clone()).filter(|to| !to.is_empty()),
            Act::Close => incident.closed_ms = Some(now_ms),
            Act::Comment => {}
        }
        let mut changes: Vec<IncidentChange> = incident.note(entry(act, by, comment, now_ms)).into_iter().collect();
        changes.push(IncidentChange::Put(incident.clone()));
        let mut alerts = Vec::new();
        if !matches!(act, Act::Comment | Act::Close) {
            for (key, marks) in self.marks.iter_mut().filter(|(_, marks)| marks.incident == Some(id)) {
                marks.apply(act, by, comment, now_ms);
                changes.push(IncidentChange::PutMarks(key.clone(), marks.clone()));
                alerts.push(key.clone());
            }
        }
        Some((changes, alerts))
    }

    /// What people did about the alert of that key.
    #[must_use]
    pub fn marks(&self, alert_key: &str) -> Option<&Marks> {
        self.marks.get(alert_key)
    }

    /// What people did about every alert.
    pub fn all_marks(&self) -> impl Iterator<Item = (&String, &Marks)> {
        self.marks.iter()
    }

    /// Every incident that is kept, the latest first.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.all.values().rev()
    }

    /// The incident of that number.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Incident> {
        self.all.get(&id)
    }

    /// Drops what is over for too long, and the oldest where there are too many.
    fn forget(&mut self, now_ms: i64, changes: &mut Vec<IncidentChange>) {
        while let Some(first) = self.all.values().next() {
            let old = first.closed_ms.is_some_and(|closed_ms| now_ms - closed_ms >= limits::INCIDENT_KEPT_MS);
            if !old && self.all.len() <= limits::INCIDENTS_MAX {
                return;
            }
            changes.push(IncidentChange::Remove(first.id, first.entries));
            let (id, cause) = (first.id, first.cause.clone());
            self.all.remove(&id);
            if self.by_cause.get(&cause) == Some(&id) {
                self.by_cause.remove(&cause);
            }
        }
    }
}

impl Incident {
    fn joined(&mut self, alert: &Notification) {
        self.alerts = self.alerts.saturating_add(1);
        self.closed_ms = None;
        let severity = alert.labels.value("severity").unwrap_or("");
        if rank(severity) > rank(&self.severity) || self.severity.is_empty() {
            self.severity = severity.to_owned();
        }
        if self.firing.len() < limits::INCIDENT_ALERTS_MAX {
            self.firing.push(alert.alert_key.clone());
        } else {
            self.firing_more += 1;
        }
    }

    fn left(&mut self, alert: &Notification) {
        match self.firing.iter().position(|key| *key == alert.alert_key) {
            Some(at) => {
                self.firing.remove(at);
            }
            None => self.firing_more = self.firing_more.saturating_sub(1),
        }
        if self.firing.is_empty() && self.firing_more == 0 {
            self.closed_ms = Some(alert.resolved_at_ms.unwrap_or(alert.at_ms));
        }
    }

    /// Adds to the timeline, as long as there is room; the last place says that there is none.
    fn note(&mut self, mut entry: Entry) -> Option<IncidentChange> {
        if self.entries >= limits::INCIDENT_ENTRIES_MAX {
            return None;
        }
        entry.text.truncate(entry.text.floor_char_boundary(limits::INCIDENT_TEXT_MAX_BYTES));
        let at = self.entries;
        self.entries += 1;
        if self.entries == limits::INCIDENT_ENTRIES_MAX {
            entry.text.push_str(" (what follows is not kept)");
        }
        Some(IncidentChange::PutEntry(self.id, at, entry))
    }
}

impl Marks {
    fn apply(&mut self, act: &Act, by: &str, comment: &str, now_ms: i64) {
        match act {
            Act::Acknowledge => self.acknowledged = Some(acknowledgement(by, comment, now_ms)),
            Act::Unacknowledge => self.acknowledged = None,
            Act::Assign(to) => self.assigned_to = Some(to.clone()).filter(|to| !to.is_empty()),
            Act::Comment | Act::Close => {}
        }
    }
}

fn acknowledgement(by: &str, comment: &str, at_ms: i64) -> Acknowledgement {
    Acknowledgement { by: by.to_owned(), at_ms, comment: comment.to_owned() }
}

fn entry(act: &Act, by: &str, comment: &str, at_ms: i64) -> Entry {
    let (what, text) = match act {
        Act::Acknowledge => (What::Acknowledged, comment.to_owned()),
        Act::Unacknowledge => (What::Unacknowledged, comment.to_owned()),
        Act::Assign(to) => (What::Assigned, format!("to {to}{}{comment}", if comment.is_empty() { "" } else { ": " })),
        Act::Comment => (What::Commented, comment.to_owned()),
        Act::Close => (What::Closed, comment.to_owned()),
    };
    Entry { at_ms, what, alert: None, fingerprint: None, fired_at_ms: None, by: Some(by.to_owned()), text }
}

fn rank(severity: &str) -> u8 {
    match severity {
        "critical" | "page" => 3,
        "warning" => 1,
        "info" | "none" => 0,
        _ => 2,
    }
}

fn summary(alert: &Notification) -> String {
    let text = alert.annotations.value("summary").map(str::to_owned).unwrap_or_else(|| {
        let place = alert.labels.value("instance").map(|place| format!(" on {place}")).unwrap_or_default();
        format!("{}{place}", alert.name())
    });
    text[..text.floor_char_boundary(limits::INCIDENT_TEXT_MAX_BYTES)].to_owned()
}

#[cfg(test)]
mod tests;
