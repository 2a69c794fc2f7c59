//! Unit tests of rules, in the files that `promtool test rules` takes: series in, which alerts fire when, what
//! expressions yield.
//!
//! Rules have Prometheus' semantics here, so that a verdict is `promtool`'s; on request those of Pitwatch. As with
//! `promtool`, every group runs at every step, whatever its own interval, and reads the samples up to that step.
//!
//! - `read`: the file; - `compare`: what was expected and what came; - `files`: patterns of rule files.

mod compare;
mod files;
mod read;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use pitwatch_alerting::engine::{Options, Phase, Scope, Wake};
use pitwatch_alerting::rules::RuleKind;
use pitwatch_alerting::{Engine, LabelSet, Prepared, Row, RuleFile, RuleSample, Semantics, Source, limits};
use pitwatch_promql::ast::ValueType;
use pitwatch_promql::promqltest::series::Item;
use pitwatch_promql::testing::MemorySource;
use pitwatch_promql::{Cancel, EngineOptions, Expr, Labels, STALE};

use self::read::{AlertTest, TestFile, TestGroup};
use crate::expression::{prepare, rows};

/// Most evaluations of one test: `eval_time` by `evaluation_interval`.
pub const EVALUATIONS_MAX: i64 = 1_000_000;
/// Most samples of one test's series.
pub const SAMPLES_MAX: usize = 5_000_000;
/// Most samples that an expression may hold.
const EXPRESSION_SAMPLES_MAX: usize = 5_000_000;
/// Mistakes of one test that are told; after as many it ends.
const ERRORS_MAX: usize = 1_000;

/// What came of a file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Patterns of rule files that no file fits.
    pub warnings: Vec<String>,
    /// Every expectation that did not hold, and what kept tests from running; none if all is well.
    pub errors: Vec<String>,
    /// How many expectations there were.
    pub expectations: usize,
}

/// Runs a test file. Its rule files are found beside it.
#[must_use]
pub fn run(path: &Path, semantics: Semantics) -> Verdict {
    let mut verdict = Verdict::default();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) => {
            verdict.errors.push(error);
            return verdict;
        }
    };
    let file = match read::file(&text) {
        Ok(file) => file,
        Err(errors) => {
            verdict.errors = errors.into_iter().map(|(line, message)| format!("  line {line}: {message}")).collect();
            return verdict;
        }
    };
    let mut paths = Vec::new();
    for pattern in &file.rule_files {
        let found = files::matching(path.parent().unwrap_or(Path::new("")), pattern);
        if found.is_empty() {
            verdict.warnings.push(format!("no file match pattern {pattern}"));
        }
        paths.extend(found);
    }
    for group in &file.tests {
        match Run::new(&file, group, &paths, semantics) {
            Ok(run) => run.test(&mut verdict),
            Err(errors) => verdict.errors.push(errors),
        }
    }
    verdict
}

fn read_text(path: &Path) -> Result<String, String> {
    let length = fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?.len();
    if length > limits::RULE_FILE_MAX_BYTES as u64 {
        let most = limits::RULE_FILE_MAX_BYTES;
        return Err(format!("{}: {length} bytes, more than {most}", path.display()));
    }
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Loads rule files.
fn load(paths: &[PathBuf]) -> Result<Vec<RuleFile<Prepared<Expr>>>, String> {
    let mut files = Vec::new();
    let mut mistakes = Vec::new();
    for path in paths {
        let parsed = read_text(path).map(|text| RuleFile::parse(&path.display().to_string(), &text, prepare));
        match parsed {
            Ok(Ok(file)) => files.push(file),
            Ok(Err(errors)) => mistakes.push(errors.to_string()),
            Err(error) => mistakes.push(error),
        }
    }
    if mistakes.is_empty() { Ok(files) } else { Err(mistakes.join("\n")) }
}

/// Samples of a test's series, and of what its rules record.
struct TestSource {
    engine: pitwatch_promql::Engine,
    store: MemorySource,
    /// By rule, the series that it recorded last.
    live: HashMap<String, BTreeMap<Labels, f64>>,
}

impl Source for TestSource {
    type Prepared = Expr;

    fn prepare(&self, expr: &str) -> Result<Prepared<Expr>, String> {
        prepare(expr)
    }

    fn run(&self, expr: &Expr, _: Scope<'_>, ts_ms: i64) -> Result<Vec<Row>, String> {
        rows(&self.engine, &self.store, expr, ts_ms, &Cancel::new())
    }

    fn record(&mut self, rule: &str, ts_ms: i64, samples: &[RuleSample]) {
        let live = self.live.entry(rule.to_owned()).or_default();
        for sample in samples {
            let labels = Labels::from_pairs(sample.labels.shared());
            match sample.value {
                Some(value) => drop(live.insert(labels, value)),
                None => {
                    self.store.push(&labels, ts_ms, STALE);
                    live.remove(&labels);
                }
            }
        }
        for (labels, value) in live {
            self.store.push(labels, ts_ms, *value);
        }
    }

    fn clock_us(&self) -> u64 {
        0
    }
}

/// One test of a file.
struct Run<'a> {
    file: &'a TestFile,
    group: &'a TestGroup,
    engine: Engine<Expr>,
    source: TestSource,
    /// How many samples of each series are in the store.
    loaded: Vec<usize>,
}

impl<'a> Run<'a> {
    fn new(file: &'a TestFile, group: &'a TestGroup, paths: &[PathBuf], semantics: Semantics) -> Result<Self, String> {
        let options = EngineOptions {
            max_samples: EXPRESSION_SAMPLES_MAX,
            default_subquery_step_ms: file.evaluation_interval_ms,
            ..EngineOptions::default()
        };
        let source = TestSource {
            engine: pitwatch_promql::Engine::new(options),
            store: MemorySource::new(),
            live: HashMap::new(),
        };
        let options = Options {
            external_url: group.external_url.clone(),
            external_labels: LabelSet::new(group.external_labels.clone()),
            semantics,
            ..Options::default()
        };
        let mut engine = Engine::new(load(paths)?, options);
        let order: HashMap<&str, usize> =
            file.group_eval_order.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        engine.order_groups(|name| order.get(name).copied().unwrap_or(0));
        Ok(Self { file, group, engine, source, loaded: vec![0; group.series.len()] })
    }

    fn test(mut self, verdict: &mut Verdict) {
        let interval_ms = self.file.evaluation_interval_ms;
        let alerts = self.group.alerts.iter().map(|test| test.eval_time_ms);
        let last_ms = alerts.chain(self.group.exprs.iter().map(|test| test.eval_time_ms)).max().unwrap_or(0);
        if last_ms / interval_ms > EVALUATIONS_MAX {
            verdict.errors.push(format!("{}    more than {EVALUATIONS_MAX} evaluations", self.name()));
            return;
        }
        let mut due: Vec<&AlertTest> = self.group.alerts.iter().collect();
        due.sort_by_key(|test| test.eval_time_ms);
        let mut due = due.into_iter().peekable();
        let begun = verdict.errors.len();
        for step in 0..=last_ms / interval_ms {
            let at_ms = step * interval_ms;
            let now_ms = self.group.start_ms + at_ms;
            self.load(at_ms);
            let output = self.engine.evaluate(Wake::Every, now_ms, &mut self.source);
            let failed = output.runs.iter().filter_map(|run| Some((run, run.error.as_deref()?)));
            let failed = failed.map(|(run, error)| {
                format!("    rule: {}, time: {}, err: {error}", run.rule, compare::go_duration(at_ms))
            });
            let before = verdict.errors.len();
            verdict.errors.extend(failed);
            // A rule that fails makes everything after it doubtful.
            if verdict.errors.len() > before || verdict.errors.len() - begun > ERRORS_MAX {
                return;
            }
            while let Some(test) = due.next_if(|test| test.eval_time_ms < at_ms + interval_ms) {
                verdict.expectations += 1;
                verdict.errors.extend(self.alerts(test, now_ms));
            }
        }
        for test in &self.group.exprs {
            verdict.expectations += 1;
            let at_ms = self.group.start_ms + test.eval_time_ms;
            let got = prepare_any(&test.expr).and_then(|expr| self.source.run(&expr, Scope::All, at_ms));
            verdict.errors.extend(compare::samples(test, got, self.file.fuzzy_compare));
        }
    }

    /// Stores the samples up to a time.
    fn load(&mut self, until_ms: i64) {
        let interval_ms = self.group.interval_ms;
        for ((labels, items), loaded) in self.group.series.iter().zip(&mut self.loaded) {
            while let Some(item) = items.get(*loaded) {
                let at_ms = interval_ms * i64::try_from(*loaded).unwrap_or(i64::MAX);
                if at_ms > until_ms {
                    break;
                }
                let value = match item {
                    Item::Value(value) => Some(*value),
                    Item::Stale => Some(STALE),
                    Item::Native => Some(pitwatch_promql::NATIVE_HISTOGRAM),
                    Item::Gap => None,
                };
                if let Some(value) = value {
                    self.source.store.push(labels, self.group.start_ms + at_ms, value);
                }
                *loaded += 1;
            }
        }
    }

    /// Compares the alerts of a name that fire now with those expected.
    fn alerts(&self, test: &AlertTest, now_ms: i64) -> Option<String> {
        let mut got = Vec::new();
        for rule in self.engine.rules().filter(|rule| matches!(rule.rule().kind, RuleKind::Alert(_))) {
            if *rule.rule().name != *test.alertname {
                continue;
            }
            for alert in rule.alerts().filter(|alert| alert.phase() == Phase::Firing) {
                let texts = self.engine.annotation_texts(rule, alert, now_ms, &self.source);
                let labels = alert.labels().iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
                let texts = texts.iter().map(|(name, text)| (name.to_string(), text.to_string()));
                got.push((labels.collect(), texts.collect()));
            }
        }
        compare::alerts(&self.name(), test, got)
    }

    fn name(&self) -> String {
        self.group.name.as_ref().map_or_else(String::new, |name| format!("    name: {name},\n"))
    }
}

/// An expression of any type: what is no vector fails as with `promtool`.
fn prepare_any(expr: &str) -> Result<Expr, String> {
    let expr = pitwatch_promql::parse(expr).map_err(|error| error.to_string())?;
    match expr.value_type() {
        ValueType::Vector | ValueType::Scalar => Ok(expr),
        _ => Err("rule result is not a vector or scalar".to_owned()),
    }
}
