//! The engine over a made-up source: expressions are names, rows are what the test says.
//!
//! - `extensions`: what Pitwatch adds to rules, and Prometheus' semantics without it.
//! - `instances`: rules that are evaluated by instance.

mod extensions;
mod instances;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::notification::Transition;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

/// Rows by metric; `metric > 5` and `metric == 0` filter them, and their probe is the metric alone.
#[derive(Default)]
struct Fake {
    rows: HashMap<String, Vec<Row>>,
    broken: HashSet<String>,
    /// Every series that has not ended, with its last value.
    live: BTreeMap<LabelSet, f64>,
    asked_at_ms: std::cell::Cell<i64>,
}

impl Fake {
    fn set(&mut self, metric: &str, values: &[(&str, f64)]) {
        let row = |(instance, value): &(&str, f64)| Row {
            labels: LabelSet::new([("__name__", metric), ("instance", instance)]),
            value: *value,
        };
        self.rows.insert(metric.to_owned(), values.iter().map(row).collect());
    }

    fn live(&self) -> Vec<String> {
        self.live.iter().map(|(labels, value)| format!("{labels} {value}")).collect()
    }
}

impl Source for Fake {
    type Prepared = String;

    fn prepare(&self, expr: &str) -> Result<Prepared<String>, String> {
        let probe = expr.split_once(" > ").or(expr.split_once(" == ")).map(|(metric, _)| metric.to_owned());
        // `all_...` needs every series.
        let by_instance = !expr.starts_with("all_");
        Ok(Prepared { expr: expr.to_owned(), probe, by_instance })
    }

    fn run(&self, expr: &String, scope: Scope<'_>, ts_ms: i64) -> Result<Vec<Row>, String> {
        self.asked_at_ms.set(ts_ms);
        let within = |row: &Row| match (scope, row.labels.value("instance").unwrap_or("")) {
            (Scope::All, _) => true,
            (Scope::Only(these), instance) => these.contains(instance),
            (Scope::Except(those), instance) => !those.contains(instance),
        };
        if self.broken.contains(expr) {
            return Err("the store is away".to_owned());
        }
        let (metric, holds): (&str, fn(f64) -> bool) = match expr.split_once(' ') {
            Some((metric, "> 5")) => (metric, |v| v > 5.0),
            Some((metric, "< 3")) => (metric, |v| v < 3.0),
            Some((metric, "== 0")) => (metric, |v| v == 0.0),
            _ => (expr, |_| true),
        };
        let recorded = self.live.iter().filter(|(labels, _)| labels.value("__name__") == Some(metric));
        let recorded = recorded.map(|(labels, value)| Row { labels: labels.clone(), value: *value });
        let rows = self.rows.get(metric).cloned().unwrap_or_default().into_iter().chain(recorded);
        Ok(rows.filter(|row| holds(row.value) && within(row)).collect())
    }

    fn record(&mut self, _rule: &str, _ts_ms: i64, samples: &[RuleSample]) {
        for sample in samples {
            match sample.value {
                Some(value) => drop(self.live.insert(sample.labels.clone(), value)),
                None => assert!(self.live.remove(&sample.labels).is_some(), "ended twice: {}", sample.labels),
            }
        }
    }

    fn clock_us(&self) -> u64 {
        0
    }
}

fn file(source: &Fake, rules: &str) -> RuleFile<Prepared<String>> {
    let indented = rules.trim().replace('\n', "\n  ");
    let text = format!("groups:\n- name: g\n  interval: 1s\n  rules:\n  {indented}\n");
    RuleFile::parse("f.yml", &text, |expr| source.prepare(expr)).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn engine(source: &Fake, rules: &str) -> Engine<String> {
    Engine::new(vec![file(source, rules)], Options::default())
}

/// What was told: transition, instance, summary.
fn told(output: &Output) -> Vec<String> {
    let one = |n: &Notification| {
        let instance = n.labels.value("instance").unwrap_or("");
        let summary = n.annotations.value("summary").unwrap_or("");
        format!("{} {instance} {summary}", n.transition.as_str()).trim().to_owned()
    };
    output.notifications.iter().map(one).collect()
}

const HOT: &str = "
- alert: Hot
  expr: temp > 5
  for: 2s
  labels: {severity: page}
  annotations: {summary: 'is {{ $value }}'}";

#[test]
fn fires_once_its_time_is_full_and_resolves_on_a_good_value() {
    let mut source = Fake::default();
    let mut engine = engine(&source, HOT);
    let mut at = |now_ms, values: &[(&str, f64)]| {
        source.set("temp", values);
        let output = engine.evaluate(Wake::Clock, now_ms, &mut source);
        (told(&output), source.live(), output.changes.len())
    };
    assert_eq!(at(0, &[("a", 4.0), ("b", 5.0)]), (vec![], vec![], 0));
    let pending = vec![
        r#"{__name__="ALERTS", alertname="Hot", alertstate="pending", instance="a", severity="page"} 1"#.to_owned(),
        r#"{__name__="ALERTS_FOR_STATE", alertname="Hot", instance="a", severity="page"} 1"#.to_owned(),
    ];
    assert_eq!(at(1_000, &[("a", 9.0)]), (vec![], pending.clone(), 1));
    assert_eq!(at(2_999, &[("a", 8.0)]), (vec![], pending.clone(), 0));
    let firing: Vec<_> = pending.iter().map(|series| series.replace("pending", "firing")).collect();
    assert_eq!(at(3_999, &[("a", 7.0)]), (vec!["fired a is 7".to_owned()], firing.clone(), 1));
    assert_eq!(at(5_000, &[("a", 6.0)]), (vec![], firing, 0));
    assert_eq!(at(6_000, &[("a", 5.0)]), (vec!["resolved a is 6".to_owned()], vec![], 1));
    assert_eq!(at(7_000, &[("a", 5.0)]), (vec![], vec![], 0));
}

#[test]
fn missing_data_never_resolves() {
    let mut source = Fake::default();
    let mut engine = engine(&source, "- {alert: Hot, expr: temp > 5}");
    let mut at = |seconds: i64, values: &[(&str, f64)]| {
        source.set("temp", values);
        let output = engine.evaluate(Wake::Clock, seconds * SECOND, &mut source);
        let alerts = engine.rules().flat_map(|rule| rule.alerts().map(Alert::no_data_since_ms)).collect::<Vec<_>>();
        (told(&output), alerts)
    };
    assert_eq!(at(0, &[("a", 9.0), ("b", 9.0)]).0, ["fired a", "fired b"]);
    // b's host fell silent while a was repaired.
    assert_eq!(at(1, &[("a", 1.0)]), (vec!["resolved a".to_owned()], vec![Some(SECOND)]));
    assert_eq!(at(2, &[("a", 1.0), ("b", f64::NAN)]), (vec![], vec![Some(SECOND)]), "NaN is no value");
    assert_eq!(at(1_000, &[("a", 1.0)]), (vec![], vec![Some(SECOND)]));
    assert_eq!(at(1_001, &[("b", 6.0)]), (vec![], vec![None]), "it still is bad, and was told");
    assert_eq!(at(1_002, &[]), (vec![], vec![Some(1_002 * SECOND)]));
    assert_eq!(at(1_003, &[("b", 5.0)]), (vec!["resolved b".to_owned()], vec![]));
}

#[test]
fn a_rule_without_a_comparison_resolves_as_in_prometheus() {
    let mut source = Fake::default();
    let mut engine = engine(&source, "- {alert: Bad, expr: problems}");
    source.set("problems", &[("a", 1.0)]);
    assert_eq!(told(&engine.evaluate(Wake::Clock, 0, &mut source)), ["fired a"]);
    source.set("problems", &[]);
    assert_eq!(told(&engine.evaluate(Wake::Clock, SECOND, &mut source)), ["resolved a"]);
}

#[test]
fn a_value_with_more_labels_than_the_alert_is_a_value_too() {
    let mut source = Fake::default();
    let mut engine = engine(&source, "- {alert: Bad, expr: temp > 5}");
    source.rows.insert("temp".to_owned(), vec![Row { labels: LabelSet::new([("instance", "a")]), value: 9.0 }]);
    assert_eq!(told(&engine.evaluate(Wake::Clock, 0, &mut source)), ["fired a"]);
    source
        .rows
        .insert("temp".to_owned(), vec![Row { labels: LabelSet::new([("instance", "a"), ("cpu", "0")]), value: 1.0 }]);
    assert_eq!(told(&engine.evaluate(Wake::Clock, SECOND, &mut source)), ["resolved a"]);
}

#[test]
fn pending_outlives_a_gap_but_not_forever_and_does_not_fire_in_it() {
    let mut source = Fake::default();
    let mut engine = engine(&source, HOT);
    source.set("temp", &[("a", 9.0)]);
    engine.evaluate(Wake::Clock, 0, &mut source);
    source.set("temp", &[]);
    assert!(told(&engine.evaluate(Wake::Clock, 10 * SECOND, &mut source)).is_empty());
    source.set("temp", &[("a", 9.0)]);
    assert_eq!(told(&engine.evaluate(Wake::Clock, 11 * SECOND, &mut source)), ["fired a is 9"]);

    source.set("temp", &[("a", 9.0), ("b", 9.0)]);
    engine.evaluate(Wake::Clock, 12 * SECOND, &mut source);
    source.set("temp", &[("a", 9.0)]);
    engine.evaluate(Wake::Clock, 13 * SECOND, &mut source);
    let output = engine.evaluate(Wake::Clock, 13 * SECOND + limits::PENDING_NO_DATA_MAX_MS, &mut source);
    assert!(matches!(output.changes.as_slice(), [AlertChange::Remove(_)]) && output.notifications.is_empty());
}

#[test]
fn keep_firing_for_counts_from_the_first_good_value() {
    let mut source = Fake::default();
    let mut engine = engine(&source, "- {alert: Hot, expr: temp > 5, keep_firing_for: 10s}");
    let mut at = |seconds: i64, values: &[(&str, f64)]| {
        source.set("temp", values);
        told(&engine.evaluate(Wake::Clock, seconds * SECOND, &mut source))
    };
    assert_eq!(at(0, &[("a", 9.0)]), ["fired a"]);
    assert!(at(1, &[("a", 1.0)]).is_empty());
    assert!(at(5, &[("a", 9.0)]).is_empty());
    assert!(at(6, &[("a", 1.0)]).is_empty());
    assert!(at(15, &[("a", 1.0)]).is_empty());
    assert!(at(16, &[]).is_empty(), "the time is full, but nobody knows");
    assert_eq!(at(17, &[("a", 1.0)]), ["resolved a"]);
}

#[test]
fn a_firing_alert_is_told_once_and_a_restart_does_not_tell_it_again() {
    let mut source = Fake::default();
    let mut first = engine(&source, "- {alert: Hot, expr: temp > 5}");
    source.set("temp", &[("a", 9.0)]);
    assert_eq!(told(&first.evaluate(Wake::Clock, 0, &mut source)), ["fired a"]);
    let mut second = engine(&source, "- {alert: Hot, expr: temp > 5}");
    assert!(second.restore(first.stored(), 0, MINUTE).changes.is_empty());
    for minutes in [1, 240, 480] {
        let output = second.evaluate(Wake::Clock, minutes * MINUTE, &mut source);
        assert!(output.notifications.is_empty() && output.changes.is_empty(), "after {minutes} min");
    }
}

#[test]
fn a_failing_rule_leaves_its_alerts_and_the_other_rules_alone() {
    let mut source = Fake::default();
    let rules = "- {alert: Hot, expr: temp > 5}\n- {alert: Cold, expr: cold > 5}";
    let mut engine = engine(&source, rules);
    source.set("temp", &[("a", 9.0)]);
    source.set("cold", &[("a", 1.0)]);
    engine.evaluate(Wake::Clock, 0, &mut source);
    source.broken.insert("temp > 5".to_owned());
    source.set("cold", &[("a", 9.0)]);
    let output = engine.evaluate(Wake::Clock, SECOND, &mut source);
    assert_eq!(output.runs[0].error.as_deref(), Some("the store is away"));
    assert_eq!(engine.rules().next().unwrap().status().error.as_deref(), Some("the store is away"));
    assert_eq!(told(&output), ["fired a"]);
    source.broken = HashSet::from(["temp".to_owned()]);
    source.set("temp", &[("a", 1.0)]);
    let output = engine.evaluate(Wake::Clock, 2 * SECOND, &mut source);
    assert!(told(&output).is_empty(), "without the probe nobody knows");
    assert_eq!(output.runs[0].remark.as_deref(), Some("cannot tell whether alerts are over: the store is away"));
}

#[test]
fn labels_that_collide_fail_the_rule_and_templates_that_fail_say_so() {
    let mut source = Fake::default();
    let rules = "
- {alert: Same, expr: temp > 5, labels: {instance: all}}
- {alert: Text, expr: cold > 5, labels: {level: '{{ if gt $value 8.0 }}high{{ else }}low{{ end }}'}, annotations: {summary: '{{ .Nope }}'}}";
    let mut engine = engine(&source, rules);
    source.set("temp", &[("a", 9.0), ("b", 9.0)]);
    source.set("cold", &[("c", 6.0)]);
    let output = engine.evaluate(Wake::Clock, 0, &mut source);
    assert!(output.runs[0].error.as_deref().unwrap().contains("become one alert"), "{:?}", output.runs[0]);
    assert!(output.runs[1].remark.as_deref().unwrap().contains("no field .Nope"), "{:?}", output.runs[1]);
    let [alert] = output.notifications.as_slice() else { panic!("{output:?}") };
    assert!(alert.annotations.value("summary").unwrap().starts_with("<error expanding template"));
    assert_eq!(alert.labels.value("level"), Some("low"));
    // A label made of the value changes the alert's identity: one is over, another begins.
    source.set("cold", &[("c", 9.0)]);
    let output = engine.evaluate(Wake::Clock, SECOND, &mut source);
    let levels: Vec<_> =
        output.notifications.iter().map(|n| (n.transition, n.labels.value("level").unwrap())).collect();
    assert_eq!(levels, [(Transition::Resolved, "low"), (Transition::Fired, "high")]);
}

#[test]
fn recording_rules_feed_later_rules_and_mark_ends() {
    let mut source = Fake::default();
    let rules = "
- {record: 'max:temp', expr: temp, labels: {from: here}}
- {alert: Hot, expr: 'max:temp > 5'}";
    let mut engine = engine(&source, rules);
    source.set("temp", &[("a", 9.0), ("b", 1.0)]);
    let output = engine.evaluate(Wake::Clock, 0, &mut source);
    assert_eq!(told(&output), ["fired a"]);
    assert_eq!(source.live()[2], r#"{__name__="max:temp", from="here", instance="a"} 9"#);
    source.set("temp", &[("a", 1.0)]);
    engine.evaluate(Wake::Clock, SECOND, &mut source);
    assert_eq!(source.live(), [r#"{__name__="max:temp", from="here", instance="a"} 1"#]);
}

#[test]
fn a_groups_limit_and_offset_hold() {
    let mut source = Fake::default();
    let text = "groups: [{name: g, limit: 1, query_offset: 5s, rules: [{alert: Hot, expr: temp > 5}]}]";
    let file = RuleFile::parse("f.yml", text, |expr| source.prepare(expr)).unwrap();
    let mut engine = Engine::new(vec![file], Options::default());
    source.set("temp", &[("a", 9.0)]);
    assert_eq!(told(&engine.evaluate(Wake::Clock, 60_000, &mut source)), ["fired a"]);
    assert_eq!(source.asked_at_ms.get(), 55_000);
    source.set("temp", &[("a", 9.0), ("b", 9.0)]);
    let output = engine.evaluate(Wake::Clock, 62_000, &mut source);
    assert!(output.runs[0].error.as_deref().unwrap().contains("limit of 1"));
    assert_eq!((told(&output).len(), engine.stored().len()), (0, 1));
}

#[test]
fn a_reload_keeps_what_stays_and_withdraws_what_is_gone() {
    let mut source = Fake::default();
    let rules = "- {alert: Hot, expr: temp > 5}\n- {alert: Cold, expr: cold > 5}\n- {record: r, expr: temp}";
    let mut engine = engine(&source, rules);
    source.set("temp", &[("a", 9.0)]);
    source.set("cold", &[("a", 9.0)]);
    engine.evaluate(Wake::Clock, 0, &mut source);
    assert_eq!(source.live.len(), 5);
    // The threshold of Hot moved: the same rule. Cold and the recording are gone.
    let output = engine.reload(vec![file(&source, "- {alert: Hot, expr: temp == 0}")], SECOND);
    assert_eq!(told(&output), ["withdrawn a"]);
    assert_eq!(output.notifications[0].name(), "Cold");
    assert!(matches!(output.changes.as_slice(), [AlertChange::Remove(_)]));
    let output = engine.evaluate(Wake::Clock, SECOND, &mut source);
    assert_eq!(told(&output), ["resolved a"], "9 is a good value now");
    assert!(source.live.is_empty(), "{:?}", source.live());
}

#[test]
fn a_retired_hosts_alerts_are_withdrawn() {
    let mut source = Fake::default();
    let mut engine = engine(&source, "- {alert: Hot, expr: temp > 5}");
    source.set("temp", &[("a", 9.0), ("b", 9.0)]);
    engine.evaluate(Wake::Clock, 0, &mut source);
    source.set("temp", &[("b", 9.0)]);
    let output = engine.withdraw(SECOND, |labels| labels.value("instance") == Some("a"));
    assert_eq!(told(&output), ["withdrawn a"]);
    assert!(told(&engine.evaluate(Wake::Clock, SECOND, &mut source)).is_empty());
    assert_eq!(source.live.len(), 2);
}

#[test]
fn clocks_of_groups() {
    let mut source = Fake::default();
    let text = "groups: [{name: slow, interval: 1m, rules: [{record: s, expr: x}]}, {name: quick, rules: [{record: q, expr: x}]}]";
    let file = RuleFile::parse("f.yml", text, |expr| source.prepare(expr)).unwrap();
    let mut engine = Engine::new(vec![file], Options::default());
    let mut at = |wake, now_ms| {
        let runs = engine.evaluate(wake, now_ms, &mut source).runs;
        (runs.iter().map(|run| run.group.to_string()).collect::<Vec<_>>().join(" "), engine.due_ms().unwrap())
    };
    let (ran, _) = at(Wake::Clock, 1_000_000);
    assert_eq!(ran, "slow quick", "all at once at the start");
    assert_eq!(at(Wake::Data, 1_000_100), ("quick".to_owned(), 1_001_000));
    assert_eq!(at(Wake::Clock, 1_000_999).0, "");
    assert_eq!(at(Wake::Clock, 1_001_000).0, "quick");
    let slow: Vec<i64> =
        (1_002..1_201).map(|s| s * SECOND).filter(|now| at(Wake::Clock, *now).0.contains("slow")).collect();
    assert_eq!(slow.len(), 3, "{slow:?}");
    assert!(slow.windows(2).all(|pair| pair[1] - pair[0] == MINUTE), "{slow:?}");
}

#[test]
fn the_for_clock_stands_still_while_nobody_looks() {
    let mut source = Fake::default();
    let mut before = engine(&source, HOT);
    source.set("temp", &[("a", 9.0)]);
    before.evaluate(Wake::Clock, 0, &mut source);
    before.evaluate(Wake::Clock, SECOND, &mut source);
    let mut after = engine(&source, HOT);
    after.restore(before.stored(), 59 * SECOND, MINUTE);
    assert!(told(&after.evaluate(Wake::Clock, MINUTE + SECOND, &mut source)).is_empty(), "a time of grace");
    assert_eq!(told(&after.evaluate(Wake::Clock, MINUTE + 2 * SECOND, &mut source)), ["fired a is 9"]);
}

/// What happens at one step of a random history.
#[derive(Clone, Debug)]
struct Tick {
    gap_ms: i64,
    value: Option<f64>,
    restart: bool,
}

fn ticks() -> impl Strategy<Value = Vec<Tick>> {
    let value = prop_oneof![
        3 => Just(Some(9.0)),
        3 => Just(Some(1.0)),
        2 => Just(None),
        1 => Just(Some(f64::NAN)),
    ];
    let tick = (1_i64..4_000, value, prop::bool::weighted(0.3));
    prop::collection::vec(tick.prop_map(|(gap_ms, value, restart)| Tick { gap_ms, value, restart }), 1..60)
}

/// The same in a few words: since when bad, since when good, whether told.
#[derive(Default)]
struct Model {
    bad_since: Option<i64>,
    firing: bool,
    good_since: Option<i64>,
    missing_since: Option<i64>,
}

impl Model {
    fn tick(&mut self, now: i64, value: Option<f64>, for_ms: i64, keep_ms: i64) -> Option<Transition> {
        let known = value.filter(|value| !value.is_nan());
        match known {
            Some(value) if value > 5.0 => {
                (self.good_since, self.missing_since) = (None, None);
                let since = *self.bad_since.get_or_insert(now);
                let fires = !self.firing && now - since >= for_ms;
                self.firing |= fires;
                return fires.then_some(Transition::Fired);
            }
            Some(_) if self.firing => {
                let since = *self.good_since.get_or_insert(now);
                if now - since >= keep_ms {
                    *self = Self::default();
                    return Some(Transition::Resolved);
                }
            }
            Some(_) => *self = Self::default(),
            None if self.bad_since.is_some() && !self.firing => {
                let since = *self.missing_since.get_or_insert(now);
                if now - since >= limits::PENDING_NO_DATA_MAX_MS {
                    *self = Self::default();
                }
            }
            None => {}
        }
        None
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Over any history with restarts anywhere: the transitions are the model's, each is told once, the store always
    /// holds what the engine knows, and the ALERTS series are those of the alerts.
    #[test]
    fn every_transition_is_told_once_over_any_history(
        history in ticks(), for_ms in prop_oneof![Just(0), Just(2_000), Just(5_000)], keep_ms in prop_oneof![Just(0), Just(3_000)],
    ) {
        let rule = format!("- {{alert: Hot, expr: temp > 5, for: {for_ms}ms, keep_firing_for: {keep_ms}ms}}");
        let mut source = Fake::default();
        let mut engine = engine(&source, &rule);
        let (mut model, mut now, mut ids) = (Model::default(), 0, HashSet::new());
        let mut store: BTreeMap<String, String> = BTreeMap::new();
        for tick in history {
            now += tick.gap_ms;
            if tick.restart {
                engine = self::engine(&source, &rule);
                let stored = store.values().map(|json| serde_json::from_str(json).unwrap()).collect();
                let output = engine.restore(stored, 0, now);
                prop_assert!(output.changes.is_empty() && output.notifications.is_empty());
            }
            source.set("temp", &tick.value.map(|value| ("a", value)).into_iter().collect::<Vec<_>>());
            // Far below the time of any slot: every tick is due.
            engine.groups[0].next_ms = now;
            let output = engine.evaluate(Wake::Clock, now, &mut source);
            let expected = model.tick(now, tick.value, for_ms, keep_ms);
            let transitions: Vec<Transition> = output.notifications.iter().map(|n| n.transition).collect();
            prop_assert_eq!(&transitions, &expected.into_iter().collect::<Vec<_>>(), "at {}", now);
            for notification in &output.notifications {
                prop_assert!(ids.insert(notification.id.clone()), "told twice: {}", notification.id);
                if notification.transition == Transition::Resolved {
                    prop_assert!(tick.value.is_some_and(|value| value <= 5.0), "resolved without a good value");
                }
            }
            for change in output.changes {
                match change {
                    AlertChange::Put(alert) => drop(store.insert(alert.key.clone(), serde_json::to_string(&alert).unwrap())),
                    AlertChange::Remove(key) => drop(store.remove(&key)),
                }
            }
            let firing = engine.stored().iter().filter(|alert| alert.phase == Phase::Firing).count();
            prop_assert_eq!((engine.stored().len(), firing), (usize::from(model.bad_since.is_some()), usize::from(model.firing)));
            prop_assert_eq!(store.len(), engine.stored().len());
            prop_assert_eq!(source.live.len(), 2 * engine.stored().len());
        }
    }
}
