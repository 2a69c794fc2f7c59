//! The collector: its disk, and its process while it lives. What it does is the ingest thread in small: frames into
//! the core, commits, acks, upkeep; while the disk refuses, frames wait in their order.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pitwatch_collector::ingest::core::{Core, Fault, Resume};
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::{Config, History, Job, Loss, SourceName};
use pitwatch_shared::model::{Lane, Mark};

use crate::coverage::Coverage;

const DIR: &str = "/store";

#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) disk: SimDisk,
    pub(crate) process: Option<Process>,
    pub(crate) disk_ails: bool,
    pub(crate) down_until_ms: i64,
}

#[derive(Debug)]
pub(crate) struct Process {
    core: Core,
    pub(crate) history: Arc<History>,
    waiting: VecDeque<Arrived>,
    stalled: bool,
    /// The newest connection of each agent that said hello: acks go there.
    pub(crate) current: HashMap<usize, u64>,
    next_session: u64,
    /// A job of the store that runs beside the rest.
    pub(crate) sealing: Option<Job>,
}

/// What is durable of a lane.
pub(crate) type Ack = (SourceName, Lane, Mark);

#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) agent: usize,
    pub(crate) source: SourceName,
    pub(crate) lane: Lane,
    pub(crate) session: u64,
    pub(crate) mark: Mark,
    pub(crate) payload: Bytes,
}

impl Collector {
    pub(crate) fn new(seed: u64) -> Self {
        Self { disk: SimDisk::new(seed), process: None, disk_ails: false, down_until_ms: 0 }
    }

    /// Starts the process; `None` if the disk does not let it.
    pub(crate) fn start(&mut self, config: &Config, coverage: &mut Coverage) -> Result<bool, String> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let Ok((history, appender, report)) = History::open(disk, Path::new(DIR), config.clone()) else {
            return Ok(false);
        };
        if self.is_dark() {
            return Ok(false);
        }
        for loss in &report.losses {
            match loss {
                Loss::TornTail { .. } => coverage.torn_tails += 1,
                Loss::Header { .. } => {}
                loss => return Err(format!("the store was damaged by a mere crash: {loss}")),
            }
        }
        self.process = Some(Process {
            core: Core::new(appender),
            history,
            waiting: VecDeque::new(),
            stalled: false,
            current: HashMap::new(),
            next_session: 1,
            sealing: None,
        });
        Ok(true)
    }

    /// Whether the disk's power is gone.
    pub(crate) fn is_dark(&self) -> bool {
        self.disk.list(Path::new(DIR)).is_err()
    }
}

impl Process {
    /// A connection was admitted.
    pub(crate) fn admit(&mut self) -> u64 {
        self.next_session += 1;
        self.next_session - 1
    }

    /// A connection said hello. Hellos of two connections may come in either order.
    pub(crate) fn open(&mut self, agent: usize, source: &SourceName, lane: Lane, session: u64) -> Resume {
        let current = self.current.entry(agent).or_default();
        *current = session.max(*current);
        self.core.open(source, lane, session)
    }

    /// The last mark of a lane that is durable.
    pub(crate) fn durable(&mut self, source: &SourceName, lane: Lane) -> Option<Mark> {
        self.core.appender().mark(source, lane)
    }

    /// Takes a frame; acks that came of it, if it had to commit first. A fault of the sender is a violation: the
    /// senders here have none.
    pub(crate) fn frame(&mut self, frame: Arrived, coverage: &mut Coverage) -> Result<Vec<Ack>, String> {
        if self.stalled {
            self.waiting.push_back(frame);
            return Ok(Vec::new());
        }
        if self.take(&frame, coverage)? {
            return Ok(Vec::new());
        }
        coverage.store_full += 1;
        self.waiting.push_back(frame);
        self.commit(coverage)
    }

    /// Whether the store had room for the frame.
    fn take(&mut self, frame: &Arrived, coverage: &mut Coverage) -> Result<bool, String> {
        match self.core.frame(&frame.source, frame.session, frame.lane, frame.mark, &frame.payload) {
            Ok(Some(_)) => Ok(true),
            Ok(None) => {
                let current = self.current.get(&frame.agent) == Some(&frame.session);
                *(if current { &mut coverage.duplicates } else { &mut coverage.old_sessions }) += 1;
                Ok(true)
            }
            Err(Fault::Full) => Ok(false),
            Err(Fault::Refused(reason)) => {
                Err(format!("{}: frame {:?} was refused: {reason}", frame.source.name, frame.mark))
            }
        }
    }

    /// Commits, then takes what waited; gives the acks.
    pub(crate) fn commit(&mut self, coverage: &mut Coverage) -> Result<Vec<Ack>, String> {
        let mut acks = Vec::new();
        loop {
            match self.core.commit() {
                Ok(more) => acks.extend(more),
                Err(_) => {
                    self.stalled = true;
                    coverage.commits_refused += 1;
                    return Ok(acks);
                }
            }
            self.stalled = false;
            let mut full = false;
            while let Some(frame) = self.waiting.pop_front() {
                if !self.take(&frame, coverage)? {
                    self.waiting.push_front(frame);
                    full = true;
                    break;
                }
            }
            if !full {
                return Ok(acks);
            }
        }
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.core.is_dirty() || !self.waiting.is_empty()
    }

    /// Begins a seal if it is due, or because the test wants one.
    pub(crate) fn maintain(&mut self, now_ms: i64, at_once: bool) {
        if self.stalled || self.sealing.is_some() {
            return;
        }
        let appender = self.core.appender();
        let job = if at_once { appender.seal(now_ms).map(|job| job.map(Job::Seal)) } else { appender.maintain(now_ms) };
        // What is refused is tried again later.
        self.sealing = job.ok().flatten();
    }

    pub(crate) fn run_seal(&mut self, coverage: &mut Coverage) {
        let Some(job) = self.sealing.take() else { return };
        match job.run(&mut |_| ControlFlow::Continue(())) {
            Ok(_) => coverage.seals += 1,
            Err(_) => coverage.seals_failed += 1,
        }
    }
}
