//! Connections of HTTP: how many, how long they may take to say what they want, and how they end.

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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::HEAD_MAX_BYTES;

/// Most connections at once; further ones wait to be accepted.
pub const CONNECTIONS_MAX: usize = 2_048;
/// How long the head of a request may take, and a connection may be idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may leave what was sent to it unacknowledged, or its window shut, before the system cuts it off.
const UNTAKEN_MAX: Duration = Duration::from_secs(60);
/// How long running requests have when the collector stops.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long to wait when the system has no more connections to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a request came from, among its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

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
pub async fn serve<F>(listener: TcpListener, router: Router, shutdown: F) -> io::Result<()>
where
    F: Future<Output = ()> + Send,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopped) = watch::channel(());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = shutdown.as_mut() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Some((stream, peer, slot)) => {
                let (router, stopped) = (router.clone(), stopped.clone());
                tokio::spawn(async move {
                    connection(stream, peer, router, stopped).await;
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

type Accepted = (TcpStream, Peer, OwnedSemaphorePermit);

/// The next connection, when there is room for one; `None` if the system gives none.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<Accepted> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, Peer(peer), slot)),
        Err(error) => {
            tracing::warn!("cannot accept an HTTP connection: {error}");
            None
        }
    }
}

async fn connection(stream: TcpStream, peer: Peer, router: Router, mut stopped: watch::Receiver<()>) {
    // Answers are written whole: waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNTAKEN_MAX));
    let stopping = Stopping(stopped.clone());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(stopping.clone());
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
