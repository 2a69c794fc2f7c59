//! Queries over a store with rollups: each tier that may answer answers as samples do.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use pitwatch_disk::SimDisk;
use pitwatch_history::{Appender, Config, SourceName};
use pitwatch_promql::{Answer, Cancel, Engine, Value, parse};
use pitwatch_shared::codec::{Encoder, SeriesDef};
use pitwatch_shared::model::{Labels, Lane, Mark, MetricType};

use super::*;
use crate::source::HistorySource;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const BEGIN: i64 = 1_700_006_400_000;
const DAYS: i64 = 20;

/// Twenty days of a counter and a gauge, ten minutes apart, rolled up but for the last day.
fn store(retention_age: Option<Duration>) -> (HistorySource, Appender) {
    let config = Config { retention_age, ..Config::default() };
    let opened = History::open(Arc::new(SimDisk::new(1)), Path::new("/history"), config);
    let (history, mut appender, _) = opened.unwrap();
    let (name, mut encoder, mut frame) = (SourceName::agent("a"), Encoder::new(), Vec::new());
    let defs = ["c_total", "g"].into_iter().enumerate().map(|(slot, name)| SeriesDef {
        slot: slot as u32,
        kind: MetricType::Unknown,
        labels: Labels::new([("__name__", name)]).unwrap(),
    });
    encoder.schema(&mut frame, true, 0, &[], &defs.collect::<Vec<_>>()).unwrap();
    let mut mark = Mark { epoch: 1, seq: 1 };
    appender.append(&name, Lane::Metrics, mark, &frame).unwrap();
    let mut total = 0.0;
    for nth in 1..=DAYS * 144 {
        total = if nth % 777 == 0 { 1.0 } else { total + (nth % 7) as f64 };
        frame.clear();
        encoder.tick(&mut frame, 0, BEGIN + nth * 600_000, &[total, (nth * nth % 101) as f64]).unwrap();
        mark.seq += 1;
        appender.append(&name, Lane::Metrics, mark, &frame).unwrap();
        if nth % 144 == 0 {
            let now = BEGIN + nth * 600_000;
            if let Some(job) = appender.seal(now).unwrap() {
                job.run().unwrap();
            }
            while let Some(job) = appender.maintain(now).unwrap() {
                job.run(&mut |_| ControlFlow::Continue(())).unwrap();
            }
        }
    }
    (HistorySource::new(history), appender)
}

fn ask(source: &HistorySource, query: &str, start: i64, step: i64) -> Answer {
    let (expr, end) = (parse(query).unwrap(), BEGIN + DAYS * DAY);
    Engine::default().range(source, &expr, start, end - (end - start) % step, step, &Cancel::new()).unwrap()
}

fn assert_close(found: &Answer, expected: &Answer, query: &str) {
    let (Value::Matrix(found), Value::Matrix(expected)) = (&found.value, &expected.value) else { panic!("{query}") };
    assert!(!expected.is_empty() && found.len() == expected.len(), "{query}");
    for ((labels, found), (other, expected)) in found.iter().zip(expected) {
        assert_eq!((labels, found.len()), (other, expected.len()), "{query}");
        for ((at, a), (other, b)) in found.iter().zip(expected) {
            assert!(at == other && (a - b).abs() <= 1e-12 * a.abs().max(b.abs()), "{query} at {at}: {a}, not {b}");
        }
    }
}

#[test]
fn the_coarsest_tier_that_is_right_answers() {
    let (source, _appender) = store(None);
    let raw = source.clone().forced(Some(Tier::Raw));
    for (query, step, tier) in [
        ("g", HOUR, "1h"),
        ("g", 20 * 60_000, "1m"),
        ("g", 210_000, "raw"),
        ("last_over_time(g[7m30s])", HOUR, "1h"),
        ("rate(c_total[2h])", HOUR, "1h"),
        ("increase(c_total[90m])", HOUR, "1m"),
        ("rate(c_total[2h] offset 30m)", HOUR, "1m"),
        ("sum(avg_over_time(g[1d]))", 6 * HOUR, "1h"),
        ("max_over_time(g[1h])", 5 * 60_000, "1m"),
        ("irate(c_total[1h])", HOUR, "raw"),
        ("count_over_time(g[3605s])", HOUR, "raw"),
    ] {
        let (found, expected) = (ask(&source, query, BEGIN, step), ask(&raw, query, BEGIN, step));
        assert_eq!((&found.tiers[..], &expected.tiers[..]), (&[tier][..], &["raw"][..]), "{query}");
        assert_eq!(found.infos, expected.infos, "{query}");
        assert_close(&found, &expected, query);
    }
    let recent = ask(&source, "g", BEGIN + DAYS * DAY - 6 * HOUR, HOUR);
    assert_eq!(recent.tiers, ["raw"], "what no file has is answered from samples");
    let both = ask(&source, "rate(c_total[1h]) + irate(c_total[1h])", BEGIN, HOUR);
    assert_eq!(both.tiers, ["1h", "raw"]);
}

#[test]
fn what_is_past_retention_is_answered_from_what_there_is() {
    let (whole, _one) = store(None);
    let (source, _other) = store(Some(Duration::from_secs(5 * 86_400)));
    let raw = source.clone().forced(Some(Tier::Raw));
    let points = |answer: &Answer| match &answer.value {
        Value::Matrix(series) => series.first().map_or(0, |(_, points)| points.len()),
        _ => 0,
    };
    assert!(points(&ask(&raw, "g", BEGIN, HOUR)) < 7 * 24);
    let rate = "rate(c_total[2h])";
    let exact = ask(&source, rate, BEGIN, HOUR);
    assert_close(&exact, &ask(&whole, rate, BEGIN, HOUR), rate);
    assert!(exact.tiers == ["1h"] && exact.infos.is_empty(), "{:?}", exact.infos);
    let odd = ask(&source, rate, BEGIN + 1000, HOUR);
    assert!(odd.tiers == ["1m"] && odd.infos[0].contains("buckets of 1m"), "{:?}", odd.infos);
    assert_eq!(points(&odd), points(&exact) - 1);
    let last = ask(&source, "irate(c_total[1h])", BEGIN, HOUR);
    assert!(last.tiers == ["1m"] && last.infos[0].contains("the last one of each"), "{:?}", last.infos);
    assert!(points(&last) >= points(&exact) - 2);
    let unaligned = ask(&source, "rate(c_total[2h])", BEGIN + (DAYS - 3) * DAY + 1000, HOUR);
    assert_eq!((&unaligned.tiers[..], unaligned.infos.len()), (&["raw"][..], 0));
}

#[test]
fn a_tier_may_be_forced() {
    let (source, _appender) = store(None);
    for (name, infos) in [("raw", 0), ("1m", 1), ("1h", 1)] {
        let forced = source.clone().forced(Some(name.parse().unwrap()));
        let answer = ask(&forced, "rate(c_total[2h])", BEGIN + 1000, HOUR);
        assert_eq!((answer.tiers[0], answer.infos.len()), (name, infos), "{:?}", answer.infos);
    }
    assert_eq!("5m".parse::<Tier>(), Err(NoTier));
}
