//! Alerts: fired and resolved at a webhook, delivered after trouble, true over restarts, and by name for silence.

use std::path::Path;
use std::time::Duration;

use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Agent, Collector};
use pitwatch_tests::webhook::{Webhook, is};

use crate::support::{FAST, Level, unix_ms, wait_for, wait_for_tick};

const RULES: &str = "groups:
  - name: test
    rules:
      - alert: LevelHigh
        expr: test_level > 5
        for: 0s
        labels:
          severity: page
        annotations:
          summary: 'level of {{ $labels.instance }} is {{ $value }}'
      - alert: AgentSilent
        expr: pitwatch_agent_up == 0
        for: 0s
";
const SOON: Duration = Duration::from_secs(10);

struct Bench {
    collector: Collector,
    hook: Webhook,
    level: Level,
}

fn bench(dir: &Path) -> anyhow::Result<Bench> {
    let hook = Webhook::start()?;
    let collector = Collector::start(&dir.join("collector"), &hook.config(), RULES)?;
    let level = Level::start(&dir.join("level"), "meter", &collector)?;
    let api = collector.api()?;
    api.wait_for("test_level", SOON, |rows| rows.len() == 1)?;
    Ok(Bench { collector, hook, level })
}

impl Bench {
    fn count(&self, alert: &str, status: &str) -> usize {
        self.hook.messages().iter().filter(|message| is(message, alert, status)).count()
    }
}

fn firing(api: &Api, alert: &str) -> Option<serde_json::Value> {
    let (_, body) = api.get("/api/v1/alerts", &[]).ok()?;
    let alerts = body["data"]["alerts"].as_array()?;
    alerts.iter().find(|one| one["labels"]["alertname"] == alert && one["state"] == "firing").cloned()
}

#[test]
fn an_alert_fires_and_resolves_at_the_webhook() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let bench = bench(dir.path())?;
    let breach_ms = unix_ms();
    bench.level.set(9.0);
    let fired = bench.hook.wait_for("LevelHigh", "firing", SOON)?;
    let alert = &fired.body["alerts"][0];
    assert_eq!(alert["labels"]["instance"], "meter");
    assert_eq!(alert["labels"]["severity"], "page");
    assert_eq!(alert["annotations"]["summary"], "level of meter is 9");
    println!("breach to webhook: {} ms", fired.at_ms - breach_ms);
    assert!(firing(&bench.collector.api()?, "LevelHigh").is_some());
    bench.level.set(1.0);
    let resolved = bench.hook.wait_for("LevelHigh", "resolved", SOON)?;
    assert_eq!(resolved.body["alerts"][0]["fingerprint"], alert["fingerprint"]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((bench.count("LevelHigh", "firing"), bench.count("LevelHigh", "resolved")), (1, 1));
    assert!(firing(&bench.collector.api()?, "LevelHigh").is_none());
    Ok(())
}

#[test]
fn a_webhook_in_trouble_gets_its_message_afterwards_once() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let bench = bench(dir.path())?;
    bench.hook.answer(500);
    bench.level.set(9.0);
    wait_for("three tries", Duration::from_secs(20), || (bench.hook.refused() >= 3).then_some(()))?;
    let status = bench.collector.cli(&["status"])?;
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains("receiver hook: ") && text.contains("HTTP 500"), "{text}");
    bench.hook.answer(200);
    bench.hook.wait_for("LevelHigh", "firing", Duration::from_secs(30))?;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(bench.count("LevelHigh", "firing"), 1);
    Ok(())
}

#[test]
fn a_delivery_that_waits_survives_kill_9() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut bench = bench(dir.path())?;
    bench.hook.answer(503);
    bench.level.set(9.0);
    wait_for("a try", Duration::from_secs(20), || (bench.hook.refused() >= 1).then_some(()))?;
    bench.collector.process().kill();
    bench.hook.answer(200);
    bench.collector.restart()?;
    bench.hook.wait_for("LevelHigh", "firing", Duration::from_secs(30))?;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(bench.count("LevelHigh", "firing"), 1, "{:?}", bench.hook.messages());
    Ok(())
}

#[test]
fn alerts_survive_a_restart_and_kill_9() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut bench = bench(dir.path())?;
    bench.level.set(9.0);
    bench.hook.wait_for("LevelHigh", "firing", SOON)?;
    let before = firing(&bench.collector.api()?, "LevelHigh").expect("it fires");
    for kind in ["stop", "kill"] {
        match kind {
            "stop" => assert!(bench.collector.process().stop()?, "the collector ends badly"),
            _ => bench.collector.process().kill(),
        }
        bench.collector.restart()?;
        let api = bench.collector.api()?;
        // At once, before any new data, and still a while later.
        let after = firing(&api, "LevelHigh").expect("it fires after a restart");
        assert_eq!(after["activeAt"], before["activeAt"], "{kind}");
        std::thread::sleep(Duration::from_secs(4));
        assert!(firing(&api, "LevelHigh").is_some(), "{kind}");
    }
    assert_eq!((bench.count("LevelHigh", "firing"), bench.count("LevelHigh", "resolved")), (1, 0));
    bench.level.set(1.0);
    bench.hook.wait_for("LevelHigh", "resolved", SOON)?;
    assert_eq!((bench.count("LevelHigh", "firing"), bench.count("LevelHigh", "resolved")), (1, 1));
    Ok(())
}

#[test]
fn an_agent_that_falls_silent_is_named() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let bench = bench(dir.path())?;
    let mut agent = Agent::start(&dir.path().join("agent"), "edge-7", &bench.collector, FAST)?;
    let api = bench.collector.api()?;
    wait_for_tick(&api, "edge-7", 0, Duration::from_secs(20))?;
    api.wait_for("pitwatch_agent_up{instance=\"edge-7\"}", SOON, |rows| rows.first().is_some_and(|row| row.1 == 1.0))?;
    let of_edge = |status: &str, nth: usize| {
        wait_for(&format!("{status} {nth} of edge-7"), Duration::from_secs(20), || {
            let messages = bench.hook.messages();
            let named = messages.iter().filter(|message| is(message, "AgentSilent", status));
            let named = named.filter(|message| message.body["alerts"][0]["labels"]["instance"] == "edge-7");
            (named.count() >= nth).then_some(())
        })
    };
    agent.process().signal("STOP")?;
    of_edge("firing", 1)?;
    agent.process().signal("CONT")?;
    of_edge("resolved", 1)?;
    agent.process().kill();
    of_edge("firing", 2)?;
    agent.restart()?;
    of_edge("resolved", 2)?;
    // The other agent was never silent.
    let others = bench.hook.messages();
    let others = others.iter().filter(|message| message.body["alerts"][0]["labels"]["instance"] == "meter");
    assert_eq!(others.count(), 0);
    Ok(())
}
