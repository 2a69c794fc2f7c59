//! An agent's lane: its disk, its process while it lives, and all that it ever sent, as the checker remembers it.
//!
//! What a process does is `run.rs` of the agent in small: ticks into the lane, frames to the spool when they have waited,
//! an epoch that is durable before it is used. The two lanes of a host have each a process, a disk and connections here, to
//! fail apart; at the collector they are lanes of one source. A tick of the events lane is an event.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use pitwatch_agent::events::{EventKind, EventsLane, Happening};
use pitwatch_agent::lane::{MetricsLane, Queue as _, Schema, SchemaChange};
use pitwatch_agent::spool::Spool;
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::SourceName;
use pitwatch_shared::codec::{GroupId, SeriesDef, Slot};
use pitwatch_shared::delivery::{Backlog, Sender};
use pitwatch_shared::model::{INSTANCE, Labels, Lane, METRIC_NAME, Mark, MetricType};

use crate::coverage::Coverage;
use crate::plan::Plan;

const SPOOL_DIR: &str = "/spool";
/// As in `run.rs`.
const SPILL_AFTER_MS: i64 = 5_000;
const EXPIRE_EVERY_MS: i64 = 10_000;
/// The first epoch; agents that lost their data begin far below.
const FIRST_EPOCH: u64 = 1_000_000;
/// Series that a group may have, and slots for them.
const SERIES_PER_GROUP: u32 = 7;

/// A tick as it was queued.
#[derive(Debug)]
pub(crate) struct Tick {
    pub(crate) ts_ms: i64,
    pub(crate) group: GroupId,
    pub(crate) content: Content,
    /// An ack said that it is durable.
    pub(crate) acked: bool,
    /// It was in memory only when its process died.
    pub(crate) died: bool,
}

/// What a tick brings.
#[derive(Debug)]
pub(crate) enum Content {
    /// Stamped labels and value bits of all series of the group.
    Samples(Vec<(Labels, u64)>),
    /// An event's kind and summary.
    Event(EventKind, String),
}

impl Content {
    /// How many things the store has of it.
    pub(crate) fn parts(&self) -> usize {
        match self {
            Self::Samples(samples) => samples.len(),
            Self::Event(..) => 1,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Agent {
    /// For those who read what happens.
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) lane: Lane,
    pub(crate) source: SourceName,
    pub(crate) disk: SimDisk,
    pub(crate) process: Option<Process>,
    pub(crate) tables: Tables,
    pub(crate) ticks: Vec<Tick>,
    /// The tick in each frame that holds one; schema frames hold none.
    frames: BTreeMap<Mark, Option<usize>>,
    /// The last mark that the collector said is durable.
    pub(crate) acked: Option<Mark>,
    /// Frames that processes that are gone counted as dropped.
    dropped_before: u64,
    stored_epoch: Option<u64>,
    wiped: u64,
    pub(crate) clock_skew_ms: i64,
    used_ts: BTreeSet<i64>,
    pub(crate) partition_until_ms: i64,
    pub(crate) disk_ails: bool,
    pub(crate) links: u64,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) lane: Queued,
    epoch: u64,
    /// The last number given in the epoch.
    seq: u64,
    expired_ms: i64,
}

/// A lane of either kind.
#[derive(Debug)]
pub(crate) enum Queued {
    Metrics(Box<MetricsLane<Spool>>),
    Events(Box<EventsLane<Spool>>),
}

impl Queued {
    pub(crate) fn sender(&mut self) -> &mut Sender<Spool> {
        match self {
            Self::Metrics(lane) => lane.sender(),
            Self::Events(lane) => lane.sender(),
        }
    }
}

impl Agent {
    /// The lane of the host `number` that is the run's agent `index`.
    pub(crate) fn new(index: usize, number: usize, lane: Lane, seed: u64, plan: &Plan) -> Self {
        let host = format!("host-{number}");
        Self {
            source: SourceName::agent(&host),
            tables: Tables::new(index, &host, plan),
            name: if lane == Lane::Events { format!("{host}'s events") } else { host.clone() },
            host,
            lane,
            disk: SimDisk::new(seed ^ (index as u64 + 1) << 32),
            process: None,
            ticks: Vec::new(),
            frames: BTreeMap::new(),
            acked: None,
            dropped_before: 0,
            stored_epoch: Some(FIRST_EPOCH),
            wiped: 0,
            clock_skew_ms: 0,
            used_ts: BTreeSet::new(),
            partition_until_ms: 0,
            disk_ails: false,
            links: 0,
        }
    }

    /// Starts the process; `false` if the disk does not let it.
    pub(crate) fn start(&mut self, plan: &Plan, coverage: &mut Coverage) -> bool {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let Ok(spool) = Spool::open(disk, Path::new(SPOOL_DIR), plan.spool_bytes) else { return false };
        coverage.spools_reopened += u64::from(spool.last().is_some());
        coverage.spool_torn_bytes += spool.damaged_bytes();
        // Data that was wiped and a clock that is behind: an epoch that was never used, below those that were.
        let epoch = self.stored_epoch.map_or(self.wiped * 1_000, |stored| stored + 1).max(spool.next_epoch());
        self.stored_epoch = Some(epoch);
        self.tables.take_all_changes();
        let sender = Sender::new(epoch, plan.sender, spool);
        let lane = match self.lane {
            Lane::Events => Queued::Events(Box::new(EventsLane::new(sender))),
            _ => Queued::Metrics(Box::new(MetricsLane::new(sender))),
        };
        self.process = Some(Process { lane, epoch, seq: 0, expired_ms: i64::MIN });
        true
    }

    /// The process ends, cleanly or not, and what it had in memory only is gone.
    pub(crate) fn die(&mut self, coverage: &mut Coverage) {
        let Some(mut process) = self.process.take() else { return };
        let sender = process.lane.sender();
        coverage.in_memory_at_death += sender.memory_frames() as u64;
        coverage.dropped_by_spool += sender.backlog().dropped();
        self.dropped_before += sender.stats().dropped() + sender.backlog().dropped();
        // The spool is the older part; what came after it and was not acknowledged was in memory only.
        let kept = sender.backlog().last().max(self.acked.filter(|mark| mark.epoch == process.epoch));
        for (mark, tick) in self.frames.range(of_epoch(process.epoch)) {
            if Some(*mark) > kept
                && let Some(tick) = tick
            {
                self.ticks[*tick].died = true;
            }
        }
    }

    /// The agent's data is gone and its clock behind. What waited on disk is lost by the operator's hand.
    pub(crate) fn wipe(&mut self, seed: u64) {
        self.ticks.iter_mut().filter(|tick| !tick.acked).for_each(|tick| tick.died = true);
        self.disk = SimDisk::new(seed);
        self.disk_ails = false;
        self.wiped += 1;
        self.stored_epoch = None;
    }

    /// Whether its data was ever lost, so that it may hear of frames that it does not know.
    pub(crate) fn was_wiped(&self) -> bool {
        self.wiped > 0
    }

    /// Queues a tick of a group; the events lane has one.
    pub(crate) fn tick(&mut self, now_ms: i64, group: GroupId) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        if self.lane == Lane::Events && group > 0 {
            return Ok(());
        }
        let mut ts_ms = now_ms + self.clock_skew_ms;
        while !self.used_ts.insert(ts_ms) {
            ts_ms += 1;
        }
        let before = process.lane.sender().stats().queued;
        let number = self.ticks.len();
        let content = match &mut process.lane {
            Queued::Metrics(lane) => {
                let change = if lane.sender().wants_chain() {
                    self.tables.take_all_changes();
                    None
                } else {
                    self.tables.take_changes(group)
                };
                let (values, samples) = self.tables.values(group, number as u64);
                let ticked = lane.tick(ts_ms, group, change, &values, &self.tables);
                ticked.map_err(|error| format!("{}: a tick cannot be encoded: {error}", self.name))?;
                Content::Samples(samples)
            }
            Queued::Events(lane) => {
                let kind = EventKind::ALL[number % EventKind::ALL.len()];
                let summary = format!("event {number} of {}", self.host);
                lane.report(ts_ms, &Happening::new(kind, ts_ms, &*summary).with("number", number.to_string()));
                Content::Event(kind, summary)
            }
        };
        let queued = process.lane.sender().stats().queued - before;
        if queued == 0 {
            // Events beyond the lane's rate are none.
            return Ok(());
        }
        self.ticks.push(Tick { ts_ms, group, content, acked: false, died: false });
        for left in (0..queued).rev() {
            process.seq += 1;
            let mark = Mark { epoch: process.epoch, seq: process.seq };
            self.frames.insert(mark, (left == 0).then(|| self.ticks.len() - 1));
        }
        Ok(())
    }

    /// What the passing of time asks of the queue.
    pub(crate) fn upkeep(&mut self, now_ms: i64) {
        let Some(process) = &mut self.process else { return };
        let now_ms = now_ms + self.clock_skew_ms;
        let sender = process.lane.sender();
        let waited_ms = sender.oldest_in_memory_ms().map_or(0, |oldest_ms| now_ms - oldest_ms);
        if waited_ms >= SPILL_AFTER_MS && sender.memory_frames() > 0 {
            // What the disk refuses waits.
            let _ = sender.spill();
        }
        if now_ms.saturating_sub(process.expired_ms) >= EXPIRE_EVERY_MS {
            process.expired_ms = now_ms;
            sender.expire(now_ms);
        }
        self.stored_epoch = Some(process.epoch);
    }

    /// A connection is up; gives whether the frames were numbered anew.
    pub(crate) fn connected(&mut self, durable: Option<Mark>, chain_known: bool) -> bool {
        let Some(process) = &mut self.process else { return false };
        let sender = process.lane.sender();
        sender.connected(durable, chain_known);
        self.acked = self.acked.max(durable);
        let epoch = sender.epoch();
        if epoch == process.epoch {
            return false;
        }
        // What waits in memory was numbered anew: the last frames, in their order.
        let waiting = sender.memory_frames();
        let last = self.frames.range(of_epoch(process.epoch)).rev().take(waiting);
        let old: Vec<Mark> = last.map(|(mark, _)| *mark).collect();
        for (mark, seq) in old.iter().rev().zip(1..) {
            let tick = self.frames.remove(mark).flatten();
            self.frames.insert(Mark { epoch, seq }, tick);
        }
        process.epoch = epoch;
        process.seq = waiting as u64;
        true
    }

    /// The ack for `mark` came: what was sent before it on that connection is durable for ever. Of earlier lives' frames
    /// that is not sure: one that was dropped and counted, and whose failed write reached the disk after all, comes too
    /// late and passes for a duplicate.
    pub(crate) fn acknowledged(&mut self, mark: Mark, sent: impl Iterator<Item = Mark>) {
        self.acked = self.acked.max(Some(mark));
        let epoch = self.process.as_ref().map(|process| process.epoch);
        for mark in sent.filter(|mark| Some(mark.epoch) == epoch) {
            if let Some(Some(tick)) = self.frames.get(&mark) {
                self.ticks[*tick].acked = true;
            }
        }
    }

    /// Bytes of the running process' spool.
    pub(crate) fn spool_bytes(&mut self) -> u64 {
        self.process.as_mut().map_or(0, |process| process.lane.sender().backlog().bytes())
    }

    /// The mark of the last frame queued.
    pub(crate) fn last_mark(&self) -> Option<Mark> {
        self.process.as_ref().map(|process| Mark { epoch: process.epoch, seq: process.seq })
    }

    /// Whether nothing waits.
    pub(crate) fn is_drained(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.lane.sender().is_drained())
    }

    /// Frames that all its processes counted as dropped.
    pub(crate) fn dropped(&mut self) -> u64 {
        let now = self.process.as_mut().map_or(0, |process| {
            let sender = process.lane.sender();
            sender.stats().dropped() + sender.backlog().dropped()
        });
        self.dropped_before + now
    }

    /// Whether the disk's power is gone.
    pub(crate) fn is_dark(&self) -> bool {
        self.disk.list(Path::new(SPOOL_DIR)).is_err()
    }
}

fn of_epoch(epoch: u64) -> RangeInclusive<Mark> {
    Mark { epoch, seq: 0 }..=Mark { epoch, seq: u64::MAX }
}

/// The series of an agent's groups.
#[derive(Debug)]
pub(crate) struct Tables {
    agent: u64,
    name: String,
    label_bytes: usize,
    groups: Vec<Table>,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Option<Series>>,
    change: SchemaChange,
}

#[derive(Clone, Debug)]
struct Series {
    number: u32,
    labels: Labels,
    stamped: Labels,
}

impl Tables {
    fn new(agent: usize, name: &str, plan: &Plan) -> Self {
        let mut tables = Self {
            agent: agent as u64,
            name: name.to_owned(),
            label_bytes: plan.label_bytes,
            groups: (0..plan.groups).map(|_| Table::default()).collect(),
        };
        for group in 0..plan.groups {
            for number in 0..SERIES_PER_GROUP / 2 {
                tables.begin(group, number);
            }
        }
        tables
    }

    /// A series appears or vanishes.
    pub(crate) fn change(&mut self, group: GroupId, rng: &mut Rng) {
        let (group, number) = (usize::from(group), rng.u32(..SERIES_PER_GROUP));
        let slots = &self.groups[group].slots;
        match slots.iter().position(|series| series.as_ref().is_some_and(|series| series.number == number)) {
            Some(slot) => self.end(group, slot),
            None => self.begin(group, number),
        }
    }

    fn begin(&mut self, group: usize, number: u32) {
        let labels = [
            (METRIC_NAME, format!("metric_{}", number % 3)),
            ("series", number.to_string()),
            ("group", group.to_string()),
            ("filler", "x".repeat(self.label_bytes)),
        ];
        let labels = Labels::new(labels).unwrap();
        let stamped = labels.with(INSTANCE, &self.name).unwrap();
        let table = &mut self.groups[group];
        let free = table.slots.iter().position(Option::is_none).unwrap_or(table.slots.len());
        if free == table.slots.len() {
            table.slots.push(None);
        }
        table.change.add.push(SeriesDef { slot: free as Slot, kind: MetricType::Gauge, labels: labels.clone() });
        table.slots[free] = Some(Series { number, labels, stamped });
    }

    fn end(&mut self, group: usize, slot: usize) {
        let table = &mut self.groups[group];
        table.slots[slot] = None;
        let slot = slot as Slot;
        // One that was never declared needs no end.
        match table.change.add.iter().position(|series| series.slot == slot) {
            Some(at) => {
                table.change.add.remove(at);
            }
            None => table.change.retire.push(slot),
        }
    }

    fn take_changes(&mut self, group: GroupId) -> Option<SchemaChange> {
        let change = std::mem::take(&mut self.groups[usize::from(group)].change);
        (change != SchemaChange::default()).then_some(change)
    }

    fn take_all_changes(&mut self) {
        self.groups.iter_mut().for_each(|table| table.change = SchemaChange::default());
    }

    /// The values of a tick by slot, and what they mean. A value says whose it is: agent, group, series and tick;
    /// some series change only now and then.
    fn values(&self, group: GroupId, tick: u64) -> (Vec<f64>, Vec<(Labels, u64)>) {
        let slots = &self.groups[usize::from(group)].slots;
        let mut values = vec![0.0; slots.len()];
        let mut samples = Vec::new();
        for (slot, series) in slots.iter().enumerate() {
            let Some(series) = series else { continue };
            let of_tick = if series.number % 3 == 1 { tick / 16 } else { tick };
            let place = (self.agent * 100 + u64::from(group)) * 100 + u64::from(series.number);
            values[slot] = (place * 1_000_000 + of_tick) as f64;
            samples.push((series.stamped.clone(), values[slot].to_bits()));
        }
        (values, samples)
    }
}

impl Schema for Tables {
    fn groups(&self) -> Vec<GroupId> {
        (0..self.groups.len() as GroupId).collect()
    }

    fn live(&self, group: GroupId) -> Vec<SeriesDef> {
        let slots = self.groups[usize::from(group)].slots.iter().enumerate();
        let live = slots.filter_map(|(slot, series)| Some((slot, series.as_ref()?)));
        live.map(|(slot, series)| SeriesDef {
            slot: slot as Slot,
            kind: MetricType::Gauge,
            labels: series.labels.clone(),
        })
        .collect()
    }
}
