//! Other people's dashboards and rule packs over a real agent's series: everything evaluates, and what gives no data is
//! what `docs/reference/dashboards.md` and the end of `signals.md` say, with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Agent, Collector};

const NAME: &str = "panels-1";
/// All that has a cadence of its own comes often enough to be seen.
const SIGNALS: &str = "[signals]\nfilesystem_cadence = \"1s\"\nprocess_cadence = \"1s\"\n";
/// The list with the reasons.
const DOCS: &str = include_str!("../../../docs/reference/dashboards.md");
/// The signals; the last part of it is of what is absent.
const SIGNALS_DOCS: &str = include_str!("../../../docs/reference/signals.md");
const ABSENT: &str = "## Default metrics of node_exporter that are absent";
/// How long series are gathered before they are asked for: two samples of what comes each 10 s.
const GATHER: Duration = Duration::from_secs(25);

/// Where dashboards and rules lie, if they do: outside of the project.
fn data() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let dir = std::env::var_os("PITWATCH_DATA_DIR").map_or_else(beside, PathBuf::from);
    dir.join("dashboards").is_dir().then_some(dir)
}

/// The dashboard's expressions, its variables filled in.
fn dashboard(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("dashboards/node-exporter-full.tsv")).unwrap();
    let variables = [("$__rate_interval", "1m"), ("$node", NAME), ("$job", "node")];
    let expressions = text.lines().skip(1).filter_map(|line| line.split('\t').nth(2));
    expressions.map(|expr| variables.iter().fold(expr.to_owned(), |e, (from, to)| e.replace(from, to))).collect()
}

/// The expressions of the rule pack for hosts.
fn host_rules(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("rules/host-and-hardware--node-exporter.yml")).unwrap();
    let expressions = text.lines().filter_map(|line| line.trim_start().strip_prefix("expr:"));
    let unquoted = |expr: &str| match expr.trim().strip_prefix('\'').and_then(|e| e.strip_suffix('\'')) {
        Some(inner) => inner.replace("''", "'"),
        None => expr.trim().to_owned(),
    };
    expressions.map(unquoted).collect()
}

/// The metrics that an expression names.
fn metrics(expr: &str) -> BTreeSet<String> {
    let words = expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_metric = |word: &&str| ["node_", "process_"].iter().any(|p| word.starts_with(p) && word.len() > p.len());
    words.filter(is_metric).map(str::to_owned).collect()
}

/// The names in the first column of the lists; a `*` stands for any rest.
fn documented() -> Vec<&'static str> {
    let absent = SIGNALS_DOCS.split_once(ABSENT).map_or("", |(_, rest)| rest);
    let rows = DOCS.lines().chain(absent.lines()).filter_map(|line| line.strip_prefix("| `"));
    rows.flat_map(|row| row.split(" | ").next().unwrap_or_default().split(", ").map(|name| name.trim_matches('`')))
        .collect()
}

fn is_documented(metric: &str) -> bool {
    documented().iter().any(|name| match name.split_once('*') {
        Some((before, after)) => metric.starts_with(before) && metric.ends_with(after),
        None => *name == metric,
    })
}

/// Whether there is any series of that metric.
fn has(api: &Api, metric: &str) -> bool {
    !api.query(&format!("count({metric})")).unwrap().is_empty()
}

#[test]
fn dashboards_and_rule_packs_work_on_a_real_agent() {
    let Some(dir) = data() else {
        eprintln!("skipped: no dashboards beside the project; PITWATCH_DATA_DIR says where they are");
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let collector = Collector::start(&temp.path().join("collector"), "", "").unwrap();
    let _agent = Agent::start(&temp.path().join("agent"), NAME, &collector, SIGNALS).unwrap();
    let api = collector.api().unwrap();
    api.wait_for("node_load1", Duration::from_secs(30), |rows| !rows.is_empty()).unwrap();
    std::thread::sleep(GATHER);

    let mut missing: BTreeMap<String, usize> = BTreeMap::new();
    let (mut panels, mut empty, mut conditions) = (0, 0, 0);
    for expr in dashboard(&dir) {
        panels += 1;
        // An answer that is no success is an error of `query`.
        if !api.query(&expr).unwrap_or_else(|error| panic!("{expr}: {error}")).is_empty() {
            continue;
        }
        empty += 1;
        let gone: Vec<String> = metrics(&expr).into_iter().filter(|metric| !has(&api, metric)).collect();
        if gone.is_empty() {
            // Every metric is there, but not as the expression's own condition wants it.
            conditions += 1;
            println!("empty although all its metrics are there: {expr}");
        }
        gone.into_iter().for_each(|metric| *missing.entry(metric).or_default() += 1);
    }
    println!("{panels} expressions of the dashboard, {empty} give no data; metrics that are not there:");
    missing.iter().for_each(|(metric, n)| println!("  {metric} ({n})"));
    let surprises: Vec<&String> = missing.keys().filter(|metric| !is_documented(metric)).collect();

    // A rule gives nothing while all is well; but the metrics that it is made of must be there.
    let mut absent = BTreeSet::new();
    for expr in host_rules(&dir) {
        api.query(&expr).unwrap_or_else(|error| panic!("{expr}: {error}"));
        absent.extend(metrics(&expr).into_iter().filter(|metric| !has(&api, metric) && !is_documented(metric)));
    }
    println!("metrics of the host rules that are not there and not documented: {absent:?}");
    assert!(
        surprises.is_empty() && absent.is_empty(),
        "{surprises:?} {absent:?} are not in docs/reference/dashboards.md"
    );
    assert!(panels > 250 && empty * 3 < panels && conditions < 8, "{empty} of {panels}, {conditions} by condition");
}
