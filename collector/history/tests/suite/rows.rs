//! Samples by series: random ones against a plain model, over seals, restarts and power cuts; limits; what the log
//! costs.

use std::path::Path;
use std::sync::Arc;

use crate::common::*;
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::{Appender, Config, History, Loss, RowsAppended, SeriesRows, SourceName};
use pitwatch_shared::codec::{Encoder, SeriesDef};
use pitwatch_shared::model::{Labels, Lane, Mark, MetricType, STALE_NAN_BITS};

const SEEDS: u64 = 300;
const STEPS: u64 = 120;
const BEGIN_MS: i64 = 1_700_000_000_000;

fn source() -> SourceName {
    SourceName::internal("remote-write")
}

fn labels(nth: u64) -> Labels {
    let (instance, name) = ((nth % 3).to_string(), format!("metric_{}", nth / 3));
    Labels::new([("__name__", &*name), ("instance", &instance)]).unwrap()
}

/// The one value that a series has at a time, whoever sends it how often.
fn value_at(nth: u64, ts_ms: i64) -> f64 {
    let random = Random(nth << 32 ^ ts_ms as u64).below(12);
    f64::from_bits(match random {
        0 => STALE_NAN_BITS,
        1 => f64::NAN.to_bits() | 5,
        2 => (ts_ms as f64 / 7.0).to_bits(),
        _ => (nth as f64).to_bits(),
    })
}

fn rows(nth: u64, times: &[i64]) -> SeriesRows {
    let samples = times.iter().map(|ts| (*ts, value_at(nth, *ts))).collect();
    SeriesRows { labels: labels(nth), kind: MetricType::Gauge, samples }
}

/// One request: a scrape of a target cut somewhere, now and then something late, repeated or by itself.
fn request(random: &mut Random, now_ms: i64) -> Vec<SeriesRows> {
    let target = random.below(3);
    let from = random.below(4);
    let until = 4 + random.below(6);
    let times = |random: &mut Random| match random.below(10) {
        0 => vec![now_ms - random.below(20_000) as i64],
        1 => vec![now_ms, now_ms - 1000],
        2 => vec![now_ms + random.below(500) as i64],
        3 => (0..5).map(|nth| now_ms - 40_000 + nth * 1000).collect(),
        _ => vec![now_ms],
    };
    (from..until).map(|nth| rows(nth * 3 + target, &times(random))).collect()
}

fn note(request: &[SeriesRows], model: &mut Model) {
    for one in request {
        let samples = one.samples.iter().map(|(ts, value)| (*ts, value.to_bits()));
        model.entry(one.labels.clone()).or_default().extend(samples);
    }
}

fn count(request: &[SeriesRows]) -> u64 {
    request.iter().map(|one| one.samples.len() as u64).sum()
}

/// Opens, over as many power cuts as it takes.
fn reopen(disk: &SimDisk) -> (Arc<History>, Appender) {
    loop {
        match History::open(Arc::new(disk.clone()), Path::new(DIR), Config::default()) {
            Ok(_) if disk.list(Path::new(DIR)).is_err() => disk.power_cut(),
            Ok((history, appender, report)) => {
                disk.cut_after(u64::MAX);
                for loss in &report.losses {
                    assert!(matches!(loss, Loss::TornTail { .. } | Loss::Header { .. }), "{loss}");
                }
                return (history, appender);
            }
            Err(_) => disk.power_cut(),
        }
    }
}

fn run(seed: u64) -> (u64, u64) {
    let disk = SimDisk::new(seed);
    let mut random = Random(seed);
    let (mut history, mut appender) = reopen(&disk);
    let (mut sent, mut acknowledged) = (Model::new(), Model::new());
    let (mut now_ms, mut cuts, mut seals) = (BEGIN_MS, 0, 0);
    for _ in 0..STEPS {
        if random.below(20) == 0 {
            disk.cut_after(random.below(8));
        }
        now_ms += [0, 1000, 1000, 7][random.below(4) as usize];
        let request = request(&mut random, now_ms);
        let appended = appender.append_rows(&source(), &request).unwrap();
        assert_eq!(appended.samples, count(&request), "every sample is there: {appended:?}");
        note(&request, &mut sent);
        match random.below(12) {
            0..5 if appender.commit().is_ok() => acknowledged.clone_from(&sent),
            5 => {
                if let Ok(Some(job)) = appender.seal(now_ms) {
                    acknowledged.clone_from(&sent);
                    seals += u64::from(random.below(3) > 0 && job.run().is_ok());
                }
            }
            6 => {
                drop((history, appender));
                disk.power_cut();
                cuts += 1;
                (history, appender) = reopen(&disk);
                let found = contents(&history);
                for (labels, samples) in &acknowledged {
                    let got = found.get(labels).expect("an acknowledged series is there");
                    assert!(samples.iter().all(|(ts, bits)| got.get(ts) == Some(bits)), "seed {seed}: {labels}");
                }
                for (labels, samples) in &found {
                    let sent = &sent[labels];
                    assert!(samples.iter().all(|(ts, bits)| sent.get(ts) == Some(bits)), "seed {seed}: {labels}");
                }
                acknowledged.clone_from(&found);
                sent = found;
            }
            _ => {}
        }
        if random.below(10) == 0 && disk.list(Path::new(DIR)).is_ok() {
            assert_same(&contents(&history), &sent, "as it goes");
        }
    }
    (cuts, seals)
}

#[test]
fn acknowledged_samples_are_there_once_after_any_power_cut() {
    let (mut cuts, mut seals) = (0, 0);
    for seed in 0..SEEDS {
        let seen = run(seed);
        cuts += seen.0;
        seals += seen.1;
    }
    assert!(cuts > SEEDS && seals > SEEDS, "{cuts} cuts, {seals} seals");
}

#[test]
fn one_value_a_time_and_the_rest_is_counted() {
    let (history, mut appender, _) = open(&SimDisk::new(1), &Config::default());
    let one = |value| SeriesRows { labels: labels(1), kind: MetricType::Gauge, samples: vec![(BEGIN_MS, value)] };
    let appended = appender.append_rows(&source(), &[one(1.0), one(1.0), one(2.0)]).unwrap();
    assert_eq!(appended, RowsAppended { samples: 2, repeated: 1, conflicting: 1, ..RowsAppended::default() });
    assert_eq!(contents(&history)[&labels(1)][&BEGIN_MS], 1.0_f64.to_bits());
    assert_eq!(history.stats().samples_appended, 1);
}

#[test]
fn series_over_the_limit_are_refused_and_those_known_go_on() {
    let config = Config { series_by_rows_max: 2, series_per_source_max: 1, ..Config::default() };
    let disk = SimDisk::new(1);
    let (history, mut appender, _) = open(&disk, &config);
    let all = |ts| (0..4).map(|nth| rows(nth, &[ts])).collect::<Vec<_>>();
    for nth in 0..3 {
        let appended = appender.append_rows(&source(), &all(BEGIN_MS + nth * 1000)).unwrap();
        assert_eq!((appended.samples, appended.refused_series, appended.refused_samples), (2, 2, 2));
        appender.commit().unwrap();
    }
    assert_eq!((history.stats().active_series, history.stats().refused_series), (2, 6));
    appender.seal(BEGIN_MS).unwrap().unwrap().run().unwrap();
    assert_eq!(history.stats().active_series, 0);
    let later: Vec<_> = (2..4).map(|nth| rows(nth, &[BEGIN_MS + 9000])).collect();
    assert_eq!(appender.append_rows(&source(), &later).unwrap().samples, 2, "in the next head there is room again");
    appender.commit().unwrap();
    drop((history, appender));
    let (history, _, report) = open(&disk, &config);
    assert!(report.losses.is_empty());
    assert_eq!((report.samples, history.stats().active_series), (2, 2));
}

#[test]
fn a_source_may_send_frames_and_rows() {
    let disk = SimDisk::new(1);
    let (_, mut appender, _) = open(&disk, &Config::default());
    let (mut encoder, mut payload) = (Encoder::new(), Vec::new());
    let def = SeriesDef { slot: 0, kind: MetricType::Gauge, labels: labels(0) };
    encoder.schema(&mut payload, true, 0, &[], &[def]).unwrap();
    appender.append(&source(), Lane::Metrics, Mark { epoch: 1, seq: 1 }, &payload).unwrap();
    for nth in 0..3 {
        payload.clear();
        encoder.tick(&mut payload, 0, BEGIN_MS + nth * 1000, &[nth as f64]).unwrap();
        let mark = Mark { epoch: 1, seq: 2 + nth.unsigned_abs() };
        appender.append(&source(), Lane::Metrics, mark, &payload).unwrap();
        appender.append_rows(&source(), &[rows(1, &[BEGIN_MS + nth * 1000 + 3])]).unwrap();
    }
    appender.commit().unwrap();
    drop(appender);
    let (history, _, report) = open(&disk, &Config::default());
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    assert_eq!(contents(&history).values().map(std::collections::BTreeMap::len).collect::<Vec<_>>(), [3, 3]);
}
