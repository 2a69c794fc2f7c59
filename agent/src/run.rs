//! The agent at work: signals at their cadences into the lane, the link beside it, and a clean end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pitwatch_disk::RealDisk;
use pitwatch_shared::codec::{GroupId, SeriesDef};
use pitwatch_shared::delivery::{Backlog, Sender, SenderLimits};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::{CADENCE_MAX, Config};
use crate::identity::{Identity, IdentityError};
use crate::lane::{MetricsLane, Schema, SchemaChange};
use crate::limits::{self, Limits, Verdict};
use crate::link::{self, LinkConfig, LinkStats, SharedLane};
use crate::signals::{AGENT, Now, Runtime, Signals};
use crate::spool::Spool;

/// Frames wait in memory this long before they go to disk while the collector is away, milliseconds: what a kill -9
/// of the agent can lose of them.
pub const SPILL_AFTER_MS: i64 = 5_000;
/// Limits of age are looked at this often, milliseconds.
const EXPIRE_EVERY_MS: i64 = 60_000;
const EPOCH_FILE: &str = "epoch";
const SPOOL_DIR: &str = "spool";

/// Why the agent cannot work.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No usable identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The data directory.
    #[error("cannot use the data directory {path}: it must exist or be makeable, and be writable by the agent's user")]
    Data {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The agent uses more memory than it may, whatever it gives up.
    #[error(
        "the agent uses {used_bytes} bytes of memory, over its limit of {max_bytes}: it ends, to be started anew; \
         if this comes again, raise memory_max in [limits] or watch less"
    )]
    Memory {
        /// What it uses.
        used_bytes: u64,
        /// `memory_max`.
        max_bytes: u64,
    },
}

/// Runs until `stop`; then keeps on disk what was not acknowledged.
///
/// # Errors
/// What keeps the agent from beginning.
pub async fn run(config: &Config, stop: watch::Receiver<bool>) -> Result<(), RunError> {
    let data = |source| RunError::Data { path: config.data_dir.clone(), source };
    let identity = Identity::load(&config.data_dir)?;
    let spool_dir = config.data_dir.join(SPOOL_DIR);
    let spool = Spool::open(Arc::new(RealDisk), &spool_dir, config.queue.spool_max_bytes).map_err(data)?;
    if spool.damaged_bytes() > 0 {
        warn!(bytes = spool.damaged_bytes(), "the spool's end was damaged and is lost");
    }
    let epoch = next_epoch(&config.data_dir, spool.next_epoch()).map_err(data)?;
    info!(name = identity.name(), collector = %config.collector, epoch, spooled_bytes = spool.bytes(), "starting");
    let limits = SenderLimits {
        memory_bytes: usize::try_from(config.queue.memory_max_bytes).unwrap_or(usize::MAX),
        age_ms: i64::try_from(config.queue.spool_max_age.as_millis()).unwrap_or(i64::MAX),
        ..SenderLimits::default()
    };
    let lane = Arc::new(SharedLane::new(MetricsLane::new(Sender::new(epoch, limits, spool))));
    let link_config = LinkConfig {
        collector: config.collector.to_string(),
        identity_dir: config.data_dir.clone(),
        labels: config.labels.clone(),
    };
    let stats = LinkStats::default();
    let signals = Signals::new(&config.signals, &config.labels);
    let mut stopped = stop.clone();
    let guard = Guard::new(config);
    let mut over = None;
    tokio::select! {
        () = link::run(&link_config, identity, &lane, &stats, stop) => {}
        end = gather(signals, guard, &lane, &stats, &config.data_dir) => over = end,
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    let mut lane = lane.lock();
    let sender = lane.sender();
    sender.disconnected();
    let frames = sender.memory_frames();
    match sender.spill() {
        Ok(()) => info!(frames, "stopped; what was not acknowledged is on disk"),
        Err(error) => error!(frames, "stopped, but frames could not be kept on disk: {error}"),
    }
    over.map_or(Ok(()), Err)
}

/// Gathers every group at its cadence, until the agent is over its limit of memory for good.
async fn gather(
    mut signals: Signals,
    mut guard: Guard,
    lane: &SharedLane<Spool>,
    stats: &LinkStats,
    data_dir: &Path,
) -> Option<RunError> {
    let mut clocks: Vec<GroupClock> =
        signals.groups().iter().map(|group| GroupClock::new(group.id, group.cadence)).collect();
    let mut upkeep = Upkeep::default();
    loop {
        let next = clocks.iter().map(|clock| clock.due).min()?;
        tokio::time::sleep_until(next.into()).await;
        for clock in clocks.iter_mut().filter(|clock| clock.due <= Instant::now()) {
            clock.advance(guard.limits.stretch());
            if clock.group == AGENT {
                signals.set_runtime(runtime(lane, stats, &guard.limits));
            }
            tick(&mut signals, clock.group, lane);
        }
        lane.queued.notify_one();
        upkeep.run(lane, stats, data_dir);
        if let Some(over) = guard.look(lane) {
            return Some(over);
        }
    }
}

/// Keeps the agent within its own limits.
struct Guard {
    limits: Limits,
    due: Instant,
    statm: PathBuf,
}

impl Guard {
    fn new(config: &Config) -> Self {
        let statm = config.signals.proc_root.join("self/statm");
        Self { limits: Limits::new(config.limits), due: Instant::now(), statm }
    }

    /// Looks when it is time to; gives the reason to end, if there is one.
    fn look(&mut self, lane: &SharedLane<Spool>) -> Option<RunError> {
        let now = Instant::now();
        if now < self.due {
            return None;
        }
        self.due = now + limits::LOOK_EVERY;
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0));
        let text = fs::read_to_string(&self.statm).unwrap_or_default();
        let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
        let used_bytes = pages.saturating_mul(rustix::param::page_size() as u64);
        let max_bytes = self.limits.config().memory_max_bytes;
        match self.limits.look(now, cpu, used_bytes) {
            Verdict::Within => {}
            Verdict::Stretched => {
                let (ratio, stretch) = (self.limits.cpu_ratio(), self.limits.stretch());
                warn!(ratio, stretch, "the limit of CPU: every cadence is lengthened by the stretch");
            }
            Verdict::Relieve => {
                warn!(used_bytes, max_bytes, "over the limit of memory: what waits goes to disk");
                // What the disk refuses stays in memory, and is counted there.
                let _ = lane.lock().sender().spill();
                limits::give_back_free_memory();
            }
            Verdict::Restart => return Some(RunError::Memory { used_bytes, max_bytes }),
        }
        None
    }
}

struct GroupClock {
    group: GroupId,
    cadence: Duration,
    due: Instant,
}

impl GroupClock {
    fn new(group: GroupId, cadence: Duration) -> Self {
        Self { group, cadence, due: Instant::now() }
    }

    /// To the next tick; those that were missed (the host slept) are not made up for. The agent's own counters say how
    /// it is stretched, and are not.
    fn advance(&mut self, stretch: u32) {
        let stretched = self.cadence.saturating_mul(if self.group == AGENT { 1 } else { stretch });
        let cadence = stretched.min(CADENCE_MAX.max(self.cadence));
        self.due += cadence;
        let now = Instant::now();
        if self.due < now {
            self.due = now + cadence;
        }
    }
}

fn tick(signals: &mut Signals, group: GroupId, lane: &SharedLane<Spool>) {
    let now = Now::read();
    signals.gather(group, now);
    let mut lane = lane.lock();
    let changes = if lane.sender().wants_chain() {
        // The new chain declares what lives in every group: pending changes are part of that.
        for id in 0..signals.groups().len() {
            signals.table(id as GroupId).take_changes();
        }
        None
    } else {
        let changes = signals.table(group).take_changes();
        changes.map(|changes| SchemaChange { retire: changes.retire, add: changes.add })
    };
    let values = signals.tables().nth(usize::from(group)).map_or(&[][..], |table| table.values());
    if let Err(error) = lane.tick(now.ts_ms, group, changes, values, signals) {
        error!(group, "signals that cannot be encoded, beginning a new chain: {error}");
    }
}

impl Schema for Signals {
    fn groups(&self) -> Vec<GroupId> {
        self.groups().iter().map(|group| group.id).collect()
    }

    fn live(&self, group: GroupId) -> Vec<SeriesDef> {
        self.tables().nth(usize::from(group)).map(|table| table.live().cloned().collect()).unwrap_or_default()
    }
}

fn runtime(lane: &SharedLane<Spool>, stats: &LinkStats, limits: &Limits) -> Runtime {
    let mut lane = lane.lock();
    let sender = lane.sender();
    let counts = sender.stats();
    Runtime {
        connected: stats.connected.load(Ordering::Relaxed),
        reconnects: stats.sessions.load(Ordering::Relaxed).saturating_sub(1),
        queue_bytes: sender.memory_bytes() as u64,
        spool_bytes: sender.backlog().bytes(),
        frames: counts.queued,
        frames_acked: counts.acked,
        frames_dropped: counts.dropped() + sender.backlog().dropped(),
        cadence_stretch: limits.stretch(),
        cpu_ratio: limits.cpu_ratio(),
        cpu_max_ratio: limits.config().cpu_max_ratio,
        memory_max_bytes: limits.config().memory_max_bytes,
        memory_relieved: limits.relieved(),
        udp_sent_bytes: stats.udp_sent_bytes.load(Ordering::Relaxed),
        udp_received_bytes: stats.udp_received_bytes.load(Ordering::Relaxed),
    }
}

/// What the passing of time asks of the queue.
#[derive(Default)]
struct Upkeep {
    expired_ms: i64,
    epoch: u64,
    spill_failed: bool,
}

impl Upkeep {
    fn run(&mut self, lane: &SharedLane<Spool>, stats: &LinkStats, data_dir: &Path) {
        let now_ms = Now::read().ts_ms;
        let mut lane = lane.lock();
        let sender = lane.sender();
        let waited_ms = sender.oldest_in_memory_ms().map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms));
        if waited_ms >= SPILL_AFTER_MS && sender.memory_frames() > 0 {
            let failed = sender.spill().is_err();
            if failed && !self.spill_failed {
                warn!(
                    connected = stats.connected.load(Ordering::Relaxed),
                    "frames wait in memory: the spool's disk fails"
                );
            }
            self.spill_failed = failed;
        }
        if now_ms.saturating_sub(self.expired_ms) >= EXPIRE_EVERY_MS {
            self.expired_ms = now_ms;
            sender.expire(now_ms);
        }
        // The sender moved on because the collector knew a later epoch: so must the next start.
        let epoch = sender.epoch();
        if self.epoch != 0 && epoch != self.epoch {
            warn!(epoch, "the collector knows later frames of this agent than its own data: numbering anew");
            let _ = save_epoch(data_dir, epoch);
        }
        self.epoch = epoch;
    }
}

/// An epoch later than every one before: by the file, by the spool and, if the data was wiped, by the clock.
fn next_epoch(dir: &Path, spooled: u64) -> io::Result<u64> {
    fs::create_dir_all(dir)?;
    let stored = fs::read_to_string(dir.join(EPOCH_FILE)).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let clock = u64::try_from(Now::read().ts_ms / 1000).unwrap_or(0);
    let epoch = stored.map_or(clock, |stored| stored.saturating_add(1)).max(spooled);
    save_epoch(dir, epoch)?;
    Ok(epoch)
}

fn save_epoch(dir: &Path, epoch: u64) -> io::Result<()> {
    let new = dir.join("epoch.new");
    fs::write(&new, format!("{epoch}\n"))?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, dir.join(EPOCH_FILE))?;
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_grow_whatever_is_left_of_the_data() {
        let dir = tempfile::tempdir().unwrap();
        let first = next_epoch(dir.path(), 1).unwrap();
        assert_eq!(next_epoch(dir.path(), 1).unwrap(), first + 1);
        assert_eq!(next_epoch(dir.path(), first + 9).unwrap(), first + 9);
        fs::remove_file(dir.path().join(EPOCH_FILE)).unwrap();
        assert!(next_epoch(dir.path(), 1).unwrap() >= first);
    }
}
