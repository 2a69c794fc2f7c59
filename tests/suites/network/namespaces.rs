//! Two network namespaces joined by a veth pair, a collector in one and an agent in the other.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pitwatch_tests::programs::{Process, path, tail};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const DEVICE: &str = "veth0";
pub(crate) const COLLECTOR_ADDRESS: &str = "10.77.0.1";
pub(crate) const AGENT_ADDRESS: &str = "10.77.0.2";
pub(crate) const AGENT: &str = "edge-1";
const PORT: u16 = 4717;

/// The namespaces' names; removed when dropped, with the veth pair in them.
struct Namespaces {
    collector: String,
    agent: String,
}

impl Namespaces {
    /// `None` if this user may not make any.
    fn new(tag: &str) -> anyhow::Result<Option<Self>> {
        let name = |side: &str| format!("pitwatch-{}-{tag}-{side}", std::process::id());
        let Ok(first) = Command::new("ip").args(["netns", "add", &name("collector")]).output() else {
            eprintln!("iproute2 is not installed");
            return Ok(None);
        };
        if !first.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&first.stderr));
            return Ok(None);
        }
        let made = Self { collector: name("collector"), agent: name("agent") };
        let (c, a) = (&*made.collector, &*made.agent);
        ip(&["netns", "add", a])?;
        ip(&["link", "add", DEVICE, "netns", c, "type", "veth", "peer", "name", DEVICE, "netns", a])?;
        for (namespace, address) in [(c, COLLECTOR_ADDRESS), (a, AGENT_ADDRESS)] {
            ip(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", DEVICE])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "link", "set", DEVICE, "up"])?;
        }
        Ok(Some(made))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in [&self.agent, &self.collector] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    anyhow::ensure!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A program of the workspace, to be run in a namespace.
fn program(namespace: &str, name: &str) -> anyhow::Result<Command> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(path(name)?);
    Ok(command)
}

/// Both programs at work. Processes end before their namespaces go.
pub(crate) struct Site {
    pub(crate) agent: Process,
    pub(crate) collector: Process,
    namespaces: Namespaces,
    dir: TempDir,
}

impl Site {
    /// Starts both, enrolled and connected; `None` where namespaces cannot be had.
    pub(crate) fn start(tag: &str) -> anyhow::Result<Option<Self>> {
        let Some(namespaces) = Namespaces::new(tag)? else { return Ok(None) };
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("collector.toml"), "[alerting]\nstock_rules = false\n")?;
        let mut command = program(&namespaces.collector, "pitwatch-collector")?;
        command.arg("run").arg("--config").arg(dir.path().join("collector.toml"));
        command.env("PITWATCH_COLLECTOR_DATA_DIR", dir.path().join("collector"));
        command.env("PITWATCH_COLLECTOR_AGENTS", format!("{COLLECTOR_ADDRESS}:{PORT}"));
        command.env("PITWATCH_COLLECTOR_HTTP", "127.0.0.1:4718");
        let collector = Process::start(&mut command, &dir.path().join("collector.log"))?;
        logged(&collector, "collector ready", Duration::from_secs(20))?;

        let output = cli(&namespaces, &dir, &["token", "create"])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let token = text.split_whitespace().find(|word| word.starts_with("pwe1_")).context("no token")?;
        let data = dir.path().join("agent");
        let config = dir.path().join("agent.toml");
        fs::write(
            &config,
            format!("name = {AGENT:?}\ncollector = \"{COLLECTOR_ADDRESS}:{PORT}\"\ndata_dir = {data:?}\n"),
        )?;
        let mut command = program(&namespaces.agent, "pitwatch-agent")?;
        let output = command.args(["enroll", "--token", token, "--config"]).arg(&config).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut command = program(&namespaces.agent, "pitwatch-agent")?;
        let agent = Process::start(command.arg("run").arg("--config").arg(&config), &dir.path().join("agent.log"))?;
        let site = Self { agent, collector, namespaces, dir };
        logged(&site.collector, "agent connected", Duration::from_secs(20))?;
        Ok(Some(site))
    }

    /// `ip` in the agent's namespace.
    pub(crate) fn agent_ip(&self, arguments: &[&str]) -> anyhow::Result<()> {
        ip(&[&["-n", &self.namespaces.agent], arguments].concat())
    }

    /// The answer of the command line in JSON.
    pub(crate) fn ask(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = cli(&self.namespaces, &self.dir, &[arguments, &["-o", "json"]].concat())?;
        let answer = serde_json::from_slice(&output.stdout);
        answer.with_context(|| format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// When the agent's vitals were stored, milliseconds, ascending.
    pub(crate) fn ticks(&self) -> anyhow::Result<Vec<i64>> {
        let answer = self.ask(&["query", &format!("node_context_switches_total{{instance={AGENT:?}}}[1h]")])?;
        let series = answer["data"]["result"].as_array().context("no result")?;
        let values = series.iter().flat_map(|series| series["values"].as_array().into_iter().flatten());
        Ok(values.filter_map(|pair| pair[0].as_f64()).map(|secs| (secs * 1000.0).round() as i64).collect())
    }

    /// The collector's list entry of the agent.
    pub(crate) fn listed(&self) -> anyhow::Result<Value> {
        let answer = self.ask(&["agents", "list"])?;
        Ok(answer["data"]["agents"][0].clone())
    }

    /// Waits until vitals are stored that are not older than `since_ms`.
    pub(crate) fn wait_for_tick(&self, since_ms: i64, limit: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        while self.ticks()?.last().is_none_or(|last_ms| *last_ms < since_ms) {
            anyhow::ensure!(Instant::now() < end, "nothing since {since_ms}; the agent:\n{}", tail(&self.agent.log()));
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

fn cli(namespaces: &Namespaces, dir: &TempDir, arguments: &[&str]) -> anyhow::Result<Output> {
    let data: PathBuf = dir.path().join("collector");
    let mut command = program(&namespaces.collector, "pitwatch")?;
    Ok(command.env("PITWATCH_COLLECTOR_DIR", data).args(arguments).output()?)
}

fn logged(process: &Process, text: &str, limit: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    while !process.log().contains(text) {
        anyhow::ensure!(Instant::now() < end, "no {text:?} in the log:\n{}", tail(&process.log()));
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
