//! The demo: a collector and an agent of this very host on loopback, a moment of load, an alert that fires and
//! resolves at a local webhook; everything in a temporary directory that goes with it.
//!
//! `DEMO_SECONDS` ends it by itself; then it exits 0 only if samples of this host were gathered, stored and queried.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pitwatch_tests::host;
use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Agent, Collector, free_port};
use pitwatch_tests::webhook::{Message, Webhook};

const RULES: &str = include_str!("../../../packaging/rules/demo.yml");
/// The ports of DESIGN, if nobody has them.
const PORTS: (u16, u16) = (4717, 4718);
/// When the load begins, seconds after the agent.
const LOAD_AT_SECS: u64 = 4;
/// How long it lasts, seconds.
const LOAD_SECS: u64 = 11;
/// Where there is no terminal, the live line is printed this often, seconds.
const LIVE_EVERY_SECS: u64 = 5;
/// The argument with which this program is its own load.
const BURN: &str = "burn";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(BURN) {
        burn();
    }
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Keeps one core busy until killed, and no longer than the load may last.
fn burn() -> ! {
    let end = Instant::now() + Duration::from_secs(LOAD_SECS * 2);
    let mut x = 1_u64;
    while Instant::now() < end {
        for _ in 0..1_000_000 {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    std::process::exit(0)
}

fn demo() -> anyhow::Result<()> {
    let limit = match std::env::var("DEMO_SECONDS") {
        Ok(text) => Some(Duration::from_secs(text.parse().context("DEMO_SECONDS is a number of seconds")?)),
        Err(_) => None,
    };
    let asked_to_stop = stop_flag()?;
    let dir = tempfile::tempdir()?;
    let hook = Webhook::start()?;
    let name = pitwatch_agent_name();
    let (mut collector, mut agent) = start(dir.path(), &name, &hook)?;
    let api = collector.api()?;
    println!(
        "collector http://{} · agent {name:?} enrolled over QUIC on {}\n\
         open      http://{}/?token={}",
        collector.http,
        collector.agents,
        collector.http,
        collector.token()?
    );
    println!(
        "try       PITWATCH_COLLECTOR_DIR={} {} query 'rate(node_cpu_seconds_total{{mode=\"user\"}}[10s])'\n\
         for {LOAD_SECS} s this host will be busy on purpose, so that an alert fires and resolves. Ctrl-C stops and leaves nothing behind.\n",
        collector.data_dir().display(),
        pitwatch_tests::programs::path("pitwatch")?.display(),
    );

    let mut show = Show::new(&name);
    let begun = Instant::now();
    let mut load = Load::default();
    while !asked_to_stop.load(Ordering::Relaxed) && limit.is_none_or(|limit| begun.elapsed() < limit) {
        load.follow(begun.elapsed())?;
        show.messages(&hook.messages());
        if let Err(error) = show.live(&api, &mut agent) {
            show.line(&format!("no figures yet: {error:#}"));
        }
        anyhow::ensure!(collector.process().runs() && agent.process().runs(), "a program of the demo ended by itself");
        std::thread::sleep(Duration::from_secs(1).saturating_sub(show.spent()));
    }
    drop(load);
    let verdict = verify(&api, &name);
    show.end();
    agent.process().stop()?;
    collector.process().stop()?;
    let (fired, resolved) = (show.fired, show.resolved);
    match limit {
        None => println!("stopped; nothing is left behind"),
        Some(_) => {
            let facts = verdict?;
            println!("verified: {facts}; alert fired: {}, resolved: {}", yes(fired), yes(resolved));
        }
    }
    Ok(())
}

fn yes(so: bool) -> &'static str {
    if so { "yes" } else { "no" }
}

/// The host's name as far as an agent may have it.
fn pitwatch_agent_name() -> String {
    let name: String = host::name().chars().filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).collect();
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) { name } else { "this-host".to_owned() }
}

fn start(dir: &Path, name: &str, hook: &Webhook) -> anyhow::Result<(Collector, Agent)> {
    let free = |port: u16| {
        let loopback = ([127, 0, 0, 1], port);
        let open = std::net::TcpListener::bind(std::net::SocketAddr::from(loopback)).is_ok()
            && std::net::UdpSocket::bind(std::net::SocketAddr::from(loopback)).is_ok();
        if open { Ok(port) } else { free_port() }
    };
    let agents = ([127, 0, 0, 1], free(PORTS.0)?).into();
    let http = ([127, 0, 0, 1], free(PORTS.1)?).into();
    let collector = Collector::start_at(&dir.join("collector"), agents, http, &hook.config(), RULES)?;
    let labels = "[labels]\nrole = \"demo\"\n[signals]\nprocess_cadence = \"2s\"\n";
    let agent = Agent::start(&dir.join("agent"), name, &collector, labels)?;
    Ok((collector, agent))
}

/// Compares what was queried with what /proc says now.
fn verify(api: &Api, name: &str) -> anyhow::Result<String> {
    let memory = format!("node_memory_MemTotal_bytes{{instance={name:?}}}");
    let total = api.value(&memory)?.context("no memory of this host was stored")?;
    let expected = host::memory_bytes("MemTotal").context("no MemTotal in /proc/meminfo")?;
    anyhow::ensure!(total == expected, "stored {total} bytes of memory, /proc says {expected}");
    let selector = format!("node_cpu_seconds_total{{instance={name:?},mode=\"idle\"}}");
    let stored: usize = api.samples(&selector, 600)?.iter().map(|(_, samples)| samples.len()).sum();
    anyhow::ensure!(stored >= 2, "only {stored} samples of this host's idle time were stored");
    let series = api.value(&format!("count({{instance={name:?}}})"))?.unwrap_or(0.0);
    Ok(format!("{series} series of this host, {stored} samples of its idle time, memory as /proc says"))
}

/// The load, at its time.
#[derive(Default)]
struct Load {
    burners: Vec<Child>,
    done: bool,
}

impl Load {
    fn follow(&mut self, elapsed: Duration) -> anyhow::Result<()> {
        let secs = elapsed.as_secs();
        if !self.done && self.burners.is_empty() && secs >= LOAD_AT_SECS {
            let cores = std::thread::available_parallelism()?.get();
            for _ in 0..cores {
                let mut command = Command::new(std::env::current_exe()?);
                self.burners.push(command.arg(BURN).stdin(Stdio::null()).spawn()?);
            }
        }
        if secs >= LOAD_AT_SECS + LOAD_SECS && !self.burners.is_empty() {
            self.end();
        }
        Ok(())
    }

    fn end(&mut self) {
        for mut burner in self.burners.drain(..) {
            let _ = burner.kill();
            let _ = burner.wait();
        }
        self.done = true;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the terminal shows.
struct Show {
    name: String,
    terminal: bool,
    begun: Instant,
    cycle: Instant,
    printed_secs: u64,
    messages: usize,
    cost: Option<(Instant, f64)>,
    fired: bool,
    resolved: bool,
}

impl Show {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            terminal: std::io::stdout().is_terminal(),
            begun: Instant::now(),
            cycle: Instant::now(),
            printed_secs: 0,
            messages: 0,
            cost: None,
            fired: false,
            resolved: false,
        }
    }

    /// Time since the last live line.
    fn spent(&mut self) -> Duration {
        let spent = self.cycle.elapsed();
        self.cycle += Duration::from_secs(1).max(spent);
        spent
    }

    /// A line that stays.
    fn line(&self, text: &str) {
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        println!("{clear}{text}");
    }

    fn live(&mut self, api: &Api, agent: &mut Agent) -> anyhow::Result<()> {
        let secs = self.begun.elapsed().as_secs();
        if !self.terminal && (secs < self.printed_secs + LIVE_EVERY_SECS || secs < 2) {
            return Ok(());
        }
        self.printed_secs = secs;
        let name = &self.name;
        let ask = |expr: &str| api.value(expr);
        let series = ask(&format!("count({{instance={name:?}}})"))?;
        let rate = ask(&format!("rate(pitwatch_collector_agent_samples_total{{instance={name:?}}}[10s])"))?;
        let wire = ask(&format!(
            "increase(pitwatch_agent_udp_sent_bytes_total{{instance={name:?}}}[30s]) \
             + increase(pitwatch_agent_udp_received_bytes_total{{instance={name:?}}}[30s])"
        ))?;
        let wired = ask(&format!("increase(pitwatch_collector_agent_samples_total{{instance={name:?}}}[30s])"))?;
        let disk =
            ask("(pitwatch_collector_wal_bytes + pitwatch_collector_block_bytes) / pitwatch_collector_samples_total")?;
        let busy =
            ask(&format!("100 * (1 - avg(rate(node_cpu_seconds_total{{instance={name:?},mode=\"idle\"}}[5s])))"))?;
        let mut text = format!(
            "live: {} series · {} samples/s · CPU {}% · {} B/sample on disk",
            figure(series, 0),
            figure(rate, 0),
            figure(busy, 0),
            figure(disk, 2),
        );
        if let (Some(bytes), Some(samples)) = (wire, wired)
            && samples > 0.0
        {
            text += &format!(" · {:.2} B/sample on the wire", bytes / samples);
        }
        if let Some((cpu_secs, resident)) = host::process_cost(agent.process().id()) {
            let now = Instant::now();
            if let Some((then, before)) = self.cost.filter(|(then, _)| now.duration_since(*then).as_millis() > 500) {
                let share = (cpu_secs - before) / now.duration_since(then).as_secs_f64() * 100.0;
                text += &format!(" · agent {share:.1}% CPU, {:.1} MiB", resident / f64::from(1 << 20));
            }
            // A longer window steadies the figure: the first reading is kept.
            self.cost.get_or_insert((now, cpu_secs));
        }
        if self.terminal {
            print!("\r\x1b[2K{text}");
            std::io::stdout().flush()?;
        } else {
            println!("{text}");
        }
        Ok(())
    }

    fn messages(&mut self, messages: &[Message]) {
        for message in &messages[self.messages.min(messages.len())..] {
            let alert = &message.body["alerts"][0];
            let text = |at: &serde_json::Value| at.as_str().unwrap_or_default().to_owned();
            let (status, name) = (text(&alert["status"]), text(&alert["labels"]["alertname"]));
            let who = text(&alert["annotations"]["who"]);
            let secs = self.begun.elapsed().as_secs();
            let about = text(&alert["annotations"]["summary"]);
            let about = [about, who].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ");
            self.line(&format!(
                "{:02}:{:02} {status:<8} {name} on {}: {about}   → webhook 200",
                secs / 60,
                secs % 60,
                self.name
            ));
            self.fired |= status == "firing";
            self.resolved |= status == "resolved";
        }
        self.messages = messages.len();
    }

    fn end(&self) {
        if self.terminal {
            println!();
        }
    }
}

fn figure(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

/// Set when the process is asked to stop.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            set.store(true, Ordering::Relaxed);
        });
    });
    Ok(flag)
}
