//! `pitwatch_clear`, `pitwatch_no_data`, `pitwatch_depends_on`, the grace after an outage, and Prometheus' own way.

use super::*;

fn with(semantics: Semantics, rules: &str) -> (Fake, Engine<String>) {
    let source = Fake::default();
    let file = file(&source, rules);
    (source, Engine::new(vec![file], Options { semantics, ..Options::default() }))
}

fn pitwatch(rules: &str) -> (Fake, Engine<String>) {
    with(Options::default().semantics, rules)
}

/// What was told at each second, a value of `a` each.
fn told_over(source: &mut Fake, engine: &mut Engine<String>, values: &[Option<f64>]) -> Vec<String> {
    let mut all = Vec::new();
    for (second, value) in (0..).zip(values) {
        source.set("temp", &value.map(|value| ("a", value)).into_iter().collect::<Vec<_>>());
        let output = engine.evaluate(Wake::Every, second * SECOND, source);
        all.extend(output.notifications.iter().map(|n| format!("{second} {}", n.transition.as_str())));
    }
    all
}

const CLEAR: &str = "- {alert: Hot, expr: temp > 5, annotations: {pitwatch_clear: temp < 3, summary: x}}";

#[test]
fn with_a_clear_expression_only_that_one_ends_the_alert() {
    let (mut source, mut engine) = pitwatch(CLEAR);
    let history = [9.0, 4.0, 5.0, 9.0, 3.0, 2.9, 4.0].map(Some);
    assert_eq!(told_over(&mut source, &mut engine, &history), ["0 fired", "5 resolved"]);

    let (mut source, mut engine) = pitwatch(CLEAR);
    let gap = [Some(9.0), None, Some(4.0), None, Some(1.0)];
    assert_eq!(told_over(&mut source, &mut engine, &gap), ["0 fired", "4 resolved"]);

    let (mut source, mut engine) = with(Semantics::Prometheus, CLEAR);
    assert_eq!(told_over(&mut source, &mut engine, &history), ["0 fired", "1 resolved", "3 fired", "4 resolved"]);
}

#[test]
fn between_raise_and_clear_a_pending_alert_starts_over() {
    let rule = "- {alert: Hot, expr: temp > 5, for: 2s, annotations: {pitwatch_clear: temp < 3}}";
    let (mut source, mut engine) = pitwatch(rule);
    let history = [9.0, 9.0, 4.0, 9.0, 9.0, 9.0].map(Some);
    assert_eq!(told_over(&mut source, &mut engine, &history), ["5 fired"]);
}

#[test]
fn missing_data_means_what_the_rule_says() {
    let history = [Some(9.0), None, None, Some(9.0), None, Some(1.0)];
    for (policy, expected) in [
        ("keep", vec!["0 fired", "5 resolved"]),
        ("alert", vec!["0 fired", "1 no_data", "4 no_data", "5 resolved"]),
        ("resolve", vec!["0 fired", "1 resolved", "3 fired", "4 resolved"]),
    ] {
        let rule = format!("- {{alert: Hot, expr: temp > 5, annotations: {{pitwatch_no_data: {policy}}}}}");
        let (mut source, mut engine) = pitwatch(&rule);
        assert_eq!(told_over(&mut source, &mut engine, &history), expected, "{policy}");
        // A label says it too, and the whole collector may.
        let rule = format!("- {{alert: Hot, expr: temp > 5, labels: {{pitwatch_no_data: {policy}}}}}");
        let (mut source, mut engine) = pitwatch(&rule);
        assert_eq!(told_over(&mut source, &mut engine, &history), expected, "{policy}");
        let no_data = NoData::from_name(policy).unwrap();
        let (mut source, mut engine) = with(Semantics::Pitwatch { no_data }, "- {alert: Hot, expr: temp > 5}");
        assert_eq!(told_over(&mut source, &mut engine, &history), expected, "{policy}");
    }
    let rule = "- {alert: Hot, expr: temp > 5, for: 2s, annotations: {pitwatch_no_data: alert}}";
    let (mut source, mut engine) = pitwatch(rule);
    assert_eq!(
        told_over(&mut source, &mut engine, &[Some(9.0), None, None, None, Some(1.0)]),
        ["2 fired", "4 resolved"]
    );
}

#[test]
fn extensions_are_no_texts_and_their_mistakes_have_lines() {
    let (mut source, mut engine) = pitwatch(CLEAR);
    source.set("temp", &[("a", 9.0)]);
    let output = engine.evaluate(Wake::Every, 0, &mut source);
    assert_eq!(output.notifications[0].annotations.to_string(), r#"{summary="x"}"#);
    let text = "groups:
- name: g
  labels: {pitwatch_no_data: never}
  rules:
  - alert: A
    expr: x
    annotations:
      pitwatch_claer: y
      pitwatch_clear: 'y('";
    let prepare = |expr: &str| if expr.contains('(') { Err("a bracket does not close".to_owned()) } else { Ok(()) };
    let errors = RuleFile::parse("f.yml", text, prepare).unwrap_err().to_string();
    for part in [
        "f.yml:3: pitwatch_no_data: \"never\" is not one of keep, alert, resolve",
        "f.yml:8: unknown extension \"pitwatch_claer\"",
        "f.yml:9: pitwatch_clear: a bracket does not close",
    ] {
        assert!(errors.contains(part), "{errors}");
    }
}

#[test]
fn an_alert_says_what_it_depends_on() {
    let rules = r#"
- {alert: Own, expr: temp > 5}
- {alert: Said, expr: temp > 5, annotations: {pitwatch_depends_on: 'Down{instance="{{ $labels.instance }}"}, Provider'}}
- {alert: None, expr: temp > 5, annotations: {pitwatch_depends_on: ''}}
- {alert: Wrong, expr: temp > 5, annotations: {pitwatch_depends_on: 'x{'}}"#;
    let (mut source, mut engine) = pitwatch(rules);
    source.set("temp", &[("a", 9.0)]);
    let output = engine.evaluate(Wake::Every, 0, &mut source);
    let depends: Vec<Vec<String>> =
        output.notifications.iter().map(|n| n.depends_on.iter().map(LabelSet::to_string).collect()).collect();
    assert_eq!(depends[0], [r#"{alertname="PitwatchAgentSilent", instance="a"}"#]);
    assert_eq!(depends[1], [r#"{alertname="Down", instance="a"}"#, r#"{alertname="Provider"}"#]);
    assert_eq!((depends[2].len(), depends[3].len()), (0, 0));
    assert!(output.runs[3].remark.as_deref().unwrap().contains("cannot read a dependency"));
    // It is kept over a restart.
    let mut again = self::engine(&source, rules);
    again.restore(engine.stored(), 0, SECOND);
    assert_eq!(again.rules().nth(1).unwrap().alerts().next().unwrap().depends_on().len(), 2);
}

#[test]
fn after_an_outage_a_pending_alert_fires_no_sooner_than_it_lasted() {
    let rule = "- {alert: Hot, expr: temp > 5, for: 20m}";
    let fires_after = |waited: i64, outage: i64| {
        let (mut source, mut before) = pitwatch(rule);
        source.set("temp", &[("a", 9.0)]);
        before.evaluate(Wake::Every, 0, &mut source);
        let (mut source, mut after) = pitwatch(rule);
        source.set("temp", &[("a", 9.0)]);
        let back = waited + outage;
        after.restore(before.stored(), outage, back);
        let fires =
            |step: &i64| !after.evaluate(Wake::Every, back + step * SECOND, &mut source).notifications.is_empty();
        (0..7_200).find(fires).map(|seconds| seconds * SECOND)
    };
    assert_eq!(fires_after(5 * MINUTE, 3 * SECOND), Some(15 * MINUTE), "the rest of its time");
    assert_eq!(fires_after(19 * MINUTE, 5 * MINUTE), Some(5 * MINUTE), "as long as the outage");
    assert_eq!(fires_after(19 * MINUTE, 50 * MINUTE), Some(10 * MINUTE), "the grace");
    assert_eq!(fires_after(19 * MINUTE, 61 * MINUTE), Some(20 * MINUTE), "anew");
}

#[test]
fn prometheus_own_way_resolves_and_counts_as_it_does() {
    let rule = "- {alert: Hot, expr: temp > 5, keep_firing_for: 2s}";
    let (mut source, mut engine) = with(Semantics::Prometheus, rule);
    let history = [Some(9.0), None, None, None, Some(9.0)];
    assert_eq!(told_over(&mut source, &mut engine, &history), ["0 fired", "3 resolved", "4 fired"]);
    let text = "groups: [{name: g, limit: 1, rules: [{alert: Hot, expr: temp > 5, keep_firing_for: 1m}]}]";
    let file = RuleFile::parse("f.yml", text, |expr| source.prepare(expr)).unwrap();
    let options = Options { semantics: Semantics::Prometheus, ..Options::default() };
    let mut engine = Engine::new(vec![file], options);
    source.set("temp", &[("a", 9.0)]);
    assert!(engine.evaluate(Wake::Every, 0, &mut source).runs[0].error.is_none());
    source.set("temp", &[("b", 9.0)]);
    let output = engine.evaluate(Wake::Every, SECOND, &mut source);
    assert!(output.runs[0].error.as_deref().unwrap().contains("exceeded limit of 1 with 2 alerts"));
}
