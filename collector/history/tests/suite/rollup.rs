//! Rollups: what files and samples together answer is what the samples alone would have, whatever came late, was cut
//! short or was made anew; where samples are gone, it is what they were.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::*;
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::rollup::{Bucket, Fields, Resolution};
use pitwatch_history::{Appender, Config, Done, History, Job, MatchOp, Matcher, SeriesRef, SourceName};
use pitwatch_shared::model::{Labels, Lane, Mark, STALE_NAN_BITS};
use proptest::prelude::*;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The begin of the 32 days that the sources' first samples are in.
const WINDOW: i64 = 1_700_000_000_000 / (32 * DAY_MS) * (32 * DAY_MS);

fn config() -> Config {
    Config { retention_age: None, retention_minutes: None, retention_hours: None, ..Config::default() }
}

/// The buckets of samples, by their ends, the slow way.
fn expected(samples: &BTreeMap<i64, u64>, grid_ms: i64) -> Vec<Bucket> {
    let mut spans: BTreeMap<i64, Vec<(i64, u64)>> = BTreeMap::new();
    for (ts, bits) in samples {
        let end = -(-ts).div_euclid(grid_ms) * grid_ms;
        spans.entry(end).or_default().push((*ts, *bits));
    }
    let of = |(end_ms, all): (i64, Vec<(i64, u64)>)| {
        let stale = all.last().unwrap().1 == STALE_NAN_BITS;
        let values = all.iter().filter(|(_, bits)| *bits != STALE_NAN_BITS);
        let values: Vec<_> = values.map(|(ts, bits)| (*ts, f64::from_bits(*bits))).collect();
        let (Some((first_ms, first)), Some((last_ms, last))) = (values.first().copied(), values.last().copied()) else {
            return Bucket { end_ms, stale, ..Bucket::default() };
        };
        let falls = values.windows(2).filter(|pair| pair[1].1 < pair[0].1).map(|pair| pair[0].1);
        let numbers = || values.iter().map(|(_, value)| *value);
        Bucket {
            end_ms,
            count: values.len() as u32,
            stale,
            first_ms,
            last_ms,
            first,
            last,
            min: numbers().fold(f64::NAN, f64::min),
            max: numbers().fold(f64::NAN, f64::max),
            sum: numbers().sum(),
            resets: falls.sum(),
        }
    };
    spans.into_iter().map(of).collect()
}

fn assert_alike(found: &Bucket, expected: &Bucket, what: &str) {
    let times = |b: &Bucket| (b.end_ms, b.count, b.stale, b.first_ms, b.last_ms);
    if found.count == 0 {
        let marker = |b: &Bucket| (b.end_ms, b.count, b.stale);
        return assert_eq!(marker(found), marker(expected), "{what}");
    }
    assert_eq!(times(found), times(expected), "{what}");
    let exact = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
    let close = |a: f64, b: f64| exact(a, b) || (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1e6);
    let same = exact(found.first, expected.first)
        && exact(found.last, expected.last)
        && exact(found.min, expected.min)
        && exact(found.max, expected.max)
        && close(found.sum, expected.sum)
        && close(found.resets, expected.resets);
    assert!(same, "{what}: {found:?}, not {expected:?}");
}

fn all_series(history: &History) -> Vec<SeriesRef> {
    let all = Matcher::new("__name__", MatchOp::Ne, "").unwrap();
    history.select(&[all], i64::MIN, i64::MAX).unwrap()
}

/// Panics unless the store's buckets are those of the model; answers whether files took part.
fn check(history: &History, model: &Model, what: &str) -> bool {
    let (start, end) = (WINDOW - 64 * DAY_MS, WINDOW + 400 * DAY_MS);
    let series = all_series(history);
    let known: BTreeMap<&Labels, &SeriesRef> = series.iter().map(|one| (&one.labels, one)).collect();
    let mut has_files = false;
    for (resolution, times) in [(0, 1), (0, 90), (1, 1), (1, 24)].map(|(nth, times)| (Resolution::ALL[nth], times)) {
        let grid_ms = resolution.ms() * times;
        let cover = history.cover(resolution, start, end).on_grid(grid_ms);
        has_files |= cover.has_files();
        for (labels, samples) in model {
            let what = format!("{what}: {labels} by {times} times {}", resolution.name());
            let expected = expected(samples, grid_ms);
            let mut found = Vec::new();
            let one = known.get(labels).unwrap_or_else(|| panic!("{what}: no such series"));
            history.buckets(one, &cover, (start, end), Fields::ALL, |bucket| found.push(bucket)).unwrap();
            assert_eq!(found.len(), expected.len(), "{what}");
            found.iter().zip(&expected).for_each(|(found, expected)| assert_alike(found, expected, &what));
        }
    }
    has_files
}

/// Runs what is due until nothing is; answers how many rollup files were made.
fn settle(appender: &mut Appender, now_ms: i64) -> usize {
    let mut made = 0;
    while let Some(job) = appender.maintain(now_ms).unwrap() {
        made += usize::from(matches!(run_job(job).unwrap(), Done::RolledUp(_)));
    }
    made
}

fn sealed(appender: &mut Appender, now_ms: i64) {
    if let Some(job) = appender.seal(now_ms).unwrap() {
        job.run().unwrap();
    }
}

fn forever() -> Option<Mark> {
    Some(Mark { epoch: u64::MAX, seq: 0 })
}

/// A source with `days` days of samples, twenty minutes apart.
fn days(name: &str, days: i64) -> Feeder {
    let mut feeder = Feeder::new(SourceName::agent(name));
    feeder.now = WINDOW + 1;
    let mut random = Random(days as u64);
    feeder.restart(0, &[0, 1, 2, 3]);
    for nth in 0..days * 72 {
        feeder.tick(0, 1_200_000, |slot, before| match slot {
            0 => 7_f64.to_bits(),
            1 if nth % 100 == 99 => 3_f64.to_bits(),
            1 => (f64::from_bits(before.unwrap_or(0)) + random.below(90) as f64).to_bits(),
            _ => value(&mut random, before),
        });
    }
    feeder
}

#[test]
fn a_year_is_few_files_and_its_samples_may_go() {
    let disk = SimDisk::new(1);
    let config = Config { retention_age: Some(Duration::from_secs(30 * 86_400)), ..config() };
    let (history, mut appender, _) = open(&disk, &config);
    let feeder = days("one", 70);
    let mut model = Model::new();
    feeder.model(forever(), &mut model);
    let mut at = 0;
    for day in 1..=70 {
        let until = WINDOW + day * DAY_MS;
        let end = feeder.frames.iter().position(|frame| frame.samples.first().is_some_and(|one| one.1 > until));
        for frame in &feeder.frames[at..end.unwrap_or(feeder.frames.len())] {
            appender.append(&feeder.name, Lane::Metrics, frame.mark, &frame.payload).unwrap();
        }
        at = end.unwrap_or(feeder.frames.len());
        sealed(&mut appender, until);
        settle(&mut appender, until + DAY_MS / 2);
    }
    let sent = appender.mark(&feeder.name, Lane::Metrics);
    feeder.send_after(&mut appender, sent);
    appender.commit().unwrap();
    let stats = history.stats();
    assert!(stats.blocks < 32 && stats.blocks_deleted > 38, "{stats:?}");
    // Of minutes twice 32 days and 6 single ones, of hours the rest of 256 days and 6 single ones.
    assert_eq!(stats.rollup_files, 8 + 7);
    assert!(check(&history, &model, "after 70 days"));
    drop((history, appender));
    let (history, _appender, report) = open(&disk, &config);
    assert!(report.losses.is_empty() && report.rollups == 15, "{report:?}");
    assert!(check(&history, &model, "reopened"));
    let one = &all_series(&history)[0];
    let old = history.remains(WINDOW, WINDOW + DAY_MS);
    let (mut ts, mut values) = (Vec::new(), Vec::new());
    history.samples_of(one, &old, (WINDOW, WINDOW + DAY_MS), &mut ts, &mut values).unwrap();
    assert!(old.has_files() && ts.len() == 71, "{}", ts.len());
    assert!(!history.remains(WINDOW + 50 * DAY_MS, WINDOW + 70 * DAY_MS).has_files());
}

#[test]
fn a_series_is_read_page_by_page() {
    let disk = SimDisk::new(1);
    let (history, mut appender, _) = open(&disk, &config());
    let mut feeder = Feeder::new(SourceName::agent("one"));
    feeder.now = WINDOW;
    feeder.restart(0, &[0, 1, 2, 3]);
    let mut random = Random(8);
    for nth in 0..8 * 1440 {
        // Now and then none is taken for a while, and late, so that neither buckets nor times are a line.
        let step_ms =
            if nth % 1000 == 999 { 300_000 } else { 60_000 + i64::from(nth % 5 == 4) * random.below(3) as i64 };
        feeder.tick(0, step_ms, |slot, before| match slot {
            0 => 7_f64.to_bits(),
            1 => (f64::from_bits(before.unwrap_or(0)) + random.below(90) as f64).to_bits(),
            // Of two pages one can be told from another column.
            2 if nth < 5000 => 7_f64.to_bits(),
            _ => value(&mut random, before),
        });
    }
    feeder.send_after(&mut appender, None);
    sealed(&mut appender, feeder.now);
    assert!(settle(&mut appender, feeder.now + DAY_MS) > 16);
    let mut model = Model::new();
    feeder.model(forever(), &mut model);
    assert!(check(&history, &model, "eight days"));
    let all = all_series(&history);
    for hours in [(0, 1), (1, 50), (70, 90), (136, 137), (137, 192), (191, 192), (0, 192), (200, 300)] {
        let (start, end) = (WINDOW + hours.0 * HOUR_MS, WINDOW + hours.1 * HOUR_MS);
        for grid_ms in [60_000, 15 * 60_000, HOUR_MS] {
            let cover = history.cover(Resolution::Minute, start, end).on_grid(grid_ms);
            for fields in [Fields::ALL, Fields::MAX, Fields::SUM.and(Fields::MIN)] {
                for one in &all {
                    let mut found = Vec::new();
                    history.buckets(one, &cover, (start, end), fields, |bucket| found.push(bucket)).unwrap();
                    let mut expected = expected(&model[&one.labels], grid_ms);
                    expected.retain(|bucket| bucket.end_ms > start && bucket.end_ms <= end);
                    assert_eq!(found.len(), expected.len(), "{hours:?}");
                    for (mut found, expected) in found.into_iter().zip(expected) {
                        let asked =
                            |field: Fields, found: f64, expected| if fields.has(field) { found } else { expected };
                        found.first = asked(Fields::FIRST, found.first, expected.first);
                        found.last = asked(Fields::LAST, found.last, expected.last);
                        found.min = asked(Fields::MIN, found.min, expected.min);
                        found.max = asked(Fields::MAX, found.max, expected.max);
                        found.sum = asked(Fields::SUM, found.sum, expected.sum);
                        found.resets = asked(Fields::RESETS, found.resets, expected.resets);
                        assert_alike(&found, &expected, &format!("{hours:?} of {} by {grid_ms}", one.labels));
                    }
                }
            }
        }
    }
}

#[test]
fn late_samples_make_a_day_anew() {
    let disk = SimDisk::new(1);
    let (history, mut appender, _) = open(&disk, &config());
    let (feeder, mut late) = (days("one", 3), Feeder::new(SourceName::agent("late")));
    late.now = WINDOW + DAY_MS;
    let mut model = Model::new();
    feeder.send_after(&mut appender, None);
    feeder.model(forever(), &mut model);
    sealed(&mut appender, feeder.now);
    let now = feeder.now + DAY_MS;
    // Three days of minutes and of hours.
    assert_eq!(settle(&mut appender, now), 6);
    assert!(check(&history, &model, "rolled up"));
    late.restart(0, &[0, 1]);
    late.tick(0, 1000, |_, _| 5_f64.to_bits());
    late.send_after(&mut appender, None);
    late.model(forever(), &mut model);
    assert!(check(&history, &model, "late in the head"));
    sealed(&mut appender, now);
    assert!(check(&history, &model, "late in a block"));
    assert_eq!(settle(&mut appender, now), 2);
    assert_eq!(history.stats().rollup_files, 6);
    assert!(check(&history, &model, "made anew"));
    assert_eq!(settle(&mut appender, now), 0);
}

#[test]
fn a_job_that_is_stopped_leaves_nothing() {
    let disk = SimDisk::new(1);
    let (history, mut appender, _) = open(&disk, &config());
    let feeder = days("one", 1);
    feeder.send_after(&mut appender, None);
    sealed(&mut appender, feeder.now);
    // The head, which holds nothing, is looked at first.
    run_job(appender.maintain(feeder.now + DAY_MS).unwrap().unwrap()).unwrap();
    let Some(Job::Rollup(job)) = appender.maintain(feeder.now + DAY_MS).unwrap() else { panic!("no rollup is due") };
    let other = appender.maintain(feeder.now + DAY_MS).unwrap();
    assert!(!matches!(other, Some(Job::Rollup(_))), "one at a time");
    drop(other);
    assert_eq!(job.run(&mut |_| std::ops::ControlFlow::Break(())).unwrap(), None);
    assert_eq!(disk.list(&std::path::Path::new(DIR).join("rollups")).unwrap(), Vec::<String>::new());
    assert_eq!((settle(&mut appender, feeder.now + DAY_MS), history.stats().rollup_files), (2, 2));
}

#[derive(Clone, Debug)]
enum Op {
    Ticks { source: usize, step_ms: i64, count: u8 },
    Schema { source: usize, salt: u64 },
    Seal,
    Settle { days: i64 },
    Job,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let step = prop_oneof![6 => 1000..1_800_000_i64, 1 => -2 * DAY_MS..0, 1 => 0..3 * DAY_MS];
    prop_oneof![
        8 => (0..2_usize, step, 1..60_u8).prop_map(|(source, step_ms, count)| Op::Ticks { source, step_ms, count }),
        1 => (0..2_usize, any::<u64>()).prop_map(|(source, salt)| Op::Schema { source, salt }),
        2 => Just(Op::Seal),
        2 => (0..40_i64).prop_map(|days| Op::Settle { days }),
        2 => Just(Op::Job),
        1 => Just(Op::Reopen),
    ]
}

fn play(ops: &[Op], seed: u64) -> bool {
    let disk = SimDisk::new(seed);
    let (mut history, mut appender, _) = open(&disk, &config());
    let mut feeders = [SourceName::agent("one"), SourceName::internal("self")].map(Feeder::new);
    feeders.iter_mut().for_each(|feeder| feeder.restart(0, &[0, 1, 2]));
    let mut random = Random(seed);
    let (mut now, mut had_files) = (WINDOW, false);
    for (nth, op) in ops.iter().enumerate() {
        match *op {
            Op::Ticks { source, step_ms, count } => {
                let feeder = &mut feeders[source];
                let step_ms = if step_ms < 0 { step_ms.max(WINDOW - feeder.now) } else { step_ms };
                feeder.tick(0, step_ms, |_, before| value(&mut random, before));
                for _ in 1..count {
                    feeder.tick(0, 600_000, |_, before| value(&mut random, before));
                }
                now = now.max(feeder.now);
            }
            Op::Schema { source, salt } => {
                let slots: Vec<u32> = (0..4).filter(|slot| salt >> slot & 1 == 1).collect();
                feeders[source].restart(0, &slots);
            }
            Op::Seal => sealed(&mut appender, now),
            Op::Settle { days } => {
                now += days * DAY_MS;
                settle(&mut appender, now);
            }
            Op::Job => {
                if let Some(job) = appender.maintain(now).unwrap() {
                    run_job(job).unwrap();
                }
            }
            Op::Reopen => {
                appender.commit().unwrap();
                drop((history, appender));
                let report;
                (history, appender, report) = open(&disk, &config());
                assert!(report.losses.is_empty(), "{:?}", report.losses);
            }
        }
        for feeder in &feeders {
            let sent = appender.mark(&feeder.name, Lane::Metrics);
            feeder.send_after(&mut appender, sent);
            appender.commit().unwrap();
        }
        if nth % 4 == 3 || nth + 1 == ops.len() {
            let mut model = Model::new();
            feeders.iter().for_each(|feeder| feeder.model(forever(), &mut model));
            had_files |= check(&history, &model, &format!("after {nth} {op:?}"));
        }
    }
    had_files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn files_and_samples_together_are_the_samples(ops in proptest::collection::vec(op(), 1..40), seed: u64) {
        play(&ops, seed);
    }
}

/// Power cuts at every change of the disk that rolling up and retention make.
#[test]
fn a_cut_anywhere_leaves_right_answers() {
    let config = Config { retention_age: Some(Duration::from_secs(86_400)), ..config() };
    let feeder = days("one", 9);
    let mut model = Model::new();
    feeder.model(forever(), &mut model);
    let mut cuts = 0;
    for cut_after in 0.. {
        let disk = SimDisk::new(cut_after);
        let (_history, mut appender, _) = open(&disk, &config);
        feeder.send_after(&mut appender, None);
        sealed(&mut appender, feeder.now);
        disk.cut_after(cut_after);
        let mut failed = false;
        while let Ok(Some(job)) = appender.maintain(feeder.now + 2 * DAY_MS) {
            if run_job(job).is_err() {
                failed = true;
                break;
            }
        }
        failed |= disk.list(std::path::Path::new(DIR)).is_err();
        drop((_history, appender));
        disk.power_cut();
        disk.cut_after(u64::MAX);
        let (history, mut appender, report) = open(&disk, &config);
        assert!(report.losses.is_empty(), "{:?}", report.losses);
        check(&history, &model, &format!("cut after {cut_after}"));
        settle(&mut appender, feeder.now + 2 * DAY_MS);
        assert!(check(&history, &model, &format!("rolled up after a cut after {cut_after}")));
        if !failed {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 20, "{cuts} cuts");
}

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// A store whose one day is rolled up, what it holds, and the file of its minutes.
fn rolled_up_day() -> (SimDisk, Model, std::path::PathBuf) {
    let disk = SimDisk::new(1);
    let (_history, mut appender, _) = open(&disk, &config());
    let mut feeders = [Feeder::new(SourceName::agent("one")), Feeder::new(SourceName::internal("self"))];
    let (mut random, mut model) = (Random(1), Model::new());
    for feeder in &mut feeders {
        feeder.restart(0, &[0, 1, 2]);
        for nth in 0..40 {
            feeder.tick(0, 20_000, |slot, before| match slot {
                0 => 1_f64.to_bits(),
                1 => (f64::from(nth) / 4.0).to_bits(),
                _ => value(&mut random, before),
            });
        }
        feeder.schema(false, 0, &[2], &[]);
        feeder.tick(0, 20_000, |_, before| before.unwrap());
        feeder.send_after(&mut appender, None);
        feeder.model(forever(), &mut model);
    }
    sealed(&mut appender, feeders[0].now);
    assert_eq!(settle(&mut appender, feeders[0].now + 2 * DAY_MS), 2);
    let dir = std::path::Path::new(DIR).join("rollups");
    let name = disk.list(&dir).unwrap().into_iter().find(|name| name.contains("-1m-")).unwrap();
    let path = dir.join(name);
    (disk, model, path)
}

#[test]
fn every_version_is_read() {
    let (_, model, path) = rolled_up_day();
    for fixture in ["v1.rol", "v2.rol"] {
        let disk = SimDisk::new(2);
        let bytes = std::fs::read(std::path::Path::new(FIXTURES).join(fixture)).unwrap();
        disk.create(&path).unwrap().write_at(0, &bytes).unwrap();
        let (history, _, report) = open(&disk, &config());
        assert!(report.losses.is_empty() && report.rollups == 1, "{report:?}");
        assert!(check(&history, &model, fixture));
    }
}

#[test]
#[ignore = "writes the fixture of a new version"]
fn write_rollup_fixture() {
    let (disk, _, path) = rolled_up_day();
    std::fs::write(std::path::Path::new(FIXTURES).join("v2.rol"), disk.contents(&path).unwrap()).unwrap();
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (disk, model, path) = rolled_up_day();
    let bits = disk.contents(&path).unwrap().len() * 8;
    let (start, end) = (WINDOW, WINDOW + 32 * DAY_MS);
    for bit in 0..bits {
        disk.flip_bit(&path, bit);
        let (history, _, report) = open(&disk, &config());
        let mut noticed = !report.losses.is_empty();
        let cover = history.cover(Resolution::Minute, start, end);
        for one in all_series(&history) {
            let expected = expected(&model[&one.labels], Resolution::Minute.ms());
            let mut found = Vec::new();
            match history.buckets(&one, &cover, (start, end), Fields::ALL, |bucket| found.push(bucket)) {
                Err(_) => noticed = true,
                Ok(()) => {
                    assert_eq!(found.len(), expected.len(), "bit {bit}");
                    let what = format!("bit {bit}");
                    found.iter().zip(&expected).for_each(|(found, expected)| assert_alike(found, expected, &what));
                }
            }
        }
        let disk_ref: std::sync::Arc<dyn Disk> = std::sync::Arc::new(disk.clone());
        let verified = pitwatch_history::verify(&disk_ref, std::path::Path::new(DIR), &mut |_| {}).unwrap();
        assert!(noticed && !verified.damage.is_empty(), "bit {bit} was not noticed");
        disk.flip_bit(&path, bit);
    }
    let disk: std::sync::Arc<dyn Disk> = std::sync::Arc::new(disk);
    let verified = pitwatch_history::verify(&disk, std::path::Path::new(DIR), &mut |_| {}).unwrap();
    assert_eq!(verified.damage, []);
}
