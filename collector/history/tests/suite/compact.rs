//! Compaction and windows from outside: which of several values wins, what is left alone, and what a broken clock does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::*;
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::{Appender, BuildError, Compacted, Config, Done, History, Job, JobError, SourceName};
use pitwatch_shared::model::{Lane, Mark};

const SPAN_MS: i64 = 10_000;
/// A window's end, and a day's.
const BEGIN_MS: i64 = 1_700_000_040_000;

fn config() -> Config {
    Config { block_span: Duration::from_millis(SPAN_MS as u64), ..Config::default() }
}

/// Appends ticks a second apart from `from_ms`, with one value, and seals them.
fn sealed(appender: &mut Appender, feeder: &mut Feeder, from_ms: i64, ticks: usize, value: f64) {
    feeder.now = from_ms;
    if !feeder.has_chain() {
        feeder.restart(0, &[0, 1]);
    }
    for _ in 0..ticks {
        feeder.tick(0, 1000, |slot, _| (value + f64::from(slot)).to_bits());
    }
    let mark = appender.mark(&feeder.name, Lane::Metrics);
    feeder.send_after(appender, mark);
    appender.seal(feeder.now).unwrap().unwrap().run().unwrap();
}

fn compact(appender: &mut Appender) -> Result<Compacted, JobError> {
    let job = appender.compact(BEGIN_MS + 1_000 * SPAN_MS).expect("none is under way");
    match run_job(Job::Compact(job))? {
        Done::Compacted(compacted) => Ok(compacted),
        other => panic!("{other:?}"),
    }
}

fn assert_holds(history: &History, feeder: &Feeder, what: &str) {
    let mut model = Model::new();
    feeder.model(Some(Mark { epoch: u64::MAX, seq: 0 }), &mut model);
    assert_same(&contents(history), &model, what);
}

fn blocks(disk: &SimDisk) -> Vec<PathBuf> {
    let dir = Path::new(DIR).join("blocks");
    let names = disk.list(&dir).unwrap().into_iter();
    names.filter(|name| name.ends_with(".blk")).map(|name| dir.join(name)).collect()
}

#[test]
fn the_value_appended_last_wins_before_and_after() {
    let disk = SimDisk::new(1);
    let (history, mut appender, _) = open(&disk, &config());
    let mut feeder = Feeder::new(SourceName::agent("one"));
    for (value, from_ms) in [(1.0, BEGIN_MS), (20.0, BEGIN_MS + 3_000), (300.0, BEGIN_MS + 1_000)] {
        sealed(&mut appender, &mut feeder, from_ms, 5, value);
    }
    assert_holds(&history, &feeder, "three blocks");
    let compacted = compact(&mut appender).unwrap();
    assert_eq!((compacted.blocks, compacted.samples, history.stats().samples_replaced), (3, 16, 14));
    assert_holds(&history, &feeder, "one block");
    // What comes later still wins over what was compacted before, though the one block has a higher number than a seal
    // that began before it.
    sealed(&mut appender, &mut feeder, BEGIN_MS + 2_000, 3, 4_000.0);
    assert_holds(&history, &feeder, "one block and a later one");
    assert_eq!(compact(&mut appender).unwrap().blocks, 2);
    drop((history, appender));
    let (history, mut appender, report) = open(&disk, &config());
    assert_eq!((report.blocks, report.left_out, blocks(&disk).len()), (1, 0, 1));
    assert_holds(&history, &feeder, "after a restart");
    assert_eq!(compact(&mut appender).unwrap(), Compacted::default());
}

#[test]
fn a_block_that_lies_over_days_keeps_its_place_among_the_others() {
    let disk = SimDisk::new(1);
    let (history, mut appender, _) = open(&disk, &config());
    let mut feeder = Feeder::new(SourceName::agent("one"));
    let begin_ms = BEGIN_MS - 200 * 12 * SPAN_MS;
    sealed(&mut appender, &mut feeder, begin_ms, 5, 1.0);
    sealed(&mut appender, &mut feeder, begin_ms, 6, 20.0);
    // A tick in each of many windows, none of which has more: all but the 127 latest share a block.
    feeder.now = begin_ms + 2_000 - 12 * SPAN_MS;
    for _ in 0..200 {
        feeder.tick(0, 12 * SPAN_MS, |slot, _| (500.0 + f64::from(slot)).to_bits());
    }
    let mark = appender.mark(&feeder.name, Lane::Metrics);
    feeder.send_after(&mut appender, mark);
    let scattered = appender.seal(BEGIN_MS).unwrap().unwrap().run().unwrap();
    assert_eq!((scattered.blocks, scattered.samples), (128, 400));
    assert_eq!(history.stats().samples_stray, 2 * (200 - 127));
    // The one sample of the two first blocks that it replaces must stay replaced, whatever they are merged with.
    sealed(&mut appender, &mut feeder, begin_ms + 3_000, 5, 60.0);
    assert_holds(&history, &feeder, "scattered");
    while compact(&mut appender).unwrap().blocks > 0 {
        assert_holds(&history, &feeder, "compacted");
    }
    drop((history, appender));
    let (history, _, _) = open(&disk, &config());
    assert_holds(&history, &feeder, "after a restart");
}

#[test]
fn a_damaged_block_is_left_alone_and_the_others_go_on() {
    let disk = SimDisk::new(1);
    let (history, mut appender, _) = open(&disk, &config());
    let mut feeder = Feeder::new(SourceName::agent("one"));
    let mut random = Random(1);
    for nth in 0..3 {
        feeder.now = BEGIN_MS + nth * 500;
        if nth == 0 {
            feeder.restart(0, &[0, 1]);
        }
        for _ in 0..9 {
            feeder.tick(0, 1_000, |_, _| random.below(u64::MAX));
        }
        let mark = appender.mark(&feeder.name, Lane::Metrics);
        feeder.send_after(&mut appender, mark);
        appender.seal(feeder.now).unwrap().unwrap().run().unwrap();
    }
    let damaged = blocks(&disk)[1].clone();
    // Within the first column of values, after the header.
    disk.flip_bit(&damaged, 8 * 24);
    assert!(matches!(compact(&mut appender), Err(JobError::Compact(BuildError::Block(_)))));
    let stats = history.stats();
    assert_eq!((stats.blocks, stats.compactions_failed, stats.corruptions), (3, 1, 1));
    assert!(blocks(&disk).contains(&damaged));
    compact(&mut appender).unwrap();
    assert!(blocks(&disk).contains(&damaged), "it is left as it is");
}

#[test]
fn a_disk_that_is_nearly_full_is_left_to_the_log() {
    let disk = SimDisk::new(1);
    let (history, mut appender, _) = open(&disk, &config());
    let mut feeder = Feeder::new(SourceName::agent("one"));
    for nth in 0..3 {
        sealed(&mut appender, &mut feeder, BEGIN_MS + nth * 2_000, 3, 1.0);
    }
    disk.set_capacity(disk.used_bytes() + 100);
    assert!(matches!(compact(&mut appender), Err(JobError::Compact(BuildError::Room { .. }))));
    assert_eq!(blocks(&disk).len(), 3);
    disk.set_capacity(u64::MAX);
    assert_eq!(compact(&mut appender).unwrap().blocks, 3);
    assert_holds(&history, &feeder, "with room again");
}

#[test]
fn samples_past_every_retention_are_counted_and_not_stored() {
    let disk = SimDisk::new(1);
    let age = Some(Duration::from_secs(60));
    let (history, mut appender, _) = open(&disk, &Config { retention_age: age, retention_minutes: age, ..config() });
    let mut feeder = Feeder::new(SourceName::agent("one"));
    feeder.restart(0, &[0, 1]);
    feeder.now = BEGIN_MS;
    for _ in 0..100 {
        feeder.tick(0, 1_000, |_, _| 7_f64.to_bits());
    }
    feeder.send_after(&mut appender, None);
    let sealed = appender.seal(BEGIN_MS + 100_000).unwrap().unwrap().run().unwrap();
    // The horizon is the end of the fourth window, which stays; the three before it go.
    assert_eq!((sealed.blocks, sealed.samples, sealed.expired_samples), (7, 140, 60));
    let stats = history.stats();
    assert_eq!((stats.samples_expired, stats.block_samples), (60, 140));
}
