//! A connection: two ordered streams that take their time. Loss of packets inside a QUIC stream shows as delay or as
//! the connection's end, so that is all that a connection may do. Two connections of one agent may overlap: what is under
//! way on the old one may arrive after the new one is up.

use std::collections::VecDeque;

use fastrand::Rng;
use pitwatch_collector::ingest::core::Resume;
use pitwatch_shared::delivery::{FrameReader, FrameWriter};
use pitwatch_shared::model::Mark;

/// From the agent to the collector.
#[derive(Debug)]
pub(crate) enum Up {
    /// The handshake's end: the collector gives the connection its number.
    Connect,
    /// The hello, answered by where to resume.
    Hello,
    /// A piece of the lane's stream.
    Bytes(Vec<u8>),
}

/// From the collector to the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Down {
    /// Where to resume.
    Welcome(Resume),
    /// Durable up to here.
    Ack(Mark),
}

/// Messages of one direction, each with its time of arrival.
#[derive(Debug)]
pub(crate) struct Pipe<T> {
    queue: VecDeque<(i64, T)>,
    last_ms: i64,
}

impl<T> Pipe<T> {
    fn new() -> Self {
        Self { queue: VecDeque::new(), last_ms: 0 }
    }

    pub(crate) fn send(&mut self, due_ms: i64, message: T) {
        self.last_ms = self.last_ms.max(due_ms);
        self.queue.push_back((self.last_ms, message));
    }

    /// The next message that has arrived.
    pub(crate) fn take(&mut self, now_ms: i64) -> Option<T> {
        self.queue.pop_front_if(|(due_ms, _)| *due_ms <= now_ms).map(|(_, message)| message)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The sender is gone: only a part of what is under way arrives.
    pub(crate) fn cut(&mut self, rng: &mut Rng) {
        let kept = rng.usize(..=self.queue.len());
        self.queue.truncate(kept);
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) agent: usize,
    /// Given by the collector, once the handshake reached it.
    pub(crate) session: Option<u64>,
    /// The agent holds it open.
    pub(crate) agent_side: bool,
    /// The collector holds it open, as far as it knows of it.
    pub(crate) collector_side: bool,
    /// The collector has a newer one of the same agent, and will close this one.
    pub(crate) replaced: bool,
    pub(crate) welcomed: bool,
    pub(crate) up: Pipe<Up>,
    pub(crate) down: Pipe<Down>,
    pub(crate) writer: FrameWriter,
    pub(crate) reader: FrameReader,
    /// Frames sent on it and not acknowledged on it.
    pub(crate) sent: VecDeque<Mark>,
    pub(crate) sent_any: bool,
}

impl Link {
    pub(crate) fn new(id: u64, agent: usize) -> Self {
        Self {
            id,
            agent,
            session: None,
            agent_side: true,
            collector_side: true,
            replaced: false,
            welcomed: false,
            up: Pipe::new(),
            down: Pipe::new(),
            writer: FrameWriter::new(),
            reader: FrameReader::new(),
            sent: VecDeque::new(),
            sent_any: false,
        }
    }

    /// Nothing more can come of it.
    pub(crate) fn is_over(&self) -> bool {
        !self.agent_side && (!self.collector_side || self.up.is_empty())
    }
}
