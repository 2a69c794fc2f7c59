//! What a seed decides at its begin. Each run has its own mix of faults, so that some runs are quiet but for one kind
//! and others have all of them at once.

use std::time::Duration;

use fastrand::Rng;
use pitwatch_history::Config;
use pitwatch_shared::delivery::SenderLimits;

/// Chances of faults, each of 1,000 steps.
#[derive(Debug)]
pub(crate) struct Rates {
    /// A connection breaks.
    pub(crate) breaks: u32,
    /// An agent loses the network for long.
    pub(crate) partition: u32,
    /// An agent's process is killed.
    pub(crate) agent_kill: u32,
    /// An agent's host loses power.
    pub(crate) agent_cut: u32,
    /// An agent stops cleanly.
    pub(crate) agent_stop: u32,
    /// An agent's data is lost and its clock behind.
    pub(crate) agent_wipe: u32,
    /// An agent's disk refuses for a while.
    pub(crate) agent_disk: u32,
    /// An agent's clock steps.
    pub(crate) clock_step: u32,
    /// The collector's process is killed.
    pub(crate) collector_kill: u32,
    /// The collector's host loses power.
    pub(crate) collector_cut: u32,
    /// The collector's disk refuses for a while.
    pub(crate) collector_disk: u32,
    /// The collector's power goes right after it sent an ack, of 1,000 acks.
    pub(crate) cut_after_ack: u32,
}

/// One run's choices.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) agents: usize,
    /// Of the agents, those whose events lane takes part: the first ones.
    pub(crate) with_events: usize,
    pub(crate) groups: usize,
    pub(crate) steps: u32,
    pub(crate) step_ms: i64,
    pub(crate) delay_ms: i64,
    /// Chance of 100 that the collector commits in a step.
    pub(crate) commit: u32,
    /// Chance of 100 that a group's schema changes before a tick.
    pub(crate) schema_change: u32,
    /// Labels of this many bytes, to fill spool segments.
    pub(crate) label_bytes: usize,
    pub(crate) sender: SenderLimits,
    pub(crate) spool_bytes: u64,
    pub(crate) history: Config,
    pub(crate) rates: Rates,
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let fat = rng.u32(..100) == 0;
        let agents = rng.usize(1..=3);
        Self {
            agents,
            with_events: rng.usize(0..=agents),
            groups: rng.usize(1..=3),
            steps: rng.u32(60..=260),
            step_ms: [100, 400, 1_500][rng.usize(..3)],
            delay_ms: [1, 500, 4_000][rng.usize(..3)],
            commit: [5, 30, 80][rng.usize(..3)],
            schema_change: [0, 0, 5, 20][rng.usize(..4)],
            label_bytes: if fat { 4_000 } else { 8 },
            sender: sender(rng, fat),
            spool_bytes: if fat { 600_000 } else { 64 << 20 },
            history: history(rng),
            rates: Rates {
                breaks: rate(rng, 60),
                partition: rate(rng, 15),
                agent_kill: rate(rng, 10),
                agent_cut: rate(rng, 15),
                agent_stop: rate(rng, 10),
                agent_wipe: if rng.u32(..20) == 0 { 4 } else { 0 },
                agent_disk: rate(rng, 20),
                clock_step: rate(rng, 20),
                collector_kill: rate(rng, 10),
                collector_cut: rate(rng, 25),
                collector_disk: rate(rng, 20),
                cut_after_ack: rate(rng, 40),
            },
        }
    }
}

/// Not at all, seldom or often.
fn rate(rng: &mut Rng, often: u32) -> u32 {
    [0, often / 5 + 1, often][rng.usize(..3)]
}

fn sender(rng: &mut Rng, fat: bool) -> SenderLimits {
    let default = SenderLimits::default();
    if fat {
        return SenderLimits { memory_bytes: 200_000, window_bytes: 100_000, chain_bytes: 1_000, ..default };
    }
    SenderLimits {
        memory_bytes: [default.memory_bytes, default.memory_bytes, 500, 4_000][rng.usize(..4)],
        window_bytes: [default.window_bytes, 200, 2_000][rng.usize(..3)],
        age_ms: [default.age_ms, default.age_ms, default.age_ms, 30_000][rng.usize(..4)],
        chain_bytes: [default.chain_bytes, 300, 2_000][rng.usize(..3)],
    }
}

fn history(rng: &mut Rng) -> Config {
    let default = Config::default();
    Config {
        block_span: [default.block_span, Duration::from_secs(20), Duration::from_secs(3)][rng.usize(..3)],
        head_max_bytes: [default.head_max_bytes, 3_000][rng.usize(..2)],
        wal_max_bytes: [default.wal_max_bytes, 6_000][rng.usize(..2)],
        pending_max_bytes: [default.pending_max_bytes, 1_000][rng.usize(..2)],
        retention_age: None,
        ..default
    }
}
