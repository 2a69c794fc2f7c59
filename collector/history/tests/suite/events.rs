//! Events beside samples: over power cuts at any change of the disk, failing syncs and seals that are given up, each
//! event that was acknowledged is there once, and none that was not is there twice.

use std::path::Path;
use std::sync::Arc;

use crate::common::*;
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::logs::{Direction, Query};
use pitwatch_history::{Appender, Config, History, Job, Loss, MatchOp, Matcher, SourceName};
use pitwatch_shared::events::{Event, EventLine, Severity};
use pitwatch_shared::model::{Lane, Mark};

const SEEDS: u64 = 600;
const LIVES: u64 = 6;
const BEGAN_MS: i64 = 1_700_000_000_000;

fn payload(seq: u64) -> Vec<u8> {
    let text = seq.to_string();
    Event::new(BEGAN_MS + seq as i64, "reboot", Severity::Warning, "again", &[("seq", &text)]).encode().unwrap()
}

/// The sequences of a host's events, as history has them.
fn stored(history: &History, host: &str) -> Vec<u64> {
    let matchers = [("lane", "events"), ("instance", host)];
    let matchers = matchers.map(|(name, value)| Matcher::new(name, MatchOp::Eq, value).unwrap());
    let (start_ns, end_ns) = (0, i64::MAX);
    let query =
        Query { matchers: &matchers, start_ns, end_ns, needles: &[], limit: 10_000, direction: Direction::Forward };
    let lines = history.logs().query(&query).unwrap().lines.into_iter();
    lines.map(|(_, line)| EventLine::parse(&line.text).unwrap().labels[0].1.parse().unwrap()).collect()
}

struct World {
    disk: SimDisk,
    random: Random,
    /// A host that sends events alone, and one that sends samples too.
    sources: [SourceName; 2],
    sent: [u64; 2],
    acknowledged: [Option<Mark>; 2],
    feeder: Feeder,
    fed: usize,
    clock: i64,
    sealed: u64,
    cuts: u64,
    cut_seals: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let sources = [SourceName::agent("quiet"), SourceName::agent("one")];
        Self {
            disk: SimDisk::new(seed),
            random: Random(seed),
            feeder: Feeder::new(sources[1].clone()),
            sources,
            sent: [0; 2],
            acknowledged: [None; 2],
            fed: 0,
            clock: BEGAN_MS,
            sealed: 0,
            cuts: 0,
            cut_seals: 0,
        }
    }

    fn open(&mut self) -> (Arc<History>, Appender) {
        let (history, appender, report) = loop {
            match History::open(Arc::new(self.disk.clone()), Path::new(DIR), Config::default()) {
                Ok(_) if self.disk.list(Path::new(DIR)).is_err() => self.disk.power_cut(),
                Ok(opened) => break opened,
                Err(_) => self.disk.power_cut(),
            }
        };
        for loss in &report.losses {
            assert!(matches!(loss, Loss::TornTail { .. } | Loss::Header { .. }), "{loss}");
        }
        for (at, source) in self.sources.iter().enumerate() {
            let mark = appender.mark(source, Lane::Events);
            assert!(mark >= self.acknowledged[at], "{:?} was acknowledged, {mark:?} is there", self.acknowledged[at]);
            let through = mark.map_or(0, |mark| mark.seq);
            assert_eq!(stored(&history, &source.name), (1..=through).collect::<Vec<_>>(), "{}", source.name);
            self.sent[at] = through;
            self.acknowledged[at] = mark;
        }
        let mark = appender.mark(&self.sources[1], Lane::Metrics);
        self.fed = self.feeder.frames.partition_point(|frame| Some(frame.mark) <= mark);
        (history, appender)
    }

    fn live(&mut self, history: &Arc<History>, appender: &mut Appender) {
        for _ in 0..self.random.below(60) {
            self.clock += 1000;
            match self.random.below(20) {
                0..10 => {
                    let at = self.random.below(2) as usize;
                    let mark = Mark { epoch: 5, seq: self.sent[at] + 1 };
                    let appended = appender.append(&self.sources[at], Lane::Events, mark, &payload(mark.seq));
                    assert_eq!(appended.unwrap().events, 1);
                    self.sent[at] += 1;
                    if self.random.below(4) == 0 {
                        let again = appender.append(&self.sources[at], Lane::Events, mark, &payload(mark.seq));
                        assert!(again.unwrap().duplicate);
                    }
                }
                10..13 if self.fed < self.feeder.frames.len() => {
                    let frame = &self.feeder.frames[self.fed];
                    if appender.append(&self.sources[1], Lane::Metrics, frame.mark, &frame.payload).is_ok() {
                        self.fed += 1;
                    }
                }
                10..16 => {
                    if self.random.below(3) == 0 {
                        self.disk.fail_syncs(1);
                    }
                    if appender.commit().is_ok() {
                        for (at, source) in self.sources.iter().enumerate() {
                            self.acknowledged[at] = appender.mark(source, Lane::Events);
                        }
                    }
                }
                16..18 => {
                    let job = appender.seal(self.clock).ok().flatten();
                    let Some(job) = job else { continue };
                    let cut = self.random.below(3) == 0;
                    if cut {
                        self.disk.cut_after(self.random.below(16));
                    }
                    if self.random.below(4) == 0 {
                        self.disk.fail_syncs(1);
                    }
                    match run_job(Job::Seal(job)) {
                        Ok(_) => self.sealed += 1,
                        Err(_) => self.cut_seals += 1,
                    }
                    self.disk.fail_syncs(0);
                    if cut {
                        return;
                    }
                }
                _ => {
                    if let Ok(Some(job)) = appender.maintain(self.clock) {
                        let _ = run_job(job);
                    }
                }
            }
            for (at, source) in self.sources.iter().enumerate() {
                assert_eq!(stored(history, &source.name).len() as u64, self.sent[at], "while it runs");
            }
        }
    }
}

#[test]
fn an_event_that_was_acknowledged_is_there_once() {
    let (mut sealed, mut cuts, mut cut_seals) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.feeder.restart(0, &[0, 1]);
        (0..80).for_each(|nth| world.feeder.tick(0, 1000, |slot, _| u64::from(slot) + nth));
        for _ in 0..LIVES {
            let (history, mut appender) = world.open();
            world.live(&history, &mut appender);
            if world.random.below(2) == 0 {
                world.disk.power_cut();
                world.cuts += 1;
            }
            world.disk.cut_after(u64::MAX);
        }
        world.open();
        (sealed, cuts, cut_seals) = (sealed + world.sealed, cuts + world.cuts, cut_seals + world.cut_seals);
    }
    assert!(sealed > 500 && cuts > 1000 && cut_seals > 100, "{sealed} seals, {cuts} cuts, {cut_seals} cut seals");
}

#[test]
fn what_is_no_event_is_passed_over_and_counted() {
    let disk = SimDisk::new(1);
    let (history, mut appender, _) = open(&disk, &Config::default());
    let host = SourceName::agent("one");
    for (seq, payload) in [(1, vec![9, 9]), (2, payload(2)), (3, Vec::new())] {
        appender.append(&host, Lane::Events, Mark { epoch: 1, seq }, &payload).unwrap();
    }
    appender.commit().unwrap();
    assert_eq!((history.stats().events_appended, history.stats().events_refused), (1, 2));
    assert_eq!(appender.mark(&host, Lane::Events), Some(Mark { epoch: 1, seq: 3 }));
    assert_eq!(stored(&history, "one"), [2]);
    assert!(appender.append(&host, Lane::Logs, Mark { epoch: 1, seq: 1 }, b"x").is_err());
}

#[test]
fn events_of_an_age_go() {
    let disk = SimDisk::new(1);
    let (history, mut appender, _) = open(&disk, &Config::default());
    let host = SourceName::agent("one");
    let day = 86_400_000;
    for seq in 1..=3 {
        appender.append(&host, Lane::Events, Mark { epoch: 1, seq }, &payload(seq)).unwrap();
        let job = appender.seal(BEGAN_MS + seq as i64 * day).unwrap().unwrap();
        run_job(Job::Seal(job)).unwrap();
    }
    let age = history.config().logs.retention_age.unwrap().as_millis() as i64;
    appender.maintain(BEGAN_MS + age + day / 2).unwrap();
    // The newest file stays, as it says up to where the log is in files.
    assert_eq!(stored(&history, "one"), [3]);
}
