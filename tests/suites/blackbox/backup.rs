//! Backup, restore and verify: a collector that is gone comes back from its backup, and its agents with it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Agent, Collector};

use crate::support::{FAST, Pusher, figure, said, unix_ms, wait_for, wait_for_tick};

const TICKS: usize = 200;

/// The number after a text.
fn number(said: &str, after: &str) -> usize {
    let word = said.split(after).nth(1).and_then(|rest| rest.split(' ').next());
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no count: {said}"))
}

/// A collector with a block, a log, and an agent that goes on.
fn world(dir: &Path) -> anyhow::Result<(Collector, Agent)> {
    let mut collector = Collector::start(&dir.join("collector"), "[history]\nblock_span = \"1m\"\n", "")?;
    let pusher = Pusher::start(&dir.join("pusher"), "pusher", &collector, "numbers", 1)?;
    let begun_ms = unix_ms() - 900_000;
    for tick in 0..TICKS {
        pusher.tick(begun_ms + 1_000 * tick as i64, &[tick as f64])?;
    }
    wait_for("everything is acknowledged", Duration::from_secs(20), || pusher.drained().then_some(()))?;
    drop(pusher);
    // After a restart a head that is long enough is sealed at once.
    collector.process().kill();
    collector.restart()?;
    let api = collector.api()?;
    wait_for("a block", Duration::from_secs(30), || {
        (figure(&api, "pitwatch_collector_block_samples").ok()? >= TICKS as f64).then_some(())
    })?;
    let agent = Agent::start(&dir.join("agent"), "ada", &collector, FAST)?;
    wait_for_tick(&api, "ada", 0, Duration::from_secs(20))?;
    Ok((collector, agent))
}

fn numbers(api: &Api) -> anyhow::Result<Vec<f64>> {
    let series = api.samples("numbers", 3600)?;
    anyhow::ensure!(series.len() == 1, "{} series", series.len());
    Ok(series[0].1.iter().map(|(_, value)| *value).collect())
}

#[test]
fn a_collector_comes_back_from_a_backup_and_takes_its_agents_back() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut collector, _agent) = world(dir.path())?;
    let backup = dir.path().join("backup");
    let to = backup.to_str().unwrap();
    let token = said(&collector.cli(&["token", "create", "--role", "viewer", "--for", "ann"])?);
    let token = token.split_whitespace().find(|word| word.starts_with("pwa1_")).expect("a token").to_owned();

    let verified = collector.command(&["verify"])?;
    anyhow::ensure!(verified.status.code() == Some(0), "{}", said(&verified));
    let first = collector.command(&["backup", to])?;
    anyhow::ensure!(first.status.success(), "{}", said(&first));
    let second = collector.command(&["backup", to])?;
    anyhow::ensure!(second.status.success(), "{}", said(&second));
    let second = said(&second);
    anyhow::ensure!(number(&second, "copied ") < number(&second, "backup: "), "the block is copied again: {second}");
    anyhow::ensure!(!collector.data_dir().join("snapshot").exists(), "the snapshot is left over");
    let checked = collector.command(&["verify", to])?;
    anyhow::ensure!(checked.status.code() == Some(0), "{}", said(&checked));

    let refused = collector.command(&["restore", to])?;
    anyhow::ensure!(refused.status.code() == Some(3) && said(&refused).contains("not empty"), "{}", said(&refused));
    collector.process().kill();
    fs::rename(collector.data_dir(), dir.path().join("lost"))?;
    let restored = collector.command(&["restore", to])?;
    anyhow::ensure!(restored.status.success(), "{}", said(&restored));
    let verified = collector.command(&["verify", "-o", "json"])?;
    let report: serde_json::Value = serde_json::from_slice(&verified.stdout)?;
    // The manifest took the catalog's place; the first start makes that anew.
    let notes = report["notes"].as_array().map_or(&[][..], Vec::as_slice);
    let of_catalog = |note: &serde_json::Value| note["file"].as_str().is_some_and(|file| file.ends_with("/catalog"));
    anyhow::ensure!(report["sound"] == true && notes.iter().all(of_catalog), "{report}");

    collector.restart()?;
    let api = Api::new(&format!("http://{}", collector.http), &token)?;
    assert_eq!(numbers(&api)?, (0..TICKS).map(|tick| tick as f64).collect::<Vec<_>>());
    wait_for_tick(&api, "ada", unix_ms(), Duration::from_secs(30))?;
    Ok(())
}

#[test]
fn a_damaged_backup_is_not_restored_and_a_stopped_collector_is_backed_up() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut collector, _agent) = world(dir.path())?;
    collector.process().stop()?;
    let backup = dir.path().join("backup");
    let to = backup.to_str().unwrap();
    let made = collector.command(&["backup", to])?;
    anyhow::ensure!(made.status.success(), "{}", said(&made));
    // The block is the largest file of history, by far.
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(backup.join("manifest.json"))?)?;
    let files = manifest["files"].as_array().unwrap();
    let block = files.iter().find(|file| file["path"].as_str().unwrap().ends_with(".blk")).expect("a block");
    let stored = backup.join("files").join(block["sha256"].as_str().unwrap());
    let mut bytes = fs::read(&stored)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&stored, bytes)?;
    fs::rename(collector.data_dir(), dir.path().join("lost"))?;

    let checked = collector.command(&["verify", to])?;
    anyhow::ensure!(checked.status.code() == Some(1) && said(&checked).contains(".blk"), "{}", said(&checked));
    let refused = collector.command(&["restore", to])?;
    anyhow::ensure!(refused.status.code() == Some(3) && said(&refused).contains(".blk"), "{}", said(&refused));
    anyhow::ensure!(!collector.data_dir().exists(), "something was written");
    let without = collector.command(&["restore", to, "--leave-out-damaged"])?;
    anyhow::ensure!(without.status.success() && said(&without).contains("left out"), "{}", said(&without));

    let unfinished = collector.data_dir().join("restore.unfinished");
    fs::write(&unfinished, "")?;
    let started = collector.command(&["run"])?;
    anyhow::ensure!(said(&started).contains("did not come to its end"), "{}", said(&started));
    fs::remove_file(unfinished)?;
    collector.restart()?;
    wait_for_tick(&collector.api()?, "ada", unix_ms(), Duration::from_secs(30))?;
    Ok(())
}
