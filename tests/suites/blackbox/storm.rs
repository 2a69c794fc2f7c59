//! kill -9 of the collector at 200 random moments of a storm of alerts: what happened is told, all of it. And what people
//! did, and clocks that run, over kills.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pitwatch_alerting::time::rfc3339;
use pitwatch_tests::webhook::Webhook;

use crate::routing::{collector, one_route};
use crate::support::{Level, Pusher, said, unix_ms, wait_for};

/// Kills in all, and collectors among which they are shared: side by side, so that it takes minutes and not half an hour.
const KILLS: u64 = 200;
const COLLECTORS: u64 = 4;

/// Series that rise and fall, the collector killed at random moments: each beginning and each end is told at least once,
/// none more often than kills that could have repeated it.
#[test]
fn kill_9_at_200_moments_of_a_storm_loses_no_transition() -> anyhow::Result<()> {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let storms: Vec<_> = (0..COLLECTORS).map(|seed| scope.spawn(move || storm(seed, KILLS / COLLECTORS))).collect();
        storms.into_iter().try_for_each(|storm| storm.join().expect("a storm's thread"))
    })?;
    println!("{KILLS} kills in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn storm(seed: u64, kills: u64) -> anyhow::Result<()> {
    const SERIES: usize = 40;
    let dir = tempfile::tempdir()?;
    let hook = Webhook::start()?;
    let yaml = one_route(&format!("  webhook_configs: [{{url: 'http://{}/x'}}]", hook.address));
    let rules = "groups: [{name: t, rules: [{alert: Storm, expr: storm > 5}]}]\n";
    let mut collector = collector(dir.path(), &yaml, "stock_rules = false", rules)?;
    let pusher = Pusher::start(&dir.path().join("p"), "meter", &collector, "storm", SERIES)?;
    let mut random = fastrand::Rng::with_seed(17 + seed);
    let mut values = vec![0.0; SERIES];
    for _ in 0..kills {
        let end = Instant::now() + Duration::from_millis(random.u64(100..1_000));
        while Instant::now() < end {
            values[random.usize(..SERIES)] = if random.bool() { 9.0 } else { 0.0 };
            let _ = pusher.tick(unix_ms(), &values);
            std::thread::sleep(Duration::from_millis(50));
        }
        collector.process().kill();
        collector.restart()?;
    }
    // Calm: everything ends.
    values.fill(0.0);
    let api = collector.api()?;
    wait_for("calm", Duration::from_secs(60), || {
        let _ = pusher.tick(unix_ms(), &values);
        std::thread::sleep(Duration::from_millis(100));
        let (_, body) = api.get("/api/v1/pitwatch/alerts", &[]).ok()?;
        body["data"]["alerts"].as_array()?.is_empty().then_some(())
    })?;
    std::thread::sleep(Duration::from_secs(3));
    // What happened, by the incidents' timelines, which are stored with the alerts themselves.
    let mut happened: BTreeSet<(String, String, bool)> = BTreeSet::new();
    let (_, body) = api.get("/api/v1/pitwatch/incidents", &[("limit", "1000")])?;
    for incident in body["data"]["incidents"].as_array().context("no incidents")? {
        let (_, one) = api.get(&format!("/api/v1/pitwatch/incidents/{}", incident["id"]), &[])?;
        for entry in one["data"]["timeline"].as_array().context("no timeline")? {
            let over = match entry["what"].as_str() {
                Some("fired") => false,
                Some("resolved") => true,
                other => anyhow::bail!("{other:?}"),
            };
            let print = entry["fingerprint"].as_str().context("no fingerprint")?.to_owned();
            let fired_ms = entry["fired_at_ms"].as_i64().context("no time")?;
            happened.insert((print, rfc3339(fired_ms), over));
        }
    }
    let mut told: BTreeMap<(String, String, bool), u64> = BTreeMap::new();
    for alert in
        hook.messages().iter().flat_map(|message| message.body["alerts"].as_array().cloned().unwrap_or_default())
    {
        let started = alert["startsAt"].as_str().unwrap_or_default().to_owned();
        let print = alert["fingerprint"].as_str().unwrap_or_default().to_owned();
        *told.entry((print, started, alert["status"] == "resolved")).or_default() += 1;
    }
    // Who hears of an end that was not announced hears of the beginning with it.
    let heard = |(print, started, over): &(String, String, bool)| {
        let said = |over: bool| told.contains_key(&(print.clone(), started.clone(), over));
        said(*over) || (!over && said(true))
    };
    let missing: Vec<_> = happened.iter().filter(|one| !heard(one)).collect();
    assert!(missing.is_empty(), "{} of {} were not told: {missing:?}", missing.len(), happened.len());
    let most = told.values().copied().max().unwrap_or(0);
    println!(
        "{kills} kills: {} transitions, told {} times, one at most {most} times",
        happened.len(),
        told.values().sum::<u64>()
    );
    assert!(happened.len() as u64 > kills, "a storm: {}", happened.len());
    assert!(most <= 1 + kills, "told {most} times");
    Ok(())
}

/// An alert that somebody took, one that is silenced and one that waits for its time: kill -9 every few seconds changes
/// nothing of them, and the clock goes on where it stood.
#[test]
fn acks_silences_and_running_clocks_survive_kill_9() -> anyhow::Result<()> {
    const KILLS_MAX: usize = 20;
    let dir = tempfile::tempdir()?;
    let hook = Webhook::start()?;
    let yaml = one_route(&format!("  webhook_configs: [{{url: 'http://{}/x'}}]", hook.address));
    let rules = "groups: [{name: t, rules: [{alert: Taken, expr: test_level > 5}, {alert: Quiet, expr: test_level > 5}, \
                 {alert: Waits, expr: test_level > 5, for: 15s}]}]\n";
    let mut collector = collector(dir.path(), &yaml, "stock_rules = false", rules)?;
    let level = Level::start(&dir.path().join("level"), "meter", &collector)?;
    collector.api()?.wait_for("test_level", Duration::from_secs(10), |rows| rows.len() == 1)?;
    let silence = collector.cli(&["silence", "add", "Quiet", "--for", "1h", "-c", "disk swap", "-a", "ann"])?;
    assert!(silence.status.success(), "{}", said(&silence));
    level.set(9.0);
    let heard = |name: &str| {
        let messages = hook.messages();
        let mut alerts = messages.iter().flat_map(|message| message.body["alerts"].as_array()).flatten();
        alerts.find(|alert| alert["labels"]["alertname"] == name).cloned()
    };
    let taken = wait_for("Taken", Duration::from_secs(10), || heard("Taken"))?;
    let print = taken["fingerprint"].as_str().context("no fingerprint")?.to_owned();
    let ack = collector.cli(&["alerts", "ack", &print, "-c", "on it"])?;
    assert!(ack.status.success(), "{}", said(&ack));
    let mut kills = 0;
    loop {
        // Long enough that the time of an outage, as the collector knows it, is a small part.
        std::thread::sleep(Duration::from_millis(4_500));
        if heard("Waits").is_some() {
            break;
        }
        anyhow::ensure!(kills < KILLS_MAX, "its clock began anew with each kill");
        collector.process().kill();
        collector.restart()?;
        kills += 1;
        let (_, body) = collector.api()?.get("/api/v1/pitwatch/alerts", &[])?;
        let alerts = body["data"]["alerts"].as_array().context("no alerts")?;
        let of = |name: &str| alerts.iter().find(|alert| alert["labels"]["alertname"] == name).context("it is gone");
        assert_eq!(of("Taken")?["acknowledged"]["comment"], "on it", "after {kills} kills: {body}");
        assert_eq!(of("Waits")?["state"], "pending", "after {kills} kills: {body}");
        of("Quiet")?;
        let (_, silences) = collector.api()?.get("/api/v2/silences", &[])?;
        assert_eq!((&silences[0]["createdBy"], &silences[0]["status"]["state"]), (&"ann".into(), &"active".into()));
    }
    println!("it fired after {kills} kills");
    assert!(kills >= 2, "killed while it waited");
    assert!(heard("Quiet").is_none(), "a silence is kept");
    Ok(())
}
