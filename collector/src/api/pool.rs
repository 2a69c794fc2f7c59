//! How many queries run at once, whose turn it is, and when one is given up: its client is gone, or its time is over.
//!
//! A client is a token's name. A free turn goes to the client that runs the fewest queries, so that one who asks much
//! waits on himself; and nobody has the last turn for long queries: one client alone may not take all.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::Response;
use pitwatch_promql::Cancel;
use tokio::sync::oneshot;

use super::envelope::ApiError;
use super::output::{self, Output};
use crate::access::Principal;

/// Most queries of one client that wait for their turn; more are turned away.
pub const WAITING_MAX_A_CLIENT: usize = 128;

/// Whose queries share their turns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client(Arc<str>);

impl Client {
    pub(super) fn named(name: &str) -> Self {
        Self(name.into())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let principal = parts.extensions.get::<Principal>();
        principal.map(|who| Self(who.name.clone())).ok_or_else(|| ApiError::no_token("a token is needed"))
    }
}

/// What becomes of queries, for the collector's own metrics.
#[derive(Debug, Default)]
pub struct QueryStats {
    /// Queries that run.
    pub running: AtomicU64,
    /// Queries that wait for their turn.
    pub waiting: AtomicU64,
    /// Queries that had their turn.
    pub begun: AtomicU64,
    /// Queries that were turned away because too many waited.
    pub refused: AtomicU64,
    /// Queries whose time was over while they waited.
    pub expired: AtomicU64,
    /// Queries whose client was gone before the answer.
    pub abandoned: AtomicU64,
    /// Streams of live views.
    pub streams: AtomicU64,
    /// Evaluations for live views.
    pub watched: AtomicU64,
    /// How long queries waited, in all, in microseconds.
    pub waited_us: AtomicU64,
    /// How long queries ran, in all, in microseconds.
    pub ran_us: AtomicU64,
}

fn add(counter: &AtomicU64, time: Duration) {
    counter.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Turns of queries.
#[derive(Debug)]
pub(super) struct QueryPool {
    queue: Mutex<Queue>,
    at_once: usize,
    waiting_max: usize,
    stats: Arc<QueryStats>,
}

#[derive(Debug, Default)]
struct Queue {
    running: usize,
    waiting: usize,
    /// Those that run or wait, and nobody else.
    clients: HashMap<Client, Share>,
    next: u64,
}

/// What a client has.
#[derive(Debug, Default)]
struct Share {
    running: usize,
    /// In the order in which they came.
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    grant: oneshot::Sender<()>,
}

/// The right to run a query. Dropped, it goes to the next.
#[derive(Debug)]
pub(super) struct Turn {
    pool: Arc<QueryPool>,
    client: Client,
    begun: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        add(&self.pool.stats.ran_us, self.begun.elapsed());
        let mut queue = self.pool.lock();
        queue.end(&self.client);
        self.pool.grant(&mut queue);
    }
}

/// One who waits; whoever stops waiting leaves the queue.
struct Waiting<'p> {
    pool: &'p Arc<QueryPool>,
    client: Client,
    number: u64,
    grant: oneshot::Receiver<()>,
    begun: Instant,
    granted: bool,
}

impl Waiting<'_> {
    async fn turn(mut self) -> Turn {
        // The sender goes only with the grant, or with this waiter.
        let _ = (&mut self.grant).await;
        self.granted = true;
        Turn { pool: self.pool.clone(), client: self.client.clone(), begun: Instant::now() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        add(&self.pool.stats.waited_us, self.begun.elapsed());
        if self.granted {
            return;
        }
        let mut queue = self.pool.lock();
        if !queue.leave(&self.client, self.number) {
            // Its turn came at the same moment.
            queue.end(&self.client);
            self.pool.grant(&mut queue);
        }
        self.pool.show(&queue);
    }
}

impl Queue {
    /// Takes a waiter away; false if there is none of that number.
    fn leave(&mut self, client: &Client, number: u64) -> bool {
        let Some(share) = self.clients.get_mut(client) else { return false };
        let Some(at) = share.waiters.iter().position(|waiter| waiter.number == number) else { return false };
        share.waiters.remove(at);
        self.waiting -= 1;
        self.tidy(client);
        true
    }

    /// A query of that client has ended.
    fn end(&mut self, client: &Client) {
        if let Some(share) = self.clients.get_mut(client) {
            share.running -= 1;
            self.running -= 1;
        }
        self.tidy(client);
    }

    fn tidy(&mut self, client: &Client) {
        if self.clients.get(client).is_some_and(|share| share.running == 0 && share.waiters.is_empty()) {
            self.clients.remove(client);
        }
    }

    /// Whose turn is next: of those that may run one more, who runs the fewest; among equals who waits longest.
    fn next(&self, most: usize) -> Option<Client> {
        let waits = |share: &Share| Some((share.running, share.waiters.front()?.number));
        let allowed = self.clients.iter().filter(|(_, share)| share.running < most);
        let ranked = allowed.filter_map(|(client, share)| Some((waits(share)?, client)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, client)| client.clone())
    }
}

impl QueryPool {
    pub(super) fn new(at_once: usize, waiting_max: usize, stats: Arc<QueryStats>) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), at_once, waiting_max, stats })
    }

    /// What a panic left behind is whole: counts change together under the lock.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives free turns away.
    fn grant(&self, queue: &mut Queue) {
        // One turn is always left for others, where there is more than one.
        let most = self.at_once.saturating_sub(1).max(1);
        while queue.running < self.at_once {
            let Some(client) = queue.next(most) else { break };
            let Some(share) = queue.clients.get_mut(&client) else { break };
            let Some(waiter) = share.waiters.pop_front() else { break };
            share.running += 1;
            queue.running += 1;
            queue.waiting -= 1;
            self.stats.begun.fetch_add(1, Ordering::Relaxed);
            // A waiter that has just gone finds on its way out that it was granted, and gives it back.
            let _ = waiter.grant.send(());
        }
        self.show(queue);
    }

    fn show(&self, queue: &Queue) {
        self.stats.running.store(queue.running as u64, Ordering::Relaxed);
        self.stats.waiting.store(queue.waiting as u64, Ordering::Relaxed);
    }

    /// Takes a place in the queue.
    fn queue(self: &Arc<Self>, client: &Client) -> Result<Waiting<'_>, ApiError> {
        let mut queue = self.lock();
        let of_client = queue.clients.get(client).map_or(0, |share| share.waiters.len());
        // Who need not wait is never turned away: the bounds are of those that do.
        if queue.waiting >= self.waiting_max || of_client >= WAITING_MAX_A_CLIENT {
            self.stats.refused.fetch_add(1, Ordering::Relaxed);
            let (count, most, whose) = match of_client >= WAITING_MAX_A_CLIENT {
                true => (of_client, WAITING_MAX_A_CLIENT, " of this token"),
                false => (queue.waiting, self.waiting_max, ""),
            };
            let message = format!("{count} queries{whose} wait for their turn, at most {most} may: try again");
            return Err(ApiError::unavailable(message));
        }
        let number = queue.next;
        queue.next += 1;
        let (sender, grant) = oneshot::channel();
        queue.clients.entry(client.clone()).or_default().waiters.push_back(Waiter { number, grant: sender });
        queue.waiting += 1;
        self.grant(&mut queue);
        Ok(Waiting { pool: self, client: client.clone(), number, grant, begun: Instant::now(), granted: false })
    }

    /// A turn, and what is left of the time.
    async fn turn(self: &Arc<Self>, client: &Client, time: Duration) -> Result<(Turn, Duration), ApiError> {
        if time.is_zero() {
            return Err(ApiError::timeout("query timed out before it began: its timeout is 0"));
        }
        let begun = Instant::now();
        let turn = tokio::time::timeout(time, self.queue(client)?.turn()).await.map_err(|_| {
            self.stats.expired.fetch_add(1, Ordering::Relaxed);
            ApiError::timeout("query timed out in queue: others run, try again")
        })?;
        Ok((turn, time.saturating_sub(begun.elapsed()).max(Duration::from_millis(1))))
    }

    /// Runs `work` on a thread that may block, when its client's turn comes. `work` gets what is left of its time and a
    /// flag that says that nobody waits for it any more.
    pub(super) async fn run<T, F>(self: &Arc<Self>, client: &Client, time: Duration, work: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(Duration, &Cancel) -> Result<T, ApiError> + Send + 'static,
    {
        let (turn, left) = self.turn(client, time).await?;
        let guard = CancelOnDrop::new(self.stats.clone());
        let cancel = guard.cancel.clone();
        let done = tokio::task::spawn_blocking(move || {
            let answer = work(left, &cancel);
            // The turn ends with the work, not with the client's patience.
            drop(turn);
            answer
        });
        let answer = done.await;
        guard.disarm();
        answer.unwrap_or_else(|error| Err(stopped(&error)))
    }

    /// As [`QueryPool::run`], for work that writes its answer: what is long is sent while it is written.
    pub(super) async fn stream<F>(
        self: &Arc<Self>,
        client: &Client,
        kind: &'static str,
        time: Duration,
        work: F,
    ) -> Result<Response, ApiError>
    where
        F: FnOnce(Duration, &Cancel, &mut Output) -> Result<(), ApiError> + Send + 'static,
    {
        let (turn, left) = self.turn(client, time).await?;
        let guard = CancelOnDrop::new(self.stats.clone());
        let cancel = guard.cancel.clone();
        let (mut out, chunks) = output::channel();
        let done = tokio::task::spawn_blocking(move || {
            let written = work(left, &cancel, &mut out).map(|()| out.finish());
            drop(turn);
            written
        });
        let response = output::response(kind, chunks, done).await;
        guard.disarm();
        response
    }
}

/// The error of work that panicked.
pub(super) fn stopped(error: &tokio::task::JoinError) -> ApiError {
    ApiError::internal(format!("the query stopped unexpectedly: {error}"))
}

/// Raises the flag when the request's future is dropped: its client is gone.
struct CancelOnDrop {
    cancel: Cancel,
    stats: Option<Arc<QueryStats>>,
}

impl CancelOnDrop {
    fn new(stats: Arc<QueryStats>) -> Self {
        Self { cancel: Cancel::new(), stats: Some(stats) }
    }

    fn disarm(mut self) {
        self.stats = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(stats) = &self.stats {
            stats.abandoned.fetch_add(1, Ordering::Relaxed);
            self.cancel.cancel();
        }
    }
}

#[cfg(test)]
mod tests;
