//! Routing, delivery and what people do: Alertmanager's own programs as oracle and client, a platform that misbehaves, a host
//! that is cut off.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Context as _;
use pitwatch_alerting::{LabelSet, Routing};
use pitwatch_tests::http::Api;
use pitwatch_tests::mail::MailServer;
use pitwatch_tests::programs::{Agent, Collector, Process, free_port};
use pitwatch_tests::webhook::{Behaviour, Message, Webhook, is};
use serde_json::{Value, json};

use crate::support::{FAST, Level, Pusher, said, unix_ms, wait_for, wait_for_tick};

const SOON: Duration = Duration::from_secs(20);
pub(crate) const RULES: &str = "groups:
  - name: test
    rules:
      - alert: LevelHigh
        expr: test_level > 5
        labels: {severity: page}
        annotations:
          summary: 'level of {{ $labels.instance }} is {{ $value }}'
          impact: 'Players wait. {{ printf \"%250s\" \"So do payments.\" }} {{ printf \"%250s\" \"And so on.\" }}'
";

/// A collector whose alerts go by this alertmanager.yml.
pub(crate) fn collector(dir: &Path, yaml: &str, alerting: &str, rules: &str) -> anyhow::Result<Collector> {
    std::fs::create_dir_all(dir)?;
    let file = dir.join("alertmanager.yml");
    std::fs::write(&file, yaml)?;
    let rules_dir = dir.join("collector/rules");
    let config = format!("[alerting]\nrules_dir = {rules_dir:?}\nalertmanager_config = {file:?}\n{alerting}\n");
    Collector::start(&dir.join("collector"), &config, rules)
}

pub(crate) fn one_route(receiver: &str) -> String {
    format!(
        "route: {{receiver: r, group_by: ['...'], group_wait: 0s, group_interval: 1s}}\nreceivers:\n- name: r\n{receiver}\n"
    )
}

pub(crate) fn amtool(collector: &Collector, arguments: &[&str]) -> anyhow::Result<Output> {
    let url = format!("http://amtool:{}@{}", collector.token()?, collector.http);
    let mut command = Command::new("amtool");
    command.arg(format!("--alertmanager.url={url}")).args(arguments);
    command.output().context("amtool is in Debian's prometheus-alertmanager")
}

#[test]
fn amtool_makes_lists_and_ends_silences_here() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let hook = Webhook::start()?;
    let yaml = one_route(&format!("  webhook_configs: [{{url: 'http://{}/x'}}]", hook.address));
    let collector = collector(dir.path(), &yaml, "stock_rules = false", RULES)?;
    let level = Level::start(&dir.path().join("level"), "meter", &collector)?;
    collector.api()?.wait_for("test_level", SOON, |rows| rows.len() == 1)?;
    let add = amtool(
        &collector,
        &["silence", "add", "LevelHigh", "instance=~met.*", "-c", "disk swap", "-a", "ann", "-d", "1h"],
    )?;
    assert!(add.status.success(), "{}", said(&add));
    let id = String::from_utf8(add.stdout)?.trim().to_owned();
    let query = amtool(&collector, &["silence", "query", "-o", "json"])?;
    let listed: Value = serde_json::from_slice(&query.stdout)?;
    assert_eq!((&listed[0]["id"], &listed[0]["createdBy"]), (&json!(id), &json!("ann")));
    level.set(9.0);
    let api = collector.api()?;
    wait_for("a suppressed alert", SOON, || {
        let (_, body) = api.get("/api/v2/alerts", &[]).ok()?;
        (body[0]["status"]["silencedBy"][0] == json!(id)).then_some(())
    })?;
    let alerts = amtool(&collector, &["alert", "query", "--silenced", "-o", "json"])?;
    assert!(said(&alerts).contains("LevelHigh"), "{}", said(&alerts));
    let routes = amtool(&collector, &["alert", "query", "-o", "json"])?;
    assert!(!said(&routes).contains("LevelHigh"), "{}", said(&routes));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(hook.messages().len(), 0);
    // It survives kill -9, and its end brings the message.
    let mut collector = collector;
    collector.process().kill();
    collector.restart()?;
    let expire = amtool(&collector, &["silence", "expire", &id])?;
    assert!(expire.status.success(), "{}", said(&expire));
    hook.wait_for("LevelHigh", "firing", SOON)?;
    let query = amtool(&collector, &["silence", "query", "--expired", "-o", "json"])?;
    assert!(said(&query).contains(&id) && said(&query).contains("expired"), "{}", said(&query));
    // The same from our own command line, and what a viewer may not.
    let added = collector.cli(&["silence", "add", "instance=meter", "--for", "10m", "-c", "test", "-a", "bob"])?;
    assert!(said(&added).contains("matches 1 alert"), "{}", said(&added));
    assert!(said(&collector.cli(&["silence", "list"])?).contains("bob"));
    let viewer = said(&collector.cli(&["token", "create", "--role", "viewer", "--for", "v"])?);
    let viewer = viewer.split_whitespace().find(|word| word.starts_with("pwa1_")).context("no token")?.to_owned();
    let refused = Command::new("amtool")
        .arg(format!("--alertmanager.url=http://x:{viewer}@{}", collector.http))
        .args(["silence", "add", "a=b", "-c", "x", "-a", "y"])
        .output()?;
    assert!(!refused.status.success(), "{}", said(&refused));
    Ok(())
}

/// Trees of routes and label sets from a seed: `amtool` and we must agree on every one.
#[test]
fn alerts_are_routed_as_alertmanager_routes_them() -> anyhow::Result<()> {
    const TREES: u64 = 12;
    const ALERTS: u64 = 45;
    let dir = tempfile::tempdir()?;
    let mut cases = Vec::new();
    for seed in 0..TREES {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut yaml = "route:\n  receiver: r0\n  routes:\n".to_owned();
        tree(&mut random, 1, &mut yaml);
        yaml.push_str("receivers:\n");
        (0..6).for_each(|at| yaml.push_str(&format!("- name: r{at}\n")));
        let file = dir.path().join(format!("{seed}.yml"));
        std::fs::write(&file, &yaml)?;
        let routing =
            Routing::parse("am.yml", &yaml, &|_| None).map_err(|errors| anyhow::anyhow!("{errors}\n{yaml}"))?;
        for _ in 0..ALERTS {
            let labels: Vec<(String, String)> = NAMES
                .iter()
                .filter_map(|name| {
                    let value = VALUES[random.usize(..VALUES.len())];
                    if random.u8(..3) > 0 { Some(((*name).to_owned(), value.to_owned())) } else { None }
                })
                .collect();
            let ours = routing.receivers_of(&LabelSet::new(labels.clone())).join(",");
            cases.push((file.clone(), labels, ours));
        }
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((file, labels, ours)) =
                    cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    let config = format!("--config.file={}", file.display());
                    let theirs =
                        Command::new("amtool").args(["config", "routes", "test", &config]).args(&labels).output();
                    let theirs = theirs.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
                    if theirs.as_ref().ok() != Some(ours) {
                        wrong.lock().unwrap().push(format!("{file:?} {labels:?}: {theirs:?}, here {ours}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner()?;
    assert!(cases.len() >= 500 && wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    Ok(())
}

const NAMES: [&str; 5] = ["alertname", "severity", "team", "service", "instance"];
const VALUES: [&str; 6] = ["critical", "warning", "db", "db-1", "web.example", "x"];
const PATTERNS: [&str; 6] = ["db.*", "critical|warning", ".+", "", "[wx].*", "db-[0-9]"];

fn tree(random: &mut fastrand::Rng, depth: usize, yaml: &mut String) {
    let indent = "  ".repeat(2 * depth - 1);
    for _ in 0..random.usize(2..4) {
        yaml.push_str(&format!(
            "{indent}- receiver: r{}\n{indent}  continue: {}\n{indent}  matchers:\n",
            random.usize(..6),
            random.bool()
        ));
        for _ in 0..random.usize(1..3) {
            let name = NAMES[random.usize(..NAMES.len())];
            let (op, value) = match random.u8(..4) {
                0 => ("=", VALUES[random.usize(..VALUES.len())]),
                1 => ("!=", VALUES[random.usize(..VALUES.len())]),
                2 => ("=~", PATTERNS[random.usize(..PATTERNS.len())]),
                _ => ("!~", PATTERNS[random.usize(..PATTERNS.len())]),
            };
            yaml.push_str(&format!("{indent}  - '{name}{op}\"{value}\"'\n"));
        }
        if depth < 3 && random.bool() {
            yaml.push_str(&format!("{indent}  routes:\n"));
            tree(random, depth + 1, yaml);
        }
    }
}

/// A real Alertmanager that tells everything to `hook`.
fn alertmanager(dir: &Path, hook: &Webhook) -> anyhow::Result<(Process, String)> {
    std::fs::create_dir_all(dir)?;
    let file = dir.join("am.yml");
    let route = "route: {receiver: r, group_by: [alertname], group_wait: 0s, group_interval: 1s}\n";
    std::fs::write(
        &file,
        format!("{route}receivers: [{{name: r, webhook_configs: [{{url: 'http://{}/am'}}]}}]\n", hook.address),
    )?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut command = Command::new("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--cluster.listen-address=");
    let process = Process::start(&mut command, &dir.join("am.log"))?;
    let api = Api::new(&format!("http://{address}"), "")?;
    wait_for("a real Alertmanager", SOON, || (api.get("/-/ready", &[]).ok()?.0 == 200).then_some(()))?;
    Ok((process, address))
}

#[test]
fn a_real_alertmanager_takes_our_alerts_and_our_webhook_is_its_own_byte_for_byte() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (theirs, ours) = (Webhook::start()?, Webhook::start()?);
    let (_process, address) = alertmanager(&dir.path().join("am"), &theirs)?;
    let yaml = format!(
        "route:\n  receiver: r\n  group_by: [alertname]\n  group_wait: 0s\n  group_interval: 1s\nreceivers:\n- name: r\n  \
         webhook_configs: [{{url: 'http://{}/am'}}]\n  alertmanager_configs: [{{url: 'http://{address}'}}]\n",
        ours.address
    );
    let collector = collector(dir.path(), &yaml, "stock_rules = false", RULES)?;
    let level = Level::start(&dir.path().join("level"), "meter", &collector)?;
    collector.api()?.wait_for("test_level", SOON, |rows| rows.len() == 1)?;
    for (value, status) in [(9.0, "firing"), (1.0, "resolved")] {
        level.set(value);
        let (their, our) = (theirs.wait_for("LevelHigh", status, SOON)?, ours.wait_for("LevelHigh", status, SOON)?);
        // Each says where it is itself; all else is the same.
        let same = |message: &Message| {
            let own = message.body["externalURL"].as_str().unwrap_or_default();
            message.text.replace(&format!("\"externalURL\":\"{own}\""), "\"externalURL\":\"\"")
        };
        assert_eq!(same(&their), same(&our), "{status}");
    }
    Ok(())
}

#[test]
fn platforms_that_misbehave_get_every_alert_in_the_end() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (slack, other) = (Webhook::start()?, Webhook::start()?);
    let yaml = format!(
        "route:\n  receiver: chat\n  group_by: ['...']\n  group_wait: 0s\n  group_interval: 1s\n  routes:\n  \
         - {{receiver: chat, continue: true}}\n  - {{receiver: other}}\nreceivers:\n- name: chat\n  slack_configs: \
         [{{api_url: 'http://{}/s', channel: c, send_resolved: true}}]\n- name: other\n  webhook_configs: [{{url: 'http://{}/o'}}]\n",
        slack.address, other.address
    );
    let collector = collector(dir.path(), &yaml, "stock_rules = false", RULES)?;
    let level = Level::start(&dir.path().join("level"), "meter", &collector)?;
    let api = collector.api()?;
    api.wait_for("test_level", SOON, |rows| rows.len() == 1)?;
    for behaviour in [
        Behaviour::Busy(1),
        Behaviour::Status(503),
        Behaviour::Closes,
        Behaviour::Slow(2_000),
        Behaviour::AtMost(1_000),
    ] {
        let (before, others) = (slack.messages().len(), other.messages().len());
        slack.behave(behaviour);
        level.set(9.0);
        // The other hears of it at once, whatever this one does.
        wait_for("the other", Duration::from_secs(5), || (other.messages().len() > others).then_some(()))?;
        if !matches!(behaviour, Behaviour::Slow(_) | Behaviour::AtMost(_)) {
            std::thread::sleep(Duration::from_millis(1_500));
            assert_eq!(slack.messages().len(), before, "{behaviour:?}");
            slack.answer(200);
        }
        let told =
            wait_for(&format!("{behaviour:?}"), Duration::from_secs(30), || slack.messages().get(before).cloned())?;
        let text = told.body["text"].as_str().unwrap_or_default();
        assert!(text.contains("level of meter"), "{behaviour:?}: {text}");
        assert!(told.text.contains("/alerts/"), "with its link: {}", told.text);
        slack.answer(200);
        level.set(1.0);
        wait_for("the end", Duration::from_secs(30), || (slack.messages().len() > before + 1).then_some(()))?;
        wait_for("it is over", SOON, || {
            let (_, body) = api.get("/api/v1/pitwatch/alerts", &[]).ok()?;
            body["data"]["alerts"].as_array()?.is_empty().then_some(())
        })?;
    }
    Ok(())
}

#[test]
fn people_take_alerts_and_incidents_keep_what_happened() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let hook = Webhook::start()?;
    let yaml = one_route(&format!(
        "  webhook_configs: [{{url: 'http://{0}/x'}}]\n  slack_configs: [{{api_url: 'http://{0}/s', channel: c}}]",
        hook.address
    ));
    let mut collector = collector(dir.path(), &yaml, "stock_rules = false", RULES)?;
    let level = Level::start(&dir.path().join("level"), "meter", &collector)?;
    collector.api()?.wait_for("test_level", SOON, |rows| rows.len() == 1)?;
    level.set(9.0);
    let message = hook.wait_for("LevelHigh", "firing", SOON)?;
    let print = message.body["alerts"][0]["fingerprint"].as_str().context("no fingerprint")?.to_owned();
    let ack = collector.cli(&["alerts", "ack", &print, "-c", "on it"])?;
    assert!(ack.status.success(), "{}", said(&ack));
    collector.process().kill();
    collector.restart()?;
    let (_, body) = collector.api()?.get("/api/v1/pitwatch/alerts", &[])?;
    assert_eq!(body["data"]["alerts"][0]["acknowledged"]["comment"], "on it", "{body}");
    // A link of the message opens a page that asks, and its button acts.
    let chat = wait_for("a chat message", SOON, || {
        hook.messages().into_iter().find(|message| message.body["blocks"].is_array())
    })?;
    let link = chat.text.split("/act/").nth(2).and_then(|rest| rest.split('|').next()).context("no link")?.to_owned();
    let url = format!("http://{}/act/{link}", collector.http);
    let runtime = crate::support::runtime()?;
    let (asked, done) = runtime.block_on(async {
        let client = reqwest::Client::new();
        let asked = client.get(&url).send().await?.text().await?;
        anyhow::Ok((asked, client.post(&url).send().await?.text().await?))
    })?;
    assert!(asked.contains("Silence for 2 h") && done.contains("Silenced for 2 h"), "{asked}\n{done}");
    assert!(said(&collector.cli(&["silence", "list"])?).contains("a link in a message"));
    level.set(1.0);
    // It is silenced, but who heard of its beginning hears of its end.
    hook.wait_for("LevelHigh", "resolved", SOON)?;
    let story = said(&collector.cli(&["incidents", "show", "1"])?);
    for word in ["fired", "acknowledged by", "on it", "resolved", "closed"] {
        assert!(story.contains(word), "{word}: {story}");
    }
    Ok(())
}

/// Forty services that depend on a host; the host is cut off: one message with its name, when it was last seen, and
/// them; one when it is back.
#[test]
fn a_host_that_is_cut_off_is_one_message_and_one_when_it_is_back() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let chat = Webhook::start()?;
    let yaml = format!(
        "route: {{receiver: chat, group_by: ['...'], group_wait: 5s, group_interval: 1s}}\nreceivers:\n- name: chat\n  \
         slack_configs: [{{api_url: 'http://{}/s', channel: c, send_resolved: true}}]\n",
        chat.address
    );
    let rules = "groups:
- name: t
  rules:
  - alert: PitwatchAgentSilent
    expr: pitwatch_agent_up == 0
    labels: {severity: critical}
    annotations:
      summary: 'No data from {{ $labels.instance }}'
      description: '{{ with printf \"pitwatch_agent_last_seen_timestamp_seconds{instance=%q}\" $labels.instance | query }}Last seen {{ . | first | value | humanizeTimestamp }}{{ end }}'
  - alert: ServiceDown
    expr: service > 5
    annotations: {pitwatch_depends_on: 'PitwatchAgentSilent{instance=\"edge-7\"}'}
";
    let collector = collector(dir.path(), &yaml, "stock_rules = false", rules)?;
    let mut agent = Agent::start(&dir.path().join("agent"), "edge-7", &collector, FAST)?;
    let services = Pusher::start(&dir.path().join("s"), "probe", &collector, "service", 40)?;
    let api = collector.api()?;
    wait_for_tick(&api, "edge-7", 0, SOON)?;
    let probe = |value: f64, limit: Duration, done: &dyn Fn() -> bool| -> anyhow::Result<()> {
        wait_for("probes", limit, || {
            let _ = services.tick(unix_ms(), &[value; 40]);
            std::thread::sleep(Duration::from_millis(200));
            done().then_some(())
        })
    };
    probe(0.0, SOON, &|| true)?;
    agent.process().kill();
    let silent = || chat.messages().len();
    let up = || {
        api.get("/api/v1/pitwatch/alerts", &[]).is_ok_and(|(_, body)| body.to_string().contains("PitwatchAgentSilent"))
    };
    probe(0.0, Duration::from_secs(60), &up)?;
    probe(9.0, Duration::from_secs(60), &|| silent() > 0)?;
    probe(9.0, Duration::from_secs(6), &|| false).unwrap_err();
    let messages = chat.messages();
    assert_eq!(messages.len(), 1, "{messages:?}");
    let text = &messages[0].text;
    for word in ["No data from edge-7", "Last seen", "40 alerts kept quiet", "ServiceDown"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    // Back: first its services, then itself, as their probes see it.
    probe(0.0, SOON, &|| {
        api.get("/api/v1/pitwatch/alerts", &[]).is_ok_and(|(_, body)| !body.to_string().contains("ServiceDown"))
    })?;
    agent.restart()?;
    probe(0.0, Duration::from_secs(60), &|| silent() > 1)?;
    probe(0.0, Duration::from_secs(4), &|| false).unwrap_err();
    let messages = chat.messages();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[1].text.contains("resolved after"), "{}", messages[1].text);
    Ok(())
}

/// 2,000 alerts at once to a room that takes one message a second: summaries, and nothing is left.
#[test]
fn a_storm_reaches_a_slow_room_as_summaries() -> anyhow::Result<()> {
    const SERIES: usize = 2_000;
    let dir = tempfile::tempdir()?;
    let chat = Webhook::start()?;
    chat.behave(Behaviour::OneASecond);
    let yaml = one_route(&format!(
        "  slack_configs: [{{api_url: 'http://{}/s', channel: c, send_resolved: true}}]",
        chat.address
    ));
    let rules = "groups: [{name: t, rules: [{alert: Storm, expr: storm > 5}]}]\n";
    let collector = collector(dir.path(), &yaml, "stock_rules = false", rules)?;
    let pusher = Pusher::start(&dir.path().join("p"), "meter", &collector, "storm", SERIES)?;
    let api = collector.api()?;
    let mut values = vec![0.0; SERIES];
    // Waves of a tenth each.
    for wave in 0..10 {
        values[wave * SERIES / 10..(wave + 1) * SERIES / 10].fill(9.0);
        pusher.tick(unix_ms(), &values)?;
        std::thread::sleep(Duration::from_millis(500));
    }
    let drained = || -> Option<()> {
        let (_, body) = api.get("/api/v1/pitwatch/status", &[]).ok()?;
        (body["data"]["receivers"][0]["pending"] == 0 && body["data"]["alerts"]["firing"] == SERIES as u64)
            .then_some(())
    };
    wait_for("drained", Duration::from_secs(60), || {
        let _ = pusher.tick(unix_ms(), &values);
        std::thread::sleep(Duration::from_millis(200));
        drained()
    })?;
    let messages = chat.messages();
    println!("{SERIES} alerts in {} messages", messages.len());
    assert!(messages.len() < 40, "{}", messages.len());
    let sum: usize = messages
        .iter()
        .filter_map(|m| m.body["text"].as_str()?.split(" firing").next()?.rsplit(' ').next()?.parse::<usize>().ok())
        .sum();
    assert!(sum >= SERIES - messages.len(), "{sum}");
    Ok(())
}

#[test]
fn what_is_not_taken_goes_to_the_fallback_and_a_sign_of_life_goes_out() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (dead, other, outside) =
        (TcpListener::bind("127.0.0.1:0")?.local_addr()?, Webhook::start()?, Webhook::start()?);
    let yaml = format!(
        "{}- name: other\n  webhook_configs: [{{url: 'http://{}/o'}}]\n",
        one_route(&format!("  slack_configs: [{{api_url: 'http://{dead}/s', channel: c}}]")),
        other.address
    );
    let alerting = format!(
        "stock_rules = false\nfallback_receiver = \"other\"\nfallback_after = \"10s\"\nheartbeat_url = \"http://{}/beat\"\nheartbeat_interval = \"1s\"",
        outside.address
    );
    let collector = collector(dir.path(), &yaml, &alerting, RULES)?;
    let level = Level::start(&dir.path().join("level"), "meter", &collector)?;
    collector.api()?.wait_for("test_level", SOON, |rows| rows.len() == 1)?;
    level.set(9.0);
    other.wait_for("LevelHigh", "firing", Duration::from_secs(30))?;
    assert!(other.messages().iter().all(|message| is(message, "LevelHigh", "firing")));
    wait_for("signs of life", SOON, || (outside.messages().len() >= 3).then_some(()))?;
    let status = said(&collector.cli(&["status"])?);
    assert!(status.contains("receiver r: 1 waiting"), "{status}");
    Ok(())
}

#[test]
fn mail_is_sent_as_text_and_html() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let server = MailServer::start()?;
    let yaml = one_route(&format!(
        "  email_configs: [{{to: 'Ops <ops@example.org>, b@example.org', from: pitwatch@example.org, smarthost: '{}', require_tls: false}}]",
        server.address
    ));
    let collector = collector(dir.path(), &yaml, "stock_rules = false", RULES)?;
    let level = Level::start(&dir.path().join("level"), "meter", &collector)?;
    collector.api()?.wait_for("test_level", SOON, |rows| rows.len() == 1)?;
    level.set(9.0);
    let mail = wait_for("a mail", SOON, || server.mails().into_iter().next())?;
    for part in [
        "RCPT TO:<ops@example.org>",
        "RCPT TO:<b@example.org>",
        "Subject: ",
        "References: <",
        "text/plain",
        "text/html",
        "level of meter",
    ] {
        assert!(mail.contains(part), "{part}: {mail}");
    }
    Ok(())
}
