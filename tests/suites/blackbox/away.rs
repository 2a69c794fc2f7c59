//! The collector is not there for a while: the agent keeps what it gathers, in memory and on disk.

use std::time::Duration;

use crate::support::{assert_whole, figure, pair, ticks, unix_ms, wait_for_tick, widest_gap};

#[test]
fn a_collector_that_is_away_for_twenty_seconds_misses_nothing() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut collector, mut agent) = pair(dir.path(), "real-1", "")?;
    wait_for_tick(&collector.api()?, "real-1", unix_ms() + 2_000, Duration::from_secs(10))?;
    assert!(collector.process().stop()?, "the collector ends badly");
    std::thread::sleep(Duration::from_secs(20));
    collector.restart()?;
    let api = collector.api()?;
    let back_ms = unix_ms();
    wait_for_tick(&api, "real-1", back_ms, Duration::from_secs(60))?;
    // Ticks are a second apart: a missing one would be a step of two.
    assert_whole(&api, "real-1", 1_900)?;
    let times = ticks(&api, "real-1")?;
    assert!(times.iter().filter(|ts_ms| (back_ms - 20_000..back_ms).contains(*ts_ms)).count() >= 18, "{times:?}");
    assert_eq!(figure(&api, "pitwatch_collector_agent_lost_frames_total")?, 0.0);
    // What was spooled is released once it is acknowledged.
    wait_for_tick(&api, "real-1", unix_ms() + 1_000, Duration::from_secs(10))?;
    assert!(agent.process().stop()?, "the agent ends badly");
    Ok(())
}

#[test]
fn an_agent_restarted_meanwhile_brings_what_it_spooled() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut collector, mut agent) = pair(dir.path(), "real-1", "")?;
    wait_for_tick(&collector.api()?, "real-1", unix_ms() + 2_000, Duration::from_secs(10))?;
    collector.process().stop()?;
    std::thread::sleep(Duration::from_secs(8));
    assert!(agent.process().stop()?, "the agent ends badly");
    assert!(agent.process().log().contains("stopped; what was not acknowledged is on disk"));
    let stopped_ms = unix_ms();
    std::thread::sleep(Duration::from_secs(3));
    let started_ms = unix_ms();
    agent.restart()?;
    std::thread::sleep(Duration::from_secs(8));
    collector.restart()?;
    let api = collector.api()?;
    wait_for_tick(&api, "real-1", unix_ms(), Duration::from_secs(60))?;

    let times = ticks(&api, "real-1")?;
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "timestamps do not grow");
    let (before, after): (Vec<i64>, Vec<i64>) = times.into_iter().partition(|ts_ms| *ts_ms <= stopped_ms);
    assert!(widest_gap(&before).0 < 1_900 && widest_gap(&after).0 < 1_900, "{before:?} {after:?}");
    assert!(stopped_ms - before[before.len() - 1] < 1_900, "the end of the first run is lost");
    assert!(after[0] - started_ms < 1_900, "the begin of the second run is lost");
    assert_eq!(figure(&api, "pitwatch_collector_agent_lost_frames_total")?, 0.0);
    Ok(())
}
