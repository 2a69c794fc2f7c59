//! A stage for whoever looks at the web interface, person or test: a collector, a fleet of made-up hosts of which one is
//! sick and one is gone, and a real agent of this host whose labels and processes try to be script.
//!
//! Prints one line of JSON with the address and tokens when all is up, and ends with its time, or when its standard
//! input does.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use pitwatch_collector::clock::unix_ms;
use pitwatch_disk::RealDisk;
use pitwatch_history::{Config, History, SourceName};
use pitwatch_shared::codec::Encoder;
use pitwatch_shared::model::{Lane, Mark};
use pitwatch_tests::fleet::signals::Pattern;
use pitwatch_tests::fleet::{Fleet, address, identities};
use pitwatch_tests::programs::{Agent, Collector};
use serde_json::json;

/// The first argument with which this program is a process that the real agent sees.
const BURN: &str = "burn";
/// A name that a careless page would run.
const EVIL_PROCESS: &str = "<img src=x>";
/// The host that is enrolled, has a past, and is away.
const GONE: &str = "db-us-9";
/// The one of the fleet that is sick.
const SICK_NTH: usize = 3;
/// Everybody must be there within this.
const PATIENCE: Duration = Duration::from_secs(120);
/// Ticks between two commits of the past.
const COMMIT_TICKS: usize = 600;

const RULES: &str = r#"groups:
  - name: stage
    rules:
      - alert: AllCoresBusy
        expr: 100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle",instance=~"(game|db|lobby).*"}[10s]))) > 90
        for: 2s
        labels:
          severity: critical
          note: '"><script>window.pwned = 1</script>'
        annotations:
          summary: 'All cores of {{ $labels.instance }} are busy'
          description: '{{ printf "%.0f" $value }}% over 10 s. <img src=x onerror="window.pwned = 2">'
          impact: Players see lag.
          action: See which process uses the cores.
          runbook_url: 'javascript:window.pwned=3'
"#;

/// A collector and hosts to look at.
#[derive(Debug, Parser)]
struct Arguments {
    /// Made-up hosts.
    #[arg(long, default_value_t = 1000)]
    hosts: usize,
    /// Ends after so many seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Hours of the past, second by second, of the host that is gone.
    #[arg(long, default_value_t = 1)]
    past_hours: i64,
    /// Speaks TLS, with a certificate of the collector's own authority.
    #[arg(long)]
    tls: bool,
    /// Leaves the real agent out, and with it all that is not the same on every machine.
    #[arg(long)]
    made_up_only: bool,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(BURN) {
        burn();
    }
    match stage(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Uses a tenth of a core until its parent is gone.
fn burn() -> ! {
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        let end = Instant::now() + Duration::from_millis(10);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_millis(90));
    }
    std::process::exit(0)
}

fn stage(arguments: &Arguments) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (agents_at, http) = (address()?, address()?);
    let data_dir = dir.path().join("collector/data");
    let hosts: Vec<(String, Vec<(String, String)>)> = (0..arguments.hosts).map(host).collect();
    let names: Vec<String> = hosts.iter().map(|(name, _)| name.clone()).chain([GONE.to_owned()]).collect();
    let mut identities = identities::enrol_named(&data_dir, agents_at, &names)?;
    identities.truncate(arguments.hosts);
    remember(&data_dir, arguments.past_hours)?;
    let (scheme, http_config) = if arguments.tls { ("https", "[http]\ntls = true\n") } else { ("http", "") };
    let mut collector = Collector::start_at(&dir.path().join("collector"), agents_at, http, http_config, RULES)?;
    let begun = Instant::now();
    let labels = |nth: usize| hosts[nth].1.clone();
    let fleet = Fleet::start_labelled(identities, agents_at, Pattern::host()?, dir.path(), labels)?;
    let joined = fleet.wait_all_back(begun, PATIENCE);
    anyhow::ensure!(joined.len() == arguments.hosts, "{} of {} hosts joined", joined.len(), arguments.hosts);
    let sick = fleet.agents().get(SICK_NTH).or(fleet.agents().first());
    sick.inspect(|agent| agent.set_level(1.0));
    let real = if arguments.made_up_only { None } else { Some(Real::start(dir.path(), &collector)?) };

    let ready = json!({
        "url": format!("{scheme}://{http}"),
        "admin": collector.token()?,
        "hosts": arguments.hosts,
        "sick": sick.map(|agent| agent.name.clone()),
        "gone": GONE,
        "real": real.as_ref().map(|_| Real::NAME),
        "process": EVIL_PROCESS,
    });
    println!("{ready}");
    std::io::stdout().flush()?;
    wait(Duration::from_secs(arguments.seconds));
    drop(real);
    drop(fleet);
    collector.process().stop()?;
    Ok(())
}

/// Until the time is over or whoever started this lets go.
fn wait(limit: Duration) {
    let left_alone = Arc::new(AtomicBool::new(false));
    let heard = left_alone.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        heard.store(true, Ordering::Relaxed);
    });
    let end = Instant::now() + limit;
    while Instant::now() < end && !left_alone.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The name and labels of a host of the fleet.
fn host(nth: usize) -> (String, Vec<(String, String)>) {
    const ROLES: [(&str, &str); 4] = [("game", "game"), ("game", "game"), ("lobby", "lobby"), ("db", "database")];
    const REGIONS: [&str; 3] = ["eu", "us", "asia"];
    let ((short, role), region) = (ROLES[nth % ROLES.len()], REGIONS[nth / ROLES.len() % REGIONS.len()]);
    let env = if nth % 10 == 9 { "staging" } else { "prod" };
    let labels = [("role", role), ("region", region), ("env", env)];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (format!("{short}-{region}-{nth}"), labels.into())
}

/// Puts a past of the host that is gone into the store that the collector will open.
fn remember(data_dir: &Path, hours: i64) -> anyhow::Result<()> {
    std::fs::create_dir_all(data_dir)?;
    let (_history, mut appender, _) = History::open(Arc::new(RealDisk), &data_dir.join("history"), Config::default())?;
    let (pattern, source, mut encoder) = (Pattern::host()?, SourceName::agent(GONE), Encoder::new());
    let (mut seq, mut payload, mut at) = (0, Vec::new(), pattern.begin());
    encoder.schema(&mut payload, true, 0, &[], pattern.defs()).context("schema")?;
    let end_ms = unix_ms() / 1000 * 1000 - 120_000;
    let ticks = usize::try_from(hours * 3600)?;
    for tick in 0..=ticks {
        seq += 1;
        appender.append(&source, Lane::Metrics, Mark { epoch: 1, seq }, &payload)?;
        payload.clear();
        let (values, _) = pattern.next(&mut at, 0.0);
        encoder.tick(&mut payload, 0, end_ms - ((ticks - tick) as i64) * 1000, values).context("tick")?;
        if tick % COMMIT_TICKS == 0 {
            appender.commit()?;
        }
    }
    appender.commit()?;
    Ok(())
}

/// The real agent, and a process for it to see.
struct Real {
    _agent: Agent,
    process: Child,
}

impl Real {
    const NAME: &str = "this-host";

    fn start(dir: &Path, collector: &Collector) -> anyhow::Result<Self> {
        let program = dir.join(EVIL_PROCESS);
        symlink(std::env::current_exe()?, &program)?;
        let process = Command::new(&program).arg(BURN).stdin(Stdio::null()).spawn()?;
        let labels = "[labels]\nrole = \"demo\"\nteam = \"<script>window.pwned = 4</script>\"\n\
             owner = \"'\\\"><svg onload=window.pwned=5>\"\n[signals]\nprocess_cadence = \"1s\"\n";
        let agent = Agent::start(&dir.join("agent"), Self::NAME, collector, labels)?;
        Ok(Self { _agent: agent, process })
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
