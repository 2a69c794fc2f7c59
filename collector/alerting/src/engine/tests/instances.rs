//! Rules that are evaluated by instance: when data of some arrives, and by the clock.

use super::*;

const HOT: &str = "groups: [{name: g, rules: [
  {alert: Hot, expr: temp > 5, for: 1s}, {alert: Any, expr: all_temp > 5}, {record: r, expr: temp}]}]";

fn started(source: &mut Fake) -> Engine<String> {
    let file = RuleFile::parse("f.yml", HOT, |expr| source.prepare(expr)).unwrap();
    let mut engine = Engine::new(vec![file], Options::default());
    engine.evaluate(Wake::Clock, 0, source);
    engine
}

fn hosts(names: &[&str]) -> Instances {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn ran(output: &Output) -> Vec<&str> {
    output.runs.iter().map(|run| &*run.rule).collect()
}

#[test]
fn an_arrival_touches_the_alerts_of_its_instances_only() {
    let mut source = Fake::default();
    let mut engine = started(&mut source);
    source.set("temp", &[("a", 9.0), ("b", 9.0)]);
    let (a, b) = (hosts(&["a"]), hosts(&["b"]));
    let output = engine.evaluate(Wake::Arrived(&a), 100, &mut source);
    assert_eq!(ran(&output), ["Hot"], "the others need every series");
    assert_eq!(engine.stored().len(), 1);
    engine.evaluate(Wake::Arrived(&b), 200, &mut source);
    assert_eq!(engine.stored().len(), 2);
    assert!(told(&engine.evaluate(Wake::Arrived(&b), 1_199, &mut source)).is_empty());
    assert_eq!(told(&engine.evaluate(Wake::Arrived(&b), 1_200, &mut source)), ["fired b"]);
    // What is no longer true of `a` is seen when `a` says so, and no sooner.
    source.set("temp", &[("a", 1.0), ("b", 1.0)]);
    assert_eq!(told(&engine.evaluate(Wake::Arrived(&b), 1_300, &mut source)), ["resolved b"]);
    assert_eq!(engine.stored().len(), 1);
    engine.evaluate(Wake::Arrived(&a), 1_400, &mut source);
    assert!(engine.stored().is_empty());
    assert_eq!(ran(&engine.evaluate(Wake::Data, 1_500, &mut source)), ["Any", "r"]);
}

#[test]
fn the_clock_looks_at_those_that_were_not_heard_of() {
    let mut source = Fake::default();
    let mut engine = started(&mut source);
    source.set("temp", &[("a", 9.0), ("b", 9.0)]);
    let a = hosts(&["a"]);
    source.set("temp", &[("a", 1.0), ("b", 9.0)]);
    engine.evaluate(Wake::Arrived(&a), 500, &mut source);
    source.set("temp", &[("a", 9.0), ("b", 9.0)]);
    let output = engine.evaluate(Wake::Clock, 1_000, &mut source);
    assert_eq!(ran(&output), ["Hot", "Any", "r"]);
    let stored = engine.stored();
    let instances: Vec<_> = stored.iter().filter_map(|alert| alert.labels.value("instance")).collect();
    assert_eq!(instances, ["b"], "`a` was looked at meanwhile");
    // Silent since the last time, so it is looked at now.
    engine.evaluate(Wake::Clock, 2_000, &mut source);
    assert_eq!(engine.stored().len(), 2);
}

#[test]
fn a_silent_host_is_no_good_news_of_another() {
    let mut source = Fake::default();
    let mut engine = started(&mut source);
    source.set("temp", &[("a", 9.0), ("b", 9.0)]);
    let both = hosts(&["a", "b"]);
    engine.evaluate(Wake::Arrived(&both), 100, &mut source);
    assert_eq!(told(&engine.evaluate(Wake::Arrived(&both), 1_100, &mut source)), ["fired a", "fired b"]);
    source.set("temp", &[("b", 9.0)]);
    assert!(told(&engine.evaluate(Wake::Arrived(&both), 1_200, &mut source)).is_empty());
    let missing = engine.stored().into_iter().filter(|alert| alert.no_data_since_ms == Some(1_200)).count();
    assert_eq!(missing, 1);
}

#[test]
fn rules_that_name_an_instance_or_a_limit_are_evaluated_whole() {
    let source = Fake::default();
    let text = "groups: [{name: g, rules: [{alert: A, expr: x > 5, labels: {instance: one}}]},
      {name: l, limit: 5, rules: [{alert: B, expr: x > 5}]}, {name: i, interval: 1m, rules: [{alert: C, expr: x > 5}]}]";
    let file = RuleFile::parse("f.yml", text, |expr| source.prepare(expr)).unwrap();
    let engine = Engine::new(vec![file], Options::default());
    assert!(engine.rules().all(|rule| !rule.alerts.is_by_instance()));
}

proptest! {
    /// Whatever arrives in whatever order: once everything was heard of, the alerts are those of an evaluation of all.
    #[test]
    fn by_instance_or_whole_the_alerts_are_the_same(
        rounds in prop::collection::vec((prop::collection::vec(0.0..10.0_f64, 5), prop::collection::vec(any::<bool>(), 5)), 1..20),
    ) {
        let (mut one, mut other) = (Fake::default(), Fake::default());
        let mut by_instance = started(&mut one);
        let mut whole = started(&mut other);
        let names = ["a", "b", "c", "d", "e"];
        for (nth, (values, parts)) in rounds.iter().enumerate() {
            let now_ms = i64::try_from(nth).unwrap() * SECOND + 1;
            let values: Vec<_> = names.into_iter().zip(values.iter().copied()).collect();
            one.set("temp", &values);
            other.set("temp", &values);
            let part = |yes: bool| names.iter().zip(parts).filter(move |(_, is)| **is == yes).map(|(name, _)| Arc::from(*name));
            let mut told_by_instance = Vec::new();
            for yes in [true, false] {
                let instances: Instances = part(yes).collect();
                told_by_instance.extend(told(&by_instance.evaluate(Wake::Arrived(&instances), now_ms, &mut one)));
            }
            told_by_instance.extend(told(&by_instance.evaluate(Wake::Data, now_ms, &mut one)));
            let mut told_whole = told(&whole.evaluate(Wake::Every, now_ms, &mut other));
            told_by_instance.sort();
            told_whole.sort();
            prop_assert_eq!(told_by_instance, told_whole);
            let sorted = |engine: &Engine<String>| {
                let mut stored = engine.stored();
                stored.sort_by(|a, b| a.key.cmp(&b.key));
                stored
            };
            prop_assert_eq!(sorted(&by_instance), sorted(&whole));
            prop_assert_eq!(one.live(), other.live());
        }
    }
}
