//! Groups and their clocks, what is told once and what again, crashes at any moment, storms.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::matchers::parse_matchers;
use crate::message::Detail;
use crate::routing::Routing;
use crate::silences::Silence;

const YAML: &str = "
route:
  receiver: hook
  group_by: [alertname]
  group_wait: 10s
  group_interval: 60s
  repeat_interval: 1h
receivers:
- name: hook
  webhook_configs: [{url: 'http://h'}]
- name: other
  webhook_configs: [{url: 'http://o'}]
inhibit_rules:
- {source_matchers: [alertname=Down], target_matchers: [alertname!=Down], equal: [instance]}
";
const CHAT: &str = "
route: {receiver: chat, group_by: ['...'], group_wait: 0s, group_interval: 1s}
receivers:
- name: chat
  slack_configs: [{api_url: 'http://s', channel: c, send_resolved: true}]
";

fn dispatcher(yaml: &str) -> Dispatcher {
    let routing = Routing::parse("am.yml", yaml, &|_| None).unwrap();
    let fallback = Fallback { receiver: Some("other".into()), after_ms: 120_000 };
    Dispatcher::new(Arc::new(routing), fallback, Silences::default(), 1)
}

fn alert(name: &str, instance: &str, fired_at_ms: i64, transition: Transition, at_ms: i64) -> Arc<Notification> {
    let over = matches!(transition, Transition::Resolved | Transition::Withdrawn);
    Arc::new(Notification {
        id: String::new(),
        alert_key: format!("{name}-{instance}"),
        transition,
        at_ms,
        labels: LabelSet::new([("alertname", name), ("instance", instance)]),
        annotations: LabelSet::empty(),
        value: 1.0,
        active_at_ms: fired_at_ms,
        fired_at_ms,
        resolved_at_ms: over.then_some(at_ms),
        no_data_since_ms: None,
        expr: String::new(),
        depends_on: Vec::new(),
    })
}

fn fired(name: &str, instance: &str, at_ms: i64) -> Arc<Notification> {
    alert(name, instance, at_ms, Transition::Fired, at_ms)
}

fn resolved(name: &str, instance: &str, fired_at_ms: i64, at_ms: i64) -> Arc<Notification> {
    alert(name, instance, fired_at_ms, Transition::Resolved, at_ms)
}

/// What is sent at an instant, everything taken: `receiver: +a -b` with instances that fire and that are over.
fn sent(dispatcher: &mut Dispatcher, now_ms: i64) -> Vec<String> {
    dispatcher.tick(now_ms);
    let mut all = Vec::new();
    while let Some(attempt) = dispatcher.poll(now_ms) {
        all.push(text(&attempt));
        dispatcher.on_result(attempt.line, now_ms, &Outcome::Delivered, None);
    }
    all
}

fn text(attempt: &Attempt) -> String {
    let name = |mark: &str, alert: &Arc<Notification>| format!(" {mark}{}", alert.labels.value("instance").unwrap());
    let firing: String = attempt.message.firing.iter().map(|alert| name("+", alert)).collect();
    let over: String = attempt.message.over.iter().map(|alert| name("-", alert)).collect();
    format!("{}:{firing}{over}", attempt.receiver)
}

#[test]
fn a_group_waits_for_more_and_then_keeps_its_interval() {
    let mut it = dispatcher(YAML);
    it.take(fired("A", "a", 0), 0);
    it.take(fired("A", "b", 2_000), 2_000);
    assert_eq!(sent(&mut it, 9_999), [""; 0]);
    assert_eq!(sent(&mut it, 10_000), ["hook: +a +b"]);
    it.take(fired("A", "c", 12_000), 12_000);
    assert_eq!(sent(&mut it, 60_000), [""; 0]);
    assert_eq!(sent(&mut it, 70_000), ["hook: +a +b +c"]);
    it.take(resolved("A", "b", 2_000, 80_000), 80_000);
    assert_eq!(sent(&mut it, 130_000), ["hook: +a +c -b"]);
    assert_eq!(it.episodes(), 2, "what is over and told is forgotten");
    it.take(resolved("A", "a", 0, 131_000), 131_000);
    it.take(resolved("A", "c", 12_000, 131_000), 131_000);
    assert_eq!(sent(&mut it, 190_000), ["hook: -a -c"]);
    assert_eq!((it.episodes(), it.due_ms()), (0, None));
}

#[test]
fn what_ends_within_the_first_wait_is_not_told_and_within_an_interval_it_is() {
    let mut it = dispatcher(YAML);
    it.take(fired("A", "short", 0), 0);
    it.take(resolved("A", "short", 0, 5_000), 5_000);
    it.take(fired("A", "a", 6_000), 6_000);
    assert_eq!(sent(&mut it, 10_000), ["hook: +a"]);
    it.take(fired("A", "b", 20_000), 20_000);
    it.take(resolved("A", "b", 20_000, 30_000), 30_000);
    assert_eq!(sent(&mut it, 70_000), ["hook: +a -b"]);
    it.take(fired("Down", "c", 80_000), 80_000);
    it.take(fired("A", "c", 81_000), 81_000);
    it.take(resolved("A", "c", 81_000, 82_000), 82_000);
    assert_eq!(sent(&mut it, 130_000), ["hook: +c"], "what is inhibited is not told when it ends");
}

#[test]
fn what_stands_is_said_again_unless_somebody_has_it() {
    let mut it = dispatcher(YAML);
    it.take(fired("A", "a", 0), 0);
    assert_eq!(sent(&mut it, 10_000).len(), 1);
    let mut said = Vec::new();
    for minute in 1..=121 {
        said.extend(sent(&mut it, minute * 60_000).iter().map(|_| minute));
        if minute == 70 {
            it.acknowledge("A-a", true);
        }
    }
    assert_eq!(said.len(), 1, "{said:?}");
    it.acknowledge("A-a", false);
    assert_eq!(sent(&mut it, 122 * 60_000 + 60_000).len(), 1);
}

#[test]
fn what_ends_before_it_was_due_is_not_told_and_what_was_due_is() {
    let mut it = dispatcher(YAML);
    it.take(fired("A", "a", 0), 0);
    it.take(resolved("A", "a", 0, 5_000), 5_000);
    assert_eq!(sent(&mut it, 10_000), [""; 0]);
    assert_eq!(it.episodes(), 0);
    it.take(fired("B", "b", 20_000), 20_000);
    it.tick(30_000);
    let attempt = it.poll(30_000).unwrap();
    it.on_result(attempt.line, 30_000, &Outcome::Retry { reason: "503".into(), retry_after_ms: None }, None);
    it.take(resolved("B", "b", 20_000, 40_000), 40_000);
    assert_eq!(sent(&mut it, 100_000), ["hook: -b"], "its receiver should have heard of it");
}

#[test]
fn silences_and_inhibition_hold_back_and_ends_are_told_to_those_who_heard() {
    let mut it = dispatcher(YAML);
    let silence = Silence {
        id: String::new(),
        matchers: parse_matchers("instance=b").unwrap(),
        starts_ms: 0,
        ends_ms: 200_000,
        created_by: "ann".into(),
        comment: "x".into(),
        updated_ms: 0,
        recurrence: Vec::new(),
    };
    it.silences.set(silence, "s", 0).unwrap();
    for instance in ["a", "b"] {
        it.take(fired("A", instance, 0), 0);
    }
    it.take(fired("Down", "c", 0), 0);
    it.take(fired("A", "c", 0), 0);
    let first = sent(&mut it, 10_000);
    assert_eq!(first.iter().map(String::as_str).collect::<BTreeSet<_>>(), ["hook: +a", "hook: +c"].into());
    // The end of what was told is told although it is silenced now.
    let all = Silence {
        id: String::new(),
        matchers: parse_matchers("alertname=A").unwrap(),
        ..it.silences.get("s").unwrap().clone()
    };
    it.silences.set(all, "t", 11_000).unwrap();
    it.take(resolved("A", "a", 0, 20_000), 20_000);
    assert_eq!(sent(&mut it, 70_000), ["hook: -a"]);
    // The silence over, what it held back is told; what depended on the other is not.
    assert_eq!(sent(&mut it, 260_000), ["hook: +b"]);
    it.take(resolved("Down", "c", 0, 261_000), 261_000);
    let last = sent(&mut it, 400_000);
    assert_eq!(last.iter().map(String::as_str).collect::<BTreeSet<_>>(), ["hook: +b +c", "hook: -c"].into());
}

#[test]
fn dependents_are_listed_in_the_message_of_what_they_depend_on() {
    let mut it = dispatcher(CHAT);
    let mut on = (*fired("Late", "pay", 0)).clone();
    on.depends_on = vec![LabelSet::new([("alertname", "Down"), ("instance", "db")])];
    it.take(fired("Down", "db", 0), 0);
    it.take(Arc::new(on), 0);
    it.tick(0);
    let attempt = it.poll(0).unwrap();
    assert_eq!(text(&attempt), "chat: +db");
    assert_eq!(attempt.message.also.len(), 1);
}

#[test]
fn what_is_not_taken_goes_to_the_fallback_and_its_end_too() {
    let mut it = dispatcher(YAML);
    it.take(fired("A", "a", 0), 0);
    let fail = Outcome::Retry { reason: "HTTP 500: no".into(), retry_after_ms: None };
    let (mut other, mut now_ms) = (Vec::new(), 0);
    while now_ms < 400_000 {
        now_ms += 1_000;
        if now_ms == 250_000 {
            it.take(resolved("A", "a", 0, now_ms), now_ms);
        }
        it.tick(now_ms);
        while let Some(attempt) = it.poll(now_ms) {
            let taken = &*attempt.receiver == "other";
            if taken {
                other.push((now_ms, text(&attempt), attempt.message.note.clone()));
            }
            it.on_result(attempt.line, now_ms, if taken { &Outcome::Delivered } else { &fail }, None);
        }
    }
    assert_eq!(other.len(), 2, "{other:?}");
    assert!((130_000..140_000).contains(&other[0].0) && other[0].1 == "other: +a", "{other:?}");
    assert_eq!(other[0].2.as_deref(), Some("for hook, which does not take it: HTTP 500: no"));
    assert_eq!(other[1].1, "other: -a");
    let counts: BTreeMap<_, _> = it.counts().map(|(name, _, counts)| (name.to_owned(), counts)).collect();
    assert_eq!(counts["hook"].waiting, 1);
    assert!(counts["hook"].retried > 5 && counts["hook"].last_error.is_some());
}

#[test]
fn a_refused_message_is_tried_short_and_then_given_to_the_fallback() {
    let mut it = dispatcher(YAML);
    it.take(fired("A", "a", 0), 0);
    it.tick(10_000);
    let refused = Outcome::Refused { reason: "HTTP 413".into() };
    let first = it.poll(10_000).unwrap();
    assert_eq!(first.message.detail, Detail::Full);
    it.on_result(first.line, 10_000, &refused, None);
    let second = it.poll(10_000).unwrap();
    assert_eq!(second.message.detail, Detail::Short);
    it.on_result(second.line, 10_000, &refused, None);
    assert_eq!(sent(&mut it, 11_000), ["other: +a"]);
    assert_eq!(sent(&mut it, 200_000), [""; 0]);
}

#[test]
fn a_line_that_is_asked_to_wait_waits_and_no_other_does() {
    let yaml = YAML.replace(
        "receiver: hook\n  group_by",
        "receiver: hook\n  routes: [{receiver: other, continue: true}, {receiver: hook}]\n  group_by",
    );
    let mut it = dispatcher(&yaml);
    it.take(fired("A", "a", 0), 0);
    it.tick(10_000);
    let mut taken = Vec::new();
    while let Some(attempt) = it.poll(10_000) {
        let hook = &*attempt.receiver == "hook";
        let wait = Outcome::Retry { reason: "429".into(), retry_after_ms: Some(30_000) };
        it.on_result(attempt.line, 10_000, if hook { &wait } else { &Outcome::Delivered }, None);
        taken.push(text(&attempt));
    }
    assert_eq!(taken.len(), 2, "{taken:?}");
    assert_eq!(sent(&mut it, 39_999), [""; 0]);
    assert_eq!(sent(&mut it, 40_000), ["hook: +a"]);
}

#[test]
fn a_storm_becomes_summaries_and_drains() {
    let mut it = dispatcher(CHAT);
    let mut told: BTreeSet<(String, bool)> = BTreeSet::new();
    let (mut messages, mut now_ms) = (0, 0);
    // 10,000 alerts in a minute, each a group of its own, over a minute later; one message a second is taken.
    for second in 0..200_i64 {
        now_ms = second * 1_000;
        for at in (0..167).map(|at| second * 167 + at) {
            if second < 60 {
                it.take(fired("A", &at.to_string(), now_ms), now_ms);
            }
            let old = at - 60 * 167;
            if (60..120).contains(&second) {
                it.take(resolved("A", &old.to_string(), now_ms - 60_000, now_ms), now_ms);
            }
        }
        it.tick(now_ms);
        while let Some(attempt) = it.poll(now_ms) {
            messages += 1;
            let list = |list: &[Arc<Notification>], over| {
                list.iter().map(|one| (one.labels.value("instance").unwrap().to_owned(), over)).collect::<Vec<_>>()
            };
            told.extend(list(&attempt.message.firing, false));
            told.extend(list(&attempt.message.over, true));
            it.on_result(attempt.line, now_ms, &Outcome::Delivered, None);
        }
    }
    assert_eq!(told.len(), 2 * 60 * 167, "every beginning and every end");
    assert!(messages <= 200, "{messages}");
    assert_eq!((it.episodes(), it.due_ms()), (0, None), "at {now_ms}");
}

/// A state store of changes.
#[derive(Default)]
struct Store {
    episodes: BTreeMap<u64, Arc<Notification>>,
    told: BTreeMap<String, StoredTold>,
}

impl Store {
    fn save(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::PutEpisode(number, notification) => drop(self.episodes.insert(number, notification)),
                Change::RemoveEpisode(number) => drop(self.episodes.remove(&number)),
                Change::PutTold(told) => drop(self.told.insert(told.key(), told)),
                Change::RemoveTold(key) => drop(self.told.remove(&key)),
            }
        }
    }
}

proptest! {
    /// Alerts come and go while the receiver fails and the collector crashes: what the receiver hears last of every
    /// alert is how it stands, and it hears of every episode that lasted.
    #[test]
    fn crashes_and_failures_lose_nothing(steps in proptest::collection::vec((0..6_u8, 0..4_u8, 1..40_i64), 1..120)) {
        let mut it = dispatcher(&YAML.replace("group_wait: 10s", "group_wait: 0s").replace("60s", "1ms"));
        let mut store = Store::default();
        let mut firing: BTreeMap<u8, i64> = BTreeMap::new();
        let mut last: BTreeMap<(u8, i64), bool> = BTreeMap::new();
        let mut wanted: BTreeMap<(u8, i64), bool> = BTreeMap::new();
        let mut now_ms = 1_000_000;
        let hear = |attempt: &Attempt, last: &mut BTreeMap<(u8, i64), bool>| {
            for one in attempt.message.alerts() {
                let instance: u8 = one.labels.value("instance").unwrap().parse().unwrap();
                last.insert((instance, one.fired_at_ms), one.is_over());
            }
        };
        for (what, instance, wait) in steps {
            now_ms += wait * 100;
            let name = instance.to_string();
            match what {
                0 | 1 => match firing.remove(&instance) {
                    Some(since) => {
                        store.save(it.take(resolved("A", &name, since, now_ms), now_ms));
                        wanted.insert((instance, since), true);
                    }
                    None => {
                        store.save(it.take(fired("A", &name, now_ms), now_ms));
                        store.save(it.tick(now_ms));
                        firing.insert(instance, now_ms);
                        wanted.insert((instance, now_ms), false);
                    }
                },
                2 => {
                    // Crash: with a message taken but not noted, half of the time.
                    if wait % 2 == 0 && let Some(attempt) = it.poll(now_ms) {
                        hear(&attempt, &mut last);
                    }
                    it = dispatcher(&YAML.replace("group_wait: 10s", "group_wait: 0s").replace("60s", "1ms"));
                    let (episodes, told) = (store.episodes.values().cloned().collect(), store.told.values().cloned().collect());
                    let changes = it.restore(episodes, told, now_ms);
                    store.save(changes);
                    store.save(it.tick(now_ms));
                }
                _ => {
                    store.save(it.tick(now_ms));
                    while let Some(attempt) = it.poll(now_ms) {
                        let taken = wait % 3 != 0;
                        if taken { hear(&attempt, &mut last); }
                        let fail = Outcome::Retry { reason: "no".into(), retry_after_ms: None };
                        let outcome = if taken { Outcome::Delivered } else { fail };
                        store.save(it.on_result(attempt.line, now_ms, &outcome, None));
                    }
                }
            }
        }
        for _ in 0..40 {
            now_ms += 60_000;
            store.save(it.tick(now_ms));
            while let Some(attempt) = it.poll(now_ms) {
                hear(&attempt, &mut last);
                store.save(it.on_result(attempt.line, now_ms, &Outcome::Delivered, None));
            }
        }
        prop_assert_eq!(&last, &wanted);
        prop_assert_eq!(store.episodes.len(), firing.len());
        prop_assert!(store.told.len() <= 1, "{:?}", store.told.keys());
    }
}
