//! Files cut at any byte and bits flipped anywhere: an answer is right or an error that names the place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::*;
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::{Config, History, Loss, MatchOp, Matcher, SourceName};
use pitwatch_shared::model::Mark;

const FOREVER: Option<Mark> = Some(Mark { epoch: u64::MAX, seq: 0 });

/// A store of two sources; in a block if it is sealed, else in the log.
fn store(sealed: bool) -> (SimDisk, Model) {
    let disk = SimDisk::new(7);
    let (_history, mut appender, _) = open(&disk, &Config::default());
    let mut random = Random(7);
    let mut model = Model::new();
    for name in [SourceName::agent("one"), SourceName::internal("self")] {
        let mut feeder = Feeder::new(name);
        feeder.restart(0, &[0, 1, 2, 5]);
        for nth in 0..60 {
            feeder.tick(0, if nth == 30 { -4500 } else { 1000 }, |slot, before| match slot {
                0 => 42_f64.to_bits(),
                1 => (f64::from_bits(before.unwrap_or(0)) + 3.5).to_bits(),
                _ => value(&mut random, before),
            });
        }
        feeder.schema(false, 0, &[5], &[]);
        feeder.tick(0, 1000, |_, before| before.unwrap());
        feeder.send_after(&mut appender, None);
        feeder.model(FOREVER, &mut model);
        appender.commit().unwrap();
    }
    if sealed {
        appender.seal(1_700_000_100_000).unwrap().unwrap().run().unwrap();
    }
    (disk, model)
}

fn only_file(disk: &SimDisk, dir: &str) -> PathBuf {
    let dir = Path::new(DIR).join(dir);
    let mut names = disk.list(&dir).unwrap();
    names.retain(|name| name != "catalog");
    assert_eq!(names.len(), 1, "{names:?}");
    dir.join(&names[0])
}

/// What is found is part of what was stored, or the reading says what is damaged.
fn check(disk: &SimDisk, model: &Model, what: &str) -> bool {
    let opened = History::open(Arc::new(disk.clone()), Path::new(DIR), Config::default());
    let Ok((history, _, report)) = opened else { return true };
    let all = Matcher::new("__name__", MatchOp::Ne, "").unwrap();
    let (mut ts, mut values) = (Vec::new(), Vec::new());
    let mut noticed = !report.losses.is_empty();
    let mut whole = true;
    let series = history.select(&[all], i64::MIN, i64::MAX).unwrap();
    for series in &series {
        let stored = model.get(&series.labels).unwrap_or_else(|| panic!("{what}: invented {}", series.labels));
        match history.samples(series, i64::MIN, i64::MAX, &mut ts, &mut values) {
            Ok(()) => {
                let right = ts.iter().zip(&values).all(|(ts, value)| stored.get(ts) == Some(&value.to_bits()));
                assert!(right, "{what}: wrong values of {}", series.labels);
                whole &= ts.len() == stored.len();
            }
            Err(_) => noticed = true,
        }
    }
    whole &= series.len() == model.len();
    assert!(whole || noticed, "{what}: samples are missing and nothing says so");
    noticed
}

#[test]
fn every_flipped_bit_of_a_block_is_noticed() {
    let (disk, model) = store(true);
    let path = only_file(&disk, "blocks");
    let bits = disk.contents(&path).unwrap().len() * 8;
    for bit in 0..bits {
        disk.flip_bit(&path, bit);
        assert!(check(&disk, &model, &format!("bit {bit} of {bits}")), "bit {bit} was not noticed");
        disk.flip_bit(&path, bit);
    }
    assert!(!check(&disk, &model, "whole"));
}

#[test]
fn every_cut_of_a_block_is_noticed() {
    let (disk, model) = store(true);
    let path = only_file(&disk, "blocks");
    let bytes = disk.contents(&path).unwrap();
    for len in (0..bytes.len()).rev() {
        disk.open(&path).unwrap().set_len(len as u64).unwrap();
        assert!(check(&disk, &model, &format!("{len} of {} bytes", bytes.len())));
    }
}

#[test]
fn every_flipped_bit_of_the_log_is_noticed() {
    let (disk, model) = store(false);
    let path = only_file(&disk, "wal");
    let bytes = disk.contents(&path).unwrap();
    for bit in (0..bytes.len() * 8).step_by(3) {
        let disk = store_of(&path, &bytes);
        disk.flip_bit(&path, bit);
        assert!(check(&disk, &model, &format!("bit {bit}")), "bit {bit} was not noticed");
    }
}

#[test]
fn a_log_cut_anywhere_keeps_what_is_before() {
    let (disk, model) = store(false);
    let path = only_file(&disk, "wal");
    let bytes = disk.contents(&path).unwrap();
    let mut last = usize::MAX;
    for len in (0..bytes.len()).rev() {
        let disk = store_of(&path, &bytes[..len]);
        let (history, mut appender, report) = open(&disk, &Config::default());
        let found = contents(&history);
        let samples: usize = found.values().map(std::collections::BTreeMap::len).sum();
        assert!(samples <= last);
        last = samples;
        for (labels, samples) in &found {
            assert!(samples.iter().all(|(ts, bits)| model[labels].get(ts) == Some(bits)));
        }
        assert!(report.losses.iter().all(|loss| matches!(loss, Loss::TornTail { .. })), "{:?}", report.losses);
        appender.commit().unwrap();
    }
    assert_eq!(last, 0);
}

fn store_of(path: &Path, bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(7);
    let file = disk.create(path).unwrap();
    file.write_at(0, bytes).unwrap();
    disk
}
