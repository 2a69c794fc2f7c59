//! What rules would have done over a past span: how often each alert would have fired, where and for how long.
//!
//! The rules run as they would have run then, on the states of [`pitwatch_alerting::Engine`], at steps of one length.
//! Their expressions are not evaluated step by step but over many steps at once, as range queries. Recording rules of
//! the file are evaluated first, over the whole span, so that alerts which read them see what they would have recorded.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use pitwatch_alerting::engine::{Options, Scope, Wake};
use pitwatch_alerting::labels::{ALERT_NAME, METRIC_NAME};
use pitwatch_alerting::rules::{Rule, RuleKind};
use pitwatch_alerting::{Engine, LabelSet, Prepared, Row, RuleFile, RuleSample, Semantics, Transition, depends};
use pitwatch_promql::testing::MemorySource;
use pitwatch_promql::{Bucket, Cancel, Expr, Hints, Labels, Matcher, SampleBuf, Selection, Source, SourceError, Value};

use crate::expression::{label_set, prepare, rows};

/// Most steps of a preview.
pub const STEPS_MAX: i64 = 20_000;
/// Steps that one range query covers.
const STEPS_AT_ONCE: i64 = 360;
/// Most samples that the file's recording rules may give; what is beyond is left out, and said.
const RECORDED_SAMPLES_MAX: usize = 2_000_000;
/// Most alerts (label sets) that are told of each rule; the others are only counted.
pub const ALERTS_TOLD_MAX: usize = 1_000;

/// The span to look at.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The first step, Unix milliseconds.
    pub start_ms: i64,
    /// No step is later.
    pub end_ms: i64,
    /// The distance of steps.
    pub step_ms: i64,
}

/// What one rule would have done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RulePreview {
    /// Its file.
    pub file: String,
    /// Its group.
    pub group: String,
    /// The alert's name.
    pub rule: String,
    /// How often alerts of it would have begun to fire.
    pub fired: u64,
    /// Its alerts, those that fired most first; [`ALERTS_TOLD_MAX`] at most.
    pub alerts: Vec<AlertPreview>,
    /// Alerts beyond those.
    pub more_alerts: usize,
    /// Steps at which it failed.
    pub failures: u64,
    /// The first failure.
    pub error: Option<String>,
}

/// What one alert would have done.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertPreview {
    /// Its labels without its name.
    pub labels: LabelSet,
    /// How often it would have begun to fire.
    pub fired: u64,
    /// How long it would have fired in all.
    pub firing_ms: i64,
    /// When it began to fire last.
    pub last_ms: i64,
    /// Whether it would fire now.
    pub is_firing: bool,
}

impl RulePreview {
    /// By host: how often alerts began to fire there.
    #[must_use]
    pub fn by_host(&self) -> BTreeMap<&str, u64> {
        let mut hosts = BTreeMap::new();
        for alert in &self.alerts {
            *hosts.entry(alert.labels.value(depends::INSTANCE).unwrap_or("")).or_default() += alert.fired;
        }
        hosts
    }
}

/// Runs the rules over a span of a store's history, until it is cancelled or its time is over.
///
/// # Errors
/// The span makes no sense, or the query was cancelled or took too long.
pub fn run<S: Source>(
    files: Vec<RuleFile<Prepared<Expr>>>,
    engine: &pitwatch_promql::Engine,
    source: &S,
    span: Span,
    semantics: Semantics,
    (cancel, is_over): (&Cancel, &dyn Fn() -> bool),
) -> Result<Vec<RulePreview>, String> {
    if span.step_ms <= 0 || span.end_ms < span.start_ms {
        return Err("the span has no steps".to_owned());
    }
    if (span.end_ms - span.start_ms) / span.step_ms > STEPS_MAX {
        return Err(format!("more than {STEPS_MAX} steps: choose a longer step or a shorter span"));
    }
    let (files, mut replay) = Replay::new(files, engine, source, span, cancel)?;
    let options = Options { semantics, ..Options::default() };
    let mut rules = Engine::new(files, options);
    let mut totals = Totals::new(&rules);
    let mut now_ms = span.start_ms;
    while now_ms <= span.end_ms {
        if cancel.is_cancelled() || is_over() {
            return Err("it takes too long: choose a longer step or a shorter span".to_owned());
        }
        let output = rules.evaluate(Wake::Every, now_ms, &mut replay);
        for (nth, run) in output.runs.iter().enumerate() {
            totals.failed(nth, run.error.as_deref());
        }
        for told in &output.notifications {
            let key = told.alert_key.split('-').next().unwrap_or_default();
            totals.told(key, told.transition, &told.labels, now_ms);
        }
        now_ms += span.step_ms;
    }
    Ok(totals.finish(span.end_ms))
}

/// What was counted so far.
struct Totals {
    rules: Vec<RulePreview>,
    by_key: HashMap<String, usize>,
    /// By rule and labels: the alert, and since when it fires.
    alerts: HashMap<(usize, LabelSet), (AlertPreview, Option<i64>)>,
}

impl Totals {
    fn new(engine: &Engine<Numbered>) -> Self {
        let (mut rules, mut by_key) = (Vec::new(), HashMap::new());
        for group in engine.groups() {
            for rule in group.rules() {
                by_key.insert(rule.key().to_owned(), rules.len());
                let (file, group) = (group.file().to_owned(), group.name().to_owned());
                rules.push(RulePreview { file, group, rule: rule.rule().name.to_string(), ..RulePreview::default() });
            }
        }
        Self { rules, by_key, alerts: HashMap::new() }
    }

    fn failed(&mut self, nth: usize, error: Option<&str>) {
        if let (Some(rule), Some(error)) = (self.rules.get_mut(nth), error) {
            rule.failures += 1;
            rule.error.get_or_insert_with(|| error.to_owned());
        }
    }

    fn told(&mut self, key: &str, transition: Transition, labels: &LabelSet, now_ms: i64) {
        let Some(nth) = self.by_key.get(key).copied() else { return };
        let labels = labels.without(ALERT_NAME);
        let fresh = || AlertPreview { labels: labels.clone(), fired: 0, firing_ms: 0, last_ms: 0, is_firing: false };
        let (alert, since) = self.alerts.entry((nth, labels.clone())).or_insert_with(|| (fresh(), None));
        match transition {
            Transition::Fired => {
                alert.fired += 1;
                alert.last_ms = now_ms;
                *since = Some(now_ms);
                self.rules[nth].fired += 1;
            }
            Transition::Resolved | Transition::Withdrawn => alert.firing_ms += now_ms - since.take().unwrap_or(now_ms),
            Transition::NoData => {}
        }
    }

    fn finish(mut self, end_ms: i64) -> Vec<RulePreview> {
        for ((nth, _), (mut alert, since)) in self.alerts {
            alert.is_firing = since.is_some();
            alert.firing_ms += since.map_or(0, |since| end_ms - since);
            self.rules[nth].alerts.push(alert);
        }
        for rule in &mut self.rules {
            rule.alerts.sort_by(|a, b| b.fired.cmp(&a.fired).then_with(|| a.labels.cmp(&b.labels)));
            rule.more_alerts = rule.alerts.len().saturating_sub(ALERTS_TOLD_MAX);
            rule.alerts.truncate(ALERTS_TOLD_MAX);
        }
        self.rules
    }
}

/// A prepared expression: with a number if its rows are to be kept over steps.
#[derive(Clone, Debug)]
struct Numbered {
    expr: Expr,
    number: Option<usize>,
}

/// Alerting rules whose expressions are numbered.
type Rules = Vec<RuleFile<Prepared<Numbered>>>;

/// A row's labels and its values, each with its time.
type Samples = (LabelSet, Vec<(i64, f64)>);

/// The rows of an expression over some steps.
struct Chunk {
    start_ms: i64,
    end_ms: i64,
    rows: Result<Vec<Samples>, String>,
}

/// Answers expressions from range queries.
struct Replay<'a, S: Source> {
    engine: &'a pitwatch_promql::Engine,
    source: Overlay<'a, S>,
    span: Span,
    cancel: &'a Cancel,
    chunks: RefCell<HashMap<usize, Chunk>>,
}

impl<'a, S: Source> Replay<'a, S> {
    /// The alerting rules, and what answers them; recording rules are done.
    fn new(
        files: Vec<RuleFile<Prepared<Expr>>>,
        engine: &'a pitwatch_promql::Engine,
        source: &'a S,
        span: Span,
        cancel: &'a Cancel,
    ) -> Result<(Rules, Self), String> {
        let source = Overlay { source, recorded: MemorySource::new(), names: HashSet::new() };
        let mut replay = Self { engine, source, span, cancel, chunks: RefCell::default() };
        let mut number = 0;
        let mut numbered = |expr: Expr| {
            number += 1;
            Numbered { expr, number: Some(number) }
        };
        let mut prepared = |p: Prepared<Expr>| {
            let (expr, probe) = (numbered(p.expr), p.probe.map(&mut numbered));
            Prepared { expr, probe, by_instance: p.by_instance }
        };
        let mut kept = Vec::new();
        let mut room = RECORDED_SAMPLES_MAX;
        for file in files {
            let mut groups = Vec::new();
            for group in file.groups {
                let mut rules = Vec::new();
                for rule in group.rules {
                    let Rule { name, expr, prepared: own, clear, line, kind } = rule;
                    if let RuleKind::Record { labels } = &kind {
                        replay.record_all(&name, labels, &own.expr, group.query_offset_ms, &mut room)?;
                        continue;
                    }
                    let (own, clear) = (prepared(own), clear.map(&mut prepared));
                    rules.push(Rule { name, expr, prepared: own, clear, line, kind });
                }
                let pitwatch_alerting::rules::Group { name, interval_ms, limit, query_offset_ms, .. } = group;
                groups.push(pitwatch_alerting::rules::Group { name, interval_ms, limit, query_offset_ms, rules });
            }
            kept.push(RuleFile { name: file.name, groups });
        }
        Ok((kept, replay))
    }

    /// Evaluates a recording rule over the whole span. One that fails records nothing: alerts that read it then do
    /// not fire, and a preview of the rule by itself says why.
    fn record_all(
        &mut self,
        name: &str,
        labels: &[(std::sync::Arc<str>, std::sync::Arc<str>)],
        expr: &Expr,
        offset_ms: i64,
        room: &mut usize,
    ) -> Result<(), String> {
        self.source.names.insert(name.to_owned());
        let mut at_ms = self.span.start_ms - offset_ms;
        while at_ms <= self.span.end_ms {
            if self.cancel.is_cancelled() {
                return Err("cancelled".to_owned());
            }
            let chunk = self.chunk(expr, at_ms);
            for (row, samples) in chunk.rows.unwrap_or_default() {
                let series = row.with(labels.iter().cloned().chain([(METRIC_NAME.into(), name.into())]));
                let series = Labels::from_pairs(series.shared());
                for (ts_ms, value) in samples {
                    if *room == 0 {
                        return Err(format!("the recording rules give more than {RECORDED_SAMPLES_MAX} samples"));
                    }
                    *room -= 1;
                    self.source.recorded.push(&series, ts_ms, value);
                }
            }
            at_ms = chunk.end_ms + self.span.step_ms;
        }
        Ok(())
    }

    /// The rows at the steps from `start_ms` on.
    fn chunk(&self, expr: &Expr, start_ms: i64) -> Chunk {
        let end_ms = start_ms + (STEPS_AT_ONCE - 1) * self.span.step_ms;
        let answer = self.engine.range(&self.source, expr, start_ms, end_ms, self.span.step_ms, self.cancel);
        let rows = match answer.map(|answer| answer.value) {
            Ok(Value::Matrix(series)) => {
                Ok(series.into_iter().map(|(labels, samples)| (label_set(&labels), samples)).collect())
            }
            Ok(_) => Err("neither a vector nor a scalar".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        Chunk { start_ms, end_ms, rows }
    }
}

impl<S: Source> pitwatch_alerting::Source for Replay<'_, S> {
    type Prepared = Numbered;

    fn prepare(&self, expr: &str) -> Result<Prepared<Numbered>, String> {
        let Prepared { expr, .. } = prepare(expr)?;
        Ok(Prepared { expr: Numbered { expr, number: None }, probe: None, by_instance: false })
    }

    fn run(&self, prepared: &Numbered, _: Scope<'_>, ts_ms: i64) -> Result<Vec<Row>, String> {
        let Some(number) = prepared.number else {
            return rows(self.engine, &self.source, &prepared.expr, ts_ms, self.cancel);
        };
        let mut chunks = self.chunks.borrow_mut();
        let known = chunks.get(&number).is_some_and(|chunk| {
            (chunk.start_ms..=chunk.end_ms).contains(&ts_ms) && (ts_ms - chunk.start_ms) % self.span.step_ms == 0
        });
        if !known {
            chunks.insert(number, self.chunk(&prepared.expr, ts_ms));
        }
        let Some(chunk) = chunks.get(&number) else { return Ok(Vec::new()) };
        let series = chunk.rows.as_ref().map_err(Clone::clone)?;
        let at = |(labels, samples): &Samples| {
            let at = samples.binary_search_by_key(&ts_ms, |(ts_ms, _)| *ts_ms).ok()?;
            Some(Row { labels: labels.clone(), value: samples[at].1 })
        };
        Ok(series.iter().filter_map(at).collect())
    }

    fn record(&mut self, _rule: &str, _ts_ms: i64, _samples: &[RuleSample]) {}

    fn clock_us(&self) -> u64 {
        0
    }
}

/// A store with what the file's own recording rules would have written in place of what is there by their names.
struct Overlay<'a, S> {
    source: &'a S,
    recorded: MemorySource,
    names: HashSet<String>,
}

/// Series of both with their labels.
type Selected<T> = Vec<(Labels, Either<T>)>;

/// A series of either.
enum Either<T> {
    Recorded(Labels),
    Stored(T),
}

impl<S: Source> Source for Overlay<'_, S> {
    type Series = Either<S::Series>;

    fn select(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<(Labels, Self::Series)>, SourceError> {
        let stored = self.source.select(matchers, start_ms, end_ms)?;
        self.with_recorded(stored, matchers, (start_ms, end_ms))
    }

    fn select_for(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        hints: &Hints,
    ) -> Result<Selection<Self::Series>, SourceError> {
        let Selection { series, resolution_ms, tier, info } =
            self.source.select_for(matchers, start_ms, end_ms, hints)?;
        let series = self.with_recorded(series, matchers, (start_ms, end_ms))?;
        // Buckets are of the store only: recorded samples are read as they are.
        if resolution_ms.is_some() && series.iter().any(|(_, one)| matches!(one, Either::Recorded(_))) {
            return Ok(Selection { series: self.select(matchers, start_ms, end_ms)?, resolution_ms: None, tier, info });
        }
        Ok(Selection { series, resolution_ms, tier, info })
    }

    fn samples(
        &self,
        series: &Self::Series,
        start_ms: i64,
        end_ms: i64,
        out: &mut SampleBuf,
    ) -> Result<(), SourceError> {
        match series {
            Either::Recorded(labels) => self.recorded.samples(labels, start_ms, end_ms, out),
            Either::Stored(series) => self.source.samples(series, start_ms, end_ms, out),
        }
    }

    fn latest(
        &self,
        series: &Self::Series,
        start_ms: i64,
        end_ms: i64,
        out: &mut SampleBuf,
    ) -> Result<(), SourceError> {
        match series {
            Either::Recorded(labels) => self.recorded.latest(labels, start_ms, end_ms, out),
            Either::Stored(series) => self.source.latest(series, start_ms, end_ms, out),
        }
    }

    fn buckets(
        &self,
        series: &Self::Series,
        start_ms: i64,
        end_ms: i64,
        out: &mut Vec<Bucket>,
    ) -> Result<(), SourceError> {
        match series {
            Either::Recorded(_) => Err("recorded samples have no buckets".into()),
            Either::Stored(series) => self.source.buckets(series, start_ms, end_ms, out),
        }
    }
}

impl<S: Source> Overlay<'_, S> {
    fn with_recorded(
        &self,
        stored: Vec<(Labels, S::Series)>,
        matchers: &[Matcher],
        (start_ms, end_ms): (i64, i64),
    ) -> Result<Selected<S::Series>, SourceError> {
        let is_other = |labels: &Labels| !labels.metric_name().is_some_and(|name| self.names.contains(name));
        let stored = stored.into_iter().filter(|(labels, _)| is_other(labels));
        let mut all: Vec<_> = stored.map(|(labels, series)| (labels, Either::Stored(series))).collect();
        let recorded = self.recorded.select(matchers, start_ms, end_ms)?;
        all.extend(recorded.into_iter().map(|(labels, series)| (labels, Either::Recorded(series))));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn files(text: &str) -> Vec<RuleFile<Prepared<Expr>>> {
        vec![RuleFile::parse("f.yml", text, prepare).unwrap_or_else(|errors| panic!("{errors}"))]
    }

    /// Two hosts over a day: `a` is hot for ten minutes each hour, `b` never.
    fn store() -> MemorySource {
        let mut store = MemorySource::new();
        for minute in 0..1440 {
            for (host, value) in [("a", if minute % 60 < 10 { 9.0 } else { 1.0 }), ("b", 2.0)] {
                store.push(&Labels::from_pairs([("__name__", "temp"), ("instance", host)]), minute * MINUTE, value);
            }
        }
        store
    }

    fn preview(text: &str, span: Span) -> Result<Vec<RulePreview>, String> {
        let semantics = Options::default().semantics;
        run(files(text), &pitwatch_promql::Engine::default(), &store(), span, semantics, (&Cancel::new(), &|| false))
    }

    const DAY: Span = Span { start_ms: 0, end_ms: 1439 * MINUTE, step_ms: MINUTE };

    #[test]
    fn alerts_are_counted_by_rule_and_host() {
        let text = "groups:
- name: g
  rules:
  - {alert: Hot, expr: temp > 5, for: 5m}
  - {alert: Longer, expr: temp > 5, for: 15m}
  - {record: 'temp:x2', expr: temp * 2, labels: {by: rule}}
  - {alert: Twice, expr: 'temp:x2 > 10'}
  - {alert: Broken, expr: 'temp + on() temp'}
  - {alert: Late, expr: temp > 5}
- name: later
  query_offset: 90s
  rules:
  - {alert: Late, expr: temp > 5}
";
        let rules = preview(text, DAY).unwrap();
        let fired: Vec<(&str, u64)> = rules.iter().map(|rule| (&*rule.rule, rule.fired)).collect();
        assert_eq!(fired, [("Hot", 24), ("Longer", 0), ("Twice", 24), ("Broken", 0), ("Late", 24), ("Late", 24)]);
        assert_eq!(rules[0].by_host(), BTreeMap::from([("a", 24)]));
        assert_eq!(rules[0].alerts[0].firing_ms, 24 * 5 * MINUTE);
        assert_eq!(rules[0].alerts[0].last_ms, (23 * 60 + 5) * MINUTE);
        assert_eq!(rules[2].alerts[0].labels.to_string(), r#"{by="rule", instance="a"}"#);
        assert!(rules[3].error.as_deref().unwrap().contains("many"), "{:?}", rules[3]);
        assert_eq!(rules[3].failures, 1440);
        assert_eq!(rules[5].alerts[0].firing_ms, rules[4].alerts[0].firing_ms);
    }

    #[test]
    fn a_clear_expression_counts() {
        let text =
            "groups: [{name: g, rules: [{alert: Hot, expr: temp > 5, annotations: {pitwatch_clear: temp < 0}}]}]";
        let rules = preview(text, DAY).unwrap();
        assert_eq!((rules[0].fired, rules[0].alerts[0].is_firing), (1, true));
        assert_eq!(rules[0].alerts[0].firing_ms, 1439 * MINUTE);
    }

    #[test]
    fn spans_are_bounded() {
        let text = "groups: [{name: g, rules: [{alert: Hot, expr: temp > 5}]}]";
        assert!(preview(text, Span { step_ms: 1, ..DAY }).unwrap_err().contains("more than 20000 steps"));
        assert!(preview(text, Span { step_ms: 0, ..DAY }).is_err());
        assert!(preview(text, Span { end_ms: -1, ..DAY }).is_err());
    }
}
