//! From a breach on a host to the message at a webhook: agents of the simulator whose gauge jumps over a rule's
//! threshold at a known instant, at any phase against the 1 s cadence; collector and webhook are real.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use pitwatch_collector::clock::unix_ms;
use pitwatch_tests::fleet::agent::Agent;
use pitwatch_tests::fleet::figures::{Table, figure, percentile, verdict};
use pitwatch_tests::fleet::signals::Pattern;
use pitwatch_tests::fleet::{self, Fleet, identities};
use pitwatch_tests::programs::Collector;
use pitwatch_tests::webhook::Webhook;

const RULES: &str = "groups: [{name: bench, rules: [{alert: Breach, expr: 'fleet_level > 0.5', for: 0s}]}]\n";
/// Values change within so long after the last message, at random: more than one cadence.
const SPREAD_MS: u64 = 2_000;
/// A message that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(15);

/// Breach to webhook, on loopback; prints the distribution.
#[derive(Debug, Parser)]
struct Arguments {
    /// Breaches in all.
    #[arg(long, default_value_t = 200)]
    breaches: usize,
    /// Agents whose value changes, side by side.
    #[arg(long, default_value_t = 20)]
    agents: usize,
    /// Further agents that only send.
    #[arg(long, default_value_t = 0)]
    others: usize,
    /// Series of each agent.
    #[arg(long, default_value_t = 50)]
    series: usize,
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Milliseconds from the change of the value, and from its first sample, to the message.
#[derive(Default)]
struct Times {
    from_change: Vec<f64>,
    from_sample: Vec<f64>,
}

fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let hook = Webhook::start()?;
    let (address, http) = (fleet::address()?, fleet::address()?);
    let all = arguments.agents + arguments.others;
    let identities = identities::enrol(&dir.path().join("data"), address, all)?;
    let config = format!("{}\n[log]\nlevel = \"warn\"\n", hook.config());
    let collector = Collector::start_at(dir.path(), address, http, &config, RULES)?;
    let fleet = Fleet::start(identities, address, Pattern::synthetic(arguments.series)?, dir.path())?;
    let joined = fleet.wait_all_back(Instant::now(), Duration::from_secs(60));
    anyhow::ensure!(joined.len() == all, "{} of {all} agents joined", joined.len());
    let (mut firing, mut resolved) = (Times::default(), Times::default());
    while firing.from_change.len() < arguments.breaches {
        let agents = &fleet.agents()[..arguments.agents.min(arguments.breaches - firing.from_change.len())];
        round(&hook, agents, 1.0, "firing", &mut firing)?;
        round(&hook, agents, 0.0, "resolved", &mut resolved)?;
        eprintln!("{} of {} breaches", firing.from_change.len(), arguments.breaches);
    }
    drop(collector);
    let mut table = Table::new(&["", "times", "p50 ms", "p90 ms", "p99 ms", "max ms"]);
    let p99 = add(&mut table, "breach → webhook", firing.from_change);
    add(&mut table, "of it after its sample", firing.from_sample);
    add(&mut table, "recovery → webhook", resolved.from_change);
    add(&mut table, "of it after its sample", resolved.from_sample);
    println!("{table}");
    println!("p99 {:.0} ms at 1 s cadence, for: 0s; target 1500: {}", p99, verdict(p99 <= 1500.0));
    Ok(())
}

/// Each agent's value changes once, at an instant of its own; then all messages are awaited.
fn round(hook: &Webhook, agents: &[Arc<Agent>], level: f64, status: &str, times: &mut Times) -> anyhow::Result<()> {
    let before = hook.messages().len();
    let mut order: Vec<(u64, &Arc<Agent>)> = agents.iter().map(|agent| (fastrand::u64(..SPREAD_MS), agent)).collect();
    order.sort_by_key(|(at_ms, _)| *at_ms);
    let begun = Instant::now();
    let mut changed_ms = HashMap::new();
    for (at_ms, agent) in order {
        std::thread::sleep(Duration::from_millis(at_ms).saturating_sub(begun.elapsed()));
        changed_ms.insert(agent.name.clone(), unix_ms());
        agent.set_level(level);
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let arrived = hook.messages().split_off(before);
        let mut found = HashMap::new();
        for message in &arrived {
            let alert = &message.body["alerts"][0];
            if alert["status"] == status
                && let Some(instance) = alert["labels"]["instance"].as_str()
            {
                found.entry(instance.to_owned()).or_insert(message.at_ms);
            }
        }
        if agents.iter().all(|agent| found.contains_key(&agent.name)) {
            for agent in agents {
                let at_ms = found[&agent.name];
                times.from_change.push((at_ms - changed_ms[&agent.name]) as f64);
                times.from_sample.push((at_ms - agent.level_sampled_ms()) as f64);
            }
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "{} of {} agents were told {status}", found.len(), agents.len());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Adds a row; gives the 99th percentile.
fn add(table: &mut Table, name: &str, mut ms: Vec<f64>) -> f64 {
    ms.sort_by(f64::total_cmp);
    let at = |share| figure(percentile(&ms, share), 0);
    table.row(vec![name.to_owned(), ms.len().to_string(), at(0.5), at(0.9), at(0.99), at(1.0)]);
    percentile(&ms, 0.99)
}
