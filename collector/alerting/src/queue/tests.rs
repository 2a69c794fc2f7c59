//! The queue against receivers that behave badly.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::labels::LabelSet;
use crate::notification::Transition;

const SECOND: i64 = 1_000;

fn notification(alert: &str, nth: usize) -> Arc<Notification> {
    Arc::new(Notification {
        id: format!("{alert}-{nth}"),
        alert_key: alert.to_owned(),
        transition: Transition::Fired,
        at_ms: 0,
        labels: LabelSet::new([("alertname", alert)]),
        annotations: LabelSet::empty(),
        value: f64::INFINITY,
        active_at_ms: 0,
        fired_at_ms: 0,
        resolved_at_ms: None,
        no_data_since_ms: None,
        expr: "x".to_owned(),
        depends_on: Vec::new(),
        who: None,
    })
}

fn down() -> Outcome {
    Outcome::Retry { reason: "connection refused".to_owned(), retry_after_ms: None }
}

#[test]
fn a_receiver_that_is_down_does_not_delay_another() {
    let mut queue = Queue::new(1);
    queue.push(0, "down", notification("a", 0));
    queue.push(0, "well", notification("a", 0));
    queue.push(0, "well", notification("b", 1));
    let attempts = [queue.poll(0).unwrap(), queue.poll(0).unwrap()];
    assert_eq!(attempts.each_ref().map(|attempt| &*attempt.receiver), ["down", "well"]);
    assert_eq!(queue.poll(0), None, "one at a time to each");
    queue.on_result(attempts[0].id, 0, down());
    queue.on_result(attempts[1].id, 0, Outcome::Delivered);
    assert_eq!(queue.poll(0).unwrap().notification.id, "b-1");
}

#[test]
fn a_receiver_that_is_down_is_left_in_peace_for_longer_and_longer() {
    let mut queue = Queue::new(3);
    let alerts = 30;
    for nth in 0..alerts {
        queue.push(0, "down", notification(&format!("alert {nth}"), nth));
    }
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..alerts {
        let attempt = queue.poll(now).unwrap();
        queue.on_result(attempt.id, now, down());
        assert_eq!(queue.poll(now), None, "the next alert's message must wait too");
        let due = queue.due_ms().unwrap();
        waits.push(due - now);
        now = due;
    }
    assert!(waits.iter().zip(1..).all(|(wait, nth)| *wait <= backoff_ms(nth)), "{waits:?}");
    assert!(waits.iter().all(|wait| (1..=limits::BACKOFF_MAX_MS).contains(wait)), "{waits:?}");
    assert!(waits[10..].iter().sum::<i64>() > 5 * limits::BACKOFF_MAX_MS, "{waits:?}");
}

#[test]
fn retry_after_and_rate_limits_are_honoured() {
    let mut queue = Queue::new(1);
    queue.set_min_gap_ms("slack", SECOND);
    for nth in 0..3 {
        queue.push(0, "slack", notification("a", nth));
    }
    let first = queue.poll(0).unwrap();
    let outcome = Outcome::from_http(429, Some(30 * SECOND), "slow down");
    assert_eq!(outcome, Outcome::Retry { reason: "HTTP 429: slow down".to_owned(), retry_after_ms: Some(30 * SECOND) });
    let Some(DeliveryChange::Put(entry)) = queue.on_result(first.id, 0, outcome) else { panic!() };
    assert_eq!((entry.attempts, entry.last_error.as_deref()), (1, Some("HTTP 429: slow down")));
    assert_eq!((queue.due_ms(), queue.poll(30 * SECOND - 1)), (Some(30 * SECOND), None));
    let again = queue.poll(30 * SECOND).unwrap();
    assert_eq!((again.id, again.attempts), (first.id, 1));
    queue.on_result(again.id, 30 * SECOND, Outcome::Delivered);
    assert_eq!((queue.poll(31 * SECOND - 1), queue.due_ms()), (None, Some(31 * SECOND)));
    assert_eq!(queue.poll(31 * SECOND).unwrap().notification.id, "a-1");
    assert_eq!(queue.on_result(first.id, 31 * SECOND, Outcome::Delivered), None, "an answer that comes twice");
}

#[test]
fn a_message_that_always_fails_does_not_hold_up_other_alerts() {
    let mut queue = Queue::new(7);
    queue.push(0, "r", notification("poison", 0));
    queue.push(0, "r", notification("poison", 1));
    queue.push(0, "r", notification("b", 0));
    let mut now = 0;
    let mut delivered = Vec::new();
    while delivered.is_empty() {
        let attempt = queue.poll(now).unwrap();
        let poison = attempt.notification.alert_key == "poison";
        assert_ne!(attempt.notification.id, "poison-1", "never before the one it follows");
        if !poison {
            delivered.push(attempt.notification.id.clone());
        }
        queue.on_result(attempt.id, now, if poison { down() } else { Outcome::Delivered });
        now = queue.due_ms().unwrap();
    }
    assert_eq!(delivered, ["b-0"]);
    assert!(now < 10 * limits::BACKOFF_MAX_MS);
}

#[test]
fn final_refusals_expiry_and_overflow_are_counted() {
    let mut queue = Queue::new(1);
    queue.push(0, "r", notification("a", 0));
    let attempt = queue.poll(0).unwrap();
    let outcome = Outcome::from_http(400, None, "invalid_blocks");
    assert_eq!(queue.on_result(attempt.id, 0, outcome), Some(DeliveryChange::Remove(attempt.id)));
    queue.push(0, "r", notification("a", 1));
    let attempt = queue.poll(0).unwrap();
    let late = limits::DELIVERY_AGE_MAX_MS;
    assert_eq!(queue.on_result(attempt.id, late, down()), Some(DeliveryChange::Remove(attempt.id)));
    for nth in 0..=limits::DELIVERIES_PER_RECEIVER_MAX {
        queue.push(late, "r", notification("a", nth));
    }
    let (_, counts) = queue.counts().next().unwrap();
    assert_eq!((counts.refused, counts.expired, counts.dropped), (1, 1, 1));
    assert_eq!(counts.waiting, limits::DELIVERIES_PER_RECEIVER_MAX);
    assert_eq!(queue.poll(late).unwrap().notification.id, "a-1", "the oldest was dropped");
}

#[test]
fn addresses_and_permissions_are_waited_for() {
    for status in [301, 401, 403, 404, 408, 410, 429, 500, 503] {
        assert!(matches!(Outcome::from_http(status, None, ""), Outcome::Retry { .. }), "{status}");
    }
    for status in [400, 413, 422] {
        assert!(matches!(Outcome::from_http(status, None, ""), Outcome::Refused { .. }), "{status}");
    }
}

#[test]
fn lines_of_removed_receivers_go() {
    let mut queue = Queue::new(1);
    queue.push(0, "old", notification("a", 0));
    queue.push(0, "new", notification("a", 0));
    assert_eq!(queue.retain_receivers(|name| name == "new"), [DeliveryChange::Remove(1)]);
    assert_eq!(queue.counts().map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), ["new"]);
}

#[derive(Clone, Debug)]
enum Event {
    Push { receiver: usize, alert: usize },
    Answer { kind: usize },
    Wait { ms: i64 },
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0_usize..3, 0_usize..3).prop_map(|(receiver, alert)| Event::Push { receiver, alert }),
        4 => (0_usize..4).prop_map(|kind| Event::Answer { kind }),
        3 => (1_i64..20_000).prop_map(|ms| Event::Wait { ms }),
        1 => Just(Event::Restart),
    ];
    prop::collection::vec(event, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Over any answers and restarts: every message is delivered at least once, in order per alert and receiver, and
    /// the store holds exactly what waits.
    #[test]
    fn nothing_is_lost_and_order_holds(events in events(), seed in any::<u64>()) {
        let mut queue = Queue::new(seed);
        let mut store: BTreeMap<u64, String> = BTreeMap::new();
        let mut sent: HashMap<(String, String), Vec<String>> = HashMap::new();
        let mut got: HashMap<(String, String), Vec<String>> = HashMap::new();
        let mut flying: Vec<Attempt> = Vec::new();
        let mut now = 0;
        let receivers = ["x", "y", "z"];
        let drain = 400;
        for (nth, event) in events.into_iter().chain(std::iter::repeat_n(Event::Answer { kind: 0 }, drain)).enumerate() {
            let mut changes = Vec::new();
            match event {
                Event::Push { receiver, alert } => {
                    let notification = notification(["a", "b", "c"][alert], nth);
                    let key = (receivers[receiver].to_owned(), notification.alert_key.clone());
                    sent.entry(key).or_default().push(notification.id.clone());
                    changes = queue.push(now, receivers[receiver], notification);
                }
                Event::Answer { kind } => {
                    while let Some(attempt) = queue.poll(now) {
                        prop_assert!(flying.iter().all(|other| other.receiver != attempt.receiver));
                        flying.push(attempt);
                    }
                    match flying.pop() {
                        Some(attempt) => {
                            let outcome = match kind {
                                0 | 1 => Outcome::Delivered,
                                2 => down(),
                                _ => Outcome::Retry { reason: String::new(), retry_after_ms: Some(5_000) },
                            };
                            if outcome == Outcome::Delivered {
                                let key = (attempt.receiver.clone(), attempt.notification.alert_key.clone());
                                got.entry(key).or_default().push(attempt.notification.id.clone());
                            }
                            changes.extend(queue.on_result(attempt.id, now, outcome));
                        }
                        None => now = queue.due_ms().unwrap_or(now).max(now),
                    }
                }
                Event::Wait { ms } => now += ms,
                Event::Restart => {
                    // What was in flight may have arrived: it is sent again, hence at least once.
                    flying.clear();
                    queue = Queue::new(seed);
                    queue.restore(store.values().map(|json| serde_json::from_str(json).unwrap()));
                }
            }
            for change in changes {
                match change {
                    DeliveryChange::Put(entry) => drop(store.insert(entry.id, serde_json::to_string(&entry).unwrap())),
                    DeliveryChange::Remove(id) => prop_assert!(store.remove(&id).is_some()),
                }
            }
            let waiting: usize = queue.counts().map(|(_, counts)| counts.waiting).sum();
            prop_assert_eq!(waiting, store.len());
        }
        prop_assert!(store.is_empty(), "{} wait for ever", store.len());
        prop_assert_eq!(sent, got);
    }
}
