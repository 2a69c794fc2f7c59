//! Files that every version wrote: later versions read them to the same samples.

use std::path::Path;
use std::sync::Arc;

use crate::common::*;
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::{Config, History, OpenError, SeriesRows, SourceName};
use pitwatch_shared::model::{Lane, Mark, MetricType};

const BLOCK: &str = "blocks/00000001-1700000001000-1700000037500.blk";
const SEGMENT: &str = "wal/00000002.wal";
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// What the fixtures hold: a sealed part, and a log that goes on from its checkpoint.
fn play() -> (SimDisk, Model, Vec<(SourceName, Mark)>) {
    let disk = SimDisk::new(1);
    let (_history, mut appender, _) = open(&disk, &Config::default());
    let mut random = Random(1);
    let mut feeders = [Feeder::new(SourceName::agent("one")), Feeder::new(SourceName::internal("self"))];
    for feeder in &mut feeders {
        feeder.restart(0, &[0, 1, 2, 4]);
        for nth in 0..40 {
            feeder.tick(0, if nth == 20 { -1500 } else { 1000 }, |slot, before| match slot {
                0 => 1_f64.to_bits(),
                1 => (nth as f64 / 4.0).to_bits(),
                2 => (f64::from_bits(before.unwrap_or(0)) + random.below(50) as f64 / 100.0).to_bits(),
                _ => value(&mut random, before),
            });
        }
        // Retired, so that the checkpoint has a stale marker to remember.
        feeder.schema(false, 0, &[4], &[]);
        feeder.send_after(&mut appender, None);
    }
    appender.seal(1_700_000_100_000).unwrap().unwrap().run().unwrap();
    let (mut model, mut marks) = (Model::new(), Vec::new());
    for feeder in &mut feeders {
        for _ in 0..10 {
            feeder.tick(0, 1000, |_, before| value(&mut random, before));
        }
        let mark = appender.mark(&feeder.name, Lane::Metrics);
        feeder.send_after(&mut appender, mark);
        appender.commit().unwrap();
        let mark = feeder.frames.last().unwrap().mark;
        marks.push((feeder.name.clone(), mark));
        feeder.model(Some(mark), &mut model);
    }
    (disk, model, marks)
}

fn is_read(block: &str, segment: &str) {
    let disk = SimDisk::new(2);
    for (name, fixture) in [(BLOCK, block), (SEGMENT, segment)] {
        let bytes = std::fs::read(Path::new(FIXTURES).join(fixture)).unwrap();
        disk.create(&Path::new(DIR).join(name)).unwrap().write_at(0, &bytes).unwrap();
    }
    let (_, model, marks) = play();
    let (history, appender, report) = open(&disk, &Config::default());
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    assert_same(&contents(&history), &model, block);
    for (name, mark) in marks {
        assert_eq!(appender.mark(&name, Lane::Metrics), Some(mark));
        assert!(!appender.needs_chain(&name, Lane::Metrics));
    }
}

/// What version 2 of the log added: samples by series, in a record that begins numbers and one that goes on.
fn play_rows() -> (SimDisk, Model) {
    let disk = SimDisk::new(3);
    let (_history, mut appender, _) = open(&disk, &Config::default());
    let (mut random, mut model) = (Random(3), Model::new());
    for nth in 0..20 {
        let row = |slot| {
            let ts_ms = 1_700_000_000_000 + nth * 1000 + i64::from(slot) % 2;
            SeriesRows {
                labels: Feeder::labels(0, slot),
                kind: MetricType::Counter,
                samples: vec![(ts_ms, f64::from_bits(value(&mut random, None)))],
            }
        };
        let rows: Vec<_> = (0..5).map(row).collect();
        appender.append_rows(&SourceName::internal("remote-write"), &rows).unwrap();
        appender.commit().unwrap();
        for one in rows {
            let samples = one.samples.iter().map(|(ts, value)| (*ts, value.to_bits()));
            model.entry(one.labels).or_default().extend(samples);
        }
    }
    (disk, model)
}

#[test]
fn blocks_of_version_1_are_read() {
    is_read("v1.blk", "v1.wal");
}

#[test]
fn blocks_of_version_2_are_read() {
    is_read("v2.blk", "v1.wal");
}

#[test]
fn a_log_of_version_2_is_read() {
    let disk = SimDisk::new(4);
    let bytes = std::fs::read(Path::new(FIXTURES).join("v2.wal")).unwrap();
    disk.create(&Path::new(DIR).join("wal/00000001.wal")).unwrap().write_at(0, &bytes).unwrap();
    let (history, _, report) = open(&disk, &Config::default());
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    assert_same(&contents(&history), &play_rows().1, "version 2");
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    // The name in the store, a file of this format, and its header without the checksum at the end.
    let files = [
        (BLOCK, "v2.blk", 16, 2),
        (SEGMENT, "v2.wal", 36, 2),
        ("rollups/00000001-1m-1699920000000-1700006400000.rol", "v2.rol", 16, 2),
    ];
    for (name, fixture, body, known) in files {
        let disk = SimDisk::new(5);
        let path = Path::new(DIR).join(name);
        let mut bytes = std::fs::read(Path::new(FIXTURES).join(fixture)).unwrap();
        bytes[8] = 200;
        let crc = crc32fast::hash(&bytes[..body]).to_le_bytes();
        bytes[body..body + crc.len()].copy_from_slice(&crc);
        disk.create(&path).unwrap().write_at(0, &bytes).unwrap();
        let opened = History::open(Arc::new(disk.clone()), Path::new(DIR), Config::default());
        let error = opened.map(drop).unwrap_err();
        assert!(matches!(&error, OpenError::Newer { path: at, found: 200, known: k } if *at == path && *k == known));
        assert!(error.to_string().contains(name) && error.to_string().contains("200"), "{error}");
        assert_eq!(disk.contents(&path).unwrap(), bytes, "{name} was changed");
    }
}

#[test]
#[ignore = "writes the fixture of version 2"]
fn write_fixture_of_rows() {
    let bytes = play_rows().0.contents(&Path::new(DIR).join("wal/00000001.wal")).unwrap();
    std::fs::write(Path::new(FIXTURES).join("v2.wal"), bytes).unwrap();
}

#[test]
#[ignore = "writes the fixtures of a new version"]
fn write_fixtures() {
    let (disk, _, _) = play();
    std::fs::create_dir_all(FIXTURES).unwrap();
    let (blocks, segments) = (Path::new(DIR).join("blocks"), Path::new(DIR).join("wal"));
    for (dir, name, fixture) in [(blocks, BLOCK, "v2.blk"), (segments, SEGMENT, "v1.wal")] {
        let mut names = disk.list(&dir).unwrap();
        names.retain(|name| name != "catalog");
        assert!(names.len() == 1 && name.ends_with(&names[0]), "{names:?}, not {name}");
        std::fs::write(Path::new(FIXTURES).join(fixture), disk.contents(&dir.join(&names[0])).unwrap()).unwrap();
    }
}
