//! A collector as a process of its own and a fleet at work on it: what it costs while all is well, and how all come
//! back after a planned restart and after a crash.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::figures::percentile;
use super::signals::Pattern;
use super::{Fleet, address, identities};
use crate::host;
use crate::http::Api;
use crate::programs::{self, Collector};

/// Everybody must be there, or back, within this.
const PATIENCE: Duration = Duration::from_secs(90);
/// The base of the collector's memory is read this long after it is ready.
const BASE_AFTER: Duration = Duration::from_millis(1_500);

/// What to try.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long all is left in peace before it is measured.
    pub settle: Duration,
    /// How long it is measured.
    pub window: Duration,
    /// Whether the collector is restarted and killed as well.
    pub restarts: bool,
    /// The collector's configuration.
    pub config: String,
}

/// What the collector and the wire cost while all was well.
#[derive(Clone, Debug, Default)]
pub struct Steady {
    /// When the last agent had its first frame acknowledged, seconds after the fleet's start.
    pub joined_secs: f64,
    /// The collector's resident bytes before any agent came.
    pub base_bytes: f64,
    /// Its resident bytes at the window's end.
    pub resident_bytes: f64,
    /// Of them, what history's head says it takes.
    pub head_bytes: f64,
    /// Series that are written, the collector's own included.
    pub active_series: f64,
    /// The collector's CPU seconds per second of the window.
    pub cores: f64,
    /// Of them, in rules.
    pub rule_cores: f64,
    /// Median and 99th percentile from durable to the end of the rule evaluation that saw it, milliseconds.
    pub lag_ms: [f64; 2],
    /// The fleet's own CPU seconds per second of the window.
    pub fleet_cores: f64,
    /// Samples that the fleet sent per second.
    pub samples_per_sec: f64,
    /// Median and 99th percentile from queued to acknowledged, milliseconds.
    pub ack_ms: [f64; 2],
    /// UDP payload bytes per sample, to the collector and back.
    pub wire_bytes: [f64; 2],
    /// Frames that the agents dropped since the start.
    pub dropped: u64,
}

/// How agents came back.
#[derive(Clone, Debug)]
pub struct Return {
    /// When the old process had ended, seconds after the order to stop, or the kill.
    pub gone_secs: f64,
    /// When the new one was ready.
    pub ready_secs: f64,
    /// When each agent was back, ascending; as many as came.
    pub back_secs: Vec<f64>,
}

impl Return {
    /// When that share of `agents` was back; NaN if it never was.
    #[must_use]
    pub fn of(&self, share: f64, agents: usize) -> f64 {
        let needed = (agents as f64 * share).ceil() as usize;
        self.back_secs.get(needed.max(1) - 1).copied().unwrap_or(f64::NAN)
    }
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Agents.
    pub agents: usize,
    /// Series of each.
    pub series: usize,
    /// While all was well.
    pub steady: Steady,
    /// After a planned restart and after a crash, if they were tried.
    pub returns: Option<[Return; 2]>,
}

/// Runs one trial in `dir`; `say` is told how it goes.
///
/// # Errors
/// Something does not start, or agents do not come, or do not come back.
pub fn run(
    dir: &Path,
    agents: usize,
    pattern: Pattern,
    options: &Options,
    say: &mut dyn FnMut(&str),
) -> anyhow::Result<Outcome> {
    let series = pattern.series();
    let (mut collector, fleet, begun, mut steady) = start(dir, agents, pattern, &options.config)?;
    let joined = fleet.wait_all_back(begun, PATIENCE);
    let seen = collector.process().log();
    anyhow::ensure!(
        joined.len() == agents,
        "{} of {agents} agents joined; the collector's log ends:\n{}",
        joined.len(),
        programs::tail(&seen)
    );
    steady.joined_secs = percentile(&joined, 1.0);
    say(&format!("{agents} agents joined in {:.1} s", steady.joined_secs));
    std::thread::sleep(options.settle);
    measure(&mut collector, &fleet, options.window, &mut steady)?;
    say("measured; now the restarts");
    let returns = if options.restarts {
        let planned = restart(&mut collector, &fleet, |collector| collector.process().stop().map(drop))?;
        say(&format!("all back {:.1} s after a planned restart", planned.of(1.0, agents)));
        std::thread::sleep(options.settle);
        let crash = restart(&mut collector, &fleet, |collector| {
            collector.process().kill();
            Ok(())
        })?;
        say(&format!("all back {:.1} s after kill -9", crash.of(1.0, agents)));
        anyhow::ensure!(
            planned.back_secs.len() == agents && crash.back_secs.len() == agents,
            "of {agents} agents {} came back after a planned restart and {} after a crash",
            planned.back_secs.len(),
            crash.back_secs.len()
        );
        Some([planned, crash])
    } else {
        None
    };
    steady.dropped = fleet.traffic().dropped;
    Ok(Outcome { agents, series, steady, returns })
}

/// A collector that knows the fleet, and the fleet on its way to it.
fn start(
    dir: &Path,
    agents: usize,
    pattern: Pattern,
    config: &str,
) -> anyhow::Result<(Collector, Fleet, Instant, Steady)> {
    let (agents_at, http) = (address()?, address()?);
    let identities = identities::enrol(&dir.join("data"), agents_at, agents)?;
    let mut collector = Collector::start_at(dir, agents_at, http, config, "")?;
    std::thread::sleep(BASE_AFTER);
    let base_bytes = cost(&mut collector)?.1;
    let begun = Instant::now();
    let fleet = Fleet::start(identities, agents_at, pattern, dir)?;
    Ok((collector, fleet, begun, Steady { base_bytes, ..Steady::default() }))
}

fn measure(collector: &mut Collector, fleet: &Fleet, window: Duration, steady: &mut Steady) -> anyhow::Result<()> {
    let api = collector.api()?;
    fleet.keep_latencies(true);
    let (begun, before) = (Instant::now(), fleet.traffic());
    let (cpu_before, rules_before) = (cost(collector)?.0, own(&api, "rule_evaluation_seconds_total"));
    let fleet_before = host::process_cost(std::process::id()).context("no /proc")?.0;
    std::thread::sleep(window);
    let (secs, after) = (begun.elapsed().as_secs_f64(), fleet.traffic());
    let (cpu_after, resident_bytes) = cost(collector)?;
    let fleet_after = host::process_cost(std::process::id()).context("no /proc")?.0;
    let latencies = fleet.keep_latencies(false);
    let samples = (after.samples - before.samples) as f64;
    steady.cores = (cpu_after - cpu_before) / secs;
    steady.rule_cores = (own(&api, "rule_evaluation_seconds_total") - rules_before) / secs;
    steady.fleet_cores = (fleet_after - fleet_before) / secs;
    // Over the window as the collector's own series have it, a sample a second.
    let lag = |share: f64| {
        let window_secs = window.as_secs().max(2);
        let rate = format!("rate(pitwatch_collector_rule_lag_seconds_bucket[{window_secs}s])");
        let found = api.value(&format!("1000 * histogram_quantile({share}, {rate})"));
        found.ok().flatten().unwrap_or(f64::NAN)
    };
    steady.lag_ms = [lag(0.5), lag(0.99)];
    steady.resident_bytes = resident_bytes;
    steady.head_bytes = own(&api, "head_bytes");
    steady.active_series = own(&api, "active_series");
    steady.samples_per_sec = samples / secs;
    steady.ack_ms = [0.5, 0.99].map(|share| percentile(&latencies, share));
    steady.wire_bytes = [
        (after.sent_bytes - before.sent_bytes) as f64 / samples,
        (after.received_bytes - before.received_bytes) as f64 / samples,
    ];
    Ok(())
}

/// Ends the collector as `end` does, starts it again, and waits for all agents.
fn restart(
    collector: &mut Collector,
    fleet: &Fleet,
    end: impl FnOnce(&mut Collector) -> anyhow::Result<()>,
) -> anyhow::Result<Return> {
    fleet.outage_begins();
    let begun = Instant::now();
    end(collector)?;
    fleet.collector_is_gone();
    let gone_secs = begun.elapsed().as_secs_f64();
    collector.restart()?;
    let ready_secs = begun.elapsed().as_secs_f64();
    Ok(Return { gone_secs, ready_secs, back_secs: fleet.wait_all_back(begun, PATIENCE) })
}

fn cost(collector: &mut Collector) -> anyhow::Result<(f64, f64)> {
    host::process_cost(collector.process().id()).context("the collector has ended")
}

/// One of the collector's own metrics; NaN if it is not there (yet).
fn own(api: &Api, name: &str) -> f64 {
    api.value(&format!("pitwatch_collector_{name}")).ok().flatten().unwrap_or(f64::NAN)
}
