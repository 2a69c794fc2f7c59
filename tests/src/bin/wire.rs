//! A real agent on this host at 1 s: bytes a sample on the wire and on disk, and what the agent costs.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use pitwatch_tests::fleet::figures::{Table, figure, verdict};
use pitwatch_tests::host;
use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{self, Agent, Collector, Process};

const NAME: &str = "wire";
/// The agent counts its UDP bytes every 5 s and sends the count every 10 s.
const COUNTED_WITHIN: Duration = Duration::from_secs(25);
/// The collector looks for a head to seal every 2 s, and sealing takes a moment.
const SEALED_WITHIN: Duration = Duration::from_secs(60);
/// Time between the collector's start and the window's, and between the window's end and the seal.
const MARGIN_SECS: u64 = 45;

/// One real agent and its collector, on loopback; prints a table.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seconds that are measured.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The agent to run, such as target/dist/pitwatch-agent; the one beside this program if it is not given.
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Also waits until what was sent is sealed into a block, and tells its size.
    #[arg(long)]
    blocks: bool,
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Counters at one moment.
#[derive(Clone, Copy)]
struct Counts {
    at: Instant,
    cpu_secs: f64,
    resident_bytes: f64,
    sent_bytes: f64,
    received_bytes: f64,
    samples: f64,
    stored_samples: f64,
    wal_bytes: f64,
}

fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let span_secs = (arguments.seconds + MARGIN_SECS).max(60);
    let config = format!("[history]\nblock_span = \"{span_secs}s\"\n");
    let collector = Collector::start(&dir.path().join("collector"), &config, "")?;
    let program = arguments.agent.clone().map_or_else(|| programs::path("pitwatch-agent"), Ok)?;
    let mut agent = start_agent(&dir.path().join("agent"), &collector, &program)?;
    let api = collector.api()?;
    let pid = agent.process().id();
    let before = counted(&api, pid)?;
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    let after = counted(&api, pid)?;
    let blocks = if arguments.blocks { sealed(&api)? } else { f64::NAN };

    let secs = after.at.duration_since(before.at).as_secs_f64();
    let samples = after.samples - before.samples;
    let series = api.value(&format!("count({{instance={NAME:?}}})"))?.unwrap_or(f64::NAN);
    let sent = (after.sent_bytes - before.sent_bytes) / samples;
    let received = (after.received_bytes - before.received_bytes) / samples;
    let wal = (after.wal_bytes - before.wal_bytes) / (after.stored_samples - before.stored_samples);
    let cpu = (after.cpu_secs - before.cpu_secs) / secs * 100.0;
    let mib = after.resident_bytes / f64::from(1 << 20);
    let binary_mib = std::fs::metadata(&program)?.len() as f64 / f64::from(1 << 20);
    let mut table = Table::new(&["measure", "value", "target"]);
    let mut row = |name: &str, value: String, target: String| table.row(vec![name.to_owned(), value, target]);
    row("measured", format!("{secs:.0} s, {series:.0} series, {:.0} samples/s", samples / secs), String::new());
    row("wire, UDP payload both ways, B/sample", figure(sent + received, 2), at_most(sent + received, 1.0));
    row("of it to the collector", figure(sent, 2), String::new());
    row("of it back", figure(received, 2), String::new());
    row("agent CPU, % of a core", figure(cpu, 2), String::new());
    row("agent RSS, MiB", figure(mib, 1), at_most(mib, 9.0));
    row("agent binary, MiB", figure(binary_mib, 2), String::new());
    row("write-ahead log, B/sample", figure(wal, 2), String::new());
    row(&format!("block of {span_secs} s, B/sample"), figure(blocks, 2), String::new());
    println!("{table}");
    agent.process().stop()?;
    Ok(())
}

fn at_most(value: f64, limit: f64) -> String {
    format!("≤ {limit}: {}", verdict(value <= limit))
}

fn start_agent(dir: &Path, collector: &Collector, program: &Path) -> anyhow::Result<Agent> {
    let mut agent = Agent::configure(dir, NAME, collector.agents, "")?;
    let output = agent.enroll(&collector.enroll_token()?)?;
    anyhow::ensure!(output.status.success(), "enrolment failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(dir.join("agent.toml"));
    agent.process = Some(Process::start(&mut command, &dir.join("agent.log"))?);
    Ok(agent)
}

/// Waits until the agent's counter of sent bytes moves (or appears), and reads everything then: so both ends of the
/// window lie alike between two counts.
fn counted(api: &Api, pid: u32) -> anyhow::Result<Counts> {
    let of_agent = |name: &str| api.value(&format!("{name}{{instance={NAME:?}}}")).ok().flatten();
    let sent = || of_agent("pitwatch_agent_udp_sent_bytes_total").unwrap_or(0.0);
    let end = Instant::now() + COUNTED_WITHIN;
    let before = sent();
    let sent_bytes = loop {
        let now = sent();
        if now > before {
            break now;
        }
        anyhow::ensure!(Instant::now() < end, "the agent's counters do not move");
        std::thread::sleep(Duration::from_millis(100));
    };
    let own = |name: &str| api.value(&format!("pitwatch_collector_{name}")).ok().flatten().unwrap_or(f64::NAN);
    let (cpu_secs, resident_bytes) = host::process_cost(pid).context("the agent has ended")?;
    Ok(Counts {
        at: Instant::now(),
        cpu_secs,
        resident_bytes,
        sent_bytes,
        received_bytes: of_agent("pitwatch_agent_udp_received_bytes_total").unwrap_or(f64::NAN),
        samples: of_agent("pitwatch_collector_agent_samples_total").unwrap_or(f64::NAN),
        stored_samples: own("samples_total"),
        wal_bytes: own("wal_bytes"),
    })
}

/// Waits for the first block; gives its bytes a sample.
fn sealed(api: &Api) -> anyhow::Result<f64> {
    let expr = "pitwatch_collector_block_bytes / (pitwatch_collector_block_samples > 0)";
    let rows = api.wait_for(expr, SEALED_WITHIN, |rows| rows.len() == 1)?;
    Ok(rows[0].1)
}
