//! The frame codec's bytes, frozen: version 1 frames and snapshots must stay readable, and be written as they are.
//!
//! A change that fails here needs a new version beside the old one, not a new golden file.

// Lints count a test's own functions as product code here.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use pitwatch_shared::codec::{Decoded, Decoder, Encoder, GroupId, SeriesDef, Slot};
use pitwatch_shared::model::{Labels, METRIC_NAME, MetricType, STALE_NAN_BITS};

const GOLDEN: &str = include_str!("golden/frames-v1.txt");
const START_MS: i64 = 1_790_000_000_000;

/// Payloads of one chain, each with what it says.
struct Script {
    encoder: Encoder,
    frames: Vec<(Vec<u8>, Decoded)>,
    values: [Vec<f64>; 2],
    sent: [Vec<Option<u64>>; 2],
}

impl Script {
    fn schema(&mut self, reset: bool, group: GroupId, retire: &[Slot], add: &[SeriesDef]) {
        let mut payload = Vec::new();
        self.encoder.schema(&mut payload, reset, group, retire, add).unwrap();
        let at = usize::from(group);
        for slot in retire {
            self.sent[at][*slot as usize] = None;
        }
        for series in add {
            let span = self.values[at].len().max(series.slot as usize + 1);
            self.values[at].resize(span, 0.0);
            self.sent[at].resize(span, None);
        }
        let (retire, add) = (retire.to_vec(), add.to_vec());
        self.frames.push((payload, Decoded::Schema { reset, group, retire, add }));
    }

    /// Every slot below the highest of `group` must be live.
    fn tick(&mut self, group: GroupId, ts_ms: i64) {
        let mut payload = Vec::new();
        let at = usize::from(group);
        self.encoder.tick(&mut payload, group, ts_ms, &self.values[at]).unwrap();
        let mut changes = Vec::new();
        for (slot, (value, sent)) in (0..).zip(self.values[at].iter().zip(&mut self.sent[at])) {
            if *sent != Some(value.to_bits()) {
                *sent = Some(value.to_bits());
                changes.push((slot, value.to_bits()));
            }
        }
        self.frames.push((payload, Decoded::Tick { group, ts_ms, changes }));
    }
}

fn series(slot: Slot, kind: MetricType, pairs: &[(&str, &str)]) -> SeriesDef {
    SeriesDef { slot, kind, labels: Labels::new(pairs.iter().copied()).unwrap() }
}

/// A host's vitals in small: every way to send a value, quiet slots, series that go and come.
fn script() -> Script {
    let mut script =
        Script { encoder: Encoder::new(), frames: Vec::new(), values: Default::default(), sent: Default::default() };
    let metric = METRIC_NAME;
    let first = [
        series(0, MetricType::Counter, &[(metric, "node_cpu_seconds_total"), ("cpu", "0"), ("mode", "idle")]),
        series(1, MetricType::Counter, &[(metric, "node_cpu_seconds_total"), ("cpu", "0"), ("mode", "user")]),
        series(2, MetricType::Gauge, &[(metric, "node_memory_MemFree_bytes")]),
        series(3, MetricType::Gauge, &[(metric, "node_memory_Dirty_bytes"), ("größe", "klein")]),
        series(4, MetricType::Unknown, &[(metric, "ratio")]),
        series(5, MetricType::Summary, &[(metric, "seconds"), ("quantile", "0.5")]),
        series(6, MetricType::Histogram, &[(metric, "seconds_bucket"), ("le", "+Inf")]),
        series(7, MetricType::Gauge, &[]),
    ];
    script.schema(true, 0, &[], &first);
    let many: Vec<SeriesDef> = (0..70)
        .map(|slot| {
            series(slot, MetricType::Gauge, &[(metric, "process_threads"), ("pid", &(1000 + slot).to_string())])
        })
        .collect();
    script.schema(false, 1, &[], &many);
    for tick in 0..24i64 {
        let t = tick as f64;
        script.values[0] = vec![
            (100_000 + 97 * tick + tick % 3) as f64 / 100.0,
            (5_000 + 3 * (tick / 4)) as f64 / 100.0,
            8_000_000_000.0 - 4096.0 * ((tick * tick) % 37) as f64 - 512.0,
            if tick < 12 { 0.0 } else { 4096.0 * t },
            1.0 / (t + 3.0),
            (6_118_324 + 250 * tick) as f64 * 1e-3,
            if tick == 9 { f64::from_bits(STALE_NAN_BITS) } else { 40.0 },
            [0.0, -0.0, f64::INFINITY, f64::MIN_POSITIVE, 1e300, f64::NEG_INFINITY][tick as usize / 4],
        ];
        script.tick(0, START_MS + 1000 * tick + i64::from(tick == 7));
        if tick % 2 == 0 {
            script.values[1].fill(4.0);
            script.values[1][tick as usize % 5] = 5.0 + t;
            script.values[1][69] = if tick > 20 { -7.0 } else { 3.0 };
            script.tick(1, START_MS + 500 + 1000 * tick);
        }
        if tick == 15 {
            let back = series(3, MetricType::Gauge, &[(metric, "node_memory_Dirty_bytes"), ("größe", "groß")]);
            script.schema(false, 0, &[3, 7], &[back, first[7].clone()]);
        }
    }
    script.schema(true, 1, &[], &first[..2]);
    script.values[1] = vec![f64::MAX, -1.0];
    script.sent[1] = vec![None; 2];
    script.tick(1, -5);
    script
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The golden file's lines of one kind.
fn golden(kind: &str) -> Vec<Vec<u8>> {
    GOLDEN.lines().filter_map(|line| line.strip_prefix(kind)).map(|hex| unhex(hex.trim())).collect()
}

#[test]
fn version_1_is_written_as_ever() {
    let script = script();
    let mut text = String::new();
    let mut decoder = Decoder::new();
    let mut decoded = Decoded::default();
    for (at, (payload, _)) in script.frames.iter().enumerate() {
        writeln!(text, "frame {}", hex(payload)).unwrap();
        decoder.decode(payload, &mut decoded).unwrap();
        if at + 3 == script.frames.len() {
            let mut snapshot = Vec::new();
            decoder.snapshot(&mut snapshot);
            writeln!(text, "snapshot {}", hex(&snapshot)).unwrap();
        }
    }
    assert!(text == GOLDEN, "the bytes of version 1 have changed; they would be:\n{text}");
}

#[test]
fn version_1_is_read_as_ever() {
    let script = script();
    let frames = golden("frame");
    assert_eq!(frames.len(), script.frames.len());
    let mut decoder = Decoder::new();
    let mut decoded = Decoded::default();
    for (at, (payload, (_, expected))) in frames.iter().zip(&script.frames).enumerate() {
        decoder.decode(payload, &mut decoded).unwrap();
        assert_eq!(decoded, *expected, "frame {at}");
        if at + 3 == frames.len() {
            assert_eq!(golden("snapshot").iter().map(|bytes| Decoder::restore(bytes).unwrap()).next(), Some(decoder));
            decoder = Decoder::restore(&golden("snapshot")[0]).unwrap();
        }
    }
}
