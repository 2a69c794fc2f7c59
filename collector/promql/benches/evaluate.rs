//! What queries cost: `cargo bench -p pitwatch-promql [-- WORD]` evaluates those that contain WORD over 200 hosts and a
//! day of samples, one each 15 s, and prints milliseconds and nanoseconds a sample read. Under `cargo test` it runs once
//! over two hosts and an hour.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::time::Instant;

use pitwatch_promql::{Cancel, Engine, EngineOptions, Labels, Matcher, SampleBuf, Source, SourceError, parse};

const GAP_MS: i64 = 15_000;

const QUERIES: &[&str] = &[
    "cpu_total",
    "rate(cpu_total[5m])",
    "irate(cpu_total[5m])",
    "sum by (instance) (rate(cpu_total[5m]))",
    "sum(rate(cpu_total[1h]))",
    "avg_over_time(mem[1h])",
    "sum_over_time(mem[6h])",
    "max_over_time(mem[1h])",
    "max_over_time(mem[6h])",
    "stddev_over_time(mem[1h])",
    "quantile_over_time(0.9, mem[1h])",
    "deriv(mem[1h])",
    "changes(mem[1h])",
    "cpu_total / on (instance, cpu) cpu_total",
    "mem / on (instance) group_left () sum by (instance) (cpu_total)",
    "topk(5, rate(cpu_total[5m]))",
    "histogram_quantile(0.9, sum by (le) (rate(lat_bucket[5m])))",
    "histogram_quantile(0.9, sum by (le, instance) (rate(lat_bucket[5m])))",
    "quantile(0.9, mem)",
    "cpu_total and on (instance) mem",
    "max_over_time(rate(cpu_total[5m])[1h:1m])",
    "deriv(mem[1h])",
    "predict_linear(mem[1h], 3600)",
    "quantile_over_time(0.9, mem[1h])",
    "1 - avg by (instance) (irate(cpu_total{cpu=\"0\"}[5m]))",
    "sum(cpu_total{instance=~\"host1.*\"})",
];

/// Series in plain vectors: what is measured is the engine.
struct Plain(Vec<(Labels, SampleBuf)>);

impl Source for Plain {
    type Series = usize;

    fn select(&self, matchers: &[Matcher], _: i64, _: i64) -> Result<Vec<(Labels, usize)>, SourceError> {
        let fits = |labels: &Labels| matchers.iter().all(|m| m.matches_labels(labels));
        let all = self.0.iter().enumerate().filter(|(_, (labels, _))| fits(labels));
        Ok(all.map(|(i, (labels, _))| (labels.clone(), i)).collect())
    }

    fn samples(&self, series: &usize, start_ms: i64, end_ms: i64, out: &mut SampleBuf) -> Result<(), SourceError> {
        let all = &self.0[*series].1;
        let low = all.timestamps.partition_point(|t| *t <= start_ms);
        let high = all.timestamps.partition_point(|t| *t <= end_ms).max(low);
        out.clear();
        out.timestamps.extend_from_slice(&all.timestamps[low..high]);
        out.values.extend_from_slice(&all.values[low..high]);
        Ok(())
    }
}

fn plain(hosts: usize, span_ms: i64) -> Plain {
    let mut all = Vec::new();
    let mut seed = 1u64;
    for host in 0..hosts {
        for (name, label, values) in [
            ("cpu_total", "cpu", &["0", "1", "2", "3", "4", "5", "6", "7"][..]),
            ("lat_bucket", "le", &["0.1", "0.5", "1", "5", "10", "+Inf"]),
            ("mem", "", &[""]),
        ] {
            for (i, other) in values.iter().enumerate() {
                let instance = format!("host{host}");
                let pairs = [("__name__", name), ("instance", &instance), ("job", "node"), (label, other)];
                let (mut samples, mut total) = (SampleBuf::default(), 0.0);
                for time in (0..span_ms).step_by(GAP_MS as usize) {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    let dice = ((seed >> 40) % 100) as f64;
                    total = if name == "mem" { dice * 1e6 } else { total + dice * (i + 1) as f64 };
                    samples.push(time, total);
                }
                all.push((Labels::from_pairs(pairs), samples));
            }
        }
    }
    Plain(all)
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let real = args.iter().any(|a| a == "--bench");
    let word = args.iter().find(|a| !a.starts_with('-')).cloned().unwrap_or_default();
    let (hosts, span_ms, rounds) = if real { (200, 86_400_000, 5) } else { (2, 3_600_000, 1) };
    let source = plain(hosts, span_ms);
    let engine = Engine::new(EngineOptions { timeout_ms: 0, ..EngineOptions::default() });
    let cancel = Cancel::new();
    println!("{:>10} {:>10} {:>10}  query", "range ms", "ns/sample", "instant ms");
    for query in QUERIES.iter().filter(|q| q.contains(&word)) {
        let expr = parse(query).unwrap();
        let (mut range_ms, mut instant_ms, mut samples) = (f64::MAX, f64::MAX, 1);
        for _ in 0..rounds {
            let start = Instant::now();
            let answer = engine.range(&source, &expr, 0, span_ms - 60_000, 60_000, &cancel).unwrap();
            range_ms = range_ms.min(start.elapsed().as_secs_f64() * 1e3);
            samples = answer.stats.samples.max(1);
            let start = Instant::now();
            engine.instant(&source, &expr, span_ms - 60_000, &cancel).unwrap();
            instant_ms = instant_ms.min(start.elapsed().as_secs_f64() * 1e3);
        }
        let ns = range_ms * 1e6 / samples as f64;
        println!("{range_ms:>10.1} {ns:>10.1} {instant_ms:>10.2}  {query}");
    }
}
