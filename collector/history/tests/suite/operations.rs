//! Verification, snapshots, and who takes the room.

use std::path::Path;
use std::sync::Arc;

use crate::common::*;
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::{Config, Damage, FileKind, History, SnapshotFile, SourceName, Verified, verify};
use pitwatch_shared::model::Lane;

/// Two sources, a sealed part and a part in the log.
fn store() -> (SimDisk, Arc<History>, pitwatch_history::Appender, [Feeder; 2]) {
    let disk = SimDisk::new(3);
    let (history, mut appender, _) = open(&disk, &Config::default());
    let mut feeders = [Feeder::new(SourceName::agent("one")), Feeder::new(SourceName::internal("self"))];
    for (feeder, slots) in feeders.iter_mut().zip([&[0, 1, 2, 3, 4, 5][..], &[0]]) {
        feeder.restart(0, slots);
        ticks(feeder, 50);
        feeder.send_after(&mut appender, None);
    }
    appender.seal(feeders[0].now).unwrap().unwrap().run().unwrap();
    for feeder in &mut feeders {
        ticks(feeder, 20);
        let mark = appender.mark(&feeder.name, Lane::Metrics);
        feeder.send_after(&mut appender, mark);
    }
    appender.commit().unwrap();
    (disk, history, appender, feeders)
}

fn ticks(feeder: &mut Feeder, count: u64) {
    let mut random = Random(count);
    for _ in 0..count {
        feeder.tick(0, 1000, |_, before| (f64::from_bits(before.unwrap_or(0)) + random.below(90) as f64).to_bits());
    }
}

fn verified(disk: &SimDisk, dir: &str) -> Verified {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut last = 0;
    let verified = verify(&disk, Path::new(dir), &mut |progress| {
        assert!(progress.bytes >= last && progress.bytes <= progress.total_bytes, "{progress:?} after {last}");
        last = progress.bytes;
    });
    let verified = verified.unwrap();
    assert_eq!(last, verified.bytes);
    verified
}

#[test]
fn a_sound_store_verifies_without_a_change_and_beside_its_collector() {
    let (disk, _history, mut appender, mut feeders) = store();
    let used = disk.used_bytes();
    let found = verified(&disk, DIR);
    assert_eq!((&found.damage, &found.notes), (&vec![], &vec![]));
    assert_eq!((found.files, found.bytes, found.samples), (3, used, 7 * 70));
    assert_eq!(disk.used_bytes(), used);
    ticks(&mut feeders[0], 1);
    let mark = appender.mark(&feeders[0].name, Lane::Metrics);
    feeders[0].send_after(&mut appender, mark);
    appender.commit().unwrap();
    assert_eq!(verified(&disk, DIR).samples, 7 * 70 + 6);
}

#[test]
fn a_damaged_column_is_named_with_what_it_loses() {
    let (disk, ..) = store();
    let blocks = Path::new(DIR).join("blocks");
    let path = blocks.join(&disk.list(&blocks).unwrap()[0]);
    // The first column's bytes follow the header.
    disk.flip_bit(&path, 8 * 24);
    let found = verified(&disk, DIR);
    let [Damage { path: Some(named), part, lost, .. }] = &found.damage[..] else { panic!("{found:?}") };
    assert_eq!(*named, path);
    assert!(part.contains("column at byte 20"), "{part}");
    assert!(lost.starts_with("50 samples of metric_") && lost.contains("instance=\"one\""), "{lost}");
    assert_eq!(found.samples, 7 * 70 - 50);
}

#[test]
fn a_snapshot_is_the_store_at_its_moment() {
    let (disk, history, mut appender, mut feeders) = store();
    let expected = contents(&history);
    let marks: Vec<_> = feeders.iter().map(|feeder| appender.mark(&feeder.name, Lane::Metrics)).collect();
    let to = Path::new("/snapshot");
    let files = appender.snapshot(to).unwrap();
    // The store goes on: what is linked changes only where it does not count.
    for feeder in &mut feeders {
        ticks(feeder, 30);
        let mark = appender.mark(&feeder.name, Lane::Metrics);
        feeder.send_after(&mut appender, mark);
    }
    appender.commit().unwrap();
    appender.seal(feeders[0].now).unwrap().unwrap().run().unwrap();
    let kinds: Vec<_> = files.iter().map(|file| file.kind).collect();
    assert_eq!(kinds, [FileKind::Log, FileKind::Immutable]);
    for SnapshotFile { path, bytes, .. } in &files {
        let whole = disk.contents(&to.join(path)).unwrap();
        let copy = disk.create(&Path::new("/copy").join(path)).unwrap();
        copy.write_at(0, &whole[..usize::try_from(*bytes).unwrap()]).unwrap();
    }
    assert_eq!(verified(&disk, "/copy").damage, []);
    let opened = History::open(Arc::new(disk.clone()), Path::new("/copy"), Config::default());
    let (copied, mut appender, report) = opened.unwrap();
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    assert_same(&contents(&copied), &expected, "the copy");
    for (feeder, mark) in feeders.iter().zip(marks) {
        assert_eq!(appender.mark(&feeder.name, Lane::Metrics), mark);
        feeder.send_after(&mut appender, mark);
    }
    assert_same(&contents(&copied), &contents(&history), "the copy, gone on");
}

#[test]
fn a_snapshot_may_fall_between_a_seal_and_its_end() {
    let (disk, history, mut appender, mut feeders) = store();
    let job = appender.seal(feeders[0].now).unwrap().unwrap();
    ticks(&mut feeders[1], 1);
    let mark = appender.mark(&feeders[1].name, Lane::Metrics);
    feeders[1].send_after(&mut appender, mark);
    let expected = contents(&history);
    appender.snapshot(Path::new("/snapshot")).unwrap();
    job.run().unwrap();
    let opened = History::open(Arc::new(disk.clone()), Path::new("/snapshot"), Config::default());
    let (copied, _appender, report) = opened.unwrap();
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    assert_same(&contents(&copied), &expected, "the snapshot");
}

#[test]
fn usage_adds_up_to_the_blocks() {
    let (_disk, history, ..) = store();
    let (usage, stats) = (history.usage(), history.stats());
    let blocks: u64 = usage.sources.iter().map(|source| source.blocks.bytes).sum();
    assert_eq!(blocks + usage.index_bytes, stats.block_bytes);
    assert_eq!(usage.sources[0].source, SourceName::agent("one"));
    assert_eq!((usage.sources[0].blocks.samples, usage.sources[0].head.samples), (300, 120));
    assert_eq!((usage.sources[1].blocks.samples, usage.sources[1].head.samples), (50, 20));
    let metrics: u64 = usage.metrics.iter().map(|(_, amount)| amount.samples).sum();
    assert_eq!((metrics, usage.metrics.len()), (350, 3));
    assert!(usage.metrics.iter().any(|(name, amount)| name == "metric_0" && amount.samples == 150));
}
