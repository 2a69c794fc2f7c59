//! `pitwatch-agent doctor`: what the agent can and cannot read on this host, and how to allow it.
//!
//! Every check is one question to the host, answered in one line. A [`Finding`] that is not good says what is missing
//! for it and what to do.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use crate::config::Config;
use crate::signals::{Now, Signals, SignalsConfig};

/// Bytes read of a file to know that it can be read.
const PROBE_BYTES: usize = 64;
/// How long the doctor waits for what may hang, each time.
const PATIENCE: Duration = Duration::from_secs(6);

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Good,
    /// This host or kernel has no such thing: nothing is wrong.
    Absent(String),
    /// Something is missing: why, and what to do.
    Missing {
        /// What is not gathered, and the system's reason.
        why: String,
        /// How to allow it.
        fix: String,
    },
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it went.
    pub state: State,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Good => write!(f, "good     {}", self.what),
            State::Absent(why) => write!(f, "absent   {}: {why}", self.what),
            State::Missing { why, fix } => write!(f, "missing  {}: {why}\n         {fix}", self.what),
        }
    }
}

/// What each way of allowing something is called in the findings.
const AMBIENT: &str = "the shipped unit has it; in one of your own: AmbientCapabilities=";

/// Looks at everything. `config` is the host's own, if it has one.
#[must_use]
pub fn examine(config: Option<&Config>) -> Vec<Finding> {
    let signals = config.map(|config| config.signals.clone()).unwrap_or_default();
    let mut findings = vec![
        of_other_processes(&signals),
        of_all_mounts(&signals),
        file(
            "the kernel's log (events of disk errors and OOM kills)",
            &signals.root.join("dev/kmsg"),
            &format!("{AMBIENT}CAP_SYSLOG (or sysctl kernel.dmesg_restrict=0)"),
        ),
        file("pressure (PSI)", &signals.proc_root.join("pressure/cpu"), "boot the kernel with psi=1"),
        control_groups(&signals),
        smart(&signals, config),
    ];
    findings.extend(sources(&signals));
    if let Some(config) = config {
        findings.push(data_dir(&config.data_dir));
    }
    findings
}

fn finding(what: &'static str, state: State) -> Finding {
    Finding { what, state }
}

fn missing(what: &'static str, why: impl Into<String>, fix: impl Into<String>) -> Finding {
    finding(what, State::Missing { why: why.into(), fix: fix.into() })
}

/// Reads the beginning of a file, without waiting for more of it.
fn probe(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut file: File = File::options().read(true).custom_flags(nonblocking).open(path)?;
    match file.read(&mut [0; PROBE_BYTES]) {
        // The kernel's log gives whole lines only, or has none just now.
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::InvalidInput) => Ok(()),
        read => read.map(drop),
    }
}

fn file(what: &'static str, path: &Path, fix: &str) -> Finding {
    match probe(path) {
        Ok(()) => finding(what, State::Good),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            finding(what, State::Absent(format!("{} is not there; {fix}", path.display())))
        }
        Err(error) => missing(what, format!("{}: {error}", path.display()), fix),
    }
}

/// Process 1 belongs to root: what can be read of it can be read of all.
fn of_other_processes(signals: &SignalsConfig) -> Finding {
    let what = "other users' processes: IO";
    let visible = probe(&signals.proc_root.join("1/stat"));
    if let Err(error) = visible {
        let why = format!("other users' processes cannot be seen at all: {error}");
        return missing(what, why, "mount /proc without hidepid, or with gid= of a group of the agent's user");
    }
    match probe(&signals.proc_root.join("1/io")) {
        Ok(()) => finding(what, State::Good),
        Err(error) => {
            let why = format!("pitwatch_process_io_bytes_per_second is of the agent's own user only: {error}");
            missing(what, why, format!("{AMBIENT}CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"))
        }
    }
}

fn of_all_mounts(signals: &SignalsConfig) -> Finding {
    let what = "filesystems of the whole host";
    match probe(&signals.proc_root.join("1/mounts")) {
        Ok(()) => finding(what, State::Good),
        Err(error) => {
            let why = format!("mounts are those that the agent itself sees: {error}");
            missing(what, why, format!("{AMBIENT}CAP_SYS_PTRACE"))
        }
    }
}

fn control_groups(signals: &SignalsConfig) -> Finding {
    let what = "services' control groups";
    let root = signals.sys_root.join("fs/cgroup");
    let Ok(text) = std::fs::read_to_string(root.join("cgroup.subtree_control")) else {
        let why = "control groups of version 2 are not mounted at /sys/fs/cgroup: services have no memory, IO or tasks";
        return finding(what, State::Absent(format!("{why}; boot with systemd.unified_cgroup_hierarchy=1")));
    };
    let off: Vec<_> = ["cpu", "io", "memory", "pids"]
        .into_iter()
        .filter(|name| !text.split_whitespace().any(|on| on == *name))
        .collect();
    if off.is_empty() {
        return finding(what, State::Good);
    }
    let fix = "in /etc/systemd/system.conf: DefaultCPUAccounting=, DefaultIOAccounting=, DefaultMemoryAccounting=yes";
    missing(what, format!("controllers that are off: {}", off.join(", ")), fix)
}

/// The agent runs nothing, and SMART is read by a program with root's rights: one that writes text files has to.
fn smart(signals: &SignalsConfig, config: Option<&Config>) -> Finding {
    let what = "disks' SMART attributes";
    let names = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let disks = names(&signals.sys_root.join("block"));
    if !disks.iter().any(|disk| ["sd", "nvme"].iter().any(|kind| disk.starts_with(kind))) {
        return finding(what, State::Absent("this host has no SATA, SAS or NVMe disks".to_owned()));
    }
    let directories = config.map(|config| config.apps.textfile.directories.as_slice()).unwrap_or_default();
    let is_written = |name: &String| name.ends_with(".prom") && (name.starts_with("smart") || name.starts_with("nvme"));
    if directories.iter().any(|dir| names(dir).iter().any(is_written)) {
        return finding(what, State::Good);
    }
    let how = "the agent runs no program, and smartctl needs root; Debian's prometheus-node-exporter-collectors writes them \
               as text files: set [textfile] directories = [\"/var/lib/prometheus/node-exporter\"]";
    finding(what, State::Absent(how.to_owned()))
}

/// Every source is read twice; those that fail say why.
fn sources(config: &SignalsConfig) -> Vec<Finding> {
    let mut signals = Signals::new(config, &[]);
    signals.be_patient(PATIENCE);
    for _ in 0..2 {
        for id in 0..signals.groups().len() {
            signals.gather(id as u16, Now::read());
        }
    }
    let mut findings = vec![];
    let failing = signals.failing();
    if failing.is_empty() {
        findings.push(finding("every source of signals", State::Good));
    }
    for (source, why) in failing {
        let fix = match source {
            "systemd" => "let the agent's user onto the system bus: /run/dbus/system_bus_socket",
            "sockets" => "allow netlink sockets: RestrictAddressFamilies= of the unit must have AF_NETLINK",
            _ => "see docs/reference/signals.md for what it reads",
        };
        findings.push(missing("a source of signals", format!("{source}: {why}"), fix));
    }
    findings
}

fn data_dir(path: &Path) -> Finding {
    let what = "the data directory";
    let trial = path.join("doctor.trial");
    match std::fs::write(&trial, b"").and_then(|()| std::fs::remove_file(&trial)) {
        Ok(()) => finding(what, State::Good),
        Err(error) => {
            let fix = "run the doctor as the agent's user, or give it the directory: StateDirectory= of the unit does";
            missing(what, format!("{} cannot be written: {error}", path.display()), fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smart_comes_by_text_files_where_there_are_disks() {
        let dir = tempfile::tempdir().unwrap();
        let signals = SignalsConfig { sys_root: dir.path().to_owned(), ..SignalsConfig::default() };
        let absent = |config: Option<&Config>| match smart(&signals, config).state {
            State::Absent(why) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(absent(None), "this host has no SATA, SAS or NVMe disks");
        std::fs::create_dir_all(dir.path().join("block/nvme0n1")).unwrap();
        let text = format!("name = \"a\"\ncollector = \"c:1\"\n[textfile]\ndirectories = [{:?}]\n", dir.path());
        let config = Config::parse(&text, Path::new("agent.toml"), "a", |_| None).unwrap();
        assert!(absent(Some(&config)).contains("prometheus-node-exporter-collectors"));
        std::fs::write(dir.path().join("smartmon.prom"), "").unwrap();
        assert_eq!(smart(&signals, Some(&config)).state, State::Good);
    }

    #[test]
    fn a_host_is_examined_and_what_it_has_is_good() {
        let findings = examine(None);
        let of = |what: &str| findings.iter().find(|finding| finding.what.starts_with(what)).unwrap();
        assert!(findings.len() >= 6);
        if rustix::process::geteuid().is_root() {
            assert_eq!(of("filesystems").state, State::Good);
        }
        let text: Vec<_> = findings.iter().map(Finding::to_string).collect();
        assert!(text.iter().all(|line| line.len() > 9), "{text:?}");
    }

    #[test]
    fn what_is_missing_says_how_to_allow_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let config =
            SignalsConfig { proc_root: root.clone(), sys_root: root.clone(), root: root.clone(), ..Default::default() };
        let finding = of_all_mounts(&config);
        assert!(finding.to_string().starts_with("missing  filesystems of the whole host: "), "{finding}");
        assert!(finding.to_string().ends_with("AmbientCapabilities=CAP_SYS_PTRACE"), "{finding}");
        assert!(matches!(control_groups(&config).state, State::Absent(_)));
        std::fs::create_dir_all(root.join("fs/cgroup")).unwrap();
        std::fs::write(root.join("fs/cgroup/cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        assert!(control_groups(&config).to_string().contains("controllers that are off: io\n"));
        assert_eq!(data_dir(&root).state, State::Good);
        assert!(matches!(data_dir(&root.join("nowhere")).state, State::Missing { .. }));
    }
}
