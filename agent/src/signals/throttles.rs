//! How often cores and packages were slowed down for being too hot: counted by the kernel on Intel's machines.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::metric::Metric;
use super::parse;
use super::source::{Buffer, Directory, Found, Pass, Source, SourceError, names_in};

const FILES: &str = "/sys/devices/system/cpu/cpu*/thermal_throttle";

/// What is counted.
pub(super) static METRICS: [Metric; 2] = [
    Metric::counter("node_cpu_core_throttles_total", "times", FILES, "Times that a core was slowed down for its heat.")
        .by(&["core", "package"]),
    Metric::counter(
        "node_cpu_package_throttles_total",
        "times",
        FILES,
        "Times that a package was slowed down for its heat.",
    )
    .by(&["package"]),
];

/// The cores' counters.
pub(super) struct Throttles {
    /// Of the first core: without it no other has any.
    first: Directory,
    cores: PathBuf,
    series: Found,
}

impl Throttles {
    pub(super) fn new(sys_root: &Path) -> Self {
        let cores = sys_root.join("devices/system/cpu");
        Self { first: Directory::new(cores.join("cpu0/thermal_throttle")), cores, series: Found::default() }
    }
}

impl Source for Throttles {
    fn name(&self) -> &'static str {
        "throttles"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let there = !self.first.names()?.is_empty();
        self.series.begin();
        for name in if there { names_in(&self.cores) } else { Vec::new() } {
            let is_core = name.as_bytes().strip_prefix(b"cpu").is_some_and(|number| parse::whole(number).is_some());
            if !is_core {
                continue;
            }
            let dir = self.cores.join(name);
            let number = |file: &str, buffer: &mut Buffer| buffer.read_small(&dir.join(file)).and_then(parse::whole);
            let package = number("topology/physical_package_id", pass.buffer);
            let core = number("topology/core_id", pass.buffer);
            // A core that is off has no place.
            let (Some(package), Some(core)) = (package, core) else { continue };
            let (package, core) = (package.to_string(), core.to_string());
            let labels = [("core", &*core), ("package", &*package)];
            // Threads of a core say the same, and so do cores of a package.
            let files = ["thermal_throttle/core_throttle_count", "thermal_throttle/package_throttle_count"];
            for ((metric, file), labels) in METRICS.iter().zip(files).zip([&labels[..], &labels[1..]]) {
                if let Some(count) = number(file, pass.buffer) {
                    self.series.set(&mut pass.sink, metric, labels, Some(count as f64));
                }
            }
        }
        self.series.end();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    #[test]
    fn threads_of_a_core_are_counted_once() {
        let mut bench = Bench::new(|root| Box::new(Throttles::new(root)));
        for (cpu, core, count) in [("cpu0", "0", "5"), ("cpu1", "1", "0"), ("cpu2", "0", "5")] {
            for (file, text) in [
                ("topology/physical_package_id", "0"),
                ("topology/core_id", core),
                ("thermal_throttle/core_throttle_count", count),
                ("thermal_throttle/package_throttle_count", "30"),
            ] {
                bench.file(&format!("devices/system/cpu/{cpu}/{file}"), text.as_bytes());
            }
        }
        bench.file("devices/system/cpu/cpufreq/x", b"");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_cpu_core_throttles_total{core=\"0\",package=\"0\"}"), Some(5.0));
        assert_eq!(bench.value("node_cpu_package_throttles_total{package=\"0\"}"), Some(30.0));
        assert_eq!((bench.len(), bench.table.refused()), (3, 0));
    }
}
