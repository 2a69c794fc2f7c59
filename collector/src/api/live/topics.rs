//! The queries that somebody watches: each evaluated once a tick, whoever many watch.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pitwatch_promql::{Engine, EngineOptions, Expr, Labels, Value, format_value};
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::super::Shared;
use super::super::envelope::ApiError;
use super::super::pool::Client;
use crate::clock::unix_ms;

/// Most streams at once.
pub(super) const LIVE_MAX: usize = 1_536;
/// Most streams of one token.
pub const LIVE_MAX_A_CLIENT: usize = 1_024;
/// Most distinct queries that are watched.
const TOPICS_MAX: usize = 512;
/// Most series of one answer.
const SERIES_MAX: usize = 2_000;
/// How long one evaluation may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A query that takes longer than its tick allows is asked less often: it may take this share of the time.
const REST_FOR_WORK: u32 = 9;

const _: () = assert!(LIVE_MAX_A_CLIENT < LIVE_MAX, "one token must not take every place");
const _: () = assert!(LIVE_MAX < super::super::CONNECTIONS_MAX, "others than streams have connections, too");

/// What a topic said last; nothing before its first evaluation.
pub(super) type Watched = watch::Receiver<Option<Arc<Round>>>;

/// One evaluation.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) time_ms: i64,
    /// The series as JSON, or what went wrong.
    pub(super) answer: Result<String, String>,
}

/// What is watched, by whom.
#[derive(Debug)]
pub(in super::super) struct Topics {
    known: Mutex<HashMap<Key, watch::Sender<Option<Arc<Round>>>>>,
    streams: Arc<Mutex<Streams>>,
    /// One evaluation at a time: people who watch never take more than one of the turns.
    turn: Semaphore,
}

type Key = (String, Duration);

#[derive(Debug, Default)]
struct Streams {
    all: usize,
    by_client: HashMap<Client, usize>,
}

impl Default for Topics {
    fn default() -> Self {
        Self { known: Mutex::default(), streams: Arc::default(), turn: Semaphore::new(1) }
    }
}

/// A stream's place among the streams.
#[derive(Debug)]
pub(super) struct Place {
    streams: Arc<Mutex<Streams>>,
    client: Client,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = lock(&self.streams);
        streams.all -= 1;
        if let Entry::Occupied(mut entry) = streams.by_client.entry(self.client.clone()) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Topics {
    /// A place for one more stream.
    pub(super) fn place(&self, client: &Client) -> Result<Place, ApiError> {
        let mut streams = lock(&self.streams);
        let own = streams.by_client.get(client).copied().unwrap_or(0);
        if streams.all >= LIVE_MAX || own >= LIVE_MAX_A_CLIENT {
            let whose = if own >= LIVE_MAX_A_CLIENT { " of this token" } else { "" };
            let message = format!("{} live streams{whose} are open, no more may: close some", streams.all.max(own));
            return Err(ApiError::unavailable(message));
        }
        streams.all += 1;
        streams.by_client.insert(client.clone(), own + 1);
        Ok(Place { streams: self.streams.clone(), client: client.clone() })
    }

    /// Whether nobody watches that query any more; then it is forgotten.
    fn is_left(&self, key: &Key) -> bool {
        let mut known = lock(&self.known);
        let left = known.get(key).is_none_or(|sender| sender.receiver_count() == 0);
        if left {
            known.remove(key);
        }
        left
    }
}

/// Watches a query; the first who does begins its evaluation.
pub(super) fn watch(shared: &Arc<Shared>, query: &str, step: Duration) -> Result<Watched, ApiError> {
    let expr = pitwatch_promql::parse(query).map_err(|error| ApiError::bad_parameter("query", error))?;
    // Written the same way, it is the same query.
    let key = (expr.to_string(), step);
    let mut known = lock(&shared.live.known);
    if let Some(sender) = known.get(&key) {
        let mut watched = sender.subscribe();
        watched.mark_changed();
        return Ok(watched);
    }
    if known.len() >= TOPICS_MAX {
        return Err(ApiError::unavailable(format!("{TOPICS_MAX} queries are watched, no more may: try again")));
    }
    let (sender, watched) = watch::channel(None);
    known.insert(key.clone(), sender.clone());
    drop(known);
    tokio::spawn(keep(shared.clone(), key, expr, sender));
    Ok(watched)
}

/// Evaluates a query tick after tick, until nobody watches.
async fn keep(shared: Arc<Shared>, key: Key, expr: Expr, sender: watch::Sender<Option<Arc<Round>>>) {
    let step_ms = i64::try_from(key.1.as_millis()).unwrap_or(1000);
    while !shared.live.is_left(&key) {
        let Ok(turn) = shared.live.turn.acquire().await else { return };
        let (begun, time_ms) = (Instant::now(), unix_ms());
        let answer = evaluate(&shared, expr.clone(), time_ms).await;
        drop(turn);
        shared.app.query_stats.watched.fetch_add(1, Ordering::Relaxed);
        sender.send_replace(Some(Arc::new(Round { time_ms, answer })));
        let rest = begun.elapsed() * REST_FOR_WORK;
        let to_tick = u64::try_from(step_ms - unix_ms().rem_euclid(step_ms)).unwrap_or(0);
        tokio::time::sleep(rest.max(Duration::from_millis(to_tick))).await;
    }
}

async fn evaluate(shared: &Arc<Shared>, expr: Expr, time_ms: i64) -> Result<String, String> {
    let (source, options) = (shared.source.clone(), shared.app.engine.clone());
    // Evaluated once for all who watch: it counts for none of them.
    let client = Client::named("live views");
    let answer = shared.queries.run(&client, TIMEOUT, move |left, cancel| {
        let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let engine = Engine::new(EngineOptions { timeout_ms, ..options });
        Ok(engine.instant(&source, &expr, time_ms, cancel)?.value)
    });
    json(answer.await.map_err(|error| error.to_string())?)
}

fn json(value: Value) -> Result<String, String> {
    let series = match value {
        Value::Vector(series) => series,
        Value::Scalar { ts_ms, value } => vec![(Labels::default(), ts_ms, value)],
        Value::String { .. } | Value::Matrix(_) => return Err("it has no value at one time: a vector is needed".into()),
    };
    if series.len() > SERIES_MAX {
        return Err(format!("{} series: a live view takes at most {SERIES_MAX}, narrow the query", series.len()));
    }
    let mut out = String::from("[");
    for (at, (labels, _, value)) in series.iter().enumerate() {
        let map: serde_json::Map<_, _> = labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(out, "{comma}{{\"labels\":{},\"value\":\"{}\"}}", json!(map), format_value(*value));
    }
    out.push(']');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_takes_every_place_and_places_come_back() {
        let topics = Topics::default();
        let (ann, bob) = (Client::named("ann"), Client::named("bob"));
        let mut places: Vec<Place> = (0..LIVE_MAX_A_CLIENT).map(|_| topics.place(&ann).unwrap()).collect();
        assert!(topics.place(&ann).unwrap_err().to_string().contains("of this token"));
        places.extend((LIVE_MAX_A_CLIENT..LIVE_MAX).map(|_| topics.place(&bob).unwrap()));
        assert!(topics.place(&bob).is_err());
        places.truncate(LIVE_MAX_A_CLIENT);
        assert!(topics.place(&bob).is_ok());
        drop(places);
        assert!(lock(&topics.streams).by_client.is_empty() && lock(&topics.streams).all == 0);
    }
}
