//! /proc/diskstats: what each block device read, wrote, discarded and flushed, and how long it took.
//!
//! Left out are the devices that node_exporter leaves out by default: RAM disks, loops, floppies and partitions.

use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{HeldFile, Keyed, Pass, Source, SourceError};
use super::table::Handle;

/// Longest device name taken, in bytes; the kernel's own limit is 32.
const DEVICE_MAX_BYTES: usize = 64;
/// A sector of /proc/diskstats, whatever the device's own are.
const SECTOR_BYTES: f64 = 512.0;
const FILE: &str = "/proc/diskstats";

const fn counter(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric::counter(name, unit, FILE, help).by(&["device"])
}

/// What this source gives, in the order of the file's columns.
pub(super) static METRICS: [Metric; 17] = [
    counter("node_disk_reads_completed_total", "reads", "Reads completed."),
    counter("node_disk_reads_merged_total", "reads", "Reads merged with another."),
    counter("node_disk_read_bytes_total", "bytes", "Bytes read."),
    counter("node_disk_read_time_seconds_total", "seconds", "Time spent by all reads."),
    counter("node_disk_writes_completed_total", "writes", "Writes completed."),
    counter("node_disk_writes_merged_total", "writes", "Writes merged with another."),
    counter("node_disk_written_bytes_total", "bytes", "Bytes written."),
    counter("node_disk_write_time_seconds_total", "seconds", "Time spent by all writes."),
    Metric::gauge("node_disk_io_now", "requests", FILE, "Requests in progress.").by(&["device"]),
    counter("node_disk_io_time_seconds_total", "seconds", "Time in which some request was in progress."),
    counter(
        "node_disk_io_time_weighted_seconds_total",
        "seconds",
        "Time in which requests were in progress, times their number.",
    ),
    counter("node_disk_discards_completed_total", "discards", "Discards completed."),
    counter("node_disk_discards_merged_total", "discards", "Discards merged with another."),
    counter("node_disk_discarded_sectors_total", "sectors", "Sectors discarded."),
    counter("node_disk_discard_time_seconds_total", "seconds", "Time spent by all discards."),
    counter("node_disk_flush_requests_total", "flushes", "Flushes completed."),
    counter("node_disk_flush_requests_time_seconds_total", "seconds", "Time spent by all flushes."),
];

/// What a column's number is worth in its metric's unit: a factor, or milliseconds.
#[derive(Clone, Copy)]
enum Scale {
    One,
    Sectors,
    Millis,
}

const SCALES: [Scale; METRICS.len()] = {
    use Scale::{Millis, One, Sectors};
    [One, One, Sectors, Millis, One, One, Sectors, Millis, One, Millis, Millis, One, One, One, Millis, One, Millis]
};

/// /proc/diskstats.
pub(super) struct Disks {
    file: HeldFile,
    devices: Keyed<Device>,
}

struct Device {
    /// `None`: left out.
    label: Option<String>,
    handles: [Handle; METRICS.len()],
}

impl Disks {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self { file: HeldFile::optional(proc_root.join("diskstats")), devices: Keyed::default() }
    }
}

impl Source for Disks {
    fn name(&self) -> &'static str {
        "disks"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        self.devices.begin();
        for line in parse::lines(text) {
            let mut words = parse::words(line);
            let (Some(_), Some(_), Some(name)) = (words.next(), words.next(), words.next()) else {
                sink.malformed += 1;
                continue;
            };
            let Some(device) = self.devices.entry(name, Device::new) else {
                sink.malformed += 1;
                continue;
            };
            let Some(label) = &device.label else { continue };
            for ((word, scale), (handle, metric)) in words.zip(SCALES).zip(device.handles.iter_mut().zip(&METRICS)) {
                let value = parse::count(word).map(|number| match scale {
                    Scale::One => number,
                    Scale::Sectors => number * SECTOR_BYTES,
                    Scale::Millis => number / 1000.0,
                });
                sink.set(handle, metric, &[("device", label)], value);
            }
        }
        self.devices.end();
        Ok(())
    }
}

impl Device {
    fn new(name: &[u8]) -> Self {
        let label = (!excluded(name)).then(|| parse::text(name, DEVICE_MAX_BYTES));
        Self { label, handles: Default::default() }
    }
}

/// node_exporter's `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`.
pub(super) fn excluded(name: &[u8]) -> bool {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let stem = &name[..name.len() - digits];
    digits > 0 && (matches!(stem, b"ram" | b"zram" | b"loop" | b"fd") || is_lettered_disk(stem) || is_nvme_part(stem))
}

/// `hda`, `sda`, `vda`, `xvda`: one letter after the kind.
fn is_lettered_disk(stem: &[u8]) -> bool {
    matches!(stem, [b'h' | b's' | b'v', b'd', letter] | [b'x', b'v', b'd', letter] if letter.is_ascii_lowercase())
}

/// `nvme0n1p`: what stands before a partition's number.
fn is_nvme_part(stem: &[u8]) -> bool {
    let number = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    stem.strip_prefix(b"nvme")
        .and_then(|rest| rest.strip_suffix(b"p"))
        .and_then(|rest| parse::split_at_byte(rest, b'n'))
        .is_some_and(|(controller, namespace)| number(controller) && number(namespace))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    #[test]
    fn a_captured_file_gives_its_numbers() {
        let mut bench = Bench::new(|root| Box::new(Disks::new(root)));
        bench.file(
            "diskstats",
            b"   7       0 loop0 1 0 8 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 vda 34231 8521 4200194 10481 27205 43752 5144392 32514 3 9220 46381 9467 64 859000 1533 3951 1851
 254       1 vda1 1 1 1 1 1 1 1 1 1 1 1
",
        );
        assert_eq!(bench.tick(), Ok(0));
        let value = |metric: &str| bench.value(&format!("{metric}{{device=\"vda\"}}")).unwrap();
        let values: Vec<f64> = METRICS.iter().map(|metric| value(metric.name)).collect();
        assert_eq!(
            values,
            [
                34231.0,
                8521.0,
                4_200_194.0 * 512.0,
                10.481,
                27205.0,
                43752.0,
                5_144_392.0 * 512.0,
                32.514,
                3.0,
                9.22,
                46.381,
                9467.0,
                64.0,
                859_000.0,
                1.533,
                3951.0,
                1.851
            ]
        );
        assert_eq!(bench.len(), METRICS.len());
    }

    #[test]
    fn an_older_kernel_has_fewer_columns() {
        let mut bench = Bench::new(|root| Box::new(Disks::new(root)));
        bench.file("diskstats", b" 8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n 8 16\n 8 32 sdc 1 x\n");
        assert_eq!(bench.tick(), Ok(2));
        assert_eq!(bench.len(), 11 + 1);
    }

    #[test]
    fn partitions_and_memory_disks_are_left_out() {
        for name in ["ram0", "zram3", "loop12", "fd0", "sda1", "hdb12", "vdz9", "xvda1", "nvme0n1p2", "nvme10n12p128"] {
            assert!(excluded(name.as_bytes()), "{name}");
        }
        for name in ["sda", "vda", "xvda", "nvme0n1", "md0", "dm-0", "sdaa1", "mmcblk0p1", "sr0", "zd0", "nvmen1p1", ""]
        {
            assert!(!excluded(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn mutated_files_are_survived() {
        let real = include_bytes!("../../testdata/proc/diskstats");
        survives_mutation("diskstats", real, |root| Box::new(Disks::new(root)));
    }
}
