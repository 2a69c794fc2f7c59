//! Mistakes in configurations are told all at once, roles of tokens hold, and the stock rules ask for what there is.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Context as _;
use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Agent, Collector, path};

use crate::support::{listed, pair, said, unix_ms, wait_for_tick};

const STOCK: &str = concat!(
    include_str!("../../../packaging/rules/host.yml"),
    include_str!("../../../packaging/rules/pitwatch.yml"),
    include_str!("../../../packaging/rules/game.yml"),
    include_str!("../../../packaging/rules/baseline.yml"),
);
/// Metrics that there are only once there is trouble, a receiver, or HTTP over TLS (see `tls`).
const LATER: [&str; 4] = [
    "pitwatch_collector_http_certificate_not_after_seconds",
    "pitwatch_collector_agent_series_refused_total",
    "pitwatch_collector_deliveries_waiting",
    "pitwatch_collector_delivery_failures_total",
];

fn check(program: &str, file: &std::path::Path) -> anyhow::Result<Output> {
    let output = Command::new(path(program)?).arg("check-config").arg("--config").arg(file).output()?;
    anyhow::ensure!(output.status.code().is_some_and(|code| code <= 1), "{program}: {output:?}");
    Ok(output)
}

#[test]
fn every_mistake_of_a_configuration_is_told_with_its_place() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("agent.toml");
    fs::write(
        &file,
        "collector = \"no port\"\nname = \"-x\"\n[labels]\ninstance = \"a\"\n[signals]\ncadence = \"1ms\"\n\
         process_top = -1\nspeed = 3\n[queue]\nmemory_max = \"1KiB\"\n[log]\nlevel = \"loud\"\n",
    )?;
    let output = check("pitwatch-agent", &file)?;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for (line, key) in [
        (1, "collector"),
        (2, "name"),
        (4, "labels.instance"),
        (6, "signals.cadence"),
        (7, "signals.process_top"),
        (8, "signals.speed"),
        (10, "queue.memory_max"),
        (12, "log.level"),
    ] {
        assert!(text.contains(&format!("{}:{line}: {key}: ", file.display())), "{line} {key} not in:\n{text}");
    }
    fs::write(&file, "collector = \"watch.example:4717\"\n")?;
    let output = check("pitwatch-agent", &file)?;
    assert!(output.status.success() && said(&output).contains(": good (agent "), "{}", said(&output));

    let file = dir.path().join("collector.toml");
    let rules = dir.path().join("rules");
    fs::create_dir(&rules)?;
    let alerting = format!("[alerting]\nrules_dir = {rules:?}\n");
    fs::write(
        &file,
        format!(
            "data_dir = \"relative\"\n[agents]\nlisten = \"nowhere\"\ncertificate_life = \"1s\"\n[http]\nport = 1\n\
             [state]\nengine = \"mysql\"\n[history]\nretention = \"5 parsecs\"\n[receivers.ops]\nkind = \"pigeon\"\n\
             url = \"ftp://x\"\n{alerting}"
        ),
    )?;
    let output = check("pitwatch-collector", &file)?;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for (line, key) in [
        (1, "data_dir"),
        (3, "agents.listen"),
        (4, "agents.certificate_life"),
        (6, "http.port"),
        (8, "state.engine"),
        (10, "history.retention"),
        (12, "receivers.ops.kind"),
        (13, "receivers.ops.url"),
    ] {
        assert!(text.contains(&format!("{}:{line}: {key}: ", file.display())), "{line} {key} not in:\n{text}");
    }

    // Rules are part of it: every mistake of every file.
    fs::write(&file, &alerting)?;
    fs::write(rules.join("a.yml"), "groups:\n  - name: a\n    rules:\n      - alert: X\n        expr: sum(\n")?;
    fs::write(
        rules.join("b.yml"),
        "groups:\n  - name: b\n    rules:\n      - alert: Y\n        expr: up\n        fro: 1m\n",
    )?;
    let output = check("pitwatch-collector", &file)?;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for place in [format!("{}:5", rules.join("a.yml").display()), format!("{}:6", rules.join("b.yml").display())] {
        assert!(text.contains(&place), "{place} not in:\n{text}");
    }
    fs::remove_file(rules.join("a.yml"))?;
    fs::remove_file(rules.join("b.yml"))?;
    let output = check("pitwatch-collector", &file)?;
    assert!(output.status.success() && said(&output).contains("good: "), "{}", said(&output));
    Ok(())
}

#[test]
fn a_viewer_sees_and_does_nothing_more() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (collector, _agent) = pair(dir.path(), "edge-1", "")?;
    let url = format!("http://{}", collector.http);
    let token = |role: &str| -> anyhow::Result<String> {
        let output = collector.cli(&["token", "create", "--role", role, "--for", "somebody"])?;
        let text = said(&output);
        text.split_whitespace().find(|word| word.starts_with("pw")).map(str::to_owned).with_context(|| text.clone())
    };
    for role in ["viewer", "operator"] {
        let token = token(role)?;
        assert_eq!(Api::new(&url, &token)?.get("/api/v1/query", &[("query", "up")])?.0, 200);
        for command in [&["agents", "revoke", "edge-1"][..], &["token", "create"], &["token", "list"]] {
            let base = ["--collector", url.as_str(), "--token", token.as_str()];
            let output = collector.cli(&[&base, command].concat())?;
            assert_eq!(output.status.code(), Some(3), "{role} {command:?}: {}", said(&output));
            assert!(said(&output).contains("the collector does not allow it: "), "{}", said(&output));
        }
    }
    assert_eq!(listed(&collector.api()?, "edge-1")?["state"], "connected");
    for token in ["", "pwa1_nonsense"] {
        for path in ["/api/v1/query?query=up", "/metrics", "/api/v1/pitwatch/agents", "/api/v1/pitwatch/status"] {
            assert_eq!(Api::new(&url, token)?.get(path, &[])?.0, 401, "{path}");
        }
        assert_eq!(Api::new(&url, token)?.get("/-/healthy", &[])?.0, 200);
    }
    let admin = token("admin")?;
    let output = collector.cli(&["--collector", &url, "--token", &admin, "agents", "revoke", "edge-1"])?;
    assert!(output.status.success(), "{}", said(&output));
    Ok(())
}

/// Words of the rules' expressions that are metrics of hosts or of Pitwatch.
fn asked_for() -> BTreeSet<&'static str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = STOCK
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(move |line| line.split(move |c| !word(c)));
    let is_ours = |word: &&str| word.starts_with("node_") || word.starts_with("pitwatch_");
    let is_metric = |word: &&str| !["pitwatch_clear", "pitwatch_no_data", "pitwatch_depends_on"].contains(word);
    words.filter(is_ours).filter(is_metric).filter(|word| word.len() > 9 && !LATER.contains(word)).collect()
}

#[test]
fn the_stock_rules_ask_for_what_there_is() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let rules = dir.path().join("rules");
    fs::create_dir(&rules)?;
    let config = format!("[alerting]\nrules_dir = {rules:?}\nstock_rules = true\n");
    let collector = Collector::start(&dir.path().join("collector"), &config, "")?;
    let _agent = Agent::start(&dir.path().join("agent"), "edge-1", &collector, "")?;
    let api = collector.api()?;
    wait_for_tick(&api, "edge-1", unix_ms() + 3_000, Duration::from_secs(20))?;

    let (_, text) = api.get("/metrics", &[])?;
    let text = text.as_str().context("no text")?;
    let own: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let asked = asked_for();
    assert!(asked.len() > 20, "{asked:?}");
    let missing: Vec<_> =
        asked.iter().filter(|name| pitwatch_agent::signals::metric(name).is_none() && !own.contains(*name)).collect();
    assert_eq!(missing, [&""; 0], "no program gives these metrics, so their rules never fire");

    let (_, body) = api.get("/api/v1/rules", &[])?;
    let groups = body["data"]["groups"].as_array().context("no groups")?;
    let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > 20, "{} rules", rules.len());
    let sick: Vec<_> = rules.iter().filter(|rule| rule["health"] == "err").collect();
    assert!(sick.is_empty(), "{sick:?}");
    let well = rules.iter().filter(|rule| rule["health"] == "ok").count();
    println!("{} metrics, {} rules, {well} evaluated", asked.len(), rules.len());
    Ok(())
}

#[test]
fn the_collector_sets_what_a_role_allows() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let roles = "[roles.game]\nsettings = \"\"\"\n[labels]\nteam = \"platform\"\nenv = \"theirs\"\n[statsd]\n\
                 udp = \"127.0.0.1:1\"\n\"\"\"\n";
    let collector = Collector::start(&dir.path().join("collector"), roles, "")?;
    let own = "[labels]\nrole = \"game\"\nenv = \"own\"\n";
    let mut agent = Agent::start(&dir.path().join("agent"), "real-1", &collector, own)?;
    let other = Agent::start(&dir.path().join("other"), "real-2", &collector, "[labels]\nrole = \"database\"\n")?;
    let api = collector.api()?;
    let expr = "node_load1{team=\"platform\",env=\"own\",instance=\"real-1\"}";
    let limit = Duration::from_secs(40);
    api.wait_for(expr, limit, |rows| rows.len() == 1)?;
    api.wait_for("node_load1{instance=\"real-2\",team=\"\"}", limit, |rows| rows.len() == 1)?;
    assert_eq!(api.value("count(pitwatch_agent_statsd_lines_total)")?, None, "not without the host's leave");
    drop(other);
    // It is kept for the next start, with or without the collector.
    assert!(agent.process().stop()?);
    assert!(fs::read_to_string(agent.dir.join("data/central.toml"))?.contains("platform"));
    let output = check("pitwatch-collector", &{
        let file = dir.path().join("wrong.toml");
        fs::write(&file, "[roles.game]\nsettings = \"[queue]\"\n")?;
        file
    })?;
    assert!(said(&output).contains("roles.game.settings"), "{}", said(&output));
    Ok(())
}
