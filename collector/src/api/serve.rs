//! Connections of HTTP, plain or over TLS: how many, how long they may take to say what they want, and how they end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::HEAD_MAX_BYTES;

/// Most connections at once; further ones wait to be accepted.
pub const CONNECTIONS_MAX: usize = 2_048;
/// How long the head of a request may take, and a connection may be idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Most connections that are in their TLS handshake; further ones wait to be accepted.
pub const HANDSHAKES_MAX: usize = 256;
/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first byte of every TLS connection: a record of the handshake.
const TLS_HANDSHAKE: u8 = 22;
/// How long a client may leave what was sent to it unacknowledged, or its window shut, before the system cuts it off.
const UNTAKEN_MAX: Duration = Duration::from_secs(60);
/// Who does not speak TLS is read this often for what else it sent, a kilobyte each, before it is cut off.
const UNREAD_MAX_READS: usize = 64;
/// How long running requests have when the collector stops.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long to wait when the system has no more connections to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a request came from, among its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// That a request came encrypted, among its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encrypted {
    /// Whether its host is to be reached by TLS alone from now on.
    pub(super) is_strict: bool,
}

/// How connections are encrypted.
#[derive(Clone)]
pub struct Tls {
    /// Certificates and versions.
    pub config: Arc<ServerConfig>,
    /// Browsers are told to come to this host by TLS alone.
    pub is_strict: bool,
}

/// Tells a request that never ends by itself that the collector stops; among its extensions.
#[derive(Clone, Debug)]
pub(super) struct Stopping(watch::Receiver<()>);

impl Stopping {
    /// Waits for it.
    pub(super) async fn wait(mut self) {
        let _ = self.0.changed().await;
    }
}

/// Serves until `shutdown` is there, then lets running requests end for a moment.
///
/// # Errors
/// None at present: a connection that fails concerns only itself.
pub async fn serve<F>(listener: TcpListener, tls: Option<Tls>, router: Router, shutdown: F) -> io::Result<()>
where
    F: Future<Output = ()> + Send,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let (stop, stopped) = watch::channel(());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = shutdown.as_mut() => break,
            accepted = accept(&listener, &slots, &handshakes) => accepted,
        };
        match accepted {
            Some((stream, peer, slot, handshake)) => {
                let (tls, router, stopped) = (tls.clone(), router.clone(), stopped.clone());
                tokio::spawn(async move {
                    connection(stream, peer, tls, handshake, router, stopped).await;
                    drop(slot);
                });
            }
            None => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop((listener, stopped));
    // Told to end, each connection drops its receiver; the last one closes the channel.
    stop.send_replace(());
    let _ = tokio::time::timeout(STOP_GRACE, stop.closed()).await;
    Ok(())
}

/// A connection, its place among all, and its place among those in their handshake.
type Accepted = (TcpStream, Peer, OwnedSemaphorePermit, OwnedSemaphorePermit);

/// The next connection, when there is room for one; `None` if the system gives none.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>, handshakes: &Arc<Semaphore>) -> Option<Accepted> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    let handshake = handshakes.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, Peer(peer), slot, handshake)),
        Err(error) => {
            tracing::warn!("cannot accept an HTTP connection: {error}");
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    tls: Option<Tls>,
    handshake: OwnedSemaphorePermit,
    router: Router,
    mut stopped: watch::Receiver<()>,
) {
    // Answers are written whole: waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNTAKEN_MAX));
    let Some(tls) = tls else {
        drop(handshake);
        return converse(stream, peer, None, router, stopped).await;
    };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, shake(stream, &tls)) => shaken,
        _ = stopped.changed() => return,
    };
    drop(handshake);
    match shaken {
        Ok(Ok(Some(stream))) => {
            let encrypted = Encrypted { is_strict: tls.is_strict };
            converse(stream, peer, Some(encrypted), router, stopped).await;
        }
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
        Err(_) => tracing::debug!("a TLS handshake took more than {} s", HANDSHAKE_TIMEOUT.as_secs()),
    }
}

/// The TLS handshake. Who does not speak TLS is told so, and gets no connection.
async fn shake(mut stream: TcpStream, tls: &Tls) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? > 0 && first[0] != TLS_HANDSHAKE {
        let body = r#"{"status":"error","errorType":"bad_data","error":"this port speaks TLS: the address begins with https://"}"#;
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // What was sent and not read would have the system throw the answer away.
        let mut rest = [0; 1024];
        for _ in 0..UNREAD_MAX_READS {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        return Ok(None);
    }
    TlsAcceptor::from(tls.config.clone()).accept(stream).await.map(Some)
}

async fn converse<S>(
    stream: S,
    peer: Peer,
    encrypted: Option<Encrypted>,
    router: Router,
    mut stopped: watch::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stopping = Stopping(stopped.clone());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(stopping.clone());
        if let Some(encrypted) = encrypted {
            request.extensions_mut().insert(encrypted);
        }
        TowerToHyperService::new(router.clone()).call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX_BYTES);
    let serving = http.serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("an HTTP connection ended: {error}");
    }
}
