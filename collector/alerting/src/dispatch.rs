//! Alerts to messages: which group each belongs to, when it is told to whom, and until when it is tried again.
//!
//! Sans-IO. The collector hands in every transition ([`Dispatcher::take`]) and stores the [`Change`] in the same
//! transaction as the alert's own; lets clocks run ([`Dispatcher::tick`]); asks for messages to send
//! ([`Dispatcher::poll`]) and reports how each went ([`Dispatcher::on_result`]), storing what changes again.
//!
//! What is kept is not a list of messages but what is true and what was told: an *episode* (one firing of one alert,
//! until it is over) stays until every line has heard its end, and of each group and line it is kept which episodes it
//! was told, and how they stood. A message is made when its turn comes, of what is true then. So nothing is lost by a
//! crash at any moment (what was not told is still to be told), a message may be repeated once a crash at most (it was
//! taken, but that was not yet stored), a receiver that was away gets the present and not a backlog, and what waits is
//! bounded by the number of alerts.
//!
//! A *line* is one integration of one receiver with a clock of its own: one that is down delays no other.

mod attempt;
mod line;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

pub use attempt::Attempt;
pub use line::{LineCounts, Outcome};
pub use told::StoredTold;

use crate::labels::{Fnv, LabelSet};
use crate::limits;
use crate::notification::{Notification, Transition};
use crate::routing::Routing;
use crate::routing::inhibit::Inhibitor;
use crate::silences::Silences;
use line::Line;
use told::Told;

/// What must be stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Keep this episode under its number.
    PutEpisode(u64, Arc<Notification>),
    /// Forget the episode of this number.
    RemoveEpisode(u64),
    /// Keep what a line was told of a group.
    PutTold(StoredTold),
    /// Forget what was stored under this key.
    RemoveTold(String),
}

/// What happens to messages that are not taken.
#[derive(Clone, Debug, Default)]
pub struct Fallback {
    /// Who is told instead.
    pub receiver: Option<Arc<str>>,
    /// After how long.
    pub after_ms: i64,
}

/// One firing of one alert.
#[derive(Debug)]
struct Episode {
    notification: Arc<Notification>,
    groups: Vec<u64>,
}

#[derive(Debug)]
struct Group {
    route: usize,
    labels: LabelSet,
    members: BTreeSet<u64>,
    /// Members whose firing was due to be told, or came to a group that speaks already; if they end before, that is told.
    due: HashSet<u64>,
    lines: Vec<usize>,
    told: BTreeMap<usize, Told>,
    next_ms: i64,
    flushed_ms: Option<i64>,
}

/// Everything between transitions and messages.
#[derive(Debug)]
pub struct Dispatcher {
    routing: Arc<Routing>,
    fallback: Fallback,
    episodes: HashMap<u64, Episode>,
    groups: HashMap<u64, Group>,
    timers: BTreeSet<(i64, u64)>,
    lines: Vec<Line>,
    inhibitor: Inhibitor,
    /// Silences; the collector adds and ends them here and stores them.
    pub silences: Silences,
    /// Alerts that somebody acknowledged: they are not repeated.
    acknowledged: HashSet<String>,
    random: u64,
    /// Alerts that no group had room for.
    pub untold: u64,
}

/// The number of an episode: of its alert and of when it began to fire.
#[must_use]
pub fn episode(notification: &Notification) -> u64 {
    let mut hash = Fnv::default();
    hash.add(notification.alert_key.as_bytes());
    hash.add(&notification.fired_at_ms.to_le_bytes());
    hash.0
}

impl Dispatcher {
    /// Without alerts. `seed` feeds the jitter; the same seed and calls give the same times.
    #[must_use]
    pub fn new(routing: Arc<Routing>, fallback: Fallback, silences: Silences, seed: u64) -> Self {
        let lines = routing.receivers.iter().flat_map(|receiver| {
            receiver.integrations.iter().enumerate().map(|(at, kind)| Line::new(receiver.name.clone(), at, kind))
        });
        Self {
            inhibitor: Inhibitor::new(routing.inhibit_rules.clone()),
            lines: lines.collect(),
            routing,
            fallback,
            episodes: HashMap::new(),
            groups: HashMap::new(),
            timers: BTreeSet::new(),
            silences,
            acknowledged: HashSet::new(),
            random: seed,
            untold: 0,
        }
    }

    /// What is stored of it: what [`Dispatcher::restore`] takes, of this one or of one with another routing.
    #[must_use]
    pub fn kept(&self) -> (Vec<Arc<Notification>>, Vec<StoredTold>) {
        let episodes = self.episodes.values().map(|episode| episode.notification.clone()).collect();
        let told = self.groups.iter().flat_map(|(id, group)| {
            group.told.iter().flat_map(|(line, told)| told.stored(*id, &self.lines[*line].name))
        });
        (episodes, told.collect())
    }

    /// Takes back what was stored: episodes, and what lines were told of groups.
    pub fn restore(&mut self, episodes: Vec<Arc<Notification>>, told: Vec<StoredTold>, now_ms: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        for notification in episodes {
            let number = self.insert(notification, now_ms);
            if self.episodes.get(&number).is_some_and(|episode| episode.groups.is_empty()) {
                // As the routes are now, nobody is to hear of it.
                self.episodes.remove(&number);
                changes.push(Change::RemoveEpisode(number));
            }
        }
        let by_name: HashMap<String, usize> =
            self.lines.iter().enumerate().map(|(at, line)| (line.name.clone(), at)).collect();
        let fallback_lines = self.fallback_lines();
        for stored in told {
            let line = by_name.get(&stored.line).copied();
            match (line, self.groups.get_mut(&stored.group)) {
                (Some(line), Some(group)) if group.lines.contains(&line) || fallback_lines.contains(&line) => {
                    if !group.lines.contains(&line) {
                        group.lines.push(line);
                    }
                    group.told.entry(line).or_default().restore(&stored);
                }
                _ => changes.push(Change::RemoveTold(stored.key())),
            }
        }
        changes
    }

    /// Takes a transition. What changes must be stored before the alert's own change, or with it.
    pub fn take(&mut self, notification: Arc<Notification>, now_ms: i64) -> Vec<Change> {
        let number = self.insert(notification.clone(), now_ms);
        if self.episodes.get(&number).is_none_or(|episode| episode.groups.is_empty()) {
            // Nobody is to hear of it.
            self.episodes.remove(&number);
            return Vec::new();
        }
        let is_missing = notification.transition == Transition::NoData;
        let mut changes = vec![Change::PutEpisode(number, notification)];
        if is_missing {
            self.untell(number, &mut changes);
        }
        changes
    }

    /// An alert changed so that it must be told again to those who heard of it.
    fn untell(&mut self, number: u64, changes: &mut Vec<Change>) {
        let groups = self.episodes.get(&number).map(|episode| episode.groups.clone()).unwrap_or_default();
        for id in groups {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            for (line, told) in &mut group.told {
                if told.episodes.remove(&number).is_some() {
                    changes.extend(told.changes(id, &self.lines[*line].name));
                }
            }
        }
    }

    fn insert(&mut self, notification: Arc<Notification>, now_ms: i64) -> u64 {
        let number = episode(&notification);
        self.inhibitor.update(&notification.labels, !notification.is_over());
        if notification.is_over() {
            self.acknowledged.remove(&notification.alert_key);
        }
        if let Some(known) = self.episodes.get_mut(&number) {
            known.notification = notification;
            for group in known.groups.clone() {
                self.wake(group, now_ms);
            }
            return number;
        }
        let mut groups = Vec::new();
        for route in self.routing.matching(&notification.labels) {
            let group = self.join(route, &notification, number, now_ms);
            groups.extend(group);
        }
        self.episodes.insert(number, Episode { notification, groups });
        number
    }

    /// Puts an episode into its group under a route.
    fn join(&mut self, route: usize, notification: &Notification, number: u64, now_ms: i64) -> Option<u64> {
        let at = self.routing.route(route);
        let labels = at.group_by.labels(&notification.labels);
        let mut hash = Fnv::default();
        hash.add(at.key.as_bytes());
        hash.add(&[0xff]);
        hash.add(at.receiver.as_bytes());
        hash.add(&labels.fingerprint().to_le_bytes());
        let id = hash.0;
        if !self.groups.contains_key(&id) {
            let lines: Vec<usize> = (0..self.lines.len()).filter(|l| self.lines[*l].receiver == at.receiver).collect();
            if lines.is_empty() {
                return None;
            }
            // An alert that waited for longer than the group would need not wait again.
            let waited = now_ms - notification.fired_at_ms >= at.group_wait_ms;
            let next_ms = if waited { now_ms } else { now_ms + at.group_wait_ms };
            let (members, due, told) = (BTreeSet::new(), HashSet::new(), BTreeMap::new());
            self.groups.insert(id, Group { route, labels, members, due, lines, told, next_ms, flushed_ms: None });
            self.timers.insert((next_ms, id));
        }
        let is_heard = self.routing.muted_by(at, now_ms).is_none() && !self.is_quiet(notification, now_ms);
        let group = self.groups.get_mut(&id)?;
        if group.members.len() >= limits::GROUP_ALERTS_MAX {
            self.untold += 1;
            return None;
        }
        group.members.insert(number);
        // Over, and kept because somebody had to hear of it; or the group's first wait, which is there to let short ones
        // pass, is behind it: its interval only gathers.
        if notification.is_over() || (group.flushed_ms.is_some() && is_heard) {
            group.due.insert(number);
        }
        self.wake(id, now_ms);
        Some(id)
    }

    /// A group has something new: it is looked at as soon as its interval allows.
    fn wake(&mut self, id: u64, now_ms: i64) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(flushed_ms) = group.flushed_ms else { return };
        let soonest = now_ms.max(flushed_ms + self.routing.route(group.route).group_interval_ms);
        if soonest < group.next_ms {
            self.timers.remove(&(group.next_ms, id));
            group.next_ms = soonest;
            self.timers.insert((soonest, id));
        }
    }

    /// Notes that somebody acknowledged an alert, or took that back.
    pub fn acknowledge(&mut self, alert_key: &str, yes: bool) {
        match yes {
            true => self.acknowledged.insert(alert_key.to_owned()),
            false => self.acknowledged.remove(alert_key),
        };
    }

    /// Looks at the groups whose time has come, and at what lines did not take for long.
    pub fn tick(&mut self, now_ms: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some((due_ms, id)) = self.timers.first().copied().filter(|(due_ms, _)| *due_ms <= now_ms) {
            self.timers.remove(&(due_ms, id));
            self.flush(id, now_ms);
            self.collect(id, &mut changes);
        }
        self.fall_back(now_ms);
        changes
    }

    fn flush(&mut self, id: u64, now_ms: i64) {
        let Some(group) = self.groups.get(&id) else { return };
        let route = self.routing.route(group.route);
        let (lines, interval_ms) = (group.lines.clone(), route.group_interval_ms);
        let seen = self.look(id, now_ms);
        let mut next_ms = if seen.any_muted { now_ms + interval_ms } else { i64::MAX };
        for line in lines {
            let group = &self.groups[&id];
            let news = self.news(group, line, &seen);
            let repeat_ms = self.repeat_due_ms(group, line, &seen);
            if news || repeat_ms.is_some_and(|due_ms| due_ms <= now_ms) {
                self.lines[line].mark(id, now_ms, !news);
            }
            if let Some(due_ms) = repeat_ms {
                next_ms = next_ms.min(due_ms.max(now_ms + interval_ms));
            }
        }
        // A message on its way starts the repeat's clock when it arrives: look again then.
        next_ms = next_ms.min(now_ms + interval_ms.max(limits::GROUP_LOOK_MS));
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.due.extend(seen.firing.iter().copied());
        group.flushed_ms = Some(now_ms);
        group.next_ms = next_ms;
        self.timers.insert((next_ms, id));
    }

    /// Who of a group is to be heard of now.
    fn look(&self, id: u64, now_ms: i64) -> Seen {
        let group = &self.groups[&id];
        let route_is_mute = self.routing.muted_by(self.routing.route(group.route), now_ms).is_some();
        let mut seen = Seen { any_muted: route_is_mute, ..Seen::default() };
        for number in &group.members {
            let Some(episode) = self.episodes.get(number) else { continue };
            let notification = &episode.notification;
            if notification.is_over() {
                // Its end is told even under a silence, to those who heard of its beginning.
                let unheard = route_is_mute || self.is_quiet(notification, now_ms);
                seen.over.push((*number, unheard));
            } else if route_is_mute || self.is_quiet(notification, now_ms) {
                seen.any_muted = true;
            } else {
                seen.firing.push(*number);
            }
        }
        seen.route_is_mute = route_is_mute;
        seen
    }

    fn is_quiet(&self, alert: &Notification, now_ms: i64) -> bool {
        self.inhibitor.inhibited_by(&alert.labels, &alert.depends_on).is_some()
            || self.silences.is_silenced(&alert.labels, now_ms)
    }

    /// Whether a line has not heard what is to be heard.
    fn news(&self, group: &Group, line: usize, seen: &Seen) -> bool {
        let told = group.told.get(&line);
        let heard = |number: &u64| told.and_then(|told| told.episodes.get(number).copied());
        seen.firing.iter().any(|number| heard(number).is_none())
            || seen
                .over
                .iter()
                .any(|(number, unheard)| self.tells_end(group, line, *number, *unheard, seen.route_is_mute))
    }

    /// Whether a line is to hear of an end: it heard of the beginning, or should have.
    fn tells_end(&self, group: &Group, line: usize, number: u64, unheard: bool, route_is_mute: bool) -> bool {
        match group.told.get(&line).and_then(|told| told.episodes.get(&number)) {
            Some(true) => false,
            Some(false) => self.lines[line].send_resolved && !route_is_mute,
            None => group.due.contains(&number) && !unheard,
        }
    }

    /// When what a line was told is said again; never while nothing was told or all is acknowledged.
    fn repeat_due_ms(&self, group: &Group, line: usize, seen: &Seen) -> Option<i64> {
        let told = group.told.get(&line)?;
        let waits = |number: &u64| {
            let episode = self.episodes.get(number);
            told.episodes.contains_key(number)
                && episode.is_some_and(|episode| !self.acknowledged.contains(&episode.notification.alert_key))
        };
        seen.firing.iter().any(waits).then(|| told.at_ms + self.routing.route(group.route).repeat_interval_ms)
    }

    /// Forgets episodes that are over and of which every line has heard, and groups of which nothing is left.
    fn collect(&mut self, id: u64, changes: &mut Vec<Change>) {
        let Some(group) = self.groups.get(&id) else { return };
        let (members, lines) = (group.members.clone(), group.lines.clone());
        let route_is_mute = false;
        let done = |number: &u64| {
            let over = self.episodes.get(number).is_none_or(|episode| episode.notification.is_over());
            over && lines.iter().all(|line| !self.tells_end(group, *line, *number, false, route_is_mute))
        };
        let done: Vec<u64> = members.into_iter().filter(done).collect();
        if done.is_empty() {
            return;
        }
        for number in &done {
            self.leave(*number, id, changes);
        }
        let Some(group) = self.groups.get_mut(&id) else { return };
        for (line, told) in &mut group.told {
            if done.iter().filter(|number| told.episodes.remove(*number).is_some()).count() > 0 {
                changes.extend(told.changes(id, &self.lines[*line].name));
            }
        }
        if group.members.is_empty() {
            self.timers.remove(&(group.next_ms, id));
            for line in &mut self.lines {
                line.dirty.remove(&id);
            }
            self.groups.remove(&id);
        }
    }

    fn leave(&mut self, number: u64, id: u64, changes: &mut Vec<Change>) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.members.remove(&number);
            group.due.remove(&number);
        }
        let Some(episode) = self.episodes.get_mut(&number) else { return };
        episode.groups.retain(|group| *group != id);
        if episode.groups.is_empty() {
            self.episodes.remove(&number);
            changes.push(Change::RemoveEpisode(number));
        }
    }

    fn fallback_lines(&self) -> Vec<usize> {
        let receiver = self.fallback.receiver.as_ref();
        (0..self.lines.len()).filter(|line| Some(&self.lines[*line].receiver) == receiver).collect()
    }

    /// Hands what a failing line did not take for long to the fallback.
    fn fall_back(&mut self, now_ms: i64) {
        let targets = self.fallback_lines();
        if targets.is_empty() {
            return;
        }
        let mut handed: Vec<(u64, String)> = Vec::new();
        for (at, line) in self.lines.iter_mut().enumerate() {
            if targets.contains(&at) || (line.counts.failures_in_a_row == 0 && line.given_up.is_empty()) {
                continue;
            }
            let error = line.counts.last_error.clone().unwrap_or_default();
            let note = format!("for {}, which does not take it: {error}", line.receiver);
            handed.extend(line.given_up.drain(..).map(|id| (id, note.clone())));
            for (id, dirty) in &mut line.dirty {
                if !dirty.handed && now_ms - dirty.since_ms >= self.fallback.after_ms {
                    dirty.handed = true;
                    handed.push((*id, note.clone()));
                }
            }
        }
        for (id, note) in handed {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            for line in &targets {
                if !group.lines.contains(line) {
                    group.lines.push(*line);
                }
                self.lines[*line].mark(id, now_ms, false);
                if let Some(dirty) = self.lines[*line].dirty.get_mut(&id) {
                    dirty.note = Some(note.clone());
                }
            }
        }
    }

    /// Takes the outcome of an attempt. `place` is where the platform keeps the message, if it may be changed there.
    pub fn on_result(&mut self, at: usize, now_ms: i64, outcome: &Outcome, place: Option<&str>) -> Vec<Change> {
        let Some(line) = self.lines.get_mut(at) else { return Vec::new() };
        let Some(flight) = line.in_flight.take() else { return Vec::new() };
        let done = line.finish(&flight, now_ms, outcome, &mut self.random);
        let mut changes = Vec::new();
        if !done {
            return changes;
        }
        for (id, included) in &flight.groups {
            let Some(group) = self.groups.get_mut(id) else { continue };
            let told = group.told.entry(at).or_default();
            told.at_ms = now_ms;
            if let Some(place) = place {
                told.place = Some(place.to_owned());
            }
            told.episodes.extend(included.iter().copied());
            changes.extend(told.changes(*id, &self.lines[at].name));
            self.collect(*id, &mut changes);
            self.wake(*id, now_ms);
        }
        changes
    }

    /// When [`Dispatcher::tick`] or [`Dispatcher::poll`] will next have something to do.
    #[must_use]
    pub fn due_ms(&self) -> Option<i64> {
        let lines = self.lines.iter().filter(|line| line.in_flight.is_none() && !line.dirty.is_empty());
        let lines = lines.map(|line| line.not_before_ms).min();
        let timer = self.timers.first().map(|(due_ms, _)| *due_ms);
        [lines, timer].into_iter().flatten().min()
    }

    /// The figures of every line: its receiver's name, or its own where the receiver has several; kind; counts.
    pub fn counts(&self) -> impl Iterator<Item = (&str, &'static str, LineCounts)> {
        self.lines.iter().map(|line| {
            let alone = self.lines.iter().filter(|other| other.receiver == line.receiver).count() == 1;
            (if alone { &*line.receiver } else { &*line.name }, line.kind, line.counts())
        })
    }

    /// What routes alerts.
    #[must_use]
    pub fn routing(&self) -> &Arc<Routing> {
        &self.routing
    }

    /// The fingerprint of the alert that keeps one with these labels quiet.
    #[must_use]
    pub fn inhibited_by(&self, labels: &LabelSet, depends_on: &[LabelSet]) -> Option<u64> {
        self.inhibitor.inhibited_by(labels, depends_on)
    }

    /// Groups that have firing alerts: receiver, labels, and their alerts.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &LabelSet, Vec<&Arc<Notification>>)> {
        self.groups.values().map(|group| {
            let members = group.members.iter().filter_map(|number| self.episodes.get(number));
            let members = members.map(|episode| &episode.notification).filter(|one| !one.is_over()).collect();
            (&*self.routing.route(group.route).receiver, &group.labels, members)
        })
    }

    /// Episodes that are kept.
    #[must_use]
    pub fn episodes(&self) -> usize {
        self.episodes.len()
    }
}

/// Who of a group is to be heard of.
#[derive(Default)]
struct Seen {
    firing: Vec<u64>,
    /// Those that are over, and whether they would not have been heard of.
    over: Vec<(u64, bool)>,
    any_muted: bool,
    route_is_mute: bool,
}

#[cfg(test)]
mod tests;
