//! The fleet simulator: many agents in one process, each with its own certificate, connection, lane and link: the
//! agent's own code over real QUIC; only the signals are made up.
//!
//! - [`identities`]: certificates for all of them, put into a collector's state before it starts.
//! - [`signals`]: the series that they send: synthetic, or a recording of a real host.
//! - `hosts`: a made-up host for people to look at.
//! - [`agent`]: one of them.
//! - [`trial`]: a collector and a fleet at work: what it costs, and how all come back.
//! - [`figures`]: percentiles and tables.

pub mod agent;
pub mod figures;
mod hosts;
pub mod identities;
pub mod signals;
pub mod trial;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pitwatch_agent::identity::Identity;
use pitwatch_agent::link::LinkConfig;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use self::agent::{Agent, Shared};
use self::signals::Pattern;

/// Agents that begin each second, so that the first handshakes measure a rollout and not a stampede.
const JOINS_PER_SEC: u64 = 1_000;
/// Threads of the fleet's runtime.
const WORKERS: usize = 2;
/// Ports below those that systems give to sockets which ask for any: while a collector is away, none of thousands of
/// agents' sockets may take its port.
const PORTS: std::ops::Range<u16> = 10_000..30_000;
/// Files that a process needs besides one socket an agent.
const OTHER_FILES: u64 = 200;

/// Simulated agents at work; they stop when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    agents: Vec<Arc<Agent>>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

/// What a fleet sent and got back so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// UDP payload bytes sent.
    pub sent_bytes: u64,
    /// UDP payload bytes received.
    pub received_bytes: u64,
    /// Samples put into frames.
    pub samples: u64,
    /// Frames queued.
    pub frames: u64,
    /// Frames acknowledged.
    pub acked: u64,
    /// Frames dropped at a limit.
    pub dropped: u64,
}

impl Fleet {
    /// Starts an agent for each identity; they join over some seconds. `dir` is where renewed identities would go.
    ///
    /// # Errors
    /// No runtime, or too few files may be open.
    pub fn start(
        identities: Vec<Identity>,
        collector: SocketAddr,
        pattern: Pattern,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        Self::start_labelled(identities, collector, pattern, dir, |_| Vec::new())
    }

    /// As [`Fleet::start`]; `labels` gives those of each agent.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub fn start_labelled(
        identities: Vec<Identity>,
        collector: SocketAddr,
        pattern: Pattern,
        dir: &Path,
        labels: impl Fn(usize) -> Vec<(String, String)>,
    ) -> anyhow::Result<Self> {
        allow_files(identities.len() as u64 + OTHER_FILES)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
        let shared = Arc::new(Shared::new(pattern));
        let (stop, stopped) = watch::channel(false);
        let mut agents = Vec::with_capacity(identities.len());
        for (nth, identity) in identities.into_iter().enumerate() {
            let agent = Arc::new(Agent::new(identity.name(), &shared));
            agents.push(agent.clone());
            let config = LinkConfig {
                collector: collector.to_string(),
                identity_dir: dir.to_owned(),
                labels: labels(nth),
                central: Arc::default(),
            };
            let (shared, stopped) = (shared.clone(), stopped.clone());
            let wait = Duration::from_millis(nth as u64 * 1000 / JOINS_PER_SEC);
            runtime.spawn(async move {
                tokio::time::sleep(wait).await;
                agent::run(&agent, &shared, &config, identity, stopped).await;
            });
        }
        Ok(Self { agents, shared, stop, runtime: Some(runtime) })
    }

    /// The agents.
    #[must_use]
    pub fn agents(&self) -> &[Arc<Agent>] {
        &self.agents
    }

    /// Agents with a session.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.agents.iter().filter(|agent| agent.link.connected.load(Ordering::Relaxed)).count()
    }

    /// Waits until every agent had a frame acknowledged since the last outage, or since the start; gives when each
    /// had, ascending, in seconds after `begun`. Fewer than there are agents if the time is over.
    #[must_use]
    pub fn wait_all_back(&self, begun: Instant, limit: Duration) -> Vec<f64> {
        let end = Instant::now() + limit;
        let done = || self.agents.iter().all(|agent| agent.back_at().is_some());
        while !done() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        let backs = self.agents.iter().filter_map(|agent| self.shared.instant(agent.back_at()?));
        let mut secs: Vec<f64> = backs.map(|back| back.saturating_duration_since(begun).as_secs_f64()).collect();
        secs.sort_by(f64::total_cmp);
        secs
    }

    /// An outage begins: nobody counts as back until [`Fleet::collector_is_gone`].
    pub fn outage_begins(&self) {
        self.shared.expect_from_us.store(u64::MAX, Ordering::Relaxed);
        self.agents.iter().for_each(|agent| agent.expect_back());
    }

    /// The collector has ended: who has a frame acknowledged that was queued from now on is back.
    pub fn collector_is_gone(&self) {
        self.shared.expect_from_us.store(self.shared.now_us(), Ordering::Relaxed);
    }

    /// Keeps latencies from now on, or stops keeping them; gives those kept so far, in milliseconds, ascending.
    pub fn keep_latencies(&self, keep: bool) -> Vec<f64> {
        self.shared.keep_latencies.store(keep, Ordering::Relaxed);
        let taken = std::mem::take(&mut *self.shared.latencies_us.lock().unwrap_or_else(PoisonError::into_inner));
        let mut ms: Vec<f64> = taken.into_iter().map(|us| f64::from(us) / 1000.0).collect();
        ms.sort_by(f64::total_cmp);
        ms
    }

    /// What was sent and received so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.agents.iter().fold(Traffic::default(), |sum, agent| {
            let one = agent.traffic();
            Traffic {
                sent_bytes: sum.sent_bytes + one.sent_bytes,
                received_bytes: sum.received_bytes + one.received_bytes,
                samples: sum.samples + one.samples,
                frames: sum.frames + one.frames,
                acked: sum.acked + one.acked,
                dropped: sum.dropped + one.dropped,
            }
        })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// An address on loopback for a collector, free for UDP and TCP, that stays free while it restarts.
///
/// # Errors
/// None is free.
pub fn address() -> anyhow::Result<SocketAddr> {
    for _ in 0..1_000 {
        let address = SocketAddr::from(([127, 0, 0, 1], fastrand::u16(PORTS)));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no port of {PORTS:?} is free")
}

/// Raises this process' limit of open files as far as it may go.
fn allow_files(needed: u64) -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    anyhow::ensure!(
        maximum.is_none_or(|maximum| maximum >= needed),
        "{needed} files are needed, a socket an agent; `ulimit -Hn` allows {maximum:?}"
    );
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the limit of open files")
}
