//! Turns: who gets them, who waits, who goes.

use super::*;
use proptest::prelude::*;

const LONG: Duration = Duration::from_secs(600);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn pool(at_once: usize, waiting_max: usize) -> Arc<QueryPool> {
    QueryPool::new(at_once, waiting_max, Arc::default())
}

fn client(name: &str) -> Client {
    Client::named(name)
}

#[test]
fn a_dropped_request_cancels_its_query_and_frees_its_turn() {
    runtime().block_on(async {
        let pool = pool(1, 1);
        let (begun, has_begun) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let me = client("a");
        let endless = pool.run(&me, LONG, move |_, cancel| {
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
        assert_eq!(pool.run(&client("a"), LONG, |_, _| Ok(7)).await.unwrap(), 7);
        assert_eq!(pool.stats.abandoned.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn too_many_who_wait_are_turned_away() {
    let pool = pool(1, 2);
    let first = pool.queue(&client("a")).unwrap();
    let second = pool.queue(&client("a")).unwrap();
    let third = pool.queue(&client("b")).unwrap();
    assert!(pool.queue(&client("c")).is_err());
    assert_eq!(pool.stats.refused.load(Ordering::Relaxed), 1);
    drop(second);
    assert!(pool.queue(&client("c")).is_ok(), "one has gone");
    drop((first, third));
    let queue = pool.lock();
    assert!(queue.clients.is_empty() && queue.running == 0 && queue.waiting == 0);
}

#[test]
fn one_client_cannot_fill_the_queue_nor_take_the_last_turn() {
    let pool = pool(3, 10_000);
    let mut held: Vec<_> = (0..WAITING_MAX_A_CLIENT + 2).map(|_| pool.queue(&client("greedy")).unwrap()).collect();
    assert!(pool.queue(&client("greedy")).is_err());
    assert_eq!(pool.lock().running, 2);
    held.push(pool.queue(&client("modest")).unwrap());
    assert_eq!(pool.lock().clients[&client("modest")].running, 1, "it need not wait");
}

#[test]
fn a_free_turn_goes_to_who_runs_the_fewest() {
    runtime().block_on(async {
        let pool = pool(2, 100);
        let (a, b) = (client("a"), client("b"));
        let running_a = pool.turn(&a, LONG).await.unwrap().0;
        let running_b = pool.turn(&b, LONG).await.unwrap().0;
        let many: Vec<_> = (0..5).map(|_| pool.queue(&a).unwrap()).collect();
        let late = pool.queue(&b).unwrap();
        drop(running_b);
        let turn = late.turn().await;
        assert_eq!(turn.client, b, "whoever came later but runs nothing is before whoever runs one");
        drop(running_a);
        let next = many.into_iter().next().unwrap().turn().await;
        assert_eq!(next.client, a);
    });
}

#[test]
fn a_panic_is_an_error_of_that_query_alone() {
    runtime().block_on(async {
        let (pool, me) = (pool(1, 1), client("a"));
        let broken: Result<(), ApiError> = pool.run(&me, LONG, |_, _| panic!("planted")).await;
        assert!(broken.is_err());
        assert!(pool.run(&me, LONG, |_, _| Ok(())).await.is_ok());
        assert!(pool.run(&me, Duration::ZERO, |_, _| Ok(())).await.is_err(), "no time is no time");
    });
}

proptest! {
    /// Whatever comes and goes: turns are never more than there are, none is lost, none waits beside a free one that
    /// it may have.
    #[test]
    fn turns_are_neither_lost_nor_made(
        steps in proptest::collection::vec((0usize..3, 0usize..4, any::<bool>()), 1..200),
        at_once in 1usize..5,
    ) {
        let pool = pool(at_once, 1000);
        let mut held = Vec::new();
        for (action, who, end) in steps {
            match action {
                0 | 1 => held.push(pool.queue(&client(["a", "b", "c", "d"][who])).unwrap()),
                _ if held.is_empty() => {}
                // Gone, granted or not.
                _ => drop(held.swap_remove(if end { held.len() - 1 } else { who % held.len() })),
            }
            let queue = pool.lock();
            let shares = queue.clients.values();
            prop_assert!(queue.running <= at_once);
            prop_assert_eq!(queue.running, shares.clone().map(|share| share.running).sum::<usize>());
            prop_assert_eq!(queue.waiting, shares.clone().map(|share| share.waiters.len()).sum::<usize>());
            prop_assert_eq!(queue.running + queue.waiting, held.len());
            let most = at_once.saturating_sub(1).max(1);
            let could = shares.clone().any(|share| share.running < most && !share.waiters.is_empty());
            prop_assert!(queue.running == at_once || !could);
        }
        drop(held);
        prop_assert!(pool.lock().clients.is_empty());
    }
}
