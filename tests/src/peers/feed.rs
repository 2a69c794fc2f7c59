//! The same samples into each, as fast as it takes them: agents' frames over QUIC, or remote write.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pitwatch_agent::events::EventsLane;
use pitwatch_agent::identity::Identity;
use pitwatch_agent::lane::{MetricsLane, Queue as _};
use pitwatch_agent::link::{self, Lanes, LinkConfig, LinkStats, SharedLane};
use pitwatch_shared::delivery::{Backlog, Frame, Sender, SenderLimits};
use pitwatch_shared::model::{INSTANCE, Mark, is_stale};
use tokio::sync::{Barrier, Notify, watch};

use super::data::Data;
use super::server::{Kind, Server};

/// Frames of one agent that may be under way; more wait.
const FRAMES_AHEAD: usize = 48;
/// Samples of one request of remote write, as Prometheus sends them.
const REQUEST_SAMPLES: usize = 2_000;
/// Connections of remote write; each has hosts of its own.
const WRITERS: usize = 2;
/// After so many ticks the connections wait for one another: Prometheus refuses what is an hour behind others.
const TOGETHER_TICKS: usize = 32;
/// Nothing is recent here, so nothing is too old.
const AGE_MAX_MS: i64 = i64::MAX / 4;
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// Feeds all of `data`; returns once every sample is acknowledged.
///
/// # Errors
/// A refusal.
pub fn feed(server: &mut Server, data: &Arc<Data>, dir: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if server.kind == Kind::Pitwatch {
        let collector = server.agents().context("no collector")?.to_string();
        let identities = server.take_identities();
        runtime.block_on(by_wire(identities, &collector, data, dir))
    } else {
        runtime.block_on(by_remote_write(&server.url(), data))
    }
}

/// Wakes the feeder when frames are acknowledged; keeps nothing.
#[derive(Debug)]
struct Waker(Arc<Notify>);

impl Backlog for Waker {
    fn append(&mut self, _frames: &[Frame]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn after(&mut self, _mark: Option<Mark>) -> io::Result<Option<Frame>> {
        Ok(None)
    }

    fn release(&mut self, _mark: Mark) {
        self.0.notify_one();
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

async fn by_wire(identities: Vec<Identity>, collector: &str, data: &Arc<Data>, dir: &Path) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let mut agents = tokio::task::JoinSet::new();
    for (host, identity) in identities.into_iter().enumerate() {
        let (data, stopped) = (data.clone(), stopped.clone());
        let config = LinkConfig {
            collector: collector.to_owned(),
            identity_dir: dir.to_owned(),
            labels: Vec::new(),
            central: Arc::default(),
        };
        agents.spawn(async move {
            let released = Arc::new(Notify::new());
            let limits = SenderLimits { age_ms: AGE_MAX_MS, ..SenderLimits::default() };
            let sender = || Sender::new(1, limits, Waker(released.clone()));
            let lanes = Lanes::new(MetricsLane::new(sender()), EventsLane::new(sender()));
            let stats = LinkStats::default();
            tokio::select! {
                () = link::run(&config, identity, &lanes, &stats, stopped) => anyhow::bail!("the link of {host} ended"),
                done = play(host, &data, &lanes.metrics, &released) => done,
            }
        });
    }
    while let Some(done) = agents.join_next().await {
        done??;
    }
    let _ = stop.send(true);
    Ok(())
}

async fn play(
    host: usize,
    data: &Data,
    lane: &SharedLane<MetricsLane<Waker>>,
    released: &Notify,
) -> anyhow::Result<()> {
    let mut values = Vec::new();
    for tick in 0..data.ticks {
        while lane.lock().sender().memory_frames() > FRAMES_AHEAD {
            let _ = tokio::time::timeout(TIMEOUT, released.notified()).await;
        }
        data.fill(host, tick, &mut values);
        lane.lock().tick(data.at_ms(tick), 0, None, &values, data)?;
        lane.queued.notify_one();
    }
    while !lane.lock().sender().is_drained() {
        let _ = tokio::time::timeout(Duration::from_millis(20), released.notified()).await;
    }
    let dropped = lane.lock().sender().stats().dropped();
    anyhow::ensure!(dropped == 0, "{dropped} frames of host {host} were dropped");
    Ok(())
}

async fn by_remote_write(url: &str, data: &Arc<Data>) -> anyhow::Result<()> {
    let mut writers = tokio::task::JoinSet::new();
    let together = Arc::new(Barrier::new(WRITERS));
    for writer in 0..WRITERS {
        let together = together.clone();
        let (data, url) = (data.clone(), format!("{url}/api/v1/write"));
        writers.spawn(async move {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
            let hosts: Vec<usize> = (writer..data.hosts).step_by(WRITERS).collect();
            let labels: Vec<Vec<Vec<u8>>> = hosts.iter().map(|host| labels(&data, *host)).collect();
            let (mut message, mut samples, mut values) = (Vec::new(), 0, Vec::new());
            for tick in 0..data.ticks {
                if tick % TOGETHER_TICKS == 0 {
                    together.wait().await;
                }
                for (host, labels) in hosts.iter().zip(&labels) {
                    data.fill(*host, tick, &mut values);
                    for (labels, value) in labels.iter().zip(&values).filter(|(_, value)| !is_stale(**value)) {
                        put_series(&mut message, labels, data.at_ms(tick), *value);
                        samples += 1;
                        if samples == REQUEST_SAMPLES {
                            send(&client, &url, "", &message).await?;
                            message.clear();
                            samples = 0;
                        }
                    }
                }
            }
            send(&client, &url, "", &message).await
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

/// Sends a message of remote write; `token` may be empty.
pub(super) async fn send(client: &reqwest::Client, url: &str, token: &str, message: &[u8]) -> anyhow::Result<()> {
    if message.is_empty() {
        return Ok(());
    }
    let request =
        client.post(url).header("Content-Encoding", "snappy").header("Content-Type", "application/x-protobuf");
    let request = request.header("X-Prometheus-Remote-Write-Version", "0.1.0");
    let request = if token.is_empty() { request } else { request.bearer_auth(token) };
    let answer = request.body(snap::raw::Encoder::new().compress_vec(message)?).send().await?;
    let status = answer.status();
    anyhow::ensure!(status.is_success(), "{url}: {status}: {}", answer.text().await?);
    Ok(())
}

/// The labels of each series of a host as fields of a message.
fn labels(data: &Data, host: usize) -> Vec<Vec<u8>> {
    let of = |def: &pitwatch_shared::codec::SeriesDef| {
        let own = Data::host(host);
        let mut pairs: Vec<(&str, &str)> = def.labels.iter().chain([(INSTANCE, own.as_str())]).collect();
        pairs.sort_unstable();
        encoded_labels(&pairs)
    };
    data.series().iter().map(of).collect()
}

/// Labels, sorted by name, as fields of a message.
pub(super) fn encoded_labels(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        let mut label = Vec::new();
        put_field(&mut label, 1, name.as_bytes());
        put_field(&mut label, 2, value.as_bytes());
        put_field(&mut out, 1, &label);
    }
    out
}

pub(super) fn put_series(message: &mut Vec<u8>, labels: &[u8], ts_ms: i64, value: f64) {
    let mut sample = vec![9];
    sample.extend_from_slice(&value.to_bits().to_le_bytes());
    sample.push(16);
    put_varint(&mut sample, ts_ms.cast_unsigned());
    message.push(1 << 3 | 2);
    put_varint(message, (labels.len() + 2 + sample.len()) as u64);
    message.extend_from_slice(labels);
    put_field(message, 2, &sample);
}

fn put_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
