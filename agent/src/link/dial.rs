//! The agent's UDP socket, and connections over it.
//!
//! One socket serves every attempt. A new one each time would cost its receive buffer each time: quinn sets aside 3 MB for
//! the largest batch that the kernel may give it, and what the allocator hands out anew it clears, and so makes resident.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pitwatch_shared::identity::COLLECTOR_NAME;
use pitwatch_shared::identity::tls::{self, Credentials, Trust};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{AckFrequencyConfig, ClientConfig, Connection, Endpoint, IdleTimeout, TransportConfig, VarInt};

use super::{CONNECT_TIMEOUT_SECS, IDLE_TIMEOUT_SECS, KEEP_ALIVE_SECS, LinkError, closed};

/// Bytes that the collector may send ahead on one stream: control messages are small.
const RECEIVE_WINDOW_BYTES: u32 = 64 * 1024;
const SEND_WINDOW_BYTES: u64 = 512 * 1024;
/// The collector may hold back its transport acks this long, milliseconds: long enough for a commit, so that they ride
/// on the lane's own ack instead of costing a packet each.
const COLLECTOR_ACK_DELAY_MS: u64 = 150;
/// Packets that the collector may leave without a transport ack.
const COLLECTOR_ACK_PACKETS: u32 = 8;

/// The socket, if there was an attempt already.
#[derive(Debug, Default)]
pub(super) struct Dialer {
    endpoint: Option<Endpoint>,
}

impl Dialer {
    /// A connection to `address` (`host:port`), resolved anew.
    pub(super) async fn connect(
        &mut self,
        address: &str,
        trust: Trust,
        credentials: Option<Credentials>,
        alpn: &[u8],
    ) -> Result<Connection, LinkError> {
        let resolve = |source| LinkError::Resolve { address: address.to_owned(), source };
        let found = tokio::net::lookup_host(address).await.map_err(resolve)?.next();
        let target = found.ok_or_else(|| resolve(io::Error::other("no address")))?;
        let tls = tls::agent_config(trust, credentials, alpn).map_err(|error| LinkError::Tls(error.to_string()))?;
        let tls = QuicClientConfig::try_from(tls).map_err(|error| LinkError::Tls(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(transport()));
        let refused = |reason: String| LinkError::Connect { address: target, reason };
        let connecting = self.endpoint_towards(target)?.connect_with(config, target, COLLECTOR_NAME);
        let connecting = connecting.map_err(|error| {
            // The next attempt has a socket of its own.
            self.endpoint = None;
            refused(error.to_string())
        })?;
        match tokio::time::timeout(Duration::from_secs(CONNECT_TIMEOUT_SECS), connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(match closed(error) {
                LinkError::Lost(reason) => refused(reason),
                error => error,
            }),
            Err(_) => Err(refused(format!("no answer in {CONNECT_TIMEOUT_SECS} s"))),
        }
    }

    /// Waits until the other side knows that every connection is closed.
    pub(super) async fn wait_idle(&self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint.wait_idle().await;
        }
    }

    fn endpoint_towards(&mut self, target: SocketAddr) -> Result<&Endpoint, LinkError> {
        let of_family = |endpoint: &Endpoint| endpoint.local_addr().is_ok_and(|own| own.is_ipv4() == target.is_ipv4());
        let endpoint = match self.endpoint.take().filter(of_family) {
            Some(endpoint) => endpoint,
            None if target.is_ipv4() => {
                Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()).map_err(LinkError::Socket)?
            }
            None => Endpoint::client((Ipv6Addr::UNSPECIFIED, 0).into()).map_err(LinkError::Socket)?,
        };
        Ok(self.endpoint.insert(endpoint))
    }
}

fn transport() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(COLLECTOR_ACK_PACKETS))
        .max_ack_delay(Some(Duration::from_millis(COLLECTOR_ACK_DELAY_MS)));
    let mut transport = TransportConfig::default();
    transport
        .ack_frequency_config(Some(acks))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        // A tick fits into the least packet that QUIC knows; a search for a larger one costs every return some packets.
        .mtu_discovery_config(None)
        .keep_alive_interval(Some(Duration::from_secs(KEEP_ALIVE_SECS)))
        .max_idle_timeout(IdleTimeout::try_from(Duration::from_secs(IDLE_TIMEOUT_SECS)).ok());
    transport
}
