//! What queries cost without network and HTTP: plays the capture as many hosts into a store, seals it, and evaluates.
//!
//! `cargo run --release -p pitwatch-collector --example queries -- [HOSTS] [SECONDS] [FILTER] [RUNS] [WINDOW]`
//!
//! The queries are those of the peers' benchmark (`tests/peers/queries.tsv`); of them those whose name contains FILTER. WINDOW is the
//! span of a block in seconds.
//! A line a query: the quickest of RUNS, how long the source took to find series and to read them (of all threads
//! together), series, samples. Times of stages are those of the quickest run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pitwatch_collector::source::HistorySource;
use pitwatch_disk::RealDisk;
use pitwatch_history::{Config, History};
use pitwatch_promql::{Cancel, Engine, EngineOptions, parse};

#[path = "../history/examples/block_size/capture.rs"]
mod capture;

use capture::{BEGIN_MS, Capture, Host};

/// What a range query looks back, and by which steps.
const RANGE_MS: i64 = 3_600_000;
const STEP_MS: i64 = 15_000;
const QUERIES: &str = include_str!("../../tests/peers/queries.tsv");

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default: usize| args.next().map_or(default, |text| text.parse().expect("a number"));
    let (hosts, seconds) = (number(120), number(1900));
    let filter = args.next().unwrap_or_default();
    let runs = args.next().map_or(10, |text| text.parse().expect("a number"));
    let window = args.next().map_or(7200, |text| text.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { block_span: Duration::from_secs(window), ..Config::default() };
    let capture = Capture::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    let (history, mut appender, _) = History::open(Arc::new(RealDisk), dir.path(), config).expect("a store");
    let mut playing: Vec<_> = (0..hosts).map(|nth| Host::new(nth, &capture)).collect();
    for nth in 0..seconds {
        for host in &mut playing {
            host.scrape(&capture, nth, &mut appender);
        }
        appender.commit().expect("a commit");
    }
    let end_ms = BEGIN_MS + capture.ts(seconds - 1);
    if let Some(job) = appender.seal(end_ms).expect("a rotation") {
        job.run().expect("a seal");
    }
    let stats = history.stats();
    println!("{} samples of {} series in {} blocks", stats.block_samples, stats.series, stats.blocks);
    let source = HistorySource::new(history);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let engine = Engine::new(EngineOptions { threads, ..EngineOptions::default() });
    println!("{:>9} {:>9} {:>9} {:>7} {:>9}  query", "ms", "find ms", "read ms", "series", "samples");
    for line in QUERIES.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split('\t');
        let mut field = || fields.next().expect("name, range or instant, expression");
        let (name, kind, text) = (field(), field(), field());
        if !name.contains(&filter) {
            continue;
        }
        let expr = parse(&text.replace("fleet-", "host-000")).expect("a query");
        let cancel = Cancel::new();
        let (best, stats) = (0..runs)
            .map(|_| {
                let begun = Instant::now();
                let answer = match kind {
                    "instant" => engine.instant(&source, &expr, end_ms, &cancel),
                    _ => engine.range(&source, &expr, end_ms - RANGE_MS, end_ms, STEP_MS, &cancel),
                };
                (begun.elapsed(), answer.expect("an answer").stats)
            })
            .min_by_key(|(took, _)| *took)
            .expect("a run");
        println!(
            "{:>9.2} {:>9.2} {:>9.2} {:>7} {:>9}  {name}",
            best.as_secs_f64() * 1e3,
            stats.select.as_secs_f64() * 1e3,
            stats.read.as_secs_f64() * 1e3,
            stats.series,
            stats.samples
        );
    }
}
