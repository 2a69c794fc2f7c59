//! One turn of a group: each rule's rows, what they make of its alerts, what is recorded and told.

use rustc_hash::{FxHashMap, FxHashSet};

use super::alert::{self, Seen, Step, Timing};
use super::{
    Alert, AlertChange, GroupState, NoData, Options, Output, Prepared, Round, Row, RuleRun, RuleSample, RuleState,
    Scope, Semantics, Source, notification, query, texts,
};
use crate::depends;
use crate::engine::Phase;
use crate::labels::{ALERT_NAME, LabelSet, METRIC_NAME};
use crate::limits;
use crate::notification::Transition;
use crate::rules::{AlertSpec, Rule, RuleKind};

pub(super) fn group<S: Source>(
    group: &mut GroupState<S::Prepared>,
    round: Round<'_>,
    options: &Options,
    now_ms: i64,
    source: &mut S,
    output: &mut Output,
) {
    let (limit, ts_ms) = (group.limit, now_ms - group.query_offset_ms);
    for state in &mut group.rules {
        let whole = round.whole.then_some(Scope::All);
        let Some(scope) = (if state.alerts.is_by_instance() { round.by_instance } else { whole }) else { continue };
        let started_us = source.clock_us();
        let (samples, remark) = (Vec::new(), None);
        let mut turn = Turn { options, limit, scope, now_ms, ts_ms, source, output, samples, remark };
        let done = match state.rule.kind {
            RuleKind::Record { .. } => turn.record(state),
            RuleKind::Alert(_) => turn.alert(state),
        };
        let (samples, remark, error) = (turn.samples, turn.remark, done.err());
        if error.is_none() {
            source.record(&state.key, ts_ms, &samples);
        }
        let duration_us = source.clock_us().saturating_sub(started_us);
        state.status.evaluated_at_ms = Some(now_ms);
        state.status.duration_us = duration_us;
        state.status.error = error.clone().or_else(|| remark.clone());
        let (file, group, rule) = (group.file.clone(), group.name.clone(), state.rule.name.clone());
        output.runs.push(RuleRun { file, group, rule, duration_us, samples: samples.len(), error, remark });
    }
    group.last_ms = Some(now_ms);
}

/// One rule's turn.
struct Turn<'a, S> {
    options: &'a Options,
    limit: usize,
    /// Of which instances.
    scope: Scope<'a>,
    now_ms: i64,
    /// The instant that is asked about and recorded at: now less the group's offset.
    ts_ms: i64,
    source: &'a S,
    output: &'a mut Output,
    samples: Vec<RuleSample>,
    /// The first failure that did not end the turn.
    remark: Option<String>,
}

impl<S: Source> Turn<'_, S> {
    fn rows(&self, rule: &Rule<Prepared<S::Prepared>>) -> Result<Vec<Row>, String> {
        let rows = self.source.run(&rule.prepared.expr, self.scope, self.ts_ms)?;
        let most = if self.limit == 0 { limits::ROWS_PER_RULE_MAX } else { self.limit.min(limits::ROWS_PER_RULE_MAX) };
        if rows.len() > most {
            return Err(format!("{} rows, more than the limit of {most}; nothing was changed", rows.len()));
        }
        Ok(rows)
    }

    fn sample(&mut self, labels: LabelSet, value: Option<f64>) {
        self.samples.push(RuleSample { labels, value });
    }

    fn record(&mut self, state: &mut RuleState<S::Prepared>) -> Result<(), String> {
        let RuleKind::Record { labels } = &state.rule.kind else { return Ok(()) };
        let rows = self.rows(&state.rule)?;
        let mut recorded = FxHashSet::with_capacity_and_hasher(rows.len(), Default::default());
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
            self.samples.push(RuleSample { labels: ended.clone(), value: None });
        }
        state.recorded = recorded;
        Ok(())
    }

    fn alert(&mut self, state: &mut RuleState<S::Prepared>) -> Result<(), String> {
        state.turn += 1;
        let matched = self.matched(state)?;
        let RuleState { rule, key, alerts, labels_of, turn, .. } = state;
        let RuleKind::Alert(spec) = &rule.kind else { return Ok(()) };
        let mut gone = alerts.within(self.scope);
        gone.retain(|alert| alert.seen_in != *turn);
        gone.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        let timing = self.timing(spec);
        let unmatched = self.unmatched(rule, timing.no_data, &gone);
        self.check_limit(rule, matched.len(), &gone, timing)?;
        let gone: Vec<(LabelSet, Seen)> = gone.iter().map(|alert| alert.labels.clone()).zip(unmatched).collect();
        for (labels, seen) in gone {
            let Some(alert) = alerts.get_mut(&labels) else { continue };
            let was = Some(alert.phase);
            let step = alert.observe(seen, timing, self.now_ms);
            self.after(alert, was, step, rule, spec, key);
            if matches!(step, Step::Resolved | Step::Dropped) {
                labels_of.remove(&alert.row);
                alerts.remove(&labels);
            }
        }
        for (labels, row) in matched {
            if let Some(alert) = alerts.get_mut(&labels) {
                alert.row = row.labels;
                let was = Some(alert.phase);
                let step = alert.observe(Seen::Match(row.value), timing, self.now_ms);
                self.after(alert, was, step, rule, spec, key);
                continue;
            }
            if alerts.len() >= limits::ALERTS_PER_RULE_MAX {
                let most = limits::ALERTS_PER_RULE_MAX;
                self.remark
                    .get_or_insert_with(|| format!("more than {most} alerts at once: further ones are left out"));
                continue;
            }
            let mut alert = Alert::new(row.labels, labels, self.now_ms);
            alert.seen_in = *turn;
            let step = match alert.observe(Seen::Match(row.value), timing, self.now_ms) {
                Step::Same => Step::Changed,
                step => step,
            };
            self.after(&mut alert, None, step, rule, spec, key);
            alerts.insert(alert);
        }
        Ok(())
    }

    fn timing(&self, spec: &AlertSpec) -> Timing {
        let no_data = match self.options.semantics {
            Semantics::Prometheus => NoData::Resolve,
            Semantics::Pitwatch { no_data } => spec.no_data.unwrap_or(no_data),
        };
        Timing { for_ms: spec.for_ms, keep_firing_for_ms: spec.keep_firing_for_ms, no_data }
    }

    /// Prometheus counts alerts that only keep firing towards a group's limit too.
    fn check_limit(
        &self,
        rule: &Rule<Prepared<S::Prepared>>,
        matched: usize,
        gone: &[&Alert],
        timing: Timing,
    ) -> Result<(), String> {
        if self.options.semantics != Semantics::Prometheus || self.limit == 0 {
            return Ok(());
        }
        let keeps = |alert: &&&Alert| {
            let since = alert.keep_firing_since_ms.unwrap_or(self.now_ms);
            alert.phase == Phase::Firing && self.now_ms - since < timing.keep_firing_for_ms
        };
        let alerts = matched + gone.iter().filter(keeps).count();
        if alerts > self.limit {
            return Err(format!("{}: exceeded limit of {} with {alerts} alerts", rule.name, self.limit));
        }
        Ok(())
    }

    /// The rows that match now with the labels of the alert each stands for. Alerts that exist are marked as seen.
    fn matched(&mut self, state: &mut RuleState<S::Prepared>) -> Result<Vec<(LabelSet, Row)>, String> {
        let rows = self.rows(&state.rule)?;
        let RuleState { rule, alerts, labels_of, turn, .. } = state;
        let RuleKind::Alert(spec) = &rule.kind else { return Ok(Vec::new()) };
        let are_fixed = spec.labels.iter().all(|(_, template)| template.literal().is_some());
        let mut matched = Vec::with_capacity(rows.len());
        let mut fresh = FxHashSet::default();
        let name: (std::sync::Arc<str>, std::sync::Arc<str>) = (ALERT_NAME.into(), rule.name.clone());
        for row in rows {
            let labels = match labels_of.get(&row.labels) {
                Some(labels) => labels.clone(),
                None => {
                    let own = self.texts(&row.labels, row.value, &spec.labels);
                    let labels = row.labels.without(METRIC_NAME).with(own.into_iter().chain([name.clone()]));
                    if are_fixed {
                        labels_of.insert(row.labels.clone(), labels.clone());
                    }
                    labels
                }
            };
            let is_first = match alerts.get_mut(&labels) {
                Some(alert) => std::mem::replace(&mut alert.seen_in, *turn) != *turn,
                None => fresh.insert(labels.clone()),
            };
            if !is_first {
                return Err(format!("two rows become one alert once the rule's labels are set: {}", row.labels));
            }
            matched.push((labels, row));
        }
        Ok(matched)
    }

    /// What is seen of each alert that no row matches any more.
    fn unmatched(&mut self, rule: &Rule<Prepared<S::Prepared>>, no_data: NoData, gone: &[&Alert]) -> Vec<Seen> {
        let clear = rule.clear.as_ref().filter(|_| self.options.semantics != Semantics::Prometheus);
        let probe = rule.prepared.probe.as_ref();
        let is_told = probe.is_some() && no_data != NoData::Resolve;
        if gone.is_empty() || (clear.is_none() && !is_told) {
            return vec![Seen::Good; gone.len()];
        }
        let mut good = clear.map(|clear| self.values(&clear.expr, clear.by_instance));
        let mut known = probe.filter(|_| is_told).map(|probe| self.values(probe, rule.prepared.by_instance));
        let mut seen = |alert: &&Alert| {
            if good.as_mut().is_some_and(|good| good.cover(&alert.row)) {
                return Seen::Good;
            }
            match known.as_mut().map(|known| known.cover(&alert.row)) {
                Some(false) => Seen::Missing,
                // With a clear expression only that one says that it is over.
                Some(true) | None if good.is_some() => Seen::Between,
                Some(true) | None => Seen::Good,
            }
        };
        gone.iter().map(&mut seen).collect()
    }

    fn values(&mut self, expr: &S::Prepared, by_instance: bool) -> Values {
        let scope = if by_instance { self.scope } else { Scope::All };
        let rows = self.source.run(expr, scope, self.ts_ms).unwrap_or_else(|failed| {
            self.remark.get_or_insert(format!("cannot tell whether alerts are over: {failed}"));
            Vec::new()
        });
        Values::new(rows)
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
        if step == Step::Same && alert.recorded {
            return;
        }
        let transition = match step {
            Step::Fired => Some(Transition::Fired),
            Step::NoData => Some(Transition::NoData),
            Step::Resolved => Some(Transition::Resolved),
            Step::Same | Step::Changed | Step::Dropped => None,
        };
        if let Some(transition) = transition {
            alert.annotations =
                LabelSet::new(self.texts(&alert.row, alert.value, self.options.shown(&spec.annotations)));
            if transition == Transition::Fired {
                alert.depends_on = self.dependencies(alert, spec);
            }
            let told = notification(alert, transition, key, &rule.expr, self.now_ms);
            self.output.notifications.push(told);
            alert.sent += 1;
        }
        let over = matches!(step, Step::Resolved | Step::Dropped);
        self.series(alert, was.filter(|_| step == Step::Fired), over);
        if over {
            self.output.changes.push(AlertChange::Remove(alert::key(key, &alert.labels)));
        } else if step != Step::Same || transition.is_some() {
            self.output.changes.push(AlertChange::Put(Box::new(alert.to_stored(key, &rule.expr))));
        }
    }

    /// Records the alert's series where they are new, end, or change with its phase.
    fn series(&mut self, alert: &mut Alert, was: Option<Phase>, over: bool) {
        if alert.recorded && was.is_none() && !over {
            return;
        }
        if let Some(was) = was {
            let [state, _] = alert.series(was);
            self.sample(state, None);
        }
        let [state, for_state] = alert.series(alert.phase);
        // Whole seconds, as Prometheus writes them.
        #[expect(clippy::cast_precision_loss, reason = "seconds of our age")]
        let active_at_secs = alert.active_at_ms.div_euclid(1000) as f64;
        self.sample(state, (!over).then_some(1.0));
        self.sample(for_state, (!over).then_some(active_at_secs));
        alert.recorded = !over;
    }

    fn dependencies(&mut self, alert: &Alert, spec: &AlertSpec) -> Vec<LabelSet> {
        let Some(template) = &spec.depends_on else { return depends::implied(&alert.labels) };
        let pair = ("pitwatch_depends_on".into(), template.clone());
        let text = self.texts(&alert.row, alert.value, [&pair]).pop();
        depends::parse(text.as_ref().map_or("", |(_, text)| text)).unwrap_or_else(|wrong| {
            self.remark.get_or_insert(format!("pitwatch_depends_on: {wrong}"));
            Vec::new()
        })
    }

    fn texts<'t>(
        &mut self,
        row: &LabelSet,
        value: f64,
        templates: impl IntoIterator<Item = &'t (std::sync::Arc<str>, crate::template::Template)>,
    ) -> Vec<(std::sync::Arc<str>, std::sync::Arc<str>)> {
        let (source, now_ms) = (self.source, self.now_ms);
        let query = |expr: &str| query(source, expr, now_ms);
        texts(templates, &self.options.context(row, value, now_ms, &query), &mut self.remark)
    }
}

/// The rows of a probe: what there is a value for.
struct Values {
    exact: FxHashSet<LabelSet>,
    /// The most labels that one of them has.
    widest: usize,
    /// The rows with only some of their labels, by the names of those.
    fewer: FxHashMap<Vec<std::sync::Arc<str>>, FxHashSet<LabelSet>>,
}

impl Values {
    fn new(rows: Vec<Row>) -> Self {
        // NaN is no value: 0/0 says nothing about the fault.
        let known = rows.into_iter().filter(|row| !row.value.is_nan());
        let exact: FxHashSet<LabelSet> = known.map(|row| row.labels.without(METRIC_NAME)).collect();
        let widest = exact.iter().map(|labels| labels.iter().len()).max().unwrap_or(0);
        Self { exact, widest, fewer: FxHashMap::default() }
    }

    /// Whether there is a value for an alert's row. A comparison between vectors may keep fewer labels than its left
    /// side has, so a row of the probe may carry more.
    fn cover(&mut self, row: &LabelSet) -> bool {
        let row = row.without(METRIC_NAME);
        if self.exact.contains(&row) || row.iter().len() >= self.widest {
            return self.exact.contains(&row);
        }
        let names: Vec<_> = row.shared().map(|(name, _)| name).collect();
        let exact = &self.exact;
        let projected = self.fewer.entry(names.clone()).or_insert_with(|| {
            let only =
                |known: &LabelSet| LabelSet::new(known.shared().filter(|(name, _)| names.binary_search(name).is_ok()));
            exact.iter().map(only).collect()
        });
        projected.contains(&row)
    }
}
