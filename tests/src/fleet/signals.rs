//! What simulated agents send: made up, or the recording of a real host played from another second for each, or a
//! host for people to look at.
//!
//! Slot 0 is always the gauge [`LEVEL`], which a benchmark may set.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use pitwatch_agent::lane::Schema;
use pitwatch_shared::codec::{GroupId, SeriesDef, Slot};
use pitwatch_shared::model::{Labels, METRIC_NAME, MetricType, is_stale, stale_nan};

use super::hosts;

/// The gauge that a benchmark sets.
pub const LEVEL: &str = "fleet_level";
/// Largest recording, unpacked, bytes.
const RECORDING_MAX_BYTES: u64 = 512 * 1024 * 1024;

/// The series of every agent, and how their values go.
#[derive(Debug)]
pub struct Pattern {
    series: Vec<SeriesDef>,
    /// The recording, scrape after scrape; empty if values are made up.
    recorded: Vec<f64>,
    /// Whether it is a host for people to look at.
    is_host: bool,
}

/// Where one agent is in its pattern.
#[derive(Debug)]
pub struct Values {
    scrape: usize,
    values: Vec<f64>,
}

impl Pattern {
    /// `series` made-up series besides [`LEVEL`]: constants, counters of time, counters of events and gauges, a
    /// quarter each.
    ///
    /// # Errors
    /// None that happen: the labels are within the limits.
    pub fn synthetic(series: usize) -> anyhow::Result<Self> {
        let mut all = vec![level()?];
        for nth in 1..=series {
            let (name, kind) = match nth % 4 {
                0 => ("fleet_limit_bytes", MetricType::Gauge),
                1 => ("fleet_busy_seconds_total", MetricType::Counter),
                2 => ("fleet_requests_total", MetricType::Counter),
                _ => ("fleet_waiting", MetricType::Gauge),
            };
            all.push(SeriesDef {
                slot: nth as Slot,
                kind,
                labels: labels(name, [("part", nth.to_string().as_str())])?,
            });
        }
        Ok(Self { series: all, recorded: Vec::new(), is_host: false })
    }

    /// The first `series` series of a recording: zstd, scrapes in the text format after a line `# T <unix ms>` each.
    ///
    /// # Errors
    /// The file cannot be read or is not of that format.
    pub fn recorded(path: &Path, series: usize) -> anyhow::Result<Self> {
        let text = || -> anyhow::Result<String> {
            let mut text = String::new();
            let file = std::fs::File::open(path)?;
            zstd::Decoder::new(file)?.take(RECORDING_MAX_BYTES).read_to_string(&mut text)?;
            Ok(text)
        };
        let text = text().with_context(|| format!("cannot read {}", path.display()))?;
        let mut all = vec![level()?];
        let mut slots = std::collections::HashMap::new();
        let mut scrapes: Vec<Vec<f64>> = Vec::new();
        for line in text.lines() {
            if line.starts_with("# T ") {
                scrapes.push(vec![stale_nan(); all.len()]);
                continue;
            }
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line:?}"))?;
            let scrape = scrapes.last_mut().context("a sample before the first scrape")?;
            let slot = match slots.get(name) {
                Some(slot) => *slot,
                None if all.len() > series => continue,
                None => {
                    let slot = all.len();
                    all.push(SeriesDef { slot: slot as Slot, kind: kind(name), labels: parse(name)? });
                    slots.insert(name, slot);
                    slot
                }
            };
            scrape.resize(all.len().max(scrape.len()), stale_nan());
            scrape[slot] = value.parse().with_context(|| format!("no number: {line:?}"))?;
        }
        anyhow::ensure!(scrapes.len() > 1, "{} holds no scrapes", path.display());
        scrapes.iter_mut().for_each(|scrape| scrape.resize(all.len(), stale_nan()));
        Ok(Self { series: all, recorded: scrapes.concat(), is_host: false })
    }

    /// A host for people to look at: see `hosts`. [`LEVEL`] above 0 makes it sick.
    ///
    /// # Errors
    /// None that happen: the labels are within the limits.
    pub fn host() -> anyhow::Result<Self> {
        let series = [level()?].into_iter().chain(hosts::defs()?).collect();
        Ok(Self { series, recorded: Vec::new(), is_host: true })
    }

    /// How many series an agent has.
    #[must_use]
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// The series, by slot.
    #[must_use]
    pub fn defs(&self) -> &[SeriesDef] {
        &self.series
    }

    /// The recording, scrape by scrape: a value a slot, a stale marker where there was none. Empty if values are
    /// made up.
    pub fn scrapes(&self) -> impl Iterator<Item = &[f64]> {
        self.recorded.chunks(self.series.len())
    }

    /// An agent's beginning, somewhere in the pattern.
    #[must_use]
    pub fn begin(&self) -> Values {
        if self.is_host {
            return Values { scrape: fastrand::usize(..1000), values: vec![0.0; self.series.len()] };
        }
        let scrapes = self.recorded.len() / self.series.len();
        let made_up = || (0..self.series.len()).map(|_| fastrand::u32(0..1_000_000).into()).collect();
        let values = if scrapes == 0 { made_up() } else { vec![0.0; self.series.len()] };
        Values { scrape: if scrapes == 0 { 0 } else { fastrand::usize(..scrapes) }, values }
    }

    /// The next second's values, with `level` in the first slot; gives how many of them are samples.
    pub fn next<'a>(&self, at: &'a mut Values, level: f64) -> (&'a [f64], usize) {
        let width = self.series.len();
        let values = &mut at.values;
        let present = if self.is_host {
            at.scrape += 1;
            hosts::next(&mut values[1..], at.scrape, level);
            width
        } else if self.recorded.is_empty() {
            for (nth, value) in values.iter_mut().enumerate() {
                match nth % 4 {
                    0 => {}
                    // Hundredths of a second, as the kernel counts them.
                    1 => *value = ((*value * 100.0).round() + f64::from(fastrand::u8(0..100))) / 100.0,
                    2 => *value += f64::from(fastrand::u8(..)),
                    _ => *value = (*value + f64::from(fastrand::i8(-8..=8))).max(0.0),
                }
            }
            width
        } else {
            at.scrape = (at.scrape + 1) % (self.recorded.len() / width);
            values.copy_from_slice(&self.recorded[at.scrape * width..][..width]);
            1 + values[1..].iter().filter(|value| !is_stale(**value)).count()
        };
        values[0] = level;
        (values, present)
    }
}

impl Schema for Pattern {
    fn groups(&self) -> Vec<GroupId> {
        vec![0]
    }

    fn live(&self, _group: GroupId) -> Vec<SeriesDef> {
        self.series.clone()
    }
}

fn level() -> anyhow::Result<SeriesDef> {
    Ok(SeriesDef { slot: 0, kind: MetricType::Gauge, labels: labels(LEVEL, [])? })
}

fn labels<'a>(name: &'a str, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> anyhow::Result<Labels> {
    Ok(Labels::new(pairs.into_iter().chain([(METRIC_NAME, name)]))?)
}

fn kind(series: &str) -> MetricType {
    let name = series.split('{').next().unwrap_or_default();
    let counts = ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end));
    if counts { MetricType::Counter } else { MetricType::Gauge }
}

/// A series as the text format names it.
fn parse(series: &str) -> anyhow::Result<Labels> {
    let Some((name, rest)) = series.split_once('{') else { return labels(series, []) };
    let mut pairs = vec![(METRIC_NAME.to_owned(), name.to_owned())];
    let mut rest = rest;
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().with_context(|| format!("an open label value: {series:?}"))? {
                (at, '"') => break at + 1,
                (_, '\\') => match chars.next().map_or('\\', |(_, c)| c) {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        pairs.push((label.trim_start_matches(',').to_owned(), value));
        rest = &after[end..];
    }
    Ok(Labels::new(pairs)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_formats_series_are_understood() {
        let labels = parse(r#"m{a="x,y=\"1\"",b="p\\q\nr"}"#).unwrap();
        let pairs: Vec<_> = labels.iter().collect();
        assert_eq!(pairs, [(METRIC_NAME, "m"), ("a", "x,y=\"1\""), ("b", "p\\q\nr")]);
        assert_eq!(parse("up").unwrap().metric(), "up");
    }

    #[test]
    fn a_sick_host_is_busy_and_its_disk_fills() {
        let pattern = Pattern::host().unwrap();
        let slot = |name: &str| pattern.defs().iter().position(|def| def.labels.metric() == name).unwrap();
        let (idle, free) = (slot("node_cpu_seconds_total"), slot("node_filesystem_avail_bytes") + 3);
        let mut at = pattern.begin();
        let well = pattern.next(&mut at, 0.0).0[idle];
        let before = pattern.next(&mut at, 1.0).0.to_vec();
        let (after, samples) = pattern.next(&mut at, 1.0);
        assert!(well > 0.5 && after[idle] - before[idle] < 0.05 && after[free] < before[free]);
        assert_eq!(samples, pattern.series());
    }

    #[test]
    fn counters_only_grow_and_the_level_is_as_set() {
        let pattern = Pattern::synthetic(8).unwrap();
        let mut at = pattern.begin();
        let before = at.values.clone();
        let (now, samples) = pattern.next(&mut at, 7.0);
        assert_eq!((samples, now[0], now[4]), (9, 7.0, before[4]));
        assert!(now[1] >= before[1] && now[2] >= before[2]);
    }
}
