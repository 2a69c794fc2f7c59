//! agent.toml: as written, and as checked.
//!
//! [`Config`] exists only by parsing: what it holds is within its limits. Every mistake of a file and of the
//! environment is told at once, as `file:line: key: what is wrong; what is allowed`. `PITWATCH_AGENT_NAME`,
//! `PITWATCH_AGENT_COLLECTOR` and `PITWATCH_AGENT_DATA_DIR` stand over the file's.
//!
//! It owns the keys and their limits; how a file is read and a mistake is placed is
//! [`pitwatch_shared::settings`]' matter.

mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pitwatch_shared::identity::AgentName;
use pitwatch_shared::limits;
use pitwatch_shared::model::INSTANCE;

pub use pitwatch_shared::settings::Problem;
use pitwatch_shared::settings::{Reader, Section, lines};

use crate::apps::{self, AppsConfig};
use crate::limits::LimitsConfig;
use crate::signals::{REGISTRY, SignalsConfig};

/// Largest file read, in bytes.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// Most labels of the host's own.
const HOST_LABELS_MAX: usize = 32;
/// The longest cadence: PromQL looks back 5 minutes for a value, so that a slower series would come and go.
pub(crate) const CADENCE_MAX: Duration = Duration::from_secs(4 * 60);
const VITALS_CADENCE_MIN: Duration = Duration::from_millis(100);
/// The shortest cadence of what is dear to gather.
const CADENCE_MIN: Duration = Duration::from_secs(1);
const PROCESS_TOP_MAX: u64 = 100;
const MIB: u64 = 1024 * 1024;
const QUEUE_MEMORY_RANGE_BYTES: (u64, u64) = (MIB, 1024 * MIB);
const CPU_PERCENT_MAX: u64 = 100;
/// Less than its least and the agent would not get far.
const LIMIT_MEMORY_RANGE_BYTES: (u64, u64) = (12 * MIB, 4096 * MIB);
const SPOOL_RANGE_BYTES: (u64, u64) = (MIB, 1024 * 1024 * MIB);
const SPOOL_AGE_RANGE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(30 * 24 * 3600));

/// The agent's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The agent's name, which the collector makes its `instance` label; the host's name unless it is given.
    pub name: AgentName,
    /// Where the collector listens.
    pub collector: Address,
    /// Where keys, certificates and the spool are.
    pub data_dir: PathBuf,
    /// The labels that every series of this host carries, sorted by name; `job` is `node` unless it is given.
    pub labels: Vec<(String, String)>,
    /// How the host is looked at.
    pub signals: SignalsConfig,
    /// What is taken of applications.
    pub apps: AppsConfig,
    /// What is kept while the collector is away.
    pub queue: QueueConfig,
    /// What the agent itself may use.
    pub limits: LimitsConfig,
    /// How much is logged.
    pub log_level: tracing::Level,
}

/// A host, by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How much is kept that the collector has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// In memory.
    pub memory_max_bytes: u64,
    /// On disk.
    pub spool_max_bytes: u64,
    /// On disk, by age.
    pub spool_max_age: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { memory_max_bytes: 8 * MIB, spool_max_bytes: 256 * MIB, spool_max_age: Duration::from_secs(24 * 3600) }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}; it is where --config says, /etc/pitwatch/agent.toml by default")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It can be read, and these are all the mistakes in it.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

impl Config {
    /// Reads and checks a file and the environment.
    ///
    /// # Errors
    /// The file cannot be read, or every mistake in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_over(path, |_| None)
    }

    /// As [`Config::load`], with what the collector says for this agent's role below it, as far as the file's
    /// `[central]` allows.
    ///
    /// # Errors
    /// As [`Config::load`], and every mistake in what the collector says.
    pub fn load_with(path: &Path, central: &str) -> Result<Self, ConfigError> {
        let (text, host) = read(path)?;
        let variable = |name: &str| std::env::var(name).ok();
        if central.is_empty() {
            return Self::parse(&text, path, &host, variable);
        }
        // Its mistakes, with its own lines. It need not name a collector.
        let place = Path::new(CENTRAL_PLACE);
        let given =
            Self::parse(central, place, &host, |name| (name == "PITWATCH_AGENT_COLLECTOR").then(|| "c:1".to_owned()))?;
        if let Some(scrape) = given.apps.scrape.iter().find(|scrape| scrape.access.reads_files()) {
            // Or whoever has the collector could have any file of the host sent to him.
            let (mut reader, _) = Reader::new(central, place);
            let what = "names a file of the host, which only the host's own configuration may do".to_owned();
            reader.note(None, format!("scrape.{}", scrape.job), what);
            return Err(ConfigError::Invalid(reader.problems));
        }
        Self::parse_with(&text, central, path, &host, variable)
    }

    /// As [`Config::load`], with values that go before the environment's, by the names of its variables: what a
    /// command line said.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_over(path: &Path, said: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let (text, host) = read(path)?;
        Self::parse(&text, path, &host, |name| said(name).or_else(|| std::env::var(name).ok()))
    }

    /// Checks a file's text; `host` is the host's name, `variable` the environment.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn parse(
        text: &str,
        file: &Path,
        host: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        Self::parse_with(text, "", file, host, variable)
    }

    fn parse_with(
        text: &str,
        central: &str,
        file: &Path,
        host: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let (mut reader, table) = Reader::new(text, file);
        let whole = reader.problems.is_empty();
        let mut top = Section::new("", table);
        let allowed = allowed(top.table(&mut reader, "central"), &mut reader);
        let (_, central) = Reader::new(central, file);
        top.put_below(central, &allowed);
        let mut given = Given { reader: &mut reader, variable: &variable };
        let name = given.over(&mut top, "name", "PITWATCH_AGENT_NAME", NAME, parse_name);
        let collector = given.over(&mut top, "collector", "PITWATCH_AGENT_COLLECTOR", COLLECTOR, parse_address);
        let data_dir = given.over(&mut top, "data_dir", "PITWATCH_AGENT_DATA_DIR", DATA_DIR, parse_dir);
        let labels = labels(top.table(&mut reader, "labels"), &mut reader);
        let mut signals = signals(top.table(&mut reader, "signals"), &mut reader);
        signals.watches = watch::watches(top.table(&mut reader, "watch"), &mut reader);
        let apps = apps::config::read(&mut top, &mut reader);
        let queue = queue(top.table(&mut reader, "queue"), &mut reader);
        let limits = limits(top.table(&mut reader, "limits"), &mut reader);
        let log_level = log_level(top.table(&mut reader, "log"), &mut reader);
        top.end(&mut reader);
        let name = match name {
            Value::Absent => named_after_host(host, &mut reader),
            given => given.good(),
        };
        if matches!(collector, Value::Absent) && whole {
            reader.note(None, "collector".to_owned(), format!("is missing; {COLLECTOR}"));
        }
        match (name, collector.good()) {
            (Some(name), Some(collector)) if reader.problems.is_empty() => Ok(Self {
                name,
                collector,
                data_dir: data_dir.good().unwrap_or_else(|| "/var/lib/pitwatch/agent".into()),
                labels,
                signals,
                apps,
                queue,
                limits,
                log_level,
            }),
            _ => {
                reader.problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
                Err(ConfigError::Invalid(reader.problems))
            }
        }
    }

    /// The host's labels that some of its signals have of their own, and keep: each with those signals' names.
    #[must_use]
    pub fn labels_of_signals(&self) -> Vec<(&str, Vec<&'static str>)> {
        let metrics = |name: &str| {
            let all = REGISTRY.iter().flat_map(|(_, metrics)| *metrics);
            all.filter(|metric| metric.labels.contains(&name)).map(|metric| metric.name).collect()
        };
        let labels = self.labels.iter().map(|(name, _)| (name.as_str(), metrics(name)));
        labels.filter(|(_, metrics): &(_, Vec<_>)| !metrics.is_empty()).collect()
    }
}

/// A file's text, and the host's name.
fn read(path: &Path) -> Result<(String, String), ConfigError> {
    let read = || -> io::Result<String> {
        if std::fs::metadata(path)?.len() > FILE_MAX_BYTES {
            return Err(io::Error::other(format!("it is larger than {FILE_MAX_BYTES} bytes")));
        }
        std::fs::read_to_string(path)
    };
    let text = read().map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    Ok((text, rustix::system::uname().nodename().to_string_lossy().into_owned()))
}

/// Where mistakes of what the collector sent are said to be.
const CENTRAL_PLACE: &str = "the collector's settings";
/// The sections that the collector may set.
const CENTRAL_SECTIONS: [&str; 5] = ["labels", "signals", "textfile", "statsd", "scrape"];
/// Those that it may set where the file says nothing: none that reads more of the host, or opens a socket.
const CENTRAL_DEFAULT: [&str; 2] = ["labels", "signals"];
const NAME: &str = "use 1 to 128 letters, digits, '.', '-', '_' or ':', beginning with a letter or digit";
const COLLECTOR: &str = "give host:port, such as \"collector.example.com:4717\" or \"[2001:db8::1]:4717\"";
const DATA_DIR: &str = "give an absolute path, such as \"/var/lib/pitwatch/agent\"";
const LABEL: &str = "use letters, digits and '_', not beginning with a digit or with '__'";
const LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

/// A value that may stand in the file, and may be wrong.
enum Value<T> {
    Absent,
    Wrong,
    Good(T),
}

impl<T> Value<T> {
    fn good(self) -> Option<T> {
        match self {
            Self::Good(value) => Some(value),
            Self::Absent | Self::Wrong => None,
        }
    }
}

/// The file and the environment that stands over it.
struct Given<'r, 't> {
    reader: &'r mut Reader<'t>,
    variable: &'r dyn Fn(&str) -> Option<String>,
}

impl Given<'_, '_> {
    /// The value of the environment's `variable`, else of the file's `key`. Both are checked.
    fn over<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        variable: &str,
        allowed: &str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Value<T> {
        let problems = self.reader.problems.len();
        let in_file = section.value(self.reader, key, allowed, parse);
        let wrong = self.reader.problems.len() > problems;
        match (self.variable)(variable) {
            Some(text) => match parse(&text) {
                Ok(value) => Value::Good(value),
                Err(what) => {
                    self.reader.note_variable(variable, format!("{what}; {allowed}"));
                    Value::Wrong
                }
            },
            None if wrong => Value::Wrong,
            None => in_file.map_or(Value::Absent, Value::Good),
        }
    }
}

fn named_after_host(host: &str, reader: &mut Reader<'_>) -> Option<AgentName> {
    let name = parse_name(host).ok();
    if name.is_none() {
        reader.note(None, "name".to_owned(), format!("is missing, and the host's name {host:?} cannot be it; {NAME}"));
    }
    name
}

fn parse_name(text: &str) -> Result<AgentName, String> {
    text.parse().map_err(|_| format!("{text:?} is no agent's name"))
}

fn parse_dir(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(format!("{text:?} is no absolute path")) }
}

fn parse_address(text: &str) -> Result<Address, String> {
    let wrong = || format!("{text:?} is no host and port");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bracketed {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.len() <= 253 && host.chars().all(in_name)
        }
    };
    if port == 0 || !good {
        return Err(wrong());
    }
    Ok(Address { host: bracketed.unwrap_or(host).to_owned(), port })
}

/// The sections that the collector may set on this host.
fn allowed(mut section: Section<'_>, reader: &mut Reader<'_>) -> Vec<&'static str> {
    let given = section.has("allow");
    let list = section.list(reader, "allow", "use labels, signals, textfile, statsd or scrape", |text| {
        let known = CENTRAL_SECTIONS.iter().find(|known| **known == text);
        known.copied().ok_or_else(|| format!("{text:?} is no section that the collector may set"))
    });
    section.end(reader);
    if given { list } else { CENTRAL_DEFAULT.to_vec() }
}

/// The host's labels, with `job` where it is not given; one given as empty is left out.
fn labels(section: Section<'_>, reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let mut labels = BTreeMap::from([("job".to_owned(), "node".to_owned())]);
    for (span, name, value) in section.texts(reader) {
        match label_problem(&name, &value) {
            Some(what) => reader.note(Some(span), format!("labels.{name}"), what),
            None => {
                labels.insert(name, value);
            }
        }
    }
    labels.retain(|_, value| !value.is_empty());
    if labels.len() > HOST_LABELS_MAX {
        let what = format!("{} labels, job among them; at most {HOST_LABELS_MAX} are allowed", labels.len());
        reader.note(None, "labels".to_owned(), what);
    }
    labels.into_iter().collect()
}

/// Labels that make a series of a histogram or a summary what it is: of an application's they may not be renamed.
const HISTOGRAM_LABELS: [&str; 2] = ["le", "quantile"];

pub(crate) fn label_problem(name: &str, value: &str) -> Option<String> {
    let first = name.bytes().next().unwrap_or(b'0');
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !plain || first.is_ascii_digit() || name.starts_with("__") || name.len() > limits::LABEL_NAME_MAX_BYTES {
        return Some(format!("{name:?} is no label's name; {LABEL}"));
    }
    if name == INSTANCE {
        return Some("the collector sets this label to the agent's name; set name instead".to_owned());
    }
    if HISTOGRAM_LABELS.contains(&name) {
        return Some("histograms and summaries are told apart by this label; choose another name".to_owned());
    }
    (value.len() > HOST_LABEL_VALUE_MAX_BYTES)
        .then(|| format!("a value of {} bytes; at most {HOST_LABEL_VALUE_MAX_BYTES} bytes are allowed", value.len()))
}

/// Longest value of a label of the host's own, in bytes: it stands on every series.
const HOST_LABEL_VALUE_MAX_BYTES: usize = 256;
const _: () = assert!(HOST_LABEL_VALUE_MAX_BYTES <= limits::LABEL_VALUE_MAX_BYTES);
const _: () =
    assert!(HOST_LABELS_MAX * (HOST_LABEL_VALUE_MAX_BYTES + limits::LABEL_NAME_MAX_BYTES) <= limits::LABELS_MAX_BYTES);

fn signals(mut section: Section<'_>, reader: &mut Reader<'_>) -> SignalsConfig {
    let mut config = SignalsConfig::default();
    let dear = (CADENCE_MIN, CADENCE_MAX);
    for (key, cadence, range) in [
        ("cadence", &mut config.cadence, (VITALS_CADENCE_MIN, CADENCE_MAX)),
        ("process_cadence", &mut config.process_cadence, dear),
        ("filesystem_cadence", &mut config.filesystem_cadence, dear),
        ("interface_cadence", &mut config.interface_cadence, dear),
        ("socket_cadence", &mut config.socket_cadence, dear),
        ("sensor_cadence", &mut config.sensor_cadence, dear),
        ("service_cadence", &mut config.service_cadence, dear),
        ("facts_cadence", &mut config.facts_cadence, dear),
    ] {
        *cadence = section.duration(reader, key, range).unwrap_or(*cadence);
    }
    if let Some(top) = section.number(reader, "process_top", 0..PROCESS_TOP_MAX + 1) {
        config.process_top = top as usize;
    }
    config.command_lines = section.flag(reader, "command_lines").unwrap_or(config.command_lines);
    section.end(reader);
    config
}

fn queue(mut section: Section<'_>, reader: &mut Reader<'_>) -> QueueConfig {
    let config = QueueConfig::default();
    let memory = section.bytes(reader, "memory_max", QUEUE_MEMORY_RANGE_BYTES);
    let spool = section.bytes(reader, "spool_max", SPOOL_RANGE_BYTES);
    let age = section.duration(reader, "spool_max_age", SPOOL_AGE_RANGE);
    section.end(reader);
    QueueConfig {
        memory_max_bytes: memory.unwrap_or(config.memory_max_bytes),
        spool_max_bytes: spool.unwrap_or(config.spool_max_bytes),
        spool_max_age: age.unwrap_or(config.spool_max_age),
    }
}

fn limits(mut section: Section<'_>, reader: &mut Reader<'_>) -> LimitsConfig {
    let config = LimitsConfig::default();
    let percent = section.number(reader, "cpu_max_percent", 1..CPU_PERCENT_MAX + 1);
    let memory = section.bytes(reader, "memory_max", LIMIT_MEMORY_RANGE_BYTES);
    section.end(reader);
    LimitsConfig {
        cpu_max_ratio: percent.map_or(config.cpu_max_ratio, |percent| percent as f64 / 100.0),
        memory_max_bytes: memory.unwrap_or(config.memory_max_bytes),
    }
}

fn log_level(mut section: Section<'_>, reader: &mut Reader<'_>) -> tracing::Level {
    let level = section.value(reader, "level", "use error, warn, info, debug or trace", |text| {
        let level = LEVELS.iter().find(|(name, _)| *name == text).map(|(_, level)| *level);
        level.ok_or_else(|| format!("{text:?} is no level"))
    });
    section.end(reader);
    level.unwrap_or(tracing::Level::INFO)
}

#[cfg(test)]
mod tests;
