//! docs/reference/signals.md, made from the registry; and the comparison with node_exporter's default metrics.
//!
//! `PITWATCH_WRITE_DOCS=1 cargo test -p pitwatch-agent reference` writes the page.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use pitwatch_shared::codec::GroupId;
use pitwatch_shared::model::MetricType;

use super::filesystems::DEADLINE;
use super::processes::{HOLD_PASSES, IDLE_EVERY_PASSES, TRACKED_PER_TOP};
use super::*;

/// node_exporter's default metrics that the agent does not give, by name or family, each with its reason.
const ABSENT: [(&str, &str); 10] = [
    ("go_*", "of node_exporter's own process and runtime"),
    ("process_*", "of node_exporter's own process; see `pitwatch_agent_*`"),
    ("promhttp_*", "of node_exporter's own HTTP server"),
    ("node_exporter_*", "of node_exporter itself; see `pitwatch_agent_build_info`"),
    ("node_scrape_*", "of node_exporter's collectors; see `pitwatch_agent_source_errors_total`"),
    ("node_textfile_scrape_error", "see `pitwatch_agent_source_errors_total`"),
    ("node_network_speed_bytes", "given where the speed is known; node_exporter also gives -125000 for \"not known\""),
    (
        "node_bcache_*",
        "not gathered: bcache says its sizes rounded to two digits; the IO of its devices is with `node_disk_*`",
    ),
    (
        "node_btrfs_device_unused_bytes",
        "not gathered: needs root and a call into the filesystem; `node_btrfs_size_bytes` and `node_btrfs_device_size_bytes` say it in sum",
    ),
    (
        "node_btrfs_device_errors_total",
        "by the device's number: `pitwatch_btrfs_device_errors_total`; node_exporter needs root for it",
    ),
];

const PAGE_HEAD: &str = "\
# Signals of the agent

Made from the code; do not edit. `PITWATCH_WRITE_DOCS=1 cargo test -p pitwatch-agent reference` writes it anew.

Every series also carries the labels of the host's own config (`[labels]` in agent.toml, with `job=\"node\"` unless it is
given) and `instance`, the agent's name, which the collector sets. A `*` in a name stands for the name of a kernel's
field. A series ends (it is marked stale) when its device, process or file is gone or cannot be read, and begins again
when it is back.
";

fn processes_note() -> String {
    format!(
        "\
A process has series when it is among the first `process_top` by CPU or by memory, or among half as many by IO, open
files or threads, and keeps them until it has been outside of all for {HOLD_PASSES} passes, or ended. At most {TRACKED_PER_TOP} × `process_top` processes have series at
once. A process that used no CPU lately is looked at every {IDLE_EVERY_PASSES} passes only.
IO of other users' processes needs the right to look at them (CAP_SYS_PTRACE). A watch of agent.toml (`[watch.NAME]`)
has its series always; what it uses is given while it runs.
"
    )
}

fn filesystems_note() -> String {
    format!(
        "\
Left out are the mount points and types that node_exporter leaves out by default (Debian's package also leaves out
`/mnt`, `/media` and `/run`; the agent does not). A filesystem that does not answer keeps its last values for
{} seconds and has then `node_filesystem_device_error` 1 and nothing else; it holds up no other.
",
        DEADLINE.as_secs()
    )
}

fn page() -> String {
    let mut page = PAGE_HEAD.to_owned();
    for group in &groups(&SignalsConfig::default()) {
        let _ = write!(page, "\n## {} (every {} s by default)\n\n", title(group.name), group.cadence.as_secs());
        match group.id {
            PROCESSES => page += &format!("{}\n", processes_note()),
            FILESYSTEMS => page += &format!("{}\n", filesystems_note()),
            _ => {}
        }
        page += "| metric | type | unit | labels | source | meaning |\n|---|---|---|---|---|---|\n";
        for metric in of_group(group.id) {
            let kind = if metric.kind == MetricType::Unknown { "untyped" } else { metric.kind.as_str() };
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, unit, source, help) = (metric.name, metric.unit, metric.source, metric.help);
            let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {} | {source} | {help} |", labels.join(", "));
        }
    }
    page += "\n## Default metrics of node_exporter that are absent\n\n| metric | why |\n|---|---|\n";
    for (name, why) in ABSENT {
        let _ = writeln!(page, "| `{name}` | {why} |");
    }
    page
}

fn title(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn of_group(id: GroupId) -> impl Iterator<Item = &'static Metric> {
    REGISTRY.iter().filter(move |(group, _)| *group == id).flat_map(|(_, metrics)| metrics.iter())
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/signals.md");
    if std::env::var_os("PITWATCH_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "docs/reference/signals.md is out of date: run this test with PITWATCH_WRITE_DOCS=1");
}

/// Every metric name that this host gives.
fn our_names() -> BTreeSet<String> {
    let mut signals = Signals::new(&SignalsConfig::default(), &[]);
    signals.be_patient(Duration::from_secs(30));
    let mut names = BTreeSet::new();
    for group in 0..GROUPS as GroupId {
        signals.gather(group, Now::read());
    }
    std::thread::sleep(Duration::from_millis(100));
    for group in 0..GROUPS as GroupId {
        names.extend(signals.gather(group, Now::read()).live().map(|def| def.labels.metric().to_owned()));
    }
    names
}

fn absent(name: &str) -> bool {
    ABSENT.iter().any(|(family, _)| Metric::gauge(family, "", "", "").covers(name))
}

/// The names that Debian's node_exporter 1.5.0 gave with its defaults, captured on a virtual machine.
#[test]
fn every_default_metric_of_node_exporter_is_known_or_listed_as_absent() {
    let captured = include_str!("../../testdata/node_exporter_metrics.txt");
    let missing: Vec<_> = captured.lines().filter(|name| metric(name).is_none() && !absent(name)).collect();
    assert_eq!(missing, [""; 0]);
}

/// The same with the node_exporter of this host, if it is installed, against what this host really gives.
#[test]
fn the_node_exporter_of_this_host_gives_no_name_that_we_do_not() {
    let Some(text) = node_exporters_page() else {
        eprintln!("prometheus-node-exporter is not installed: not compared");
        return;
    };
    let ours = our_names();
    let theirs = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split(' ').next());
    let missing: Vec<_> = theirs.filter(|name| !ours.contains(*name) && !absent(name)).collect();
    assert_eq!(missing, [""; 0]);
}

fn node_exporters_page() -> Option<String> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut child = std::process::Command::new("prometheus-node-exporter")
        .arg(format!("--web.listen-address={free}"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .ok()?;
    let ask = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(free)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    };
    let page = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        ask().ok()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    Some(page.expect("node_exporter does not answer"))
}

#[test]
fn what_is_gathered_is_registered_with_its_type_and_labels() {
    let mut signals = Signals::new(&SignalsConfig::default(), &[]);
    signals.be_patient(Duration::from_secs(30));
    signals.set_runtime(Runtime::default());
    for group in 0..GROUPS as GroupId {
        for def in signals.gather(group, Now::read()).live() {
            let name = def.labels.metric();
            let metric = of_group(group).find(|metric| metric.covers(name)).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(metric.kind, def.kind, "{name}");
            let labels = def.labels.iter().map(|(label, _)| label).filter(|label| *label != "__name__");
            assert!(labels.into_iter().all(|label| metric.labels.contains(&label)), "{def:?}");
        }
    }
}

#[test]
fn no_name_stands_twice() {
    let mut names: Vec<_> = REGISTRY.iter().flat_map(|(_, metrics)| *metrics).map(|metric| metric.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
}
