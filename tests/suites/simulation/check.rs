//! What must hold at the end: the store has each tick whole and once, or the tick was counted as lost.

use std::collections::{HashMap, HashSet};

use pitwatch_history::logs::{ANSWER_LINES_MAX, Direction, Query};
use pitwatch_history::{History, MatchOp, Matcher};
use pitwatch_shared::events::{EventLine, KIND_LABEL, LANE_LABEL};
use pitwatch_shared::model::{INSTANCE, Labels, Lane, METRIC_NAME, STALE_NAN_BITS};

use crate::agent::{Agent, Content};
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
            let Content::Samples(samples) = &tick.content else { continue };
            for (labels, bits) in samples {
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
        let mut found: Vec<Vec<usize>> = self.agents.iter().map(|agent| vec![0; agent.ticks.len()]).collect();
        self.find_samples(&history, &mut found)?;
        self.find_events(&history, &mut found)?;
        for (agent, found) in self.agents.iter_mut().zip(found) {
            let dropped = agent.dropped();
            self.coverage.dropped += dropped;
            let mut unexplained = Vec::new();
            for (number, (tick, found)) in agent.ticks.iter().zip(found).enumerate() {
                let parts = tick.content.parts();
                if found == parts {
                    self.coverage.stored += 1;
                    self.coverage.events_stored += u64::from(agent.lane == Lane::Events);
                    continue;
                }
                let what = format!("{}: tick {number} of group {} at {}", agent.name, tick.group, tick.ts_ms);
                if found > 0 {
                    return Err(format!("{what}: {found} of {parts} parts are stored"));
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

    /// The lane of a host, by its place among the agents.
    fn agent_of(&self, host: &str, lane: Lane) -> Option<usize> {
        self.agents.iter().position(|agent| agent.host == host && agent.lane == lane)
    }

    /// Counts the samples of each tick that the store has; none is there that was not sent.
    fn find_samples(&self, history: &History, found: &mut [Vec<usize>]) -> Result<(), String> {
        let sent: Vec<Sent> = self.agents.iter().map(Sent::new).collect();
        let all = Matcher::new(METRIC_NAME, MatchOp::Ne, "").map_err(|error| error.to_string())?;
        let (mut samples, mut ends) = (0, 0);
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        for series in history.select(&[all], i64::MIN, i64::MAX).map_err(|error| error.to_string())? {
            let instance = series.labels.value(INSTANCE).unwrap_or_default();
            let Some(agent) = self.agent_of(instance, Lane::Metrics) else {
                return Err(format!("{} is of no agent", series.labels));
            };
            history
                .samples(&series, i64::MIN, i64::MAX, &mut ts, &mut values)
                .map_err(|error| format!("{}: {error}", series.labels))?;
            for (ts_ms, value) in ts.iter().zip(&values) {
                match sent[agent].tick(&series.labels, *ts_ms, value.to_bits())? {
                    Some(tick) => {
                        found[agent][tick] += 1;
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
        Ok(())
    }

    /// Counts the lines of each event that the store has; each is as it was sent, and no event is there twice.
    fn find_events(&self, history: &History, found: &mut [Vec<usize>]) -> Result<(), String> {
        let (name, value) = LANE_LABEL;
        let events = [Matcher::new(name, MatchOp::Eq, value).map_err(|error| error.to_string())?];
        let query = Query {
            matchers: &events,
            start_ns: i64::MIN,
            end_ns: i64::MAX,
            needles: &[],
            limit: ANSWER_LINES_MAX,
            direction: Direction::Forward,
        };
        let answer = history.logs().query(&query).map_err(|error| error.to_string())?;
        if answer.is_cut || answer.lines.len() >= ANSWER_LINES_MAX {
            return Err("more events than one answer holds: nothing is known of the others".into());
        }
        for (labels, line) in answer.lines {
            let what = || format!("{labels} at {}: {:?}", line.ts_ns, line.text);
            let agent = labels.value(INSTANCE).and_then(|host| self.agent_of(host, Lane::Events));
            let Some(agent) = agent else { return Err(format!("{} is of no agent", what())) };
            let Some(event) = EventLine::parse(&line.text) else { return Err(format!("{} is no event", what())) };
            let number = event.labels.iter().find(|(name, _)| name == "number");
            let number: Option<usize> = number.and_then(|(_, number)| number.parse().ok());
            let sent = number.and_then(|number| Some((number, self.agents[agent].ticks.get(number)?)));
            let Some((number, tick)) = sent else { return Err(format!("{} was never sent", what())) };
            let Content::Event(kind, summary) = &tick.content else { return Err(format!("{} was no event", what())) };
            let is_same = tick.ts_ms.checked_mul(1_000_000) == Some(line.ts_ns)
                && labels.value(KIND_LABEL) == Some(kind.as_str())
                && event.summary == *summary;
            if !is_same {
                return Err(format!("{} was {summary:?} of {kind:?} at {} ms", what(), tick.ts_ms));
            }
            found[agent][number] += 1;
            if found[agent][number] > 1 {
                return Err(format!("{} is there twice", what()));
            }
        }
        Ok(())
    }
}
