//! The QUIC endpoint for agents: bounded handshakes, who may come in, and one task a connection.
//!
//! - [`session`]: an admitted agent's streams.
//! - [`enrolment`]: the one question of a connection under the enrolment ALPN.
//! - [`keys`]: the endpoint's persistent secrets, so that agents notice a restart at once.
//!
//! The settings are measured: docs/decisions/transport.md.

pub mod enrolment;
pub mod keys;
pub mod session;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pitwatch_shared::control::{ALPN, ALPN_ENROLL, CloseCode, bounded_reason};
use pitwatch_shared::identity::Fingerprint;
use pitwatch_shared::identity::tls;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{AckFrequencyConfig, Connection, Endpoint, IdleTimeout, Incoming, ServerConfig, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, info, warn};

use crate::agents::Agents;
use crate::authority::AuthorityError;
use crate::clock::unix_ms;
use crate::ingest::Ingest;

/// Agents on their way in at once, from their first packet to their welcome; more wait in the socket. Without it a
/// stampede that is more than the machine can take ends in time-outs of all instead of a queue.
pub const HANDSHAKES_MAX: usize = 256;
/// A handshake that takes longer is given up, seconds.
pub const HANDSHAKE_TIMEOUT_SECS: u64 = 10;
/// Live connections, enrolments included.
pub const CONNECTIONS_MAX: usize = 20_000;
/// A connection without a sign of life for this long is lost, seconds.
pub const IDLE_TIMEOUT_SECS: u64 = 30;
/// Size of the UDP socket's buffers, bytes. A fleet that comes back at once overflows the system's default.
pub const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// At the end the goodbyes are given this long to leave.
const CLOSE_LINGER: Duration = Duration::from_millis(500);
/// Bytes that an agent may send ahead on one stream.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes that an agent may send ahead on its connection.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes that may wait to be sent to one agent.
const SEND_WINDOW_BYTES: u64 = 256 * 1024;
/// Streams that an agent may open: its lanes and two to spare.
const UNI_STREAMS: u32 = 5;
/// Agents may hold back their transport acks this long, milliseconds: longer than a tick, so that they ride on the
/// next one instead of costing a packet each. Only our own acks wait for them, and nobody waits for those.
const AGENT_ACK_DELAY_MS: u64 = 1_200;
/// Packets that an agent may leave without a transport ack.
const AGENT_ACK_PACKETS: u32 = 8;

/// What the listener counts.
#[derive(Debug, Default)]
pub struct ListenStats {
    /// Handshakes that came to an end.
    pub handshakes: AtomicU64,
    /// Handshakes that failed or took too long.
    pub handshake_failures: AtomicU64,
    /// Connections turned away after their handshake.
    pub refused: AtomicU64,
    /// Connections closed for what they sent.
    pub protocol_errors: AtomicU64,
    /// Enrolments granted.
    pub enrolled: AtomicU64,
    /// Enrolments refused.
    pub enrol_refused: AtomicU64,
}

/// What connections need.
#[derive(Debug)]
pub struct Shared {
    /// Who may come in.
    pub agents: Arc<Agents>,
    /// Where frames go.
    pub ingest: Ingest,
    /// Sections of agent.toml that agents are sent, by their label `role`.
    pub roles: BTreeMap<String, String>,
    /// Counts.
    pub stats: ListenStats,
}

/// Why the endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken or not ours.
    #[error("cannot listen for agents on UDP {address}")]
    Bind {
        /// As configured.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The endpoint's secrets.
    #[error("cannot keep the endpoint's keys")]
    Keys(#[source] io::Error),
    /// The collector's own certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// TLS.
    #[error("TLS set-up: {0}")]
    Tls(String),
}

/// Opens the endpoint on `address`.
///
/// # Errors
/// See [`ListenError`].
pub fn open(address: SocketAddr, agents: &Agents, keys: &keys::Keys) -> Result<Endpoint, ListenError> {
    let credentials = agents.authority().collector_credentials(unix_ms() / 1000)?;
    let tls = tls::collector_config(agents.authority().certificate(), credentials, ALPN, ALPN_ENROLL)
        .map_err(|error| ListenError::Tls(error.to_string()))?;
    let tls = QuicServerConfig::try_from(tls).map_err(|error| ListenError::Tls(error.to_string()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport())).max_incoming(HANDSHAKES_MAX * 4);
    let bind = |source| ListenError::Bind { address, source };
    let socket = socket(address).map_err(bind)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    Endpoint::new(keys.endpoint_config(), Some(config), socket, runtime).map_err(bind)
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    let granted = socket.recv_buffer_size()?;
    if granted < SOCKET_BUFFER_BYTES {
        info!(granted, wanted = SOCKET_BUFFER_BYTES, "small UDP buffer: raise net.core.rmem_max for large fleets");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn transport() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(AGENT_ACK_PACKETS))
        .max_ack_delay(Some(Duration::from_millis(AGENT_ACK_DELAY_MS)));
    let mut transport = TransportConfig::default();
    transport
        .ack_frequency_config(Some(acks))
        // Only the control stream; every permitted stream costs memory a connection.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        // Answers are small. The search for a larger packet size costs some packets each way in every handshake.
        .mtu_discovery_config(None)
        // They are a packet each; with it quinn keeps room for ten beside every connection.
        .enable_segmentation_offload(false)
        .max_idle_timeout(IdleTimeout::try_from(Duration::from_secs(IDLE_TIMEOUT_SECS)).ok());
    transport
}

/// Accepts until `stop`; then closes every connection with a word of when to come back.
pub async fn serve(endpoint: Endpoint, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let permit = handshakes.clone().acquire_owned();
        let incoming = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            incoming = async { Some((permit.await.ok()?, endpoint.accept().await?)) } => incoming,
        };
        let Some((permit, incoming)) = incoming else { break };
        if endpoint.open_connections() >= CONNECTIONS_MAX {
            shared.stats.refused.fetch_add(1, Ordering::Relaxed);
            incoming.refuse();
            continue;
        }
        let shared = shared.clone();
        tokio::spawn(async move {
            if let Some(connection) = handshake(incoming, &shared).await {
                attend(connection, permit, &shared).await;
            }
        });
    }
    endpoint.close(VarInt::from_u32(CloseCode::Stopping as u32), b"the collector is stopping; come back soon");
    // The word is on its way at once. What the wait would add is only the transport's own: it remembers each connection
    // for some round trips, and those who missed the word learn of the restart by a reset.
    let _ = tokio::time::timeout(CLOSE_LINGER, endpoint.wait_idle()).await;
}

async fn handshake(incoming: Incoming, shared: &Shared) -> Option<Connection> {
    let from = incoming.remote_address();
    // On the heap as all that comes before an agent's session: ten thousand tasks are held that have it behind them.
    let connecting = Box::pin(async { incoming.accept()?.await });
    match tokio::time::timeout(Duration::from_secs(HANDSHAKE_TIMEOUT_SECS), connecting).await {
        Ok(Ok(connection)) => {
            shared.stats.handshakes.fetch_add(1, Ordering::Relaxed);
            Some(connection)
        }
        Ok(Err(error)) => {
            shared.stats.handshake_failures.fetch_add(1, Ordering::Relaxed);
            debug!(%from, "handshake failed: {error}");
            None
        }
        Err(_) => {
            shared.stats.handshake_failures.fetch_add(1, Ordering::Relaxed);
            debug!(%from, "handshake took over {HANDSHAKE_TIMEOUT_SECS} s");
            None
        }
    }
}

async fn attend(connection: Connection, permit: OwnedSemaphorePermit, shared: &Arc<Shared>) {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    if data.and_then(|data| data.protocol).as_deref() == Some(ALPN_ENROLL) {
        drop(permit);
        Box::pin(enrolment::answer(&connection, shared)).await;
        return;
    }
    let shown = connection.peer_identity().and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
    let Some(fingerprint) = shown.and_then(|chain| Some(Fingerprint::of(chain.first()?))) else {
        shared.stats.refused.fetch_add(1, Ordering::Relaxed);
        close(&connection, CloseCode::NoCertificate, "no certificate: enrol this host first (pitwatch-agent enroll)");
        return;
    };
    match shared.agents.admit(fingerprint, &connection, unix_ms()) {
        Ok(admitted) => {
            let end = session::serve(&connection, permit, &admitted, fingerprint, shared).await;
            shared.agents.left(&admitted.name, admitted.session, unix_ms());
            match end {
                session::End::Fault(reason) => {
                    shared.stats.protocol_errors.fetch_add(1, Ordering::Relaxed);
                    warn!(agent = admitted.name, "connection closed: {reason}");
                    close(&connection, CloseCode::Protocol, &reason);
                }
                session::End::Refused(code, reason) => {
                    warn!(agent = admitted.name, "connection closed: {reason}");
                    close(&connection, code, &reason);
                }
                session::End::Gone(reason) => info!(agent = admitted.name, "agent gone: {reason}"),
            }
        }
        Err((code, reason)) => {
            shared.stats.refused.fetch_add(1, Ordering::Relaxed);
            info!(from = %connection.remote_address(), %fingerprint, "turned away: {reason}");
            close(&connection, code, &reason);
        }
    }
}

fn close(connection: &Connection, code: CloseCode, reason: &str) {
    connection.close(VarInt::from_u32(code as u32), bounded_reason(reason).as_bytes());
}
