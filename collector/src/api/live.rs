//! `/api/v1/pitwatch/live`: queries' values as they change, as server-sent events.
//!
//! Each distinct query is a topic: evaluated once a tick for all who watch it, one topic after another, and given up
//! when nobody watches any more. A stream gathers the topics that it asked for into one event a tick.
//!
//! - `topics`: the queries that are watched, and their evaluation.

mod topics;

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::envelope::ApiError;
use super::params::Params;
use super::pool::Client;
use super::serve::Stopping;
use super::{AppState, Shared, auth};
use topics::{Place, Watched};

pub use topics::LIVE_MAX_A_CLIENT;
pub(super) use topics::Topics;

/// Most queries of one stream.
pub const LIVE_QUERIES_MAX: usize = 32;
/// Longest time between two events, in seconds.
const STEP_MAX_SECS: i64 = 60;
/// Events that may wait for the client.
const EVENTS_AHEAD: usize = 2;
/// How long a client may take nothing before it is cut off.
const STALL_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether the token is still valid.
const CHECK_EVERY: Duration = Duration::from_secs(15);

/// Values of queries as they change, an event a step, until the client goes. Each event's data is JSON:
/// `{"time_ms":…,"results":[…],"errors":{…}}`, a result for each query in their order.
#[utoipa::path(get, path = "/api/v1/pitwatch/live", tag = "Queries",
    params(
        ("query" = Vec<String>, Query, min_items = 1, max_items = 32, description = "Expressions of PromQL"),
        ("step" = Option<String>, Query, pattern = "^([1-9]|[1-5][0-9]|60)s?$",
            description = "From one event to the next: 1 to 60 whole seconds"),
    ),
    responses((status = 200, description = "Events", content_type = "text/event-stream", body = String)))]
pub(super) async fn live(
    State(shared): AppState,
    stopping: Option<Extension<Stopping>>,
    client: Client,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let queries: Vec<&str> = params.all("query").collect();
    if queries.is_empty() || queries.len() > LIVE_QUERIES_MAX {
        let message = format!("{} queries: a stream has 1 to {LIVE_QUERIES_MAX}", queries.len());
        return Err(ApiError::bad_parameter("query", message));
    }
    let step_ms = params.duration("step")?.unwrap_or(1000);
    if step_ms % 1000 != 0 || !(1..=STEP_MAX_SECS).contains(&(step_ms / 1000)) {
        return Err(ApiError::bad_parameter("step", format!("it is 1 to {STEP_MAX_SECS} whole seconds")));
    }
    let step = Duration::from_millis(step_ms.unsigned_abs());
    let place = shared.live.place(&client)?;
    let watched: Result<Vec<Watched>, ApiError> =
        queries.into_iter().map(|query| topics::watch(&shared, query, step)).collect();
    let (sender, events) = mpsc::channel(EVENTS_AHEAD);
    let stream = Stream { shared: shared.clone(), watched: watched?, step, headers, _place: place };
    let stopping = stopping.map(|Extension(stopping)| stopping);
    let stats = shared.app.query_stats.clone();
    stats.streams.fetch_add(1, Ordering::Relaxed);
    tokio::spawn(async move {
        let stopped = async {
            match stopping {
                Some(stopping) => stopping.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stopped => {}
            () = sender.closed() => {}
            () = stream.feed(&sender) => {}
        }
        stats.streams.fetch_sub(1, Ordering::Relaxed);
    });
    let mut response = Response::new(Body::new(Events(events)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // A proxy that gathers answers would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// One client's stream.
struct Stream {
    shared: Arc<Shared>,
    watched: Vec<Watched>,
    step: Duration,
    /// With them it asked; they are looked at again now and then.
    headers: HeaderMap,
    _place: Place,
}

impl Stream {
    /// Writes events until the client is gone, too slow, or may no longer read.
    async fn feed(mut self, sender: &mpsc::Sender<Bytes>) {
        let mut checked = Instant::now();
        loop {
            let event = if self.round().await { self.event() } else { ": nothing new\n\n".to_owned() };
            if checked.elapsed() >= CHECK_EVERY {
                checked = Instant::now();
                if auth::identify(&self.shared.app.access, &self.headers, &Method::GET).is_err() {
                    let _ = sender.try_send(Bytes::from_static(b"event: end\ndata: the token is no longer valid\n\n"));
                    return;
                }
            }
            let sent = tokio::time::timeout(STALL_MAX, sender.send(event.into())).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Waits until every topic has something new, though no longer than two steps; whether any has.
    async fn round(&mut self) -> bool {
        let until = Instant::now() + 2 * self.step;
        let mut any = false;
        for watched in &mut self.watched {
            any |= matches!(tokio::time::timeout_at(until, watched.changed()).await, Ok(Ok(())));
        }
        any
    }

    fn event(&mut self) -> String {
        let rounds: Vec<_> = self.watched.iter_mut().map(|watched| watched.borrow_and_update().clone()).collect();
        let time_ms = rounds.iter().flatten().map(|round| round.time_ms).max().unwrap_or_default();
        let mut event = format!("data: {{\"time_ms\":{time_ms},\"results\":[");
        let mut errors = serde_json::Map::new();
        for (at, round) in rounds.iter().enumerate() {
            let answer = round.as_ref().map(|round| &round.answer);
            let json = match answer {
                Some(Ok(json)) => json,
                Some(Err(error)) => {
                    errors.insert(at.to_string(), error.as_str().into());
                    "[]"
                }
                None => "[]",
            };
            event.push_str(if at > 0 { "," } else { "" });
            event.push_str(json);
        }
        event.push(']');
        if !errors.is_empty() {
            // JSON has no line breaks in it, which would end the event.
            let _ = write!(event, ",\"errors\":{}", serde_json::Value::Object(errors));
        }
        event.push_str("}\n\n");
        event
    }
}

/// A body of events.
struct Events(mpsc::Receiver<Bytes>);

impl HttpBody for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(ready!(self.0.poll_recv(context)).map(|event| Ok(Frame::data(event))))
    }
}
