//! The collector and agents as child processes on loopback, each in a directory of its own, ended when dropped.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pitwatch_collector::access::{LOCAL_FILE, LocalFile};

use crate::http::Api;

/// A program that takes longer to be up, or to end, has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a program of the workspace was built: beside the running one.
///
/// # Errors
/// It was not built: `cargo build --workspace` first.
pub fn path(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built: run `make build` first"))
}

/// A port that was free a moment ago, for TCP and UDP.
///
/// # Errors
/// The system's.
pub fn free_port() -> io::Result<u16> {
    loop {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
}

/// A child process with its log, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, its output appended to `log`.
    ///
    /// # Errors
    /// The system's.
    pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it said so far, runs before included.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as kill -9 does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop and waits; gives whether it ended well.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> anyhow::Result<bool> {
        self.signal("TERM")?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!("process {} does not stop; its log ends:\n{}", self.id(), tail(&self.log()));
    }

    /// Sends a signal by its name.
    ///
    /// # Errors
    /// The system's.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status()?;
        anyhow::ensure!(status.success(), "cannot send {name} to process {}", self.id());
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The end of a log, for messages.
#[must_use]
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// A collector.
#[derive(Debug)]
pub struct Collector {
    /// Its directory: configuration, log, rules, data.
    pub dir: PathBuf,
    /// UDP, for agents.
    pub agents: SocketAddr,
    /// TCP, for the API.
    pub http: SocketAddr,
    /// The process while it runs.
    pub process: Option<Process>,
}

impl Collector {
    /// Starts a collector in `dir` with these tables as its configuration and these rules. Addresses and the data
    /// directory are set by the environment; a table `[alerting]` of the caller's stands instead of the rules.
    ///
    /// # Errors
    /// It does not come up; says what it logged.
    pub fn start(dir: &Path, config: &str, rules: &str) -> anyhow::Result<Self> {
        let agents = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        Self::start_at(dir, agents, http, config, rules)
    }

    /// As [`Collector::start`], at given addresses.
    ///
    /// # Errors
    /// As [`Collector::start`].
    pub fn start_at(
        dir: &Path,
        agents: SocketAddr,
        http: SocketAddr,
        config: &str,
        rules: &str,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(dir.join("rules"))?;
        fs::write(dir.join("rules/rules.yml"), if rules.is_empty() { "groups: []\n" } else { rules })?;
        let mut own = config.to_owned();
        if !config.contains("[alerting]") {
            own += &format!("\n[alerting]\nrules_dir = {:?}\nstock_rules = false\n", dir.join("rules"));
        }
        fs::write(dir.join("collector.toml"), own)?;
        let mut collector = Self { dir: dir.to_owned(), agents, http, process: None };
        collector.restart()?;
        Ok(collector)
    }

    /// Starts it (again) and waits until it is ready.
    ///
    /// # Errors
    /// As [`Collector::start`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process = None;
        let mut command = self.program(&["run"])?;
        let mut process = Process::start(&mut command, &self.dir.join("collector.log"))?;
        let end = Instant::now() + PATIENCE;
        let file = self.data_dir().join(LOCAL_FILE);
        let (mut said, mut api) = (Vec::new(), None);
        let is_ready = |api: &Api| api.get("/-/ready", &[]).is_ok_and(|(status, _)| status == 200);
        while !api.as_ref().is_some_and(is_ready) {
            // What a run before said of its address may not be true of this one.
            let now = fs::read(&file).unwrap_or_default();
            if now != said {
                (said, api) = (now, Api::local(&self.data_dir()).ok());
            }
            anyhow::ensure!(
                process.runs() && Instant::now() < end,
                "the collector does not come up; its log ends:\n{}",
                tail(&process.log())
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
        Ok(())
    }

    /// Runs `pitwatch-collector` with a command and this collector's configuration, to its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.program(arguments)?.output()?)
    }

    fn program(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(path("pitwatch-collector")?);
        command.args(arguments).env("PITWATCH_COLLECTOR_CONFIG", self.dir.join("collector.toml"));
        command.env("PITWATCH_COLLECTOR_DATA_DIR", self.data_dir());
        command.env("PITWATCH_COLLECTOR_AGENTS", self.agents.to_string());
        command.env("PITWATCH_COLLECTOR_HTTP", self.http.to_string());
        Ok(command)
    }

    /// The process.
    ///
    /// # Panics
    /// If it was ended: a mistake of the test.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the collector runs")
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The local administrator's token.
    ///
    /// # Errors
    /// The file is not there or not readable.
    pub fn token(&self) -> anyhow::Result<String> {
        let file: LocalFile = serde_json::from_slice(&fs::read(self.data_dir().join(LOCAL_FILE))?)?;
        Ok(file.token)
    }

    /// A client of its API.
    ///
    /// # Errors
    /// As [`Collector::token`].
    pub fn api(&self) -> anyhow::Result<Api> {
        Api::local(&self.data_dir())
    }

    /// Runs the command line `pitwatch` against it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn cli(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(path("pitwatch")?);
        command.env("PITWATCH_COLLECTOR_DIR", self.data_dir()).env("NO_COLOR", "1").args(arguments);
        Ok(command.output()?)
    }

    /// A new enrolment token.
    ///
    /// # Errors
    /// The command line failed.
    pub fn enroll_token(&self) -> anyhow::Result<String> {
        let output = self.cli(&["token", "create"])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let token = text.split_whitespace().find(|word| word.starts_with("pwe1_"));
        token.map(str::to_owned).with_context(|| format!("no token in {text:?}: {output:?}"))
    }
}

/// An agent.
#[derive(Debug)]
pub struct Agent {
    /// Its directory: configuration, log, data.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// The process while it runs.
    pub process: Option<Process>,
}

impl Agent {
    /// Writes an agent's configuration into `dir`, with these lines added.
    ///
    /// # Errors
    /// The system's.
    pub fn configure(dir: &Path, name: &str, collector: SocketAddr, config: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let data = dir.join("data");
        let own = format!("name = {name:?}\ncollector = \"{collector}\"\ndata_dir = {data:?}\n{config}\n");
        fs::write(dir.join("agent.toml"), own)?;
        Ok(Self { dir: dir.to_owned(), name: name.to_owned(), process: None })
    }

    /// Configures, enrols and starts an agent.
    ///
    /// # Errors
    /// Any of it fails.
    pub fn start(dir: &Path, name: &str, collector: &Collector, config: &str) -> anyhow::Result<Self> {
        let mut agent = Self::configure(dir, name, collector.agents, config)?;
        let output = agent.enroll(&collector.enroll_token()?)?;
        anyhow::ensure!(output.status.success(), "enrolment failed: {}", String::from_utf8_lossy(&output.stderr));
        agent.restart()?;
        Ok(agent)
    }

    /// Runs `pitwatch-agent` with a command and this agent's configuration.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn command(&self, command: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        let config = self.dir.join("agent.toml");
        let mut program = Command::new(path("pitwatch-agent")?);
        Ok(program.arg(command).arg("--config").arg(config).args(arguments).output()?)
    }

    /// Enrols with a token.
    ///
    /// # Errors
    /// It cannot be started; a refusal is in the output.
    pub fn enroll(&self, token: &str) -> anyhow::Result<Output> {
        self.command("enroll", &["--token", token])
    }

    /// Starts it (again).
    ///
    /// # Errors
    /// The system's.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process = None;
        let mut command = Command::new(path("pitwatch-agent")?);
        command.arg("run").arg("--config").arg(self.dir.join("agent.toml"));
        self.process = Some(Process::start(&mut command, &self.dir.join("agent.log"))?);
        Ok(())
    }

    /// The process.
    ///
    /// # Panics
    /// If it was ended: a mistake of the test.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent runs")
    }
}
