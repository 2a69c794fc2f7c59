//! The next message: whose turn it is, and what of its groups is said in it.

use std::collections::HashSet;
use std::sync::Arc;

use super::line::Flight;
use super::{Dispatcher, Episode};
use crate::labels::LabelSet;
use crate::message::{Detail, Message};
use crate::notification::Notification;

/// A message to send now. Each must be answered with [`Dispatcher::on_result`].
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The line's number.
    pub line: usize,
    /// The receiver's name.
    pub receiver: Arc<str>,
    /// Which of the receiver's integrations.
    pub integration: usize,
    /// What to tell.
    pub message: Message,
    /// Where the platform keeps the last message about this group, if it may be changed there.
    pub place: Option<String>,
    /// How often the line failed in a row.
    pub failures: u32,
}

impl Dispatcher {
    /// What to send now, one at a time to each line.
    pub fn poll(&mut self, now_ms: i64) -> Option<Attempt> {
        for at in 0..self.lines.len() {
            while self.lines[at].is_idle(now_ms) && !self.lines[at].dirty.is_empty() {
                let ids = self.lines[at].turn();
                if let Some(attempt) = self.attempt(at, &ids, now_ms) {
                    return Some(attempt);
                }
                // Silenced or told meanwhile.
                for id in ids {
                    self.lines[at].dirty.remove(&id);
                }
            }
        }
        None
    }

    fn attempt(&mut self, at: usize, ids: &[u64], now_ms: i64) -> Option<Attempt> {
        let (mut firing, mut over, mut flight) = (Vec::new(), Vec::new(), Flight::default());
        let room = self.lines[at].alerts_max;
        for id in ids {
            let Some(group) = self.groups.get(id) else { continue };
            let seen = self.look(*id, now_ms);
            let heard = |number: &u64| group.told.get(&at).is_some_and(|told| told.episodes.contains_key(number));
            let ends = seen
                .over
                .iter()
                .filter(|(number, unheard)| self.tells_end(group, at, *number, *unheard, seen.route_is_mute));
            // What was not heard yet comes first where there is not room for all.
            let (old, new): (Vec<u64>, Vec<u64>) = seen.firing.iter().copied().partition(heard);
            let all: Vec<(u64, bool)> = ends
                .map(|(number, _)| (*number, true))
                .chain(new.into_iter().chain(old).map(|number| (number, false)))
                .collect();
            let mut included = Vec::new();
            for (number, is_over) in all {
                let Some(episode) = self.episodes.get(&number) else { continue };
                if firing.len() + over.len() >= room {
                    flight.cut = true;
                    break;
                }
                let list = if is_over { &mut over } else { &mut firing };
                list.push(episode.notification.clone());
                included.push((number, is_over));
            }
            flight.groups.push((*id, included));
        }
        if firing.is_empty() && over.is_empty() {
            return None;
        }
        let order = |list: &mut Vec<Arc<Notification>>| {
            list.sort_by(|a, b| (a.fired_at_ms, &a.labels).cmp(&(b.fired_at_ms, &b.labels)));
        };
        order(&mut firing);
        order(&mut over);
        let also = if self.lines[at].sums_up { self.kept_quiet_by(&firing) } else { Vec::new() };
        let group = self.groups.get(&ids[0])?;
        let single = ids.len() == 1;
        let line = &self.lines[at];
        let dirty = line.dirty.get(&ids[0]);
        let message = Message {
            receiver: line.receiver.clone(),
            route_key: if single { self.routing.route(group.route).key.clone() } else { "{}".to_owned() },
            group_labels: if single { group.labels.clone() } else { LabelSet::empty() },
            groups: ids.len(),
            firing,
            over,
            also,
            note: dirty.and_then(|dirty| dirty.note.clone()),
            is_repeat: dirty.is_some_and(|dirty| dirty.repeat),
            detail: if dirty.is_some_and(|dirty| dirty.short) { Detail::Short } else { Detail::Full },
            now_ms,
        };
        let place = group.told.get(&at).filter(|_| single).and_then(|told| told.place.clone());
        let (receiver, integration, failures) =
            (line.receiver.clone(), line.integration, line.counts.failures_in_a_row);
        self.lines[at].in_flight = Some(flight);
        Some(Attempt { line: at, receiver, integration, message, place, failures })
    }

    /// The firing alerts that these keep quiet.
    fn kept_quiet_by(&self, firing: &[Arc<Notification>]) -> Vec<Arc<Notification>> {
        if !self.inhibitor.is_used() {
            return Vec::new();
        }
        let sources: HashSet<u64> = firing.iter().map(|one| one.labels.fingerprint()).collect();
        let quiet = |episode: &&Episode| {
            let alert = &episode.notification;
            let by = self.inhibitor.inhibited_by(&alert.labels, &alert.depends_on);
            !episode.notification.is_over() && by.is_some_and(|by| sources.contains(&by))
        };
        let mut also: Vec<Arc<Notification>> =
            self.episodes.values().filter(quiet).map(|episode| episode.notification.clone()).collect();
        also.sort_by(|a, b| a.labels.cmp(&b.labels));
        also
    }
}
