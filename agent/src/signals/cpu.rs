//! /proc/stat: CPU seconds by core and mode, interrupts, context switches, forks, run queue, boot time.
//!
//! CPU counters that step back by less than [`STEP_BACK_MAX_SECS`] keep what they had: the kernel's idle and iowait
//! do so (proc(5)), and a rate over such a step would read as a reset. A larger step is a core that came back.
//!
//! And /proc/schedstat: how long threads ran and waited on each core.

use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{HeldFile, Keyed, Pass, Source, SourceError};
use super::table::Handle;

/// A smaller step back of a CPU counter is the kernel's rounding, a larger one a reset.
const STEP_BACK_MAX_SECS: f64 = 3.0;
/// What the kernel counts CPU time in, towards user space: 1/100 s on every Linux of today.
pub(super) const TICKS_PER_SEC: f64 = 100.0;

const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const GUEST_MODES: [&str; 2] = ["user", "nice"];

/// What this source gives.
pub(super) static METRICS: [Metric; 8] = [
    Metric::counter(
        "node_cpu_seconds_total",
        "seconds",
        "/proc/stat",
        "Seconds that a core spent in a mode. Guest time is also in user and nice.",
    )
    .by(&["cpu", "mode"]),
    Metric::counter(
        "node_cpu_guest_seconds_total",
        "seconds",
        "/proc/stat",
        "Seconds that a core spent running virtual machines.",
    )
    .by(&["cpu", "mode"]),
    Metric::counter("node_intr_total", "interrupts", "/proc/stat", "Interrupts serviced."),
    Metric::counter("node_context_switches_total", "switches", "/proc/stat", "Context switches."),
    Metric::gauge("node_boot_time_seconds", "seconds since the epoch", "/proc/stat", "When the host was booted."),
    Metric::counter("node_forks_total", "forks", "/proc/stat", "Processes and threads started."),
    Metric::gauge("node_procs_running", "threads", "/proc/stat", "Threads running or ready to run."),
    Metric::gauge("node_procs_blocked", "threads", "/proc/stat", "Threads waiting for IO to complete."),
];

/// The keyword of each of [`METRICS`] after the CPU ones.
const KEYWORDS: [&[u8]; 6] = [b"intr", b"ctxt", b"btime", b"processes", b"procs_running", b"procs_blocked"];

/// /proc/stat.
pub(super) struct Cpu {
    file: HeldFile,
    cores: Keyed<Core>,
    scalars: [Handle; KEYWORDS.len()],
}

struct Core {
    label: String,
    handles: [Handle; MODES.len() + GUEST_MODES.len()],
    last_secs: [f64; MODES.len() + GUEST_MODES.len()],
}

impl Cpu {
    pub(super) fn new(proc_root: &Path) -> Self {
        let file = HeldFile::required(proc_root.join("stat"));
        Self { file, cores: Keyed::default(), scalars: Default::default() }
    }
}

impl Source for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        self.cores.begin();
        let mut known = false;
        for line in parse::lines(text) {
            let mut words = parse::words(line);
            let Some(key) = words.next() else { continue };
            if let Some(index) = key.strip_prefix(b"cpu").filter(|index| !index.is_empty()) {
                if parse::whole(index).is_none() {
                    sink.malformed += 1;
                    continue;
                }
                let Some(core) = self.cores.entry(index, Core::new) else {
                    sink.malformed += 1;
                    continue;
                };
                for (at, (word, handle)) in words.zip(&mut core.handles).enumerate() {
                    let value = parse::count(word).map(|ticks| keep_growing(&mut core.last_secs[at], ticks));
                    let (metric, mode) = match at.checked_sub(MODES.len()) {
                        None => (&METRICS[0], MODES[at]),
                        Some(guest) => (&METRICS[1], GUEST_MODES[guest]),
                    };
                    sink.set(handle, metric, &[("cpu", &core.label), ("mode", mode)], value);
                }
                known = true;
            } else if let Some(at) = KEYWORDS.iter().position(|keyword| *keyword == key) {
                let value = words.next().and_then(parse::count);
                sink.set(&mut self.scalars[at], &METRICS[at + 2], &[], value);
                known = true;
            }
        }
        self.cores.end();
        if known { Ok(()) } else { Err(self.file.malformed()) }
    }
}

impl Core {
    fn new(index: &[u8]) -> Self {
        Self { label: parse::text(index, 20), handles: Default::default(), last_secs: Default::default() }
    }
}

/// What /proc/schedstat gives.
pub(super) static SCHEDSTAT: [Metric; 3] = [
    Metric::counter(
        "node_schedstat_running_seconds_total",
        "seconds",
        "/proc/schedstat",
        "Seconds that threads ran on a core.",
    )
    .by(&["cpu"]),
    Metric::counter(
        "node_schedstat_waiting_seconds_total",
        "seconds",
        "/proc/schedstat",
        "Seconds that threads waited for a core, added up.",
    )
    .by(&["cpu"]),
    Metric::counter("node_schedstat_timeslices_total", "turns", "/proc/schedstat", "Turns that threads had on a core.")
        .by(&["cpu"]),
];

/// Where a core's line has the numbers of [`SCHEDSTAT`], and what one is worth.
const SCHEDSTAT_PLACES: [(usize, f64); SCHEDSTAT.len()] = [(7, 1e9), (8, 1e9), (9, 1.0)];

/// /proc/schedstat, of kernels that keep it.
pub(super) struct Schedstat {
    file: HeldFile,
    cores: Keyed<(String, [Handle; SCHEDSTAT.len()])>,
}

impl Schedstat {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self { file: HeldFile::optional(proc_root.join("schedstat")), cores: Keyed::default() }
    }
}

impl Source for Schedstat {
    fn name(&self) -> &'static str {
        "schedstat"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        self.cores.begin();
        for line in parse::lines(text) {
            let index = parse::words(line).next().and_then(|word| word.strip_prefix(b"cpu"));
            let Some(index) = index.filter(|index| parse::whole(index).is_some()) else { continue };
            let Some((label, handles)) = self.cores.entry(index, |index| (parse::text(index, 20), Default::default()))
            else {
                sink.malformed += 1;
                continue;
            };
            for ((place, unit), (handle, metric)) in
                SCHEDSTAT_PLACES.into_iter().zip(handles.iter_mut().zip(&SCHEDSTAT))
            {
                let value = parse::words(line).nth(place).and_then(parse::count);
                sink.set(handle, metric, &[("cpu", label)], value.map(|value| value / unit));
            }
        }
        self.cores.end();
        Ok(())
    }
}

fn keep_growing(last_secs: &mut f64, ticks: f64) -> f64 {
    let secs = ticks / TICKS_PER_SEC;
    if secs >= *last_secs || *last_secs - secs >= STEP_BACK_MAX_SECS {
        *last_secs = secs;
    }
    *last_secs
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    #[test]
    fn a_captured_file_gives_its_numbers() {
        let mut bench = Bench::new(|root| Box::new(Cpu::new(root)));
        bench.file("stat", include_bytes!("../../testdata/proc/stat"));
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_cpu_seconds_total{cpu=\"0\",mode=\"user\"}"), Some(24.38));
        assert_eq!(bench.value("node_cpu_seconds_total{cpu=\"1\",mode=\"steal\"}"), Some(0.29));
        assert_eq!(bench.value("node_cpu_guest_seconds_total{cpu=\"1\",mode=\"nice\"}"), Some(0.0));
        assert_eq!(bench.value("node_intr_total"), Some(289_211.0));
        assert_eq!(bench.value("node_context_switches_total"), Some(468_941.0));
        assert_eq!(bench.value("node_boot_time_seconds"), Some(1_795_342_082.0));
        assert_eq!(bench.value("node_forks_total"), Some(11_041.0));
        assert_eq!(bench.value("node_procs_running"), Some(5.0));
        assert_eq!(bench.value("node_procs_blocked"), Some(0.0));
        assert_eq!(bench.len(), 2 * 10 + 6);
    }

    #[test]
    fn a_core_that_leaves_ends_and_one_that_comes_begins() {
        let mut bench = Bench::new(|root| Box::new(Cpu::new(root)));
        bench.file("stat", b"cpu0 1 2 3 4\ncpu1 1 2 3 4\n");
        bench.tick().unwrap();
        assert_eq!(bench.len(), 8);
        bench.file("stat", b"cpu0 1 2 3 4\ncpu12 1 2 3 4\n");
        bench.tick().unwrap();
        assert_eq!(bench.value("node_cpu_seconds_total{cpu=\"1\",mode=\"user\"}"), None);
        assert_eq!(bench.value("node_cpu_seconds_total{cpu=\"12\",mode=\"idle\"}"), Some(0.04));
    }

    #[test]
    fn a_small_step_back_is_held_and_a_large_one_is_a_reset() {
        let mut bench = Bench::new(|root| Box::new(Cpu::new(root)));
        let mut idle_after = |ticks: u64| {
            bench.file("stat", format!("cpu0 0 0 0 {ticks}\n").as_bytes());
            bench.tick().unwrap();
            bench.value("node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"}").unwrap()
        };
        assert_eq!([1000, 999, 1001, 5].map(&mut idle_after), [10.0, 10.0, 10.01, 0.05]);
    }

    #[test]
    fn the_schedulers_times_are_taken_by_core() {
        let mut bench = Bench::new(|root| Box::new(Schedstat::new(root)));
        assert_eq!(bench.tick(), Ok(0), "kernels may be without it");
        let text =
            b"version 17\ntimestamp 4295\ncpu0 0 0 0 0 0 0 2000000000 500000000 7\ndomain0 MC 03 0 0\ncpu1 0 0 0\n";
        let mut bench = Bench::new(|root| Box::new(Schedstat::new(root)));
        bench.file("schedstat", text);
        assert_eq!(bench.tick(), Ok(3));
        assert_eq!(bench.value("node_schedstat_running_seconds_total{cpu=\"0\"}"), Some(2.0));
        assert_eq!(bench.value("node_schedstat_waiting_seconds_total{cpu=\"0\"}"), Some(0.5));
        assert_eq!(bench.value("node_schedstat_timeslices_total{cpu=\"0\"}"), Some(7.0));
        survives_mutation("schedstat", text, |root| Box::new(Schedstat::new(root)));
    }

    #[test]
    fn hostile_lines_are_skipped_and_counted() {
        let mut bench = Bench::new(|root| Box::new(Cpu::new(root)));
        bench.file("stat", include_bytes!("../../testdata/hostile/stat"));
        assert_eq!(bench.tick(), Ok(6));
        assert_eq!(bench.value("node_context_switches_total"), Some(7.0));
        bench.file("stat", b"");
        assert_eq!(bench.tick().unwrap_err(), "stat holds nothing of what it should");
        assert_eq!(bench.len(), 0, "a file that gives nothing ends its series");
    }
}
