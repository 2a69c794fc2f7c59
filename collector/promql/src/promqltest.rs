//! Runs the text scripts in which Prometheus keeps its engine's behaviour: `load` series, `eval` expressions, compare.
//! Owns the outcome of a script; `script` reads the text, `series` its series notation, `check` compares answers.
//! What needs native histograms or functions behind a feature flag is skipped, with the reason.

mod check;
mod script;
pub mod series;

use std::collections::BTreeMap;
use std::path::Path;

use crate::ast::Expr;
use crate::engine::{Cancel, Engine, EngineOptions};
use crate::labels::{Labels, METRIC_NAME};
use crate::source::{NATIVE_HISTOGRAM, STALE};
use crate::testing::MemorySource;
use script::{Command, Eval, Load};
use series::Item;

/// The outcome of one `eval`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is as the script expects.
    Passed,
    /// It is not; the text says what differs.
    Failed(String),
    /// It was not run; the text says why.
    Skipped(String),
}

/// The outcome of a script.
#[derive(Debug, Clone)]
pub struct Report {
    /// The script's file name.
    pub name: String,
    /// Each `eval`: its line, counted from one, and its outcome.
    pub outcomes: Vec<(usize, Outcome)>,
}

impl Report {
    /// How many passed.
    pub fn passed(&self) -> usize {
        self.outcomes.iter().filter(|(_, o)| *o == Outcome::Passed).count()
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.outcomes.iter().filter(|(_, o)| matches!(o, Outcome::Failed(_))).count()
    }

    /// How many were skipped, by reason.
    pub fn skipped(&self) -> BTreeMap<&str, usize> {
        let mut reasons = BTreeMap::new();
        for (_, outcome) in &self.outcomes {
            if let Outcome::Skipped(reason) = outcome {
                *reasons.entry(reason.as_str()).or_default() += 1;
            }
        }
        reasons
    }
}

/// Functions and words that Prometheus offers only behind a feature flag.
const FEATURE_FLAGGED: &[&str] = &[
    "anchored",
    "double_exponential_smoothing",
    "end",
    "fill",
    "fill_left",
    "fill_right",
    "histogram_quantiles",
    "holt_winters",
    "info",
    "limit_ratio",
    "limitk",
    "mad_over_time",
    "max_of",
    "min_of",
    "range",
    "smoothed",
    "sort_by_label",
    "sort_by_label_desc",
    "start",
    "step",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

/// How many samples an `eval` may hold. Prometheus runs its scripts with 10,000, but counts what a step holds, where this
/// engine counts what it reads for many steps at once.
const MAX_SAMPLES: usize = 100_000;

/// Runs every script (`*.test`) of a directory, by name.
pub fn run_directory(directory: &Path) -> std::io::Result<Vec<Report>> {
    let mut paths: Vec<_> = std::fs::read_dir(directory)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<std::io::Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .collect();
    paths.sort();
    paths.into_iter().map(|path| Ok(run_script(&file_name(&path), &std::fs::read_to_string(&path)?))).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Runs one script.
pub fn run_script(name: &str, text: &str) -> Report {
    let engine = Engine::new(EngineOptions { max_samples: MAX_SAMPLES, ..EngineOptions::default() });
    let mut runner = Runner { engine, store: MemorySource::new(), native: Vec::new(), start_times: false };
    let mut outcomes = Vec::new();
    for (line, command) in script::commands(text) {
        match command {
            Ok(Command::Clear) => {
                runner.store.clear();
                runner.native.clear();
                runner.start_times = false;
            }
            Ok(Command::Load(load)) => runner.load(&load),
            Ok(Command::Eval(eval)) => outcomes.push((line, runner.eval(&eval))),
            Err(reason) => outcomes.push((line, Outcome::Failed(format!("cannot read the script: {reason}")))),
        }
    }
    Report { name: name.to_owned(), outcomes }
}

/// The state of a running script.
struct Runner {
    engine: Engine,
    store: MemorySource,
    /// The series that hold native histograms: the store has only a mark for each.
    native: Vec<Labels>,
    /// Whether series say when their counters started.
    start_times: bool,
}

impl Runner {
    fn load(&mut self, load: &Load) {
        self.start_times |= load.start_times;
        for (labels, items) in &load.series {
            for (i, item) in items.iter().enumerate() {
                let time = load.step_ms * i as i64;
                match item {
                    Item::Gap => {}
                    Item::Stale => self.store.push(labels, time, STALE),
                    Item::Value(value) => self.store.push(labels, time, *value),
                    Item::Native => {
                        self.store.push(labels, time, NATIVE_HISTOGRAM);
                        self.native.push(labels.clone());
                    }
                }
            }
            if load.native_too {
                self.native.extend(native_twin(labels));
            }
        }
        self.native.sort();
        self.native.dedup();
    }

    fn eval(&self, eval: &Eval) -> Outcome {
        if eval.results.iter().any(|(_, items)| items.contains(&Item::Native)) {
            return Outcome::Skipped("native histogram in the result".to_owned());
        }
        let expr = match crate::parse(&eval.expr) {
            Ok(expr) => expr,
            Err(error) => {
                return match feature_flagged(&eval.expr) {
                    Some(word) => Outcome::Skipped(format!("feature flag: {word}")),
                    None if eval.fails() => check::failure(eval, &error.to_string()),
                    None => Outcome::Failed(format!("{}: {error}", eval.expr)),
                };
            }
        };
        if self.start_times {
            return Outcome::Skipped("feature flag: start timestamps".to_owned());
        }
        if self.selects_native(&expr) {
            return Outcome::Skipped("native histogram in the input".to_owned());
        }
        match check::run(&self.engine, &self.store, eval, &expr, &Cancel::new()) {
            Ok(()) => Outcome::Passed,
            Err(reason) => Outcome::Failed(format!("{}: {reason}", eval.expr)),
        }
    }

    /// Whether a selector names a metric of native histograms. One that selects them only among others is run: most
    /// functions pass over them.
    fn selects_native(&self, expr: &Expr) -> bool {
        let mut found = false;
        expr.for_each_selector(&mut |selector| {
            let named = selector.matchers.iter().any(|m| m.name == METRIC_NAME);
            found |=
                named && self.native.iter().any(|labels| selector.matchers.iter().all(|m| m.matches_labels(labels)));
        });
        found
    }
}

/// The native histogram that `load_with_nhcb` makes of a classic one's series.
fn native_twin(labels: &Labels) -> Option<Labels> {
    let name = labels.metric_name()?;
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
    Some(labels.without(|n| n == "le").with(METRIC_NAME, base))
}

fn feature_flagged(expr: &str) -> Option<&'static str> {
    let words = || expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    FEATURE_FLAGGED.iter().copied().find(|flagged| words().any(|w| w.eq_ignore_ascii_case(flagged)))
}
