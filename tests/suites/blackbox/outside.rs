//! Alerts that others evaluate and hand in, by `amtool` and by a real Prometheus; and an alertmanager.yml that changes.

use std::process::Command;
use std::time::Duration;

use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Process, free_port};
use pitwatch_tests::webhook::Webhook;
use serde_json::{Value, json};

use crate::routing::{RULES, amtool, collector, one_route};
use crate::support::{Level, said, wait_for};

const SOON: Duration = Duration::from_secs(20);

fn firing(api: &Api) -> Option<Vec<Value>> {
    let (_, body) = api.get("/api/v2/alerts", &[]).ok()?;
    body.as_array().cloned()
}

#[test]
fn amtool_hands_in_an_alert_and_ends_it() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let hook = Webhook::start()?;
    let yaml = one_route(&format!("  webhook_configs: [{{url: 'http://{}/x'}}]", hook.address));
    let mut collector = collector(dir.path(), &yaml, "stock_rules = false", "")?;
    let labels = ["Backup", "instance=db-1", "severity=page"];
    let added = amtool(&collector, &[&["alert", "add"], &labels[..], &["--annotation=summary=late"]].concat())?;
    assert!(added.status.success(), "{}", said(&added));
    let message = hook.wait_for("Backup", "firing", SOON)?;
    assert_eq!(message.body["alerts"][0]["annotations"]["summary"], "late");
    let listed = said(&amtool(&collector, &["alert", "query", "instance=db-1"])?);
    assert!(listed.contains("Backup") && listed.contains("active"), "{listed}");
    // It is one like any other: kept over kill -9, acknowledged, ended.
    collector.process().kill();
    collector.restart()?;
    let api = collector.api()?;
    let alerts = firing(&api).unwrap_or_default();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let print = alerts[0]["fingerprint"].as_str().unwrap_or_default().to_owned();
    let acked = collector.cli(&["alerts", "ack", &print, "-c", "on it"])?;
    assert!(acked.status.success(), "{}", said(&acked));
    let over = [&["alert", "add"], &labels[..], &["--start=2026-01-01T00:00:00Z", "--end=2026-01-01T00:00:01Z"]];
    let ended = amtool(&collector, &over.concat())?;
    assert!(ended.status.success(), "{}", said(&ended));
    hook.wait_for("Backup", "resolved", SOON)?;
    assert_eq!(hook.messages().len(), 2, "each was told once");

    let post = |body: Value| api.post("/api/v2/alerts", &body);
    let (status, why) = post(json!([{"labels": {}}, {"labels": {"alertname": "Good"}}]))?;
    assert!(status == 400 && why.as_str().is_some_and(|why| why.contains("without labels")), "{status} {why}");
    hook.wait_for("Good", "firing", SOON)?;
    Ok(())
}

#[test]
fn a_prometheus_tells_its_alerts_here() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let hook = Webhook::start()?;
    let yaml = one_route(&format!("  webhook_configs: [{{url: 'http://{}/x'}}]", hook.address));
    let collector = collector(dir.path(), &yaml, "stock_rules = false", "")?;
    std::fs::write(dir.path().join("token"), collector.token()?)?;
    let rules = "groups: [{name: g, rules: [{alert: Theirs, expr: vector(1), labels: {from: prometheus}}]}]\n";
    std::fs::write(dir.path().join("rules.yml"), rules)?;
    let config = format!(
        "global: {{evaluation_interval: 1s}}\nrule_files: [rules.yml]\nalerting:\n  alertmanagers:\n  \
         - authorization: {{credentials_file: {:?}}}\n    static_configs: [{{targets: ['{}']}}]\n",
        dir.path().join("token"),
        collector.http
    );
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, config)?;
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{}", free_port()?));
    // What it evaluates before it has found its Alertmanagers it sends to nobody, and again after this.
    command.arg("--rules.alert.resend-delay=1s");
    let _prometheus = Process::start(&mut command, &dir.path().join("prometheus.log"))?;
    let message = hook.wait_for("Theirs", "firing", SOON)?;
    assert_eq!(message.body["alerts"][0]["labels"]["from"], "prometheus");
    Ok(())
}

#[test]
fn an_alertmanager_file_is_taken_anew_all_or_none() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (old, new) = (Webhook::start()?, Webhook::start()?);
    let hook = |hook: &Webhook| format!("webhook_configs: [{{url: 'http://{}/x'}}]", hook.address);
    let yaml = |routes: &str, receivers: &str| {
        let first = "route:\n  receiver: r\n  group_by: ['...']\n  group_wait: 0s\n  group_interval: 1s\n  routes:\n";
        format!(
            "{first}  - {{receiver: r, continue: true}}\n{routes}receivers:\n- name: r\n  {}\n{receivers}",
            hook(&old)
        )
    };
    let collector = collector(dir.path(), &yaml("", ""), "stock_rules = false", RULES)?;
    let level = Level::start(&dir.path().join("level"), "meter", &collector)?;
    let api = collector.api()?;
    api.wait_for("test_level", SOON, |rows| rows.len() == 1)?;
    level.set(9.0);
    old.wait_for("LevelHigh", "firing", SOON)?;

    let file = dir.path().join("alertmanager.yml");
    std::fs::write(&file, "route: {receiver: nobody}\nreceivers: []\n")?;
    let refused = collector.cli(&["rules", "reload"])?;
    assert!(!refused.status.success() && said(&refused).contains("alertmanager.yml:1"), "{}", said(&refused));
    assert_eq!(api.get("/api/v2/receivers", &[])?.1, json!([{"name": "r"}]));

    // The route stays and gets a neighbour: who was told is not told again, who was not is.
    std::fs::write(&file, yaml("  - {receiver: s}\n", &format!("- name: s\n  {}\n", hook(&new))))?;
    new.wait_for("LevelHigh", "firing", SOON)?;
    level.set(1.0);
    new.wait_for("LevelHigh", "resolved", SOON)?;
    old.wait_for("LevelHigh", "resolved", SOON)?;
    assert_eq!((old.messages().len(), new.messages().len()), (2, 2));
    wait_for("it is over", SOON, || firing(&api)?.is_empty().then_some(()))?;
    Ok(())
}
