//! The fleet benchmark: what a collector costs with 1, 1,000 and 10,000 agents over real QUIC, and how long all of them
//! take to be back after a planned restart and after kill -9.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pitwatch_tests::fleet::figures::{Table, figure, verdict};
use pitwatch_tests::fleet::signals::Pattern;
use pitwatch_tests::fleet::trial::{self, Options, Outcome};

/// Simulated agents on one collector, on loopback; prints tables.
#[derive(Debug, Parser)]
struct Arguments {
    /// Numbers of agents, a trial each.
    #[arg(long, value_delimiter = ',', default_value = "1,1000,10000")]
    agents: Vec<usize>,
    /// Series of each agent, one value of each a second.
    #[arg(long, default_value_t = 50)]
    series: usize,
    /// Plays this recording of a real host instead of made-up values.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Seconds of peace before that, and between the restarts.
    #[arg(long, default_value_t = 10)]
    settle: u64,
    /// Leave the restarts out.
    #[arg(long)]
    no_restarts: bool,
    /// Leave the stock rules out.
    #[arg(long)]
    no_rules: bool,
    /// So many more rules, of the made-up series: half thresholds, a fifth ratios, a fifth rates, the rest of two terms.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    rules: usize,
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

fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    let stock = !arguments.no_rules;
    let rules = tempfile::tempdir()?;
    std::fs::write(rules.path().join("fleet.yml"), rules_of(arguments.rules, arguments.series))?;
    let rules_dir = rules.path().display();
    let options = Options {
        settle: Duration::from_secs(arguments.settle),
        window: Duration::from_secs(arguments.seconds),
        restarts: !arguments.no_restarts,
        config: format!("[alerting]\nstock_rules = {stock}\nrules_dir = \"{rules_dir}\"\n[log]\nlevel = \"warn\"\n"),
    };
    let mut outcomes = Vec::new();
    for agents in &arguments.agents {
        let dir = tempfile::tempdir()?;
        let pattern = pattern(arguments.replay.as_deref(), arguments.series)?;
        outcomes.push(trial::run(dir.path(), *agents, pattern, &options, &mut |text| eprintln!("{text}"))?);
    }
    println!("{}", steady(&outcomes));
    if !arguments.no_restarts {
        println!("{}", returns(&outcomes));
    }
    verdicts(&outcomes);
    Ok(())
}

/// A file of rules over made-up series that never fire.
fn rules_of(count: usize, series: usize) -> String {
    let mut text = "groups:\n- name: fleet\n  rules: []\n".to_owned();
    if count > 0 {
        text = "groups:\n- name: fleet\n  rules:\n".to_owned();
    }
    // Of every four series one is a gauge, one a counter of events: see `Pattern::synthetic`.
    let part = |nth: usize, kind: usize| nth % (series / 4).max(1) * 4 + kind;
    for nth in 0..count {
        let gauge = format!("fleet_waiting{{part=\"{}\"}}", part(nth, 3));
        let counter = format!("fleet_requests_total{{part=\"{}\"}}", part(nth, 2));
        let limit = format!("fleet_limit_bytes{{part=\"{}\"}}", part(nth, 4));
        let expr = match nth % 10 {
            0..5 => format!("{gauge} > 1e12"),
            5 | 6 => format!("100 * {gauge} / ignoring(part) {limit} > 1e12"),
            7 | 8 => format!("rate({counter}[5m]) > 1e12"),
            _ => format!("{gauge} > 1e12 and ignoring(part) {limit} > 1"),
        };
        text += &format!("  - {{alert: Fleet{nth}, expr: '{expr}', for: 1m}}\n");
    }
    text
}

fn pattern(replay: Option<&Path>, series: usize) -> anyhow::Result<Pattern> {
    replay.map_or_else(|| Pattern::synthetic(series), |path| Pattern::recorded(path, series))
}

fn steady(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(&[
        "agents",
        "series each",
        "samples/s",
        "RSS MiB",
        "KB an agent",
        "of it history's head",
        "cores",
        "of it rules",
        "durable → evaluated p50/p99 ms",
        "cores per 1,000",
        "ack p50/p99 ms",
        "wire B/sample up+down",
        "joined s",
        "dropped",
        "fleet's cores",
    ]);
    for Outcome { agents, series, steady, .. } in outcomes {
        let count = *agents as f64;
        table.row(vec![
            agents.to_string(),
            series.to_string(),
            figure(steady.samples_per_sec, 0),
            figure(steady.resident_bytes / f64::from(1 << 20), 0),
            figure((steady.resident_bytes - steady.base_bytes) / count / 1000.0, 1),
            figure(steady.head_bytes / count / 1000.0, 1),
            figure(steady.cores, 3),
            figure(steady.rule_cores, 3),
            format!("{}/{}", figure(steady.lag_ms[0], 0), figure(steady.lag_ms[1], 0)),
            figure(steady.cores / count * 1000.0, 3),
            format!("{}/{}", figure(steady.ack_ms[0], 0), figure(steady.ack_ms[1], 0)),
            format!("{}+{}", figure(steady.wire_bytes[0], 2), figure(steady.wire_bytes[1], 2)),
            figure(steady.joined_secs, 1),
            steady.dropped.to_string(),
            figure(steady.fleet_cores, 2),
        ]);
    }
    table
}

fn returns(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(&["agents", "case", "gone s", "ready s", "50% back s", "95% back s", "100% back s"]);
    for Outcome { agents, returns, .. } in outcomes {
        for (name, back) in ["planned restart", "kill -9"].iter().zip(returns.iter().flatten()) {
            let at = |share| figure(back.of(share, *agents), 1);
            let (gone, ready) = (figure(back.gone_secs, 1), figure(back.ready_secs, 1));
            table.row(vec![agents.to_string(), (*name).to_owned(), gone, ready, at(0.5), at(0.95), at(1.0)]);
        }
    }
    table
}

fn verdicts(outcomes: &[Outcome]) {
    for Outcome { agents, series, steady, returns } in outcomes {
        let of_connection = (steady.resident_bytes - steady.base_bytes - steady.head_bytes) / *agents as f64 / 1000.0;
        if *agents >= 1000 {
            println!(
                "{agents} agents: {of_connection:.1} KB an agent without history's head; target 60: {}",
                verdict(of_connection <= 60.0)
            );
        }
        if *agents == 1000 && *series >= 500 {
            let gib = steady.resident_bytes / f64::from(1 << 30);
            println!(
                "1,000 agents × {series} series: {:.2} cores, {gib:.2} GiB; target 1 core, 3 GiB: {}",
                steady.cores,
                verdict(steady.cores <= 1.0 && gib <= 3.0)
            );
        }
        if let Some([planned, crash]) = returns {
            let (all, most) = (planned.of(1.0, *agents), crash.of(0.95, *agents));
            println!(
                "{agents} agents: all back {all:.1} s after a planned restart; target 15: {}",
                verdict(all <= 15.0)
            );
            println!("{agents} agents: 95% back {most:.1} s after kill -9; target 20: {}", verdict(most <= 20.0));
        }
    }
}
