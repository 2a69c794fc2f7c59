//! Accepting frames, committing them together, and saying what may be acknowledged. Sans-IO but for the store.

use std::collections::HashMap;

use pitwatch_history::{AppendError, Appender, RowsAppended, SeriesRows, SourceName};
use pitwatch_shared::codec::begins_chain;
use pitwatch_shared::delivery::{Receiver, Verdict};
use pitwatch_shared::model::{Lane, Mark};

/// Where a lane of an agent goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Everything up to here is durable.
    pub durable: Option<Mark>,
    /// The frame after it can go on its chain.
    pub chain_known: bool,
}

/// What a stored frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Samples that it holds.
    pub samples: u64,
    /// Events that it holds.
    pub events: u64,
    /// Frames before it that will never come.
    pub lost_frames: u64,
}

/// Why a frame was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Too much waits for a commit: commit, then hand it in again.
    Full,
    /// The sender is at fault: its connection must be closed with this reason.
    Refused(String),
}

/// Every agent's lanes over one store.
#[derive(Debug)]
pub struct Core {
    appender: Appender,
    lanes: HashMap<(SourceName, Lane), Receiver>,
    /// Lanes with frames that are not durable yet.
    dirty: Vec<(SourceName, Lane)>,
    uncommitted: usize,
    /// Something that is no lane's frame waits for a commit.
    other: bool,
}

impl Core {
    /// Over a store.
    #[must_use]
    pub fn new(appender: Appender) -> Self {
        Self { appender, lanes: HashMap::new(), dirty: Vec::new(), uncommitted: 0, other: false }
    }

    /// A connection of `source` begins; where a lane of it goes on.
    pub fn open(&mut self, source: &SourceName, name: Lane, session: u64) -> Resume {
        let (durable, chain_known) = lane(&mut self.lanes, &self.appender, source, name).open(session);
        Resume { durable, chain_known }
    }

    /// A frame arrived; `None` if there is nothing to store of it.
    ///
    /// # Errors
    /// A store that is full of uncommitted frames, or a sender at fault; nothing was kept then.
    pub fn frame(
        &mut self,
        source: &SourceName,
        session: u64,
        name: Lane,
        mark: Mark,
        payload: &[u8],
    ) -> Result<Option<Stored>, Fault> {
        let receiver = lane(&mut self.lanes, &self.appender, source, name);
        // Every event stands alone.
        let begins = name == Lane::Events || begins_chain(payload);
        let lost_frames = match receiver.frame(session, mark, begins) {
            Verdict::Store { lost } => lost,
            Verdict::Duplicate | Verdict::OldSession => return Ok(None),
            Verdict::Gap { after } => {
                return Err(Fault::Refused(format!("frame {mark:?} does not follow {after:?} and begins no chain")));
            }
        };
        match self.appender.append(source, name, mark, payload) {
            Ok(appended) => {
                if receiver.accepted(mark) {
                    self.dirty.push((source.clone(), name));
                }
                self.uncommitted += 1;
                Ok(Some(Stored { samples: appended.samples, events: appended.events, lost_frames }))
            }
            Err(AppendError::Backlog { .. }) => Err(Fault::Full),
            Err(error) => Err(Fault::Refused(crate::error_chain(&error))),
        }
    }

    /// Samples of remote write arrived. `None` if too much waits for a commit: commit, then hand them in again.
    pub fn rows(&mut self, source: &SourceName, series: &[SeriesRows]) -> Option<RowsAppended> {
        let appended = self.appender.append_rows(source, series).ok()?;
        self.uncommitted += 1;
        Some(appended)
    }

    /// Makes everything durable and gives what may now be acknowledged.
    ///
    /// # Errors
    /// The disk's reason; everything waits, and the call may be repeated.
    pub fn commit(&mut self) -> Result<Vec<(SourceName, Lane, Mark)>, String> {
        self.appender.commit().map_err(|error| crate::error_chain(&error))?;
        self.uncommitted = 0;
        self.other = false;
        let mut acks = Vec::with_capacity(self.dirty.len());
        for lane in self.dirty.drain(..) {
            if let Some(mark) = self.lanes.get_mut(&lane).and_then(Receiver::committed) {
                acks.push((lane.0, lane.1, mark));
            }
        }
        Ok(acks)
    }

    /// Frames that wait for a commit.
    #[must_use]
    pub fn uncommitted(&self) -> usize {
        self.uncommitted
    }

    /// Whether anything waits for a commit.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.uncommitted > 0 || self.other
    }

    /// An agent is gone for good.
    pub fn forget(&mut self, source: &SourceName) {
        self.appender.forget_source(source);
        self.lanes.retain(|(of, _), _| of != source);
        self.other = true;
    }

    /// The store's writer, for upkeep and the collector's own sources.
    pub fn appender(&mut self) -> &mut Appender {
        self.other = true;
        &mut self.appender
    }
}

fn lane<'a>(
    lanes: &'a mut HashMap<(SourceName, Lane), Receiver>,
    appender: &Appender,
    source: &SourceName,
    name: Lane,
) -> &'a mut Receiver {
    lanes.entry((source.clone(), name)).or_insert_with(|| {
        let durable = appender.mark(source, name);
        Receiver::new(durable, !appender.needs_chain(source, name))
    })
}
