//! A run: time, the agents, the collector and the network between them, one step after another.

use fastrand::Rng;
use pitwatch_agent::spool::SEGMENT_BYTES;
use pitwatch_shared::delivery::Backlog;
use pitwatch_shared::model::Lane;

use crate::agent::Agent;
use crate::collector::{Ack, Arrived, Collector};
use crate::coverage::Coverage;
use crate::link::{Down, Link, Up};
use crate::plan::Plan;

const BEGIN_MS: i64 = 1_700_000_000_000;
/// Pieces that one send is cut into at most.
const PIECES_MAX: usize = 3;

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) now_ms: i64,
    pub(crate) agents: Vec<Agent>,
    pub(crate) collector: Collector,
    pub(crate) links: Vec<Link>,
    next_link: u64,
    pub(crate) coverage: Coverage,
    loud: bool,
}

impl World {
    pub(crate) fn new(seed: u64, loud: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::new(&mut rng);
        let metrics = (0..plan.agents).map(|host| (host, Lane::Metrics));
        let lanes = metrics.chain((0..plan.with_events).map(|host| (host, Lane::Events)));
        let mut world = Self {
            agents: lanes.enumerate().map(|(index, (host, lane))| Agent::new(index, host, lane, seed, &plan)).collect(),
            collector: Collector::new(!seed),
            now_ms: BEGIN_MS,
            links: Vec::new(),
            next_link: 0,
            coverage: Coverage::default(),
            rng,
            plan,
            loud,
        };
        world.say(|world| format!("{:#?}", world.plan));
        world
    }

    pub(crate) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.plan.steps {
            self.now_ms += self.rng.i64(1..=2 * self.plan.step_ms);
            self.faults();
            for agent in 0..self.agents.len() {
                self.agent_acts(agent)?;
            }
            self.deliver()?;
            self.collector_acts()?;
        }
        self.heal()?;
        self.check()
    }

    /// Prints an event, if someone watches.
    pub(crate) fn say(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.loud {
            println!("{:>9} {}", self.now_ms - BEGIN_MS, text(self));
        }
    }

    /// Whether something with this chance of 1,000 happens.
    pub(crate) fn chance(&mut self, of_1000: u32) -> bool {
        of_1000 > 0 && self.rng.u32(..1_000) < of_1000
    }

    fn agent_acts(&mut self, agent: usize) -> Result<(), String> {
        if self.agents[agent].process.is_none() && self.chance(300) {
            self.start_agent(agent);
        }
        for group in 0..self.plan.groups as u16 {
            if self.chance(400) {
                if self.rng.u32(..100) < self.plan.schema_change {
                    self.agents[agent].tables.change(group, &mut self.rng);
                }
                self.tick(agent, group)?;
            }
        }
        if self.chance(500) {
            self.agents[agent].upkeep(self.now_ms);
            self.coverage.spools_of_segments += u64::from(self.agents[agent].spool_bytes() > SEGMENT_BYTES);
        }
        if self.agents[agent].partition_until_ms <= self.now_ms && self.chance(400) {
            self.connect(agent);
        }
        self.transmit(agent);
        self.reap_agent(agent);
        Ok(())
    }

    pub(crate) fn start_agent(&mut self, agent: usize) {
        if self.agents[agent].is_dark() {
            self.agents[agent].disk.power_cut();
        }
        let started = self.agents[agent].start(&self.plan, &mut self.coverage);
        self.say(|world| {
            let name = &world.agents[agent].name;
            if started { format!("{name}: starts") } else { format!("{name}: its disk does not let it start") }
        });
    }

    pub(crate) fn tick(&mut self, agent: usize, group: u16) -> Result<(), String> {
        let before = self.agents[agent].ticks.len();
        self.agents[agent].tick(self.now_ms, group)?;
        let ticked = (self.agents[agent].ticks.len() - before) as u64;
        self.coverage.ticks += ticked;
        if self.agents[agent].lane == Lane::Events {
            self.coverage.events += ticked;
        }
        if ticked > 0 {
            self.say(|world| {
                let agent = &world.agents[agent];
                format!("{}: tick {before} of group {group} is {:?}", agent.name, agent.last_mark())
            });
        }
        Ok(())
    }

    /// Opens a connection, if the agent has none.
    pub(crate) fn connect(&mut self, agent: usize) {
        let has_one = self.links.iter().any(|link| link.agent == agent && link.agent_side);
        if has_one || self.agents[agent].process.is_none() {
            return;
        }
        self.next_link += 1;
        let mut link = Link::new(self.next_link, agent);
        let due_ms = self.due_ms();
        link.up.send(due_ms, Up::Connect);
        let due_ms = self.due_ms();
        link.up.send(due_ms, Up::Hello);
        self.links.push(link);
        self.say(|world| format!("{}: opens connection {}", world.agents[agent].name, world.next_link));
    }

    fn due_ms(&mut self) -> i64 {
        self.now_ms + self.rng.i64(0..=self.plan.delay_ms)
    }

    /// Puts what the window lets out onto the agent's connection.
    pub(crate) fn transmit(&mut self, agent: usize) {
        let Some(at) = self.links.iter().position(|link| link.agent == agent && link.agent_side && link.welcomed)
        else {
            return;
        };
        let Some(process) = &mut self.agents[agent].process else { return };
        let (mut bytes, mut marks) = (Vec::new(), Vec::new());
        let link = &mut self.links[at];
        while let Some(frame) = process.lane.sender().transmit() {
            link.writer.write(frame.mark, &frame.payload, &mut bytes);
            self.coverage.resumed_mid_chain += u64::from(!link.sent_any && !frame.begins_chain);
            self.coverage.new_chains += u64::from(frame.begins_chain && frame.mark.seq > 1);
            link.sent_any = true;
            link.sent.push_back(frame.mark);
            marks.push(frame.mark);
        }
        let spooled = process.lane.sender().backlog().last();
        self.coverage.from_spool += marks.iter().filter(|mark| Some(**mark) <= spooled).count() as u64;
        if let (Some(first), Some(last)) = (marks.first(), marks.last()) {
            let id = self.links[at].id;
            self.say(|world| format!("{}: sends {first:?} to {last:?} on {id}", world.agents[agent].name));
        }
        for _ in 0..self.rng.usize(..PIECES_MAX) {
            let piece = bytes.drain(..self.rng.usize(..=bytes.len())).collect();
            let due_ms = self.due_ms();
            self.links[at].up.send(due_ms, Up::Bytes(piece));
        }
        if !bytes.is_empty() {
            let due_ms = self.due_ms();
            self.links[at].up.send(due_ms, Up::Bytes(bytes));
        }
    }

    /// Ends an agent whose power is gone.
    pub(crate) fn reap_agent(&mut self, agent: usize) {
        if self.agents[agent].is_dark() {
            self.agent_dies(agent, true);
        }
    }

    /// Everything that has arrived by now, both ways.
    pub(crate) fn deliver(&mut self) -> Result<(), String> {
        for at in 0..self.links.len() {
            if self.agents[self.links[at].agent].partition_until_ms > self.now_ms {
                continue;
            }
            while let Some(message) = self.links[at].up.take(self.now_ms) {
                self.hear_up(at, message)?;
            }
            while self.links[at].agent_side
                && let Some(message) = self.links[at].down.take(self.now_ms)
            {
                self.hear_down(at, message)?;
            }
            let link = &mut self.links[at];
            if link.replaced && self.rng.bool() {
                link.collector_side = false;
            }
            if link.agent_side && !link.collector_side && link.down.is_empty() && self.chance(500) {
                self.agent_side_ends(at);
            }
        }
        self.links.retain(|link| !link.is_over());
        (0..self.agents.len()).for_each(|agent| self.reap_agent(agent));
        self.reap_collector();
        Ok(())
    }

    fn hear_up(&mut self, at: usize, message: Up) -> Result<(), String> {
        let link = &mut self.links[at];
        let Some(process) = self.collector.process.as_mut().filter(|_| link.collector_side) else {
            link.collector_side = false;
            return Ok(());
        };
        let agent = link.agent;
        let (source, lane) = (&self.agents[agent].source, self.agents[agent].lane);
        match message {
            Up::Connect => {
                let session = process.admit();
                link.session = Some(session);
                self.replace(agent, session);
            }
            Up::Hello => {
                let Some(session) = link.session else { return Ok(()) };
                let resume = process.open(agent, source, lane, session);
                let due_ms = self.due_ms();
                let link = &mut self.links[at];
                link.down.send(due_ms, Down::Welcome(resume));
                let id = link.id;
                self.say(|_| format!("collector: connection {id} is session {session}, {resume:?}"));
            }
            Up::Bytes(bytes) => {
                link.reader.extend(&bytes);
                let Some(session) = link.session else { return Ok(()) };
                let (id, source) = (link.id, source.clone());
                while let Some((mark, payload)) = self.links[at].reader.next_frame().map_err(|e| e.to_string())? {
                    self.say(|_| format!("collector: {mark:?} arrives on {id}"));
                    let Some(process) = &mut self.collector.process else { break };
                    let frame = Arrived { agent, source: source.clone(), lane, session, mark, payload };
                    let acks = process.frame(frame, &mut self.coverage)?;
                    self.acknowledge(&acks);
                }
            }
        }
        Ok(())
    }

    /// A newer connection of an agent is there: older ones are closed, a little later.
    fn replace(&mut self, agent: usize, session: u64) {
        for link in self.links.iter_mut().filter(|link| link.agent == agent) {
            link.replaced |= link.session.is_some_and(|of| of < session);
        }
    }

    fn hear_down(&mut self, at: usize, message: Down) -> Result<(), String> {
        let link = &mut self.links[at];
        let (id, agent) = (link.id, &mut self.agents[link.agent]);
        match message {
            Down::Welcome(resume) => {
                link.welcomed = true;
                let renumbered = agent.connected(resume.durable, resume.chain_known);
                agent.links += 1;
                self.coverage.reconnects += u64::from(agent.links > 1);
                self.coverage.renumbered += u64::from(renumbered);
                let name = agent.name.clone();
                self.say(|_| format!("{name}: connection {id} is up, {resume:?}"));
            }
            Down::Ack(mark) => {
                let ahead = link.sent.back().is_none_or(|last| mark > *last);
                self.coverage.acks_ahead += u64::from(ahead);
                self.coverage.acks += 1;
                let name = agent.name.clone();
                let acked = agent.process.as_mut().map_or(Ok(()), |process| process.lane.sender().acked(mark));
                if let Err(error) = acked {
                    // Frames of a life before the wipe became durable only now: the agent reconnects to hear of it.
                    if !agent.was_wiped() {
                        return Err(format!("{name}: {error}"));
                    }
                    self.agent_side_ends(at);
                    return Ok(());
                }
                let up_to = link.sent.iter().take_while(|sent| **sent <= mark).count();
                agent.acknowledged(mark, link.sent.drain(..up_to));
                self.say(|_| format!("{name}: ack for {mark:?} on {id}"));
            }
        }
        Ok(())
    }

    /// Sends acks over the agents' newest connections; now and then the collector's power goes right after.
    pub(crate) fn acknowledge(&mut self, acks: &[Ack]) {
        let Some(process) = &self.collector.process else { return };
        let mut sent = 0;
        for (source, lane, mark) in acks {
            let of = |agent: &Agent| agent.source == *source && agent.lane == *lane;
            let Some(agent) = self.agents.iter().position(of) else { continue };
            let session = process.current.get(&agent);
            let due_ms = self.now_ms + self.rng.i64(0..=self.plan.delay_ms);
            let mut links = self.links.iter_mut();
            let link =
                links.find(|link| link.agent == agent && link.collector_side && link.session.as_ref() == session);
            if let Some(link) = link {
                link.down.send(due_ms, Down::Ack(*mark));
                sent += 1;
            }
        }
        if sent > 0 {
            self.say(|_| format!("collector: acknowledges {acks:?}"));
            if self.chance(self.plan.rates.cut_after_ack) {
                self.coverage.cuts_after_ack += 1;
                // The acks are on their way, and nothing takes them back.
                self.collector_dies(true, false);
            }
        }
    }

    fn collector_acts(&mut self) -> Result<(), String> {
        if self.collector.process.is_none() && self.now_ms >= self.collector.down_until_ms && self.chance(400) {
            if self.chance(200) {
                self.collector.disk.cut_after(self.rng.u64(..12));
            }
            self.start_collector()?;
        }
        let (commit, seal, run) =
            (self.rng.u32(..100) < self.plan.commit, self.rng.u32(..100), self.rng.u32(..100) < 30);
        if let Some(process) = &mut self.collector.process {
            if seal < 10 {
                process.maintain(self.now_ms, seal == 0);
            }
            if run {
                process.run_seal(&mut self.coverage);
            }
        }
        self.reap_collector();
        if commit {
            self.commit()?;
        }
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Result<(), String> {
        let Some(process) = self.collector.process.as_mut().filter(|process| process.is_dirty()) else {
            return Ok(());
        };
        let acks = process.commit(&mut self.coverage)?;
        self.acknowledge(&acks);
        self.reap_collector();
        Ok(())
    }

    /// Starts the collector; what it ever acknowledged must be there.
    pub(crate) fn start_collector(&mut self) -> Result<(), String> {
        if self.collector.is_dark() {
            self.collector.disk.power_cut();
        }
        let started = self.collector.start(&self.plan.history, &mut self.coverage)?;
        self.say(|_| format!("collector: {}", if started { "starts" } else { "its disk does not let it start" }));
        self.reap_collector();
        let Some(process) = &mut self.collector.process else { return Ok(()) };
        for agent in &self.agents {
            let durable = process.durable(&agent.source, agent.lane);
            if durable < agent.acked {
                let name = &agent.name;
                return Err(format!(
                    "{name}: {:?} was acknowledged, after a restart there is {durable:?}",
                    agent.acked
                ));
            }
        }
        Ok(())
    }

    /// Ends the collector if its power is gone.
    pub(crate) fn reap_collector(&mut self) {
        if self.collector.is_dark() {
            self.collector_dies(true, true);
        }
    }
}
