//! The bodies as they are sent, and that nothing makes them too long.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::labels::LabelSet;
use crate::limits;
use crate::notification::Transition;

const FRAME: Frame<'_> = Frame { receiver: "ops", external_url: "https://watch.example.net" };
/// 2026-03-01 02:14:00 UTC.
const BEGAN_MS: i64 = 1_772_331_240_000;

fn notification(transition: Transition, at_ms: i64) -> Notification {
    let over = matches!(transition, Transition::Resolved | Transition::Withdrawn);
    Notification {
        id: "0123456789abcdef-fedcba9876543210-1772331720000-fired".to_owned(),
        alert_key: "0123456789abcdef-fedcba9876543210".to_owned(),
        transition,
        at_ms,
        labels: LabelSet::new([
            ("alertname", "DiskFillsUp"),
            ("instance", "db-eu-3"),
            ("role", "database"),
            ("region", "eu"),
            ("env", "prod"),
            ("severity", "critical"),
            ("mountpoint", "/var/lib/postgresql"),
        ]),
        annotations: LabelSet::new([
            ("summary", "disk /var/lib/postgresql full in about 3 h"),
            ("description", "91% used & growing: +4.2 GiB/h for 2 h"),
            ("impact", "PostgreSQL stops when it is full."),
            ("action", "Drop old WAL or extend the volume."),
            ("runbook_url", "https://wiki.example.net/disk?full=1&now"),
        ]),
        value: 0.0912,
        active_at_ms: BEGAN_MS,
        fired_at_ms: BEGAN_MS + 480_000,
        resolved_at_ms: over.then_some(at_ms),
        no_data_since_ms: None,
        expr: "node_filesystem_avail_bytes < 1".to_owned(),
        depends_on: Vec::new(),
        who: Some("Most writes: postgres 14/main (pid 2210) 38 MiB/s".to_owned()),
    }
}

/// The message as a person reads it: the fallback text, then the sections.
fn read(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    let sections = body["blocks"].as_array().unwrap().iter().map(|block| block["text"]["text"].as_str().unwrap());
    let text = body["text"].as_str().unwrap();
    [text].into_iter().chain(sections).collect::<Vec<_>>().join("\n--\n")
}

#[test]
fn slack_fired() {
    let body = slack::body(&notification(Transition::Fired, BEGAN_MS + 480_000), &FRAME);
    insta::assert_snapshot!(read(&body), @r###"
🔴 db-eu-3: disk /var/lib/postgresql full in about 3 h
--
*🔴 db-eu-3: disk /var/lib/postgresql full in about 3 h*
91% used &amp; growing: +4.2 GiB/h for 2 h
since 02:14 UTC (8 min)
--
Most writes: postgres 14/main (pid 2210) 38 MiB/s
Impact: PostgreSQL stops when it is full.
severity critical · env prod · region eu · role database · mountpoint /var/lib/postgresql
--
Do: Drop old WAL or extend the volume. → <https://wiki.example.net/disk?full=1&amp;now|runbook>
--
<https://watch.example.net/alerts/0123456789abcdef-fedcba9876543210|Open>
"###);
}

#[test]
fn slack_bytes() {
    let mut short = notification(Transition::Fired, BEGAN_MS + 480_000);
    (short.annotations, short.who) = (LabelSet::empty(), None);
    insta::assert_snapshot!(slack::body(&short, &FRAME), @r###"
{"blocks":[{"text":{"text":"*🔴 DiskFillsUp on db-eu-3*\n0.0912 now, since 02:14 UTC (8 min)","type":"mrkdwn"},"type":"section"},{"text":{"text":"severity critical · env prod · region eu · role database · mountpoint /var/lib/postgresql","type":"mrkdwn"},"type":"section"},{"text":{"text":"<https://watch.example.net/alerts/0123456789abcdef-fedcba9876543210|Open>","type":"mrkdwn"},"type":"section"}],"text":"🔴 DiskFillsUp on db-eu-3"}
"###);
}

#[test]
fn slack_repeated_without_data() {
    let mut notification = notification(Transition::Repeated, BEGAN_MS + 4 * 3_600_000);
    notification.no_data_since_ms = Some(BEGAN_MS + 3_600_000);
    insta::assert_snapshot!(read(&slack::body(&notification, &FRAME)), @r###"
🔴 db-eu-3: disk /var/lib/postgresql full in about 3 h – still, after 3 h 52 min
--
*🔴 db-eu-3: disk /var/lib/postgresql full in about 3 h – still, after 3 h 52 min*
91% used &amp; growing: +4.2 GiB/h for 2 h
since 02:14 UTC (4 h) · no data since 03:14 UTC
--
Most writes: postgres 14/main (pid 2210) 38 MiB/s
Impact: PostgreSQL stops when it is full.
severity critical · env prod · region eu · role database · mountpoint /var/lib/postgresql
--
Do: Drop old WAL or extend the volume. → <https://wiki.example.net/disk?full=1&amp;now|runbook>
--
<https://watch.example.net/alerts/0123456789abcdef-fedcba9876543210|Open>
"###);
}

#[test]
fn slack_resolved() {
    let body = slack::body(&notification(Transition::Resolved, BEGAN_MS + 2_940_000), &FRAME);
    insta::assert_snapshot!(read(&body), @r###"
🟢 db-eu-3: disk /var/lib/postgresql full in about 3 h – resolved after 41 min
--
*🟢 db-eu-3: disk /var/lib/postgresql full in about 3 h – resolved after 41 min*
last bad value 0.0912, since 02:14 UTC until 03:03 UTC
--
severity critical · env prod · region eu · role database · mountpoint /var/lib/postgresql
--
<https://watch.example.net/alerts/0123456789abcdef-fedcba9876543210|Open>
"###);
}

#[test]
fn slack_withdrawn() {
    let body = slack::body(&notification(Transition::Withdrawn, BEGAN_MS + 2_940_000), &FRAME);
    insta::assert_snapshot!(read(&body), @r###"
⚪ db-eu-3: disk /var/lib/postgresql full in about 3 h – no longer watched
--
*⚪ db-eu-3: disk /var/lib/postgresql full in about 3 h – no longer watched*
its rule or its host was taken out of the configuration; the fault may remain · fired 02:22 UTC
--
severity critical · env prod · region eu · role database · mountpoint /var/lib/postgresql
--
<https://watch.example.net/alerts/0123456789abcdef-fedcba9876543210|Open>
"###);
}

/// The bytes that Alertmanager 0.25 posted for this alert, given to it through its API.
const ALERTMANAGERS: &str = r#"{"receiver":"ops","status":"firing","alerts":[{"status":"firing","labels":{"alertname":"DiskFillsUp","env":"prod","instance":"db-eu-3","mountpoint":"/var/lib/postgresql","region":"eu","role":"database","severity":"critical"},"annotations":{"description":"91% used \u0026 growing: +4.2 GiB/h for 2 h"},"startsAt":"2026-03-01T02:22:00.12Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"https://watch.example.net/graph?g0.expr=x\u0026g0.tab=1","fingerprint":"22dfd98c07d6c84f"}],"groupLabels":{"alertname":"DiskFillsUp"},"commonLabels":{"alertname":"DiskFillsUp","env":"prod","instance":"db-eu-3","mountpoint":"/var/lib/postgresql","region":"eu","role":"database","severity":"critical"},"commonAnnotations":{"description":"91% used \u0026 growing: +4.2 GiB/h for 2 h"},"externalURL":"https://watch.example.net","version":"4","groupKey":"{}:{alertname=\"DiskFillsUp\"}","truncatedAlerts":0}"#;

#[test]
fn webhook_firing() {
    let mut notification = notification(Transition::Fired, BEGAN_MS + 480_120);
    notification.fired_at_ms = BEGAN_MS + 480_120;
    notification.annotations = LabelSet::new([("description", "91% used & growing: +4.2 GiB/h for 2 h")]);
    notification.expr = "x".to_owned();
    let who = notification.who.take();
    assert_eq!(webhook::body(&notification, &FRAME).unwrap(), format!("{ALERTMANAGERS}\n"));

    // Who did it goes along as an annotation, which Alertmanager's format leaves to its users.
    notification.who.clone_from(&who);
    let body: Value = serde_json::from_str(&webhook::body(&notification, &FRAME).unwrap()).unwrap();
    assert_eq!(body["alerts"][0]["annotations"]["who"].as_str(), who.as_deref());
}

#[test]
fn webhook_resolved() {
    let mut notification = notification(Transition::Resolved, BEGAN_MS + 2_940_000);
    notification.annotations = LabelSet::empty();
    let body = webhook::body(&notification, &FRAME).unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["status"], "resolved");
    assert_eq!(body["alerts"][0]["endsAt"], "2026-03-01T03:03:00Z");
    assert_eq!(body["commonAnnotations"], serde_json::json!({}));
}

#[test]
fn figures_have_three_places() {
    let cases = [
        (0.0, "0"),
        (100.0, "100"),
        (93.4567, "93.5"),
        (9.999, "10"),
        (1.5, "1.5"),
        (0.0912, "0.0912"),
        (-12.34, "-12.3"),
        (123_456.7, "123457"),
        (1e12, "1.00e12"),
        (f64::NAN, "NaN"),
    ];
    for (value, text) in cases {
        assert_eq!(figure(value), text);
    }
}

#[test]
fn notifications_survive_the_store() {
    for value in [1.5, f64::INFINITY, f64::NEG_INFINITY, 0.1 + 0.2] {
        let mut notification = notification(Transition::Fired, 0);
        notification.value = value;
        let json = serde_json::to_string(&notification).unwrap();
        assert_eq!(serde_json::from_str::<Notification>(&json).unwrap(), notification);
    }
    let mut notification = notification(Transition::Fired, 0);
    notification.value = f64::NAN;
    let json = serde_json::to_string(&notification).unwrap();
    assert!(serde_json::from_str::<Notification>(&json).unwrap().value.is_nan());
}

proptest! {
    #[test]
    fn no_text_makes_a_slack_message_too_long(
        text in prop::sample::select(vec!["&", "<", "x", "é", "🔥 ", "line\n", "word "]),
        times in 0_usize..20_000,
        url in 0_usize..2_000,
        kind in 0_usize..4,
    ) {
        let transition = [Transition::Fired, Transition::Repeated, Transition::Resolved, Transition::Withdrawn][kind];
        let mut notification = notification(transition, BEGAN_MS + 480_000);
        let long = text.repeat(times);
        let link = format!("https://wiki.example.net/{}", "u".repeat(url));
        notification.who = Some(long.clone());
        notification.labels = notification.labels.with([("long", &*long), ("instance", &*long)]);
        let names = ["summary", "description", "impact", "action"];
        notification.annotations = LabelSet::new(names.map(|name| (name, &*long)).into_iter().chain([("runbook_url", &*link)]));
        let body: Value = serde_json::from_str(&slack::body(&notification, &FRAME)).unwrap();
        let blocks = body["blocks"].as_array().unwrap();
        prop_assert!(blocks.len() <= limits::SLACK_BLOCKS_MAX);
        let mut total = body["text"].as_str().unwrap().chars().count();
        for block in blocks {
            let chars = block["text"]["text"].as_str().unwrap().chars().count();
            prop_assert!(chars > 0 && chars <= limits::SLACK_SECTION_MAX_CHARS, "{}", chars);
            total += chars;
        }
        prop_assert!(total <= limits::SLACK_MESSAGE_MAX_CHARS, "{}", total);
        let whole = body.to_string();
        prop_assert!(whole.contains("<https://watch.example.net/alerts/0123456789abcdef-fedcba9876543210|Open>"));
        let fits = link.chars().count() <= limits::LINK_MAX_CHARS;
        prop_assert_eq!(whole.contains(&format!("<{link}|runbook>")), fits && !notification.is_over());
    }
}
