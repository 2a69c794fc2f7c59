//! From frames to durable history: one thread that owns the store's writer.
//!
//! - [`core`]: accepting, group commit and acks, sans-IO, so that simulation drives it as it is.
//! - [`internal`]: the collector's own series as frames of its own sources.
//! - [`arrivals`]: of whom samples became durable, for rules.
//! - this file: the thread, its queue and its bounds.
//!
//! While the disk refuses, frames wait in their bounded queue, nothing is acknowledged, connections go on, and the
//! commit is tried again; agents keep what is not acknowledged.

pub mod arrivals;
pub mod core;
pub mod internal;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pitwatch_history::{Appender, RowsAppended, SeriesRows, SnapshotFile, SourceName};
use pitwatch_shared::model::{Labels, Lane, Mark, MetricType};
use rustc_hash::FxHashSet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tracing::{error, info, warn};

use self::arrivals::Arrivals;
use self::core::{Core, Fault, Resume};
use self::internal::Internal;
use crate::background::Background;
use crate::clock::unix_ms;

/// Events that may wait for the thread.
pub const QUEUE_EVENTS: usize = 16 * 1024;
/// Payload bytes that may wait for the thread, all agents together.
pub const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// Payload bytes of one agent that may wait for the thread.
pub const QUEUE_AGENT_BYTES: usize = 512 * 1024;
/// Commits are at least this far apart, milliseconds: frames that arrive meanwhile share one.
pub const COMMIT_SPACING_MS: u64 = 20;
/// A commit that failed is tried again after this, milliseconds.
pub const COMMIT_RETRY_MS: u64 = 500;
/// Samples of the collector's own that are taken while the disk refuses; at most some bytes each wait in memory.
const STALLED_OWN_SAMPLES_MAX: usize = 4_000_000;
/// Frames taken into one commit.
const BATCH_FRAMES: usize = 8 * 1024;
/// The source, and its name among the collector's own, of all that comes by remote write.
const REMOTE_WRITE: &str = "remote-write";
/// Upkeep of the store (sealing, retention) is looked at this often, milliseconds.
const MAINTAIN_MS: u64 = 2_000;

/// What the thread is told.
#[derive(Debug)]
pub enum Event {
    /// A connection of an agent is up.
    Open {
        /// Who.
        source: SourceName,
        /// The connection's number; they count up.
        session: u64,
        /// Where acks and faults go.
        progress: watch::Sender<Progress>,
        /// Where each of [`LANES`] resumes.
        reply: oneshot::Sender<[Resume; LANES.len()]>,
    },
    /// A frame arrived.
    Frame(Arrived),
    /// The collector's own samples of one instant.
    Internal(Tick),
    /// Samples of remote write.
    Rows(Rows),
    /// An agent was removed: its marks go.
    Forget(SourceName),
    /// All files of history are to be linked into a directory.
    Snapshot {
        /// The directory.
        to: PathBuf,
        /// Where the list of them goes, or why there is none.
        reply: std::sync::mpsc::Sender<Result<Vec<SnapshotFile>, String>>,
    },
    /// Time passes.
    Clock,
    /// Make everything durable, then end.
    Stop(oneshot::Sender<()>),
}

/// A frame on its way to the log.
#[derive(Debug)]
pub struct Arrived {
    /// Whose.
    pub source: SourceName,
    /// Over which connection.
    pub session: u64,
    /// Its lane.
    pub lane: Lane,
    /// Its number.
    pub mark: Mark,
    /// What the codec wrote.
    pub payload: Bytes,
    /// What it counts for, and where.
    pub counters: Arc<LaneCounters>,
    /// Its share of the queues' bounds.
    pub permits: [OwnedSemaphorePermit; 2],
}

/// The collector's own samples of one instant: the whole set of a table each time.
#[derive(Debug)]
pub struct Tick {
    /// Tables are told apart by name; each is one source.
    pub table: Arc<str>,
    /// Milliseconds since the Unix epoch.
    pub ts_ms: i64,
    /// All series of the table; those that are missing since the last tick end.
    pub samples: Vec<(Labels, MetricType, f64)>,
}

/// Samples of remote write on their way to the log. Who hands them in bounds how many there are at once.
#[derive(Debug)]
pub struct Rows {
    /// The samples.
    pub series: Vec<SeriesRows>,
    /// Told what came of them when they are durable; dropped if they cannot be taken now.
    pub reply: oneshot::Sender<RowsAppended>,
}

/// The lanes that are kept; [`Progress::durable`] is in this order.
pub const LANES: [Lane; 2] = [Lane::Metrics, Lane::Events];

/// How far a session's lanes have come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Everything of each of [`LANES`] up to here is durable.
    pub durable: [Option<Mark>; LANES.len()],
    /// The session is at fault: close it, with this reason.
    pub fault: Option<String>,
}

/// What arrived from one agent, since the collector started.
#[derive(Debug, Default)]
pub struct LaneCounters {
    /// Frames stored.
    pub frames: AtomicU64,
    /// Samples stored.
    pub samples: AtomicU64,
    /// Events stored.
    pub events: AtomicU64,
    /// Payload bytes stored.
    pub bytes: AtomicU64,
    /// Frames that the agent dropped at its limits, by the gaps in their numbers.
    pub lost_frames: AtomicU64,
    /// Of them, events.
    pub lost_events: AtomicU64,
    /// When the last frame was stored, milliseconds since the Unix epoch; 0 before the first.
    pub last_frame_ms: AtomicU64,
}

/// The thread's state as others see it.
#[derive(Debug, Default)]
pub struct IngestStats {
    /// The disk refuses: nothing is acknowledged.
    pub stalled: AtomicBool,
    /// Commits that failed.
    pub commit_failures: AtomicU64,
    /// Events waiting.
    pub queued: AtomicU64,
    /// Sum of commit times, microseconds.
    pub commit_us: AtomicU64,
    /// Commits done.
    pub commits: AtomicU64,
    /// Sessions closed for a frame they sent.
    pub faults: AtomicU64,
    /// Requests of remote write.
    pub writes: AtomicU64,
    /// Of them, refused wholly or in part.
    pub writes_refused: AtomicU64,
    /// Samples stored of them.
    pub rows_samples: AtomicU64,
    /// Samples and histograms refused of them.
    pub rows_refused: AtomicU64,
    /// Why the disk refuses, while it does.
    pub stall_reason: std::sync::Mutex<Option<String>>,
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub struct Ingest {
    events: mpsc::Sender<Event>,
    room: Arc<Semaphore>,
    /// Counts and the stall.
    pub stats: Arc<IngestStats>,
    /// Changes with each commit: the commit's number.
    pub committed: watch::Receiver<u64>,
    /// Of whom samples became durable.
    pub arrivals: Arc<Arrivals>,
}

impl Ingest {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(appender: Appender) -> io::Result<(Self, JoinHandle<()>)> {
        let (events, queue) = mpsc::channel(QUEUE_EVENTS);
        let stats = Arc::new(IngestStats::default());
        let (committed, commits) = watch::channel(0);
        let arrivals = Arc::new(Arrivals::default());
        let mut worker = Worker {
            internal: Internal::new(&appender),
            core: Core::new(appender),
            sessions: HashMap::new(),
            waiting: VecDeque::new(),
            stats: stats.clone(),
            committed,
            arrivals: arrivals.clone(),
            heard: FxHashSet::default(),
            background: Background::default(),
            maintained: Instant::now(),
            committed_at: Instant::now(),
            refusing: false,
            stalled_samples: 0,
            remote_write: SourceName::internal(REMOTE_WRITE),
            replies: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("ingest".into()).spawn(move || worker.run(queue))?;
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        Ok((Self { events, room, stats, committed: commits, arrivals }, thread))
    }

    /// Hands an event over; waits while the queue is full. `false` if the thread has ended.
    pub async fn send(&self, event: Event) -> bool {
        self.events.send(event).await.is_ok()
    }

    /// As [`Ingest::send`], for threads that may block.
    #[must_use]
    pub fn blocking_send(&self, event: Event) -> bool {
        self.events.blocking_send(event).is_ok()
    }

    /// Hands an event over if there is room now.
    #[must_use]
    pub fn try_send(&self, event: Event) -> bool {
        self.events.try_send(event).is_ok()
    }

    /// Room for a frame of `bytes`, of the agent's share and of the whole.
    pub async fn admit(&self, agent: &Arc<Semaphore>, bytes: usize) -> Option<[OwnedSemaphorePermit; 2]> {
        let share = u32::try_from(bytes.clamp(1, QUEUE_AGENT_BYTES)).ok()?;
        let own = agent.clone().acquire_many_owned(share).await.ok()?;
        let whole = self.room.clone().acquire_many_owned(share).await.ok()?;
        Some([own, whole])
    }
}

struct Session {
    number: u64,
    progress: watch::Sender<Progress>,
}

struct Worker {
    core: Core,
    internal: Internal,
    sessions: HashMap<SourceName, Session>,
    /// Frames taken off the queue that the store cannot take yet.
    waiting: VecDeque<Event>,
    stats: Arc<IngestStats>,
    committed: watch::Sender<u64>,
    arrivals: Arc<Arrivals>,
    /// Instances of which samples wait for a commit.
    heard: FxHashSet<Arc<str>>,
    background: Background,
    maintained: Instant,
    committed_at: Instant,
    /// The last commit failed: frames wait.
    refusing: bool,
    /// Own samples taken since the disk began to refuse.
    stalled_samples: usize,
    remote_write: SourceName,
    /// Who is to be told at the next commit what came of their rows.
    replies: Vec<(oneshot::Sender<RowsAppended>, RowsAppended)>,
}

impl Worker {
    fn run(&mut self, mut queue: mpsc::Receiver<Event>) {
        let mut stop = None;
        while stop.is_none() {
            let Some(event) = queue.blocking_recv() else { break };
            stop = self.take(event);
            // Frames that arrive while the last commit is young share the next one.
            loop {
                match queue.try_recv() {
                    Ok(event) if stop.is_none() && self.core.uncommitted() < BATCH_FRAMES => stop = self.take(event),
                    Ok(event) => self.waiting.push_back(event),
                    Err(_) if !self.core.is_dirty() => break,
                    Err(_) => {
                        // A quiet collector commits at once: the ack then rides on the transport's own.
                        let spacing = Duration::from_millis(COMMIT_SPACING_MS);
                        let left = spacing.saturating_sub(self.committed_at.elapsed());
                        if left.is_zero() || stop.is_some() {
                            break;
                        }
                        std::thread::sleep(left.min(Duration::from_millis(COMMIT_SPACING_MS / 4)));
                    }
                }
                if self.core.uncommitted() >= BATCH_FRAMES {
                    break;
                }
            }
            self.stats.queued.store((queue.len() + self.waiting.len()) as u64, Ordering::Relaxed);
            self.commit();
            self.maintain();
        }
        while let Some(event) = self.waiting.pop_front() {
            self.take(event);
        }
        self.commit();
        self.background.stop();
        if let Some(done) = stop {
            let _ = done.send(());
        }
    }

    /// Takes an event; gives the stop's reply if it is one.
    fn take(&mut self, event: Event) -> Option<oneshot::Sender<()>> {
        match event {
            Event::Open { source, session, progress, reply } => {
                let resume = LANES.map(|lane| self.core.open(&source, lane, session));
                // Openings may arrive out of order: the newest connection is the one that hears of acks.
                if self.sessions.get(&source).is_none_or(|known| known.number < session) {
                    self.sessions.insert(source, Session { number: session, progress });
                }
                let _ = reply.send(resume);
            }
            Event::Frame(frame) => self.frame(frame),
            Event::Internal(tick) => self.tick(tick),
            Event::Rows(rows) => self.rows(rows),
            Event::Forget(source) => {
                self.core.forget(&source);
                self.sessions.remove(&source);
            }
            Event::Snapshot { to, reply } => {
                let files = self.core.appender().snapshot(&to).map_err(|error| crate::error_chain(&error));
                let _ = reply.send(files);
            }
            Event::Clock => {}
            Event::Stop(done) => return Some(done),
        }
        None
    }

    fn frame(&mut self, frame: Arrived) {
        if self.refusing {
            self.waiting.push_back(Event::Frame(frame));
            return;
        }
        match self.core.frame(&frame.source, frame.session, frame.lane, frame.mark, &frame.payload) {
            Ok(Some(stored)) => {
                let counters = &frame.counters;
                counters.frames.fetch_add(1, Ordering::Relaxed);
                counters.samples.fetch_add(stored.samples, Ordering::Relaxed);
                counters.bytes.fetch_add(frame.payload.len() as u64, Ordering::Relaxed);
                counters.events.fetch_add(stored.events, Ordering::Relaxed);
                counters.lost_frames.fetch_add(stored.lost_frames, Ordering::Relaxed);
                if frame.lane == Lane::Metrics {
                    arrivals::note(&mut self.heard, frame.source.name.clone());
                }
                if frame.lane == Lane::Events {
                    counters.lost_events.fetch_add(stored.lost_frames, Ordering::Relaxed);
                }
                counters.last_frame_ms.store(unix_ms().unsigned_abs(), Ordering::Relaxed);
            }
            Ok(None) => {}
            Err(Fault::Full) => {
                self.commit();
                // Before any later frame of its lane, or that one would not follow.
                self.frame(frame);
            }
            Err(Fault::Refused(reason)) => {
                self.stats.faults.fetch_add(1, Ordering::Relaxed);
                warn!(agent = %frame.source.name, frame = ?frame.mark, "frame refused, closing the connection: {reason}");
                if let Some(session) = self.sessions.get(&frame.source).filter(|s| s.number == frame.session) {
                    session.progress.send_modify(|progress| progress.fault = Some(reason));
                }
            }
        }
    }

    fn rows(&mut self, rows: Rows) {
        let mut taken = None;
        if !self.refusing {
            taken = self.core.rows(&self.remote_write, &rows.series);
        }
        if taken.is_none() && !self.refusing {
            self.commit();
            taken = self.core.rows(&self.remote_write, &rows.series);
        }
        if taken.is_some() {
            rows.series.iter().for_each(|one| arrivals::note_series(&mut self.heard, &one.labels));
        }
        // Without an answer the sender comes again.
        self.replies.extend(taken.map(|appended| (rows.reply, appended)));
    }

    fn tick(&mut self, tick: Tick) {
        // While the disk refuses, rules must still see that it does; but own figures are not worth a long backlog.
        if self.refusing {
            self.stalled_samples = self.stalled_samples.saturating_add(tick.samples.len());
            if self.stalled_samples > STALLED_OWN_SAMPLES_MAX {
                return;
            }
        }
        if let Err(reason) = self.internal.tick(&mut self.core, tick) {
            warn!("own metrics not stored: {reason}");
        }
    }

    /// Commits until the disk takes it or, while it refuses, once; then acknowledges.
    fn commit(&mut self) {
        if !self.core.is_dirty() {
            return;
        }
        let begun = Instant::now();
        let committed = self.core.commit();
        self.committed_at = Instant::now();
        match committed {
            Ok(acks) => {
                self.stats.commits.fetch_add(1, Ordering::Relaxed);
                let spent_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.stats.commit_us.fetch_add(spent_us, Ordering::Relaxed);
                let was_refusing = std::mem::take(&mut self.refusing);
                self.stalled_samples = 0;
                for (source, lane, mark) in acks {
                    let at = LANES.iter().position(|known| *known == lane);
                    if let (Some(session), Some(at)) = (self.sessions.get(&source), at) {
                        session.progress.send_modify(|progress| progress.durable[at] = Some(mark));
                    }
                }
                for (reply, appended) in self.replies.drain(..) {
                    let _ = reply.send(appended);
                }
                self.arrivals.add(&mut self.heard);
                self.committed.send_modify(|number| *number += 1);
                // What waited while the disk refused goes on now.
                for event in std::mem::take(&mut self.waiting) {
                    self.take(event);
                }
                // Told last: until their frames are taken, agents look as if nothing came from them.
                if was_refusing && !self.refusing {
                    self.stats.stalled.store(false, Ordering::Relaxed);
                    *self.stats.stall_reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
                    info!("the disk takes writes again; acknowledging what waited");
                }
            }
            Err(reason) => {
                self.stats.commit_failures.fetch_add(1, Ordering::Relaxed);
                self.refusing = true;
                if !self.stats.stalled.swap(true, Ordering::Relaxed) {
                    error!("cannot write history, so nothing is acknowledged until it works again: {reason}");
                }
                *self.stats.stall_reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(reason);
                std::thread::sleep(Duration::from_millis(COMMIT_RETRY_MS));
            }
        }
    }

    fn maintain(&mut self) {
        if self.refusing || self.maintained.elapsed() < Duration::from_millis(MAINTAIN_MS) {
            return;
        }
        self.maintained = Instant::now();
        match self.core.appender().maintain(unix_ms()) {
            Ok(Some(job)) => self.background.start(job),
            Ok(None) => {}
            Err(error) => warn!("store upkeep failed, trying again: {}", crate::error_chain(&error)),
        }
    }
}
