//! The collector's side of one lane of one agent: what to accept, and what may be acknowledged.
//!
//! It remembers two marks. `accepted` is the last frame handed to the log; `durable` is the last one known to be on
//! disk. Only `durable` is ever acknowledged or offered for resumption, so nothing is over-claimed.

use crate::model::Mark;

/// What to do with a frame that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Write it to the log, then say [`Receiver::accepted`]. `lost` frames before it will never come.
    Store {
        /// Frames that the agent dropped at its limits, by their numbers.
        lost: u64,
    },
    /// Already accepted: nothing to do, its ack comes when it is durable.
    Duplicate,
    /// From a connection that a newer one replaced: to be ignored.
    OldSession,
    /// It neither follows the last frame nor begins a chain: the connection is at fault.
    Gap {
        /// The last frame accepted.
        after: Option<Mark>,
    },
}

/// One lane of one agent.
#[derive(Debug, Clone)]
pub struct Receiver {
    durable: Option<Mark>,
    accepted: Option<Mark>,
    /// A frame that goes on the chain after `accepted` can be decoded.
    chain_known: bool,
    session: u64,
}

impl Receiver {
    /// A lane of which everything up to `durable` is on disk.
    #[must_use]
    pub fn new(durable: Option<Mark>, chain_known: bool) -> Self {
        Self { durable, accepted: durable, chain_known, session: 0 }
    }

    /// A connection begins; sessions count up, and frames of earlier ones are ignored from now on. Gives the mark to
    /// resume after and whether a frame may go on its chain.
    pub fn open(&mut self, session: u64) -> (Option<Mark>, bool) {
        self.session = self.session.max(session);
        (self.durable, self.chain_known)
    }

    /// Judges a frame.
    #[must_use]
    pub fn frame(&self, session: u64, mark: Mark, begins_chain: bool) -> Verdict {
        if session != self.session {
            return Verdict::OldSession;
        }
        let last = self.accepted;
        if last.is_some_and(|last| mark <= last) || mark.seq == 0 {
            return Verdict::Duplicate;
        }
        let before = last.filter(|last| last.epoch == mark.epoch).map_or(0, |last| last.seq);
        let lost = mark.seq - before - 1;
        let follows = self.chain_known && lost == 0 && last.is_some_and(|last| last.epoch == mark.epoch);
        if begins_chain || follows { Verdict::Store { lost } } else { Verdict::Gap { after: last } }
    }

    /// The frame is in the log (not yet durable). Whether it is the first since the last commit.
    pub fn accepted(&mut self, mark: Mark) -> bool {
        let first = self.accepted == self.durable;
        self.accepted = Some(mark);
        self.chain_known = true;
        first
    }

    /// Everything accepted so far is durable. Gives the mark to acknowledge if it is news.
    pub fn committed(&mut self) -> Option<Mark> {
        if self.durable == self.accepted {
            return None;
        }
        self.durable = self.accepted;
        self.durable
    }

    /// The last durable mark.
    #[must_use]
    pub fn durable(&self) -> Option<Mark> {
        self.durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: u64, seq: u64) -> Mark {
        Mark { epoch, seq }
    }

    #[test]
    fn accepts_in_order_once_and_acks_only_what_is_durable() {
        let mut receiver = Receiver::new(None, false);
        assert_eq!(receiver.open(1), (None, false));
        assert_eq!(receiver.frame(1, mark(1, 1), false), Verdict::Gap { after: None });
        assert_eq!(receiver.frame(1, mark(1, 1), true), Verdict::Store { lost: 0 });
        receiver.accepted(mark(1, 1));
        assert_eq!(receiver.frame(1, mark(1, 1), true), Verdict::Duplicate);
        assert_eq!(receiver.durable(), None);
        // A second connection resumes from what is durable, and what was accepted is not stored again.
        assert_eq!(receiver.open(2), (None, true));
        assert_eq!(receiver.frame(1, mark(1, 2), false), Verdict::OldSession);
        assert_eq!(receiver.frame(2, mark(1, 1), true), Verdict::Duplicate);
        assert_eq!(receiver.committed(), Some(mark(1, 1)));
        assert_eq!(receiver.committed(), None);
        assert_eq!(receiver.frame(2, mark(1, 2), false), Verdict::Store { lost: 0 });
    }

    #[test]
    fn a_gap_needs_a_new_chain_and_is_counted() {
        let mut receiver = Receiver::new(Some(mark(1, 5)), true);
        receiver.open(1);
        assert_eq!(receiver.frame(1, mark(1, 8), false), Verdict::Gap { after: Some(mark(1, 5)) });
        assert_eq!(receiver.frame(1, mark(1, 8), true), Verdict::Store { lost: 2 });
        assert_eq!(receiver.frame(1, mark(2, 1), false), Verdict::Gap { after: Some(mark(1, 5)) });
        assert_eq!(receiver.frame(1, mark(2, 4), true), Verdict::Store { lost: 3 });
        assert_eq!(receiver.frame(1, mark(1, 5), true), Verdict::Duplicate);
        assert_eq!(receiver.frame(1, mark(0, 900), true), Verdict::Duplicate);
    }

    #[test]
    fn without_the_chain_the_next_frame_must_begin_one() {
        let mut receiver = Receiver::new(Some(mark(1, 5)), false);
        assert_eq!(receiver.open(1), (Some(mark(1, 5)), false));
        assert_eq!(receiver.frame(1, mark(1, 6), false), Verdict::Gap { after: Some(mark(1, 5)) });
        assert_eq!(receiver.frame(1, mark(1, 6), true), Verdict::Store { lost: 0 });
    }
}
