//! What people do, as the API asks for it; and how the sign of life goes.

use std::sync::PoisonError;

use pitwatch_alerting::incidents::{Act, Entry, Incident, Marks};
use pitwatch_alerting::outside::{Given, Refused};
use pitwatch_alerting::{LabelSet, Output, Silence};

use super::Alerts;
use super::desk::DeskError;
use super::links::Token;
use crate::api::{Desk, ReceiverStatus};
use crate::clock::unix_ms;

/// Rules that were not evaluated for so long are not: no sign of life is given, milliseconds.
const ALIVE_MS: i64 = 60_000;

impl Desk for Alerts {
    fn silences(&self) -> Vec<Silence> {
        self.desk().dispatcher.silences.iter().cloned().collect()
    }

    fn give_alerts(&self, given: Vec<Given>) -> Vec<Refused> {
        let now_ms = unix_ms();
        let mut inner = self.lock();
        let timeout_ms = self.desk().ways.routing.resolve_timeout_ms;
        let mut output = Output::default();
        let taken = given.into_iter().map(|one| inner.outside.take(one, timeout_ms, now_ms, &mut output));
        let refused = taken.filter_map(Result::err).collect();
        self.tell(output.notifications, &output.changes, now_ms);
        refused
    }

    fn set_silence(&self, silence: Silence) -> Result<String, DeskError> {
        self.keep_silence(silence)
    }

    fn expire_silence(&self, id: &str) -> Result<(), DeskError> {
        self.end_silence(id)
    }

    fn act_on_alert(&self, fingerprint: &str, act: &Act, by: &str, comment: &str) -> Result<Marks, DeskError> {
        let inner = self.lock();
        let is_meant = |labels: &LabelSet| format!("{:016x}", labels.fingerprint()) == fingerprint;
        let of_rules = inner.engine.rules().find_map(|rule| {
            let mut alerts = rule.alerts();
            Some(rule.alert_key(alerts.find(|alert| is_meant(alert.labels()))?))
        });
        let found = of_rules.or_else(|| Some(inner.outside.iter().find(|one| is_meant(&one.labels))?.key.clone()));
        drop(inner);
        let key = found.ok_or_else(|| DeskError::NoAlert(fingerprint.to_owned()))?;
        self.mark_alert(&key, fingerprint, act, by, comment)
    }

    fn incidents(&self) -> Vec<Incident> {
        self.desk().incidents.iter().cloned().collect()
    }

    fn incident(&self, id: u64) -> Result<(Incident, Vec<Entry>), DeskError> {
        self.timeline(id)
    }

    fn act_on_incident(&self, id: u64, act: &Act, by: &str, comment: &str) -> Result<Incident, DeskError> {
        self.mark_incident(id, act, by, comment)
    }

    fn receivers(&self) -> Vec<String> {
        self.desk().ways.routing.receivers.iter().map(|receiver| receiver.name.to_string()).collect()
    }

    fn receivers_of(&self, labels: &LabelSet) -> Vec<String> {
        self.desk().ways.routing.receivers_of(labels).iter().map(ToString::to_string).collect()
    }

    fn groups(&self) -> Vec<(String, LabelSet, Vec<String>)> {
        let desk = self.desk();
        let groups = desk.dispatcher.groups().filter(|(_, _, alerts)| !alerts.is_empty());
        groups
            .map(|(receiver, labels, alerts)| {
                (receiver.to_owned(), labels.clone(), alerts.iter().map(|alert| alert.fingerprint()).collect())
            })
            .collect()
    }

    fn routes(&self) -> String {
        self.desk().ways.routing.to_yaml()
    }

    fn link(&self, token: &str) -> Option<Token> {
        self.links.read(token, unix_ms())
    }
}

impl Alerts {
    /// Whether rules are evaluated.
    pub(super) fn evaluates(&self) -> bool {
        let last_ms = self.stats.evaluated_ms.load(std::sync::atomic::Ordering::Relaxed);
        unix_ms() - last_ms < ALIVE_MS
    }

    pub(super) fn note_heartbeat(&self, answer: Result<(), String>) {
        let mut heartbeat = self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(()) => {
                heartbeat.taken += 1;
                (heartbeat.last_success_ms, heartbeat.last_error) = (Some(unix_ms()), None);
            }
            Err(reason) => {
                heartbeat.failed += 1;
                heartbeat.last_error = Some(reason);
            }
        }
    }

    pub(super) fn heartbeat_status(&self) -> Option<ReceiverStatus> {
        self.config.heartbeat.as_ref()?;
        let heartbeat = self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(ReceiverStatus {
            name: "heartbeat".to_owned(),
            kind: "heartbeat",
            pending: u64::from(heartbeat.last_error.is_some()),
            delivered: heartbeat.taken,
            failed: heartbeat.failed,
            last_error: heartbeat.last_error,
            last_success_ms: heartbeat.last_success_ms,
            oldest_ms: None,
        })
    }
}
