//! What Btrfs says of each filesystem: space by kind and layout, commits, devices and their errors.
//!
//! All of it is in /sys, for every user. What node_exporter asks the filesystem itself, as root, is left out: the space of a
//! device that no chunk has taken. The errors of devices are here by the device's number, as /sys has them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{Buffer, Directory, Found, Pass, Sink, Source, SourceError, names_in};

/// Longest text taken into a label, in bytes.
const TEXT_MAX_BYTES: usize = 255;
/// A filesystem's directory is named by its UUID.
const UUID_BYTES: usize = 36;
/// What the sizes of devices are counted in.
const SECTOR_BYTES: f64 = 512.0;
const FILES: &str = "/sys/fs/btrfs/*";

const INFO: usize = 0;
const RESERVE: usize = 1;
const RESERVED: usize = 2;
const USED: usize = 3;
const SIZE: usize = 4;
const RATIO: usize = 5;
const DEVICE_SIZE: usize = 6;
const DEVICE_MISSING: usize = 7;
const DEVICE_ERRORS: usize = 8;
const COMMITS: usize = 9;

/// What a filesystem gives.
pub(super) static METRICS: [Metric; 13] = [
    Metric::gauge("node_btrfs_info", "", FILES, "A Btrfs filesystem; always 1.").by(&["label", "uuid"]),
    Metric::gauge("node_btrfs_global_rsv_size_bytes", "bytes", FILES, "Space kept for the filesystem's own needs.")
        .by(&["uuid"]),
    Metric::gauge("node_btrfs_reserved_bytes", "bytes", FILES, "Space promised to a kind of data and not yet used.")
        .by(&["block_group_type", "uuid"]),
    Metric::gauge("node_btrfs_used_bytes", "bytes", FILES, "Space used by a kind of data in a layout.").by(&[
        "block_group_type",
        "mode",
        "uuid",
    ]),
    Metric::gauge("node_btrfs_size_bytes", "bytes", FILES, "Space given to a kind of data in a layout.").by(&[
        "block_group_type",
        "mode",
        "uuid",
    ]),
    Metric::gauge("node_btrfs_allocation_ratio", "", FILES, "Bytes on disk for a byte of data in a layout.").by(&[
        "block_group_type",
        "mode",
        "uuid",
    ]),
    Metric::gauge("node_btrfs_device_size_bytes", "bytes", FILES, "Size of a device.").by(&["device", "uuid"]),
    Metric::gauge("pitwatch_btrfs_device_missing", "", FILES, "Whether a device of the filesystem is not there.")
        .by(&["devid", "uuid"]),
    Metric::counter("pitwatch_btrfs_device_errors_total", "errors", FILES, "Errors of a device, by kind.")
        .by(&["devid", "type", "uuid"]),
    Metric::counter("node_btrfs_commits_total", "commits", FILES, "Commits.").by(&["uuid"]),
    Metric::gauge("node_btrfs_last_commit_seconds", "seconds", FILES, "How long the last commit took.").by(&["uuid"]),
    Metric::gauge("node_btrfs_max_commit_seconds", "seconds", FILES, "How long the longest commit took.").by(&["uuid"]),
    Metric::counter("node_btrfs_commit_seconds_total", "seconds", FILES, "How long all commits took.").by(&["uuid"]),
];

/// Lines of `commit_stats`, in the order of the metrics from [`COMMITS`] on, and what one of their units is worth.
const COMMIT_LINES: [(&[u8], f64); 4] =
    [(b"commits", 1.0), (b"last_commit_ms", 1e3), (b"max_commit_ms", 1e3), (b"total_commit_ms", 1e3)];
/// Lines of `error_stats`, without `_errs`.
const ERRORS: [&str; 5] = ["corruption", "flush", "generation", "read", "write"];
const KINDS: [&str; 3] = ["data", "metadata", "system"];

/// Every filesystem.
pub(super) struct Btrfs {
    dir: Directory,
    series: Found,
}

impl Btrfs {
    pub(super) fn new(sys_root: &Path) -> Self {
        Self { dir: Directory::new(sys_root.join("fs/btrfs")), series: Found::default() }
    }
}

impl Source for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let names = self.dir.names()?;
        self.series.begin();
        for name in names.iter().filter(|name| name.len() == UUID_BYTES) {
            let dir = self.dir.path().join(name);
            let uuid = parse::text(name.as_bytes(), TEXT_MAX_BYTES);
            let Pass { sink, buffer, .. } = pass;
            Filesystem { dir: &dir, uuid: &uuid, series: &mut self.series, sink, buffer }.give();
        }
        self.series.end();
        Ok(())
    }
}

/// One filesystem's part of a pass.
struct Filesystem<'a, 't> {
    dir: &'a Path,
    uuid: &'a str,
    series: &'a mut Found,
    sink: &'a mut Sink<'t>,
    buffer: &'a mut Buffer,
}

impl Filesystem<'_, '_> {
    fn give(&mut self) {
        let label = self.buffer.read_small(&self.dir.join("label")).unwrap_or_default();
        let label = parse::text(label, TEXT_MAX_BYTES);
        self.set(INFO, &[("label", &label)], Some(1.0));
        self.number(RESERVE, &[], "allocation/global_rsv_size", 1.0);
        let devices = names_in(&self.dir.join("devices"));
        for kind in KINDS {
            self.kind(kind, devices.len());
        }
        for name in &devices {
            let device = parse::text(name.as_bytes(), TEXT_MAX_BYTES);
            let size = Path::new("devices").join(name).join("size");
            self.number(DEVICE_SIZE, &[("device", &device)], size, 1.0 / SECTOR_BYTES);
        }
        for name in names_in(&self.dir.join("devinfo")) {
            let devid = parse::text(name.as_bytes(), TEXT_MAX_BYTES);
            let info = Path::new("devinfo").join(name);
            self.number(DEVICE_MISSING, &[("devid", &devid)], info.join("missing"), 1.0);
            self.errors(&devid, &info.join("error_stats"));
        }
        self.commits();
    }

    /// Sets a metric of this filesystem.
    fn set(&mut self, metric: usize, labels: &[(&str, &str)], value: Option<f64>) {
        let labels: Vec<_> = labels.iter().copied().chain([("uuid", self.uuid)]).collect();
        self.series.set(self.sink, &METRICS[metric], &labels, value);
    }

    /// Sets what a file says, if it is there.
    fn number(&mut self, metric: usize, labels: &[(&str, &str)], file: impl AsRef<Path>, unit: f64) {
        if let Some(text) = self.buffer.read_small(&self.dir.join(file)) {
            let value = parse::count(text).map(|number| number / unit);
            self.set(metric, labels, value);
        }
    }

    fn kind(&mut self, kind: &str, devices: usize) {
        let below = Path::new("allocation").join(kind);
        let of_kind = ("block_group_type", kind);
        self.number(RESERVED, &[of_kind], below.join("bytes_reserved"), 1.0);
        for name in names_in(&self.dir.join(&below)) {
            let layout = below.join(&name);
            let mode = parse::text(name.as_bytes(), TEXT_MAX_BYTES);
            let labels = [of_kind, ("mode", &*mode)];
            // Layouts are the directories: what is beside them is numbers.
            if !self.dir.join(&layout).join("total_bytes").exists() {
                continue;
            }
            self.number(USED, &labels, layout.join("used_bytes"), 1.0);
            self.number(SIZE, &labels, layout.join("total_bytes"), 1.0);
            self.set(RATIO, &labels, Some(ratio(&mode, devices)));
        }
    }

    fn errors(&mut self, devid: &str, file: &Path) {
        let Some(text) = self.buffer.read_small(&self.dir.join(file)) else { return };
        let counts = ERRORS.map(|kind| number_of(text, format!("{kind}_errs").as_bytes()));
        for (kind, count) in ERRORS.into_iter().zip(counts) {
            self.set(DEVICE_ERRORS, &[("devid", devid), ("type", kind)], count);
        }
    }

    fn commits(&mut self) {
        let Some(text) = self.buffer.read_small(&self.dir.join("commit_stats")) else { return };
        let numbers = COMMIT_LINES.map(|(key, unit)| number_of(text, key).map(|number| number / unit));
        for (metric, number) in (COMMITS..).zip(numbers) {
            self.set(metric, &[], number);
        }
    }
}

/// The number of a line that begins with `key`.
fn number_of(text: &[u8], key: &[u8]) -> Option<f64> {
    parse::lines(text).find_map(|line| {
        let mut words = parse::words(line);
        (words.next()? == key).then(|| words.next().and_then(parse::count)).flatten()
    })
}

/// How many bytes on disk a byte of data takes in a layout over `devices`.
fn ratio(mode: &str, devices: usize) -> f64 {
    let parity = |parities: usize| match devices.saturating_sub(parities) {
        0 => 1.0,
        holding => devices as f64 / holding as f64,
    };
    match mode {
        "dup" | "raid1" | "raid10" => 2.0,
        "raid1c3" => 3.0,
        "raid1c4" => 4.0,
        "raid5" => parity(1),
        "raid6" => parity(2),
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    const UUID: &str = "0abb23a9-579b-43e6-ad30-227ef47fcb9d";

    fn bench() -> Bench {
        let bench = Bench::new(|root| Box::new(Btrfs::new(root)));
        for (file, text) in [
            ("label", "fixture\n"),
            ("allocation/global_rsv_size", "16777216\n"),
            ("allocation/data/bytes_reserved", "4096\n"),
            ("allocation/data/raid5/used_bytes", "808189952\n"),
            ("allocation/data/raid5/total_bytes", "2147483648\n"),
            ("allocation/metadata/raid1/used_bytes", "933888\n"),
            ("allocation/metadata/raid1/total_bytes", "1073741824\n"),
            ("devices/vda/size", "20971520\n"),
            ("devices/vdb/size", "20971520\n"),
            ("devices/vdc/size", "20971520\n"),
            ("devinfo/1/missing", "0\n"),
            (
                "devinfo/1/error_stats",
                "write_errs 1\nread_errs 2\nflush_errs 3\ncorruption_errs 4\ngeneration_errs 5\n",
            ),
            ("commit_stats", "commits 258051\nlast_commit_ms 1500\nmax_commit_ms 51462\ntotal_commit_ms 47836090\n"),
        ] {
            bench.file(&format!("fs/btrfs/{UUID}/{file}"), text.as_bytes());
        }
        bench.file("fs/btrfs/features/raid56", b"0\n");
        bench
    }

    #[test]
    fn a_filesystem_says_its_space_its_commits_and_its_devices() {
        let mut bench = bench();
        assert_eq!(bench.tick(), Ok(0));
        let value = |name: &str, labels: &str| bench.value(&format!("{name}{{{labels}uuid=\"{UUID}\"}}"));
        assert_eq!(value("node_btrfs_info", "label=\"fixture\","), Some(1.0));
        assert_eq!(value("node_btrfs_global_rsv_size_bytes", ""), Some(16_777_216.0));
        let raid5 = "block_group_type=\"data\",mode=\"raid5\",";
        assert_eq!(value("node_btrfs_used_bytes", raid5), Some(808_189_952.0));
        assert_eq!(value("node_btrfs_allocation_ratio", raid5), Some(1.5));
        assert_eq!(value("node_btrfs_reserved_bytes", "block_group_type=\"data\","), Some(4096.0));
        let raid1 = "block_group_type=\"metadata\",mode=\"raid1\",";
        assert_eq!(value("node_btrfs_size_bytes", raid1), Some(1_073_741_824.0));
        assert_eq!(value("node_btrfs_device_size_bytes", "device=\"vdb\","), Some(10_737_418_240.0));
        assert_eq!(value("pitwatch_btrfs_device_missing", "devid=\"1\","), Some(0.0));
        let errors =
            ERRORS.map(|kind| value("pitwatch_btrfs_device_errors_total", &format!("devid=\"1\",type=\"{kind}\",")));
        assert_eq!(errors, [4.0, 3.0, 5.0, 2.0, 1.0].map(Some));
        assert_eq!(value("node_btrfs_commits_total", ""), Some(258_051.0));
        assert_eq!(value("node_btrfs_last_commit_seconds", ""), Some(1.5));
        assert_eq!(value("node_btrfs_commit_seconds_total", ""), Some(47_836.09));
    }

    #[test]
    fn parity_over_too_few_devices_is_no_division_by_nothing() {
        assert_eq!((ratio("raid6", 2), ratio("raid5", 0), ratio("raid6", 4), ratio("single", 1)), (1.0, 1.0, 2.0, 1.0));
    }

    #[test]
    fn mutated_files_are_survived() {
        let stats = "fs/btrfs/0abb23a9-579b-43e6-ad30-227ef47fcb9d/devinfo/1/error_stats";
        let text = b"write_errs 1\nread_errs 2\nflush_errs 3\ncorruption_errs 4\ngeneration_errs 5\n";
        // The filesystem itself is a series, however short the file.
        let real: &'static [u8] = Box::leak([text, &[b'\n'; 600][..]].concat().into_boxed_slice());
        survives_mutation(stats, real, |root| Box::new(Btrfs::new(root)));
    }
}
