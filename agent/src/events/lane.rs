//! The events lane: happenings in, numbered frames out.
//!
//! A frame holds one event and is on disk before the call returns, where the disk takes it: events are few and must
//! survive the crash that they may tell of. A flood is cut to a rate, and what is beyond is counted.

use bytes::Bytes;
use pitwatch_shared::delivery::{Backlog, Sender};
use pitwatch_shared::events::Event;

use super::{EventKind, Happening};
use crate::lane::Queue;

/// Events that may come at once.
pub const BURST_EVENTS: u32 = 200;
/// Time for one more after that, milliseconds.
pub const EVENT_EVERY_MS: i64 = 1_000;

/// How many events there were by kind, in the order of [`EventKind::ALL`].
pub type EventCounts = [u64; EventKind::ALL.len()];

/// One agent's events lane.
#[derive(Debug)]
pub struct EventsLane<B> {
    sender: Sender<B>,
    counts: EventCounts,
    refused: u64,
    /// The counts were given once, as 0.
    given: bool,
    room: u32,
    filled_ms: i64,
}

impl<B: Backlog> EventsLane<B> {
    /// A lane over its queue.
    #[must_use]
    pub fn new(sender: Sender<B>) -> Self {
        Self { sender, counts: [0; EventKind::ALL.len()], refused: 0, given: false, room: BURST_EVENTS, filled_ms: 0 }
    }

    /// Queues an event, unless there are too many; `now_ms` is the clock's, which may not be the event's.
    pub fn report(&mut self, now_ms: i64, happening: &Happening) {
        self.counts[happening.kind as usize] += 1;
        if !self.has_room(now_ms) {
            self.refused += 1;
            return;
        }
        let labels: Vec<(&str, &str)> = happening.labels.iter().map(|(name, value)| (*name, &**value)).collect();
        let kind = happening.kind;
        let event = Event::new(happening.time_ms, kind.as_str(), kind.severity(), &happening.summary, &labels);
        match event.encode() {
            Ok(frame) => {
                self.sender.queue(now_ms, true, Bytes::from(frame));
                // What the disk refuses waits in memory; the queue counts and tries again.
                let _ = self.sender.spill();
            }
            Err(_) => self.refused += 1,
        }
    }

    /// How many there were, by kind; the first time 0 of each, so that PromQL sees the first ones as an increase.
    pub fn counts(&mut self) -> EventCounts {
        if std::mem::replace(&mut self.given, true) { self.counts } else { EventCounts::default() }
    }

    /// Events that never came to the collector and will not: over the rate, or dropped at a limit of the queue.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.refused + self.sender.stats().dropped() + self.sender.backlog().dropped()
    }

    fn has_room(&mut self, now_ms: i64) -> bool {
        // A clock that was set back fills nothing until it has caught up, but for this.
        let since_ms = if now_ms < self.filled_ms { EVENT_EVERY_MS } else { now_ms - self.filled_ms };
        let more = since_ms / EVENT_EVERY_MS;
        if more > 0 {
            self.room = u32::try_from(more).unwrap_or(BURST_EVENTS).saturating_add(self.room).min(BURST_EVENTS);
            self.filled_ms = now_ms;
        }
        let has = self.room > 0;
        self.room = self.room.saturating_sub(1);
        has
    }
}

impl<B: Backlog> Queue for EventsLane<B> {
    type Backlog = B;

    fn sender(&mut self) -> &mut Sender<B> {
        &mut self.sender
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitwatch_shared::delivery::{NoBacklog, SenderLimits};

    fn lane() -> EventsLane<NoBacklog> {
        let mut lane = EventsLane::new(Sender::new(7, SenderLimits::default(), NoBacklog));
        lane.sender().connected(None, false);
        lane
    }

    #[test]
    fn an_event_is_one_frame_that_stands_alone() {
        let mut lane = lane();
        let happening = Happening::new(EventKind::OomKill, 5, "killed").with("pid", "3");
        lane.report(9, &happening);
        let frame = lane.sender().transmit().unwrap();
        assert!(frame.begins_chain);
        let event = Event::decode(&frame.payload).unwrap();
        assert_eq!((event.time_ms, &*event.kind, &*event.severity), (5, "oom_kill", "critical"));
        assert_eq!(event.labels, [("pid".to_owned(), "3".to_owned())]);
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut lane = lane();
        let happening = Happening::new(EventKind::DiskError, 0, "sda");
        for _ in 0..BURST_EVENTS + 50 {
            lane.report(1_000_000, &happening);
        }
        assert_eq!(lane.dropped(), 50);
        for _ in 0..10 {
            lane.report(1_000_000 + 3 * EVENT_EVERY_MS, &happening);
        }
        assert_eq!((lane.dropped(), lane.sender().stats().queued), (57, u64::from(BURST_EVENTS) + 3));
        assert_eq!(lane.counts(), EventCounts::default());
        assert_eq!(lane.counts()[EventKind::DiskError as usize], u64::from(BURST_EVENTS) + 60);
    }

    #[test]
    fn kinds_are_counted_in_their_order() {
        for (at, kind) in EventKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, at);
        }
    }
}
