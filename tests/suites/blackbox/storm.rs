//! kill -9 of the collector at 200 random moments of a storm of alerts: what happened is told, all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pitwatch_tests::webhook::Webhook;

use crate::routing::{collector, one_route};
use crate::support::{Pusher, unix_ms, wait_for};

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
    let mut happened: BTreeSet<(String, i64, bool)> = BTreeSet::new();
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
            happened.insert((print, entry["fired_at_ms"].as_i64().context("no time")?, over));
        }
    }
    let mut told: BTreeMap<(String, i64, bool), u64> = BTreeMap::new();
    for alert in
        hook.messages().iter().flat_map(|message| message.body["alerts"].as_array().cloned().unwrap_or_default())
    {
        let started = alert["startsAt"].as_str().unwrap_or_default().to_owned();
        let ms = pitwatch_collector_time(&started)?;
        let print = alert["fingerprint"].as_str().unwrap_or_default().to_owned();
        *told.entry((print, ms, alert["status"] == "resolved")).or_default() += 1;
    }
    // Who hears of an end that was not announced hears of the beginning with it.
    let heard = |(print, ms, over): &(String, i64, bool)| {
        told.contains_key(&(print.clone(), *ms, *over)) || (!over && told.contains_key(&(print.clone(), *ms, true)))
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

fn pitwatch_collector_time(text: &str) -> anyhow::Result<i64> {
    let (date, time) = text.trim_end_matches('Z').split_once('T').context("no time")?;
    let mut date = date.split('-').map(str::parse::<i64>);
    let mut next = || date.next().context("no date")?.context("no number");
    let (year, month, day) = (next()?, next()?, next()?);
    let mut clock = time.split(':').map(str::parse::<f64>);
    let mut next = || clock.next().context("no clock")?.context("no number");
    let seconds = next()? * 3600.0 + next()? * 60.0 + next()?;
    // Days since 1970, after Howard Hinnant's `days_from_civil`.
    let (y, m) = (if month <= 2 { year - 1 } else { year }, (month + 9) % 12);
    let era = y.div_euclid(400);
    let of_era =
        (y.rem_euclid(400)) * 365 + y.rem_euclid(400) / 4 - y.rem_euclid(400) / 100 + (153 * m + 2) / 5 + day - 1;
    Ok((era * 146_097 + of_era - 719_468) * 86_400_000 + (seconds * 1000.0).round() as i64)
}
