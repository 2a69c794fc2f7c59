//! The bytes that each platform is sent, as snapshots; their limits; and what answers mean.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::markup::{Markup, count};
use super::*;
use crate::labels::LabelSet;
use crate::message::{Detail, Moment};
use crate::notification::{Notification, Transition};

const NOW_MS: i64 = 1_772_331_720_000;

pub(crate) fn alert(name: &str, instance: &str, transition: Transition) -> Notification {
    let over = matches!(transition, Transition::Resolved | Transition::Withdrawn);
    Notification {
        id: format!("{name}-{instance}"),
        alert_key: format!("{name}-{instance}"),
        transition,
        at_ms: NOW_MS,
        labels: LabelSet::new([("alertname", name), ("instance", instance), ("severity", "critical"), ("env", "prod")]),
        annotations: LabelSet::new([
            ("summary", "disk /var/lib <full> in 3 h"),
            ("impact", "Writes & logins fail."),
            ("action", "Drop old WAL or extend the volume."),
            ("runbook_url", "https://wiki.example/disk?a=1&b=2"),
        ]),
        value: 0.912,
        active_at_ms: NOW_MS - 480_000,
        fired_at_ms: NOW_MS - 420_000,
        resolved_at_ms: over.then_some(NOW_MS),
        no_data_since_ms: None,
        expr: "a > 0.9".to_owned(),
        depends_on: Vec::new(),
    }
}

fn message(firing: Vec<Notification>, over: Vec<Notification>) -> Message {
    Message {
        receiver: "ops".into(),
        route_key: "{}".to_owned(),
        group_labels: LabelSet::new([("alertname", "DiskFull")]),
        groups: 1,
        firing: firing.into_iter().map(Arc::new).collect(),
        over: over.into_iter().map(Arc::new).collect(),
        also: Vec::new(),
        note: None,
        is_repeat: false,
        detail: Detail::Full,
        now_ms: NOW_MS,
    }
}

fn frame() -> Frame {
    let moment = Moment {
        value: Some(0.934),
        no_data_since_ms: None,
        spark: Some("▁▂▃▅▆▇".to_owned()),
        who: Some("most CPU: postgres (pid 2210) 93%".to_owned()),
        actions: vec![
            ("Acknowledge", "https://watch.example/act/a.s".to_owned()),
            ("Silence 2 h", "https://watch.example/act/b.s".to_owned()),
        ],
    };
    let moments = [("DiskFull-db-eu-3".to_owned(), moment)].into();
    Frame { external_url: "https://watch.example".to_owned(), moments }
}

fn kinds() -> Vec<Kind> {
    let yaml = "
route: {receiver: a}
receivers:
- name: a
  slack_configs:
  - {api_url: 'https://hooks.slack.example/T', channel: '#ops'}
  - {app_token: xoxb-1, channel: C1}
  - {api_url: 'https://hooks.slack.example/T', title: '{{ template \"slack.default.title\" . }}', text: '{{ range .Alerts }}{{ .Labels.instance }}: {{ .Annotations.summary }} since {{ .StartsAt.Format \"15:04\" }}{{ end }}'}
  mattermost_configs: [{webhook_url: 'https://mm.example/hooks/x', channel: ops}]
  rocketchat_configs: [{webhook_url: 'https://rc.example/hooks/x'}]
  discord_configs: [{webhook_url: 'https://discord.example/api/webhooks/x'}]
  telegram_configs: [{bot_token: '1:abc', chat_id: -100200}]
  msteams_configs: [{webhook_url: 'https://prod.logic.example/workflows/x'}]
  googlechat_configs: [{url: 'https://chat.example/v1/spaces/x'}]
  webhook_configs: [{url: 'https://hook.example/x'}]
  alertmanager_configs: [{url: 'http://am.example:9093/'}]
  pagerduty_configs: [{routing_key: R0}]
";
    let routing = crate::routing::Routing::parse("a.yml", yaml, &|_| None).unwrap();
    routing.receivers.into_iter().next().unwrap().integrations.into_iter().map(|one| one.kind).collect()
}

fn send(kind: &Kind, message: &Message, frame: &Frame, place: Option<&str>) -> HttpRequest {
    let integration = Integration { kind: kind.clone(), send_resolved: true, http: HttpOptions::default() };
    let reveal = |secret: &Secret| match secret {
        Secret::Text(text) => Ok(text.clone()),
        Secret::File(path) => Err(format!("cannot read {}", path.display())),
    };
    match build(&integration, message, frame, &Library::default(), place, &reveal) {
        Ok(Delivery::Http(request)) => request,
        Ok(Delivery::Mail(_)) => panic!("a mail"),
        Err(error) => panic!("{error}"),
    }
}

fn shown(request: &HttpRequest) -> String {
    let headers: String = request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("POST {}\n{headers}\n{}", request.url, request.body)
}

#[test]
fn bytes_of_every_platform() {
    let firing = message(vec![alert("DiskFull", "db-eu-3", Transition::Fired)], Vec::new());
    let over = message(Vec::new(), vec![alert("DiskFull", "db-eu-3", Transition::Resolved)]);
    let mut group = message(
        vec![alert("DiskFull", "db-eu-3", Transition::Fired), alert("DiskFull", "db-eu-4", Transition::Fired)],
        vec![alert("Slow", "web-1", Transition::Resolved)],
    );
    group.also = vec![Arc::new(alert("Late", "pay-1", Transition::Fired))];
    for (at, kind) in kinds().iter().enumerate() {
        let name = format!("{at:02}-{}", kind.name());
        for (what, message) in [("firing", &firing), ("resolved", &over), ("group", &group)] {
            let request = send(kind, message, &frame(), None);
            insta::assert_snapshot!(format!("{name}-{what}"), shown(&request));
        }
    }
}

#[test]
fn mail_has_both_forms() {
    let email = Email { to: "ops@example".to_owned(), ..Email::unset() };
    let kind = Kind::Email(Box::new(email));
    let integration = Integration { kind, send_resolved: true, http: HttpOptions::default() };
    let firing = message(vec![alert("DiskFull", "db-eu-3", Transition::Fired)], Vec::new());
    let built = build(&integration, &firing, &frame(), &Library::default(), None, &|_| Err(String::new()));
    let Ok(Delivery::Mail(mail)) = built else { panic!("no mail") };
    insta::assert_snapshot!("mail", format!("{}\n---\n{}\n---\n{}", mail.subject, mail.text, mail.html));
}

#[test]
fn what_ends_goes_into_the_message_that_told_of_it() {
    let kinds = kinds();
    let app =
        kinds.iter().find(|kind| matches!(kind, Kind::Slack(slack) if matches!(slack.post, SlackPost::App { .. })));
    let over = message(Vec::new(), vec![alert("DiskFull", "db-eu-3", Transition::Resolved)]);
    let request = send(app.unwrap(), &over, &frame(), Some("C0 17.5"));
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(
        (&*request.url, &body["ts"], &body["channel"]),
        ("https://slack.com/api/chat.update", &"17.5".into(), &"C0".into())
    );
    // What is new makes a sound of its own.
    let firing = message(vec![alert("DiskFull", "db-eu-3", Transition::Fired)], Vec::new());
    assert_eq!(send(app.unwrap(), &firing, &frame(), Some("C0 17.5")).url, "https://slack.com/api/chat.postMessage");
    let answer = r#"{"ok":true,"channel":"C0","ts":"18.1"}"#;
    assert_eq!(judge(app.unwrap(), 200, None, answer), (Outcome::Delivered, Some("C0 18.1".to_owned())));
}

#[test]
fn answers_say_whether_to_try_again() {
    let kinds = kinds();
    let slack = &kinds[0];
    let retry = |status, head: Option<&str>, body: &str| match judge(slack, status, head, body).0 {
        Outcome::Retry { retry_after_ms, .. } => Some(retry_after_ms),
        _ => None,
    };
    assert_eq!(retry(429, Some("30"), ""), Some(Some(30_000)));
    assert_eq!(retry(429, None, r#"{"message":"slow","retry_after":0.35,"global":false}"#), Some(Some(350)), "Discord");
    assert_eq!(retry(429, None, r#"{"ok":false,"parameters":{"retry_after":7}}"#), Some(Some(7_000)), "Telegram");
    assert_eq!(retry(503, None, "busy"), Some(None));
    assert_eq!(retry(404, None, "no_service"), Some(None), "an operator's mistake: the message waits");
    assert_eq!(retry(200, None, r#"{"ok":false,"error":"ratelimited"}"#), Some(None));
    assert!(matches!(judge(slack, 413, None, "too large").0, Outcome::Refused { .. }));
    assert!(matches!(judge(slack, 200, None, r#"{"ok":false,"error":"msg_too_long"}"#).0, Outcome::Refused { .. }));
    assert_eq!(judge(slack, 200, None, "ok").0, Outcome::Delivered);
}

#[test]
fn a_crowd_is_summed_up_and_counted() {
    let firing = (0..5_000).map(|at| alert("DiskFull", &format!("db-{at}"), Transition::Fired)).collect();
    let crowd = message(firing, Vec::new());
    for kind in kinds().iter().filter(|kind| kind.is_for_people()) {
        let body = send(kind, &crowd, &frame(), None).body;
        let limit = match kind {
            Kind::Slack(_) | Kind::Mattermost(_) => 17_000,
            Kind::Teams(_) => 21_000,
            _ => 7_000,
        };
        assert!(body.len() <= limit * 2, "{}: {} bytes", kind.name(), body.len());
        let texts = matches!(kind, Kind::Slack(slack) if slack.texts.text.is_some());
        assert!(body.contains("5000 firing") || texts, "{}: {body}", kind.name());
        assert!(body.contains("more") || texts, "{}: says how many are left out: {body}", kind.name());
        assert!(body.contains("watch.example/alerts"), "{}: its link", kind.name());
    }
}

#[test]
fn a_refused_message_becomes_a_short_one_with_its_link() {
    let mut short = message(vec![alert("DiskFull", "db-eu-3", Transition::Fired)], Vec::new());
    short.detail = Detail::Short;
    short.note = Some("for db, which does not take it: HTTP 500".to_owned());
    let body = send(&kinds()[0], &short, &frame(), None).body;
    assert!(body.len() < 1_500 && body.contains("/alerts/") && body.contains("for db, which"), "{body}");
}

proptest! {
    #[test]
    fn no_text_passes_a_platforms_room_or_breaks_its_markup(summary in "\\PC{0,600}", action in "[<>&*_|a-z \n]{0,4000}", count_of in 1..40_usize) {
        let mut one = alert("DiskFull", "db-eu-3", Transition::Fired);
        one.annotations = LabelSet::new([("summary", &*summary), ("action", &*action), ("description", &*action)]);
        let crowd = message(vec![one; count_of], Vec::new());
        let story = story::story(&crowd, &frame());
        for (markup, max) in [(Markup::SLACK, 3_000), (Markup::MARKDOWN, 4_096), (Markup::TELEGRAM, 3_786), (Markup::PLAIN, 500)] {
            let (title, body) = (markup.title(&story, 256), markup.body(&story, max));
            prop_assert!(count(&title) <= 256, "{}", count(&title));
            prop_assert!(count(&body) <= max + 24, "{} of {max}: {body}", count(&body));
            prop_assert!(body.contains("watch.example"), "a link");
        }
        for kind in kinds() {
            let request = send(&kind, &crowd, &frame(), None);
            prop_assert!(serde_json::from_str::<Value>(&request.body).is_ok());
        }
    }
}
