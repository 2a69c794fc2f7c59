//! Deliveries that wait until their receiver has taken them: at least once, in order per alert.
//!
//! Sans-IO. The collector pushes each notification for each receiver it goes to and stores the entry in the same
//! transaction as the alert's change; then it asks [`Queue::poll`] what to send now, sends it, and reports with
//! [`Queue::on_result`], which says how the stored entry changes. Each receiver has its own line and its own clock,
//! so that one that is down never delays another. Within a receiver an entry that is refused again and again steps
//! aside for those of other alerts, never for a later one of the same alert.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::notification::Notification;

/// A delivery as the state store keeps it. New fields need a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredDelivery {
    /// Its number; the key to store it under, and the order.
    pub id: u64,
    /// The receiver's name.
    pub receiver: String,
    /// What to tell.
    pub notification: Arc<Notification>,
    /// When it was queued, Unix milliseconds.
    pub queued_at_ms: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// Not to be tried before.
    pub not_before_ms: i64,
    /// Why the last try failed.
    pub last_error: Option<String>,
}

/// Something to send now. Each must be answered with [`Queue::on_result`].
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The delivery's number.
    pub id: u64,
    /// To whom.
    pub receiver: String,
    /// What.
    pub notification: Arc<Notification>,
    /// How often it was tried before.
    pub attempts: u32,
}

/// How an attempt went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It may go better later.
    Retry {
        /// Why, for people.
        reason: String,
        /// What the receiver asked to wait.
        retry_after_ms: Option<i64>,
    },
    /// The receiver will never take this message.
    Refused {
        /// Why, for people.
        reason: String,
    },
}

impl Outcome {
    /// The outcome of an HTTP answer. Only what blames the message itself is final: a wrong address or a missing
    /// permission is for an operator to put right, and the message waits until then.
    #[must_use]
    pub fn from_http(status: u16, retry_after_ms: Option<i64>, body: &str) -> Self {
        let reason = || format!("HTTP {status}: {}", body.trim());
        match status {
            200..=299 => Self::Delivered,
            400 | 413 | 422 => Self::Refused { reason: reason() },
            _ => Self::Retry { reason: reason(), retry_after_ms },
        }
    }
}

/// How a stored delivery changes.
#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryChange {
    /// Store it again.
    Put(StoredDelivery),
    /// Remove the delivery of this number.
    Remove(u64),
}

/// A receiver's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiverCounts {
    /// Deliveries that wait.
    pub waiting: usize,
    /// Deliveries taken.
    pub delivered: u64,
    /// Tries that failed and will be made again.
    pub retried: u64,
    /// Deliveries that the receiver will never take; given up.
    pub refused: u64,
    /// Deliveries given up for their age.
    pub expired: u64,
    /// Deliveries dropped because too many waited.
    pub dropped: u64,
    /// Tries that failed in a row.
    pub failures_in_a_row: u32,
    /// Why the last try failed, until one succeeds.
    pub last_error: Option<String>,
    /// When the oldest waiting delivery was queued.
    pub oldest_queued_at_ms: Option<i64>,
}

#[derive(Debug, Default)]
struct Line {
    entries: BTreeMap<u64, StoredDelivery>,
    in_flight: Option<u64>,
    not_before_ms: i64,
    min_gap_ms: i64,
    counts: ReceiverCounts,
}

/// All lines.
#[derive(Debug)]
pub struct Queue {
    lines: BTreeMap<String, Line>,
    next_id: u64,
    random: u64,
}

impl Queue {
    /// An empty queue. `seed` feeds the jitter; the same seed and calls give the same times.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { lines: BTreeMap::new(), next_id: 1, random: seed }
    }

    /// Takes back what was stored. What was in flight is sent again.
    pub fn restore(&mut self, stored: impl IntoIterator<Item = StoredDelivery>) {
        for entry in stored {
            self.next_id = self.next_id.max(entry.id + 1);
            let line = self.lines.entry(entry.receiver.clone()).or_default();
            line.entries.insert(entry.id, entry);
        }
    }

    /// The least time between two messages to a receiver, as its platform's rate limit asks.
    pub fn set_min_gap_ms(&mut self, receiver: &str, min_gap_ms: i64) {
        self.lines.entry(receiver.to_owned()).or_default().min_gap_ms = min_gap_ms;
    }

    /// Queues a notification for a receiver. The changes are the entry to store, and the oldest entry to remove if
    /// the line was full.
    pub fn push(&mut self, now_ms: i64, receiver: &str, notification: Arc<Notification>) -> Vec<DeliveryChange> {
        let id = self.next_id;
        self.next_id += 1;
        let receiver = receiver.to_owned();
        let line = self.lines.entry(receiver.clone()).or_default();
        let mut changes = Vec::with_capacity(1);
        if line.entries.len() >= limits::DELIVERIES_PER_RECEIVER_MAX {
            let in_flight = line.in_flight;
            let oldest = line.entries.keys().copied().find(|id| Some(*id) != in_flight);
            if let Some(oldest) = oldest {
                line.entries.remove(&oldest);
                line.counts.dropped += 1;
                changes.push(DeliveryChange::Remove(oldest));
            }
        }
        let (queued_at_ms, attempts, not_before_ms, last_error) = (now_ms, 0, now_ms, None);
        let entry = StoredDelivery { id, receiver, notification, queued_at_ms, attempts, not_before_ms, last_error };
        line.entries.insert(id, entry.clone());
        changes.push(DeliveryChange::Put(entry));
        changes
    }

    /// What to send now, one at a time to each receiver.
    pub fn poll(&mut self, now_ms: i64) -> Option<Attempt> {
        self.lines.values_mut().find_map(|line| {
            if line.in_flight.is_some() || line.not_before_ms > now_ms {
                return None;
            }
            let entry = line.candidates().find(|entry| entry.not_before_ms <= now_ms)?;
            let (id, attempts) = (entry.id, entry.attempts);
            let (receiver, notification) = (entry.receiver.clone(), entry.notification.clone());
            line.in_flight = Some(id);
            Some(Attempt { id, receiver, notification, attempts })
        })
    }

    /// When [`Queue::poll`] will next have something; `None` while all that waits is in flight.
    #[must_use]
    pub fn due_ms(&self) -> Option<i64> {
        let idle = self.lines.values().filter(|line| line.in_flight.is_none());
        idle.filter_map(|line| {
            let first = line.candidates().map(|entry| entry.not_before_ms).min()?;
            Some(first.max(line.not_before_ms))
        })
        .min()
    }

    /// Takes the outcome of an attempt. `None` if no such attempt is in flight.
    pub fn on_result(&mut self, id: u64, now_ms: i64, outcome: Outcome) -> Option<DeliveryChange> {
        let line = self.lines.values_mut().find(|line| line.in_flight == Some(id))?;
        line.in_flight = None;
        line.not_before_ms = now_ms + line.min_gap_ms;
        let entry = line.entries.get_mut(&id)?;
        let counts = &mut line.counts;
        match outcome {
            Outcome::Delivered => {
                counts.delivered += 1;
                (counts.failures_in_a_row, counts.last_error) = (0, None);
            }
            Outcome::Refused { reason } => {
                counts.refused += 1;
                counts.last_error = Some(shorten(reason));
            }
            Outcome::Retry { reason, .. } if now_ms - entry.queued_at_ms >= limits::DELIVERY_AGE_MAX_MS => {
                counts.expired += 1;
                counts.last_error = Some(shorten(reason));
            }
            Outcome::Retry { reason, retry_after_ms } => {
                entry.attempts = entry.attempts.saturating_add(1);
                counts.retried += 1;
                counts.failures_in_a_row = counts.failures_in_a_row.saturating_add(1);
                let asked = retry_after_ms.unwrap_or(0).clamp(0, limits::RETRY_AFTER_MAX_MS);
                let line_wait = jitter(&mut self.random, backoff_ms(counts.failures_in_a_row)).max(asked);
                let entry_wait = jitter(&mut self.random, backoff_ms(entry.attempts)).max(asked);
                line.not_before_ms = now_ms + line_wait.max(line.min_gap_ms);
                entry.not_before_ms = now_ms + entry_wait;
                let reason = shorten(reason);
                counts.last_error = Some(reason.clone());
                entry.last_error = Some(reason);
                return Some(DeliveryChange::Put(entry.clone()));
            }
        }
        line.entries.remove(&id);
        Some(DeliveryChange::Remove(id))
    }

    /// Drops the lines of receivers that the configuration no longer knows; the changes remove their entries.
    pub fn retain_receivers(&mut self, known: impl Fn(&str) -> bool) -> Vec<DeliveryChange> {
        let mut changes = Vec::new();
        self.lines.retain(|receiver, line| {
            let kept = known(receiver);
            if !kept {
                changes.extend(line.entries.keys().map(|id| DeliveryChange::Remove(*id)));
            }
            kept
        });
        changes
    }

    /// The figures of every receiver.
    pub fn counts(&self) -> impl Iterator<Item = (&str, ReceiverCounts)> {
        self.lines.iter().map(|(receiver, line)| {
            let oldest_queued_at_ms = line.entries.values().next().map(|entry| entry.queued_at_ms);
            (&**receiver, ReceiverCounts { waiting: line.entries.len(), oldest_queued_at_ms, ..line.counts.clone() })
        })
    }
}

impl Line {
    /// The first waiting entry of every alert, in the order queued.
    fn candidates(&self) -> impl Iterator<Item = &StoredDelivery> {
        let mut alerts = HashSet::new();
        self.entries.values().filter(move |entry| alerts.insert(&*entry.notification.alert_key))
    }
}

/// The longest wait after so many failures: exponential from [`limits::BACKOFF_FIRST_MS`] to
/// [`limits::BACKOFF_MAX_MS`].
fn backoff_ms(failures: u32) -> i64 {
    let doublings = failures.saturating_sub(1).min(16);
    (limits::BACKOFF_FIRST_MS << doublings).min(limits::BACKOFF_MAX_MS)
}

/// Full jitter: anything from 1 to `most_ms` ("Exponential Backoff and Jitter", AWS architecture blog, 2015), with
/// numbers from `SplitMix64`.
fn jitter(state: &mut u64, most_ms: i64) -> i64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    1 + i64::try_from((z ^ (z >> 31)) >> 1).unwrap_or(0) % most_ms
}

fn shorten(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(limits::REASON_MAX_BYTES));
    reason
}

#[cfg(test)]
mod tests;
