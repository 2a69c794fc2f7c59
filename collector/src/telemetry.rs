//! The collector on itself and on its agents: one list of series, for history each second, for `/metrics`, and for
//! `status`.
//!
//! - `storage`: what history lost, holds and refuses.

mod storage;

use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pitwatch_disk::Disk;
use pitwatch_history::{History, SourceKind};
use pitwatch_shared::model::{INSTANCE, Labels, METRIC_NAME, MetricType};
use serde_json::json;
use tokio::sync::watch;

use crate::agents::{AgentView, Agents};
use crate::alerts::Alerts;
use crate::api::{Alarms, QueryStats, StorageInfo, Vitals};
use crate::certificate::Served;
use crate::clock::unix_ms;
use crate::ingest::{Event, Ingest, Tick};
use crate::listen::Shared;
use crate::state::State;

pub use storage::Told;

/// Own series are gathered this often, milliseconds.
const CADENCE_MS: u64 = 1_000;
/// An agent from which nothing came for this long is not up, milliseconds: some ticks of its vitals.
pub const SILENT_AFTER_MS: i64 = 5_000;
/// After its start the collector says nothing of agents that were not seen yet for this long, milliseconds: a fleet
/// takes a while to come back.
const GRACE_MS: i64 = 30_000;
/// The table's name among the internal sources.
const TABLE: &str = "collector";

/// Everything that is counted.
#[derive(Debug)]
pub struct Telemetry {
    /// Where figures come from.
    pub history: Arc<History>,
    /// The ingest thread.
    pub ingest: Ingest,
    /// Agents.
    pub agents: Arc<Agents>,
    /// Connections.
    pub listen: Arc<Shared>,
    /// Alerting.
    pub alerts: Arc<Alerts>,
    /// Queries over HTTP.
    pub queries: Arc<QueryStats>,
    /// The state store.
    pub state: Arc<dyn State>,
    /// For the free room of the data directory.
    pub disk: Arc<dyn Disk>,
    /// The data directory.
    pub data_dir: std::path::PathBuf,
    /// When the collector started, milliseconds since the Unix epoch.
    pub started_ms: i64,
    /// What history's opening found damaged or missing.
    pub losses: Vec<String>,
    /// What was said of refused series.
    pub told: Arc<Told>,
    /// What HTTP is encrypted with, if it is.
    pub certificate: Option<Arc<Served>>,
    /// The collector stops: it is no longer ready.
    pub stopping: AtomicBool,
}

struct Series {
    name: &'static str,
    kind: MetricType,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Telemetry {
    /// Puts the collector's own series into history each second, until `stop`.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(CADENCE_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {}
            }
            let ts_ms = unix_ms();
            let samples = self.series().into_iter().filter_map(|series| {
                let pairs = series.labels.into_iter().chain([(METRIC_NAME.to_owned(), series.name.to_owned())]);
                Some((Labels::new(pairs).ok()?, series.kind, series.value))
            });
            let tick = Tick { table: TABLE.into(), ts_ms, samples: samples.collect() };
            // Full queues are the ingest's own trouble; its clock must still tick.
            let _ = self.ingest.try_send(Event::Internal(tick));
            let _ = self.ingest.try_send(Event::Clock);
            let this = self.clone();
            // One at a time: the next tick waits for it.
            let _ = tokio::task::spawn_blocking(move || this.told.tell(&this.history, ts_ms)).await;
        }
    }

    fn series(&self) -> Vec<Series> {
        let mut all = Vec::new();
        self.ingest_series(&mut all);
        self.history_series(&mut all);
        self.alert_series(&mut all);
        self.query_series(&mut all);
        self.process_series(&mut all);
        if let Some(certificate) = &self.certificate {
            let ends_secs = certificate.not_after_secs() as f64;
            gauge(&mut all, "pitwatch_collector_http_certificate_not_after_seconds", ends_secs);
        }
        let now_ms = unix_ms();
        for agent in self.agents.list() {
            if agent.record.revoked_ms.is_none() {
                self.agent_series(&agent, now_ms, &mut all);
            }
        }
        // As many series as agents with refusals, and no series of another agent's making.
        for refused in self.history.refused().into_iter().filter(|refused| refused.source.kind == SourceKind::Agent) {
            all.push(Series {
                name: "pitwatch_collector_agent_series_refused_total",
                kind: MetricType::Counter,
                labels: vec![(INSTANCE.to_owned(), refused.source.name.to_string())],
                value: refused.count as f64,
            });
        }
        all
    }

    fn ingest_series(&self, all: &mut Vec<Series>) {
        let (ingest, listen) = (&self.ingest.stats, &self.listen.stats);
        let stalled = ingest.stalled.load(Ordering::Relaxed);
        gauge(all, "pitwatch_collector_wal_stalled", f64::from(u8::from(stalled)));
        gauge(all, "pitwatch_collector_ingest_queue_events", load(&ingest.queued));
        counter(all, "pitwatch_collector_commits_total", load(&ingest.commits));
        counter(all, "pitwatch_collector_commit_failures_total", load(&ingest.commit_failures));
        counter(all, "pitwatch_collector_commit_seconds_total", load(&ingest.commit_us) / 1e6);
        counter(all, "pitwatch_collector_remote_write_requests_total", load(&ingest.writes));
        counter(all, "pitwatch_collector_remote_write_requests_refused_total", load(&ingest.writes_refused));
        counter(all, "pitwatch_collector_remote_write_samples_total", load(&ingest.rows_samples));
        counter(all, "pitwatch_collector_remote_write_samples_refused_total", load(&ingest.rows_refused));
        counter(all, "pitwatch_collector_frames_refused_total", load(&ingest.faults));
        gauge(all, "pitwatch_collector_agents_connected", self.agents.connected() as f64);
        counter(all, "pitwatch_collector_handshakes_total", load(&listen.handshakes));
        counter(all, "pitwatch_collector_handshake_failures_total", load(&listen.handshake_failures));
        counter(all, "pitwatch_collector_connections_refused_total", load(&listen.refused));
        counter(all, "pitwatch_collector_protocol_errors_total", load(&listen.protocol_errors));
        counter(all, "pitwatch_collector_enrolments_total", load(&listen.enrolled));
        counter(all, "pitwatch_collector_enrolments_refused_total", load(&listen.enrol_refused));
    }

    fn history_series(&self, all: &mut Vec<Series>) {
        let stats = self.history.stats();
        gauge(all, "pitwatch_collector_series", stats.series as f64);
        gauge(all, "pitwatch_collector_active_series", stats.active_series as f64);
        counter(all, "pitwatch_collector_samples_total", stats.samples_appended as f64);
        counter(all, "pitwatch_collector_frames_total", stats.frames_appended as f64);
        counter(all, "pitwatch_collector_frames_duplicate_total", stats.frames_duplicate as f64);
        counter(all, "pitwatch_collector_series_refused_total", stats.refused_series as f64);
        gauge(all, "pitwatch_collector_head_bytes", stats.head_bytes as f64);
        gauge(all, "pitwatch_collector_head_samples", stats.head_samples as f64);
        gauge(all, "pitwatch_collector_wal_bytes", stats.wal_bytes as f64);
        gauge(all, "pitwatch_collector_wal_pending_bytes", stats.wal_pending_bytes as f64);
        gauge(all, "pitwatch_collector_blocks", stats.blocks as f64);
        gauge(all, "pitwatch_collector_block_bytes", stats.block_bytes as f64);
        gauge(all, "pitwatch_collector_block_samples", stats.block_samples as f64);
        counter(all, "pitwatch_collector_seals_total", stats.seals as f64);
        counter(all, "pitwatch_collector_seal_failures_total", stats.seals_failed as f64);
        gauge(all, "pitwatch_collector_rollup_files", stats.rollup_files as f64);
        gauge(all, "pitwatch_collector_rollup_bytes", stats.rollup_bytes as f64);
        counter(all, "pitwatch_collector_rollups_total", stats.rollups as f64);
        counter(all, "pitwatch_collector_rollup_failures_total", stats.rollups_failed as f64);
        counter(all, "pitwatch_collector_samples_late_total", stats.samples_late as f64);
        counter(all, "pitwatch_collector_samples_future_total", stats.samples_future as f64);
        counter(all, "pitwatch_collector_samples_stray_total", stats.samples_stray as f64);
        counter(all, "pitwatch_collector_samples_replaced_total", stats.samples_replaced as f64);
        counter(all, "pitwatch_collector_samples_expired_total", stats.samples_expired as f64);
        counter(all, "pitwatch_collector_compactions_total", stats.compactions as f64);
        counter(all, "pitwatch_collector_compaction_failures_total", stats.compactions_failed as f64);
        counter(all, "pitwatch_collector_compaction_samples_total", stats.compacted_samples as f64);
        counter(all, "pitwatch_collector_compaction_bytes_total", stats.compacted_bytes as f64);
        counter(all, "pitwatch_collector_blocks_deleted_total", stats.blocks_deleted as f64);
        counter(all, "pitwatch_collector_corruptions_total", stats.corruptions as f64);
        counter(all, "pitwatch_collector_events_total", stats.events_appended as f64);
        counter(all, "pitwatch_collector_events_refused_total", stats.events_refused as f64);
        gauge(all, "pitwatch_collector_log_files", stats.log_files as f64);
        gauge(all, "pitwatch_collector_log_bytes", stats.log_bytes as f64);
        gauge(all, "pitwatch_collector_log_head_bytes", stats.log_head_bytes as f64);
        if let Ok(free) = self.disk.free_bytes(&self.data_dir) {
            gauge(all, "pitwatch_collector_disk_free_bytes", free as f64);
        }
    }

    fn query_series(&self, all: &mut Vec<Series>) {
        let stats = &self.queries;
        gauge(all, "pitwatch_collector_queries_running", load(&stats.running));
        gauge(all, "pitwatch_collector_queries_waiting", load(&stats.waiting));
        counter(all, "pitwatch_collector_queries_total", load(&stats.begun));
        counter(all, "pitwatch_collector_queries_refused_total", load(&stats.refused));
        counter(all, "pitwatch_collector_queries_expired_total", load(&stats.expired));
        counter(all, "pitwatch_collector_queries_abandoned_total", load(&stats.abandoned));
        gauge(all, "pitwatch_collector_live_streams", load(&stats.streams));
        counter(all, "pitwatch_collector_live_evaluations_total", load(&stats.watched));
        counter(all, "pitwatch_collector_query_wait_seconds_total", load(&stats.waited_us) / 1e6);
        counter(all, "pitwatch_collector_query_seconds_total", load(&stats.ran_us) / 1e6);
    }

    fn alert_series(&self, all: &mut Vec<Series>) {
        let stats = &self.alerts.stats;
        counter(all, "pitwatch_collector_rule_evaluations_total", load(&stats.evaluations));
        counter(all, "pitwatch_collector_rule_evaluation_seconds_total", load(&stats.evaluation_us) / 1e6);
        counter(all, "pitwatch_collector_rule_failures_total", load(&stats.rule_failures));
        let (buckets, sum) = stats.lag.buckets();
        let count = buckets.last().map_or(0, |(_, count)| *count);
        for (end, value) in buckets {
            let name = "pitwatch_collector_rule_lag_seconds_bucket";
            let labels = vec![("le".to_owned(), pitwatch_promql::format_value(end))];
            all.push(Series { name, kind: MetricType::Counter, labels, value: value as f64 });
        }
        counter(all, "pitwatch_collector_rule_lag_seconds_sum", sum);
        counter(all, "pitwatch_collector_rule_lag_seconds_count", count as f64);
        counter(all, "pitwatch_collector_rule_reloads_total", load(&stats.reloads));
        counter(all, "pitwatch_collector_rule_reload_failures_total", load(&stats.reload_failures));
        let refused = stats.rules_refused.load(Ordering::Relaxed);
        gauge(all, "pitwatch_collector_rules_refused", f64::from(u8::from(refused)));
        counter(all, "pitwatch_collector_notifications_total", load(&stats.notifications));
        counter(all, "pitwatch_collector_state_failures_total", load(&stats.store_failures));
        for receiver in self.alerts.deliveries() {
            let labels = vec![("receiver".to_owned(), receiver.name)];
            let mut push = |name, kind, value| all.push(Series { name, kind, labels: labels.clone(), value });
            push("pitwatch_collector_deliveries_waiting", MetricType::Gauge, receiver.pending as f64);
            push("pitwatch_collector_deliveries_total", MetricType::Counter, receiver.delivered as f64);
            push("pitwatch_collector_delivery_failures_total", MetricType::Counter, receiver.failed as f64);
        }
    }

    fn process_series(&self, all: &mut Vec<Series>) {
        gauge(all, "pitwatch_collector_start_time_seconds", self.started_ms as f64 / 1000.0);
        if let Some((cpu_secs, resident_bytes)) = own_process() {
            counter(all, "pitwatch_collector_cpu_seconds_total", cpu_secs);
            gauge(all, "pitwatch_collector_resident_memory_bytes", resident_bytes);
        }
        let version = vec![("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
        all.push(Series {
            name: "pitwatch_collector_build_info",
            kind: MetricType::Gauge,
            labels: version,
            value: 1.0,
        });
    }

    fn agent_series(&self, agent: &AgentView, now_ms: i64, all: &mut Vec<Series>) {
        let counters = &agent.live.counters;
        let last_ms = i64::try_from(counters.last_frame_ms.load(Ordering::Relaxed)).unwrap_or(0);
        let seen = last_ms > 0;
        if !seen && now_ms.saturating_sub(self.started_ms) < GRACE_MS {
            return;
        }
        // While the disk refuses, frames are not taken for want of the collector, not of the agent.
        let stalled = self.ingest.stats.stalled.load(Ordering::Relaxed);
        let fresh = seen && now_ms.saturating_sub(last_ms) < SILENT_AFTER_MS;
        let up = if stalled { agent.remote.is_some() } else { fresh };
        let mut labels: Vec<(String, String)> = agent.record.labels.clone().into_iter().collect();
        labels.retain(|(name, _)| name != INSTANCE && name != METRIC_NAME);
        labels.push((INSTANCE.to_owned(), agent.name.clone()));
        all.push(Series {
            name: "pitwatch_agent_up",
            kind: MetricType::Gauge,
            labels: labels.clone(),
            value: f64::from(u8::from(up)),
        });
        if seen {
            let name = "pitwatch_agent_last_seen_timestamp_seconds";
            all.push(Series { name, kind: MetricType::Gauge, labels, value: last_ms as f64 / 1000.0 });
        }
        let labels = vec![(INSTANCE.to_owned(), agent.name.clone())];
        let skew_secs = agent.live.clock_skew_ms.load(Ordering::Relaxed) as f64 / 1000.0;
        let mut push = |name, kind, value| all.push(Series { name, kind, labels: labels.clone(), value });
        push("pitwatch_collector_agent_clock_skew_seconds", MetricType::Gauge, skew_secs);
        push("pitwatch_collector_agent_lost_frames_total", MetricType::Counter, load(&counters.lost_frames));
        push("pitwatch_collector_agent_samples_total", MetricType::Counter, load(&counters.samples));
        push("pitwatch_collector_agent_events_total", MetricType::Counter, load(&counters.events));
        push("pitwatch_collector_agent_lost_events_total", MetricType::Counter, load(&counters.lost_events));
    }
}

impl Vitals for Telemetry {
    fn metrics_text(&self) -> String {
        let mut series = self.series();
        series.sort_by_key(|series| series.name);
        let (mut text, mut last) = (String::new(), "");
        for Series { name, kind, labels, value } in series {
            if name != last {
                let _ = writeln!(text, "# TYPE {name} {}", kind.as_str());
                last = name;
            }
            let pairs = labels.into_iter().chain([(METRIC_NAME.to_owned(), name.to_owned())]);
            if let Ok(labels) = Labels::new(pairs) {
                let _ = writeln!(text, "{labels} {}", pitwatch_promql::format_value(value));
            }
        }
        text
    }

    fn status(&self) -> serde_json::Value {
        let (ingest, history) = (&self.ingest.stats, self.history.stats());
        let commits = load(&ingest.commits);
        let average_ms = if commits > 0.0 { load(&ingest.commit_us) / commits / 1000.0 } else { 0.0 };
        let stall = ingest.stall_reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let per_sample = |bytes: u64, samples: u64| (samples > 0).then(|| bytes as f64 / samples as f64);
        let (cpu_secs, resident_bytes) = own_process().unwrap_or_default();
        json!({
            "ingest": {
                "stalled": ingest.stalled.load(Ordering::Relaxed),
                "stall_reason": stall,
                "queue_events": load(&ingest.queued),
                "samples_total": history.samples_appended,
                "frames_total": history.frames_appended,
                "commits_total": commits,
                "commit_average_ms": average_ms,
                "commit_failures_total": load(&ingest.commit_failures),
            },
            "history": {
                "series": history.series,
                "active_series": history.active_series,
                "series_refused_total": history.refused_series,
                "head_samples": history.head_samples,
                "head_bytes": history.head_bytes,
                "wal_bytes": history.wal_bytes,
                "blocks": history.blocks,
                "block_bytes": history.block_bytes,
                "block_bytes_per_sample": per_sample(history.block_bytes, history.block_samples),
                "rollup_bytes": history.rollup_bytes,
                "corruptions_total": history.corruptions,
            },
            "rules": self.alerts.rule_figures(),
            "agents": {
                "connected": self.agents.connected(),
                "protocol_errors_total": load(&self.listen.stats.protocol_errors),
                "handshake_failures_total": load(&self.listen.stats.handshake_failures),
            },
            "disk": {
                "path": self.data_dir.display().to_string(),
                "free_bytes": self.disk.free_bytes(&self.data_dir).ok(),
                "state_bytes": self.state.size_bytes().ok(),
            },
            "process": {
                "version": env!("CARGO_PKG_VERSION"),
                "started_ms": self.started_ms,
                "cpu_secs": cpu_secs,
                "resident_memory_bytes": resident_bytes,
            },
        })
    }

    fn storage(&self) -> StorageInfo {
        storage::info(&self.history, &self.losses, &self.told)
    }

    fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err("the collector is stopping".to_owned());
        }
        match &*self.ingest.stats.stall_reason.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => Err(format!("history cannot be written, nothing is acknowledged: {reason}")),
            None => Ok(()),
        }
    }
}

fn load(counter: &std::sync::atomic::AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

fn gauge(all: &mut Vec<Series>, name: &'static str, value: f64) {
    all.push(Series { name, kind: MetricType::Gauge, labels: Vec::new(), value });
}

fn counter(all: &mut Vec<Series>, name: &'static str, value: f64) {
    all.push(Series { name, kind: MetricType::Counter, labels: Vec::new(), value });
}

/// CPU seconds and resident bytes of this process, from /proc.
fn own_process() -> Option<(f64, f64)> {
    let ticks_per_sec = rustix::param::clock_ticks_per_second() as f64;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<f64>().ok();
    // Fields 14, 15 (user and system ticks) and 24 (pages) of proc(5), counted after the name.
    let cpu_secs = (field(11)? + field(12)?) / ticks_per_sec;
    Some((cpu_secs, field(21)? * rustix::param::page_size() as f64))
}
