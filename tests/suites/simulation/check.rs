//! What must hold at the end: the store has each tick whole and once, or the tick was counted as lost.

use std::collections::{HashMap, HashSet};

use pitwatch_history::{MatchOp, Matcher};
use pitwatch_shared::model::{INSTANCE, Labels, METRIC_NAME, STALE_NAN_BITS};

use crate::agent::Agent;
use crate::world::World;

/// What was sent: by series and time, the tick and the value's bits.
struct Sent {
    samples: HashMap<Labels, HashMap<i64, (usize, u64)>>,
    /// Times of each group's ticks: there a series may have ended.
    times: HashSet<(String, i64)>,
}

impl Sent {
    fn new(agent: &Agent) -> Self {
        let mut sent = Self { samples: HashMap::new(), times: HashSet::new() };
        for (number, tick) in agent.ticks.iter().enumerate() {
            sent.times.insert((tick.group.to_string(), tick.ts_ms));
            for (labels, bits) in &tick.samples {
                sent.samples.entry(labels.clone()).or_default().insert(tick.ts_ms, (number, *bits));
            }
        }
        sent
    }

    /// The tick that a sample is of; none for the marker of a series' end.
    fn tick(&self, labels: &Labels, ts_ms: i64, bits: u64) -> Result<Option<usize>, String> {
        match self.samples.get(labels).and_then(|samples| samples.get(&ts_ms)) {
            Some((tick, sent)) if *sent == bits => Ok(Some(*tick)),
            Some((tick, sent)) => Err(format!(
                "{labels} at {ts_ms} (tick {tick}) is {}, sent was {}",
                f64::from_bits(bits),
                f64::from_bits(*sent)
            )),
            None => {
                let group = labels.value("group").unwrap_or_default().to_owned();
                if bits == STALE_NAN_BITS && self.times.contains(&(group, ts_ms)) {
                    return Ok(None);
                }
                Err(format!("{labels} at {ts_ms} is {}, which was never sent", f64::from_bits(bits)))
            }
        }
    }
}

impl World {
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let Some(process) = &self.collector.process else { return Err("the collector is not up".into()) };
        let history = process.history.clone();
        let sent: HashMap<&str, Sent> = self.agents.iter().map(|agent| (&*agent.name, Sent::new(agent))).collect();
        let mut found: HashMap<&str, Vec<usize>> =
            self.agents.iter().map(|agent| (&*agent.name, vec![0; agent.ticks.len()])).collect();
        let all = Matcher::new(METRIC_NAME, MatchOp::Ne, "").map_err(|error| error.to_string())?;
        let (mut samples, mut ends) = (0, 0);
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        for series in history.select(&[all], i64::MIN, i64::MAX).map_err(|error| error.to_string())? {
            let instance = series.labels.value(INSTANCE).unwrap_or_default();
            let (Some(sent), Some(found)) = (sent.get(instance), found.get_mut(instance)) else {
                return Err(format!("{} is of no agent", series.labels));
            };
            history
                .samples(&series, i64::MIN, i64::MAX, &mut ts, &mut values)
                .map_err(|error| format!("{}: {error}", series.labels))?;
            for (ts_ms, value) in ts.iter().zip(&values) {
                match sent.tick(&series.labels, *ts_ms, value.to_bits())? {
                    Some(tick) => {
                        found[tick] += 1;
                        samples += 1;
                    }
                    None => ends += 1,
                }
            }
        }
        // Queries give one sample a timestamp: what is stored twice shows in the store's own count.
        let stats = history.stats();
        let stored = stats.head_samples + stats.block_samples;
        if stored < samples || stored > samples + ends {
            return Err(format!("{stored} samples are stored, {samples} and {ends} ends of series are there"));
        }
        let found: Vec<Vec<usize>> = self.agents.iter().map(|agent| found[&*agent.name].clone()).collect();
        for (agent, found) in self.agents.iter_mut().zip(found) {
            let dropped = agent.dropped();
            self.coverage.dropped += dropped;
            let mut unexplained = Vec::new();
            for (number, (tick, found)) in agent.ticks.iter().zip(found).enumerate() {
                if found == tick.samples.len() {
                    self.coverage.stored += 1;
                    continue;
                }
                let what = format!("{}: tick {number} of group {} at {}", agent.name, tick.group, tick.ts_ms);
                if found > 0 {
                    return Err(format!("{what}: {found} of {} samples are stored", tick.samples.len()));
                }
                if tick.acked {
                    return Err(format!("{what} was acknowledged and is not stored"));
                }
                self.coverage.missing += 1;
                if !tick.died {
                    unexplained.push(number);
                }
            }
            if unexplained.len() as u64 > dropped {
                return Err(format!(
                    "{}: ticks {unexplained:?} are not stored, and {dropped} frames were counted as dropped",
                    agent.name
                ));
            }
        }
        Ok(())
    }
}
