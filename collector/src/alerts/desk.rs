//! The desk: what is to be told to whom, what people did about alerts, and how both are stored.
//!
//! One lock, held until what changed is stored: a message is made only of what is durable.

use std::collections::HashSet;
use std::sync::{Arc, MutexGuard, PoisonError};

use pitwatch_alerting::dispatch::{Attempt, Change, StoredTold};
use pitwatch_alerting::engine::{AlertChange, Phase, told};
use pitwatch_alerting::incidents::{Act, Entry, Incident, IncidentChange, Incidents, Marks};
use pitwatch_alerting::silences::SilenceError;
use pitwatch_alerting::{Dispatcher, Notification, Outcome, Routing, Silence, StoredAlert, Transition};
use tracing::{error, info, warn};

use super::Alerts;
use super::deliver::Ways;
use crate::clock::unix_ms;
use crate::state::StateError;

/// What is to be told, and what people did.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) ways: Arc<Ways>,
    pub(super) dispatcher: Dispatcher,
    pub(super) incidents: Incidents,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The silence is not as it must be.
    #[error(transparent)]
    Silence(#[from] SilenceError),
    /// No such alert fires.
    #[error("no alert with the fingerprint {0} is pending or firing: `pitwatch alerts` lists them")]
    NoAlert(String),
    /// No such incident.
    #[error("there is no incident {0}: `pitwatch incidents` lists them")]
    NoIncident(u64),
    /// The state store failed.
    #[error("it is not stored")]
    State(#[from] StateError),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl Desk {
    /// A transition to those who are to hear of it.
    pub(super) fn take(&mut self, notification: Notification, now_ms: i64) -> (Vec<Change>, Vec<IncidentChange>) {
        let incidents = self.incidents.take(&notification);
        let marks = self.incidents.marks(&notification.alert_key);
        if marks.is_some_and(|marks| marks.acknowledged.is_some()) {
            self.dispatcher.acknowledge(&notification.alert_key, true);
        }
        (self.dispatcher.take(Arc::new(notification), now_ms), incidents)
    }

    /// Has the dispatcher, a new one, go on with what was kept: after a restart, or of one with another routing.
    pub(super) fn restore(
        &mut self,
        (episodes, told): (Vec<Arc<Notification>>, Vec<StoredTold>),
        alerts: &[StoredAlert],
        now_ms: i64,
    ) -> Vec<Change> {
        let (episodes, mut changes, untold) = agree(episodes, alerts);
        changes.extend(self.dispatcher.restore(episodes, told, now_ms));
        let acknowledged = self.incidents.all_marks().filter(|(_, marks)| marks.acknowledged.is_some());
        acknowledged.for_each(|(key, _)| self.dispatcher.acknowledge(key, true));
        for notification in untold {
            changes.extend(self.dispatcher.take(Arc::new(notification), now_ms));
        }
        changes
    }
}

/// Makes what was restored agree with the alerts that the engine restored: a beginning that was stored without its
/// alert did not happen, and an alert of which nothing is known yet is told.
fn agree(
    episodes: Vec<Arc<Notification>>,
    alerts: &[StoredAlert],
) -> (Vec<Arc<Notification>>, Vec<Change>, Vec<Notification>) {
    let firing = || alerts.iter().filter(|alert| alert.phase == Phase::Firing);
    let real: HashSet<(&str, i64)> = firing().map(|alert| (&*alert.key, alert.fired_at_ms)).collect();
    let stands = |one: &Notification| one.is_over() || real.contains(&(&*one.alert_key, one.fired_at_ms));
    let (kept, gone): (Vec<_>, Vec<_>) = episodes.into_iter().partition(|one| stands(one));
    let known: HashSet<(&str, i64)> = kept.iter().map(|one| (&*one.alert_key, one.fired_at_ms)).collect();
    let untold = firing().filter(|alert| !known.contains(&(&*alert.key, alert.fired_at_ms)));
    let untold = untold.map(|alert| told(alert, Transition::Fired, alert.fired_at_ms));
    let untold = untold.collect();
    let gone = gone.iter().map(|one| Change::RemoveEpisode(pitwatch_alerting::dispatch::episode(one))).collect();
    (kept, gone, untold)
}

impl Alerts {
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells transitions to those who are to hear of them, and stores them with the alerts' own changes.
    pub(super) fn tell(&self, notifications: Vec<Notification>, alerts: &[AlertChange], now_ms: i64) {
        let mut desk = self.desk();
        let (mut changes, mut incidents) = (Vec::new(), Vec::new());
        for notification in notifications {
            say(&desk.ways.routing, &notification);
            let (told, about) = desk.take(notification, now_ms);
            changes.extend(told);
            incidents.extend(about);
        }
        // The alert's new state and what is to be told of it in one transaction: a crash keeps both or neither.
        if let Err(error) = self.store.save(alerts, &changes, &incidents) {
            self.stats.store_failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            error!("alert states are not stored, a restart may tell them again: {}", crate::error_chain(&error));
        }
        drop(desk);
        self.queued.notify_one();
    }

    /// Lets clocks run; gives what to send now, by which ways, and when to look again.
    pub(super) fn next_attempt(&self) -> (Option<(Attempt, Arc<Ways>)>, Option<i64>) {
        let now_ms = unix_ms();
        let mut desk = self.desk();
        let changes = desk.dispatcher.tick(now_ms);
        self.note(&changes);
        let attempt = desk.dispatcher.poll(now_ms).map(|attempt| (attempt, desk.ways.clone()));
        (attempt, desk.dispatcher.due_ms())
    }

    /// Takes how an attempt went. One that began before the routing changed tells nothing of the lines that there are
    /// now: what it told may be told once more.
    pub(super) fn finished(&self, ways: &Arc<Ways>, line: usize, outcome: &Outcome, place: Option<&str>) {
        let mut desk = self.desk();
        if !Arc::ptr_eq(ways, &desk.ways) {
            return;
        }
        let changes = desk.dispatcher.on_result(line, unix_ms(), outcome, place);
        self.note(&changes);
        drop(desk);
        self.queued.notify_one();
    }

    fn note(&self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.store.save(&[], changes, &[]) {
            warn!("what was told is not stored, a restart may tell it again: {}", crate::error_chain(&error));
        }
    }

    /// Makes or changes a silence; gives its id.
    ///
    /// # Errors
    /// [`DeskError`]
    pub(super) fn keep_silence(&self, silence: Silence) -> Result<String, DeskError> {
        let now_ms = unix_ms();
        let mut desk = self.desk();
        for id in desk.dispatcher.silences.forget(now_ms) {
            self.store.remove_silence(&id)?;
        }
        let changed = desk.dispatcher.silences.set(silence, &uuid()?, now_ms)?;
        self.store.save_silences(&changed)?;
        Ok(changed.last().map(|silence| silence.id.clone()).unwrap_or_default())
    }

    /// Ends a silence.
    ///
    /// # Errors
    /// [`DeskError`]
    pub(super) fn end_silence(&self, id: &str) -> Result<(), DeskError> {
        let mut desk = self.desk();
        let ended = desk.dispatcher.silences.expire(id, unix_ms())?;
        self.store.save_silences(&[ended])?;
        drop(desk);
        self.queued.notify_one();
        Ok(())
    }

    /// Somebody does something about an alert.
    ///
    /// # Errors
    /// [`DeskError`]
    pub(super) fn mark_alert(
        &self,
        key: &str,
        fingerprint: &str,
        act: &Act,
        by: &str,
        comment: &str,
    ) -> Result<Marks, DeskError> {
        let mut desk = self.desk();
        let changes = desk.incidents.act_on_alert(key, fingerprint, act, by, comment, unix_ms());
        self.store.save(&[], &[], &changes)?;
        let marks = desk.incidents.marks(key).cloned().unwrap_or_default();
        desk.dispatcher.acknowledge(key, marks.acknowledged.is_some());
        Ok(marks)
    }

    /// Somebody does something about an incident.
    ///
    /// # Errors
    /// [`DeskError`]
    pub(super) fn mark_incident(&self, id: u64, act: &Act, by: &str, comment: &str) -> Result<Incident, DeskError> {
        let mut desk = self.desk();
        let done = desk.incidents.act(id, act, by, comment, unix_ms());
        let (changes, alerts) = done.ok_or(DeskError::NoIncident(id))?;
        self.store.save(&[], &[], &changes)?;
        for key in alerts {
            let yes = desk.incidents.marks(&key).is_some_and(|marks| marks.acknowledged.is_some());
            desk.dispatcher.acknowledge(&key, yes);
        }
        desk.incidents.get(id).cloned().ok_or(DeskError::NoIncident(id))
    }

    /// An incident with its timeline.
    ///
    /// # Errors
    /// [`DeskError`]
    pub(super) fn timeline(&self, id: u64) -> Result<(Incident, Vec<Entry>), DeskError> {
        let incident = self.desk().incidents.get(id).cloned().ok_or(DeskError::NoIncident(id))?;
        Ok((incident, self.store.entries(id)?))
    }
}

fn say(routing: &Routing, notification: &Notification) {
    let receivers = routing.receivers_of(&notification.labels).len();
    let (alert, labels) = (notification.name(), &notification.labels);
    info!(alert, %labels, value = notification.value, receivers, "alert {}", notification.transition.as_str());
}

/// A random UUID, version 4.
fn uuid() -> Result<String, DeskError> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0_u8; 16];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| DeskError::Random)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
