//! Enrolment, revocation, renewal and versions: who comes in, and what the others are told.

use std::time::{Duration, Instant};

use pitwatch_shared::control::{CloseCode, VersionRange};
use pitwatch_shared::identity::tls::Trust;
use pitwatch_shared::identity::{EnrollToken, TOKEN_SECRET_BYTES};
use pitwatch_tests::programs::{Agent, Collector};

use crate::support::{
    FAST, Raw, assert_whole, enrolled, figure, listed, pair, runtime, said, unix_ms, wait_for, wait_for_tick,
};

/// What `pitwatch-agent enroll` says to a token that does not do.
fn refusal(agent: &Agent, token: &str) -> anyhow::Result<String> {
    let output = agent.enroll(token)?;
    anyhow::ensure!(output.status.code() == Some(1), "enrolled: {}", said(&output));
    anyhow::ensure!(!agent.dir.join("data/identity.pem").exists(), "an identity was written");
    Ok(said(&output))
}

#[test]
fn a_token_that_does_not_do_is_refused_with_its_reason() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let collector = Collector::start(&dir.path().join("collector"), "", "")?;
    let agent = Agent::configure(&dir.path().join("agent"), "db-1", collector.agents, "")?;
    let good: EnrollToken = collector.enroll_token()?.parse()?;

    let unknown = EnrollToken { secret: [7; TOKEN_SECRET_BYTES], ..good };
    assert_eq!(
        refusal(&agent, &unknown.to_string())?,
        "error: the collector refused: unknown token: make one with `pitwatch token create`\n"
    );
    let text = good.to_string();
    assert!(refusal(&agent, &text[..text.len() - 1])?.contains("the enrolment token is damaged"));

    let expired = said(&collector.cli(&["token", "create", "--ttl", "1s"])?);
    let expired = expired.split_whitespace().find(|word| word.starts_with("pwe1_")).unwrap().to_owned();
    std::thread::sleep(Duration::from_millis(1_200));
    let text = refusal(&agent, &expired)?;
    assert!(text.starts_with("error: the collector refused: this token expired "), "{text}");
    assert!(text.ends_with(" s ago: make another with `pitwatch token create`\n"), "{text}");

    let named = said(&collector.cli(&["token", "create", "--name", "db-2"])?);
    let named = named.split_whitespace().find(|word| word.starts_with("pwe1_")).unwrap().to_owned();
    assert_eq!(
        refusal(&agent, &named)?,
        "error: the collector refused: this token is for agent \"db-2\", not for \"db-1\": enrol with --name db-2\n"
    );

    // A token of another collector: the connection is not even made.
    let other = Collector::start(&dir.path().join("other"), "", "")?;
    let foreign: EnrollToken = other.enroll_token()?.parse()?;
    let text = refusal(&agent, &foreign.to_string())?;
    let reason = format!(
        "the collector's authority is {}, the token's is {}: the token is for another collector, or somebody stands \
         between",
        good.authority, foreign.authority
    );
    assert!(text.contains(&reason), "{text}");

    // None of it used the good token up.
    let output = agent.enroll(&good.to_string())?;
    assert!(output.status.success(), "{}", said(&output));
    let second = Agent::configure(&dir.path().join("second"), "db-3", collector.agents, "")?;
    assert_eq!(
        refusal(&second, &good.to_string())?,
        "error: the collector refused: this token was used by \"db-1\" already, and a token serves once: make another \
         with `pitwatch token create`\n"
    );
    let same = Agent::configure(&dir.path().join("same"), "db-1", collector.agents, "")?;
    assert_eq!(
        refusal(&same, &collector.enroll_token()?)?,
        "error: the collector refused: an agent named \"db-1\" exists already: choose another with --name, or free it \
         with `pitwatch agents revoke db-1`\n"
    );
    assert_eq!(figure(&collector.api()?, "pitwatch_collector_enrolments_refused_total")?, 5.0);
    Ok(())
}

#[test]
fn a_revoked_agent_is_cut_and_stays_out_until_it_enrols_again() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (collector, mut agent) = pair(dir.path(), "edge-1", FAST)?;
    let api = collector.api()?;
    const CUT: &str = "the collector closed the connection: this agent was revoked on the collector";

    let begun = Instant::now();
    let output = collector.cli(&["agents", "revoke", "edge-1"])?;
    assert!(output.status.success(), "{}", said(&output));
    wait_for("the agent's log says so", Duration::from_secs(10), || agent.process().log().contains(CUT).then_some(()))?;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "cut after {took:?}");
    let frames = listed(&api, "edge-1")?["frames"].clone();
    assert_eq!(listed(&api, "edge-1")?["state"], "revoked");
    println!("revoked and cut in {took:?}");

    // A restart does not bring it back, and it says why.
    agent.process().stop()?;
    agent.restart()?;
    let mut log = String::new();
    wait_for("the second refusal", Duration::from_secs(10), || {
        log = agent.process().log();
        (log.matches(CUT).count() >= 2).then_some(())
    })?;
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(log.matches(CUT).count(), 2, "{log}");
    assert_eq!(listed(&api, "edge-1")?["frames"], frames);
    let output = collector.cli(&["agents", "revoke", "edge-1"])?;
    assert!(!output.status.success(), "revoked twice: {}", said(&output));

    agent.process().stop()?;
    let output = agent.enroll(&collector.enroll_token()?)?;
    assert!(output.status.success(), "{}", said(&output));
    agent.restart()?;
    wait_for_tick(&api, "edge-1", unix_ms(), Duration::from_secs(20))?;
    assert_eq!(listed(&api, "edge-1")?["state"], "connected");
    Ok(())
}

#[test]
fn without_a_certificate_nothing_is_to_be_had() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let collector = Collector::start(&dir.path().join("collector"), "", "")?;
    let authority = enrolled(&runtime()?, &collector, "another")?.authority();
    let closed = match Raw::connect(collector.agents, Trust::Authority(authority), None) {
        Ok(raw) => raw.closed()?,
        // The collector may be quicker than the control stream.
        Err(error) => (Some(CloseCode::NoCertificate), format!("{error:#}")),
    };
    assert_eq!(closed.0, Some(CloseCode::NoCertificate), "{}", closed.1);
    assert!(closed.1.contains("no certificate: enrol this host first (pitwatch-agent enroll)"), "{}", closed.1);
    Ok(())
}

#[test]
fn a_certificate_renews_itself_while_data_goes_on() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = "[agents]\ncertificate_life = \"15s\"\n";
    let collector = Collector::start(&dir.path().join("collector"), config, "")?;
    let mut agent = Agent::start(&dir.path().join("agent"), "edge-1", &collector, FAST)?;
    let api = collector.api()?;
    wait_for_tick(&api, "edge-1", 0, Duration::from_secs(20))?;
    let first = listed(&api, "edge-1")?;
    let file = std::fs::read(agent.dir.join("data/identity.pem"))?;

    // Two renewals: the renewed certificate renews too.
    let mut last = first.clone();
    for _ in 0..2 {
        let next = wait_for("another certificate", Duration::from_secs(25), || {
            let now = listed(&api, "edge-1").ok()?;
            (now["fingerprint"] != last["fingerprint"]).then_some(now)
        })?;
        assert!(next["certificate_not_after_ms"].as_i64() > last["certificate_not_after_ms"].as_i64(), "{next}");
        last = next;
    }
    assert_ne!(std::fs::read(agent.dir.join("data/identity.pem"))?, file);
    wait_for_tick(&api, "edge-1", unix_ms() + 1_000, Duration::from_secs(10))?;
    assert_whole(&api, "edge-1", 1_500)?;
    let log = agent.process().log();
    assert!(log.contains("certificate renewed, reconnecting with it"), "{log}");
    Ok(())
}

#[test]
fn versions_are_negotiated() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let collector = Collector::start(&dir.path().join("collector"), "", "")?;
    let runtime = runtime()?;
    let identity = enrolled(&runtime, &collector, "future-1")?;
    let connect =
        || Raw::connect(collector.agents, Trust::Authority(identity.authority()), Some(identity.credentials()));

    let mut newer = connect()?;
    let welcome = newer.hello(VersionRange { min: 1, max: 7 })?;
    assert_eq!(welcome.version, 2);
    drop(newer);

    let mut older = connect()?;
    assert_eq!(older.hello(VersionRange { min: 1, max: 1 })?.version, 1);
    drop(older);

    let mut strange = connect()?;
    assert!(strange.hello(VersionRange { min: 3, max: 9 }).is_err());
    let (code, reason) = strange.closed()?;
    assert_eq!(code, Some(CloseCode::Version));
    assert_eq!(reason, "this collector speaks versions 1 to 2, the agent 3 to 9: update the older of the two");
    Ok(())
}
