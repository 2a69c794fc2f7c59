//! The same rules beside Prometheus with Alertmanager: what evaluating them costs, and how long a breach takes to the
//! webhook. Both get the same gauges by remote write, a request for every few hosts, spread over each second.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pitwatch_collector::clock::unix_ms;

use super::feed::{TIMEOUT, encoded_labels, put_series, send};
use super::report::{Report, Target};
use crate::fleet::figures::percentile;
use crate::fleet::{address, identities};
use crate::host;
use crate::http::Api;
use crate::programs::{Collector, Process};
use crate::webhook::Webhook;

const GAUGES: usize = 20;
/// Requests that a second's samples come in.
const REQUESTS: usize = 10;
/// Seconds before anything is measured, of each measurement of CPU, and between two breaches of one host.
const WARM_SECS: u64 = 10;
const CPU_SECS: u64 = 40;
/// A message that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Hosts with `GAUGES` gauges each.
    pub hosts: usize,
    /// Rules over all of them.
    pub rules: usize,
    /// Breaches, one after another.
    pub breaches: usize,
}

/// One side at work.
struct Side {
    url: String,
    token: String,
    /// The programs that evaluate and tell; Alertmanager is the second of the peer.
    ids: Vec<u32>,
    hook: Webhook,
    _collector: Option<Collector>,
    _processes: Vec<Process>,
}

impl Side {
    fn pitwatch(dir: &Path, rules: &str) -> anyhow::Result<Self> {
        let hook = Webhook::start()?;
        let (agents, http) = (address()?, address()?);
        identities::enrol(&dir.join("data"), agents, 1)?;
        let file = dir.join("alertmanager.yml");
        fs::write(&file, routes(&hook))?;
        let config = format!(
            "[alerting]\nstock_rules = false\nrules_dir = {:?}\nalertmanager_config = {file:?}\n[log]\nlevel = \"warn\"\n",
            dir.join("rules")
        );
        let collector = Collector::start_at(dir, agents, http, &config, rules)?;
        let id = collector.process.as_ref().context("no process")?.id();
        let (url, token) = (format!("http://{http}"), collector.token()?);
        Ok(Self { url, token, ids: vec![id], hook, _collector: Some(collector), _processes: Vec::new() })
    }

    fn prometheus(dir: &Path, rules: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let hook = Webhook::start()?;
        let (http, told) = (address()?, address()?);
        let (config, file) = (dir.join("prometheus.yml"), dir.join("am.yml"));
        fs::write(dir.join("rules.yml"), rules)?;
        fs::write(
            &config,
            format!(
                "global: {{evaluation_interval: 1s, scrape_interval: 1h}}\nrule_files: [rules.yml]\nalerting:\n  \
                 alertmanagers: [{{static_configs: [{{targets: ['{told}']}}]}}]\n"
            ),
        )?;
        fs::write(&file, routes(&hook))?;
        let mut prometheus = Command::new("prometheus");
        prometheus.arg(format!("--config.file={}", config.display()));
        prometheus.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
        prometheus.arg(format!("--web.listen-address={http}"));
        prometheus.args(["--web.enable-remote-write-receiver", "--log.level=warn"]);
        let mut alertmanager = Command::new("prometheus-alertmanager");
        alertmanager.arg(format!("--config.file={}", file.display()));
        alertmanager.arg(format!("--storage.path={}", dir.join("am").display()));
        alertmanager.arg(format!("--web.listen-address={told}")).arg("--cluster.listen-address=");
        let processes = vec![
            Process::start(&mut prometheus, &dir.join("prometheus.log"))?,
            Process::start(&mut alertmanager, &dir.join("alertmanager.log"))?,
        ];
        for one in [http, told] {
            let (api, end) = (Api::new(&format!("http://{one}"), "")?, Instant::now() + PATIENCE);
            while api.get("/-/ready", &[]).map_or(true, |(status, _)| status != 200) {
                anyhow::ensure!(Instant::now() < end, "{one} does not come up: {}", processes[0].log());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let ids = processes.iter().map(Process::id).collect();
        let url = format!("http://{http}");
        Ok(Self { url, token: String::new(), ids, hook, _collector: None, _processes: processes })
    }

    fn cpu_secs(&self) -> anyhow::Result<f64> {
        let each = self.ids.iter().map(|id| Ok(host::process_cost(*id).context("a program has ended")?.0));
        each.sum()
    }
}

fn routes(hook: &Webhook) -> String {
    format!(
        "route: {{receiver: r, group_by: ['...'], group_wait: 0s, group_interval: 1s}}\n\
         receivers: [{{name: r, webhook_configs: [{{url: 'http://{}/x'}}]}}]\n",
        hook.address
    )
}

/// The rules: thresholds, ratios and what holds together, as packs have them; one more that the breaches fulfil.
fn rules(count: usize) -> String {
    let mut text = "groups:\n- name: bench\n  rules:\n  - {alert: Breach, expr: 'breach > 0.5'}\n".to_owned();
    let gauge = |nth: usize| format!("gauge_{:02}", nth % GAUGES);
    for nth in 0..count {
        let (a, b) = (gauge(nth), gauge(nth + 7));
        let expr = match nth % 4 {
            0 | 1 => format!("{a} > 1e12"),
            2 => format!("100 * {a} / {b} > 1e12"),
            _ => format!("{a} > 1e12 and {b} > 50"),
        };
        text += &format!("  - {{alert: Rule{nth}, expr: '{expr}', for: 1m, labels: {{severity: page}}}}\n");
    }
    text
}

/// What is sent each second, and how high the first host's `breach` stands.
struct Feed {
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    labels: Vec<Vec<Vec<u8>>>,
    breach: Vec<u8>,
    second: u64,
}

impl Feed {
    fn new(hosts: usize) -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let of = |host: usize| {
            let name = format!("host-{host:04}");
            let labels = |nth: usize| {
                let metric = format!("gauge_{nth:02}");
                encoded_labels(&[("__name__", &metric), ("env", "prod"), ("instance", &name), ("region", "eu")])
            };
            (0..GAUGES).map(labels).collect()
        };
        let breach = encoded_labels(&[("__name__", "breach"), ("instance", "host-0000")]);
        Ok(Self { client, runtime, labels: (0..hosts).map(of).collect(), breach, second: 0 })
    }

    /// Sends seconds of samples in real time, the breach at its value.
    fn play(&mut self, side: &Side, seconds: u64, breach: f64) -> anyhow::Result<()> {
        let url = format!("{}/api/v1/write", side.url);
        for _ in 0..seconds {
            self.second += 1;
            let begun = Instant::now();
            let share = self.labels.len().div_ceil(REQUESTS);
            for (nth, hosts) in self.labels.chunks(share).enumerate() {
                let due = Duration::from_millis(1_000 / REQUESTS as u64 * nth as u64);
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
                let (mut message, ts_ms) = (Vec::new(), unix_ms());
                for labels in hosts.iter().flatten() {
                    put_series(&mut message, labels, ts_ms, (self.second % 97) as f64);
                }
                if nth == 0 {
                    put_series(&mut message, &self.breach, ts_ms, breach);
                }
                self.runtime.block_on(send(&self.client, &url, &side.token, &message))?;
            }
            std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
        }
        Ok(())
    }

    /// The breach alone, now.
    fn breach(&self, side: &Side, value: f64) -> anyhow::Result<i64> {
        let (mut message, ts_ms) = (Vec::new(), unix_ms());
        put_series(&mut message, &self.breach, ts_ms, value);
        let url = format!("{}/api/v1/write", side.url);
        self.runtime.block_on(send(&self.client, &url, &side.token, &message))?;
        Ok(ts_ms)
    }
}

/// Cores that a side takes with so many rules, and the time from breaches to messages, milliseconds.
fn measure(dir: &Path, size: Size, is_ours: bool) -> anyhow::Result<(f64, Vec<f64>)> {
    let start = |name: &str, rules: &str| match is_ours {
        true => Side::pitwatch(&dir.join(name), rules),
        false => Side::prometheus(&dir.join(name), rules),
    };
    let mut cores = [0.0; 2];
    let mut millis = Vec::new();
    // With one rule and with all: the difference is what rules cost.
    for (nth, (name, count)) in [("few", 0), ("all", size.rules)].into_iter().enumerate() {
        let side = start(name, &rules(count))?;
        let mut feed = Feed::new(size.hosts)?;
        feed.play(&side, WARM_SECS, 0.0)?;
        let before = side.cpu_secs()?;
        feed.play(&side, CPU_SECS, 0.0)?;
        cores[nth] = (side.cpu_secs()? - before) / CPU_SECS as f64;
        if count == 0 {
            continue;
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..size.breaches {
            for (value, status) in [(1.0, "firing"), (0.0, "resolved")] {
                std::thread::sleep(Duration::from_millis(random.u64(0..1_000)));
                let told = side.hook.messages().len();
                let at_ms = feed.breach(&side, value)?;
                let end = Instant::now() + PATIENCE;
                while side.hook.messages().len() == told {
                    anyhow::ensure!(Instant::now() < end, "no {status} message in {PATIENCE:?}");
                    std::thread::sleep(Duration::from_millis(2));
                }
                let message = side.hook.messages()[told].clone();
                anyhow::ensure!(message.body["status"] == status, "{status} expected: {}", message.text);
                if value > 0.0 {
                    millis.push((message.at_ms - at_ms) as f64);
                }
                feed.play(&side, 2, value)?;
            }
        }
    }
    Ok((cores[1] - cores[0], millis))
}

/// Both, one after the other.
///
/// # Errors
/// Anything that goes wrong.
pub fn run(dir: &Path, size: Size, report: &mut Report) -> anyhow::Result<()> {
    let Size { hosts, rules, .. } = size;
    let (our_cores, mut ours) = measure(&dir.join("ours"), size, true)?;
    let (their_cores, mut theirs) = measure(&dir.join("theirs"), size, false)?;
    ours.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    let both = |ours: f64, theirs: f64| [ours, f64::NAN, theirs];
    report.line(
        &format!("{rules} rules over {hosts} hosts, % of a core"),
        both(our_cores * 100.0, their_cores * 100.0),
        Target::None,
    );
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let values = both(percentile(&ours, share), percentile(&theirs, share));
        let target = if share > 0.9 { Target::AtMost(1_500.0) } else { Target::None };
        report.line(&format!("breach written → webhook, {name}, ms"), values, target);
    }
    Ok(())
}
