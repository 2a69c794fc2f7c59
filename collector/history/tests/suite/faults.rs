//! A disk that refuses now and then, and files damaged or gone in any way: what was acknowledged is there, or what is
//! missing is named; no number is ever wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::*;
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::{Config, History, MatchOp, Matcher, OpenError, SourceName, verify};
use pitwatch_shared::model::{Lane, Mark};

const FOREVER: Option<Mark> = Some(Mark { epoch: u64::MAX, seq: 0 });

#[test]
fn what_was_acknowledged_survives_short_writes_errors_and_failing_syncs() {
    let mut failures = 0;
    for seed in 0..300 {
        let (disk, mut random) = (SimDisk::new(seed), Random(seed));
        let (_history, mut appender, _) = open(&disk, &Config::default());
        let mut feeder = Feeder::new(SourceName::agent("one"));
        feeder.restart(0, &[0, 1, 2]);
        let (mut acknowledged, mut sent) = (None, None);
        for _ in 0..random.below(80) {
            match random.below(12) {
                0 => disk.fail_writes(1 + random.below(2) as u32),
                1 => disk.fail_syncs(1 + random.below(2) as u32),
                2 => disk.set_capacity(disk.used_bytes() + random.below(500)),
                3 => disk.set_capacity(u64::MAX),
                4 => {
                    if let Ok(Some(job)) = appender.seal(feeder.now) {
                        failures += u64::from(job.run().is_err());
                    }
                }
                _ => {
                    feeder.tick(0, 1000, |_, before| value(&mut random, before));
                    feeder.send_after(&mut appender, sent);
                    sent = feeder.frames.last().map(|frame| frame.mark);
                    let committed = appender.commit();
                    let mark = appender.mark(&feeder.name, Lane::Metrics);
                    let expected = if committed.is_ok() { sent } else { acknowledged };
                    assert_eq!(mark, expected, "seed {seed}: {committed:?}");
                    failures += u64::from(committed.is_err());
                }
            }
            // What the store answers here is what an agent may let go.
            acknowledged = appender.mark(&feeder.name, Lane::Metrics);
        }
        if random.below(2) == 0 {
            disk.power_cut();
        }
        for heal in [SimDisk::fail_writes, SimDisk::fail_syncs] {
            heal(&disk, 0);
        }
        disk.set_capacity(u64::MAX);
        let (history, appender, report) = open(&disk, &Config::default());
        let mark = appender.mark(&feeder.name, Lane::Metrics);
        assert!(mark >= acknowledged, "seed {seed}: {acknowledged:?} was acknowledged, {mark:?} is there");
        assert!(report.losses.iter().all(|loss| loss.is_harmless()), "seed {seed}: {:?}", report.losses);
        let mut model = Model::new();
        feeder.model(mark, &mut model);
        assert_same(&contents(&history), &model, &format!("seed {seed}"));
    }
    assert!(failures > 500, "{failures} failures are few");
}

#[test]
fn a_read_that_fails_costs_nothing_but_its_answer() {
    let (disk, model) = store();
    let before = files(&disk);
    for nth in 0..60 {
        // The opening fails at its read number `nth`, or gets through.
        let disk = copy(&before);
        disk.fail_reads(nth, 1);
        match History::open(Arc::new(disk.clone()), Path::new(DIR), Config::default()) {
            Err(OpenError::Log { .. } | OpenError::Io { .. }) => {}
            Err(error) => panic!("{error}"),
            Ok((history, ..)) => drop(history),
        }
        disk.fail_reads(0, 0);
        let (history, _appender, report) = open(&disk, &Config::default());
        assert!(report.losses.is_empty(), "read {nth}: {:?}", report.losses);
        assert_same(&contents(&history), &model, &format!("after read {nth} failed"));
        let all = Matcher::new("__name__", MatchOp::Ne, "").unwrap();
        let series = history.select(&[all], i64::MIN, i64::MAX).unwrap();
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        disk.fail_reads(0, 1);
        let failed = history.samples(&series[0], i64::MIN, i64::MAX, &mut ts, &mut values);
        assert!(failed.is_err() && ts.is_empty());
        history.samples(&series[0], i64::MIN, i64::MAX, &mut ts, &mut values).unwrap();
        assert_eq!(ts.len(), model[&series[0].labels].len());
    }
}

/// Blocks of two seals, and a log of several segments.
fn store() -> (SimDisk, Model) {
    let disk = SimDisk::new(7);
    let (_history, mut appender, _) = open(&disk, &Config::default());
    let mut random = Random(7);
    let mut feeder = Feeder::new(SourceName::agent("one"));
    feeder.restart(0, &[0, 1, 2, 3]);
    for part in 0..5 {
        for _ in 0..12 {
            feeder.tick(0, 1000, |_, before| value(&mut random, before));
        }
        let mark = appender.mark(&feeder.name, Lane::Metrics);
        feeder.send_after(&mut appender, mark);
        if part > 2 {
            // A new segment goes on where the failed one was durable.
            disk.fail_syncs(1);
            assert!(appender.commit().is_err());
        }
        appender.commit().unwrap();
        if part < 2 {
            appender.seal(feeder.now).unwrap().unwrap().run().unwrap();
        }
    }
    let mut model = Model::new();
    feeder.model(FOREVER, &mut model);
    (disk, model)
}

type Files = Vec<(PathBuf, Vec<u8>)>;

fn files(disk: &SimDisk) -> Files {
    let dirs = ["", "wal", "blocks", "rollups", "logs"].map(|dir| Path::new(DIR).join(dir));
    let paths = dirs.iter().flat_map(|dir| disk.list(dir).unwrap().into_iter().map(move |name| dir.join(name)));
    paths.map(|path| (path.clone(), disk.contents(&path).unwrap())).collect()
}

fn copy(files: &Files) -> SimDisk {
    let disk = SimDisk::new(1);
    for (path, bytes) in files {
        disk.create(path).unwrap().write_at(0, bytes).unwrap();
    }
    disk
}

/// Panics if a number is wrong, or something is missing that nothing names; answers whether something is missing.
fn check(files: &Files, model: &Model, what: &str) -> bool {
    let disk: Arc<dyn Disk> = Arc::new(copy(files));
    let verified = verify(&disk, Path::new(DIR), &mut |_| {}).map(|verified| verified.damage.len());
    let opened = History::open(disk, Path::new(DIR), Config::default());
    let (history, _appender, report) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            assert!(verified.is_err() || verified.is_ok_and(|damage| damage > 0), "{what}: {error}");
            return true;
        }
    };
    let all = Matcher::new("__name__", MatchOp::Ne, "").unwrap();
    let (mut ts, mut values) = (Vec::new(), Vec::new());
    let (mut whole, mut failed) = (true, false);
    let series = history.select(&[all], i64::MIN, i64::MAX).unwrap();
    for series in &series {
        let stored = model.get(&series.labels).unwrap_or_else(|| panic!("{what}: invented {}", series.labels));
        match history.samples(series, i64::MIN, i64::MAX, &mut ts, &mut values) {
            Ok(()) => {
                let right = ts.iter().zip(&values).all(|(ts, value)| stored.get(ts) == Some(&value.to_bits()));
                assert!(right, "{what}: wrong values of {}", series.labels);
                whole &= ts.len() == stored.len();
            }
            Err(_) => failed = true,
        }
    }
    whole &= series.len() == model.len();
    let named = failed || report.losses.iter().any(|loss| !loss.is_harmless());
    let noted = named || !report.losses.is_empty();
    assert!(whole || noted || what.contains("end of the log"), "{what}: samples are missing and nothing says so");
    assert_eq!(named, verified.unwrap() > 0, "{what}: opening and verification disagree: {:?}", report.losses);
    !whole || failed
}

#[test]
fn any_file_cut_flipped_or_gone_is_noticed() {
    let (disk, model) = store();
    let whole = files(&disk);
    assert!(!check(&whole, &model, "nothing"));
    let last = whole.iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "wal")).map(|(p, _)| p).max();
    let last = last.cloned().unwrap();
    let (mut missed, mut tried) = (0, 0);
    for nth in 0..whole.len() {
        let (path, bytes) = &whole[nth];
        let name = path.display();
        let mut lens: Vec<usize> = (0..bytes.len()).collect();
        let at_end = if *path == last { ", the end of the log" } else { "" };
        lens.retain(|len| bytes.len() < 600 || len % 7 == 0 || *len < 100);
        for len in lens {
            let mut files = whole.clone();
            files[nth].1.truncate(len);
            missed += u64::from(check(&files, &model, &format!("{name} cut at {len}{at_end}")));
            tried += 1;
        }
        for bit in (0..bytes.len() * 8).step_by(if bytes.len() < 200 { 1 } else { 11 }) {
            let mut files = whole.clone();
            files[nth].1[bit / 8] ^= 1 << (bit % 8);
            missed += u64::from(check(&files, &model, &format!("{name} with bit {bit} flipped{at_end}")));
            tried += 1;
        }
        let mut files = whole.clone();
        files.remove(nth);
        let missing = check(&files, &model, &format!("{name} gone"));
        assert!(missing || name.to_string().ends_with("catalog"), "{name} gone");
    }
    assert!(missed > tried / 4, "{missed} of {tried} cost something");
}
