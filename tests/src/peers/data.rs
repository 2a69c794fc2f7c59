//! The samples that all three get: so many hosts, a tick a second or more seldom, ending now.

use std::path::Path;

use pitwatch_agent::lane::Schema;
use pitwatch_collector::clock::unix_ms;
use pitwatch_shared::codec::{GroupId, SeriesDef, Slot};
use pitwatch_shared::model::{Labels, METRIC_NAME, MetricType};

use crate::fleet::signals::Pattern;

/// Between two ticks if nothing else is said, seconds.
const TICK_SECS: i64 = 1;
/// Ticks stand this far off the whole second, at which queries are asked: Prometheus before 3.0 counts a sample on the
/// left edge of a window, later ones and ours do not.
const PHASE_MS: i64 = 137;
/// Upper bounds of the buckets of the made-up histogram.
const BUCKETS: [&str; 10] = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf"];
/// Its name.
const HISTOGRAM: &str = "http_request_duration_seconds_bucket";

/// Where values come from.
#[derive(Debug)]
enum Values {
    /// Scrape after scrape, slot after slot; each host begins at another scrape.
    Recorded(Vec<f64>),
    /// Constants, counters of time, counters of events and gauges, by a hash.
    MadeUp,
}

/// Series of a host, and their values.
#[derive(Debug)]
pub struct Data {
    series: Vec<SeriesDef>,
    values: Values,
    /// Hosts.
    pub hosts: usize,
    /// Ticks of each.
    pub ticks: usize,
    tick_secs: i64,
    /// The first tick, milliseconds since the Unix epoch.
    begin_ms: i64,
}

impl Data {
    /// A recording's series that `keep` says yes to, played by `hosts` hosts.
    ///
    /// # Errors
    /// The file cannot be read or is not of the format.
    pub fn recorded(path: &Path, hosts: usize, ticks: usize, keep: &dyn Fn(&str) -> bool) -> anyhow::Result<Self> {
        let pattern = Pattern::recorded(path, usize::MAX - 1)?;
        let kept: Vec<usize> =
            (1..pattern.series()).filter(|slot| keep(pattern.defs()[*slot].labels.metric())).collect();
        let series = (0..).zip(&kept).map(|(slot, of)| SeriesDef { slot, ..pattern.defs()[*of].clone() }).collect();
        let scrapes = pattern.scrapes().flat_map(|scrape| kept.iter().map(|slot| scrape[*slot]));
        Ok(Self::new(series, Values::Recorded(scrapes.collect()), hosts, ticks))
    }

    /// `count` made-up series a host.
    ///
    /// # Errors
    /// None that happen: the labels are within the limits.
    pub fn made_up(count: usize, hosts: usize, ticks: usize) -> anyhow::Result<Self> {
        let defs = Pattern::synthetic(count.saturating_sub(1))?.defs().to_vec();
        Ok(Self::new(defs, Values::MadeUp, hosts, ticks))
    }

    /// Adds a histogram of requests, as no host's own vitals have one.
    ///
    /// # Errors
    /// None that happen: the labels are within the limits.
    pub fn with_histogram(mut self) -> anyhow::Result<Self> {
        let Values::Recorded(before) = &self.values else { anyhow::bail!("made-up series have no histogram") };
        let width = self.series.len();
        let mut values = Vec::new();
        for (nth, scrape) in before.chunks(width).enumerate() {
            values.extend_from_slice(scrape);
            // More requests in slower buckets, in waves of a minute.
            let wave = (nth % 60) as f64 / 60.0;
            values.extend((1..=BUCKETS.len()).map(|at| (nth as f64 * (at as f64 + wave)).floor()));
        }
        for le in BUCKETS {
            let labels = Labels::new([(METRIC_NAME, HISTOGRAM), ("le", le), ("handler", "/play")])?;
            self.series.push(SeriesDef { slot: self.series.len() as Slot, kind: MetricType::Histogram, labels });
        }
        self.values = Values::Recorded(values);
        Ok(self)
    }

    fn new(series: Vec<SeriesDef>, values: Values, hosts: usize, ticks: usize) -> Self {
        Self { series, values, hosts, ticks, tick_secs: TICK_SECS, begin_ms: 0 }.every(TICK_SECS)
    }

    /// The same ticks, so many seconds apart.
    #[must_use]
    pub fn every(self, tick_secs: i64) -> Self {
        let begin_secs = unix_ms() / 1000 - (self.ticks as i64 + 1) * tick_secs;
        Self { tick_secs, begin_ms: begin_secs * 1000 + PHASE_MS, ..self }
    }

    /// The series of every host.
    #[must_use]
    pub fn series(&self) -> &[SeriesDef] {
        &self.series
    }

    /// The name of a host, its `instance`.
    #[must_use]
    pub fn host(nth: usize) -> String {
        format!("fleet-{nth}")
    }

    /// When a tick is, milliseconds since the Unix epoch.
    #[must_use]
    pub fn at_ms(&self, tick: usize) -> i64 {
        self.begin_ms + tick as i64 * self.tick_secs * 1000
    }

    /// The values of a host's tick, by slot; a stale marker where the recording has none.
    pub fn fill(&self, host: usize, tick: usize, out: &mut Vec<f64>) {
        out.clear();
        let width = self.series.len();
        match &self.values {
            Values::Recorded(all) => {
                let scrapes = all.len() / width;
                // Hosts begin far apart, so that they do not change in step.
                let at = (host * 37 + tick) % scrapes;
                out.extend_from_slice(&all[at * width..][..width]);
            }
            Values::MadeUp => out.extend((0..width).map(|slot| made_up(host, slot, tick))),
        }
    }

    /// All samples, those that the recording lacks among them.
    #[must_use]
    pub fn samples(&self) -> u64 {
        (self.hosts * self.ticks * self.series.len()) as u64
    }
}

fn made_up(host: usize, slot: usize, tick: usize) -> f64 {
    let mut hash = (host as u64) << 32 | slot as u64;
    hash = (hash ^ hash >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let base = (hash >> 44) as f64;
    match slot % 4 {
        0 => base,
        1 => ((base + tick as f64 * 0.37) * 100.0).round() / 100.0,
        2 => base + (tick as f64 * (hash % 200) as f64).floor(),
        _ => base + (tick as u64 * (hash | 1) % 17) as f64,
    }
}

impl Schema for Data {
    fn groups(&self) -> Vec<GroupId> {
        vec![0]
    }

    fn live(&self, _group: GroupId) -> Vec<SeriesDef> {
        self.series.clone()
    }
}
