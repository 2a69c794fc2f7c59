//! What watching this host costs it: the agent beside node_exporter with vmagent, collectd and netdata, all at one
//! second, on the same host at the same time.
//!
//! Each sends what it gathers to loopback: the agent to a collector, vmagent and collectd into sinks that count bytes;
//! netdata keeps its own. A program that is not installed is left out. Debian's packages: prometheus-node-exporter,
//! victoria-metrics, collectd-core, netdata-core.
//!
//! With `--processes` or `--mounts` all of it runs in namespaces of its own (root only), where that many sleeping processes
//! and small filesystems are made first; they end with it. docs/benchmarks/agent.md has the figures.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use pitwatch_tests::fleet::figures::{Table, figure};
use pitwatch_tests::host;
use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{self, Agent, Collector, Process, free_port};

const NAME: &str = "cost";
/// Until every program is up and at its pace.
const WARM_UP: Duration = Duration::from_secs(20);
/// The agent counts its UDP bytes every 5 s and sends the count every 10 s.
const COUNTED_WITHIN: Duration = Duration::from_secs(25);
/// What sleeps ends by itself this long after the figures should be there.
const SLEEP_MARGIN: Duration = Duration::from_secs(180);
/// Most processes and mounts that may be asked for.
const PROCESSES_MAX: u32 = 20_000;
const MOUNTS_MAX: u32 = 2_000;
const COLLECTD_PLUGINS: [&str; 14] = [
    "cpu",
    "memory",
    "swap",
    "disk",
    "interface",
    "load",
    "df",
    "processes",
    "vmem",
    "protocols",
    "entropy",
    "uptime",
    "contextswitch",
    "conntrack",
];

/// The agent and its peers at work on this host; prints a table.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seconds that are measured.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The agent to run, such as target/dist/pitwatch-agent; the one beside this program if it is not given.
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Processes that sleep while it is measured, in a namespace of their own.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=PROCESSES_MAX as i64))]
    processes: u32,
    /// Filesystems that are mounted while it is measured, in a namespace of their own.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=MOUNTS_MAX as i64))]
    mounts: u32,
    /// In the namespaces already.
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outside = !arguments.inside && (arguments.processes > 0 || arguments.mounts > 0);
    let done = if outside { in_namespaces() } else { bench(&arguments) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs this program anew as the first process of namespaces of its own: all that it starts ends with it, whatever happens.
fn in_namespaces() -> anyhow::Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).arg("--inside");
    let status = command.status().context("cannot start unshare (Debian's util-linux)")?;
    anyhow::ensure!(status.success(), "in namespaces: {status}; they need root");
    Ok(())
}

/// Makes what the host has beside those that watch it; ends with the namespaces.
fn crowd(dir: &Path, arguments: &Arguments) -> anyhow::Result<Vec<Process>> {
    if !arguments.inside {
        return Ok(Vec::new());
    }
    for number in 0..arguments.mounts {
        let point = dir.join(format!("mounts/{number}"));
        fs::create_dir_all(&point)?;
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&point).status()?;
        anyhow::ensure!(status.success(), "cannot mount at {}", point.display());
    }
    let sleep = 2 * WARM_UP + 2 * COUNTED_WITHIN + Duration::from_secs(arguments.seconds) + SLEEP_MARGIN;
    let mut sleepers = Vec::new();
    for _ in 0..arguments.processes {
        let mut command = Command::new("sleep");
        command.arg(sleep.as_secs().to_string());
        sleepers.push(Process::start(&mut command, &dir.join("sleepers.log"))?);
    }
    Ok(sleepers)
}

/// Bytes and samples sent so far; NaN where it cannot be known.
type Sent = Box<dyn Fn() -> (f64, f64)>;

/// One way to watch a host: its processes, which end when it is dropped.
struct Way {
    name: &'static str,
    processes: Vec<Process>,
    binaries: Vec<PathBuf>,
    sent: Sent,
}

/// What a way used until now.
struct Used {
    cpu_secs: f64,
    resident_bytes: f64,
    sent: (f64, f64),
}

impl Way {
    fn used(&self) -> anyhow::Result<Used> {
        let (mut cpu_secs, mut resident_bytes) = (0.0, 0.0);
        for pid in self.processes.iter().flat_map(|process| with_children(process.id())) {
            // A child that ended meanwhile took its time with it.
            let Some((cpu, resident)) = host::process_cost(pid) else { continue };
            cpu_secs += cpu;
            resident_bytes += resident;
        }
        anyhow::ensure!(cpu_secs > 0.0, "{} does not run", self.name);
        Ok(Used { cpu_secs, resident_bytes, sent: (self.sent)() })
    }
}

/// A process, and those that it started.
fn with_children(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            all.extend(with_children(child));
        }
    }
    all
}

fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let _crowd = crowd(dir.path(), arguments)?;
    let collector = Collector::start(&dir.path().join("collector"), "[alerting]\nstock_rules = false\n", "")?;
    let program = arguments.agent.clone().map_or_else(|| programs::path("pitwatch-agent"), Ok)?;
    let mut ways = vec![pitwatch(&dir.path().join("agent"), &collector, &program)?];
    for (what, way) in [
        ("prometheus-node-exporter and vmagent", node_exporter(dir.path())),
        ("collectd", collectd(dir.path())),
        ("netdata", netdata(dir.path())),
    ] {
        match way {
            Ok(way) => ways.push(way),
            Err(error) => eprintln!("{what}: left out: {error:#}"),
        }
    }
    std::thread::sleep(WARM_UP);
    let began = (Instant::now(), load());
    // The agent's counters move in steps: both ends of its window lie right after one.
    wait_for_count(&ways[0])?;
    let mut before = Vec::new();
    for way in &ways {
        before.push((Instant::now(), way.used()?));
    }
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    wait_for_count(&ways[0])?;
    let mut table =
        Table::new(&["", "CPU, % of a core", "RSS, MiB", "wire, B/s", "samples/s", "B a sample", "binary, MiB"]);
    for (way, (then, before)) in ways.iter().zip(before) {
        let after = way.used()?;
        let secs = then.elapsed().as_secs_f64();
        let (bytes, samples) = (after.sent.0 - before.sent.0, after.sent.1 - before.sent.1);
        let binary: u64 = way.binaries.iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
        let mib = f64::from(1 << 20);
        table.row(vec![
            way.name.to_owned(),
            figure((after.cpu_secs - before.cpu_secs) / secs * 100.0, 2),
            figure(after.resident_bytes / mib, 1),
            figure(bytes / secs, 0),
            figure(samples / secs, 0),
            figure(bytes / samples, 2),
            figure(binary as f64 / mib, 1),
        ]);
    }
    let secs = began.0.elapsed().as_secs();
    let (processes, mounts) = (processes(), mounts());
    println!(
        "load of the machine {} before, {} after; {processes} processes, {mounts} mounts; {secs} s\n",
        began.1,
        load()
    );
    println!("{table}");
    Ok(())
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn processes() -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()).count()
}

fn mounts() -> usize {
    fs::read_to_string("/proc/self/mounts").unwrap_or_default().lines().count()
}

fn wait_for_count(agent: &Way) -> anyhow::Result<()> {
    let (end, before) = (Instant::now() + COUNTED_WITHIN, (agent.sent)().0);
    loop {
        let now = (agent.sent)().0;
        if now > before || before.is_nan() && now > 0.0 {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "the agent's counters do not move");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn pitwatch(dir: &Path, collector: &Collector, program: &Path) -> anyhow::Result<Way> {
    let agent = Agent::configure(dir, NAME, collector.agents, "")?;
    let output = agent.enroll(&collector.enroll_token()?)?;
    anyhow::ensure!(output.status.success(), "enrolment failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(dir.join("agent.toml"));
    let process = Process::start(&mut command, &dir.join("agent.log"))?;
    let api = collector.api()?;
    let sent = move || {
        let of_agent = |name: &str| value(&api, &format!("{name}{{instance={NAME:?}}}"));
        let bytes =
            of_agent("pitwatch_agent_udp_sent_bytes_total") + of_agent("pitwatch_agent_udp_received_bytes_total");
        (bytes, of_agent("pitwatch_collector_agent_samples_total"))
    };
    Ok(Way {
        name: "Pitwatch agent",
        processes: vec![process],
        binaries: vec![program.to_owned()],
        sent: Box::new(sent),
    })
}

fn value(api: &Api, query: &str) -> f64 {
    api.value(query).ok().flatten().unwrap_or(f64::NAN)
}

/// Where a program is, if it is installed.
fn installed(name: &str) -> anyhow::Result<PathBuf> {
    let dirs = ["/usr/bin", "/usr/sbin"].map(|dir| Path::new(dir).join(name));
    dirs.into_iter().find(|path| path.exists()).with_context(|| format!("{name} is not installed"))
}

fn node_exporter(dir: &Path) -> anyhow::Result<Way> {
    let (exporter, agent) = (installed("prometheus-node-exporter")?, installed("vmagent")?);
    let (scraped, own) = (free_port()?, free_port()?);
    let (sink, bytes) = http_sink()?;
    let config = dir.join("vmagent.yml");
    fs::write(
        &config,
        format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:{scraped}']\n"
        ),
    )?;
    let mut command = Command::new(&exporter);
    command.arg(format!("--web.listen-address=127.0.0.1:{scraped}"));
    let first = Process::start(&mut command, &dir.join("node_exporter.log"))?;
    let mut command = Command::new(&agent);
    command.arg(format!("-promscrape.config={}", config.display()));
    command.arg(format!("-remoteWrite.url=http://127.0.0.1:{sink}/api/v1/write"));
    command.arg(format!("-remoteWrite.tmpDataPath={}", dir.join("vmagent").display()));
    command.arg(format!("-httpListenAddr=127.0.0.1:{own}"));
    let second = Process::start(&mut command, &dir.join("vmagent.log"))?;
    let samples = move || {
        let page = get(own).unwrap_or_default();
        let rows = page.lines().filter(|line| line.starts_with("vm_protoparser_rows_read_total{type=\"promscrape\"}"));
        rows.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
    };
    Ok(Way {
        name: "node_exporter + vmagent",
        processes: vec![first, second],
        binaries: vec![exporter, agent],
        sent: Box::new(move || (bytes.load(Ordering::Relaxed) as f64, samples())),
    })
}

fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// Takes every request, answers that it is done, and counts bytes, headers among them.
fn http_sink() -> anyhow::Result<(u16, Arc<AtomicU64>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let bytes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&bytes);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || serve(stream, &counted));
        }
    });
    Ok((port, bytes))
}

fn serve(mut stream: TcpStream, counted: &AtomicU64) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            read_more(&mut stream, &mut buffer, counted)?;
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let whole = head + length.unwrap_or(0);
        while buffer.len() < whole {
            read_more(&mut stream, &mut buffer, counted)?;
        }
        buffer.drain(..whole);
        stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").ok()?;
    }
}

fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>, counted: &AtomicU64) -> Option<()> {
    let mut part = [0; 16 * 1024];
    let read = stream.read(&mut part).ok().filter(|read| *read > 0)?;
    counted.fetch_add(read as u64, Ordering::Relaxed);
    buffer.extend(&part[..read]);
    Some(())
}

fn collectd(dir: &Path) -> anyhow::Result<Way> {
    let program = installed("collectd")?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = socket.local_addr()?.port();
    let bytes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&bytes);
    std::thread::spawn(move || {
        let mut packet = [0; 65_536];
        while let Ok(read) = socket.recv(&mut packet) {
            counted.fetch_add(read as u64, Ordering::Relaxed);
        }
    });
    let data = dir.join("collectd");
    fs::create_dir(&data)?;
    let plugins: String = COLLECTD_PLUGINS.iter().map(|plugin| format!("LoadPlugin {plugin}\n")).collect();
    let config = data.join("collectd.conf");
    fs::write(
        &config,
        format!(
            "BaseDir \"{0}\"\nPIDFile \"{0}/pid\"\nInterval 1\n{plugins}LoadPlugin network\n\
             <Plugin network>\n  Server \"127.0.0.1\" \"{port}\"\n</Plugin>\n",
            data.display()
        ),
    )?;
    let mut command = Command::new(&program);
    command.arg("-f").arg("-C").arg(&config);
    let process = Process::start(&mut command, &data.join("log"))?;
    Ok(Way {
        name: "collectd",
        processes: vec![process],
        binaries: vec![program],
        sent: Box::new(move || (bytes.load(Ordering::Relaxed) as f64, f64::NAN)),
    })
}

fn netdata(dir: &Path) -> anyhow::Result<Way> {
    let program = installed("netdata")?;
    let port = free_port()?;
    let data = dir.join("netdata");
    for part in ["config", "cache", "lib", "log", "run"] {
        fs::create_dir_all(data.join(part))?;
    }
    let config = data.join("config/netdata.conf");
    fs::write(
        &config,
        format!(
            "[global]\nrun as user = root\n[directories]\nconfig = {0}/config\ncache = {0}/cache\nlib = {0}/lib\n\
             log = {0}/log\nhome = {0}\n[db]\nmode = ram\nupdate every = 1\n[web]\nbind to = 127.0.0.1:{port}\n\
             [statsd]\nenabled = no\n[ml]\nenabled = no\n[health]\nenabled = no\n",
            data.display()
        ),
    )?;
    let mut command = Command::new(&program);
    command.arg("-D").arg("-c").arg(&config).arg("-P").arg(data.join("run/pid"));
    command.env("DISABLE_TELEMETRY", "1").env("DO_NOT_TRACK", "1");
    let process = Process::start(&mut command, &data.join("output"))?;
    let binaries = vec![program, PathBuf::from("/usr/lib/netdata/plugins.d/apps.plugin")];
    Ok(Way { name: "netdata", processes: vec![process], binaries, sent: Box::new(|| (f64::NAN, f64::NAN)) })
}
