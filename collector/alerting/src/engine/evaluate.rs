//! One turn of a group: each rule's rows, what they make of its alerts, what is recorded and told.

use std::collections::{BTreeMap, HashSet};

use super::alert::{self, Seen, Step, Timing};
use super::{
    Alert, AlertChange, GroupState, Options, Output, Prepared, Row, RuleRun, RuleSample, RuleState, Source,
    notification, query, texts,
};
use crate::engine::Phase;
use crate::labels::{ALERT_NAME, LabelSet, METRIC_NAME};
use crate::limits;
use crate::notification::Transition;
use crate::rules::{AlertSpec, Rule, RuleKind};
use crate::template::Context;

pub(super) fn group<S: Source>(
    group: &mut GroupState<S::Prepared>,
    options: &Options,
    now_ms: i64,
    source: &mut S,
    output: &mut Output,
) {
    let (limit, ts_ms) = (group.limit, now_ms - group.query_offset_ms);
    for state in &mut group.rules {
        let started_us = source.clock_us();
        let mut turn = Turn { options, limit, now_ms, ts_ms, source, output, samples: Vec::new(), error: None };
        let done = match state.rule.kind {
            RuleKind::Record { .. } => turn.record(state),
            RuleKind::Alert(_) => turn.alert(state),
        };
        let (samples, error) = (turn.samples, done.err().or(turn.error));
        source.record(&state.key, &samples);
        let duration_us = source.clock_us().saturating_sub(started_us);
        state.status.evaluated_at_ms = Some(now_ms);
        state.status.duration_us = duration_us;
        state.status.error.clone_from(&error);
        let (file, group, rule) = (group.file.clone(), group.name.clone(), state.rule.name.clone());
        output.runs.push(RuleRun { file, group, rule, duration_us, samples: samples.len(), error });
    }
}

/// One rule's turn.
struct Turn<'a, S> {
    options: &'a Options,
    limit: usize,
    now_ms: i64,
    /// The instant that is asked about and recorded at: now less the group's offset.
    ts_ms: i64,
    source: &'a S,
    output: &'a mut Output,
    samples: Vec<RuleSample>,
    /// The first failure that did not end the turn.
    error: Option<String>,
}

impl<S: Source> Turn<'_, S> {
    fn rows(&self, rule: &Rule<Prepared<S::Prepared>>) -> Result<Vec<Row>, String> {
        let rows = self.source.run(&rule.prepared.expr, self.ts_ms)?;
        let most = if self.limit == 0 { limits::ROWS_PER_RULE_MAX } else { self.limit.min(limits::ROWS_PER_RULE_MAX) };
        if rows.len() > most {
            return Err(format!("{} rows, more than the limit of {most}; nothing was changed", rows.len()));
        }
        Ok(rows)
    }

    fn sample(&mut self, labels: LabelSet, value: Option<f64>) {
        self.samples.push(RuleSample { labels, ts_ms: self.ts_ms, value });
    }

    fn record(&mut self, state: &mut RuleState<S::Prepared>) -> Result<(), String> {
        let RuleKind::Record { labels } = &state.rule.kind else { return Ok(()) };
        let rows = self.rows(&state.rule)?;
        let mut recorded = HashSet::with_capacity(rows.len());
        let name = (METRIC_NAME.into(), state.rule.name.clone());
        for row in rows {
            let series = row.labels.with(labels.iter().cloned().chain([name.clone()]));
            if !recorded.insert(series.clone()) {
                self.samples.clear();
                return Err(format!("two rows have the same labels {series} once the rule's are set"));
            }
            self.sample(series, Some(row.value));
        }
        for ended in state.recorded.iter().filter(|series| !recorded.contains(*series)) {
            self.samples.push(RuleSample { labels: ended.clone(), ts_ms: self.ts_ms, value: None });
        }
        state.recorded = recorded;
        Ok(())
    }

    fn alert(&mut self, state: &mut RuleState<S::Prepared>) -> Result<(), String> {
        let RuleState { rule, key, alerts, .. } = state;
        let RuleKind::Alert(spec) = &rule.kind else { return Ok(()) };
        let matched = self.matched(rule, spec)?;
        let unmatched = self.unmatched(rule, alerts, &matched);
        let timing = Timing { for_ms: spec.for_ms, keep_firing_for_ms: spec.keep_firing_for_ms };
        for (labels, seen) in unmatched {
            if let Some(alert) = alerts.get_mut(&labels) {
                let was = Some(alert.phase);
                let step = alert.observe(seen, timing, self.now_ms);
                self.after(alert, was, step, rule, spec, key);
                if matches!(step, Step::Resolved | Step::Dropped) {
                    alerts.remove(&labels);
                }
            }
        }
        for (labels, row) in matched {
            let fresh = !alerts.contains_key(&labels);
            let alert =
                alerts.entry(labels.clone()).or_insert_with(|| Alert::new(row.labels.clone(), labels, self.now_ms));
            alert.row = row.labels;
            let was = (!fresh).then_some(alert.phase);
            let mut step = alert.observe(Seen::Match(row.value), timing, self.now_ms);
            if fresh && step == Step::Same {
                step = Step::Changed;
            }
            self.after(alert, was, step, rule, spec, key);
        }
        Ok(())
    }

    /// The rows that match now, by the labels of the alert each stands for.
    fn matched(
        &mut self,
        rule: &Rule<Prepared<S::Prepared>>,
        spec: &AlertSpec,
    ) -> Result<BTreeMap<LabelSet, Row>, String> {
        let rows = self.rows(rule)?;
        let mut matched = BTreeMap::new();
        for row in rows {
            let own = self.texts(&row.labels, row.value, &spec.labels);
            let name = (ALERT_NAME.into(), rule.name.clone());
            let labels = row.labels.without(METRIC_NAME).with(own.shared().chain([name]));
            if let Some(twin) = matched.insert(labels, row) {
                return Err(format!("two rows become one alert once the rule's labels are set: {}", twin.labels));
            }
        }
        Ok(matched)
    }

    /// The alerts that no row matches any more, and whether there is a value that says so.
    fn unmatched(
        &mut self,
        rule: &Rule<Prepared<S::Prepared>>,
        alerts: &BTreeMap<LabelSet, Alert>,
        matched: &BTreeMap<LabelSet, Row>,
    ) -> Vec<(LabelSet, Seen)> {
        let gone: Vec<&Alert> = alerts.values().filter(|alert| !matched.contains_key(&alert.labels)).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        let Some(probe) = &rule.prepared.probe else {
            return gone.into_iter().map(|alert| (alert.labels.clone(), Seen::Good)).collect();
        };
        let rows = self.source.run(probe, self.ts_ms).unwrap_or_else(|failed| {
            self.error.get_or_insert(format!("cannot tell whether alerts are over: {failed}"));
            Vec::new()
        });
        let values = Values::new(rows);
        let seen = |alert: &Alert| if values.cover(&alert.row) { Seen::Good } else { Seen::Missing };
        gone.into_iter().map(|alert| (alert.labels.clone(), seen(alert))).collect()
    }

    /// Records, stores and tells what a step did.
    fn after(
        &mut self,
        alert: &mut Alert,
        was: Option<Phase>,
        step: Step,
        rule: &Rule<Prepared<S::Prepared>>,
        spec: &AlertSpec,
        key: &str,
    ) {
        let repeats = alert.phase == Phase::Firing
            && alert.sent_at_ms.is_some_and(|sent| self.now_ms - sent >= self.options.repeat_interval_ms);
        let transition = match step {
            Step::Fired => Some(Transition::Fired),
            Step::Resolved => Some(Transition::Resolved),
            Step::Same | Step::Changed if repeats => Some(Transition::Repeated),
            Step::Same | Step::Changed | Step::Dropped => None,
        };
        if let Some(transition) = transition {
            alert.annotations = self.texts(&alert.row, alert.value, &spec.annotations);
            let told = notification(alert, transition, key, &rule.expr, self.now_ms);
            self.output.notifications.push(told);
            alert.sent_at_ms = Some(self.now_ms);
            alert.sent += 1;
        }
        let over = matches!(step, Step::Resolved | Step::Dropped);
        let [state, for_state] = alert.series.clone();
        if let (Step::Fired, Some(was)) = (step, was) {
            self.sample(state.with([("alertstate", was.as_str())]), None);
        }
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of our age")]
        let active_at_secs = alert.active_at_ms as f64 / 1e3;
        self.sample(state, (!over).then_some(1.0));
        self.sample(for_state, (!over).then_some(active_at_secs));
        if over {
            self.output.changes.push(AlertChange::Remove(alert::key(key, &alert.labels)));
        } else if step != Step::Same || transition.is_some() {
            self.output.changes.push(AlertChange::Put(Box::new(alert.to_stored(key, &rule.expr))));
        }
    }

    fn texts(
        &mut self,
        row: &LabelSet,
        value: f64,
        templates: &[(std::sync::Arc<str>, crate::template::Template)],
    ) -> LabelSet {
        let (source, now_ms) = (self.source, self.now_ms);
        let query = |expr: &str| query(source, expr, now_ms);
        let external_url = &self.options.external_url;
        texts(templates, &Context { labels: row, value, now_ms, external_url, query: &query }, &mut self.error)
    }
}

/// The rows of a probe: what there is a value for.
struct Values {
    exact: HashSet<LabelSet>,
    /// The most labels that one of them has.
    widest: usize,
}

impl Values {
    fn new(rows: Vec<Row>) -> Self {
        // NaN is no value: 0/0 says nothing about the fault.
        let known = rows.into_iter().filter(|row| !row.value.is_nan());
        let exact: HashSet<LabelSet> = known.map(|row| row.labels.without(METRIC_NAME)).collect();
        let widest = exact.iter().map(|labels| labels.iter().len()).max().unwrap_or(0);
        Self { exact, widest }
    }

    /// Whether there is a value for an alert's row. A comparison between vectors may keep fewer labels than its left
    /// side has, so a row of the probe may carry more.
    fn cover(&self, row: &LabelSet) -> bool {
        let row = row.without(METRIC_NAME);
        self.exact.contains(&row)
            || (row.iter().len() < self.widest && self.exact.iter().any(|known| row.is_subset_of(known)))
    }
}
