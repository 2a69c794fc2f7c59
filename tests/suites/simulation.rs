//! The simulation: both sides' real code on one thread, by a seed, under every fault that can be thought of.
//!
//! A seed makes a collector and a few agents. The code that runs is the product's: lanes, senders and spools of the
//! agents, the collector's receivers and its store. What is simulated is around it: time, the network, the disks and
//! the processes' lives. At the end of a run everything is healed, and the store must hold what was sent: all of it but
//! what was counted as lost, with the values that were sent, each once.
//!
//! - `plan`: what a seed decides at its begin: limits, rates of faults.
//! - `agent`: an agent's process and its disk, and what it sent, as the checker remembers it.
//! - `collector`: the collector's process and its disk.
//! - `link`: connections that delay, tear and overlap.
//! - `world`: all of it, step by step.
//! - `faults`: what goes wrong, and the healing.
//! - `check`: what must hold at the end.
//! - `coverage`: what happened in all runs, so that the simulation cannot go soft unseen.
//!
//! `PITWATCH_SIM_SEEDS=n` chooses how many seeds run; `PITWATCH_SIM_SEED=n` runs that one and prints its events.
//! docs/simulation.md says more.

// The helpers are not in test functions, where clippy.toml allows it.
#![allow(clippy::unwrap_used)]

#[path = "simulation/agent.rs"]
mod agent;
#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/collector.rs"]
mod collector;
#[path = "simulation/coverage.rs"]
mod coverage;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/link.rs"]
mod link;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use coverage::Coverage;
use world::World;

/// Seeds that a plain `cargo test` runs.
const SEEDS: u64 = 10_000;
/// Below this many seeds rare events may not happen, and the coverage is not asked for.
const SEEDS_FOR_COVERAGE: u64 = 2_000;
const THREADS: u64 = 2;

#[test]
fn everything_sent_is_stored_once_or_counted_as_lost() {
    if let Some(seed) = number("PITWATCH_SIM_SEED") {
        if let Err(violation) = run(seed, true, &mut Coverage::default()) {
            panic!("seed {seed}: {violation}");
        }
        return;
    }
    let seeds = number("PITWATCH_SIM_SEEDS").unwrap_or(SEEDS);
    let begun = Instant::now();
    let (total, failures) = run_all(seeds);
    println!("{seeds} seeds in {:.1} s: {total}", begun.elapsed().as_secs_f64());
    if let Some((seed, violation)) = failures.first() {
        panic!(
            "seed {seed}: {violation}\nreplay it, with its events:\n  \
             PITWATCH_SIM_SEED={seed} cargo test -p pitwatch-tests --test simulation -- --nocapture"
        );
    }
    if seeds >= SEEDS_FOR_COVERAGE {
        let missing = total.missing();
        assert!(missing.is_empty(), "the simulation has gone soft, these never happened: {missing:?}");
    }
}

/// The same seed must do the same, or a failure could not be replayed.
#[test]
fn a_seed_repeats_itself() {
    for seed in 0..20 {
        let (mut first, mut second) = (Coverage::default(), Coverage::default());
        assert_eq!(run(seed, false, &mut first), run(seed, false, &mut second));
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Runs seeds from 0 until all are done or one fails; the failures, the lowest seed first.
fn run_all(seeds: u64) -> (Coverage, Vec<(u64, String)>) {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (total, failures) = (Mutex::new(Coverage::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut coverage = Coverage::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    if let Err(violation) = run(seed, false, &mut coverage) {
                        stop.store(true, Ordering::Relaxed);
                        failures.lock().unwrap().push((seed, violation));
                    }
                }
                total.lock().unwrap().add(&coverage);
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    (total.into_inner().unwrap(), failures)
}

fn run(seed: u64, loud: bool, coverage: &mut Coverage) -> Result<(), String> {
    let mut world = World::new(seed, loud);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    coverage.add(&world.coverage);
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!("a panic: {}", text.or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()))
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}
