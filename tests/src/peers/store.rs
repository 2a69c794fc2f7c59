//! Disk, ingest, memory, recovery and scan.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use pitwatch_disk::RealDisk;
use pitwatch_history::{Config, History, MatchOp, Matcher, SourceName};
use pitwatch_shared::codec::Encoder;
use pitwatch_shared::model::{Lane, METRIC_NAME, Mark};

use super::data::Data;
use super::feed::feed;
use super::report::{Report, Target};
use super::server::{Kind, Server};

/// Seconds of the history whose one series is read cold.
const COLD_SECS: usize = 24 * 3600;
/// Seconds of one of its blocks.
const COLD_BLOCK_SECS: usize = 2 * 3600;
const MIB: f64 = (1 << 20) as f64;

/// Feeds each of the three; gives them as they are then, flushed.
///
/// # Errors
/// Anything that goes wrong.
pub fn ingest(dir: &Path, data: &Arc<Data>, report: &mut Report) -> anyhow::Result<Vec<Server>> {
    let millions = data.samples() as f64 / 1e6;
    let (mut acked, mut settled, mut secs, mut peak) = ([0.0; 3], [0.0; 3], [0.0; 3], [0.0; 3]);
    let (mut blocks, mut whole) = ([0.0; 3], [0.0; 3]);
    let mut servers = Vec::new();
    for (nth, kind) in Kind::ALL.into_iter().enumerate() {
        let mut server = Server::start(kind, &dir.join(kind.name()), data.hosts)?;
        server.rest()?;
        let (before, begun) = (server.cpu_secs()?, Instant::now());
        feed(&mut server, data, dir)?;
        secs[nth] = begun.elapsed().as_secs_f64();
        acked[nth] = (server.cpu_secs()? - before) / millions;
        peak[nth] = server.peak_bytes()? / MIB;
        server.rest()?;
        let fed = server.cpu_secs()? - before;
        settled[nth] = (fed + server.flush()?) / millions;
        let (of_blocks, of_all) = server.disk_bytes()?;
        blocks[nth] = of_blocks as f64 / data.samples() as f64;
        whole[nth] = of_all as f64 / data.samples() as f64;
        servers.push(server);
    }
    report.line("samples fed, millions", [millions; 3], Target::None);
    report.line("blocks (VM: data), bytes a sample", blocks, Target::AtMost(0.38));
    report.line("the same, to VictoriaMetrics", blocks, Target::OfVictoria(0.85));
    report.line("whole directory, bytes a sample", whole, Target::OfVictoria(0.5));
    report.line("the same, to Prometheus", whole, Target::OfPrometheus(0.3));
    report.line("CPU to acknowledged, s a million samples", acked, Target::OfVictoria(0.4));
    report.line("CPU to blocks, s a million samples", settled, Target::None);
    report.line("time to acknowledged, s", secs, Target::None);
    report.line("peak memory, MiB", peak, Target::None);
    Ok(servers)
}

/// Memory of many active series with a few samples each.
///
/// # Errors
/// Anything that goes wrong.
pub fn active_series(dir: &Path, data: &Arc<Data>, report: &mut Report) -> anyhow::Result<()> {
    let mut peak = [0.0; 3];
    for (nth, kind) in Kind::ALL.into_iter().enumerate() {
        let dir = dir.join(kind.name());
        let mut server = Server::start(kind, &dir, data.hosts)?;
        feed(&mut server, data, &dir)?;
        peak[nth] = server.peak_bytes()? / MIB;
        drop(server);
        std::fs::remove_dir_all(&dir)?;
    }
    let count = data.hosts * data.series().len();
    report.line(&format!("peak memory, {count} active series, MiB"), peak, Target::OfVictoria(0.7));
    Ok(())
}

/// Ready again after kill -9, with everything still in the log.
///
/// # Errors
/// Anything that goes wrong.
pub fn recovery(dir: &Path, data: &Arc<Data>, kinds: &[Kind], report: &mut Report) -> anyhow::Result<()> {
    let mut secs = [f64::NAN; 3];
    for (nth, kind) in Kind::ALL.into_iter().enumerate().filter(|(_, kind)| kinds.contains(kind)) {
        let dir = dir.join(kind.name());
        let mut server = Server::start(kind, &dir, data.hosts)?;
        feed(&mut server, data, &dir)?;
        secs[nth] = server.crash()?;
        drop(server);
        std::fs::remove_dir_all(&dir)?;
    }
    let what = format!("{} hosts × {} series × {} s", data.hosts, data.series().len(), data.ticks);
    report.line(&format!("ready after kill -9, {what}, s"), secs, Target::AtMost(5.0));
    Ok(())
}

/// How fast a core decodes the blocks in `dir`, warm.
///
/// # Errors
/// The store's.
pub fn scan(dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (history, _, _) = History::open(Arc::new(RealDisk), dir, Config::default())?;
    let all =
        history.select(&[Matcher::new(METRIC_NAME, MatchOp::Re, "node_.+|fleet_.+|go_.+")?], i64::MIN, i64::MAX)?;
    let (mut ts, mut values, mut best) = (Vec::new(), Vec::new(), 0_f64);
    for _ in 0..3 {
        let (begun, mut samples) = (Instant::now(), 0);
        for series in &all {
            history.samples(series, i64::MIN, i64::MAX, &mut ts, &mut values)?;
            samples += ts.len();
        }
        best = best.max(samples as f64 / begun.elapsed().as_secs_f64() / 1e6);
    }
    report.own("scan of warm blocks, million samples/s a core", best, Target::AtLeast(150.0));
    Ok(())
}

/// One series over 24 h at 1 s, out of a host's blocks that nobody has read.
///
/// # Errors
/// The store's.
pub fn cold(dir: &Path, data: &Data, report: &mut Report) -> anyhow::Result<()> {
    let (_, mut appender, _) = History::open(Arc::new(RealDisk), dir, Config::default())?;
    let (source, mut encoder, mut payload) = (SourceName::agent("cold"), Encoder::new(), Vec::new());
    let (mut seq, mut values) = (1, Vec::new());
    encoder.schema(&mut payload, true, 0, &[], data.series())?;
    appender.append(&source, Lane::Metrics, Mark { epoch: 1, seq }, &payload)?;
    for tick in 0..COLD_SECS {
        payload.clear();
        data.fill(0, tick, &mut values);
        encoder.tick(&mut payload, 0, data.at_ms(tick), &values)?;
        seq += 1;
        appender.append(&source, Lane::Metrics, Mark { epoch: 1, seq }, &payload)?;
        if (tick + 1) % 60 == 0 {
            appender.commit()?;
        }
        if (tick + 1) % COLD_BLOCK_SECS == 0 {
            appender.seal(data.at_ms(tick))?.context("nothing to seal")?.run()?;
        }
    }
    drop(appender);
    // As root the page cache goes, too; else only the store's own memory is cold.
    let dropped = std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
    let (history, _, _) = History::open(Arc::new(RealDisk), dir, Config::default())?;
    let mut worst = 0_f64;
    let (mut ts, mut values) = (Vec::new(), Vec::new());
    for name in ["node_load1", "node_context_switches_total", "node_memory_MemAvailable_bytes"] {
        let begun = Instant::now();
        let series = history.select(&[Matcher::new(METRIC_NAME, MatchOp::Eq, name)?], i64::MIN, i64::MAX)?;
        let series = series.first().with_context(|| format!("no {name}"))?;
        history.samples(series, i64::MIN, i64::MAX, &mut ts, &mut values)?;
        anyhow::ensure!(ts.len() == COLD_SECS, "{} samples", ts.len());
        worst = worst.max(begun.elapsed().as_secs_f64() * 1000.0);
    }
    let cache = if dropped { "page cache dropped" } else { "page cache warm" };
    report.own(&format!("one series, 24 h at 1 s, worst of three, {cache}, ms"), worst, Target::AtMost(5.0));
    Ok(())
}
