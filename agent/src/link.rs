//! The connection to the collector: TLS over QUIC, the control stream, one stream a lane, and coming back.
//!
//! It drives the sender's state machine and decides nothing about frames: what to send, keep or drop is
//! [`pitwatch_shared::delivery::Sender`]'s matter.
//!
//! - `dial`: the UDP socket and connections over it.
//! - `session`: one connection from hello to its end.
//! - [`enroll`]: the connection that only asks for a certificate.

mod dial;
pub mod enroll;
mod session;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pitwatch_shared::control::CloseCode;
use pitwatch_shared::delivery::Backlog;
use pitwatch_shared::error_chain;
use quinn::ConnectionError;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use self::dial::Dialer;
use crate::events::EventsLane;
use crate::identity::{Identity, IdentityError};
use crate::lane::{MetricsLane, Queue as _};
use crate::reload::Central;

/// A connection attempt that takes longer is given up, seconds.
pub const CONNECT_TIMEOUT_SECS: u64 = 10;
/// NATs forget a silent UDP flow after 20 to 30 s.
pub const KEEP_ALIVE_SECS: u64 = 12;
/// A connection without a sign of life for this long is lost, seconds.
pub const IDLE_TIMEOUT_SECS: u64 = 30;
/// First step of the backoff, milliseconds.
pub const BACKOFF_MIN_MS: u64 = 500;
/// Longest pause between attempts, milliseconds.
pub const BACKOFF_MAX_MS: u64 = 30_000;
/// Pause after an answer that only a person can change (revoked, unknown, no common version), milliseconds.
pub const REFUSED_PAUSE_MS: u64 = 60_000;

const _: () = assert!(KEEP_ALIVE_SECS * 2 < IDLE_TIMEOUT_SECS);

/// A lane shared between who fills it and the link, and the bell that says it has news.
#[derive(Debug)]
pub struct SharedLane<L> {
    lane: Mutex<L>,
    /// Rung when a frame was queued.
    pub queued: Notify,
}

impl<L> SharedLane<L> {
    /// Shares a lane.
    #[must_use]
    pub fn new(lane: L) -> Self {
        Self { lane: Mutex::new(lane), queued: Notify::new() }
    }

    /// The lane, for a moment: never held over an await.
    pub fn lock(&self) -> MutexGuard<'_, L> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent's lanes.
#[derive(Debug)]
pub struct Lanes<B> {
    /// Ticks.
    pub metrics: SharedLane<MetricsLane<B>>,
    /// Events. A collector of an earlier version does not take them: they wait.
    pub events: SharedLane<EventsLane<B>>,
}

impl<B: Backlog> Lanes<B> {
    /// Shares the lanes.
    #[must_use]
    pub fn new(metrics: MetricsLane<B>, events: EventsLane<B>) -> Self {
        Self { metrics: SharedLane::new(metrics), events: SharedLane::new(events) }
    }

    /// No connection is up.
    fn disconnected(&self) {
        self.metrics.lock().sender().disconnected();
        self.events.lock().sender().disconnected();
    }
}

/// What the link did, for the agent's own metrics.
#[derive(Debug, Default)]
pub struct LinkStats {
    /// A session is up.
    pub connected: AtomicBool,
    /// Sessions begun.
    pub sessions: AtomicU64,
    /// Attempts that came to nothing.
    pub failures: AtomicU64,
    /// UDP payload bytes sent, all sessions.
    pub udp_sent_bytes: AtomicU64,
    /// UDP payload bytes received, all sessions.
    pub udp_received_bytes: AtomicU64,
    /// End of the certificate's life, seconds since the Unix epoch.
    pub certificate_not_after_secs: AtomicU64,
}

/// How to reach the collector and as whom.
#[derive(Debug)]
pub struct LinkConfig {
    /// `host:port`, resolved anew for each attempt.
    pub collector: String,
    /// Where the identity lives; a renewed one is written there.
    pub identity_dir: PathBuf,
    /// Shown in the collector's list of agents.
    pub labels: Vec<(String, String)>,
    /// Where settings go that the collector sends.
    pub central: Arc<Central>,
}

/// Why a session could not begin or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The name does not resolve.
    #[error("cannot resolve the collector's address {address}")]
    Resolve {
        /// As configured.
        address: String,
        /// The resolver's reason.
        source: io::Error,
    },
    /// No UDP socket.
    #[error("cannot open a UDP socket")]
    Socket(#[source] io::Error),
    /// Unusable key or certificate.
    #[error("TLS set-up: {0}")]
    Tls(String),
    /// No answer, or the handshake failed.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// As resolved.
        address: SocketAddr,
        /// What the transport or TLS said.
        reason: String,
    },
    /// The collector closed the connection and said why.
    #[error("the collector closed the connection: {reason}")]
    Closed {
        /// Its code, if known here.
        code: Option<CloseCode>,
        /// Its words.
        reason: String,
    },
    /// The connection was lost.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The collector broke the protocol.
    #[error("protocol error of the collector: {0}")]
    Protocol(String),
    /// The identity's file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl LinkError {
    /// Only a person can change it.
    fn is_refusal(&self) -> bool {
        use CloseCode::{NoCertificate, Revoked, Unknown, Version};
        matches!(self, Self::Closed { code: Some(NoCertificate | Revoked | Unknown | Version), .. })
    }
}

/// Keeps a session up until `stop` says otherwise.
pub async fn run<B: Backlog + Send + 'static>(
    config: &LinkConfig,
    mut identity: Identity,
    lanes: &Lanes<B>,
    stats: &LinkStats,
    mut stop: watch::Receiver<bool>,
) {
    let mut dialer = Dialer::default();
    let mut backoff = Backoff::default();
    let mut said = String::new();
    loop {
        let session = session::run(config, &identity, lanes, stats, &mut dialer, &mut backoff);
        let end = tokio::select! {
            end = session => end,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        stats.connected.store(false, Ordering::Relaxed);
        lanes.disconnected();
        let refused = matches!(&end, Err(error) if error.is_refusal());
        let pause_ms = match end {
            Ok(renewed) => {
                info!(fingerprint = %renewed.fingerprint(), "certificate renewed, reconnecting with it");
                identity = renewed;
                0
            }
            Err(error) => {
                stats.failures.fetch_add(1, Ordering::Relaxed);
                let pause_ms = if refused { REFUSED_PAUSE_MS } else { backoff.next_ms() };
                // The same trouble every few seconds is said once.
                let text = error_chain(&error);
                if text != said {
                    warn!(retry_in_ms = pause_ms, "{text}");
                    said = text;
                }
                pause_ms
            }
        };
        if stats.sessions.load(Ordering::Relaxed) > 0 && backoff.attempt == 0 {
            said.clear();
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        // A person may have enrolled this host anew meanwhile.
        if refused
            && let Ok(enrolled) = Identity::load(&config.identity_dir)
            && enrolled.fingerprint() != identity.fingerprint()
        {
            info!(name = enrolled.name(), "enrolled anew");
            identity = enrolled;
        }
    }
}

/// Pauses between attempts: exponential with full jitter. The first is never within less than the spread that the
/// collector asked for: a fleet that failed together must not come again together. It spreads the later ones as well.
#[derive(Debug, Default)]
pub struct Backoff {
    attempt: u32,
    spread_ms: u64,
}

impl Backoff {
    /// A session is up; after its loss the first pause is random within `spread_ms` at least.
    pub fn succeeded(&mut self, spread_ms: u32) {
        self.attempt = 0;
        self.spread_ms = u64::from(spread_ms);
    }

    /// The next pause in milliseconds.
    pub fn next_ms(&mut self) -> u64 {
        let step = BACKOFF_MIN_MS.saturating_mul(1 << self.attempt.min(16));
        let least = if self.attempt == 0 { self.spread_ms } else { 0 };
        self.attempt += 1;
        fastrand::u64(0..=step.max(least).min(BACKOFF_MAX_MS))
    }
}

/// What a connection's end means.
fn closed(error: ConnectionError) -> LinkError {
    match error {
        ConnectionError::ApplicationClosed(close) => LinkError::Closed {
            code: CloseCode::from_number(close.error_code.into_inner()),
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        ConnectionError::TimedOut => LinkError::Lost("no sign of life".into()),
        ConnectionError::Reset => LinkError::Lost("the collector restarted".into()),
        error => LinkError::Lost(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_their_bounds() {
        let mut backoff = Backoff::default();
        backoff.succeeded(200);
        for attempt in 0..40 {
            assert!(backoff.next_ms() <= (BACKOFF_MIN_MS << attempt.min(16)).min(BACKOFF_MAX_MS));
        }
        let first = || Backoff { attempt: 0, spread_ms: 10_000 }.next_ms();
        assert!((0..200).any(|_| first() > BACKOFF_MIN_MS * 8), "the first is not spread");
        assert!((0..200).all(|_| first() <= 10_000));
        let later = || Backoff { attempt: 1, spread_ms: 10_000 }.next_ms();
        assert!((0..200).all(|_| later() <= BACKOFF_MIN_MS * 2), "a later one is spread again");
    }
}
