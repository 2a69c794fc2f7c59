//! The sections `[textfile]`, `[statsd]` and `[scrape.NAME]` of agent.toml.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use pitwatch_shared::settings::{Reader, Section};

use super::TARGETS_MAX;
use super::access::{AccessConfig, Credentials, Trust, is_loopback};
use super::http::Url;
use super::rules::{Pattern, Rules};
use super::scrape::ScrapeConfig;
use crate::signals::SERIES_PER_GROUP_MAX;

const MIB: u64 = 1024 * 1024;
const CADENCE_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4 * 60));
const TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
const EXPIRE_RANGE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(7 * 24 * 3600));
const BODY_RANGE: (u64, u64) = (1024, 64 * MIB);
/// Most patterns of one list.
const PATTERNS_MAX: usize = 200;
const DIRECTORY: &str = "give absolute paths of directories";
const URL: &str = "give http://host:port/path or https://host:port/path";
const FILE: &str = "give the absolute path of a file";
const AUTHORITIES: &str = "is missing; give the file of the authorities to trust, such as \
                           \"/etc/ssl/certs/ca-certificates.crt\", or insecure = true to trust anyone";
const PATTERN: &str = "use names of metrics with at most one \"*\"";

/// What is taken of applications.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppsConfig {
    /// The textfile directories.
    pub textfile: TextfileConfig,
    /// StatsD.
    pub statsd: StatsdConfig,
    /// Endpoints.
    pub scrape: Vec<ScrapeConfig>,
}

/// The textfile directories.
#[derive(Clone, Debug, PartialEq)]
pub struct TextfileConfig {
    /// Which; none by default.
    pub directories: Vec<PathBuf>,
    /// How often they are read.
    pub cadence: Duration,
    /// Most series.
    pub series_max: usize,
}

impl Default for TextfileConfig {
    fn default() -> Self {
        Self { directories: Vec::new(), cadence: Duration::from_secs(15), series_max: 5_000 }
    }
}

/// StatsD.
#[derive(Clone, Debug, PartialEq)]
pub struct StatsdConfig {
    /// The UDP address; none by default.
    pub udp: Option<SocketAddr>,
    /// The unix socket; none by default.
    pub unix: Option<PathBuf>,
    /// How often its series are given.
    pub cadence: Duration,
    /// Most series.
    pub series_max: usize,
    /// A series that nothing came of for this long ends.
    pub expire: Duration,
}

impl Default for StatsdConfig {
    fn default() -> Self {
        Self {
            udp: None,
            unix: None,
            cadence: Duration::from_secs(10),
            series_max: 1_000,
            expire: Duration::from_secs(3600),
        }
    }
}

/// Reads the three sections.
pub(crate) fn read(top: &mut Section<'_>, reader: &mut Reader<'_>) -> AppsConfig {
    AppsConfig {
        textfile: textfile(top.table(reader, "textfile"), reader),
        statsd: statsd(top.table(reader, "statsd"), reader),
        scrape: scrapes(top.table(reader, "scrape"), reader),
    }
}

fn textfile(mut section: Section<'_>, reader: &mut Reader<'_>) -> TextfileConfig {
    let config = TextfileConfig::default();
    let directories = section.list(reader, "directories", DIRECTORY, |text| {
        let path = PathBuf::from(text);
        if path.is_absolute() { Ok(path) } else { Err(format!("{text:?} is no absolute path")) }
    });
    let cadence = section.duration(reader, "cadence", CADENCE_RANGE);
    let series = section.number(reader, "series_max", 1..SERIES_PER_GROUP_MAX as u64 + 1);
    section.end(reader);
    TextfileConfig {
        directories,
        cadence: cadence.unwrap_or(config.cadence),
        series_max: series.map_or(config.series_max, |series| series as usize),
    }
}

fn statsd(mut section: Section<'_>, reader: &mut Reader<'_>) -> StatsdConfig {
    let config = StatsdConfig::default();
    let udp = section.value(reader, "udp", "give an address and a port, such as \"127.0.0.1:8125\"", |text| {
        text.parse::<SocketAddr>().map_err(|_| format!("{text:?} is no address with a port"))
    });
    let unix = section.value(reader, "unix", "give the absolute path of a socket", |text| {
        let path = PathBuf::from(text);
        if path.is_absolute() { Ok(path) } else { Err(format!("{text:?} is no absolute path")) }
    });
    let cadence = section.duration(reader, "cadence", CADENCE_RANGE);
    // A summary is five series.
    let series = section.number(reader, "series_max", 1..SERIES_PER_GROUP_MAX as u64 / 5 + 1);
    let expire = section.duration(reader, "expire", EXPIRE_RANGE);
    section.end(reader);
    StatsdConfig {
        udp,
        unix,
        cadence: cadence.unwrap_or(config.cadence),
        series_max: series.map_or(config.series_max, |series| series as usize),
        expire: expire.unwrap_or(config.expire),
    }
}

fn scrapes(section: Section<'_>, reader: &mut Reader<'_>) -> Vec<ScrapeConfig> {
    let mut scrapes = Vec::new();
    let mut many = None;
    for (span, job, mut table) in section.tables(reader) {
        let url = table.value(reader, "url", URL, Url::parse);
        let access = access(&mut table, &job, span.clone(), url.as_ref(), reader);
        let cadence = table.duration(reader, "cadence", CADENCE_RANGE).unwrap_or(Duration::from_secs(10));
        let timeout = table.duration(reader, "timeout", TIMEOUT_RANGE).unwrap_or(Duration::from_secs(5));
        let body = table.bytes(reader, "body_max", BODY_RANGE).unwrap_or(8 * MIB);
        let series = table.number(reader, "series_max", 1..SERIES_PER_GROUP_MAX as u64 + 1).unwrap_or(2_000);
        let mut patterns = |key| {
            let list = table.list(reader, key, PATTERN, |text| Pattern::new(text).ok_or_else(|| format!("{text:?}")));
            list.into_iter().take(PATTERNS_MAX).collect()
        };
        let (keep, drop) = (patterns("keep"), patterns("drop"));
        let drop_labels = table.list(reader, "drop_labels", "use names of labels", |text| Ok(text.to_owned()));
        let mut rename = Vec::new();
        let names = table.table(reader, "rename");
        for (span, from, to) in names.texts(reader) {
            match Pattern::new(&from).filter(|_| Pattern::new(&to).is_some()) {
                Some(pattern) => rename.push((pattern, to)),
                None => reader.note(Some(span), format!("scrape.{job}.rename.{from}"), PATTERN.to_owned()),
            }
        }
        let mut labels = Vec::new();
        let own = table.table(reader, "labels");
        for (span, name, value) in own.texts(reader) {
            match crate::config::label_problem(&name, &value) {
                Some(what) => reader.note(Some(span), format!("scrape.{job}.labels.{name}"), what),
                None if name == "job" => {
                    let what = "the section's name is the job; choose another name".to_owned();
                    reader.note(Some(span), format!("scrape.{job}.labels.job"), what);
                }
                None => labels.push((name, value)),
            }
        }
        table.end(reader);
        if timeout > cadence {
            let what = format!("{timeout:?} is longer than the cadence, {cadence:?}");
            reader.note(Some(span.clone()), format!("scrape.{job}.timeout"), what);
        }
        many = Some(span.clone());
        match url {
            Some(url) => scrapes.push(ScrapeConfig {
                job,
                url,
                access,
                cadence,
                timeout,
                body_max_bytes: body as usize,
                series_max: series as usize,
                rules: Rules { keep, drop, rename, drop_labels },
                labels,
            }),
            None if reader.problems.is_empty() => {
                reader.note(Some(span), format!("scrape.{job}.url"), format!("is missing; {URL}"));
            }
            None => {}
        }
    }
    if scrapes.len() > TARGETS_MAX {
        let what = format!("{} endpoints; at most {TARGETS_MAX} are allowed", scrapes.len());
        reader.note(many, "scrape".to_owned(), what);
    }
    scrapes
}

/// TLS and credentials of an endpoint.
fn access(
    table: &mut Section<'_>,
    job: &str,
    span: Range<usize>,
    url: Option<&Url>,
    reader: &mut Reader<'_>,
) -> AccessConfig {
    let mut file = |key| {
        table.value(reader, key, FILE, |text| {
            let path = PathBuf::from(text);
            if path.is_absolute() { Ok(path) } else { Err(format!("{text:?} is no absolute path")) }
        })
    };
    let (ca, token, password) = (file("ca_file"), file("bearer_token_file"), file("password_file"));
    let insecure = table.flag(reader, "insecure").unwrap_or(false);
    let username = table.value(reader, "username", "give a name without \":\"", |text| {
        let good = !text.is_empty() && !text.contains(|c: char| c == ':' || c.is_control());
        if good { Ok(text.to_owned()) } else { Err(format!("{text:?} is no name")) }
    });
    let mut wrong =
        |key: &str, what: &str| reader.note(Some(span.clone()), format!("scrape.{job}.{key}"), what.to_owned());
    match (url.map(|url| url.tls), &ca, insecure) {
        (Some(false), Some(_), _) => wrong("ca_file", "is for an https:// address"),
        (Some(false), None, true) => wrong("insecure", "is for an https:// address"),
        (Some(true), None, false) => wrong("ca_file", AUTHORITIES),
        (_, Some(_), true) => wrong("insecure", "contradicts ca_file; leave one of them out"),
        _ => {}
    }
    let credentials = match (token, username, password) {
        (None, None, None) => None,
        (Some(token), None, None) => Some(Credentials::Bearer(token)),
        (None, Some(username), Some(password_file)) => Some(Credentials::Basic { username, password_file }),
        (Some(_), ..) => {
            wrong("bearer_token_file", "stands beside username or password_file; use one way only");
            None
        }
        (None, Some(_), None) => {
            wrong("password_file", "is missing beside username");
            None
        }
        (None, None, Some(_)) => {
            wrong("username", "is missing beside password_file");
            None
        }
    };
    if credentials.is_some() && url.is_some_and(|url| !url.tls && !is_loopback(&url.host)) {
        wrong("url", "credentials would cross the network for all to read; use https://");
    }
    let trust = ca.map(Trust::Authorities).or(insecure.then_some(Trust::Anyone));
    AccessConfig { trust, credentials }
}
