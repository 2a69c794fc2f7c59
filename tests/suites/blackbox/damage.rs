//! Torn and flipped bytes under the collector: it starts, says what it found, and never answers with wrong numbers.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use pitwatch_tests::programs::Collector;

use crate::support::{FAST, Pusher, assert_whole, figure, pair, unix_ms, wait_for, wait_for_tick};

const SERIES: usize = 20;
const TICKS: usize = 300;
const FLIPS: usize = 24;

/// The only file in `dir` with this ending, or the last of them.
fn last_file(dir: &Path, ending: &str) -> anyhow::Result<PathBuf> {
    let paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
    let named = paths.into_iter().filter(|path| path.extension().is_some_and(|found| found == ending));
    named.max().with_context(|| format!("no {ending} in {}", dir.display()))
}

#[test]
fn a_torn_end_of_the_log_is_cut_off_and_reported() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut collector, _agent) = pair(dir.path(), "real-1", FAST)?;
    wait_for_tick(&collector.api()?, "real-1", unix_ms() + 1_000, Duration::from_secs(10))?;
    collector.process().kill();
    // A record of which the power cut left the first part: never acknowledged.
    let segment = last_file(&collector.data_dir().join("history/wal"), "wal")?;
    let bytes = fs::read(&segment)?;
    fs::File::options().append(true).open(&segment)?.write_all(&bytes[bytes.len() - 37..])?;
    collector.restart()?;
    let log = collector.process().log();
    let said = format!("recovery: {}: torn tail of 37 bytes cut off", segment.display());
    assert!(log.contains(&said), "{log}");
    let api = collector.api()?;
    assert_eq!(figure(&api, "pitwatch_collector_corruptions_total")?, 1.0);
    wait_for_tick(&api, "real-1", unix_ms(), Duration::from_secs(20))?;
    assert_whole(&api, "real-1", 1_000)
}

fn value(tick: usize, series: usize) -> f64 {
    ((tick * 7919 + series * 104_729) % 1_000_003) as f64 / 8.0
}

#[test]
fn a_flipped_bit_in_a_block_is_never_a_wrong_number() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = "[history]\nblock_span = \"1m\"\n";
    let mut collector = Collector::start(&dir.path().join("collector"), config, "")?;
    let begun_ms = unix_ms() - 900_000;
    let pusher = Pusher::start(&dir.path().join("pusher"), "pusher", &collector, "numbers", SERIES)?;
    for tick in 0..TICKS {
        let values: Vec<f64> = (0..SERIES).map(|series| value(tick, series)).collect();
        pusher.tick(begun_ms + 1_000 * tick as i64, &values)?;
    }
    wait_for("everything is acknowledged", Duration::from_secs(20), || pusher.drained().then_some(()))?;
    drop(pusher);
    let api = collector.api()?;
    wait_for("a block is sealed", Duration::from_secs(90), || {
        (figure(&api, "pitwatch_collector_block_samples").ok()? >= (SERIES * TICKS) as f64).then_some(())
    })?;
    collector.process().stop()?;
    let block = last_file(&collector.data_dir().join("history/blocks"), "blk")?;
    let whole = fs::read(&block)?;
    let mut random = fastrand::Rng::with_seed(7);
    let (mut refused, mut partial, mut same) = (0, 0, 0);
    for flip in 0..FLIPS {
        let (byte, bit) = (random.usize(..whole.len()), random.u32(..8));
        let mut bytes = whole.clone();
        bytes[byte] ^= 1 << bit;
        fs::write(&block, bytes)?;
        fs::remove_file(collector.dir.join("collector.log"))?;
        collector.restart()?;
        let place = format!("flip {flip}: bit {bit} of byte {byte} of {}", whole.len());
        match answer(&collector, begun_ms, &place)? {
            None => refused += 1,
            Some(count) if count < SERIES * TICKS => {
                // An answer without what is damaged is only good if the loss was told.
                let log = collector.process().log();
                let told =
                    log.lines().any(|line| line.contains("recovery: ") && line.contains(&*block.to_string_lossy()));
                let corruptions = figure(&collector.api()?, "pitwatch_collector_corruptions_total")?;
                anyhow::ensure!(
                    told && corruptions >= 1.0,
                    "{place}: {count} samples, {corruptions} corruptions\n{log}"
                );
                partial += 1;
            }
            Some(_) => same += 1,
        }
        let process = collector.process();
        anyhow::ensure!(process.runs() && !process.log().contains("panicked"), "{place}: {}", process.log());
        collector.process().stop()?;
    }
    println!("{FLIPS} flips: {refused} queries refused, {partial} answers without the damaged part, {same} whole");
    anyhow::ensure!(refused + partial > 0, "no flip was noticed");
    fs::write(&block, whole)?;
    collector.restart()?;
    assert_eq!(answer(&collector, begun_ms, "no flip")?, Some(SERIES * TICKS));
    Ok(())
}

/// How many samples the collector answers, all of them right; `None` for an error that says what is damaged.
fn answer(collector: &Collector, begun_ms: i64, place: &str) -> anyhow::Result<Option<usize>> {
    let api = collector.api()?;
    let (status, body) = api.get("/api/v1/query", &[("query", "numbers[1h]")])?;
    if status != 200 {
        let text = body["error"].as_str().unwrap_or_default().to_owned();
        anyhow::ensure!(text.contains("block"), "{place}: HTTP {status}: {body}");
        return Ok(None);
    }
    let mut count = 0;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (labels, samples) in api.samples("numbers", 3600)? {
        let series: usize = labels["series"].parse()?;
        *seen.entry(labels["series"].clone()).or_default() += 1;
        for (ts_ms, got) in samples {
            let tick = usize::try_from((ts_ms - begun_ms) / 1_000)?;
            anyhow::ensure!(
                (ts_ms - begun_ms) % 1_000 == 0 && tick < TICKS && got == value(tick, series),
                "{place}: a wrong number: {labels:?} {ts_ms} {got}"
            );
            count += 1;
        }
    }
    anyhow::ensure!(seen.values().all(|times| *times == 1), "{place}: a series twice");
    Ok(Some(count))
}
