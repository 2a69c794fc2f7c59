//! What a year costs: opens a store with a year of rollups and evaluates panels over it.
//!
//! `cargo run --release -p pitwatch-collector --example year -- DIR [HOSTS] [DAYS] [SERIES]`
//!
//! The store is made in DIR if there is none: every host has 600 series or SERIES, four of them (three counters of processor time, a
//! gauge) with two samples a minute, the others with one a day, so that they weigh on the indexes as they would.
//! Samples are kept for three days. A panel's time is that of the second run of five in a process that has just opened
//! the store; the first is printed beside it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pitwatch_collector::source::HistorySource;
use pitwatch_disk::RealDisk;
use pitwatch_history::{Appender, Config, History, SourceName};
use pitwatch_promql::{Cancel, Engine, EngineOptions, parse};
use pitwatch_shared::codec::{Encoder, SeriesDef};
use pitwatch_shared::model::{Labels, Lane, Mark, MetricType};

const BUSY: usize = 4;
const MINUTE: i64 = 60_000;
const DAY: i64 = 1440 * MINUTE;
/// The begin of a window of 256 days, so that every file is as large as it gets.
const BEGIN: i64 = 1_658_880_000_000;

struct Host {
    name: SourceName,
    encoder: Encoder,
    mark: Mark,
    values: Vec<f64>,
    /// Series with a sample a day.
    idle: usize,
    dice: u64,
}

impl Host {
    fn new(nth: usize, series: u32, appender: &mut Appender) -> Self {
        let name = SourceName::agent(&format!("host-{nth:03}"));
        let mut host = Self {
            name,
            encoder: Encoder::new(),
            mark: Mark { epoch: 1, seq: 0 },
            values: vec![1000.0; BUSY],
            idle: series as usize - BUSY,
            dice: nth as u64 + 1,
        };
        let labels = |slot: u32| match slot {
            0..3 => Labels::new([("__name__", "cpu_seconds_total".to_owned()), ("cpu", slot.to_string())]),
            3 => Labels::new([("__name__", "memory_bytes".to_owned()), ("kind", slot.to_string())]),
            _ => Labels::new([("__name__", format!("other_{}", slot / 4)), ("part", (slot % 4).to_string())]),
        };
        let def = |slot: u32, first: u32| SeriesDef {
            slot: slot - first,
            kind: MetricType::Unknown,
            labels: labels(slot).expect("labels"),
        };
        let busy = BUSY as u32;
        for (group, slots) in [(0, 0..busy), (1, busy..series)] {
            let defs: Vec<_> = slots.clone().map(|slot| def(slot, slots.start)).collect();
            let mut frame = Vec::new();
            host.encoder.schema(&mut frame, group == 0, group, &[], &defs).expect("a schema frame");
            host.append(&frame, appender);
        }
        host
    }

    fn append(&mut self, frame: &[u8], appender: &mut Appender) {
        self.mark.seq += 1;
        appender.append(&self.name, Lane::Metrics, self.mark, frame).expect("an append");
    }

    fn below(&mut self, bound: u64) -> f64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        ((self.dice >> 11) % bound) as f64
    }

    fn tick(&mut self, now: i64, appender: &mut Appender) {
        for slot in 0..BUSY {
            self.values[slot] = match slot {
                0..3 => ((self.values[slot] + self.below(3000) / 100.0) * 100.0).round() / 100.0,
                _ => 4e9 + self.below(1 << 20) * 4096.0,
            };
        }
        let mut frame = Vec::new();
        self.encoder.tick(&mut frame, 0, now, &self.values).expect("a sample frame");
        self.append(&frame, appender);
    }

    fn daily(&mut self, now: i64, appender: &mut Appender) {
        let values: Vec<f64> = (0..self.idle).map(|_| self.below(1000)).collect();
        let mut frame = Vec::new();
        self.encoder.tick(&mut frame, 1, now, &values).expect("a sample frame");
        self.append(&frame, appender);
    }
}

fn config() -> Config {
    Config { retention_age: Some(Duration::from_secs(3 * 86_400)), ..Config::default() }
}

fn open(dir: &Path) -> (Arc<History>, Appender) {
    let (history, appender, report) = History::open(Arc::new(RealDisk), dir, config()).expect("the store");
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    (history, appender)
}

fn make(dir: &Path, hosts: usize, days: i64, series: u32) {
    let begun = Instant::now();
    let (history, mut appender) = open(dir);
    let mut hosts: Vec<Host> = (0..hosts).map(|nth| Host::new(nth, series, &mut appender)).collect();
    let mut rolling = Duration::ZERO;
    for day in 0..days {
        for half in 0..2880 {
            let now = BEGIN + day * DAY + half * MINUTE / 2 + 700;
            for host in &mut hosts {
                host.tick(now, &mut appender);
                if half == 1440 {
                    host.daily(now, &mut appender);
                }
            }
            if half % 60 == 59 {
                appender.commit().expect("a commit");
            }
        }
        let now = BEGIN + (day + 1) * DAY;
        if let Some(job) = appender.seal(now).expect("a rotation") {
            job.run().expect("a block");
        }
        let begun = Instant::now();
        while let Some(job) = appender.maintain(now + DAY / 4).expect("a rotation") {
            job.run(&mut |_| ControlFlow::Continue(())).expect("a job");
        }
        rolling += begun.elapsed();
    }
    let stats = history.stats();
    println!(
        "made in {:.0} s, {:.0} s of it jobs; {} rollup files of {:.1} MB",
        begun.elapsed().as_secs_f64(),
        rolling.as_secs_f64(),
        stats.rollup_files,
        stats.rollup_bytes as f64 / 1e6
    );
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().expect("a directory");
    let mut number = |default: i64| args.next().map_or(default, |text| text.parse().expect("a number"));
    let (hosts, days, series) = (number(50) as usize, number(365), number(600) as u32);
    let dir = Path::new(&dir);
    if !dir.exists() {
        make(dir, hosts, days, series);
    }
    let begun = Instant::now();
    let (history, _appender) = open(dir);
    println!("open: {:.0} ms, {} series", begun.elapsed().as_secs_f64() * 1e3, history.stats().series);
    let source = HistorySource::new(history);
    let engine = Engine::new(EngineOptions { max_samples: usize::MAX, ..EngineOptions::default() });
    let end = BEGIN + days * DAY;
    println!("{:>9} {:>9} {:>11} {:>7} {:>6}  panel", "first ms", "then ms", "read", "series", "tier");
    for (query, span, step) in [
        ("sum by (instance) (rate(cpu_seconds_total[6h]))", days * DAY, 360 * MINUTE),
        ("avg_over_time(memory_bytes[6h])", days * DAY, 360 * MINUTE),
        ("max_over_time(memory_bytes[1d])", days * DAY, DAY),
        ("topk(5, rate(cpu_seconds_total[1d]))", days * DAY, DAY),
        ("memory_bytes", days * DAY, 360 * MINUTE),
        ("sum by (instance) (rate(cpu_seconds_total[1h]))", 30 * DAY, 60 * MINUTE),
        ("sum by (instance) (rate(cpu_seconds_total[10m]))", 7 * DAY, 10 * MINUTE),
        ("memory_bytes", 7 * DAY, 10 * MINUTE),
        ("rate(cpu_seconds_total{instance=\"host-007\"}[5m])", DAY, MINUTE),
        ("avg_over_time(memory_bytes{instance=\"host-007\"}[90m])", days * DAY, 90 * MINUTE),
        ("sum by (instance) (rate(cpu_seconds_total[90m]))", days * DAY, 90 * MINUTE),
    ] {
        // Four days before the end: what is asked for is past the retention of samples.
        let end = end - 4 * DAY;
        let (expr, begin) = (parse(query).expect("a query"), (end - span).max(BEGIN));
        let mut times = Vec::new();
        let mut answer = None;
        for _ in 0..5 {
            let begun = Instant::now();
            answer = Some(engine.range(&source, &expr, begin, end, step, &Cancel::new()).expect("an answer"));
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let answer = answer.expect("an answer");
        println!(
            "{:>9.1} {:>9.1} {:>11} {:>7} {:>6}  {query} over {} d by {} min",
            times[0],
            times[1],
            answer.stats.samples,
            answer.stats.series,
            answer.tiers.join(", "),
            (end - begin) / DAY,
            step / MINUTE
        );
    }
}
