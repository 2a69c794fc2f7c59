//! Alerts, what is told of them, silences, incidents and the time of the last evaluation in the state store.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pitwatch_alerting::dispatch::{Change, StoredTold};
use pitwatch_alerting::engine::AlertChange;
use pitwatch_alerting::incidents::{Entry, Incident, IncidentChange, Marks};
use pitwatch_alerting::{LabelSet, Notification, Silence, StoredAlert};

use crate::state::{BATCH_MAX_KEYS, Batch, State, StateError, Table, VALUE_MAX_BYTES};

const EVALUATED_KEY: &[u8] = b"alerts/evaluated_ms";
const LINK_KEY: &[u8] = b"alerts/link_key";
/// The time of the last evaluation is stored this often, milliseconds: by so much more than a crash's outage may the clocks
/// of pending alerts stand still.
const EVALUATED_EVERY_MS: i64 = 2_000;
/// First bytes of keys, by what is kept under them: in `notifications` ...
const EPISODE: u8 = b'e';
const TOLD: u8 = b't';
/// ... and in `incidents`.
const INCIDENT: u8 = b'i';
const ENTRY: u8 = b't';
const MARKS: u8 = b'm';
/// An annotation of an alert whose record would be too large is cut to so many bytes.
const ANNOTATION_KEPT_BYTES: usize = 1_500;

/// The state store as alerting uses it.
#[derive(Debug)]
pub struct AlertStore {
    state: Arc<dyn State>,
    stored_ms: AtomicI64,
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub struct Stored {
    /// Alerts, pending and firing.
    pub alerts: Vec<StoredAlert>,
    /// Episodes of which somebody is still to hear.
    pub episodes: Vec<Arc<Notification>>,
    /// What lines were told.
    pub told: Vec<StoredTold>,
    /// Silences.
    pub silences: Vec<Silence>,
    /// Incidents.
    pub incidents: Vec<Incident>,
    /// What people did about alerts, by the alert's key.
    pub marks: Vec<(String, Marks)>,
    /// When rules were last evaluated, about; milliseconds since the Unix epoch.
    pub evaluated_ms: Option<i64>,
}

impl AlertStore {
    /// Over the state store.
    #[must_use]
    pub fn new(state: Arc<dyn State>) -> Self {
        Self { state, stored_ms: AtomicI64::new(0) }
    }

    /// Everything that is stored but timelines.
    ///
    /// # Errors
    /// The store's.
    pub fn load(&self) -> Result<Stored, StateError> {
        let mut stored = Stored::default();
        let state = &self.state;
        state.scan(Table::Alerts, b"", &mut |key, value| keep(value, key, &mut stored.alerts))?;
        state.scan(Table::Notifications, &[EPISODE], &mut |key, value| keep(value, key, &mut stored.episodes))?;
        state.scan(Table::Notifications, &[TOLD], &mut |key, value| keep(value, key, &mut stored.told))?;
        state.scan(Table::Silences, b"", &mut |key, value| keep(value, key, &mut stored.silences))?;
        state.scan(Table::Incidents, &[INCIDENT], &mut |key, value| keep(value, key, &mut stored.incidents))?;
        state.scan(Table::Incidents, &[MARKS], &mut |key, value| {
            let mut marks = Vec::new();
            let flow = keep(value, key, &mut marks);
            let alert = String::from_utf8_lossy(&key[1..]).into_owned();
            stored.marks.extend(marks.into_iter().map(|marks| (alert.clone(), marks)));
            flow
        })?;
        let evaluated = state.get(Table::Meta, EVALUATED_KEY)?;
        stored.evaluated_ms = evaluated.and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?)));
        Ok(stored)
    }

    /// Stores what changed, in one transaction; a storm takes several, what is told before the alerts' own states.
    ///
    /// # Errors
    /// The store's.
    pub fn save(
        &self,
        alerts: &[AlertChange],
        told: &[Change],
        incidents: &[IncidentChange],
    ) -> Result<(), StateError> {
        let mut batch = Batch::new();
        for change in told {
            put_told(&mut batch, change);
            self.commit_full(&mut batch)?;
        }
        for change in incidents {
            self.put_incident(&mut batch, change)?;
            self.commit_full(&mut batch)?;
        }
        for change in alerts {
            match change {
                AlertChange::Put(alert) => {
                    batch.put(Table::Alerts, alert.key.as_bytes(), serde_json::to_vec(alert).unwrap_or_default());
                }
                AlertChange::Remove(key) => {
                    batch.delete(Table::Alerts, key.as_bytes());
                }
            }
            self.commit_full(&mut batch)?;
        }
        if batch.is_empty() { Ok(()) } else { self.state.commit(&batch) }
    }

    fn put_incident(&self, batch: &mut Batch, change: &IncidentChange) -> Result<(), StateError> {
        let (table, json) = (Table::Incidents, |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default());
        match change {
            IncidentChange::Put(incident) => {
                batch.put(table, numbered(INCIDENT, incident.id), json(serde_json::to_vec(incident)));
            }
            IncidentChange::PutEntry(id, at, entry) => {
                batch.put(table, entry_key(*id, *at), json(serde_json::to_vec(entry)));
            }
            IncidentChange::PutMarks(alert, marks) => {
                batch.put(table, [&[MARKS], alert.as_bytes()].concat(), json(serde_json::to_vec(marks)));
            }
            IncidentChange::RemoveMarks(alert) => {
                batch.delete(table, [&[MARKS], alert.as_bytes()].concat());
            }
            IncidentChange::Remove(id, entries) => {
                batch.delete(table, numbered(INCIDENT, *id));
                for at in 0..*entries {
                    batch.delete(table, entry_key(*id, at));
                    self.commit_full(batch)?;
                }
            }
        }
        Ok(())
    }

    /// The timeline of an incident, in order.
    ///
    /// # Errors
    /// The store's.
    pub fn entries(&self, incident: u64) -> Result<Vec<Entry>, StateError> {
        let mut entries = Vec::new();
        let prefix = numbered(ENTRY, incident);
        self.state.scan(Table::Incidents, &prefix, &mut |key, value| keep(value, key, &mut entries))?;
        Ok(entries)
    }

    /// Stores silences.
    ///
    /// # Errors
    /// The store's.
    pub fn save_silences(&self, silences: &[Silence]) -> Result<(), StateError> {
        let mut batch = Batch::new();
        for silence in silences {
            batch.put(Table::Silences, silence.id.as_bytes(), serde_json::to_vec(silence).unwrap_or_default());
        }
        self.state.commit(&batch)
    }

    /// Forgets a silence.
    ///
    /// # Errors
    /// The store's.
    pub fn remove_silence(&self, id: &str) -> Result<(), StateError> {
        let mut batch = Batch::new();
        batch.delete(Table::Silences, id.as_bytes());
        self.state.commit(&batch)
    }

    /// Notes that rules were evaluated, now and then.
    ///
    /// # Errors
    /// The store's.
    pub fn evaluated(&self, now_ms: i64) -> Result<(), StateError> {
        if now_ms.saturating_sub(self.stored_ms.load(Ordering::Relaxed)) < EVALUATED_EVERY_MS {
            return Ok(());
        }
        self.stored_ms.store(now_ms, Ordering::Relaxed);
        let mut batch = Batch::new();
        batch.put(Table::Meta, EVALUATED_KEY, now_ms.to_le_bytes());
        self.state.commit(&batch)
    }

    /// The key that links in messages are signed with: `fresh`, unless there is one.
    ///
    /// # Errors
    /// The store's.
    pub fn link_key(&self, fresh: [u8; 32]) -> Result<Vec<u8>, StateError> {
        if let Some(key) = self.state.get(Table::Meta, LINK_KEY)? {
            return Ok(key);
        }
        let mut batch = Batch::new();
        batch.put(Table::Meta, LINK_KEY, fresh);
        self.state.commit(&batch)?;
        Ok(fresh.to_vec())
    }

    fn commit_full(&self, batch: &mut Batch) -> Result<(), StateError> {
        // A further record must still fit.
        if batch.len() + 2 >= BATCH_MAX_KEYS || batch.bytes() >= crate::state::BATCH_MAX_BYTES / 2 {
            self.state.commit(&std::mem::take(batch))?;
        }
        Ok(())
    }
}

fn put_told(batch: &mut Batch, change: &Change) {
    let table = Table::Notifications;
    let told_key = |key: &str| [&[TOLD], key.as_bytes()].concat();
    match change {
        Change::PutEpisode(number, notification) => {
            batch.put(table, numbered(EPISODE, *number), bounded(notification));
        }
        Change::RemoveEpisode(number) => {
            batch.delete(table, numbered(EPISODE, *number));
        }
        Change::PutTold(told) => {
            batch.put(table, told_key(&told.key()), serde_json::to_vec(told).unwrap_or_default());
        }
        Change::RemoveTold(key) => {
            batch.delete(table, told_key(key));
        }
    }
}

/// A notification as JSON within the store's largest value: its texts are cut where they are too long.
fn bounded(notification: &Notification) -> Vec<u8> {
    let json = serde_json::to_vec(notification).unwrap_or_default();
    if json.len() <= VALUE_MAX_BYTES {
        return json;
    }
    let cut = |text: &str| text[..text.floor_char_boundary(ANNOTATION_KEPT_BYTES)].to_owned();
    let annotations = LabelSet::new(notification.annotations.iter().take(8).map(|(name, text)| (name, cut(text))));
    let expr = cut(&notification.expr);
    serde_json::to_vec(&Notification { annotations, expr, ..notification.clone() }).unwrap_or_default()
}

fn numbered(kind: u8, number: u64) -> Vec<u8> {
    [&[kind][..], &number.to_be_bytes()].concat()
}

fn entry_key(incident: u64, at: u32) -> Vec<u8> {
    [&numbered(ENTRY, incident)[..], &at.to_be_bytes()].concat()
}

fn keep<T: serde::de::DeserializeOwned>(value: &[u8], key: &[u8], into: &mut Vec<T>) -> ControlFlow<()> {
    match serde_json::from_slice(value) {
        Ok(one) => into.push(one),
        Err(error) => tracing::error!(key = %String::from_utf8_lossy(key), "a stored record is damaged: {error}"),
    }
    ControlFlow::Continue(())
}
