//! What is queried agrees with what /proc and statvfs say at the same instant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pitwatch_tests::host::memory_bytes;
use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Agent, Collector};

use crate::support::{said, unix_ms, wait_for_tick};

const NAME: &str = "vitals-1";
const CONFIG: &str = "[labels]\nrole = \"game\"\n[signals]\nfilesystem_cadence = \"1s\"\nprocess_cadence = \"1s\"\n";
/// Modes of a line of /proc/stat, in its order.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
/// Counters of a device in /proc/diskstats: the column after the name, and what one is worth.
const DISK: [(&str, usize, f64); 4] = [
    ("node_disk_reads_completed_total", 0, 1.0),
    ("node_disk_read_bytes_total", 2, 512.0),
    ("node_disk_writes_completed_total", 4, 1.0),
    ("node_disk_written_bytes_total", 6, 512.0),
];
/// Counters of an interface in /proc/net/dev.
const NETWORK: [(&str, usize); 4] = [
    ("node_network_receive_bytes_total", 0),
    ("node_network_receive_packets_total", 1),
    ("node_network_transmit_bytes_total", 8),
    ("node_network_transmit_packets_total", 9),
];
const GAUGES: [(&str, &str); 3] = [
    ("node_memory_MemFree_bytes", "MemFree"),
    ("node_memory_MemAvailable_bytes", "MemAvailable"),
    ("node_memory_Cached_bytes", "Cached"),
];

type Values = BTreeMap<String, f64>;

/// Every counter that is compared, by metric and own labels.
fn counters() -> Values {
    let mut all = Values::new();
    for line in fs::read_to_string("/proc/stat").unwrap().lines() {
        let mut words = line.split_whitespace();
        let key = words.next().unwrap_or_default();
        let mut numbers = words.filter_map(|word| word.parse::<f64>().ok());
        if key.len() > 3 && key.starts_with("cpu") {
            for (mode, ticks) in MODES.iter().zip(numbers) {
                all.insert(format!("node_cpu_seconds_total cpu={} mode={mode}", &key[3..]), ticks / 100.0);
            }
        } else if key == "ctxt" {
            all.insert("node_context_switches_total".to_owned(), numbers.next_back().unwrap());
        }
    }
    for line in fs::read_to_string("/proc/diskstats").unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        for (metric, column, worth) in DISK {
            all.insert(format!("{metric} device={}", words[2]), words[3 + column].parse::<f64>().unwrap() * worth);
        }
    }
    for line in fs::read_to_string("/proc/net/dev").unwrap().lines().skip(2) {
        let (device, rest) = line.split_once(':').unwrap();
        let words: Vec<&str> = rest.split_whitespace().collect();
        for (metric, column) in NETWORK {
            all.insert(format!("{metric} device={}", device.trim()), words[column].parse().unwrap());
        }
    }
    all
}

/// A series as [`counters`] names it, with the labels of the host checked and left out.
fn key(labels: &BTreeMap<String, String>) -> anyhow::Result<String> {
    for (name, value) in [("instance", NAME), ("job", "node"), ("role", "game")] {
        anyhow::ensure!(labels.get(name).map(String::as_str) == Some(value), "{name} is not {value}: {labels:?}");
    }
    let own = labels.iter().filter(|(name, _)| !["__name__", "instance", "job", "role"].contains(&&***name));
    Ok(own.fold(labels["__name__"].clone(), |key, (name, value)| format!("{key} {name}={value}")))
}

/// A series as text, and its samples: milliseconds since the Unix epoch and value.
type Stored = (String, Vec<(i64, f64)>);

/// Stored samples of all series of a metric, with what they are called.
fn stored(api: &Api, metric: &str, secs: u64) -> anyhow::Result<Vec<Stored>> {
    let found = api.samples(&format!("{metric}{{instance={NAME:?}}}"), secs)?;
    anyhow::ensure!(!found.is_empty(), "no {metric}");
    found.into_iter().map(|(labels, samples)| Ok((key(&labels)?, samples))).collect()
}

/// A little of everything, so that counters move.
fn stir(until: Instant) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    while Instant::now() < until {
        let mut file = fs::File::create(dir.path().join("stir"))?;
        file.write_all(&[7; 256 * 1024])?;
        file.sync_all()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn what_is_queried_is_what_proc_says() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let collector = Collector::start(&dir.path().join("collector"), "", "")?;
    let agent = Agent::start(&dir.path().join("agent"), NAME, &collector, CONFIG)?;
    let api = collector.api()?;
    wait_for_tick(&api, NAME, 0, Duration::from_secs(20))?;

    let mut gauges: Vec<(i64, Vec<f64>)> = Vec::new();
    let before = counters();
    let from_ms = unix_ms();
    let until = Instant::now() + Duration::from_millis(3_200);
    std::thread::scope(|scope| {
        let stirring = scope.spawn(move || stir(until));
        while Instant::now() < until {
            gauges.push((unix_ms(), GAUGES.iter().map(|(_, field)| memory_bytes(field).unwrap()).collect()));
            std::thread::sleep(Duration::from_millis(5));
        }
        stirring.join().unwrap()
    })?;
    let to_ms = unix_ms();
    let after = counters();
    wait_for_tick(&api, NAME, to_ms, Duration::from_secs(10))?;

    compare_counters(&api, &before, &after, (from_ms, to_ms))?;
    compare_memory(&api, &gauges)?;
    compare_filesystem(&api)?;
    compare_command_line(&collector)?;
    compare_once(&api, &agent)
}

fn compare_counters(api: &Api, before: &Values, after: &Values, (from_ms, to_ms): (i64, i64)) -> anyhow::Result<()> {
    let metrics: BTreeSet<&str> = before.keys().filter_map(|key| key.split(' ').next()).collect();
    let (mut compared, mut moved) = (0, BTreeSet::new());
    for metric in metrics {
        let mut inside = 0;
        for (key, samples) in stored(api, metric, 30)? {
            let (Some(low), Some(high)) = (before.get(&key), after.get(&key)) else { continue };
            for (ts_ms, value) in samples.iter().filter(|(ts_ms, _)| (from_ms..=to_ms).contains(ts_ms)) {
                // The kernel's idle and iowait times step back by a tick now and then.
                let good = (low - 0.02..=high + 0.02).contains(value);
                anyhow::ensure!(good, "{key} at {ts_ms}: {value} stored, {low} before and {high} after in /proc");
                inside += 1;
            }
            if low < high {
                moved.insert(metric.to_owned());
            }
        }
        anyhow::ensure!(inside > 0, "no sample of {metric} between {from_ms} and {to_ms}");
        compared += inside;
    }
    for metric in ["node_cpu_seconds_total", "node_network_receive_bytes_total", "node_disk_written_bytes_total"] {
        anyhow::ensure!(moved.contains(metric), "{metric} did not move, so nothing was compared");
    }
    // Every core, every interface that was there all the time.
    let expected = before.keys().filter(|key| after.contains_key(*key));
    let expected: BTreeSet<&String> =
        expected.filter(|key| key.contains("node_cpu") || key.contains("node_network")).collect();
    let mut found = BTreeSet::new();
    for metric in ["node_cpu_seconds_total", "node_network_receive_bytes_total", "node_network_transmit_bytes_total"] {
        found.extend(stored(api, metric, 30)?.into_iter().map(|(key, _)| key));
    }
    let missing: Vec<_> =
        expected.into_iter().filter(|key| key.contains("_bytes_") || key.contains("_seconds_")).collect();
    let missing: Vec<_> = missing.into_iter().filter(|key| !found.contains(*key)).collect();
    anyhow::ensure!(missing.is_empty(), "not stored: {missing:?}");
    println!("{compared} samples of counters lie between what /proc said before and after");
    Ok(())
}

fn compare_memory(api: &Api, read: &[(i64, Vec<f64>)]) -> anyhow::Result<()> {
    let total = memory_bytes("MemTotal").context("no MemTotal")?;
    let query = format!("node_memory_MemTotal_bytes{{instance={NAME:?}}}");
    anyhow::ensure!(api.value(&query)? == Some(total), "MemTotal is {total}");
    for (at, (metric, _)) in GAUGES.iter().enumerate() {
        let mut compared = 0;
        for (ts_ms, value) in stored(api, metric, 30)?.into_iter().flat_map(|(_, samples)| samples) {
            let near = read.iter().filter(|(read_ms, _)| (read_ms - ts_ms).abs() <= 50).map(|(_, values)| values[at]);
            let Some((low, high)) = near.fold(None, |range: Option<(f64, f64)>, value| {
                Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
            }) else {
                continue;
            };
            let slack = total * 0.01;
            anyhow::ensure!(
                (low - slack..=high + slack).contains(&value),
                "{metric} at {ts_ms}: {value} stored, {low} to {high} in /proc/meminfo"
            );
            compared += 1;
        }
        anyhow::ensure!(compared > 0, "no sample of {metric} near a reading");
    }
    Ok(())
}

fn compare_filesystem(api: &Api) -> anyhow::Result<()> {
    for (labels, _) in api.query(&format!("node_filesystem_size_bytes{{instance={NAME:?}}}"))? {
        let mountpoint = &labels["mountpoint"];
        let stat = Command::new("stat").args(["-f", "-c", "%S %b %f %a", mountpoint]).output()?;
        let text = String::from_utf8(stat.stdout)?;
        let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [block, blocks, free, avail] = numbers[..] else { continue };
        let value = |what: &str| {
            let query = format!("node_filesystem_{what}_bytes{{instance={NAME:?},mountpoint={mountpoint:?}}}");
            api.value(&query)?.with_context(|| format!("no {query}"))
        };
        anyhow::ensure!(value("size")? == block * blocks, "size of {mountpoint}");
        for (what, now) in [("free", block * free), ("avail", block * avail)] {
            let (stored, slack) = (value(what)?, (block * blocks * 0.02).max(512e6));
            anyhow::ensure!((stored - now).abs() <= slack, "{what} of {mountpoint}: {stored} stored, {now} now");
        }
    }
    let root = api.query(&format!("node_filesystem_avail_bytes{{instance={NAME:?},mountpoint=\"/\"}}"))?;
    anyhow::ensure!(root.len() == 1, "/ has {} series", root.len());
    Ok(())
}

fn compare_command_line(collector: &Collector) -> anyhow::Result<()> {
    let total = memory_bytes("MemTotal").context("no MemTotal")?;
    let query = format!("node_memory_MemTotal_bytes{{instance={NAME:?}}}");
    for format in ["csv", "json"] {
        let output = collector.cli(&["query", &query, "-o", format])?;
        let text = said(&output);
        anyhow::ensure!(output.status.success() && text.contains(&total.to_string()), "{format}: {text}");
    }
    let output = collector.cli(&["hosts"])?;
    anyhow::ensure!(said(&output).contains(NAME), "hosts: {}", said(&output));
    Ok(())
}

/// `once` prints the text format, with the metrics that the running agent stores.
fn compare_once(api: &Api, agent: &Agent) -> anyhow::Result<()> {
    let output = agent.command("once", &[])?;
    anyhow::ensure!(output.status.success(), "once: {}", said(&output));
    let text = String::from_utf8(output.stdout)?;
    let mut printed = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let (series, value) = line.rsplit_once(' ').with_context(|| format!("no value: {line}"))?;
        value.parse::<f64>().with_context(|| line.to_owned())?;
        anyhow::ensure!(series.contains("role=\"game\""), "without the host's labels: {line}");
        printed.insert(series.split('{').next().unwrap_or_default().to_owned());
    }
    let stored = api.query(&format!("group by (__name__) ({{instance={NAME:?},job=\"node\"}})"))?;
    let stored: BTreeSet<String> = stored.into_iter().map(|(labels, _)| labels["__name__"].clone()).collect();
    // What only a running agent has to say of itself.
    let of_running = |name: &String| name.starts_with("pitwatch_agent_") || name == "pitwatch_events_total";
    let differ: Vec<_> = printed.symmetric_difference(&stored).filter(|name| !of_running(name)).collect();
    anyhow::ensure!(differ.is_empty(), "printed or stored, not both: {differ:?}");
    anyhow::ensure!(printed.len() > 100, "only {} metrics", printed.len());

    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = promtool.spawn() else {
        eprintln!("promtool is not installed: not checked");
        return Ok(());
    };
    child.stdin.take().context("no stdin")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    // 3: names that it would choose otherwise, which are node_exporter's own; 1: it cannot read it.
    anyhow::ensure!(matches!(output.status.code(), Some(0 | 3)), "promtool: {}", said(&output));
    Ok(())
}
