//! The three programs as child processes, each in a directory of its own, and what they cost.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pitwatch_agent::identity::Identity;
use pitwatch_collector::clock::unix_ms;
use pitwatch_disk::RealDisk;
use pitwatch_history::{Config, History};

use crate::fleet::{address, identities};
use crate::host;
use crate::http::Api;
use crate::programs::{Collector, Process, tail};

/// A program that takes longer to be up, or to flush, has failed.
const PATIENCE: Duration = Duration::from_secs(180);
/// A program is at rest when it used less of a core than this over [`REST_WINDOW`].
const REST_CORES: f64 = 0.05;
const REST_WINDOW: Duration = Duration::from_millis(1500);
/// How the collector runs: nothing but history and queries.
const CONFIG: &str = "[alerting]\nstock_rules = false\n[log]\nlevel = \"warn\"\n";

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `pitwatch-collector`.
    Pitwatch,
    /// `victoria-metrics`.
    Victoria,
    /// `prometheus`.
    Prometheus,
}

impl Kind {
    /// All three.
    pub const ALL: [Kind; 3] = [Kind::Pitwatch, Kind::Victoria, Kind::Prometheus];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pitwatch => "Pitwatch",
            Kind::Victoria => "VictoriaMetrics",
            Kind::Prometheus => "Prometheus",
        }
    }
}

/// A program at work.
#[derive(Debug)]
pub struct Server {
    /// Which.
    pub kind: Kind,
    dir: PathBuf,
    http: SocketAddr,
    collector: Option<Collector>,
    process: Option<Process>,
    identities: Vec<Identity>,
}

impl Server {
    /// Starts it in `dir`, a collector with so many agents enrolled.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(kind: Kind, dir: &Path, hosts: usize) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let http = address()?;
        let mut server =
            Self { kind, dir: dir.to_owned(), http, collector: None, process: None, identities: Vec::new() };
        if kind == Kind::Pitwatch {
            let agents = address()?;
            server.identities = identities::enrol(&dir.join("data"), agents, hosts)?;
            server.collector = Some(Collector::start_at(dir, agents, http, CONFIG, "")?);
        } else {
            server.start_peer()?;
        }
        Ok(server)
    }

    /// Ends it as kill -9 does and starts it again; gives the seconds until it is ready.
    ///
    /// # Errors
    /// It does not come up.
    pub fn crash(&mut self) -> anyhow::Result<f64> {
        if let Some(collector) = &mut self.collector {
            collector.process().kill();
            let begun = Instant::now();
            collector.restart()?;
            return Ok(begun.elapsed().as_secs_f64());
        }
        self.process = None;
        let begun = Instant::now();
        self.start_peer()?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Makes it write all that it was fed into the files that it keeps for good: the collector is stopped, its head read
    /// back from the log and sealed in this process, and started again; VictoriaMetrics flushes and merges; Prometheus
    /// snapshots, its head as a block. Gives the CPU seconds that it took, wherever.
    ///
    /// # Errors
    /// It does not.
    pub fn flush(&mut self) -> anyhow::Result<f64> {
        let before = self.cpu_secs()?;
        match self.kind {
            Kind::Pitwatch => {
                let collector = self.collector.as_mut().context("no collector")?;
                collector.process().stop()?;
                let own = || host::process_cost(std::process::id()).context("no /proc");
                let before = own()?.0;
                let dir = self.dir.join("data/history");
                let (_, mut appender, _) = History::open(Arc::new(RealDisk), &dir, Config::default())?;
                appender.seal(unix_ms())?.context("nothing to seal")?.run()?;
                let spent = own()?.0 - before;
                drop(appender);
                collector.restart()?;
                return Ok(spent);
            }
            Kind::Victoria => {
                let api = self.api()?;
                for path in ["/internal/force_flush", "/internal/force_merge"] {
                    let (status, body) = api.get(path, &[])?;
                    anyhow::ensure!(status == 200, "{path}: HTTP {status}: {body}");
                }
            }
            Kind::Prometheus => {
                let status = Command::new("curl")
                    .args(["-sf", "-o", "/dev/null", "-X", "POST"])
                    .arg(format!("http://{}/api/v1/admin/tsdb/snapshot", self.http))
                    .status()?;
                anyhow::ensure!(status.success(), "Prometheus makes no snapshot");
            }
        }
        self.rest()?;
        Ok(self.cpu_secs()? - before)
    }

    /// Waits until it is at rest.
    ///
    /// # Errors
    /// It never is.
    pub fn rest(&self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let before = self.cpu_secs()?;
            std::thread::sleep(REST_WINDOW);
            if (self.cpu_secs()? - before) / REST_WINDOW.as_secs_f64() < REST_CORES {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "{} is never at rest", self.kind.name());
        }
    }

    /// The agents' identities, once.
    pub fn take_identities(&mut self) -> Vec<Identity> {
        std::mem::take(&mut self.identities)
    }

    /// Where agents connect.
    #[must_use]
    pub fn agents(&self) -> Option<SocketAddr> {
        self.collector.as_ref().map(|collector| collector.agents)
    }

    /// Where it is asked, and written to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The token that it wants; empty for the peers.
    ///
    /// # Errors
    /// The collector's file is not there.
    pub fn token(&self) -> anyhow::Result<String> {
        self.collector.as_ref().map_or_else(|| Ok(String::new()), Collector::token)
    }

    /// A client.
    ///
    /// # Errors
    /// No token.
    pub fn api(&self) -> anyhow::Result<Api> {
        Api::new(&self.url(), &self.token()?)
    }

    /// CPU seconds that the present process used.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_secs(&self) -> anyhow::Result<f64> {
        Ok(host::process_cost(self.id()?).with_context(|| format!("{} has ended", self.kind.name()))?.0)
    }

    /// The most resident bytes of the present process since its start or [`Server::forget_peak`].
    ///
    /// # Errors
    /// It has ended.
    pub fn peak_bytes(&self) -> anyhow::Result<f64> {
        host::peak_resident_bytes(self.id()?).with_context(|| format!("{} has ended", self.kind.name()))
    }

    /// Lets the peak begin anew.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.id()?), "5")?)
    }

    /// Bytes of files after [`Server::flush`]: data without index where they are apart, and everything. Of Prometheus
    /// its snapshot: every sample in blocks and no log.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn disk_bytes(&self) -> anyhow::Result<(u64, u64)> {
        match self.kind {
            Kind::Pitwatch => {
                let history = self.dir.join("data/history");
                Ok((bytes_under(&history.join("blocks"))?, bytes_under(&history)?))
            }
            Kind::Victoria => Ok((bytes_under(&self.dir.join("data/data"))?, bytes_under(&self.dir.join("data"))?)),
            Kind::Prometheus => {
                let snapshots = bytes_under(&self.dir.join("data/snapshots"))?;
                Ok((snapshots, snapshots))
            }
        }
    }

    /// Where the collector's history is.
    #[must_use]
    pub fn history_dir(&self) -> PathBuf {
        self.dir.join("data/history")
    }

    fn id(&self) -> anyhow::Result<u32> {
        let process = self.process.as_ref().or(self.collector.as_ref().and_then(|one| one.process.as_ref()));
        Ok(process.context("not running")?.id())
    }

    fn start_peer(&mut self) -> anyhow::Result<()> {
        let data = self.dir.join("data");
        let (mut command, ready) = if self.kind == Kind::Victoria {
            let mut command = Command::new("victoria-metrics");
            command.arg(format!("-storageDataPath={}", data.display())).arg("-retentionPeriod=2y");
            command.arg(format!("-httpListenAddr={}", self.http)).arg("-search.maxUniqueTimeseries=5000000");
            // What it gathers of itself would count as samples that nobody sent.
            command.args(["-loggerLevel=WARN", "-search.disableCache", "-search.latencyOffset=0s"]);
            (command, "/health")
        } else {
            fs::write(self.dir.join("prometheus.yml"), "global: {scrape_interval: 1h}\n")?;
            let mut command = Command::new("prometheus");
            command.arg(format!("--config.file={}", self.dir.join("prometheus.yml").display()));
            command.arg(format!("--storage.tsdb.path={}", data.display())).arg("--storage.tsdb.retention.time=2y");
            command.arg(format!("--web.listen-address={}", self.http));
            command.args(["--web.enable-remote-write-receiver", "--web.enable-admin-api", "--log.level=warn"]);
            (command, "/-/ready")
        };
        let mut process = Process::start(&mut command, &self.dir.join("log"))?;
        let api = Api::new(&self.url(), "")?;
        let end = Instant::now() + PATIENCE;
        while api.get(ready, &[]).map_or(true, |(status, _)| status != 200) {
            anyhow::ensure!(
                process.runs() && Instant::now() < end,
                "{} does not come up; its log ends:\n{}",
                self.kind.name(),
                tail(&process.log())
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
        Ok(())
    }
}

/// Bytes of all files under a directory, each counted once however many names it has.
fn bytes_under(dir: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let (mut seen, mut dirs, mut bytes) = (std::collections::HashSet::new(), vec![dir.to_owned()], 0);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let entry = entry?;
            // Files come and go while it is counted.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                dirs.push(entry.path());
            } else if seen.insert(metadata.ino()) {
                bytes += metadata.len();
            }
        }
    }
    Ok(bytes)
}
