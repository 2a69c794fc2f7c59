//! The same samples into a real Prometheus and into this engine, thousands of generated queries to both: the answers
//! must be equal, and so must their canonical texts. Needs the programs `prometheus` and `promtool`; without them the
//! test says so and passes. `PROMQL_DIFFERENTIAL` says how many queries.
//!
//! Samples and evaluations lie off each other's grid, so that the one change of rules between Prometheus 2 and 3 that
//! matters here, which end of a window is open, does not show.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pitwatch_promql::testing::MemorySource;
use pitwatch_promql::{Cancel, Engine, Labels, Value, format_duration};

#[path = "support/queries.rs"]
mod queries;

use queries::{Dice, START_S, vector};

const SPAN_S: i64 = 5400;
const STEP_S: i64 = 10;
/// Every sample is this much later than a multiple of the step.
const SHIFT_MS: i64 = 3217;
const QUERIES: usize = 10_000;

type Series = (Labels, Vec<(i64, f64)>);

fn data(dice: &mut Dice) -> Vec<Series> {
    let mut out = Vec::new();
    for job in ["api", "db"] {
        for instance in ["a", "b", "c"] {
            let base = [("job", job), ("instance", instance)];
            for code in ["200", "404", "500"] {
                let mut total = 1e6 + dice.below(1000) as f64;
                let samples = times(dice, |dice| {
                    // A restarted counter is still far from zero: how far to extrapolate there is another change of rules.
                    total = if dice.below(100) == 0 { 9e5 } else { total + dice.below(50) as f64 };
                    total
                });
                out.push((labels("requests_total", base, &[("code", code)]), samples));
            }
            for zone in ["x", "y"] {
                let mut degrees = dice.below(50) as f64;
                let samples = times(dice, |dice| {
                    degrees += dice.below(9) as f64 - 4.0;
                    degrees / 4.0
                });
                out.push((labels("temperature", base, &[("zone", zone)]), samples));
            }
            let mut counts = [0.0; 5];
            let columns: Vec<[f64; 5]> = (0..SPAN_S / STEP_S)
                .map(|_| {
                    for i in 0..5 {
                        let more = dice.below(4) as f64;
                        counts[i..].iter_mut().for_each(|c| *c += more);
                    }
                    counts
                })
                .collect();
            for (i, le) in ["0.1", "0.5", "1", "5", "+Inf"].into_iter().enumerate() {
                let at = |n: usize| (START_S * 1000 + n as i64 * STEP_S * 1000 + SHIFT_MS, columns[n][i] + 1e5);
                let samples = (0..columns.len()).map(at).collect();
                out.push((labels("latency_seconds_bucket", base, &[("le", le)]), samples));
            }
            // Without -0: which of two zeros is the smaller is left open.
            let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 1e300, -7.25];
            out.push((labels("odd", base, &[]), times(dice, |dice| odd[dice.below(odd.len())])));
            let version = ["1.0", "1.1"][dice.below(2)];
            out.push((labels("build_info", base, &[("version", version)]), times(dice, |_| 1.0)));
        }
    }
    out
}

/// Samples with gaps.
fn times(dice: &mut Dice, mut value: impl FnMut(&mut Dice) -> f64) -> Vec<(i64, f64)> {
    let mut out = Vec::new();
    let mut gap = 0;
    for i in 0..SPAN_S / STEP_S {
        if dice.below(60) == 0 {
            gap = dice.below(60);
        }
        let v = value(dice);
        if gap > 0 {
            gap -= 1;
            continue;
        }
        out.push((START_S * 1000 + i * STEP_S * 1000 + SHIFT_MS, v));
    }
    out
}

fn labels(name: &str, base: [(&str, &str); 2], more: &[(&str, &str)]) -> Labels {
    [("__name__", name)].into_iter().chain(base).chain(more.iter().copied()).collect()
}

/// A running Prometheus; stopped when dropped.
struct Prometheus {
    process: Child,
    port: u16,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    fn start(directory: &Path, data: &[Series]) -> Prometheus {
        let mut text = String::new();
        for (labels, samples) in data {
            let name = labels.metric_name().unwrap();
            for (time, value) in samples {
                let pairs: Vec<String> =
                    labels.iter().filter(|(n, _)| *n != "__name__").map(|(n, v)| format!("{n}={v:?}")).collect();
                let (seconds, ms) = (time / 1000, time % 1000);
                writeln!(text, "{name}{{{}}} {value} {seconds}.{ms:03}", pairs.join(",")).unwrap();
            }
        }
        text.push_str("# EOF\n");
        let (input, store) = (directory.join("data.om"), directory.join("store"));
        std::fs::write(&input, text).unwrap();
        std::fs::write(directory.join("prometheus.yml"), "").unwrap();
        let made = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&input, &store])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", store.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--storage.tsdb.retention.time=100y")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let prometheus = Prometheus { process, port };
        for _ in 0..600 {
            if prometheus.get("/-/ready", "").is_some_and(|answer| answer.contains("Ready")) {
                return prometheus;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("prometheus does not get ready");
    }

    fn get(&self, path: &str, form: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let method = if form.is_empty() { "GET" } else { "POST" };
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len()
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    fn query(&self, path: &str, parameters: &[(&str, String)]) -> serde_json::Value {
        let mut form = String::new();
        for (name, value) in parameters {
            let encoded: String = value.bytes().map(|b| format!("%{b:02X}")).collect();
            write!(form, "{name}={encoded}&").unwrap();
        }
        let answer = self.get(path, &form).expect("prometheus answers");
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}"))
    }
}

type Answer = Result<Vec<(String, Vec<(i64, f64)>)>, String>;

fn theirs(json: &serde_json::Value) -> Answer {
    if json["status"] != "success" {
        return Err(json["error"].as_str().unwrap_or_default().to_owned());
    }
    let sample = |pair: &serde_json::Value| {
        let value = pair[1].as_str().unwrap().replace("Inf", "inf");
        ((pair[0].as_f64().unwrap() * 1000.0).round() as i64, value.parse::<f64>().unwrap())
    };
    let result = &json["data"]["result"];
    let mut out = Vec::new();
    if json["data"]["resultType"] == "scalar" {
        return Ok(vec![(String::new(), vec![sample(result)])]);
    }
    for series in result.as_array().unwrap() {
        let pairs = series["metric"].as_object().unwrap().iter();
        let labels: Labels = pairs.map(|(n, v)| (n.as_str(), v.as_str().unwrap())).collect();
        let samples = match series.get("values") {
            Some(values) => values.as_array().unwrap().iter().map(sample).collect(),
            None => vec![sample(&series["value"])],
        };
        out.push((labels.to_string(), samples));
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(out)
}

fn ours(answer: pitwatch_promql::Result<pitwatch_promql::Answer>) -> Answer {
    let mut out: Vec<(String, Vec<(i64, f64)>)> = match answer.map_err(|e| e.to_string())?.value {
        Value::Vector(samples) => samples.into_iter().map(|(l, t, v)| (l.to_string(), vec![(t, v)])).collect(),
        Value::Matrix(series) => series.into_iter().map(|(l, samples)| (l.to_string(), samples)).collect(),
        Value::Scalar { ts_ms, value } => vec![(String::new(), vec![(ts_ms, value)])],
        Value::String { .. } => Vec::new(),
    };
    out.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(out)
}

fn difference(ours: &Answer, theirs: &Answer) -> Option<String> {
    let (ours, theirs) = match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        // Which of several clashing series an error names is left open.
        (Err(_), Err(_)) => return None,
        (Err(error), Ok(_)) => return Some(format!("ours fails: {error}")),
        (Ok(_), Err(error)) => return Some(format!("theirs fails: {error}")),
    };
    let names = |answer: &[(String, Vec<(i64, f64)>)]| answer.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    if names(ours) != names(theirs) {
        return Some(format!("series: ours {:?}\ntheirs {:?}", names(ours), names(theirs)));
    }
    for ((name, a), (_, b)) in ours.iter().zip(theirs) {
        if a.len() != b.len() {
            return Some(format!("{name}: {} samples, theirs {}", a.len(), b.len()));
        }
        // What is lost when large numbers cancel is measured against the largest of the series.
        let scale = a.iter().map(|s| s.1.abs()).filter(|v| v.is_finite()).fold(1e-3, f64::max);
        for ((ta, va), (tb, vb)) in a.iter().zip(b) {
            let near = va == vb || (va.is_nan() && vb.is_nan()) || (va - vb).abs() <= 1e-9 * scale;
            if ta != tb || !near {
                return Some(format!("{name}: ours {va} at {ta}, theirs {vb} at {tb}"));
            }
        }
    }
    None
}

/// Whether Prometheus 2 is known to answer otherwise than 3: it loses the samples of a pinned window whose function has
/// another argument, knows a spread of what is no finite number, reads too little for the `timestamp` of what is pinned
/// and moved, and has both ends of a window closed, which shows where subqueries nest, for their times are aligned.
fn rules_changed(query: &str) -> bool {
    let pinned = query.contains('@');
    let window = pinned && (query.contains("predict_linear") || query.contains("quantile_over_time(scalar"));
    let moved = pinned && query.contains("timestamp(") && query.contains("offset");
    let nested = query.matches(":]").count() + query.matches("s:").count() + query.matches("m:").count() > 1;
    // What may make NaN or an infinity of numbers.
    const ENDLESS: [&str; 16] = [
        "odd", "Inf", "NaN", "1.1", "cosh", "sinh", "atanh", "asin", "acos", "sqrt", "exp", "ln", "log", "quantile",
        "vector(", "^",
    ];
    let endless = query.contains('/') || ENDLESS.iter().any(|source| query.contains(source));
    let spread = endless && (query.contains("stddev") || query.contains("stdvar"));
    window || moved || nested || spread
}

/// The canonical text as Prometheus 3 writes it, of that of 2: with a blank before the labels of a clause, and numbers
/// without an exponent.
fn spaced(text: &str) -> String {
    let text = &text.replace("1e+06", "1000000");
    let words = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    words.iter().fold(text.to_owned(), |text, word| text.replace(&format!(" {word}("), &format!(" {word} (")))
}

#[test]
fn answers_are_those_of_prometheus() {
    if Command::new("prometheus").arg("--version").output().is_err() || Command::new("promtool").output().is_err() {
        eprintln!("skipped: prometheus and promtool are not installed");
        return;
    }
    let mut dice = Dice::common(0x5eed_cafe);
    let data = data(&mut dice);
    let mut store = MemorySource::new();
    for (labels, samples) in &data {
        samples.iter().for_each(|(time, value)| store.push(labels, *time, *value));
    }
    let directory = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(directory.path(), &data);
    let engine = Engine::default();
    let mut differences = Vec::new();
    let (mut answered, mut failed, mut passed_over, mut same_lines) = (0, 0, 0, 0);
    let queries = std::env::var("PROMQL_DIFFERENTIAL").ok().and_then(|n| n.parse().ok()).unwrap_or(QUERIES);
    for i in 0..queries {
        let query = vector(&mut dice, 3);
        if rules_changed(&query) {
            passed_over += 1;
            continue;
        }
        let start = (START_S + 600 + dice.below(3000) as i64) * 1000 + 500;
        let (end, step) = (start + dice.below(1500) as i64 * 1000, [7, 30, 60, 300][dice.below(4)] * 1000);
        let expr = match pitwatch_promql::parse(&query) {
            Ok(expr) => expr,
            Err(error) => {
                differences.push(format!("{query}\n  {error}"));
                continue;
            }
        };
        let text = prometheus.query("/api/v1/format_query", &[("query", query.clone())]);
        let text = spaced(text["data"].as_str().unwrap_or_default());
        same_lines += usize::from(text == expr.pretty());
        // Where the blanks make a line too long, it is split otherwise.
        let words = |text: &str| text.split_whitespace().collect::<String>();
        if words(&text) != words(&expr.pretty()) {
            differences.push(format!("{query}\n  ours   {}\n  theirs {text}", expr.pretty()));
        }
        let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let (a, b) = if i % 2 == 0 {
            let json = prometheus.query("/api/v1/query", &[("query", query.clone()), ("time", seconds(start))]);
            (ours(engine.instant(&store, &expr, start, &Cancel::new())), theirs(&json))
        } else {
            let parameters = [
                ("query", query.clone()),
                ("start", seconds(start)),
                ("end", seconds(end)),
                ("step", format_duration(step)),
            ];
            let json = prometheus.query("/api/v1/query_range", &parameters);
            (ours(engine.range(&store, &expr, start, end, step, &Cancel::new())), theirs(&json))
        };
        if b.is_ok() {
            answered += 1;
        } else {
            failed += 1;
        }
        if let Some(difference) = difference(&a, &b) {
            differences.push(format!("{query}\n  at {start}..{end}:{step} ({})\n  {difference}", i % 2));
        }
    }
    println!(
        "{queries} queries: {answered} answered, {failed} refused, {passed_over} passed over, {} differ",
        differences.len()
    );
    let shown = differences.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} of {queries} differ:\n{shown}", differences.len());
    assert!(same_lines * 10 > (answered + failed) * 9, "only {same_lines} texts have the same lines");
}
