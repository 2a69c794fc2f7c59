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

/// Our own dashboards.
fn own_dashboards() -> Vec<(String, serde_json::Value)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/grafana/dashboards");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let read =
        |path: PathBuf| (path.display().to_string(), serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap());
    files.map(read).collect()
}

/// Every expression of a dashboard with the title of its panel, its variables filled in.
fn own_expressions(dashboard: &serde_json::Value) -> Vec<(String, String)> {
    let variables = [("$__rate_interval", "1m"), ("$instance", NAME), ("$role", ".*")];
    let fill = |expr: &str| variables.iter().fold(expr.to_owned(), |e, (from, to)| e.replace(from, to));
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((title.to_owned(), fill(target["expr"].as_str().unwrap())));
        }
    }
    all
}

/// What a host need not have, or what is empty while all is well.
fn may_be_empty(expr: &str) -> bool {
    let of_the_host = ["node_disk_", "node_pressure_irq_"];
    let while_well = ["ALERTS{", "pitwatch_collector_block_samples", "receiver"];
    of_the_host.iter().chain(&while_well).any(|part| expr.contains(part))
        || expr == "pitwatch_collector_deliveries_waiting"
}

#[test]
fn our_dashboards_have_data() {
    let temp = tempfile::tempdir().unwrap();
    let collector = Collector::start(&temp.path().join("collector"), "", "").unwrap();
    let signals = format!("{SIGNALS}[labels]\nrole = \"game\"\n");
    let _agent = Agent::start(&temp.path().join("agent"), NAME, &collector, &signals).unwrap();
    let api = collector.api().unwrap();
    let (status, _) = api.get("/-/ready", &[]).unwrap();
    assert_eq!(status, 200);
    api.wait_for("pitwatch_process_cpu_ratio", Duration::from_secs(60), |rows| !rows.is_empty()).unwrap();
    std::thread::sleep(GATHER);
    // A query, so that there is one to be counted.
    let (mut asked, mut empty) = (0, Vec::new());
    for (file, dashboard) in own_dashboards() {
        for (title, expr) in own_expressions(&dashboard) {
            asked += 1;
            let rows = api.query(&expr).unwrap_or_else(|error| panic!("{file}, {title}: {expr}: {error}"));
            if rows.is_empty() && !may_be_empty(&expr) {
                empty.push(format!("{file}, {title}: {expr}"));
            }
        }
    }
    println!("{asked} expressions");
    assert!(asked > 60 && empty.is_empty(), "no data: {empty:#?}");
}

#[test]
fn our_dashboards_are_what_grafana_takes() {
    let dashboards = own_dashboards();
    assert_eq!(dashboards.len(), 3);
    let mut uids = BTreeSet::new();
    for (file, dashboard) in &dashboards {
        // 39 is Grafana 10.3's; later ones read it and write their own.
        assert_eq!(dashboard["schemaVersion"], 39, "{file}");
        assert!(uids.insert(dashboard["uid"].as_str().unwrap()), "{file}");
        assert!(dashboard.get("__inputs").is_none() && dashboard.get("id").is_none(), "{file}: as exported by hand");
        let names: Vec<&str> =
            dashboard["templating"]["list"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
        assert_eq!(names[0], "datasource", "{file}");
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}, {title}: its id is another panel's");
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{file}, {title}: wider than the grid");
            for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(taken.insert((x, y)), "{file}, {title}: on another panel");
            }
            let kind = panel["type"].as_str().unwrap();
            assert!(["timeseries", "stat", "table", "row"].contains(&kind), "{file}, {title}: {kind}");
            if kind == "row" {
                continue;
            }
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{file}, {title}");
            let mut letters = BTreeSet::new();
            for target in panel["targets"].as_array().unwrap() {
                assert!(letters.insert(target["refId"].as_str().unwrap()), "{file}, {title}");
                let expr = target["expr"].as_str().unwrap();
                for (at, _) in expr.match_indices('$') {
                    let name: String =
                        expr[at + 1..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    assert!(name == "__rate_interval" || names.contains(&&*name), "{file}, {title}: ${name}");
                }
            }
        }
    }
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
