//! Files that every version wrote: later versions read them to the same samples.

use std::path::Path;

use crate::common::*;
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::{Config, SourceName};
use pitwatch_shared::model::{Lane, Mark};

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

#[test]
fn blocks_of_version_1_are_read() {
    is_read("v1.blk", "v1.wal");
}

#[test]
fn blocks_of_version_2_are_read() {
    is_read("v2.blk", "v1.wal");
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
