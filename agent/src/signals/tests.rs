//! The signals of this very host, against what /proc and the system's own tools say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::*;

fn signals() -> Signals {
    let mut signals = Signals::new(&SignalsConfig::default(), &[("role".to_owned(), "test".to_owned())]);
    signals.be_patient(Duration::from_secs(30));
    signals
}

/// The sum of a metric's series that have all of `labels`.
fn sum(table: &Table, name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits =
        |label: &(&str, &str), def: &pitwatch_shared::codec::SeriesDef| def.labels.value(label.0) == Some(label.1);
    let mut fitting = table
        .live()
        .filter(|def| def.labels.metric() == name && labels.iter().all(|label| fits(label, def)))
        .map(|def| table.values()[def.slot as usize])
        .peekable();
    assert!(fitting.peek().is_some(), "no series {name} {labels:?}");
    fitting.sum()
}

fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap()
}

/// The number after `key` in a file of lines.
fn number_after(path: &str, key: &str) -> f64 {
    let text = file(path);
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line[key.len()..].split_whitespace().next().unwrap().parse().unwrap()
}

/// The number at `column` of the line of a device.
fn of_device(path: &str, device: &str, column: usize) -> f64 {
    let text = file(path);
    let words = |line: &str| line.replace(':', " ").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let line = text.lines().map(words).find(|words| words.iter().any(|word| word == device)).unwrap();
    line[column].parse().unwrap()
}

/// A counter read before, between and after two readings of its file lies between them.
fn between(what: &str, read: impl Fn() -> f64, gather: impl FnOnce() -> f64) {
    let before = read();
    let value = gather();
    let after = read();
    assert!(before <= value && value <= after, "{what}: {before} <= {value} <= {after}");
}

#[test]
fn counters_agree_with_proc_at_the_same_instant() {
    let mut signals = signals();
    let mut vital =
        |name: &'static str, labels: &[(&str, &str)]| sum(signals.gather(VITALS, Now::read()), name, labels);
    between("context switches", || number_after("/proc/stat", "ctxt "), || vital("node_context_switches_total", &[]));
    between("forks", || number_after("/proc/stat", "processes "), || vital("node_forks_total", &[]));
    between("interrupts", || number_after("/proc/stat", "intr "), || vital("node_intr_total", &[]));
    for (at, mode) in ["user", "nice", "system", "idle"].into_iter().enumerate() {
        let read = || file("/proc/stat").lines().next().unwrap().split_whitespace().nth(at + 1).unwrap().parse::<f64>();
        // The first line is the kernel's own sum, cut to whole ticks; by core each is cut.
        let cores = std::thread::available_parallelism().unwrap().get() as f64 / 100.0 + 0.01;
        let before = read().unwrap() / 100.0 - cores;
        let value = vital("node_cpu_seconds_total", &[("mode", mode)]);
        let after = read().unwrap() / 100.0 + cores;
        assert!(before <= value && value <= after, "{mode}: {before} <= {value} <= {after}");
    }
    let faults = || number_after("/proc/vmstat", "pgfault ");
    between("page faults", faults, || vital("node_vmstat_pgfault", &[]));
    between(
        "bytes received",
        || of_device("/proc/net/dev", "lo", 1),
        || vital("node_network_receive_bytes_total", &[("device", "lo")]),
    );
}

#[test]
fn what_does_not_change_is_equal() {
    let mut signals = signals();
    let vitals = signals.gather(VITALS, Now::read());
    assert_eq!(sum(vitals, "node_boot_time_seconds", &[]), number_after("/proc/stat", "btime "));
    assert_eq!(sum(vitals, "node_memory_MemTotal_bytes", &[]), number_after("/proc/meminfo", "MemTotal:") * 1024.0);
    assert_eq!(sum(vitals, "node_memory_SwapTotal_bytes", &[]), number_after("/proc/meminfo", "SwapTotal:") * 1024.0);
    let now = Now::read().ts_ms as f64 / 1000.0;
    assert!((sum(vitals, "node_time_seconds", &[]) - now).abs() < 60.0);
    let mtu: f64 = file("/sys/class/net/lo/mtu").trim().parse().unwrap();
    let interfaces = signals.gather(INTERFACES, Now::read());
    assert_eq!(sum(interfaces, "node_network_mtu_bytes", &[("device", "lo")]), mtu);
    assert_eq!(sum(signals.gather(FACTS, Now::read()), "node_uname_info", &[("sysname", "Linux")]), 1.0);
}

#[test]
fn the_space_of_a_filesystem_is_what_df_says() {
    let mut signals = signals();
    let mounts = file("/proc/self/mounts");
    let known = |line: &&str| {
        let words: Vec<_> = line.split(' ').collect();
        matches!(words[2], "ext4" | "xfs" | "btrfs" | "tmpfs") && ["/", "/home", "/tmp", "/run"].contains(&words[1])
    };
    let Some(line) = mounts.lines().find(known) else {
        eprintln!("no mount of a usual kind: not compared");
        return;
    };
    let point = line.split(' ').nth(1).unwrap();
    let output = Command::new("df").args(["-B1", "--output=size,itotal", point]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text.lines().nth(1).unwrap().split_whitespace().map(|word| word.parse().unwrap()).collect();
    let labels = [("mountpoint", point)];
    // On a busy machine the answer may come a little after the first gathering.
    for _ in 0..200 {
        let table = signals.gather(FILESYSTEMS, Now::read());
        let answered = table.live().any(|def| {
            def.labels.metric() == "node_filesystem_size_bytes" && def.labels.value("mountpoint") == Some(point)
        });
        if answered {
            assert_eq!(sum(table, "node_filesystem_size_bytes", &labels), numbers[0]);
            assert_eq!(sum(table, "node_filesystem_files", &labels), numbers[1]);
            return;
        }
    }
    panic!("no answer of {point}");
}

#[test]
fn every_series_carries_the_hosts_labels() {
    let mut signals = signals();
    for group in 0..GROUPS as GroupId {
        let table = signals.gather(group, Now::read());
        assert!(table.live().all(|def| def.labels.value("role") == Some("test")));
        assert_eq!(table.refused(), 0);
    }
}

#[test]
fn a_host_without_any_file_fails_nowhere_but_in_the_counts() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let config = SignalsConfig { proc_root: root.clone(), sys_root: root.clone(), root, ..Default::default() };
    let mut signals = Signals::new(&config, &[]);
    for group in 0..GROUPS as GroupId {
        signals.gather(group, Now::read());
    }
    let agent = signals.gather(AGENT, Now::read());
    for source in ["cpu", "memory", "load", "filesystems"] {
        assert_eq!(sum(agent, "pitwatch_agent_source_errors_total", &[("source", source)]), 1.0, "{source}");
    }
    assert_eq!(sum(agent, "pitwatch_agent_source_errors_total", &[("source", "agent")]), 1.0);
    assert_eq!(sum(agent, "pitwatch_agent_source_errors_total", &[("source", "disks")]), 0.0, "it may be absent");
    assert_eq!(sum(agent, "pitwatch_agent_series", &[("group", "vitals")]), 1.0, "the clock needs no file");
}

#[test]
fn the_agent_says_what_it_costs_and_what_its_run_loop_counts() {
    let mut signals = signals();
    assert!(signals.gather(AGENT, Now::read()).live().all(|def| def.labels.metric() != "pitwatch_agent_connected"));
    signals.set_runtime(Runtime { connected: true, reconnects: 3, udp_sent_bytes: 7, ..Runtime::default() });
    let agent = signals.gather(AGENT, Now::read());
    assert_eq!(sum(agent, "pitwatch_agent_connected", &[]), 1.0);
    assert_eq!(sum(agent, "pitwatch_agent_reconnects_total", &[]), 3.0);
    assert_eq!(sum(agent, "pitwatch_agent_udp_sent_bytes_total", &[]), 7.0);
    assert!(sum(agent, "pitwatch_agent_resident_memory_bytes", &[]) > 1e6);
    assert!(sum(agent, "pitwatch_agent_cpu_seconds_total", &[]) > 0.0);
}

#[test]
fn groups_are_numbered_by_their_place() {
    let signals = signals();
    assert!((0..).zip(signals.groups()).all(|(at, group)| group.id == at));
    assert!(REGISTRY.iter().all(|(group, _)| usize::from(*group) < GROUPS));
}

/// A pipe that nobody writes to: whoever opens it to read never comes back.
fn hanging(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn sources_that_hang_delay_no_other() {
    let dir = tempfile::tempdir().unwrap();
    hanging(&dir.path().join("class/hwmon/hwmon0/temp1_input"));
    hanging(&dir.path().join("class/net/eth0/speed"));
    hanging(&dir.path().join("class/thermal/thermal_zone0/temp"));
    let config = SignalsConfig { sys_root: dir.path().to_owned(), ..Default::default() };
    let mut signals = Signals::new(&config, &[]);
    let mut now = Now::read();
    for round in 0..3 {
        now.monotonic += Duration::from_secs(10);
        let sensors = signals.gather(SENSORS, now);
        assert!(sum(sensors, "node_timex_tick_seconds", &[]) > 0.0, "round {round}");
        let interfaces = signals.gather(INTERFACES, now);
        assert!(interfaces.live().all(|def| def.labels.metric() != "node_network_speed_bytes"));
        assert!(signals.gather(VITALS, now).len() > 100);
        let late: Vec<_> = signals.failing().into_iter().map(|(source, _)| source).collect();
        let expected = ["hwmon", "interfaces", "sensors"];
        assert!(round == 0 || expected.iter().all(|source| late.contains(source)), "round {round}: {late:?}");
    }
}

/// A host of its own, captured: every file of the vitals.
const CAPTURED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/proc");

fn of_root(root: &Path) -> Signals {
    let config = SignalsConfig { proc_root: root.to_owned(), sys_root: root.to_owned(), ..Default::default() };
    Signals::new(&config, &[])
}

fn captured_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![PathBuf::from(CAPTURED)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { dirs.push(entry) } else { files.push(entry) }
        }
    }
    files
}

#[test]
fn a_captured_host_gives_its_vitals_without_an_error() {
    let mut signals = of_root(Path::new(CAPTURED));
    let vitals = signals.gather(VITALS, Now::read());
    assert_eq!(sum(vitals, "node_sockstat_TCP_inuse", &[]), 1.0);
    assert_eq!(sum(vitals, "node_load15", &[]), 0.25);
    assert_eq!(sum(vitals, "node_filefd_maximum", &[]), 2_466_181.0);
    assert_eq!(sum(vitals, "node_entropy_pool_size_bits", &[]), 256.0);
    assert_eq!(sum(vitals, "node_disk_writes_completed_total", &[]), number_of_vda_writes());
    let failed: Vec<_> = signals.failures.iter().filter(|failures| failures.count > 0).map(|f| f.source).collect();
    assert_eq!(failed, [""; 0]);
}

fn number_of_vda_writes() -> f64 {
    of_device(&format!("{CAPTURED}/diskstats"), "vda", 7)
}

/// Every file of a host cut off anywhere: the others go on, and nothing is set that is not a number of the file.
#[test]
fn files_cut_off_anywhere_are_survived() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<_> = captured_files().into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    for (path, bytes) in &files {
        let path = dir.path().join(path.strip_prefix(CAPTURED).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let mut signals = of_root(dir.path());
    let whole = signals.gather(VITALS, Now::read()).len();
    for (path, bytes) in &files {
        let path = dir.path().join(path.strip_prefix(CAPTURED).unwrap());
        let step = (bytes.len() / 40).max(1);
        for end in (0..bytes.len()).step_by(step) {
            fs::write(&path, &bytes[..end]).unwrap();
            let table = signals.gather(VITALS, Now::read());
            assert!(table.len() <= whole + 1, "{}: a name that was cut is one more at most", path.display());
        }
        fs::write(&path, bytes).unwrap();
        assert_eq!(signals.gather(VITALS, Now::read()).len(), whole, "{}", path.display());
    }
}
