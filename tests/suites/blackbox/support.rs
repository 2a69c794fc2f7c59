//! What several of these suites need: waiting, gaps, a client that speaks the protocol by hand, and a sender whose
//! values the test chooses.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use pitwatch_agent::events::EventsLane;
use pitwatch_agent::identity::Identity;
use pitwatch_agent::lane::{MetricsLane, Queue as _, Schema};
use pitwatch_agent::link::enroll::enroll;
use pitwatch_agent::link::{self, Lanes, LinkConfig, LinkStats};
use pitwatch_shared::codec::{GroupId, SeriesDef};
use pitwatch_shared::control::{
    self, ALPN, CloseCode, HELLO_MAGIC, Hello, LENGTH_BYTES, ToAgent, VERSIONS, VersionRange, Welcome,
};
use pitwatch_shared::delivery::{Backlog, Frame, NoBacklog, Sender, SenderLimits};
use pitwatch_shared::identity::tls::{self, Credentials, Trust};
use pitwatch_shared::identity::{COLLECTOR_NAME, EnrollToken};
use pitwatch_shared::model::{Labels, METRIC_NAME, Mark, MetricType};
use pitwatch_shared::wire;
use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Agent, Collector};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// An agent whose vitals come ten times a second.
pub(crate) const FAST: &str = "[signals]\ncadence = \"100ms\"\n";

pub(crate) fn unix_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Looks again and again until there is an answer or the time is over.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < end, "in {limit:?} this did not come to be: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a program said, both ways.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A figure of the collector's own `/metrics`, the sum over its labels; 0 if it is not there.
pub(crate) fn figure(api: &Api, name: &str) -> anyhow::Result<f64> {
    let (status, text) = api.get("/metrics", &[])?;
    anyhow::ensure!(status == 200, "HTTP {status}: {text}");
    let text = text.as_str().context("no text")?;
    let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

/// The collector's list entry of an agent.
pub(crate) fn listed(api: &Api, name: &str) -> anyhow::Result<serde_json::Value> {
    let (status, body) = api.get("/api/v1/pitwatch/agents", &[])?;
    anyhow::ensure!(status == 200, "HTTP {status}: {body}");
    let agents = body["data"]["agents"].as_array().context("no agents")?;
    agents.iter().find(|agent| agent["name"] == name).cloned().with_context(|| format!("no agent {name}: {body}"))
}

/// When the agent's vitals were stored, milliseconds, ascending.
pub(crate) fn ticks(api: &Api, agent: &str) -> anyhow::Result<Vec<i64>> {
    let series = api.samples(&format!("node_context_switches_total{{instance={agent:?}}}"), 3600)?;
    anyhow::ensure!(series.len() <= 1, "{} series of one", series.len());
    Ok(series.into_iter().flat_map(|(_, samples)| samples).map(|(ts_ms, _)| ts_ms).collect())
}

/// Waits until vitals of the agent are stored that are not older than `since_ms`.
pub(crate) fn wait_for_tick(api: &Api, agent: &str, since_ms: i64, limit: Duration) -> anyhow::Result<i64> {
    let what = format!("a sample of {agent} not older than {since_ms}");
    wait_for(&what, limit, || ticks(api, agent).ok()?.last().copied().filter(|last_ms| *last_ms >= since_ms))
}

/// The largest step between timestamps, with where it begins.
pub(crate) fn widest_gap(ticks: &[i64]) -> (i64, i64) {
    ticks.windows(2).map(|pair| (pair[1] - pair[0], pair[0])).max().unwrap_or((0, 0))
}

/// Fails unless the vitals come without a gap, each once, and the collector missed no number.
pub(crate) fn assert_whole(api: &Api, agent: &str, gap_max_ms: i64) -> anyhow::Result<()> {
    let ticks = ticks(api, agent)?;
    anyhow::ensure!(ticks.len() > 2, "only {} ticks of {agent}", ticks.len());
    anyhow::ensure!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "timestamps do not grow: {ticks:?}");
    let (gap_ms, at_ms) = widest_gap(&ticks);
    let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
    anyhow::ensure!(gap_ms <= gap_max_ms, "{agent}: a gap of {gap_ms} ms after {at_ms}, in {first}..{last}");
    let lost = listed(api, agent)?["lost_frames"].clone();
    anyhow::ensure!(lost == 0, "{agent}: {lost} frames lost");
    Ok(())
}

/// Enrols an identity without a program.
pub(crate) fn enrolled(runtime: &Runtime, collector: &Collector, name: &str) -> anyhow::Result<Identity> {
    let token: EnrollToken = collector.enroll_token()?.parse()?;
    Ok(runtime.block_on(enroll(&collector.agents.to_string(), &token, &name.parse()?))?)
}

pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// A collector and a real agent, both up, the agent's first samples stored.
pub(crate) fn pair(dir: &Path, name: &str, config: &str) -> anyhow::Result<(Collector, Agent)> {
    let collector = Collector::start(&dir.join("collector"), "", "")?;
    let agent = Agent::start(&dir.join("agent"), name, &collector, config)?;
    wait_for_tick(&collector.api()?, name, 0, Duration::from_secs(20))?;
    Ok((collector, agent))
}

/// A connection whose bytes the test writes.
pub(crate) struct Raw {
    runtime: Runtime,
    _endpoint: Endpoint,
    connection: Connection,
    control: SendStream,
    answers: RecvStream,
    lane: Option<SendStream>,
}

impl Raw {
    /// Connects and opens the control stream.
    pub(crate) fn connect(to: SocketAddr, trust: Trust, credentials: Option<Credentials>) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let tls = tls::agent_config(trust, credentials, ALPN)?;
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let (endpoint, connection) = runtime.block_on(async {
            let mut endpoint = Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into())?;
            endpoint.set_default_client_config(config);
            let connection = endpoint.connect(to, COLLECTOR_NAME)?.await?;
            anyhow::Ok((endpoint, connection))
        })?;
        let (control, answers) = runtime.block_on(connection.open_bi())?;
        Ok(Self { runtime, _endpoint: endpoint, connection, control, answers, lane: None })
    }

    /// As the enrolled agent, greeted.
    pub(crate) fn greeted(to: SocketAddr, identity: &Identity) -> anyhow::Result<(Self, Welcome)> {
        let mut raw = Self::connect(to, Trust::Authority(identity.authority()), Some(identity.credentials()))?;
        let welcome = raw.hello(VERSIONS)?;
        Ok((raw, welcome))
    }

    pub(crate) fn hello(&mut self, versions: VersionRange) -> anyhow::Result<Welcome> {
        let hello = Hello {
            magic: HELLO_MAGIC,
            versions,
            software: "by hand".to_owned(),
            clock_ms: unix_ms(),
            labels: Vec::new(),
        };
        self.control(&control::framed(&hello)?)?;
        self.message()
    }

    pub(crate) fn control(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.runtime.block_on(self.control.write_all(bytes))?)
    }

    pub(crate) fn message<T: wire::Message>(&mut self) -> anyhow::Result<T> {
        let answers = &mut self.answers;
        self.runtime.block_on(async {
            let mut length = [0; LENGTH_BYTES];
            answers.read_exact(&mut length).await?;
            let mut bytes = vec![0; control::message_length(length)?];
            answers.read_exact(&mut bytes).await?;
            Ok(wire::decode(&bytes)?)
        })
    }

    /// Opens a lane's stream with its byte.
    pub(crate) fn open_lane(&mut self, byte: u8) -> anyhow::Result<()> {
        let mut stream = self.runtime.block_on(self.connection.open_uni())?;
        self.runtime.block_on(stream.write_all(&[byte]))?;
        self.lane = Some(stream);
        Ok(())
    }

    /// Writes on the lane's stream; a connection that is closed meanwhile is the collector's answer, not an error.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let lane = self.lane.as_mut().expect("a lane is open");
        let _ = self.runtime.block_on(lane.write_all(bytes));
    }

    /// Ends the lane's stream.
    pub(crate) fn finish(&mut self) {
        let _ = self.lane.as_mut().expect("a lane is open").finish();
    }

    /// Waits for an ack of `mark` or later.
    pub(crate) fn acked(&mut self, mark: Mark) -> anyhow::Result<()> {
        loop {
            if let ToAgent::Ack { epoch, seq, .. } = self.message()?
                && (Mark { epoch, seq }) >= mark
            {
                return Ok(());
            }
        }
    }

    /// Waits until the collector closes the connection; with what code and words.
    pub(crate) fn closed(&self) -> anyhow::Result<(Option<CloseCode>, String)> {
        let end = async { tokio::time::timeout(Duration::from_secs(10), self.connection.closed()).await };
        match self.runtime.block_on(end).context("the connection is not closed")? {
            ConnectionError::ApplicationClosed(close) => {
                let code = CloseCode::from_number(close.error_code.into_inner());
                Ok((code, String::from_utf8_lossy(&close.reason).into_owned()))
            }
            other => anyhow::bail!("closed without a word: {other}"),
        }
    }
}

/// No disk, but it remembers the last mark that the collector acknowledged.
#[derive(Debug, Clone, Default)]
struct Acks(Arc<Mutex<Option<Mark>>>);

impl Backlog for Acks {
    fn append(&mut self, frames: &[Frame]) -> std::io::Result<()> {
        NoBacklog.append(frames)
    }
    fn after(&mut self, _mark: Option<Mark>) -> std::io::Result<Option<Frame>> {
        Ok(None)
    }
    fn release(&mut self, mark: Mark) {
        let mut last = self.0.lock().unwrap();
        *last = (*last).max(Some(mark));
    }
    fn expire(&mut self, _oldest_ms: i64) {}
    fn last(&self) -> Option<Mark> {
        None
    }
    fn bytes(&self) -> u64 {
        0
    }
    fn dropped(&self) -> u64 {
        0
    }
}

struct Fixed(Vec<SeriesDef>);

impl Schema for Fixed {
    fn groups(&self) -> Vec<GroupId> {
        vec![0]
    }
    fn live(&self, _group: GroupId) -> Vec<SeriesDef> {
        self.0.clone()
    }
}

/// The agent's own delivery with series and values of the test.
pub(crate) struct Pusher {
    lanes: Arc<Lanes<Acks>>,
    acks: Acks,
    schema: Fixed,
    stop: watch::Sender<bool>,
    _runtime: Runtime,
}

impl Pusher {
    /// Enrols as `name` and keeps connected; the series are `metric{series="0"}` and so on.
    pub(crate) fn start(
        dir: &Path,
        name: &str,
        collector: &Collector,
        metric: &str,
        series: usize,
    ) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let identity = enrolled(&runtime, collector, name)?;
        let acks = Acks::default();
        let epoch = unix_ms().unsigned_abs() / 1000;
        let sender = Sender::new(epoch, SenderLimits::default(), acks.clone());
        let events = Sender::new(epoch, SenderLimits::default(), Acks::default());
        let lanes = Arc::new(Lanes::new(MetricsLane::new(sender), EventsLane::new(events)));
        let config = LinkConfig {
            collector: collector.agents.to_string(),
            identity_dir: dir.to_owned(),
            labels: Vec::new(),
            central: Arc::default(),
        };
        let (stop, stopped) = watch::channel(false);
        let shared = lanes.clone();
        runtime.spawn(async move { link::run(&config, identity, &shared, &LinkStats::default(), stopped).await });
        let define = |at: usize| {
            let labels =
                Labels::new([(METRIC_NAME.to_owned(), metric.to_owned()), ("series".to_owned(), at.to_string())]);
            SeriesDef { slot: at as u32, kind: MetricType::Gauge, labels: labels.unwrap() }
        };
        let schema = Fixed((0..series).map(define).collect());
        Ok(Self { lanes, acks, schema, stop, _runtime: runtime })
    }

    pub(crate) fn tick(&self, ts_ms: i64, values: &[f64]) -> anyhow::Result<()> {
        self.lanes.metrics.lock().tick(ts_ms, 0, None, values, &self.schema)?;
        self.lanes.metrics.queued.notify_one();
        Ok(())
    }

    /// The last mark that was acknowledged.
    pub(crate) fn acked(&self) -> Option<Mark> {
        *self.acks.0.lock().unwrap()
    }

    /// Everything was acknowledged; nothing was dropped.
    pub(crate) fn drained(&self) -> bool {
        let mut lane = self.lanes.metrics.lock();
        lane.sender().is_drained() && lane.sender().stats().dropped() == 0
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

/// A gauge `test_level` that is told ten times a second.
pub(crate) struct Level {
    bits: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Level {
    pub(crate) fn start(dir: &Path, name: &str, collector: &Collector) -> anyhow::Result<Self> {
        let pusher = Pusher::start(dir, name, collector, "test_level", 1)?;
        let (bits, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (read, stopped) = (bits.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let _ = pusher.tick(unix_ms(), &[f64::from_bits(read.load(Ordering::Relaxed))]);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Ok(Self { bits, stop, thread: Some(thread) })
    }

    pub(crate) fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Ordering::Relaxed);
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
