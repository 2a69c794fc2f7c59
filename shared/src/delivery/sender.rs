//! The agent's side of one lane: everything not yet acknowledged, in order, within limits.
//!
//! Three places, oldest first: `inflight` (handed to the transport, not acknowledged), the backlog (on disk, see
//! [`Backlog`]) and `tail` (in memory). While the collector is away, the driver calls [`Sender::spill`] to move the
//! tail to the backlog. At a limit the oldest frames go first, up to the next one that begins a chain, since those
//! between could not be decoded; every loss is counted in [`Stats`].

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use crate::model::Mark;

/// After a lost numbering the sender goes on at least this many epochs after the last durable one, and at most twice as
/// many, by its clock: frames of the starts just before or after the loss may have reached the collector and not yet
/// its disk, and their epochs must not be used again.
pub const EPOCHS_SKIPPED: u64 = 1 << 16;

/// A numbered frame that waits for its ack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number.
    pub mark: Mark,
    /// It can be decoded without the frames before it.
    pub begins_chain: bool,
    /// When it was queued, milliseconds since the Unix epoch.
    pub queued_ms: i64,
    /// What the codec wrote.
    pub payload: Bytes,
}

/// Bounds of a sender.
#[derive(Clone, Copy, Debug)]
pub struct SenderLimits {
    /// Payload bytes that may wait in memory.
    pub memory_bytes: usize,
    /// Payload bytes that may be under way without an ack; one frame always may.
    pub window_bytes: usize,
    /// Frames older than this are dropped, milliseconds.
    pub age_ms: i64,
    /// While the collector is away a chain begins anew after this many payload bytes, so that a later loss of the
    /// oldest frames stays small.
    pub chain_bytes: usize,
}

impl Default for SenderLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 8 * 1024 * 1024,
            window_bytes: 256 * 1024,
            age_ms: 24 * 3600 * 1000,
            chain_bytes: 256 * 1024,
        }
    }
}

/// Where frames wait on disk: older than all that the sender holds in memory but those under way.
///
/// An error leaves the backlog as it was, or without what could not be read (which it counts).
pub trait Backlog {
    /// Adds frames after all others, durably. May drop the oldest for room, up to one that begins a chain.
    ///
    /// # Errors
    /// The disk's; then none of `frames` was added.
    fn append(&mut self, frames: &[Frame]) -> io::Result<()>;
    /// The first frame after `mark` (or the very first).
    ///
    /// # Errors
    /// The disk's.
    fn after(&mut self, mark: Option<Mark>) -> io::Result<Option<Frame>>;
    /// Frames up to `mark` are not needed any more.
    fn release(&mut self, mark: Mark);
    /// Drops frames queued before `oldest_ms`, up to one that begins a chain.
    fn expire(&mut self, oldest_ms: i64);
    /// The last frame's mark.
    fn last(&self) -> Option<Mark>;
    /// Payload bytes that wait.
    fn bytes(&self) -> u64;
    /// Frames dropped at a limit or lost to damage, since the start.
    fn dropped(&self) -> u64;
}

/// No disk: what does not fit in memory is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBacklog;

impl Backlog for NoBacklog {
    fn append(&mut self, _frames: &[Frame]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn after(&mut self, _mark: Option<Mark>) -> io::Result<Option<Frame>> {
        Ok(None)
    }
    fn release(&mut self, _mark: Mark) {}
    fn expire(&mut self, _oldest_ms: i64) {}
    fn last(&self) -> Option<Mark> {
        None
    }
    fn bytes(&self) -> u64 {
        0
    }
    fn dropped(&self) -> u64 {
        0
    }
}

/// What a sender did and lost, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames queued.
    pub queued: u64,
    /// Frames acknowledged.
    pub acked: u64,
    /// Frames dropped for want of room.
    pub dropped_full: u64,
    /// Frames dropped for their age.
    pub dropped_age: u64,
    /// Frames dropped because the chain before them is lost.
    pub dropped_chain: u64,
    /// Times that the backlog's disk failed.
    pub disk_errors: u64,
}

impl Stats {
    /// All frames lost in memory; the backlog counts its own.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped_full + self.dropped_age + self.dropped_chain
    }
}

/// The peer acknowledged what was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an ack for frame {0:?}, which was never sent")]
pub struct AckError(pub Mark);

/// One lane's queue of unacknowledged frames.
#[derive(Debug)]
pub struct Sender<B> {
    limits: SenderLimits,
    backlog: B,
    inflight: VecDeque<Inflight>,
    inflight_bytes: usize,
    tail: VecDeque<Frame>,
    tail_bytes: usize,
    last_queued: Mark,
    last_queued_ms: i64,
    /// The last mark handed out, or known to be durable, on this connection: the next frame follows it or begins a chain.
    position: Option<Mark>,
    connected: bool,
    chain_broken: bool,
    chain_bytes: usize,
    stats: Stats,
}

#[derive(Debug)]
struct Inflight {
    frame: Frame,
    /// The backlog has it too.
    stored: bool,
}

impl<B: Backlog> Sender<B> {
    /// A sender whose own frames are of `epoch`, after those that `backlog` kept from earlier epochs.
    #[must_use]
    pub fn new(epoch: u64, limits: SenderLimits, backlog: B) -> Self {
        Self {
            limits,
            backlog,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            tail: VecDeque::new(),
            tail_bytes: 0,
            last_queued: Mark { epoch, seq: 0 },
            last_queued_ms: 0,
            position: None,
            connected: false,
            chain_broken: true,
            chain_bytes: 0,
            stats: Stats::default(),
        }
    }

    /// Whether the next frame queued must begin a chain.
    #[must_use]
    pub fn wants_chain(&self) -> bool {
        let stalled = self.backlog.last().is_some() || self.tail_bytes >= self.limits.chain_bytes;
        let waiting = !self.connected || stalled;
        self.chain_broken || (waiting && self.chain_bytes >= self.limits.chain_bytes)
    }

    /// The chain cannot go on (its encoder failed): the next frame must begin one.
    pub fn break_chain(&mut self) {
        self.chain_broken = true;
    }

    /// Queues a frame. One that goes on a broken chain is dropped and counted: ask [`Sender::wants_chain`] first.
    pub fn queue(&mut self, now_ms: i64, begins_chain: bool, payload: Bytes) -> Mark {
        let mark = Mark { seq: self.last_queued.seq + 1, ..self.last_queued };
        self.last_queued = mark;
        self.last_queued_ms = now_ms;
        self.stats.queued += 1;
        if self.chain_broken && !begins_chain {
            self.stats.dropped_chain += 1;
            return mark;
        }
        self.chain_broken = false;
        self.chain_bytes = payload.len() + if begins_chain { 0 } else { self.chain_bytes };
        self.tail_bytes += payload.len();
        self.tail.push_back(Frame { mark, begins_chain, queued_ms: now_ms, payload });
        self.keep_to_memory();
        mark
    }

    /// A connection is up; the collector has everything up to `durable` on disk and can decode what follows it if
    /// `chain_known`.
    ///
    /// A mark that this sender never gave means that the agent's numbering was lost (its data was wiped while its
    /// clock was behind): the sender goes on in a later epoch, see [`Sender::epoch`].
    pub fn connected(&mut self, durable: Option<Mark>, chain_known: bool) {
        self.disconnected();
        self.connected = true;
        match durable {
            Some(durable) if durable > self.last_queued => {
                let by_clock = self.last_queued_ms.unsigned_abs() % EPOCHS_SKIPPED;
                self.begin_epoch(durable.epoch.saturating_add(EPOCHS_SKIPPED + by_clock));
            }
            Some(durable) => self.release(durable),
            None => {}
        }
        self.position = durable.filter(|_| chain_known);
        // Frames up to the durable mark may all be gone; then only the next one queued can tell.
        if self.tail.is_empty() && self.backlog.last().is_none() && self.position != Some(self.last_queued) {
            self.chain_broken = true;
        }
    }

    /// The epoch of the frames queued now.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.last_queued.epoch
    }

    /// The connection is gone: what was under way waits again.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.position = None;
        while let Some(Inflight { frame, stored }) = self.inflight.pop_back() {
            if !stored {
                self.tail_bytes += frame.payload.len();
                self.tail.push_front(frame);
            }
        }
        self.inflight_bytes = 0;
        self.keep_to_memory();
    }

    /// The next frame to send, if the window has room.
    pub fn transmit(&mut self) -> Option<&Frame> {
        if !self.connected || (self.inflight_bytes >= self.limits.window_bytes && !self.inflight.is_empty()) {
            return None;
        }
        loop {
            let (frame, stored) = self.take_next()?;
            let follows = self.position.is_some_and(|p| p.epoch == frame.mark.epoch && p.seq + 1 == frame.mark.seq);
            if !frame.begins_chain && !follows {
                self.stats.dropped_chain += 1;
                if stored {
                    self.backlog.release(frame.mark);
                }
                self.chain_broken |= frame.mark == self.last_queued;
                continue;
            }
            self.position = Some(frame.mark);
            self.inflight_bytes += frame.payload.len();
            self.inflight.push_back(Inflight { frame, stored });
            return self.inflight.back().map(|inflight| &inflight.frame);
        }
    }

    /// The collector has everything up to `mark` on disk. That may be more than was sent on this connection: frames of
    /// the one before can become durable after this one began.
    ///
    /// # Errors
    /// A mark that was never given.
    pub fn acked(&mut self, mark: Mark) -> Result<(), AckError> {
        if !self.connected || mark > self.last_queued {
            return Err(AckError(mark));
        }
        self.release(mark);
        // The collector took it, so the frame after it may go on its chain.
        self.position = self.position.max(Some(mark));
        Ok(())
    }

    /// Moves what waits in memory to the backlog.
    ///
    /// # Errors
    /// The backlog's disk; then all stays in memory.
    pub fn spill(&mut self) -> io::Result<()> {
        // What is under way goes along, so that the backlog stays the older part.
        let unstored = self.inflight.iter().filter(|inflight| !inflight.stored).map(|inflight| &inflight.frame);
        let frames: Vec<Frame> = unstored.chain(&self.tail).cloned().collect();
        if frames.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.backlog.append(&frames) {
            self.stats.disk_errors += u64::from(error.kind() != io::ErrorKind::Unsupported);
            return Err(error);
        }
        self.inflight.iter_mut().for_each(|inflight| inflight.stored = true);
        self.tail.clear();
        self.tail_bytes = 0;
        Ok(())
    }

    /// Drops what is over the age limit.
    pub fn expire(&mut self, now_ms: i64) {
        let oldest_ms = now_ms.saturating_sub(self.limits.age_ms);
        let stored = self.backlog.last().is_some();
        self.backlog.expire(oldest_ms);
        while self.tail.front().is_some_and(|frame| frame.queued_ms < oldest_ms) {
            self.stats.dropped_age += self.drop_oldest_of_tail();
        }
        // If the last frame went with the backlog, the next one has nothing to go on.
        let emptied = stored && self.backlog.last().is_none() && self.tail.is_empty();
        self.chain_broken |= emptied && self.position != Some(self.last_queued);
    }

    /// When the oldest frame in memory was queued, milliseconds since the Unix epoch.
    #[must_use]
    pub fn oldest_in_memory_ms(&self) -> Option<i64> {
        let inflight = self.inflight.iter().find(|inflight| !inflight.stored).map(|inflight| &inflight.frame);
        inflight.or(self.tail.front()).map(|frame| frame.queued_ms)
    }

    /// Whether everything queued was acknowledged or dropped.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.inflight.is_empty() && self.tail.is_empty() && self.backlog.last().is_none()
    }

    /// Payload bytes that wait in memory, those under way included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.tail_bytes + self.inflight_bytes
    }

    /// Frames that wait in memory, those under way included.
    #[must_use]
    pub fn memory_frames(&self) -> usize {
        self.tail.len() + self.inflight.len()
    }

    /// What was done and lost.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The disk part.
    #[must_use]
    pub fn backlog(&self) -> &B {
        &self.backlog
    }

    /// Numbers what waits in memory anew. What is on disk goes, counted: the collector would take its numbers for frames
    /// that it has, and an old disk that was put back may even hold such frames.
    fn begin_epoch(&mut self, epoch: u64) {
        self.backlog.expire(i64::MAX);
        self.last_queued = Mark { epoch, seq: 0 };
        for frame in &mut self.tail {
            self.last_queued.seq += 1;
            frame.mark = self.last_queued;
        }
    }

    fn take_next(&mut self) -> Option<(Frame, bool)> {
        let after = self.inflight.back().map(|inflight| inflight.frame.mark).max(self.position);
        match self.backlog.after(after) {
            Ok(Some(frame)) => return Some((frame, true)),
            Ok(None) => {}
            Err(_) => {
                // The tail is younger than what cannot be read now: it waits too.
                self.stats.disk_errors += 1;
                return None;
            }
        }
        let frame = self.tail.pop_front()?;
        self.tail_bytes -= frame.payload.len();
        Some((frame, false))
    }

    fn release(&mut self, mark: Mark) {
        while let Some(inflight) = self.inflight.pop_front_if(|inflight| inflight.frame.mark <= mark) {
            self.inflight_bytes -= inflight.frame.payload.len();
            self.stats.acked += 1;
        }
        while let Some(frame) = self.tail.pop_front_if(|frame| frame.mark <= mark) {
            self.tail_bytes -= frame.payload.len();
            self.stats.acked += 1;
        }
        self.backlog.release(mark);
    }

    fn keep_to_memory(&mut self) {
        if self.tail_bytes > self.limits.memory_bytes && self.spill().is_err() {
            while self.tail_bytes > self.limits.memory_bytes {
                self.stats.dropped_full += self.drop_oldest_of_tail();
            }
        }
    }

    /// Drops the tail's first frame and those that cannot be decoded without it; gives their number.
    fn drop_oldest_of_tail(&mut self) -> u64 {
        let mut dropped = 0;
        while let Some(frame) = self.tail.pop_front_if(|frame| dropped == 0 || !frame.begins_chain) {
            self.tail_bytes -= frame.payload.len();
            dropped += 1;
        }
        self.chain_broken |= self.tail.is_empty();
        dropped
    }
}

#[cfg(test)]
mod tests;
