//! What each service and scope uses and is denied, by its control group (version 2): CPU, throttling, memory, OOM kills,
//! tasks, IO.
//!
//! The slices of systemd are walked; a service's groups below itself count as the service. On hosts with the older
//! version beside it, only what the newer one has is given.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::metric::Metric;
use super::parse;
use super::source::{Buffer, Keyed, Pass, Source, SourceError};
use super::table::Handle;

/// Most groups with series.
const GROUPS_MAX: usize = 1000;
/// How deep slices may be within slices.
const DEPTH_MAX: usize = 8;
/// Longest name taken into a label, in bytes.
const TEXT_MAX_BYTES: usize = 255;
const LABELS: &[&str] = &["slice", "unit"];
const MICROS: f64 = 1e6;

const fn counter(name: &'static str, unit: &'static str, source: &'static str, help: &'static str) -> Metric {
    Metric::counter(name, unit, source, help).by(LABELS)
}

const fn gauge(name: &'static str, unit: &'static str, source: &'static str, help: &'static str) -> Metric {
    Metric::gauge(name, unit, source, help).by(LABELS)
}

/// What a group gives.
pub(super) static METRICS: [Metric; 10] = [
    counter("pitwatch_unit_cpu_seconds_total", "seconds", "cpu.stat", "CPU time that a service used."),
    counter("pitwatch_unit_cpu_throttled_seconds_total", "seconds", "cpu.stat", "Time that its CPU limit held it up."),
    counter(
        "pitwatch_unit_cpu_throttled_periods_total",
        "periods",
        "cpu.stat",
        "Periods in which its limit held it up.",
    ),
    gauge("pitwatch_unit_memory_bytes", "bytes", "memory.current", "Memory of a service, caches included."),
    gauge("pitwatch_unit_memory_limit_bytes", "bytes", "memory.max", "Its limit of memory; absent without one."),
    gauge("pitwatch_unit_swap_bytes", "bytes", "memory.swap.current", "Memory of a service that is swapped out."),
    counter("pitwatch_unit_oom_kills_total", "processes", "memory.events", "Its processes killed for want of memory."),
    gauge("pitwatch_unit_tasks", "threads", "pids.current", "Threads and processes of a service."),
    counter("pitwatch_unit_io_read_bytes_total", "bytes", "io.stat", "Bytes that it read from disks."),
    counter("pitwatch_unit_io_written_bytes_total", "bytes", "io.stat", "Bytes that it wrote to disks."),
];

/// The control groups.
pub(super) struct Cgroups {
    roots: [PathBuf; 2],
    groups: Keyed<Group>,
    found: Vec<PathBuf>,
}

struct Group {
    slice: String,
    unit: String,
    handles: [Handle; METRICS.len()],
}

impl Cgroups {
    pub(super) fn new(sys_root: &Path) -> Self {
        let dir = sys_root.join("fs/cgroup");
        Self { roots: [dir.clone(), dir.join("unified")], groups: Keyed::default(), found: Vec::new() }
    }
}

impl Source for Cgroups {
    fn name(&self) -> &'static str {
        "cgroups"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        // Every group of version 2, and none of version 1, has this file.
        let Some(root) = self.roots.iter().find(|root| root.join("cgroup.controllers").exists()) else { return Ok(()) };
        self.found.clear();
        if !walk(root, DEPTH_MAX, &mut self.found) {
            pass.sink.malformed += 1;
        }
        self.found.sort_unstable();
        self.groups.begin();
        for path in &self.found {
            let Ok(below) = path.strip_prefix(root) else { continue };
            match self.groups.entry(below.as_os_str().as_bytes(), |_| Group::new(below)) {
                Some(group) => group.gather(path, pass),
                None => pass.sink.malformed += 1,
            }
        }
        self.groups.end();
        Ok(())
    }
}

/// Finds services and scopes below `dir`; `false` if there are too many.
fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> bool {
    // A group that is gone meanwhile has nothing below it.
    let Ok(listing) = std::fs::read_dir(dir) else { return true };
    for entry in listing.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name();
        let name = name.as_bytes();
        if name.ends_with(b".service") || name.ends_with(b".scope") {
            if found.len() >= GROUPS_MAX {
                return false;
            }
            found.push(entry.path());
        } else if name.ends_with(b".slice") && depth > 0 && !walk(&entry.path(), depth - 1, found) {
            return false;
        }
    }
    true
}

impl Group {
    /// Of its path below the root: the unit is the last part, the slice the one before.
    fn new(below: &Path) -> Self {
        let text = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).unwrap_or_default();
            parse::text(name.as_bytes(), TEXT_MAX_BYTES)
        };
        Self { slice: text(below.parent()), unit: text(Some(below)), handles: Default::default() }
    }

    fn gather(&mut self, dir: &Path, pass: &mut Pass<'_>) {
        let buffer = &mut *pass.buffer;
        let cpu = keyed(buffer, &dir.join("cpu.stat"), [&b"usage_usec"[..], b"throttled_usec", b"nr_throttled"]);
        let [oom_kills] = keyed(buffer, &dir.join("memory.events"), [&b"oom_kill"[..]]);
        let io = disks(buffer, &dir.join("io.stat"));
        let mut number = |file: &str| buffer.read_small(&dir.join(file)).and_then(parse::count);
        let values = [
            cpu[0].map(|micros| micros / MICROS),
            cpu[1].map(|micros| micros / MICROS),
            cpu[2],
            number("memory.current"),
            // `max`: no limit.
            number("memory.max"),
            number("memory.swap.current"),
            oom_kills,
            number("pids.current"),
            io.map(|(read, _)| read),
            io.map(|(_, written)| written),
        ];
        let labels = [("slice", self.slice.as_str()), ("unit", &self.unit)];
        for ((handle, metric), value) in self.handles.iter_mut().zip(&METRICS).zip(values) {
            // A controller that is off for the group has no file.
            if value.is_some() {
                pass.sink.set(handle, metric, &labels, value);
            }
        }
    }
}

/// The numbers behind keys, of a file of `key number` lines.
fn keyed<const N: usize>(buffer: &mut Buffer, path: &Path, keys: [&[u8]; N]) -> [Option<f64>; N] {
    let text = buffer.read_small(path).unwrap_or_default();
    keys.map(|key| {
        parse::lines(text).find_map(|line| {
            let mut words = parse::words(line);
            (words.next()? == key).then(|| words.next().and_then(parse::count)).flatten()
        })
    })
}

/// Bytes read and written, added up over the disks: `254:0 rbytes=1 wbytes=2 …`.
fn disks(buffer: &mut Buffer, path: &Path) -> Option<(f64, f64)> {
    let text = buffer.read_small(path)?;
    let sum = |key: &[u8]| {
        let words = parse::lines(text).flat_map(parse::words);
        words.filter_map(|word| word.strip_prefix(key)).filter_map(parse::count).sum::<f64>()
    };
    Some((sum(b"rbytes="), sum(b"wbytes=")))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    fn bench() -> Bench {
        Bench::new(|root| Box::new(Cgroups::new(root)))
    }

    fn value(bench: &Bench, name: &str) -> Option<f64> {
        bench.value(&format!("pitwatch_unit_{name}{{slice=\"system.slice\",unit=\"db.service\"}}"))
    }

    #[test]
    fn a_service_gives_what_it_uses_and_what_it_is_denied() {
        let mut bench = bench();
        assert_eq!((bench.tick(), bench.len()), (Ok(0), 0), "no version 2");
        bench.file("fs/cgroup/cgroup.controllers", b"cpu io memory pids\n");
        let dir = "fs/cgroup/system.slice/db.service";
        for (file, text) in [
            ("cpu.stat", "usage_usec 2500000\nuser_usec 1\nnr_periods 9\nnr_throttled 4\nthrottled_usec 1500000\n"),
            ("memory.current", "1048576\n"),
            ("memory.max", "max\n"),
            ("memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
            ("pids.current", "17\n"),
            ("io.stat", "254:0 rbytes=10 wbytes=20 rios=1 wios=1\n8:0 rbytes=5 wbytes=7\n"),
        ] {
            bench.file(&format!("{dir}/{file}"), text.as_bytes());
        }
        bench.file(&format!("{dir}/inner.service/memory.current"), b"1\n");
        bench.file("fs/cgroup/user.slice/user-0.slice/session-1.scope/memory.current", b"4096\n");
        bench.file("fs/cgroup/other/memory.current", b"1\n");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(value(&bench, "cpu_seconds_total"), Some(2.5));
        assert_eq!(value(&bench, "cpu_throttled_seconds_total"), Some(1.5));
        assert_eq!(value(&bench, "oom_kills_total"), Some(2.0));
        assert_eq!(value(&bench, "memory_limit_bytes"), None);
        assert_eq!(value(&bench, "io_read_bytes_total"), Some(15.0));
        assert_eq!(value(&bench, "io_written_bytes_total"), Some(27.0));
        assert_eq!(
            bench.value("pitwatch_unit_memory_bytes{slice=\"user-0.slice\",unit=\"session-1.scope\"}"),
            Some(4096.0)
        );
        assert_eq!(bench.len(), 9);
        std::fs::remove_dir_all(bench.path("fs/cgroup/system.slice")).unwrap();
        bench.tick().unwrap();
        assert_eq!(bench.len(), 1);
    }

    #[test]
    fn slices_are_followed_so_deep_and_files_may_hold_anything() {
        let mut bench = bench();
        bench.file("fs/cgroup/unified/cgroup.controllers", b"");
        let deep = "a.slice/".repeat(DEPTH_MAX);
        bench.file(&format!("fs/cgroup/unified/{deep}x.service/pids.current"), b"1");
        bench.file(&format!("fs/cgroup/unified/{deep}a.slice/y.service/pids.current"), b"1");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.len(), 1);
        survives_mutation("fs/cgroup/a.service/cpu.stat", b"usage_usec 2500000\nnr_throttled 4\n", |root| {
            std::fs::create_dir_all(root.join("fs/cgroup")).unwrap();
            std::fs::write(root.join("fs/cgroup/cgroup.controllers"), b"").unwrap();
            Box::new(Cgroups::new(root))
        });
    }
}
