//! What goes wrong, and the healing at the end.

use crate::link::Link;
use crate::world::World;

/// Rounds that the healing may take; it takes a few hundred at most.
const HEALING_ROUNDS: u32 = 4_000;
const HEALING_STEP_MS: i64 = 200;
/// Chance of 1,000 a step that an ailing disk is well again.
const RECOVERY: u32 = 80;
/// Chance of 1,000 a step that one side gives a connection up during a partition.
const TIMEOUT: u32 = 50;

impl World {
    /// This step's faults.
    pub(crate) fn faults(&mut self) {
        for agent in 0..self.agents.len() {
            self.agent_faults(agent);
        }
        for at in 0..self.links.len() {
            let partitioned = self.agents[self.links[at].agent].partition_until_ms > self.now_ms;
            let rate = if partitioned { TIMEOUT } else { self.plan.rates.breaks };
            if self.chance(rate) {
                self.agent_side_ends(at);
            }
            if self.chance(rate) {
                self.collector_side_ends(at);
            }
        }
        if self.collector.disk_ails && self.chance(RECOVERY) {
            self.heal_collector_disk();
        }
        if self.chance(self.plan.rates.collector_disk) {
            self.collector.disk_ails = true;
            let disk = &self.collector.disk;
            match self.rng.u32(..2) {
                0 => disk.set_capacity(disk.used_bytes() + self.rng.u64(..2_000)),
                _ => disk.fail_syncs(self.rng.u32(1..=4)),
            }
            self.say(|_| "collector: its disk ails".into());
        }
        if self.chance(self.plan.rates.collector_cut) {
            // At once, or in the middle of whatever comes next.
            if self.rng.bool() {
                self.collector.disk.cut_after(self.rng.u64(..20));
            } else {
                self.collector_dies(true, true);
            }
        }
        if self.chance(self.plan.rates.collector_kill) {
            self.collector_dies(false, true);
        }
    }

    fn agent_faults(&mut self, agent: usize) {
        if self.chance(self.plan.rates.partition) {
            self.coverage.partitions += 1;
            let partition_ms = self.rng.i64(0..60) * self.plan.step_ms;
            self.agents[agent].partition_until_ms = self.now_ms + partition_ms;
            self.say(|world| format!("{}: no network for {partition_ms} ms", world.agents[agent].name));
        }
        if self.chance(self.plan.rates.clock_step) {
            self.coverage.clock_steps += 1;
            self.agents[agent].clock_skew_ms += self.rng.i64(-40_000..=40_000);
            self.say(|world| {
                format!("{}: clock error {} ms", world.agents[agent].name, world.agents[agent].clock_skew_ms)
            });
        }
        if self.agents[agent].disk_ails && self.chance(RECOVERY) {
            self.heal_agent_disk(agent);
        }
        if self.chance(self.plan.rates.agent_disk) {
            self.agents[agent].disk_ails = true;
            let disk = &self.agents[agent].disk;
            match self.rng.u32(..2) {
                0 => disk.set_capacity(disk.used_bytes() + self.rng.u64(..500)),
                _ => disk.fail_syncs(self.rng.u32(1..=4)),
            }
            self.say(|world| format!("{}: its disk ails", world.agents[agent].name));
        }
        if self.chance(self.plan.rates.agent_cut) {
            if self.rng.bool() {
                self.agents[agent].disk.cut_after(self.rng.u64(..8));
            } else {
                self.agent_dies(agent, true);
            }
        }
        if self.chance(self.plan.rates.agent_kill) {
            self.agent_dies(agent, false);
        }
        if self.chance(self.plan.rates.agent_stop) {
            self.agent_stops(agent);
        }
        if self.chance(self.plan.rates.agent_wipe) {
            self.agent_dies(agent, true);
            let seed = self.rng.u64(..);
            self.agents[agent].wipe(seed);
            self.say(|world| format!("{}: its data is gone, its clock behind", world.agents[agent].name));
        }
    }

    /// The agent's process dies, of a kill or because the power went.
    pub(crate) fn agent_dies(&mut self, agent: usize, power: bool) {
        if self.agents[agent].process.is_some() {
            self.coverage.agent_deaths += 1;
            self.say(|world| format!("{}: {}", world.agents[agent].name, if power { "power cut" } else { "killed" }));
        }
        self.agents[agent].die(&mut self.coverage);
        if power {
            self.agents[agent].disk.power_cut();
        }
        self.all_agent_sides_end(agent);
    }

    fn agent_stops(&mut self, agent: usize) {
        let Some(process) = &mut self.agents[agent].process else { return };
        let sender = process.lane.sender();
        sender.disconnected();
        // What the disk refuses now dies with the process.
        let kept = sender.spill().is_ok();
        self.coverage.agent_stops += 1;
        self.say(|world| format!("{}: stops, its frames kept: {kept}", world.agents[agent].name));
        self.agents[agent].die(&mut self.coverage);
        self.all_agent_sides_end(agent);
        self.reap_agent(agent);
    }

    fn all_agent_sides_end(&mut self, agent: usize) {
        for at in 0..self.links.len() {
            if self.links[at].agent == agent {
                self.agent_side_ends(at);
            }
        }
    }

    /// The agent gives a connection up, or notices its end: a part of what is under way may still arrive.
    pub(crate) fn agent_side_ends(&mut self, at: usize) {
        let link = &mut self.links[at];
        if !link.agent_side {
            return;
        }
        link.agent_side = false;
        link.up.cut(&mut self.rng);
        let (id, agent) = (link.id, link.agent);
        if let Some(process) = &mut self.agents[agent].process {
            process.lane.sender().disconnected();
        }
        self.say(|world| format!("{}: connection {id} ends", world.agents[agent].name));
    }

    fn collector_side_ends(&mut self, at: usize) {
        let Link { collector_side, down, .. } = &mut self.links[at];
        if *collector_side {
            *collector_side = false;
            down.cut(&mut self.rng);
        }
    }

    /// The collector's process dies; `lose` says that what it sent last may be lost too.
    pub(crate) fn collector_dies(&mut self, power: bool, lose: bool) {
        if self.collector.process.take().is_some() {
            self.coverage.collector_deaths += 1;
            self.say(|_| format!("collector: {}", if power { "power cut" } else { "killed" }));
        }
        if power {
            self.collector.disk.power_cut();
        }
        self.collector.down_until_ms = self.now_ms + self.rng.i64(0..10) * self.plan.step_ms;
        for link in &mut self.links {
            link.collector_side = false;
            if lose {
                link.down.cut(&mut self.rng);
            }
        }
    }

    fn heal_agent_disk(&mut self, agent: usize) {
        let agent = &mut self.agents[agent];
        agent.disk_ails = false;
        agent.disk.set_capacity(u64::MAX);
        agent.disk.fail_syncs(0);
    }

    fn heal_collector_disk(&mut self) {
        self.collector.disk_ails = false;
        self.collector.disk.set_capacity(u64::MAX);
        self.collector.disk.fail_syncs(0);
    }

    /// Room, power and network for all, until nothing waits any more; then the lanes must work as on the first day.
    pub(crate) fn heal(&mut self) -> Result<(), String> {
        self.say(|_| "all is healed".into());
        self.reap_collector();
        self.heal_collector_disk();
        self.collector.disk.cut_after(u64::MAX);
        self.plan.delay_ms = HEALING_STEP_MS / 4;
        self.plan.rates.cut_after_ack = 0;
        for agent in 0..self.agents.len() {
            self.reap_agent(agent);
            self.heal_agent_disk(agent);
            self.agents[agent].disk.cut_after(u64::MAX);
            self.agents[agent].partition_until_ms = 0;
        }
        self.drain()?;
        let last: Vec<usize> = self.agents.iter().map(|agent| agent.ticks.len()).collect();
        let dropped: Vec<u64> = self.agents.iter_mut().map(|agent| agent.dropped()).collect();
        for agent in 0..self.agents.len() {
            for group in 0..self.plan.groups as u16 {
                self.tick(agent, group)?;
            }
        }
        self.drain()?;
        for (agent, (last, dropped)) in self.agents.iter_mut().zip(last.into_iter().zip(dropped)) {
            if agent.dropped() > dropped {
                return Err(format!("{}: a healthy lane drops frames", agent.name));
            }
            // Nothing waits and nothing was dropped, so they were acknowledged, one way or the other.
            agent.ticks[last..].iter_mut().for_each(|tick| tick.acked = true);
        }
        if self.rng.bool() {
            self.collector_dies(true, true);
            self.start_collector()?;
        }
        if let Some(process) = self.collector.process.as_mut().filter(|_| self.rng.u32(..3) == 0) {
            process.maintain(self.now_ms, true);
            process.run_seal(&mut self.coverage);
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), String> {
        for _ in 0..HEALING_ROUNDS {
            self.now_ms += HEALING_STEP_MS;
            if self.collector.process.is_none() {
                self.start_collector()?;
            }
            for agent in 0..self.agents.len() {
                if self.agents[agent].process.is_none() {
                    self.start_agent(agent);
                }
                self.agents[agent].upkeep(self.now_ms);
                self.connect(agent);
                self.transmit(agent);
            }
            self.deliver()?;
            self.commit()?;
            if self.agents.iter_mut().all(crate::agent::Agent::is_drained) {
                return Ok(());
            }
        }
        let stuck: Vec<_> =
            self.agents.iter_mut().filter_map(|agent| (!agent.is_drained()).then(|| &*agent.name)).collect();
        Err(format!("{stuck:?} do not drain in {HEALING_ROUNDS} rounds without faults"))
    }
}
