//! collector.toml: as written, and as checked.
//!
//! [`Config`] exists only by parsing. Every mistake of a file and of the environment is told at once, as
//! `file:line: key: what is wrong; what is allowed`. `PITWATCH_COLLECTOR_DATA_DIR`, `PITWATCH_COLLECTOR_AGENTS` and
//! `PITWATCH_COLLECTOR_HTTP` stand over the file's.

mod http;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pitwatch_alerting::NoData;
use pitwatch_alerting::receivers::Secret;
use pitwatch_shared::limits::SETTINGS_MAX_BYTES;
use pitwatch_shared::settings::{Problem, Reader, Section, lines};

use crate::state::Engine;
pub use http::HttpConfig;
pub(crate) use http::reached_at;

/// Largest file read, in bytes.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
const MIB: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 3600);
const CERTIFICATE_LIFE_RANGE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(825 * 24 * 3600));
const RETENTION_RANGE: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(10 * 365 * 24 * 3600));
const RETENTION_BYTES_RANGE: (u64, u64) = (64 * MIB, 1 << 50);
const BLOCK_SPAN_RANGE: (Duration, Duration) = (Duration::from_secs(60), DAY);
const HEAD_RANGE: (u64, u64) = (16 * MIB, 64 * 1024 * MIB);
const REPEAT_RANGE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(30 * 24 * 3600));
const FALLBACK_RANGE: (Duration, Duration) = (Duration::from_secs(10), DAY);
const HEARTBEAT_RANGE: (Duration, Duration) = (Duration::from_secs(1), DAY);
/// Most receivers of alerts.
const RECEIVERS_MAX: usize = 64;

/// The collector's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Agents.
    pub agents: AgentsConfig,
    /// Sections of agent.toml that agents are sent, by their label `role`.
    pub roles: BTreeMap<String, String>,
    /// HTTP.
    pub http: HttpConfig,
    /// The engine of the small mutable state.
    pub state: Engine,
    /// History.
    pub history: HistoryConfig,
    /// Rules and receivers.
    pub alerting: AlertingConfig,
    /// How much is logged.
    pub log_level: tracing::Level,
}

/// How agents come in.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentsConfig {
    /// The UDP address.
    pub listen: SocketAddr,
    /// How agents reach it, `HOST:PORT`, for the commands that people are shown.
    pub address: Option<String>,
    /// Life of agents' certificates.
    pub certificate_life: Duration,
}

/// What history keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryConfig {
    /// How long samples.
    pub retention: Duration,
    /// How long what remains of them by the minute.
    pub retention_minutes: Duration,
    /// How long what remains of them by the hour.
    pub retention_hours: Duration,
    /// How long events.
    pub retention_events: Duration,
    /// How much of samples.
    pub retention_bytes: Option<u64>,
    /// Time that one block covers at most.
    pub block_span: Duration,
    /// Memory of samples that are not in a block yet.
    pub head_max_bytes: u64,
}

/// Rules, and who is told.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertingConfig {
    /// The directory of rule files, `*.yml` and `*.yaml`.
    pub rules_dir: Option<PathBuf>,
    /// Whether the rules that come with Pitwatch are on.
    pub stock_rules: bool,
    /// What missing data means to a rule that does not say.
    pub no_data: NoData,
    /// A firing alert is told again after this; of no meaning beside `alertmanager_config`, which has its own.
    pub repeat_interval: Duration,
    /// Who is told, by name: everybody of everything.
    pub receivers: Vec<ReceiverConfig>,
    /// Alertmanager's configuration file, in the place of a plain list of receivers.
    pub alertmanager_config: Option<PathBuf>,
    /// The receiver that is told what another does not take.
    pub fallback_receiver: Option<String>,
    /// How long that other is tried before.
    pub fallback_after: Duration,
    /// Who is told that the collector lives.
    pub heartbeat: Option<HeartbeatConfig>,
}

/// The sign of life to an outside service.
#[derive(Clone, Debug, PartialEq)]
pub struct HeartbeatConfig {
    /// The address that is asked for.
    pub url: Secret,
    /// How often.
    pub interval: Duration,
}

/// One receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiverConfig {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub kind: ReceiverKind,
    /// Where it is.
    pub url: Secret,
}

/// What a receiver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverKind {
    /// Slack's incoming webhook.
    Slack,
    /// Mattermost's.
    Mattermost,
    /// Rocket.Chat's.
    RocketChat,
    /// Discord's webhook.
    Discord,
    /// Microsoft Teams' workflow webhook.
    Teams,
    /// Google Chat's webhook.
    GoogleChat,
    /// Alertmanager's webhook JSON.
    Webhook,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}; it is where --config says, /etc/pitwatch/collector.toml by default")]
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
    /// Reads and checks a file and the environment. A file that is not there is an empty one if `optional`.
    ///
    /// # Errors
    /// The file cannot be read, or every mistake in it.
    pub fn load(path: &Path, optional: bool) -> Result<Self, ConfigError> {
        let read = || -> io::Result<String> {
            if std::fs::metadata(path)?.len() > FILE_MAX_BYTES {
                return Err(io::Error::other(format!("it is larger than {FILE_MAX_BYTES} bytes")));
            }
            std::fs::read_to_string(path)
        };
        let text = match read() {
            Err(error) if optional && error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
        };
        Self::parse(&text, path, |name| std::env::var(name).ok())
    }

    /// Checks a file's text; `variable` is the environment.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn parse(text: &str, file: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let (mut reader, table) = Reader::new(text, file);
        let reader = &mut reader;
        let mut top = Section::new("", table);
        let data_dir = top.value(reader, "data_dir", DATA_DIR, parse_dir);
        let data_dir = over(reader, &variable, "PITWATCH_COLLECTOR_DATA_DIR", data_dir, DATA_DIR, parse_dir);
        let agents = agents(top.table(reader, "agents"), reader, &variable);
        let http = http::http(top.table(reader, "http"), reader, &variable);
        let state = state(top.table(reader, "state"), reader);
        let roles = roles(top.table(reader, "roles"), reader);
        let history = history(top.table(reader, "history"), reader);
        let receivers = receivers(top.table(reader, "receivers"), reader, &variable);
        let alerting = alerting(top.table(reader, "alerting"), reader, &variable, receivers);
        let log_level = log_level(top.table(reader, "log"), reader);
        top.end(reader);
        if !reader.problems.is_empty() {
            reader.problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
            return Err(ConfigError::Invalid(std::mem::take(&mut reader.problems)));
        }
        let data_dir = data_dir.unwrap_or_else(|| "/var/lib/pitwatch/collector".into());
        Ok(Self { data_dir, agents, roles, http, state, history, alerting, log_level })
    }
}

const DATA_DIR: &str = "give an absolute path, such as \"/var/lib/pitwatch/collector\"";
const LISTEN: &str = "give an address and a port, such as \"0.0.0.0:4717\" or \"[::]:4717\"";
const URL: &str = "give an address that begins with http:// or https://";
const KINDS: [(&str, ReceiverKind); 7] = [
    ("slack", ReceiverKind::Slack),
    ("mattermost", ReceiverKind::Mattermost),
    ("rocketchat", ReceiverKind::RocketChat),
    ("discord", ReceiverKind::Discord),
    ("msteams", ReceiverKind::Teams),
    ("googlechat", ReceiverKind::GoogleChat),
    ("webhook", ReceiverKind::Webhook),
];
const KINDS_ALLOWED: &str = "use slack, mattermost, rocketchat, discord, msteams, googlechat or webhook; telegram, pagerduty, \
                             email and alertmanager stand in alertmanager_config";
const LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

/// The environment's value of `name` before the file's.
fn over<T>(
    reader: &mut Reader<'_>,
    variable: &impl Fn(&str) -> Option<String>,
    name: &str,
    in_file: Option<T>,
    allowed: &str,
    parse: fn(&str) -> Result<T, String>,
) -> Option<T> {
    let Some(text) = variable(name) else { return in_file };
    parse(&text).map_err(|what| reader.note_variable(name, format!("{what}; {allowed}"))).ok()
}

fn agents(
    mut section: Section<'_>,
    reader: &mut Reader<'_>,
    variable: &impl Fn(&str) -> Option<String>,
) -> AgentsConfig {
    let listen = section.value(reader, "listen", LISTEN, parse_socket);
    let listen = over(reader, variable, "PITWATCH_COLLECTOR_AGENTS", listen, LISTEN, parse_socket);
    let address = section.value(reader, "address", "give host:port as agents reach it", |text| {
        let port = text.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
        port.map(|_| text.to_owned()).ok_or_else(|| format!("{text:?} is no host and port"))
    });
    let life = section.duration(reader, "certificate_life", CERTIFICATE_LIFE_RANGE);
    section.end(reader);
    AgentsConfig {
        listen: listen.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 4717))),
        address,
        certificate_life: life.unwrap_or(90 * DAY),
    }
}

/// What agents of each role are sent. Only their own checks know what its values may be; here it must be TOML of sections that
/// the collector may set, so that a slip is told at once.
fn roles(section: Section<'_>, reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let mut roles = BTreeMap::new();
    for (_, role, mut table) in section.tables(reader) {
        let settings = table.value(reader, "settings", ROLE_SETTINGS, |text| {
            if text.len() > SETTINGS_MAX_BYTES {
                return Err(format!("{} bytes, more than {SETTINGS_MAX_BYTES}", text.len()));
            }
            let parsed: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
            match parsed.keys().find(|key| !ROLE_SECTIONS.contains(&key.as_str())) {
                Some(key) => Err(format!("{key:?} is not for the collector to set")),
                None => Ok(text.to_owned()),
            }
        });
        table.end(reader);
        roles.extend(settings.map(|settings| (role, settings)));
    }
    roles
}

const ROLE_SECTIONS: [&str; 5] = ["labels", "signals", "textfile", "statsd", "scrape"];
const ROLE_SETTINGS: &str =
    "give the sections [labels], [signals], [textfile], [statsd] and [scrape.NAME] of agent.toml";

fn state(mut section: Section<'_>, reader: &mut Reader<'_>) -> Engine {
    let engine = section.value(reader, "engine", "use \"redb\" or \"sled\"", |text| {
        text.parse::<Engine>().map_err(|_| format!("{text:?} is no engine"))
    });
    section.end(reader);
    engine.unwrap_or_default()
}

fn history(mut section: Section<'_>, reader: &mut Reader<'_>) -> HistoryConfig {
    let retention = section.duration(reader, "retention", RETENTION_RANGE);
    let retention_minutes = section.duration(reader, "retention_1m", RETENTION_RANGE);
    let retention_hours = section.duration(reader, "retention_1h", RETENTION_RANGE);
    let retention_events = section.duration(reader, "retention_events", RETENTION_RANGE);
    let retention_bytes = section.bytes(reader, "retention_max", RETENTION_BYTES_RANGE);
    let block_span = section.duration(reader, "block_span", BLOCK_SPAN_RANGE);
    let head = section.bytes(reader, "head_max", HEAD_RANGE);
    section.end(reader);
    HistoryConfig {
        retention: retention.unwrap_or(30 * DAY),
        retention_minutes: retention_minutes.unwrap_or(365 * DAY),
        retention_hours: retention_hours.unwrap_or(5 * 365 * DAY),
        retention_events: retention_events.unwrap_or(365 * DAY),
        retention_bytes,
        block_span: block_span.unwrap_or(Duration::from_secs(2 * 3600)),
        head_max_bytes: head.unwrap_or(1024 * MIB),
    }
}

fn alerting(
    mut section: Section<'_>,
    reader: &mut Reader<'_>,
    variable: &impl Fn(&str) -> Option<String>,
    receivers: Vec<ReceiverConfig>,
) -> AlertingConfig {
    let rules_dir = section.value(reader, "rules_dir", "give an absolute path of a directory", parse_dir);
    let stock_rules = section.flag(reader, "stock_rules");
    let no_data = section.value(reader, "no_data", "use \"keep\", \"alert\" or \"resolve\"", |text| {
        NoData::from_name(text).ok_or_else(|| format!("{text:?} is no policy for missing data"))
    });
    let repeat = section.duration(reader, "repeat_interval", REPEAT_RANGE);
    let file = "give an absolute path, such as \"/etc/pitwatch/alertmanager.yml\"";
    let alertmanager_config = section.value(reader, "alertmanager_config", file, parse_dir);
    let fallback_receiver =
        section.value(reader, "fallback_receiver", "name a receiver", |text| Ok::<_, String>(text.to_owned()));
    let fallback_after = section.duration(reader, "fallback_after", FALLBACK_RANGE);
    let heartbeat = secret_urls(&mut section, reader, "heartbeat_url", variable).into_iter().next();
    let heartbeat_interval = section.duration(reader, "heartbeat_interval", HEARTBEAT_RANGE);
    section.end(reader);
    if alertmanager_config.is_some() && !receivers.is_empty() {
        let what = "the receivers stand in alertmanager_config; move [receivers] there, or leave that out";
        reader.note(None, "alerting.alertmanager_config".to_owned(), what.to_owned());
    }
    let known = |name: &String| receivers.iter().any(|receiver| receiver.name == *name);
    if let Some(name) = fallback_receiver.as_ref().filter(|name| alertmanager_config.is_none() && !known(name)) {
        reader.note(None, "alerting.fallback_receiver".to_owned(), format!("there is no [receivers.{name}]"));
    }
    AlertingConfig {
        rules_dir,
        stock_rules: stock_rules.unwrap_or(true),
        no_data: no_data.unwrap_or_default(),
        repeat_interval: repeat.unwrap_or(Duration::from_secs(4 * 3600)),
        receivers,
        alertmanager_config,
        fallback_receiver,
        fallback_after: fallback_after.unwrap_or(Duration::from_secs(10 * 60)),
        heartbeat: heartbeat.map(|url| HeartbeatConfig {
            url: Secret::Text(url),
            interval: heartbeat_interval.unwrap_or(Duration::from_secs(60)),
        }),
    }
}

fn receivers(
    section: Section<'_>,
    reader: &mut Reader<'_>,
    variable: &impl Fn(&str) -> Option<String>,
) -> Vec<ReceiverConfig> {
    let mut receivers = Vec::new();
    for (span, name, mut table) in section.tables(reader) {
        let kind = table.value(reader, "kind", KINDS_ALLOWED, |text| {
            let kind = KINDS.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind);
            kind.ok_or_else(|| format!("{text:?} is no kind of receiver"))
        });
        let urls = secret_urls(&mut table, reader, "url", variable);
        table.end(reader);
        match (urls.as_slice(), kind) {
            ([url], kind) => {
                let (kind, url) = (kind.unwrap_or(ReceiverKind::Webhook), Secret::Text(url.clone()));
                receivers.push(ReceiverConfig { name, kind, url });
            }
            ([], _) if !reader.problems.is_empty() => {}
            _ => reader.note(
                Some(span),
                format!("receivers.{name}"),
                "give exactly one of url, url_env and url_file".to_owned(),
            ),
        }
    }
    if receivers.len() > RECEIVERS_MAX {
        let what = format!("{} receivers; at most {RECEIVERS_MAX} are allowed", receivers.len());
        reader.note(None, "receivers".to_owned(), what);
    }
    receivers
}

/// Addresses given as `KEY`, in the variable named by `KEY_env`, in the file named by `KEY_file`.
fn secret_urls(
    table: &mut Section<'_>,
    reader: &mut Reader<'_>,
    key: &'static str,
    variable: &impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let (env, file): (&'static str, &'static str) = match key {
        "url" => ("url_env", "url_file"),
        _ => ("heartbeat_url_env", "heartbeat_url_file"),
    };
    let url = table.value(reader, key, URL, parse_url);
    let from_env = table.value(reader, env, "name a variable that holds the address", |text| {
        variable(text).ok_or_else(|| format!("the environment has no {text}")).and_then(|url| parse_url(&url))
    });
    let from_file = table.value(reader, file, "name a file that holds the address", |text| {
        let read = std::fs::read_to_string(text).map_err(|error| format!("cannot read {text}: {error}"));
        read.and_then(|url| parse_url(url.trim()))
    });
    [url, from_env, from_file].into_iter().flatten().collect()
}

fn log_level(mut section: Section<'_>, reader: &mut Reader<'_>) -> tracing::Level {
    let level = section.value(reader, "level", "use error, warn, info, debug or trace", |text| {
        let level = LEVELS.iter().find(|(name, _)| *name == text).map(|(_, level)| *level);
        level.ok_or_else(|| format!("{text:?} is no level"))
    });
    section.end(reader);
    level.unwrap_or(tracing::Level::INFO)
}

fn parse_dir(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(format!("{text:?} is no absolute path")) }
}

fn parse_socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address with a port"))
}

fn parse_url(text: &str) -> Result<String, String> {
    let good = ["http://", "https://"].iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    // The text may be a secret: it is not repeated.
    if good { Ok(text.trim_end_matches('/').to_owned()) } else { Err("not an HTTP address".to_owned()) }
}

#[cfg(test)]
mod tests;
