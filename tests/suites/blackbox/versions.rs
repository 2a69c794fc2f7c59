//! An older agent at a newer collector, and a newer agent at an older collector: over real connections, each in version 1
//! of the control messages (whose bytes are frozen in shared/tests/golden).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pitwatch_agent::identity::Request;
use pitwatch_collector::authority::Authority;
use pitwatch_shared::codec::{Decoded, Decoder, Encoder, SeriesDef};
use pitwatch_shared::control::{
    self, ALPN, ALPN_ENROLL, LENGTH_BYTES, LaneResume, ToAgent, ToCollector, VersionRange, Welcome,
};
use pitwatch_shared::delivery::{FrameReader, FrameWriter};
use pitwatch_shared::identity::tls::{self, Trust};
use pitwatch_shared::model::{Labels, METRIC_NAME, Mark, MetricType};
use pitwatch_tests::programs::{Agent, Collector};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, Incoming, RecvStream, ServerConfig};

use crate::support::{Raw, enrolled, runtime, unix_ms, wait_for};

const VERSION_1: VersionRange = VersionRange { min: 1, max: 1 };
const EPOCH: u64 = 5;
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// A stream's frames from this number on.
fn stream(first: u64, payloads: &[Vec<u8>]) -> Vec<u8> {
    let (mut writer, mut bytes) = (FrameWriter::new(), Vec::new());
    for (seq, payload) in (first..).zip(payloads) {
        writer.write(Mark { epoch: EPOCH, seq }, payload, &mut bytes);
    }
    bytes
}

#[test]
fn an_agent_of_version_1_goes_on_working() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let collector = Collector::start(&dir.path().join("collector"), "", "")?;
    let runtime = runtime()?;
    let identity = enrolled(&runtime, &collector, "old-1")?;
    let connect =
        || Raw::connect(collector.agents, Trust::Authority(identity.authority()), Some(identity.credentials()));
    let labels = Labels::new([(METRIC_NAME, "by_an_old_agent")])?;
    let series = [SeriesDef { slot: 0, kind: MetricType::Gauge, labels }];
    let (mut encoder, mut schema) = (Encoder::new(), Vec::new());
    encoder.schema(&mut schema, true, 0, &[], &series)?;
    let mut tick = |value: f64| {
        let mut payload = Vec::new();
        encoder.tick(&mut payload, 0, unix_ms(), &[value]).map(|()| payload)
    };

    let mut old = connect()?;
    let welcome = old.hello(VERSION_1)?;
    anyhow::ensure!((welcome.version, welcome.lanes[0].durable) == (1, None), "{welcome:?}");
    old.open_lane(0)?;
    old.send(&stream(1, &[schema, tick(1.5)?]));
    // Nothing else comes before the ack: an old agent knows no settings.
    let ack = |seq| ToAgent::Ack { lane: 0, epoch: EPOCH, seq };
    let mut said = old.message::<ToAgent>()?;
    if said == ack(1) {
        said = old.message()?;
    }
    anyhow::ensure!(said == ack(2), "{said:?}");
    let request = Request::new()?;
    old.control(&control::framed(&ToCollector::Renew { csr: request.csr.clone() })?)?;
    let renewed = old.message::<ToAgent>()?;
    anyhow::ensure!(matches!(renewed, ToAgent::Renewed(_)), "{renewed:?}");
    drop(old);

    let mut again = connect()?;
    let welcome = again.hello(VERSION_1)?;
    anyhow::ensure!(welcome.lanes[0].durable == Some((EPOCH, 2)) && welcome.lanes[0].chain_known, "{welcome:?}");
    again.open_lane(0)?;
    again.send(&stream(3, &[tick(2.5)?]));
    again.acked(Mark { epoch: EPOCH, seq: 3 })?;
    let api = collector.api()?;
    anyhow::ensure!(api.value("by_an_old_agent{instance=\"old-1\"}")? == Some(2.5));
    anyhow::ensure!(api.value("count_over_time(by_an_old_agent[1m])")? == Some(2.0));
    Ok(())
}

/// What came to a collector of version 1.
#[derive(Debug, Default)]
struct Seen {
    ticks: AtomicU64,
    other_lanes: AtomicU64,
}

/// A collector that speaks version 1 and keeps metrics only.
struct OldCollector {
    endpoint: Endpoint,
    seen: Arc<Seen>,
    runtime: tokio::runtime::Runtime,
}

impl OldCollector {
    /// Listens, and writes the agent's identity of its own authority into `data_dir`.
    fn start(dir: &Path, name: &str, data_dir: &Path) -> anyhow::Result<Self> {
        let now_secs = unix_ms() / 1000;
        std::fs::create_dir_all(dir)?;
        std::fs::create_dir_all(data_dir)?;
        let authority = Authority::open(dir, now_secs)?;
        let own = authority.collector_credentials(now_secs)?;
        let tls = tls::collector_config(authority.certificate(), own, ALPN, ALPN_ENROLL)?;
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        let runtime = runtime()?;
        let endpoint = {
            let _inside = runtime.enter();
            Endpoint::server(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?
        };
        let request = Request::new()?;
        let name = name.parse()?;
        let issued = authority.issue(&request.csr, &name, LIFE, now_secs)?;
        request.granted(&name, &endpoint.local_addr()?.to_string(), issued).save(data_dir)?;
        let seen = Arc::new(Seen::default());
        let (accepting, shared) = (endpoint.clone(), seen.clone());
        runtime.spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                tokio::spawn(serve(incoming, shared.clone()));
            }
        });
        Ok(Self { endpoint, seen, runtime })
    }
}

impl Drop for OldCollector {
    fn drop(&mut self) {
        self.endpoint.close(1_u32.into(), b"stopping");
        self.runtime.block_on(self.endpoint.wait_idle());
    }
}

async fn serve(incoming: Incoming, seen: Arc<Seen>) -> anyhow::Result<()> {
    let connection = incoming.await?;
    let (mut answers, mut control) = connection.accept_bi().await?;
    let mut length = [0; LENGTH_BYTES];
    control.read_exact(&mut length).await?;
    let mut bytes = vec![0; control::message_length(length)?];
    control.read_exact(&mut bytes).await?;
    let hello = control::decode_hello(&bytes)?;
    anyhow::ensure!(hello.versions.common(VERSION_1) == Some(1), "{hello:?}");
    let lanes = vec![LaneResume { lane: 0, durable: None, chain_known: false }];
    let welcome = Welcome { version: 1, clock_ms: unix_ms(), lanes, reconnect_spread_ms: 100 };
    answers.write_all(&control::framed(&welcome)?).await?;
    loop {
        let mut lane = connection.accept_uni().await?;
        let mut which = [0];
        lane.read_exact(&mut which).await?;
        if which != [0] {
            seen.other_lanes.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        metrics(&mut lane, &mut answers, &seen).await?;
    }
}

async fn metrics(lane: &mut RecvStream, answers: &mut quinn::SendStream, seen: &Seen) -> anyhow::Result<()> {
    let (mut reader, mut decoder, mut decoded) = (FrameReader::new(), Decoder::new(), Decoded::default());
    while let Some(chunk) = lane.read_chunk(64 * 1024, true).await? {
        reader.extend(&chunk.bytes);
        while let Some((mark, payload)) = reader.next_frame()? {
            decoder.decode(&payload, &mut decoded)?;
            seen.ticks.fetch_add(u64::from(matches!(decoded, Decoded::Tick { .. })), Ordering::Relaxed);
            let ack = ToAgent::Ack { lane: 0, epoch: mark.epoch, seq: mark.seq };
            answers.write_all(&control::framed(&ack)?).await?;
        }
    }
    Ok(())
}

#[test]
fn a_collector_of_version_1_is_served_and_events_wait() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("agent");
    let old = OldCollector::start(&dir.path().join("old"), "new-1", &home.join("data"))?;
    // What the last boot left: that this is another one is an event, which this collector does not take.
    std::fs::write(home.join("data/boot"), "earlier 1700000000000 running 99999999\n")?;
    let mut agent = Agent::configure(&home, "new-1", old.endpoint.local_addr()?, "")?;
    agent.restart()?;
    wait_for("ticks at the old collector", Duration::from_secs(30), || {
        (old.seen.ticks.load(Ordering::Relaxed) >= 10).then_some(())
    })?;
    let log = agent.process().log();
    anyhow::ensure!(log.contains("the host was restarted without a stop"), "{log}");
    anyhow::ensure!(old.seen.other_lanes.load(Ordering::Relaxed) == 0, "a lane that was not named was opened");
    anyhow::ensure!(agent.process().stop()?, "it stops well: {}", agent.process().log());
    Ok(())
}
