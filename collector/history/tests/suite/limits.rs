//! Limits and retention: what is refused or deleted is counted and named, and nothing else suffers.

use std::time::Duration;

use crate::common::*;
use pitwatch_disk::SimDisk;
use pitwatch_history::{AppendError, Appender, Config, Done, Job, MatchOp, Matcher, SeriesLimit, SourceName};
use pitwatch_shared::model::{Lane, Mark, MetricType};

fn feeder(name: SourceName, ticks: usize) -> Feeder {
    let mut feeder = Feeder::new(name);
    feeder.restart(0, &[0, 1, 2]);
    for _ in 0..ticks {
        feeder.tick(0, 1000, |slot, _| f64::from(slot).to_bits());
    }
    feeder
}

/// The seal that maintenance asks for, if it does.
fn maintain(appender: &mut Appender, now_ms: i64) -> Option<Job> {
    appender.maintain(now_ms).unwrap().filter(|job| matches!(job, Job::Seal(_)))
}

#[test]
fn the_newest_series_over_a_limit_are_refused_and_the_frame_is_taken() {
    let disk = SimDisk::new(1);
    let config = Config { series_per_source_max: 2, series_total_max: 3, ..Config::default() };
    let (history, mut appender, _) = open(&disk, &config);
    let (one, two) = (feeder(SourceName::agent("one"), 3), feeder(SourceName::agent("two"), 3));
    one.send_after(&mut appender, None);
    let refused = history.refused().remove(0);
    let last = (refused.source, refused.count, refused.limit, refused.last);
    assert_eq!(last, (one.name.clone(), 1, SeriesLimit::PerSource, Feeder::labels(0, 2)));
    two.send_after(&mut appender, None);
    let stats = history.stats();
    assert_eq!((history.refused()[1].count, history.refused()[1].limit), (2, SeriesLimit::Total));
    assert_eq!((stats.refused_series, stats.active_series, stats.samples_appended), (3, 3, 9));
    assert_eq!(contents(&history).len(), 3);
    appender.commit().unwrap();
    drop((history, appender));
    let (history, _, _) = open(&disk, &config);
    assert_eq!(contents(&history).len(), 3);
}

#[test]
fn the_label_that_exploded_is_named() {
    let disk = SimDisk::new(1);
    let config = Config { series_per_source_max: 40, ..Config::default() };
    let (history, mut appender, _) = open(&disk, &config);
    let mut wild = Feeder::new(SourceName::agent("wild"));
    wild.restart(0, &(0..60).collect::<Vec<_>>());
    wild.tick(0, 1000, |_, _| 7);
    wild.send_after(&mut appender, None);
    assert_eq!(history.explosion(&SourceName::agent("tame")), None);
    let name = wild.name.clone();
    let seen = || history.explosion(&name).map(|found| (found.label, found.values, found.series));
    // Slots stand in the label `s`; the metric name has three values.
    assert_eq!(seen(), Some(("s".to_owned(), 40, 40)));
    assert_eq!(history.refused()[0].count, 20);
    appender.seal(0).unwrap().unwrap().run().unwrap();
    wild.tick(0, 1000, |_, _| 7);
    let mark = appender.mark(&wild.name, Lane::Metrics);
    wild.send_after(&mut appender, mark);
    assert_eq!(seen(), Some(("s".to_owned(), 40, 40)));
}

#[test]
fn a_full_backlog_refuses_until_a_commit_succeeds() {
    let disk = SimDisk::new(1);
    let config = Config { pending_max_bytes: 200, ..Config::default() };
    let (history, mut appender, _) = open(&disk, &config);
    let feeder = feeder(SourceName::agent("one"), 50);
    disk.set_capacity(0);
    let mut refused = false;
    for frame in &feeder.frames {
        match appender.append(&feeder.name, Lane::Metrics, frame.mark, &frame.payload) {
            Ok(_) => {}
            Err(AppendError::Backlog { pending_bytes, limit_bytes: 200 }) if pending_bytes < 400 => refused = true,
            Err(error) => panic!("{error}"),
        }
        assert!(appender.commit().is_err());
        assert_eq!(appender.mark(&feeder.name, Lane::Metrics), None);
        if refused {
            break;
        }
    }
    assert!(refused);
    disk.set_capacity(u64::MAX);
    appender.commit().unwrap();
    for frame in &feeder.frames {
        appender.append(&feeder.name, Lane::Metrics, frame.mark, &frame.payload).unwrap();
        appender.commit().unwrap();
    }
    let mut model = Model::new();
    feeder.model(feeder.frames.last().map(|frame| frame.mark), &mut model);
    assert_same(&contents(&history), &model, "after the disk had room again");
    drop((history, appender));
    let (history, _, report) = open(&disk, &config);
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    assert_same(&contents(&history), &model, "after a restart");
}

#[test]
fn blocks_past_retention_go_with_the_series_that_only_they_had() {
    let disk = SimDisk::new(1);
    let config = Config { retention_age: Some(Duration::from_secs(3600)), ..Config::default() };
    let (history, mut appender, _) = open(&disk, &config);
    let gone = feeder(SourceName::agent("gone"), 10);
    gone.send_after(&mut appender, None);
    appender.forget_source(&gone.name);
    let mut stays = feeder(SourceName::agent("stays"), 10);
    stays.send_after(&mut appender, None);
    let begun = stays.now;
    appender.seal(begun).unwrap().unwrap().run().unwrap();
    assert_eq!((history.stats().blocks, history.stats().series), (1, 6));
    stays.tick(0, 1_800_000, |slot, _| f64::from(slot).to_bits());
    let mark = appender.mark(&stays.name, Lane::Metrics);
    stays.send_after(&mut appender, mark);
    assert!(maintain(&mut appender, begun + 3_599_000).is_none());
    assert_eq!(history.stats().blocks, 1);
    maintain(&mut appender, begun + 3_601_000);
    let stats = history.stats();
    assert_eq!((stats.blocks, stats.blocks_deleted, stats.series), (0, 1, 3));
    assert!(contents(&history).values().all(|samples| samples.len() == 1));
    drop((history, appender));
    let (history, appender, _) = open(&disk, &config);
    assert!(appender.needs_chain(&gone.name, Lane::Metrics));
    assert_eq!(appender.mark(&gone.name, Lane::Metrics), None);
    assert_eq!(contents(&history).len(), 0, "the last tick was never committed");
}

#[test]
fn a_head_is_sealed_when_its_time_or_size_is_reached() {
    let disk = SimDisk::new(1);
    let config = Config { block_span: Duration::from_secs(60), ..Config::default() };
    let (history, mut appender, _) = open(&disk, &config);
    let mut feeder = feeder(SourceName::agent("one"), 30);
    feeder.send_after(&mut appender, None);
    assert!(maintain(&mut appender, feeder.now).is_none());
    let job = maintain(&mut appender, feeder.now + 31_000).expect("due");
    assert!(maintain(&mut appender, feeder.now + 32_000).is_none(), "one at a time");
    drop(job);
    let job = maintain(&mut appender, feeder.now + 33_000).expect("given again");
    let Done::Sealed(sealed) = run_job(job).unwrap() else { panic!("not a seal") };
    assert_eq!(sealed.samples, 90);
    assert!(maintain(&mut appender, feeder.now + 34_000).is_none());
    feeder.tick(0, 1000, |_, before| before.unwrap());
    let mark = appender.mark(&feeder.name, Lane::Metrics);
    feeder.send_after(&mut appender, mark);
    assert_eq!(history.stats().head_samples, 3);
    assert_eq!(history.last_sample_ms(&feeder.name), Some(feeder.now));
}

#[test]
fn names_values_and_types_follow_matchers_and_time() {
    let disk = SimDisk::new(1);
    let (history, mut appender, _) = open(&disk, &Config::default());
    let (early, mut late) = (feeder(SourceName::agent("early"), 3), Feeder::new(SourceName::internal("late")));
    early.send_after(&mut appender, None);
    appender.seal(0).unwrap().unwrap().run().unwrap();
    late.now += 1_000_000;
    late.restart(1, &[0]);
    late.tick(1, 0, |_, _| 7);
    late.send_after(&mut appender, None);
    let all = |start, end| history.label_values("g", &[], start, end).unwrap();
    assert_eq!(all(i64::MIN, i64::MAX), ["0", "1"]);
    assert_eq!(all(early.now, i64::MAX), ["1"]);
    assert_eq!(all(i64::MIN, late.now - 1), ["0"]);
    let of = Matcher::new("instance", MatchOp::Re, "ear.*").unwrap();
    assert_eq!(
        history.label_names(std::slice::from_ref(&of), i64::MIN, i64::MAX).unwrap(),
        ["__name__", "g", "instance", "s"]
    );
    let without = Matcher::new("instance", MatchOp::Eq, "").unwrap();
    assert_eq!(history.label_names(&[without], i64::MIN, i64::MAX).unwrap(), ["__name__", "g", "s"]);
    assert_eq!(history.select(&[of], i64::MIN, i64::MAX).unwrap().len(), 3);
    assert_eq!(history.metric_types()[0], ("metric_0".to_owned(), MetricType::Gauge));
    assert_eq!(appender.mark(&early.name, Lane::Metrics), Some(Mark { epoch: 1, seq: 4 }));
}
