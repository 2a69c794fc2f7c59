//! Bodies that are sent while they are written: an answer may have millions of numbers, and its client may be slow.
//! A short one is sent whole, with its length; of a long one a few pieces are in memory.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::envelope::ApiError;
use super::pool::stopped;

/// A piece of a body is about this long; what is shorter is sent whole.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that may wait for the client.
const PIECES_AHEAD: usize = 4;
/// How long a client may take to receive a piece, before it is given up: it holds a turn.
const STALL_MAX: Duration = Duration::from_secs(30);
/// How long it may take to receive all of them.
const SEND_MAX: Duration = Duration::from_secs(300);

/// Where work writes to.
#[derive(Debug)]
pub(super) struct Output {
    /// What is not sent yet. Write here, and [`Output::spill`] now and then.
    pub(super) text: String,
    pieces: mpsc::Sender<Bytes>,
    /// When the client has had time enough; from the first piece that it was waited for.
    until: Option<Instant>,
}

/// An output, and where its pieces come out.
pub(super) fn channel() -> (Output, mpsc::Receiver<Bytes>) {
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    (Output { text: String::new(), pieces, until: None }, receiver)
}

impl Output {
    /// Sends what is long enough to be a piece. Call it on a thread that may block.
    ///
    /// # Errors
    /// The client is gone or does not take what is sent: stop.
    pub(super) fn spill(&mut self) -> Result<(), ApiError> {
        if self.text.len() < PIECE_BYTES {
            return Ok(());
        }
        let piece =
            Bytes::from(std::mem::replace(&mut self.text, String::with_capacity(PIECE_BYTES + PIECE_BYTES / 4)));
        let Err(mpsc::error::TrySendError::Full(piece)) = self.pieces.try_send(piece) else {
            return if self.pieces.is_closed() { Err(gone()) } else { Ok(()) };
        };
        let now = Instant::now();
        let left = self.until.get_or_insert(now + SEND_MAX).saturating_duration_since(now);
        let sent = Handle::current().block_on(tokio::time::timeout(left.min(STALL_MAX), self.pieces.send(piece)));
        sent.ok().and_then(Result::ok).ok_or_else(gone)
    }

    /// What is left.
    pub(super) fn finish(self) -> Bytes {
        self.text.into()
    }
}

fn gone() -> ApiError {
    ApiError::unavailable("the client is gone or takes nothing")
}

/// The end of the writing: what is left to send.
type Done = JoinHandle<Result<Bytes, ApiError>>;

/// The response of work that writes: its error if it fails before it has sent anything.
pub(super) async fn response(
    kind: &'static str,
    mut pieces: mpsc::Receiver<Bytes>,
    done: Done,
) -> Result<Response, ApiError> {
    let body = match pieces.recv().await {
        Some(first) => Body::new(Pieces { first: Some(first), pieces, done: Some(done) }),
        None => Body::from(done.await.unwrap_or_else(|error| Err(stopped(&error)))?),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// A body that is still written.
struct Pieces {
    first: Option<Bytes>,
    pieces: mpsc::Receiver<Bytes>,
    /// Until it has said what is left.
    done: Option<Done>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(piece) = ready!(this.pieces.poll_recv(context)) {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(done) = &mut this.done else { return Poll::Ready(None) };
        let rest = ready!(Pin::new(done).poll(context)).unwrap_or_else(|error| Err(stopped(&error)));
        this.done = None;
        // An error here breaks the connection off: the client must not take half an answer for a whole.
        Poll::Ready(Some(rest.map(Frame::data)))
    }
}
