//! Every receiver against a server that behaves as its platform documents: too many requests, an error of its own, slow,
//! a connection that closes, a message that is too large; and mail over TLS with a login, to a real mail server.

use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use pitwatch_tests::programs::{Collector, Process, free_port};
use pitwatch_tests::webhook::{Behaviour, Dialect, Webhook};
use serde_json::Value;

use crate::routing::{RULES, collector, one_route};
use crate::support::{Level, wait_for};

const SOON: Duration = Duration::from_secs(20);
/// One failure, the wait before the next try, and the slowest platform's own gap between two messages.
const PATIENCE: Duration = Duration::from_secs(40);

/// A platform: what its receiver is in `alertmanager.yml`, and how the platform answers.
struct Platform {
    name: &'static str,
    /// `@` stands for the server's address.
    yaml: &'static str,
    dialect: Dialect,
}

const PLAIN: Dialect = Dialect { taken: "ok", busy_header: true, busy: "slow down", large: (413, "too large") };

const PLATFORMS: [Platform; 11] = [
    Platform {
        name: "slack",
        yaml: "slack_configs: [{api_url: '@/services/T', channel: c, send_resolved: true}]",
        dialect: Dialect { large: (400, "invalid_blocks"), busy: "rate_limited", ..PLAIN },
    },
    Platform {
        name: "slack-app",
        yaml: "slack_configs: [{app_token: xoxb-1, app_url: '@/api/chat.postMessage', channel: C1, send_resolved: true}]",
        dialect: Dialect {
            taken: r#"{"ok":true,"channel":"C1","ts":"1700000000.000100"}"#,
            busy: r#"{"ok":false,"error":"ratelimited"}"#,
            large: (200, r#"{"ok":false,"error":"msg_too_long"}"#),
            ..PLAIN
        },
    },
    Platform { name: "mattermost", yaml: "mattermost_configs: [{webhook_url: '@/hooks/x'}]", dialect: PLAIN },
    Platform {
        name: "rocketchat",
        yaml: "rocketchat_configs: [{webhook_url: '@/hooks/x'}]",
        dialect: Dialect {
            taken: r#"{"success":true}"#,
            busy_header: false,
            busy: r#"{"success":false,"error":"error-too-many-requests"}"#,
            large: (400, r#"{"success":false,"error":"error-message-size-exceeded"}"#),
        },
    },
    Platform {
        name: "discord",
        yaml: "discord_configs: [{webhook_url: '@/api/webhooks/x'}]",
        dialect: Dialect {
            taken: "",
            busy_header: false,
            busy: r#"{"message":"You are being rate limited.","retry_after":1.0,"global":false}"#,
            large: (400, r#"{"embeds":["0"]}"#),
        },
    },
    Platform {
        name: "telegram",
        yaml: "telegram_configs: [{api_url: '@', bot_token: '1:abc', chat_id: -100}]",
        dialect: Dialect {
            taken: r#"{"ok":true,"result":{"message_id":7}}"#,
            busy_header: false,
            busy: r#"{"ok":false,"error_code":429,"parameters":{"retry_after":1}}"#,
            large: (400, r#"{"ok":false,"description":"Bad Request: message is too long"}"#),
        },
    },
    Platform { name: "msteams", yaml: "msteamsv2_configs: [{webhook_url: '@/workflows/x'}]", dialect: PLAIN },
    Platform {
        name: "googlechat",
        yaml: "googlechat_configs: [{url: '@/v1/spaces/x'}]",
        dialect: Dialect {
            taken: "{}",
            busy_header: false,
            busy: r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}"#,
            large: (400, r#"{"error":{"code":400,"status":"INVALID_ARGUMENT"}}"#),
        },
    },
    Platform { name: "webhook", yaml: "webhook_configs: [{url: '@/x'}]", dialect: PLAIN },
    Platform { name: "alertmanager", yaml: "alertmanager_configs: [{url: '@'}]", dialect: PLAIN },
    Platform {
        name: "pagerduty",
        yaml: "pagerduty_configs: [{url: '@/v2/enqueue', routing_key: R}]",
        dialect: Dialect { taken: r#"{"status":"success"}"#, busy_header: false, busy: "", large: (413, "") },
    },
];

#[test]
fn every_platform_in_every_trouble_gets_every_alert() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let servers = PLATFORMS.iter().map(|one| Webhook::speaking(one.dialect)).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut routes, mut receivers) = (String::new(), String::new());
    for (platform, server) in PLATFORMS.iter().zip(&servers) {
        let yaml = platform.yaml.replace('@', &format!("http://{}", server.address));
        routes += &format!("  - {{receiver: {}, continue: true}}\n", platform.name);
        receivers += &format!("- name: {}\n  {yaml}\n", platform.name);
    }
    let yaml = format!(
        "route:\n  receiver: slack\n  group_by: ['...']\n  group_wait: 0s\n  group_interval: 1s\n  routes:\n{routes}receivers:\n{receivers}"
    );
    let collector = collector(dir.path(), &yaml, "stock_rules = false", RULES)?;
    let level = Level::start(&dir.path().join("level"), "meter", &collector)?;
    collector.api()?.wait_for("test_level", SOON, |rows| rows.len() == 1)?;
    let each = || PLATFORMS.iter().zip(&servers);
    for behaviour in
        [Behaviour::Busy(1), Behaviour::Status(503), Behaviour::Closes, Behaviour::Slow(2_000), Behaviour::Oversize]
    {
        let before: Vec<usize> = servers.iter().map(|server| server.messages().len()).collect();
        let refused: Vec<u16> = servers.iter().map(Webhook::refused).collect();
        servers.iter().for_each(|server| server.behave(behaviour));
        level.set(9.0);
        if behaviour != Behaviour::Slow(2_000) {
            for ((platform, server), refused) in each().zip(&refused) {
                wait_for(&format!("{behaviour:?}: {} is asked", platform.name), PATIENCE, || {
                    (server.refused() > *refused).then_some(())
                })?;
            }
            for ((platform, server), before) in each().zip(&before) {
                let is_short = behaviour == Behaviour::Oversize;
                assert!(is_short || server.messages().len() == *before, "{behaviour:?}: {}", platform.name);
            }
        }
        if behaviour != Behaviour::Oversize {
            servers.iter().for_each(|server| server.answer(200));
        }
        for ((platform, server), before) in each().zip(&before) {
            let told = wait_for(&format!("{behaviour:?}: {}", platform.name), PATIENCE, || {
                server.messages().get(*before).cloned()
            })?;
            // What a person reads, or for programs the labels.
            assert!(told.text.contains("meter"), "{behaviour:?}: {}: {}", platform.name, told.text);
        }
        servers.iter().for_each(|server| server.answer(200));
        level.set(1.0);
        for ((platform, server), before) in each().zip(&before) {
            wait_for(&format!("after {behaviour:?}: the end at {}", platform.name), PATIENCE, || {
                (server.messages().len() > before + 1).then_some(())
            })?;
        }
    }
    Ok(())
}

/// A mail server of `tests/smtp.py`.
fn mail_server(dir: &std::path::Path, mode: &str) -> anyhow::Result<(Process, u16)> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    let (certificate_file, key_file) = (dir.join("mail.pem"), dir.join("mail.key"));
    std::fs::write(&certificate_file, certificate.pem())?;
    std::fs::write(&key_file, key.serialize_pem())?;
    let port = free_port()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/smtp.py");
    // Debian's interpreter: it is the one that has Debian's package.
    let mut command = Command::new("/usr/bin/python3");
    command.args([script, mode, &port.to_string()]).args([&certificate_file, &key_file]);
    let server = Process::start(&mut command, &dir.join("mail.log"))?;
    wait_for("the mail server", SOON, || server.log().contains("ready").then_some(()))
        .with_context(|| format!("Debian's python3-aiosmtpd: {}", server.log()))?;
    Ok((server, port))
}

/// A collector whose alerts go by mail to that server, its breach, and what it said of the delivery.
fn mailing(dir: &std::path::Path, port: u16, settings: &str) -> anyhow::Result<(Collector, Level)> {
    let yaml = one_route(&format!(
        "  email_configs: [{{to: 'ops@example.org', from: pitwatch@example.org, smarthost: '127.0.0.1:{port}', {settings}}}]"
    ));
    let collector = collector(dir, &yaml, "stock_rules = false", RULES)?;
    let level = Level::start(&dir.join("level"), "meter", &collector)?;
    collector.api()?.wait_for("test_level", SOON, |rows| rows.len() == 1)?;
    level.set(9.0);
    Ok((collector, level))
}

#[test]
fn mail_goes_over_tls_with_a_login() -> anyhow::Result<()> {
    for (mode, own) in [("implicit", "force_implicit_tls: true, "), ("starttls", "")] {
        let dir = tempfile::tempdir()?;
        let (server, port) = mail_server(dir.path(), mode)?;
        let ca = dir.path().join("mail.pem");
        let password = dir.path().join("password");
        std::fs::write(&password, "s3cret-word\n")?;
        let settings =
            format!("{own}auth_username: pitwatch, auth_password_file: {password:?}, tls_config: {{ca_file: {ca:?}}}");
        let (mut collector, _level) = mailing(&dir.path().join("c"), port, &settings)?;
        let mail = wait_for("a mail", SOON, || {
            server.log().lines().find_map(|line| serde_json::from_str::<Value>(line).ok())
        })?;
        assert_eq!((mail["encrypted"].as_bool(), mail["user"].as_str()), (Some(true), Some("pitwatch")), "{mode}");
        assert!(mail["text"].as_str().unwrap_or_default().contains("level of meter"), "{mail}");
        let log = collector.process().log();
        assert!(!log.contains("s3cret-word"), "the password is in the log");
    }
    Ok(())
}

#[test]
fn mail_is_not_sent_to_a_server_that_cannot_be_believed_or_refuses_the_login() -> anyhow::Result<()> {
    let login = |password: &str| format!("auth_username: pitwatch, auth_password: {password}");
    for (settings, reason) in [
        // A certificate that nobody vouches for.
        (login("s3cret-word"), "ertificate"),
        (format!("{}, tls_config: {{insecure_skip_verify: true}}", login("wrong")), "535"),
    ] {
        let dir = tempfile::tempdir()?;
        let (server, port) = mail_server(dir.path(), "starttls")?;
        let (mut collector, _level) = mailing(&dir.path().join("c"), port, &settings)?;
        wait_for(reason, SOON, || {
            let log = collector.process().log();
            log.lines().any(|line| line.contains("not delivered") && line.contains(reason)).then_some(())
        })
        .with_context(|| collector.process().log())?;
        assert!(!server.log().contains("level of meter"));
    }
    Ok(())
}
