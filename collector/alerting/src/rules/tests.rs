//! Rule files as teams bring them, and mistakes with their lines.

use std::path::{Path, PathBuf};

use super::*;
use crate::engine::Row;
use crate::labels::LabelSet;
use crate::template::Context;

/// Accepts an expression whose brackets close: enough to tell a broken one here, where no query language is known.
fn balanced(expr: &str) -> Result<(), String> {
    let open = expr.matches(['(', '{', '[']).count();
    let close = expr.matches([')', '}', ']']).count();
    if open == close { Ok(()) } else { Err("a bracket does not close".to_owned()) }
}

fn rule_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "yml"));
    files.sort();
    files
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn render_all(file: &RuleFile<()>) -> usize {
    let labels = LabelSet::new([("instance", "db-eu-3"), ("device", "sda"), ("relname", "orders")]);
    let query = |_: &str| Ok(vec![Row { labels: labels.clone(), value: 1.5 }]);
    let context = Context {
        labels: &labels,
        value: 93.4567,
        now_ms: 0,
        external_labels: &LabelSet::empty(),
        external_url: "http://w",
        query: &query,
    };
    let mut rendered = 0;
    for rule in file.groups.iter().flat_map(|group| &group.rules) {
        let RuleKind::Alert(spec) = &rule.kind else { continue };
        for (name, template) in spec.labels.iter().chain(&spec.annotations) {
            let text = template.render(&context).unwrap_or_else(|error| panic!("{}: {name}: {error}", rule.name));
            assert!(!text.contains("{{") && !text.contains("<no value>"), "{text}");
        }
        rendered += 1;
    }
    rendered
}

#[test]
fn the_rule_packs_of_the_field_load_and_render() {
    let dir = workspace().join("../shared/data/rules");
    let mut alerts = 0;
    for path in rule_files(&dir) {
        let text = std::fs::read_to_string(&path).unwrap();
        let file = RuleFile::parse(&path.display().to_string(), &text, balanced).unwrap_or_else(|e| panic!("{e}"));
        alerts += render_all(&file);
    }
    assert_eq!(alerts, 206);
}

#[test]
fn the_stock_rules_load_render_and_satisfy_promtool() {
    let paths = rule_files(&workspace().join("packaging/rules"));
    assert!(!paths.is_empty());
    for path in &paths {
        let text = std::fs::read_to_string(path).unwrap();
        let file = RuleFile::parse(&path.display().to_string(), &text, balanced).unwrap_or_else(|e| panic!("{e}"));
        render_all(&file);
        for rule in file.groups.iter().flat_map(|group| &group.rules) {
            let RuleKind::Alert(spec) = &rule.kind else { continue };
            let labels: Vec<&str> = spec.labels.iter().map(|(name, _)| &**name).collect();
            assert!(labels.contains(&"severity"), "{} says no severity", rule.name);
            let said: Vec<&str> = spec.annotations.iter().map(|(name, _)| &**name).collect();
            let is_stock = !path.ends_with("demo.yml");
            for needed in ["summary", "impact", "action", "runbook_url"].into_iter().take(if is_stock { 4 } else { 3 })
            {
                assert!(said.contains(&needed), "{}: {} says no {needed}", path.display(), rule.name);
            }
        }
    }
    promtool(&["check", "rules"], &paths);
}

#[test]
fn the_stock_rules_fire_when_they_should() {
    let paths = rule_files(&workspace().join("packaging/rules/tests"));
    assert!(!paths.is_empty());
    promtool(&["test", "rules"], &paths);
}

/// Runs Prometheus' own tool, where it is installed.
fn promtool(command: &[&str], paths: &[PathBuf]) {
    match std::process::Command::new("promtool").args(command).args(paths).output() {
        Ok(run) => {
            let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
            assert!(run.status.success(), "{out}{err}");
        }
        Err(error) => println!("not checked by promtool: {error}"),
    }
}

#[test]
fn a_good_file_says_what_it_says() {
    let text = "
groups:
- name: g
  interval: 30s
  limit: 10
  query_offset: 1m
  labels: {team: ops, severity: page}
  rules:
  - record: job:up:sum
    expr: sum(up)
    labels: {version: 1.20}
  - alert: Down
    expr: up == 0
    for: 1h30m
    keep_firing_for: 5m
    labels: {severity: '{{ $labels.sev }}'}
    annotations: {summary: gone}
- name: empty
  rules:
";
    let file = RuleFile::parse("f.yml", text, balanced).unwrap();
    let [group, empty] = file.groups.as_slice() else { panic!() };
    assert_eq!((group.interval_ms, group.limit, group.query_offset_ms), (Some(30_000), 10, 60_000));
    assert!(empty.rules.is_empty());
    let RuleKind::Record { labels } = &group.rules[0].kind else { panic!() };
    let pairs: Vec<_> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(pairs, [("team", "ops"), ("severity", "page"), ("version", "1.20")]);
    let RuleKind::Alert(spec) = &group.rules[1].kind else { panic!() };
    assert_eq!((spec.for_ms, spec.keep_firing_for_ms, group.rules[1].line), (5_400_000, 300_000, 12));
    let labels: Vec<_> = spec.labels.iter().map(|(name, value)| (&**name, &**value.source())).collect();
    assert_eq!(labels, [("team", "ops"), ("severity", "{{ $labels.sev }}")]);
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let text = "
group: []
groups:
- name: a
  interval: 5 minutes
  limit: many
  rules:
  - alert: A
    record: b
    expr: up
  - expr: up
  - alert: B
    expr: sum(up
    fro: 5m
    labels: {a-b: c, alertname: x, __name__: y}
    annotations:
      summary: '{{ $lables.x }}'
      summary: twice
  - record: not a name
    for: 5m
  - text
- name: a
- rules: {}
";
    let errors = RuleFile::parse("bad.yml", text, balanced).unwrap_err();
    insta::assert_snapshot!(errors, @r###"
bad.yml:2: unknown field "group" in a rule file; known are groups
bad.yml:5: interval: "5 minutes" is not a duration: write it like 30s, 5m, 1h30m, 1d (y w d h m s ms, largest first)
bad.yml:6: limit: "many" is not a whole number from 0
bad.yml:8: a rule has one of record and alert, not both
bad.yml:11: a rule needs alert (a name) or record (a metric's name)
bad.yml:13: expr: a bracket does not close
bad.yml:14: unknown field "fro" in a rule; known are record, alert, expr, for, keep_firing_for, labels, annotations
bad.yml:15: label "a-b" is not a label name that a rule may set
bad.yml:15: label alertname is the rule's name: it cannot be set
bad.yml:15: label "__name__" is not a label name that a rule may set
bad.yml:17: annotation summary: template: variable $lables is not declared (in "{{ $lables.x }}")
bad.yml:18: annotations: summary stands twice
bad.yml:19: record: "not a name" is not a metric name (letters, digits, _ and :)
bad.yml:19: a rule needs expr, the expression to evaluate
bad.yml:20: for is for alerts: a record rule has none
bad.yml:21: a rule is a map with record, alert, expr, for, keep_firing_for, labels, annotations, not a text
bad.yml:22: group "a" stands twice in this file
bad.yml:23: a group needs a name
bad.yml:23: rules is a list, not a map
"###);
}

#[test]
fn broken_yaml_says_where() {
    let errors = RuleFile::parse("f.yml", "groups:\n- name: [\n", balanced).unwrap_err();
    assert_eq!(errors.0.len(), 1);
    assert!(errors.to_string().starts_with("f.yml:2: "), "{errors}");
}

#[test]
fn the_list_of_mistakes_is_bounded() {
    let text = "groups:\n".to_owned() + &"- nmae: x\n".repeat(10_000);
    let errors = RuleFile::parse("f.yml", &text, balanced).unwrap_err();
    assert_eq!(errors.0.len(), crate::limits::RULE_ERRORS_MAX + 1);
}
