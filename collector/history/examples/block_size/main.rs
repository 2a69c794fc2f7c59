//! What a store makes of the real capture: bytes a sample of log and blocks, before and after compaction, and the time
//! for append, seal, compaction and scan.
//!
//! `cargo run --release -p pitwatch-history --example block_size -- [hosts] [seconds a window] [copies] [seconds a scrape]`
//!
//! Each host is a copy of the capture that starts at a scrape of its own; copies follow one another in time. A day is
//! twelve windows.

mod capture;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pitwatch_disk::RealDisk;
use pitwatch_history::{Appender, Config, History, MatchOp, Matcher};
use pitwatch_shared::model::METRIC_NAME;

use capture::{BEGIN_MS, Capture, Host};

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let hosts = args.next().unwrap_or(20);
    let window_secs = args.next().unwrap_or(1800);
    let copies = args.next().unwrap_or(1);
    let step = args.next().unwrap_or(1);
    let capture = Capture::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { block_span: Duration::from_secs(window_secs as u64), ..Config::default() };
    let open = || History::open(Arc::new(RealDisk), dir.path(), config.clone()).expect("a store");
    let (mut history, mut appender, _) = open();
    let mut playing: Vec<_> = (0..hosts).map(|nth| Host::new(nth, &capture)).collect();
    let (mut appending, mut sealing, mut wal_bytes) = (Duration::ZERO, Duration::ZERO, 0);
    let scrapes = capture.ts_ms.len() * copies;
    for nth in (0..scrapes).step_by(step) {
        let window = |nth| capture.ts(nth) / (window_secs as i64 * 1000);
        for host in &mut playing {
            appending += host.scrape(&capture, nth, &mut appender);
        }
        let begun = Instant::now();
        appender.commit().expect("a commit");
        appending += begun.elapsed();
        if window(nth) != window(nth + step) || nth + step >= scrapes {
            let stats = history.stats();
            wal_bytes += stats.wal_bytes;
            println!("head: {:.2} bytes a sample in memory", stats.head_bytes as f64 / stats.head_samples as f64);
            drop((history, appender));
            let begun = Instant::now();
            let recovery;
            (history, appender, recovery) = open();
            println!("replay: {:.1} ns a sample", begun.elapsed().as_nanos() as f64 / recovery.samples as f64);
            let job = appender.seal(BEGIN_MS).expect("a rotation").expect("a job");
            let begun = Instant::now();
            job.run().expect("a seal");
            sealing += begun.elapsed();
        }
    }
    report(&history, dir.path(), appending, sealing, wal_bytes);
    compact(&history, &mut appender, dir.path());
}

/// Compacts until there is nothing to do, and says what it cost and brought.
fn compact(history: &History, appender: &mut Appender, dir: &Path) {
    let before = directory_bytes(dir);
    let (begun, mut samples) = (cpu(), 0);
    while let Some(job) = appender.compact(i64::MAX / 2) {
        let done = job.run(&mut |_| ControlFlow::Continue(())).expect("a compaction");
        if done.blocks == 0 {
            break;
        }
        println!("{} blocks of {} bytes compacted to {} bytes", done.blocks, done.bytes_before, done.bytes);
        samples += done.samples;
    }
    let spent = cpu() - begun;
    let stats = history.stats();
    let each = |bytes: u64| bytes as f64 / stats.block_samples as f64;
    println!("compaction {:.3} CPU s a million samples", spent.as_secs_f64() / (samples as f64 / 1e6));
    println!("blocks {:.4} bytes a sample after it, {} blocks", each(stats.block_bytes), stats.blocks);
    println!("directory {:.4} bytes a sample before, {:.4} after", each(before), each(directory_bytes(dir)));
    let (series, read, scanning) = scan(history);
    println!("scan after compaction {:.1} ns a sample, {series} series", scanning.as_nanos() as f64 / read as f64);
}

fn directory_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| match entry.metadata().expect("metadata") {
            meta if meta.is_dir() => directory_bytes(&entry.path()),
            meta => meta.len(),
        })
        .sum()
}

/// Processor time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds"))
}

/// Scans of which the quickest counts: the first one warms, and other programs disturb.
const SCANS: usize = 10;

/// Reads every sample; answers how many series and samples there are, and the time that it takes.
fn scan(history: &History) -> (usize, usize, Duration) {
    let all = Matcher::new(METRIC_NAME, MatchOp::Ne, "").expect("a matcher");
    let series = history.select(&[all], i64::MIN, i64::MAX).expect("a selection");
    let (mut ts, mut values, mut read, mut best) = (Vec::new(), Vec::new(), 0, Duration::MAX);
    for _ in 0..SCANS {
        let begun = Instant::now();
        read = 0;
        for series in &series {
            history.samples(series, i64::MIN, i64::MAX, &mut ts, &mut values).expect("samples");
            read += ts.len();
        }
        best = best.min(begun.elapsed());
    }
    (series.len(), read, best)
}

fn report(history: &History, dir: &Path, appending: Duration, sealing: Duration, wal_bytes: u64) {
    let stats = history.stats();
    let samples = stats.block_samples as f64;
    let (series, read, scanning) = scan(history);
    let each = |time: Duration| time.as_nanos() as f64 / samples;
    println!("{series} series, {} samples, {} blocks, {read} read back", stats.block_samples, stats.blocks);
    println!("blocks {:.4} bytes a sample, index and all", stats.block_bytes as f64 / samples);
    println!("log    {:.4} bytes a sample", wal_bytes as f64 / samples);
    println!(
        "append {:.1} ns a sample, commits among them; seal {:.1}; scan {:.1}",
        each(appending),
        each(sealing),
        each(scanning)
    );
    println!("in {}", dir.display());
}
