//! Alerting at work: rules over history, states in the state store, messages to receivers, and what people do.
//!
//! What rules, states and messages mean is `pitwatch-alerting`'s matter; here it is joined to the query engine, the
//! ingest queue, the state store and HTTP.
//!
//! - [`rules`]: rule files on disk and the query side of the engine.
//! - [`lag`]: how late evaluations are.
//! - `reload`: rules and routing that changed, taken all or none.
//! - [`routing`]: who hears of what, from the configuration.
//! - [`desk`]: what is to be told, silences, acknowledgements, incidents.
//! - [`store`]: all of that in the state store.
//! - [`moment`], [`links`]: what surrounds a message.
//! - [`deliver`], `mail`: telling receivers.
//! - `view`, `people`: what the API shows and does.

pub mod deliver;
pub mod desk;
pub mod lag;
pub mod links;
mod mail;
pub mod moment;
mod people;
mod reload;
pub mod routing;
pub mod rules;
pub mod store;
mod view;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pitwatch_alerting::dispatch::Fallback;
use pitwatch_alerting::engine::{Options, Wake};
use pitwatch_alerting::incidents::Incidents;
use pitwatch_alerting::{Dispatcher, Engine, Outside, Semantics, Silences};
use pitwatch_promql::Expr;
use tokio::sync::{Notify, watch};
use tracing::{error, warn};

use self::deliver::Ways;
use self::desk::Desk;
use self::lag::Lag;
use self::links::Links;
use self::moment::Moments;
use self::rules::RuleSource;
use self::store::AlertStore;
use crate::clock::unix_ms;
use crate::config::AlertingConfig;
use crate::ingest::Ingest;
use crate::ingest::arrivals::Arrived;

/// After an evaluation of the rules that need every series, which took `d`, the next waits this many times `d`: they take
/// at most a quarter of a core however dear they are ...
const REST_FACTOR: u32 = 3;
/// ... and at least so long, milliseconds: what arrives meanwhile shares one.
const REST_MIN_MS: u64 = 100;
/// When nothing else is due, clocks are looked at this often, milliseconds.
const IDLE_MS: i64 = 1_000;

/// Rules, alerts and their delivery.
#[derive(Debug)]
pub struct Alerts {
    inner: Mutex<Inner>,
    desk: Mutex<Desk>,
    moments: Moments,
    links: Links,
    /// How the last sign of life went, and when one was taken.
    heartbeat: Mutex<Heartbeat>,
    store: AlertStore,
    config: AlertingConfig,
    external_url: String,
    /// Rung when a delivery was queued.
    queued: Notify,
    /// Counts.
    pub stats: AlertStats,
}

/// What one turn of the evaluating loop is about.
#[derive(Debug)]
struct Round {
    arrived: Arrived,
    /// Rules that need every series may run ...
    is_rested: bool,
    /// ... and have something new to see.
    is_fresh: bool,
}

#[derive(Debug)]
struct Inner {
    engine: Engine<Expr>,
    source: RuleSource,
    outside: Outside,
}

/// How signs of life go.
#[derive(Clone, Debug, Default)]
struct Heartbeat {
    taken: u64,
    failed: u64,
    last_success_ms: Option<i64>,
    last_error: Option<String>,
}

/// What alerting counts.
#[derive(Debug, Default)]
pub struct AlertStats {
    /// Evaluations of at least one rule.
    pub evaluations: AtomicU64,
    /// Time spent in them, microseconds.
    pub evaluation_us: AtomicU64,
    /// From samples that are durable to the end of the evaluation that saw them.
    pub lag: Lag,
    /// Rules that ran.
    pub rule_runs: AtomicU64,
    /// Rules that failed.
    pub rule_failures: AtomicU64,
    /// Transitions told.
    pub notifications: AtomicU64,
    /// When rules were last evaluated, milliseconds since the Unix epoch.
    pub evaluated_ms: AtomicI64,
    /// Times that the state store failed.
    pub store_failures: AtomicU64,
    /// Times that rule files were taken anew.
    pub reloads: AtomicU64,
    /// Times that they were not, for a mistake in them.
    pub reload_failures: AtomicU64,
    /// Whether the rule files as they are now are not those that are evaluated.
    pub rules_refused: AtomicBool,
}

impl Alerts {
    /// Loads rules and routing, and what the last run left.
    ///
    /// # Errors
    /// Every mistake in the files, or the state store's error.
    pub fn open(
        config: AlertingConfig,
        external_url: &str,
        source: RuleSource,
        moments: Moments,
        store: AlertStore,
    ) -> anyhow::Result<Self> {
        let files = rules::load(&config)?;
        let ways = Arc::new(Ways::load(&config)?);
        let options = Options {
            external_url: external_url.to_owned(),
            semantics: Semantics::Pitwatch { no_data: config.no_data },
            ..Options::default()
        };
        let mut engine = Engine::new(files, options);
        let now_ms = unix_ms();
        let stored = store.load()?;
        let dispatcher = dispatcher(&config, &ways, Silences::restore(stored.silences), now_ms);
        let mut desk = Desk { ways, dispatcher, incidents: Incidents::restore(stored.incidents, stored.marks) };
        let changes = desk.restore((stored.episodes, stored.told), &stored.alerts, now_ms);
        let gap_ms = stored.evaluated_ms.map_or(0, |last_ms| now_ms.saturating_sub(last_ms));
        let (outside, of_rules) = Outside::restore(stored.alerts);
        let output = engine.restore(of_rules, gap_ms, now_ms);
        let links = Links::new(&store.link_key(routing::random_key()?)?, external_url);
        let alerts = Self {
            inner: Mutex::new(Inner { engine, source, outside }),
            desk: Mutex::new(desk),
            moments,
            links,
            heartbeat: Mutex::default(),
            store,
            config,
            external_url: external_url.to_owned(),
            queued: Notify::new(),
            stats: AlertStats::default(),
        };
        alerts.store.save(&[], &changes, &[])?;
        alerts.tell(output.notifications, &output.changes, now_ms);
        Ok(alerts)
    }

    /// Evaluates as data arrives and as clocks ask, until `stop`.
    pub async fn evaluate(self: Arc<Self>, ingest: Ingest, mut stop: watch::Receiver<bool>) {
        let mut committed = ingest.committed.clone();
        // Whether something arrived that the rules which need every series have not seen, and when those may run again.
        let (mut is_fresh, mut rested) = (false, Instant::now());
        loop {
            let due_ms = self.lock().engine.due_ms().unwrap_or(i64::MAX);
            let due_in_ms = due_ms.saturating_sub(unix_ms()).clamp(0, if is_fresh { 0 } else { IDLE_MS });
            let due_in = Duration::from_millis(due_in_ms.unsigned_abs());
            tokio::select! {
                () = stopped(&mut stop) => return,
                changed = committed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    is_fresh = true;
                }
                () = tokio::time::sleep(due_in.max(rested.saturating_duration_since(Instant::now()))) => {}
            }
            let round = Round { arrived: ingest.arrivals.take(), is_rested: Instant::now() >= rested, is_fresh };
            let this = self.clone();
            let was_rested = round.is_rested;
            let Ok((by_instance, whole)) = tokio::task::spawn_blocking(move || this.round(&round)).await else {
                error!("rule evaluation panicked; it goes on with the next one");
                rested = Instant::now() + Duration::from_millis(REST_MIN_MS);
                continue;
            };
            if was_rested {
                is_fresh = false;
                rested = Instant::now() + (whole * REST_FACTOR).max(Duration::from_millis(REST_MIN_MS));
            }
            // As long a rest as it took: half a core at most.
            tokio::time::sleep(by_instance).await;
        }
    }

    /// Evaluates what can be evaluated by instance for those of which samples arrived, then, if it may, the rest. Gives
    /// how long each took.
    fn round(&self, round: &Round) -> (Duration, Duration) {
        let begun = Instant::now();
        if !round.arrived.instances.is_empty() {
            self.evaluate_now(Wake::Arrived(&round.arrived.instances));
            for (durable, instances) in &round.arrived.commits {
                self.stats.lag.note(durable.elapsed(), *instances as u64);
            }
        }
        let by_instance = begun.elapsed();
        if round.is_rested {
            let is_due = self.lock().engine.due_ms().is_some_and(|due_ms| due_ms <= unix_ms());
            self.evaluate_now(if round.is_fresh && !is_due { Wake::Data } else { Wake::Clock });
        }
        (by_instance, begun.elapsed() - by_instance)
    }

    fn evaluate_now(&self, wake: Wake<'_>) {
        let begun = Instant::now();
        let now_ms = unix_ms();
        let mut inner = self.lock();
        let Inner { engine, source, outside } = &mut *inner;
        let mut output = engine.evaluate(wake, now_ms, source);
        outside.tick(now_ms, &mut output);
        if output.runs.is_empty() && output.changes.is_empty() && output.notifications.is_empty() {
            return;
        }
        source.flush(now_ms);
        for run in &output.runs {
            let Some(error) = run.error.as_deref().or(run.remark.as_deref()) else { continue };
            self.stats.rule_failures.fetch_add(1, Ordering::Relaxed);
            warn!(file = %run.file, group = %run.group, rule = %run.rule, "rule failed: {error}");
        }
        self.stats.evaluations.fetch_add(1, Ordering::Relaxed);
        self.stats.rule_runs.fetch_add(output.runs.len() as u64, Ordering::Relaxed);
        self.stats.notifications.fetch_add(output.notifications.len() as u64, Ordering::Relaxed);
        self.stats.evaluated_ms.store(now_ms, Ordering::Relaxed);
        self.tell(output.notifications, &output.changes, now_ms);
        if let Err(error) = self.store.evaluated(now_ms) {
            warn!("the time of evaluation is not stored: {}", crate::error_chain(&error));
        }
        drop(inner);
        let spent_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.stats.evaluation_us.fetch_add(spent_us, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells by these ways, of nothing yet.
fn dispatcher(config: &AlertingConfig, ways: &Ways, silences: Silences, now_ms: i64) -> Dispatcher {
    let after_ms = i64::try_from(config.fallback_after.as_millis()).unwrap_or(i64::MAX);
    let fallback = Fallback { receiver: config.fallback_receiver.as_deref().map(Arc::from), after_ms };
    Dispatcher::new(ways.routing.clone(), fallback, silences, now_ms.unsigned_abs())
}

/// Returns once `stop` is set; holds nothing over the wait.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
