//! kill -9 of either side, over and over: nothing acknowledged is lost, nothing is stored twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use pitwatch_disk::RealDisk;
use pitwatch_history::History;
use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Agent, Collector};

use crate::support::{FAST, Pusher, assert_whole, listed, pair, ticks, unix_ms, wait_for, wait_for_tick, widest_gap};

const KILLS: usize = 50;
const SENDERS: usize = 3;
const SERIES: usize = 8;
/// Between two ticks of a sender, milliseconds.
const TICK_MS: u64 = 10;

/// A sender whose every value says which tick it is of, and the timestamps that it used.
struct Load {
    name: String,
    pusher: Arc<Pusher>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<i64>>>,
}

fn value(tick: usize, series: usize) -> f64 {
    (tick * 100 + series) as f64
}

impl Load {
    fn start(dir: &Path, name: &str, collector: &Collector) -> anyhow::Result<Self> {
        let pusher = Arc::new(Pusher::start(&dir.join(name), name, collector, "load", SERIES)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (ticking, stopped) = (pusher.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut used: Vec<i64> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let ts_ms = unix_ms();
                if used.last().is_none_or(|last_ms| ts_ms > *last_ms) {
                    let values: Vec<f64> = (0..SERIES).map(|series| value(used.len(), series)).collect();
                    ticking.tick(ts_ms, &values)?;
                    used.push(ts_ms);
                }
                std::thread::sleep(Duration::from_millis(TICK_MS));
            }
            Ok(used)
        });
        Ok(Self { name: name.to_owned(), pusher, stop, thread })
    }

    /// Ends the ticks and waits until all are acknowledged; gives their timestamps.
    fn finish(self) -> anyhow::Result<(String, Vec<i64>)> {
        self.stop.store(true, Ordering::Relaxed);
        let used = self.thread.join().expect("the sender's thread")?;
        wait_for("everything is acknowledged", Duration::from_secs(30), || self.pusher.drained().then_some(()))?;
        Ok((self.name, used))
    }
}

/// Each tick is stored once, with its values.
fn check(api: &Api, name: &str, used: &[i64]) -> anyhow::Result<()> {
    let found = api.samples(&format!("load{{instance={name:?}}}"), 3600)?;
    let found: BTreeMap<usize, Vec<(i64, f64)>> =
        found.into_iter().map(|(labels, samples)| (labels["series"].parse().unwrap(), samples)).collect();
    anyhow::ensure!(found.len() == SERIES, "{name}: {} series", found.len());
    for (series, samples) in found {
        let wanted = used.iter().enumerate().map(|(tick, ts_ms)| (*ts_ms, value(tick, series)));
        let differ = wanted.clone().zip(&samples).find(|(wanted, got)| wanted != *got);
        anyhow::ensure!(
            differ.is_none() && used.len() == samples.len(),
            "{name}, series {series}: {} ticks acknowledged, {} samples stored, the first that differ: {differ:?}",
            used.len(),
            samples.len()
        );
    }
    Ok(())
}

/// The log itself holds no frame twice and lost none but for a torn tail.
fn check_log(collector: &Collector) -> anyhow::Result<()> {
    let dir = collector.data_dir().join("history");
    let (_, _, report) = History::open(Arc::new(RealDisk), &dir, pitwatch_history::Config::default())?;
    anyhow::ensure!(report.duplicates == 0, "{} frames stand in the log twice", report.duplicates);
    anyhow::ensure!(report.losses.is_empty(), "after a clean stop: {:?}", report.losses);
    Ok(())
}

#[test]
fn the_collector_killed_fifty_times_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    // Short blocks, so that some of the kills come while one is sealed.
    let config = "[history]\nblock_span = \"1m\"\n";
    let mut collector = Collector::start(&dir.path().join("collector"), config, "")?;
    let mut agent = Agent::start(&dir.path().join("agent"), "real-1", &collector, FAST)?;
    let loads = (0..SENDERS).map(|at| Load::start(dir.path(), &format!("load-{at}"), &collector));
    let loads = loads.collect::<anyhow::Result<Vec<Load>>>()?;
    let mut random = fastrand::Rng::with_seed(50);
    for kill in 0..KILLS {
        let before: Vec<_> = loads.iter().map(|load| load.pusher.acked()).collect();
        wait_for(&format!("acks before kill {kill}"), Duration::from_secs(30), || {
            loads.iter().zip(&before).all(|(load, before)| load.pusher.acked() > *before).then_some(())
        })?;
        std::thread::sleep(Duration::from_millis(random.u64(0..120)));
        collector.process().kill();
        collector.restart()?;
    }
    let log = collector.process().log();
    assert_eq!(log.matches("collector ready").count(), KILLS + 1);
    assert!(!log.contains("panicked"), "a panic");
    let finished = loads.into_iter().map(Load::finish).collect::<anyhow::Result<Vec<_>>>()?;
    let api = collector.api()?;
    wait_for_tick(&api, "real-1", unix_ms(), Duration::from_secs(20))?;
    // What is checked is what a restart finds, not what the last run still had in memory.
    agent.process().stop()?;
    collector.process().kill();
    collector.restart()?;
    let api = collector.api()?;
    for (name, used) in &finished {
        check(&api, name, used)?;
    }
    let times = ticks(&api, "real-1")?;
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "timestamps do not grow");
    let (gap_ms, at_ms) = widest_gap(&times);
    assert!(gap_ms < 1_000, "a gap of {gap_ms} ms after {at_ms}");
    collector.process().stop()?;
    check_log(&collector)?;
    let acked: usize = finished.iter().map(|(_, used)| used.len() * SERIES).sum();
    println!(
        "{KILLS} kills, {acked} samples of {SENDERS} senders stored once each, {} ticks of the agent",
        times.len()
    );
    Ok(())
}

/// Kills that come while a block is written: a sender whose samples are minutes apart, so that each restart finds a
/// head that is old enough to be sealed.
#[test]
fn the_collector_killed_while_it_seals_loses_and_doubles_nothing() -> anyhow::Result<()> {
    const SEALS: usize = 8;
    const WIDE: usize = 2_000;
    const DEEP: usize = 60;
    let dir = tempfile::tempdir()?;
    let config = "[history]\nblock_span = \"1m\"\n";
    let mut collector = Collector::start(&dir.path().join("collector"), config, "")?;
    let pusher = Pusher::start(&dir.path().join("pusher"), "wide", &collector, "wide", WIDE)?;
    let blocks = collector.data_dir().join("history/blocks");
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(&blocks).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let begun_ms = unix_ms() - 3_600_000;
    let (mut used, mut unfinished) = (Vec::new(), 0);
    let mut random = fastrand::Rng::with_seed(8);
    for seal in 0..SEALS {
        for _ in 0..DEEP {
            let ts_ms = begun_ms + 5_000 * used.len() as i64;
            let values: Vec<f64> = (0..WIDE).map(|series| value(used.len(), series)).collect();
            pusher.tick(ts_ms, &values)?;
            used.push(ts_ms);
        }
        wait_for("everything is acknowledged", Duration::from_secs(30), || pusher.drained().then_some(()))?;
        collector.process().kill();
        let known = names();
        collector.restart()?;
        wait_for(&format!("seal {seal} begins"), Duration::from_secs(30), || {
            names().iter().any(|name| !known.contains(name)).then_some(())
        })?;
        std::thread::sleep(Duration::from_millis(random.u64(0..30)));
        collector.process().kill();
        unfinished += usize::from(names().iter().any(|name| name.ends_with(".tmp")));
        collector.restart()?;
    }
    let api = collector.api()?;
    for series in [0, 1, WIDE / 2, WIDE - 1] {
        let found = api.samples(&format!("wide{{series=\"{series}\"}}"), 7_200)?;
        let wanted: Vec<_> = used.iter().enumerate().map(|(tick, ts_ms)| (*ts_ms, value(tick, series))).collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].1 == wanted, "series {series}: {} samples of {}", found[0].1.len(), wanted.len());
    }
    let whole = api.value("sum(count_over_time(wide[2h]))")?;
    assert_eq!(whole, Some((used.len() * WIDE) as f64));
    collector.process().stop()?;
    check_log(&collector)?;
    println!("{SEALS} kills, {unfinished} of them before the block was whole");
    Ok(())
}

#[test]
fn the_agent_killed_fifty_times_doubles_nothing_and_comes_back() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut collector, mut agent) = pair(dir.path(), "real-1", FAST)?;
    let api = collector.api()?;
    let mut random = fastrand::Rng::with_seed(51);
    let epoch = |agent: &Agent| -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(agent.dir.join("data/epoch")).context("no epoch")?;
        Ok(text.trim().parse()?)
    };
    let (mut runs, mut epochs) = (Vec::new(), vec![epoch(&agent)?]);
    let mut begun_ms = unix_ms();
    for kill in 0..KILLS {
        wait_for_tick(&api, "real-1", begun_ms, Duration::from_secs(20))
            .map_err(|error| error.context(format!("before kill {kill}")))?;
        std::thread::sleep(Duration::from_millis(random.u64(100..500)));
        agent.process().kill();
        runs.push((begun_ms, unix_ms()));
        begun_ms = unix_ms();
        agent.restart()?;
        epochs.push(wait_for("a later epoch", Duration::from_secs(10), || {
            epoch(&agent).ok().filter(|epoch| Some(epoch) > epochs.last())
        })?);
    }
    wait_for_tick(&api, "real-1", begun_ms, Duration::from_secs(20))?;
    assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "epochs do not grow: {epochs:?}");

    let times = ticks(&api, "real-1")?;
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "timestamps do not grow");
    for (begun_ms, killed_ms) in &runs {
        let run: Vec<i64> = times.iter().copied().filter(|ts_ms| (*begun_ms..=*killed_ms).contains(ts_ms)).collect();
        // The link sends in order, so a hole in the middle of a run would be something acknowledged that was lost.
        let (gap_ms, at_ms) = widest_gap(&run);
        assert!(gap_ms < 600, "a hole of {gap_ms} ms after {at_ms} in the run {begun_ms}..{killed_ms}");
        let tail_ms = killed_ms - run.last().context("a run without a sample")?;
        assert!(tail_ms < 1_000, "{tail_ms} ms before the kill at {killed_ms} are lost");
    }
    let (gap_ms, at_ms) = widest_gap(&times);
    assert!(gap_ms < 3_000, "a gap of {gap_ms} ms after {at_ms}");
    assert_eq!(listed(&api, "real-1")?["lost_frames"], 0);
    // Left alone, it is whole again.
    let alone_ms = unix_ms();
    wait_for_tick(&api, "real-1", alone_ms + 1_500, Duration::from_secs(10))?;
    let alone: Vec<i64> = ticks(&api, "real-1")?.into_iter().filter(|ts_ms| *ts_ms > alone_ms).collect();
    assert!(widest_gap(&alone).0 < 600, "{alone:?}");
    agent.process().stop()?;
    collector.process().stop()?;
    check_log(&collector)?;
    println!("{KILLS} kills, {} ticks, each once; the widest gap is {gap_ms} ms", times.len());
    Ok(())
}

#[test]
fn an_agent_killed_while_the_collector_is_away_loses_seconds_at_most() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut collector, mut agent) = pair(dir.path(), "real-1", FAST)?;
    wait_for_tick(&collector.api()?, "real-1", unix_ms(), Duration::from_secs(10))?;
    collector.process().kill();
    let away_ms = unix_ms();
    std::thread::sleep(Duration::from_secs(12));
    agent.process().kill();
    let killed_ms = unix_ms();
    agent.restart()?;
    std::thread::sleep(Duration::from_secs(2));
    collector.restart()?;
    let api = collector.api()?;
    wait_for_tick(&api, "real-1", unix_ms(), Duration::from_secs(60))?;
    let times = ticks(&api, "real-1")?;
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "timestamps do not grow");
    // Frames wait in memory for five seconds before they go to disk; a look at that comes with each tick.
    let spooled: Vec<i64> = times.iter().copied().filter(|ts_ms| *ts_ms < killed_ms).collect();
    let last_ms = *spooled.last().context("nothing")?;
    assert!(killed_ms - last_ms < 6_500, "{} ms before the kill are lost", killed_ms - last_ms);
    assert!(last_ms > away_ms + 4_000, "nothing of the time away was spooled");
    let (gap_ms, at_ms) = widest_gap(&spooled);
    assert!(gap_ms < 1_000, "a gap of {gap_ms} ms after {at_ms}");
    assert_whole(&api, "real-1", 8_000)
}
