//! A range query must give at each step what an instant query gives at that time, whatever is reused between steps:
//! sliding windows, pieces of long reads, windows read alone.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use pitwatch_promql::testing::MemorySource;
use pitwatch_promql::{Cancel, Engine, EngineOptions, Labels, STALE, Value, parse};

#[path = "support/queries.rs"]
mod queries;

use queries::{Dice, START_S, vector};

/// Series of this many samples, about `gap_ms` apart, with holes, restarts and stale markers.
fn series(dice: &mut Dice, count: usize, gap_ms: i64) -> MemorySource {
    let mut store = MemorySource::new();
    for name in ["requests_total", "temperature", "latency_seconds_bucket", "build_info"] {
        for (job, instance) in [("api", "a"), ("api", "b"), ("db", "c")] {
            for le in ["0.5", "5", "+Inf"] {
                let label = ["le", "zone"][usize::from(name == "temperature")];
                let pairs = [("__name__", name), ("job", job), ("instance", instance), (label, le)];
                let labels = Labels::from_pairs(pairs);
                let (mut time, mut total) = (START_S * 1000 + 217, 1000.0);
                for _ in 0..count {
                    time += gap_ms + [0, 0, 0, 0, 1, 40 * gap_ms][dice.below(6)] * dice.below(2) as i64;
                    total = if dice.below(80) == 0 { 3.0 } else { total + dice.below(20) as f64 };
                    let value = match name {
                        "temperature" => dice.below(1000) as f64 / 8.0 - 60.0,
                        "build_info" => 1.0,
                        _ => total,
                    };
                    store.push(&labels, time, if dice.below(70) == 0 { STALE } else { value });
                }
            }
        }
    }
    store
}

fn same(a: f64, b: f64, scale: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * scale
}

/// Compares the steps of a query; true if there was anything to compare.
fn steps_agree(engine: &Engine, store: &MemorySource, query: &str, start: i64, step: i64, n: i64) -> bool {
    let expr = parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let range = engine.range(store, &expr, start, start + step * (n - 1), step, &Cancel::new());
    let mut steps: Vec<BTreeMap<Labels, f64>> = vec![BTreeMap::new(); n as usize];
    let mut failed = None;
    match range.map(|answer| answer.value) {
        Ok(Value::Matrix(series)) => {
            for (labels, samples) in series {
                for (time, value) in samples {
                    steps[((time - start) / step) as usize].insert(labels.clone(), value);
                }
            }
        }
        Ok(other) => panic!("{query}: {other:?}"),
        Err(error) => failed = Some(error.to_string()),
    }
    let mut any = false;
    for (i, expected) in steps.iter().enumerate() {
        let time = start + step * i as i64;
        let vector = match engine.instant(store, &expr, time, &Cancel::new()).map(|answer| answer.value) {
            Ok(Value::Vector(vector)) => vector,
            Ok(other) => panic!("{query}: {other:?}"),
            // Then the range must have failed too.
            Err(error) => {
                assert!(failed.is_some(), "{query} at {time}: {error}, but not as a range");
                return false;
            }
        };
        if failed.is_some() {
            continue;
        }
        let got: Vec<&Labels> = expected.keys().collect();
        let mut wanted: Vec<&Labels> = vector.iter().map(|(labels, _, _)| labels).collect();
        wanted.sort();
        assert_eq!(got, wanted, "{query} at {time} of {start}+{step}");
        let scale = vector.iter().map(|s| s.2.abs()).filter(|v| v.is_finite()).fold(1.0, f64::max);
        for (labels, _, value) in &vector {
            let range = expected[labels];
            assert!(
                same(range, *value, scale),
                "{query} at {time} of {start}+{step}: {labels}: {range}, alone {value}"
            );
            any = true;
        }
    }
    any
}

#[test]
fn generated_queries_agree_at_every_step() {
    let mut dice = Dice::new(0x57e9);
    let store = series(&mut dice, 300, 10_000);
    let engine = Engine::new(EngineOptions { threads: 3, ..EngineOptions::default() });
    let mut compared = 0;
    for _ in 0..600 {
        let query = vector(&mut dice, 3);
        // These ask for the bounds of the query, or for the last bit of a value.
        if ["start()", "end()", "step()", "range()", "count_values"].iter().any(|word| query.contains(word)) {
            continue;
        }
        let start = START_S * 1000 + dice.below(3_000_000) as i64;
        let step = [1000, 7000, 60_000, 400_000][dice.below(4)];
        compared += usize::from(steps_agree(&engine, &store, &query, start, step, 20));
    }
    assert!(compared > 200, "only {compared} queries had answers");
}

#[test]
fn long_reads_agree_at_every_step() {
    let mut dice = Dice::new(0x10_4e6);
    // Nine days, one sample in five minutes.
    let store = series(&mut dice, 2000, 300_000);
    let engine = Engine::new(EngineOptions { threads: 3, ..EngineOptions::default() });
    const FUNCTIONS: [&str; 20] = [
        "rate",
        "increase",
        "delta",
        "irate",
        "idelta",
        "avg_over_time",
        "sum_over_time",
        "min_over_time",
        "max_over_time",
        "count_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "last_over_time",
        "first_over_time",
        "present_over_time",
        "changes",
        "resets",
        "deriv",
        "absent_over_time",
        "sum_over_time",
    ];
    for function in FUNCTIONS {
        for (window, step, n) in
            [("2h", 1_800_000, 300), ("10m", 7_200_000, 90), ("1d", 10_800_000, 60), ("12m", 60_000, 120)]
        {
            for metric in ["requests_total", "temperature"] {
                let query = format!("{function}({metric}{{job=\"api\"}}[{window}])");
                let any = steps_agree(&engine, &store, &query, START_S * 1000 + 40_000_000, step, n);
                assert!(any || function == "absent_over_time", "{query} has no answer");
            }
        }
    }
    assert!(steps_agree(&engine, &store, "temperature", START_S * 1000, 7_200_000, 100));
    assert!(steps_agree(
        &engine,
        &store,
        "max_over_time(rate(requests_total[30m])[6h:20m])",
        START_S * 1000,
        3_600_000,
        60
    ));
    assert!(steps_agree(&engine, &store, "predict_linear(temperature[3h], 600)", START_S * 1000, 600_000, 200));
    assert!(steps_agree(&engine, &store, "quantile_over_time(0.3, temperature[3h])", START_S * 1000, 600_000, 200));
}

#[test]
fn a_range_selector_gives_each_series_its_own_samples() {
    let mut store = MemorySource::new();
    for nth in 0..30 {
        let labels = Labels::from_pairs([("__name__", "up"), ("instance", &*format!("{nth:02}"))]);
        (0..=nth).for_each(|tick| store.push(&labels, tick * 1000, (100 * nth + tick) as f64));
    }
    let engine = Engine::new(EngineOptions { threads: 4, ..EngineOptions::default() });
    let answer = engine.instant(&store, &parse("up[1m]").unwrap(), 59_000, &Cancel::new()).unwrap();
    let Value::Matrix(series) = answer.value else { panic!("no matrix") };
    assert_eq!(series.len(), 30);
    for (nth, (_, samples)) in series.iter().enumerate() {
        let expected: Vec<_> = (0..=nth as i64).map(|tick| (tick * 1000, (100 * nth as i64 + tick) as f64)).collect();
        assert_eq!(samples, &expected);
    }
}
