//! `pitwatch host NAME`: one host as a page: how it is, its vitals with their last hour, who works on it, what alerts,
//! what happened, and what is how full. With `--time` the same of a moment in the past.
//!
//! `ask` gathers the page's parts, each by a query of its own that may fail by itself; `write` makes text of them.

mod write;

use serde::Serialize;

use super::query::seconds_text;
use super::{Report, Screen, own, with_line_feed};
use crate::answers::{
    Agent, AgentsData, AlertsData, EventsData, Host, HostsData, MatrixSeries, QueryData, VectorSeries,
};
use crate::args::{HostArgs, PageFormat};
use crate::connect::Client;
use crate::error::CliError;

/// What the sparklines show, and their points.
const HISTORY_MS: i64 = 3_600_000;
const STEP_MS: i64 = 90_000;
/// Lines of each list.
const PROCESSES_MAX: usize = 10;
const EVENTS_MAX: usize = 10;
/// How far back events are of interest.
const EVENTS_MS: i64 = 24 * 3_600_000;

/// A vital: its name, and its expression with `$host` for the selector of the host.
struct Vital {
    name: &'static str,
    expr: &'static str,
}

/// The order of diagnosis: utilisation, saturation, errors.
const VITALS: [Vital; 9] = [
    Vital {
        name: "cpu_ratio",
        expr: r#"1 - sum(rate(node_cpu_seconds_total{$host,mode=~"idle|iowait"}[1m])) / count(node_cpu_seconds_total{$host,mode="idle"})"#,
    },
    Vital { name: "cpu_waiting_ratio", expr: "max(rate(node_pressure_cpu_waiting_seconds_total{$host}[1m]))" },
    Vital { name: "load1", expr: "max(node_load1{$host})" },
    Vital {
        name: "memory_ratio",
        expr: "1 - max(node_memory_MemAvailable_bytes{$host}) / max(node_memory_MemTotal_bytes{$host})",
    },
    Vital { name: "memory_waiting_ratio", expr: "max(rate(node_pressure_memory_waiting_seconds_total{$host}[1m]))" },
    Vital { name: "disk_busy_ratio", expr: "max(rate(node_disk_io_time_seconds_total{$host}[1m]))" },
    Vital {
        name: "network_receive_bytes_per_second",
        expr: r#"sum(rate(node_network_receive_bytes_total{$host,device!="lo"}[1m]))"#,
    },
    Vital {
        name: "network_transmit_bytes_per_second",
        expr: r#"sum(rate(node_network_transmit_bytes_total{$host,device!="lo"}[1m]))"#,
    },
    Vital {
        name: "network_errors_per_second",
        expr: r#"sum(rate({__name__=~"node_network_(receive|transmit)_(errs|drop)_total",$host,device!="lo"}[1m]))"#,
    },
];

/// Filesystems of disks: those of the collector's own list of hosts.
const FILESYSTEMS: &str = r#"{__name__=~"node_filesystem_(size|avail)_bytes",$host,fstype!~"tmpfs|devtmpfs|ramfs|squashfs|iso9660|erofs|efivarfs|nsfs|fuse.*"}"#;
const PROCESSES: &str =
    r#"{__name__=~"pitwatch_process_(cpu_ratio|resident_memory_bytes|io_bytes_per_second|open_files|threads)",$host}"#;
const ALERTS: &str = r#"ALERTS{$host,alertstate="firing"}"#;

/// Everything that the page shows.
#[derive(Clone, Debug, Serialize)]
struct Page {
    /// Of when it is.
    time_ms: i64,
    host: Host,
    agent: Option<Agent>,
    vitals: Vec<Series>,
    processes: Vec<Process>,
    filesystems: Vec<Filesystem>,
    /// As `ALERTS` has them, so that a moment in the past has its own.
    alerts: Vec<Firing>,
    /// None where the collector has none to give.
    events: Option<EventsData>,
}

/// A vital and its last hour.
#[derive(Clone, Debug, Serialize)]
struct Series {
    name: &'static str,
    now: Option<f64>,
    /// One value a step; none where nothing is known.
    hour: Vec<Option<f64>>,
}

/// One of the processes that work most.
#[derive(Clone, Debug, Default, Serialize)]
struct Process {
    name: String,
    pid: String,
    cpu_ratio: Option<f64>,
    resident_memory_bytes: Option<f64>,
    io_bytes_per_second: Option<f64>,
    open_files: Option<f64>,
    threads: Option<f64>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Filesystem {
    mountpoint: String,
    fstype: String,
    size_bytes: Option<f64>,
    avail_bytes: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct Firing {
    name: String,
    severity: String,
    summary: Option<String>,
    since_ms: Option<i64>,
}

pub(crate) async fn run(args: &HostArgs, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let wrong = || CliError::Usage(format!("--time {}: write now, -5m, or 2026-03-01T02:14:00Z", args.time));
    let time_ms = screen.clock.parse(&args.time).ok_or_else(wrong)?;
    let page = ask(&args.name, time_ms, client).await?;
    let is_bad_news = page.host.state != "well";
    let text = match args.output {
        PageFormat::Text => write::page(&page, screen),
        PageFormat::Json => with_line_feed(serde_json::to_string(&page).unwrap_or_default()),
    };
    Ok(Report { text, is_bad_news, ..Report::default() })
}

/// Gathers the page.
async fn ask(name: &str, time_ms: i64, client: &Client) -> Result<Page, CliError> {
    let hosts = client.get::<HostsData>(&own(&["hosts"])).await?.data.hosts;
    let Some(host) = hosts.iter().find(|host| host.name == name).cloned() else {
        let names = hosts.iter().map(|host| host.name.as_str());
        return Err(CliError::NoSuch { kind: "host", name: name.to_owned(), like: crate::error::similar(name, names) });
    };
    let agents = client.get::<AgentsData>(&own(&["agents"])).await?.data.agents;
    let asker = Asker { client, host: format!("instance={name:?}"), time_ms };
    let mut vitals = Vec::with_capacity(VITALS.len());
    for vital in &VITALS {
        vitals.push(asker.vital(vital).await?);
    }
    Ok(Page {
        time_ms,
        agent: agents.into_iter().find(|agent| agent.name == name),
        vitals,
        processes: processes(asker.now(PROCESSES).await?),
        filesystems: filesystems(asker.now(FILESYSTEMS).await?),
        alerts: asker.alerts().await?,
        events: asker.events(name).await?,
        host,
    })
}

/// Who asks about one host at one time.
struct Asker<'c> {
    client: &'c Client,
    /// The matcher of the host.
    host: String,
    time_ms: i64,
}

impl Asker<'_> {
    fn expr(&self, of: &str) -> String {
        of.replace("$host", &self.host)
    }

    async fn now(&self, expr: &str) -> Result<Vec<VectorSeries>, CliError> {
        let form = [("query", self.expr(expr)), ("time", seconds_text(self.time_ms))];
        match self.client.query::<QueryData>(&["api", "v1", "query"], &form).await?.data {
            QueryData::Vector(series) => Ok(series),
            _ => Ok(Vec::new()),
        }
    }

    async fn vital(&self, vital: &Vital) -> Result<Series, CliError> {
        let end = self.time_ms;
        let form = [
            ("query", self.expr(vital.expr)),
            ("start", seconds_text(end - HISTORY_MS)),
            ("end", seconds_text(end)),
            ("step", seconds_text(STEP_MS)),
        ];
        let data = self.client.query::<QueryData>(&["api", "v1", "query_range"], &form).await?.data;
        let series = match data {
            QueryData::Matrix(series) => series.into_iter().next(),
            _ => None,
        };
        let hour = series.map(|series| on_steps(&series, end - HISTORY_MS)).unwrap_or_default();
        Ok(Series { name: vital.name, now: hour.last().copied().flatten(), hour })
    }

    /// What fires, with the words of the rules where it still does.
    async fn alerts(&self) -> Result<Vec<Firing>, CliError> {
        let live = self.client.get::<AlertsData>(&own(&["alerts"])).await?.data.alerts;
        let firing = self.now(ALERTS).await?.into_iter().map(|series| {
            let label = |name: &str| series.metric.get(name).cloned().unwrap_or_default();
            let name = label("alertname");
            let same = live
                .iter()
                .find(|alert| alert.name == name && alert.labels.get("instance") == series.metric.get("instance"));
            Firing {
                severity: label("severity"),
                summary: same.and_then(|alert| alert.annotations.get("summary").cloned()),
                since_ms: same.map(|alert| alert.active_at_ms).filter(|since| *since <= self.time_ms),
                name,
            }
        });
        Ok(firing.collect())
    }

    /// What happened in the day before; a collector that keeps no events has none to give.
    async fn events(&self, name: &str) -> Result<Option<EventsData>, CliError> {
        let form = [
            ("host", name.to_owned()),
            ("start", seconds_text(self.time_ms - EVENTS_MS)),
            ("end", seconds_text(self.time_ms)),
            ("limit", EVENTS_MAX.to_string()),
        ];
        match self.client.get_with::<EventsData>(&own(&["events"]), &form).await {
            Ok(answer) => Ok(Some(answer.data)),
            Err(CliError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The values at their steps, none where the series has none.
fn on_steps(series: &MatrixSeries, start_ms: i64) -> Vec<Option<f64>> {
    let steps = usize::try_from(HISTORY_MS / STEP_MS + 1).unwrap_or(0);
    let mut values = vec![None; steps];
    for (seconds, text) in &series.values {
        let at = ((seconds * 1000.0) as i64 - start_ms + STEP_MS / 2).div_euclid(STEP_MS);
        if let Some(value) = usize::try_from(at).ok().and_then(|at| values.get_mut(at)) {
            *value = text.parse().ok().filter(|number: &f64| number.is_finite());
        }
    }
    values
}

fn value(series: &VectorSeries) -> Option<f64> {
    series.value.1.parse().ok().filter(|number: &f64| number.is_finite())
}

/// The series of each process together, those that work most first.
fn processes(series: Vec<VectorSeries>) -> Vec<Process> {
    let mut by_pid: std::collections::BTreeMap<(String, String), Process> = std::collections::BTreeMap::new();
    for one in series {
        let label = |name: &str| one.metric.get(name).cloned().unwrap_or_default();
        let (name, pid, metric) = (label("name"), label("pid"), label("__name__"));
        let process =
            by_pid.entry((pid.clone(), name.clone())).or_insert_with(|| Process { name, pid, ..Process::default() });
        let slot = match metric.as_str() {
            "pitwatch_process_cpu_ratio" => &mut process.cpu_ratio,
            "pitwatch_process_resident_memory_bytes" => &mut process.resident_memory_bytes,
            "pitwatch_process_io_bytes_per_second" => &mut process.io_bytes_per_second,
            "pitwatch_process_open_files" => &mut process.open_files,
            _ => &mut process.threads,
        };
        *slot = value(&one);
    }
    let mut all: Vec<Process> = by_pid.into_values().collect();
    let work = |process: &Process| (process.cpu_ratio.unwrap_or(0.0), process.resident_memory_bytes.unwrap_or(0.0));
    all.sort_by(|a, b| work(b).partial_cmp(&work(a)).unwrap_or(std::cmp::Ordering::Equal));
    all.truncate(PROCESSES_MAX);
    all
}

/// The fullest first.
fn filesystems(series: Vec<VectorSeries>) -> Vec<Filesystem> {
    let mut by_mount: std::collections::BTreeMap<String, Filesystem> = std::collections::BTreeMap::new();
    for one in series {
        let label = |name: &str| one.metric.get(name).cloned().unwrap_or_default();
        let (mountpoint, fstype) = (label("mountpoint"), label("fstype"));
        let filesystem = by_mount.entry(mountpoint.clone()).or_insert_with(|| Filesystem {
            mountpoint,
            fstype,
            ..Filesystem::default()
        });
        match label("__name__").as_str() {
            "node_filesystem_size_bytes" => filesystem.size_bytes = value(&one),
            _ => filesystem.avail_bytes = value(&one),
        }
    }
    let mut all: Vec<Filesystem> = by_mount.into_values().collect();
    all.sort_by(|a, b| b.used_ratio().partial_cmp(&a.used_ratio()).unwrap_or(std::cmp::Ordering::Equal));
    all
}

impl Filesystem {
    /// The share that programs cannot have, as the list of hosts has it.
    fn used_ratio(&self) -> Option<f64> {
        let size = self.size_bytes.filter(|size| *size > 0.0)?;
        Some((1.0 - self.avail_bytes? / size).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests;
