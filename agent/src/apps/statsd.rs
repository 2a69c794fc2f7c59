//! StatsD and DogStatsD: what programs of this host send as datagrams, summed up between ticks.
//!
//! - [`message`]: lines; [`sketch`]: distributions.
//! - this file: series of what came, bounded in number, forgotten when nothing comes any more; [`listen`]: the sockets.
//!
//! | type | series |
//! |---|---|
//! | `c` | a counter, the sum since the agent's start |
//! | `g` | a gauge |
//! | `ms` | a summary in seconds: quantiles 0.5, 0.9 and 0.99 since the tick before, `_sum` and `_count` since the start |
//! | `h`, `d` | the same, in the unit that was sent |
//! | `s` | a gauge: different values since the tick before |
//!
//! Quantiles of many hosts cannot be averaged; `_sum` and `_count` can.

pub mod listen;
pub mod message;
pub mod sketch;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use pitwatch_shared::model::MetricType;

use self::message::{Kind, Message, number};
use self::sketch::Sketch;
use super::names::{Namer, metric_name};
use crate::signals::{Handle, Metric, Table};

/// Different values of a set that are told apart between two ticks.
const SET_MAX: usize = 10_000;
/// The quantiles of a summary, and as labels.
const QUANTILES: [(f64, &str); 3] = [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99")];
const MS_PER_SECOND: f64 = 1000.0;

/// What was done with what came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsdCounts {
    /// Lines taken.
    pub lines: u64,
    /// Lines that are no metric, or whose value is none.
    pub malformed: u64,
    /// Lines of series beyond the limit.
    pub refused: u64,
    /// Datagrams that were left in the socket as too many came.
    pub throttled: u64,
}

/// The series of everything that came.
pub struct Statsd {
    series: HashMap<u64, Series>,
    hasher: RandomState,
    namer: Namer,
    series_max: usize,
    expire_ticks: u32,
    tick: u32,
    counts: StatsdCounts,
    handles: [Handle; 4],
}

struct Series {
    name: String,
    labels: Vec<(String, String)>,
    value: Value,
    tick: u32,
    handles: [Handle; 5],
}

enum Value {
    Count(f64),
    Gauge(f64),
    Summary { sketch: Sketch, sum: f64, count: f64 },
    Set(HashSet<u64>),
}

/// What the agent says of this.
static METRICS: [Metric; 4] = [
    Metric::counter("pitwatch_agent_statsd_lines_total", "lines", "StatsD", "Lines of StatsD that were taken."),
    Metric::counter("pitwatch_agent_statsd_malformed_total", "lines", "StatsD", "Lines of StatsD that are no metric."),
    Metric::counter(
        "pitwatch_agent_statsd_refused_total",
        "lines",
        "StatsD",
        "Lines of StatsD whose series is beyond the limit.",
    ),
    Metric::counter(
        "pitwatch_agent_statsd_throttled_total",
        "pauses",
        "StatsD",
        "Times that reading paused as too many datagrams came; the kernel drops what does not fit meanwhile.",
    ),
];

impl Statsd {
    /// No series yet. A series that nothing came of for so many ticks is forgotten.
    #[must_use]
    pub fn new(namer: Namer, series_max: usize, expire_ticks: u32) -> Self {
        Self {
            series: HashMap::new(),
            hasher: RandomState::new(),
            namer,
            series_max,
            expire_ticks,
            tick: 0,
            counts: StatsdCounts::default(),
            handles: Default::default(),
        }
    }

    /// Takes a datagram: lines with line feeds between them.
    pub fn take(&mut self, datagram: &[u8]) {
        for line in datagram.split(|byte| *byte == b'\n') {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let message = std::str::from_utf8(line).ok().and_then(|line| Message::parse(line.trim()));
            match message {
                Some(message) => self.message(&message),
                None => self.counts.malformed += 1,
            }
        }
    }

    /// Reading paused as too many came.
    pub fn throttled(&mut self) {
        self.counts.throttled += 1;
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> StatsdCounts {
        self.counts
    }

    fn message(&mut self, message: &Message<'_>) {
        // A hash stands for its series: the odds that two of a host share one are below 1e-10.
        let kind = std::mem::discriminant(&message.kind);
        let key = self.hasher.hash_one((message.name, message.tags, kind));
        if !self.series.contains_key(&key) {
            if self.series.len() >= self.series_max {
                self.counts.refused += 1;
                return;
            }
            let Some(series) = self.begin(message) else {
                self.counts.malformed += 1;
                return;
            };
            self.series.insert(key, series);
        }
        let Some(series) = self.series.get_mut(&key) else { return };
        series.tick = self.tick;
        for text in message.values.split(':') {
            let taken = series.value.take(text, message, &self.hasher);
            *(if taken { &mut self.counts.lines } else { &mut self.counts.malformed }) += 1;
        }
    }

    fn begin(&self, message: &Message<'_>) -> Option<Series> {
        let value = match message.kind {
            Kind::Count => Value::Count(0.0),
            Kind::Gauge => Value::Gauge(0.0),
            Kind::Sample { .. } => Value::Summary { sketch: Sketch::default(), sum: 0.0, count: 0.0 },
            Kind::Set => Value::Set(HashSet::new()),
        };
        let labels = message.tags().map(|(name, value)| (self.namer.label(name), value.to_owned()));
        let name = metric_name(message.name)?;
        Some(Series { name, labels: labels.collect(), value, tick: self.tick, handles: Default::default() })
    }

    /// Writes a tick into the table, and begins what is counted between ticks anew.
    pub fn tick(&mut self, table: &mut Table) {
        table.begin();
        let (tick, expire) = (self.tick, self.expire_ticks);
        self.series.retain(|_, series| tick.wrapping_sub(series.tick) < expire);
        for series in self.series.values_mut() {
            series.tick(table);
        }
        let counts = self.counts;
        let values = [counts.lines, counts.malformed, counts.refused, counts.throttled];
        for ((handle, metric), value) in self.handles.iter_mut().zip(&METRICS).zip(values) {
            table.set_named(handle, metric, metric.name, &[], value as f64);
        }
        table.end();
        self.tick = self.tick.wrapping_add(1);
    }
}

impl Value {
    /// Takes one value; whether it is one.
    fn take(&mut self, text: &str, message: &Message<'_>, hasher: &RandomState) -> bool {
        if let Self::Set(values) = self {
            if values.len() < SET_MAX {
                values.insert(hasher.hash_one(text));
            }
            return true;
        }
        let Some(number) = number(text) else { return false };
        match self {
            // A counter that goes back would look like a restart.
            Self::Count(_) if number < 0.0 => return false,
            Self::Count(sum) => *sum += number * message.weight,
            Self::Gauge(value) if text.starts_with(['+', '-']) => *value += number,
            Self::Gauge(value) => *value = number,
            Self::Summary { sketch, sum, count } => {
                let is_timer = message.kind == Kind::Sample { is_timer: true };
                let number = if is_timer { number / MS_PER_SECOND } else { number };
                sketch.add(number, message.weight);
                *sum += number * message.weight;
                *count += message.weight;
            }
            Self::Set(_) => {}
        }
        true
    }
}

impl Series {
    fn tick(&mut self, table: &mut Table) {
        let mut labels: Vec<(&str, &str)> = self.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        let [first, second, third, sum_handle, count_handle] = &mut self.handles;
        let (name, of) = (&*self.name, super::names::of_kind);
        match &mut self.value {
            Value::Count(sum) => table.set_named(first, of(MetricType::Counter), name, &labels, *sum),
            Value::Gauge(value) => table.set_named(first, of(MetricType::Gauge), name, &labels, *value),
            Value::Set(values) => {
                table.set_named(first, of(MetricType::Gauge), name, &labels, values.len() as f64);
                values.clear();
            }
            Value::Summary { sketch, sum, count } => {
                let metric = of(MetricType::Summary);
                for (handle, suffix, value) in [(sum_handle, "_sum", *sum), (count_handle, "_count", *count)] {
                    table.set_named(handle, metric, &format!("{name}{suffix}"), &labels, value);
                }
                for (handle, (q, text)) in [first, second, third].into_iter().zip(QUANTILES) {
                    // Without a measurement there is no quantile: the series ends until there is one.
                    let Some(value) = sketch.quantile(q) else { continue };
                    labels.push(("quantile", text));
                    table.set_named(handle, metric, name, &labels, value);
                    labels.pop();
                }
                sketch.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn statsd() -> (Statsd, Table) {
        (Statsd::new(Namer::new(&[]), 5, 3), Table::new(&[]))
    }

    fn read(table: &Table) -> Vec<String> {
        let mut lines: Vec<String> =
            table.live().map(|def| format!("{} {}", def.labels, table.values()[def.slot as usize])).collect();
        lines.retain(|line| !line.starts_with("pitwatch_agent"));
        lines.sort();
        lines
    }

    #[test]
    fn what_comes_between_ticks_is_summed_up() {
        let (mut statsd, mut table) = statsd();
        statsd.take(b"web.hits:1|c|#code:200\nweb.hits:2|c|@0.5|#code:200\n\nqueue-size:7|g\nqueue-size:-3|g\nusers:a|s\nusers:b|s\nusers:a|s");
        statsd.take(b"took:100:300|ms");
        statsd.tick(&mut table);
        let (quantiles, others): (Vec<String>, Vec<String>) =
            read(&table).into_iter().partition(|line| line.contains("quantile"));
        assert_eq!(others, ["queue_size 4", "took_count 2", "took_sum 0.4", "users 2", "web_hits{code=\"200\"} 5"]);
        for (line, (q, seconds)) in quantiles.iter().zip([("0.5", 0.1), ("0.9", 0.3), ("0.99", 0.3)]) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(series, format!("took{{quantile=\"{q}\"}}"));
            assert!((value.parse::<f64>().unwrap() / seconds - 1.0).abs() < 0.021, "{line}");
        }
        assert_eq!(quantiles.len(), 3);
        statsd.take(b"web.hits:1|c|#code:200");
        statsd.tick(&mut table);
        assert_eq!(
            read(&table),
            ["queue_size 4", "took_count 2", "took_sum 0.4", "users 0", "web_hits{code=\"200\"} 6"]
        );
        statsd.tick(&mut table);
        statsd.tick(&mut table);
        assert_eq!(read(&table), ["web_hits{code=\"200\"} 6"], "the rest is forgotten");
    }

    #[test]
    fn floods_and_nonsense_are_counted() {
        let (mut statsd, mut table) = statsd();
        for nth in 0..20 {
            statsd.take(format!("m{nth}:1|c").as_bytes());
        }
        statsd.take(b"nonsense\n\xff\xfe:1|c\nm0:x|c\nm0:-1|c\n...:1|c");
        statsd.tick(&mut table);
        assert_eq!(read(&table).len(), 5);
        let counts = statsd.counts();
        assert_eq!((counts.lines, counts.refused, counts.malformed), (5, 16, 4));
    }

    proptest! {
        #[test]
        fn any_datagram_is_taken(datagrams in prop::collection::vec("(\\PC|[:|@#,0-9\n]|\\|ms|\\|c|\\|g|\\|s|a:1)*", 0..8)) {
            let (mut statsd, mut table) = statsd();
            for datagram in datagrams {
                statsd.take(datagram.as_bytes());
                statsd.tick(&mut table);
            }
        }
    }
}
