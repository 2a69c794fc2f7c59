//! Rule files on disk, and how rules ask history and write to it.
//!
//! What a rule records goes to history through ingest, as the series of a table of its own; rules of later
//! evaluations read it there.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use pitwatch_alerting::engine::ENDED;
use pitwatch_alerting::{LabelSet, Notification, Prepared, Row, RuleFile, RuleSample, Source};
use pitwatch_promql::ast::{Binary, BinaryOp, ValueType};
use pitwatch_promql::{Cancel, Engine, EngineOptions, Expr, Labels, Value, parse};
use pitwatch_shared::model::{self, METRIC_NAME, MetricType};

use crate::config::AlertingConfig;
use crate::ingest::{Event, Ingest, Tick};
use crate::source::HistorySource;

/// The rules that come with Pitwatch.
const STOCK: &str = include_str!("../../../packaging/rules/host.yml");
const STOCK_NAME: &str = "stock/host.yml";
/// Largest rule file in bytes.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Samples that one rule may touch.
const RULE_SAMPLES_MAX: usize = 20_000_000;
/// A rule that takes longer has failed, milliseconds.
const RULE_TIMEOUT_MS: u64 = 10_000;
/// Processes named in a message.
const WHO_PROCESSES: usize = 3;

/// Loads the stock rules and those of the configured directory.
///
/// # Errors
/// Every mistake in every file.
pub fn load(config: &AlertingConfig) -> anyhow::Result<Vec<RuleFile<Prepared<Expr>>>> {
    let mut texts = Vec::new();
    if config.stock_rules {
        texts.push((STOCK_NAME.to_owned(), STOCK.to_owned()));
    }
    if let Some(dir) = &config.rules_dir {
        let entries = fs::read_dir(dir).with_context(|| format!("cannot read the rules in {}", dir.display()))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|end| end == "yml" || end == "yaml"));
        paths.sort();
        for path in paths {
            let name = path.display().to_string();
            anyhow::ensure!(fs::metadata(&path)?.len() <= FILE_MAX_BYTES, "{name}: over {FILE_MAX_BYTES} bytes");
            texts.push((name.clone(), fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?));
        }
    }
    let (mut files, mut mistakes) = (Vec::new(), Vec::new());
    for (name, text) in &texts {
        match RuleFile::parse(name, text, prepare) {
            Ok(file) => files.push(file),
            Err(errors) => mistakes.push(errors.to_string()),
        }
    }
    anyhow::ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    Ok(files)
}

/// Loads the rules without evaluating them; gives their number.
///
/// # Errors
/// As [`load`].
pub fn check(config: &AlertingConfig) -> anyhow::Result<usize> {
    let files = load(config)?;
    Ok(files.iter().flat_map(|file| &file.groups).map(|group| group.rules.len()).sum())
}

/// Parses an expression and its probe.
fn prepare(expr: &str) -> Result<Prepared<Expr>, String> {
    let expr = parse(expr).map_err(|error| error.to_string())?;
    if !matches!(expr.value_type(), ValueType::Vector | ValueType::Scalar) {
        return Err(format!("a rule's expression gives a vector or a scalar, not a {}", expr.value_type().as_str()));
    }
    Ok(Prepared { probe: without_comparison(&expr), expr })
}

/// Answers rules' expressions and takes what they record.
#[derive(Debug)]
pub struct RuleSource {
    source: HistorySource,
    engine: Engine,
    /// Where recorded series go.
    ingest: Ingest,
    begun: Instant,
    /// The series that each rule has now.
    recorded: HashMap<Arc<str>, HashMap<model::Labels, f64>>,
    /// Rules whose series were written since the last flush.
    touched: Vec<Arc<str>>,
}

impl RuleSource {
    /// Over a history.
    #[must_use]
    pub fn new(source: HistorySource, ingest: Ingest) -> Self {
        let options =
            EngineOptions { max_samples: RULE_SAMPLES_MAX, timeout_ms: RULE_TIMEOUT_MS, ..EngineOptions::default() };
        Self {
            source,
            engine: Engine::new(options),
            ingest,
            begun: Instant::now(),
            recorded: HashMap::new(),
            touched: Vec::new(),
        }
    }

    /// Hands what was recorded since the last call to history.
    pub fn flush(&mut self, now_ms: i64) {
        for rule in std::mem::take(&mut self.touched) {
            let Some(series) = self.recorded.get(&rule) else { continue };
            let samples = series.iter().map(|(labels, value)| (labels.clone(), MetricType::Gauge, *value)).collect();
            let table = format!("rule/{rule}").into();
            if !self.ingest.try_send(Event::Internal(Tick { table, ts_ms: now_ms, samples })) {
                tracing::warn!(%rule, "recorded series are left out once: the ingest queue is full");
            }
            if series.is_empty() {
                self.recorded.remove(&rule);
            }
        }
    }

    /// The processes that were at work on the alert's host: by memory if the rule is about memory, else by CPU.
    pub fn who(&self, notification: &Notification, now_ms: i64) -> Option<String> {
        let instance = notification.labels.value(model::INSTANCE)?;
        let memory = notification.expr.contains("emory") || notification.expr.contains("wap");
        let metric = if memory { "pitwatch_process_resident_memory_bytes" } else { "pitwatch_process_cpu_ratio" };
        let expr = parse(&format!("topk({WHO_PROCESSES}, {metric}{{instance={instance:?}}})")).ok()?;
        let rows = self.run(&expr, now_ms).ok()?;
        let mut rows: Vec<&Row> = rows.iter().filter(|row| row.value > 0.0).collect();
        rows.sort_by(|a, b| b.value.total_cmp(&a.value));
        let text = |row: &&Row| {
            let (name, pid) = (row.labels.value("name").unwrap_or("?"), row.labels.value("pid").unwrap_or("?"));
            let amount = if memory {
                format!("{:.0} MiB", row.value / f64::from(1 << 20))
            } else {
                format!("{:.0}%", row.value * 100.0)
            };
            format!("{name} (pid {pid}) {amount}")
        };
        let texts: Vec<String> = rows.iter().map(text).collect();
        let what = if memory { "most memory" } else { "most CPU" };
        (!texts.is_empty()).then(|| format!("{what}: {}", texts.join(", ")))
    }
}

impl Source for RuleSource {
    type Prepared = Expr;

    fn prepare(&self, expr: &str) -> Result<Prepared<Expr>, String> {
        prepare(expr)
    }

    fn run(&self, prepared: &Expr, ts_ms: i64) -> Result<Vec<Row>, String> {
        let answer = self.engine.instant(&self.source, prepared, ts_ms, &Cancel::new());
        match answer.map_err(|error| error.to_string())?.value {
            Value::Vector(rows) => {
                Ok(rows.into_iter().map(|(labels, _, value)| Row { labels: label_set(&labels), value }).collect())
            }
            Value::Scalar { value, .. } => Ok(vec![Row { labels: LabelSet::empty(), value }]),
            _ => Err("neither a vector nor a scalar".to_owned()),
        }
    }

    fn record(&mut self, rule: &str, samples: &[RuleSample]) {
        if samples.is_empty() {
            return;
        }
        let rule: Arc<str> = rule.into();
        for sample in samples {
            let Some(labels) = series_labels(&sample.labels) else {
                tracing::warn!(labels = %sample.labels, "a recorded series is over a limit and left out");
                continue;
            };
            match sample.value {
                Some(value) => {
                    self.recorded.entry(rule.clone()).or_default().insert(labels, value);
                }
                None if *rule == *ENDED => {
                    for (rule, series) in &mut self.recorded {
                        if series.remove(&labels).is_some() && !self.touched.contains(rule) {
                            self.touched.push(rule.clone());
                        }
                    }
                }
                None => {
                    self.recorded.entry(rule.clone()).or_default().remove(&labels);
                }
            }
        }
        if self.recorded.contains_key(&rule) && !self.touched.contains(&rule) {
            self.touched.push(rule);
        }
    }

    fn clock_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The expression without its outermost comparison, as [`Prepared::probe`] describes it; `None` if there is none.
fn without_comparison(expr: &Expr) -> Option<Expr> {
    let Expr::Binary(binary) = expr.unwrapped() else { return None };
    if binary.op.is_comparison() && !binary.return_bool {
        let scalar_left = binary.lhs.value_type() == ValueType::Scalar;
        return Some(if scalar_left { binary.rhs.clone() } else { binary.lhs.clone() });
    }
    let (left, right) = (without_comparison(&binary.lhs), without_comparison(&binary.rhs));
    match binary.op {
        BinaryOp::Unless => left,
        BinaryOp::And | BinaryOp::Or if left.is_some() || right.is_some() => {
            let lhs = left.unwrap_or_else(|| binary.lhs.clone());
            let rhs = right.unwrap_or_else(|| binary.rhs.clone());
            Some(Expr::Binary(Box::new(Binary { lhs, rhs, ..(**binary).clone() })))
        }
        _ => None,
    }
}

fn label_set(labels: &Labels) -> LabelSet {
    LabelSet::new(labels.iter())
}

fn series_labels(labels: &LabelSet) -> Option<model::Labels> {
    debug_assert!(labels.value(METRIC_NAME).is_some());
    model::Labels::new(labels.iter()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_the_expression_without_its_outermost_comparison() {
        let probe = |text: &str| without_comparison(&parse(text).unwrap()).map(|expr| expr.to_string());
        let same = |text: &str| Some(parse(text).unwrap().to_string());
        assert_eq!(probe("rate(a[1m]) > 0.5"), same("rate(a[1m])"));
        assert_eq!(probe("(1 < a)"), same("a"));
        assert_eq!(probe("a > 1 and b < 2"), same("a and b"));
        assert_eq!(probe("a > 1 or b"), same("a or b"));
        assert_eq!(probe("a > 1 unless b > 2"), same("a"));
        assert_eq!(probe("a > bool 1"), None);
        assert_eq!(probe("absent(a)"), None);
        assert_eq!(probe("a and b"), None);
    }
}
