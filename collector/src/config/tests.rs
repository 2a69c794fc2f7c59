//! One bad text and one exact message for each rule of the configuration.

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("c.toml"), |_| None).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_is_the_default() {
    let config = parse("").unwrap();
    assert_eq!(config.agents.listen.to_string(), "0.0.0.0:4717");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:4718");
    assert_eq!(config.state, Engine::Redb);
    assert!(config.alerting.stock_rules && config.alerting.receivers.is_empty());
}

#[test]
fn the_packaged_file_is_good() {
    let text = include_str!("../../../packaging/collector.toml");
    assert_eq!(parse(text).unwrap(), parse("").unwrap());
}

#[test]
fn receivers_come_from_the_file_or_the_environment() {
    let text =
        "[receivers.ops]\nkind = \"slack\"\nurl_env = \"HOOK\"\n[receivers.all]\nurl = \"http://127.0.0.1:9/x\"\n";
    let variable = |name: &str| (name == "HOOK").then(|| "https://hooks.example/secret".to_owned());
    let config = Config::parse(text, Path::new("c.toml"), variable).unwrap();
    let [all, ops] = &config.alerting.receivers[..] else { panic!("{config:?}") };
    assert_eq!((ops.kind, &ops.url), (ReceiverKind::Slack, &Secret::Text("https://hooks.example/secret".to_owned())));
    assert_eq!(all.kind, ReceiverKind::Webhook);
    assert!(!format!("{config:?}").contains("hooks.example"));
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = "data_dir = \"here\"\n[agents]\nlisten = \"4717\"\ncertificate_life = \"1s\"\n[http]\nlisten = \"0.0.0.0:80\"\ntls = false\n\
                [state]\nengine = \"rocks\"\n[history]\nretension = \"30d\"\n[receivers.ops]\nkind = \"pager\"\n[log]\nlevel = 3\n";
    let told = parse(text).unwrap_err();
    let expected = "\
c.toml:1: data_dir: \"here\" is no absolute path; give an absolute path, such as \"/var/lib/pitwatch/collector\"
c.toml:3: agents.listen: \"4717\" is no address with a port; give an address and a port, such as \"0.0.0.0:4717\" or \"[::]:4717\"
c.toml:4: agents.certificate_life: \"1s\" is out of range; give 10s to 825d, in ms, s, m, h or d
c.toml:9: state.engine: \"rocks\" is no engine; use \"redb\" or \"sled\"
c.toml:11: history.retension: there is no such key, perhaps retention; allowed are retention, retention_1m, retention_1h, retention_events, retention_max, block_span, head_max
c.toml:13: receivers.ops.kind: \"pager\" is no kind of receiver; use slack, mattermost, rocketchat, discord, msteams, googlechat or webhook; telegram, pagerduty, \
email and alertmanager stand in alertmanager_config
c.toml:15: log.level: is a whole number; it must be a string: use error, warn, info, debug or trace
c.toml: http.tls: 0.0.0.0:80 is not loopback: without TLS everybody on the way reads tokens and answers; leave tls away (a \
certificate of the own authority, or yours in certificate and key), or, if a proxy that speaks TLS reaches this address over a \
network you trust, set behind_tls_proxy = true";
    assert_eq!(told, expected);
}

#[test]
fn a_receiver_has_one_address() {
    let told = parse("[receivers.ops]\nkind = \"slack\"\n").unwrap_err();
    assert_eq!(told, "c.toml:1: receivers.ops: give exactly one of url, url_env and url_file");
    let told = parse("[receivers.ops]\nurl = \"ftp://x\"\n").unwrap_err();
    assert_eq!(
        told,
        "c.toml:2: receivers.ops.url: not an HTTP address; give an address that begins with http:// or https://"
    );
}

#[test]
fn alertmanagers_file_stands_in_the_place_of_a_list() {
    let text = "[alerting]\nalertmanager_config = \"/etc/am.yml\"\nfallback_receiver = \"mail\"\nheartbeat_url = \"https://hc.example/x\"\n";
    let config = parse(text).unwrap().alerting;
    assert_eq!(config.fallback_receiver.as_deref(), Some("mail"));
    assert_eq!(config.heartbeat.unwrap().interval, Duration::from_secs(60));
    let both = format!("{text}[receivers.ops]\nurl = \"http://x\"\n");
    assert!(parse(&both).unwrap_err().contains("the receivers stand in alertmanager_config"));
    let told = parse("[alerting]\nfallback_receiver = \"mail\"\n").unwrap_err();
    assert_eq!(told, "c.toml: alerting.fallback_receiver: there is no [receivers.mail]");
}
