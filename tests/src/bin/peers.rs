//! Pitwatch beside VictoriaMetrics and Prometheus on this machine: one table. `make bench-peers` installs Debian's
//! packages of the two and runs it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use pitwatch_tests::peers::alerts::{self, Size};
use pitwatch_tests::peers::data::Data;
use pitwatch_tests::peers::report::Report;
use pitwatch_tests::peers::server::Kind;
use pitwatch_tests::peers::{queries, store};

/// Metrics of the recording that queries ask for; of all hosts, so few series each.
const QUERIED: [&str; 17] = [
    "node_cpu_seconds_total",
    "node_load",
    "node_memory_Mem",
    "node_memory_Swap",
    "node_memory_Cached_",
    "node_memory_Buffers_",
    "node_filesystem_",
    "node_disk_read",
    "node_disk_written_bytes",
    "node_disk_io_time_seconds",
    "node_network_receive_bytes",
    "node_network_receive_packets",
    "node_network_receive_errs",
    "node_network_transmit_bytes",
    "node_pressure_",
    "node_vmstat_",
    "node_context_switches",
];

/// The same samples into Pitwatch, VictoriaMetrics and Prometheus, side by side.
#[derive(Debug, Parser)]
struct Arguments {
    /// A recording of a real host (zstd, scrapes in the text format after a line `# T <unix ms>` each).
    #[arg(long, env = "REPLAY", value_name = "FILE")]
    replay: Option<PathBuf>,
    /// The queries.
    #[arg(long, value_name = "FILE", default_value = "tests/peers/queries.tsv")]
    queries: PathBuf,
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_value = "store,series,recovery,cold,queries,alerts")]
    parts: Vec<String>,
    /// Hosts with all series of the recording, for disk and ingest.
    #[arg(long, default_value_t = 30)]
    hosts: usize,
    /// Seconds of each.
    #[arg(long, default_value_t = 1800)]
    seconds: usize,
    /// Hosts of 500 series, for the memory of active series.
    #[arg(long, default_value_t = 2000)]
    active_hosts: usize,
    /// Seconds that 200 hosts of 500 series have sent when the collector is killed.
    #[arg(long, default_value_t = 600)]
    recovery_seconds: usize,
    /// The peers are killed and started again, too.
    #[arg(long)]
    recovery_peers: bool,
    /// Hosts that are queried.
    #[arg(long, default_value_t = 200)]
    query_hosts: usize,
    /// Seconds of each.
    #[arg(long, default_value_t = 3700)]
    query_seconds: usize,
    /// Seconds between two ticks of each.
    #[arg(long, default_value_t = 1)]
    query_tick: usize,
    /// Seconds that a range query looks back, in 240 steps; windows of rates are a step at least, as Grafana has them.
    #[arg(long, default_value_t = 3600)]
    query_range: i64,
    /// Hosts that rules watch.
    #[arg(long, default_value_t = 500)]
    alert_hosts: usize,
    /// Rules over them.
    #[arg(long, default_value_t = 100)]
    rules: usize,
    /// Breaches, one after another.
    #[arg(long, default_value_t = 50)]
    breaches: usize,
}

impl Arguments {
    fn recording(&self) -> anyhow::Result<&Path> {
        self.replay.as_deref().context("this part wants a recording: --replay FILE, or REPLAY=FILE")
    }
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

fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    let wants = |part: &str| arguments.parts.iter().any(|one| one == part);
    let mut report = Report::default();
    let mut details = String::new();
    let recorded = |hosts, ticks| Data::recorded(arguments.recording()?, hosts, ticks, &|_| true);
    if wants("store") {
        let dir = tempfile::tempdir()?;
        let data = Arc::new(recorded(arguments.hosts, arguments.seconds)?);
        let mut servers = store::ingest(dir.path(), &data, &mut report)?;
        let history = servers.remove(0).history_dir();
        drop(servers);
        store::scan(&history, &mut report)?;
    }
    if wants("series") {
        let dir = tempfile::tempdir()?;
        let data = Arc::new(Data::made_up(500, arguments.active_hosts, 3)?);
        store::active_series(dir.path(), &data, &mut report)?;
    }
    if wants("recovery") {
        let dir = tempfile::tempdir()?;
        let data = Arc::new(Data::made_up(500, 200, arguments.recovery_seconds)?);
        let kinds: &[Kind] = if arguments.recovery_peers { &Kind::ALL } else { &[Kind::Pitwatch] };
        store::recovery(dir.path(), &data, kinds, &mut report)?;
    }
    if wants("cold") {
        let dir = tempfile::tempdir()?;
        store::cold(dir.path(), &recorded(1, 24 * 3600)?, &mut report)?;
    }
    if wants("queries") {
        details = ask(arguments, &mut report)?;
    }
    if wants("alerts") {
        let dir = tempfile::tempdir()?;
        let size = Size { hosts: arguments.alert_hosts, rules: arguments.rules, breaches: arguments.breaches };
        alerts::run(dir.path(), size, &mut report)?;
    }
    println!("{}\n{details}", report.table());
    Ok(())
}

fn ask(arguments: &Arguments, report: &mut Report) -> anyhow::Result<String> {
    let dir = tempfile::tempdir()?;
    let queries = queries::load(Path::new(&arguments.queries), arguments.query_range)?;
    let keep = |name: &str| QUERIED.iter().any(|prefix| name.starts_with(prefix));
    let (tick_secs, ticks) = (arguments.query_tick, arguments.query_seconds / arguments.query_tick.max(1));
    let data = Data::recorded(arguments.recording()?, arguments.query_hosts, ticks, &keep)?;
    let data = Arc::new(data.with_histogram()?.every(tick_secs as i64));
    let mut ignored = Report::default();
    let servers = store::ingest(dir.path(), &data, &mut ignored)?;
    queries::run(&servers, &queries, data.at_ms(data.ticks - 1), report)
}
