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
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::apps::Apps;
use crate::config::{CADENCE_MAX, Config};
use crate::events::watch::LOOK_EVERY;
use crate::events::{EventKind, EventsLane, Happening, Watch, noticed};
use crate::identity::{Identity, IdentityError};
use crate::lane::{MetricsLane, Queue, Schema, SchemaChange};
use crate::limits::{self, Limits, Verdict};
use crate::link::{self, Lanes, LinkConfig, LinkStats, SharedLane};
use crate::notify::Notifier;
use crate::reload::{Central, Look, ReloadCounts, Reloader};
use crate::signals::{AGENT, Now, Runtime, Signals, Table};
use crate::spool::Spool;

/// Frames wait in memory this long before they go to disk while the collector is away, milliseconds: what a kill -9
/// of the agent can lose of them.
pub const SPILL_AFTER_MS: i64 = 5_000;
/// Limits of age are looked at this often, milliseconds.
const EXPIRE_EVERY_MS: i64 = 60_000;
const EPOCH_FILE: &str = "epoch";
const SPOOL_DIR: &str = "spool";
const EVENTS_DIR: &str = "events";
/// Events that may wait in memory while the disk refuses, bytes; on disk; and how long.
const EVENTS_MEMORY_BYTES: usize = 1024 * 1024;
const EVENTS_SPOOL_BYTES: u64 = 16 * 1024 * 1024;
const EVENTS_AGE_MS: i64 = 30 * 24 * 3600 * 1000;

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

/// Runs until `stop`; then keeps on disk what was not acknowledged. `reloader` says when the configuration is another.
///
/// # Errors
/// What keeps the agent from beginning.
pub async fn run(mut config: Config, mut reloader: Reloader, mut stop: watch::Receiver<bool>) -> Result<(), RunError> {
    let data_dir = config.data_dir.clone();
    let identity = Identity::load(&data_dir)?;
    let lanes = Arc::new(open_lanes(&config, identity.name())?);
    let stats = Arc::new(LinkStats::default());
    let mut notifier = Notifier::from_environment();
    let now_ms = Now::read().ts_ms;
    let mut watch = Watch::new(&data_dir, &config.signals.proc_root, &config.signals.root, now_ms);
    let central = reloader.central();
    let mut link = LinkTask::start(&config, &central, identity, &lanes, &stats);
    notifier.ready("gathering");
    let mut over = None;
    loop {
        let gathered = Gathered {
            signals: Signals::new(&config.signals, &config.labels),
            apps: Apps::start(&config.apps, &config.labels),
        };
        let looks = Looks { watch: &mut watch, reloader: &mut reloader, notifier: &mut notifier };
        let next = tokio::select! {
            next = gather(gathered, looks, &lanes, &stats, &config) => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let next = match next {
            Ok(next) => next,
            Err(error) => {
                over = Some(error);
                break;
            }
        };
        // The series begin anew, and with them the chain.
        lanes.metrics.lock().sender().break_chain();
        let reconnect = next.collector != config.collector || next.labels != config.labels;
        config = next;
        if reconnect {
            link.end().await;
            link = LinkTask::start(&config, &central, Identity::load(&data_dir)?, &lanes, &stats);
        }
        notifier.ready("gathering with a new configuration");
    }
    notifier.stopping();
    link.end().await;
    watch.stop(Now::read().ts_ms);
    // An event is on disk as soon as the disk takes it; this is for what it refused.
    let _ = keep(&lanes.events);
    let (frames, kept) = keep(&lanes.metrics);
    match kept {
        Ok(()) => info!(frames, "stopped; what was not acknowledged is on disk"),
        Err(error) => error!(frames, "stopped, but frames could not be kept on disk: {error}"),
    }
    over.map_or(Ok(()), Err)
}

/// Opens what earlier runs left, and numbers this one.
fn open_lanes(config: &Config, name: &str) -> Result<Lanes<Spool>, RunError> {
    let dir = &config.data_dir;
    let data = |source| RunError::Data { path: dir.clone(), source };
    let spool = Spool::open(Arc::new(RealDisk), &dir.join(SPOOL_DIR), config.queue.spool_max_bytes).map_err(data)?;
    let events_spool = Spool::open(Arc::new(RealDisk), &dir.join(EVENTS_DIR), EVENTS_SPOOL_BYTES).map_err(data)?;
    let damaged_bytes = spool.damaged_bytes() + events_spool.damaged_bytes();
    if damaged_bytes > 0 {
        warn!(bytes = damaged_bytes, "the spool's end was damaged and is lost");
    }
    let epoch = next_epoch(dir, spool.next_epoch().max(events_spool.next_epoch())).map_err(data)?;
    info!(name, collector = %config.collector, epoch, spooled_bytes = spool.bytes(), "starting");
    let limits = SenderLimits {
        memory_bytes: usize::try_from(config.queue.memory_max_bytes).unwrap_or(usize::MAX),
        age_ms: i64::try_from(config.queue.spool_max_age.as_millis()).unwrap_or(i64::MAX),
        ..SenderLimits::default()
    };
    let events_limits =
        SenderLimits { memory_bytes: EVENTS_MEMORY_BYTES, age_ms: EVENTS_AGE_MS, ..SenderLimits::default() };
    Ok(Lanes::new(
        MetricsLane::new(Sender::new(epoch, limits, spool)),
        EventsLane::new(Sender::new(epoch, events_limits, events_spool)),
    ))
}

/// The link at work.
struct LinkTask {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl LinkTask {
    fn start(
        config: &Config,
        central: &Arc<Central>,
        identity: Identity,
        lanes: &Arc<Lanes<Spool>>,
        stats: &Arc<LinkStats>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (lanes, stats) = (lanes.clone(), stats.clone());
        let config = LinkConfig {
            collector: config.collector.to_string(),
            identity_dir: config.data_dir.clone(),
            labels: config.labels.clone(),
            central: central.clone(),
        };
        let task = tokio::spawn(async move { link::run(&config, identity, &lanes, &stats, stopped).await });
        Self { stop, task }
    }

    async fn end(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// Puts on disk what was not acknowledged; gives how many frames waited in memory.
fn keep<L: Queue>(shared: &SharedLane<L>) -> (usize, io::Result<()>) {
    let mut lane = shared.lock();
    let sender = lane.sender();
    sender.disconnected();
    (sender.memory_frames(), sender.spill())
}

/// Everything that is gathered: the groups of the metrics lane.
struct Gathered {
    signals: Signals,
    apps: Apps,
}

impl Gathered {
    fn table(&mut self, group: GroupId) -> Option<&mut Table> {
        match self.signals.groups().iter().any(|of| of.id == group) {
            true => Some(self.signals.table(group)),
            false => self.apps.table(group),
        }
    }

    fn tables(&self) -> impl Iterator<Item = (GroupId, &Table)> {
        let host = self.signals.groups().iter().map(|group| group.id).zip(self.signals.tables());
        host.chain(self.apps.groups())
    }

    fn values(&self, group: GroupId) -> &[f64] {
        self.tables().find(|(id, _)| *id == group).map_or(&[], |(_, table)| table.values())
    }
}

impl Schema for Gathered {
    fn groups(&self) -> Vec<GroupId> {
        self.tables().map(|(id, _)| id).collect()
    }

    fn live(&self, group: GroupId) -> Vec<SeriesDef> {
        let table = self.tables().find(|(id, _)| *id == group);
        table.map(|(_, table)| table.live().cloned().collect()).unwrap_or_default()
    }
}

/// What is looked at every second.
struct Looks<'a> {
    watch: &'a mut Watch,
    reloader: &'a mut Reloader,
    notifier: &'a mut Notifier,
}

/// Gathers every group at its cadence, and looks for events, until the configuration is another: gives that, or the
/// reason to end if the agent is over its limit of memory for good.
async fn gather(
    mut gathered: Gathered,
    looks: Looks<'_>,
    lanes: &Lanes<Spool>,
    stats: &LinkStats,
    config: &Config,
) -> Result<Config, RunError> {
    let mut guard = Guard::new(config);
    let mut look_due = Instant::now();
    let mut clocks: Vec<GroupClock> =
        gathered.signals.groups().iter().map(|group| GroupClock::new(group.id, group.cadence)).collect();
    let mut upkeep = Upkeep::default();
    loop {
        let dues = clocks.iter().map(|clock| clock.due).chain(gathered.apps.due());
        let next = dues.fold(look_due, Instant::min);
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            Some(scraped) = gathered.apps.scraped() => {
                let ts_ms = scraped.at.ts_ms;
                if let Some(group) = gathered.apps.take(scraped) {
                    queue(&mut gathered, group, ts_ms, &lanes.metrics);
                }
            }
        }
        for group in gathered.apps.gather() {
            queue(&mut gathered, group, Now::read().ts_ms, &lanes.metrics);
        }
        for clock in clocks.iter_mut().filter(|clock| clock.due <= Instant::now()) {
            clock.advance(guard.limits.stretch());
            if clock.group == AGENT {
                gathered.signals.set_runtime(runtime(lanes, stats, looks.reloader.counts(), &guard.limits));
            }
            let now = Now::read();
            gathered.signals.gather(clock.group, now);
            queue(&mut gathered, clock.group, now.ts_ms, &lanes.metrics);
        }
        lanes.metrics.queued.notify_one();
        if look_due <= Instant::now() {
            look_due = Instant::now() + LOOK_EVERY;
            looks.notifier.alive(Instant::now());
            let now_ms = Now::read().ts_ms;
            report(&looks.watch.look(now_ms), lanes);
            let noticed = gathered.signals.take_notices().into_iter();
            report(&noticed.map(|(time_ms, notice)| noticed::happening(time_ms, notice)).collect::<Vec<_>>(), lanes);
            match looks.reloader.look(config, now_ms) {
                Look::Same => {}
                Look::Refused(happening) => report(&[happening], lanes),
                Look::New(config, happening) => {
                    looks.notifier.reloading();
                    report(&[happening], lanes);
                    return Ok(*config);
                }
            }
        }
        upkeep.run(lanes, stats, &config.data_dir);
        if let Some(over) = guard.look(lanes) {
            return Err(over);
        }
    }
}

/// Puts what happened into the events lane.
fn report(happenings: &[Happening], lanes: &Lanes<Spool>) {
    for happening in happenings {
        info!(kind = happening.kind.as_str(), "{}", happening.summary);
        lanes.events.lock().report(Now::read().ts_ms, happening);
    }
    if !happenings.is_empty() {
        lanes.events.queued.notify_one();
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
    fn look(&mut self, lanes: &Lanes<Spool>) -> Option<RunError> {
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
                let summary = format!("the agent used {ratio:.2} of a core: every cadence is {stretch} times as long");
                report(&[Happening::new(EventKind::SelfLimit, Now::read().ts_ms, summary)], lanes);
            }
            Verdict::Relieve => {
                warn!(used_bytes, max_bytes, "over the limit of memory: what waits goes to disk");
                // What the disk refuses stays in memory, and is counted there.
                let _ = lanes.metrics.lock().sender().spill();
                let summary = format!("the agent used {used_bytes} bytes of memory, more than {max_bytes}");
                report(&[Happening::new(EventKind::SelfLimit, Now::read().ts_ms, summary)], lanes);
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

/// Queues a group as it was last gathered.
fn queue(gathered: &mut Gathered, group: GroupId, ts_ms: i64, lane: &SharedLane<MetricsLane<Spool>>) {
    let mut lane = lane.lock();
    let changes = if lane.sender().wants_chain() {
        // The new chain declares what lives in every group: pending changes are part of that.
        for id in gathered.groups() {
            gathered.table(id).and_then(Table::take_changes);
        }
        None
    } else {
        let changes = gathered.table(group).and_then(Table::take_changes);
        changes.map(|changes| SchemaChange { retire: changes.retire, add: changes.add })
    };
    if let Err(error) = lane.tick(ts_ms, group, changes, gathered.values(group), gathered) {
        error!(group, "signals that cannot be encoded, beginning a new chain: {error}");
    }
}

fn runtime(lanes: &Lanes<Spool>, stats: &LinkStats, reload: ReloadCounts, limits: &Limits) -> Runtime {
    let (events, events_dropped) = {
        let mut lane = lanes.events.lock();
        (lane.counts(), lane.dropped())
    };
    let mut lane = lanes.metrics.lock();
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
        events,
        events_dropped,
        reload,
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
    fn run(&mut self, lanes: &Lanes<Spool>, stats: &LinkStats, data_dir: &Path) {
        let now_ms = Now::read().ts_ms;
        let expire = now_ms.saturating_sub(self.expired_ms) >= EXPIRE_EVERY_MS;
        let events_epoch = {
            let mut lane = lanes.events.lock();
            let sender = lane.sender();
            if expire {
                sender.expire(now_ms);
                // What the disk refused when it came.
                let _ = sender.spill();
            }
            sender.epoch()
        };
        let mut lane = lanes.metrics.lock();
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
        if expire {
            self.expired_ms = now_ms;
            sender.expire(now_ms);
        }
        // The sender moved on because the collector knew a later epoch: so must the next start.
        let epoch = sender.epoch().max(events_epoch);
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
