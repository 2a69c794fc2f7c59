//! What a store makes of the real capture: bytes a sample of log and blocks, before and after compaction, and the time
//! for append, seal, compaction and scan.
//!
//! `cargo run --release -p pitwatch-history --example block_size -- [hosts] [seconds a window] [copies] [seconds a scrape]`
//!
//! Each host is a copy of the capture that starts at a scrape of its own; copies follow one another in time. A day is
//! twelve windows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pitwatch_disk::RealDisk;
use pitwatch_history::{Appender, Config, History, MatchOp, Matcher, SourceName};
use pitwatch_shared::codec::{Encoder, SeriesDef};
use pitwatch_shared::model::{Labels, Lane, METRIC_NAME, Mark, MetricType};

const CAPTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/node-exporter-1s.txt.zst");

/// The scrapes of the capture: by series, its value at each scrape, if it was there.
struct Capture {
    labels: Vec<Labels>,
    values: Vec<Vec<Option<f64>>>,
    ts_ms: Vec<i64>,
}

impl Capture {
    fn read() -> Self {
        let packed = std::fs::File::open(CAPTURE).expect("the capture of node_exporter");
        let text = String::from_utf8(zstd::decode_all(packed).expect("zstd")).expect("text");
        let mut capture = Self { labels: Vec::new(), values: Vec::new(), ts_ms: Vec::new() };
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        for line in text.lines() {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            if series == "# T" {
                capture.ts_ms.push(value.parse().expect("milliseconds"));
                continue;
            }
            let scrape = capture.ts_ms.len() - 1;
            let at = *known.entry(series).or_insert_with(|| {
                capture.labels.push(labels(series));
                capture.values.push(Vec::new());
                capture.labels.len() - 1
            });
            capture.values[at].resize(scrape, None);
            capture.values[at].push(Some(value.parse().expect("a value")));
        }
        for values in &mut capture.values {
            values.resize(capture.ts_ms.len(), None);
        }
        capture
    }

    /// When a scrape is, milliseconds since the first; after the last it begins anew.
    fn ts(&self, nth: usize) -> i64 {
        let len = self.ts_ms.len();
        let span = self.ts_ms[len - 1] - self.ts_ms[0] + 1000;
        self.ts_ms[nth % len] - self.ts_ms[0] + span * (nth / len) as i64
    }
}

fn labels(series: &str) -> Labels {
    let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
    let mut pairs = vec![(METRIC_NAME.to_owned(), name.to_owned())];
    for pair in rest.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once("=\"").expect("a label");
        pairs.push((name.to_owned(), value.trim_end_matches('"').to_owned()));
    }
    Labels::new(pairs).expect("labels")
}

/// Where time begins: at a day's begin, so that windows are whole.
const BEGIN_MS: i64 = 1_700_006_400_001;

/// One host that plays the capture from a scrape of its own.
struct Host {
    name: SourceName,
    encoder: Encoder,
    mark: Mark,
    shift: usize,
    live: Vec<bool>,
    row: Vec<f64>,
}

impl Host {
    fn new(nth: usize, capture: &Capture) -> Self {
        let series = capture.labels.len();
        Self {
            name: SourceName::agent(&format!("host-{nth:04}")),
            encoder: Encoder::new(),
            mark: Mark { epoch: 1, seq: 0 },
            shift: nth * 97 % capture.ts_ms.len(),
            live: vec![false; series],
            row: vec![0.0; series],
        }
    }

    /// Appends one scrape; answers the time that the store took.
    fn scrape(&mut self, capture: &Capture, nth: usize, appender: &mut Appender) -> Duration {
        let (ts_ms, scrape) =
            (capture.ts(nth + self.shift) - capture.ts(self.shift), (nth + self.shift) % capture.ts_ms.len());
        let ts_ms = BEGIN_MS + ts_ms;
        let (mut retire, mut add) = (Vec::new(), Vec::new());
        for (slot, values) in capture.values.iter().enumerate() {
            let value = values[scrape];
            self.row[slot] = value.unwrap_or(0.0);
            match (self.live[slot], value.is_some()) {
                (true, false) => retire.push(slot as u32),
                (false, true) => {
                    let labels = capture.labels[slot].clone();
                    add.push(SeriesDef { slot: slot as u32, kind: MetricType::Unknown, labels });
                }
                _ => {}
            }
            self.live[slot] = value.is_some();
        }
        let mut frames = Vec::new();
        if !retire.is_empty() || !add.is_empty() {
            let mut frame = Vec::new();
            self.encoder.schema(&mut frame, self.mark.seq == 0, 0, &retire, &add).expect("a schema frame");
            frames.push(frame);
        }
        let mut frame = Vec::new();
        self.encoder.tick(&mut frame, 0, ts_ms, &self.row).expect("a sample frame");
        frames.push(frame);
        let begun = Instant::now();
        for frame in frames {
            self.mark.seq += 1;
            appender.append(&self.name, Lane::Metrics, self.mark, &frame).expect("an append");
        }
        begun.elapsed()
    }
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let hosts = args.next().unwrap_or(20);
    let window_secs = args.next().unwrap_or(1800);
    let copies = args.next().unwrap_or(1);
    let step = args.next().unwrap_or(1);
    let capture = Capture::read();
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
