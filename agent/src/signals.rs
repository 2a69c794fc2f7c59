//! This host's signals: what is read where and how often, and the series that come of it.
//!
//! [`Signals`] holds the sources in groups of one cadence each; gathering a group reads its sources into its
//! [`Table`], whose values, schema changes and live series the run loop turns into frames. A source that fails is
//! counted in `pitwatch_agent_source_errors_total{source=…}`, its series end until it comes back, and the others go
//! on.
//!
//! In reading order:
//! - `metric`, `table`: what is known of a metric; slots, values, schema changes.
//! - `parse`, `source`: bytes to numbers; held files, keyed entries, the trait of a source.
//! - sources of the vitals (1 s): `cpu`, `memory`, `numbers`, `pressure`, `disks`, `network`, `netstat`, `tracking`.
//! - `apart`: a thread for a source that might hang.
//! - slower sources: `filesystems` with its `prober`, `nfs`, `processes` with the watch list, `interfaces` and `bonds`, `sockets`,
//!   `ipvs`, `clock`, `sysfs`, `hwmon`, `rapl` and `throttles`, `raid`, `btrfs`, `xfs` and `zfs`, `units` over `dbus`, `cgroups`,
//!   `facts` and `diskinfo`, `agent`.
//! - `notices`: what sources see happen.
//!
//! Names and labels are node_exporter's. What of its default metrics is absent, and why, stands in
//! docs/reference/signals.md, which is made from [`REGISTRY`].
//!
//! What it leaves to others: timers (the run loop's), frames (`pitwatch_shared::codec`), the text format
//! ([`crate::exposition`]).

mod agent;
mod apart;
mod bonds;
mod btrfs;
mod cgroups;
mod clock;
mod cpu;
mod dbus;
mod diskinfo;
mod disks;
mod facts;
mod filesystems;
mod hwmon;
mod interfaces;
mod ipvs;
mod memory;
mod metric;
mod netstat;
mod network;
mod nfs;
mod notices;
mod numbers;
mod parse;
mod pressure;
mod prober;
mod processes;
mod raid;
mod rapl;
#[cfg(test)]
mod reference;
mod sockets;
mod source;
mod sysfs;
mod table;
#[cfg(test)]
mod testing;
mod throttles;
mod tracking;
mod units;
mod xfs;
mod zfs;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pitwatch_shared::codec::GroupId;

pub use self::agent::Runtime;
#[doc(hidden)]
pub use self::dbus::try_message as try_dbus_message;
pub use self::metric::Metric;
pub use self::notices::{Ended, Notice};
pub use self::processes::{Pattern, WATCHES_MAX, WatchBy, WatchConfig};
#[doc(hidden)]
pub use self::sockets::try_answer as try_sockets_answer;
pub use self::source::{Now, SourceError};
pub(crate) use self::table::Handle;
pub use self::table::{Changes, SERIES_PER_GROUP_MAX, Table};

use self::agent::{Agent, Counts};
use self::apart::Apart;
use self::notices::Notices;
use self::processes::Processes;
use self::source::{Buffer, Pass, Sink, Source, Together};

/// How the host is looked at: cadences and limits of the config, roots of the files.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalsConfig {
    /// Of the host's vitals.
    pub cadence: Duration,
    /// Of the top processes.
    pub process_cadence: Duration,
    /// How many processes by CPU, and how many by memory; half as many by IO, open files and threads.
    pub process_top: usize,
    /// Whether the top processes' command lines are given, their secrets hidden.
    pub command_lines: bool,
    /// The processes to watch.
    pub watches: Vec<WatchConfig>,
    /// Of filesystems' space.
    pub filesystem_cadence: Duration,
    /// Of interfaces' states.
    pub interface_cadence: Duration,
    /// Of TCP's states and the sockets' queues.
    pub socket_cadence: Duration,
    /// Of sensors, the clock's discipline, RAID.
    pub sensor_cadence: Duration,
    /// Of systemd's units and the services' control groups.
    pub service_cadence: Duration,
    /// Of what seldom changes: kernel, distribution.
    pub facts_cadence: Duration,
    /// Of the agent's own counters.
    pub agent_cadence: Duration,
    /// Where /proc is.
    pub proc_root: PathBuf,
    /// Where /sys is.
    pub sys_root: PathBuf,
    /// Where the host's own root is.
    pub root: PathBuf,
}

impl Default for SignalsConfig {
    fn default() -> Self {
        Self {
            cadence: Duration::from_secs(1),
            process_cadence: Duration::from_secs(5),
            process_top: 10,
            command_lines: true,
            watches: Vec::new(),
            filesystem_cadence: Duration::from_secs(10),
            interface_cadence: Duration::from_secs(10),
            socket_cadence: Duration::from_secs(10),
            sensor_cadence: Duration::from_secs(10),
            service_cadence: Duration::from_secs(10),
            facts_cadence: Duration::from_secs(60),
            agent_cadence: Duration::from_secs(10),
            proc_root: "/proc".into(),
            sys_root: "/sys".into(),
            root: "/".into(),
        }
    }
}

/// The host's vitals.
pub const VITALS: GroupId = 0;
/// The top processes.
pub const PROCESSES: GroupId = 1;
/// Filesystems' space.
pub const FILESYSTEMS: GroupId = 2;
/// Interfaces' states.
pub const INTERFACES: GroupId = 3;
/// What seldom changes.
pub const FACTS: GroupId = 4;
/// The agent's own counters.
pub const AGENT: GroupId = 5;
/// TCP's states and the sockets' queues.
pub const SOCKETS: GroupId = 6;
/// Sensors, the clock's discipline, what drivers, RAID and filesystems count.
pub const SENSORS: GroupId = 7;
/// systemd's units and the services' control groups.
pub const SERVICES: GroupId = 8;
const GROUPS: usize = 9;

/// The longest that a gathering of the run loop waits for what is asked elsewhere.
const PATIENCE: Duration = Duration::from_millis(20);

/// A set of series sampled together at one cadence: a group of the codec.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its number in the frames.
    pub id: GroupId,
    /// Its name in docs and in the agent's own metrics.
    pub name: &'static str,
    /// How often it is gathered.
    pub cadence: Duration,
}

/// Every metric that the agent can give, by the group that gives it.
pub static REGISTRY: [(GroupId, &[Metric]); 62] = [
    (VITALS, &cpu::METRICS),
    (VITALS, &memory::MEMINFO),
    (VITALS, &memory::VMSTAT),
    (VITALS, &disks::METRICS),
    (VITALS, &network::METRICS),
    (VITALS, &network::SOFTNET),
    (VITALS, &netstat::NETSTAT),
    (VITALS, &netstat::SOCKSTAT),
    (VITALS, &pressure::METRICS),
    (VITALS, &numbers::LOAD),
    (VITALS, &numbers::OPEN_FILES),
    (VITALS, &numbers::ENTROPY),
    (VITALS, &numbers::CONNTRACK),
    (VITALS, &numbers::CLOCK),
    (VITALS, &cpu::SCHEDSTAT),
    (VITALS, &tracking::CONNTRACK_STAT),
    (PROCESSES, &processes::METRICS),
    (PROCESSES, &processes::WATCH),
    (FILESYSTEMS, &filesystems::METRICS),
    (FILESYSTEMS, &nfs::METRICS),
    (FILESYSTEMS, &nfs::server::METRICS),
    (INTERFACES, &interfaces::NUMBERS),
    (INTERFACES, &interfaces::TEXTS),
    (INTERFACES, &bonds::METRICS),
    (INTERFACES, &tracking::ARP),
    (INTERFACES, &ipvs::METRICS),
    (SOCKETS, &sockets::METRICS),
    (SENSORS, &clock::TIMEX),
    (SENSORS, &clock::SOURCES),
    (SENSORS, &hwmon::METRICS),
    (SENSORS, &sysfs::THERMAL_ZONES),
    (SENSORS, &sysfs::COOLING_DEVICES),
    (SENSORS, &sysfs::FREQUENCIES),
    (SENSORS, &throttles::METRICS),
    (SENSORS, &rapl::METRICS),
    (SENSORS, &sysfs::POWER_SUPPLIES),
    (SENSORS, &sysfs::POWER_SUPPLY_INFO),
    (SENSORS, &sysfs::MEMORY_ERRORS),
    (SENSORS, &sysfs::MEMORY_ROW_ERRORS),
    (SENSORS, &sysfs::NVME_INFO),
    (SENSORS, &sysfs::SCSI_ERRORS),
    (SENSORS, &sysfs::FC_INFO),
    (SENSORS, &sysfs::FC_COUNTERS),
    (SENSORS, &sysfs::INFINIBAND_INFO),
    (SENSORS, &sysfs::INFINIBAND),
    (SENSORS, &sysfs::TAPES),
    (SENSORS, &raid::METRICS),
    (SENSORS, &btrfs::METRICS),
    (SENSORS, &xfs::METRICS),
    (SENSORS, &zfs::METRICS),
    (SERVICES, &units::METRICS),
    (SERVICES, &cgroups::METRICS),
    (FACTS, &facts::UNAME),
    (FACTS, &facts::OS),
    (FACTS, &facts::REBOOT),
    (FACTS, &facts::SELINUX),
    (FACTS, &sysfs::DMI_INFO),
    (FACTS, &diskinfo::METRICS),
    (FACTS, &clock::ZONE),
    (AGENT, &agent::METRICS),
    (AGENT, &agent::RUNTIME),
    (AGENT, &agent::EVENTS),
];

/// What is known of the metric called `name`.
#[must_use]
pub fn metric(name: &str) -> Option<&'static Metric> {
    let mut metrics = REGISTRY.iter().flat_map(|(_, metrics)| metrics.iter());
    metrics.find(|metric| metric.covers(name))
}

/// How often a source failed, and whether it does now.
struct Failures {
    source: &'static str,
    count: u64,
    /// Why the last gathering failed as a whole, if it did: it was logged when that began.
    failing: Option<String>,
    handle: Handle,
}

/// The signals of this host.
pub struct Signals {
    groups: [Group; GROUPS],
    tables: [Table; GROUPS],
    sources: Vec<(GroupId, Box<dyn Source>)>,
    /// Of each source, then of the agent's own signals.
    failures: Vec<Failures>,
    agent: Agent,
    series: [[Handle; 2]; GROUPS],
    buffer: Buffer,
    patience: Duration,
    notices: Notices,
}

impl Signals {
    /// The signals that `config` asks for; every series will carry `labels`. Nothing is read yet.
    #[must_use]
    pub fn new(config: &SignalsConfig, labels: &[(String, String)]) -> Self {
        let notices = Notices::default();
        let sources = sources(config, &notices);
        let names = sources.iter().map(|(_, source)| source.name()).chain(["agent"]);
        let failures = names.map(|source| Failures { source, count: 0, failing: None, handle: Handle::default() });
        Self {
            groups: groups(config),
            tables: std::array::from_fn(|_| Table::new(labels)),
            failures: failures.collect(),
            sources,
            agent: Agent::new(&config.proc_root),
            series: Default::default(),
            buffer: Buffer::new(),
            patience: PATIENCE,
            notices,
        }
    }

    /// How long a gathering waits for what is asked elsewhere, such as filesystems; what is late is given with the next.
    pub fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The groups, by their ids from 0 on.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// A group's series as they were last gathered.
    ///
    /// # Panics
    /// If `group` is none of [`Signals::groups`].
    pub fn table(&mut self, group: GroupId) -> &mut Table {
        &mut self.tables[usize::from(group)]
    }

    /// Every group's series as they were last gathered.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter()
    }

    /// Hands in what the run loop counts; given with the next gathering of [`AGENT`].
    pub fn set_runtime(&mut self, runtime: Runtime) {
        self.agent.runtime = Some(runtime);
    }

    /// Takes what sources saw happen since this was last asked, each with its time in milliseconds since the Unix epoch.
    pub fn take_notices(&mut self) -> Vec<(i64, Notice)> {
        self.notices.take()
    }

    /// Reads the sources of `group` into its table: one tick. Whatever fails is counted and holds up nothing else.
    ///
    /// # Panics
    /// If `group` is none of [`Signals::groups`].
    pub fn gather(&mut self, group: GroupId, now: Now) -> &mut Table {
        let counts = (group == AGENT).then(|| self.group_counts());
        let patience = self.patience;
        let table = &mut self.tables[usize::from(group)];
        table.begin();
        for ((of, source), failures) in self.sources.iter_mut().zip(&mut self.failures) {
            if *of != group {
                continue;
            }
            let mut pass = Pass { sink: Sink { table, malformed: 0 }, buffer: &mut self.buffer, now, patience };
            let outcome = source.gather(&mut pass);
            failures.note(pass.sink.malformed, outcome);
        }
        if let Some(groups) = counts {
            let mut pass = Pass { sink: Sink { table, malformed: 0 }, buffer: &mut self.buffer, now, patience };
            let counts = Counts { failures: &mut self.failures, groups, series: &mut self.series };
            let outcome = self.agent.gather(&mut pass, counts);
            let malformed = pass.sink.malformed;
            if let Some(failures) = self.failures.last_mut() {
                failures.note(malformed, outcome);
            }
        }
        table.end();
        table
    }

    /// The sources that failed when they were last read, and why.
    #[must_use]
    pub fn failing(&self) -> Vec<(&'static str, &str)> {
        self.failures.iter().filter_map(|failures| Some((failures.source, failures.failing.as_deref()?))).collect()
    }

    /// Of each group its name, its live and its refused series.
    fn group_counts(&self) -> [(&'static str, usize, u64); GROUPS] {
        std::array::from_fn(|at| (self.groups[at].name, self.tables[at].len(), self.tables[at].refused()))
    }
}

impl Failures {
    fn note(&mut self, malformed: u64, outcome: Result<(), SourceError>) {
        self.count += malformed + u64::from(outcome.is_err());
        match outcome {
            Err(error) if self.failing.is_none() => {
                let why = chain(&error);
                tracing::warn!(source = self.source, "a source of signals fails; its series end meanwhile: {why}");
                self.failing = Some(why);
            }
            Ok(()) if self.failing.take().is_some() => {
                tracing::info!(source = self.source, "the source of signals is back");
            }
            _ => {}
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &SourceError) -> String {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        why += &format!(": {error}");
        cause = error.source();
    }
    why
}

fn groups(config: &SignalsConfig) -> [Group; GROUPS] {
    let group = |id, name, cadence| Group { id, name, cadence };
    [
        group(VITALS, "vitals", config.cadence),
        group(PROCESSES, "processes", config.process_cadence),
        group(FILESYSTEMS, "filesystems", config.filesystem_cadence),
        group(INTERFACES, "interfaces", config.interface_cadence),
        group(FACTS, "facts", config.facts_cadence),
        group(AGENT, "agent", config.agent_cadence),
        group(SOCKETS, "sockets", config.socket_cadence),
        group(SENSORS, "sensors", config.sensor_cadence),
        group(SERVICES, "services", config.service_cadence),
    ]
}

fn sources(config: &SignalsConfig, notices: &Notices) -> Vec<(GroupId, Box<dyn Source>)> {
    let (proc, sys, root) = (&*config.proc_root, &*config.sys_root, &*config.root);
    let (top, command_lines) = (config.process_top, config.command_lines);
    let processes = Processes::new(proc, root, top, command_lines, &config.watches, notices.clone());
    let mut sources: Vec<(GroupId, Box<dyn Source>)> = vec![
        (VITALS, Box::new(cpu::Cpu::new(proc))),
        (VITALS, Box::new(memory::Memory::new(proc))),
        (VITALS, Box::new(memory::Vmstat::new(proc))),
        (VITALS, Box::new(disks::Disks::new(proc))),
        (VITALS, Box::new(network::Network::new(proc))),
        (VITALS, Box::new(network::Softnet::new(proc))),
        (VITALS, Box::new(netstat::Netstat::new(proc))),
        (VITALS, Box::new(netstat::Sockstat::new(proc))),
        (VITALS, Box::new(pressure::Pressure::new(proc))),
        (VITALS, Box::new(numbers::Clock::default())),
        (VITALS, Box::new(cpu::Schedstat::new(proc))),
        (VITALS, Box::new(tracking::ConntrackStat::new(proc))),
        (PROCESSES, Box::new(Apart::new(processes))),
        (FILESYSTEMS, Box::new(filesystems::Filesystems::new(proc, root, Arc::new(prober::statvfs)))),
        (FILESYSTEMS, Box::new(nfs::Nfs::new(proc))),
        (FILESYSTEMS, Box::new(nfs::server::Nfsd::new(proc))),
        (INTERFACES, Box::new(Apart::new(interfaces::Interfaces::new(sys)))),
        (INTERFACES, Box::new(bonds::Bonds::new(sys))),
        (INTERFACES, Box::new(tracking::Arp::new(proc))),
        (INTERFACES, Box::new(ipvs::Ipvs::new(proc))),
        (SOCKETS, Box::new(Apart::new(sockets::Sockets::new()))),
        (SENSORS, Box::new(clock::Timex::default())),
        (SENSORS, Box::new(clock::ClockSources::new(sys))),
        (SENSORS, Box::new(raid::Raid::new(proc))),
        (SENSORS, Box::new(Apart::new(hwmon::Hwmon::new(sys)))),
        (SERVICES, Box::new(Apart::new(units::Units::new(root, notices.clone())))),
        (SERVICES, Box::new(cgroups::Cgroups::new(sys))),
        (FACTS, Box::new(facts::Uname::default())),
        (FACTS, Box::new(facts::Os::new(root))),
        (FACTS, Box::new(facts::Reboot::new(root))),
        (FACTS, Box::new(facts::Selinux::new(sys, root))),
        (FACTS, Box::new(sysfs::Entries::new(sys, &sysfs::BOARD))),
        (FACTS, Box::new(diskinfo::DiskInfo::new(proc, root))),
        (FACTS, Box::new(clock::Zone::default())),
    ];
    // One thread for all of them: they are the drivers' and filesystems' files, and most hosts have few.
    let mut slow: Vec<Box<dyn Source>> = vec![
        Box::new(throttles::Throttles::new(sys)),
        Box::new(rapl::Rapl::new(sys)),
        Box::new(btrfs::Btrfs::new(sys)),
        Box::new(xfs::Xfs::new(sys)),
        Box::new(zfs::Zfs::new(proc)),
    ];
    slow.extend(sysfs::sources(sys));
    sources.push((SENSORS, Box::new(Apart::new(Together::new("sensors", slow)))));
    for layout in &numbers::LAYOUTS {
        sources.push((VITALS, Box::new(numbers::Numbers::new(proc, layout))));
    }
    sources
}

#[cfg(test)]
mod tests;
