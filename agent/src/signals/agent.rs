//! The agent on itself: what it costs, what failed, and what its run loop counts.

use std::path::Path;
use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

use super::metric::Metric;
use super::parse;
use super::source::{HeldFile, Pass, SourceError};
use super::table::Handle;
use super::{Failures, GROUPS};
use crate::events::{EventCounts, EventKind};
use crate::reload::ReloadCounts;

/// What the run loop counts and hands in with [`super::Signals::set_runtime`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Runtime {
    /// Whether the agent is connected to its collector.
    pub connected: bool,
    /// Connections lost so far.
    pub reconnects: u64,
    /// Bytes of frames in memory that are not acknowledged.
    pub queue_bytes: u64,
    /// Bytes of frames on disk that are not acknowledged.
    pub spool_bytes: u64,
    /// Frames put into the lanes so far.
    pub frames: u64,
    /// Frames acknowledged so far.
    pub frames_acked: u64,
    /// Frames dropped so far at a limit, the oldest first.
    pub frames_dropped: u64,
    /// Events so far by kind, those that were dropped among them.
    pub events: EventCounts,
    /// Events that were dropped at a limit.
    pub events_dropped: u64,
    /// How reading the configuration anew went.
    pub reload: ReloadCounts,
    /// By how much cadences are lengthened to keep the limit of CPU; 1 is not at all.
    pub cadence_stretch: u32,
    /// CPU time a second when the limits were last looked at.
    pub cpu_ratio: f64,
    /// The limit of it.
    pub cpu_max_ratio: f64,
    /// The limit of memory.
    pub memory_max_bytes: u64,
    /// Times that memory was given up for being over its limit.
    pub memory_relieved: u64,
    /// UDP payload bytes sent to the collector so far.
    pub udp_sent_bytes: u64,
    /// UDP payload bytes received from the collector so far.
    pub udp_received_bytes: u64,
}

/// What [`super::Signals`] itself counts.
pub(super) struct Counts<'a> {
    pub(super) failures: &'a mut [Failures],
    /// Of each group its name, its live and its refused series.
    pub(super) groups: [(&'static str, usize, u64); GROUPS],
    /// The series of the last two by group.
    pub(super) series: &'a mut [[Handle; 2]; GROUPS],
}

/// When the process first gathered: a new configuration is no new start.
static BEGAN_MS: OnceLock<i64> = OnceLock::new();

const RUN: &str = "the agent's run loop";

/// What the agent says of itself.
pub(super) static METRICS: [Metric; 7] = [
    Metric::gauge("pitwatch_agent_build_info", "", "the agent", "The agent's version; always 1.").by(&["version"]),
    Metric::counter("pitwatch_agent_cpu_seconds_total", "seconds", "clock_gettime(2)", "CPU time that the agent used."),
    Metric::gauge(
        "pitwatch_agent_resident_memory_bytes",
        "bytes",
        "/proc/self/statm",
        "Memory of the agent that is in RAM.",
    ),
    Metric::gauge("pitwatch_agent_start_time_seconds", "seconds since the epoch", "the agent", "When the agent began."),
    Metric::counter(
        "pitwatch_agent_source_errors_total",
        "errors",
        "the agent",
        "Reads of a source that failed, and fields of it that were not what they should be.",
    )
    .by(&["source"]),
    Metric::gauge("pitwatch_agent_series", "series", "the agent", "Live series of a group.").by(&["group"]),
    Metric::counter(
        "pitwatch_agent_series_refused_total",
        "series",
        "the agent",
        "Series not taken: over the limit of a group, a twin of another, or with labels beyond the limits.",
    )
    .by(&["group"]),
];

/// What the run loop counts, in the order of [`values`].
pub(super) static RUNTIME: [Metric; 18] = [
    Metric::gauge("pitwatch_agent_connected", "", RUN, "Whether the agent is connected to its collector."),
    Metric::counter("pitwatch_agent_reconnects_total", "connections", RUN, "Connections lost."),
    Metric::gauge("pitwatch_agent_queue_bytes", "bytes", RUN, "Frames in memory that are not acknowledged."),
    Metric::gauge("pitwatch_agent_spool_bytes", "bytes", RUN, "Frames on disk that are not acknowledged."),
    Metric::counter("pitwatch_agent_frames_total", "frames", RUN, "Frames put into the lanes."),
    Metric::counter("pitwatch_agent_frames_acked_total", "frames", RUN, "Frames acknowledged by the collector."),
    Metric::counter("pitwatch_agent_frames_dropped_total", "frames", RUN, "Frames dropped at a limit, oldest first."),
    Metric::gauge(
        "pitwatch_agent_cadence_stretch_ratio",
        "",
        RUN,
        "By how much cadences are lengthened to keep the limit of CPU; 1 is not at all.",
    ),
    Metric::gauge("pitwatch_agent_cpu_ratio", "cores", RUN, "CPU time a second of the agent, over 5 s."),
    Metric::gauge("pitwatch_agent_cpu_limit_ratio", "cores", RUN, "The limit of it, `cpu_max_percent`."),
    Metric::gauge("pitwatch_agent_memory_limit_bytes", "bytes", RUN, "The agent's limit of memory, `memory_max`."),
    Metric::counter(
        "pitwatch_agent_memory_relieved_total",
        "times",
        RUN,
        "Times that what waited in memory was put on disk for being over that limit.",
    ),
    Metric::counter("pitwatch_agent_udp_sent_bytes_total", "bytes", RUN, "UDP payload sent to the collector."),
    Metric::counter(
        "pitwatch_agent_udp_received_bytes_total",
        "bytes",
        RUN,
        "UDP payload received from the collector.",
    ),
    Metric::counter(
        "pitwatch_agent_events_dropped_total",
        "events",
        RUN,
        "Events dropped: too many at once, or at a limit of the queue.",
    ),
    Metric::gauge(
        "pitwatch_agent_config_last_reload_successful",
        "",
        RUN,
        "Whether the configuration that was last found is in force.",
    ),
    Metric::gauge(
        "pitwatch_agent_config_last_reload_success_timestamp_seconds",
        "seconds since the epoch",
        RUN,
        "When a configuration was last put in force.",
    ),
    Metric::counter(
        "pitwatch_agent_config_refused_total",
        "configurations",
        RUN,
        "Configurations found while the agent ran that cannot be used; the one before went on.",
    ),
];

/// Events by kind. Every kind is there from the agent's first tick on, at 0, so that its first event is an increase.
pub(super) static EVENTS: [Metric; 1] = [Metric::counter(
    "pitwatch_events_total",
    "events",
    "the agent's events lane",
    "Events of this host; `pitwatch events` shows them.",
)
.by(&["kind", "severity"])];

fn values(runtime: &Runtime) -> [f64; RUNTIME.len()] {
    [
        f64::from(u8::from(runtime.connected)),
        runtime.reconnects as f64,
        runtime.queue_bytes as f64,
        runtime.spool_bytes as f64,
        runtime.frames as f64,
        runtime.frames_acked as f64,
        runtime.frames_dropped as f64,
        f64::from(runtime.cadence_stretch),
        runtime.cpu_ratio,
        runtime.cpu_max_ratio,
        runtime.memory_max_bytes as f64,
        runtime.memory_relieved as f64,
        runtime.udp_sent_bytes as f64,
        runtime.udp_received_bytes as f64,
        runtime.events_dropped as f64,
        f64::from(u8::from(runtime.reload.successful)),
        runtime.reload.taken_ms as f64 / 1000.0,
        runtime.reload.refused as f64,
    ]
}

/// The agent's own signals.
pub(super) struct Agent {
    statm: HeldFile,
    pub(super) runtime: Option<Runtime>,
    handles: [Handle; 4],
    runtime_handles: [Handle; RUNTIME.len()],
    event_handles: [Handle; EventKind::ALL.len()],
}

impl Agent {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self {
            statm: HeldFile::required(proc_root.join("self/statm")),
            runtime: None,
            handles: Default::default(),
            runtime_handles: Default::default(),
            event_handles: Default::default(),
        }
    }

    pub(super) fn gather(&mut self, pass: &mut Pass<'_>, counts: Counts<'_>) -> Result<(), SourceError> {
        let [build, cpu, memory, start] = &mut self.handles;
        let began_ms = *BEGAN_MS.get_or_init(|| pass.now.ts_ms);
        let sink = &mut pass.sink;
        sink.set(build, &METRICS[0], &[("version", env!("CARGO_PKG_VERSION"))], Some(1.0));
        let used = clock_gettime(ClockId::ProcessCPUTime);
        sink.set(cpu, &METRICS[1], &[], Some(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9));
        sink.set(start, &METRICS[3], &[], Some(began_ms as f64 / 1000.0));
        for failures in counts.failures {
            let labels = [("source", failures.source)];
            sink.set(&mut failures.handle, &METRICS[4], &labels, Some(failures.count as f64));
        }
        for ((group, live, refused), [live_handle, refused_handle]) in counts.groups.into_iter().zip(counts.series) {
            sink.set(live_handle, &METRICS[5], &[("group", group)], Some(live as f64));
            sink.set(refused_handle, &METRICS[6], &[("group", group)], Some(refused as f64));
        }
        if let Some(runtime) = &self.runtime {
            for ((handle, metric), value) in self.runtime_handles.iter_mut().zip(&RUNTIME).zip(values(runtime)) {
                sink.set(handle, metric, &[], Some(value));
            }
            for ((handle, kind), count) in self.event_handles.iter_mut().zip(EventKind::ALL).zip(runtime.events) {
                let labels = [("kind", kind.as_str()), ("severity", kind.severity().as_str())];
                sink.set(handle, &EVENTS[0], &labels, Some(count as f64));
            }
        }
        let text = self.statm.read(pass.buffer, &mut sink.malformed)?.unwrap_or_default();
        let pages = parse::words(text.trim_ascii_end()).nth(1).and_then(parse::count);
        sink.set(memory, &METRICS[2], &[], pages.map(|pages| pages * rustix::param::page_size() as f64));
        Ok(())
    }
}
