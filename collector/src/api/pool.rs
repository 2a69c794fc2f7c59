//! How many queries run at once, who waits, and when one is given up: its client is gone, or its time is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pitwatch_promql::Cancel;
use tokio::sync::Semaphore;

use super::envelope::ApiError;

/// Turns of queries, first come first served.
#[derive(Debug)]
pub(super) struct QueryPool {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Raises the flag when the request's future is dropped: its client is gone.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Counts one who waits for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl QueryPool {
    pub(super) fn new(at_once: usize, waiting_max: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(at_once)), waiting: AtomicUsize::new(0), waiting_max }
    }

    /// Runs `work` on a thread that may block, when its turn comes. `work` gets what is left of its time and a flag
    /// that says that nobody waits for it any more.
    pub(super) async fn run<T, F>(&self, time: Duration, work: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(Duration, &Cancel) -> Result<T, ApiError> + Send + 'static,
    {
        if time.is_zero() {
            return Err(ApiError::timeout("query timed out before it began: its timeout is 0"));
        }
        let begun = Instant::now();
        let turn = tokio::time::timeout(time, self.turn()).await;
        let turn = turn.map_err(|_| ApiError::timeout("query timed out in queue: others run, try again"))??;
        let cancel = Cancel::new();
        let guard = CancelOnDrop(cancel.clone());
        let left = time.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
        let done = tokio::task::spawn_blocking(move || {
            let answer = work(left, &cancel);
            // The turn ends with the work, not with the client's patience.
            drop(turn);
            answer
        });
        let answer = done.await;
        drop(guard);
        answer.unwrap_or_else(|error| Err(ApiError::internal(format!("the query stopped unexpectedly: {error}"))))
    }

    async fn turn(&self) -> Result<tokio::sync::OwnedSemaphorePermit, ApiError> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.waiting_max {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let message = format!("{} queries wait for their turn, the most allowed: try again", self.waiting_max);
            return Err(ApiError::unavailable(message));
        }
        let _waiting = Waiting(&self.waiting);
        let turn = self.turns.clone().acquire_owned().await;
        turn.map_err(|_| ApiError::unavailable("the collector stops"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    }

    #[test]
    fn a_dropped_request_cancels_its_query_and_frees_its_turn() {
        runtime().block_on(async {
            let pool = QueryPool::new(1, 1);
            let (begun, has_begun) = tokio::sync::oneshot::channel();
            let (ended, has_ended) = tokio::sync::oneshot::channel();
            let endless = pool.run(Duration::from_secs(600), move |_, cancel| {
                begun.send(()).unwrap();
                while !cancel.is_cancelled() {
                    std::thread::yield_now();
                }
                ended.send(()).unwrap();
                Ok(())
            });
            tokio::select! {
                _ = endless => panic!("it has no end"),
                begun = has_begun => begun.unwrap(),
            }
            has_ended.await.unwrap();
            assert_eq!(pool.run(Duration::from_secs(600), |_, _| Ok(7)).await.unwrap(), 7);
        });
    }

    #[test]
    fn too_many_who_wait_are_turned_away() {
        runtime().block_on(async {
            let pool = QueryPool::new(1, 1);
            let turn = pool.turn().await.unwrap();
            let mut second = std::pin::pin!(pool.turn());
            assert!(tokio::time::timeout(Duration::ZERO, second.as_mut()).await.is_err());
            assert!(pool.turn().await.is_err());
            drop(turn);
            assert!(second.await.is_ok());
            assert!(pool.run(Duration::ZERO, |_, _| Ok(())).await.is_err(), "no time is no time");
        });
    }

    #[test]
    fn a_panic_is_an_error_of_that_query_alone() {
        runtime().block_on(async {
            let pool = QueryPool::new(1, 1);
            let time = Duration::from_secs(600);
            let broken: Result<(), ApiError> = pool.run(time, |_, _| panic!("planted")).await;
            assert!(format!("{broken:?}").contains("unexpectedly"));
            assert!(pool.run(time, |_, _| Ok(())).await.is_ok());
        });
    }
}
