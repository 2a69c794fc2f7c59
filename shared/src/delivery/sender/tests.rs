//! The sender against a plain model: nothing is lost uncounted, sent twice at once, or sent off its chain.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A backlog in memory, with room for a few frames, that fails when told to.
#[derive(Debug, Default)]
struct Memory {
    frames: VecDeque<Frame>,
    room: usize,
    failing: bool,
    dropped: u64,
}

impl Memory {
    fn drop_oldest(&mut self) {
        let mut first = true;
        while self.frames.pop_front_if(|frame| first || !frame.begins_chain).is_some() {
            first = false;
            self.dropped += 1;
        }
    }
}

impl Backlog for Memory {
    fn append(&mut self, frames: &[Frame]) -> io::Result<()> {
        if self.failing {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.frames.extend(frames.iter().cloned());
        while self.frames.len() > self.room {
            self.drop_oldest();
        }
        Ok(())
    }
    fn after(&mut self, mark: Option<Mark>) -> io::Result<Option<Frame>> {
        if self.failing {
            return Err(io::ErrorKind::Other.into());
        }
        Ok(self.frames.iter().find(|frame| Some(frame.mark) > mark).cloned())
    }
    fn release(&mut self, mark: Mark) {
        while self.frames.pop_front_if(|frame| frame.mark <= mark).is_some() {}
    }
    fn expire(&mut self, oldest_ms: i64) {
        while self.frames.front().is_some_and(|frame| frame.queued_ms < oldest_ms) {
            self.drop_oldest();
        }
    }
    fn last(&self) -> Option<Mark> {
        self.frames.back().map(|frame| frame.mark)
    }
    fn bytes(&self) -> u64 {
        self.frames.iter().map(|frame| frame.payload.len() as u64).sum()
    }
    fn dropped(&self) -> u64 {
        self.dropped
    }
}

const LIMITS: SenderLimits = SenderLimits { memory_bytes: 400, window_bytes: 100, age_ms: 50, chain_bytes: 120 };

fn sender() -> Sender<Memory> {
    Sender::new(7, LIMITS, Memory { room: 30, ..Memory::default() })
}

fn queue(sender: &mut Sender<Memory>, now_ms: i64, bytes: usize) -> Mark {
    let begins = sender.wants_chain();
    sender.queue(now_ms, begins, Bytes::from(vec![0; bytes]))
}

fn sent(sender: &mut Sender<Memory>) -> Vec<u64> {
    std::iter::from_fn(|| sender.transmit().map(|frame| frame.mark.seq)).collect()
}

fn mark(seq: u64) -> Mark {
    Mark { epoch: 7, seq }
}

#[test]
fn frames_flow_within_the_window_and_resume_after_the_last_durable_one() {
    let mut sender = sender();
    for _ in 0..6 {
        queue(&mut sender, 0, 40);
    }
    assert_eq!(sent(&mut sender), [0; 0], "not connected");
    sender.connected(None, false);
    assert_eq!(sent(&mut sender), [1, 2, 3], "the window is 100 bytes");
    sender.acked(mark(2)).unwrap();
    assert_eq!(sent(&mut sender), [4, 5]);
    assert_eq!(sender.acked(mark(7)), Err(AckError(mark(7))));
    sender.disconnected();
    sender.connected(Some(mark(3)), true);
    assert_eq!(sent(&mut sender), [4, 5, 6]);
    sender.acked(mark(6)).unwrap();
    assert!(sender.is_drained());
    assert_eq!(sender.stats(), Stats { queued: 6, acked: 6, ..Stats::default() });
}

#[test]
fn an_ack_may_run_ahead_of_a_new_connection() {
    let mut sender = sender();
    for _ in 0..4 {
        queue(&mut sender, 0, 40);
    }
    sender.connected(None, false);
    assert_eq!(sent(&mut sender), [1, 2, 3]);
    sender.acked(mark(1)).unwrap();
    // The link breaks, and 3 becomes durable when the collector has answered the next hello already.
    sender.connected(Some(mark(1)), true);
    sender.acked(mark(3)).unwrap();
    assert_eq!(sent(&mut sender), [4], "on the chain of 3, which is not sent again");
    sender.acked(mark(4)).unwrap();
    assert!(sender.is_drained());
    assert_eq!(sender.stats(), Stats { queued: 4, acked: 4, ..Stats::default() });
}

#[test]
fn a_lost_numbering_begins_a_later_epoch_and_counts_what_was_on_disk() {
    let mut sender = sender();
    for _ in 0..3 {
        queue(&mut sender, 0, 10);
    }
    sender.spill().unwrap();
    queue(&mut sender, 0, 10);
    // The collector knows a later epoch: frames 1 to 3 would pass for ones that it has, and 4 goes on their chain.
    sender.connected(Some(Mark { epoch: 9, seq: 5 }), true);
    assert_eq!(sent(&mut sender), [0; 0]);
    assert_eq!((sender.epoch(), sender.backlog().dropped(), sender.stats().dropped_chain), (9 + EPOCHS_SKIPPED, 3, 1));
    assert!(sender.wants_chain());
    queue(&mut sender, 0, 10);
    assert_eq!(sent(&mut sender), [2]);
}

#[test]
fn after_the_backlog_expired_whole_the_next_frame_begins_a_chain() {
    let mut sender = sender();
    queue(&mut sender, 0, 10);
    sender.spill().unwrap();
    sender.connected(None, false);
    sender.expire(100);
    assert!(sender.is_drained() && sender.wants_chain());
    queue(&mut sender, 100, 10);
    assert_eq!(sent(&mut sender), [2]);
    assert_eq!((sender.backlog().dropped(), sender.stats().dropped()), (1, 0));
}

#[test]
fn the_backlog_goes_first_and_survives_a_restart() {
    let mut first = sender();
    queue(&mut first, 0, 10);
    queue(&mut first, 0, 10);
    first.spill().unwrap();
    let backlog = std::mem::take(&mut first.backlog);
    let mut second = Sender::new(8, LIMITS, backlog);
    let begins = second.wants_chain();
    assert!(begins);
    second.queue(1, begins, Bytes::from_static(b"new"));
    second.connected(None, false);
    let marks: Vec<Mark> = std::iter::from_fn(|| second.transmit().map(|f| f.mark)).collect();
    assert_eq!(marks, [mark(1), mark(2), Mark { epoch: 8, seq: 1 }]);
}

#[test]
fn a_collector_that_forgot_gets_a_new_chain() {
    let mut sender = sender();
    sender.connected(None, false);
    for _ in 0..3 {
        queue(&mut sender, 0, 10);
    }
    sent(&mut sender);
    sender.acked(mark(2)).unwrap();
    // Frame 3 goes on the chain of 1 and 2, which the collector no longer has.
    sender.connected(None, false);
    assert_eq!(sent(&mut sender), [0; 0]);
    assert_eq!(sender.stats().dropped_chain, 1);
    assert!(sender.wants_chain());
    queue(&mut sender, 0, 10);
    assert_eq!(sent(&mut sender), [4]);
}

#[test]
fn a_lost_numbering_goes_on_in_a_later_epoch() {
    let mut sender = sender();
    queue(&mut sender, 0, 10);
    queue(&mut sender, 40, 10);
    sender.connected(Some(Mark { epoch: 9, seq: 500 }), true);
    // The next life that loses it, before the collector's disk has this one's frames, takes another one.
    let epoch = 9 + EPOCHS_SKIPPED + 40;
    assert_eq!(sender.epoch(), epoch);
    assert_eq!(sender.transmit().unwrap().mark, Mark { epoch, seq: 1 });
    assert_eq!(queue(&mut sender, 0, 10), Mark { epoch, seq: 3 });
}

#[test]
fn at_the_memory_limit_the_oldest_chain_goes() {
    let mut sender = sender();
    sender.backlog.failing = true;
    for _ in 0..12 {
        queue(&mut sender, 0, 40);
    }
    // A chain holds three frames of 40 bytes and is then begun anew.
    assert_eq!(sender.stats().dropped_full, 3);
    assert!(sender.stats().disk_errors > 0);
    sender.backlog.failing = false;
    sender.connected(None, false);
    assert_eq!(sent(&mut sender), [4, 5, 6]);
}

#[derive(Debug, Clone)]
enum Step {
    Queue(usize),
    Connect { know: bool },
    Disconnect,
    Transmit(usize),
    Durable(u64),
    Spill,
    Fail(bool),
    Later(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..60_usize).prop_map(Step::Queue),
        2 => prop::bool::weighted(0.8).prop_map(|know| Step::Connect { know }),
        1 => Just(Step::Disconnect),
        5 => (1..5_usize).prop_map(Step::Transmit),
        4 => (1..4_u64).prop_map(Step::Durable),
        1 => Just(Step::Spill),
        1 => any::<bool>().prop_map(Step::Fail),
        1 => (0..30_i64).prop_map(Step::Later),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// The model is the collector: it accepts what arrives by the receiver's rules and makes some of it durable.
    #[test]
    fn every_frame_is_stored_once_or_counted_as_dropped(steps in steps()) {
        let mut sender = sender();
        let (mut now_ms, mut queued) = (0, 0);
        let mut receiver = crate::delivery::Receiver::new(None, false);
        let mut session = 0;
        let mut stored: BTreeMap<u64, u32> = BTreeMap::new();
        let mut arrived: VecDeque<Mark> = VecDeque::new();
        for step in steps {
            match step {
                Step::Queue(bytes) => {
                    queue(&mut sender, now_ms, bytes);
                    queued += 1;
                }
                Step::Connect { know } => {
                    session += 1;
                    // Accepted but not durable frames are made durable by a live collector.
                    receiver.committed();
                    arrived.clear();
                    if !know {
                        receiver = crate::delivery::Receiver::new(receiver.durable(), false);
                    }
                    let (durable, known) = receiver.open(session);
                    sender.connected(durable, known);
                }
                Step::Disconnect => sender.disconnected(),
                Step::Transmit(count) => {
                    for _ in 0..count {
                        let Some(frame) = sender.transmit() else { break };
                        match receiver.frame(session, frame.mark, frame.begins_chain) {
                            crate::delivery::Verdict::Store { .. } => {
                                receiver.accepted(frame.mark);
                                arrived.push_back(frame.mark);
                                *stored.entry(frame.mark.seq).or_default() += 1;
                            }
                            crate::delivery::Verdict::Duplicate => {}
                            verdict => prop_assert!(false, "{verdict:?} for {frame:?}"),
                        }
                    }
                }
                Step::Durable(count) => {
                    if let Some(durable) = receiver.committed() && sender.connected {
                        let up_to = arrived.iter().take(count as usize).next_back().copied().unwrap_or(durable);
                        sender.acked(up_to.min(durable)).unwrap();
                        arrived.retain(|mark| *mark > up_to);
                    }
                }
                Step::Spill => {
                    let _ = sender.spill();
                }
                Step::Fail(failing) => sender.backlog.failing = failing,
                Step::Later(ms) => {
                    now_ms += ms;
                    sender.expire(now_ms);
                }
            }
            prop_assert!(sender.tail_bytes <= LIMITS.memory_bytes);
            prop_assert_eq!(sender.tail_bytes, sender.tail.iter().map(|f| f.payload.len()).sum::<usize>());
        }
        // Drain.
        sender.backlog.failing = false;
        receiver.committed();
        let (durable, known) = receiver.open(session + 1);
        sender.connected(durable, known);
        while let Some(frame) = sender.transmit() {
            let (mark, begins) = (frame.mark, frame.begins_chain);
            if let crate::delivery::Verdict::Store { .. } = receiver.frame(session + 1, mark, begins) {
                receiver.accepted(mark);
                *stored.entry(mark.seq).or_default() += 1;
            }
            receiver.committed();
            sender.acked(mark).unwrap();
        }
        prop_assert!(sender.is_drained());
        prop_assert!(stored.values().all(|times| *times == 1));
        let lost = queued - stored.len() as u64;
        let counted = sender.stats().dropped() + sender.backlog.dropped();
        // A frame may have arrived and been dropped here too before its ack came; none is lost uncounted.
        prop_assert!(lost <= counted, "{lost} lost, {counted} counted");
    }
}
