//! The link is cut for a minute, and the agent's address changes: no gap in history.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::namespaces::{AGENT_ADDRESS, DEVICE, Site};

const CUT: Duration = Duration::from_secs(60);
/// A silent connection is given up after 30 s, an attempt takes up to 10 s, and the pause between two up to 30 s.
const BACK: Duration = Duration::from_secs(90);
/// Ticks are a second apart: a missing one would be a step of two.
const STEP_MAX_MS: i64 = 1_900;
const NEW_ADDRESS: &str = "10.77.0.9";

fn unix_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Every second has its sample, once.
fn assert_whole(site: &Site) -> anyhow::Result<Vec<i64>> {
    let ticks = site.ticks()?;
    let widest = ticks.windows(2).map(|pair| (pair[1] - pair[0], pair[0])).max().unwrap_or_default();
    anyhow::ensure!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "timestamps do not grow: {ticks:?}");
    anyhow::ensure!(widest.0 <= STEP_MAX_MS, "a gap of {} ms after {}", widest.0, widest.1);
    anyhow::ensure!(site.listed()?["lost_frames"] == 0, "frames were lost");
    Ok(ticks)
}

#[test]
fn a_link_that_is_down_for_a_minute_leaves_no_gap() -> anyhow::Result<()> {
    let Some(mut site) = Site::start("link")? else {
        eprintln!("no network namespaces here: a link that is cut was not tested");
        return Ok(());
    };
    site.wait_for_tick(unix_ms() + 2_000, Duration::from_secs(20))?;
    site.agent_ip(&["link", "set", DEVICE, "down"])?;
    let cut_ms = unix_ms();
    std::thread::sleep(CUT);
    let last_ms = site.ticks()?.last().copied().unwrap_or_default();
    assert!(last_ms < cut_ms + 2_000, "the link was not cut: a sample {} ms after it", last_ms - cut_ms);
    site.agent_ip(&["link", "set", DEVICE, "up"])?;
    let up_ms = unix_ms();
    site.wait_for_tick(up_ms, BACK)?;
    println!("whole again {} ms after the link came up", unix_ms() - up_ms);
    let ticks = assert_whole(&site)?;
    let during = ticks.iter().filter(|ts_ms| (cut_ms..up_ms).contains(*ts_ms)).count();
    assert!(during >= 55, "{during} samples of the minute without a link");
    assert!(site.agent.runs() && site.collector.runs());
    Ok(())
}

#[test]
fn a_session_goes_on_from_another_address() -> anyhow::Result<()> {
    let Some(site) = Site::start("address")? else {
        eprintln!("no network namespaces here: a changed address was not tested");
        return Ok(());
    };
    site.wait_for_tick(unix_ms() + 2_000, Duration::from_secs(20))?;
    let address = |site: &Site| -> anyhow::Result<String> {
        Ok(site.listed()?["remote_address"].as_str().unwrap_or_default().to_owned())
    };
    assert!(address(&site)?.starts_with(&format!("{AGENT_ADDRESS}:")), "{}", address(&site)?);
    site.agent_ip(&["addr", "del", &format!("{AGENT_ADDRESS}/24"), "dev", DEVICE])?;
    site.agent_ip(&["addr", "add", &format!("{NEW_ADDRESS}/24"), "dev", DEVICE])?;
    // Longer than a silent connection lives.
    site.wait_for_tick(unix_ms() + 35_000, Duration::from_secs(60))?;
    assert!(address(&site)?.starts_with(&format!("{NEW_ADDRESS}:")), "{}", address(&site)?);
    assert_whole(&site)?;
    let (agent, collector) = (site.agent.log(), site.collector.log());
    assert_eq!(collector.matches("agent connected").count(), 1, "another session:\n{collector}\n{agent}");
    assert!(!agent.contains("connection lost"), "{agent}");
    Ok(())
}
