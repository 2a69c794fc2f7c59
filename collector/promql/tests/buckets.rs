//! Answers from buckets are those from samples, by bits where no sum is taken, wherever the source may use them; where it
//! may not, it must not be asked to.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::atomic::{AtomicUsize, Ordering};

use pitwatch_promql::testing::MemorySource;
use pitwatch_promql::{
    Bucket, Cancel, Engine, Hints, Labels, Matcher, STALE, SampleBuf, Selection, Source, SourceError, Value, is_stale,
    parse,
};
use proptest::prelude::*;

const MINUTE: i64 = 60_000;
const START: i64 = 1_600_000_020_000 / (60 * MINUTE) * 60 * MINUTE;

/// A store that answers with buckets where they are exact, or always.
struct Bucketed {
    samples: MemorySource,
    resolution_ms: i64,
    always: bool,
    asked: AtomicUsize,
}

/// Buckets the slow way.
fn buckets(samples: &SampleBuf, resolution_ms: i64) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for (time, value) in samples.timestamps.iter().copied().zip(samples.values.iter().copied()) {
        let end_ms = -(-time).div_euclid(resolution_ms) * resolution_ms;
        if buckets.last().is_none_or(|last| last.end_ms != end_ms) {
            buckets.push(Bucket { end_ms, ..Bucket::default() });
        }
        let bucket = buckets.last_mut().unwrap();
        bucket.stale = is_stale(value);
        if bucket.stale {
            continue;
        }
        if bucket.count == 0 {
            (bucket.first_ms, bucket.first, bucket.last) = (time, value, value);
            (bucket.min, bucket.max) = (value, value);
        }
        if value < bucket.last {
            bucket.resets += bucket.last;
        }
        if value < bucket.min || bucket.min.is_nan() {
            bucket.min = value;
        }
        if value > bucket.max || bucket.max.is_nan() {
            bucket.max = value;
        }
        bucket.count += 1;
        bucket.sum += value;
        (bucket.last_ms, bucket.last) = (time, value);
    }
    buckets
}

impl Source for Bucketed {
    type Series = Labels;

    fn select(&self, matchers: &[Matcher], start: i64, end: i64) -> Result<Vec<(Labels, Labels)>, SourceError> {
        self.samples.select(matchers, start, end)
    }

    fn samples(&self, series: &Labels, start: i64, end: i64, out: &mut SampleBuf) -> Result<(), SourceError> {
        self.samples.samples(series, start, end, out)
    }

    fn select_for(
        &self,
        matchers: &[Matcher],
        start: i64,
        end: i64,
        hints: &Hints,
    ) -> Result<Selection<Labels>, SourceError> {
        let use_buckets = hints.is_exact_on(self.resolution_ms) || self.always;
        Ok(Selection {
            series: self.select(matchers, start, end)?,
            resolution_ms: use_buckets.then_some(self.resolution_ms),
            tier: Some(if use_buckets { "buckets" } else { "raw" }),
            info: None,
        })
    }

    fn buckets(&self, series: &Labels, start: i64, end: i64, out: &mut Vec<Bucket>) -> Result<(), SourceError> {
        assert!(start % self.resolution_ms == 0 && end % self.resolution_ms == 0);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut samples = SampleBuf::default();
        self.samples.samples(series, start, end, &mut samples)?;
        *out = buckets(&samples, self.resolution_ms);
        Ok(())
    }
}

/// A gap in milliseconds and what comes after it.
fn step() -> impl Strategy<Value = (i64, u8, u16)> {
    let gap = prop_oneof![8 => Just(15_000_i64), 4 => 1..20_000_i64, 1 => 60_000..900_000_i64];
    (gap, any::<u8>(), any::<u16>())
}

fn store(steps: &[(i64, u8, u16)]) -> MemorySource {
    let mut store = MemorySource::new();
    let of = |name: &str| Labels::from_pairs([("__name__", name), ("i", "a")]);
    let (mut time, mut total) = (START - 3_600_000, 1000.0);
    for (gap, kind, dice) in steps {
        time += gap;
        total = if kind % 16 == 0 { f64::from(*dice % 4) } else { total + f64::from(*dice % 50) };
        let gauge = match kind % 64 {
            1 => f64::NAN,
            2 => -0.0,
            3 => f64::INFINITY,
            _ => f64::from(*dice) / 8.0 - 4000.0,
        };
        let ends = kind % 32 == 5;
        store.push(&of("c_total"), time, if ends { STALE } else { total });
        store.push(&of("g"), time, if ends { STALE } else { gauge });
    }
    store
}

/// The values of a range query by series and time, as bits, and the tiers that answered.
fn answer<S: Source>(source: &S, query: &str, start: i64, step: i64, n: i64) -> (Vec<(Labels, i64, f64)>, Vec<String>) {
    let expr = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let answer = Engine::default().range(source, &expr, start, start + step * (n - 1), step, &Cancel::new());
    let answer = answer.unwrap_or_else(|error| panic!("{query}: {error}"));
    let Value::Matrix(series) = answer.value else { panic!("{query}") };
    let points = series.into_iter().flat_map(|(labels, samples)| {
        samples.into_iter().map(move |(time, value)| (labels.clone(), time, value)).collect::<Vec<_>>()
    });
    (points.collect(), answer.tiers.into_iter().map(str::to_owned).collect())
}

/// Function and metric, and whether sums are taken that may round otherwise.
const QUERIES: [(&str, bool); 18] = [
    ("c_total", false),
    ("g offset 10m", false),
    ("timestamp(g)", false),
    ("count_over_time(g[W])", false),
    ("present_over_time(g[W])", false),
    ("absent_over_time(g[W])", false),
    ("min_over_time(g[W])", false),
    ("max_over_time(g[W])", false),
    ("first_over_time(g[W])", false),
    ("last_over_time(g[7m30s] offset -1m)", false),
    ("delta(g[W])", false),
    ("sum_over_time(g[W])", true),
    ("avg_over_time(g[W])", true),
    ("rate(c_total[W])", true),
    ("increase(c_total[W])", true),
    ("rate(g[W] offset 5m)", true),
    ("max_over_time(rate(c_total[5m])[W:1m])", true),
    ("sum by (i) (rate(c_total[W])) / on (i) max_over_time(c_total[W] @ end())", true),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn aligned_answers_are_those_of_the_samples(
        steps in proptest::collection::vec(step(), 1..600),
        (minutes, window, n) in (prop_oneof![Just(1_i64), Just(2), Just(5), Just(60)], 1..90_i64, 1..40_i64),
    ) {
        let samples = store(&steps);
        let source = Bucketed { samples: samples.clone(), resolution_ms: MINUTE, always: false, asked: AtomicUsize::new(0) };
        for (query, takes_sums) in QUERIES {
            let query = query.replace('W', &format!("{window}m"));
            let (found, tiers) = answer(&source, &query, START, minutes * MINUTE, n);
            let (expected, _) = answer(&samples, &query, START, minutes * MINUTE, n);
            prop_assert_eq!(tiers, ["buckets"], "{}", &query);
            prop_assert_eq!(found.len(), expected.len(), "{}", &query);
            for (a, b) in found.iter().zip(&expected) {
                prop_assert_eq!((&a.0, a.1), (&b.0, b.1), "{}", &query);
                let (a, b) = (a.2, b.2);
                // Sums of values up to a few thousand, near a million samples at most.
                let close = takes_sums && (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1e4);
                prop_assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || close, "{}: {} {}", &query, a, b);
            }
        }
    }

    #[test]
    fn unaligned_queries_and_other_functions_never_see_buckets(
        steps in proptest::collection::vec(step(), 1..60),
        (shift, odd) in (1..MINUTE, 1..59_i64),
    ) {
        let samples = store(&steps);
        let source = Bucketed { samples, resolution_ms: MINUTE, always: false, asked: AtomicUsize::new(0) };
        // What is pinned to the end, or evaluated on a subquery's own grid, may be aligned all the same.
        for (query, _) in QUERIES.iter().filter(|(query, _)| !query.contains("[5m]") && !query.contains('@')) {
            answer(&source, &query.replace('W', "5m"), START + shift, MINUTE, 3);
            answer(&source, &query.replace('W', "5m"), START, MINUTE + odd * 1000, 3);
            if query.contains('W') {
                answer(&source, &query.replace('W', &format!("5m{odd}s")), START, MINUTE, 3);
            }
        }
        for function in ["irate", "idelta", "changes", "resets", "stddev_over_time", "deriv"] {
            answer(&source, &format!("{function}(g[5m])"), START, MINUTE, 3);
        }
        answer(&source, "quantile_over_time(0.5, g[5m])", START, MINUTE, 3);
        prop_assert_eq!(source.asked.load(Ordering::Relaxed), 0);
    }
}

/// Where there are only buckets, a window is whole buckets around it.
#[test]
fn windows_between_buckets_are_widened_and_scaled() {
    let mut samples = MemorySource::new();
    let labels = Labels::from_pairs([("__name__", "c_total")]);
    for i in 0..=240 {
        samples.push(&labels, START + i * 15_000, i as f64 * 30.0);
    }
    let source = Bucketed { samples, resolution_ms: 60 * MINUTE, always: true, asked: AtomicUsize::new(0) };
    let at = START + 30 * MINUTE;
    let one = |query: &str| answer(&source, query, at, MINUTE, 1).0[0].2;
    assert!((one("rate(c_total[5m])") - 2.0).abs() < 1e-9);
    assert!((one("increase(c_total[5m])") - 600.0).abs() < 1e-6);
    assert!((one("count_over_time(c_total[5m])") - 20.0).abs() < 1e-9);
    assert_eq!((one("max_over_time(c_total[5m])"), one("c_total")), (7200.0, 7200.0));
    assert!((one("avg_over_time(c_total[5m])") - 3615.0).abs() < 1e-9);
}
