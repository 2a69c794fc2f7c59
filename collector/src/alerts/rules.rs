//! Rule files on disk, and how rules ask history and write to it.
//!
//! What a rule records goes to history through ingest, as the series of a table of its own; rules of later
//! evaluations read it there. What did not change is written again only now and then: see `UNCHANGED_EVERY_MS`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::Context as _;
use pitwatch_alerting::engine::{ENDED, Scope};
use pitwatch_alerting::{LabelSet, Prepared, Row, RuleFile, RuleSample, Source, limits};
use pitwatch_promql::{Cancel, Engine, EngineOptions, Expr};
use pitwatch_rules::{expression, prepare};
use pitwatch_shared::model::{self, METRIC_NAME, MetricType};

use crate::config::AlertingConfig;
use crate::ingest::{Event, Ingest, Tick};
use crate::source::HistorySource;
use crate::source::kept::KeptSource;

/// The rules that come with Pitwatch, by the names they are known by.
pub const STOCK: [(&str, &str); 6] = [
    ("stock/host.yml", include_str!("../../../packaging/rules/host.yml")),
    ("stock/pitwatch.yml", include_str!("../../../packaging/rules/pitwatch.yml")),
    ("stock/game.yml", include_str!("../../../packaging/rules/game.yml")),
    ("stock/database.yml", include_str!("../../../packaging/rules/database.yml")),
    ("stock/checks.yml", include_str!("../../../packaging/rules/checks.yml")),
    ("stock/baseline.yml", include_str!("../../../packaging/rules/baseline.yml")),
];
/// Most rule files of the configured directory.
const FILES_MAX: usize = 10_000;
/// Samples that one rule may touch.
const RULE_SAMPLES_MAX: usize = 20_000_000;
/// A rule that takes longer has failed, milliseconds.
const RULE_TIMEOUT_MS: u64 = 10_000;
/// Series of a rule of which none changed are written this often, milliseconds: well within the five minutes that a
/// query looks back.
const UNCHANGED_EVERY_MS: i64 = 15_000;
/// Of a rule with more series than this a change is written no sooner than [`MANY_EVERY_MS`] after the last: all of them
/// are written each time, and a storm changes some many times a second.
const MANY_SERIES: usize = 1_000;
/// See [`MANY_SERIES`], milliseconds.
const MANY_EVERY_MS: i64 = 1_000;

/// The rule files that the configuration means, and what tells that one of them changed.
pub type Fingerprint = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// The configured directory's rule files as they are now.
///
/// # Errors
/// The directory cannot be read, or has too many.
pub fn fingerprint(config: &AlertingConfig) -> anyhow::Result<Fingerprint> {
    let Some(dir) = &config.rules_dir else { return Ok(Vec::new()) };
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read the rules in {}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "yml" || end == "yaml"));
    anyhow::ensure!(paths.len() <= FILES_MAX, "{}: more than {FILES_MAX} rule files", dir.display());
    paths.sort();
    seen(paths)
}

/// What tells of each of these files whether it changed.
pub(super) fn seen(paths: Vec<PathBuf>) -> anyhow::Result<Fingerprint> {
    let about = |path: PathBuf| {
        let about = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path, about.modified().ok(), about.len()))
    };
    paths.into_iter().map(about).collect()
}

/// Loads the stock rules and those of the configured directory: all or none.
///
/// # Errors
/// Every mistake in every file.
pub fn load(config: &AlertingConfig) -> anyhow::Result<Vec<RuleFile<Prepared<Expr>>>> {
    let mut texts: Vec<(String, String)> = Vec::new();
    if config.stock_rules {
        texts.extend(STOCK.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }
    for (path, _, bytes) in fingerprint(config)? {
        let name = path.display().to_string();
        let most = limits::RULE_FILE_MAX_BYTES;
        anyhow::ensure!(bytes <= most as u64, "{name}: {bytes} bytes, more than {most}");
        texts.push((name.clone(), fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?));
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

/// How many rules files have.
#[must_use]
pub fn count(files: &[RuleFile<Prepared<Expr>>]) -> usize {
    files.iter().flat_map(|file| &file.groups).map(|group| group.rules.len()).sum()
}

/// Loads the rules without evaluating them; gives their number.
///
/// # Errors
/// As [`load`].
pub fn check(config: &AlertingConfig) -> anyhow::Result<usize> {
    Ok(count(&load(config)?))
}

/// The query engine with the limits of rules.
#[must_use]
pub fn engine() -> Engine {
    let limits = EngineOptions::default();
    Engine::new(EngineOptions { max_samples: RULE_SAMPLES_MAX, timeout_ms: RULE_TIMEOUT_MS, ..limits })
}

/// Answers rules' expressions and takes what they record.
#[derive(Debug)]
pub struct RuleSource {
    source: KeptSource,
    engine: Engine,
    /// Where recorded series go.
    ingest: Ingest,
    begun: Instant,
    /// The series that each rule has now.
    recorded: HashMap<Arc<str>, HashMap<model::Labels, f64>>,
    /// Rules whose series are to be written at the next flush, and at which instant.
    touched: HashMap<Arc<str>, i64>,
    /// When each rule's series were written last.
    written_ms: HashMap<Arc<str>, i64>,
}

impl RuleSource {
    /// Over a history.
    #[must_use]
    pub fn new(source: HistorySource, ingest: Ingest) -> Self {
        Self {
            source: KeptSource::new(source),
            engine: engine(),
            ingest,
            begun: Instant::now(),
            recorded: HashMap::new(),
            touched: HashMap::new(),
            written_ms: HashMap::new(),
        }
    }

    /// Hands what was recorded to history.
    pub fn flush(&mut self, now_ms: i64) {
        for (rule, ts_ms) in std::mem::take(&mut self.touched) {
            let Some(series) = self.recorded.get(&rule) else { continue };
            let is_young = self.written_ms.get(&rule).is_some_and(|written| now_ms - written < MANY_EVERY_MS);
            if series.len() > MANY_SERIES && is_young {
                self.touched.insert(rule, ts_ms);
                continue;
            }
            let samples = series.iter().map(|(labels, value)| (labels.clone(), MetricType::Gauge, *value)).collect();
            let table = format!("rule/{rule}").into();
            if self.ingest.try_send(Event::Internal(Tick { table, ts_ms, samples })) {
                self.written_ms.insert(rule.clone(), ts_ms);
            } else {
                tracing::warn!(%rule, "recorded series are left out once: the ingest queue is full");
            }
            if series.is_empty() {
                self.recorded.remove(&rule);
                self.written_ms.remove(&rule);
            }
        }
    }
}

impl Source for RuleSource {
    type Prepared = Expr;

    fn prepare(&self, expr: &str) -> Result<Prepared<Expr>, String> {
        prepare(expr)
    }

    fn run(&self, prepared: &Expr, scope: Scope<'_>, ts_ms: i64) -> Result<Vec<Row>, String> {
        expression::rows(&self.engine, &self.source.scoped(scope), prepared, ts_ms, &Cancel::new())
    }

    fn record(&mut self, rule: &str, ts_ms: i64, samples: &[RuleSample]) {
        let is_due = || self.written_ms.get(rule).is_none_or(|written| ts_ms - written >= UNCHANGED_EVERY_MS);
        if samples.is_empty() && (!self.recorded.contains_key(rule) || !is_due()) {
            return;
        }
        let rule: Arc<str> = rule.into();
        let mut touched: HashSet<Arc<str>> = HashSet::new();
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
                    let had = self.recorded.iter_mut().filter_map(|(rule, all)| all.remove(&labels).map(|_| rule));
                    touched.extend(had.cloned());
                }
                None => {
                    self.recorded.entry(rule.clone()).or_default().remove(&labels);
                }
            }
        }
        if self.recorded.contains_key(&rule) {
            touched.insert(rule);
        }
        self.touched.extend(touched.into_iter().map(|rule| (rule, ts_ms)));
    }

    fn clock_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

fn series_labels(labels: &LabelSet) -> Option<model::Labels> {
    debug_assert!(labels.value(METRIC_NAME).is_some());
    model::Labels::new(labels.iter()).ok()
}
