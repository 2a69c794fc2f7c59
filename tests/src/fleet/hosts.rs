//! A made-up host for people to look at: the series that the pages and the stock rules read, in a shape that a real host
//! has. A level above 0 makes it sick: its cores are used up and its database writes.

use pitwatch_shared::codec::{SeriesDef, Slot};
use pitwatch_shared::model::MetricType::{self, Counter, Gauge};
use pitwatch_shared::model::{Labels, METRIC_NAME};

/// Seconds of a day's wave, short enough that a chart of some minutes shows it.
const WAVE_SECS: f64 = 240.0;
const GIB: f64 = 1_073_741_824.0;
const MEMORY_BYTES: f64 = 16.0 * GIB;
const DISK_BYTES: f64 = 200.0 * GIB;
const MAX_CORES: f64 = 2.0;

/// A series, and its next value after the one before.
pub(super) struct Row {
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
    kind: MetricType,
    next: fn(f64, &Second) -> f64,
}

/// What the host does in one second.
pub(super) struct Second {
    /// The share of each core that works.
    busy: f64,
    /// From 0 to 1 and back.
    wave: f64,
    is_sick: bool,
    noise: f64,
}

const ROOT: &[(&str, &str)] = &[("device", "/dev/vda1"), ("fstype", "ext4"), ("mountpoint", "/")];
const DATA: &[(&str, &str)] = &[("device", "/dev/vdb"), ("fstype", "xfs"), ("mountpoint", "/var/lib/postgresql")];
const DISK: &[(&str, &str)] = &[("device", "vdb")];
const ETHERNET: &[(&str, &str)] = &[("device", "eth0")];
const POSTGRES: &[(&str, &str)] = &[("name", "postgres"), ("pid", "2210")];
const GAME: &[(&str, &str)] = &[("name", "game-server"), ("pid", "941")];
const SSHD: &[(&str, &str)] = &[("name", "sshd"), ("pid", "612")];

/// The series after the fleet's own level, in the order of their slots.
pub(super) const ROWS: &[Row] = &[
    row("node_cpu_seconds_total", &[("cpu", "0"), ("mode", "idle")], Counter, |v, s| v + 1.0 - s.busy),
    row("node_cpu_seconds_total", &[("cpu", "0"), ("mode", "user")], Counter, |v, s| v + s.busy * 0.8),
    row("node_cpu_seconds_total", &[("cpu", "0"), ("mode", "system")], Counter, |v, s| v + s.busy * 0.2),
    row("node_cpu_seconds_total", &[("cpu", "1"), ("mode", "idle")], Counter, |v, s| v + 1.0 - s.busy),
    row("node_cpu_seconds_total", &[("cpu", "1"), ("mode", "user")], Counter, |v, s| v + s.busy * 0.7),
    row("node_cpu_seconds_total", &[("cpu", "1"), ("mode", "system")], Counter, |v, s| v + s.busy * 0.3),
    row("node_load1", &[], Gauge, |_, s| (s.busy * MAX_CORES * 100.0).round() / 100.0),
    row("node_procs_running", &[], Gauge, |_, s| if s.is_sick { 7.0 } else { 1.0 }),
    row("node_procs_blocked", &[], Gauge, |_, s| f64::from(u8::from(s.is_sick))),
    row("node_memory_MemTotal_bytes", &[], Gauge, |_, _| MEMORY_BYTES),
    row("node_memory_MemAvailable_bytes", &[], Gauge, |_, s| (MEMORY_BYTES * (0.62 - 0.1 * s.wave)).round()),
    row("node_memory_SwapTotal_bytes", &[], Gauge, |_, _| GIB),
    row("node_memory_SwapFree_bytes", &[], Gauge, |_, _| GIB),
    row("node_pressure_cpu_waiting_seconds_total", &[], Counter, |v, s| v + if s.is_sick { 0.7 } else { 0.01 }),
    row("node_pressure_memory_waiting_seconds_total", &[], Counter, |v, _| v),
    row("node_pressure_io_waiting_seconds_total", &[], Counter, |v, s| v + 0.02 + 0.02 * s.wave),
    row("node_disk_io_time_seconds_total", DISK, Counter, |v, s| v + 0.08 + 0.1 * s.wave),
    row("node_disk_reads_completed_total", DISK, Counter, |v, s| v + 20.0 + (s.noise * 10.0).round()),
    row("node_disk_writes_completed_total", DISK, Counter, |v, s| v + 60.0 + (s.wave * 90.0).round()),
    row("node_disk_read_time_seconds_total", DISK, Counter, |v, _| v + 0.012),
    row("node_disk_write_time_seconds_total", DISK, Counter, |v, s| v + 0.06 + 0.1 * s.wave),
    row("node_disk_read_bytes_total", DISK, Counter, |v, s| v + 4e5 + (s.noise * 1e5).round()),
    row("node_disk_written_bytes_total", DISK, Counter, |v, s| v + 2e6 + (s.wave * 3e6).round()),
    row("node_filesystem_size_bytes", ROOT, Gauge, |_, _| 40.0 * GIB),
    row("node_filesystem_avail_bytes", ROOT, Gauge, |_, _| 27.0 * GIB),
    row("node_filesystem_readonly", ROOT, Gauge, |_, _| 0.0),
    row("node_filesystem_size_bytes", DATA, Gauge, |_, _| DISK_BYTES),
    row("node_filesystem_avail_bytes", DATA, Gauge, |v, s| {
        let full = if s.is_sick { 0.09 } else { 0.48 };
        if v > 1.0 { v - if s.is_sick { 2e6 } else { 0.0 } } else { DISK_BYTES * full }
    }),
    row("node_filesystem_readonly", DATA, Gauge, |_, _| 0.0),
    row("node_network_receive_bytes_total", ETHERNET, Counter, |v, s| v + 9e5 + (s.wave * 2e6).round()),
    row("node_network_transmit_bytes_total", ETHERNET, Counter, |v, s| v + 2e6 + (s.wave * 5e6).round()),
    row("node_network_receive_errs_total", ETHERNET, Counter, |v, _| v),
    row("node_network_transmit_errs_total", ETHERNET, Counter, |v, _| v),
    row("node_network_receive_drop_total", ETHERNET, Counter, |v, s| v + f64::from(u8::from(s.noise > 0.98))),
    row("node_network_transmit_drop_total", ETHERNET, Counter, |v, _| v),
    row("node_network_up", ETHERNET, Gauge, |_, _| 1.0),
    row("node_netstat_Tcp_CurrEstab", &[], Gauge, |_, s| (300.0 + 400.0 * s.wave).round()),
    row("node_netstat_Tcp_RetransSegs", &[], Counter, |v, s| v + (s.noise * 3.0).floor()),
    row("node_sockstat_TCP_tw", &[], Gauge, |_, s| (40.0 + 30.0 * s.wave).round()),
    row("node_context_switches_total", &[], Counter, |v, s| v + 2000.0 + (s.busy * 9000.0).round()),
    row("node_intr_total", &[], Counter, |v, s| v + 900.0 + (s.busy * 2000.0).round()),
    row("pitwatch_process_cpu_ratio", POSTGRES, Gauge, |_, s| {
        hundredths(if s.is_sick { 1.62 } else { 0.08 + 0.1 * s.wave })
    }),
    row("pitwatch_process_resident_memory_bytes", POSTGRES, Gauge, |_, _| 2.4 * GIB),
    row("pitwatch_process_cpu_ratio", GAME, Gauge, |_, s| hundredths(0.1 + 0.2 * s.wave)),
    row("pitwatch_process_resident_memory_bytes", GAME, Gauge, |_, _| 1.1 * GIB),
    row("pitwatch_process_cpu_ratio", SSHD, Gauge, |_, s| hundredths(s.noise * 0.02)),
    row("pitwatch_process_resident_memory_bytes", SSHD, Gauge, |_, _| 9.0 * 1024.0 * 1024.0),
];

const fn row(
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
    kind: MetricType,
    next: fn(f64, &Second) -> f64,
) -> Row {
    Row { name, labels, kind, next }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The series, with slots from 1 on.
pub(super) fn defs() -> anyhow::Result<Vec<SeriesDef>> {
    let def = |(nth, row): (usize, &Row)| -> anyhow::Result<SeriesDef> {
        let labels = Labels::new(row.labels.iter().copied().chain([(METRIC_NAME, row.name)]))?;
        Ok(SeriesDef { slot: (nth + 1) as Slot, kind: row.kind, labels })
    };
    ROWS.iter().enumerate().map(def).collect()
}

/// Moves the values behind the level on by a second. `at` is the host's own count of seconds.
pub(super) fn next(values: &mut [f64], at: usize, level: f64) {
    let wave = 0.5 - 0.5 * (at as f64 / WAVE_SECS * std::f64::consts::TAU).cos();
    let (is_sick, noise) = (level > 0.0, fastrand::f64());
    let busy = if is_sick { 0.97 + 0.02 * noise } else { 0.05 + 0.3 * wave + 0.04 * noise };
    // The kernel counts hundredths of a second.
    let second = Second { busy: hundredths(busy), wave, is_sick, noise };
    for (value, row) in values.iter_mut().zip(ROWS) {
        *value = match row.kind {
            Counter => ((row.next)(*value, &second) * 1000.0).round() / 1000.0,
            _ => (row.next)(*value, &second),
        };
    }
}
