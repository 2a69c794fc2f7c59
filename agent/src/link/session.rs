//! One connection from hello to its end.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pitwatch_shared::control::{
    self, ALPN, CloseCode, HELLO_MAGIC, Hello, LENGTH_BYTES, LaneResume, ToAgent, ToCollector, VERSIONS, Welcome,
    bounded_reason,
};
use pitwatch_shared::delivery::{Backlog, FrameWriter};
use pitwatch_shared::identity::tls::Trust;
use pitwatch_shared::model::{Lane, Mark};
use pitwatch_shared::wire::{self, WireError};
use quinn::{Connection, ReadExactError, RecvStream, SendStream, VarInt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use super::dial::Dialer;
use super::{Backoff, CONNECT_TIMEOUT_SECS, Lanes, LinkConfig, LinkError, LinkStats, SharedLane, closed};
use crate::identity::{Identity, Request};
use crate::lane::Queue;

/// Bytes written to the stream at a time.
const WRITE_BYTES: usize = 64 * 1024;
/// A wrong clock or a long suspension is noticed after this long, seconds.
const RENEW_CHECK_SECS: u64 = 3600;
/// After a refused renewal the next try, seconds.
const RENEW_RETRY_SECS: u64 = 300;

/// Runs a session to its end: an error, or a renewed identity to come back with.
pub(super) async fn run<B: Backlog>(
    config: &LinkConfig,
    identity: &Identity,
    lanes: &Lanes<B>,
    stats: &LinkStats,
    dialer: &mut Dialer,
    backoff: &mut Backoff,
) -> Result<Identity, LinkError> {
    let trust = Trust::Authority(identity.authority());
    let connection = dialer.connect(&config.collector, trust, Some(identity.credentials()), ALPN).await?;
    let mut traffic = Traffic { connection: connection.clone(), stats, sent: 0, received: 0 };
    let result = converse(config, identity, lanes, stats, backoff, &connection, &mut traffic).await;
    traffic.count();
    let (code, reason) = match &result {
        Ok(_) => (CloseCode::Stopping, "reconnecting with a renewed certificate".to_owned()),
        Err(error @ LinkError::Protocol(_)) => (CloseCode::Protocol, error.to_string()),
        Err(_) => (CloseCode::Stopping, "stopping".to_owned()),
    };
    connection.close(VarInt::from_u32(code as u32), bounded_reason(&reason).as_bytes());
    result
}

async fn converse<B: Backlog>(
    config: &LinkConfig,
    identity: &Identity,
    lanes: &Lanes<B>,
    stats: &LinkStats,
    backoff: &mut Backoff,
    connection: &Connection,
    traffic: &mut Traffic<'_>,
) -> Result<Identity, LinkError> {
    let (mut control, mut answers) = connection.open_bi().await.map_err(closed)?;
    let (welcome, skew_ms) = greet(config, &mut control, &mut answers, connection).await?;
    let resume = |lane: Lane| welcome.lanes.iter().find(|resume| resume.lane == lane as u8).copied();
    let metrics = resume(Lane::Metrics).unwrap_or(LaneResume { lane: 0, durable: None, chain_known: false });
    let mut metrics_stream = begin(Lane::Metrics, &lanes.metrics, metrics, connection).await?;
    let mut events_stream = match resume(Lane::Events) {
        Some(resume) => Some(begin(Lane::Events, &lanes.events, resume, connection).await?),
        None => None,
    };
    backoff.succeeded(welcome.reconnect_spread_ms);
    stats.sessions.fetch_add(1, Ordering::Relaxed);
    stats.connected.store(true, Ordering::Relaxed);
    info!(collector = %connection.remote_address(), resume = ?metrics.durable, clock_skew_ms = skew_ms, "connected");

    let (requests, wanted) = mpsc::channel(1);
    tokio::select! {
        error = send_frames(&lanes.metrics, &mut metrics_stream, connection) => Err(error),
        error = async {
            match &mut events_stream {
                Some(stream) => send_frames(&lanes.events, stream, connection).await,
                None => std::future::pending().await,
            }
        } => Err(error),
        error = send_control(wanted, &mut control, connection) => Err(error),
        error = traffic.watch() => Err(error),
        end = hear(config, identity, lanes, &mut answers, connection, &requests) => end,
    }
}

/// Opens the stream of a lane and tells its queue where to go on.
async fn begin<L: Queue>(
    lane: Lane,
    shared: &SharedLane<L>,
    resume: LaneResume,
    connection: &Connection,
) -> Result<SendStream, LinkError> {
    let mut stream = connection.open_uni().await.map_err(closed)?;
    stream.write_all(&[lane as u8]).await.map_err(|_| lost(connection))?;
    let durable = resume.durable.map(|(epoch, seq)| Mark { epoch, seq });
    shared.lock().sender().connected(durable, resume.chain_known);
    shared.queued.notify_one();
    Ok(stream)
}

/// The collector has everything of a lane up to a mark.
fn acked<L: Queue>(shared: &SharedLane<L>, mark: Mark) -> Result<(), LinkError> {
    shared.lock().sender().acked(mark).map_err(|error| LinkError::Protocol(error.to_string()))?;
    shared.queued.notify_one();
    Ok(())
}

/// Hello and welcome; gives the agent's clock error against the collector's as well.
async fn greet(
    config: &LinkConfig,
    control: &mut SendStream,
    answers: &mut RecvStream,
    connection: &Connection,
) -> Result<(Welcome, i64), LinkError> {
    let hello = Hello {
        magic: HELLO_MAGIC,
        versions: VERSIONS,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        clock_ms: unix_ms(),
        labels: config.labels.clone(),
    };
    let bytes = control::framed(&hello).map_err(protocol)?;
    control.write_all(&bytes).await.map_err(|_| lost(connection))?;
    let welcome = read_message::<Welcome>(answers, connection);
    let welcome = tokio::time::timeout(Duration::from_secs(CONNECT_TIMEOUT_SECS), welcome)
        .await
        .map_err(|_| LinkError::Protocol(format!("no welcome in {CONNECT_TIMEOUT_SECS} s")))??;
    if welcome.version < VERSIONS.min || welcome.version > VERSIONS.max {
        return Err(LinkError::Protocol(format!("it chose version {} of {VERSIONS:?}", welcome.version)));
    }
    let skew_ms = unix_ms().saturating_sub(welcome.clock_ms);
    Ok((welcome, skew_ms))
}

/// Sends what the window lets out, for ever.
async fn send_frames<L: Queue>(lane: &SharedLane<L>, stream: &mut SendStream, connection: &Connection) -> LinkError {
    let mut writer = FrameWriter::new();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        {
            let mut lane = lane.lock();
            while bytes.len() < WRITE_BYTES
                && let Some(frame) = lane.sender().transmit()
            {
                writer.write(frame.mark, &frame.payload, &mut bytes);
            }
        }
        if bytes.is_empty() {
            lane.queued.notified().await;
        } else if stream.write_all(&bytes).await.is_err() {
            return lost(connection);
        }
    }
}

async fn send_control(
    mut wanted: mpsc::Receiver<Vec<u8>>,
    control: &mut SendStream,
    connection: &Connection,
) -> LinkError {
    while let Some(bytes) = wanted.recv().await {
        if control.write_all(&bytes).await.is_err() {
            return lost(connection);
        }
    }
    std::future::pending().await
}

/// Acks, and the certificate's renewal when its time has come.
async fn hear<B: Backlog>(
    config: &LinkConfig,
    identity: &Identity,
    lanes: &Lanes<B>,
    answers: &mut RecvStream,
    connection: &Connection,
    requests: &mpsc::Sender<Vec<u8>>,
) -> Result<Identity, LinkError> {
    let (heard, mut messages) = mpsc::channel(1);
    let listen = async {
        loop {
            let message = read_message::<ToAgent>(answers, connection).await?;
            if heard.send(message).await.is_err() {
                return Err::<Identity, LinkError>(lost(connection));
            }
        }
    };
    let act = async {
        let mut request: Option<Request> = None;
        // A deadline, not a pause: acks that arrive every second must not put it off.
        let mut check_at = Instant::now() + renew_in(identity);
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(ToAgent::Ack { lane, epoch, seq }) => match Lane::from_byte(lane) {
                        Some(Lane::Metrics) => acked(&lanes.metrics, Mark { epoch, seq })?,
                        Some(Lane::Events) => acked(&lanes.events, Mark { epoch, seq })?,
                        _ => return Err(LinkError::Protocol(format!("an ack for lane {lane}"))),
                    },
                    Some(ToAgent::Renewed(issued)) => {
                        let Some(request) = request.take() else {
                            return Err(LinkError::Protocol("a certificate that was not asked for".into()));
                        };
                        let renewed = request.granted(&identity.agent_name()?, identity.collector(), issued);
                        renewed.save(&config.identity_dir)?;
                        return Ok(renewed);
                    }
                    Some(ToAgent::RenewRefused { reason }) => {
                        warn!("the collector does not renew the certificate: {reason}");
                        request = None;
                        check_at = Instant::now() + Duration::from_secs(RENEW_RETRY_SECS);
                    }
                    Some(ToAgent::Settings { text }) => config.central.offer(text),
                    None => return Err(lost(connection)),
                },
                () = tokio::time::sleep_until(check_at), if request.is_none() => {
                    let left = renew_in(identity);
                    check_at = Instant::now() + left;
                    if left.is_zero() {
                        let new = Request::new()?;
                        let bytes = control::framed(&ToCollector::Renew { csr: new.csr.clone() }).map_err(protocol)?;
                        request = Some(new);
                        // The channel holds one request and there is never a second.
                        let _ = requests.send(bytes).await;
                    }
                }
            }
        }
    };
    tokio::select! {
        end = listen => end,
        end = act => end,
    }
}

/// Time until the renewal is due or is to be looked at again.
fn renew_in(identity: &Identity) -> Duration {
    let left = identity.renew_at_secs().saturating_sub(unix_ms() / 1000);
    Duration::from_secs(u64::try_from(left).unwrap_or(0).min(RENEW_CHECK_SECS))
}

/// Reads one message of the control stream.
pub(super) async fn read_message<T>(stream: &mut RecvStream, connection: &Connection) -> Result<T, LinkError>
where
    T: wire::Message,
{
    let mut length = [0; LENGTH_BYTES];
    read_exact(stream, &mut length, connection).await?;
    let mut bytes = vec![0; control::message_length(length).map_err(protocol)?];
    read_exact(stream, &mut bytes, connection).await?;
    wire::decode(&bytes).map_err(protocol)
}

async fn read_exact(stream: &mut RecvStream, bytes: &mut [u8], connection: &Connection) -> Result<(), LinkError> {
    match stream.read_exact(bytes).await {
        Ok(()) => Ok(()),
        Err(ReadExactError::FinishedEarly(_)) => Err(LinkError::Protocol("the control stream ended".into())),
        Err(ReadExactError::ReadError(_)) => Err(lost(connection)),
    }
}

/// Why the connection is gone, after a stream failed.
fn lost(connection: &Connection) -> LinkError {
    connection.close_reason().map_or_else(|| LinkError::Protocol("a stream was refused".into()), closed)
}

#[expect(clippy::needless_pass_by_value, reason = "maps errors")]
fn protocol(error: WireError) -> LinkError {
    LinkError::Protocol(error.to_string())
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Adds the connection's UDP bytes to the agent's counters as they grow.
struct Traffic<'a> {
    connection: Connection,
    stats: &'a LinkStats,
    sent: u64,
    received: u64,
}

impl Traffic<'_> {
    fn count(&mut self) {
        let now = self.connection.stats();
        let add = |counter: &std::sync::atomic::AtomicU64, now: u64, before: &mut u64| {
            counter.fetch_add(now.saturating_sub(*before), Ordering::Relaxed);
            *before = now;
        };
        add(&self.stats.udp_sent_bytes, now.udp_tx.bytes, &mut self.sent);
        add(&self.stats.udp_received_bytes, now.udp_rx.bytes, &mut self.received);
    }

    /// Counts now and then until the connection is gone.
    async fn watch(&mut self) -> LinkError {
        loop {
            tokio::select! {
                error = self.connection.closed() => return closed(error),
                () = tokio::time::sleep(Duration::from_secs(5)) => self.count(),
            }
        }
    }
}
