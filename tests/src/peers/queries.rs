//! The same queries to all three: answers compared, latencies, memory.
//!
//! A file of queries has a line each: name, `range` or `instant`, expression, with tabs between; `#` begins a comment.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use super::report::{Report, Target};
use super::server::{Kind, Server};
use crate::fleet::figures::{Table, figure, percentile};
use crate::http::Api;

/// Each query is asked this often of each, taking turns; the first answer is compared and not timed.
const ROUNDS: usize = 5;
/// Asked no more once all three have spent so long on a query.
const QUERY_BUDGET: Duration = Duration::from_secs(12);
/// Steps of a range.
const STEPS: i64 = 240;
/// Windows that queries have, in seconds and as they are written.
const WINDOWS: [(i64, &str); 2] = [(60, "1m"), (300, "5m")];
/// Answers are equal within this, relatively.
const TOLERANCE: f64 = 1e-6;
/// Queries named as the worst.
const WORST: usize = 5;
const MIB: f64 = (1 << 20) as f64;

/// One query.
#[derive(Clone, Debug)]
pub struct Query {
    name: String,
    range_secs: i64,
    step_secs: i64,
    expr: String,
}

/// How one query went.
#[derive(Debug)]
struct Outcome {
    query: Query,
    /// Median milliseconds, in the order of [`Kind::ALL`].
    ms: [f64; 3],
    /// Series of the answer, and what the peers' answers differ in from ours.
    series: usize,
    differs: [Option<String>; 2],
}

impl Outcome {
    /// Ours to the better of the two.
    fn ratio(&self) -> f64 {
        self.ms[0] / self.ms[1].min(self.ms[2])
    }
}

type Answer = BTreeMap<BTreeMap<String, String>, BTreeMap<i64, f64>>;

/// Reads a file of queries. Those over a range are to look `range_secs` back.
///
/// # Errors
/// A line that is none.
pub fn load(path: &Path, range_secs: i64) -> anyhow::Result<Vec<Query>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &str| {
        let mut cells = line.splitn(3, '\t');
        let mut next = || cells.next().with_context(|| format!("not a query: {line:?}"));
        let (name, kind, expr) = (next()?.to_owned(), next()?, next()?);
        let range_secs = match kind {
            "range" => range_secs,
            "instant" => 0,
            other => anyhow::bail!("{name}: neither a range nor an instant: {other}"),
        };
        let step_secs = (range_secs / STEPS).max(1);
        Ok(Query { name, range_secs, step_secs, expr: widened(expr, step_secs) })
    };
    lines.map(read).collect()
}

/// The expression with windows of at least a step.
fn widened(expr: &str, step_secs: i64) -> String {
    WINDOWS
        .iter()
        .filter(|(secs, _)| *secs < step_secs)
        .fold(expr.to_owned(), |expr, (_, window)| expr.replace(&format!("[{window}]"), &format!("[{step_secs}s]")))
}

/// Asks all; adds to the report, and gives a table with each query.
///
/// # Errors
/// A query that fails.
pub fn run(servers: &[Server], queries: &[Query], end_ms: i64, report: &mut Report) -> anyhow::Result<String> {
    let apis = servers.iter().map(Server::api).collect::<anyhow::Result<Vec<_>>>()?;
    servers.iter().try_for_each(Server::forget_peak)?;
    let mut outcomes = Vec::new();
    for query in queries {
        outcomes.push(ask_all(servers, &apis, query, end_ms).with_context(|| query.expr.clone())?);
    }
    let of = |nth: usize| {
        let mut all: Vec<f64> = outcomes.iter().map(|outcome| outcome.ms[nth]).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let all = [0, 1, 2].map(of);
    let middle = [0, 1, 2].map(|nth| percentile(&all[nth], 0.5));
    report.line(&format!("{} queries: median latency, ms", queries.len()), middle, Target::OfVictoria(1.0));
    report.line("the same, to Prometheus", middle, Target::OfPrometheus(0.5));
    report.line("queries: 95th percentile, ms", [0, 1, 2].map(|nth| percentile(&all[nth], 0.95)), Target::None);
    report.line("queries: sum of medians, ms", [0, 1, 2].map(|nth| all[nth].iter().sum()), Target::None);
    let ratio = outcomes.iter().map(Outcome::ratio).fold(0.0, f64::max);
    report.own("worst query, times the better of the two", ratio, Target::AtMost(2.0));
    let peaks = servers.iter().map(|server| Ok(server.peak_bytes()? / MIB)).collect::<anyhow::Result<Vec<_>>>()?;
    report.line("peak memory while asked, MiB", [peaks[0], peaks[1], peaks[2]], Target::OfPrometheus(0.5));
    let differ = |peer: usize| outcomes.iter().filter(|outcome| outcome.differs[peer].is_some()).count() as f64;
    report.line("answers that differ from ours", [0.0, differ(0), differ(1)], Target::None);
    Ok(details(&mut outcomes))
}

fn ask_all(servers: &[Server], apis: &[Api], query: &Query, end_ms: i64) -> anyhow::Result<Outcome> {
    let mut answers = Vec::new();
    for (server, api) in servers.iter().zip(apis) {
        let (body, _) = ask(api, query, end_ms).with_context(|| server.kind.name())?;
        answers.push(read(&body)?);
    }
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        for (api, times) in apis.iter().zip(&mut times) {
            times.push(ask(api, query, end_ms)?.1.as_secs_f64() * 1000.0);
        }
        if begun.elapsed() > QUERY_BUDGET {
            break;
        }
    }
    let ms = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        percentile(&times, 0.5)
    });
    let differs = [1, 2].map(|peer| difference(&answers[0], &answers[peer]));
    Ok(Outcome { query: query.clone(), ms, series: answers[0].len(), differs })
}

fn ask(api: &Api, query: &Query, end_ms: i64) -> anyhow::Result<(String, Duration)> {
    let end = format!("{}.000", end_ms / 1000);
    let (start, step) = (format!("{}.000", end_ms / 1000 - query.range_secs), query.step_secs.to_string());
    let (path, parameters) = if query.range_secs == 0 {
        ("/api/v1/query", vec![("query", query.expr.as_str()), ("time", &end)])
    } else {
        ("/api/v1/query_range", vec![("query", query.expr.as_str()), ("start", &start), ("end", &end), ("step", &step)])
    };
    // VictoriaMetrics would answer from a cache of results; the others do not know the parameter.
    let parameters: Vec<_> = parameters.into_iter().chain([("nocache", "1")]).collect();
    let begun = Instant::now();
    let (status, body) = api.get_text(path, &parameters)?;
    let took = begun.elapsed();
    anyhow::ensure!(status == 200, "HTTP {status}: {}", body.chars().take(500).collect::<String>());
    Ok((body, took))
}

fn read(body: &str) -> anyhow::Result<Answer> {
    let body: Value = serde_json::from_str(body)?;
    let mut answer = Answer::new();
    let data = &body["data"];
    let point = |pair: &Value| -> anyhow::Result<(i64, f64)> {
        let secs = pair[0].as_f64().context("no time")?;
        let text = pair[1].as_str().context("no value")?;
        Ok(((secs * 1000.0).round() as i64, text.parse().or_else(|_| text.replace("Inf", "inf").parse())?))
    };
    if data["resultType"] == "scalar" {
        answer.entry(BTreeMap::new()).or_default().extend([point(&data["result"])?]);
        return Ok(answer);
    }
    for series in data["result"].as_array().context("no result")? {
        let labels = series["metric"].as_object().into_iter().flatten();
        let labels =
            labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
        let points = series["values"].as_array().cloned().unwrap_or_else(|| vec![series["value"].clone()]);
        answer.insert(labels, points.iter().map(point).collect::<anyhow::Result<_>>()?);
    }
    Ok(answer)
}

/// The first difference of another's answer from ours.
fn difference(ours: &Answer, theirs: &Answer) -> Option<String> {
    if let Some(labels) = theirs.keys().find(|labels| !ours.contains_key(*labels)) {
        return Some(format!("a series that is not ours: {labels:?}"));
    }
    for (labels, ours) in ours {
        let Some(theirs) = theirs.get(labels) else { return Some(format!("no {labels:?}")) };
        if ours.len() != theirs.len() {
            return Some(format!("{labels:?}: {} points, ours {}", theirs.len(), ours.len()));
        }
        for ((ts, a), (other, b)) in ours.iter().zip(theirs) {
            let near = a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs());
            if ts != other || !near {
                return Some(format!("{labels:?} at {other}: {b}, ours {a}"));
            }
        }
    }
    None
}

fn details(outcomes: &mut [Outcome]) -> String {
    outcomes.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    let [ours, victoria, prometheus] = Kind::ALL.map(|kind| format!("{} ms", kind.name()));
    let head = ["query", "range", "series", &ours, &victoria, &prometheus, "÷ better", "VM =", "Prom. ="];
    let mut table = Table::new(&head);
    for outcome in outcomes.iter() {
        let Outcome { query, ms, series, differs } = outcome;
        let range = if query.range_secs == 0 { "instant".to_owned() } else { format!("{} s", query.range_secs) };
        let mut cells = vec![query.name.clone(), range, series.to_string()];
        cells.extend(ms.map(|ms| figure(ms, 1)));
        cells.push(figure(outcome.ratio(), 2));
        cells.extend(differs.iter().map(|one| if one.is_none() { "yes" } else { "no" }.to_owned()));
        table.row(cells);
    }
    let mut text = format!("{table}\nThe worst {WORST}, to the better of the two:\n");
    for outcome in outcomes.iter().take(WORST) {
        text += &format!("- {} ({:.2} ×): `{}`\n", outcome.query.name, outcome.ratio(), outcome.query.expr);
    }
    text += "\nWhere Prometheus answers otherwise than Pitwatch:\n";
    for outcome in outcomes.iter() {
        if let Some(what) = &outcome.differs[1] {
            text += &format!("- {}: {}\n", outcome.query.name, what.chars().take(300).collect::<String>());
        }
    }
    text
}
