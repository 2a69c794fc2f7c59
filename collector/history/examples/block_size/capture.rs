//! The capture of a real host, and hosts that play it, each from a scrape of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pitwatch_history::{Appender, SourceName};
use pitwatch_shared::codec::{Encoder, SeriesDef};
use pitwatch_shared::model::{Labels, Lane, METRIC_NAME, Mark, MetricType};

/// The scrapes of the capture: by series, its value at each scrape, if it was there.
pub(crate) struct Capture {
    labels: Vec<Labels>,
    values: Vec<Vec<Option<f64>>>,
    pub(crate) ts_ms: Vec<i64>,
}

impl Capture {
    /// Reads `node-exporter-1s.txt.zst` from the directory of captures.
    pub(crate) fn read(dir: &str) -> Self {
        let packed =
            std::fs::File::open(format!("{dir}/node-exporter-1s.txt.zst")).expect("the capture of node_exporter");
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
    pub(crate) fn ts(&self, nth: usize) -> i64 {
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
pub(crate) const BEGIN_MS: i64 = 1_700_006_400_001;

/// One host that plays the capture from a scrape of its own.
pub(crate) struct Host {
    name: SourceName,
    encoder: Encoder,
    mark: Mark,
    shift: usize,
    live: Vec<bool>,
    row: Vec<f64>,
}

impl Host {
    pub(crate) fn new(nth: usize, capture: &Capture) -> Self {
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
    pub(crate) fn scrape(&mut self, capture: &Capture, nth: usize, appender: &mut Appender) -> Duration {
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
