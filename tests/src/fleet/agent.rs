//! One simulated agent: the agent's lane and link, ticks at 1 s at a phase of its own, and a clock on its acks.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pitwatch_agent::events::EventsLane;
use pitwatch_agent::identity::Identity;
use pitwatch_agent::lane::{MetricsLane, Queue as _};
use pitwatch_agent::link::{self, Lanes, LinkConfig, LinkStats};
use pitwatch_collector::clock::unix_ms;
use pitwatch_shared::delivery::{Backlog, Frame, Sender, SenderLimits};
use pitwatch_shared::model::Mark;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::Traffic;
use super::signals::{Pattern, Values};

/// The cadence of every series.
pub const CADENCE: Duration = Duration::from_secs(1);
/// The epoch of all frames: an agent of the fleet never restarts.
const EPOCH: u64 = 1;

/// What all agents of a fleet share.
#[derive(Debug)]
pub struct Shared {
    pattern: Pattern,
    begun: Instant,
    /// A frame queued at or after this, in microseconds since `begun`, makes its agent count as back once it is
    /// acknowledged.
    pub(super) expect_from_us: AtomicU64,
    pub(super) keep_latencies: AtomicBool,
    pub(super) latencies_us: Mutex<Vec<u32>>,
}

impl Shared {
    pub(super) fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            begun: Instant::now(),
            expect_from_us: AtomicU64::new(0),
            keep_latencies: AtomicBool::new(false),
            latencies_us: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The instant of a number of microseconds.
    pub(super) fn instant(&self, us: u64) -> Option<Instant> {
        self.begun.checked_add(Duration::from_micros(us))
    }
}

/// A simulated agent.
#[derive(Debug)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// What its link did.
    pub link: LinkStats,
    lanes: Lanes<AckClock>,
    acks: Arc<Acks>,
    samples: AtomicU64,
    /// Bits of the value of the gauge that a benchmark sets.
    level_bits: AtomicU64,
    /// When the last change of that gauge was sampled, milliseconds since the Unix epoch.
    level_sampled_ms: AtomicU64,
}

impl Agent {
    pub(super) fn new(name: &str, shared: &Arc<Shared>) -> Self {
        let acks = Arc::new(Acks { shared: shared.clone(), queued: Mutex::default(), back_us: AtomicU64::new(0) });
        let sender = || Sender::new(EPOCH, SenderLimits::default(), AckClock(acks.clone()));
        let lanes = Lanes::new(MetricsLane::new(sender()), EventsLane::new(sender()));
        Self {
            name: name.to_owned(),
            link: LinkStats::default(),
            lanes,
            acks,
            samples: AtomicU64::new(0),
            level_bits: AtomicU64::new(0),
            level_sampled_ms: AtomicU64::new(0),
        }
    }

    /// Sets the gauge, as a host's value would change between two ticks.
    pub fn set_level(&self, level: f64) {
        self.level_bits.store(level.to_bits(), Ordering::Relaxed);
    }

    /// When the last change of the gauge was sampled, milliseconds since the Unix epoch.
    #[must_use]
    pub fn level_sampled_ms(&self) -> i64 {
        i64::try_from(self.level_sampled_ms.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }

    /// When it was back after the last outage.
    pub(super) fn back_at(&self) -> Option<u64> {
        Some(self.acks.back_us.load(Ordering::Relaxed)).filter(|us| *us > 0)
    }

    pub(super) fn expect_back(&self) {
        self.acks.back_us.store(0, Ordering::Relaxed);
    }

    pub(super) fn traffic(&self) -> Traffic {
        let frames = self.lanes.metrics.lock().sender().stats();
        Traffic {
            sent_bytes: self.link.udp_sent_bytes.load(Ordering::Relaxed),
            received_bytes: self.link.udp_received_bytes.load(Ordering::Relaxed),
            samples: self.samples.load(Ordering::Relaxed),
            frames: frames.queued,
            acked: frames.acked,
            dropped: frames.dropped(),
        }
    }

    fn tick(&self, pattern: &Pattern, at: &mut Values, level: f64) {
        let now_ms = unix_ms();
        let (values, samples) = pattern.next(at, level);
        let mut lane = self.lanes.metrics.lock();
        // Recorded series are within the codec's limits, and no schema changes: there is nothing to go wrong.
        if lane.tick(now_ms, 0, None, values, pattern).is_ok() {
            self.samples.fetch_add(samples as u64, Ordering::Relaxed);
        }
        let seq = lane.sender().stats().queued;
        drop(lane);
        self.acks.queued(seq);
        self.lanes.metrics.queued.notify_one();
    }

    async fn gather(&self, shared: &Shared) {
        let mut at = shared.pattern.begin();
        let mut last = 0_f64;
        let phase = Duration::from_micros(fastrand::u64(..CADENCE.as_micros() as u64));
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + phase, CADENCE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let level = f64::from_bits(self.level_bits.load(Ordering::Relaxed));
            if level.to_bits() != last.to_bits() {
                last = level;
                self.level_sampled_ms.store(unix_ms().unsigned_abs(), Ordering::Relaxed);
            }
            self.tick(&shared.pattern, &mut at, level);
        }
    }
}

/// Runs an agent until `stop`.
pub(super) async fn run(
    agent: &Agent,
    shared: &Shared,
    config: &LinkConfig,
    identity: Identity,
    stop: watch::Receiver<bool>,
) {
    tokio::select! {
        () = link::run(config, identity, &agent.lanes, &agent.link, stop) => {}
        () = agent.gather(shared) => {}
    }
}

/// When the last frame of each tick was queued, until it is acknowledged.
#[derive(Debug)]
struct Acks {
    shared: Arc<Shared>,
    queued: Mutex<VecDeque<(u64, u64)>>,
    /// When the first frame queued since the last outage was acknowledged; 0 before.
    back_us: AtomicU64,
}

impl Acks {
    fn queued(&self, seq: u64) {
        let now_us = self.shared.now_us();
        self.queued.lock().unwrap_or_else(PoisonError::into_inner).push_back((seq, now_us));
    }

    fn acked(&self, seq: u64) {
        let now_us = self.shared.now_us();
        let expect_from_us = self.shared.expect_from_us.load(Ordering::Relaxed);
        let keep = self.shared.keep_latencies.load(Ordering::Relaxed);
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, queued_us)) = queued.pop_front_if(|(queued, _)| *queued <= seq) {
            if queued_us >= expect_from_us {
                let _ = self.back_us.compare_exchange(0, now_us.max(1), Ordering::Relaxed, Ordering::Relaxed);
            }
            if keep {
                let took_us = u32::try_from(now_us.saturating_sub(queued_us)).unwrap_or(u32::MAX);
                self.shared.latencies_us.lock().unwrap_or_else(PoisonError::into_inner).push(took_us);
            }
        }
    }
}

/// No backlog, but it hears what is acknowledged.
#[derive(Debug)]
struct AckClock(Arc<Acks>);

impl Backlog for AckClock {
    fn append(&mut self, _frames: &[Frame]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn after(&mut self, _mark: Option<Mark>) -> io::Result<Option<Frame>> {
        Ok(None)
    }

    fn release(&mut self, mark: Mark) {
        self.0.acked(mark.seq);
    }

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
