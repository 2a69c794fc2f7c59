//! One integration of one receiver: what it has to hear, when it may be asked again, and how it fared.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits;
use crate::receivers::Integration;

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

/// A line's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Groups with something that it has not heard.
    pub waiting: usize,
    /// Messages taken.
    pub delivered: u64,
    /// Tries that failed and will be made again.
    pub retried: u64,
    /// Messages that the receiver will never take; given up.
    pub refused: u64,
    /// Tries that failed in a row.
    pub failures_in_a_row: u32,
    /// Why the last try failed, until one succeeds.
    pub last_error: Option<String>,
    /// When it last took one.
    pub last_success_ms: Option<i64>,
    /// Since when the oldest has waited.
    pub oldest_ms: Option<i64>,
}

/// A group that a line has to hear of.
#[derive(Clone, Debug)]
pub(super) struct Dirty {
    pub(super) since_ms: i64,
    pub(super) attempts: u32,
    /// Nothing is new; it is only time to say it again.
    pub(super) repeat: bool,
    /// The long form was refused.
    pub(super) short: bool,
    /// The fallback has it.
    pub(super) handed: bool,
    pub(super) note: Option<String>,
}

/// What a message on its way tells.
#[derive(Clone, Debug, Default)]
pub(super) struct Flight {
    /// By group: the episodes in it, and whether they are over.
    pub(super) groups: Vec<(u64, Vec<(u64, bool)>)>,
    /// There was not room for all of them.
    pub(super) cut: bool,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) receiver: Arc<str>,
    pub(super) integration: usize,
    pub(super) kind: &'static str,
    pub(super) send_resolved: bool,
    /// Whether people read it: many groups become one message.
    pub(super) sums_up: bool,
    pub(super) alerts_max: usize,
    min_gap_ms: i64,
    pub(super) dirty: BTreeMap<u64, Dirty>,
    pub(super) in_flight: Option<Flight>,
    pub(super) not_before_ms: i64,
    /// Groups that it will never take, on their way to the fallback.
    pub(super) given_up: Vec<u64>,
    pub(super) counts: LineCounts,
}

impl Line {
    pub(super) fn new(receiver: Arc<str>, at: usize, integration: &Integration) -> Self {
        Self {
            name: format!("{receiver}/{}/{at}", integration.kind.name()),
            receiver,
            integration: at,
            kind: integration.kind.name(),
            send_resolved: integration.send_resolved,
            sums_up: integration.kind.is_for_people(),
            alerts_max: integration.kind.alerts_max(),
            min_gap_ms: integration.kind.min_gap_ms(),
            dirty: BTreeMap::new(),
            in_flight: None,
            not_before_ms: 0,
            given_up: Vec::new(),
            counts: LineCounts::default(),
        }
    }

    pub(super) fn mark(&mut self, group: u64, now_ms: i64, repeat: bool) {
        let fresh = Dirty { since_ms: now_ms, attempts: 0, repeat, short: false, handed: false, note: None };
        let dirty = self.dirty.entry(group).or_insert(fresh);
        dirty.repeat &= repeat;
    }

    pub(super) fn is_idle(&self, now_ms: i64) -> bool {
        self.in_flight.is_none() && self.not_before_ms <= now_ms
    }

    /// The groups of the next message: one, or all where people would drown in messages. What was tried least and has
    /// waited longest comes first, so that one that fails steps aside.
    pub(super) fn turn(&self) -> Vec<u64> {
        if self.sums_up && self.dirty.len() >= limits::SUMMARY_GROUPS_MIN {
            let mut all: Vec<(i64, u64)> = self.dirty.iter().map(|(id, dirty)| (dirty.since_ms, *id)).collect();
            all.sort_unstable();
            return all.into_iter().map(|(_, id)| id).collect();
        }
        let first = self.dirty.iter().min_by_key(|(_, dirty)| (dirty.attempts, dirty.since_ms));
        first.map(|(id, _)| *id).into_iter().collect()
    }

    /// Takes the outcome; whether the groups are done with.
    pub(super) fn finish(&mut self, flight: &Flight, now_ms: i64, outcome: &Outcome, random: &mut u64) -> bool {
        self.not_before_ms = now_ms + self.min_gap_ms;
        let counts = &mut self.counts;
        match outcome {
            Outcome::Delivered => {
                counts.delivered += 1;
                (counts.failures_in_a_row, counts.last_error) = (0, None);
                counts.last_success_ms = Some(now_ms);
            }
            Outcome::Refused { reason } => {
                counts.last_error = Some(shorten(reason));
                let mut retried = false;
                for (id, _) in &flight.groups {
                    if let Some(dirty) = self.dirty.get_mut(id).filter(|dirty| !dirty.short) {
                        (dirty.short, retried) = (true, true);
                    }
                }
                if retried {
                    counts.retried += 1;
                    return false;
                }
                counts.refused += 1;
                self.given_up.extend(flight.groups.iter().map(|(id, _)| *id));
            }
            Outcome::Retry { reason, retry_after_ms } => {
                counts.retried += 1;
                counts.failures_in_a_row = counts.failures_in_a_row.saturating_add(1);
                counts.last_error = Some(shorten(reason));
                let asked = retry_after_ms.unwrap_or(0).clamp(0, limits::RETRY_AFTER_MAX_MS);
                let wait = jitter(random, backoff_ms(counts.failures_in_a_row)).max(asked);
                self.not_before_ms = now_ms + wait.max(self.min_gap_ms);
                for (id, _) in &flight.groups {
                    if let Some(dirty) = self.dirty.get_mut(id) {
                        dirty.attempts = dirty.attempts.saturating_add(1);
                    }
                }
                return false;
            }
        }
        for (id, included) in &flight.groups {
            if !flight.cut || included.is_empty() {
                self.dirty.remove(id);
            }
        }
        true
    }

    pub(super) fn counts(&self) -> LineCounts {
        let oldest_ms = self.dirty.values().map(|dirty| dirty.since_ms).min();
        LineCounts { waiting: self.dirty.len(), oldest_ms, ..self.counts.clone() }
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

fn shorten(reason: &str) -> String {
    reason[..reason.floor_char_boundary(limits::REASON_MAX_BYTES)].to_owned()
}
