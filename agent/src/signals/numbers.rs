//! Files of one line of numbers: load, open files, entropy, connection tracking; and the clock, which has no file.

use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{HeldFile, Pass, Source, SourceError};
use super::table::Handle;

/// Most numbers taken of one file.
const NUMBERS_MAX: usize = 3;

/// What /proc/loadavg gives.
pub(super) static LOAD: [Metric; 3] = [
    Metric::gauge("node_load1", "threads", "/proc/loadavg", "Load average over 1 minute."),
    Metric::gauge("node_load5", "threads", "/proc/loadavg", "Load average over 5 minutes."),
    Metric::gauge("node_load15", "threads", "/proc/loadavg", "Load average over 15 minutes."),
];

/// What /proc/sys/fs/file-nr gives.
pub(super) static OPEN_FILES: [Metric; 2] = [
    Metric::gauge("node_filefd_allocated", "files", "/proc/sys/fs/file-nr", "Open files of the host."),
    Metric::gauge("node_filefd_maximum", "files", "/proc/sys/fs/file-nr", "Most open files allowed."),
];

const ENTROPY_DIR: &str = "/proc/sys/kernel/random";

/// What /proc/sys/kernel/random gives.
pub(super) static ENTROPY: [Metric; 2] = [
    Metric::gauge("node_entropy_available_bits", "bits", ENTROPY_DIR, "Entropy that the kernel has."),
    Metric::gauge("node_entropy_pool_size_bits", "bits", ENTROPY_DIR, "Entropy that the kernel's pool can hold."),
];

const CONNTRACK_DIR: &str = "/proc/sys/net/netfilter";

/// What /proc/sys/net/netfilter gives, where connections are tracked.
pub(super) static CONNTRACK: [Metric; 2] = [
    Metric::gauge("node_nf_conntrack_entries", "connections", CONNTRACK_DIR, "Connections that the firewall tracks."),
    Metric::gauge("node_nf_conntrack_entries_limit", "connections", CONNTRACK_DIR, "Most connections it can track."),
];

/// A file, and which metrics stand at which places of its line.
pub(super) struct Layout {
    /// The source's name.
    name: &'static str,
    /// Below the root of /proc.
    path: &'static str,
    required: bool,
    places: &'static [usize],
    metrics: &'static [Metric],
}

/// Every file of this shape.
pub(super) static LAYOUTS: [Layout; 6] = {
    const fn one(name: &'static str, path: &'static str, metrics: &'static [Metric]) -> Layout {
        Layout { name, path, required: false, places: &[0], metrics }
    }
    let (entropy, pool) = ENTROPY.split_at(1);
    let (entries, limit) = CONNTRACK.split_at(1);
    [
        Layout { name: "load", path: "loadavg", required: true, places: &[0, 1, 2], metrics: &LOAD },
        Layout { name: "open_files", path: "sys/fs/file-nr", required: false, places: &[0, 2], metrics: &OPEN_FILES },
        one("entropy", "sys/kernel/random/entropy_avail", entropy),
        one("entropy_pool", "sys/kernel/random/poolsize", pool),
        one("conntrack", "sys/net/netfilter/nf_conntrack_count", entries),
        one("conntrack_limit", "sys/net/netfilter/nf_conntrack_max", limit),
    ]
};

/// A file of one line of numbers.
pub(super) struct Numbers {
    layout: &'static Layout,
    file: HeldFile,
    handles: [Handle; NUMBERS_MAX],
}

impl Numbers {
    pub(super) fn new(proc_root: &Path, layout: &'static Layout) -> Self {
        let path = proc_root.join(layout.path);
        let file = if layout.required { HeldFile::required(path) } else { HeldFile::optional(path) };
        Self { layout, file, handles: Default::default() }
    }
}

impl Source for Numbers {
    fn name(&self) -> &'static str {
        self.layout.name
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let places = self.layout.places.iter().zip(self.layout.metrics);
        for ((place, metric), handle) in places.zip(&mut self.handles) {
            sink.set(handle, metric, &[], parse::words(line).nth(*place).and_then(parse::decimal));
        }
        Ok(())
    }
}

/// What the clock gives.
pub(super) static CLOCK: [Metric; 1] =
    [Metric::gauge("node_time_seconds", "seconds since the epoch", "clock_gettime(2)", "The host's clock.")];

/// The host's clock, as the tick's own timestamp has it.
#[derive(Default)]
pub(super) struct Clock(Handle);

impl Source for Clock {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let secs = pass.now.ts_ms as f64 / 1000.0;
        pass.sink.set(&mut self.0, &CLOCK[0], &[], Some(secs));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    fn bench(name: &str) -> Bench {
        let layout = LAYOUTS.iter().find(|layout| layout.name == name).unwrap();
        Bench::new(|root| Box::new(Numbers::new(root, layout)))
    }

    #[test]
    fn numbers_stand_at_their_places() {
        let mut load = bench("load");
        load.file("loadavg", b"0.27 1.26 10.25 1/89 14141\n");
        assert_eq!(load.tick(), Ok(0));
        let values = ["node_load1", "node_load5", "node_load15"].map(|name| load.value(name).unwrap());
        assert_eq!(values, [0.27, 1.26, 10.25]);
        let mut files = bench("open_files");
        files.file("sys/fs/file-nr", b"313\t0\t2466181\n");
        assert_eq!(files.tick(), Ok(0));
        assert_eq!(files.value("node_filefd_allocated"), Some(313.0));
        assert_eq!(files.value("node_filefd_maximum"), Some(2_466_181.0));
    }

    #[test]
    fn what_is_not_a_number_is_counted() {
        let mut load = bench("load");
        load.file("loadavg", b"0.27 x\n");
        assert_eq!(load.tick(), Ok(2));
        assert_eq!(load.names(), ["node_load1"]);
        std::fs::remove_file(load.path("loadavg")).unwrap();
        load.file("loadavg", b"\xff\xfe");
        assert_eq!(bench("load").tick(), Err("cannot read loadavg".to_owned()));
        assert_eq!(bench("conntrack").tick(), Ok(0));
    }

    #[test]
    fn every_layout_fits_and_the_clock_is_the_ticks() {
        assert!(LAYOUTS.iter().all(|layout| layout.metrics.len() <= NUMBERS_MAX));
        let mut clock = Bench::new(|_| Box::new(Clock::default()));
        clock.tick().unwrap();
        assert_eq!(clock.value("node_time_seconds"), Some(1_700_000_001.0));
    }
}
