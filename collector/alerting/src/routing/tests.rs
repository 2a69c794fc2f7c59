//! Files as people write them, the receivers that alerts reach, and one bad file for each mistake.

use super::*;

const TREE: &str = r##"
global:
  slack_api_url: https://hooks.example/T0
  smtp_smarthost: mail.example:587
  smtp_from: pitwatch@example
route:
  receiver: default
  group_by: [alertname]
  routes:
  - matchers: [ severity="critical" ]
    receiver: pager
    continue: true
    group_wait: 5s
  - matchers: [ 'team=~"db|dba"' ]
    receiver: db
    group_by: ['...']
    routes:
    - match: { severity: info }
      receiver: quiet
      mute_time_intervals: [nights]
  - match_re: { service: "pay.*" }
    receiver: payments
    active_time_intervals: [nights]
inhibit_rules:
- source_matchers: [ severity="critical" ]
  target_matchers: [ severity="warning" ]
  equal: [instance]
time_intervals:
- name: nights
  time_intervals:
  - times: [ { start_time: "20:00", end_time: "24:00" } ]
receivers:
- name: default
  slack_configs: [ { channel: "#ops", send_resolved: true } ]
- name: pager
  pagerduty_configs: [ { routing_key: abc } ]
- name: db
  email_configs: [ { to: dba@example, auth_username: u, auth_password: p } ]
- name: quiet
- name: payments
  webhook_configs: [ { url: "http://127.0.0.1:1/x", http_config: { basic_auth: { username: u, password: p } } } ]
"##;

fn parse(text: &str) -> Result<Routing, String> {
    Routing::parse("am.yml", text, &|_| None).map_err(|errors| errors.to_string())
}

fn to(routing: &Routing, labels: &[(&str, &str)]) -> String {
    let labels = LabelSet::new(labels.iter().copied());
    routing.receivers_of(&labels).iter().map(|name| &**name).collect::<Vec<_>>().join(",")
}

#[test]
fn alerts_reach_the_receivers_of_the_deepest_routes() {
    let routing = parse(TREE).unwrap();
    assert_eq!(to(&routing, &[("x", "y")]), "default");
    assert_eq!(to(&routing, &[("severity", "critical")]), "pager");
    assert_eq!(to(&routing, &[("severity", "critical"), ("team", "db")]), "pager,db");
    assert_eq!(to(&routing, &[("team", "dba"), ("severity", "info")]), "quiet");
    assert_eq!(to(&routing, &[("service", "payments"), ("team", "dbx")]), "payments");
    let [root, pager, db, quiet, payments] = routing.routes() else { panic!("{:?}", routing.routes()) };
    assert_eq!((root.group_wait_ms, pager.group_wait_ms, db.group_interval_ms), (30_000, 5_000, 300_000));
    assert_eq!((&db.group_by, &quiet.group_by), (&GroupBy::All, &GroupBy::All));
    assert_eq!(quiet.key, r#"{}/{team=~"db|dba"}/{severity="info"}"#);
    let evening = 21 * 3_600_000;
    assert_eq!(routing.muted_by(quiet, evening), Some("nights"));
    assert_eq!((routing.muted_by(quiet, 0), routing.muted_by(payments, evening)), (None, None));
    assert!(routing.muted_by(payments, 0).is_some());
    assert!(!format!("{routing:?}").contains("hooks.example"), "secrets are not printed");
}

#[test]
fn the_tree_reads_well() {
    insta::assert_snapshot!(parse(TREE).unwrap().to_text(), @r#"
    everything → default
      {severity="critical"} → pager, and on
      {team=~"db|dba"} → db
        {severity="info"} → quiet
      {service=~"pay.*"} → payments
    "#);
}

#[test]
fn the_tree_is_shown_without_secrets_and_reads_back() {
    let routing = parse(TREE).unwrap();
    let yaml = routing.to_yaml();
    assert!(!yaml.contains("hooks.example"), "{yaml}");
    assert_eq!(parse(&yaml).unwrap().to_text(), routing.to_text());
}

#[test]
fn every_mistake_has_its_line() {
    let told = |text: &str| parse(text).unwrap_err();
    assert_eq!(
        told("receivers: [{name: a}]\n"),
        "am.yml:1: there is no route: it says who hears of what, at least route: {receiver: NAME}"
    );
    let text = "route:\n  receiver: b\n  matchers: [a=b]\n  group_wait: soon\n  routes:\n  - match: {x: y}\n    mute_time_intervals: [z]\n    colour: red\nreceivers:\n- name: a\n  pigeon_configs: [{}]\n- name: a\n  slack_configs:\n  - channel: c\n- name: d\n  webhook_configs: [{url: 'ftp://x'}]\n  discord_configs: [{}]\n";
    insta::assert_snapshot!(told(text), @r#"
    am.yml:2: the first route takes everything: it has no matchers
    am.yml:2: there is no receiver "b"
    am.yml:4: group_wait: "soon" is not a duration: write it like 30s, 5m, 1h30m, 1d (y w d h m s ms, largest first)
    am.yml:7: mute_time_intervals: there is no time interval "z"
    am.yml:8: a route has no colour; it has receiver, group_by, match, match_re, matchers, group_wait, group_interval, repeat_interval, mute_time_intervals, active_time_intervals, continue, routes
    am.yml:11: a receiver has no pigeon_configs; it has slack_configs, mattermost_configs, rocketchat_configs, discord_configs, telegram_configs, msteams_configs, msteamsv2_configs, googlechat_configs, webhook_configs, alertmanager_configs, pagerduty_configs, email_configs, opsgenie_configs, pushover_configs, sns_configs, victorops_configs, wechat_configs, webex_configs, jira_configs, incidentio_configs, name
    am.yml:12: receiver "a": a name of its own is needed
    am.yml:14: api_url (or global slack_api_url) is missing
    am.yml:16: url is not an address that begins with http:// or https://
    am.yml:17: webhook_url is missing
    "#);
    assert!(
        told("route: {receiver: a}\nreceivers: [{name: a, slack_configs: [{api_url_env: NOPE, channel: c}]}]\n")
            .contains("no NOPE")
    );
    assert!(
        told(
            "route: {receiver: a}\nreceivers: [{name: a, slack_configs: [{api_url: 'http://x', text: '{{ nope }}'}]}]\n"
        )
        .contains("nope")
    );
}

#[test]
fn what_a_file_says_and_is_not_done_is_told_with_its_line() {
    let text = "global:\n  resolve_timeout: 7m\nroute: {receiver: a}\nreceivers:\n- name: a\n  opsgenie_configs: [{api_key: k}]\n  slack_configs:\n  - api_url: http://x\n    footer: f\n  pagerduty_configs:\n  - service_key: k\n  webhook_configs:\n  - url: http://x\n    http_config: {oauth2: {client_id: c}, tls_config: {cert_file: c, ca_file: d}}\n";
    let routing = parse(text).unwrap();
    assert_eq!(routing.resolve_timeout_ms, 420_000);
    assert_eq!(routing.receivers[0].integrations.len(), 2);
    let told: Vec<String> = routing.remarks.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    am.yml:6: opsgenie_configs are not built in: receiver "a" is told nothing by them; there are slack, mattermost, rocketchat, discord, telegram, msteams, msteamsv2, googlechat, webhook, alertmanager, pagerduty, email
    am.yml:9: footer has no effect here
    am.yml:11: service_key is of PagerDuty's old interface: make an Events v2 integration and give its routing_key; nothing is told until then
    am.yml:14: oauth2 has no effect here
    am.yml:14: cert_file has no effect here
    "#);
}

#[test]
fn a_plain_list_is_a_tree_too() {
    let receiver = |name: &str| Receiver { name: name.into(), integrations: Vec::new() };
    let routing = Routing::plain(vec![receiver("a"), receiver("b")], 3_600_000);
    assert_eq!(to(&routing, &[("x", "y")]), "a,b");
    assert_eq!(to(&Routing::plain(Vec::new(), 1), &[("x", "y")]), "");
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ a-z:{}\\[\\]\"'=~,\n-]{0,80}") {
        let _ = parse(&format!("route:\n  receiver: a\n  {text}\nreceivers: [{{name: a}}]\n"));
    }
}
