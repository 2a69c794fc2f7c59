//! Pressure stall information: how long threads waited for CPU, memory, IO and interrupts.
//!
//! Kernels without PSI have no files; with `psi=0` the files say so when read. Neither is an error.

use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{HeldFile, Pass, Source, SourceError};
use super::table::Handle;

const MICROS_PER_SEC: f64 = 1e6;

/// What this source gives.
pub(super) static METRICS: [Metric; 6] = [
    Metric::counter(
        "node_pressure_cpu_waiting_seconds_total",
        "seconds",
        "/proc/pressure/cpu",
        "Time in which some thread waited for a CPU.",
    ),
    Metric::counter(
        "node_pressure_memory_waiting_seconds_total",
        "seconds",
        "/proc/pressure/memory",
        "Time in which some thread waited for memory.",
    ),
    Metric::counter(
        "node_pressure_memory_stalled_seconds_total",
        "seconds",
        "/proc/pressure/memory",
        "Time in which no thread could go on for lack of memory.",
    ),
    Metric::counter(
        "node_pressure_io_waiting_seconds_total",
        "seconds",
        "/proc/pressure/io",
        "Time in which some thread waited for IO.",
    ),
    Metric::counter(
        "node_pressure_io_stalled_seconds_total",
        "seconds",
        "/proc/pressure/io",
        "Time in which no thread could go on for waiting for IO.",
    ),
    Metric::counter(
        "node_pressure_irq_stalled_seconds_total",
        "seconds",
        "/proc/pressure/irq",
        "Time in which no thread could go on for interrupts.",
    ),
];

/// The first word of a line, and the line's place in [`METRICS`].
type Line = (&'static [u8], usize);

/// The files and the lines taken of each. The CPU's `full` line is always nought for a host.
const FILES: [(&str, &[Line]); 4] = [
    ("cpu", &[(b"some", 0)]),
    ("memory", &[(b"some", 1), (b"full", 2)]),
    ("io", &[(b"some", 3), (b"full", 4)]),
    ("irq", &[(b"full", 5)]),
];

/// /proc/pressure.
pub(super) struct Pressure {
    files: [HeldFile; FILES.len()],
    handles: [Handle; METRICS.len()],
}

impl Pressure {
    pub(super) fn new(proc_root: &Path) -> Self {
        let dir = proc_root.join("pressure");
        Self { files: FILES.map(|(name, _)| HeldFile::optional(dir.join(name))), handles: Default::default() }
    }
}

impl Source for Pressure {
    fn name(&self) -> &'static str {
        "pressure"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let mut outcome = Ok(());
        for (file, (_, wanted)) in self.files.iter_mut().zip(FILES) {
            let text = match file.read(pass.buffer, &mut sink.malformed) {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(error) => {
                    outcome = Err(error);
                    continue;
                }
            };
            for (first, at) in wanted {
                let total = parse::lines(text).find_map(|line| total_micros(line, first));
                sink.set(&mut self.handles[*at], &METRICS[*at], &[], total.map(|micros| micros / MICROS_PER_SEC));
            }
        }
        outcome
    }
}

/// The total of the line that begins with `first`: `some avg10=0.00 avg60=0.00 avg300=0.00 total=123`.
fn total_micros(line: &[u8], first: &[u8]) -> Option<f64> {
    let mut words = parse::words(line);
    words.next().filter(|word| *word == first)?;
    words.find_map(|word| word.strip_prefix(b"total=")).and_then(parse::count)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    #[test]
    fn captured_files_give_their_totals() {
        let mut bench = Bench::new(|root| Box::new(Pressure::new(root)));
        bench.file("pressure/cpu", include_bytes!("../../testdata/proc/pressure/cpu"));
        bench.file("pressure/io", include_bytes!("../../testdata/proc/pressure/io"));
        bench.file("pressure/memory", include_bytes!("../../testdata/proc/pressure/memory"));
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_pressure_cpu_waiting_seconds_total"), Some(18.469347));
        assert_eq!(bench.value("node_pressure_io_waiting_seconds_total"), Some(5.138744));
        assert_eq!(bench.value("node_pressure_io_stalled_seconds_total"), Some(4.668996));
        assert_eq!(bench.value("node_pressure_memory_stalled_seconds_total"), Some(0.0));
        assert_eq!(bench.len(), 5, "no file, no series");
    }

    #[test]
    fn a_broken_file_does_not_stop_the_others() {
        let mut bench = Bench::new(|root| Box::new(Pressure::new(root)));
        std::fs::create_dir_all(bench.path("pressure/cpu")).unwrap();
        bench.file("pressure/io", b"some total=1000000\nfull total=\n");
        assert_eq!(bench.tick(), Err("cannot read pressure/cpu".to_owned()));
        assert_eq!(bench.value("node_pressure_io_waiting_seconds_total"), Some(1.0));
        assert_eq!(bench.len(), 1);
    }

    #[test]
    fn mutated_files_are_survived() {
        let io = include_bytes!("../../testdata/proc/pressure/io");
        survives_mutation("pressure/io", io, |root| Box::new(Pressure::new(root)));
    }
}
