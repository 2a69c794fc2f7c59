//! Plays a real capture through the frame codec as an agent would, one tick a scrape, and prints what it costs on the
//! wire and in time.
//!
//! `cargo run --release -p pitwatch-shared --example wire_size -- [CAPTURE.txt.zst]`; without an argument it reads
//! `../shared/data/node-exporter-1s.txt.zst` beside the workspace.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pitwatch_shared::codec::{Decoded, Decoder, Encoder, GroupId, SeriesDef, Slot};
use pitwatch_shared::model::{Labels, METRIC_NAME, MetricType};

const MODES: [(&str, GroupId); 2] = [("one group", 1), ("three groups", 3)];

fn main() -> Result<(), Box<dyn Error>> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/node-exporter-1s.txt.zst");
    let path = std::env::args_os().nth(1).map_or(default, PathBuf::from);
    let text = String::from_utf8(zstd::decode_all(std::fs::File::open(&path)?)?)?;
    for (title, groups) in MODES {
        let (ticks, samples) = plan(&text, groups)?;
        let mut report = play(&ticks)?;
        for _ in 0..4 {
            let again = play(&ticks)?;
            report.encode = report.encode.min(again.encode);
            report.decode = report.decode.min(again.decode);
        }
        report.print(title, samples);
    }
    Ok(())
}

/// One group's part of a scrape, as an agent would hand it to the encoder.
struct Tick {
    group: GroupId,
    ts_ms: i64,
    retire: Vec<Slot>,
    add: Vec<SeriesDef>,
    values: Vec<f64>,
}

#[derive(Default)]
struct Group {
    slots: HashMap<String, Slot>,
    free: Vec<Slot>,
    values: Vec<f64>,
    seen: Vec<bool>,
}

fn plan(text: &str, groups: GroupId) -> Result<(Vec<Tick>, usize), Box<dyn Error>> {
    let mut states: Vec<Group> = (0..groups).map(|_| Group::default()).collect();
    let mut ticks = Vec::new();
    let mut samples = 0;
    for scrape in text.split("# T ").skip(1) {
        let (ts, lines) = scrape.split_once('\n').ok_or("a scrape without lines")?;
        let mut adds: Vec<Vec<SeriesDef>> = vec![Vec::new(); states.len()];
        states.iter_mut().for_each(|state| state.seen.fill(false));
        for line in lines.lines() {
            let (series, value) = line.rsplit_once(' ').ok_or("a line without a value")?;
            let at = usize::from(group_of(series, groups));
            let state = &mut states[at];
            let slot = match state.slots.get(series) {
                Some(slot) => *slot,
                None => {
                    let slot = state.free.pop().unwrap_or(state.values.len() as Slot);
                    state.slots.insert(series.to_owned(), slot);
                    adds[at].push(SeriesDef { slot, kind: kind_of(series), labels: labels_of(series)? });
                    slot
                }
            };
            let end = state.values.len().max(slot as usize + 1);
            state.values.resize(end, 0.0);
            state.seen.resize(end, false);
            state.values[slot as usize] = value.parse()?;
            state.seen[slot as usize] = true;
            samples += 1;
        }
        for ((group, state), add) in (0..).zip(&mut states).zip(adds) {
            let seen = &state.seen;
            let mut retire: Vec<Slot> = state.slots.values().copied().filter(|slot| !seen[*slot as usize]).collect();
            retire.sort_unstable();
            state.slots.retain(|_, slot| seen[*slot as usize]);
            state.free.extend(retire.iter().rev());
            ticks.push(Tick { group, ts_ms: ts.parse()?, retire, add, values: state.values.clone() });
        }
    }
    Ok((ticks, samples))
}

fn group_of(series: &str, groups: GroupId) -> GroupId {
    let group = if !series.starts_with("node_") {
        0
    } else if series < "node_m" {
        1
    } else {
        2
    };
    group % groups
}

fn kind_of(series: &str) -> MetricType {
    let name = series.split('{').next().unwrap_or(series);
    if name.ends_with("_total") { MetricType::Counter } else { MetricType::Gauge }
}

fn labels_of(series: &str) -> Result<Labels, Box<dyn Error>> {
    let (name, mut rest) = series.split_once('{').unwrap_or((series, ""));
    let mut pairs = vec![(METRIC_NAME, name)];
    while let Some((label, more)) = rest.split_once("=\"") {
        let (value, more) = more.split_once('"').ok_or("an open label value")?;
        pairs.push((label.trim_start_matches(','), value));
        rest = more;
    }
    Ok(Labels::new(pairs)?)
}

struct Report {
    schema_bytes: usize,
    schema_frames: usize,
    tick_bytes: usize,
    ticks: usize,
    changes: usize,
    snapshot_bytes: usize,
    encode: Duration,
    decode: Duration,
}

fn play(ticks: &[Tick]) -> Result<Report, Box<dyn Error>> {
    let mut encoder = Encoder::new();
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    let mut report = Report {
        schema_bytes: 0,
        schema_frames: 0,
        tick_bytes: 0,
        ticks: ticks.len(),
        changes: 0,
        snapshot_bytes: 0,
        encode: Duration::ZERO,
        decode: Duration::ZERO,
    };
    for tick in ticks {
        if !tick.add.is_empty() || !tick.retire.is_empty() {
            let mut out = Vec::new();
            encoder.schema(&mut out, payloads.is_empty(), tick.group, &tick.retire, &tick.add)?;
            report.schema_bytes += out.len();
            report.schema_frames += 1;
            payloads.push(out);
        }
        let mut out = Vec::with_capacity(4096);
        let begin = Instant::now();
        encoder.tick(&mut out, tick.group, tick.ts_ms, &tick.values)?;
        report.encode += begin.elapsed();
        report.tick_bytes += out.len();
        payloads.push(out);
    }
    let mut decoder = Decoder::new();
    let mut decoded = Decoded::default();
    let mut ticks = ticks.iter();
    for payload in &payloads {
        let begin = Instant::now();
        decoder.decode(payload, &mut decoded)?;
        let took = begin.elapsed();
        if let Decoded::Tick { changes, .. } = &decoded {
            report.decode += took;
            report.changes += changes.len();
            let tick = ticks.next().ok_or("a tick too many")?;
            let same = |(slot, bits): &(Slot, u64)| tick.values[*slot as usize].to_bits() == *bits;
            assert!(changes.iter().all(same), "a value came back changed");
        }
    }
    let mut snapshot = Vec::new();
    decoder.snapshot(&mut snapshot);
    report.snapshot_bytes = snapshot.len();
    Ok(report)
}

impl Report {
    fn print(&self, title: &str, samples: usize) {
        let samples = samples as f64;
        let changes = self.changes as f64;
        let bytes = (self.tick_bytes + self.schema_bytes) as f64;
        let encode = self.encode.as_nanos() as f64;
        let decode = self.decode.as_nanos() as f64;
        println!("{title}: {samples} samples in {} ticks, {changes} of them changed", self.ticks);
        println!("  wire      {:.4} bytes a sample, {:.3} bytes a changed sample", bytes / samples, bytes / changes);
        println!(
            "  schema    {} bytes in {} frames, {:.1}% of the wire",
            self.schema_bytes,
            self.schema_frames,
            100.0 * self.schema_bytes as f64 / bytes
        );
        println!("  encode    {:.1} ns a sample, {:.1} ns a changed sample", encode / samples, encode / changes);
        println!("  decode    {:.1} ns a sample, {:.1} ns a changed sample", decode / samples, decode / changes);
        println!("  snapshot  {} bytes", self.snapshot_bytes);
    }
}
