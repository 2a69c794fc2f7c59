//! A real Prometheus and a real vmagent, of Debian, write into a collector, and both read the same back from it as from
//! where else they keep it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Collector, Process, free_port};
use serde_json::Value;

use crate::support::wait_for;

/// Scrapes that are compared.
const SCRAPES: usize = 5;
const PATIENCE: Duration = Duration::from_secs(40);

/// By labels, by time in milliseconds: bits.
type Samples = BTreeMap<BTreeMap<String, String>, BTreeMap<i64, u64>>;

fn writer(collector: &Collector) -> anyhow::Result<String> {
    let output = collector.cli(&["token", "create", "--role", "writer", "--for", "migration"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let token = text.split_whitespace().find(|word| word.starts_with("pwa1_"));
    token.map(str::to_owned).with_context(|| format!("no token in {text:?}: {output:?}"))
}

/// Scrape configuration of a target that is the program itself.
fn scrape(port: u16) -> String {
    format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: self\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )
}

fn stored(api: &Api) -> anyhow::Result<Samples> {
    let series = api.samples("{job=\"self\"}", 300)?;
    let bits = |samples: Vec<(i64, f64)>| samples.into_iter().map(|(ts, value)| (ts, value.to_bits())).collect();
    Ok(series.into_iter().map(|(labels, samples)| (labels, bits(samples))).collect())
}

fn scrapes(samples: &Samples) -> usize {
    let up = samples.iter().find(|(labels, _)| labels["__name__"] == "up");
    up.map_or(0, |(_, samples)| samples.len())
}

/// Every series that `there` has in the time that `here` covers is here, and has the same samples.
fn assert_same(here: &Samples, there: &Samples, same: impl Fn(f64, f64) -> bool) {
    let (_, up) = here.iter().find(|(labels, _)| labels["__name__"] == "up").unwrap();
    let (from, to) = (*up.first_key_value().unwrap().0, *up.last_key_value().unwrap().0);
    let mut compared = 0;
    for (labels, samples) in there {
        // The last scrape may be on its way still.
        for (ts, bits) in samples.range(from..to) {
            let got = here.get(labels).and_then(|samples| samples.get(ts)).copied();
            let (got, bits) = (got.map(f64::from_bits), f64::from_bits(*bits));
            assert!(got.is_some_and(|got| same(got, bits)), "{labels:?} at {ts}: {got:?}, not {bits:?}");
            compared += 1;
        }
    }
    assert!(compared > 100 * (SCRAPES - 1), "only {compared} samples are compared");
}

#[test]
fn prometheus_writes_what_it_has() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let collector = Collector::start(&dir.path().join("collector"), "", "")?;
    let port = free_port()?;
    let config = dir.path().join("prometheus.yml");
    let remote = format!(
        "remote_write:\n- url: http://{}/api/v1/write\n  authorization: {{credentials: {}}}\n  queue_config: {{batch_send_deadline: 100ms}}\n",
        collector.http,
        writer(&collector)?
    );
    fs::write(&config, scrape(port) + &remote)?;
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let prometheus = Process::start(&mut command, &dir.path().join("prometheus.log"))?;
    let (api, theirs) = (collector.api()?, Api::new(&format!("http://127.0.0.1:{port}"), "")?);
    let what = format!("{SCRAPES} scrapes of Prometheus; its log:\n{}", prometheus.log());
    wait_for(&what, PATIENCE, || stored(&api).ok().filter(|samples| scrapes(samples) >= SCRAPES))?;
    let (there, here) = (stored(&theirs)?, stored(&api)?);
    assert_same(&here, &there, |a, b| a.to_bits() == b.to_bits());
    assert_eq!(crate::support::figure(&api, "pitwatch_collector_remote_write_samples_refused_total")?, 0.0);
    Ok(())
}

#[test]
fn vmagent_writes_what_it_has() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let collector = Collector::start(&dir.path().join("collector"), "", "")?;
    let (port, store_port) = (free_port()?, free_port()?);
    let mut command = Command::new("victoria-metrics");
    command.arg(format!("-storageDataPath={}", dir.path().join("store").display()));
    command.arg(format!("-httpListenAddr=127.0.0.1:{store_port}"));
    let _store = Process::start(&mut command, &dir.path().join("store.log"))?;
    let config = dir.path().join("scrape.yml");
    fs::write(&config, scrape(port))?;
    let token = dir.path().join("token");
    fs::write(&token, writer(&collector)?)?;
    let agent = vmagent(
        dir.path(),
        port,
        &config,
        [(&format!("http://{}", collector.http), Some(&*token)), (&format!("http://127.0.0.1:{store_port}"), None)],
    )?;
    let api = collector.api()?;
    let what = format!("{SCRAPES} scrapes of vmagent; its log:\n{}", agent.log());
    wait_for(&what, PATIENCE, || stored(&api).ok().filter(|samples| scrapes(samples) >= SCRAPES))?;
    let store = Api::new(&format!("http://127.0.0.1:{store_port}"), "")?;
    let there = wait_for("the same in VictoriaMetrics", PATIENCE, || {
        exported(&store).ok().filter(|samples| scrapes(samples) >= SCRAPES)
    })?;
    // VictoriaMetrics keeps decimal numbers.
    assert_same(&stored(&api)?, &there, |a, b| a == b || (a - b).abs() <= 1e-9 * a.abs() || a.is_nan() && b.is_nan());
    assert_eq!(crate::support::figure(&api, "pitwatch_collector_remote_write_samples_refused_total")?, 0.0);
    Ok(())
}

fn vmagent(dir: &Path, port: u16, config: &Path, remotes: [(&String, Option<&Path>); 2]) -> anyhow::Result<Process> {
    let mut command = Command::new("vmagent");
    command.arg(format!("-promscrape.config={}", config.display()));
    command.arg(format!("-httpListenAddr=127.0.0.1:{port}"));
    command.arg(format!("-remoteWrite.tmpDataPath={}", dir.join("queue").display()));
    for (base, token) in remotes {
        command.arg(format!("-remoteWrite.url={base}/api/v1/write"));
        let token = token.map(|path| path.display().to_string()).unwrap_or_default();
        command.arg(format!("-remoteWrite.bearerTokenFile={token}"));
    }
    Process::start(&mut command, &dir.join("vmagent.log"))
}

/// Everything of the job that VictoriaMetrics has, by its export: a line of JSON a series.
fn exported(store: &Api) -> anyhow::Result<Samples> {
    let (status, body) = store.get("/api/v1/export", &[("match[]", "{job=\"self\"}")])?;
    anyhow::ensure!(status == 200, "HTTP {status}: {body}");
    let text = body.as_str().context("more than one line of JSON")?;
    let mut all = Samples::new();
    for line in text.lines() {
        let series: Value = serde_json::from_str(line)?;
        let labels = series["metric"].as_object().context("no labels")?.iter();
        let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
        let times = series["timestamps"].as_array().context("no times")?;
        let values = series["values"].as_array().context("no values")?;
        let samples =
            times.iter().zip(values).filter_map(|(ts, value)| Some((ts.as_i64()?, value.as_f64()?.to_bits())));
        all.entry(labels.collect()).or_default().extend(samples);
    }
    Ok(all)
}
