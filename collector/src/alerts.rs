//! Alerting at work: rules over history, states and deliveries in the state store, messages to webhooks.
//!
//! What rules, states and messages mean is `pitwatch-alerting`'s matter; here it is joined to the query engine, the
//! ingest queue, the state store and HTTP.
//!
//! - [`rules`]: rule files on disk and the query side of the engine.
//! - `reload`: rule files that changed, taken all or none.
//! - [`store`]: alerts and deliveries in the state store.
//! - [`deliver`]: posting to receivers.
//! - `view`: what the API shows.

pub mod deliver;
mod reload;
pub mod rules;
pub mod store;
mod view;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pitwatch_alerting::engine::{Options, Wake};
use pitwatch_alerting::queue::Queue;
use pitwatch_alerting::{Engine, Notification, Semantics, Transition};
use pitwatch_promql::Expr;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use self::rules::RuleSource;
use self::store::AlertStore;
use crate::clock::unix_ms;
use crate::config::AlertingConfig;
use crate::ingest::Ingest;

/// After an evaluation that took `d`, the next one that data wakes waits this many times `d`: rules take at most a
/// quarter of a core however dear they are.
const REST_FACTOR: u32 = 3;
/// Frames of one moment arrive over this long, milliseconds: an evaluation waits for them.
const SETTLE_MS: u64 = 20;
/// When nothing else is due, clocks are looked at this often, milliseconds.
const IDLE_MS: i64 = 1_000;
/// Notifications of one evaluation that are told which processes were at work; a query each.
const WHO_MAX: usize = 20;

/// Rules, alerts and their delivery.
#[derive(Debug)]
pub struct Alerts {
    inner: Mutex<Inner>,
    store: AlertStore,
    config: AlertingConfig,
    external_url: String,
    /// Rung when a delivery was queued.
    queued: Notify,
    /// Counts.
    pub stats: AlertStats,
}

#[derive(Debug)]
struct Inner {
    engine: Engine<Expr>,
    source: RuleSource,
    queue: Queue,
    last_success_ms: std::collections::BTreeMap<String, i64>,
}

/// What alerting counts.
#[derive(Debug, Default)]
pub struct AlertStats {
    /// Evaluations of at least one rule.
    pub evaluations: AtomicU64,
    /// Time spent in them, microseconds.
    pub evaluation_us: AtomicU64,
    /// Rules that ran.
    pub rule_runs: AtomicU64,
    /// Rules that failed.
    pub rule_failures: AtomicU64,
    /// Transitions told.
    pub notifications: AtomicU64,
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
    /// Loads rules, and alerts and deliveries of the last run.
    ///
    /// # Errors
    /// Every mistake in the rule files, or the state store's error.
    pub fn open(
        config: AlertingConfig,
        external_url: &str,
        source: RuleSource,
        store: AlertStore,
    ) -> anyhow::Result<Self> {
        let files = rules::load(&config)?;
        let options = Options {
            repeat_interval_ms: i64::try_from(config.repeat_interval.as_millis()).unwrap_or(i64::MAX),
            external_url: external_url.to_owned(),
            semantics: Semantics::Pitwatch { no_data: config.no_data },
            ..Options::default()
        };
        let mut engine = Engine::new(files, options);
        let mut queue = Queue::new(unix_ms().unsigned_abs());
        let now_ms = unix_ms();
        let stored = store.load()?;
        queue.restore(stored.deliveries);
        let known = |name: &str| config.receivers.iter().any(|receiver| receiver.name == name);
        let orphans = queue.retain_receivers(known);
        let gap_ms = stored.evaluated_ms.map_or(0, |last_ms| now_ms.saturating_sub(last_ms));
        let mut output = engine.restore(stored.alerts, gap_ms, now_ms);
        let mut changes = orphans;
        for notification in output.notifications.drain(..) {
            let notification = Arc::new(notification);
            for receiver in &config.receivers {
                changes.extend(queue.push(now_ms, &receiver.name, notification.clone()));
            }
        }
        store.save(&output.changes, &changes)?;
        let last_success_ms = std::collections::BTreeMap::new();
        Ok(Self {
            inner: Mutex::new(Inner { engine, source, queue, last_success_ms }),
            store,
            config,
            external_url: external_url.to_owned(),
            queued: Notify::new(),
            stats: AlertStats::default(),
        })
    }

    /// Evaluates as data arrives and as clocks ask, until `stop`.
    pub async fn evaluate(self: Arc<Self>, ingest: Ingest, mut stop: watch::Receiver<bool>) {
        let mut committed = ingest.committed.clone();
        loop {
            let due_ms = self.lock().engine.due_ms().unwrap_or(i64::MAX);
            let pause_ms = due_ms.saturating_sub(unix_ms()).clamp(0, IDLE_MS);
            let wake = tokio::select! {
                () = stopped(&mut stop) => return,
                changed = committed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(SETTLE_MS)).await;
                    committed.mark_unchanged();
                    Wake::Data
                }
                () = tokio::time::sleep(Duration::from_millis(pause_ms.unsigned_abs())) => Wake::Clock,
            };
            let this = self.clone();
            let begun = Instant::now();
            if tokio::task::spawn_blocking(move || this.evaluate_now(wake)).await.is_err() {
                error!("rule evaluation panicked; it goes on with the next one");
            }
            tokio::time::sleep(begun.elapsed() * REST_FACTOR).await;
        }
    }

    fn evaluate_now(&self, wake: Wake) {
        let begun = Instant::now();
        let now_ms = unix_ms();
        let mut inner = self.lock();
        let Inner { engine, source, queue, .. } = &mut *inner;
        let output = engine.evaluate(wake, now_ms, source);
        if output.runs.is_empty() && output.changes.is_empty() && output.notifications.is_empty() {
            return;
        }
        source.flush();
        for run in &output.runs {
            let Some(error) = run.error.as_deref().or(run.remark.as_deref()) else { continue };
            self.stats.rule_failures.fetch_add(1, Ordering::Relaxed);
            warn!(file = %run.file, group = %run.group, rule = %run.rule, "rule failed: {error}");
        }
        self.stats.evaluations.fetch_add(1, Ordering::Relaxed);
        self.stats.rule_runs.fetch_add(output.runs.len() as u64, Ordering::Relaxed);
        let mut changes = Vec::new();
        for (nth, mut notification) in output.notifications.into_iter().enumerate() {
            if nth < WHO_MAX && notification.transition == Transition::Fired {
                notification.who = source.who(&notification, now_ms);
            }
            self.say(&notification);
            let notification = Arc::new(notification);
            for receiver in &self.config.receivers {
                changes.extend(queue.push(now_ms, &receiver.name, notification.clone()));
            }
            self.stats.notifications.fetch_add(1, Ordering::Relaxed);
        }
        // The alert's new state and its messages in one transaction: a crash keeps both or tells again.
        if let Err(error) = self.store.save(&output.changes, &changes) {
            self.stats.store_failures.fetch_add(1, Ordering::Relaxed);
            error!("alert states are not stored, a restart may tell them again: {}", crate::error_chain(&error));
        }
        if let Err(error) = self.store.evaluated(now_ms) {
            warn!("the time of evaluation is not stored: {}", crate::error_chain(&error));
        }
        drop(inner);
        let spent_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.stats.evaluation_us.fetch_add(spent_us, Ordering::Relaxed);
        if !changes.is_empty() {
            self.queued.notify_one();
        }
    }

    fn say(&self, notification: &Notification) {
        let receivers = self.config.receivers.len();
        let (alert, labels) = (notification.name(), &notification.labels);
        info!(alert, %labels, value = notification.value, receivers, "alert {}", notification.transition.as_str());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns once `stop` is set; holds nothing over the wait.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
