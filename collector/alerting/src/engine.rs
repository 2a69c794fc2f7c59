//! The engine: which group is due, what its rules see, and what that changes.
//!
//! Sans-IO. The collector loads files into it, restores what it stored, and then calls [`Engine::evaluate`] whenever
//! data arrived or [`Engine::due_ms`] has come. It hands in a [`Source`] that answers expressions, and carries out the
//! [`Output`] in one transaction: alerts to store, notifications to queue.
//!
//! Departures from Prometheus, all for "missing data is never good news": an alert whose expression stops matching is
//! over only if the [`Prepared::probe`] still yields a value for its labels (what happens else is the rule's
//! [`NoData`]), or, where the rule has a `pitwatch_clear`, if that one yields a row; and a rule that fails or passes
//! its `limit` leaves its alerts as they were, instead of forgetting them. [`Semantics::Prometheus`] has none of it.

mod alert;
mod evaluate;
mod held;
mod scope;
mod telling;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub(crate) use alert::key;
pub use alert::{Alert, Phase, StoredAlert};
pub use scope::{Instances, Scope};
pub use telling::told;

use rustc_hash::{FxHashMap, FxHashSet};

use self::held::Held;
use self::scope::Round;
use self::telling::{notification, query, texts, withdraw};
use crate::depends::INSTANCE;
use crate::labels::{Fnv, LabelSet};
use crate::limits;
use crate::notification::Notification;
use crate::rules::{EXTENSION, Group, NoData, Rule, RuleFile, RuleKind};
use crate::template::{Context, Template};

/// One row of an expression's result.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The row's labels, its metric name among them where it has one.
    pub labels: LabelSet,
    /// Its value.
    pub value: f64,
}

/// A sample that a rule recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSample {
    /// The series, its metric name among the labels.
    pub labels: LabelSet,
    /// The value, or `None` where the series ends: a stale marker.
    pub value: Option<f64>,
}

/// An expression that was parsed once, with its probe.
#[derive(Clone, Debug)]
pub struct Prepared<P> {
    /// The expression.
    pub expr: P,
    /// The same expression without its outermost comparison: it yields a row for every label set that has data, met
    /// or not. Of `a > 1 and b > 2` that is `a and b`, of `a > 1 or b > 2` it is `a or b`, of `a > 1 unless b > 2` it
    /// is `a`. `None` where there is no such comparison, as in `absent(a)`; then an alert that stops matching is over,
    /// as in Prometheus.
    pub probe: Option<P>,
    /// Whether each row carries the `instance` of the series that it is made of, and is made of no other instance's:
    /// the rows of an instance are then a matter of that instance's series alone, the probe's too.
    pub by_instance: bool,
}

/// Answers expressions and takes what rules record. The collector joins the query language and the history here.
pub trait Source {
    /// A parsed expression.
    type Prepared;

    /// Parses an expression.
    ///
    /// # Errors
    /// What is wrong with it, for the person who wrote it.
    fn prepare(&self, expr: &str) -> Result<Prepared<Self::Prepared>, String>;

    /// The expression's rows at an instant; a scalar is one row without labels. Of an expression that is
    /// [`Prepared::by_instance`] those of the scope are asked for; rows of other instances may be among them.
    ///
    /// # Errors
    /// What failed.
    fn run(&self, prepared: &Self::Prepared, scope: Scope<'_>, ts_ms: i64) -> Result<Vec<Row>, String>;

    /// Takes what a rule recorded at an instant, before the next rule of its group runs, which may read it: what is new
    /// or has another value. A series that is not named has its value still. Called at each evaluation that did not
    /// fail. `rule` is the rule's key, the same as long as the rule stays; series of rules that are gone end under
    /// [`ENDED`].
    fn record(&mut self, rule: &str, ts_ms: i64, samples: &[RuleSample]);

    /// A clock in microseconds, for the durations in [`RuleRun`] only.
    fn clock_us(&self) -> u64;
}

/// The key of [`Source::record`] for series of rules that are gone.
pub const ENDED: &str = "";

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The interval of groups that name none.
    pub default_interval_ms: i64,
    /// Where people reach this collector; templates may use it.
    pub external_url: String,
    /// `$externalLabels` of templates.
    pub external_labels: LabelSet,
    /// Whose meaning rules have.
    pub semantics: Semantics,
}

/// Whose meaning rules have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Semantics {
    /// Missing data is no good news, and what Pitwatch adds to rules counts. Of rules that say nothing, missing data
    /// means `no_data`.
    Pitwatch {
        /// What missing data means to a rule that does not say.
        no_data: NoData,
    },
    /// Prometheus' own, to the letter: for unit tests of rules.
    Prometheus,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            default_interval_ms: 1_000,
            external_url: String::new(),
            external_labels: LabelSet::empty(),
            semantics: Semantics::Pitwatch { no_data: NoData::Keep },
        }
    }
}

/// Why the engine is called.
#[derive(Clone, Copy, Debug)]
pub enum Wake<'a> {
    /// The time has come: groups that are due run. Rules that are evaluated by instance are so for the instances of
    /// which nothing arrived since the last time.
    Clock,
    /// Samples of these instances arrived: of the groups of the default interval those rules run, over these
    /// instances, that can be evaluated by instance.
    Arrived(&'a Instances),
    /// Something arrived: of the groups of the default interval those rules run that need every series.
    Data,
    /// Every group runs, whatever its clock says: for tests and previews.
    Every,
}

/// What an evaluation changed; to be carried out in one transaction.
#[derive(Debug, Default)]
pub struct Output {
    /// Alerts to store and to remove.
    pub changes: Vec<AlertChange>,
    /// Transitions to tell, in order.
    pub notifications: Vec<Notification>,
    /// Every rule that ran.
    pub runs: Vec<RuleRun>,
}

/// A change of the stored alerts.
#[derive(Clone, Debug, PartialEq)]
pub enum AlertChange {
    /// Store this alert under its key.
    Put(Box<StoredAlert>),
    /// Remove the alert of this key.
    Remove(String),
}

/// One run of one rule, for metrics and logs.
#[derive(Clone, Debug)]
pub struct RuleRun {
    /// The file, as named to [`RuleFile::parse`].
    pub file: Arc<str>,
    /// The group.
    pub group: Arc<str>,
    /// The rule.
    pub rule: Arc<str>,
    /// How long it took.
    pub duration_us: u64,
    /// Samples it recorded.
    pub samples: usize,
    /// Why the rule as a whole failed; nothing was changed then.
    pub error: Option<String>,
    /// What else went wrong: a text's template, or telling whether alerts are over.
    pub remark: Option<String>,
}

/// How a rule fared when it last ran.
#[derive(Clone, Debug, Default)]
pub struct RuleStatus {
    /// When it last ran, Unix milliseconds; `None` before the first time.
    pub evaluated_at_ms: Option<i64>,
    /// How long it took.
    pub duration_us: u64,
    /// What failed.
    pub error: Option<String>,
}

/// A rule with its state.
#[derive(Debug)]
pub struct RuleState<P> {
    rule: Rule<Prepared<P>>,
    key: String,
    alerts: Held,
    /// The labels of the alert of each row, where they follow from the row's labels alone.
    labels_of: FxHashMap<LabelSet, LabelSet>,
    /// Counts the evaluations; see [`Alert`]'s `seen_in`.
    turn: u64,
    /// What a recording rule wrote last, to mark the series that end.
    recorded: FxHashSet<LabelSet>,
    status: RuleStatus,
}

impl<P> RuleState<P> {
    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &Rule<Prepared<P>> {
        &self.rule
    }

    /// What it is known by over restarts and reloads; the keys of its alerts begin with it and a dash.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The key of one of its alerts in the state store.
    #[must_use]
    pub fn alert_key(&self, alert: &Alert) -> String {
        alert::key(&self.key, alert.labels())
    }

    /// How it fared.
    #[must_use]
    pub fn status(&self) -> &RuleStatus {
        &self.status
    }

    /// Its alerts, pending and firing, sorted by labels.
    pub fn alerts(&self) -> impl ExactSizeIterator<Item = &Alert> {
        let mut alerts: Vec<&Alert> = self.alerts.values().collect();
        alerts.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        alerts.into_iter()
    }
}

/// A group with its clock.
#[derive(Debug)]
pub struct GroupState<P> {
    file: Arc<str>,
    name: Arc<str>,
    interval_ms: Option<i64>,
    limit: usize,
    query_offset_ms: i64,
    rules: Vec<RuleState<P>>,
    next_ms: i64,
    last_ms: Option<i64>,
}

impl<P> GroupState<P> {
    /// The file it stands in.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Most rows that one of its rules may give; 0 is no limit.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Its own interval; `None` is the default one, and woken by data.
    #[must_use]
    pub fn interval_ms(&self) -> Option<i64> {
        self.interval_ms
    }

    /// When one of its rules last ran.
    #[must_use]
    pub fn evaluated_at_ms(&self) -> Option<i64> {
        self.last_ms
    }

    /// Its rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[RuleState<P>] {
        &self.rules
    }
}

/// All groups, their clocks and their alerts.
#[derive(Debug)]
pub struct Engine<P> {
    options: Options,
    groups: Vec<GroupState<P>>,
    /// Series of rules that a reload took away; they end with the next evaluation.
    ended: Vec<LabelSet>,
    /// Instances of which samples arrived since the groups of the default interval were due last.
    heard: Instances,
}

impl<P> Engine<P> {
    /// An engine over `files`, without alerts. The groups are due at once.
    #[must_use]
    pub fn new(files: Vec<RuleFile<Prepared<P>>>, options: Options) -> Self {
        Self { options, groups: groups(files), ended: Vec::new(), heard: Instances::default() }
    }

    /// Takes back what was stored before a restart. Nothing was evaluated for the last `gap_ms`; the `for` clocks of
    /// pending alerts stood still for as long, and none fires sooner after it than it lasted
    /// ([`limits::FOR_GRACE_MAX_MS`] at most): what comes in at first may still be of before. After more than
    /// [`limits::FOR_OUTAGE_MAX_MS`] pending alerts begin anew. Alerts whose rule is gone are withdrawn.
    pub fn restore(&mut self, stored: Vec<StoredAlert>, gap_ms: i64, now_ms: i64) -> Output {
        let gap_ms = gap_ms.max(0);
        let mut by_rule: HashMap<String, Vec<StoredAlert>> = HashMap::new();
        let mut output = Output::default();
        for alert in stored {
            if alert.phase == Phase::Pending && gap_ms > limits::FOR_OUTAGE_MAX_MS {
                output.changes.push(AlertChange::Remove(alert.key));
            } else {
                by_rule.entry(alert.rule.clone()).or_default().push(alert);
            }
        }
        for rule in self.groups.iter_mut().flat_map(|group| &mut group.rules) {
            let RuleKind::Alert(spec) = &rule.rule.kind else { continue };
            for mut alert in by_rule.remove(&rule.key).unwrap_or_default() {
                if alert.phase == Phase::Pending && gap_ms > 0 {
                    let fires_at_ms = alert.active_at_ms + gap_ms + spec.for_ms;
                    let earliest_ms = now_ms + gap_ms.min(limits::FOR_GRACE_MAX_MS).min(spec.for_ms);
                    alert.active_at_ms = fires_at_ms.max(earliest_ms) - spec.for_ms;
                }
                rule.alerts.insert(Alert::from_stored(alert));
            }
        }
        let mut orphans: Vec<StoredAlert> = by_rule.into_values().flatten().collect();
        orphans.sort_by(|a, b| a.key.cmp(&b.key));
        for orphan in orphans {
            let (rule_key, expr) = (orphan.rule.clone(), orphan.expr.clone());
            withdraw(&Alert::from_stored(orphan), &rule_key, &expr, now_ms, &mut output);
        }
        output
    }

    /// Replaces every rule. Alerts of rules that stay (same file, group, name and labels) go on as they are; those of
    /// rules that are gone are withdrawn.
    pub fn reload(&mut self, files: Vec<RuleFile<Prepared<P>>>, now_ms: i64) -> Output {
        let old = std::mem::replace(&mut self.groups, groups(files));
        self.heard.clear();
        let mut stored = Vec::new();
        let mut recorded: HashMap<String, FxHashSet<LabelSet>> = HashMap::new();
        for rule in old.into_iter().flat_map(|group| group.rules) {
            stored.extend(rule.alerts.values().map(|alert| alert.to_stored(&rule.key, &rule.rule.expr)));
            recorded.insert(rule.key, rule.recorded);
        }
        for rule in self.groups.iter_mut().flat_map(|group| &mut group.rules) {
            rule.recorded = recorded.remove(&rule.key).unwrap_or_default();
        }
        self.ended.extend(recorded.into_values().flatten());
        let kept: HashSet<&str> = self.groups.iter().flat_map(|group| &group.rules).map(|rule| &*rule.key).collect();
        for alert in stored.iter().filter(|alert| !kept.contains(&*alert.rule)) {
            let alert = Alert::from_stored(alert.clone());
            self.ended.extend(alert.series(alert.phase));
        }
        self.restore(stored, 0, now_ms)
    }

    /// Takes back every alert whose labels `gone` names, such as those of a host that was retired.
    pub fn withdraw(&mut self, now_ms: i64, gone: impl Fn(&LabelSet) -> bool) -> Output {
        let mut output = Output::default();
        for rule in self.groups.iter_mut().flat_map(|group| &mut group.rules) {
            let RuleState { rule, key, alerts, labels_of, .. } = rule;
            let over = alerts.values().filter(|alert| gone(&alert.labels)).map(|alert| alert.labels.clone());
            for labels in over.collect::<Vec<_>>() {
                let Some(alert) = alerts.remove(&labels) else { continue };
                withdraw(&alert, key, &rule.expr, now_ms, &mut output);
                self.ended.extend(alert.series(alert.phase));
                labels_of.remove(&alert.row);
            }
        }
        output
    }

    /// When the next group is due; `None` without groups. Data may wake groups earlier, see [`Wake`].
    #[must_use]
    pub fn due_ms(&self) -> Option<i64> {
        self.groups.iter().map(|group| group.next_ms).min()
    }

    /// Runs the groups whose time has come.
    pub fn evaluate<S: Source<Prepared = P>>(&mut self, wake: Wake<'_>, now_ms: i64, source: &mut S) -> Output {
        let mut output = Output::default();
        if !self.ended.is_empty() {
            let ended = self.ended.drain(..).map(|labels| RuleSample { labels, value: None });
            source.record(ENDED, now_ms, &ended.collect::<Vec<_>>());
        }
        let mut has_pulsed = false;
        for group in &mut self.groups {
            let is_default = group.interval_ms.is_none();
            let is_due = matches!(wake, Wake::Every) || matches!(wake, Wake::Clock) && now_ms >= group.next_ms;
            let (whole, by_instance) = match wake {
                Wake::Every => (true, Some(Scope::All)),
                Wake::Clock if is_due => (true, Some(Scope::Except(&self.heard))),
                Wake::Data if is_default => (true, None),
                Wake::Arrived(instances) if is_default => (false, Some(Scope::Only(instances))),
                _ => continue,
            };
            evaluate::group(group, Round { whole, by_instance }, &self.options, now_ms, source, &mut output);
            if is_due {
                group.next_ms = next_slot(group, self.options.default_interval_ms, now_ms);
                has_pulsed |= is_default;
            }
        }
        if has_pulsed {
            self.heard.clear();
        }
        if let Wake::Arrived(instances) = wake {
            self.heard.extend(instances.iter().cloned());
        }
        output
    }

    /// Puts the groups into the order of `rank`, those of one rank as they were.
    pub fn order_groups(&mut self, rank: impl Fn(&str) -> usize) {
        self.groups.sort_by_key(|group| rank(&group.name));
    }

    /// The groups with their rules and alerts.
    #[must_use]
    pub fn groups(&self) -> &[GroupState<P>] {
        &self.groups
    }

    /// Every rule.
    pub fn rules(&self) -> impl Iterator<Item = &RuleState<P>> {
        self.groups.iter().flat_map(|group| &group.rules)
    }

    /// Every alert in the form that [`Engine::restore`] takes.
    #[must_use]
    pub fn stored(&self) -> Vec<StoredAlert> {
        self.rules()
            .flat_map(|rule| rule.alerts.values().map(|alert| alert.to_stored(&rule.key, &rule.rule.expr)))
            .collect()
    }

    /// The annotations of an alert of `rule` as they read now. A template that fails says so in its text.
    pub fn annotations<S: Source<Prepared = P>>(
        &self,
        rule: &RuleState<P>,
        alert: &Alert,
        now_ms: i64,
        source: &S,
    ) -> LabelSet {
        LabelSet::new(self.annotation_texts(rule, alert, now_ms, source))
    }

    /// The same in the rule's order, texts that are empty among them.
    pub fn annotation_texts<S: Source<Prepared = P>>(
        &self,
        rule: &RuleState<P>,
        alert: &Alert,
        now_ms: i64,
        source: &S,
    ) -> Vec<(Arc<str>, Arc<str>)> {
        let RuleKind::Alert(spec) = &rule.rule.kind else { return Vec::new() };
        let query = |expr: &str| query(source, expr, now_ms);
        let context = self.options.context(&alert.row, alert.value, now_ms, &query);
        texts(self.options.shown(&spec.annotations), &context, &mut None)
    }
}

impl Options {
    fn context<'a>(
        &'a self,
        labels: &'a LabelSet,
        value: f64,
        now_ms: i64,
        query: &'a dyn Fn(&str) -> Result<Vec<Row>, String>,
    ) -> Context<'a> {
        let (external_labels, external_url) = (&self.external_labels, &*self.external_url);
        Context { labels, value, now_ms, external_labels, external_url, query }
    }

    /// The annotations that are texts for people; to Prometheus all are.
    fn shown<'a>(
        &self,
        annotations: &'a [(Arc<str>, Template)],
    ) -> impl Iterator<Item = &'a (Arc<str>, Template)> + use<'a> {
        let all = self.semantics == Semantics::Prometheus;
        annotations.iter().filter(move |(name, _)| all || !name.starts_with(EXTENSION))
    }
}

fn groups<P>(files: Vec<RuleFile<Prepared<P>>>) -> Vec<GroupState<P>> {
    let mut all = Vec::new();
    for file in files {
        for group in file.groups {
            let Group { name, interval_ms, limit, query_offset_ms, rules } = group;
            let mut seen: HashMap<String, usize> = HashMap::new();
            let mut states = Vec::with_capacity(rules.len());
            for rule in rules {
                let base = rule_key(&file.name, &name, &rule, 0);
                let nth = seen.entry(base).and_modify(|nth| *nth += 1).or_default();
                let key = rule_key(&file.name, &name, &rule, *nth);
                let by_instance = interval_ms.is_none() && limit == 0 && is_by_instance(&rule);
                states.push(RuleState {
                    rule,
                    key,
                    alerts: Held::new(by_instance),
                    labels_of: FxHashMap::default(),
                    turn: 0,
                    recorded: FxHashSet::default(),
                    status: RuleStatus::default(),
                });
            }
            let file = file.name.clone();
            let (next_ms, last_ms) = (i64::MIN, None);
            all.push(GroupState { file, name, interval_ms, limit, query_offset_ms, rules: states, next_ms, last_ms });
        }
    }
    all
}

/// Whether an alert's instance is its row's, and its row a matter of that instance.
fn is_by_instance<P>(rule: &Rule<Prepared<P>>) -> bool {
    let RuleKind::Alert(spec) = &rule.kind else { return false };
    rule.prepared.by_instance && spec.labels.iter().all(|(name, _)| &**name != INSTANCE)
}

/// What a rule is known by over restarts and reloads: its place, name and labels, not its expression, so that a
/// threshold can be moved without ending the alert. `nth` tells apart rules that agree in all that.
fn rule_key<P>(file: &str, group: &str, rule: &Rule<P>, nth: usize) -> String {
    let mut hash = Fnv::default();
    let mut add = |text: &str| {
        hash.add(text.as_bytes());
        hash.add(&[0xff]);
    };
    let kind = if matches!(rule.kind, RuleKind::Alert(_)) { "alert" } else { "record" };
    [kind, file, group, &rule.name].into_iter().for_each(&mut add);
    match &rule.kind {
        RuleKind::Alert(spec) => spec.labels.iter().for_each(|(name, value)| {
            add(name);
            add(value.source());
        }),
        RuleKind::Record { labels } => labels.iter().for_each(|(name, value)| {
            add(name);
            add(value);
        }),
    }
    add(&nth.to_string());
    format!("{:016x}", hash.0)
}

/// When the group runs next: a default group an interval from now, as data wakes it anyway; others on a grid of their
/// own, so that groups of one interval do not all run at once.
fn next_slot<P>(group: &GroupState<P>, default_interval_ms: i64, now_ms: i64) -> i64 {
    let Some(interval_ms) = group.interval_ms else { return now_ms + default_interval_ms };
    let mut hash = Fnv::default();
    hash.add(group.file.as_bytes());
    hash.add(group.name.as_bytes());
    let shift = i64::try_from(hash.0 >> 1).unwrap_or(0) % interval_ms;
    ((now_ms - shift).div_euclid(interval_ms) + 1) * interval_ms + shift
}

#[cfg(test)]
mod tests;
